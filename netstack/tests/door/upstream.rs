//! Services to stand behind the door: real sockets, one thread a connection.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::net::UnixListener,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use netstack::door;

/// A service.
pub(crate) struct Upstream {
    pub(crate) at: door::Upstream,
    /// How many connections it has taken.
    pub(crate) connections: Arc<AtomicUsize>,
    /// The heads of all requests it has understood.
    pub(crate) heads: Arc<Mutex<Vec<String>>>,
}

/// A request as a service sees it.
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) body: Vec<u8>,
}

/// One connection as a service sees it.
pub(crate) struct Connection {
    reader: BufReader<Box<dyn Read + Send>>,
    pub(crate) writer: Box<dyn Write + Send>,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Upstream {
    /// A service on TCP that does `serve` with each connection.
    pub(crate) fn tcp(serve: impl Fn(Connection) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let upstream = Self::at(door::Upstream::Tcp(address));
        let accept = move || {
            let stream: TcpStream = listener.accept().unwrap().0;
            stream.set_nodelay(true).unwrap();
            let reader: Box<dyn Read + Send> = Box::new(stream.try_clone().unwrap());
            (reader, Box::new(stream) as Box<dyn Write + Send>)
        };
        upstream.run(accept, serve);
        upstream
    }

    /// The same on a Unix socket.
    pub(crate) fn unix(path: &Path, serve: impl Fn(Connection) + Send + Sync + 'static) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        let upstream = Self::at(door::Upstream::Unix(path.to_owned()));
        let accept = move || {
            let stream = listener.accept().unwrap().0;
            let reader: Box<dyn Read + Send> = Box::new(stream.try_clone().unwrap());
            (reader, Box::new(stream) as Box<dyn Write + Send>)
        };
        upstream.run(accept, serve);
        upstream
    }

    /// A service that answers every request with 200, saying `METHOD path body`.
    pub(crate) fn friendly() -> Self {
        Self::tcp(|mut connection| {
            while let Some(request) = connection.request() {
                let body = String::from_utf8_lossy(&request.body);
                let text = format!("{} {} {body}", request.method, request.path);
                connection.answer("200 OK", &text);
            }
        })
    }

    pub(crate) fn count(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    fn at(at: door::Upstream) -> Self {
        Self {
            at,
            connections: Arc::default(),
            heads: Arc::default(),
        }
    }

    fn run(
        &self,
        accept: impl Fn() -> (Box<dyn Read + Send>, Box<dyn Write + Send>) + Send + 'static,
        serve: impl Fn(Connection) + Send + Sync + 'static,
    ) {
        let (count, heads) = (Arc::clone(&self.connections), Arc::clone(&self.heads));
        let serve = Arc::new(serve);
        thread::spawn(move || {
            loop {
                let (reader, writer) = accept();
                count.fetch_add(1, Ordering::SeqCst);
                let (serve, heads) = (Arc::clone(&serve), Arc::clone(&heads));
                let reader = BufReader::new(reader);
                let connection = Connection {
                    reader,
                    writer,
                    heads,
                };
                thread::spawn(move || serve(connection));
            }
        });
    }
}

impl Connection {
    /// The next request, body and all; `None` at the end.
    pub(crate) fn request(&mut self) -> Option<Request> {
        let head = self.head()?;
        let lower = head.to_ascii_lowercase();
        let body = match lower.split_once("content-length: ") {
            Some((_, rest)) => {
                let length = rest.lines().next().unwrap().parse().unwrap();
                let mut body = vec![0; length];
                self.reader.read_exact(&mut body).ok()?;
                body
            }
            None if lower.contains("transfer-encoding: chunked") => self.chunks()?,
            None => Vec::new(),
        };
        let mut words = head.split(' ').map(str::to_owned);
        Some(Request {
            method: words.next()?,
            path: words.next()?,
            body,
        })
    }

    /// The next request's head; its body is left.
    pub(crate) fn head(&mut self) -> Option<String> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.reader.read_line(&mut head).ok()? == 0 {
                return None;
            }
        }
        self.heads.lock().unwrap().push(head.clone());
        Some(head)
    }

    /// Answers with a text.
    pub(crate) fn answer(&mut self, status: &str, text: &str) {
        let length = text.len();
        self.say(&format!(
            "HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{text}"
        ));
    }

    /// Writes as it is; that nobody reads any more is no concern of a service.
    pub(crate) fn say(&mut self, text: &str) {
        let _ = self.writer.write_all(text.as_bytes());
    }

    /// Reads what is there, at most `to.len()` bytes.
    pub(crate) fn read(&mut self, to: &mut [u8]) -> usize {
        self.reader.read(to).unwrap_or(0)
    }

    fn chunks(&mut self) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let mut line = String::new();
            self.reader.read_line(&mut line).ok()?;
            let size = usize::from_str_radix(line.trim(), 16).ok()?;
            let mut chunk = vec![0; size + 2];
            self.reader.read_exact(&mut chunk).ok()?;
            if size == 0 {
                return Some(body);
            }
            body.extend_from_slice(&chunk[..size]);
        }
    }
}
