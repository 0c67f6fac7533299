//! The step between fork and a daemon's program: the same binary, started as `agent launch`,
//! becomes the daemon's user in its working folder and then its program.
//!
//! It is a process of its own, so that looking up users and folders of the image (the publisher's
//! files) can neither stop nor crash the agent. What fails is said on the daemon's own output.

use std::{fs, os::unix::process::CommandExt as _, process::ExitCode};

use rustix::process::{Gid, Uid};

/// The first argument that asks for this role.
pub(crate) const ROLE: &str = "launch";

/// The arguments for this role, without the program's own name.
pub(crate) fn arguments(user: Option<&str>, workdir: &str, command: &[String]) -> Vec<String> {
    let own = [ROLE, user.unwrap_or(""), workdir].map(str::to_owned);
    own.into_iter().chain(command.iter().cloned()).collect()
}

/// Becomes the program. Returns only if that fails.
pub(crate) fn run(args: impl Iterator<Item = String>) -> ExitCode {
    let args: Vec<String> = args.collect();
    let [user, workdir, program, rest @ ..] = args.as_slice() else {
        eprintln!("agent launch: needs user, folder and program");
        return ExitCode::from(CANNOT_START);
    };
    if let Err(why) = become_user(user).and_then(|()| {
        std::env::set_current_dir(workdir)
            .map_err(|e| format!("its working folder {workdir} can't be entered: {e}"))
    }) {
        eprintln!("{program} can't be started: {why}");
        return ExitCode::from(CANNOT_START);
    }
    let error = std::process::Command::new(program).args(rest).exec();
    eprintln!("{program} can't be started: {error}");
    ExitCode::from(CANNOT_START)
}

fn become_user(user: &str) -> Result<(), String> {
    if user.is_empty() {
        return Ok(());
    }
    let identity = Identity::find(
        user,
        &fs::read_to_string("/etc/passwd").unwrap_or_default(),
        &fs::read_to_string("/etc/group").unwrap_or_default(),
    )
    .ok_or_else(|| {
        format!("the image has no user {user}; use one of its /etc/passwd, or numbers")
    })?;
    let groups: Vec<Gid> = identity
        .groups
        .iter()
        .map(|gid| Gid::from_raw(*gid))
        .collect();
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    // So that it may open /dev/stdout and /dev/stderr, as many do for their logs.
    for output in [1, 2].map(|fd| format!("/proc/self/fd/{fd}")) {
        let _ = std::os::unix::fs::chown(output, Some(identity.uid), Some(identity.gid));
    }
    // This process has one thread, so what is set for the thread is set for all of it.
    rustix::thread::set_thread_groups(&groups)
        .and_then(|()| rustix::thread::set_thread_res_gid(gid, gid, gid))
        .and_then(|()| rustix::thread::set_thread_res_uid(uid, uid, uid))
        .map_err(|errno| format!("it can't become the user {user}: {errno}"))
}

#[derive(Debug, PartialEq, Eq)]
struct Identity {
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
}

impl Identity {
    /// `name`, `uid`, `uid:gid` or `name:group`, as container images have it.
    fn find(user: &str, passwd: &str, group: &str) -> Option<Self> {
        let (user, wanted_group) = match user.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (user, None),
        };
        let known = lines(passwd).find(|fields| fields[0] == user || fields.get(2) == Some(&user));
        let uid = match &known {
            Some(fields) => fields.get(2)?.parse().ok()?,
            None => user.parse().ok()?,
        };
        let gid = match (wanted_group, &known) {
            (Some(wanted), _) => match lines(group).find(|fields| fields[0] == wanted) {
                Some(fields) => fields.get(2)?.parse().ok()?,
                None => wanted.parse().ok()?,
            },
            (None, Some(fields)) => fields.get(3)?.parse().ok()?,
            (None, None) => 0,
        };
        let name = known.map(|fields| fields[0].to_owned());
        let is_member = |fields: &Vec<&str>| {
            let members = fields.get(3).unwrap_or(&"");
            name.as_deref()
                .is_some_and(|name| members.split(',').any(|member| member == name))
        };
        let groups = lines(group)
            .filter(is_member)
            .filter_map(|f| f.get(2)?.parse().ok());
        Some(Self {
            uid,
            gid,
            groups: groups.chain([gid]).collect(),
        })
    }
}

fn lines(file: &str) -> impl Iterator<Item = Vec<&str>> {
    file.lines().map(|line| line.split(':').collect())
}

/// As shells have it for a command that can't be run.
const CANNOT_START: u8 = 127;

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0::/root:/bin/sh\nwww-data:x:33:34::/:/bin/false\nbroken\n";
    const GROUP: &str = "root:x:0:\nadm:x:4:www-data,other\nstaff:x:50:\n";

    #[test]
    fn users_are_found_as_images_name_them() {
        let identity = |uid, gid, groups: &[u32]| {
            Some(Identity {
                uid,
                gid,
                groups: groups.into(),
            })
        };
        for (user, found) in [
            ("www-data", identity(33, 34, &[4, 34])),
            ("33", identity(33, 34, &[4, 34])),
            ("www-data:staff", identity(33, 50, &[4, 50])),
            ("1000:1001", identity(1000, 1001, &[1001])),
            ("1000", identity(1000, 0, &[0])),
            ("nobody", None),
            ("broken", None),
            ("33:nogroup", None),
            ("-1", None),
        ] {
            assert_eq!(Identity::find(user, PASSWD, GROUP), found, "{user}");
        }
    }
}
