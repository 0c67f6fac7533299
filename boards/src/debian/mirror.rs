//! Which Debian mirror to ask: the machine's own apt knows, so no host is named here.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::tool;

/// The lines of a `sources.list` for Debian 13: from `mirror`, or the mirrors of the machine.
///
/// # Errors
/// When the machine's apt names no mirror of Debian's, or its keyring is not installed.
pub(super) fn sources(mirror: Option<&str>) -> Result<String> {
    if !Path::new(KEYRING).exists() {
        bail!("{KEYRING} is missing: install debian-archive-keyring");
    }
    let archives = match mirror {
        Some(url) => vec![(url.trim_end_matches('/').to_owned(), String::new())],
        None => archives(&targets()?, &codename()?),
    };
    if archives.is_empty() {
        bail!("this machine's apt names no Debian mirror: give one with --mirror URL");
    }
    let lines = archives
        .iter()
        .map(|(url, suffix)| format!("deb [signed-by={KEYRING}] {url} {RELEASE}{suffix} main\n"));
    Ok(lines.collect())
}

/// The archives among apt's targets that serve `codename` itself or a pocket of it, as (address,
/// suffix of the suite).
fn archives(targets: &str, codename: &str) -> Vec<(String, String)> {
    let mut archives: Vec<(String, String)> = Vec::new();
    for line in targets.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        let &[url, suite, origin, "main"] = &words[..] else {
            continue;
        };
        let Some(pocket) = suite.strip_prefix(codename) else {
            continue;
        };
        // Apt leaves the word as it is when it has no lists yet.
        let debian = origin == "Debian" || origin == "$(ORIGIN)";
        let known = archives.iter().any(|(_, other)| other == pocket);
        if debian && !known && ["", "-updates", "-security"].contains(&pocket) {
            archives.push((url.trim_end_matches('/').to_owned(), pocket.to_owned()));
        }
    }
    archives
}

fn targets() -> Result<String> {
    tool::output(Command::new("apt-get").args([
        "indextargets",
        "Created-By: Packages",
        "--format",
        "$(REPO_URI) $(RELEASE) $(ORIGIN) $(COMPONENT)",
    ]))
}

fn codename() -> Result<String> {
    let release = fs::read_to_string("/etc/os-release")?;
    let name = release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    let Some(name) = name else {
        bail!("/etc/os-release names no release: give a Debian mirror with --mirror URL");
    };
    Ok(name.trim_matches('"').to_owned())
}

/// The release that the root is made of.
const RELEASE: &str = "trixie";
/// Debian 12's keyring already has Debian 13's keys.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

#[cfg(test)]
mod tests {
    use super::archives;

    #[test]
    fn debian_and_its_pockets_are_taken_and_others_left() {
        let targets = "http://mirror.test/debian/ bookworm Debian main\n\
            http://mirror.test/debian/ bookworm Debian contrib\n\
            http://mirror.test/debian/ bookworm-updates Debian main\n\
            http://mirror.test/debian-security/ bookworm-security Debian main\n\
            http://other.test/ bookworm Other main\n";
        let found = archives(targets, "bookworm");
        let want = [
            ("http://mirror.test/debian", ""),
            ("http://mirror.test/debian", "-updates"),
            ("http://mirror.test/debian-security", "-security"),
        ];
        assert_eq!(
            found,
            want.map(|(url, pocket)| (url.to_owned(), pocket.to_owned()))
        );
    }

    #[test]
    fn a_machine_without_lists_is_understood() {
        let found = archives(
            "http://mirror.test/debian/ bookworm $(ORIGIN) main",
            "bookworm",
        );
        assert_eq!(found.len(), 1);
    }
}
