//! Images from every kind of source. What is in them is listed by `unsquashfs`.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
    process::Command,
};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tar::{EntryType, Header};

use crate::folder::Folder;

#[test]
fn a_folder_an_archive_and_a_layered_image_of_the_same_files_are_one_image() {
    let folder = Folder::new("sources");
    folder.write_service();
    folder.pilot(&["s9pk", "keygen", "-o", "key.pem"]);
    let files = Tar::default()
        .directory("./", 0o755)
        .directory("etc", 0o755)
        .file("etc/hostname", b"hello")
        .file("etc/long", &vec![b'x'; 300_000])
        .file("run.sh", b"#!/bin/sh\n")
        .symlink("sh", "/etc/run.sh")
        .hard_link("again", "etc/long");
    let lower = Tar::default()
        .file("etc/gone", b"")
        .file("etc/hostname", b"other")
        .file("old/x", b"")
        .file("run.sh", b"#!/bin/sh\n");
    let upper = Tar::default()
        .file("etc/hostname", b"hello")
        .file("etc/long", &vec![b'x'; 300_000])
        .file("etc/.wh.gone", b"")
        .file(".wh.old", b"")
        .symlink("sh", "/etc/run.sh")
        .hard_link("again", "etc/long");
    write_folder(&folder.0.join("source/rootfs"));
    let files = files.bytes();
    folder.write("source/plain.tar", &files);
    folder.write("source/packed.tar.gz", gzip(&files));
    folder.write("source/packed.tar.zst", zstd(&files));
    let image = Oci::new("amd64", &[gzip(&lower.bytes()), zstd(&upper.bytes())]);
    image.write(&folder.0.join("source/layout"));
    folder.write("source/oci.tar", image.tar());
    folder.write("source/oci.tar.gz", gzip(&image.tar()));
    folder.write("source/docker.tar", image.docker_tar());

    let mut hashes = Vec::new();
    for source in [
        "rootfs",
        "plain.tar",
        "packed.tar.gz",
        "packed.tar.zst",
        "oci:layout",
        "oci-archive:oci.tar",
        "oci.tar.gz",
        "docker-archive:docker.tar",
    ] {
        set_source(&folder, &format!("{{ x86_64 = {source:?} }}"));
        hashes.push((source, pack(&folder)["images/x86_64/main.squashfs"].clone()));
    }
    let first = &hashes[0].1;
    assert!(
        first.is_string() && hashes.iter().all(|(_, hash)| hash == first),
        "{hashes:#?}"
    );
    let listed = list(&folder);
    for line in [
        "drwxr-xr-x 0/0 squashfs-root/etc",
        "-rw-r--r-- 0/0 squashfs-root/etc/hostname",
        "-rw-r--r-- 0/0 squashfs-root/again",
        "lrwxrwxrwx 0/0 squashfs-root/sh -> /etc/run.sh",
    ] {
        assert!(listed.iter().any(|l| l == line), "{line} in {listed:#?}");
    }
    assert_eq!(listed.len(), 7, "{listed:#?}");
}

#[test]
fn the_same_folder_packs_alike_wherever_whenever_and_by_whatever_umask() {
    let folder = Folder::new("alike");
    folder.write_service();
    folder.pilot(&["s9pk", "keygen", "-o", "key.pem"]);
    write_folder(&folder.0.join("source/rootfs"));
    let pack = |umask: &str, source: &str, to: &str| {
        let pilot = env!("CARGO_BIN_EXE_pilot");
        let script = format!(
            "umask {umask}; cp -r source {source}; find {source} -exec touch -d @$RANDOM {{}} +; \
             {pilot} s9pk pack {source} -o {to} --key key.pem"
        );
        let status = Command::new("bash")
            .args(["-c", &script])
            .env("SOURCE_DATE_EPOCH", umask)
            .current_dir(&folder.0)
            .status();
        assert!(status.unwrap().success());
    };
    pack("022", "here", "one.s9pk");
    pack("077", "some-other-place", "two.s9pk");
    assert!(folder.read("one.s9pk") == folder.read("two.s9pk"));
}

