//! What an upstream said to a question, as it is kept and given to clients: its bytes, with the
//! client's id and the client's spelling of the name in them, and times to live that have run down.

use std::time::Duration;

use super::wire::{
    self, HEADER, NO_ERROR, NO_SUCH_NAME, OPT, Query, Question, RECURSION_AVAILABLE, RESPONSE,
    Record, SERVER_FAILURE, SOA, Section, TRUNCATED, set_u16, u16_at,
};

/// An answer of somebody else's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// Without its EDNS record, which was for us alone.
    message: Vec<u8>,
    /// Where times to live are.
    ttls: Vec<usize>,
    /// 12 bits.
    code: u16,
    /// How long it may be kept; `None` if not at all.
    lifetime: Option<Duration>,
}

/// How old an answer is when it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Age {
    /// Within its lifetime.
    Fresh(Duration),
    /// Beyond it: nobody else could be asked.
    Stale,
}

impl Answer {
    /// Reads a whole message whose question was found to be the one that was asked. `None` if the
    /// rest makes no sense.
    pub(super) fn read(message: &[u8]) -> Option<Self> {
        let (question, begin) = wire::question(message)?;
        let mut code = u16_at(message, 2)? & 15;
        let (mut kept, mut additional) = (message.len(), 0);
        let mut all = Vec::new();
        for record in wire::records(message, begin) {
            let record = record?;
            if record.kind == OPT && record.section == Section::Additional {
                code |= u16::from(*message.get(record.ttl_at)?) << 4;
                // What comes after it might point to names behind it; none of it is needed.
                kept = record.start;
                break;
            }
            additional += u16::from(record.section == Section::Additional);
            kept = record.data.end;
            all.push(record);
        }
        if all.is_empty() {
            kept = begin;
        }
        let lifetime = lifetime(&all, message, &question, code);
        let mut answer = Self {
            message: message.get(..kept)?.to_vec(),
            ttls: Vec::with_capacity(all.len()),
            code,
            lifetime,
        };
        set_u16(&mut answer.message, 10, additional);
        let floor = lifetime.map_or(0, |time| time.as_secs() as u32);
        for record in &all {
            let ttl = sane(record.ttl).clamp(floor, TTL_MAX.max(floor));
            let is_negative = record.kind == SOA && record.section == Section::Authority;
            answer.set_ttl(record.ttl_at, if is_negative { floor } else { ttl });
            answer.ttls.push(record.ttl_at);
        }
        Some(answer)
    }

    /// That it could not be found out.
    pub(super) fn failure(question: &Question) -> Self {
        let mut message = Vec::with_capacity(HEADER + question.name.len() + 4);
        for field in [0, RESPONSE | SERVER_FAILURE, 1, 0, 0, 0] {
            message.extend(field.to_be_bytes());
        }
        question.write(&mut message);
        Self {
            message,
            ttls: Vec::new(),
            code: SERVER_FAILURE,
            lifetime: Some(FAILURE_KEPT),
        }
    }

    /// Whether it answers the question, be it that there is nothing.
    pub(super) fn is_answer(&self) -> bool {
        [NO_ERROR, NO_SUCH_NAME].contains(&self.code)
    }

    /// Whether it did not fit into a datagram.
    pub(super) fn is_truncated(&self) -> bool {
        u16_at(&self.message, 2).is_some_and(|flags| flags & TRUNCATED != 0)
    }

    /// How long it may be kept; `None` if not at all.
    pub(super) fn lifetime(&self) -> Option<Duration> {
        self.lifetime
    }

    /// What it takes in memory, in bytes, more or less.
    pub(super) fn weight(&self) -> usize {
        self.message.len() + size_of_val(&*self.ttls) + size_of::<Self>()
    }

    /// The answer for whoever asked `query`, at most `limit` bytes long, into `reply`.
    pub(super) fn render(&self, query: &Query, age: Age, limit: usize, reply: &mut Vec<u8>) {
        reply.clear();
        reply.extend_from_slice(&self.message);
        let flags = RESPONSE | RECURSION_AVAILABLE | query.echoed() | self.code & 15;
        set_u16(reply, 0, query.id);
        set_u16(reply, 2, flags);
        let name = &query.question.name;
        if let Some(place) = reply.get_mut(HEADER..HEADER + name.len()) {
            place.copy_from_slice(name);
        }
        let elapsed = match age {
            Age::Fresh(age) => age.as_secs() as u32,
            Age::Stale => 0,
        };
        for at in &self.ttls {
            if let Some(place) = reply.get_mut(*at..).and_then(<[u8]>::first_chunk_mut) {
                let ttl = match age {
                    Age::Fresh(_) => u32::from_be_bytes(*place).saturating_sub(elapsed),
                    Age::Stale => STALE_TTL,
                };
                *place = ttl.to_be_bytes();
            }
        }
        query.close(reply, self.code);
        if reply.len() > limit {
            *reply = query.reply(self.code);
            set_u16(reply, 2, flags | TRUNCATED);
        }
    }

