//! The time of the day from servers (SNTP, RFC 4330 and RFC 5905) as a state machine: answers and
//! the time go in; questions, corrections of the clock and the next deadline come out.
//!
//! It must never believe a minority, nor a stranger who did not see the question. Servers are asked
//! in rounds, several times at first; at a round's end they are compared, and the clock follows the
//! most certain of the majority: moved at once while nobody relies on it or it is far off, else
//! without a jump. Its own deadlines are by the time since boot, which nothing moves.
//!
//! | module | concept |
//! |---|---|
//! | `packet` | the format on the wire |
//! | `peer` | one server: questions, answers, what they are worth |
//! | `names` | servers by name |
//! | `agree` | which servers agree |
//! | `wall` | the clock that is kept right |
//! | `servers` | who is asked, by which sockets |
//! | `sockets` | one for each open question |

mod agree;
pub(crate) mod names;
pub(crate) mod packet;
mod peer;
pub(crate) mod servers;
#[cfg(test)]
mod simulation;
pub(crate) mod sockets;
pub(crate) mod wall;

use std::{net::IpAddr, time::Duration};

use agree::Interval;
use packet::{LENGTH, SECOND};
use peer::{Arrival, Peer, Role, Sample, nanoseconds};

use super::{
    clock::Now,
    random::Random,
    status::{TimeServerStatus, TimeSource, TimeStatus, TimeStep, spell},
};

/// The client of all servers.
#[derive(Debug)]
pub(crate) struct Client {
    peers: Vec<Peer>,
    random: Random,
    phase: Phase,
    connected: bool,
    round: u64,
    /// The pause between rounds while all is well, as a power of two of seconds.
    interval: u32,
    /// Rounds in a row that found the clock right.
    calm: u32,
    /// Rounds in a row that came to nothing.
    vain: u32,
    /// The clock less the time since boot, as last seen, in nanoseconds.
    base: Option<i64>,
    /// When the clock was last found right or put right.
    right_at: Option<Now>,
    /// A clock that was right is far off by the last round, which another is to confirm.
    suspicious: bool,
    offset: Option<i64>,
    last_step: Option<TimeStep>,
    problem: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nobody to ask, or no network to ask by.
    Asleep,
    Asking,
    Resting(Now),
}

/// What is to be done to the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Correction {
    /// At once, by so many nanoseconds.
    Step(i64),
    /// Bit by bit.
    Slew {
        /// Nanoseconds.
        by: i64,
        /// The time until the next correction.
        interval: Duration,
        /// How wrong the clock may be after it.
        max_error: Duration,
    },
}

/// What a comparison came to.
enum Judgement {
    /// Nobody has answered.
    Nothing,
    /// Too few agree.
    Dispute,
    /// So many agree; the best measurement among them, if there is one that may be.
    Agreement(usize, Option<Sample>),
}

impl Client {
    /// A client that waits for [`want`](Self::want).
    pub(crate) fn new(random: Random) -> Self {
        Self {
            peers: Vec::new(),
            random,
            phase: Phase::Asleep,
            connected: false,
            round: 0,
            interval: INTERVAL_LEAST,
            calm: 0,
            vain: 0,
            base: None,
            right_at: None,
            suspicious: false,
            offset: None,
            last_step: None,
            problem: None,
        }
    }

    /// Which servers to ask, best first, and whether there is a network to ask by. May be said
    /// again and again.
    pub(crate) fn want(&mut self, now: Now, servers: &[(IpAddr, TimeSource)], connected: bool) {
        let mut former = std::mem::take(&mut self.peers);
        let mut news = connected && !self.connected;
        for (address, source) in servers.iter().copied() {
            if self.peers.len() == SERVERS_MAX || self.named(address).is_some() {
                continue;
            }
            let known = former.iter().position(|peer| peer.address == address);
            let mut peer = known.map_or_else(
                || Peer::new(address, source),
                |index| former.swap_remove(index),
            );
            peer.source = source;
            news |= known.is_none();
            self.peers.push(peer);
        }
        if connected && !self.connected {
            self.peers.iter_mut().for_each(Peer::forgive);
            self.vain = 0;
        }
        self.connected = connected;
        if !connected || self.peers.is_empty() {
            self.peers.iter_mut().for_each(Peer::pause);
            self.phase = Phase::Asleep;
        } else if news || self.phase == Phase::Asleep {
            self.begin(now);
        }
    }

