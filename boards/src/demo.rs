//! The demo package: the smallest real service, a web server of Debian's with a page of its own.
//!
//! Its source is in `boards/demo`; the image is made here, and all of it is signed with a key that
//! is made once for each checkout.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use s9pk::{Content, Draft, Key};

use crate::binaries::workspace;
use crate::cache;
use crate::debian::Packages;
use crate::progress;
use crate::root;
use crate::tree::{self, Node, Tree};

/// The package and the key it is signed with.
#[derive(Debug)]
pub struct Demo {
    /// The `.s9pk`.
    pub package: PathBuf,
    /// The developer key: PKCS#8, PEM.
    pub key: PathBuf,
}

/// Builds it in `folder`, unless it is there already.
///
/// # Errors
/// When the image can't be made or the package can't be written.
pub fn build(folder: &Path, packages: &Packages) -> Result<Demo> {
    let source = workspace().join("boards/demo");
    let key = folder.join("developer.key.pem");
    let secret = key_at(&key)?;
    let image = folder.join("demo-image.squashfs");
    let script = folder.join("demo-script.squashfs");
    squash(&image_tree(&source, packages)?, &image)?;
    squash(&script_tree(), &script)?;

    let package = package_tree(&source, &image, &script);
    let inputs = format!("{} {}", package.digest()?, secret.public());
    let path = folder.join("demo.s9pk");
    cache::fresh(&path, &inputs, |path| {
        progress::step("Packing the demo package", || pack(&package, &secret, path))
    })?;
    Ok(Demo { package: path, key })
}

fn package_tree(source: &Path, image: &Path, script: &Path) -> Tree {
    let mut package = Tree::default();
    for file in [
        "LICENSE.md",
        "icon.svg",
        "instructions.md",
        "manifest.json",
        "service.toml",
    ] {
        package.file(file, 0o644, source.join(file));
    }
    package.file("javascript.squashfs", 0o644, script);
    package.file("images/x86_64/main.squashfs", 0o644, image);
    package.text("images/x86_64/main.json", IMAGE_CONFIG);
    package.text("images/x86_64/main.env", IMAGE_ENVIRONMENT);
    package
}

/// A root with the web server, its page, and nothing else.
fn image_tree(source: &Path, packages: &Packages) -> Result<Tree> {
    let mut tree = Tree::default();
    tree.file("bin/busybox", 0o755, packages.file("usr/bin/busybox")?);
    tree.link("bin/httpd", "busybox");
    tree.link("bin/sh", "busybox");
    tree.text(
        "etc/passwd",
        "root:x:0:0:root:/:/bin/sh\nweb:x:100:100:web server:/www:/bin/false\n",
    );
    tree.text("etc/group", "root:x:0:\nweb:x:100:\n");
    for file in ["etc/hosts", "etc/hostname", "etc/resolv.conf"] {
        tree.text(file, "");
    }
    for folder in ["dev", "proc", "run", "sys"] {
        tree.directory(folder, 0o755);
    }
    tree.directory("tmp", 0o1777);
    tree.file("www/index.html", 0o644, source.join("www/index.html"));
    tree.file("www/icon.svg", 0o644, source.join("icon.svg"));
    Ok(tree)
}

/// What the format requires of every package, and other systems run.
fn script_tree() -> Tree {
    let mut tree = Tree::default();
    tree.text(
        "index.js",
        "throw new Error('This package needs Pilotlight: see service.toml.')\n",
    );
    tree
}

fn squash(tree: &Tree, path: &Path) -> Result<()> {
    cache::fresh(path, &tree.digest()?, |path| root::squash(tree, path)).map(drop)
}

fn pack(package: &Tree, secret: &Key, path: &Path) -> Result<()> {
    let mut draft = Draft::default();
    for (name, node) in package.nodes() {
        if let Node::File { content, .. } = node {
            let content = match content {
                tree::Content::Bytes(bytes) => Content::Bytes(bytes.clone()),
                tree::Content::Path(path) => Content::File(path.clone()),
            };
            draft.add(&name.to_string_lossy(), content)?;
        }
    }
    let mut out = fs::File::create(path).with_context(|| path.display().to_string())?;
    s9pk::pack(&draft, secret, &mut out)?;
    Ok(())
}

/// The key in this file, made when there is none.
///
/// # Errors
/// When the file can't be read or written, or holds something else.
pub fn key_at(path: &Path) -> Result<Key> {
    if let Ok(pem) = fs::read_to_string(path) {
        return Key::from_pem(&pem).with_context(|| path.display().to_string());
    }
    let mut seed = [0; 32];
    fs::File::open("/dev/urandom")?.read_exact(&mut seed)?;
    let key = Key::from_seed(&seed);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(key.to_pem()?.as_bytes())?;
    Ok(key)
}

/// What runs in the image unless `service.toml` says otherwise.
const IMAGE_CONFIG: &str =
    r#"{"workdir":"/","user":"root","entrypoint":null,"cmd":["/bin/httpd","-f","-h","/www"]}"#;
const IMAGE_ENVIRONMENT: &str = "PATH=/bin";

#[cfg(test)]
mod tests {
    use super::{key_at, pack, package_tree};
    use crate::binaries::workspace;
    use std::fs;
    use std::path::PathBuf;

    #[test]
    fn a_checkout_keeps_its_key_to_itself() {
        use std::os::unix::fs::PermissionsExt;
        let path = std::env::temp_dir().join(format!("boards-key-{}", std::process::id()));
        let _ = fs::remove_file(&path);
        let made = key_at(&path).unwrap().public();
        assert_eq!(key_at(&path).unwrap().public(), made);
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }

    #[test]
    fn the_demo_says_what_it_runs_in_words_that_are_understood() {
        let text = fs::read_to_string(workspace().join("boards/demo/service.toml")).unwrap();
        let service: toml::Table = text.parse().unwrap();
        assert_eq!(service["interface"][0]["tls_port"].as_integer(), Some(8443));
        let text = fs::read_to_string(workspace().join("boards/demo/manifest.json")).unwrap();
        let manifest: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(manifest["id"], "demo");
    }

    #[test]
    fn the_same_tree_and_key_make_the_same_package() {
        let folder = packed("same", "once");
        let first = fs::read(folder.join("demo.s9pk")).unwrap();
        assert_eq!(
            first,
            fs::read(packed("same", "again").join("demo.s9pk")).unwrap()
        );
    }

    #[test]
    fn what_is_packed_is_a_package_for_this_board() {
        let file = fs::File::open(packed("whole", "w").join("demo.s9pk")).unwrap();
        let archive = s9pk::Archive::open(file).unwrap();
        archive.verify().unwrap();
        let valid = archive.validate(Some("x86_64")).unwrap();
        assert!(valid.needed.contains("service.toml"), "{valid:?}");
    }

    /// The demo with images that are none, which no packer looks into.
    fn packed(test: &str, run: &str) -> PathBuf {
        let name = format!("boards-pack-{test}-{run}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        let (image, script) = (folder.join("image"), folder.join("script"));
        fs::write(&image, "hsqs image").unwrap();
        fs::write(&script, "hsqs script").unwrap();
        let tree = package_tree(&workspace().join("boards/demo"), &image, &script);
        let key = s9pk::Key::from_seed(&[7; 32]);
        pack(&tree, &key, &folder.join("demo.s9pk")).unwrap();
        folder
    }
}
