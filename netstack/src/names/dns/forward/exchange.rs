//! What is sent to one server and what comes of it: an answer, a wrong one, silence, a broken
//! connection. Who is asked next is for [`forward`](super) to say.

use super::{
    Action, Forwarder, Origin, Outcome, Timer,
    attempt::{Attempt, Judgement, message, mix},
};
use crate::names::dns::{
    answer::Answer,
    config::Privacy,
    upstream::{ServerId, Via},
    wire,
};
use crate::net::clock::Now;

impl Forwarder {
    /// A message arrived.
    pub(in crate::names::dns) fn receive(&mut self, now: Now, origin: Origin, message: &[u8]) {
        let Some(id) = wire::u16_at(message, 0) else {
            return;
        };
        let expected = match origin {
            Origin::Datagram(id) => Some(id),
            Origin::Stream(server, via) => self
                .attempts
                .get(&id)
                .filter(|attempt| (attempt.server, attempt.via) == (server, via))
                .map(|_| id),
        };
        let Some((expected, attempt)) = expected.and_then(|id| Some((id, self.attempts.get(&id)?)))
        else {
            return;
        };
        match attempt.judge(expected, message) {
            Judgement::Answers => self.heard(now, id, message),
            Judgement::LacksEdns => {
                let server = attempt.server;
                if let Some(upstream) = self.upstreams.get_mut(&server) {
                    upstream.lacks_edns(now);
                }
                self.instead(now, id, None);
            }
            Judgement::Forged => self.forged(now, expected),
        }
    }

    /// The datagram with this id did not get out, or not to anybody.
    pub(in crate::names::dns) fn unreachable(&mut self, now: Now, id: u16) {
        if let Some(attempt) = self.attempts.get(&id) {
            let server = attempt.server;
            self.missed(now, server);
            self.give_up(now, id);
        }
    }

    /// The connection to a server is gone. `was_new` if it had never carried an answer.
    pub(in crate::names::dns) fn broke(
        &mut self,
        now: Now,
        server: ServerId,
        via: Via,
        was_new: bool,
    ) {
        let of_it = |(id, attempt): (&u16, &Attempt)| {
            ((attempt.server, attempt.via) == (server, via)).then_some(*id)
        };
        let mut lost: Vec<u16> = self.attempts.iter().filter_map(of_it).collect();
        lost.sort_unstable();
        let mut is_miss = was_new;
        for id in lost {
            let Some(attempt) = self.attempts.get_mut(&id) else {
                continue;
            };
            // Servers close connections that rest, also in the moment that they are used again.
            if !was_new && !std::mem::replace(&mut attempt.again, true) {
                self.resend(id);
                continue;
            }
            let upstream = self.upstreams.get_mut(&server);
            if let Some(upstream) = upstream
                && via == Via::Tls
                && upstream.server.privacy == Privacy::Opportunistic
            {
                upstream.lacks_tls(now);
                is_miss = false;
                self.instead(now, id, Some(Via::Udp));
                continue;
            }
            if std::mem::take(&mut is_miss) {
                self.missed(now, server);
            }
            self.give_up(now, id);
        }
    }

    /// Sends the question to a server, by its usual way or by another.
    pub(super) fn launch(&mut self, now: Now, at: usize, server: ServerId, via: Option<Via>) {
        let Some(upstream) = self.upstreams.get(&server) else {
            return;
        };
        let via = via.unwrap_or_else(|| upstream.via(now));
        let (edns, patience) = (upstream.has_edns(now), upstream.patience(via));
        let id = loop {
            let id = self.chance.id();
            if !self.attempts.contains_key(&id) {
                break id;
            }
        };
        let flight = &mut self.flights[at];
        let mut question = flight.query.question.clone();
        // Whoever can't give it back is asked in the common way the second time.
        let is_mixed = self.mix_case && via == Via::Udp && flight.tries <= 1;
        question.name.make_ascii_lowercase();
        if is_mixed {
            mix(&mut question.name, &mut self.chance);
        }
        flight.open.push(id);
        let attempt = Attempt {
            flight: Some(at),
            server,
            via,
            question,
            is_mixed,
            edns,
            sent_at: now,
            until: Some(now + patience),
            forged: 0,
            again: false,
        };
        self.timers.insert((now + patience, Timer::Attempt(id)));
        self.attempts.insert(id, attempt);
        self.resend(id);
    }