    /// A packet came from a server's address and port.
    pub(crate) fn receive(&mut self, now: Now, base: i64, server: IpAddr, bytes: &[u8]) {
        let round = self.round;
        if let Some(peer) = self.named(server) {
            peer.hear(Arrival { now, base, round }, bytes);
        }
    }

    /// A question to this server did not go out, or came back.
    pub(crate) fn undelivered(&mut self, server: IpAddr, why: String) {
        if let Some(peer) = self.named(server) {
            peer.undelivered(why);
        }
    }

    /// Lets time pass. `base` is the clock less `now`, in nanoseconds. What comes back is to be
    /// done, and [told](Self::corrected).
    pub(crate) fn tick(&mut self, now: Now, base: i64) -> Option<Correction> {
        let jump = base.saturating_sub(self.base.unwrap_or(base));
        self.base = Some(base);
        self.right_at = self
            .right_at
            .filter(|at| now.saturating_sub(*at) < RIGHT_FOR);
        for peer in &mut self.peers {
            peer.tick(now);
        }
        if jump.saturating_abs() > JUMP_LEAST {
            // Somebody set it. What was measured tells at once how far it is off now.
            self.peers.iter_mut().for_each(|peer| peer.shift(jump));
            if self.right_at.is_some() {
                return self.correct_early(now);
            }
        }
        match self.phase {
            Phase::Asleep => None,
            Phase::Resting(until) => {
                if until <= now {
                    self.begin(now);
                }
                None
            }
            Phase::Asking if self.peers.iter().all(Peer::is_done) => self.finish(now),
            Phase::Asking if self.right_at.is_none() => self.correct_early(now),
            Phase::Asking => None,
        }
    }

    /// Whether there is a question to send.
    pub(crate) fn is_due(&self, now: Now) -> bool {
        self.peers.iter().any(|peer| peer.is_due(now))
    }

    /// Takes the next question. `cookie` is a number that nobody can guess, a new one each time;
    /// `now` is when it is sent.
    pub(crate) fn transmit(&mut self, now: Now, cookie: u64) -> Option<(IpAddr, [u8; LENGTH])> {
        let mut peers = self.peers.iter_mut();
        peers.find_map(|peer| Some((peer.address, peer.ask(now, cookie)?)))
    }

    /// Puts all questions off, as there is no number to give them.
    pub(crate) fn wait_until(&mut self, next: Now) {
        self.peers.iter_mut().for_each(|peer| peer.wait_until(next));
    }

    /// Whether an answer of this server is waited for.
    pub(crate) fn awaits(&self, server: IpAddr) -> bool {
        let mut peers = self.peers.iter();
        peers.any(|peer| peer.address == server && peer.is_asked())
    }

    /// What came of a correction, and the clock less the time since boot after it.
    pub(crate) fn corrected(
        &mut self,
        now: Now,
        correction: Correction,
        base: i64,
        result: Result<(), String>,
    ) {
        let (by, is_step) = match correction {
            Correction::Step(by) => (by, true),
            Correction::Slew { by, .. } => (by, false),
        };
        self.offset = Some(by);
        self.base = Some(base);
        self.problem = result
            .err()
            .map(|why| format!("The clock is wrong and can't be set ({why}); it is tried again."));
        if self.problem.is_some() {
            self.right_at = None;
            return;
        }
        self.right_at = Some(now);
        self.suspicious = false;
        self.peers.iter_mut().for_each(|peer| peer.shift(by));
        if is_step {
            let at = base.saturating_add(nanoseconds(now)).div_euclid(SECOND);
            let micros = by / 1000;
            self.last_step = Some(TimeStep { by: micros, at });
        }
    }

