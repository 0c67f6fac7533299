//! Packages and the files of this machine: what is refused on the way in and on the way out.

mod crafted;

use std::{
    fs::{self, File},
    io::{self, Cursor},
    os::unix::fs::symlink,
    path::PathBuf,
    process,
};

use crafted::{Node, manifest, package};
use s9pk::{Archive, Content, Draft, Error, Key, ReadAt, Seekable, extract::extract, pack};

/// A folder of its own for a test, removed with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("s9pk-host-{name}-{}", process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn packed(draft: &Draft<'_>) -> Result<Vec<u8>, Error> {
    let mut out = Cursor::new(Vec::new());
    pack(draft, &Key::from_seed(&[1; 32]), &mut out).map(|_| out.into_inner())
}

#[test]
fn links_and_names_that_are_no_text_are_not_packed() {
    let folder = Folder::new("links");
    fs::write(folder.0.join("file"), "content").unwrap();
    assert!(Draft::from_dir(&folder.0).unwrap().has("file"));
    symlink("/etc/passwd", folder.0.join("link")).unwrap();
    assert!(matches!(
        Draft::from_dir(&folder.0),
        Err(Error::HostPath { .. })
    ));
    fs::remove_file(folder.0.join("link")).unwrap();
    let odd = <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(&[0xff, 0xfe]);
    fs::write(folder.0.join(odd), "content").unwrap();
    assert!(matches!(
        Draft::from_dir(&folder.0),
        Err(Error::HostPath { .. })
    ));
    assert!(matches!(
        Draft::from_dir(&folder.0.join("absent")),
        Err(Error::Io { .. })
    ));
}

#[test]
fn a_file_in_the_way_of_a_directory_is_told() {
    let mut draft = Draft::default();
    draft.add("a", Content::Bytes(Vec::new())).unwrap();
    assert!(matches!(
        draft.add("a/b", Content::Bytes(Vec::new())),
        Err(Error::Name { .. })
    ));
    assert!(!draft.has("a/b") && draft.content("a").is_some());
    assert!(draft.content("absent").is_none());
}

#[test]
fn a_file_that_is_gone_when_it_is_packed_is_told() {
    let folder = Folder::new("grows");
    let file = folder.0.join("file");
    fs::write(&file, "content").unwrap();
    let mut draft = Draft::default();
    draft.add("file", Content::File(file.clone())).unwrap();
    assert!(packed(&draft).is_ok());
    fs::remove_file(&file).unwrap();
    assert!(matches!(packed(&draft), Err(Error::Io { .. })));
}

#[test]
fn more_entries_than_a_table_may_have_are_not_packed() {
    let mut draft = Draft::default();
    for index in 0..20_000 {
        draft
            .add(&format!("{index:05}"), Content::Bytes(Vec::new()))
            .unwrap();
    }
    assert!(matches!(packed(&draft), Err(Error::TocTooLarge { .. })));
}

#[test]
fn nothing_damaged_is_left_behind_by_unpacking() {
    let damaged: &[u8] = include_bytes!("fixtures/bad-content-license-bit.s9pk");
    let folder = Folder::new("damaged");
    let to = folder.0.join("out");
    let archive = Archive::open(damaged).unwrap();
    assert!(matches!(
        extract(&archive, &to),
        Err(Error::FileHash { .. })
    ));
    assert!(!to.join("LICENSE.md").exists());
    // Whatever is there is not overwritten.
    assert!(matches!(extract(&archive, &to), Err(Error::Io { .. })));
}

#[test]
fn names_that_leave_the_folder_are_not_unpacked() {
    for name in ["..", "a/b", ""] {
        let file = package(vec![(name.to_owned(), Node::File(vec![1])), manifest()]);
        let archive = Archive::open_with(&file[..], s9pk::Profile::lenient()).unwrap();
        let folder = Folder::new("names");
        let to = folder.0.join("out");
        let done = extract(&archive, &to);
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1, "{name:?}");
        assert!(done.is_err(), "{name:?}");
    }
}

#[test]
fn packages_are_read_from_files_and_streams_alike() {
    let folder = Folder::new("sources");
    let file = folder.0.join("minimal.s9pk");
    let bytes = include_bytes!("fixtures/minimal.s9pk");
    fs::write(&file, bytes).unwrap();
    let from_file = Archive::open(File::open(&file).unwrap()).unwrap();
    from_file.verify().unwrap();
    let from_stream = Archive::open(Seekable::new(File::open(&file).unwrap())).unwrap();
    from_stream.verify().unwrap();
    let from_reference = Archive::open(from_file.source()).unwrap();
    assert_eq!(from_reference.length(), bytes.len() as u64);
    let wanted = from_file.root_sighash();
    assert!(Archive::open_expecting(&bytes[..], &wanted).is_ok());
    let other = Archive::open_expecting(&bytes[..], &s9pk::Hash::ZERO);
    assert!(matches!(other, Err(Error::WrongRoot { .. })));
}

#[test]
fn a_source_that_fails_is_told_with_its_place() {
    #[derive(Debug)]
    struct Broken;
    impl ReadAt for Broken {
        fn size(&self) -> io::Result<u64> {
            Ok(1 << 20)
        }
        fn read_exact_at(&self, _: &mut [u8], _: u64) -> io::Result<()> {
            Err(io::Error::other("the disk is gone"))
        }
    }
    let said = Archive::open(Broken).unwrap_err();
    let cause = std::error::Error::source(&said).map(ToString::to_string);
    assert!(
        format!("{said} {cause:?}").contains("the disk is gone"),
        "{said}"
    );
}
