//! A file that wants to be PID 1: copied into a memfd of PID 1's and sealed there, verified as it
//! then is, and tried as a child with a copy of the hand-over. PID 1 executes that very memfd.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _},
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    time::Duration,
};

use rustix::fs::SealFlags;
use supervise::spawn::{Command, Schedule};

use super::{HelperError, answer, tool};
use crate::{
    handover::{Handover, layout, records},
    inherited,
    pid1::Rehearsal,
    trial,
};

/// On which the helper finds the memfd to fill.
pub const CANDIDATE_FD: i32 = 5;
/// On which it finds PID 1's hand-over.
pub const HANDOVER_FD: i32 = 6;
/// What keeps the memfd as it was verified.
pub const SEALS: SealFlags = SealFlags::SEAL
    .union(SealFlags::SHRINK)
    .union(SealFlags::GROW)
    .union(SealFlags::WRITE);

/// Why a file may not be PID 1, as a sentence.
#[derive(Debug, thiserror::Error)]
pub enum Unacceptable {
    /// It is not signed by whom it should be.
    #[error("{0}")]
    Seal(#[from] release::SealError),
    /// It can't run here.
    #[error("{0}")]
    Unfit(#[from] release::Unfit),
    /// It is longer than anything that could be one.
    #[error("it is longer than {} MiB", release::MAX_PROGRAM >> 20)]
    TooLong,
    /// It is from before the hand-over was what it is now, or from after.
    #[error("it takes over from versions {} to {} of the hand-over, and this box writes {} to {}",
        .its.0, .its.1, records::VERSIONS.0, records::VERSIONS.1)]
    Version {
        /// What it takes.
        its: (u16, u16),
    },
    /// It did something else than to answer.
    #[error("it failed its trial: {0}")]
    Trial(Box<HelperError>),
    /// Its answer makes no sense.
    #[error("it failed its trial: it said {0:?}")]
    Answer(String),
    /// It would lose something.
    #[error("it failed its trial: it would take over {its} units, and there are {ours}")]
    Loses {
        /// What it understood.
        its: usize,
        /// What is there.
        ours: usize,
    },
    /// The hand-over can't be read, even by the binary that runs.
    #[error("what would be handed over can't be read: {0}")]
    Handover(String),
}

/// See [`super::run`].
pub(super) fn examine() -> Result<answer::Candidate, HelperError> {
    let candidate = inherited::take(CANDIDATE_FD);
    let handover = inherited::take(HANDOVER_FD);
    fill(&candidate).map_err(HelperError::file("the file", "copied"))??;
    let bytes = read(&candidate).map_err(HelperError::file("the copy", "read"))?;
    let list = match std::fs::read_to_string(release::TRUSTED) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
        list => list.map_err(HelperError::file(release::TRUSTED, "read"))?,
    };
    let sealed = verify(&bytes, &list)?;
    let signer = sealed.signer.to_string();
    let hash = blake3::hash(&bytes).to_string();
    let tried = try_out(&candidate, &handover)?;
    Ok(answer::Candidate {
        hash,
        signer,
        version: tried.version,
    })
}

fn verify<'a>(bytes: &'a [u8], list: &str) -> Result<release::Sealed<'a>, Unacceptable> {
    let sealed = release::open(bytes, &release::keys(list)?)?;
    release::program::check(sealed.program)?;
    Ok(sealed)
}

/// Copies standard input into the memfd and seals it: from here on it stays what it is.
fn fill(candidate: &OwnedFd) -> io::Result<Result<(), Unacceptable>> {
    let mut input = File::open("/proc/self/fd/0")
        .or_else(|_| -> io::Result<File> { Ok(rustix::io::dup(rustix::stdio::stdin())?.into()) })?;
    // A pipe has no beginning to go back to, and is there already.
    let _ = input.rewind();
    let mut copy = File::from(candidate.try_clone()?);
    let copied = io::copy(&mut input.take(release::MAX_PROGRAM + 1), &mut copy)?;
    rustix::fs::fcntl_add_seals(candidate, SEALS)?;
    Ok(match copied > release::MAX_PROGRAM {
        true => Err(Unacceptable::TooLong),
        false => Ok(()),
    })
}

