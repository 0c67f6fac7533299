//! Runs the programs that others wrote, and says what went wrong in a sentence.

use std::process::{Command, Output};

use anyhow::{Context, Result, bail};

/// Runs a command to its end and gives what it printed.
///
/// # Errors
/// When it can't be started, or ends with anything but success; its last words are in the message.
pub fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .with_context(|| format!("`{name}` can't be started"))?;
    if !output.status.success() {
        bail!(
            "`{}` ended with {}: {}",
            line(command),
            output.status,
            last_words(&output)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a command for its effect.
///
/// # Errors
/// As [`output`].
pub fn run(command: &mut Command) -> Result<()> {
    output(command).map(drop)
}

/// The command as a person would type it, cut to a readable length.
fn line(command: &Command) -> String {
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect();
    let line = words.join(" ");
    match line.char_indices().nth(MOST_SHOWN) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}

fn last_words(output: &Output) -> String {
    let text = if output.stderr.is_empty() {
        &output.stdout
    } else {
        &output.stderr
    };
    let text = String::from_utf8_lossy(text);
    let lines: Vec<_> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
}

/// Characters of a command line in an error: some of ours name hundreds of files.
const MOST_SHOWN: usize = 200;
/// Lines of a tool's complaint in an error: the cause is nearly always among the last few.
const LAST_LINES: usize = 12;

#[cfg(test)]
mod tests {
    use std::process::Command;

    #[test]
    fn a_failure_carries_the_last_words() {
        let error =
            super::run(Command::new("sh").args(["-c", "echo why >&2; exit 3"])).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("why") && text.contains('3'), "{text}");
    }
}
