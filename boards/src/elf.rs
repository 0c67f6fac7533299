//! The two questions we ask of an ELF file: which libraries does it need, and, of a kernel module,
//! what does it say of itself. Both are read here, so that neither `ldd` (which runs the program)
//! nor `depmod` is needed.

use anyhow::{Context, Result};
use object::read::elf::{Dyn, FileHeader, SectionHeader};
use object::{Endianness, elf};

type Elf = elf::FileHeader64<Endianness>;

/// The file names of the shared libraries that a program or library asks for, its loader included.
/// Empty for a static one, and for what is no ELF file at all.
///
/// # Errors
/// When it begins like an ELF file and is none.
pub fn needed(file: &[u8]) -> Result<Vec<String>> {
    if !file.starts_with(&elf::ELFMAG) {
        return Ok(Vec::new());
    }
    let header = Elf::parse(file).context("the ELF header is damaged")?;
    let endian = header.endian()?;
    let sections = header.sections(endian, file)?;
    let mut names = interpreter(header, endian, file)?;
    if let Some((entries, link)) = sections.dynamic(endian, file)? {
        let strings = sections.strings(endian, file, link)?;
        for entry in entries
            .iter()
            .filter(|entry| entry.tag32(endian) == Some(elf::DT_NEEDED))
        {
            let name = entry.string(endian, strings)?;
            names.push(String::from_utf8_lossy(name).into_owned());
        }
    }
    Ok(names)
}

/// The `key=value` lines in a module's `.modinfo`.
///
/// # Errors
/// When it is not an ELF file with that section.
pub fn modinfo(module: &[u8]) -> Result<Vec<(String, String)>> {
    let header = Elf::parse(module).context("not an ELF file")?;
    let endian = header.endian()?;
    let sections = header.sections(endian, module)?;
    let (_, section) = sections
        .section_by_name(endian, b".modinfo")
        .context("no .modinfo section")?;
    let lines = section.data(endian, module)?.split(|byte| *byte == 0);
    Ok(lines
        .map(String::from_utf8_lossy)
        .filter_map(|line| {
            line.split_once('=')
                .map(|(key, value)| (key.into(), value.into()))
        })
        .collect())
}

fn interpreter(header: &Elf, endian: Endianness, file: &[u8]) -> Result<Vec<String>> {
    use object::read::elf::ProgramHeader;
    let segments = header.program_headers(endian, file)?;
    Ok(segments
        .iter()
        .filter_map(|segment| segment.interpreter(endian, file).ok().flatten())
        .map(String::from_utf8_lossy)
        .filter_map(|path| path.rsplit('/').next().map(str::to_owned))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::needed;

    #[test]
    fn a_script_needs_nothing() {
        assert!(needed(b"#!/bin/sh\n").unwrap().is_empty());
    }

    #[test]
    fn this_very_program_needs_the_c_library_and_a_loader() {
        let myself = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let names = needed(&myself).unwrap();
        assert!(
            names.iter().any(|name| name.starts_with("libc.so")),
            "{names:?}"
        );
        assert!(
            names.iter().any(|name| name.starts_with("ld-linux")),
            "{names:?}"
        );
    }

    #[test]
    fn a_damaged_file_is_an_error() {
        assert!(needed(b"\x7fELF and nothing else").is_err());
    }
}
