//! A part of a file as a block device.
//!
//! A package's image is mounted straight out of the package file, by offset. The device is set up
//! in one call and clears itself when its last user is gone, so that a process killed half-way
//! leaves nothing behind.

use std::{
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use linux_raw_sys::loop_device::{_bindgen_ty_1 as Flag, loop_config, loop_info64};
use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};

use crate::{Error, raw};

/// Which part of a file a loop device shows, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Where it begins, in bytes; a multiple of 512.
    pub offset: u64,
    /// How long it is, in bytes; a multiple of 512. 0 is up to the end of the file.
    pub size: u64,
    /// Whether writes are refused.
    pub read_only: bool,
}

/// A configured loop device. It clears itself when this value is dropped and nothing else, as a
/// mount, uses it.
#[derive(Debug)]
pub struct LoopDevice {
    path: PathBuf,
    device: OwnedFd,
}

impl LoopDevice {
    /// Makes `window` of `file` a block device. The file's page cache is used, not direct I/O: an
    /// image need not be aligned to the disk's blocks.
    ///
    /// # Errors
    /// When the kernel has no loop driver, refuses the window, or others take each free device
    /// first ([`Error::LoopContended`]).
    pub fn attach(file: BorrowedFd<'_>, window: Window) -> Result<Self, Error> {
        let control = open(Path::new(LOOP_CONTROL), OFlags::RDWR)?;
        for _ in 0..MAX_TRIES {
            let number = raw::loop_get_free(control.as_fd())
                .map_err(Error::call("LOOP_CTL_GET_FREE", LOOP_CONTROL))?;
            let path = PathBuf::from(format!("/dev/loop{number}"));
            let access = if window.read_only {
                OFlags::RDONLY
            } else {
                OFlags::RDWR
            };
            let device = open(&path, access)?;
            match raw::loop_configure(device.as_fd(), config(file, window)) {
                Ok(()) => return Ok(Self { path, device }),
                Err(Errno::BUSY) => {}
                Err(errno) => {
                    let what = path.display().to_string();
                    return Err(Error::Call {
                        call: "LOOP_CONFIGURE",
                        what,
                        errno,
                    });
                }
            }
        }
        Err(Error::LoopContended { tries: MAX_TRIES })
    }

    /// The device's node, for `mount`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Unbinds the device now, or as soon as its last user is gone.
    ///
    /// # Errors
    /// When it is not bound (any more).
    pub fn detach(self) -> Result<(), Error> {
        raw::loop_clear(self.device.as_fd())
            .map_err(Error::call("LOOP_CLR_FD", self.path.display().to_string()))
    }
}

impl AsFd for LoopDevice {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}

fn open(path: &Path, access: OFlags) -> Result<OwnedFd, Error> {
    rustix::fs::open(path, access | OFlags::CLOEXEC, Mode::empty()).map_err(|errno| Error::Open {
        path: path.to_owned(),
        errno,
    })
}

fn config(file: BorrowedFd<'_>, window: Window) -> loop_config {
    let mut flags = Flag::LO_FLAGS_AUTOCLEAR as u32;
    if window.read_only {
        flags |= Flag::LO_FLAGS_READ_ONLY as u32;
    }
    loop_config {
        fd: file.as_raw_fd().cast_unsigned(),
        block_size: 0,
        info: loop_info64 {
            lo_device: 0,
            lo_inode: 0,
            lo_rdevice: 0,
            lo_offset: window.offset,
            lo_sizelimit: window.size,
            lo_number: 0,
            lo_encrypt_type: 0,
            lo_encrypt_key_size: 0,
            lo_flags: flags,
            lo_file_name: [0; 64],
            lo_crypt_name: [0; 64],
            lo_encrypt_key: [0; 32],
            lo_init: [0; 2],
        },
        __reserved: [0; 8],
    }
}

const LOOP_CONTROL: &str = "/dev/loop-control";

/// Each lost race means that somebody else got a device; a box starts tens of services at once.
const MAX_TRIES: u32 = 64;

#[cfg(test)]
mod tests {
    use std::{fs, io::Read as _, os::fd::AsFd as _};

    use super::*;

    fn file_of_blocks() -> fs::File {
        let path = std::env::temp_dir().join(format!("loopdev-{}", std::process::id()));
        let bytes: Vec<u8> = (0..8_u8).flat_map(|block| [block; 512]).collect();
        fs::write(&path, bytes).unwrap();
        let file = fs::File::open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        file
    }

    #[test]
    fn a_window_shows_its_part_of_the_file_only() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: needs root to set up a loop device");
            return;
        }
        let file = file_of_blocks();
        let window = Window {
            offset: 1024,
            size: 512,
            read_only: true,
        };
        let device = LoopDevice::attach(file.as_fd(), window).unwrap();
        let mut seen = Vec::new();
        fs::File::open(device.path())
            .unwrap()
            .read_to_end(&mut seen)
            .unwrap();
        assert_eq!(seen, [2; 512]);
        let path = device.path().to_owned();
        drop(device);
        // Others on this machine may take the device at once; then it shows something else.
        let mut after = Vec::new();
        if let Ok(mut reopened) = fs::File::open(&path) {
            let _ = reopened.read_to_end(&mut after);
        }
        assert_ne!(after, [2; 512], "the device cleared itself");
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let (reader, _writer) = std::io::pipe().unwrap();
        let window = Window {
            offset: 0,
            size: 0,
            read_only: true,
        };
        assert!(LoopDevice::attach(reader.as_fd(), window).is_err());
    }
}
