//! One time server: what it is asked, what it answered, and whether that can be so.

use std::{collections::VecDeque, net::IpAddr, time::Duration};

use super::{
    agree::Interval,
    packet::{Answer, LENGTH, SECOND, question},
};
use crate::net::{clock::Now, status::TimeSource};

/// A server and what is known of it.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) address: IpAddr,
    pub(crate) source: TimeSource,
    /// What was made of it when the servers were last compared.
    pub(crate) role: Role,
    trouble: Option<Trouble>,
    open: Option<Question>,
    /// The earliest time of the next question.
    next: Now,
    /// Good answers that this round still needs.
    wanted: u32,
    /// Questions that this round may still take.
    tries: u32,
    answered: bool,
    silent_rounds: u32,
    /// Asked again only then, as a power of two of seconds after it complained.
    patience: u32,
    samples: VecDeque<Sample>,
}

/// What was made of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Role {
    /// It is with the majority.
    Agrees,
    /// It is apart from the majority by so many nanoseconds.
    False(i64),
    /// The clock is set by it.
    Followed,
    #[default]
    Unjudged,
}

/// Why a server is no use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// It wants no questions from us, ever.
    Denied,
    /// It wants fewer questions.
    HeldOff,
    Silent,
    /// Its answer is none to go by: why, as a sentence.
    Unfit(&'static str),
    /// Questions do not get to it.
    Unreachable(String),
}

/// One measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    at: Now,
    /// The server's clock less ours, in nanoseconds.
    pub(crate) offset: i64,
    /// How wrong that may be at most, when it was made.
    distance: i64,
    /// The round that it was made in.
    pub(crate) round: u64,
}

#[derive(Clone, Copy, Debug)]
struct Question {
    cookie: u64,
    sent: Now,
}

/// The time as it was when a packet came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub(crate) now: Now,
    /// The wall clock less `now`, in nanoseconds.
    pub(crate) base: i64,
    pub(crate) round: u64,
}

impl Peer {
    pub(crate) fn new(address: IpAddr, source: TimeSource) -> Self {
        Self {
            address,
            source,
            role: Role::Unjudged,
            trouble: None,
            open: None,
            next: Now::ZERO,
            wanted: 0,
            tries: 0,
            answered: false,
            silent_rounds: 0,
            patience: 0,
            samples: VecDeque::new(),
        }
    }

    /// A round begins, in which so many answers are wanted of so many questions.
    pub(crate) fn begin(&mut self, now: Now, wanted: u32, tries: u32) {
        self.open = None;
        self.answered = false;
        let is_held = self.trouble == Some(Trouble::HeldOff) && self.next > now;
        let asked = !is_held && self.trouble != Some(Trouble::Denied);
        (self.wanted, self.tries) = if asked { (wanted, tries) } else { (0, 0) };
        self.next = self.next.max(now);
    }

    /// The round is over.
    pub(crate) fn end(&mut self) {
        if self.answered {
            self.silent_rounds = 0;
            return;
        }
        self.silent_rounds = self.silent_rounds.saturating_add(1);
        if self.silent_rounds >= SILENT_ROUNDS_MAX {
            self.samples.clear();
        }
        if self.trouble.is_none() {
            self.trouble = Some(Trouble::Silent);
        }
    }

    /// Breaks the round off, as nothing can be sent.
    pub(crate) fn pause(&mut self) {
        (self.open, self.wanted, self.tries) = (None, 0, 0);
    }

    /// On another network, what it said before counts no more.
    pub(crate) fn forgive(&mut self) {
        if self.trouble == Some(Trouble::Denied) {
            self.trouble = None;
        }
    }

    /// The question to send now, with this number; none if it is not time for one.
    pub(crate) fn ask(&mut self, now: Now, cookie: u64) -> Option<[u8; LENGTH]> {
        if !self.is_due(now) {
            return None;
        }
        self.tries -= 1;
        self.next = now + SPACING;
        self.open = Some(Question { cookie, sent: now });
        Some(question(cookie))
    }

