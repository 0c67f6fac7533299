//! Packages as text and as JSON.

use std::{collections::BTreeMap, path::Path};

use s9pk::{Archive, Id, Outcome, PublicKey, ReadAt, toc::Kind};
use serde_json::json;

/// A package and its tree, for people.
pub(crate) fn text<R: ReadAt>(archive: &Archive<R>) -> String {
    let mut out = summary(archive);
    for (path, entry) in archive.tree().walk() {
        let kind = kind(&entry.kind);
        line(
            &mut out,
            format_args!("{kind:8}{:>12}  {}  {path}", entry.size, entry.hash),
        );
    }
    out
}

/// A package, its tree and its manifest, for programs.
pub(crate) fn json<R: ReadAt>(archive: &Archive<R>) -> Result<String, serde_json::Error> {
    let entries = archive.tree().walk().map(|(path, entry)| {
        let position = match entry.kind {
            Kind::Missing => None,
            Kind::File { position } => Some(position),
            Kind::Directory { toc } => Some(toc.position),
        };
        json!({
            "path": path,
            "kind": kind(&entry.kind),
            "size": entry.size,
            "hash": entry.hash,
            "position": position,
        })
    });
    let value = json!({
        "length": archive.length(),
        "signer": archive.signer(),
        "fingerprint": archive.signer().fingerprint(),
        "commitment": archive.commitment(),
        "manifest": archive.manifest(),
        "entries": entries.collect::<Vec<_>>(),
        "deviations": deviations(archive),
    });
    serde_json::to_string_pretty(&value).map(|text| text + "\n")
}

/// What was fetched.
pub(crate) fn downloaded(outcome: &Outcome) -> String {
    let mut out = String::new();
    line(
        &mut out,
        format_args!("root:        {}", outcome.commitment.root_sighash),
    );
    line(&mut out, format_args!("length:      {}", outcome.length));
    line(&mut out, format_args!("received:    {}", outcome.received));
    out
}

/// What was checked and found right.
pub(crate) fn verified<R: ReadAt>(archive: &Archive<R>, warnings: &[String]) -> String {
    let mut out = summary(archive);
    for deviation in deviations(archive) {
        line(&mut out, format_args!("let pass:    {deviation}"));
    }
    for warning in warnings {
        line(&mut out, format_args!("warning:     {warning}"));
    }
    line(&mut out, format_args!("every file is as it was signed"));
    out
}

/// What was packed.
pub(crate) fn packed<R: ReadAt>(path: &Path, archive: &Archive<R>, warnings: &[String]) -> String {
    let mut out = summary(archive);
    for warning in warnings {
        line(&mut out, format_args!("warning:     {warning}"));
    }
    line(&mut out, format_args!("packed into {}", path.display()));
    out
}

/// Whose package it is.
pub(crate) fn trusted(id: &Id, signer: &PublicKey) -> String {
    let fingerprint = signer.fingerprint();
    format!("{id} is trusted when signed with the key {fingerprint}\n")
}

/// Where an endorsement is, and what to do with it.
pub(crate) fn endorsed(path: &Path) -> String {
    let path = path.display();
    format!("endorsed in {path}; publish it beside the package\n")
}

/// Where the rest of a filtered package is described.
pub(crate) fn left_out(path: &Path) -> String {
    let path = path.display();
    format!("the package is filtered; what was left out is listed in {path}\n")
}

/// A key that was made.
pub(crate) fn key(key: &PublicKey) -> String {
    format!("public key:  {key}\nfingerprint: {}\n", key.fingerprint())
}

/// What is in one package and not, or otherwise, in the other.
pub(crate) fn difference<R: ReadAt>(old: &Archive<R>, new: &Archive<R>) -> String {
    let entries = |archive: &Archive<R>| -> BTreeMap<String, _> {
        let entries = archive.tree().walk();
        entries
            .map(|(path, entry)| (path, (entry.hash, entry.size, kind(&entry.kind))))
            .collect()
    };
    let (old_entries, mut new_entries) = (entries(old), entries(new));
    let mut out = String::new();
    if old.signer() != new.signer() {
        let signers = (old.signer().fingerprint(), new.signer().fingerprint());
        line(
            &mut out,
            format_args!("~ signer: {} -> {}", signers.0, signers.1),
        );
    }
    for (path, before) in old_entries {
        match new_entries.remove(&path) {
            None => line(
                &mut out,
                format_args!("- {path} ({} {})", before.2, before.1),
            ),
            Some(now) if now != before => {
                let change = format!("{} {} -> {} {}", before.2, before.1, now.2, now.1);
                line(&mut out, format_args!("~ {path} ({change})"));
            }
            Some(_) => {}
        }
    }
    for (path, now) in new_entries {
        line(&mut out, format_args!("+ {path} ({} {})", now.2, now.1));
    }
    out
}

fn summary<R: ReadAt>(archive: &Archive<R>) -> String {
    let manifest = archive.manifest();
    let (id, version, title) = (&manifest.id, &manifest.version, &manifest.title);
    let commitment = archive.commitment();
    let (root, size) = (commitment.root_sighash, commitment.root_max_size);
    let mut out = String::new();
    line(
        &mut out,
        format_args!("package:     {id} {version} ({title})"),
    );
    line(&mut out, format_args!("license:     {}", manifest.license));
    out.push_str(&key(&archive.signer()));
    line(
        &mut out,
        format_args!("root:        {root} (max size {size})"),
    );
    line(
        &mut out,
        format_args!("length:      {} bytes", archive.length()),
    );
    out
}

fn deviations<R: ReadAt>(archive: &Archive<R>) -> Vec<String> {
    let profile = archive.profile();
    let listed = profile.deviations().iter().map(ToString::to_string);
    let more = (profile.more() > 0).then(|| format!("and {} more", profile.more()));
    listed.chain(more).collect()
}

fn kind(kind: &Kind) -> &'static str {
    match kind {
        Kind::Missing => "missing",
        Kind::File { .. } => "file",
        Kind::Directory { .. } => "dir",
    }
}

/// Appends a line. Names come from strangers: what would steer a terminal is escaped.
fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    let text = text.to_string();
    for character in text.chars() {
        match character.is_control() {
            true => out.extend(character.escape_default()),
            false => out.push(character),
        }
    }
    out.push('\n');
}
