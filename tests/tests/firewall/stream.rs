//! What goes on while the rules change: a connection through a forwarded port, and somebody who
//! knocks at a port that is closed.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use tests::netns::until;

use super::lab::{BOX_4, Lab, SOON};

/// One connection from the LAN through port 2222 to port 7000 of the first service, on which
/// numbers go to and fro, a thousand a second.
pub(crate) struct Stream {
    /// The number that came back last.
    returned: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
    failure: Arc<Mutex<Option<String>>>,
    client: JoinHandle<()>,
}

impl Stream {
    /// Connects, once and never again.
    pub(crate) fn through(lab: &Lab) -> Result<Self> {
        let listener = lab.one.within(|| Ok(TcpListener::bind("0.0.0.0:7000")?))?;
        let target = SocketAddr::from((BOX_4, 2222));
        let mut client = lab
            .router
            .within(|| Ok(TcpStream::connect_timeout(&target, SOON)?))?;
        let (mut service, _) = listener.accept()?;
        for end in [&client, &service] {
            end.set_read_timeout(Some(SOON))?;
            end.set_write_timeout(Some(SOON))?;
            end.set_nodelay(true)?;
        }
        thread::spawn(move || {
            let mut number = [0; 8];
            while service.read_exact(&mut number).is_ok() && service.write_all(&number).is_ok() {}
        });
        let returned = Arc::new(AtomicU64::new(0));
        let ended = Arc::new(AtomicBool::new(false));
        let failure = Arc::new(Mutex::new(None));
        let client = {
            let (returned, ended) = (Arc::clone(&returned), Arc::clone(&ended));
            let failure = Arc::clone(&failure);
            thread::spawn(move || {
                let mut next = 1;
                while !ended.load(Ordering::Relaxed) {
                    if let Err(error) = exchange(&mut client, next) {
                        *failure.lock().expect("whole") = Some(format!("{error:#}"));
                        return;
                    }
                    returned.store(next, Ordering::Relaxed);
                    next += 1;
                    thread::sleep(Duration::from_millis(1));
                }
            })
        };
        let stream = Self {
            returned,
            ended,
            failure,
            client,
        };
        stream.goes_on()?;
        Ok(stream)
    }

    /// Makes sure that numbers still come back.
    pub(crate) fn goes_on(&self) -> Result<()> {
        let before = self.returned.load(Ordering::Relaxed);
        let failed = || self.failure.lock().expect("whole").clone();
        until(SOON, || {
            self.returned.load(Ordering::Relaxed) > before + 2 || failed().is_some()
        })?;
        let failed = failed();
        ensure!(failed.is_none(), "after number {before}: {failed:?}");
        Ok(())
    }

    /// Ends it.
    pub(crate) fn end(self) -> Result<()> {
        self.goes_on()?;
        self.ended.store(true, Ordering::Relaxed);
        ensure!(self.client.join().is_ok(), "the client panicked");
        Ok(())
    }
}

fn exchange(stream: &mut TcpStream, number: u64) -> Result<()> {
    stream.write_all(&number.to_be_bytes()).context("sending")?;
    let mut bytes = [0; 8];
    stream.read_exact(&mut bytes).context("receiving")?;
    let back = u64::from_be_bytes(bytes);
    ensure!(back == number, "{number} came back as {back}");
    Ok(())
}

/// Datagrams from the LAN to a port, five thousand a second, until it is dropped.
pub(crate) struct Knocking {
    sent: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
}

impl Knocking {
    /// Begins.
    pub(crate) fn on(lab: &Lab, target: SocketAddr) -> Result<Self> {
        let socket = lab.router.within(|| Ok(UdpSocket::bind("0.0.0.0:0")?))?;
        let knocking = Self {
            sent: Arc::default(),
            ended: Arc::default(),
        };
        let (sent, ended) = (Arc::clone(&knocking.sent), Arc::clone(&knocking.ended));
        thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                // Where the answer is that nobody is there, the next one is told of it.
                drop(socket.send_to(b"knock", target));
                sent.fetch_add(1, Ordering::Relaxed);
                thread::sleep(Duration::from_micros(200));
            }
        });
        Ok(knocking)
    }

    /// Waits for some more.
    pub(crate) fn goes_on(&self) -> Result<()> {
        let before = self.sent.load(Ordering::Relaxed);
        until(SOON, || self.sent.load(Ordering::Relaxed) > before + 100)
    }
}

impl Drop for Knocking {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}
