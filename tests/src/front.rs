//! The front door in this process, and a service to stand behind it.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    thread::{self, JoinHandle},
    time::SystemTime,
};

use anyhow::{Context as _, Result, anyhow};
use netstack::{
    ca::Authority,
    door::{self, Command, DoorConfig, Limits, Sender, Setup, Upstream},
};

/// A door at work.
pub struct Front {
    /// The port of this machine at which it speaks TLS.
    pub https: u16,
    /// The authority that issued its certificate.
    pub ca: Authority,
    sender: Sender,
    thread: Option<JoinHandle<()>>,
}

impl Front {
    /// Opens a door whose dashboard is at `upstream`: all that is asked of 127.0.0.1 goes there.
    ///
    /// # Errors
    /// When it can't open.
    pub fn open(upstream: SocketAddr) -> Result<Self> {
        let ca = Authority::create("otter", SystemTime::now())?;
        let names = ["otter.local", "localhost", "127.0.0.1"].map(str::to_owned);
        let config = DoorConfig {
            hostname: "otter".into(),
            identity: Some(ca.issue(&names, SystemTime::now())?),
            ca_pem: Some(ca.pem().to_owned()),
            dashboard: Upstream::Tcp(upstream),
            routes: Vec::new(),
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let https = listener.local_addr()?.port();
        let (sender, receiver) = door::channel()?;
        let port = 443;
        sender.send(Command::Configure(Box::new(config)))?;
        sender.send(Command::Listen { port, listener })?;
        let setup = Setup {
            probe: None,
            limits: Limits::default(),
            log: Box::new(|_| {}),
        };
        let work = move || door::run(setup, receiver).expect("a door that opened goes on");
        Ok(Self {
            https,
            ca,
            sender,
            thread: Some(thread::Builder::new().name("door".into()).spawn(work)?),
        })
    }

    /// The address of `path` there.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("https://127.0.0.1:{}{path}", self.https)
    }

    /// Closes it in order.
    ///
    /// # Errors
    /// When it has broken.
    pub fn close(mut self) -> Result<()> {
        self.sender.send(Command::Shutdown)?;
        let thread = self.thread.take().context("closed already")?;
        thread.join().map_err(|_| anyhow!("the door panicked"))
    }
}

/// A service that answers a GET of `/N` with N bytes, and anything else with how many it was sent.
///
/// # Errors
/// When it can't listen.
pub fn service() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that goes away in the middle is no fault of the service.
            thread::spawn(move || drop(serve(&stream)));
        }
    });
    Ok(address)
}

fn serve(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut reader, mut writer) = (BufReader::new(stream), stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head)? == 0 {
                return Ok(());
            }
        }
        let lower = head.to_ascii_lowercase();
        let length = lower.split("content-length: ").nth(1);
        let length = length.and_then(|rest| rest.lines().next()?.parse().ok());
        let sent = match length {
            Some(length) => std::io::copy(&mut reader.by_ref().take(length), &mut std::io::sink())?,
            None if lower.contains("transfer-encoding: chunked") => chunks(&mut reader)?,
            None => 0,
        };
        let size = head
            .split(['/', ' '])
            .nth(2)
            .and_then(|size| size.parse().ok());
        let body = match size.filter(|_| head.starts_with("GET ")) {
            Some(size) => vec![b'x'; size],
            None => sent.to_string().into_bytes(),
        };
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        writer.write_all(&[head.as_bytes(), &body].concat())?;
    }
}

fn chunks(reader: &mut BufReader<&TcpStream>) -> std::io::Result<u64> {
    let mut sent = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let size = u64::from_str_radix(line.trim(), 16).map_err(std::io::Error::other)?;
        sent += std::io::copy(&mut reader.by_ref().take(size), &mut std::io::sink())?;
        reader.read_line(&mut String::new())?;
        if size == 0 {
            return Ok(sent);
        }
    }
}
