//! The reader: opens a package, reads, copies and verifies its files.

use std::io::Write;

use crate::{
    content::{self, Validated},
    error::Error,
    hash::Hash,
    header::Header,
    key::PublicKey,
    layout, limits,
    manifest::Manifest,
    profile::Profile,
    sign::Commitment,
    source::{Extent, ReadAt},
    toc::{Entry, Kind},
    tree::{Loader, Tree},
    verify,
};

/// An open package: header, signature, every table and the manifest are checked. Files are checked
/// when they are read, except through [`extent`](Self::extent).
#[derive(Debug)]
pub struct Archive<R> {
    source: R,
    length: u64,
    header: Header,
    tree: Tree,
    manifest: Manifest,
    profile: Profile,
}

impl<R: ReadAt> Archive<R> {
    /// Opens a package by the strict profile.
    ///
    /// # Errors
    /// Anything wrong with header, signature, tables, places in the file, or the manifest.
    pub fn open(source: R) -> Result<Self, Error> {
        Self::open_with(source, Profile::strict())
    }

    /// Opens a package by the profile given; see [`Profile::lenient`].
    pub fn open_with(source: R, mut profile: Profile) -> Result<Self, Error> {
        let length = source.size().map_err(Error::io("the package's size"))?;
        let begin = length.min(limits::HEADER_SIZE);
        let header = Header::parse(&fetch(&source, 0, begin, "the header")?)?;
        header.verify()?;
        let tree = load(&source, &header, length, &mut profile)?;
        layout::check(&tree, length, &mut profile)?;
        content::check_kinds(&tree, &mut profile)?;
        let json = read(
            &source,
            length,
            &tree,
            content::MANIFEST,
            limits::MANIFEST_SIZE,
        )?;
        let manifest = serde_json::from_slice(&json).map_err(Error::Manifest)?;
        Ok(Self {
            source,
            length,
            header,
            tree,
            manifest,
            profile,
        })
    }

