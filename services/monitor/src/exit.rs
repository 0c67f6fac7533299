//! How a container ended, decoded from what liblxc says.
//!
//! After a foreground start liblxc's `error_num` is neither an exit code nor a wait status: exit
//! code N is `N << 8`, death by signal S is `S << 8 | 0x7f`, and 1 is a failed start. (Measured on
//! LXC 5.0 and 6.0; `lxc-start -F` itself gets it wrong.)

use std::{fmt, process::ExitCode};

/// How the container's first process, the agent, ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Exited(u8),
    Killed(u8),
}

impl Outcome {
    /// `None` if the container never started.
    pub(crate) fn decode(started: bool, error_num: i32) -> Option<Self> {
        let [low, high, 0, 0] = error_num.to_le_bytes() else {
            return None;
        };
        match (started, low) {
            (true, 0) => Some(Self::Exited(high)),
            (_, KILLED) => Some(Self::Killed(high)),
            _ => None,
        }
    }

    /// As a shell would: 128 and the signal's number for a death by signal.
    pub(crate) fn exit_code(self) -> ExitCode {
        match self {
            Self::Exited(code) => ExitCode::from(code),
            Self::Killed(signal) => ExitCode::from(signal.saturating_add(128)),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exit code {code}"),
            Self::Killed(signal) => write!(f, "killed by signal {signal}"),
        }
    }
}

/// The monitor's exit code when there was never a container.
pub(crate) const NOT_STARTED: u8 = 125;

/// Looks like `WIFSTOPPED`, but means killed.
const KILLED: u8 = 0x7f;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_decoded_as_liblxc_encodes_them() {
        for (started, error_num, outcome) in [
            (true, 0, Some(Outcome::Exited(0))),
            (true, 1792, Some(Outcome::Exited(7))),
            (true, 256, Some(Outcome::Exited(1))),
            (true, 2431, Some(Outcome::Killed(9))),
            (true, 8063, Some(Outcome::Killed(31))),
            (false, 1, None),
            (false, 0, None),
            (true, -1, None),
            (true, i32::MAX, None),
        ] {
            assert_eq!(Outcome::decode(started, error_num), outcome, "{error_num}");
        }
    }
}