#[test]
fn an_images_own_way_to_run_is_kept_unless_the_recipe_says_another() {
    let folder = Folder::new("config");
    folder.write_service();
    folder.pilot(&["s9pk", "keygen", "-o", "key.pem"]);
    let layer = Tar::default().file("a", b"").bytes();
    folder.write("source/oci.tar", Oci::new("arm64", &[layer]).tar());
    set_source(&folder, "\"oci.tar\"");
    pack(&folder);
    let read = |path: &str| folder.pilot(&["s9pk", "cat", "out.s9pk", path]);
    let config: Value = serde_json::from_str(&read("images/aarch64/main.json")).unwrap();
    let wanted =
        json!({ "cmd": ["/bin/hello"], "entrypoint": null, "user": "web", "workdir": "/" });
    assert_eq!(config, wanted);
    assert_eq!(
        read("images/aarch64/main.env"),
        "PATH=/bin\nEMPTY=\nLANG=C.UTF-8"
    );

    let text = fs::read_to_string(folder.0.join("source/service.toml")).unwrap();
    let text = text.replace(
        "command = [\"/bin/hello\"]",
        "workdir = \"/srv\"\nuser = \"7\"",
    );
    folder.write("source/service.toml", text.replace("LANG =", "EMPTY ="));
    pack(&folder);
    let config: Value = serde_json::from_str(&read("images/aarch64/main.json")).unwrap();
    let wanted = json!({ "cmd": ["-v"], "entrypoint": ["/start"], "user": "7", "workdir": "/srv" });
    assert_eq!(config, wanted);
    let env = read("images/aarch64/main.env");
    assert_eq!(env, "PATH=/bin\nLANG=en\nEMPTY=C.UTF-8");
}

#[test]
fn every_architecture_of_an_archive_is_packed_and_others_are_named() {
    let folder = Folder::new("arches");
    folder.write_service();
    folder.pilot(&["s9pk", "keygen", "-o", "key.pem"]);
    let image = |arch: &str| Oci::new(arch, &[Tar::default().file(arch, b"").bytes()]);
    let several = Oci::index(&[image("amd64"), image("arm64"), image("s390x")]);
    folder.write("source/oci.tar", several.tar());
    set_source(&folder, "\"oci.tar\"");
    let said = folder.pilot(&PACK);
    assert!(said.contains("linux/s390x is left out"), "{said}");
    for arch in ["x86_64", "aarch64"] {
        folder.pilot(&["s9pk", "verify", "out.s9pk", "--arch", arch]);
        folder.pilot(&[
            "s9pk", "select", "out.s9pk", "--arch", arch, "-o", "one.s9pk",
        ]);
        folder.pilot(&["s9pk", "verify", "one.s9pk", "--arch", arch]);
    }
    set_source(&folder, "{ riscv64 = \"oci.tar\" }");
    let said = folder.refused(&PACK);
    assert!(
        said.contains("it is for aarch64, x86_64, not for riscv64"),
        "{said}"
    );
    folder.write(
        "source/oci.tar",
        Oci::index(&[image("amd64"), image("amd64").relabelled()]).tar(),
    );
    let said = folder.refused(&PACK);
    assert!(said.contains("several images for x86_64"), "{said}");
}

#[test]
fn layers_take_away_only_what_lower_ones_have() {
    let folder = Folder::new("layers");
    folder.write_service();
    folder.pilot(&["s9pk", "keygen", "-o", "key.pem"]);
    let layers = [
        Tar::default()
            .file("usr/bin/one", b"1")
            .file("usr/bin/two", b"2")
            .symlink("bin", "usr/bin")
            .file("d/lower", b"")
            .file("hard/a", b"h")
            .hard_link("hard/b", "hard/a"),
        Tar::default()
            // In a folder by another name, and its own new file before the mark.
            .file("d/new", b"")
            .file("d/.wh..wh..opq", b"")
            .file("bin/.wh.one", b"")
            .file("bin/three", b"3")
            .file(".wh..wh.plnk", b"")
            .file("hard/.wh.a", b"")
            .file("hard/a", b"other"),
    ];
    let layers = layers.map(|layer| layer.bytes());
    folder.write("source/oci.tar", Oci::new("amd64", &layers).tar());
    set_source(&folder, "\"oci.tar\"");
    pack(&folder);
    let listed = list(&folder);
    let names: Vec<&str> = listed
        .iter()
        .filter_map(|line| line.split_once("squashfs-root/").map(|(_, name)| name))
        .collect();
    let wanted = [
        "bin -> usr/bin",
        "d",
        "d/new",
        "hard",
        "hard/a",
        "hard/b",
        "usr",
        "usr/bin",
        "usr/bin/three",
        "usr/bin/two",
    ];
    assert_eq!(names, wanted);
}

