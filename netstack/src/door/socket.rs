//! A stream socket with what is known of its readiness, so that no system call is made in vain.

use std::io::{self, Read, Write};

use mio::{
    Interest, Registry, Token,
    event::{Event, Source},
    net::{TcpStream, UnixStream},
};

use super::{buffer::Buffer, config::Upstream};

/// A registered stream socket.
pub(super) struct Socket {
    stream: Stream,
    readable: bool,
    writable: bool,
    /// The peer has closed its side: after a short read there is still the end to be read.
    hung_up: bool,
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    /// A client's connection.
    pub(super) fn accepted(stream: TcpStream) -> Self {
        Self::new(Stream::Tcp(stream))
    }

    /// Begins to connect to `upstream`.
    pub(super) fn connect(upstream: &Upstream) -> io::Result<Self> {
        match upstream {
            Upstream::Tcp(address) => {
                let stream = TcpStream::connect(*address)?;
                let _ = stream.set_nodelay(true);
                Ok(Self::new(Stream::Tcp(stream)))
            }
            Upstream::Unix(path) => {
                let mut socket = Self::new(Stream::Unix(UnixStream::connect(path)?));
                // A Unix connection is there at once, so the first write need not wait.
                socket.writable = true;
                Ok(socket)
            }
        }
    }

    /// Registers for both directions, once and for all.
    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let interests = Interest::READABLE | Interest::WRITABLE;
        match &mut self.stream {
            Stream::Tcp(stream) => stream.register(registry, token, interests),
            Stream::Unix(stream) => stream.register(registry, token, interests),
        }
    }

    /// Notes what `event` says.
    pub(super) fn note(&mut self, event: &Event) {
        self.readable |= event.is_readable() || event.is_error() || event.is_read_closed();
        self.writable |= event.is_writable() || event.is_error();
        self.hung_up |= event.is_read_closed() || event.is_error();
    }

    /// Whether a connection that was begun is now complete; an error if it can't be.
    pub(super) fn is_connected(&self) -> io::Result<bool> {
        let (error, peer) = match &self.stream {
            Stream::Tcp(stream) => (stream.take_error()?, stream.peer_addr().map(drop)),
            Stream::Unix(stream) => (stream.take_error()?, stream.peer_addr().map(drop)),
        };
        match (error, peer) {
            (Some(error), _) => Err(error),
            (None, Ok(())) => Ok(true),
            (None, Err(error)) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            (None, Err(error)) => Err(error),
        }
    }

    /// Reads; `None` when there is nothing now, 0 at the end.
    pub(super) fn read(&mut self, to: &mut [u8]) -> io::Result<Option<usize>> {
        if !self.readable {
            return Ok(None);
        }
        let result = match &mut self.stream {
            Stream::Tcp(stream) => stream.read(to),
            Stream::Unix(stream) => stream.read(to),
        };
        match result {
            Ok(count) => {
                self.readable = count > 0 && (count == to.len() || self.hung_up);
                Ok(Some(count))
            }
            Err(error) => {
                self.readable = error.kind() == io::ErrorKind::Interrupted;
                not_now(error).map(|()| None)
            }
        }
    }

    /// Lets `write` write; `None` when nothing can be taken now.
    pub(super) fn write_by(
        &mut self,
        write: impl FnOnce(&mut dyn Write) -> io::Result<usize>,
    ) -> io::Result<Option<usize>> {
        if !self.writable {
            return Ok(None);
        }
        let result = match &mut self.stream {
            Stream::Tcp(stream) => write(stream),
            Stream::Unix(stream) => write(stream),
        };
        match result {
            Ok(count) => Ok(Some(count)),
            Err(error) => {
                self.writable = error.kind() == io::ErrorKind::Interrupted;
                not_now(error).map(|()| None)
            }
        }
    }

    /// Writes from the front of `bytes`; `None` when nothing can be taken now.
    pub(super) fn write_from(&mut self, bytes: &mut Buffer) -> io::Result<Option<usize>> {
        let count = self.write_by(|out| out.write(bytes.bytes()))?;
        bytes.consume(count.unwrap_or(0));
        Ok(count)
    }

    /// Whether something may be taken, as far as is known.
    pub(super) fn is_writable(&self) -> bool {
        self.writable
    }

    /// Ends our side. A peer that is gone already is told nothing.
    pub(super) fn shut_down(&self) {
        let _ = match &self.stream {
            Stream::Tcp(stream) => stream.shutdown(std::net::Shutdown::Write),
            Stream::Unix(stream) => stream.shutdown(std::net::Shutdown::Write),
        };
    }

    fn new(stream: Stream) -> Self {
        Self {
            stream,
            readable: false,
            writable: false,
            hung_up: false,
        }
    }
}

fn not_now(error: io::Error) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(()),
        _ => Err(error),
    }
}
