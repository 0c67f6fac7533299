//! Publishers and their keys, from the first package to a change of key.

use std::fs;

use crate::folder::{Folder, samples};

/// A folder with a package signed with the key `a.pem`, and a `b.s9pk` signed with `b.pem`.
fn published(name: &str) -> Folder {
    let folder = Folder::new(name);
    for key in ["a", "b"] {
        let pem = samples().join(format!("keys/{key}.pem"));
        fs::copy(pem, folder.0.join(format!("{key}.pem"))).unwrap();
    }
    fs::copy(samples().join("minimal.s9pk"), folder.0.join("a.s9pk")).unwrap();
    folder.pilot(&["s9pk", "sign", "a.s9pk", "-o", "b.s9pk", "--key", "b.pem"]);
    folder
}

fn trust(arguments: &[&'static str]) -> Vec<&'static str> {
    [&["s9pk", "trust"], arguments, &["--store", "keys.json"]].concat()
}

#[test]
fn a_changed_key_is_refused_with_both_fingerprints_until_somebody_says_otherwise() {
    let folder = published("pinned");
    let (a, b) = (
        fingerprint(&folder, "a.s9pk"),
        fingerprint(&folder, "b.s9pk"),
    );
    let said = folder.refused(&trust(&["check", "--known", "a.s9pk"]));
    assert!(
        said.contains("nobody has agreed") && said.contains(&a),
        "{said}"
    );
    folder.pilot(&trust(&["check", "a.s9pk"]));
    folder.pilot(&trust(&["check", "--known", "a.s9pk"]));
    for command in [&["check", "b.s9pk"], &["add", "b.s9pk"]] {
        let said = folder.refused(&trust(command));
        assert!(said.contains(&a) && said.contains(&b), "{said}");
    }
    folder.pilot(&trust(&["add", "--replace", "b.s9pk"]));
    folder.pilot(&trust(&["check", "b.s9pk"]));
    folder.refused(&trust(&["check", "a.s9pk"]));
    let listed = folder.pilot(&trust(&["list"]));
    assert_eq!(listed, format!("hello-fixture: {b} (added by hand)\n"));
    folder.pilot(&trust(&["remove", "hello-fixture"]));
    assert_eq!(folder.pilot(&trust(&["list"])), "");
    folder.refused(&trust(&["remove", "hello-fixture"]));
}

#[test]
fn a_publisher_moves_to_a_new_key_by_an_endorsement_beside_the_package() {
    let folder = published("moved");
    let (a, b) = (
        fingerprint(&folder, "a.s9pk"),
        fingerprint(&folder, "b.s9pk"),
    );
    folder.pilot(&trust(&["check", "a.s9pk"]));
    // Not by a word of the new key itself.
    folder.pilot(&["s9pk", "trust", "endorse", "b.s9pk", "--key", "b.pem"]);
    folder.refused(&trust(&["check", "b.s9pk"]));
    folder.pilot(&["s9pk", "trust", "endorse", "b.s9pk", "--key", "a.pem"]);
    folder.pilot(&trust(&["check", "b.s9pk"]));
    fs::remove_file(folder.0.join("b.s9pk.endorsements")).unwrap();
    folder.pilot(&trust(&["check", "--known", "b.s9pk"]));
    folder.pilot(&trust(&["check", "--known", "a.s9pk"]));
    let listed = folder.pilot(&trust(&["list"]));
    assert!(
        listed.ends_with(&format!("{b} (endorsed by {a})\n")),
        "{listed}"
    );

    let remove = [
        "s9pk",
        "trust",
        "remove",
        "hello-fixture",
        "--store",
        "keys.json",
        "--key",
    ];
    folder.pilot(&[&remove[..], &[&a]].concat());
    folder.refused(&trust(&["check", "a.s9pk"]));
    folder.refused(&[&remove[..], &["0000"]].concat());
}

#[test]
fn a_forged_or_damaged_endorsement_is_not_passed_over() {
    let folder = published("forged");
    folder.pilot(&trust(&["check", "a.s9pk"]));
    folder.pilot(&["s9pk", "trust", "endorse", "b.s9pk", "--key", "a.pem"]);
    let path = "b.s9pk.endorsements";
    let text = String::from_utf8(folder.read(path)).unwrap();
    folder.write(path, text.replace("hello-fixture", "other"));
    let said = folder.refused(&trust(&["check", "b.s9pk"]));
    assert!(said.contains("did not sign"), "{said}");
    folder.write(path, "[{");
    let said = folder.refused(&trust(&["check", "b.s9pk"]));
    assert!(said.contains("endorsements"), "{said}");
}

fn fingerprint(folder: &Folder, package: &str) -> String {
    let shown = folder.pilot(&["s9pk", "inspect", "--json", package]);
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    shown["fingerprint"].as_str().unwrap().to_owned()
}
