//! The door's loop: one thread, one poll, and nobody who can make it wait.
//!
//! It never blocks but in `poll`, takes no lock, writes no log and no file itself, and asks nobody
//! for anything. In each turn connections that are already established come first, then a few
//! handshakes, then a few new connections: a flood of newcomers slows nobody who is in.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use mio::{Events, Poll, Token};
use slab::Slab;

use super::{
    DoorError, Setup,
    access::AccessLog,
    ballast::Ballast,
    census::Census,
    client::Client,
    command::{Command, Receiver, WAKER},
    limits::{HANDSHAKES_A_TURN, Limits, SCRATCH},
    link::{Links, News, Owner},
    listen::Listeners,
    site::Site,
    talk::Talk,
    tls::Tls,
    wheel::{TICK, Wheel},
};

/// The door at work.
pub(super) struct Engine {
    pub(super) poll: Poll,
    pub(super) limits: Limits,
    pub(super) site: Site,
    pub(super) tls: Tls,
    pub(super) listeners: Listeners,
    pub(super) clients: Slab<Client>,
    pub(super) links: Links,
    pub(super) census: Census,
    pub(super) ballast: Ballast,
    pub(super) wheel: Wheel,
    /// Established connections that have something to do.
    ready: VecDeque<usize>,
    /// Connections that are still shaking hands.
    pub(super) newcomers: VecDeque<usize>,
    pub(super) scratch: Vec<u8>,
    pub(super) access: AccessLog,
    pub(super) log: Box<dyn FnMut(&str) + Send>,
    /// The end of what may still be finished, once the door is to close.
    closing: Option<Instant>,
}

impl Engine {
    /// A door that is about to open.
    pub(super) fn new(poll: Poll, setup: Setup, now: Instant) -> Result<Self, DoorError> {
        let mut listeners = Listeners::default();
        if let Some(probe) = setup.probe {
            listeners
                .add_probe(probe, poll.registry())
                .map_err(DoorError::Listen)?;
        }
        let limits = setup.limits.within_descriptors();
        Ok(Self {
            poll,
            ballast: Ballast::new(limits.bytes),
            limits,
            site: Site::new(now),
            tls: Tls::throw_away()?,
            listeners,
            clients: Slab::new(),
            links: Links::default(),
            census: Census::default(),
            wheel: Wheel::new(now),
            ready: VecDeque::new(),
            newcomers: VecDeque::new(),
            scratch: vec![0; SCRATCH],
            access: AccessLog::new(now),
            log: setup.log,
            closing: None,
        })
    }

