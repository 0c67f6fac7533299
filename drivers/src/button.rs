//! The power button: an input device with the power key.
//!
//! Look for buttons at the start and after each uevent of the subsystem `input`. Reading never
//! waits, and a button that was unplugged is dropped.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{ErrorKind, Read as _},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::OpenOptionsExt as _,
    },
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;

use crate::{Error, sysfs};

/// The power buttons at hand.
#[derive(Debug, Default)]
pub struct PowerButtons {
    open: BTreeMap<String, File>,
}

impl PowerButtons {
    /// Opens the buttons that are not open yet; returns the names of those that are new.
    ///
    /// # Errors
    /// When /sys can't be read. A button that does not open is left for the next time.
    pub fn look(&mut self, sys: &Path) -> Result<Vec<String>, Error> {
        let class = sys.join("class/input");
        let mut new = Vec::new();
        for name in sysfs::names(&class)? {
            let keys = class.join(&name).join("device/capabilities/key");
            let has_key = name.starts_with("event")
                && sysfs::optional(&keys).is_some_and(|bitmap| has_bit(&bitmap, KEY_POWER));
            if has_key
                && !self.open.contains_key(&name)
                && let Ok(device) = open(&Path::new("/dev/input").join(&name))
            {
                new.push(name.clone());
                self.open.insert(name, device);
            }
        }
        Ok(new)
    }

    /// The descriptors to poll for reading, each with its name.
    pub fn descriptors(&self) -> impl Iterator<Item = (&str, BorrowedFd<'_>)> {
        self.open
            .iter()
            .map(|(name, device)| (name.as_str(), device.as_fd()))
    }

    /// Takes what the button of this name has to say: whether it was pressed. One that is gone is
    /// forgotten.
    pub fn pressed(&mut self, name: &str) -> bool {
        let Some(device) = self.open.get_mut(name) else {
            return false;
        };
        let mut bytes = [0; EVENT_BYTES * EVENTS_AT_ONCE];
        match device.read(&mut bytes) {
            Ok(length) if length > 0 => has_press(&bytes[..length]),
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
            {
                false
            }
            Ok(_) | Err(_) => {
                self.open.remove(name);
                false
            }
        }
    }
}

fn open(path: &PathBuf) -> std::io::Result<File> {
    let flags = (OFlags::NONBLOCK | OFlags::CLOEXEC).bits().cast_signed();
    File::options().read(true).custom_flags(flags).open(path)
}

/// Whether a bitmap as in /sys (words of 64 bits in hexadecimal, the highest first) has this bit.
fn has_bit(bitmap: &str, bit: usize) -> bool {
    bitmap
        .split_whitespace()
        .rev()
        .nth(bit / 64)
        .and_then(|word| u64::from_str_radix(word, 16).ok())
        .is_some_and(|word| word >> (bit % 64) & 1 == 1)
}

/// Whether the power key goes down in one of these events (`struct input_event`).
fn has_press(bytes: &[u8]) -> bool {
    bytes.chunks_exact(EVENT_BYTES).any(|event| {
        let half = |at: usize| u16::from_ne_bytes([event[at], event[at + 1]]);
        let value = i32::from_ne_bytes([event[20], event[21], event[22], event[23]]);
        (half(16), half(18), value) == (EV_KEY, KEY_POWER as u16, PRESSED)
    })
}

/// `struct input_event` with a 64-bit `struct timeval` before type, code and value.
const EVENT_BYTES: usize = 24;

/// A press is three events; more stay for the next call.
const EVENTS_AT_ONCE: usize = 32;

/// Of `linux/input-event-codes.h`.
const EV_KEY: u16 = 1;
const KEY_POWER: usize = 116;
const PRESSED: i32 = 1;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::module::tests::TestDir;

    fn event(kind: u16, code: u16, value: i32) -> Vec<u8> {
        let mut bytes = vec![0x55; 16];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(code.to_ne_bytes());
        bytes.extend(value.to_ne_bytes());
        bytes
    }

    #[test]
    fn going_down_counts_going_up_and_other_keys_do_not() {
        let syn = event(0, 0, 0);
        assert!(has_press(&[event(1, 116, 1), syn.clone()].concat()));
        assert!(has_press(&[syn.clone(), event(1, 116, 1)].concat()));
        assert!(!has_press(
            &[event(1, 116, 0), event(1, 30, 1), syn].concat()
        ));
        assert!(!has_press(&event(1, 116, 1)[..23]));
    }

    #[test]
    fn the_power_key_is_found_in_a_bitmap() {
        assert!(has_bit("10000000000000 0", KEY_POWER));
        assert!(has_bit("8000 10000000000000 0\n", KEY_POWER));
        assert!(!has_bit("10000000000000", KEY_POWER));
        assert!(!has_bit("", KEY_POWER));
        assert!(!has_bit("zz 0", KEY_POWER));
    }

    #[test]
    fn only_event_devices_with_the_key_are_tried() {
        let sys = TestDir::new("button-look");
        sys.write(
            "class/input/event991/device/capabilities/key",
            "10000000000000 0",
        );
        sys.write("class/input/event992/device/capabilities/key", "0");
        let mut buttons = PowerButtons::default();
        assert!(
            buttons.look(sys.path()).unwrap().is_empty(),
            "it has no node to open"
        );
        assert!(!buttons.pressed("event991"));
        assert_eq!(buttons.descriptors().count(), 0);
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = has_press(&bytes);
        }
    }
}
