//! What the machine lacks, and how it comes by it: from its own apt, as root or through sudo, and
//! only after saying what.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::progress;

/// A program of others that we run, or a library that we open.
#[derive(Clone, Copy, Debug)]
pub struct Tool {
    /// Its file name.
    pub program: &'static str,
    /// The Debian package that brings it.
    pub package: &'static str,
}

/// What building and booting the box takes.
pub const TO_BOOT: &[Tool] = &[
    Tool {
        program: "dpkg-deb",
        package: "dpkg",
    },
    Tool {
        program: "mksquashfs",
        package: "squashfs-tools",
    },
    Tool {
        program: "qemu-system-x86_64",
        package: "qemu-system-x86",
    },
    Tool {
        program: "setpriv",
        package: "util-linux",
    },
    Tool {
        program: "xz",
        package: "xz-utils",
    },
];

/// What the crates' own tests take.
pub const TO_UNIT: &[Tool] = &[
    Tool {
        program: "busybox",
        package: "busybox-static",
    },
    Tool {
        program: "cpio",
        package: "cpio",
    },
    Tool {
        program: "ip",
        package: "iproute2",
    },
    Tool {
        program: "liblxc.so.1",
        package: "liblxc1",
    },
    Tool {
        program: "mkfs.btrfs",
        package: "btrfs-progs",
    },
    Tool {
        program: "mksquashfs",
        package: "squashfs-tools",
    },
    Tool {
        program: "nginx",
        package: "nginx-light",
    },
    Tool {
        program: "setpriv",
        package: "util-linux",
    },
];

/// What suites take beside the box.
pub const TO_PROVE: &[(&str, &[Tool])] = &[
    (
        "bench",
        &[
            Tool {
                program: "busybox",
                package: "busybox",
            },
            Tool {
                program: "dnsmasq",
                package: "dnsmasq-base",
            },
            Tool {
                program: "dnsperf",
                package: "dnsperf",
            },
            Tool {
                program: "haproxy",
                package: "haproxy",
            },
            Tool {
                program: "nginx",
                package: "nginx-light",
            },
            Tool {
                program: "unbound",
                package: "unbound",
            },
        ],
    ),
    (
        "browser",
        &[
            Tool {
                program: "certutil",
                package: "libnss3-tools",
            },
            Tool {
                program: "chromium",
                package: "chromium",
            },
        ],
    ),
    (
        "crash",
        &[Tool {
            program: "nft",
            package: "nftables",
        }],
    ),
    (
        "dns",
        &[
            Tool {
                program: "dig",
                package: "bind9-dnsutils",
            },
            Tool {
                program: "dnsmasq",
                package: "dnsmasq-base",
            },
            Tool {
                program: "dnsperf",
                package: "dnsperf",
            },
            IP,
            Tool {
                program: "kdig",
                package: "knot-dnsutils",
            },
            Tool {
                program: "nft",
                package: "nftables",
            },
            SETPRIV,
            Tool {
                program: "unbound",
                package: "unbound",
            },
            UNSHARE,
        ],
    ),
    (
        "door",
        &[
            Tool {
                program: "curl",
                package: "curl",
            },
            Tool {
                program: "h2load",
                package: "nghttp2-client",
            },
            Tool {
                program: "slowhttptest",
                package: "slowhttptest",
            },
            Tool {
                program: "socat",
                package: "socat",
            },
            Tool {
                program: "testssl",
                package: "testssl.sh",
            },
            Tool {
                program: "virtualenv",
                package: "virtualenv",
            },
        ],
    ),
    (
        "firewall",
        &[
            // The laboratory takes it for granted.
            Tool {
                program: "dnsmasq",
                package: "dnsmasq-base",
            },
            IP,
            Tool {
                program: "nft",
                package: "nftables",
            },
            Tool {
                program: "nmap",
                package: "nmap",
            },
        ],
    ),
    (
        "fuzz",
        // libFuzzer is C++.
        &[Tool {
            program: "g++",
            package: "g++",
        }],
    ),
    (
        "names",
        &[
            Tool {
                program: "avahi-browse",
                package: "avahi-utils",
            },
            Tool {
                program: "avahi-daemon",
                package: "avahi-daemon",
            },
            Tool {
                program: "dbus-daemon",
                package: "dbus-daemon",
            },
            Tool {
                program: "ip",
                package: "iproute2",
            },
            Tool {
                program: "virtualenv",
                package: "virtualenv",
            },
        ],
    ),
    (
        "net",
        &[
            Tool {
                program: "curl",
                package: "curl",
            },
            Tool {
                program: "dhcpd",
                package: "isc-dhcp-server",
            },
            Tool {
                program: "dnsmasq",
                package: "dnsmasq-base",
            },
            Tool {
                program: "ip",
                package: "iproute2",
            },
            Tool {
                program: "kea-dhcp4",
                package: "kea-dhcp4-server",
            },
            Tool {
                program: "kea-dhcp6",
                package: "kea-dhcp6-server",
            },
            Tool {
                program: "nft",
                package: "nftables",
            },
            Tool {
                program: "radvd",
                package: "radvd",
            },
        ],
    ),
    ("stall", NATIVE),
    ("crash", CRASH),
    (
        "time",
        &[
            Tool {
                program: "chronyd",
                package: "chrony",
            },
            Tool {
                program: "dnsmasq",
                package: "dnsmasq-base",
            },
            Tool {
                program: "faketime",
                package: "faketime",
            },
            IP,
            Tool {
                program: "nft",
                package: "nftables",
            },
        ],
    ),
];

