//! Each limit of the format: what just keeps it is taken, what just breaks it is refused.

mod crafted;

use crafted::{Node, manifest, manifest_of, package, package_with, table};
use s9pk::{Archive, Content, Draft, Error, Key, Profile, limits, pack};

/// Tables of a package with a manifest and directories `a` to `d` in its root: 1 for the count, 63
/// for the manifest's line and 59 for each directory's.
const ROOT_OF_FOUR: u64 = 1 + 63 + 4 * 59;

fn strictly(file: Vec<u8>) -> Result<Archive<Vec<u8>>, Error> {
    Archive::open(file)
}

fn leniently(file: Vec<u8>) -> Result<Archive<Vec<u8>>, Error> {
    Archive::open_with(file, Profile::lenient())
}

fn with(nodes: impl IntoIterator<Item = (&'static str, Node)>) -> Vec<u8> {
    let nodes = nodes
        .into_iter()
        .map(|(name, node)| (name.to_owned(), node));
    package(nodes.chain([manifest()]).collect())
}

fn nested(levels: usize) -> Vec<u8> {
    let innermost = Node::Directory(Vec::new());
    let wrap = |inner, _| Node::Directory(vec![("d".to_owned(), inner)]);
    with([("d", (1..levels).fold(innermost, wrap))])
}

#[test]
fn root_max_size() {
    let signed = |size| package_with(vec![manifest()], |signed| signed.root_max_size = size);
    strictly(signed(limits::ROOT_MAX_SIZE)).unwrap();
    assert!(leniently(signed(limits::ROOT_MAX_SIZE + 1)).is_err());
}

#[test]
fn toc_size() {
    strictly(with([("a", table(limits::TOC_SIZE))])).unwrap();
    let refused = leniently(with([("a", table(limits::TOC_SIZE + 1))]));
    assert!(matches!(refused, Err(Error::TocTooLarge { .. })));
}

#[test]
fn all_tocs_size() {
    let of = |total: u64| {
        let mut left = total - ROOT_OF_FOUR;
        with(["a", "b", "c", "d"].map(|name| {
            let size = left.min(limits::TOC_SIZE).min(total / 4);
            let size = if name == "d" { left } else { size };
            left -= size;
            (name, table(size))
        }))
    };
    strictly(of(limits::ALL_TOCS_SIZE)).unwrap();
    let refused = leniently(of(limits::ALL_TOCS_SIZE + 1));
    assert!(matches!(refused, Err(Error::TocTooLarge { .. })));
}

#[test]
fn depth() {
    let deepest = usize::from(limits::DEPTH);
    strictly(nested(deepest)).unwrap();
    assert!(matches!(
        strictly(nested(deepest + 1)),
        Err(Error::Strict(_))
    ));
    leniently(nested(usize::from(limits::LENIENT_DEPTH))).unwrap();
    let deeper = nested(usize::from(limits::LENIENT_DEPTH) + 1);
    assert!(matches!(leniently(deeper), Err(Error::TooDeep { .. })));
}

#[test]
fn what_may_be_packed_may_be_read() {
    let mut draft = Draft::default();
    let (name, Node::File(json)) = manifest() else {
        unreachable!("a manifest is a file");
    };
    draft.add(&name, Content::Bytes(json)).unwrap();
    let deepest = vec!["d"; usize::from(limits::DEPTH)].join("/");
    draft
        .add(&format!("{deepest}/file"), Content::Bytes(vec![1]))
        .unwrap();
    assert!(draft.add_directory(&format!("{deepest}/d")).is_err());
    let mut out = std::io::Cursor::new(Vec::new());
    pack(&draft, &Key::from_seed(&[1; 32]), &mut out).unwrap();
    Archive::open(out.into_inner()).unwrap().verify().unwrap();
}

#[test]
fn name_size() {
    let named = |size: usize| package(vec![("n".repeat(size), Node::Missing), manifest()]);
    strictly(named(limits::NAME_SIZE)).unwrap();
    assert!(strictly(named(limits::NAME_SIZE + 1)).is_err());
    // Paths are made of names and shown by the dozen: not even told to be lenient.
    assert!(leniently(named(limits::NAME_SIZE + 1)).is_err());
}

#[test]
fn manifest_size() {
    let of = |size: u64| package(vec![manifest_of(size)]);
    strictly(of(limits::MANIFEST_SIZE)).unwrap();
    let refused = leniently(of(limits::MANIFEST_SIZE + 1));
    assert!(matches!(refused, Err(Error::TooLarge { .. })));
}

#[test]
fn places_beyond_the_end() {
    for (position, size) in [(155, 1 << 40), (u64::MAX, 1), (1, u64::MAX), (1 << 40, 0)] {
        let file = with([("x", Node::Claim { position, size })]);
        assert!(strictly(file.clone()).is_err(), "{position} {size}");
        let lenient = leniently(file).unwrap();
        assert!(lenient.read("x", u64::MAX).is_err(), "{position} {size}");
        assert!(lenient.extent("x").is_err(), "{position} {size}");
        assert!(
            lenient.copy("x", &mut Vec::new()).is_err(),
            "{position} {size}"
        );
        assert!(lenient.verify().is_err(), "{position} {size}");
    }
}

#[test]
fn overlaps() {
    for (position, size) in [(0, 3), (100, 60), (155, 1), (200, 10)] {
        let file = with([("x", Node::Claim { position, size })]);
        assert!(
            matches!(strictly(file.clone()), Err(Error::Strict(_))),
            "{position} {size}"
        );
        assert!(!leniently(file).unwrap().profile().deviations().is_empty());
    }
}

#[test]
fn deviations() {
    let many = (0..100).map(|index| {
        let claim = Node::Claim {
            position: 0,
            size: 1,
        };
        (format!("{index:03}"), claim)
    });
    let file = package(many.chain([manifest()]).collect());
    let archive = leniently(file).unwrap();
    let profile = archive.profile();
    assert_eq!(profile.deviations().len(), limits::DEVIATIONS);
    assert_eq!(profile.more(), 100 - limits::DEVIATIONS as u64);
}
