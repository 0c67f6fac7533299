//! The loop of the thread `names`: carries messages and time between sockets, responder and name
//! server. It never waits but in `poll`, and takes a bounded share from each socket in turn.

use std::{
    collections::BTreeMap,
    io,
    net::IpAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::mpsc::TryRecvError,
    time::Duration,
};

use mio::{Events, Poll, Token};

use super::{
    Setup,
    command::{Command, Receiver},
    dns::{self, DnsConfig, DnsStatus, Service},
    mdns::Responder,
    sockets::{self, Family, Sockets},
    zone::Site,
};
use crate::net::{
    clock::{self, Now},
    random::Random,
};

/// Runs until the sending ends are gone.
///
/// # Errors
/// When the kernel's `epoll` fails.
pub fn run(setup: Setup, receiver: Receiver) -> io::Result<()> {
    let mut engine = Engine {
        setup,
        responder: Responder::new(Random::seeded()),
        wanted: Wanted::default(),
        links: BTreeMap::new(),
        unfinished: Vec::new(),
        said: String::new(),
        trouble: None,
        retry: false,
        dns: Service::new(),
        dns_config: DnsConfig::default(),
        dns_looked: Now::ZERO,
        dns_told: (Now::ZERO, DnsStatus::default()),
    };
    let Receiver { queue, mut poll } = receiver;
    let mut events = Events::with_capacity(EVENTS_MAX);
    loop {
        match poll.poll(&mut events, Some(engine.sleep())) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            Ok(()) | Err(_) => {}
        }
        loop {
            match queue.try_recv() {
                Ok(command) => engine.obey(command, &poll),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Ok(()),
            }
        }
        // What is kept beside the responder and its sockets is whole between any two steps.
        if catch_unwind(AssertUnwindSafe(|| engine.turn(&events, &poll))).is_err() {
            engine.begin_again(&poll);
        }
    }
}

/// What is to be published, and the links by name with their addresses.
#[derive(Debug, Default)]
struct Wanted {
    site: Site,
    links: Vec<(String, Vec<(IpAddr, u8)>)>,
}

struct Engine {
    setup: Setup,
    responder: Responder,
    wanted: Wanted,
    links: BTreeMap<u32, Sockets>,
    /// Sockets that had more than their share.
    unfinished: Vec<Token>,
    /// The host name last told of.
    said: String,
    /// What can't be done, as last told.
    trouble: Option<String>,
    /// Whether a socket is to be tried again.
    retry: bool,
    dns: Service,
    dns_config: DnsConfig,
    dns_looked: Now,
    /// When and what was last told of it.
    dns_told: (Now, DnsStatus),
}

impl Engine {
    fn sleep(&self) -> Duration {
        if !self.unfinished.is_empty() {
            return Duration::ZERO;
        }
        let deadlines = [self.responder.deadline(), self.dns.deadline()];
        let wait = match deadlines.into_iter().flatten().min() {
            Some(at) => at.saturating_sub(clock::now()) + Duration::from_millis(1),
            None => SLEEP_MAX,
        };
        wait.min(if self.retry { RETRY_PAUSE } else { SLEEP_MAX })
    }

    /// After a panic: the names are claimed anew.
    fn begin_again(&mut self, poll: &Poll) {
        (self.setup.log)("The publishing of the box's name panicked and begins again.");
        self.responder = Responder::new(Random::seeded());
        self.links.clear();
        // What waits at the name server's sockets is not told of again.
        self.unfinished
            .retain(|token| dns::from_token(*token).is_some());
        self.unfinished.extend(self.dns.sockets());
        self.dns.begin_again(clock::now(), self.dns_config.clone());
        self.adjust(poll);
    }

    fn obey(&mut self, command: Command, poll: &Poll) {
        match command {
            Command::Publish { site, links } => {
                self.wanted = Wanted { site, links };
                self.adjust(poll);
            }
            Command::Farewell => self.responder.go(),
            Command::Resolve(config) => {
                self.dns_config = (*config).clone();
                self.dns.configure(clock::now(), *config, poll.registry());
            }
            Command::Listen {
                address,
                datagrams,
                listener,
            } => {
                let sockets = (datagrams, listener);
                if let Err(e) = self.dns.listen(address, sockets, poll.registry()) {
                    (self.setup.log)(&format!("names can't be asked for at {address}: {e}"));
                }
            }
            Command::Close { address } => self.dns.close(address),
            Command::Retire => self.dns.retire(poll.registry()),
        }
    }

