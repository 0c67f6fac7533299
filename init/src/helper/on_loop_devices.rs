//! The verbs about data, on loop devices: made, mounted, grown, refused, unmounted.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write as _},
    os::{
        fd::AsFd as _,
        unix::fs::{FileExt as _, MetadataExt as _},
    },
    path::{Path, PathBuf},
};

use sys::loopdev::{LoopDevice, Window};

use super::{HelperError, Options, answer::Data, btrfs, data, mounts, probe, unmount};

/// A disk of its own, and a folder to mount it at.
struct Bench {
    folder: PathBuf,
    image: File,
    device: LoopDevice,
    options: Options,
}

impl Bench {
    /// `None` where there is nothing to test with, loudly.
    fn new(name: &str, bytes: u64) -> Option<Self> {
        let kernel_knows = fs::read_to_string("/proc/filesystems")
            .unwrap()
            .contains("\tbtrfs");
        let root = rustix::process::geteuid().is_root();
        if !kernel_knows || !root || !Path::new("/dev/loop-control").exists() {
            eprintln!("SKIPPED: needs root, loop devices, and a kernel with btrfs");
            return None;
        }
        let folder = std::env::temp_dir().join(format!("data-{name}-{}", std::process::id()));
        fs::create_dir_all(folder.join("at")).unwrap();
        let path = folder.join("image");
        let image = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .unwrap();
        image.set_len(bytes).unwrap();
        let device = attach(&image, bytes);
        let options = Options {
            mapper: false,
            lazy: false,
            device: Some(device.path().to_owned()),
            at: folder.join("at"),
        };
        Some(Self {
            folder,
            image,
            device,
            options,
        })
    }

    /// The same image, of which more is seen now.
    fn with_more_of_it(mut self, bytes: u64) -> Self {
        self.image.set_len(bytes).unwrap();
        self.device = attach(&self.image, bytes);
        self.options.device = Some(self.device.path().to_owned());
        self
    }

    fn mount(&self) -> Result<Data, HelperError> {
        data::mount(&self.options)
    }

    fn unmount_clean(&self) {
        let unmounted = unmount::unmount(&self.options).unwrap();
        assert!(
            unmounted.clean && unmounted.how == "unmounted",
            "{unmounted:?}"
        );
        assert_eq!(mounts::at(&self.options.at).unwrap(), None);
    }

