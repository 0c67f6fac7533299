//! Connections to the places behind the door, and the pool of those that wait for a next request.

use std::{collections::HashMap, io, rc::Rc, time::Instant};

use mio::{Registry, event::Event};
use slab::Slab;

use super::{
    config::Upstream,
    engine,
    flow::Flow,
    limits::{INPUT_HIGH, READ},
    socket::Socket,
    vhost::Place,
};

/// One connection to a place.
pub(super) struct Link {
    socket: Socket,
    place: Rc<Place>,
    /// Whom it serves; `None` in the pool.
    pub(super) owner: Option<Owner>,
    pub(super) is_connected: bool,
    /// Since when it has been in the pool.
    pub(super) idle_since: Instant,
    /// The wheel will ring for it.
    pub(super) is_armed: bool,
    /// The place takes nothing more, though it may still answer.
    is_deaf: bool,
    is_shut: bool,
}

/// All connections to places.
#[derive(Default)]
pub(super) struct Links {
    all: Slab<Link>,
    pool: HashMap<Upstream, Vec<usize>>,
}

/// The exchange that a connection serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    /// The client, by its key.
    pub(super) client: usize,
    /// The stream; 0 over HTTP/1.1.
    pub(super) stream: u32,
}

/// What an event means for a link.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    /// It has become complete: its owner should know.
    Connected(Owner),
    /// It can't be completed: its owner should know.
    Failed(Owner),
    /// It was idle and is of no more use.
    Gone,
    /// Its owner may read or write.
    Ready(Owner),
}

impl Links {
    /// A connection that waits in the pool, for `owner`.
    pub(super) fn reuse(&mut self, place: &Rc<Place>, owner: Owner) -> Option<usize> {
        let key = self.pool.get_mut(&place.upstream)?.pop()?;
        let link = self.all.get_mut(key)?;
        link.owner = Some(owner);
        link.place = Rc::clone(place);
        place.busy.set(place.busy.get() + 1);
        Some(key)
    }

    /// A new connection for `owner`.
    pub(super) fn connect(
        &mut self,
        place: &Rc<Place>,
        owner: Owner,
        registry: &Registry,
        now: Instant,
    ) -> io::Result<usize> {
        let mut socket = Socket::connect(&place.upstream)?;
        let entry = self.all.vacant_entry();
        let key = entry.key();
        socket.register(registry, engine::link_token(key))?;
        place.busy.set(place.busy.get() + 1);
        entry.insert(Link {
            socket,
            place: Rc::clone(place),
            owner: Some(owner),
            is_connected: matches!(place.upstream, Upstream::Unix(_)),
            idle_since: now,
            is_armed: false,
            is_deaf: false,
            is_shut: false,
        });
        Ok(key)
    }

    /// Takes a connection back from its owner; whether it is in the pool now.
    pub(super) fn release(&mut self, key: usize, reuse: bool, now: Instant) -> bool {
        let Some(link) = self.all.get_mut(key) else {
            return false;
        };
        if link.owner.take().is_some() {
            link.place.busy.set(link.place.busy.get().saturating_sub(1));
        }
        link.idle_since = now;
        if reuse && link.is_connected && !link.is_deaf && self.pool(key).is_some() {
            return true;
        }
        self.all.remove(key);
        false
    }

    /// Puts a connection into the pool, if there is room.
    fn pool(&mut self, key: usize) -> Option<()> {
        let upstream = &self.all.get(key)?.place.upstream;
        let waiting = match self.pool.get_mut(upstream) {
            Some(waiting) => waiting,
            None => self.pool.entry(upstream.clone()).or_default(),
        };
        (waiting.len() < MAX_POOLED).then(|| waiting.push(key))
    }

    /// Ends a connection that waits in the pool.
    pub(super) fn discard(&mut self, key: usize) {
        let Some(link) = self.all.try_remove(key) else {
            return;
        };
        if let Some(waiting) = self.pool.get_mut(&link.place.upstream) {
            waiting.retain(|other| *other != key);
            if waiting.is_empty() {
                self.pool.remove(&link.place.upstream);
            }
        }
    }

    /// Notes what the kernel says of a link.
    pub(super) fn note(&mut self, key: usize, event: &Event) -> Option<News> {
        let link = self.all.get_mut(key)?;
        link.socket.note(event);
        let Some(owner) = link.owner else {
            // An idle service says nothing but that it closes; a first event only says "writable".
            let spoke = event.is_readable() || event.is_read_closed() || event.is_error();
            return spoke.then_some(News::Gone);
        };
        if link.is_connected {
            return Some(News::Ready(owner));
        }
        match link.socket.is_connected() {
            Ok(false) => None,
            Ok(true) => {
                link.is_connected = true;
                Some(News::Connected(owner))
            }
            Err(_) => Some(News::Failed(owner)),
        }
    }

    /// The link of that key.
    pub(super) fn get_mut(&mut self, key: usize) -> Option<&mut Link> {
        self.all.get_mut(key)
    }
}

impl Link {
    /// Reads what the exchange has room for, given that twice `high` bytes may wait for the client; how many bytes moved.
    pub(super) fn fill(
        &mut self,
        to: &mut Flow,
        scratch: &mut [u8],
        high: usize,
        now: Instant,
    ) -> usize {
        let mut moved = 0;
        while self.is_connected && !to.up.eof && moved < READ {
            if to.up.input.len() >= INPUT_HIGH || to.client.output.len() >= high * 2 {
                break;
            }
            match self.socket.read(&mut scratch[..READ]) {
                Ok(None) => break,
                Ok(Some(0)) => to.up.eof = true,
                Ok(Some(count)) => {
                    to.up.input.push(&scratch[..count]);
                    moved += count;
                }
                Err(_) => {
                    to.up.eof = true;
                    to.up.reset = true;
                }
            }
            moved += usize::from(to.up.eof);
            to.up.moved = now;
        }
        moved
    }

    /// Writes what the exchange has for the place; how many bytes moved. After what `is_last` our
    /// side is closed.
    pub(super) fn flush(&mut self, from: &mut Flow, is_last: bool, now: Instant) -> usize {
        let mut moved = 0;
        while self.is_connected && !self.is_deaf && !from.up.output.is_empty() {
            match self.socket.write_from(&mut from.up.output) {
                Ok(None) => break,
                Ok(Some(count)) => {
                    from.up.moved = now;
                    moved += count;
                }
                // It may have answered before it closed: reading tells.
                Err(_) => self.is_deaf = true,
            }
        }
        if is_last && from.up.output.is_empty() && !self.is_shut {
            self.is_shut = true;
            self.socket.shut_down();
        }
        moved
    }
}

/// Idle connections to one place: what one HTTP/2 client may ask at once. More are only kept by a
/// burst that is over.
const MAX_POOLED: usize = 100;
