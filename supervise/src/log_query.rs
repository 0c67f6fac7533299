//! Asking `logd` for lines: the query, the lines it answers with, and their framing.
//!
//! On the stream socket [`SOCKET`] a client sends one frame with a [`Query`]; `logd` answers with
//! a frame for each [`Answer`]: the lines asked for, oldest first, then [`Answer::CaughtUp`]; then
//! it closes, or goes on with new lines if the query says to follow. A client that reads too
//! slowly is cut off. A frame is its length (u32, little endian) and that much postcard.
//!
//! The framing does no input or output ([`frame`], [`Frames`]), so that it serves a Tokio task as
//! well as [`Client`], which waits, each time no longer than it was told to.

mod client;

use std::{fmt, marker::PhantomData, time::Duration};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub use client::{Client, QueryError, fetch};

use crate::{log::Level, unit::UnitName, utc};

/// Where `logd` listens.
pub const SOCKET: &str = "/run/pilot/log.sock";

/// Which lines are wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Query {
    /// Of this unit only; `kernel` is one too.
    pub unit: Option<UnitName>,
    /// At most so many of those that are there, the newest.
    pub lines: u32,
    /// Go on with new lines as they come.
    pub follow: bool,
    /// Only lines at least as grave as this.
    pub level: Level,
}

/// One frame of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// A line, in the order of their numbers.
    Line(LogLine),
    /// All lines that were there have been sent.
    CaughtUp,
    /// The query is not answered: why, as a sentence.
    Refused(String),
}

/// One line of the log. Its text holds no control character: `logd` has escaped them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// Grows from line to line, over all units.
    pub number: u64,
    /// When it was written, since the kernel started (CLOCK_BOOTTIME).
    pub at: Duration,
    /// When it was written, in milliseconds since 1970, if the clock made sense then.
    pub unix_ms: Option<u64>,
    /// Whether it is from before the kernel was last started.
    pub earlier_boot: bool,
    /// Whose line it is.
    pub unit: UnitName,
    /// How grave it is.
    pub level: Level,
    /// What it says.
    pub text: String,
}

impl fmt::Display for LogLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.unix_ms {
            Some(ms) => write!(f, "{}", utc::format(ms))?,
            None if self.earlier_boot => write!(f, "{:>24}", "(an earlier boot)")?,
            None => write!(
                f,
                "{:>17}.{:06}",
                self.at.as_secs(),
                self.at.subsec_micros()
            )?,
        }
        let level = match self.level {
            Level::Error => "error: ",
            Level::Warning => "warning: ",
            Level::Info => "",
            Level::Debug => "debug: ",
        };
        write!(f, " {} {level}{}", self.unit, self.text)
    }
}

/// A message as it goes over the socket.
///
/// # Errors
/// [`FramingError::TooLong`] if it is longer than [`MAX_FRAME`].
pub fn frame<T: Serialize>(message: &T) -> Result<Vec<u8>, FramingError> {
    let body = postcard::to_stdvec(message).map_err(FramingError::Malformed)?;
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    if body.len() > MAX_FRAME {
        return Err(FramingError::TooLong(length));
    }
    let mut bytes = length.to_le_bytes().to_vec();
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

/// Takes the bytes of a socket apart into messages.
#[derive(Debug)]
pub struct Frames<T> {
    buffer: Vec<u8>,
    message: PhantomData<T>,
}

impl<T> Default for Frames<T> {
    fn default() -> Self {
        Self {
            buffer: Vec::new(),
            message: PhantomData,
        }
    }
}

impl<T: DeserializeOwned> Frames<T> {
    /// Takes what was received. Call [`Frames::next`] until it has nothing more before the next
    /// piece, so that no more than one frame and one piece is ever held.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next message if it is complete.
    ///
    /// # Errors
    /// A frame that is too long or does not parse; the connection is of no more use then.
    #[expect(
        clippy::should_implement_trait,
        reason = "`None` means not yet, not the end"
    )]
    pub fn next(&mut self) -> Result<Option<T>, FramingError> {
        let Some(header) = self.buffer.first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*header);
        let end = 4 + length as usize;
        if end - 4 > MAX_FRAME {
            return Err(FramingError::TooLong(length));
        }
        let Some(body) = self.buffer.get(4..end) else {
            return Ok(None);
        };
        let message = postcard::from_bytes(body).map_err(FramingError::Malformed)?;
        self.buffer.drain(..end);
        Ok(Some(message))
    }
}

/// What can be wrong with a frame.
#[derive(Debug, thiserror::Error)]
pub enum FramingError {
    /// The bytes are no message.
    #[error("a frame on the log's socket does not parse: {0}")]
    Malformed(postcard::Error),
    /// Longer than any message can be.
    #[error("a frame on the log's socket claims {0} bytes, more than the {MAX_FRAME} allowed")]
    TooLong(u32),
}

/// Longest frame in bytes: the longest line that `logd` keeps (16 KiB, escaped) and its labels.
pub const MAX_FRAME: usize = 32 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> LogLine {
        LogLine {
            number: 7,
            at: Duration::from_micros(12_345_678),
            unix_ms: None,
            earlier_boot: false,
            unit: "front".parse().unwrap(),
            level: Level::Warning,
            text: text.into(),
        }
    }

    #[test]
    fn frames_are_found_in_any_pieces() {
        let sent = [
            Answer::Line(line("one")),
            Answer::CaughtUp,
            Answer::Refused("no".into()),
        ];
        let bytes: Vec<u8> = sent.iter().flat_map(|a| frame(a).unwrap()).collect();
        for size in 1..bytes.len() {
            let mut frames = Frames::<Answer>::default();
            let mut got = Vec::new();
            for piece in bytes.chunks(size) {
                frames.push(piece);
                while let Some(answer) = frames.next().unwrap() {
                    got.push(answer);
                }
            }
            assert_eq!(got, sent, "pieces of {size}");
        }
    }

    #[test]
    fn hostile_frames_are_errors_before_anything_is_held() {
        let mut frames = Frames::<Answer>::default();
        frames.push(&u32::MAX.to_le_bytes());
        assert!(matches!(
            frames.next(),
            Err(FramingError::TooLong(u32::MAX))
        ));
        let mut frames = Frames::<Answer>::default();
        frames.push(&[2, 0, 0, 0, 0xff, 0xff]);
        assert!(matches!(frames.next(), Err(FramingError::Malformed(_))));
    }

    #[test]
    fn an_overlong_message_is_not_sent() {
        let long = Answer::Refused("x".repeat(MAX_FRAME));
        assert!(matches!(frame(&long), Err(FramingError::TooLong(_))));
    }

    #[test]
    fn a_line_reads_as_text() {
        assert_eq!(
            line("slow").to_string(),
            "               12.345678 front warning: slow"
        );
        let dated = LogLine {
            unix_ms: Some(0),
            level: Level::Info,
            ..line("up")
        };
        assert_eq!(dated.to_string(), "1970-01-01T00:00:00.000Z front up");
    }
}