    /// Opens a package that must have the root `wanted`.
    pub fn open_expecting(source: R, wanted: &Hash) -> Result<Self, Error> {
        let archive = Self::open(source)?;
        let got = archive.root_sighash();
        if got != *wanted {
            let wanted = *wanted;
            return Err(Error::WrongRoot { wanted, got });
        }
        Ok(archive)
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The key it is signed with; that is a claim of the file, to be compared with a pinned key.
    pub fn signer(&self) -> PublicKey {
        self.header.signer
    }

    /// What identifies its content.
    pub fn root_sighash(&self) -> Hash {
        self.header.commitment.root_sighash
    }

    /// What is signed.
    pub fn commitment(&self) -> Commitment {
        self.header.commitment
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Directories and files.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The profile it was opened by, with what that let pass.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Where the bytes come from.
    pub fn source(&self) -> &R {
        &self.source
    }

    /// The length of the package's file in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Whether there is a file at `path` that was not left out.
    pub fn has_file(&self, path: &str) -> bool {
        matches!(self.tree.get(path), Some(entry) if matches!(entry.kind, Kind::File { .. }))
    }

    /// The verified content of the file at `path`, if it has at most `cap` bytes.
    pub fn read(&self, path: &str, cap: u64) -> Result<Vec<u8>, Error> {
        read(&self.source, self.length, &self.tree, path, cap)
    }

    /// Where the file at `path` lies, to mount an image from there. Not verified: only
    /// [`verify`](Self::verify) looks at what is there.
    pub fn extent(&self, path: &str) -> Result<Extent, Error> {
        file(&self.tree, path, self.length).map(|(extent, _)| extent)
    }

    /// Writes the file at `path` to `out` and verifies it. `out` holds unverified bytes until this
    /// returns: drop them on an error.
    pub fn copy(&self, path: &str, out: &mut impl Write) -> Result<(), Error> {
        let (extent, entry) = file(&self.tree, path, self.length)?;
        self.source.advise(extent);
        let sink = |bytes: &[u8]| out.write_all(bytes);
        let hash = hash(&self.source, extent, path, sink)?;
        expect(hash, entry, path, extent)
    }

    /// Reads and verifies every file, on all cores, in 1 MiB of memory.
    pub fn verify(&self) -> Result<(), Error> {
        self.verify_with(|_| ())
    }

    /// As [`verify`](Self::verify), telling `progress` how many bytes of files are done.
    pub fn verify_with(&self, progress: impl FnMut(u64) + Send) -> Result<(), Error> {
        let mut files = Vec::new();
        for index in 0..self.tree.len() {
            let entry = self.tree.entry(index);
            if let Kind::File { position } = entry.kind {
                let size = entry.size;
                let extent = Extent { position, size };
                extent.within(self.length, self.tree.path(index))?;
                files.push(index);
            }
        }
        verify::verify(&self.source, &self.tree, &files, progress)
    }

    /// Checks that the content is a whole package for `arch` (`x86_64`, `aarch64`, ...), or for
    /// every architecture it names. Says which files that needs, and what is merely unwise.
    pub fn validate(&self, arch: Option<&str>) -> Result<Validated, Error> {
        content::validate(&self.tree, &self.manifest, arch)
    }
}

fn load(
    source: &impl ReadAt,
    header: &Header,
    length: u64,
    profile: &mut Profile,
) -> Result<Tree, Error> {
    let mut loader = Loader::new(header, length);
    while let Some(toc) = loader.wanted(profile)? {
        let window = fetch(source, toc.position, toc.size, "a table of contents")?;
        loader.feed(&window, profile)?;
    }
    Ok(loader.finish())
}

/// Reads a part whose size was checked.
fn fetch(source: &impl ReadAt, position: u64, size: u64, what: &str) -> Result<Vec<u8>, Error> {
    let mut bytes = vec![0; size as usize];
    source
        .read_exact_at(&mut bytes, position)
        .map_err(Error::io(format!("reading {what} at byte {position}")))?;
    Ok(bytes)
}

fn read(
    source: &impl ReadAt,
    length: u64,
    tree: &Tree,
    path: &str,
    limit: u64,
) -> Result<Vec<u8>, Error> {
    let (extent, entry) = file(tree, path, length)?;
    let Extent { position, size } = extent;
    if size > limit {
        let path = path.to_owned();
        return Err(Error::TooLarge { path, size, limit });
    }
    let bytes = fetch(source, position, size, path)?;
    expect(Hash::of(&bytes), entry, path, extent)?;
    Ok(bytes)
}

/// The file at `path`, if it lies within the package's `length` bytes.
fn file<'t>(tree: &'t Tree, path: &str, length: u64) -> Result<(Extent, &'t Entry), Error> {
    let named = || path.to_owned();
    let entry = tree
        .get(path)
        .ok_or_else(|| Error::Absent { path: named() })?;
    match entry.kind {
        Kind::Missing => Err(Error::LeftOut { path: named() }),
        Kind::Directory { .. } => Err(Error::WrongKind {
            path: named(),
            wanted: "file",
        }),
        Kind::File { position } => {
            let size = entry.size;
            let extent = Extent { position, size };
            extent.within(length, path)?;
            Ok((extent, entry))
        }
    }
}

fn hash(
    source: &impl ReadAt,
    extent: Extent,
    path: &str,
    mut sink: impl FnMut(&[u8]) -> std::io::Result<()>,
) -> Result<Hash, Error> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; extent.size.min(limits::COPY_BUFFER as u64) as usize];
    let mut position = extent.position;
    let mut left = extent.size;
    while left > 0 {
        let part = &mut buffer[..left.min(limits::COPY_BUFFER as u64) as usize];
        source
            .read_exact_at(part, position)
            .map_err(Error::io(format!("reading {path} at byte {position}")))?;
        hasher.update(part);
        sink(part).map_err(Error::io(format!("copying {path}")))?;
        position += part.len() as u64;
        left -= part.len() as u64;
    }
    Ok(hasher.finalize().into())
}

fn expect(got: Hash, entry: &Entry, path: &str, extent: Extent) -> Result<(), Error> {
    if got == entry.hash {
        return Ok(());
    }
    let path = path.to_owned();
    let position = extent.position;
    Err(Error::FileHash { path, position })
}
