//! What authors get wrong in a `service.toml`, and what they are told.

use std::path::PathBuf;

use services::spec::{InterfaceKind, ProbeKind, Restart, ServiceSpec};

const WHOLE: &str = r#"
[package]
id = "demo"
anything = { goes = "here" }

[image.main]
source = "folder"

[[daemon]]
name = "web"
image = "main"
command = ["httpd", "-f"]
env = { GREETING = "hello" }
user = "www-data"
workdir = "/srv"
restart = "on-failure"

[[interface]]
id = "ui"
name = "Demo"
port = 80
tls_port = 8443
kind = "ui"

[volumes]
data = "/srv/data"

[limits]
memory = "64M"
pids = 64
cpu = 150

[stop]
timeout = "5s"

[health]
kind = "http"
port = 80
path = "/health"
interval = "2s"
"#;

#[test]
fn a_whole_spec_means_what_it_says() {
    let spec = ServiceSpec::parse(WHOLE).unwrap();
    let daemon = &spec.daemons[0];
    assert_eq!(
        daemon.command.as_deref(),
        Some(&["httpd".to_owned(), "-f".to_owned()][..])
    );
    assert_eq!(daemon.restart, Restart::OnFailure);
    assert_eq!(daemon.env["GREETING"], "hello");
    let interface = &spec.interfaces[0];
    assert_eq!((interface.port, interface.tls_port), (80, Some(8443)));
    assert_eq!(interface.kind, InterfaceKind::Ui);
    assert_eq!(spec.volumes["data"], PathBuf::from("/srv/data"));
    assert_eq!(spec.limits.memory_max, Some(64 << 20));
    assert_eq!(spec.limits.cpu_percent, Some(150));
    assert_eq!(spec.stop_timeout.as_secs(), 5);
    let health = spec.health.unwrap();
    assert_eq!(health.kind, ProbeKind::Http("/health".to_owned()));
    assert_eq!(health.interval_ms, 2000);
}

#[test]
fn every_mistake_names_its_key_and_the_remedy() {
    for (from, to, told) in [
        ("port = 80\ntls", "prot = 80\ntls", "unknown field `prot`"),
        (
            "port = 80\ntls_port",
            "port = 0\ntls_port",
            "interface.port of \"ui\" is \"0\"",
        ),
        ("8443", "443", "does not use itself"),
        ("8443", "80000", "does not parse"),
        (
            "\"/srv/data\"",
            "\"/srv/../etc\"",
            "volumes.data is \"/srv/../etc\", but must be",
        ),
        ("\"/srv/data\"", "\"/proc/x\"", "not in /proc"),
        ("\"/srv/data\"", "\"srv\"", "an absolute path"),
        (
            "\"64M\"",
            "\"64\"",
            "limits.memory is \"64\", but must be a whole number with K, M or G",
        ),
        ("pids = 64", "pids = 1", "at least 16"),
        ("cpu = 150", "cpu = 0", "limits.cpu"),
        ("\"5s\"", "\"11min\"", "stop.timeout"),
        ("\"5s\"", "\"5\"", "with ms, s or min"),
        ("\"/health\"", "\"health\"", "begins with '/'"),
        ("\"/health\"", "\"/a b\\r\\n\"", "without spaces"),
        (
            "kind = \"http\"",
            "kind = \"tcp\"",
            "left out with kind = \"tcp\"",
        ),
        (
            "kind = \"http\"",
            "kind = \"smtp\"",
            "unknown variant `smtp`",
        ),
        ("\"2s\"", "\"1ms\"", "at least \"500ms\""),
        ("\"httpd\", \"-f\"", "", "daemon.command of \"web\""),
        (
            "GREETING =",
            "\"A=B\" =",
            "daemon.env of \"web\" is \"A=B\"",
        ),
        ("workdir = \"/srv\"", "workdir = \"srv\"", "daemon.workdir"),
        ("name = \"web\"", "name = \"Web 1\"", "1 to 40 of a-z"),
        ("on-failure", "sometimes", "unknown variant `sometimes`"),
        ("[stop]", "[stopp]", "unknown field `stopp`"),
        (
            "[[interface]]",
            "[[daemon]]\nname = \"web\"\n[[interface]]",
            "two daemons are called",
        ),
        ("[stop]", "[stop", "does not parse"),
    ] {
        let text = WHOLE.replacen(from, to, 1);
        assert_ne!(text, WHOLE, "{from} is not in the text");
        let error = ServiceSpec::parse(&text).expect_err(to).to_string();
        assert!(error.contains(told), "{to}: {error}");
        assert!(error.starts_with("service.toml"), "{error}");
    }
    let nothing = ServiceSpec::parse("[limits]\npids = 20")
        .unwrap_err()
        .to_string();
    assert!(nothing.contains("add a [[daemon]]"), "{nothing}");
}

#[test]
fn the_readmes_example_is_a_service() {
    let readme = include_str!("../../README.md");
    let (_, example) = readme.split_once("```toml\n").unwrap();
    let (example, _) = example.split_once("```").unwrap();
    let spec = ServiceSpec::parse(example).unwrap();
    assert_eq!(spec.daemons[0].image, "main");
    assert_eq!(spec.interfaces[0].port, 80);
}

#[test]
fn interfaces_that_can_not_be_led_to_are_refused_plainly() {
    let spec =
        |interfaces: &str| ServiceSpec::parse(&format!("[[daemon]]\nname = 'web'\n{interfaces}"));
    let one = |keys: &str| spec(&format!("[[interface]]\nid = 'a'\nport = 5\n{keys}"));
    let two = |first: &str, second: &str| {
        spec(&format!(
            "[[interface]]\nid = 'a'\nport = 5\n{first}\n[[interface]]\nid = 'b'\nport = 6\n{second}"
        ))
    };
    let (tcp, udp) = (
        "protocol = 'tcp'\nexternal_port = 2222",
        "protocol = 'udp'\nexternal_port = 2222",
    );
    assert!(two(tcp, udp).is_ok());
    assert!(two("protocol = 'tls'", "tls_port = 8443").is_ok());
    for (wrong, said) in [
        (one("protocol = 'tcp'"), "external_port"),
        (
            one("protocol = 'udp'\nexternal_port = 53"),
            "does not use itself",
        ),
        (one("protocol = 'tcp'\nexternal_port = 0"), "a port from 1"),
        (
            one("protocol = 'tcp'\nexternal_port = 5\ntls_port = 6"),
            "left out",
        ),
        (one("external_port = 5"), "left out, or the protocol"),
        (one("protocol = 'sctp'"), "does not parse"),
        (two(tcp, tcp), "2222 of the box"),
        (two(tcp, "tls_port = 2222"), "2222 of the box"),
        (two("protocol = 'tls'", ""), "by the service's name"),
        (
            two("protocol = 'tls'", "protocol = 'tls'"),
            "by the service's name",
        ),
    ] {
        let why = wrong.unwrap_err().to_string();
        assert!(why.contains(said), "{why:?} does not say {said:?}");
    }
}
