//! A service that keeps every byte it was sent, and answers each whole request.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::mpsc,
    thread::{self, JoinHandle},
};

use netstack::door::Upstream;

pub(super) struct Recorder {
    pub(super) at: Upstream,
    address: SocketAddr,
    last: mpsc::Sender<SocketAddr>,
    thread: JoinHandle<Vec<u8>>,
}

impl Recorder {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (last, is_last) = mpsc::channel();
        Self {
            at: Upstream::Tcp(address),
            address,
            last,
            thread: thread::spawn(move || accept(&listener, &is_last)),
        }
    }

    /// All that came on all connections, one after the other. To be called when the door is closed:
    /// it waits for the end of each.
    pub(super) fn finish(self) -> Vec<u8> {
        // Accepted in their order, so after the first of these there is none; the second wakes it.
        let marker = TcpStream::connect(self.address).unwrap();
        self.last.send(marker.local_addr().unwrap()).unwrap();
        drop((marker, TcpStream::connect(self.address)));
        self.thread.join().unwrap()
    }
}

fn accept(listener: &TcpListener, is_last: &mpsc::Receiver<SocketAddr>) -> Vec<u8> {
    let (mut connections, mut marker) = (Vec::new(), None);
    loop {
        let (stream, peer) = listener.accept().unwrap();
        connections.push((peer, thread::spawn(move || serve(stream))));
        marker = marker.or(is_last.try_recv().ok());
        if connections.iter().any(|(peer, _)| marker == Some(*peer)) {
            break;
        }
    }
    let records = connections.into_iter().map(|(_, thread)| thread.join());
    records.map(Result::unwrap).collect::<Vec<_>>().concat()
}

fn serve(mut stream: TcpStream) -> Vec<u8> {
    let (mut all, mut answered, mut piece) = (Vec::new(), 0, [0; 4096]);
    while let Ok(count @ 1..) = stream.read(&mut piece) {
        all.extend_from_slice(&piece[..count]);
        while let Some(length) = whole(&all[answered..]) {
            answered += length;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    }
    all
}

/// The length of the first request in `bytes`, if all of it is there.
fn whole(bytes: &[u8]) -> Option<usize> {
    let text = String::from_utf8_lossy(bytes);
    let (head, rest) = text.split_once("\r\n\r\n")?;
    let length = |head: &str| {
        let field = head.split("\r\nContent-Length: ").nth(1)?;
        field.split("\r\n").next()?.parse::<usize>().ok()
    };
    let body = if head.contains("\r\nTransfer-Encoding: chunked") {
        rest.find("0\r\n\r\n")? + 5
    } else {
        length(head).unwrap_or(0)
    };
    (rest.len() >= body).then_some(head.len() + 4 + body)
}