/// The same with a DHCP server, a look at the packet filter, and calls that fail on purpose.
const CRASH: &[Tool] = &[
    Tool {
        program: "dnsmasq",
        package: "dnsmasq-base",
    },
    IP,
    Tool {
        program: "nft",
        package: "nftables",
    },
    SETPRIV,
    Tool {
        program: "strace",
        package: "strace",
    },
    UNSHARE,
];

/// What our PID 1 in name spaces takes.
const NATIVE: &[Tool] = &[IP, SETPRIV, UNSHARE];

const IP: Tool = Tool {
    program: "ip",
    package: "iproute2",
};
const SETPRIV: Tool = Tool {
    program: "setpriv",
    package: "util-linux",
};
const UNSHARE: Tool = Tool {
    program: "unshare",
    package: "util-linux",
};

/// Whether a program is on the machine, also where only root looks.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/local/sbin", LIBRARIES].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// Those of `tools` that are not there.
pub fn missing(tools: &[Tool]) -> Vec<Tool> {
    tools
        .iter()
        .filter(|tool| find(tool.program).is_none())
        .copied()
        .collect()
}

/// Makes sure of `tools`. With `install`, those that lack are installed; without, they are told.
///
/// # Errors
/// When some lack and may not, or can't, be installed.
pub fn ensure(tools: &[Tool], install: bool) -> Result<()> {
    let lacking = missing(tools);
    if lacking.is_empty() {
        return Ok(());
    }
    let mut packages: Vec<_> = lacking.iter().map(|tool| tool.package).collect();
    packages.sort_unstable();
    packages.dedup();
    let list = packages.join(" ");
    if !install {
        bail!("this machine lacks: {list}. `apt-get install {list}` brings them");
    }
    progress::say(&format!(
        "This machine lacks {list}: installing them with apt-get."
    ));
    progress::step("Installing", || {
        // Lists may be absent or old; that only shows when a package can't be found.
        apt(&["install", "--yes", "--no-install-recommends"], &packages).or_else(|_| {
            apt(&["update"], &[])?;
            apt(&["install", "--yes", "--no-install-recommends"], &packages)
        })
    })?;
    match missing(tools).first() {
        Some(tool) => bail!(
            "{} was installed but brought no {}",
            tool.package,
            tool.program
        ),
        None => Ok(()),
    }
}

/// Runs apt-get so that no server that comes by it is started: tests start their own.
const QUIETLY: &str = include_str!("quietly.sh");

/// Who says on Debian what packages may start (invoke-rc.d(8), deb-systemd-invoke(1p)).
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Where Debian keeps libraries on the only machines that build a box today.
const LIBRARIES: &str = "/usr/lib/x86_64-linux-gnu";

fn apt(verb: &[&str], packages: &[&str]) -> Result<()> {
    let mut command = if is_root() {
        Command::new("sh")
    } else {
        find("sudo").context("installing needs root, and there is no sudo")?;
        let mut command = Command::new("sudo");
        command.args(["--", "sh"]);
        command
    };
    command.args(["-c", QUIETLY, "sh", POLICY]);
    command.args(verb).args(packages);
    // Apt's own words go to stderr: stdout belongs to what was asked for.
    command.stdout(std::io::stderr());
    let status = command.status().context("apt-get can't be started")?;
    if !status.success() {
        bail!("apt-get {} ended with {status}", verb[0]);
    }
    Ok(())
}