#[test]
fn what_leads_out_or_is_damaged_is_refused_with_the_entry_and_the_remedy() {
    let folder = Folder::new("hostile");
    folder.write_service();
    folder.pilot(&["s9pk", "keygen", "-o", "key.pem"]);
    let layer = || Tar::default().file("a", b"some bytes");
    let deep = Tar::default()
        .symlink("s", "../../..")
        .file("s/pilot-escaped", b"");
    let damaged = {
        let image = Oci::new("amd64", &[layer().bytes()]);
        let mut tar = image.tar();
        let at = tar
            .windows(10)
            .position(|bytes| bytes == b"some bytes")
            .unwrap();
        tar[at] ^= 1;
        tar
    };
    let cut = |bytes: Vec<u8>, by: usize| bytes[..bytes.len() - by].to_vec();
    let cases: [(Vec<u8>, &str); 15] = [
        (layer().file("../evil", b"").bytes(), "`..`"),
        (layer().file("a/b", b"").bytes(), "no directory"),
        (layer().hard_link("b", "../../etc/passwd").bytes(), "`..`"),
        (layer().hard_link("b", "none").bytes(), "not there"),
        (layer().device("null").bytes(), "\"null\""),
        (layer().owned_by("b", 70_000).bytes(), "65535"),
        (layer().sparse("b").bytes(), "--sparse"),
        (
            layer().symlink("l", "l").file("l/x", b"").bytes(),
            "too many",
        ),
        (cut(layer().bytes(), 1024 + 505), "cut short"),
        (damaged, "does not match its digest"),
        (b"PK\x03\x04rest".to_vec(), "zip archive: unpack it first"),
        (b"\xfd7zXZ\0rest".to_vec(), "xz -d"),
        (b"hsqs".to_vec(), "cut short"),
        (gzip(b"text"), "no tar archive"),
        (cut(gzip(&layer().bytes()), 20), "can't be unpacked"),
    ];
    set_source(&folder, "\"image\"");
    for (bytes, word) in cases {
        folder.write("source/image", bytes);
        let said = folder.refused(&PACK);
        assert!(
            said.contains(word) && said.contains("source/image"),
            "{word}: {said}"
        );
    }
    folder.write("source/image", deep.bytes());
    pack(&folder);
    assert!(
        list(&folder)
            .iter()
            .any(|line| line.ends_with("squashfs-root/pilot-escaped"))
    );
    folder.write("source/image", layer().device("dev/null").bytes());
    let said = folder.pilot(&PACK);
    assert!(said.contains("dev/null is a device: left out"), "{said}");
    let left: Vec<_> = fs::read_dir(&folder.0).unwrap().collect();
    assert_eq!(left.len(), 3, "key, source and package: {left:?}");
}

/// Made by umoci (layers with whiteouts, a link for a folder, a hard link) and written by skopeo.
#[test]
fn archives_of_others_tools_are_read() {
    let folder = Folder::new("skopeo");
    folder.write_service();
    folder.pilot(&["s9pk", "keygen", "-o", "key.pem"]);
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    for name in ["skopeo-oci.tar", "skopeo-docker.tar.gz"] {
        fs::copy(fixtures.join(name), folder.0.join("source/image")).unwrap();
        set_source(&folder, "\"image\"");
        pack(&folder);
        let env = folder.pilot(&["s9pk", "cat", "out.s9pk", "images/x86_64/main.env"]);
        assert_eq!(env, "A=1\nLANG=C.UTF-8", "{name}");
        let wanted = [
            "drwxr-xr-x 0/0 squashfs-root",
            "lrwxrwxrwx 0/0 squashfs-root/bin -> usr/bin",
            "drwxr-xr-x 0/0 squashfs-root/etc",
            "-rw-r--r-- 0/0 squashfs-root/etc/motd",
            "-rw-r--r-- 0/0 squashfs-root/etc/motd2",
            "drwxr-xr-x 0/0 squashfs-root/op",
            "-rw-r--r-- 0/0 squashfs-root/op/n",
            "drwxrwxrwt 0/0 squashfs-root/tmp",
            "drwxr-xr-x 0/0 squashfs-root/usr",
            "drwxr-xr-x 0/0 squashfs-root/usr/bin",
            "-rwsr-xr-x 0/0 squashfs-root/usr/bin/busybox",
            "-rw-r--r-- 0/0 squashfs-root/usr/bin/tool",
        ];
        assert_eq!(list(&folder), wanted, "{name}");
    }
}

const PACK: [&str; 7] = [
    "s9pk", "pack", "source", "-o", "out.s9pk", "--key", "key.pem",
];