    fn write(&self, place: u64, bytes: &[u8]) {
        let device = File::options()
            .write(true)
            .open(self.device.path())
            .unwrap();
        device.write_all_at(bytes, place).unwrap();
        device.sync_all().unwrap();
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.options.at, rustix::mount::UnmountFlags::DETACH);
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn attach(image: &File, size: u64) -> LoopDevice {
    let window = Window {
        offset: 0,
        size,
        read_only: false,
    };
    LoopDevice::attach(image.as_fd(), window).unwrap()
}

const MIB: u64 = 1024 * 1024;
const SIZE: u64 = 300 * MIB;

#[test]
fn a_blank_disk_becomes_data_once_and_keeps_what_is_on_it() {
    let Some(bench) = Bench::new("blank", SIZE) else {
        return;
    };
    let first = bench.mount().unwrap();
    assert!(
        first.made && first.total > 256 * MIB && first.free > 128 * MIB,
        "{first:?}"
    );
    for (name, owner) in [
        ("packages", 501),
        ("services", 0),
        ("logs", 502),
        ("pilot", 501),
    ] {
        let folder = fs::metadata(bench.options.at.join(name)).unwrap();
        // The root of a subvolume of btrfs has this inode number.
        assert_eq!(
            (folder.uid(), folder.gid(), folder.ino()),
            (owner, owner, 256),
            "{name}"
        );
    }
    let reserve = fs::metadata(bench.options.at.join("pilot/reserve")).unwrap();
    assert_eq!(reserve.blocks() * 512, 16 * MIB);
    let kept = bench.options.at.join("logs/kept");
    fs::write(&kept, "still here").unwrap();
    assert!(!bench.mount().unwrap().made, "it is mounted already");
    assert!(probe::probe(&bench.options.at).unwrap().free < first.total);
    bench.unmount_clean();
    assert!(probe::probe(&bench.options.at).is_err());
    let again = bench.mount().unwrap();
    assert!(!again.made && again.notes.is_empty(), "{again:?}");
    assert_eq!(fs::read_to_string(&kept).unwrap(), "still here");
    bench.unmount_clean();
    let twice = unmount::unmount(&bench.options).unwrap();
    assert!(
        twice.clean && twice.how == "nothing was mounted",
        "{twice:?}"
    );
}

/// Writes until the disk takes no more; how much it took.
fn fill(path: &Path) -> u64 {
    let mut file = File::create(path).unwrap();
    let piece = vec![0x5a; MIB as usize];
    let mut written = 0;
    loop {
        // Delayed allocation tells at the writing out.
        let outcome = file.write_all(&piece).and_then(|()| file.sync_data());
        match outcome {
            Ok(()) => written += MIB,
            Err(error) if error.kind() == ErrorKind::StorageFull => return written,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_full_disk_gets_the_reserve_back_and_makes_it_anew_when_there_is_room() {
    let Some(bench) = Bench::new("full", SIZE) else {
        return;
    };
    bench.mount().unwrap();
    let at = &bench.options.at;
    assert!(!probe::probe(at).unwrap().reserve_is_given);
    let ballast = at.join("logs/ballast");
    assert!(fill(&ballast) > 16 * MIB);
    let full = probe::probe(at).unwrap();
    assert!(full.reserve_is_given && !at.join("pilot/reserve").exists());
    let more = fill(&at.join("logs/more"));
    assert!(
        more >= 12 * MIB,
        "only {more} bytes of the reserve are usable"
    );
    assert!(
        probe::probe(at).unwrap().reserve_is_given,
        "nothing is left to give"
    );
    bench.unmount_clean();
    bench.mount().unwrap();
    assert!(
        probe::probe(at).unwrap().reserve_is_given,
        "a full disk mounts without it"
    );

    fs::remove_file(&ballast).unwrap();
    // What was freed counts when the deletion is on the disk.
    rustix::fs::syncfs(File::open(at).unwrap()).unwrap();
    assert!(!probe::probe(at).unwrap().reserve_is_given);
    let reserve = fs::metadata(at.join("pilot/reserve")).unwrap();
    assert_eq!(reserve.blocks() * 512, 16 * MIB);
    bench.unmount_clean();
}

#[test]
fn data_grows_with_its_partition() {
    let Some(bench) = Bench::new("grow", SIZE) else {
        return;
    };
    let before = bench.mount().unwrap().total;
    bench.unmount_clean();
    let bench = bench.with_more_of_it(2 * SIZE);
    let after = bench.mount().unwrap();
    assert!(
        after.total > before + 200 * MIB && after.notes.is_empty(),
        "{after:?}"
    );
    bench.unmount_clean();
}

#[test]
fn a_format_cut_short_is_done_again() {
    let Some(bench) = Bench::new("unfinished", SIZE) else {
        return;
    };
    btrfs::make(bench.device.path()).unwrap();
    bench.write(65_536 + 64, b"!");
    assert!(bench.mount().unwrap().made);
    bench.unmount_clean();
}

#[test]
fn what_is_not_this_boxs_or_damaged_is_left_as_it_is() {
    let Some(bench) = Bench::new("refused", SIZE) else {
        return;
    };
    let first_bytes = || {
        let mut bytes = vec![0; 2 * MIB as usize];
        bench.image.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    };
    btrfs::make(bench.device.path()).unwrap();
    // The trees go, the superblock stays.
    bench.write(MIB, &vec![0x5a; 60 * MIB as usize]);
    let before = first_bytes();
    let broken = bench.mount().unwrap_err();
    assert!(matches!(broken, HelperError::MountData { .. }), "{broken}");
    bench.write(0, &vec![0; MIB as usize]);
    let headless = bench.mount().unwrap_err();
    assert!(
        matches!(headless, HelperError::DamagedData { .. }),
        "{headless}"
    );
    assert_eq!(before[MIB as usize..], first_bytes()[MIB as usize..]);
    bench.write(1080, b"\x53\xef");
    bench.write(64 * MIB, &[0; 4096]);
    let foreign = bench.mount().unwrap_err();
    assert!(
        foreign.to_string().contains("an ext4 file system"),
        "{foreign}"
    );
    assert_eq!(mounts::at(&bench.options.at).unwrap(), None);
}

#[test]
fn data_in_use_is_made_read_only_and_it_is_said_by_whom() {
    let Some(bench) = Bench::new("busy", SIZE) else {
        return;
    };
    bench.mount().unwrap();
    let held = File::open(bench.options.at.join("pilot/reserve")).unwrap();
    let unmounted = unmount::unmount(&bench.options).unwrap();
    assert!(
        unmounted.clean && unmounted.how.contains("read-only"),
        "{unmounted:?}"
    );
    let own = format!("({})", std::process::id());
    assert!(
        unmounted
            .holders
            .iter()
            .any(|holder| holder.ends_with(&own)),
        "{unmounted:?}"
    );
    assert!(matches!(
        bench.mount(),
        Err(HelperError::ReadOnlyData { .. })
    ));
    drop(held);
    bench.unmount_clean();
}
