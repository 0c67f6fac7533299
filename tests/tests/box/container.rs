//! What runs in the box: our PID 1, nobody else's, and services that are shut in.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, Result};
use tests::vm::Vm;

/// The kernel starts our program by itself, and nothing in the boot path is a script.
pub(crate) fn pid_1_is_ours(vm: &mut Vm) -> Result<()> {
    let text = vm.shell("readlink /proc/1/exe; ps -o pid,ppid,comm,args | grep '^ *1 '")?;
    let (program, line) = text.split_once('\n').context("no line for PID 1")?;
    assert_eq!(program, "/usr/lib/pilotlight/init");
    assert_eq!(line.split_whitespace().nth(2), Some("init"), "{line}");
    // It was not told what to start: it took what it takes by itself.
    let line = vm.shell("cat /proc/cmdline")?;
    assert!(!line.contains("init="), "{line}");
    assert!(
        beginning_of("init", vm.initramfs())?.starts_with(b"\x7fELF"),
        "the initramfs begins with no program"
    );
    Ok(())
}

/// Neither file nor process of systemd's, and no shell script anywhere in the root.
pub(crate) fn neither_systemd_nor_scripts(vm: &mut Vm) -> Result<()> {
    let found = vm.shell("find / -xdev -name 'systemd*'; ps -o comm | grep systemd")?;
    assert_eq!(found, "");
    let scripts = vm.shell_within(
        "find / -xdev -type f -perm -100 -exec head -v -c 2 {} + | grep -B 1 '^#!'",
        LOOK,
    )?;
    assert_eq!(scripts, "");
    // What was looked for is found where it is.
    let found = vm.shell("echo '#!' > /run/s; head -v -c 2 /run/s /run/s | grep -c '^#!'")?;
    assert_eq!(found, "2");
    Ok(())
}

/// Every process of the demo service has namespaces of its own, ids that are nobody's in the box,
/// and no capability outside of its own user namespace, which is all that it is in.
pub(crate) fn the_service_is_shut_in(vm: &mut Vm) -> Result<()> {
    let host = processes(vm, "1")?.remove(&1).context("no PID 1")?;
    let inside = processes(vm, &format!("$(cat {PAYLOAD}/cgroup.procs)"))?;
    assert!(
        vm.shell(&format!("cat {PAYLOAD}/../memory.max"))?
            .parse::<u64>()
            .is_ok(),
        "no limit holds for the container"
    );
    let mut names: Vec<_> = inside.values().map(|p| p.field("Name")).collect();
    names.sort_unstable();
    assert!(
        names.contains(&"agent") && names.contains(&"httpd"),
        "{names:?}"
    );
    for (pid, process) in &inside {
        println!("{pid} {}: {process:?}", process.field("Name"));
        shut_in(process, &host);
    }
    Ok(())
}

fn shut_in(process: &Process, host: &Process) {
    assert_eq!(host.namespaces.len(), NAMESPACES.len(), "{host:?}");
    assert_eq!(process.namespaces.len(), NAMESPACES.len(), "{process:?}");
    for (name, (own, hosts)) in NAMESPACES
        .iter()
        .zip(process.namespaces.iter().zip(&host.namespaces))
    {
        assert!(own.starts_with(&format!("{name}:[")), "{own}");
        assert_ne!(own, hosts, "{process:?}");
    }
    for map in [process.field("uid_map"), process.field("gid_map")] {
        let numbers: Vec<u32> = map.split_whitespace().flat_map(str::parse).collect();
        let [0, base, count] = numbers[..] else {
            panic!("not one range from 0 on: {map}")
        };
        assert!(base >= FIRST_ID && count <= IDS, "{map}");
        for ids in [process.field("Uid"), process.field("Gid")] {
            for id in ids.split_whitespace().flat_map(str::parse::<u32>) {
                assert!((base..base + count).contains(&id), "{ids} outside of {map}");
            }
        }
    }
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        let capabilities = u64::from_str_radix(process.field(set), 16).expect("a set of bits");
        assert_eq!(capabilities & !ALLOWED, 0, "{set} of {process:?}");
    }
    assert_eq!(process.field("NoNewPrivs"), "1", "{process:?}");
    assert_eq!(process.field("Seccomp"), "2", "{process:?}");
}