/// Packs, and says the hash of each path.
fn pack(folder: &Folder) -> Value {
    folder.pilot(&PACK);
    let shown = folder.pilot(&["s9pk", "inspect", "--json", "out.s9pk"]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let entries = shown["entries"].as_array().unwrap().iter();
    entries
        .map(|entry| {
            (
                entry["path"].as_str().unwrap().to_owned(),
                entry["hash"].clone(),
            )
        })
        .collect()
}

/// Mode, owner, and name of everything in the package's image.
fn list(folder: &Folder) -> Vec<String> {
    let images = folder.pilot(&["s9pk", "inspect", "out.s9pk"]);
    let path = images
        .lines()
        .find(|line| line.ends_with("main.squashfs"))
        .unwrap();
    let path = path.split_whitespace().last().unwrap();
    let cat = Command::new(env!("CARGO_BIN_EXE_pilot"))
        .args(["s9pk", "cat", "out.s9pk", path])
        .current_dir(&folder.0)
        .output()
        .unwrap();
    let image = std::env::temp_dir().join(format!(
        "{}.squashfs",
        folder.0.file_name().unwrap().display()
    ));
    fs::write(&image, cat.stdout).unwrap();
    let listed = Command::new("unsquashfs")
        .arg("-lln")
        .arg(&image)
        .output()
        .unwrap();
    fs::remove_file(&image).unwrap();
    assert!(listed.status.success());
    let lines = String::from_utf8(listed.stdout).unwrap();
    let line = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        [&words[..2], &words[5..]].concat().join(" ")
    };
    lines
        .lines()
        .filter(|l| l.contains("squashfs-root"))
        .map(line)
        .collect()
}

fn set_source(folder: &Folder, source: &str) {
    let text = crate::folder::SERVICE.replace("\"rootfs\"", source);
    folder.write("source/service.toml", text);
}

