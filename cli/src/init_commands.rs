//! `pilot init …`: PID 1 itself. Which binary it is, signing another, and going over to that while
//! the box runs.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use clap::Subcommand;
use serde_json::{Value, json};

use crate::{
    api::{self, ApiError},
    package_commands::{self, PackageError},
};

/// Commands about PID 1.
#[derive(Debug, Subcommand)]
pub(crate) enum InitCommand {
    /// Which binary it is, since when, and what came of the last upgrade
    Status,
    /// Go over to another binary; services and connections go on
    Upgrade {
        /// The signed binary (see `sign`)
        file: PathBuf,
    },
    /// Sign a binary, so that boxes which trust the key go over to it
    Sign {
        /// The binary
        file: PathBuf,
        /// The key to sign with (see `keygen`)
        #[arg(short, long)]
        key: PathBuf,
        /// The file to make
        #[arg(short, long)]
        output: PathBuf,
    },
    /// Make a release key, and show the public half, which roots list
    Keygen {
        /// The file to make
        #[arg(short, long)]
        output: PathBuf,
    },
}

/// Does it, and writes what came of it to standard output.
pub(crate) fn run(command: &InitCommand) -> Result<(), InitError> {
    let text = match command {
        InitCommand::Status => shown(&status()?),
        InitCommand::Upgrade { file } => upgrade(file)?,
        InitCommand::Sign { file, key, output } => sign(file, key, output)?,
        InitCommand::Keygen { output } => {
            let shown = package_commands::keygen(output)?;
            let public = package_commands::key(output)?.public();
            format!(
                "{shown}Boxes whose {} has this line trust it:\n{public}\n",
                release::TRUSTED
            )
        }
    };
    io::stdout()
        .write_all(text.as_bytes())
        .map_err(InitError::file("standard output"))
}

/// Why a command about PID 1 failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InitError {
    /// The API did not do it.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// A file can't be read or written.
    #[error("{}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The key can't be used, or was not made.
    #[error(transparent)]
    Key(#[from] PackageError),
    /// It does not end.
    #[error("nothing has come of it for {} s; `pilot init status` shows how far it is", .0.as_secs())]
    Endless(Duration),
    /// The new binary did not prove itself.
    #[error("the upgrade was taken back, and the old binary runs: {0}")]
    FellBack(String),
    /// The box did not take it.
    #[error("the binary was refused, and nothing was changed: {0}")]
    Refused(String),
    /// It can't be sealed.
    #[error(transparent)]
    Seal(#[from] release::SealError),
    /// What is to be signed could never run.
    #[error("{}: {why}", path.display())]
    Unfit {
        /// Which file.
        path: PathBuf,
        /// Why.
        why: release::Unfit,
    },
}

impl InitError {
    fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |error| Self::File { path, error }
    }
}

fn status() -> Result<Value, ApiError> {
    api::call(Path::new(api::SOCKET), "init.status", &json!({}))
}

fn sign(file: &Path, key: &Path, output: &Path) -> Result<String, InitError> {
    let key = package_commands::key(key)?;
    let bytes = fs::read(file).map_err(InitError::file(file))?;
    // For another machine it may be; whether it fits is the box's to say.
    if let Err(why @ (release::Unfit::Dynamic | release::Unfit::NoProgram)) =
        release::program::check(&bytes)
    {
        let path = file.to_owned();
        return Err(InitError::Unfit { path, why });
    }
    let sealed = release::seal(&bytes, &key)?;
    fs::write(output, sealed).map_err(InitError::file(output))?;
    let mode = fs::metadata(file)
        .map_err(InitError::file(file))?
        .permissions();
    fs::set_permissions(output, mode).map_err(InitError::file(output))?;
    Ok(format!(
        "{} is signed with {}.\n",
        output.display(),
        key.public()
    ))
}

/// Sends it, and waits for what comes of it. Meanwhile PID 1 and the manager are executed anew, so
/// an answer may fail to come now and then.
fn upgrade(file: &Path) -> Result<String, InitError> {
    let bytes = fs::read(file).map_err(InitError::file(file))?;
    let before = number(&status()?["upgrades"]);
    api::upload(Path::new(api::SOCKET), UPLOAD, &bytes)?;
    let began = Instant::now();
    let mut said = String::new();
    loop {
        if let Ok(now) = status()
            && number(&now["upgrades"]) > before
        {
            let upgrade = &now["upgrade"];
            let state = word(&upgrade["state"]);
            if state != said {
                eprintln!("{}", told(upgrade));
                said = state;
            }
            if upgrade["over"] == true {
                return outcome(upgrade);
            }
        }
        if began.elapsed() > PATIENCE {
            return Err(InitError::Endless(PATIENCE));
        }
        std::thread::sleep(ASK_EVERY);
    }
}

