//! A server that answers as a test tells it to, right or wrong.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

/// A request, as far as a test cares.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// How many came before it.
    pub(crate) count: usize,
    /// The range asked for.
    pub(crate) range: Range<usize>,
    /// What `If-Range` says.
    pub(crate) if_range: Option<String>,
}

/// What is sent back, as it goes over the wire; the connection is closed after it.
pub(crate) type Answer = Vec<u8>;

/// A server on loopback.
pub(crate) struct Server {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Answers each request with what `answer` gives, or holds the connection open without an
    /// answer.
    pub(crate) fn new(mut answer: impl FnMut(Request) -> Option<Answer> + Send + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut held = Vec::new();
            let mut count = 0;
            for client in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let mut client = client.unwrap();
                let Some(request) = request(&mut client, count) else {
                    continue;
                };
                count += 1;
                match answer(request) {
                    // A client that hangs up meanwhile is what some tests are about.
                    Some(bytes) => drop(client.write_all(&bytes)),
                    None => held.push(client),
                }
            }
        });
        Self {
            address,
            stop,
            thread: Some(thread),
        }
    }

    /// The URL of its one file.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/a.s9pk", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A right answer to a request for a part.
pub(crate) fn part(file: &[u8], request: &Request, etag: &str) -> Answer {
    let range = request.range.start..request.range.end.min(file.len());
    let head = format!(
        "HTTP/1.1 206 Partial Content\r\nETag: {etag}\r\nContent-Length: {}\r\n\
         Content-Range: bytes {}-{}/{}\r\n\r\n",
        range.len(),
        range.start,
        range.end - 1,
        file.len()
    );
    [head.as_bytes(), &file[range]].concat()
}

/// The whole file, as a server without ranges sends it.
pub(crate) fn whole(file: &[u8], etag: &str) -> Answer {
    let head = format!(
        "HTTP/1.1 200 OK\r\nETag: {etag}\r\nContent-Length: {}\r\n\r\n",
        file.len()
    );
    [head.as_bytes(), file].concat()
}

fn request(client: &mut TcpStream, count: usize) -> Option<Request> {
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte).ok()?;
        text.push(byte[0]);
    }
    let text = String::from_utf8(text).unwrap();
    let header = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.trim().to_owned())
    };
    let range = header("Range: bytes=")?;
    let (first, last) = range.split_once('-')?;
    Some(Request {
        count,
        range: first.parse().ok()?..last.parse::<usize>().ok()? + 1,
        if_range: header("If-Range:"),
    })
}
