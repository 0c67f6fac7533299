//! Packages that no packer would write, correctly hashed and signed: what a hostile publisher makes.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test target takes what it needs of it"
)]

use s9pk::{
    Commitment, Extent, Hash, Key, Manifest,
    header::Header,
    limits,
    toc::{self, Entry, Kind},
    varint,
};

/// A file or directory to be.
pub enum Node {
    /// A file with this content.
    File(Vec<u8>),
    /// A file that claims this place and size; nothing is written for it.
    Claim {
        /// Where it says that it lies.
        position: u64,
        /// The size it claims.
        size: u64,
    },
    /// An entry that was left out.
    Missing,
    /// A directory.
    Directory(Vec<(String, Self)>),
}

/// The package whose root holds `nodes`, signed.
pub fn package(nodes: Vec<(String, Node)>) -> Vec<u8> {
    package_with(nodes, |_| ())
}

/// As [`package`]; `change` has a word before it is signed.
pub fn package_with(nodes: Vec<(String, Node)>, change: impl FnOnce(&mut Commitment)) -> Vec<u8> {
    let mut file = vec![0; limits::HEADER_SIZE as usize];
    let root = write("", Node::Directory(nodes), &mut file);
    let Kind::Directory { toc: root_toc } = root.kind else {
        unreachable!("it was a directory");
    };
    let mut commitment = Commitment {
        root_sighash: root.hash,
        root_max_size: root.size,
    };
    change(&mut commitment);
    let key = Key::from_seed(&[5; 32]);
    let header = Header {
        signer: key.public(),
        signature: commitment.sign(&key).unwrap(),
        commitment,
        root_toc,
    };
    file[..limits::HEADER_SIZE as usize].copy_from_slice(&header.encode());
    file
}

/// A manifest that is understood, as the file it is in.
pub fn manifest() -> (String, Node) {
    let json = include_bytes!("../../fuzz/seeds/manifest/minimal.json");
    serde_json::from_slice::<Manifest>(json).unwrap();
    ("manifest.json".to_owned(), Node::File(json.to_vec()))
}

/// A manifest of `size` bytes, blank at the end.
pub fn manifest_of(size: u64) -> (String, Node) {
    let (name, Node::File(mut json)) = manifest() else {
        unreachable!("a manifest is a file");
    };
    json.resize(size as usize, b' ');
    (name, Node::File(json))
}

/// A directory of left-out entries whose table has exactly `size` bytes.
pub fn table(size: u64) -> Node {
    let count = (size - 3) / 50;
    let rest = size - varint::size(count) - 50 * count;
    let nodes = (0..count).map(|index| {
        let last = if index + 1 == count { rest as usize } else { 0 };
        (format!("{index:08}{}", "x".repeat(last)), Node::Missing)
    });
    Node::Directory(nodes.collect())
}

fn write(name: &str, node: Node, file: &mut Vec<u8>) -> Entry {
    let (hash, size, kind) = match node {
        Node::File(bytes) => {
            let position = file.len() as u64;
            file.extend_from_slice(&bytes);
            let kind = Kind::File { position };
            (Hash::of(&bytes), bytes.len() as u64, kind)
        }
        Node::Claim { position, size } => (Hash::ZERO, size, Kind::File { position }),
        Node::Missing => (Hash::ZERO, 0, Kind::Missing),
        Node::Directory(nodes) => {
            let write = |(name, node): (String, Node)| write(&name, node, file);
            let mut entries: Vec<_> = nodes.into_iter().map(write).collect();
            entries.sort_by(|left, right| left.name.cmp(&right.name));
            let table = toc::encode(entries.iter());
            let position = file.len() as u64;
            let size = table.len() as u64;
            file.extend_from_slice(&table);
            let toc = Extent { position, size };
            (toc::sighash(&entries), size, Kind::Directory { toc })
        }
    };
    let name = name.to_owned();
    Entry {
        name,
        hash,
        size,
        kind,
    }
}