    /// A packet came from the server's address and port.
    pub(crate) fn hear(&mut self, arrival: Arrival, bytes: &[u8]) {
        let Some(answer) = Answer::parse(bytes) else {
            return;
        };
        // What does not know the number was sent by somebody who did not see the question.
        let Some(asked) = self.open.take_if(|asked| asked.cookie == answer.cookie) else {
            return;
        };
        self.answered = true;
        match sample(&answer, asked.sent, arrival) {
            Ok(sample) => {
                self.trouble = None;
                if self.samples.len() == SAMPLES_MAX {
                    self.samples.pop_front();
                }
                self.samples.push_back(sample);
                self.wanted = self.wanted.saturating_sub(1);
                self.tries = self.tries.max(self.wanted);
            }
            Err(trouble) => {
                if trouble == Trouble::HeldOff {
                    self.patience = (self.patience + 1).clamp(PATIENCE_LEAST, PATIENCE_MOST);
                    self.next = arrival.now + Duration::from_secs(1 << self.patience);
                }
                self.trouble = Some(trouble);
                self.wanted = 0;
                // It is not to be gone by until it says otherwise.
                self.samples.clear();
            }
        }
    }

    /// The last question could not be sent, or came back. It may still be answered: who says so
    /// may be anybody.
    pub(crate) fn undelivered(&mut self, why: String) {
        if self.open.is_some() && self.samples.is_empty() {
            self.trouble = Some(Trouble::Unreachable(why));
        }
    }

    /// Puts its next question off.
    pub(crate) fn wait_until(&mut self, next: Now) {
        self.next = self.next.max(next);
    }

    /// Lets time pass.
    pub(crate) fn tick(&mut self, now: Now) {
        self.open.take_if(|asked| asked.sent + ANSWER_WITHIN <= now);
    }

    /// The clock was moved by so much, so it is nearer to every server's.
    pub(crate) fn shift(&mut self, by: i64) {
        for sample in &mut self.samples {
            sample.offset = sample.offset.saturating_sub(by);
        }
    }

    /// Forgets what was measured.
    pub(crate) fn forget(&mut self) {
        self.samples.clear();
    }

    /// When [`tick`](Self::tick) or [`ask`](Self::ask) is next needed.
    pub(crate) fn deadline(&self) -> Option<Now> {
        match self.open {
            Some(asked) => Some(asked.sent + ANSWER_WITHIN),
            None => (!self.is_done()).then_some(self.next),
        }
    }

    pub(crate) fn is_due(&self, now: Now) -> bool {
        self.open.is_none() && !self.is_done() && self.next <= now
    }

    /// Whether nothing more comes of it in this round.
    pub(crate) fn is_done(&self) -> bool {
        self.open.is_none() && (self.wanted == 0 || self.tries == 0)
    }

    /// Whether a question is open, whose answer its own socket waits for.
    pub(crate) fn is_asked(&self) -> bool {
        self.open.is_some()
    }

    /// Whether it may be counted on to answer.
    pub(crate) fn is_askable(&self) -> bool {
        !matches!(self.trouble, Some(Trouble::Denied | Trouble::HeldOff))
    }

    pub(crate) fn is_silent(&self) -> bool {
        self.silent_rounds > 0
    }

    /// Whether nothing is to be had of it, for now at least.
    pub(crate) fn is_failing(&self) -> bool {
        self.silent_rounds >= FAILING_ROUNDS
            || matches!(self.trouble, Some(Trouble::Denied | Trouble::Unfit(_)))
    }

    /// The best measurement, and where the right time must be by it; none if there is no good one.
    pub(crate) fn best(&self, now: Now) -> Option<(Sample, Interval)> {
        let best = self.samples.iter().min_by_key(|it| it.distance(now))?;
        let distance = best.distance(now);
        let claim = Interval::around(best.offset, distance);
        (distance < DISTANCE_MAX).then_some((*best, claim))
    }

    /// What it is good for, as a sentence.
    pub(crate) fn verdict(&self) -> String {
        match (&self.trouble, self.role) {
            (Some(Trouble::Denied), _) => {
                "It refuses to answer, so it is not asked on this network any more.".to_owned()
            }
            (Some(Trouble::HeldOff), _) => "It wants to be asked less often, and is.".to_owned(),
            (Some(Trouble::Unfit(why)), _) => (*why).to_owned(),
            (Some(Trouble::Silent), _) => "It does not answer.".to_owned(),
            (Some(Trouble::Unreachable(why)), _) => format!("It can't be reached ({why})."),
            (None, Role::Followed) => "It is right, and followed.".to_owned(),
            (None, Role::Agrees) => "It is right.".to_owned(),
            (None, Role::False(by)) => format!(
                "It is {} what most servers say, so it is not believed.",
                super::apart(by)
            ),
            (None, Role::Unjudged) if self.samples.is_empty() => "It is being asked.".to_owned(),
            (None, Role::Unjudged) => {
                "Not enough others agree with it, so it is not believed.".to_owned()
            }
        }
    }
}

