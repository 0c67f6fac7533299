//! NTP packets (RFC 5905, 7.3): 48 bytes of question, 48 bytes or more of answer.
//!
//! A question tells nothing: its transmit timestamp is a random number, which only the server that
//! was asked can give back as the answer's origin timestamp (draft-ietf-ntp-data-minimization).

/// What a server answered. An answer is an allegation: whether it can be so, others judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Whether the server says that its own clock is not right (leap indicator 3).
    pub(crate) alarm: bool,
    /// Steps from a reference clock; 0 is no answer but a kiss, 16 and more is none at all.
    pub(crate) stratum: u8,
    /// There and back from the server to its reference clock, in nanoseconds.
    pub(crate) root_delay: i64,
    /// How wrong the server's clock may be beside that, in nanoseconds.
    pub(crate) root_dispersion: i64,
    /// In a kiss, four letters that say what is wrong.
    pub(crate) reference: [u8; 4],
    /// The question's number, if it is an answer to it.
    pub(crate) cookie: u64,
    /// When the question came, by the server's clock: nanoseconds since 1970.
    pub(crate) received: i64,
    /// When the answer left, by the server's clock: nanoseconds since 1970. None if not said.
    pub(crate) sent: Option<i64>,
}

/// The question with this number.
pub(crate) fn question(cookie: u64) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    bytes[0] = (VERSION << 3) | CLIENT;
    bytes[40..].copy_from_slice(&cookie.to_be_bytes());
    bytes
}

impl Answer {
    /// Reads a packet; none if it is no server's answer. What is behind the header (extension
    /// fields, authentication that nobody asked for) is not looked at.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let header: &[u8; LENGTH] = bytes.first_chunk()?;
        let (leap, version, mode) = (header[0] >> 6, header[0] >> 3 & 7, header[0] & 7);
        if mode != SERVER || !(OLDEST_VERSION..=VERSION).contains(&version) {
            return None;
        }
        let sent = u64_at(header, 40);
        Some(Self {
            alarm: leap == 3,
            stratum: header[1],
            root_delay: short(u32_at(header, 4)),
            root_dispersion: short(u32_at(header, 8)),
            reference: u32_at(header, 12).to_be_bytes(),
            cookie: u64_at(header, 24),
            received: unix(u64_at(header, 32)),
            sent: (sent != 0).then(|| unix(sent)),
        })
    }

    /// The same as a server would send it, for tests.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn encode(&self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        bytes[0] = (u8::from(self.alarm) * 0xc0) | (VERSION << 3) | SERVER;
        bytes[1] = self.stratum;
        let short = |time: i64| ((i128::from(time) << 16) / i128::from(SECOND)) as u32;
        bytes[4..8].copy_from_slice(&short(self.root_delay).to_be_bytes());
        bytes[8..12].copy_from_slice(&short(self.root_dispersion).to_be_bytes());
        bytes[12..16].copy_from_slice(&self.reference);
        bytes[24..32].copy_from_slice(&self.cookie.to_be_bytes());
        bytes[32..40].copy_from_slice(&timestamp(self.received).to_be_bytes());
        let sent = self.sent.map_or(0, timestamp);
        bytes[40..].copy_from_slice(&sent.to_be_bytes());
        bytes
    }
}

/// A timestamp as nanoseconds since 1970: the only time it can be between [`PIVOT`] and 136 years
/// later. Timestamps begin anew in February 2036, and no clock of ours helps to tell which turn is
/// meant when it may be decades wrong itself.
fn unix(timestamp: u64) -> i64 {
    let (seconds, fraction) = ((timestamp >> 32) as u32, timestamp & u64::from(u32::MAX));
    let since_pivot = seconds.wrapping_sub(PIVOT.wrapping_add(EPOCH));
    // At most 2^33 seconds: far from what 64 bits of nanoseconds hold.
    let seconds = i64::from(PIVOT) + i64::from(since_pivot);
    let nanoseconds = (fraction * SECOND as u64) >> 32;
    seconds * SECOND + nanoseconds as i64
}

/// The inverse of [`unix`].
#[cfg(any(test, fuzzing))]
fn timestamp(unix: i64) -> u64 {
    let seconds = unix.div_euclid(SECOND) as u32;
    let nanoseconds = unix.rem_euclid(SECOND) as u64;
    u64::from(seconds.wrapping_add(EPOCH)) << 32 | (nanoseconds << 32).div_ceil(SECOND as u64)
}

