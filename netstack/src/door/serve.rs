//! The engine's work for one client: bytes moved between its socket, its conversation and the
//! places that answer.

use std::{io, rc::Rc, time::Instant};

use slab::Slab;

use super::{
    access::Served,
    client::Client,
    engine::{self, Engine},
    flow::Flow,
    http2::Connection,
    limits::TURN_BYTES,
    link::Owner,
    session::Ask,
    site::Failure,
    talk::Talk,
    vhost::Place,
};

/// What is left to do for a client.
enum Left {
    /// Its turn was long enough; it has another soon.
    More,
    /// Nothing until something happens.
    Nothing,
    /// It is done with.
    Over,
}

/// What came of one round.
struct Round {
    /// How many bytes moved.
    moved: usize,
    next: Next,
}

enum Next {
    /// Another round may bring something.
    Again,
    /// What there was to do is done.
    Done,
    /// The client is done with.
    Over,
}

impl Engine {
    /// Does for a client what can be done now.
    pub(super) fn serve(&mut self, key: usize, now: Instant) {
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        client.queued = false;
        let left = self.pump(key, now);
        self.weigh(key);
        match left {
            Ok(Left::More) => self.enqueue(key),
            Ok(Left::Nothing) => self.arm(key),
            Ok(Left::Over) | Err(_) => self.drop_client(key, now),
        }
    }

    /// Forgets a client and gives back what it holds.
    pub(super) fn drop_client(&mut self, key: usize, now: Instant) {
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        let orphans = client.talk.abort(now);
        self.note_served(key, now);
        self.drop_links(orphans, now);
        let client = self.clients.remove(key);
        self.ballast.change(client.weight, 0);
        if let Some(group) = client.group {
            self.census.leave(group);
        }
    }

    /// Ends connections to places.
    pub(super) fn drop_links(&mut self, links: Vec<usize>, now: Instant) {
        for link in links {
            self.links.release(link, false, now);
        }
    }

    /// The connection that an exchange asked for can't be had.
    pub(super) fn unreachable(&mut self, owner: Owner, now: Instant) {
        self.release(owner, false, now);
        if let Some(client) = self.clients.get_mut(owner.client) {
            let failure = Failure::Unreachable;
            client.talk.failed(owner.stream, failure, &self.site, now);
        }
    }

    /// Notes how much memory a client's bytes take now.
    fn weigh(&mut self, key: usize) {
        if let Some(client) = self.clients.get_mut(key) {
            let weight = client.held();
            self.ballast.change(client.weight, weight);
            client.weight = weight;
        }
    }

    /// Gives up the clients whose bytes take the most memory, if all together take too much.
    pub(super) fn lighten(&mut self, now: Instant) {
        let Some(excess) = self.ballast.excess() else {
            return;
        };
        let mut heaviest: Vec<(usize, usize)> = self
            .clients
            .iter()
            .map(|(key, client)| (client.weight, key))
            .collect();
        heaviest.sort_unstable_by(|one, other| other.cmp(one));
        let (mut freed, mut count) = (0, 0);
        for (weight, key) in heaviest {
            if freed >= excess {
                break;
            }
            (freed, count) = (freed + weight, count + 1);
            self.drop_client(key, now);
        }
        (self.log)(&format!(
            "{count} connections were closed: their bytes on the way took too much memory."
        ));
    }

    fn pump(&mut self, key: usize, now: Instant) -> io::Result<Left> {
        let mut moved = 0;
        loop {
            let Some(client) = self.clients.get_mut(key) else {
                return Ok(Left::Nothing);
            };
            let high = self.ballast.high();
            let filled = client.fill(&mut self.scratch, high, now)?;
            client.decide(&self.site.table, now)?;
            if client.is_handshaking() {
                client.flush(&mut self.scratch, now)?;
                let gone = client.talk.side().eof;
                return Ok(if gone { Left::Over } else { Left::Nothing });
            }
            if std::mem::take(&mut client.is_new) {
                self.site.tally.count(client.is_resumed);
            }
            let round = match &client.talk {
                Talk::Http1(_) => self.request(key, now)?,
                Talk::Http2(_) => self.streams(key, now)?,
            };
            moved += filled + round.moved;
            match round.next {
                Next::Over => return Ok(Left::Over),
                Next::Done if filled + round.moved == 0 => return Ok(Left::Nothing),
                Next::Done | Next::Again if moved > TURN_BYTES => return Ok(Left::More),
                Next::Done | Next::Again => {}
            }
        }
    }

