//! One client's connection: socket, TLS and conversation.

use std::{io, time::Instant};

use super::{
    buffer::Buffer,
    census::Group,
    hello::{Asked, Hello},
    limits::{LINGER_BYTES, Limits, READ},
    secure::Secure,
    session::{Session, Wait},
    socket::Socket,
    talk::Talk,
    vhost::Table,
};

/// A client.
pub(super) struct Client {
    pub(super) socket: Socket,
    tls: Option<Box<Secure>>,
    pub(super) talk: Talk,
    /// What was read before it is known whether TLS ends here.
    hello: Option<Hello>,
    /// For whom it counts; `None` for the guard's probe, which always gets in.
    pub(super) group: Option<Group>,
    /// It waits in a queue for its turn.
    pub(super) queued: bool,
    /// The memory that its bytes took when they were last weighed.
    pub(super) weight: usize,
    /// When the wheel rings for it, at the latest.
    pub(super) armed: Option<Instant>,
    /// Its handshake, if it needs one, has not been counted.
    pub(super) is_new: bool,
    /// It came back with a ticket, so no certificate had to be shown.
    pub(super) is_resumed: bool,
    accepted: Instant,
    /// Nothing more is to be said, and TLS has been told.
    has_said_goodbye: bool,
    closing: Option<Closing>,
}

/// Our side is closed; the client may still be taking what was sent.
struct Closing {
    since: Instant,
    thrown_away: usize,
}

impl Client {
    /// A client that was accepted now.
    pub(super) fn new(
        socket: Socket,
        tls: Option<Secure>,
        session: Session,
        group: Option<Group>,
        now: Instant,
    ) -> Self {
        let is_tls = tls.is_some();
        Self {
            socket,
            tls: tls.map(Box::new),
            talk: Talk::Http1(Box::new(session)),
            hello: None,
            group,
            queued: false,
            weight: 0,
            armed: None,
            is_new: is_tls,
            is_resumed: false,
            accepted: now,
            has_said_goodbye: false,
            closing: None,
        }
    }

    /// Has it wait until its first bytes say where they go.
    pub(super) fn undecided(mut self) -> Self {
        self.hello = Some(Hello::default());
        self
    }

    /// Decides whether TLS ends here or is passed on, once that can be known.
    ///
    /// # Errors
    /// As [`Self::fill`].
    pub(super) fn decide(&mut self, table: &Table, now: Instant) -> io::Result<()> {
        let (Some(hello), Talk::Http1(session)) = (&self.hello, &mut self.talk) else {
            return Ok(());
        };
        let place = match hello.asked() {
            Asked::More => return Ok(()),
            Asked::For(name) => table.passed(session.entry(), name.as_deref()),
            Asked::Nonsense => None,
        };
        let mut bytes = self.hello.take().map(Hello::into_bytes).unwrap_or_default();
        match place {
            Some(place) => {
                self.tls = None;
                self.is_new = false;
                session.pass_through(place, &bytes);
                Ok(())
            }
            None => self.take(&mut bytes, now),
        }
    }

