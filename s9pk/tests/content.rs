//! What a package must hold, and what of it an architecture needs.

mod crafted;

use crafted::{Node, package};
use s9pk::{Archive, Error, Profile, Validated};
use serde_json::{Value, json};

/// A package with the files at `paths` (a path that ends with `/` is an empty directory) and a
/// manifest in which `change` says what is different.
fn with(paths: &[&str], change: Value) -> Archive<Vec<u8>> {
    let minimal = include_bytes!("../fuzz/seeds/manifest/minimal.json");
    let mut manifest: Value = serde_json::from_slice(minimal).unwrap();
    for (key, value) in change.as_object().unwrap() {
        manifest[key] = value.clone();
    }
    let mut nodes = Vec::new();
    let manifest = Node::File(serde_json::to_vec(&manifest).unwrap());
    put(&mut nodes, "manifest.json", manifest);
    for path in paths {
        match path.strip_suffix('/') {
            Some(path) => put(&mut nodes, path, Node::Directory(Vec::new())),
            None => put(&mut nodes, path, Node::File(path.as_bytes().to_vec())),
        }
    }
    Archive::open_with(package(nodes), Profile::lenient()).unwrap()
}

fn put(nodes: &mut Vec<(String, Node)>, path: &str, node: Node) {
    let Some((directory, rest)) = path.split_once('/') else {
        return nodes.push((path.to_owned(), node));
    };
    let found = nodes.iter().position(|(name, _)| name == directory);
    let at = found.unwrap_or_else(|| {
        nodes.push((directory.to_owned(), Node::Directory(Vec::new())));
        nodes.len() - 1
    });
    if let (_, Node::Directory(inner)) = &mut nodes[at] {
        put(inner, rest, node);
    }
}

fn refusal(archive: &Archive<Vec<u8>>, arch: Option<&str>) -> String {
    archive.validate(arch).unwrap_err().to_string()
}

const REQUIRED: [&str; 3] = ["LICENSE.md", "icon.png", "javascript.squashfs"];

fn and(more: &[&'static str]) -> Vec<&'static str> {
    [&REQUIRED, more].concat()
}

#[test]
fn what_is_required_is_needed_and_what_is_advised_is_missed() {
    let done = with(&REQUIRED, json!({})).validate(None).unwrap();
    assert_eq!(done.needed.len(), 4);
    assert_eq!(done.warnings, ["instructions.md is missing"]);
    for missing in REQUIRED {
        let rest: Vec<_> = REQUIRED
            .into_iter()
            .filter(|path| *path != missing)
            .collect();
        let said = refusal(&with(&rest, json!({})), None);
        let named = missing.split('.').next().unwrap();
        assert!(
            said.contains(named) && said.contains("is missing"),
            "{said}"
        );
    }
}

#[test]
fn one_icon_is_enough_and_two_are_too_many() {
    let said = refusal(&with(&and(&["icon.svg"]), json!({})), None);
    assert!(said.contains("icon.png, icon.svg"), "{said}");
    // Neither is an icon: one has another stem, the other an extension that is no image.
    let archive = with(&and(&["icon.tar.png", "icon.txt"]), json!({}));
    assert!(archive.validate(None).is_ok());
}

#[test]
fn old_packages_have_their_assets_in_a_directory() {
    let needs = |archive: Archive<Vec<u8>>| archive.validate(None).unwrap().needed;
    assert!(needs(with(&and(&["assets/x"]), json!({}))).contains("assets"));
    assert!(needs(with(&and(&["assets.squashfs"]), json!({}))).contains("assets.squashfs"));
}

#[test]
fn only_dependencies_of_the_manifest_are_looked_at() {
    let paths = [
        "dependencies/db/metadata.json",
        "dependencies/db/icon.png",
        "dependencies/other/icon.png",
    ];
    let archive = with(
        &and(&paths),
        json!({"dependencies": {"db": {"optional": true}}}),
    );
    let Validated { needed, .. } = archive.validate(None).unwrap();
    assert!(needed.contains(paths[0]) && needed.contains(paths[1]));
    assert!(!needed.contains(paths[2]));
    let two = and(&["dependencies/db/icon.png", "dependencies/db/icon.gif"]);
    let archive = with(&two, json!({"dependencies": {"db": {"optional": true}}}));
    assert!(refusal(&archive, None).contains("more than one icon"));
}

const X86: [&str; 3] = [
    "images/x86_64/main.squashfs",
    "images/x86_64/main.json",
    "images/x86_64/main.env",
];

fn image(more: Value) -> Value {
    let mut image = json!({"source": "packed", "arch": ["x86_64", "aarch64"]});
    for (key, value) in more.as_object().unwrap() {
        image[key] = value.clone();
    }
    json!({"images": {"main": image}})
}

#[test]
fn an_image_is_needed_whole_for_its_architecture() {
    let archive = with(&and(&X86), image(json!({})));
    assert!(
        archive
            .validate(Some("x86_64"))
            .unwrap()
            .needed
            .contains(X86[0])
    );
    let said = refusal(&archive, Some("aarch64"));
    assert!(
        said.contains("images/aarch64/main.squashfs is missing"),
        "{said}"
    );
    let said = refusal(&with(&and(&X86[..2]), image(json!({}))), Some("x86_64"));
    assert!(said.contains("images/x86_64/main.env is missing"), "{said}");
}

#[test]
fn another_architectures_image_stands_in_when_the_manifest_says_so() {
    let archive = with(&and(&X86), image(json!({"emulateMissingAs": "x86_64"})));
    assert!(
        archive
            .validate(Some("aarch64"))
            .unwrap()
            .needed
            .contains(X86[0])
    );
    assert!(archive.validate(None).is_ok());
}

#[test]
fn without_a_word_on_architectures_all_that_is_named_must_be_there() {
    let said = refusal(&with(&and(&X86), image(json!({}))), None);
    assert!(said.contains("hardwareRequirements.arch"), "{said}");
    let mut manifest = image(json!({}));
    manifest["hardwareRequirements"] = json!({"arch": ["x86_64"]});
    assert!(with(&and(&X86), manifest).validate(None).is_ok());
}

#[test]
fn known_paths_must_be_of_their_kind() {
    for paths in [
        &["LICENSE.md/", "icon.png", "javascript.squashfs"][..],
        &and(&["images"]),
        &and(&["dependencies/db"]),
        &and(&["service.toml/"]),
    ] {
        let archive = with(paths, json!({}));
        assert!(!archive.profile().deviations().is_empty(), "{paths:?}");
        let strict = Archive::open(archive.source().as_slice());
        assert!(matches!(strict, Err(Error::Strict(_))), "{paths:?}");
    }
}
