//! DNS messages as bytes (RFC 1035, 4; RFC 6891): as much of them as it takes to relay what others
//! say without understanding it, so that records of a kind that nobody knows yet pass unchanged.

use std::ops::Range;

/// A question as it was asked, with what decides how it is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Query {
    pub(crate) id: u16,
    /// As in the header.
    pub(crate) flags: u16,
    pub(crate) question: Question,
    pub(crate) edns: Option<Edns>,
}

/// A name with the type and class of the records that are wanted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Question {
    /// On the wire: labels with their lengths, the root's included; in the case that was asked.
    pub(crate) name: Vec<u8>,
    pub(crate) kind: u16,
    pub(crate) class: u16,
}

/// What a client can take beyond RFC 1035.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Edns {
    /// The longest datagram, in bytes.
    pub(crate) payload: u16,
    pub(crate) version: u8,
    /// Whether signatures are wanted.
    pub(crate) signed: bool,
}

/// Why a message is no question to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// It is an answer, or too short for its sender to be told anything.
    Unanswerable,
    /// It can be told so, with this code.
    Refused(u16),
}

/// One record, by where it is in its message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) section: Section,
    /// Where its name begins.
    pub(crate) start: usize,
    pub(crate) kind: u16,
    pub(crate) class: u16,
    pub(crate) ttl: u32,
    /// Where its TTL is.
    pub(crate) ttl_at: usize,
    pub(crate) data: Range<usize>,
}

/// The part of a message that a record is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    Answer,
    Authority,
    Additional,
}

impl Query {
    /// Reads a question.
    pub(crate) fn parse(message: &[u8]) -> Result<Self, Malformed> {
        let id = u16_at(message, 0).ok_or(Malformed::Unanswerable)?;
        let flags = u16_at(message, 2).ok_or(Malformed::Unanswerable)?;
        if message.len() < HEADER || flags & RESPONSE != 0 {
            return Err(Malformed::Unanswerable);
        }
        if flags & OPCODE != 0 {
            return Err(Malformed::Refused(NOT_IMPLEMENTED));
        }
        let broken = Malformed::Refused(FORMAT_ERROR);
        let (question, end) = question(message).ok_or(broken)?;
        let mut edns = None;
        for record in records(message, end) {
            let record = record.ok_or(broken)?;
            if record.kind == OPT && edns.replace(Edns::of(message, &record)).is_some() {
                return Err(broken);
            }
        }
        Ok(Self {
            id,
            flags,
            question,
            edns,
        })
    }

    /// Whether the sender wants others to be asked.
    pub(crate) fn wants_recursion(&self) -> bool {
        self.flags & RECURSION_DESIRED != 0
    }

    /// Whether signatures are wanted.
    pub(crate) fn is_signed(&self) -> bool {
        self.edns.is_some_and(|edns| edns.signed)
    }

    /// The longest answer in one datagram, in bytes.
    pub(crate) fn datagram_max(&self) -> usize {
        let payload = self.edns.map_or(PLAIN_MAX, |edns| edns.payload.into());
        payload.clamp(PLAIN_MAX, PAYLOAD.into())
    }

    /// An answer without records: the code (12 bits), and the question again.
    pub(crate) fn reply(&self, code: u16) -> Vec<u8> {
        let mut reply = Vec::with_capacity(HEADER + self.question.name.len() + 15);
        let flags = RESPONSE | RECURSION_AVAILABLE | self.echoed() | code & 15;
        for field in [self.id, flags, 1, 0, 0, 0] {
            reply.extend(field.to_be_bytes());
        }
        self.question.write(&mut reply);
        self.close(&mut reply, code);
        reply
    }

    /// The flags of the question that its answer has too: recursion desired, checking disabled.
    pub(crate) fn echoed(&self) -> u16 {
        self.flags & (RECURSION_DESIRED | CHECKING_DISABLED)
    }

    /// Appends our own EDNS record, if the question had one.
    pub(crate) fn close(&self, reply: &mut Vec<u8>, code: u16) {
        if let Some(edns) = self.edns {
            append_opt(reply, code, edns.signed, &[]);
        }
    }
}

impl Question {
    /// Appends it to a message.
    pub(crate) fn write(&self, message: &mut Vec<u8>) {
        message.extend_from_slice(&self.name);
        message.extend(self.kind.to_be_bytes());
        message.extend(self.class.to_be_bytes());
    }
}

impl Edns {
    fn of(message: &[u8], record: &Record) -> Self {
        let ttl = record.ttl_at;
        Self {
            payload: record.class,
            version: message.get(ttl + 1).copied().unwrap_or_default(),
            signed: message.get(ttl + 2).is_some_and(|byte| byte & 0x80 != 0),
        }
    }
}

/// An answer to a message that is no question: its id, and the code.
pub(crate) fn refuse(message: &[u8], code: u16) -> Vec<u8> {
    let field = |at| u16_at(message, at).unwrap_or_default();
    let flags = field(2) & (OPCODE | RECURSION_DESIRED);
    let header = [field(0), RESPONSE | flags | code & 15, 0, 0, 0, 0];
    header.into_iter().flat_map(u16::to_be_bytes).collect()
}

