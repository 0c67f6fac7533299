//! A network that counts what it carries, and breaks where it is told to.

use std::{
    collections::VecDeque,
    fs,
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// What happens at a place where the network breaks.
pub(crate) type Break = Box<dyn FnMut() + Send>;

/// A proxy on loopback.
pub(crate) struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    carried: AtomicU64,
    connections: AtomicU64,
    stop: AtomicBool,
    /// Whether little is under way when it breaks.
    settles: bool,
    /// Counts of carried bytes at which to break, in order.
    breaks: Mutex<VecDeque<u64>>,
    at_break: Mutex<Break>,
}

impl Proxy {
    /// Carries to `upstream`, and closes the connection at each count of carried bytes in `breaks`.
    pub(crate) fn breaking(upstream: SocketAddr, breaks: Vec<u64>) -> Self {
        Self::new(upstream, breaks, false, Box::new(|| ()))
    }

    /// As [`breaking`](Self::breaking), and calls `at_break` each time, with little under way.
    pub(crate) fn killing(upstream: SocketAddr, breaks: Vec<u64>, at_break: Break) -> Self {
        Self::new(upstream, breaks, true, at_break)
    }

    fn new(upstream: SocketAddr, breaks: Vec<u64>, settles: bool, at_break: Break) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            carried: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            settles,
            breaks: Mutex::new(breaks.into()),
            at_break: Mutex::new(at_break),
        });
        let serving = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            for client in listener.incoming() {
                if serving.stop.load(Ordering::SeqCst) {
                    return;
                }
                let (client, shared) = (client.unwrap(), Arc::clone(&serving));
                shared.connections.fetch_add(1, Ordering::SeqCst);
                thread::spawn(move || carry(&client, upstream, &shared));
            }
        });
        Self {
            address,
            shared,
            thread: Some(thread),
        }
    }

    /// Only counts.
    pub(crate) fn counting(upstream: SocketAddr) -> Self {
        Self::breaking(upstream, Vec::new())
    }

    /// A URL through it.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    /// Bytes carried to clients, heads included.
    pub(crate) fn carried(&self) -> u64 {
        self.shared.carried.load(Ordering::SeqCst)
    }

    /// Connections made through it.
    pub(crate) fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Breaks that are still to come.
    pub(crate) fn breaks_left(&self) -> usize {
        self.shared.breaks.lock().unwrap().len()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn carry(client: &TcpStream, upstream: SocketAddr, shared: &Shared) {
    let server = TcpStream::connect(upstream).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            requests(client, &server);
            let _ = server.shutdown(Shutdown::Both);
        });
        answers(client, &server, shared);
        let _ = client.shutdown(Shutdown::Both);
        let _ = server.shutdown(Shutdown::Both);
    });
}

fn requests(mut client: &TcpStream, mut server: &TcpStream) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = client.read(&mut buffer) {
        if server.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
}

fn answers(mut client: &TcpStream, mut server: &TcpStream, shared: &Shared) {
    let ports = (
        client.local_addr().unwrap().port(),
        client.peer_addr().unwrap().port(),
    );
    let mut buffer = [0; PIECE];
    loop {
        let count = match server.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        let before = shared.carried.load(Ordering::SeqCst);
        let mut breaks = shared.breaks.lock().unwrap();
        let end = before + count as u64;
        let cut = breaks.front().copied().filter(|at| *at < end);
        let carried = cut.map_or(count, |at| at.saturating_sub(before) as usize);
        if cut.is_some() && shared.settles {
            wait_for_room(ports);
        }
        // Counted first: whoever sees the bytes must see the count.
        shared.carried.fetch_add(carried as u64, Ordering::SeqCst);
        let sent = client.write_all(&buffer[..carried]);
        if cut.is_some() {
            while breaks.front().is_some_and(|at| *at < end) {
                breaks.pop_front();
            }
            drop(breaks);
            (shared.at_break.lock().unwrap())();
            return;
        }
        if sent.is_err() {
            return;
        }
    }
}

/// Waits until little is under way, as in a home's network: on loopback the kernel would hold
/// megabytes that the client has not seen when it is killed.
fn wait_for_room(ports: (u16, u16)) {
    for _ in 0..LOOKS {
        if under_way(ports) <= UNDER_WAY {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Bytes between proxy and client that the client has not read.
fn under_way((here, there): (u16, u16)) -> u64 {
    let table = fs::read_to_string("/proc/self/net/tcp").unwrap();
    let mut bytes = 0;
    for line in table.lines().skip(1) {
        let fields: Vec<_> = line.split_whitespace().collect();
        let port = |field: &str| u16::from_str_radix(field.rsplit(':').next()?, 16).ok();
        let ports = (port(fields[1]), port(fields[2]));
        let (sending, receiving) = fields[4].split_once(':').unwrap();
        let number = |field: &str| u64::from_str_radix(field, 16).unwrap();
        if ports == (Some(here), Some(there)) {
            bytes += number(sending);
        } else if ports == (Some(there), Some(here)) {
            bytes += number(receiving);
        }
    }
    bytes
}

/// Carried at once.
const PIECE: usize = 32 << 10;
/// What a gigabit network of half a millisecond holds.
const UNDER_WAY: u64 = 64 << 10;
/// Looks at a client that does not read, before it is pressed.
const LOOKS: usize = 3000;