/// NTP's short format, 16 bits of seconds and 16 of fraction, in nanoseconds.
fn short(value: u32) -> i64 {
    (i64::from(value) * SECOND) >> 16
}

fn u32_at(header: &[u8; LENGTH], at: usize) -> u32 {
    u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
}

fn u64_at(header: &[u8; LENGTH], at: usize) -> u64 {
    u64::from(u32_at(header, at)) << 32 | u64::from(u32_at(header, at + 4))
}

/// Bytes of a header.
pub(crate) const LENGTH: usize = 48;
/// Nanoseconds.
pub(crate) const SECOND: i64 = 1_000_000_000;
/// Ours, and the newest.
const VERSION: u8 = 4;
/// Its header is the same; older ones differ, and nobody speaks them.
const OLDEST_VERSION: u8 = 3;
const CLIENT: u8 = 3;
const SERVER: u8 = 4;
/// From 1900 to 1970, in seconds.
const EPOCH: u32 = 2_208_988_800;
/// 2024-01-01, from which the box's own certificates are valid: seconds since 1970.
const PIVOT: u32 = 1_704_067_200;

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-29 12:00.
    const NOON: i64 = 1_795_953_600 * SECOND;

    #[test]
    fn a_question_is_a_client_s_and_tells_nothing_but_its_number() {
        let bytes = question(0x0102_0304_0506_0708);
        assert_eq!(bytes[0], 0x23);
        assert!(bytes[1..40].iter().all(|byte| *byte == 0));
        assert_eq!(bytes[40..], [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(Answer::parse(&bytes), None, "it is no answer");
    }

    #[test]
    fn a_real_answer_is_read() {
        // chronyd 4.3, `local stratum 5`, to a question of zeros with the number 0x0102_…_08.
        let mut bytes = [0; LENGTH];
        bytes[..4].copy_from_slice(&[0x24, 5, 0, 0xe6]);
        bytes[4..12].copy_from_slice(&[0, 1, 0, 0, 0, 0, 0x80, 0]);
        bytes[12..16].copy_from_slice(&[0x7f, 0x7f, 1, 1]);
        bytes[24..32].copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8]);
        bytes[32..40].copy_from_slice(&timestamp(NOON).to_be_bytes());
        bytes[40..48].copy_from_slice(&timestamp(NOON + 1000).to_be_bytes());
        let answer = Answer::parse(&bytes).expect("an answer");
        assert!(!answer.alarm && answer.stratum == 5);
        assert_eq!(answer.root_delay, SECOND);
        assert_eq!(answer.root_dispersion, SECOND / 2);
        assert_eq!(answer.cookie, 0x0102_0304_0506_0708);
        assert_eq!((answer.received, answer.sent), (NOON, Some(NOON + 1000)));
        let longer = [&bytes[..], &[0; 20]].concat();
        assert_eq!(Answer::parse(&longer), Some(answer));
    }

    #[test]
    fn what_is_no_answer_is_none() {
        let good = Answer::parse(&{
            let mut bytes = [0; LENGTH];
            bytes[0] = 0x24;
            bytes
        })
        .expect("an answer");
        assert_eq!(good.sent, None);
        let bytes = good.encode();
        assert_eq!(Answer::parse(&bytes[..47]), None);
        for wrong in [0x23, 0x25, 0x26, 0x14, 0x2c] {
            let mut bytes = bytes;
            bytes[0] = wrong;
            assert_eq!(Answer::parse(&bytes), None, "{wrong:#x}");
        }
    }

    #[test]
    fn timestamps_go_on_over_the_turn_of_2036() {
        let turn = 2_085_978_496 * SECOND;
        assert_eq!(timestamp(turn) >> 32, 0);
        for unix_time in [
            turn - 1,
            turn,
            turn + SECOND,
            NOON,
            NOON + 100 * 365 * 86_400 * SECOND,
        ] {
            assert!((unix(timestamp(unix_time)) - unix_time).abs() <= 1);
        }
        assert_eq!(
            unix(timestamp(i64::from(PIVOT) * SECOND)),
            i64::from(PIVOT) * SECOND
        );
        // Ten years ago is before any box: it is taken for the turn after.
        assert!(unix(timestamp(NOON - 11 * 365 * 86_400 * SECOND)) > NOON);
    }
}
