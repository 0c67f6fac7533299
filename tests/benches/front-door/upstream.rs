//! What is behind all contenders: answers a GET of `/N` with N bytes, as fast as can be.

use std::{
    collections::HashMap,
    fmt::Write as _,
    io::{ErrorKind, Read, Write},
    net::Ipv4Addr,
};

use anyhow::Result;
use mio::{
    Events, Interest, Poll, Token,
    event::Source,
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
};

use super::contender::Room;

/// Serves until it is ended.
pub(crate) fn run(room: &Room) -> Result<()> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(1024);
    let mut unix = UnixListener::bind(room.socket())?;
    poll.registry()
        .register(&mut unix, UNIX, Interest::READABLE)?;
    let mut tcp = match room.upstream_port() {
        Some(port) => Some(TcpListener::bind((Ipv4Addr::LOCALHOST, port).into())?),
        None => None,
    };
    if let Some(tcp) = &mut tcp {
        poll.registry().register(tcp, TCP, Interest::READABLE)?;
    }
    let mut next = TCP.0 + 1;
    let mut links: HashMap<Token, Link> = HashMap::new();
    let mut scratch = vec![0; 64 * 1024];
    let body = vec![b'x'; 256 * 1024];
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            let token = event.token();
            let mut adopt = |mut stream: Box<dyn Stream>| {
                let both = Interest::READABLE | Interest::WRITABLE;
                let known = poll.registry().register(&mut stream, Token(next), both);
                if known.is_ok() {
                    links.insert(Token(next), Link::new(stream));
                }
                next += 1;
            };
            match token {
                UNIX => {
                    while let Ok((stream, _)) = unix.accept() {
                        adopt(Box::new(stream));
                    }
                }
                TCP => {
                    while let Some(Ok((stream, _))) = tcp.as_ref().map(TcpListener::accept) {
                        let _ = stream.set_nodelay(true);
                        adopt(Box::new(stream));
                    }
                }
                _ => {
                    let link = links.get_mut(&token);
                    if link.is_some_and(|link| link.serve(&mut scratch, &body).is_err()) {
                        links.remove(&token);
                    }
                }
            }
        }
    }
}

trait Stream: Read + Write + Source {}
impl Stream for TcpStream {}
impl Stream for UnixStream {}

struct Link {
    stream: Box<dyn Stream>,
    /// What came of a request that is not whole.
    head: Vec<u8>,
    /// What is to be written: heads and small bodies, then so much of a large one.
    out: Vec<u8>,
    left: usize,
}

impl Link {
    fn new(stream: Box<dyn Stream>) -> Self {
        Self {
            stream,
            head: Vec::new(),
            out: Vec::new(),
            left: 0,
        }
    }

    fn serve(&mut self, scratch: &mut [u8], body: &[u8]) -> std::io::Result<()> {
        // No request is as long as this: what follows has an event of its own.
        match self.stream.read(scratch) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => self.take(&scratch[..count], body),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        self.flush(body)
    }

    fn take(&mut self, bytes: &[u8], body: &[u8]) {
        self.head.extend_from_slice(bytes);
        while let Some(end) = self.head.windows(4).position(|end| end == b"\r\n\r\n") {
            let digits = self
                .head
                .iter()
                .skip(5)
                .take_while(|byte| byte.is_ascii_digit());
            let size = digits.fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'));
            self.head.drain(..end + 4);
            let mut head = String::with_capacity(128);
            let _ = write!(
                head,
                "HTTP/1.1 200 OK\r\nServer: bench\r\nContent-Type: application/octet-stream\r\n\
                 Cache-Control: no-store\r\nContent-Length: {size}\r\n\r\n"
            );
            self.out.extend_from_slice(head.as_bytes());
            if size <= SMALL {
                self.out.extend_from_slice(&body[..size]);
            } else {
                self.left = size;
            }
        }
    }

    fn flush(&mut self, body: &[u8]) -> std::io::Result<()> {
        while !self.out.is_empty() || self.left > 0 {
            let wrote = match self.out.is_empty() {
                true => self.stream.write(&body[..self.left.min(body.len())]),
                false => self.stream.write(&self.out),
            };
            match wrote {
                Ok(count) if self.out.is_empty() => self.left -= count,
                Ok(count) => drop(self.out.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

const UNIX: Token = Token(0);
const TCP: Token = Token(1);
/// Bodies that are written with their heads.
const SMALL: usize = 64 * 1024;
