//! Every sample gets the verdict that its MANIFEST asks for. The table is printed, also on success
//! (`--nocapture`): file, expected, got.

use std::{fs, path::PathBuf};

use s9pk::{Archive, Profile};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    AtOpen,
    AtValidate,
    AtVerify,
    Accept,
}
use Verdict::{Accept, AtOpen, AtValidate, AtVerify};

#[test]
fn every_sample_gets_its_verdict() {
    let mut wrong = Vec::new();
    for (name, expected) in VERDICTS {
        let (got, why) = judge(name, Profile::strict());
        println!("{name:40} expected {expected:?}, got {got:?} {why}");
        // Refusing earlier than asked is as good.
        let fits = if expected == Accept {
            got == Accept
        } else {
            got <= expected
        };
        if !fits {
            wrong.push(format!("{name}: expected {expected:?}, got {got:?} {why}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What the format's own reader does not mind is left to us, but for files that are plainly bad.
#[test]
fn the_verdicts_here_are_those_of_the_manifest() {
    let manifest = fs::read_to_string(directory().join("MANIFEST.md")).unwrap();
    let rows: Vec<Vec<&str>> = manifest
        .lines()
        .filter_map(|line| line.strip_prefix("| "))
        .map(|line| line.split(" | ").map(str::trim).collect())
        .collect();
    for (name, verdict) in VERDICTS {
        let file = format!("{name}.s9pk");
        let row = rows.iter().find(|row| row[0] == file);
        let wanted = row.unwrap_or_else(|| panic!("{file} is not in MANIFEST.md"))[4];
        let fits = match wanted {
            "accept" => verdict == Accept,
            "refuse at validate" => verdict == AtValidate,
            "refuse at full verify" => verdict == AtVerify,
            "refuse at open" | "**must refuse cleanly**" => verdict == AtOpen,
            "strict reader should refuse" => verdict != Accept,
            "either is defensible" => true,
            other => panic!("{file}: what is {other:?}?"),
        };
        assert!(
            fits,
            "{file}: MANIFEST.md wants {wanted:?}, here is {verdict:?}"
        );
    }
}

#[test]
fn no_sample_is_forgotten() {
    let listed: Vec<_> = VERDICTS.iter().map(|(name, _)| *name).collect();
    for entry in fs::read_dir(directory()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if let Some(name) = name.strip_suffix(".s9pk") {
            assert!(listed.contains(&name), "{name} has no verdict here");
        }
    }
}

#[test]
fn lenient_lets_pass_what_the_formats_own_reader_takes() {
    for name in LENIENT {
        let (strict, _) = judge(name, Profile::strict());
        let (lenient, why) = judge(name, Profile::lenient());
        assert_eq!((strict, lenient), (AtOpen, Accept), "{name}: {why}");
    }
}

/// How far a sample gets, and why not further.
fn judge(name: &str, profile: Profile) -> (Verdict, String) {
    let bytes = fs::read(directory().join(format!("{name}.s9pk"))).unwrap();
    let archive = match Archive::open_with(bytes, profile) {
        Ok(archive) => archive,
        Err(error) => return (AtOpen, error.to_string()),
    };
    let arch = name.ends_with(".x86_64").then_some("x86_64");
    if let Err(error) = archive.validate(arch) {
        return (AtValidate, error.to_string());
    }
    match archive.verify() {
        Ok(()) => (Accept, String::new()),
        Err(error) => (AtVerify, error.to_string()),
    }
}

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

const VERDICTS: [(&str, Verdict); 59] = [
    ("minimal", Accept),
    ("two-arch", Accept),
    ("two-arch.x86_64", Accept),
    ("bad-content-javascript-bit", AtVerify),
    ("bad-content-license-bit", AtVerify),
    ("bad-content-manifest-bit", AtOpen),
    ("bad-magic", AtOpen),
    ("bad-magic-v1", AtOpen),
    ("bad-maxsize-bit", AtOpen),
    ("bad-sighash-bit", AtOpen),
    ("bad-signature-r-bit", AtOpen),
    ("bad-signature-s-bit", AtOpen),
    ("bad-signed-sighash-only", AtOpen),
    ("bad-toc-count-bit", AtOpen),
    ("bad-toc-entrysize-bit", AtOpen),
    ("bad-toc-name-bit", AtOpen),
    ("bad-toc-position-eof", AtOpen),
    ("bad-toc-size-gt-maxsize", AtOpen),
    ("bad-toc-size-short", AtOpen),
    ("bad-version-3", AtOpen),
    ("empty", AtOpen),
    ("ok-deep-64", AtOpen),
    ("ok-duplicate-name-last-wins", AtOpen),
    ("ok-extra-file", Accept),
    ("ok-manifest-minimal-fields", Accept),
    ("ok-manifest-unknown-field", Accept),
    ("ok-no-instructions", Accept),
    ("ok-reverse-order", Accept),
    ("ok-shared-position", AtOpen),
    ("ok-toc-trailing-bytes", AtOpen),
    ("ok-trailing-garbage", AtOpen),
    ("ok-zero-length-file", Accept),
    ("signed-entrysize-2e40", AtOpen),
    ("signed-entrysize-plus1", AtOpen),
    ("signed-icon-not-image", AtValidate),
    ("signed-image-missing", AtValidate),
    ("signed-license-entrysize-2e40", AtVerify),
    ("signed-manifest-bad-id", AtOpen),
    ("signed-manifest-bad-json", AtOpen),
    ("signed-manifest-bad-version", AtOpen),
    ("signed-manifest-missing-field", AtOpen),
    ("signed-manifest-missing-type", AtOpen),
    ("signed-maxsize-2mib", AtOpen),
    ("signed-maxsize-too-small", AtOpen),
    ("signed-name-empty", AtOpen),
    ("signed-name-nonutf8", AtOpen),
    ("signed-name-slash", AtOpen),
    ("signed-no-icon", AtValidate),
    ("signed-no-javascript", AtValidate),
    ("signed-no-license", AtValidate),
    ("signed-no-manifest", AtOpen),
    ("signed-varint-11-bytes", AtOpen),
    ("swap-content-positions", Accept),
    ("trunc-header", AtOpen),
    ("trunc-last-byte", AtOpen),
    ("trunc-magic", AtOpen),
    ("trunc-toc", AtOpen),
    ("typeconf-dir", Accept),
    ("typeconf-file", Accept),
];

/// Forms that the format's own reader takes: refused at open, but not by a lenient reader.
const LENIENT: [&str; 7] = [
    "ok-deep-64",
    "ok-duplicate-name-last-wins",
    "ok-shared-position",
    "ok-toc-trailing-bytes",
    "ok-trailing-garbage",
    "signed-name-empty",
    "signed-name-slash",
];
