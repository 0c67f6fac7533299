//! The engine's work for one client: bytes moved between its socket, its conversation and the
//! place that answers.

use std::{io, rc::Rc, time::Instant};

use super::{
    engine::{self, Engine},
    limits::TURN_BYTES,
    session::Ask,
    site::Failure,
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

impl Engine {
    /// Does for a client what can be done now.
    pub(super) fn serve(&mut self, key: usize, now: Instant) {
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        client.queued = false;
        match self.pump(key, now) {
            Ok(Left::More) => self.enqueue(key),
            Ok(Left::Nothing) => self.arm(key),
            Ok(Left::Over) => self.drop_client(key, now),
            Err(_) => {
                if let Some(client) = self.clients.get_mut(key) {
                    client.session.abort(now);
                }
                self.drop_client(key, now);
            }
        }
    }

    /// Forgets a client and gives back what it holds.
    pub(super) fn drop_client(&mut self, key: usize, now: Instant) {
        self.drop_link(key, now);
        self.note_served(key, now);
        if let Some(client) = self.clients.try_remove(key)
            && let Some(group) = client.group
        {
            self.census.leave(group);
        }
    }

    /// Ends a client's connection to a place, if it has one.
    pub(super) fn drop_link(&mut self, key: usize, now: Instant) {
        let link = self
            .clients
            .get_mut(key)
            .and_then(|client| client.link.take());
        if let Some(link) = link {
            self.links.release(link, false, now);
        }
    }

    /// The connection that a client asked for can't be had.
    pub(super) fn unreachable(&mut self, key: usize, now: Instant) {
        self.drop_link(key, now);
        if let Some(client) = self.clients.get_mut(key) {
            client.session.failed(Failure::Unreachable, &self.site, now);
        }
    }

    fn pump(&mut self, key: usize, now: Instant) -> io::Result<Left> {
        let mut moved = 0;
        loop {
            let before = moved;
            moved += self.fill(key, now)?;
            let Some(client) = self.clients.get_mut(key) else {
                return Ok(Left::Nothing);
            };
            if client.is_handshaking() {
                client.flush(now)?;
                return Ok(if client.session.client_eof {
                    Left::Over
                } else {
                    Left::Nothing
                });
            }
            let ask = client.session.advance(&self.site, now);
            self.note_served(key, now);
            let asked = self.grant(ask, key, now)?;
            if matches!(asked, Granted::Over) {
                return Ok(Left::Over);
            }
            moved += self.flush(key, now)?;
            if moved == before && !matches!(asked, Granted::Again) {
                return Ok(Left::Nothing);
            }
            if moved > TURN_BYTES {
                return Ok(Left::More);
            }
        }
    }

    /// Does what a conversation asks for.
    fn grant(&mut self, ask: Ask, key: usize, now: Instant) -> io::Result<Granted> {
        match ask {
            Ask::Nothing => Ok(Granted::Done),
            Ask::Dial { place, pooled } => {
                self.dial(key, &place, pooled, now);
                Ok(Granted::Again)
            }
            Ask::Release { reuse } => {
                let link = self
                    .clients
                    .get_mut(key)
                    .and_then(|client| client.link.take());
                if let Some(link) = link
                    && self.links.release(link, reuse, now)
                {
                    let until = now + self.limits.pooled;
                    self.wheel.set(until, engine::link_token(link).0);
                }
                Ok(Granted::Again)
            }
            Ask::End { whole } => {
                self.flush(key, now)?;
                let Some(client) = self.clients.get_mut(key) else {
                    return Ok(Granted::Over);
                };
                let over = client.end(whole, now)?;
                Ok(if over { Granted::Over } else { Granted::Done })
            }
        }
    }

    fn dial(&mut self, key: usize, place: &Rc<Place>, pooled: bool, now: Instant) {
        let used = if pooled {
            self.links.reuse(place, key)
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
                .connect(place, key, self.poll.registry(), now)
                .map_err(|_| Failure::Unreachable),
        };
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        match link {
            Ok(link) => {
                client.link = Some(link);
                client.session.linked(is_used, now);
                if self
                    .links
                    .get_mut(link)
                    .is_some_and(|link| link.is_connected)
                    && !is_used
                {
                    client.session.connected(now);
                }
            }
            Err(failure) => client.session.failed(failure, &self.site, now),
        }
    }

    fn fill(&mut self, key: usize, now: Instant) -> io::Result<usize> {
        let Some(client) = self.clients.get_mut(key) else {
            return Ok(0);
        };
        let mut moved = client.fill(&mut self.scratch, now)?;
        let link = client.link.and_then(|link| self.links.get_mut(link));
        if let Some(link) = link {
            moved += link.fill(&mut client.session, &mut self.scratch, now);
        }
        Ok(moved)
    }

    fn flush(&mut self, key: usize, now: Instant) -> io::Result<usize> {
        let Some(client) = self.clients.get_mut(key) else {
            return Ok(0);
        };
        let mut moved = 0;
        if let Some(link) = client.link.and_then(|link| self.links.get_mut(link)) {
            moved += link.flush(&mut client.session, now);
        }
        moved += client.flush(now)?;
        client.session.relax();
        Ok(moved)
    }

    fn note_served(&mut self, key: usize, now: Instant) {
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        // The guard asks every second: nobody wants to read of it.
        if let Some(served) = client.session.served()
            && client.group.is_some()
        {
            self.access.note(&served, now, &mut self.log);
        }
    }
}

enum Granted {
    /// Another round may bring something.
    Again,
    /// What there was to do is done.
    Done,
    /// The client is done with.
    Over,
}
