//! What is told of a crash of PID 1: written by the crash handler into the hand-over, word by word
//! as it may neither allocate nor format, and read by the successor.

use std::{fmt, time::Duration};

/// One crash, or one re-execution that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epitaph {
    /// When, since the kernel started.
    pub at: Duration,
    /// Why.
    pub cause: Cause,
    /// The address whose use was the fault, where the signal has one.
    pub address: u64,
    /// The thread's id.
    pub thread: u32,
    /// The thread's name.
    pub name: String,
    /// The instruction at which it was.
    pub instruction: u64,
    /// What on its stack looks like return addresses, innermost first, as offsets into the binary.
    pub trace: Vec<u64>,
}

/// Why PID 1 was executed anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Something called `exit`.
    Exit,
    /// `main` panicked again and again.
    Panics,
    /// The guard found a thread of PID 1 that does nothing any more.
    Stuck,
    /// This signal, with its `si_code`.
    Signal(i32, i32),
    /// A new binary did not prove itself in time.
    Unconfirmed,
    /// A new binary could not read what was handed over to it.
    Unreadable,
    /// The owner wants another binary.
    Upgrade,
}

impl Cause {
    /// Whether it counts against the budget.
    pub fn is_failure(self) -> bool {
        !matches!(self, Self::Unconfirmed | Self::Unreadable | Self::Upgrade)
    }
}

/// An epitaph as it lies in the hand-over: native 64-bit words, as reader and writer are the same
/// machine.
pub type Words = [u64; WORDS];

impl Epitaph {
    /// Reads one. Nothing is believed: a text that is none is shown as far as it is, and none of
    /// the numbers is used but for showing.
    pub fn from_words(words: &Words) -> Option<Self> {
        let cause = match (words[CAUSE], words[SIGNAL]) {
            (CAUSE_SIGNAL, signal) => Cause::Signal(signal as i32, words[CODE] as i32),
            (CAUSE_EXIT, _) => Cause::Exit,
            (CAUSE_PANICS, _) => Cause::Panics,
            (CAUSE_STUCK, _) => Cause::Stuck,
            (CAUSE_UNCONFIRMED, _) => Cause::Unconfirmed,
            (CAUSE_UNREADABLE, _) => Cause::Unreadable,
            (CAUSE_UPGRADE, _) => Cause::Upgrade,
            _ => return None,
        };
        let name: Vec<u8> = [words[NAME], words[NAME + 1]]
            .iter()
            .flat_map(|word| word.to_ne_bytes())
            .take_while(|byte| *byte != 0)
            .collect();
        let depth = usize::try_from(words[DEPTH]).unwrap_or(0).min(MAX_TRACE);
        Some(Self {
            at: Duration::from_millis(words[AT]),
            cause,
            address: words[ADDRESS],
            thread: words[THREAD] as u32,
            name: String::from_utf8_lossy(&name).into_owned(),
            instruction: words[INSTRUCTION],
            trace: words[TRACE..TRACE + depth].to_vec(),
        })
    }
}

impl fmt::Display for Epitaph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cause {
            Cause::Exit => return f.write_str("PID 1 called exit"),
            Cause::Unconfirmed => {
                return f.write_str("PID 1 did not do all its work in the time that it had");
            }
            Cause::Unreadable => {
                return f.write_str("PID 1 could not read what was handed over to it");
            }
            Cause::Upgrade => return f.write_str("PID 1 went over to another binary"),
            Cause::Panics => write!(f, "thread {} of PID 1 panicked again and again", self.name)?,
            Cause::Stuck => write!(f, "thread {} of PID 1 did nothing any more", self.name)?,
            Cause::Signal(signal, code) => write!(
                f,
                "thread {} of PID 1 got {} (code {code}, address {:#x}, at {:#x})",
                self.name,
                signal_name(signal),
                self.address,
                self.instruction
            )?,
        }
        if !self.trace.is_empty() {
            f.write_str(", trace")?;
        }
        for address in &self.trace {
            write!(f, " {address:#x}")?;
        }
        Ok(())
    }
}

fn signal_name(signal: i32) -> &'static str {
    match signal {
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGILL => "SIGILL",
        libc::SIGSEGV => "SIGSEGV",
        _ => "a signal",
    }
}

/// Words of one epitaph.
pub const WORDS: usize = 32;
/// Addresses in its trace.
pub const MAX_TRACE: usize = WORDS - TRACE;

pub(super) const CAUSE: usize = 0;
pub(super) const SIGNAL: usize = 1;
pub(super) const CODE: usize = 2;
pub(super) const ADDRESS: usize = 3;
pub(super) const THREAD: usize = 4;
pub(super) const NAME: usize = 5;
pub(super) const AT: usize = 7;
pub(super) const INSTRUCTION: usize = 8;
pub(super) const DEPTH: usize = 9;
pub(super) const TRACE: usize = 10;

/// Far from zero, so that a page that was never written is no epitaph.
pub(super) const CAUSE_SIGNAL: u64 = 0x5049_0001;
pub(super) const CAUSE_STUCK: u64 = 0x5049_0002;
pub(super) const CAUSE_UPGRADE: u64 = 0x5049_0003;
pub(super) const CAUSE_PANICS: u64 = 0x5049_0004;
pub(super) const CAUSE_EXIT: u64 = 0x5049_0005;
pub(super) const CAUSE_UNCONFIRMED: u64 = 0x5049_0006;
pub(super) const CAUSE_UNREADABLE: u64 = 0x5049_0007;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epitaph_says_which_thread_met_what_and_where() {
        let mut words = [0; WORDS];
        words[CAUSE] = CAUSE_SIGNAL;
        words[SIGNAL] = 11;
        words[CODE] = 1;
        words[ADDRESS] = 0x10;
        words[NAME] = u64::from_ne_bytes(*b"net\0\0\0\0\0");
        words[DEPTH] = 2;
        words[TRACE] = 0xabc;
        words[TRACE + 1] = 0xdef;
        let text = Epitaph::from_words(&words).unwrap().to_string();
        assert_eq!(
            text,
            "thread net of PID 1 got SIGSEGV (code 1, address 0x10, at 0x0), trace 0xabc 0xdef"
        );
    }

    #[test]
    fn rubbish_is_no_epitaph_or_a_harmless_one() {
        assert_eq!(Epitaph::from_words(&[0; WORDS]), None);
        let mut words = [u64::MAX; WORDS];
        assert_eq!(Epitaph::from_words(&words), None);
        words[CAUSE] = CAUSE_SIGNAL;
        assert_eq!(Epitaph::from_words(&words).unwrap().trace.len(), MAX_TRACE);
    }
}