/// The files that the archives of the first test hold.
fn write_folder(root: &Path) {
    fs::create_dir_all(root.join("etc")).unwrap();
    fs::write(root.join("etc/hostname"), "hello").unwrap();
    fs::write(root.join("etc/long"), vec![b'x'; 300_000]).unwrap();
    fs::write(root.join("run.sh"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(root.join("run.sh"), fs::Permissions::from_mode(0o600)).unwrap();
    symlink("/etc/run.sh", root.join("sh")).unwrap();
    fs::hard_link(root.join("etc/long"), root.join("again")).unwrap();
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(bytes).unwrap();
    gz.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

/// A tar archive, entry by entry.
struct Tar(tar::Builder<Vec<u8>>);

impl Default for Tar {
    fn default() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }
}

impl Tar {
    fn add(mut self, path: &str, header: &mut Header, bytes: &[u8]) -> Self {
        // Straight into the header: the library refuses what a stranger would write there.
        let name = &mut header.as_old_mut().name;
        name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_size(bytes.len() as u64);
        header.set_cksum();
        self.0.append(header, bytes).unwrap();
        self
    }

    fn header(kind: EntryType, mode: u32) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_234_567);
        header
    }

    fn file(self, path: &str, bytes: &[u8]) -> Self {
        self.add(path, &mut Self::header(EntryType::Regular, 0o644), bytes)
    }

    fn directory(self, path: &str, mode: u32) -> Self {
        self.add(path, &mut Self::header(EntryType::Directory, mode), b"")
    }

    fn sparse(self, path: &str) -> Self {
        let mut header = Self::header(EntryType::GNUSparse, 0o644);
        header.as_gnu_mut().unwrap().realsize = *b"00000000000\0";
        self.add(path, &mut header, b"")
    }

    fn owned_by(self, path: &str, uid: u64) -> Self {
        let mut header = Self::header(EntryType::Regular, 0o644);
        header.set_uid(uid);
        self.add(path, &mut header, b"")
    }

    fn device(self, path: &str) -> Self {
        let mut header = Self::header(EntryType::Char, 0o666);
        header.set_device_major(1).unwrap();
        header.set_device_minor(3).unwrap();
        self.add(path, &mut header, b"")
    }

    fn symlink(self, path: &str, target: &str) -> Self {
        self.linked(EntryType::Symlink, path, target)
    }

    fn hard_link(self, path: &str, target: &str) -> Self {
        self.linked(EntryType::Link, path, target)
    }

    fn linked(self, kind: EntryType, path: &str, target: &str) -> Self {
        let mut header = Self::header(kind, 0o777);
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        self.add(path, &mut header, b"")
    }

    fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

/// An image in OCI's layout, as blobs and an index over them.
struct Oci {
    blobs: Vec<Vec<u8>>,
    layers: usize,
    config: Value,
    manifests: Vec<Value>,
}

impl Oci {
    fn new(arch: &str, layers: &[Vec<u8>]) -> Self {
        let plain = |layer: &Vec<u8>| match layer.first() {
            Some(0x1f) => {
                let mut plain = Vec::new();
                let mut gz = flate2::read::GzDecoder::new(&layer[..]);
                std::io::copy(&mut gz, &mut plain).unwrap();
                plain
            }
            Some(0x28) => {
                let mut plain = Vec::new();
                let mut zstd = ruzstd::decoding::StreamingDecoder::new(&layer[..]).unwrap();
                std::io::copy(&mut zstd, &mut plain).unwrap();
                plain
            }
            _ => layer.clone(),
        };
        let diff_ids: Vec<_> = layers.iter().map(|layer| digest(&plain(layer))).collect();
        let config = json!({
            "architecture": arch, "os": "linux",
            "config": {
                "User": "web", "Env": ["PATH=/bin", "LANG=en", "EMPTY="],
                "Entrypoint": ["/start"], "Cmd": ["-v"], "WorkingDir": "",
            },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let mut image = Self {
            blobs: layers.to_vec(),
            layers: layers.len(),
            config,
            manifests: Vec::new(),
        };
        image.seal();
        image
    }

    /// Makes configuration and manifest of what is there.
    fn seal(&mut self) {
        self.blobs.truncate(self.layers);
        let layers: Vec<_> = self.blobs.iter().map(|blob| descriptor(blob)).collect();
        let config = serde_json::to_vec(&self.config).unwrap();
        let manifest =
            json!({ "schemaVersion": 2, "config": descriptor(&config), "layers": layers });
        let manifest = serde_json::to_vec(&manifest).unwrap();
        self.manifests = vec![descriptor(&manifest)];
        self.blobs.extend([config, manifest]);
    }

    /// The same image by another name.
    fn relabelled(mut self) -> Self {
        self.config["author"] = json!("another");
        self.seal();
        self
    }

    /// Several images under one index, which the layout's own index points to.
    fn index(images: &[Self]) -> Self {
        let manifests: Vec<_> = images
            .iter()
            .flat_map(|image| image.manifests.clone())
            .collect();
        let index = serde_json::to_vec(&json!({ "manifests": manifests })).unwrap();
        let mut blobs: Vec<_> = images
            .iter()
            .flat_map(|image| image.blobs.clone())
            .collect();
        let manifests = vec![descriptor(&index)];
        blobs.push(index);
        Self {
            blobs,
            layers: 0,
            config: Value::Null,
            manifests,
        }
    }

    fn parts(&self) -> Vec<(String, Vec<u8>)> {
        let index = serde_json::to_vec(&json!({ "manifests": self.manifests })).unwrap();
        let layout = br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec();
        let blobs = self.blobs.iter().map(|blob| {
            let name = format!("blobs/{}", digest(blob).replace(':', "/"));
            (name, blob.clone())
        });
        let named = [
            ("oci-layout".to_owned(), layout),
            ("index.json".to_owned(), index),
        ];
        named.into_iter().chain(blobs).collect()
    }

    fn write(&self, to: &Path) {
        for (name, bytes) in self.parts() {
            fs::create_dir_all(to.join(&name).parent().unwrap()).unwrap();
            fs::write(to.join(name), bytes).unwrap();
        }
    }

    fn tar(&self) -> Vec<u8> {
        let parts = self.parts().into_iter();
        parts
            .fold(Tar::default(), |tar, (name, bytes)| tar.file(&name, &bytes))
            .bytes()
    }

    /// As old versions of docker write it: layers in folders of their own, some of them links.
    fn docker_tar(&self) -> Vec<u8> {
        let config = serde_json::to_vec(&self.config).unwrap();
        let name = format!("{}.json", digest(&config).trim_start_matches("sha256:"));
        let mut tar = Tar::default().file(&name, &config);
        let mut layers = Vec::new();
        for (number, layer) in self.blobs[..self.layers].iter().enumerate() {
            tar = tar
                .file(&format!("store{number}/layer.tar"), layer)
                .symlink(
                    &format!("l{number}/layer.tar"),
                    &format!("../store{number}/layer.tar"),
                );
            layers.push(format!("l{number}/layer.tar"));
        }
        let manifest = json!([{ "Config": name, "RepoTags": ["x:1"], "Layers": layers }]);
        tar.file("manifest.json", &serde_json::to_vec(&manifest).unwrap())
            .bytes()
    }
}

fn descriptor(blob: &[u8]) -> Value {
    json!({ "mediaType": "x", "digest": digest(blob), "size": blob.len() })
}

fn digest(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// Writes an archive of a small image.
pub(crate) fn write_archive(folder: &Folder, path: &str) {
    let layer = Tar::default().file("bin/hello", b"#!/bin/sh\n").bytes();
    folder.write(path, Oci::new("amd64", &[layer]).tar());
}
