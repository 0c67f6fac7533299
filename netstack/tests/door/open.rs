//! A door, open on loopback ports of its own.

use std::{
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::{Duration, SystemTime},
};

use netstack::{
    ca::Authority,
    door::{
        self, Command, DoorConfig, DoorError, Limits, Route, RouteKind, Sender, Setup, Upstream,
    },
};

use crate::client::Client;

/// A door at work, with an authority that issued its certificate.
pub(crate) struct Door {
    pub(crate) https: SocketAddr,
    pub(crate) plain: SocketAddr,
    pub(crate) probe: SocketAddr,
    /// The port that is the service's own.
    pub(crate) own_port: SocketAddr,
    pub(crate) ca: Authority,
    pub(crate) config: DoorConfig,
    pub(crate) sender: Sender,
    pub(crate) log: Arc<Mutex<Vec<String>>>,
    pub(crate) thread: JoinHandle<Result<(), DoorError>>,
}

impl Door {
    /// Opens with `dashboard` and a service called `demo`.
    pub(crate) fn open(dashboard: &Upstream, demo: &Upstream, limits: Limits) -> Self {
        let ca = Authority::create("otter", SystemTime::now()).unwrap();
        let names = ["otter.local", "demo.otter.local", "127.0.0.1"].map(str::to_owned);
        let config = DoorConfig {
            hostname: "otter".into(),
            identity: Some(ca.issue(&names, SystemTime::now()).unwrap()),
            ca_pem: Some(ca.pem().to_owned()),
            dashboard: dashboard.clone(),
            routes: vec![Route {
                service: "demo".into(),
                upstream: demo.clone(),
                port: Some(8443),
                kind: RouteKind::Http,
            }],
        };
        let (probe, log) = (listener(), Arc::<Mutex<Vec<String>>>::default());
        let (sender, receiver) = door::channel().unwrap();
        let lines = Arc::clone(&log);
        let setup = Setup {
            probe: Some(probe.try_clone().unwrap()),
            limits,
            log: Box::new(move |line| lines.lock().unwrap().push(line.to_owned())),
        };
        sender
            .send(Command::Configure(Box::new(config.clone())))
            .unwrap();
        Self {
            https: listen(&sender, 443),
            plain: listen(&sender, 80),
            own_port: listen(&sender, 8443),
            probe: probe.local_addr().unwrap(),
            thread: thread::spawn(move || door::run(setup, receiver)),
            ca,
            config,
            sender,
            log,
        }
    }

    /// Opens with a service that answers, and no dashboard.
    pub(crate) fn with_demo(demo: &Upstream) -> Self {
        Self::open(&nobody(), demo, Limits::default())
    }

    pub(crate) fn configure(&self, config: DoorConfig) {
        self.sender
            .send(Command::Configure(Box::new(config)))
            .unwrap();
    }

    /// A new TLS connection to port 443.
    pub(crate) fn client(&self) -> Client {
        Client::tls(self.https, "otter.local", self.ca.pem()).unwrap()
    }

    /// Ends the door in order.
    pub(crate) fn close(self) {
        self.sender.send(Command::Shutdown).unwrap();
        self.thread.join().unwrap().unwrap();
    }
}

/// An address where nobody listens.
pub(crate) fn nobody() -> Upstream {
    Upstream::Unix("/nonexistent/pilotlight.sock".into())
}

/// A new, empty folder, removed with what is in it when dropped.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("door-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Tries until `done` says so; a minute is ample for anything but a dead door.
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..6000 {
        if done() {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("{what} did not come about");
}

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

fn listen(sender: &Sender, port: u16) -> SocketAddr {
    let listener = listener();
    let address = listener.local_addr().unwrap();
    sender.send(Command::Listen { port, listener }).unwrap();
    address
}