    fn resend(&mut self, id: u16) {
        let Some(attempt) = self.attempts.get(&id) else {
            return;
        };
        let Some(flight) = attempt.flight.and_then(|at| self.flights.get(at)) else {
            return;
        };
        let bytes = message(id, &flight.query, attempt);
        self.actions.push_back(Action::Send {
            id,
            server: attempt.server,
            via: attempt.via,
            bytes,
        });
    }

    /// An answer that is to be believed.
    fn heard(&mut self, now: Now, id: u16, message: &[u8]) {
        let Some(attempt) = self.attempts.get(&id) else {
            return;
        };
        let (server, via, flight) = (attempt.server, attempt.via, attempt.flight);
        let took = attempt.until.map(|_| now.saturating_sub(attempt.sent_at));
        if let Some(upstream) = self.upstreams.get_mut(&server) {
            upstream.heard(took.filter(|_| via == Via::Udp));
        }
        let Some(at) = flight else {
            return self.drop_attempt(id);
        };
        match Answer::read(message) {
            Some(answer) if answer.is_truncated() && via == Via::Udp => {
                self.instead(now, id, Some(Via::Tcp));
            }
            Some(answer) if answer.is_answer() && !answer.is_truncated() => {
                self.drop_attempt(id);
                let flight = self.land(at);
                self.outcomes.push_back(Outcome::Answered {
                    key: flight.key,
                    answer,
                    clients: flight.clients,
                });
            }
            // It can't say, or not so that it makes sense: others may.
            Some(_) | None => {
                self.flights[at].order.retain(|other| *other != server);
                self.flights[at].tries = 0;
                self.give_up(now, id);
            }
        }
    }

    /// Something came to the socket of a datagram that is no answer to it.
    fn forged(&mut self, now: Now, id: u16) {
        let Some(attempt) = self.attempts.get_mut(&id) else {
            return;
        };
        attempt.forged += 1;
        let is_attack = attempt.forged >= FORGED_MAX && attempt.via == Via::Udp;
        if let Some(upstream) = self.upstreams.get_mut(&attempt.server) {
            upstream.forged += 1;
        }
        // Somebody guesses: over a connection he has more to guess.
        if is_attack {
            self.instead(now, id, Some(Via::Tcp));
        }
    }

    /// Asks the same server again, in another way.
    fn instead(&mut self, now: Now, id: u16, via: Option<Via>) {
        let Some(attempt) = self.attempts.get(&id) else {
            return;
        };
        let (flight, server) = (attempt.flight, attempt.server);
        self.drop_attempt(id);
        if let Some(at) = flight {
            self.launch(now, at, server, via);
        }
    }

    /// Nothing more is to be expected of an attempt.
    pub(super) fn give_up(&mut self, now: Now, id: u16) {
        let flight = self.attempts.get(&id).and_then(|attempt| attempt.flight);
        self.drop_attempt(id);
        if let Some(at) = flight {
            self.advance(now, at);
        }
    }

    /// An attempt is not answered in time. It may be yet.
    pub(super) fn overdue(&mut self, now: Now, id: u16) {
        let Some(attempt) = self.attempts.get_mut(&id) else {
            return;
        };
        attempt.until = None;
        let (server, flight) = (attempt.server, attempt.flight);
        // Somebody on the way may swallow what is for this port alone.
        let upstream = self.upstreams.get_mut(&server);
        if let Some(upstream) = upstream
            && attempt.via == Via::Tls
            && upstream.server.privacy == Privacy::Opportunistic
        {
            upstream.lacks_tls(now);
            return match flight {
                Some(at) => self.launch(now, at, server, Some(Via::Udp)),
                None => self.drop_attempt(id),
            };
        }
        self.missed(now, server);
        match flight {
            Some(at) => self.advance(now, at),
            None => self.drop_attempt(id),
        }
    }

    fn missed(&mut self, now: Now, server: ServerId) {
        if let Some(upstream) = self.upstreams.get_mut(&server) {
            upstream.missed(now);
        }
    }

    pub(super) fn drop_attempt(&mut self, id: u16) {
        let Some(attempt) = self.attempts.remove(&id) else {
            return;
        };
        if let Some(until) = attempt.until {
            self.timers.remove(&(until, Timer::Attempt(id)));
        }
        if let Some(flight) = attempt.flight.and_then(|at| self.flights.get_mut(at)) {
            flight.open.retain(|open| *open != id);
        }
        if attempt.via == Via::Udp {
            self.actions.push_back(Action::Forget(id));
        }
    }
}

/// Messages that are no answer, after which an attempt goes by a connection.
const FORGED_MAX: u32 = 8;