/// Whether we are root.
pub fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    Path::new("/proc/self")
        .metadata()
        .is_ok_and(|myself| myself.uid() == 0)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, process::Command};

    use super::{QUIETLY, Tool, ensure, missing};

    const NONE: Tool = Tool {
        program: "no-such-program",
        package: "no-such-package",
    };
    const SHELL: Tool = Tool {
        program: "sh",
        package: "dash",
    };

    #[test]
    fn only_what_lacks_is_named() {
        let lacking = missing(&[NONE, SHELL]);
        assert_eq!(
            lacking.iter().map(|tool| tool.program).collect::<Vec<_>>(),
            [NONE.program]
        );
    }

    #[test]
    fn without_leave_to_install_it_is_only_said() {
        let error = ensure(&[NONE], false).unwrap_err().to_string();
        assert!(error.contains("apt-get install no-such-package"), "{error}");
        ensure(&[SHELL], false).unwrap();
    }

    /// A machine on which only `old` is installed until apt-get has run.
    struct Machine(PathBuf);

    impl Machine {
        fn new(name: &str, apt_get: &str) -> Self {
            let folder = format!("pilot-quietly-{name}-{}", std::process::id());
            let machine = Self(std::env::temp_dir().join(folder));
            fs::create_dir_all(&machine.0).unwrap();
            machine.program("apt-get", &format!("echo \"$*\" > asked\n{apt_get}"));
            machine.program(
                "dpkg-query",
                "case \"$1 $2\" in\n\
                 '--show '*) echo 'installed old'; [ ! -e new ] || echo 'installed new';;\n\
                 '--listfiles new') echo /usr/sbin/newd; echo /lib/systemd/system/newd.service;\n\
                 echo /usr/lib/systemd/system/newd.socket; echo /etc/newd.service;;\n\
                 *) echo \"$*\" >> strange;;\nesac",
            );
            machine.program("systemctl", "echo \"$*\" >> systemctl.said");
            machine
        }

        fn program(&self, name: &str, script: &str) {
            let file = self.0.join(name);
            fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        }

        fn install(&self) -> bool {
            let path = format!("{}:{}", self.0.display(), std::env::var("PATH").unwrap());
            let status = Command::new("sh")
                .args(["-c", QUIETLY, "sh"])
                .arg(self.0.join("policy"))
                .args(["install", "new"])
                .env("PATH", path)
                .current_dir(&self.0)
                .status()
                .unwrap();
            status.success()
        }

        fn text(&self, name: &str) -> Option<String> {
            fs::read_to_string(self.0.join(name)).ok()
        }
    }

    impl Drop for Machine {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    const ASK_AND_INSTALL: &str = "sh ./policy newd start; echo $? > may-start; touch new";

    #[test]
    fn what_is_installed_is_not_started_now_or_later() {
        let machine = Machine::new("fresh", ASK_AND_INSTALL);
        assert!(machine.install());
        assert_eq!(machine.text("asked").unwrap(), "install new\n");
        assert_eq!(machine.text("may-start").unwrap(), "101\n");
        assert_eq!(machine.text("policy"), None, "it is left behind");
        let disabled = "--quiet --no-reload disable newd.";
        let said = machine.text("systemctl.said").unwrap();
        assert_eq!(said, format!("{disabled}service\n{disabled}socket\n"));
        assert_eq!(machine.text("strange"), None);
        // What is there already is somebody's.
        fs::remove_file(machine.0.join("systemctl.said")).unwrap();
        assert!(machine.install());
        assert_eq!(machine.text("systemctl.said"), None);
    }

    #[test]
    fn the_machine_s_own_policy_comes_back_whatever_happens() {
        let own = "#!/bin/sh\nexit 0\n";
        for (name, apt_get, works) in [
            ("own", ASK_AND_INSTALL, true),
            ("fails", "exit 100", false),
            ("ended", "kill -TERM $PPID; exit 0", false),
        ] {
            let machine = Machine::new(name, apt_get);
            machine.program("policy", "exit 0");
            assert_eq!(machine.install(), works, "{name}");
            assert_eq!(machine.text("policy").unwrap(), own, "{name}");
        }
        // Killed, it can put back nothing; the next one does.
        let machine = Machine::new("killed", "kill -KILL $PPID");
        machine.program("policy", "exit 0");
        assert!(!machine.install());
        assert_ne!(machine.text("policy").unwrap(), own);
        machine.program("apt-get", ASK_AND_INSTALL);
        assert!(machine.install());
        assert_eq!(machine.text("policy").unwrap(), own);
    }
}
