//! Mounting the read-only root of a slot.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

use rustix::{
    io::Errno,
    mount::{MountFlags, UnmountFlags},
};

use super::{HelperError, SYS, answer::Root, content::Content, data, kmsg::Messages, modules};

/// See [`super::run`].
pub(super) fn mount(label: &str, target: &Path) -> Result<Root, HelperError> {
    let device = drivers::block::partition_by_label(Path::new(SYS), label)?.node();
    let refuse = |reason| HelperError::MountRoot {
        device: device.clone(),
        reason,
    };
    let file_system = match data::look(&device)? {
        Content::Image(file_system) => file_system,
        Content::Blank => return Err(refuse("its partition is empty".to_owned())),
        _ => {
            return Err(refuse(
                "its partition holds no squashfs or EROFS image".to_owned(),
            ));
        }
    };
    modules::need_file_system(file_system);
    let mut messages = Messages::from_now();
    let flags = MountFlags::RDONLY | MountFlags::NODEV | MountFlags::NOATIME;
    fs::create_dir_all(target).map_err(HelperError::file(target, "made"))?;
    rustix::mount::mount(&device, target, file_system, flags, None)
        .map_err(|errno| refuse(reason(file_system, errno, &messages.about("error"))))?;
    // It is the next thing to run: a damaged image had better be known now.
    if let Err(error) = read_through(&target.join(INIT)) {
        let _ = rustix::mount::unmount(target, UnmountFlags::DETACH);
        return Err(refuse(format!("its {INIT} can't be read ({error})")));
    }
    Ok(Root {
        device: device.display().to_string(),
        file_system: file_system.to_owned(),
    })
}

fn read_through(program: &Path) -> io::Result<u64> {
    io::copy(&mut File::open(program)?, &mut io::sink())
}

/// What the kernel's answer means, and what it said itself.
fn reason(file_system: &str, errno: Errno, said: &[String]) -> String {
    let meaning = match errno {
        Errno::NODEV => format!("the kernel has no {file_system}"),
        Errno::NOENT | Errno::NOTDIR => "the folder to mount it at is missing".to_owned(),
        Errno::BUSY => "the partition is in use".to_owned(),
        _ => format!("its {file_system} image is damaged"),
    };
    let said = said
        .iter()
        .map(|line| format!("; {line}"))
        .collect::<String>();
    format!("{meaning} ({errno}){said}")
}

/// The next stage, below the root.
const INIT: &str = "usr/lib/pilotlight/init";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_image_is_told_from_what_has_nothing_to_do_with_it() {
        let said = ["SQUASHFS error: bad block".to_owned()];
        let damaged = reason("squashfs", Errno::INVAL, &said);
        assert!(
            damaged.contains("image is damaged") && damaged.contains("bad block"),
            "{damaged}"
        );
        assert!(!reason("squashfs", Errno::NOENT, &[]).contains("damaged"));
        assert!(reason("erofs", Errno::NODEV, &[]).contains("no erofs"));
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error() {
        assert!(read_through(Path::new("/proc/self/exe")).unwrap() > 0);
        assert!(read_through(Path::new("/proc/self/no-such-file")).is_err());
    }
}
