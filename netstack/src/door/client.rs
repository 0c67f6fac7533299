//! One client's connection: socket, TLS and conversation.

use std::{
    io::{self, BufRead, Write},
    time::Instant,
};

use rustls::{HandshakeKind, ServerConnection};

use super::{
    census::Group,
    hello::{Asked, Hello},
    limits::{LINGER_BYTES, Limits, READ},
    session::{Session, Wait},
    socket::Socket,
    talk::Talk,
    tls,
    vhost::Table,
};

/// A client.
pub(super) struct Client {
    pub(super) socket: Socket,
    tls: Option<Box<ServerConnection>>,
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
        tls: Option<ServerConnection>,
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
        let bytes = self.hello.take().map(Hello::into_bytes).unwrap_or_default();
        match place {
            Some(place) => {
                self.tls = None;
                self.is_new = false;
                session.pass_through(place, &bytes);
                Ok(())
            }
            None => self.take(&bytes, now),
        }
    }

    /// Whether the TLS handshake is still under way.
    pub(super) fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }

    /// Reads what may be read, up to `high` bytes unused; how many bytes moved.
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
            let Some(count) = self.socket.read(scratch)? else {
                break;
            };
            moved += count;
            if count == 0 {
                self.talk.side().eof = true;
            } else if self.closing.is_some() {
                self.throw_away(count)?;
            } else {
                self.talk.side().moved = now;
                self.take(&scratch[..count], now)?;
            }
            if moved >= READ {
                break;
            }
        }
        Ok(moved)
    }

    /// Writes what may be written; how many bytes moved.
    pub(super) fn flush(&mut self, now: Instant) -> io::Result<usize> {
        let mut moved = 0;
        let side = self.talk.side();
        loop {
            let count = match &mut self.tls {
                Some(tls) if tls.wants_write() => self.socket.write_by(|out| {
                    let mut out = out;
                    tls.write_tls(&mut out)
                })?,
                Some(tls) if !tls.is_handshaking() && !side.output.is_empty() => {
                    // One socket buffer at a time: rustls keeps what does not fit.
                    let bytes = side.output.bytes();
                    let count = tls.writer().write(&bytes[..bytes.len().min(READ)])?;
                    side.output.consume(count);
                    continue;
                }
                None if !side.output.is_empty() => {
                    let bytes = side.output.bytes();
                    let count = self.socket.write_by(|out| out.write(bytes))?;
                    side.output.consume(count.unwrap_or(0));
                    count
                }
                Some(_) | None => break,
            };
            let Some(count) = count else {
                break;
            };
            moved += count;
            side.moved = now;
        }
        Ok(moved)
    }

    /// Ends the conversation once everything is sent; whether the connection is done with.
    pub(super) fn end(&mut self, whole: bool, now: Instant) -> io::Result<bool> {
        let owes = self.tls.as_ref().is_some_and(|tls| tls.wants_write());
        if owes || !self.talk.side().output.is_empty() {
            return Ok(false);
        }
        if self.closing.is_none() {
            if let Some(tls) = self.tls.as_mut().filter(|_| whole) {
                tls.send_close_notify();
            }
            self.flush(now)?;
            self.closing = Some(Closing {
                since: now,
                thrown_away: 0,
            });
            self.talk.side().input.clear();
            self.socket.shut_down();
        }
        Ok(self.talk.side().eof)
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
        self.hello.as_ref().map_or(0, Hello::held) + self.talk.held()
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

    /// Takes bytes from the socket: deciphered, if TLS is spoken.
    fn take(&mut self, mut bytes: &[u8], now: Instant) -> io::Result<()> {
        if let Some(hello) = &mut self.hello {
            hello.push(bytes);
            return Ok(());
        }
        let Some(tls) = &mut self.tls else {
            self.talk.side().input.push(bytes);
            return Ok(());
        };
        while !bytes.is_empty() {
            if tls.read_tls(&mut bytes)? == 0 {
                break;
            }
            let handshaking = tls.is_handshaking();
            let state = match tls.process_new_packets() {
                Ok(state) => state,
                Err(error) => {
                    // The alert tells the client why; if it can't be sent now, it is not.
                    let _ = self.socket.write_by(|out| {
                        let mut out = out;
                        tls.write_tls(&mut out)
                    });
                    return Err(io::Error::new(io::ErrorKind::InvalidData, error));
                }
            };
            if handshaking && !tls.is_handshaking() {
                self.is_resumed = tls.handshake_kind() == Some(HandshakeKind::Resumed);
            }
            if handshaking
                && tls.alpn_protocol() == Some(tls::HTTP2)
                && let Talk::Http1(session) = &self.talk
            {
                self.talk = Talk::Http2(Box::new(session.to_http2(now)));
            }
            let side = self.talk.side();
            let mut left = state.plaintext_bytes_to_read();
            while left > 0 {
                let mut reader = tls.reader();
                let plain = reader.fill_buf()?;
                let count = plain.len();
                side.input.push(plain);
                reader.consume(count);
                left = left.saturating_sub(count.max(1));
            }
            side.eof |= state.peer_has_closed();
        }
        Ok(())
    }
}
