//! Hashes files of a package on all cores: BLAKE3 is a tree, so its branches are hashed apart.
//!
//! Each worker reads into a buffer of its own that stays in its cache, so memory does not depend on
//! the size of the package. Nothing is mapped: a file that shrinks meanwhile is an error, where a
//! mapped one would end the process.

use std::{
    sync::{Mutex, PoisonError},
    thread,
};

use blake3::{
    Hasher,
    hazmat::{self, ChainingValue, HasherExt, Mode},
};

use crate::{error::Error, hash::Hash, source::ReadAt, toc::Kind, tree::Tree};

/// Verifies the files of `tree` that are at `files`, all within the source, telling `progress` how
/// many bytes are done. Of several that are wrong, the first is named.
pub(crate) fn verify<R: ReadAt>(
    source: &R,
    tree: &Tree,
    files: &[usize],
    progress: impl FnMut(u64) + Send,
) -> Result<(), Error> {
    let sizes = files.iter().map(|file| tree.entry(*file).size);
    let threads = match sizes.fold(0, u64::saturating_add) {
        ..ALONE => 1,
        _ => thread::available_parallelism().map_or(1, |cores| cores.get().min(MOST_THREADS)),
    };
    // No threads to be had is no reason not to verify.
    let pool = rayon_core::ThreadPoolBuilder::new().num_threads(threads);
    let pool = pool.build().ok().filter(|_| threads > 1);
    let threads = pool
        .as_ref()
        .map_or(1, rayon_core::ThreadPool::current_num_threads);
    let work = Work {
        source,
        tree,
        buffers: (0..threads).map(|_| Mutex::default()).collect(),
        progress: Mutex::new((0, progress)),
    };
    match pool {
        Some(pool) => pool.install(|| work.files(files)),
        None => work.files(files),
    }
}

struct Work<'a, R, P> {
    source: &'a R,
    tree: &'a Tree,
    /// One for each thread.
    buffers: Vec<Mutex<Vec<u8>>>,
    /// Bytes done, and who wants to know.
    progress: Mutex<(u64, P)>,
}

/// A file that is being hashed.
#[derive(Clone, Copy)]
struct File {
    /// In the tree.
    index: usize,
    /// Where it begins in the source.
    position: u64,
}

impl<R: ReadAt, P: FnMut(u64) + Send> Work<'_, R, P> {
    fn files(&self, files: &[usize]) -> Result<(), Error> {
        match files {
            [] => Ok(()),
            [file] => self.file(*file),
            _ => {
                let (left, right) = files.split_at(files.len() / 2);
                let (left, right) = self.both(|| self.files(left), || self.files(right));
                left.and(right)
            }
        }
    }

    fn file(&self, index: usize) -> Result<(), Error> {
        let entry = self.tree.entry(index);
        let Kind::File { position } = entry.kind else {
            return Ok(());
        };
        let file = File { index, position };
        let got: Hash = if entry.size <= LEAF {
            self.leaf(file, 0, entry.size, |hasher| hasher.finalize().into())?
        } else {
            let (left, right) = self.children(file, 0, entry.size)?;
            hazmat::merge_subtrees_root(&left, &right, Mode::Hash).into()
        };
        if got == entry.hash {
            return Ok(());
        }
        let path = self.tree.path(index);
        Err(Error::FileHash { path, position })
    }

    /// The branches below the bytes `begin..begin + size` of the file.
    fn children(
        &self,
        file: File,
        begin: u64,
        size: u64,
    ) -> Result<(ChainingValue, ChainingValue), Error> {
        let left = hazmat::left_subtree_len(size);
        let (left, right) = self.both(
            || self.branch(file, begin, left),
            || self.branch(file, begin + left, size - left),
        );
        Ok((left?, right?))
    }

    fn branch(&self, file: File, begin: u64, size: u64) -> Result<ChainingValue, Error> {
        if size <= LEAF {
            return self.leaf(file, begin, size, HasherExt::finalize_non_root);
        }
        let (left, right) = self.children(file, begin, size)?;
        Ok(hazmat::merge_subtrees_non_root(&left, &right, Mode::Hash))
    }

    fn leaf<T>(
        &self,
        file: File,
        begin: u64,
        size: u64,
        finish: impl FnOnce(&Hasher) -> T,
    ) -> Result<T, Error> {
        let thread = rayon_core::current_thread_index().unwrap_or_default();
        let mut buffer = self.buffers[thread]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let length = buffer.len().max(size as usize);
        buffer.resize(length, 0);
        let bytes = &mut buffer[..size as usize];
        // It lies within the source, so this does not overflow.
        let position = file.position + begin;
        self.source
            .read_exact_at(bytes, position)
            .map_err(|error| {
                let path = self.tree.path(file.index);
                Error::io(format!("reading {path} at byte {position}"))(error)
            })?;
        let mut hasher = Hasher::new();
        hasher.set_input_offset(begin).update(bytes);
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        let (done, tell) = &mut *progress;
        *done += size;
        tell(*done);
        Ok(finish(&hasher))
    }

    fn both<T: Send>(
        &self,
        left: impl FnOnce() -> T + Send,
        right: impl FnOnce() -> T + Send,
    ) -> (T, T) {
        match self.buffers.len() {
            1 => (left(), right()),
            _ => rayon_core::join(left, right),
        }
    }
}

/// Bytes that are read at once: enough for the hash's full width, few enough to stay in a core's
/// own cache. A power of two, as branches of the tree are.
const LEAF: u64 = 128 << 10;
/// Packages of fewer bytes are hashed before threads are started.
const ALONE: u64 = 1 << 20;
/// Threads, at most: with more, memory is what they wait for.
const MOST_THREADS: usize = 8;
