//! The writer gives the same bytes as the format's own packer for the same tree and key.

use std::{fs, io::Cursor};

use s9pk::{
    Archive, Content, Draft, Error, Key, LeftOut, Seekable,
    extract::extract,
    pack,
    rewrite::{resign, select},
};

const MINIMAL: &[u8] = include_bytes!("fixtures/minimal.s9pk");
const TWO_ARCH: &[u8] = include_bytes!("fixtures/two-arch.s9pk");

/// Those that the format's own packer and filter wrote, or that are as if.
#[test]
fn an_extracted_package_packed_again_is_the_same_file() {
    for name in [
        "minimal",
        "two-arch",
        "two-arch.x86_64",
        "ok-extra-file",
        "ok-manifest-minimal-fields",
        "ok-manifest-unknown-field",
        "ok-no-instructions",
        "ok-zero-length-file",
        "typeconf-file",
    ] {
        let path = format!("{}/tests/fixtures/{name}.s9pk", env!("CARGO_MANIFEST_DIR"));
        let original = fs::read(path).unwrap();
        let archive = Archive::open(&original[..]).unwrap();
        let directory = std::env::temp_dir().join(format!("s9pk-{name}-{}", std::process::id()));
        extract(&archive, &directory).unwrap();
        let mut draft = Draft::from_dir(&directory).unwrap();
        let left_out = LeftOut::of(&archive);
        assert_eq!(left_out.is_some(), name == "two-arch.x86_64");
        if let Some(left_out) = left_out {
            let json = serde_json::to_string(&left_out).unwrap();
            assert_eq!(serde_json::from_str::<LeftOut>(&json).unwrap(), left_out);
            draft.leave_out(&left_out).unwrap();
        }
        let mut packed = Cursor::new(Vec::new());
        pack(&draft, &key(), &mut packed).unwrap();
        fs::remove_dir_all(&directory).unwrap();
        assert!(packed.into_inner() == original, "{name}");
    }
}

#[test]
fn nothing_is_added_to_a_filtered_package() {
    let filtered: &[u8] = include_bytes!("fixtures/two-arch.x86_64.s9pk");
    let archive = Archive::open(filtered).unwrap();
    let left_out = LeftOut::of(&archive).unwrap();
    let packed = |path: &str| {
        let mut draft = Draft::default();
        draft.add(path, Content::Bytes(vec![1])).unwrap();
        draft.leave_out(&left_out)?;
        pack(&draft, &key(), &mut Cursor::new(Vec::new()))
    };
    let back = packed("images/aarch64/main.squashfs").unwrap_err();
    assert!(back.to_string().contains("was left out"), "{back}");
    let long = format!("images/{}", "x".repeat(200));
    let more = packed(&long).unwrap_err();
    assert!(more.to_string().contains("what was signed"), "{more}");
    assert!(LeftOut::of(&Archive::open(MINIMAL).unwrap()).is_none());
}

#[test]
fn what_is_packed_opens_through_any_reader_and_is_read_back() {
    let mut packed = Cursor::new(Vec::new());
    let archive = Archive::open(MINIMAL.to_vec()).unwrap();
    let mut draft = Draft::default();
    for (path, _) in archive.tree().walk() {
        let bytes = archive.read(&path, 1 << 20).unwrap();
        draft.add(&path, Content::Bytes(bytes)).unwrap();
    }
    let service = b"[service]\n".to_vec();
    draft
        .add("service.toml", Content::Bytes(service.clone()))
        .unwrap();
    pack(&draft, &key(), &mut packed).unwrap();

    let again = Archive::open(Seekable::new(packed)).unwrap();
    again.verify().unwrap();
    assert_eq!(again.signer(), key().public());
    assert_eq!(again.read("service.toml", 100).unwrap(), service);
    assert!(matches!(
        again.read("service.toml", 3),
        Err(Error::TooLarge { .. })
    ));
    assert!(matches!(again.read("absent", 3), Err(Error::Absent { .. })));
    assert!(
        again
            .validate(Some("x86_64"))
            .unwrap()
            .needed
            .contains("service.toml")
    );
}

#[test]
fn an_image_can_be_found_where_it_lies() {
    let archive = Archive::open(TWO_ARCH.to_vec()).unwrap();
    let extent = archive.extent("images/x86_64/main.squashfs").unwrap();
    let image = &TWO_ARCH[extent.position as usize..extent.end().unwrap() as usize];
    assert!(image.starts_with(b"hsqs"));
}

#[test]
fn unsafe_paths_are_not_packed() {
    for path in ["../x", "a//b", "", "a/..", "a\0b", "1/2/3/4/5/6/7/8/9/file"] {
        let refused = Draft::default().add(path, Content::Bytes(Vec::new()));
        assert!(refused.is_err(), "{path:?}");
    }
}

fn key() -> Key {
    Key::from_pem(include_str!("fixtures/keys/a.pem")).unwrap()
}

#[test]
fn a_filtered_package_is_the_file_that_the_formats_own_filter_wrote() {
    let archive = Archive::open(TWO_ARCH.to_vec()).unwrap();
    let mut out = Cursor::new(Vec::new());
    let commitment = select(&archive, "x86_64", &mut out).unwrap();
    assert_eq!(commitment, archive.commitment());
    let expected: &[u8] = include_bytes!("fixtures/two-arch.x86_64.s9pk");
    assert!(out.into_inner() == expected);
}

#[test]
fn a_filtered_package_says_what_was_left_out() {
    let filtered: &[u8] = include_bytes!("fixtures/two-arch.x86_64.s9pk");
    let archive = Archive::open(filtered.to_vec()).unwrap();
    archive.validate(Some("x86_64")).unwrap();
    assert!(!archive.has_file("images/aarch64/main.squashfs"));
    assert!(matches!(
        archive.read("images/aarch64", 9),
        Err(Error::LeftOut { .. })
    ));
}

#[test]
fn a_package_signed_anew_keeps_its_root_and_reads_its_manifest_first() {
    let archive = Archive::open(MINIMAL.to_vec()).unwrap();
    let mut out = Cursor::new(Vec::new());
    let other = Key::from_pem(include_str!("fixtures/keys/b.pem")).unwrap();
    resign(&archive, &other, &mut out).unwrap();
    let again = Archive::open(out.into_inner()).unwrap();
    again.verify().unwrap();
    assert_eq!(again.root_sighash(), archive.root_sighash());
    assert_eq!(again.signer(), other.public());
    let manifest = again.extent("manifest.json").unwrap();
    assert_eq!(manifest.position, 155 + 316);
}

#[test]
fn a_damaged_body_is_not_carried_over() {
    let damaged: &[u8] = include_bytes!("fixtures/bad-content-license-bit.s9pk");
    let archive = Archive::open(damaged.to_vec()).unwrap();
    let refused = resign(&archive, &key(), &mut Cursor::new(Vec::new()));
    assert!(matches!(refused, Err(Error::FileHash { .. })));
}