/// The one question of a message, and where it ends.
pub(crate) fn question(message: &[u8]) -> Option<(Question, usize)> {
    if u16_at(message, 4)? != 1 {
        return None;
    }
    let mut end = HEADER;
    loop {
        let length = usize::from(*message.get(end)?);
        if length > LABEL_MAX {
            return None;
        }
        end += 1 + length;
        if end - HEADER > NAME_MAX {
            return None;
        }
        if length == 0 {
            break;
        }
    }
    let question = Question {
        name: message.get(HEADER..end)?.to_vec(),
        kind: u16_at(message, end)?,
        class: u16_at(message, end + 2)?,
    };
    Some((question, end + 4))
}

/// The records of a message, from behind its question on. Ends after the last, or with `None` where
/// the message is broken.
pub(crate) fn records(message: &[u8], begin: usize) -> impl Iterator<Item = Option<Record>> {
    let count = |at| usize::from(u16_at(message, at).unwrap_or_default());
    let sections = [
        (Section::Answer, count(6)),
        (Section::Authority, count(8)),
        (Section::Additional, count(10)),
    ];
    let mut at = Some(begin);
    let all = sections
        .into_iter()
        .flat_map(|(section, count)| std::iter::repeat_n(section, count));
    all.map_while(move |section| {
        let record = record(message, at?, section);
        at = record.as_ref().map(|record| record.data.end);
        Some(record)
    })
}

fn record(message: &[u8], start: usize, section: Section) -> Option<Record> {
    let fixed = name_end(message, start)?;
    let data = fixed + 10;
    let length = usize::from(u16_at(message, fixed + 8)?);
    message.get(data..data + length)?;
    let ttl = message.get(fixed + 4..)?.first_chunk()?;
    Some(Record {
        section,
        start,
        kind: u16_at(message, fixed)?,
        class: u16_at(message, fixed + 2)?,
        ttl: u32::from_be_bytes(*ttl),
        ttl_at: fixed + 4,
        data: data..data + length,
    })
}

/// Where the name that begins at `at` ends. A pointer must lead backwards; it is not followed.
pub(crate) fn name_end(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let length = *message.get(at)?;
        match length >> 6 {
            0 if length == 0 => return Some(at + 1),
            0 => at += 1 + usize::from(length),
            3 => {
                let to = usize::from(u16_at(message, at)? & 0x3fff);
                return (HEADER <= to && to < at).then_some(at + 2);
            }
            _ => return None,
        }
    }
}

/// Appends an EDNS record and counts it.
pub(crate) fn append_opt(message: &mut Vec<u8>, code: u16, signed: bool, options: &[u8]) {
    let extended = u8::try_from(code >> 4).unwrap_or_default();
    message.push(0);
    message.extend(OPT.to_be_bytes());
    message.extend(PAYLOAD.to_be_bytes());
    message.extend([extended, 0, if signed { 0x80 } else { 0 }, 0]);
    let length = u16::try_from(options.len()).unwrap_or_default();
    message.extend(length.to_be_bytes());
    message.extend_from_slice(&options[..length.into()]);
    if let Some(count) = u16_at(message, 10) {
        set_u16(message, 10, count.saturating_add(1));
    }
}

/// Two bytes of a message as a number.
pub(crate) fn u16_at(message: &[u8], at: usize) -> Option<u16> {
    message
        .get(at..)?
        .first_chunk()
        .copied()
        .map(u16::from_be_bytes)
}

/// Writes a number into a message that has room for it there.
pub(crate) fn set_u16(message: &mut [u8], at: usize, value: u16) {
    if let Some(place) = message.get_mut(at..at + 2) {
        place.copy_from_slice(&value.to_be_bytes());
    }
}

/// A name on the wire from its text; `None` if it is none.
pub(crate) fn name(text: &str) -> Option<Vec<u8>> {
    let text = text.strip_suffix('.').unwrap_or(text);
    let mut name = Vec::with_capacity(text.len() + 2);
    for label in text.split('.').filter(|_| !text.is_empty()) {
        let length = u8::try_from(label.len()).ok()?;
        if length == 0 || usize::from(length) > LABEL_MAX {
            return None;
        }
        name.push(length);
        name.extend_from_slice(label.as_bytes());
    }
    name.push(0);
    (name.len() <= NAME_MAX).then_some(name)
}

/// The text of a name on the wire, for people.
pub(crate) fn text(name: &[u8]) -> String {
    let labels: Vec<_> = labels(name).map(String::from_utf8_lossy).collect();
    labels.join(".")
}

/// The labels of a name on the wire, without the root's.
pub(crate) fn labels(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = name;
    std::iter::from_fn(move || {
        let (length, after) = rest.split_first()?;
        let (label, next) = after.split_at_checked((*length).into())?;
        rest = next;
        (!label.is_empty()).then_some(label)
    })
}

/// The name and each one above it, down to the root.
pub(crate) fn ancestry(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(name);
    std::iter::from_fn(move || {
        let this = rest?;
        let length = usize::from(*this.first()?);
        rest = (length > 0).then(|| this.get(1 + length..)).flatten();
        Some(this)
    })
}

