//! Compressed archives, made plain.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Write},
    path::Path,
};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::{
    StreamingDecoder,
    errors::{FrameDecoderError, ReadFrameHeaderError},
};
use sha2::{Digest, Sha256};

/// What the first bytes of a file say it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Gzip,
    Other(&'static str),
    Squashfs,
    Tar,
    Zstd,
}

impl Form {
    /// The form of what begins with `start`, at least [`Self::LOOK`] bytes if there are as many.
    pub(super) fn of(start: &[u8]) -> Self {
        let known = FORMS.iter().find(|(magic, _)| start.starts_with(magic));
        match known {
            Some((_, form)) => *form,
            None if start.get(257..262) == Some(b"ustar") => Self::Tar,
            // Archives without anything in them, and those of before 1988, have no magic.
            None if start.len() >= 512 && start[..512].iter().all(|byte| *byte == 0) => Self::Tar,
            None => Self::Other("nothing known: give a folder, a tar archive or a squashfs image"),
        }
    }

    /// The form of the file at `path`.
    pub(super) fn of_file(path: &Path) -> io::Result<Self> {
        let mut start = Vec::new();
        File::open(path)?.take(Self::LOOK).read_to_end(&mut start)?;
        Ok(Self::of(&start))
    }

    /// Bytes that tell.
    pub(super) const LOOK: u64 = 512;
}

/// Writes `input` to `output`, unpacked if it is compressed. Returns the SHA-256 of what was
/// written.
pub(super) fn unpack(input: impl Read, output: &mut impl Write) -> io::Result<[u8; 32]> {
    let mut input = BufReader::with_capacity(BUFFER, input);
    let start = input.fill_buf()?;
    let mut output = Hashing {
        output,
        hash: Sha256::new(),
    };
    match Form::of(start) {
        Form::Gzip => io::copy(&mut MultiGzDecoder::new(input), &mut output).map(drop)?,
        Form::Zstd => unpack_zstd(input, &mut output)?,
        _ => io::copy(&mut input, &mut output).map(drop)?,
    }
    Ok(output.hash.finalize().into())
}

/// Frames come one after the other; some are to be skipped (podman's `zstd:chunked` has such).
fn unpack_zstd(mut input: impl BufRead, output: &mut impl Write) -> io::Result<()> {
    while !input.fill_buf()?.is_empty() {
        match StreamingDecoder::new(&mut input) {
            Ok(mut frame) => {
                io::copy(&mut frame, output)?;
                let decoder = &frame.decoder;
                let stored = decoder.get_checksum_from_data();
                if stored.is_some() && stored != decoder.get_calculated_checksum() {
                    return Err(io::Error::other("its checksum does not match"));
                }
            }
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                length,
                ..
            })) => {
                let mut skipped = input.by_ref().take(length.into());
                io::copy(&mut skipped, &mut io::sink())?;
            }
            Err(error) => return Err(io::Error::other(error)),
        }
    }
    Ok(())
}

struct Hashing<'a, W> {
    output: &'a mut W,
    hash: Sha256,
}

impl<W: Write> Write for Hashing<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.output.write(bytes)?;
        self.hash.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

const FORMS: [(&[u8], Form); 8] = [
    (b"\x1f\x8b", Form::Gzip),
    (b"\x28\xb5\x2f\xfd", Form::Zstd),
    // A skippable frame, as some compressors begin with.
    (b"\x50\x2a\x4d\x18", Form::Zstd),
    (b"hsqs", Form::Squashfs),
    (b"PK\x03\x04", Form::Other("a zip archive: unpack it first")),
    (
        b"\xfd7zXZ",
        Form::Other("an xz file: unpack it with `xz -d` first"),
    ),
    (
        b"BZh",
        Form::Other("a bzip2 file: unpack it with `bzip2 -d` first"),
    ),
    (
        b";;",
        Form::Other("an S9PK package: its images can be taken out with `pilot s9pk extract`"),
    ),
];

/// Bytes read at once.
const BUFFER: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_told_by_their_first_bytes() {
        let mut tar = vec![b'x'; 512];
        tar[257..262].copy_from_slice(b"ustar");
        assert_eq!(Form::of(&tar), Form::Tar);
        assert_eq!(Form::of(&[0; 512]), Form::Tar);
        assert_eq!(Form::of(b"hsqs..."), Form::Squashfs);
        for (start, word) in [
            (&b"PK\x03\x04"[..], "zip"),
            (b"BZh9", "bzip2"),
            (b"", "nothing"),
        ] {
            let form = Form::of(start);
            assert!(
                matches!(form, Form::Other(what) if what.contains(word)),
                "{form:?}"
            );
        }
    }

    #[test]
    fn plain_gzip_and_several_frames_of_zstd_give_the_same_bytes() {
        let text = b"the same text ".repeat(1000);
        let gz = {
            let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gz.write_all(&text).unwrap();
            gz.finish().unwrap()
        };
        let frame = |bytes: &[u8]| {
            let level = ruzstd::encoding::CompressionLevel::Fastest;
            ruzstd::encoding::compress_to_vec(bytes, level)
        };
        let skipped = b"\x50\x2a\x4d\x18\x03\x00\x00\x00abc";
        let zstd = [
            &skipped[..],
            &frame(&text[..5000]),
            skipped,
            &frame(&text[5000..]),
        ]
        .concat();
        let mut hashes = Vec::new();
        for packed in [&text, &gz, &zstd] {
            let mut out = Vec::new();
            hashes.push(unpack(&packed[..], &mut out).unwrap());
            assert!(out == text);
        }
        assert!(hashes.iter().all(|hash| *hash == hashes[0]));
        for cut in [&gz[..gz.len() - 9], &zstd[..zstd.len() - 9]] {
            assert!(unpack(cut, &mut Vec::new()).is_err());
        }
    }
}
