//! The `keep` partition: what must be known before data is there. The bytes are PID 1's business.

use std::{
    fs::File,
    io::{self, Read as _},
    num::NonZeroU64,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use rustix::fs::Advice;

use super::{
    HelperError, Options, SYS,
    answer::{Keep, KeepWritten},
    slots::{self, MAX_PAYLOAD, SLOT_BYTES, Slot},
};

/// See [`super::run`].
pub(super) fn read(options: &Options) -> Result<Keep, HelperError> {
    let device = find(options)?;
    let file = File::open(&device).map_err(HelperError::file(&device, "opened"))?;
    let slots = read_slots(&file).map_err(HelperError::file(&device, "read"))?;
    let note = damage(&slots);
    let newest = slots::newest(slots);
    let generation = newest.as_ref().map_or(0, |whole| whole.generation);
    Ok(Keep {
        payload: newest.map(|whole| whole.payload),
        generation,
        note,
    })
}

/// See [`super::run`].
pub(super) fn write(options: &Options) -> Result<KeepWritten, HelperError> {
    let mut payload = Vec::new();
    io::stdin()
        .lock()
        .take(MAX_PAYLOAD as u64 + 1)
        .read_to_end(&mut payload)
        .map_err(HelperError::file("standard input", "read"))?;
    write_payload(&find(options)?, &payload)
}

fn write_payload(device: &Path, payload: &[u8]) -> Result<KeepWritten, HelperError> {
    if payload.len() > MAX_PAYLOAD {
        return Err(HelperError::KeepTooLong {
            bytes: payload.len(),
            most: MAX_PAYLOAD,
        });
    }
    let file = File::options()
        .read(true)
        .write(true)
        .open(device)
        .map_err(HelperError::file(device, "opened"))?;
    let before = read_slots(&file).map_err(HelperError::file(device, "read"))?;
    let write = slots::write(&before, payload);
    file.write_all_at(&write.bytes, PLACES[write.slot])
        .and_then(|()| file.sync_all())
        .map_err(HelperError::file(device, "written"))?;
    // What is read back must come from the disk; without this it comes from memory.
    let length = NonZeroU64::new(write.bytes.len() as u64);
    let _ = rustix::fs::fadvise(&file, PLACES[write.slot], length, Advice::DontNeed);
    let after = read_slots(&file).map_err(HelperError::file(device, "read"))?;
    match slots::newest(after) {
        Some(whole) if whole.generation == write.generation && whole.payload == payload => {
            Ok(KeepWritten {
                generation: write.generation,
            })
        }
        _ => Err(HelperError::KeepNotWritten {
            device: device.to_owned(),
        }),
    }
}

fn find(options: &Options) -> Result<PathBuf, HelperError> {
    match &options.device {
        Some(device) => Ok(device.clone()),
        None => Ok(drivers::block::partition_by_label(Path::new(SYS), LABEL)?.node()),
    }
}

fn read_slots(file: &File) -> io::Result<[Slot; 2]> {
    let read = |place| {
        let mut bytes = vec![0; SLOT_BYTES];
        file.read_exact_at(&mut bytes, place)
            .map(|()| slots::read(&bytes))
    };
    Ok([read(PLACES[0])?, read(PLACES[1])?])
}

/// What is wrong with the copies, as a sentence.
fn damage(slots: &[Slot; 2]) -> Option<String> {
    let said: Vec<_> = ["first", "second"]
        .iter()
        .zip(slots)
        .filter_map(|(name, slot)| match slot {
            Slot::Damaged(why) => Some(format!("the {name} copy {why}")),
            Slot::Empty | Slot::Whole(_) => None,
        })
        .collect();
    (!said.is_empty()).then(|| format!("On the keep partition, {}.", said.join(" and ")))
}

/// The partition's label.
const LABEL: &str = "pilot-keep";

/// Far apart, so that one worn-out block of a card does not take both.
const PLACES: [u64; 2] = [0, 16 * 1024 * 1024];

#[cfg(test)]
mod tests {
    use super::*;

    fn keep_file(name: &str) -> Options {
        let path = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
        File::create(&path)
            .unwrap()
            .set_len(32 * 1024 * 1024)
            .unwrap();
        Options {
            mapper: false,
            lazy: false,
            device: Some(path),
            at: PathBuf::new(),
        }
    }

    #[test]
    fn what_was_written_last_is_read_also_when_its_copy_is_damaged_before() {
        let options = keep_file("keep");
        let device = options.device.clone().unwrap();
        let empty = Keep {
            payload: None,
            generation: 0,
            note: None,
        };
        assert_eq!(read(&options).unwrap(), empty);
        for (payload, generation) in [(b"one", 1), (b"two", 2), (b"six", 3)] {
            let written = write_payload(&device, payload).unwrap();
            assert_eq!(written, KeepWritten { generation });
        }
        assert_eq!(read(&options).unwrap().payload.unwrap(), b"six");
        let file = File::options().write(true).open(&device).unwrap();
        file.write_all_at(b"XX", 65).unwrap();
        let keep = read(&options).unwrap();
        assert_eq!(
            (keep.payload.unwrap().as_slice(), keep.generation),
            (&b"two"[..], 2)
        );
        assert!(
            keep.note
                .unwrap()
                .contains("first copy has a wrong checksum")
        );
        std::fs::remove_file(&device).unwrap();
    }

    #[test]
    fn the_longest_payload_fits_and_a_longer_one_is_refused() {
        let options = keep_file("keep-long");
        let device = options.device.clone().unwrap();
        write_payload(&device, &[7; MAX_PAYLOAD]).unwrap();
        assert_eq!(read(&options).unwrap().payload.unwrap(), [7; MAX_PAYLOAD]);
        let refused = write_payload(&device, &[7; MAX_PAYLOAD + 1]).unwrap_err();
        assert!(matches!(refused, HelperError::KeepTooLong { .. }));
        std::fs::remove_file(&device).unwrap();
    }

    #[test]
    fn a_partition_that_is_too_small_is_an_error() {
        let options = keep_file("keep-small");
        let device = options.device.clone().unwrap();
        File::options()
            .write(true)
            .open(&device)
            .unwrap()
            .set_len(1024)
            .unwrap();
        assert!(matches!(read(&options), Err(HelperError::File { .. })));
        std::fs::remove_file(&device).unwrap();
    }
}
