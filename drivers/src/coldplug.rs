//! The devices that came before anybody listened.
//!
//! The kernel announces a device once. What was there before the uevent socket was open is found
//! by walking /sys/devices, where each device that wants a driver has a `modalias` file.

use std::{collections::BTreeSet, fs, path::Path};

use crate::{Error, module::ModuleLoader, sysfs};

/// What was done for the devices present.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Different aliases of devices seen.
    pub aliases: usize,
    /// Modules loaded, in order.
    pub loaded: Vec<String>,
    /// Modules that could not be loaded, and why.
    pub failed: Vec<String>,
}

/// The aliases of all devices below `/sys/devices`, each once.
///
/// # Errors
/// When `sys` has no devices to walk; a device that goes away meanwhile is no error.
pub fn modaliases(sys: &Path) -> Result<BTreeSet<String>, Error> {
    let root = sys.join("devices");
    if let Err(source) = fs::read_dir(&root) {
        return Err(Error::Read { path: root, source });
    }
    let mut found = BTreeSet::new();
    let mut folders = vec![(root, 0)];
    while let Some((folder, depth)) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries.flatten() {
            // A link leads to where the walk comes anyway, or around in circles.
            let Ok(kind) = entry.file_type() else {
                continue;
            };
            if kind.is_dir() && depth < MAX_DEPTH {
                folders.push((entry.path(), depth + 1));
            } else if kind.is_file() && entry.file_name() == "modalias" {
                found.extend(sysfs::optional(&entry.path()).filter(|alias| !alias.is_empty()));
            }
        }
    }
    Ok(found)
}

/// Loads the modules that the devices present want, again and again until no new device appears:
/// a bus's driver brings the devices behind it. May take as long as drivers probe; for a helper.
///
/// # Errors
/// When there is no /sys.
pub fn settle(sys: &Path, loader: &mut ModuleLoader) -> Result<Summary, Error> {
    let mut summary = Summary::default();
    let mut seen = BTreeSet::new();
    for _ in 0..MAX_ROUNDS {
        let before = seen.len();
        for alias in modaliases(sys)? {
            if !seen.contains(&alias) {
                let outcome = loader.load_for_modalias(&alias);
                summary.loaded.extend(outcome.loaded);
                summary
                    .failed
                    .extend(outcome.failed.iter().map(ToString::to_string));
                seen.insert(alias);
            }
        }
        if seen.len() == before {
            break;
        }
    }
    summary.aliases = seen.len();
    Ok(summary)
}

/// The deepest device on a real machine (USB behind hubs behind PCI bridges) is at about 20.
const MAX_DEPTH: usize = 40;

/// A new bus behind each of the last round's devices; real machines need three or four.
const MAX_ROUNDS: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::module::tests::{FakeKernel, TestDir};

    fn device(sys: &TestDir, path: &str, alias: &str) {
        sys.write(&format!("devices/{path}/modalias"), &format!("{alias}\n"));
    }

    #[test]
    fn each_alias_is_found_once_however_deep_and_links_are_not_followed() {
        let sys = TestDir::new("coldplug-walk");
        device(&sys, "pci0000:00/0000:00:02.0", "pci:v1");
        device(&sys, "pci0000:00/0000:00:02.0/virtio0", "virtio:d1");
        device(&sys, "pci0000:00/0000:00:03.0", "pci:v1");
        device(&sys, "platform/empty", "");
        std::os::unix::fs::symlink(sys.path(), sys.path().join("devices/loop")).unwrap();
        let found: Vec<_> = modaliases(sys.path()).unwrap().into_iter().collect();
        assert_eq!(found, ["pci:v1", "virtio:d1"]);
    }

    #[test]
    fn without_sys_it_says_so() {
        let sys = TestDir::new("coldplug-none");
        assert!(
            modaliases(sys.path())
                .unwrap_err()
                .to_string()
                .contains("devices")
        );
    }

    #[test]
    fn devices_that_appear_behind_a_new_driver_get_theirs() {
        let modules = TestDir::new("coldplug-modules");
        modules.write("modules.dep", "virtio_pci.ko:\nvirtio_net.ko:\n");
        modules.write(
            "modules.alias",
            "alias pci:v1 virtio_pci\nalias virtio:d1 virtio_net\n",
        );
        let sys = TestDir::new("coldplug-settle");
        device(&sys, "a", "pci:v1");
        let behind = sys.path().join("devices/a/virtio0");
        let kernel = FakeKernel::new(move |file| {
            if file.ends_with("virtio_pci.ko") {
                fs::create_dir_all(&behind).unwrap();
                fs::write(behind.join("modalias"), "virtio:d1\n").unwrap();
            }
            Ok(())
        });
        let mut loader = ModuleLoader::with_kernel(modules.path(), "", kernel).unwrap();
        let summary = settle(sys.path(), &mut loader).unwrap();
        assert_eq!(summary.loaded, ["virtio_pci", "virtio_net"]);
        assert_eq!((summary.aliases, summary.failed), (2, vec![]));
    }
}