    fn set_ttl(&mut self, at: usize, ttl: u32) {
        let place = self.message.get_mut(at..).and_then(<[u8]>::first_chunk_mut);
        if let Some(place) = place {
            *place = ttl.to_be_bytes();
        }
    }
}

/// RFC 2308 for what is not there, the shortest of all times to live for what is.
fn lifetime(
    records: &[Record],
    message: &[u8],
    question: &Question,
    code: u16,
) -> Option<Duration> {
    if ![NO_ERROR, NO_SUCH_NAME].contains(&code) {
        return None;
    }
    let shortest = records.iter().map(|record| sane(record.ttl)).min();
    let mut answers = records.iter().filter(|r| r.section == Section::Answer);
    let has_what_is_wanted = answers
        .clone()
        .any(|record| record.kind == question.kind || question.kind == wire::ANY);
    let soa = records
        .iter()
        .find(|record| record.kind == SOA && record.section == Section::Authority);
    let seconds = match soa {
        Some(soa) if !has_what_is_wanted || code == NO_SUCH_NAME => {
            let minimum = message.get(soa.data.clone())?.last_chunk()?;
            let minimum = sane(u32::from_be_bytes(*minimum));
            shortest?.min(minimum).min(NEGATIVE_TTL_MAX)
        }
        // Nothing, and nobody who says so: a referral, or a server that knows nothing of it.
        None if code == NO_SUCH_NAME || answers.next().is_none() => return None,
        _ => shortest?.min(TTL_MAX),
    };
    Some(Duration::from_secs(seconds.max(TTL_MIN).into()))
}

/// A time to live with its highest bit set is none (RFC 2181, 8).
fn sane(ttl: u32) -> u32 {
    if ttl > i32::MAX.cast_unsigned() {
        0
    } else {
        ttl
    }
}