    /// When [`tick`](Self::tick) or [`transmit`](Self::transmit) is next needed.
    pub(crate) fn deadline(&self) -> Option<Now> {
        match self.phase {
            Phase::Asleep => None,
            Phase::Asking => self.peers.iter().filter_map(Peer::deadline).min(),
            Phase::Resting(until) => Some(until),
        }
    }

    /// What is.
    pub(crate) fn status(&self) -> TimeStatus {
        let servers = self.peers.iter().map(|peer| TimeServerStatus {
            address: peer.address,
            name: None,
            source: peer.source,
            agrees: matches!(peer.role, Role::Agrees | Role::Followed),
            verdict: peer.verdict(),
        });
        TimeStatus {
            synchronised: self.right_at.is_some(),
            offset: self.offset.map(|offset| offset / 1000),
            servers: servers.collect(),
            last_step: self.last_step,
            unknown: Vec::new(),
        }
    }

    /// Whether a server is asked and gives no time, so that another should be asked in its stead.
    pub(crate) fn is_failing(&self, server: IpAddr) -> bool {
        let mut peers = self.peers.iter();
        peers.any(|peer| peer.address == server && peer.is_failing())
    }

    /// What does not work, as a sentence.
    pub(crate) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    fn named(&mut self, address: IpAddr) -> Option<&mut Peer> {
        self.peers.iter_mut().find(|peer| peer.address == address)
    }

    fn begin(&mut self, now: Now) {
        self.round += 1;
        self.phase = Phase::Asking;
        let burst = self.right_at.is_none() || self.suspicious;
        for peer in &mut self.peers {
            match (burst, peer.is_silent()) {
                (true, false) => peer.begin(now, BURST, BURST),
                // It gets the rest of the burst if it answers.
                (true, true) => peer.begin(now, BURST, 1),
                (false, _) => peer.begin(now, 1, 2),
            }
        }
        if self.peers.iter().all(Peer::is_done) {
            // They all want to be left alone.
            self.vain = self.vain.saturating_add(1);
            self.rest(now);
        }
    }

    /// Moves a clock that is not known to be right as soon as more than half of all servers agree,
    /// whatever the others may yet say.
    fn correct_early(&mut self, now: Now) -> Option<Correction> {
        let all = self.peers.iter().filter(|peer| peer.is_askable()).count();
        match self.judge(now, false) {
            Judgement::Agreement(count, Some(best)) if count * 2 > all => {
                (best.offset.saturating_abs() >= STEP_LEAST)
                    .then_some(Correction::Step(best.offset))
            }
            Judgement::Agreement(..) | Judgement::Dispute | Judgement::Nothing => None,
        }
    }

    /// The round is over: compares the servers and goes by the majority.
    fn finish(&mut self, now: Now) -> Option<Correction> {
        self.peers.iter_mut().for_each(Peer::end);
        let Judgement::Agreement(_, best) = self.judge(now, true) else {
            self.vain = self.vain.saturating_add(1);
            self.rest(now);
            return None;
        };
        self.vain = 0;
        let Some(best) = best else {
            self.rest(now);
            return None;
        };
        let far = best.offset.saturating_abs() >= STEP_LEAST;
        if far && self.right_at.is_some() && !self.suspicious {
            // One round may be a disturbance on the way; what it said is asked anew.
            self.suspicious = true;
            self.peers.iter_mut().for_each(Peer::forget);
            self.begin(now);
            return None;
        }
        self.pace(best.offset);
        self.rest(now);
        Some(match far {
            true => Correction::Step(best.offset),
            false => Correction::Slew {
                by: best.offset,
                interval: Duration::from_secs(1 << self.interval),
                max_error: Duration::from_nanos(best.distance(now).unsigned_abs()),
            },
        })
    }

