//! `pilot s9pk` as its users run it. Images need `mksquashfs`, which `cargo boot` installs.

mod folder;
mod images;
mod trust;

use std::fs;

use folder::{Folder, samples};

#[test]
fn a_service_toml_becomes_a_package_that_verifies_and_is_the_same_each_time() {
    let folder = Folder::new("recipe");
    folder.write_service();
    folder.pilot(&["s9pk", "keygen", "-o", "key.pem"]);
    let pack = [
        "s9pk",
        "pack",
        "source/service.toml",
        "--key",
        "key.pem",
        "-o",
    ];
    folder.pilot(&[&pack[..], &["a.s9pk"]].concat());
    folder.pilot(&[&pack[..], &["b.s9pk"]].concat());
    assert!(folder.read("a.s9pk") == folder.read("b.s9pk"));

    let verified = folder.pilot(&["s9pk", "verify", "a.s9pk"]);
    assert!(verified.contains("hello 1.0.0:0 (Hello)"), "{verified}");
    let service = folder.pilot(&["s9pk", "cat", "a.s9pk", "service.toml"]);
    assert_eq!(service.as_bytes(), folder.read("source/service.toml"));
    let json = folder.pilot(&["s9pk", "inspect", "--json", "a.s9pk"]);
    let shown: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(shown["manifest"]["volumes"], serde_json::json!(["main"]));
    assert_eq!(
        shown["manifest"]["images"]["main"]["arch"][0],
        std::env::consts::ARCH
    );
    let left: Vec<_> = fs::read_dir(&folder.0).unwrap().collect();
    assert_eq!(left.len(), 4, "key, source and two packages: {left:?}");
}

#[test]
fn an_extracted_package_is_packed_again_and_compared() {
    let folder = Folder::new("again");
    let sample = samples().join("minimal.s9pk");
    let sample = sample.to_str().unwrap();
    let key = samples().join("keys/a.pem");
    let key = ["--key", key.to_str().unwrap()];
    folder.pilot(&["s9pk", "extract", sample, "tree"]);
    folder.pilot(&[&["s9pk", "pack", "tree", "-o", "again.s9pk"], &key[..]].concat());
    assert!(folder.read("again.s9pk") == fs::read(sample).unwrap());
    fs::write(folder.0.join("tree/LICENSE.md"), "other").unwrap();
    folder.pilot(&[&["s9pk", "pack", "tree", "-o", "other.s9pk"], &key[..]].concat());
    let difference = folder.pilot(&["s9pk", "diff", sample, "other.s9pk"]);
    assert_eq!(difference, "~ LICENSE.md (file 27 -> file 5)\n");
}

#[test]
fn a_filtered_package_is_extracted_and_packed_to_the_same_bytes() {
    let folder = Folder::new("filtered");
    let sample = |name: &str| samples().join(name).to_str().unwrap().to_owned();
    let (whole, key) = (sample("two-arch.s9pk"), sample("keys/a.pem"));
    let select = [
        "s9pk", "select", &whole, "--arch", "x86_64", "-o", "one.s9pk",
    ];
    folder.pilot(&select);
    assert!(folder.read("one.s9pk") == fs::read(sample("two-arch.x86_64.s9pk")).unwrap());
    let said = folder.pilot(&["s9pk", "extract", "one.s9pk", "tree/"]);
    assert!(said.contains("tree.left-out.json"), "{said}");
    folder.pilot(&["s9pk", "pack", "tree/", "-o", "again.s9pk", "--key", &key]);
    assert!(folder.read("again.s9pk") == folder.read("one.s9pk"));
}

#[test]
fn what_is_damaged_or_odd_is_refused_in_words() {
    let folder = Folder::new("refused");
    let verify = |name: &str, more: &[&str]| {
        let path = samples().join(name);
        folder.run(&[&["s9pk", "verify", path.to_str().unwrap()], more].concat())
    };
    let damaged = verify("bad-content-license-bit.s9pk", &[]);
    assert!(!damaged.status.success());
    let said = String::from_utf8(damaged.stderr).unwrap();
    assert!(
        said.contains("LICENSE.md") && said.contains("fetch it again"),
        "{said}"
    );

    assert!(!verify("ok-trailing-garbage.s9pk", &[]).status.success());
    let lenient = verify("ok-trailing-garbage.s9pk", &["--lenient"]);
    assert!(lenient.status.success());
    assert!(
        String::from_utf8(lenient.stdout)
            .unwrap()
            .contains("let pass:    27 bytes")
    );
}

#[test]
fn a_package_that_is_not_complete_is_not_made() {
    let folder = Folder::new("incomplete");
    folder.write_service();
    fs::remove_file(folder.0.join("source/LICENSE.md")).unwrap();
    folder.pilot(&["s9pk", "keygen", "-o", "key.pem"]);
    let packed = folder.run(&["s9pk", "pack", "source", "-o", "x.s9pk", "--key", "key.pem"]);
    assert!(!packed.status.success());
    let said = String::from_utf8(packed.stderr).unwrap();
    assert!(said.contains("LICENSE.md is missing"), "{said}");
    let left: Vec<_> = fs::read_dir(&folder.0).unwrap().collect();
    assert_eq!(left.len(), 2, "key and source: {left:?}");
}

#[test]
fn the_readmes_example_packs() {
    let folder = Folder::new("readme");
    folder.write_service();
    folder.pilot(&["s9pk", "keygen", "-o", "key.pem"]);
    let readme = include_str!("../../../README.md");
    let (_, example) = readme.split_once("```toml\n").unwrap();
    let (example, _) = example.split_once("```").unwrap();
    folder.write("source/service.toml", example);
    images::write_archive(&folder, "source/hello.tar");
    let pack = ["s9pk", "pack", "source", "-o", "hello.s9pk", "--key"];
    folder.pilot(&[&pack[..], &["key.pem"]].concat());
    folder.pilot(&["s9pk", "verify", "hello.s9pk"]);
    folder.pilot(&["s9pk", "inspect", "hello.s9pk"]);
    folder.pilot(&["s9pk", "keygen", "-o", "new.pem"]);
    folder.pilot(&[&pack[..], &["new.pem"]].concat());
    let endorse = ["s9pk", "trust", "endorse", "hello.s9pk", "--key", "key.pem"];
    folder.pilot(&endorse);
    assert!(folder.0.join("hello.s9pk.endorsements").exists());
}
