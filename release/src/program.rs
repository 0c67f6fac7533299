//! Whether bytes are a program that the kernel here can execute as PID 1 with nothing beside it.

use object::{
    Endianness, elf,
    read::elf::{FileHeader as _, ProgramHeader as _},
};

/// Why bytes can't be PID 1 here, as a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It needs other files.
    #[error("it is not a static program, and PID 1 must not depend on libraries")]
    Dynamic,
    /// It is for another machine.
    #[error("it is made for another kind of machine")]
    Machine,
    /// It is no program at all.
    #[error("it is no ELF program")]
    NoProgram,
}

/// Looks at a program's headers.
///
/// # Errors
/// When it can't be PID 1 here.
pub fn check(program: &[u8]) -> Result<(), Unfit> {
    let header = Elf::parse(program).map_err(|_| Unfit::NoProgram)?;
    let endian = header.endian().map_err(|_| Unfit::NoProgram)?;
    if ![elf::ET_DYN, elf::ET_EXEC].contains(&header.e_type(endian)) {
        return Err(Unfit::NoProgram);
    }
    if header.e_machine(endian) != MACHINE || endian != Endianness::default() {
        return Err(Unfit::Machine);
    }
    let segments = header.program_headers(endian, program);
    let segments = segments.map_err(|_| Unfit::NoProgram)?;
    let has = |kind| {
        segments
            .iter()
            .any(|segment| segment.p_type(endian) == kind)
    };
    if has(elf::PT_INTERP) {
        return Err(Unfit::Dynamic);
    }
    // A shared library is also without an interpreter, but nothing begins it.
    let begins = header.e_entry(endian) != 0 && has(elf::PT_LOAD);
    begins.then_some(()).ok_or(Unfit::NoProgram)
}

type Elf = elf::FileHeader64<Endianness>;

#[cfg(target_arch = "x86_64")]
const MACHINE: u16 = elf::EM_X86_64;
#[cfg(target_arch = "aarch64")]
const MACHINE: u16 = elf::EM_AARCH64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_static_program_for_this_machine_will_do() {
        let mut program = minimal();
        assert_eq!(check(&program), Ok(()));
        // e_machine
        program[18] ^= 0xff;
        assert_eq!(check(&program), Err(Unfit::Machine));
        let mut dynamic = minimal();
        dynamic[64] = elf::PT_INTERP as u8;
        assert_eq!(check(&dynamic), Err(Unfit::Dynamic));
        let ourselves = std::fs::read("/proc/self/exe").unwrap();
        assert_eq!(check(&ourselves), Err(Unfit::Dynamic));
    }

    #[test]
    fn what_is_no_program_is_refused_wherever_it_ends() {
        assert_eq!(check(b"#!/bin/sh\n"), Err(Unfit::NoProgram));
        let program = minimal();
        for end in 0..program.len() {
            assert_eq!(check(&program[..end]), Err(Unfit::NoProgram), "{end}");
        }
    }

    /// Headers alone: one segment, and an entry point.
    fn minimal() -> Vec<u8> {
        let mut file = vec![0; 64 + 56];
        file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        let mut put =
            |at: usize, value: u16| file[at..at + 2].copy_from_slice(&value.to_le_bytes());
        put(16, elf::ET_EXEC);
        put(18, MACHINE);
        put(20, 1);
        put(24, 0x1000);
        put(32, 64);
        put(52, 64);
        put(54, 56);
        put(56, 1);
        put(64, 1);
        file
    }
}