impl Sample {
    /// The same with the offset at the point of `part` that is nearest to it.
    pub(crate) fn within(self, part: &Interval) -> Self {
        Self {
            offset: part.nearest(self.offset),
            ..self
        }
    }

    /// How wrong it may be by now: our own clock has run since.
    pub(crate) fn distance(&self, now: Now) -> i64 {
        let age = nanoseconds(now.saturating_sub(self.at));
        self.distance.saturating_add(age / DRIFT)
    }
}

/// What an answer is worth (RFC 5905, 8 and A.5.1.1; RFC 4330, 5).
fn sample(answer: &Answer, asked: Now, arrival: Arrival) -> Result<Sample, Trouble> {
    match (answer.stratum, &answer.reference) {
        (0, b"DENY" | b"RSTR") => return Err(Trouble::Denied),
        (0, b"RATE") => return Err(Trouble::HeldOff),
        (0 | STRATUM_NONE.., _) => return Err(Trouble::Unfit(NOT_SET)),
        _ if answer.alarm => return Err(Trouble::Unfit(NOT_SET)),
        _ => {}
    }
    let nonsense = Trouble::Unfit("Its answer makes no sense.");
    let Some(sent) = answer.sent else {
        return Err(nonsense);
    };
    let (held, away) = (
        sent.saturating_sub(answer.received),
        nanoseconds(arrival.now.saturating_sub(asked)),
    );
    if held < 0 || held > away + HELD_SLACK {
        return Err(nonsense);
    }
    let root = (answer.root_delay / 2).saturating_add(answer.root_dispersion);
    if root >= DISTANCE_MAX {
        return Err(Trouble::Unfit(
            "Its clock is too far from a reference clock.",
        ));
    }
    let delay = (away - held).max(DELAY_LEAST);
    // Half of both differences, parted first, as each may be centuries.
    let left = arrival.base.saturating_add(nanoseconds(asked));
    let back = arrival.base.saturating_add(nanoseconds(arrival.now));
    let twice =
        i128::from(answer.received) - i128::from(left) + i128::from(sent) - i128::from(back);
    Ok(Sample {
        at: arrival.now,
        offset: i64::try_from(twice / 2).map_err(|_| nonsense)?,
        distance: delay / 2 + root,
        round: arrival.round,
    })
}

/// As many as fit, some 292 years.
pub(crate) fn nanoseconds(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

/// Said of alarm and impossible stratum.
const NOT_SET: &str = "It says itself that its clock is not set.";
/// Between two questions to one server.
const SPACING: Duration = Duration::from_secs(2);
/// Later answers are too uncertain to use.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// After so many rounds without an answer nothing is left of a server's word.
const SILENT_ROUNDS_MAX: u32 = 4;
/// After so many, another is asked in its stead.
const FAILING_ROUNDS: u32 = 2;
/// As many as RFC 5905's clock filter holds.
const SAMPLES_MAX: usize = 8;
/// MAXDIST of RFC 5905: what may be wrong by more is no use.
const DISTANCE_MAX: i64 = 3 * SECOND / 2;
/// MINDISP of RFC 5905: servers' clocks are never as good as they say.
const DELAY_LEAST: i64 = SECOND / 200;
/// How much longer a server may say it has held the question than it was away: clocks' grain.
const HELD_SLACK: i64 = SECOND / 100;
/// PHI of RFC 5905, 15 parts in a million.
const DRIFT: i64 = 1_000_000 / 15;
const STRATUM_NONE: u8 = 16;
/// A server that complains is left alone for 256 s, then for twice as long each time, up to 36 h.
const PATIENCE_LEAST: u32 = 8;
const PATIENCE_MOST: u32 = 17;
