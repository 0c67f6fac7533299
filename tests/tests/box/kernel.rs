//! The kernel that the box boots has what containers need, by LXC's own judgement.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use boards::artifacts::Artifacts;

#[test]
fn the_kernel_has_what_lxc_asks_for() -> Result<()> {
    let artifacts = Artifacts::shared()?;
    let checked = Command::new("sh")
        .arg(&artifacts.checkconfig)
        .env("CONFIG", &artifacts.kernel_config)
        .output()
        .context("lxc-checkconfig")?;
    let said = plain(&String::from_utf8_lossy(&checked.stdout));
    let options: Vec<_> = said.lines().filter(|line| judges(line)).collect();
    println!("{}", options.join("\n"));
    ensure!(options.len() >= LEAST, "it judged too little:\n{said}");
    for option in options {
        ensure!(option.ends_with(": enabled"), "{option}");
    }
    Ok(())
}

/// Whether the line is about the kernel rather than about this machine.
fn judges(line: &str) -> bool {
    let words = ["enabled", "missing", "required"];
    words.iter().any(|word| line.contains(word)) && !line.contains("clone_children")
}

/// Without the terminal's colours.
fn plain(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\u{1b}') {
        plain.push_str(before);
        rest = after
            .split_once(|c: char| c.is_ascii_alphabetic())
            .map_or("", |(_, rest)| rest);
    }
    plain + rest
}

/// LXC 6.0 judges some thirty options.
const LEAST: usize = 25;