    /// Opens and closes sockets, and tells the responder of its links.
    fn adjust(&mut self, poll: &Poll) {
        let mut links = BTreeMap::new();
        let mut trouble = None;
        for (name, addresses) in &self.wanted.links {
            let Some(index) = sockets::index_of(name) else {
                trouble = Some(format!(
                    "there is no link {name} to publish the box's name on"
                ));
                continue;
            };
            let sockets = self.links.entry(index).or_default();
            if let Err(e) = sockets.adjust((index, name), addresses, poll.registry()) {
                trouble = Some(format!("the box's name can't be published on {name}: {e}"));
            }
            links.insert(index, addresses.clone());
        }
        self.links.retain(|index, _| links.contains_key(index));
        self.retry = trouble.is_some();
        if trouble != self.trouble {
            if let Some(trouble) = &trouble {
                (self.setup.log)(trouble);
            }
            self.trouble = trouble;
        }
        let site = self.wanted.site.clone();
        self.responder.configure(clock::now(), site, &links);
    }

    fn turn(&mut self, events: &Events, poll: &Poll) {
        if self.retry {
            self.adjust(poll);
        }
        let mut buffer = [0; MESSAGE_MAX];
        let mut ready = std::mem::take(&mut self.unfinished);
        ready.extend(events.iter().map(mio::event::Event::token));
        for token in ready {
            if let Some(socket) = dns::from_token(token) {
                if self.dns.ready(clock::now(), socket, poll.registry()) {
                    self.unfinished.push(token);
                }
                continue;
            }
            let Some((link, family)) = sockets::from_token(token) else {
                continue;
            };
            if self.receive(link, family, &mut buffer) {
                self.unfinished.push(token);
            }
        }
        self.dns.tick(clock::now(), poll.registry());
        self.tell_of_dns();
        self.responder.tick(clock::now());
        self.transmit();
        if self.responder.hostname() != self.said {
            self.said = self.responder.hostname().to_owned();
            (self.setup.on_hostname)(&self.said);
        }
    }

    /// Tells how the name server does, if that is news.
    fn tell_of_dns(&mut self) {
        let now = clock::now();
        if now.saturating_sub(self.dns_looked) < LOOK_PAUSE {
            return;
        }
        self.dns_looked = now;
        let (at, told) = &self.dns_told;
        let pause = now.saturating_sub(*at);
        let status = self.dns.status(now);
        let is_due = !status.is_like(told) || pause >= TELL_PAUSE && status != *told;
        if is_due {
            (self.setup.on_dns)(&status);
            self.dns_told = (now, status);
        }
    }

    /// Takes a socket's share. True if it may have more: mio does not tell of it again.
    fn receive(&mut self, link: u32, family: Family, buffer: &mut [u8]) -> bool {
        for _ in 0..SHARE {
            let Some(sockets) = self.links.get(&link) else {
                return false;
            };
            let Some((length, from)) = sockets.receive(family, buffer) else {
                return false;
            };
            let message = &buffer[..length];
            self.responder.receive(clock::now(), link, from, message);
            self.transmit();
        }
        true
    }

    fn transmit(&mut self) {
        while let Some(sent) = self.responder.transmit() {
            if let Some(sockets) = self.links.get(&sent.link) {
                sockets.send(sent.to, &sent.bytes);
            }
        }
    }
}

/// Events taken in one turn.
const EVENTS_MAX: usize = 64;

/// Messages taken from one socket in one turn.
const SHARE: usize = 64;

/// The longest message, in bytes (RFC 6762, 17).
const MESSAGE_MAX: usize = 9000;

/// The loop turns at least this often.
const SLEEP_MAX: Duration = Duration::from_secs(60);

/// Between two times that it is told how the name server does.
const TELL_PAUSE: Duration = Duration::from_secs(10);
/// Between two looks for news of who answers.
const LOOK_PAUSE: Duration = Duration::from_secs(1);

/// Between two tries of what the kernel refused.
const RETRY_PAUSE: Duration = Duration::from_secs(2);
