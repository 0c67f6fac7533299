//! The monitor and the agent for real: a container on this machine, built from a squashfs image in
//! a package file, in namespaces made for each test.
//!
//! Needs root, loop devices, mksquashfs, busybox and liblxc (installed, or an unpacked Debian 13
//! tree named by `PILOT_LXC_TREE`); says loudly when it has to skip.

mod host;

use std::{
    fs,
    time::{Duration, Instant},
};

use host::{Host, until};
use rustix::process::Signal;

const WEB: &[&str] = &["httpd", "-f", "-p", "80", "-h", "/www"];

#[test]
fn a_service_answers_from_namespaces_of_its_own_without_rights_on_the_host() {
    let Some(host) = Host::prepare("isolated") else {
        return;
    };
    let monitor = host.start(&host.plan(WEB));
    assert!(
        host.get("/").contains("hello from the container"),
        "{}",
        host.log()
    );
    let daemon = host.daemon("httpd");
    for namespace in ["user", "pid", "net", "mnt", "ipc", "uts", "cgroup"] {
        let of = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{namespace}")).unwrap();
        assert_ne!(of(&daemon), of("self"), "{namespace}");
        assert_ne!(of(&daemon), of("thread-self"), "{namespace}");
    }
    let status = fs::read_to_string(format!("/proc/{daemon}/status")).unwrap();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().to_owned()
    };
    assert_eq!(field("Uid:"), host::FIRST_ID.to_string());
    assert_eq!(field("NoNewPrivs:"), "1");
    assert_eq!(field("Seccomp:"), "2");
    let capabilities = u64::from_str_radix(&field("CapEff:"), 16).unwrap();
    for (name, bit) in [
        ("sys_admin", 21),
        ("sys_module", 16),
        ("mknod", 27),
        ("net_admin", 12),
    ] {
        assert_eq!(
            capabilities >> bit & 1,
            0,
            "{name} even in its own namespace"
        );
    }
    let map = fs::read_to_string(format!("/proc/{daemon}/uid_map")).unwrap();
    let expected = ["0", &host::FIRST_ID.to_string(), "65536"];
    assert_eq!(map.split_whitespace().collect::<Vec<_>>(), expected);
    monitor.signal(Signal::TERM);
    assert_eq!(
        monitor.ended(host::PATIENCE),
        "exit code 0",
        "{}",
        host.log()
    );
    assert!(!host.cgroup("payload").exists());
}

#[test]
fn a_daemon_that_was_killed_comes_back_and_is_told_of() {
    let Some(host) = Host::prepare("restarts") else {
        return;
    };
    let monitor = host.start(&host.plan(WEB));
    host.get("/");
    let first = host.daemon("httpd");
    host::kill(&first);
    until("another httpd", || {
        host.daemons("httpd")
            .first()
            .is_some_and(|pid| *pid != first)
    });
    assert!(host.get("/").contains("hello"));
    until("a report of the restart", || {
        host.reports().iter().any(|report| {
            let daemon = &report.daemons[0];
            daemon.restarts >= 1 && daemon.last_exit.as_deref() == Some("killed by signal 9")
        })
    });
    until("a good health report", || {
        let last = host.reports().pop();
        last.and_then(|report| report.health)
            .is_some_and(|health| health.healthy)
    });
    monitor.signal(Signal::TERM);
    assert_eq!(monitor.ended(host::PATIENCE), "exit code 0");
}

#[test]
fn a_daemon_that_ignores_sigterm_is_cut_at_its_deadline() {
    let Some(host) = Host::prepare("stubborn") else {
        return;
    };
    let mut plan = host.plan(&[
        "sh",
        "-c",
        "trap '' TERM; echo ready; while true; do sleep 1; done",
    ]);
    plan.agent.stop_timeout_ms = 1500;
    plan.agent.health = None;
    let monitor = host.start(&plan);
    until("the daemon to say that it is ready", || {
        host.log().contains("main: ready")
    });
    let began = Instant::now();
    monitor.signal(Signal::TERM);
    assert_eq!(
        monitor.ended(host::PATIENCE),
        "exit code 0",
        "{}",
        host.log()
    );
    let took = began.elapsed();
    assert!(
        took >= Duration::from_millis(1400) && took < host::PATIENCE,
        "{took:?}"
    );
}

#[test]
fn after_its_monitor_was_killed_nothing_is_left_and_it_starts_again() {
    let Some(host) = Host::prepare("killed") else {
        return;
    };
    let plan = host.plan(WEB);
    let first = host.start(&plan);
    host.get("/");
    let daemon = host.daemon("httpd");
    first.signal(Signal::KILL);
    assert_eq!(first.ended(host::PATIENCE), "killed by signal 9");
    assert!(
        host.cgroup("payload").exists(),
        "what a killed monitor leaves behind"
    );
    let second = host.start(&plan);
    assert!(host.get("/").contains("hello"), "{}", host.log());
    assert!(
        !fs::exists(format!("/proc/{daemon}")).unwrap(),
        "the first container is gone"
    );
    second.signal(Signal::TERM);
    assert_eq!(
        second.ended(host::PATIENCE),
        "exit code 0",
        "{}",
        host.log()
    );
}