/// A message's header, in bytes.
pub(crate) const HEADER: usize = 12;
/// The longest datagram that is sent and asked for: no path breaks it up (DNS flag day 2020).
pub(crate) const PAYLOAD: u16 = 1232;
/// The longest answer in a datagram without EDNS, in bytes.
const PLAIN_MAX: usize = 512;
const LABEL_MAX: usize = 63;
const NAME_MAX: usize = 255;

// Header flags.
pub(crate) const RESPONSE: u16 = 0x8000;
const OPCODE: u16 = 0x7800;
pub(crate) const AUTHORITATIVE: u16 = 0x0400;
pub(crate) const TRUNCATED: u16 = 0x0200;
pub(crate) const RECURSION_DESIRED: u16 = 0x0100;
pub(crate) const RECURSION_AVAILABLE: u16 = 0x0080;
pub(crate) const CHECKING_DISABLED: u16 = 0x0010;

// Codes of answers.
pub(crate) const NO_ERROR: u16 = 0;
pub(crate) const FORMAT_ERROR: u16 = 1;
pub(crate) const SERVER_FAILURE: u16 = 2;
pub(crate) const NO_SUCH_NAME: u16 = 3;
pub(crate) const NOT_IMPLEMENTED: u16 = 4;
pub(crate) const REFUSED: u16 = 5;
pub(crate) const BAD_VERSION: u16 = 16;

// Types and classes.
pub(crate) const A: u16 = 1;
pub(crate) const NS: u16 = 2;
pub(crate) const SOA: u16 = 6;
pub(crate) const PTR: u16 = 12;
pub(crate) const HINFO: u16 = 13;
pub(crate) const AAAA: u16 = 28;
pub(crate) const OPT: u16 = 41;
pub(crate) const ANY: u16 = 255;
pub(crate) const INTERNET: u16 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::random::Random;

    fn query(text: &str) -> Vec<u8> {
        let mut message = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        let question = Question {
            name: name(text).unwrap(),
            kind: A,
            class: INTERNET,
        };
        question.write(&mut message);
        message
    }

    #[test]
    fn a_question_is_read_as_it_was_asked() {
        let mut message = query("WwW.Example.org");
        append_opt(&mut message, 0, true, &[]);
        let query = Query::parse(&message).unwrap();
        assert_eq!(query.id, 7);
        assert_eq!(query.question.name, b"\x03WwW\x07Example\x03org\0");
        assert!(query.wants_recursion() && query.is_signed());
        assert_eq!(query.datagram_max(), 1232);
        let reply = query.reply(BAD_VERSION);
        assert_eq!(reply[..4], [0, 7, 0x81, 0x80]);
        let (_, end) = super::question(&reply).unwrap();
        let opt = records(&reply, end).next().unwrap().unwrap();
        assert_eq!((opt.kind, opt.ttl >> 24), (OPT, 1));
    }

    #[test]
    fn what_is_no_question_is_told_so_if_it_can_be() {
        assert_eq!(Query::parse(&[0; 11]), Err(Malformed::Unanswerable));
        let mut answer = query("a");
        answer[2] |= 0x80;
        assert_eq!(Query::parse(&answer), Err(Malformed::Unanswerable));
        let mut update = query("a");
        update[2] |= 5 << 3;
        let refused = |message: &[u8]| Query::parse(message).unwrap_err();
        assert_eq!(refused(&update), Malformed::Refused(NOT_IMPLEMENTED));
        let mut two = query("a");
        two[5] = 2;
        assert_eq!(refused(&two), Malformed::Refused(FORMAT_ERROR));
        let mut opts = query("a");
        append_opt(&mut opts, 0, false, &[]);
        append_opt(&mut opts, 0, false, &[]);
        assert_eq!(refused(&opts), Malformed::Refused(FORMAT_ERROR));
        let mut pointer = query("a");
        pointer[12..15].copy_from_slice(&[0xc0, 12, 0]);
        assert_eq!(refused(&pointer), Malformed::Refused(FORMAT_ERROR));
    }

    #[test]
    fn names_are_taken_apart() {
        let name = name("a.bc.").unwrap();
        assert_eq!(name, b"\x01a\x02bc\0");
        assert_eq!(labels(&name).collect::<Vec<_>>(), [&b"a"[..], b"bc"]);
        let all: Vec<_> = ancestry(&name).collect();
        assert_eq!(all, [&b"\x01a\x02bc\0"[..], b"\x02bc\0", b"\0"]);
        assert_eq!(super::name(""), Some(vec![0]));
        for none in ["a..b", &"x".repeat(64), &"x.".repeat(200)] {
            assert_eq!(super::name(none), None);
        }
    }

    #[test]
    fn rubbish_ends() {
        let mut random = Random::new(1);
        for _ in 0..20_000 {
            let length = random.below(80) as usize;
            let bytes: Vec<u8> = (0..length).map(|_| random.below(5) as u8 * 60).collect();
            let _ = Query::parse(&bytes);
            assert!(records(&bytes, HEADER).count() <= bytes.len());
            let _ = (labels(&bytes).count(), ancestry(&bytes).count());
        }
    }
}