fn read(candidate: &OwnedFd) -> io::Result<Vec<u8>> {
    let mut file = File::from(candidate.try_clone()?);
    file.rewind()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Runs it as a child that says what it would take over.
fn try_out(candidate: &OwnedFd, handover: &OwnedFd) -> Result<answer::Trial, HelperError> {
    let (copy, ours) = whole_copy(handover)?;
    // Above all numbers that the child is given on purpose.
    let program = rustix::io::fcntl_dupfd_cloexec(candidate, ABOVE_TARGETS)
        .map_err(|e| HelperError::file("the copy", "opened")(e.into()))?;
    let path = format!("/proc/self/fd/{}", program.as_raw_fd());
    let command = Command {
        program: &path,
        args: vec!["init".to_owned(), trial::ROLE.to_owned()],
        env: Vec::new(),
        fds: vec![(copy.memfd().as_fd(), layout::FD)],
        user: None,
        cgroup: None,
        controlling_tty: false,
        oom_score_adj: 0,
        schedule: Schedule::default(),
        no_new_privs: true,
    };
    let output = tool::run_to_end(command, "the new init", PATIENCE)
        .map_err(|e| Unacceptable::Trial(Box::new(e)))?;
    let line = output.lines().next_back().unwrap_or_default();
    let tried: answer::Trial = serde_json::from_str(line)
        .map_err(|_| Unacceptable::Answer(line.chars().take(MOST_SAID).collect()))?;
    judge(&tried, &ours)?;
    Ok(tried)
}

/// Whether it would take over all there is, by what it says.
fn judge(tried: &answer::Trial, ours: &Rehearsal) -> Result<(), Unacceptable> {
    let its = tried.handover;
    if its.1 < records::VERSIONS.0 || its.0 > records::VERSIONS.1 {
        return Err(Unacceptable::Version { its });
    }
    if tried.units != ours.units {
        let (its, ours) = (tried.units.len(), ours.units.len());
        return Err(Unacceptable::Loses { its, ours });
    }
    Ok(())
}

/// A copy of the hand-over that makes sense: PID 1 writes it all the time.
fn whole_copy(handover: &OwnedFd) -> Result<(Handover, Rehearsal), HelperError> {
    let mut last = String::new();
    for _ in 0..COPIES {
        let copy = Handover::copy_of(handover)
            .map_err(|e| HelperError::file("the hand-over", "copied")(e.into()))?;
        match Rehearsal::of(&copy) {
            Ok(rehearsal) => return Ok((copy, rehearsal)),
            Err(why) => last = why,
        }
    }
    Err(Unacceptable::Handover(last).into())
}

/// See `ANSWER_FD` and others in `pid1`: children are given single digits, and the hand-over's.
const ABOVE_TARGETS: i32 = 128;
/// A trial takes some hundredths of a second; one that is not over by then hangs.
const PATIENCE: Duration = Duration::from_secs(30);
const COPIES: u32 = 5;
const MOST_SAID: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_the_right_seal_is_refused_before_anything_of_it_is_looked_at() {
        let key = s9pk_key(1);
        let trusted = format!("{}\n", key.public());
        let sealed = release::seal(b"no program", &key).unwrap();
        for (bytes, list, said) in [
            (&b"no program"[..], &*trusted, "not signed"),
            (&sealed, "", "trusts no release key"),
            (&sealed, "rubbish", "no key"),
            (&sealed, &trusted, "no ELF program"),
        ] {
            let why = verify(bytes, list).unwrap_err().to_string();
            assert!(why.contains(said), "{why}");
        }
        let stranger = format!("{}\n", s9pk_key(2).public());
        let why = verify(&sealed, &stranger).unwrap_err().to_string();
        assert!(why.contains("does not trust"), "{why}");
    }

    #[test]
    fn a_binary_takes_over_all_there_is_or_is_refused() {
        let units = vec!["front".parse().unwrap(), "manager".parse().unwrap()];
        let ours = Rehearsal {
            units: units.clone(),
        };
        let tried = |handover, units: &[_]| answer::Trial {
            version: "1.0.0".to_owned(),
            handover,
            units: units.to_vec(),
        };
        let now = records::VERSIONS;
        assert!(judge(&tried(now, &units), &ours).is_ok());
        assert!(judge(&tried((now.1, now.1 + 3), &units), &ours).is_ok());
        for (said, tried) in [
            ("versions 0 to 0", tried((0, 0), &units)),
            ("and this box writes", tried((now.1 + 1, now.1 + 1), &units)),
            ("take over 1 units", tried(now, &units[..1])),
        ] {
            let why = judge(&tried, &ours).unwrap_err().to_string();
            assert!(why.contains(said), "{why}");
        }
    }

    fn s9pk_key(seed: u8) -> s9pk::Key {
        s9pk::Key::from_seed(&[seed; 32])
    }
}