#[test]
fn volumes_stay_with_unshifted_owners_and_the_rest_is_thrown_away() {
    let Some(host) = Host::prepare("storage") else {
        return;
    };
    let script = "echo shared > /dev/shm/x || exit; ls /was-here; touch /was-here && echo x >> /data/file && chown 33:33 /data/file; \
                  wc -l < /data/file; id -u; hostname; exec sleep 1000";
    let mut plan = host.plan(&["sh", "-c", script]);
    plan.agent.health = None;
    for run in 1..=2 {
        let monitor = host.start(&plan);
        let line = |text: &str| host.log().lines().any(|line| line.ends_with(text));
        until("the script's last line", || line("main: storage"));
        assert!(
            line(&format!("main: {run}")),
            "the volume was kept: {}",
            host.log()
        );
        assert!(line("main: 0"), "root inside: {}", host.log());
        assert!(
            host.log().contains("No such file"),
            "the root is fresh: {}",
            host.log()
        );
        monitor.signal(Signal::TERM);
        assert_eq!(
            monitor.ended(host::PATIENCE),
            "exit code 0",
            "{}",
            host.log()
        );
        host.clear_log();
    }
    use std::os::unix::fs::MetadataExt as _;
    let file = fs::metadata(host.volume().join("file")).unwrap();
    assert_eq!((file.uid(), file.gid()), (33, 33));
    let upper = fs::metadata(plan.scratch.join("upper/was-here")).unwrap();
    assert_eq!(upper.uid(), host::FIRST_ID);
    let resolver = fs::read_to_string(plan.scratch.join("upper/etc/resolv.conf")).unwrap();
    assert_eq!(resolver, "nameserver 10.77.0.1\nsearch pilot.internal\n");
}

#[test]
fn a_daemon_runs_as_its_user_in_its_folder_with_its_environment() {
    let Some(host) = Host::prepare("user") else {
        return;
    };
    let script = "echo $(id -u):$(id -g) in $PWD at $(cat /sys/class/net/eth0/address) says \
                  $GREETING > /dev/stderr; exec sleep 1000";
    let mut plan = host.plan(&["sh", "-c", script]);
    let mac = plan
        .network
        .mac()
        .map(|byte| format!("{byte:02x}"))
        .join(":");
    plan.agent.health = None;
    let daemon = &mut plan.agent.daemons[0];
    daemon.user = Some("33:34".to_owned());
    daemon.workdir = "/www".into();
    daemon
        .env
        .insert("GREETING".to_owned(), "hello world".to_owned());
    let monitor = host.start(&plan);
    until("the script's line", || {
        let line = format!("main: 33:34 in /www at {mac} says hello world");
        host.log().contains(&line)
    });
    let sleeper = host.daemon("sleep");
    let status = fs::read_to_string(format!("/proc/{sleeper}/status")).unwrap();
    assert!(
        status.contains(&format!("Uid:\t{0}\t{0}", host::FIRST_ID + 33)),
        "{status}"
    );
    assert!(status.contains("CapEff:\t0000000000000000"), "{status}");
    let environment = fs::read_to_string(format!("/proc/{sleeper}/environ")).unwrap();
    assert!(
        !environment.contains("container="),
        "only its own: {environment}"
    );
    monitor.signal(Signal::TERM);
    assert_eq!(
        monitor.ended(host::PATIENCE),
        "exit code 0",
        "{}",
        host.log()
    );
}

#[test]
fn a_program_that_is_not_there_is_named_in_the_log_and_tried_again() {
    let Some(host) = Host::prepare("missing") else {
        return;
    };
    let mut plan = host.plan(&["no-such-program"]);
    plan.agent.health = None;
    let monitor = host.start(&plan);
    until("a second try", || {
        host.log()
            .matches("no-such-program can't be started: No such file")
            .count()
            >= 2
    });
    monitor.signal(Signal::TERM);
    assert_eq!(
        monitor.ended(host::PATIENCE),
        "exit code 0",
        "{}",
        host.log()
    );
}

#[test]
fn a_package_that_was_changed_after_it_was_verified_is_not_mounted() {
    let Some(host) = Host::prepare("changed") else {
        return;
    };
    let plan = host.plan(WEB);
    fs::write(&plan.image.package, "something else").unwrap();
    let monitor = host.start(&plan);
    assert_eq!(monitor.ended(host::PATIENCE), "exit code 125");
    until("the reason", || {
        host.log().contains("is not the file that was verified")
    });
}

#[test]
fn a_link_in_the_place_of_a_folder_is_not_followed() {
    let Some(host) = Host::prepare("linked") else {
        return;
    };
    let plan = host.plan(WEB);
    let elsewhere = host.volume().with_file_name("elsewhere");
    fs::create_dir_all(elsewhere.join("precious")).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &plan.scratch).unwrap();
    let monitor = host.start(&plan);
    assert_eq!(monitor.ended(host::PATIENCE), "exit code 125");
    assert!(elsewhere.join("precious").exists());
}

#[test]
fn a_plan_for_folders_of_others_is_refused() {
    let Some(host) = Host::prepare("foreign") else {
        return;
    };
    for volume in ["/etc", "/", "../../etc"] {
        let mut plan = host.plan(WEB);
        plan.volumes[0].source = volume.into();
        let monitor = host.start(&plan);
        assert_eq!(monitor.ended(host::PATIENCE), "exit code 125");
        until("the reason", || {
            host.log().contains("not in the service's own folder")
        });
        host.clear_log();
    }
}
