//! No input, however made, panics, or costs more than 16 MiB of memory beyond its own size.
//!
//! Every allocation is counted, so one test runs at a time. An allocation of a size that a package
//! merely claims would be counted too, or end the test at once.

mod crafted;

use std::{
    fs,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crafted::{Node, manifest, package};
use peak_alloc::PeakAlloc;
use s9pk::{Archive, Manifest, Profile, VersionRange, limits};

#[test]
fn samples_with_any_byte_changed_or_cut_anywhere_cost_little() {
    let _alone = alone();
    for (index, (name, sample)) in samples().into_iter().enumerate() {
        // The smallest is tried whole. Of the others, which are like it, each in other places.
        let (first, step) = match name.as_str() {
            "minimal" => (0, 1),
            _ => (index % STEP, STEP),
        };
        for at in (first..sample.len()).step_by(step) {
            let mut changed = sample.clone();
            changed[at] ^= 1 << (at % 8);
            read_all(&format!("{name}, byte {at} changed"), &changed);
            read_all(&format!("{name}, cut at {at}"), &sample[..at]);
        }
    }
}

#[test]
#[ignore = "some minutes"]
fn samples_with_every_byte_changed_in_every_bit_cost_little() {
    let _alone = alone();
    for (name, sample) in samples() {
        for at in 0..sample.len() {
            for bit in 0..8 {
                let mut changed = sample.clone();
                changed[at] ^= 1 << bit;
                read_all(&format!("{name}, bit {bit} of byte {at} changed"), &changed);
            }
            read_all(&format!("{name}, cut at {at}"), &sample[..at]);
        }
    }
}

#[test]
fn tables_of_the_smallest_entries_cost_little() {
    let _alone = alone();
    // Most entries in the fewest bytes: names of three letters, to tell twenty thousand apart.
    let least = 45;
    let name = |index: u64| {
        let digit = |value: u64| char::from(b'0' + (value % 40) as u8);
        String::from_iter([index / 1600, index / 40, index].map(digit))
    };
    let filled = |size: u64| {
        let nodes = (0..(size - 3) / least).map(|index| (name(index), Node::Missing));
        Node::Directory(nodes.collect())
    };
    // However the tables are cut: what holds their entries grows by steps that depend on it.
    for first in [1 << 20, 1 << 19, 1 << 18, 600 << 10] {
        let mut left = limits::ALL_TOCS_SIZE - 1000;
        let sizes = [first, 1 << 20, 1 << 20, 1 << 20, 1 << 20].map(|size: u64| {
            let size = size.min(left);
            left -= size;
            size
        });
        let sizes = sizes.into_iter().filter(|size| *size > 3);
        let tables = sizes
            .zip('a'..)
            .map(|(size, name)| (name.to_string(), filled(size)));
        let file = package(tables.chain([manifest()]).collect());
        assert!(Archive::open(&file[..]).is_ok());
        read_all("tables of the smallest entries", &file);
    }
}

#[test]
fn many_files_in_deep_directories_with_long_names_cost_little() {
    let _alone = alone();
    let file = |index| {
        let empty = Node::File(Vec::new());
        (format!("{index:05}"), empty)
    };
    let mut inner = Node::Directory((0..18_000).map(file).collect());
    let name = "n".repeat(limits::NAME_SIZE);
    for _ in 1..limits::DEPTH {
        inner = Node::Directory(vec![(name.clone(), inner)]);
    }
    let file = package(vec![(name, inner), manifest()]);
    assert!(Archive::open(&file[..]).unwrap().verify().is_ok());
    read_all("many files in deep directories", &file);
}

#[test]
fn deep_and_long_names_that_overlap_cost_little() {
    let _alone = alone();
    let name = "n".repeat(limits::NAME_SIZE);
    let claims = (0..2 * limits::DEVIATIONS).map(|index| {
        let claim = Node::Claim {
            position: 0,
            size: 155,
        };
        (
            format!("{index:03}{}", "c".repeat(limits::NAME_SIZE - 3)),
            claim,
        )
    });
    let mut inner = Node::Directory(claims.collect());
    for _ in 1..limits::LENIENT_DEPTH {
        inner = Node::Directory(vec![(name.clone(), inner)]);
    }
    let file = package(vec![(name, inner), manifest()]);
    assert!(Archive::open_with(&file[..], Profile::lenient()).is_ok());
    read_all("deep, long and overlapping", &file);
}

#[test]
fn manifests_of_many_small_things_cost_little() {
    let _alone = alone();
    let whole = include_str!("../fuzz/seeds/manifest/full.json");
    for (field, with) in [
        (r#""satisfies":["#, r#""1:0","#),
        (r#""en_US":"short""#, r#","":"""#),
        (r#""volumes":["main""#, r#","main""#),
        (r#""plugins":["url-v0""#, r#","url-v0""#),
        (r#""arch":["x86_64""#, r#","x""#),
        (r#""canMigrateFrom":""#, "* "),
        (r#""canMigrateFrom":""#, "(*)||"),
        (r#""canMigrateFrom":""#, "!"),
        (r#""canMigrateTo":""#, "("),
        (r#""version":"#, "\"1.0-a.a\","),
        (r#""source":"packed""#, r#","x":0"#),
        (r#""device":["#, r#"{"description":"","class":""},"#),
        (r#""unknown":1"#, r#","u":[[[[]]]]"#),
    ] {
        assert!(whole.contains(field), "{field}");
        let room = limits::MANIFEST_SIZE as usize - whole.len();
        let many = format!("{field}{}", with.repeat(room / with.len()));
        let json = whole.replacen(field, &many, 1);
        parse(field, &json);
    }
    let room = limits::MANIFEST_SIZE as usize - whole.len();
    for (open, one, close) in [("[", "0,", "0]"), ("[", "[],", "0]"), ("[", "{},", "0]")] {
        let value = format!("{open}{}{close}", one.repeat(room / one.len() - 4));
        let build = format!(r#""source":{{"dockerBuild":{value}}}"#);
        let json = whole.replacen(r#""source":"packed""#, &build, 1);
        assert!(serde_json::from_str::<Manifest>(&json).is_ok(), "{one}");
        parse(one, &json);
    }
    for part in ["a", "[a-z]", "(a)", "a|", "a{9}"] {
        let pattern = part.repeat(room / part.len() - 40);
        let filter = format!(r#""class":"display","product":"{pattern}""#);
        parse(part, &whole.replacen(r#""class":"display""#, &filter, 1));
    }
    for part in ["1.", "1.0-a."] {
        let version = format!("{}1", part.repeat(room / part.len() / 2));
        let version = version.replace("1.0-a.1", "a.a");
        parse(
            part,
            &whole.replacen("#knots:26.1.0:2", &format!("1.0-{version}:0"), 1),
        );
    }
}

#[test]
fn ranges_of_many_parts_cost_little() {
    let _alone = alone();
    let group = format!("({})", "* ".repeat(500));
    let long = vec![group; 512].join(" ");
    let refused = bounded("a range of groups", long.len(), || {
        long.parse::<VersionRange>()
    });
    assert!(refused.is_err());
}

fn parse(what: &str, json: &str) {
    let size = json.len();
    let parsed = bounded(what, size, || serde_json::from_str::<Manifest>(json));
    if let Err(error) = parsed {
        assert!(!error.is_io(), "{what}");
    }
}

/// Everything a reader does with a file of a stranger.
fn read_all(what: &str, file: &[u8]) {
    for profile in [Profile::strict(), Profile::lenient()] {
        bounded(what, file.len(), || {
            let Ok(archive) = Archive::open_with(file, profile) else {
                return;
            };
            let _ = archive.verify();
            let _ = archive.validate(Some("x86_64"));
            let _ = archive.validate(None);
            let small = archive.tree().walk().take(SOME);
            for (path, _) in small {
                let _ = archive.read(&path, limits::SMALL_FILE_SIZE);
            }
        });
    }
}

/// Held by a test while it runs: what others allocate would count, too.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What `body` returns; a panic when it holds more than [`MEMORY`] bytes beyond `content`.
fn bounded<T>(what: &str, content: usize, body: impl FnOnce() -> T) -> T {
    ALLOCATOR.reset_peak_usage();
    let before = ALLOCATOR.current_usage();
    let result = body();
    let held = ALLOCATOR.peak_usage().saturating_sub(before);
    assert!(
        held <= content + MEMORY,
        "{what}: {content} bytes cost {held}"
    );
    result
}

fn samples() -> Vec<(String, Vec<u8>)> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let files = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let packages = files.filter(|path| path.extension().is_some_and(|kind| kind == "s9pk"));
    let read = |path: PathBuf| {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        (name, fs::read(&path).unwrap())
    };
    let mut samples: Vec<_> = packages.map(read).collect();
    samples.sort();
    assert!(samples.len() > 50);
    samples
}

/// Bytes beyond its own size that no input may cost, at most: what the crate promises.
const MEMORY: usize = 16 << 20;
/// From one place in a sample to the next: the samples together try each place of a table.
const STEP: usize = 29;
/// Entries of a package that are read: all of a real one's.
const SOME: usize = 1000;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;
