//! Packages that misbehave, made of the demo.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use boards::artifacts::Artifacts;
use s9pk::{Archive, Content, Draft, Key, toc::Kind};

/// A service `stubborn` whose daemon ignores SIGTERM. It is given [`STUBBORN_STOP`] to end.
///
/// # Errors
/// When the demo can't be read, or the package can't be written.
pub fn stubborn(artifacts: &Artifacts, folder: &Path) -> Result<PathBuf> {
    let demo = Archive::open(fs::File::open(&artifacts.demo)?)?;
    let mut draft = Draft::default();
    for (path, entry) in demo.tree().walk() {
        let content = match path.as_str() {
            _ if !matches!(entry.kind, Kind::File { .. }) => continue,
            "manifest.json" => manifest(&demo.read(&path, MANIFEST)?)?,
            "service.toml" => STUBBORN.into(),
            path => demo.read(path, IMAGE)?,
        };
        draft.add(&path, Content::Bytes(content))?;
    }
    let key = Key::from_pem(&fs::read_to_string(&artifacts.key)?)?;
    let path = folder.join("stubborn.s9pk");
    s9pk::pack(&draft, &key, &mut fs::File::create(&path)?)?;
    Ok(path)
}

/// The demo with one flipped byte in its image, as `flipped.s9pk`.
///
/// # Errors
/// When the demo can't be read, or the copy can't be written.
pub fn flipped(artifacts: &Artifacts, folder: &Path) -> Result<PathBuf> {
    let image =
        Archive::open(fs::File::open(&artifacts.demo)?)?.extent("images/x86_64/main.squashfs")?;
    let mut bytes = fs::read(&artifacts.demo)?;
    let middle = usize::try_from(image.position + image.size / 2)?;
    bytes[middle] ^= 0x10;
    let path = folder.join("flipped.s9pk");
    fs::write(&path, bytes)?;
    Ok(path)
}

fn manifest(demo: &[u8]) -> Result<Vec<u8>> {
    let text = std::str::from_utf8(demo).context("the demo's manifest")?;
    Ok(text
        .replace(r#""id": "demo""#, r#""id": "stubborn""#)
        .replace(r#""title": "Demo""#, r#""title": "Stubborn""#)
        .into_bytes())
}

/// Seconds that `stubborn` may take to end.
pub const STUBBORN_STOP: u64 = 2;

/// What `stubborn` sleeps: a number to know its process by.
pub const STUBBORN_SLEEP: &str = "sleep 86413";

/// Ignored signals stay ignored in the programs that a shell starts.
const STUBBORN: &str = r#"
[[daemon]]
name = "deaf"
image = "main"
command = ["/bin/busybox", "sh", "-c", "trap '' TERM; exec busybox sleep 86413"]

[limits]
memory = "32M"
pids = 16

[stop]
timeout = "2s"
"#;

/// Bytes of the demo's manifest, and of each of its images, at most.
const MANIFEST: u64 = 64 << 10;
const IMAGE: u64 = 64 << 20;