fn outcome(upgrade: &Value) -> Result<String, InitError> {
    let why = || word(&upgrade["why"]);
    match word(&upgrade["state"]).as_str() {
        "done" => Ok(NOT_THE_ROOT.to_owned()),
        "refused" => Err(InitError::Refused(why())),
        _ => Err(InitError::FellBack(why())),
    }
}

fn shown(status: &Value) -> String {
    let seconds = |name: &str| number(&status[name]) / 1000;
    let program = match status["program"].as_str() {
        Some(hash) => format!("{hash}, from an upgrade"),
        None => "the file in the root".to_owned(),
    };
    let mut text = format!(
        "PID 1 is Pilotlight {}: {program}\n  for {} s; executed anew {} times, {} of them after a \
         crash\n",
        word(&status["version"]),
        seconds("uptimeMs").saturating_sub(seconds("sinceMs")),
        number(&status["successions"]),
        number(&status["crashes"]),
    );
    if let Some(last) = status["last"].as_str() {
        text += &format!("  the last time: {last}\n");
    }
    if number(&status["upgrades"]) > 0 {
        text += &format!("  last upgrade: {}\n", told(&status["upgrade"]));
    }
    if status["program"].is_string() {
        text += NOT_THE_ROOT;
    }
    text
}

/// An upgrade's state as a sentence.
fn told(upgrade: &Value) -> String {
    let (program, why) = (word(&upgrade["program"]), word(&upgrade["why"]));
    match word(&upgrade["state"]).as_str() {
        "checking" => "The binary is verified and tried.".to_owned(),
        "refused" => format!("The binary was refused: {why}"),
        "unconfirmed" => format!("{program} is PID 1 and has to prove itself."),
        "fell back" => format!("{program} was taken back: {why}"),
        "replacing" => {
            let left = number(&upgrade["left"]);
            format!("{program} is confirmed; {left} roles still run the old binary.")
        }
        "done" => format!("{program} is PID 1 and every role."),
        other => other.to_owned(),
    }
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

/// Text without what could play tricks with the terminal.
fn word(value: &Value) -> String {
    let text = value.as_str().unwrap_or_default().chars();
    text.filter(|c| !c.is_control()).collect()
}

const UPLOAD: &str = "/upload/init";
const NOT_THE_ROOT: &str =
    "The root was not changed: when the box starts again, it begins with the binary in its root.\n";
const ASK_EVERY: Duration = Duration::from_millis(300);
/// Its trial and its probation have limits of half a minute each, and so has each role.
const PATIENCE: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_told_in_sentences() {
        let status = json!({
            "version": "0.1.0", "program": "abc", "sinceMs": 5000, "uptimeMs": 65_000,
            "successions": 2, "crashes": 1, "last": "thread net of PID 1 got SIGSEGV",
            "upgrades": 1,
            "upgrade": { "state": "fell back", "program": "def", "why": "it \u{1b}hung" },
        });
        let text = shown(&status);
        for said in [
            "abc, from an upgrade",
            "for 60 s; executed anew 2 times, 1 of them",
            "def was taken back: it hung",
            "The root was not changed",
        ] {
            assert!(text.contains(said), "{said:?} is not in\n{text}");
        }
        assert!(
            !shown(&json!({})).contains("root was"),
            "nothing was upgraded"
        );
    }

    #[test]
    fn what_is_signed_is_a_static_program() {
        let folder = std::env::temp_dir().join(format!("pilot-sign-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (key, file) = (folder.join("key.pem"), folder.join("script"));
        package_commands::keygen(&key).unwrap();
        fs::write(&file, "#!/bin/sh\n").unwrap();
        let signed = sign(&file, &key, &folder.join("signed"));
        assert!(matches!(signed, Err(InitError::Unfit { .. })), "{signed:?}");
        fs::remove_dir_all(folder).unwrap();
    }
}
