//! One client's connection: socket, TLS and conversation.

use std::{
    io::{self, BufRead, Write},
    time::Instant,
};

use rustls::ServerConnection;

use super::{
    census::Group,
    limits::{INPUT_HIGH, LINGER_BYTES, Limits, READ},
    session::{Session, Wait},
    socket::Socket,
};

/// A client.
pub(super) struct Client {
    pub(super) socket: Socket,
    tls: Option<Box<ServerConnection>>,
    pub(super) session: Session,
    /// The connection to the place that answers, by its key.
    pub(super) link: Option<usize>,
    /// For whom it counts; `None` for the guard's probe, which always gets in.
    pub(super) group: Option<Group>,
    /// It waits in a queue for its turn.
    pub(super) queued: bool,
    /// When the wheel rings for it, at the latest.
    pub(super) armed: Option<Instant>,
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
        Self {
            socket,
            tls: tls.map(Box::new),
            session,
            link: None,
            group,
            queued: false,
            armed: None,
            accepted: now,
            closing: None,
        }
    }

    /// Whether the TLS handshake is still under way.
    pub(super) fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }

    /// Reads what may be read; how many bytes moved.
    ///
    /// # Errors
    /// The connection is of no more use. An alert that says why was sent, if TLS has one.
    pub(super) fn fill(&mut self, scratch: &mut [u8], now: Instant) -> io::Result<usize> {
        let mut moved = 0;
        while !self.session.client_eof && self.session.client_in.len() < INPUT_HIGH {
            let Some(count) = self.socket.read(scratch)? else {
                break;
            };
            moved += count;
            if count == 0 {
                self.session.client_eof = true;
            } else if self.closing.is_some() {
                self.throw_away(count)?;
            } else {
                self.session.moved.client = now;
                self.take(&scratch[..count])?;
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
        loop {
            let count = match &mut self.tls {
                Some(tls) if tls.wants_write() => self.socket.write_by(|out| {
                    let mut out = out;
                    tls.write_tls(&mut out)
                })?,
                Some(tls) if !tls.is_handshaking() && !self.session.client_out.is_empty() => {
                    // One socket buffer at a time: rustls keeps what does not fit.
                    let bytes = self.session.client_out.bytes();
                    let count = tls.writer().write(&bytes[..bytes.len().min(READ)])?;
                    self.session.client_out.consume(count);
                    continue;
                }
                None if !self.session.client_out.is_empty() => {
                    let bytes = self.session.client_out.bytes();
                    let count = self.socket.write_by(|out| out.write(bytes))?;
                    self.session.client_out.consume(count.unwrap_or(0));
                    count
                }
                Some(_) | None => break,
            };
            let Some(count) = count else {
                break;
            };
            moved += count;
            self.session.moved.client = now;
        }
        Ok(moved)
    }

    /// Ends the conversation once everything is sent; whether the connection is done with.
    pub(super) fn end(&mut self, whole: bool, now: Instant) -> io::Result<bool> {
        let owes = |client: &Self| {
            let tls = client.tls.as_ref().is_some_and(|tls| tls.wants_write());
            tls || !client.session.client_out.is_empty()
        };
        if owes(self) {
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
            self.session.client_in.clear();
            self.socket.shut_down();
        }
        Ok(self.session.client_eof)
    }

    /// When waiting ends, and for what.
    pub(super) fn deadline(&self, limits: &Limits) -> (Instant, Wait) {
        match &self.closing {
            Some(closing) => (closing.since + limits.linger, Wait::Stall),
            None if self.is_handshaking() => (self.accepted + limits.handshake, Wait::Stall),
            None => self.session.deadline(limits),
        }
    }

    /// Whether its time is up for good when a deadline comes: nothing more is to be said.
    pub(super) fn is_closing(&self) -> bool {
        self.closing.is_some() || self.is_handshaking()
    }

    /// Since when it has been of no use to anyone; `None` while it is.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        match &self.closing {
            Some(closing) => Some(closing.since),
            None if self.is_handshaking() => None,
            None => self.session.is_idle().then_some(self.session.moved.client),
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
    fn take(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let Some(tls) = &mut self.tls else {
            self.session.client_in.push(bytes);
            return Ok(());
        };
        while !bytes.is_empty() {
            if tls.read_tls(&mut bytes)? == 0 {
                break;
            }
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
            let mut left = state.plaintext_bytes_to_read();
            while left > 0 {
                let mut reader = tls.reader();
                let plain = reader.fill_buf()?;
                let count = plain.len();
                self.session.client_in.push(plain);
                reader.consume(count);
                left = left.saturating_sub(count.max(1));
            }
            self.session.client_eof |= state.peer_has_closed();
        }
        Ok(())
    }
}
