//! The kernel's consoles: where its messages go, and where the recovery shell belongs.

use std::path::{Path, PathBuf};

use crate::{Error, sysfs};

/// The terminals of the active consoles, the preferred one (that is /dev/console) last, as the
/// kernel lists them. A screen (`tty0`, whichever terminal is in front) is given as its first
/// terminal.
///
/// # Errors
/// When /sys can't be read.
pub fn active(sys: &Path) -> Result<Vec<PathBuf>, Error> {
    let names = sysfs::text(&sys.join("class/tty/console/active"))?;
    Ok(names
        .split_whitespace()
        .map(|name| if name == "tty0" { "tty1" } else { name })
        .map(|name| Path::new("/dev").join(name))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::module::tests::TestDir;

    #[test]
    fn each_console_has_its_terminal() {
        let sys = TestDir::new("console-active");
        sys.write("class/tty/console/active", "tty0 ttyS0\n");
        let expected = [Path::new("/dev/tty1"), Path::new("/dev/ttyS0")];
        assert_eq!(active(sys.path()).unwrap(), expected);
    }
}