    /// One round of a conversation over HTTP/1.1.
    fn request(&mut self, key: usize, now: Instant) -> io::Result<Round> {
        let owner = Owner {
            client: key,
            stream: 0,
        };
        let mut moved = self.fill(owner, now);
        let Some(Talk::Http1(session)) = self.clients.get_mut(key).map(|c| &mut c.talk) else {
            return Ok(Round {
                moved,
                next: Next::Done,
            });
        };
        let ask = session.advance(&self.site, now);
        self.note_served(key, now);
        let end = match ask {
            Ask::End { whole } => Some(whole),
            Ask::Dial { .. } | Ask::Nothing | Ask::Release { .. } => None,
        };
        let granted = self.grant(ask, owner, now);
        moved += self.flush(owner, now);
        let Some(client) = self.clients.get_mut(key) else {
            return Ok(Round {
                moved,
                next: Next::Over,
            });
        };
        // The last word of TLS goes with what is owed.
        if end.is_none() || !client.talk.side().output.is_empty() {
            moved += client.flush(&mut self.scratch, now)?;
        }
        client.relax();
        let next = match end {
            Some(whole) if client.end(whole, &mut self.scratch, now)? => Next::Over,
            _ if granted => Next::Again,
            _ => Next::Done,
        };
        Ok(Round { moved, next })
    }

    /// One round of a connection over HTTP/2.
    fn streams(&mut self, key: usize, now: Instant) -> io::Result<Round> {
        let mut moved = 0;
        let Some(connection) = http2(&mut self.clients, key) else {
            return Ok(Round {
                moved,
                next: Next::Over,
            });
        };
        connection.receive(&self.site, now);
        // A stream whose turn was long enough is ready again: it has another in the next round.
        for _ in 0..connection.count_ready() {
            let connection = http2(&mut self.clients, key);
            let Some(stream) = connection.and_then(Connection::next_ready) else {
                break;
            };
            let owner = Owner {
                client: key,
                stream,
            };
            moved += self.stream(owner, now);
            if let Some(connection) = http2(&mut self.clients, key) {
                connection.settle(stream);
            }
        }
        let Some(connection) = http2(&mut self.clients, key) else {
            return Ok(Round {
                moved,
                next: Next::Over,
            });
        };
        connection.send(now);
        let (orphans, over, again) = (
            connection.orphans(),
            connection.is_over(),
            connection.is_ready(),
        );
        self.drop_links(orphans, now);
        self.note_served(key, now);
        let client = &mut self.clients[key];
        if over.is_none() || !client.talk.side().output.is_empty() {
            moved += client.flush(&mut self.scratch, now)?;
        }
        client.relax();
        let next = match over {
            Some(whole) if client.end(whole, &mut self.scratch, now)? => Next::Over,
            _ if again => Next::Again,
            _ => Next::Done,
        };
        Ok(Round { moved, next })
    }

    /// Does for one stream what can be done now, or in one turn.
    fn stream(&mut self, owner: Owner, now: Instant) -> usize {
        let mut moved = 0;
        loop {
            let mut step = self.fill(owner, now);
            let Some(stream) =
                http2(&mut self.clients, owner.client).and_then(|c| c.stream(owner.stream))
            else {
                return moved;
            };
            let ask = stream.advance(&self.site, now);
            let granted = self.grant(ask, owner, now);
            step += self.flush(owner, now);
            moved += step;
            if step == 0 && !granted {
                return moved;
            }
            if moved > TURN_BYTES {
                if let Some(connection) = http2(&mut self.clients, owner.client) {
                    connection.wake(owner.stream);
                }
                return moved;
            }
        }
    }