    /// Compares the servers. With `fresh`, only a measurement of this round may be the best.
    fn judge(&mut self, now: Now, fresh: bool) -> Judgement {
        let claims: Vec<(usize, Sample, Interval)> = self
            .peers
            .iter()
            .enumerate()
            .filter_map(|(index, peer)| peer.best(now).map(|(best, claim)| (index, best, claim)))
            .collect();
        for peer in &mut self.peers {
            peer.role = Role::Unjudged;
        }
        let intervals: Vec<Interval> = claims.iter().map(|(_, _, claim)| *claim).collect();
        let Some((part, count)) = agree::most_shared(&intervals) else {
            return Judgement::Nothing;
        };
        if count * 2 <= claims.len() {
            return Judgement::Dispute;
        }
        let mut best: Option<(usize, Sample)> = None;
        for (index, sample, claim) in claims {
            self.peers[index].role = match claim.meets(&part) {
                true => Role::Agrees,
                false => Role::False(sample.offset.saturating_sub(part.nearest(sample.offset))),
            };
            let fits = claim.meets(&part) && (!fresh || sample.round == self.round);
            if fits && best.is_none_or(|(_, best)| sample.distance(now) < best.distance(now)) {
                best = Some((index, sample));
            }
        }
        if let Some((index, _)) = best {
            self.peers[index].role = Role::Followed;
        }
        let best = best.map(|(_, sample)| sample.within(&part));
        Judgement::Agreement(count, best)
    }

    /// Asks less often the longer the clock keeps right by itself.
    fn pace(&mut self, offset: i64) {
        let offset = offset.saturating_abs();
        if offset >= RESTLESS {
            self.calm = 0;
            self.interval = self.interval.saturating_sub(2).max(INTERVAL_LEAST);
        } else if offset < CALM {
            self.calm += 1;
            if self.calm >= CALM_ROUNDS {
                self.calm = 0;
                self.interval = (self.interval + 1).min(INTERVAL_MOST);
            }
        }
    }

    fn rest(&mut self, now: Now) {
        let exponent = match self.vain {
            0 => self.interval,
            vain => (VAIN_FIRST + vain - 1).min(INTERVAL_LEAST),
        };
        let pause = Duration::from_secs(1 << exponent);
        // A tenth more or less, so that boxes switched on together do not ask together.
        let pause = self.random.between(pause * 9 / 10, pause * 11 / 10);
        self.phase = Phase::Resting(now + pause);
    }
}

/// How far a clock is off, as people say it: "3 s ahead of".
fn apart(by: i64) -> String {
    let distance = Duration::from_nanos(by.unsigned_abs());
    let side = if by > 0 { "ahead of" } else { "behind" };
    match distance.as_secs() {
        0..=9 => format!("{} ms {side}", distance.as_millis()),
        _ => format!("{} {side}", spell(distance)),
    }
}

/// Servers that are asked: enough for a majority that some liars do not have.
const SERVERS_MAX: usize = 8;
/// Questions to a server while the clock is not known to be right.
const BURST: u32 = 4;
/// 64 s, and 1024 s: MINPOLL and the usual maximum of RFC 5905.
const INTERVAL_LEAST: u32 = 6;
const INTERVAL_MOST: u32 = 10;
/// 16 s, then up to 64 s: the first pause when a round came to nothing.
const VAIN_FIRST: u32 = 4;
/// STEPT of RFC 5905: what is off by less is corrected bit by bit.
const STEP_LEAST: i64 = 128 * SECOND / 1000;
/// What only somebody who sets the clock moves it by between two looks.
const JUMP_LEAST: i64 = SECOND / 10;
/// Found off by less than this, a clock needs fewer looks; by more than that, more.
const CALM: i64 = SECOND / 100;
const RESTLESS: i64 = SECOND / 20;
const CALM_ROUNDS: u32 = 3;
/// By then a bad crystal is off by seconds.
const RIGHT_FOR: Duration = Duration::from_secs(86_400);