    /// Turns until it is told to end.
    pub(super) fn run(&mut self, receiver: &Receiver) -> Result<(), DoorError> {
        let mut events = Events::with_capacity(EVENTS);
        loop {
            let timeout = self.patience(Instant::now());
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() != std::io::ErrorKind::Interrupted => {
                    return Err(DoorError::Poll(error));
                }
                Ok(()) | Err(_) => {}
            }
            let now = Instant::now();
            for event in &events {
                self.note(event, now);
            }
            self.turn(receiver, now);
            if self.is_closed(now) {
                return Ok(());
            }
        }
    }

    /// Puts a client into the queue that it belongs to.
    pub(super) fn enqueue(&mut self, key: usize) {
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        if !std::mem::replace(&mut client.queued, true) {
            let newcomer = client.is_handshaking();
            let queue = if newcomer {
                &mut self.newcomers
            } else {
                &mut self.ready
            };
            queue.push_back(key);
        }
    }

    /// Makes sure that the wheel rings for a client no later than its deadline.
    pub(super) fn arm(&mut self, key: usize) {
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        let (deadline, _) = client.deadline(&self.limits);
        if client.armed.is_none_or(|armed| deadline < armed) {
            client.armed = Some(deadline);
            self.wheel.set(deadline, client_token(key).0);
        }
    }

    fn turn(&mut self, receiver: &Receiver, now: Instant) {
        for _ in 0..self.ready.len() {
            let Some(key) = self.ready.pop_front() else {
                break;
            };
            self.serve(key, now);
        }
        for _ in 0..HANDSHAKES_A_TURN {
            let Some(key) = self.newcomers.pop_front() else {
                break;
            };
            self.serve(key, now);
        }
        self.lighten(now);
        // Newcomers find what the door was told before they came.
        while let Some(command) = receiver.next() {
            self.obey(command, now);
        }
        self.accept(now);
        self.ring(now);
    }

    /// How long there is nothing to do.
    fn patience(&self, now: Instant) -> Option<Duration> {
        let busy = !self.ready.is_empty() || !self.newcomers.is_empty();
        if busy || self.listeners.is_waiting(now) {
            return Some(Duration::ZERO);
        }
        let short = self.closing.is_some() || self.listeners.is_pausing();
        match (self.wheel.sleep(now), short) {
            (sleep, true) => Some(sleep.unwrap_or(TICK).min(TICK)),
            (sleep, false) => sleep,
        }
    }

    fn note(&mut self, event: &mio::event::Event, now: Instant) {
        let key = event.token().0 / KINDS;
        match event.token() {
            WAKER => {}
            Token(token) if token % KINDS == CLIENT => {
                if let Some(client) = self.clients.get_mut(key) {
                    client.socket.note(event);
                    self.enqueue(key);
                }
            }
            Token(token) if token % KINDS == LINK => {
                if let Some(news) = self.links.note(key, event) {
                    self.link_news(key, news, now);
                }
            }
            Token(_) => self.listeners.note(key),
        }
    }

    fn link_news(&mut self, key: usize, news: News, now: Instant) {
        match news {
            News::Gone => self.links.discard(key),
            News::Ready(owner) => self.wake(owner),
            News::Connected(owner) => {
                if let Some(client) = self.clients.get_mut(owner.client) {
                    client.talk.connected(owner.stream, now);
                }
                self.wake(owner);
            }
            News::Failed(owner) => {
                self.unreachable(owner, now);
                self.wake(owner);
            }
        }
    }

    /// Something has happened to an exchange.
    fn wake(&mut self, owner: Owner) {
        if let Some(client) = self.clients.get_mut(owner.client) {
            client.talk.wake(owner.stream);
        }
        self.enqueue(owner.client);
    }

    /// Does what deadlines ask for.
    fn ring(&mut self, now: Instant) {
        let mut due = Vec::new();
        self.wheel.due(now, &mut due);
        for token in due {
            let key = token / KINDS;
            match token % KINDS {
                LINK => self.link_is_old(key, now),
                _ => self.client_is_due(key, now),
            }
        }
    }

    fn client_is_due(&mut self, key: usize, now: Instant) {
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        client.armed = None;
        let (deadline, wait) = client.deadline(&self.limits);
        if now < deadline {
            return self.arm(key);
        }
        if client.is_closing() {
            return self.drop_client(key, now);
        }
        let orphans = client.talk.expire(wait, &self.site, &self.limits, now);
        self.drop_links(orphans, now);
        self.enqueue(key);
    }

    fn link_is_old(&mut self, key: usize, now: Instant) {
        let Some(link) = self.links.get_mut(key) else {
            return;
        };
        link.is_armed = false;
        let until = link.idle_since + self.limits.pooled;
        if link.owner.is_some() {
            // It is armed again when it is given back.
        } else if now >= until {
            self.links.discard(key);
        } else {
            link.is_armed = true;
            self.wheel.set(until, link_token(key).0);
        }
    }

    fn obey(&mut self, command: Command, now: Instant) {
        match command {
            Command::Close { port } => self.listeners.remove(port),
            Command::Configure(config) => {
                let shown = config
                    .identity
                    .as_ref()
                    .map(|identity| self.tls.show(identity));
                if let Some(Err(error)) = shown {
                    (self.log)(&format!("The former certificate is kept: {error}"));
                }
                self.site.configure(&config);
            }
            Command::Owner(upstream) => self.site.let_owners_in(upstream),
            Command::View(view) => self.site.look(*view, now),
            Command::Listen { port, listener } => {
                if let Err(error) = self.listeners.add(port, listener, self.poll.registry()) {
                    (self.log)(&format!("Port {port} can't be listened on: {error}."));
                }
            }
            Command::Shutdown => {
                self.closing.get_or_insert(now + self.limits.drain);
                self.listeners.clear();
                self.site.is_closing = true;
                let keys: Vec<usize> = self.clients.iter().map(|(key, _)| key).collect();
                for key in keys {
                    if let Talk::Http2(connection) = &mut self.clients[key].talk {
                        connection.go_away();
                    }
                    self.enqueue(key);
                }
            }
        }
    }

    /// Whether the door was told to close and nothing holds it any more.
    fn is_closed(&mut self, now: Instant) -> bool {
        let Some(until) = self.closing else {
            return false;
        };
        // One that was accepted just now is about to ask.
        if let Some(before) = now.checked_sub(ABOUT_TO_ASK) {
            self.shed_idle_since(before, usize::MAX, now);
        }
        self.clients.is_empty() || now >= until
    }
}

/// The token of a client's socket.
pub(super) fn client_token(key: usize) -> Token {
    Token(key * KINDS + CLIENT)
}

/// The token of a link's socket.
pub(super) fn link_token(key: usize) -> Token {
    Token(key * KINDS + LINK)
}

/// The token of a listener.
pub(super) fn listener_token(key: usize) -> Token {
    Token(key * KINDS)
}

/// A client that has connected asks within this time, or takes the end of its connection for what
/// it is: that of an idle one.
const ABOUT_TO_ASK: Duration = Duration::from_millis(500);
/// What the remainder of a token says: 0 a listener, and these.
const CLIENT: usize = 1;
const LINK: usize = 2;
const KINDS: usize = 3;
/// Events taken from the kernel in one turn; the rest come in the next.
const EVENTS: usize = 1024;
