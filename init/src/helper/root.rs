//! Mounting the read-only root of a slot.

use std::{fs::File, io, path::Path};

use rustix::mount::MountFlags;

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
    rustix::mount::mount(&device, target, file_system, flags, None).map_err(|errno| {
        let said = messages.about(file_system).join("; ");
        refuse(format!(
            "its {file_system} image is damaged ({errno}) {said}"
        ))
    })?;
    // It is the next thing to run: a damaged image had better be known now.
    let program = target.join(INIT);
    File::open(&program)
        .and_then(|mut init| io::copy(&mut init, &mut io::sink()))
        .map_err(|error| refuse(format!("its {INIT} can't be read: {error}")))?;
    Ok(Root {
        device: device.display().to_string(),
        file_system: file_system.to_owned(),
    })
}

/// The next stage, below the root.
const INIT: &str = "usr/lib/pilotlight/init";