    /// Does what an exchange asks for; whether there was anything.
    fn grant(&mut self, ask: Ask, owner: Owner, now: Instant) -> bool {
        match ask {
            Ask::End { .. } | Ask::Nothing => return false,
            Ask::Dial { place, pooled } => self.dial(owner, &place, pooled, now),
            Ask::Release { reuse } => self.release(owner, reuse, now),
        }
        true
    }

    fn release(&mut self, owner: Owner, reuse: bool, now: Instant) {
        let Some(link) = self.exchange(owner).and_then(|flow| flow.link.take()) else {
            return;
        };
        let is_pooled = self.links.release(link, reuse, now);
        if let Some(pooled) = self.links.get_mut(link).filter(|_| is_pooled)
            && !std::mem::replace(&mut pooled.is_armed, true)
        {
            let until = now + self.limits.pooled;
            self.wheel.set(until, engine::link_token(link).0);
        }
    }

    fn dial(&mut self, owner: Owner, place: &Rc<Place>, pooled: bool, now: Instant) {
        let used = if pooled {
            self.links.reuse(place, owner)
        } else {
            None
        };
        let is_used = used.is_some();
        let crowded = place.busy.get() >= self.limits.per_place;
        let link = match used {
            Some(link) => Ok(link),
            None if crowded => Err(Failure::Crowded),
            None => self
                .links
                .connect(place, owner, self.poll.registry(), now)
                .map_err(|_| Failure::Unreachable),
        };
        let Some(client) = self.clients.get_mut(owner.client) else {
            return;
        };
        match link {
            Ok(link) => {
                client.talk.linked(owner.stream, link, is_used, now);
                let link = self.links.get_mut(link);
                if link.is_some_and(|link| link.is_connected) && !is_used {
                    client.talk.connected(owner.stream, now);
                }
            }
            Err(failure) => client.talk.failed(owner.stream, failure, &self.site, now),
        }
    }

    /// Reads from the place that answers.
    fn fill(&mut self, owner: Owner, now: Instant) -> usize {
        let client = self.clients.get_mut(owner.client);
        let Some(flow) = client.and_then(|client| client.talk.flow(owner.stream)) else {
            return 0;
        };
        let link = flow.link.and_then(|link| self.links.get_mut(link));
        let high = self.ballast.high();
        link.map_or(0, |link| link.fill(flow, &mut self.scratch, high, now))
    }

    /// Writes to the place that answers.
    fn flush(&mut self, owner: Owner, now: Instant) -> usize {
        let Some(client) = self.clients.get_mut(owner.client) else {
            return 0;
        };
        let is_last = matches!(&client.talk, Talk::Http1(session) if session.half_closed());
        let Some(flow) = client.talk.flow(owner.stream) else {
            return 0;
        };
        let link = flow.link.and_then(|link| self.links.get_mut(link));
        link.map_or(0, |link| link.flush(flow, is_last, now))
    }

    fn exchange(&mut self, owner: Owner) -> Option<&mut Flow> {
        self.clients.get_mut(owner.client)?.talk.flow(owner.stream)
    }

    fn note_served(&mut self, key: usize, now: Instant) {
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        // The guard asks every second: nobody wants to read of it.
        let is_probe = client.group.is_none();
        let mut note = |served: &Served| {
            if !is_probe {
                self.access.note(served, now, &mut self.log);
            }
        };
        match &mut client.talk {
            Talk::Http1(session) => session.served().iter().for_each(&mut note),
            Talk::Http2(connection) => connection.served().iter().for_each(&mut note),
        }
    }
}

fn http2(clients: &mut Slab<Client>, key: usize) -> Option<&mut Connection> {
    match &mut clients.get_mut(key)?.talk {
        Talk::Http1(_) => None,
        Talk::Http2(connection) => Some(connection),
    }
}
