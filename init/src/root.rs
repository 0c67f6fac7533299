//! From the initramfs to the root, once a helper has mounted it.

use std::{fs, os::unix::process::CommandExt as _, path::Path};

use rustix::mount::mount_move;
use supervise::status::StepReport;

/// Goes over to the mounted root and executes its init. Comes back only if that failed: why.
pub fn switch() -> String {
    match try_switch() {
        Ok(never) => match never {},
        Err(why) => why,
    }
}

/// Leaves the reports of this stage's steps to the next.
pub fn save_reports(reports: &[StepReport]) {
    if let Ok(bytes) = postcard::to_stdvec(reports) {
        let _ = fs::write(REPORTS, bytes);
    }
}

/// The reports of the stage before, if there was one.
pub fn load_reports() -> Vec<StepReport> {
    let bytes = fs::read(REPORTS).unwrap_or_default();
    postcard::from_bytes(&bytes).unwrap_or_default()
}

fn try_switch() -> Result<std::convert::Infallible, String> {
    let step = |what: &'static str| move |e: rustix::io::Errno| format!("{what}: {e}");
    for place in ["proc", "sys", "dev", "run"] {
        let (from, to) = (format!("/{place}"), format!("{NEW_ROOT}/{place}"));
        mount_move(&from, &to).map_err(step("a mount can't be moved into the root"))?;
    }
    free_initramfs();
    rustix::process::chdir(NEW_ROOT).map_err(step("the root can't be entered"))?;
    mount_move(".", "/").map_err(step("the root can't be moved to its place"))?;
    rustix::process::chroot(".").map_err(step("chroot"))?;
    rustix::process::chdir("/").map_err(step("chdir"))?;
    // The successor begins with a clean slate.
    let none = nix::sys::signal::SigSet::empty();
    let _ = none.thread_set_mask();
    let error = std::process::Command::new(INIT)
        .arg0("init")
        .env_clear()
        .exec();
    Err(format!("{INIT} can't be executed: {error}"))
}

/// The memory of the initramfs is of better use elsewhere.
fn free_initramfs() {
    for path in ["/usr/lib/modules", "/usr/bin/busybox", "/init"] {
        let path = Path::new(path);
        let removed = if path.is_dir() {
            fs::remove_dir_all(path)
        } else {
            fs::remove_file(path)
        };
        if let Err(e) = removed {
            crate::kmsg::write(crate::kmsg::INFO, &format!("{}: {e}", path.display()));
        }
    }
}

/// Where the root is mounted before it becomes the root.
pub const NEW_ROOT: &str = "/sysroot";
/// The program that is PID 1, in the root.
const INIT: &str = "/usr/lib/pilotlight/init";
/// In /run, which goes over to the root with all that is in it.
const REPORTS: &str = "/run/initramfs-steps";