/// What /proc tells of a process.
#[derive(Debug)]
struct Process {
    /// As the links in `ns` say, in the order of [`NAMESPACES`].
    namespaces: Vec<String>,
    /// Lines of `status`, and the maps of ids.
    fields: BTreeMap<String, String>,
}

impl Process {
    fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }
}

/// Reads those with the pids that the shell makes of `pids`; one that has ended is not told of.
fn processes(vm: &mut Vm, pids: &str) -> Result<BTreeMap<u32, Process>> {
    let links: Vec<_> = NAMESPACES
        .iter()
        .map(|name| format!("/proc/$p/ns/{name}"))
        .collect();
    let text = vm.shell_within(
        &format!(
            "for p in {pids}; do echo \"pid $p\"; \
             for n in {}; do echo \"ns $(readlink $n)\"; done; \
             for m in uid_map gid_map; do echo \"$m: $(cat /proc/$p/$m)\"; done; \
             grep -E '^({FIELDS}):' /proc/$p/status; done 2>/dev/null",
            links.join(" ")
        ),
        LOOK,
    )?;
    let mut found = BTreeMap::new();
    for part in text.split("pid ").skip(1) {
        let mut lines = part.lines();
        let pid = lines.next().unwrap_or_default().parse()?;
        let (mut namespaces, mut fields) = (Vec::new(), BTreeMap::new());
        for line in lines {
            match (line.strip_prefix("ns "), line.split_once(':')) {
                (Some(link), _) => namespaces.push(link.to_owned()),
                (None, Some((name, value))) => {
                    fields.insert(name.to_owned(), value.trim().to_owned());
                }
                (None, None) => {}
            }
        }
        if fields.contains_key("Name") {
            found.insert(pid, Process { namespaces, fields });
        }
    }
    Ok(found)
}

/// The first bytes of a file in an uncompressed archive (cpio, `newc`).
fn beginning_of(wanted: &str, archive: &Path) -> Result<Vec<u8>> {
    let archive = fs::read(archive)?;
    let mut rest = &archive[..];
    loop {
        let number = |at: usize| -> Result<usize> {
            let digits = rest.get(at..at + 8).context("the archive is cut short")?;
            Ok(usize::from_str_radix(std::str::from_utf8(digits)?, 16)?)
        };
        let (size, name_size) = (number(54)?, number(94)?);
        let name = &rest[110..110 + name_size - 1];
        let content = (110 + name_size).next_multiple_of(4);
        if name == wanted.as_bytes() {
            return Ok(rest[content..content + size.min(16)].to_owned());
        }
        rest = rest
            .get(content + size.next_multiple_of(4)..)
            .with_context(|| format!("there is no {wanted}"))?;
    }
}

const NAMESPACES: [&str; 7] = ["user", "pid", "net", "mnt", "ipc", "uts", "cgroup"];
const FIELDS: &str = "Name|Uid|Gid|Cap[A-Z][a-z]*|NoNewPrivs|Seccomp";
/// Where the processes of the demo's container are.
pub(crate) const PAYLOAD: &str = "/sys/fs/cgroup/services/demo/payload";
/// No id of the box itself is as high.
const FIRST_ID: u32 = 65_536;
const IDS: u32 = 65_536;
/// Capabilities (capabilities(7)) that a container's own user namespace may give: to own files, to
/// signal, to change user, to bind low ports and raw sockets, to chroot. None that reaches the
/// kernel: no `sys_admin`, `sys_module`, `sys_rawio`, `sys_ptrace`, `net_admin`, `mknod`, `bpf`.
const ALLOWED: u64 = 1 // chown
    | 1 << 1 // dac_override
    | 1 << 3 // fowner
    | 1 << 4 // fsetid
    | 1 << 5 // kill
    | 1 << 6 // setgid
    | 1 << 7 // setuid
    | 1 << 8 // setpcap
    | 1 << 10 // net_bind_service
    | 1 << 13 // net_raw
    | 1 << 18 // sys_chroot
    | 1 << 31; // setfcap
const LOOK: std::time::Duration = std::time::Duration::from_secs(180);