    /// Whether the TLS handshake is still under way.
    pub(super) fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }

    /// Reads what may be read, up to `high` bytes unused; how many bytes moved. `scratch` has
    /// [`SCRATCH`](super::limits::SCRATCH) bytes.
    ///
    /// # Errors
    /// The connection is of no more use. An alert that says why was sent, if TLS has one.
    pub(super) fn fill(
        &mut self,
        scratch: &mut [u8],
        high: usize,
        now: Instant,
    ) -> io::Result<usize> {
        let mut moved = 0;
        while !self.talk.side().eof && self.talk.side().input.len() < high {
            let kept = self.tls.as_ref().map_or(0, |tls| tls.put_back(scratch));
            let Some(count) = self.socket.read(&mut scratch[kept..kept + READ])? else {
                break;
            };
            moved += count;
            if count == 0 {
                self.talk.side().eof = true;
            } else if self.closing.is_some() {
                self.throw_away(count)?;
            } else {
                self.talk.side().moved = now;
                self.take(&mut scratch[..kept + count], now)?;
            }
            if moved >= READ {
                break;
            }
        }
        Ok(moved)
    }

    /// Writes what may be written; how many bytes moved. `scratch` as for [`Self::fill`].
    ///
    /// # Errors
    /// The connection is of no more use.
    pub(super) fn flush(&mut self, scratch: &mut [u8], now: Instant) -> io::Result<usize> {
        let mut moved = 0;
        while let Some(count) = self.write(scratch)? {
            moved += count;
            self.talk.side().moved = now;
        }
        Ok(moved)
    }

    /// Ends the conversation: what is left to say is said, and once all is sent, our side is closed.
    /// Whether the connection is done with. `scratch` as for [`Self::fill`].
    ///
    /// # Errors
    /// As [`Self::flush`].
    pub(super) fn end(
        &mut self,
        whole: bool,
        scratch: &mut [u8],
        now: Instant,
    ) -> io::Result<bool> {
        if !self.talk.side().output.is_empty() {
            return Ok(false);
        }
        if !std::mem::replace(&mut self.has_said_goodbye, true)
            && let Some(tls) = self.tls.as_mut().filter(|_| whole)
        {
            tls.say_goodbye();
        }
        self.flush(scratch, now)?;
        if self.tls.as_ref().is_some_and(|tls| tls.owes()) {
            return Ok(false);
        }
        let gone = self.talk.side().eof;
        // A client that has ended is not waited for, and closing says the rest.
        if self.closing.is_none() && !gone {
            self.closing = Some(Closing {
                since: now,
                thrown_away: 0,
            });
            self.talk.side().input.clear();
            self.socket.shut_down();
        }
        Ok(gone)
    }

    /// When waiting ends, and for what.
    pub(super) fn deadline(&self, limits: &Limits) -> (Instant, Wait) {
        match &self.closing {
            Some(closing) => (closing.since + limits.linger, Wait::Stall),
            None if self.is_handshaking() => (self.accepted + limits.handshake, Wait::Stall),
            None => self.talk.deadline(limits),
        }
    }

    /// Whether its time is up for good when a deadline comes: nothing more is to be said.
    pub(super) fn is_closing(&self) -> bool {
        self.closing.is_some() || self.is_handshaking()
    }

    /// The memory it holds for bytes on their way.
    pub(super) fn held(&self) -> usize {
        let tls = self.tls.as_ref().map_or(0, |tls| tls.held());
        self.hello.as_ref().map_or(0, Hello::held) + tls + self.talk.held()
    }

    /// Gives back memory that holds nothing.
    pub(super) fn relax(&mut self) {
        self.talk.relax();
        if let Some(tls) = &mut self.tls {
            tls.relax();
        }
    }

    /// Since when it has been of no use to anyone; `None` while it is.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        match &self.closing {
            Some(closing) => Some(closing.since),
            None if self.is_handshaking() => None,
            None => self.talk.idle_since(),
        }
    }

    fn throw_away(&mut self, count: usize) -> io::Result<()> {
        let Some(closing) = &mut self.closing else {
            return Ok(());
        };
        closing.thrown_away += count;
        if closing.thrown_away > LINGER_BYTES {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(())
    }

    /// Writes once to the socket, if there is something and it takes it.
    fn write(&mut self, scratch: &mut [u8]) -> io::Result<Option<usize>> {
        let output = &mut self.talk.side().output;
        match &mut self.tls {
            Some(tls) if tls.owes() => self.socket.write_from(tls.owed()),
            Some(tls) => {
                if tls.is_handshaking() || output.is_empty() || !self.socket.is_writable() {
                    return Ok(None);
                }
                let plain = output.bytes();
                let plain = &plain[..plain.len().min(READ)];
                let length = tls.encipher(plain, scratch)?;
                let count = plain.len();
                output.consume(count);
                let wrote = self.socket.write_by(|out| out.write(&scratch[..length]))?;
                tls.owed().push(&scratch[wrote.unwrap_or(0)..length]);
                Ok(wrote)
            }
            None if output.is_empty() => Ok(None),
            None => self.socket.write_from(output),
        }
    }

    /// Takes bytes from the socket: deciphered, if TLS is spoken.
    fn take(&mut self, bytes: &mut [u8], now: Instant) -> io::Result<()> {
        if let Some(hello) = &mut self.hello {
            hello.push(bytes);
            return Ok(());
        }
        let Some(tls) = &mut self.tls else {
            self.talk.side().input.push(bytes);
            return Ok(());
        };
        let was_handshaking = tls.is_handshaking();
        let mut plain = Buffer::default();
        let taken = tls.take(bytes, &mut plain);
        if taken.is_err() {
            // The alert tells the client why; if it can't be sent now, it is not.
            let _ = self.socket.write_from(tls.owed());
        }
        let is_last = taken?;
        if was_handshaking && !tls.is_handshaking() {
            self.is_resumed = tls.is_resumed();
            if tls.is_http2()
                && let Talk::Http1(session) = &self.talk
            {
                self.talk = Talk::Http2(Box::new(session.to_http2(now)));
            }
        }
        let side = self.talk.side();
        plain.pass(plain.len(), &mut side.input);
        side.eof |= is_last;
        Ok(())
    }
}
