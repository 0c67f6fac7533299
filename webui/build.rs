//! Packs the page's files into the crate: each as it is and gzipped, under one path that names
//! their contents, so that a browser may keep them for ever.

use std::{
    env,
    fmt::Write as _,
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};
use sha2::{Digest, Sha256};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=app");
    let out = PathBuf::from(env::var("OUT_DIR").map_err(io::Error::other)?);
    let files = files_below(Path::new("app"))?;
    let tree = tree_hash(&files);
    let base = format!("/assets/{tree}");

    let mut table = format!("pub(crate) const TREE: &str = {tree:?};\n");
    table.push_str("pub(crate) const ASSETS: &[Asset] = &[\n");
    for (index, file) in files.iter().filter(|f| f.name != PAGE).enumerate() {
        let path = format!("{base}/{}", file.name);
        table.push_str(&entry(
            &out,
            &index.to_string(),
            &path,
            &file.name,
            &file.bytes,
        )?);
        table.push_str(",\n");
    }
    table.push_str("];\n");

    let page = files
        .iter()
        .find(|f| f.name == PAGE)
        .ok_or(io::ErrorKind::NotFound)?;
    let html = String::from_utf8_lossy(&page.bytes).replace("{assets}", &base);
    let page = entry(&out, "page", "/", PAGE, html.as_bytes())?;
    let _ = writeln!(table, "pub(crate) const HOME: Asset = {page};");
    fs::write(out.join("assets.rs"), table)
}

struct File {
    name: String,
    bytes: Vec<u8>,
}

/// Every file below `dir`, names relative to it and in order.
fn files_below(dir: &Path) -> io::Result<Vec<File>> {
    let mut found = Vec::new();
    let mut left = vec![dir.to_owned()];
    while let Some(next) = left.pop() {
        for item in fs::read_dir(&next)? {
            let path = item?.path();
            if path.is_dir() {
                left.push(path);
                continue;
            }
            let name = path.strip_prefix(dir).map_err(io::Error::other)?;
            found.push(File {
                name: name.to_string_lossy().into_owned(),
                bytes: fs::read(&path)?,
            });
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// A hash over names and contents, short enough for a path.
fn tree_hash(files: &[File]) -> String {
    let mut hasher = Sha256::new();
    for file in files {
        for part in [file.name.as_bytes(), &file.bytes] {
            hasher.update((part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
    }
    hasher
        .finalize()
        .iter()
        .take(HASH_BYTES)
        .map(|b| format!("{b:02x}"))
        .collect()
}

/// The table's entry for one file; writes what it includes to `out`.
fn entry(out: &Path, stem: &str, path: &str, name: &str, bytes: &[u8]) -> io::Result<String> {
    let plain = out.join(format!("{stem}.plain"));
    fs::write(&plain, bytes)?;
    let (kind, squeeze) = media_type(name)?;
    let gzip = if squeeze {
        let packed = out.join(format!("{stem}.gz"));
        fs::write(&packed, gzip(bytes)?)?;
        format!("Some(include_bytes!({packed:?}))")
    } else {
        "None".to_owned()
    };
    let etag = format!("{:x}", Sha256::digest(bytes));
    Ok(format!(
        "Asset {{ path: {path:?}, media_type: {kind:?}, etag: {:?}, plain: include_bytes!({plain:?}), gzip: {gzip} }}",
        format!("\"{}\"", &etag[..HASH_BYTES * 2]),
    ))
}

/// The media type by the name's ending, and whether gzip makes such a file smaller.
fn media_type(name: &str) -> io::Result<(&'static str, bool)> {
    match name.rsplit('.').next() {
        Some("html") => Ok(("text/html; charset=utf-8", true)),
        Some("css") => Ok(("text/css; charset=utf-8", true)),
        Some("js") => Ok(("text/javascript; charset=utf-8", true)),
        Some("svg") => Ok(("image/svg+xml", true)),
        Some("txt") => Ok(("text/plain; charset=utf-8", true)),
        Some("woff2") => Ok(("font/woff2", false)),
        _ => Err(io::Error::other(format!(
            "app/{name} has no media type yet: add it to build.rs"
        ))),
    }
}

fn gzip(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    encoder.finish()
}

/// The one page, served at `/`; everything else is an asset.
const PAGE: &str = "index.html";
/// 64 bits: two builds' trees do not meet by accident.
const HASH_BYTES: usize = 8;