/// What is asked for a hundred times a second is looked up once a second, whatever its owner says.
const TTL_MIN: u32 = 1;
/// A mistake of an owner's is over after a day, in seconds.
const TTL_MAX: u32 = 86_400;
/// What is not there yet may be there in an hour, in seconds.
const NEGATIVE_TTL_MAX: u32 = 3_600;
/// So that clients come back soon (RFC 8767, 4), in seconds.
const STALE_TTL: u32 = 30;
/// Enough to keep a flood of the same question from the upstreams (RFC 9520 demands a second).
const FAILURE_KEPT: Duration = Duration::from_secs(2);

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use wire::{A, INTERNET};

    /// A question for the address of `name`.
    pub(crate) fn query(name: &str) -> Query {
        Query {
            id: 9,
            flags: wire::RECURSION_DESIRED,
            question: Question {
                name: wire::name(name).unwrap(),
                kind: A,
                class: INTERNET,
            },
            edns: None,
        }
    }

    /// What an upstream says to it: records as section, type, TTL and data.
    pub(crate) fn said(
        query: &Query,
        code: u16,
        records: &[(Section, u16, u32, &[u8])],
    ) -> Vec<u8> {
        let mut message = query.reply(code);
        for (section, kind, ttl, data) in records {
            message.extend([0xc0, 12]);
            message.extend(kind.to_be_bytes());
            message.extend(INTERNET.to_be_bytes());
            message.extend(ttl.to_be_bytes());
            message.extend((data.len() as u16).to_be_bytes());
            message.extend_from_slice(data);
            let count = 6 + 2 * *section as usize;
            let so_far = u16_at(&message, count).unwrap();
            set_u16(&mut message, count, so_far + 1);
        }
        message
    }

    /// The data of an SOA record with this minimum.
    pub(crate) fn soa(minimum: u32) -> Vec<u8> {
        let mut data = vec![0; 18];
        data.extend(minimum.to_be_bytes());
        data
    }

    fn ttls(reply: &[u8]) -> Vec<u32> {
        let (_, begin) = wire::question(reply).unwrap();
        let all = wire::records(reply, begin).map(|record| record.unwrap());
        all.filter(|r| r.kind != OPT).map(|r| r.ttl).collect()
    }

    #[test]
    fn a_client_gets_his_own_spelling_and_times_that_have_run_down() {
        let asked = query("photos.example.org");
        let records: &[(_, _, _, &[u8])] = &[
            (Section::Answer, A, 300, &[192, 0, 2, 1]),
            (Section::Answer, 65_280, 60, b"a kind that nobody knows"),
        ];
        let mut message = said(&asked, NO_ERROR, records);
        wire::append_opt(&mut message, 0, false, &[0, 10, 0, 2, 1, 2]);
        let answer = Answer::read(&message).unwrap();
        assert_eq!(answer.lifetime(), Some(Duration::from_secs(60)));
        let mut other = query("PHOTOS.example.org");
        other.id = 77;
        let mut reply = Vec::new();
        answer.render(&other, Age::Fresh(Duration::from_secs(20)), 512, &mut reply);
        assert_eq!(ttls(&reply), [280, 40]);
        assert_eq!(u16_at(&reply, 0), Some(77));
        assert!(reply[HEADER..].starts_with(b"\x06PHOTOS\x07example"));
        assert!(
            reply.ends_with(b"a kind that nobody knows"),
            "no EDNS, as none was asked with"
        );
        answer.render(&other, Age::Stale, 512, &mut reply);
        assert_eq!(ttls(&reply), [STALE_TTL; 2]);
    }

    #[test]
    fn what_is_too_long_is_cut_to_nothing_and_says_so() {
        let asked = query("long.example.org");
        let message = said(&asked, NO_ERROR, &[(Section::Answer, 16, 60, &[0; 600])]);
        let answer = Answer::read(&message).unwrap();
        let mut reply = Vec::new();
        answer.render(&asked, Age::Stale, 512, &mut reply);
        assert!(reply.len() < 64 && Answer::read(&reply).unwrap().is_truncated());
        answer.render(&asked, Age::Stale, 65_535, &mut reply);
        assert!(reply.len() > 600 && !Answer::read(&reply).unwrap().is_truncated());
    }

    #[test]
    fn lifetimes_have_a_floor_a_ceiling_and_mind_what_is_not_there() {
        let asked = query("example.org");
        let keep = |code, records: &[(Section, u16, u32, &[u8])]| {
            let answer = Answer::read(&said(&asked, code, records)).unwrap();
            answer.lifetime().map(|time| time.as_secs())
        };
        let a = |ttl| (Section::Answer, A, ttl, &[1, 2, 3, 4][..]);
        assert_eq!(keep(NO_ERROR, &[a(0)]), Some(1));
        assert_eq!(keep(NO_ERROR, &[a(9_999_999)]), Some(86_400));
        assert_eq!(keep(NO_ERROR, &[a(u32::MAX)]), Some(1));
        let (short, long) = (&soa(30)[..], &soa(999_999)[..]);
        let soa = |ttl: u32, data| (Section::Authority, SOA, ttl, data);
        assert_eq!(keep(NO_SUCH_NAME, &[soa(900, short)]), Some(30));
        assert_eq!(keep(NO_SUCH_NAME, &[soa(20, short)]), Some(20));
        assert_eq!(keep(NO_ERROR, &[soa(999_999, long)]), Some(3600));
        let alias = (Section::Answer, 5, 10, &b"\xc0\x0c"[..]);
        assert_eq!(keep(NO_ERROR, &[alias, soa(900, short)]), Some(10));
        assert_eq!(keep(NO_SUCH_NAME, &[]), None);
        assert_eq!(keep(NO_ERROR, &[]), None);
        assert_eq!(keep(SERVER_FAILURE, &[a(60)]), None);
        let failure = Answer::failure(&asked.question);
        assert!(failure.lifetime().unwrap() <= Duration::from_secs(5));
    }

    #[test]
    fn half_an_answer_is_none() {
        let asked = query("example.org");
        let message = said(&asked, NO_ERROR, &[(Section::Answer, A, 60, &[1, 2, 3, 4])]);
        for length in 0..message.len() {
            assert_eq!(Answer::read(&message[..length]), None, "{length}");
        }
    }
}
