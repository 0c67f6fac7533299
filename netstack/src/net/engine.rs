//! The loop of the thread `net`: carries bytes, events and time between the kernel and the state
//! machines, and keeps what is at what should be.
//!
//! It never waits but in `poll`, never touches a file system but for a switch in /proc/sys, and
//! takes a bounded share from each socket in turn. An error of the kernel's ends the engine, not
//! the thread: a new one starts from what the kernel has.

use std::{collections::BTreeMap, io, net::IpAddr, os::fd::AsRawFd as _, time::Duration};

use mio::{Events, Interest, Poll, Registry, Token, unix::SourceFd};
use rustix::io::Errno;

use super::{
    Command,
    change::Change,
    classless,
    clock::{self, Now},
    config::{Addressing, NetConfig},
    dhcp::routes::Route,
    failover::{Failover, Sight},
    filter::Filter,
    fixed::Fixed,
    frame::Mac,
    inet6::{self, Inet6},
    kernel::Kernel,
    made,
    nft::{Guard, Policy},
    ntp::{
        self,
        servers::{Surroundings, Time},
    },
    ports::{self, Heard, Port, Ports},
    privacy::Privacy,
    random::Random,
    reconcile::{self, Wanted},
    report,
    routing::Routing,
    rtnl::Rtnl,
    status::NetStatus,
    switch::Switch,
    uplink::{Needs, Outgoing, Uplink},
    ways,
};

/// The engine: what `net` knows and holds between two turns.
#[derive(Debug)]
pub(crate) struct Engine {
    config: NetConfig,
    rtnl: Rtnl,
    filter: Filter<Policy>,
    guard: Filter<Guard>,
    managed: BTreeMap<u32, Managed>,
    inet6: Inet6,
    privacy: Privacy,
    failover: Failover,
    time: Time,
    random: Random,
    /// What a socket had more of than its share, to be gone on with.
    unfinished: Vec<Token>,
    /// Lets the kernel forward, for the services.
    forwarding: Switch,
    /// Lets TCP find out what fits a path on which packets that are too large vanish.
    mtu_probing: Switch,
    port_problem: Option<String>,
    /// When something that failed outside the protocols is tried again.
    retry_at: Option<Now>,
}

/// A link that is looked after.
#[derive(Debug)]
pub(crate) enum Managed {
    /// By DHCP and the rest.
    Automatic(Box<Uplink>, Ports),
    /// As its owner said.
    Static(Box<Fixed>, Ports),
}

impl Engine {
    /// Opens what it needs and begins to read the kernel's state.
    pub(crate) fn start(config: NetConfig, poll: &Poll) -> io::Result<Self> {
        let rtnl = Rtnl::open(clock::now())?;
        let source = rtnl.as_raw_fd();
        poll.registry()
            .register(&mut SourceFd(&source), RTNL, Interest::READABLE)?;
        let mut random = Random::seeded();
        Ok(Self {
            time: Time::new(config.time.clock, Random::new(random.next())),
            config,
            rtnl,
            filter: Filter::new(FILTER),
            guard: Filter::new(GUARD),
            managed: BTreeMap::new(),
            inet6: Inet6::new(Random::new(random.next())),
            privacy: Privacy::default(),
            failover: Failover::default(),
            random,
            // What was sent before the registration may have been answered already.
            unfinished: vec![RTNL],
            forwarding: Switch::new(FORWARDING).without(&BRIDGED),
            mtu_probing: Switch::new(MTU_PROBING),
            port_problem: None,
            retry_at: None,
        })
    }

    /// How long the loop may sleep.
    pub(crate) fn sleep(&self) -> Duration {
        if !self.unfinished.is_empty() {
            return Duration::ZERO;
        }
        let uplinks = self.managed.values().filter_map(Managed::deadline);
        let others = [
            self.rtnl.deadline(),
            self.failover.deadline(),
            self.filter.deadline(),
            self.guard.deadline(),
            self.inet6.deadline(),
            self.privacy.deadline(),
            self.time.deadline(),
            self.retry_at,
            self.forwarding.deadline(),
            self.mtu_probing.deadline(),
        ];
        let next = uplinks.chain(others.into_iter().flatten()).min();
        let wait = next.map_or(SLEEP_MAX, |at| at.saturating_sub(clock::now()));
        // epoll counts milliseconds and rounds down: a deadline must not be met too early.
        (wait + Duration::from_millis(1)).min(SLEEP_MAX)
    }

    /// One turn: what has arrived, what is due, what is to be changed.
    pub(crate) fn turn(&mut self, poll: &Poll, events: &Events) -> Result<(), Errno> {
        let now = clock::now();
        let mut ready = std::mem::take(&mut self.unfinished);
        ready.extend(events.iter().map(mio::event::Event::token));
        for token in ready {
            if self.receive(now, token)? {
                self.unfinished.push(token);
            }
        }
        self.rtnl.tick(now)?;
        self.retry_at = self.retry_at.filter(|at| *at > now);
        self.reconcile(now)?;
        self.run_uplinks(now, poll);
        self.inet6.run(now, poll.registry());
        self.reconcile(now)?;
        self.filter.tick(now, poll.registry());
        self.guard.tick(now, poll.registry());
        self.run_time(poll);
        Ok(())
    }

    /// Takes a new configuration; the next turn makes it so.
    pub(crate) fn configure(&mut self, config: NetConfig) {
        if self.config.hostname != config.hostname {
            // The new name reaches the servers with the next lease.
            self.managed.clear();
        }
        self.privacy.doubt();
        self.forwarding.doubt();
        self.mtu_probing.doubt();
        if self.config.time.clock != config.time.clock {
            self.time.keep(config.time.clock);
        }
        self.config = config;
    }

    /// Gives the leases back, and their addresses with them: they are another host's soon.
    pub(crate) fn release(&mut self, poll: &Poll) {
        let now = clock::now();
        let mut changes = Vec::new();
        for (link, managed) in &mut self.managed {
            let Managed::Automatic(uplink, ports) = managed else {
                continue;
            };
            let leased = uplink.lease().map(|lease| (lease.address, lease.prefix));
            let (Some(transmit), Some((ip, prefix))) = (uplink.release(now), leased) else {
                continue;
            };
            let link = *link;
            // The kernel has to ask for the server's hardware address first, from this one.
            let expires = Some(now + RELEASED_WITHIN);
            changes.push(Change::AddAddress {
                link,
                ip,
                prefix,
                expires,
            });
            let needs = Needs {
                datagrams: Some(transmit.source),
                ..Needs::default()
            };
            if ports.adjust(link, needs, poll.registry()).is_ok() {
                ports.send(uplink.mac, &Outgoing::Dhcp(transmit));
            }
        }
        // What does not go then, the kernel takes away at the lease's end.
        self.rtnl.ask(now, &changes).ok();
    }

    /// What is; `None` while it is in motion.
    pub(crate) fn status(&self) -> Option<NetStatus> {
        let kernel = self.rtnl.settled()?;
        let announced = self.rtnl.announced();
        let now = clock::now();
        let mut status = report::status(
            now,
            &self.config,
            kernel,
            announced,
            &self.inet6,
            &self.managed,
            &self.failover,
        );
        status.services.filter = self.filter.status();
        status.services.rules = self.filter.rules();
        status.services.guard = self.guard.status();
        status.services.guard_rules = self.guard.rules();
        let refusals = self.rtnl.refusals();
        status.problems = report::problems(
            kernel,
            refusals,
            &status.services,
            &self.forwarding,
            &self.mtu_probing,
        );
        let uplinks = self.managed.values().filter_map(Managed::problem);
        status.problems.extend(uplinks);
        status.problems.extend(made::problems(&self.config, kernel));
        status.problems.extend(self.port_problem.clone());
        status.problems.extend(self.privacy.problem());
        status.time = self.time.status();
        let problem = self.time.problem();
        status.problems.extend(problem.map(str::to_owned));
        Some(status)
    }

    fn receive(&mut self, now: Now, token: Token) -> Result<bool, Errno> {
        match token {
            RTNL => self.rtnl.receive(now),
            FILTER => Ok(self.filter.receive(now)),
            GUARD => Ok(self.guard.receive(now)),
            _ if let Some(socket) = ntp::sockets::from_token(token) => {
                self.time.receive(socket);
                Ok(false)
            }
            _ if let Some(link) = inet6::from_token(token) => Ok(self.inet6.receive(now, link)),
            _ => Ok(ports::from_token(token)
                .is_some_and(|(link, port)| self.receive_from(now, link, port))),
        }
    }

    fn receive_from(&mut self, now: Now, link: u32, port: Port) -> bool {
        match self.managed.get_mut(&link) {
            Some(Managed::Automatic(uplink, ports)) => ports.receive(port, |heard| match heard {
                Heard::Arp(arp) => uplink.receive_arp(now, &arp),
                Heard::Dhcp(message) => uplink.receive_dhcp(now, message),
            }),
            Some(Managed::Static(fixed, ports)) => ports.receive(port, |heard| {
                if let Heard::Arp(arp) = heard {
                    fixed.receive_arp(now, &arp);
                }
            }),
            // The link went away between the event and now.
            None => false,
        }
    }

    /// Compares and asks for changes, unless answers are still under way.
    fn reconcile(&mut self, now: Now) -> Result<(), Errno> {
        let Some(kernel) = self.rtnl.settled() else {
            return Ok(());
        };
        let before = reconcile::failed_of_before(kernel, |link| self.managed.contains_key(link));
        for link in before {
            self.failover.adopt_failed(link);
        }
        adopt_links(
            now,
            &self.config,
            kernel,
            &mut self.managed,
            &mut self.random,
        );
        ways::judge(
            now,
            &self.config,
            kernel,
            &mut self.managed,
            &mut self.failover,
        );
        let wanted: BTreeMap<u32, Wanted> = self
            .managed
            .iter()
            .map(|(link, managed)| {
                let place = self.failover.place(*link);
                let metric = place.map_or(0, |place| place.metric);
                let wanted = managed.wanted();
                (*link, Wanted { metric, ..wanted })
            })
            .collect();
        let automatic = automatic(&self.managed);
        self.inet6
            .follow(now, kernel, self.rtnl.announced(), &automatic);
        // Before a link comes up, or it has an address made of the hardware's.
        let private = self.privacy.keep(now, self.config.address_secret);
        let mut changes = match private {
            true => unprivate(kernel, &self.managed),
            false => Vec::new(),
        };
        let ways = ways::of(kernel, &wanted, &self.failover);
        let routing = Routing::of(&ways, &ways::ties(&self.config, kernel));
        changes.extend(reconcile::changes(&self.config, kernel, &wanted, &routing));
        let bridge = self.config.bridge.as_ref();
        let routes = routes(&self.managed, &wanted);
        changes.extend(classless::changes(bridge, kernel, &routes));
        let policy = Policy::of(&self.config).with_uplinks(ways::marks(kernel, &ways));
        self.filter.want(now, policy);
        self.guard.want(now, Guard::of(&self.config, kernel));
        if self.config.bridge.is_some() {
            self.forwarding.turn_on(now);
        }
        self.mtu_probing.turn_on(now);
        self.rtnl.ask(now, &changes)
    }

    /// Tells the client of the time what the network is like, as far as is known, and lets it work.
    fn run_time(&mut self, poll: &Poll) {
        let (config, managed) = (&self.config, &self.managed);
        if let Some(kernel) = self.rtnl.settled() {
            let around = around_time(kernel, managed, &self.inet6);
            self.time.want(clock::now(), config, &around);
        }
        let (rtnl, inet6, failover) = (&self.rtnl, &self.inet6, &self.failover);
        let named = || {
            let status = rtnl.settled().map(|kernel| {
                let announced = rtnl.announced();
                report::status(
                    clock::now(),
                    config,
                    kernel,
                    announced,
                    inet6,
                    managed,
                    failover,
                )
            });
            status.map_or_else(Vec::new, |status| status.dns)
        };
        self.time.run(config, named, poll.registry());
    }

    /// Lets time pass on every uplink, then opens and closes sockets, then sends.
    fn run_uplinks(&mut self, now: Now, poll: &Poll) {
        self.port_problem = None;
        for (link, managed) in &mut self.managed {
            if let Err(problem) = managed.run(now, *link, poll.registry()) {
                self.port_problem = Some(problem);
                self.retry_at.get_or_insert(now + RETRY_PAUSE);
            }
        }
    }
}

impl Managed {
    /// Lets time pass, opens and closes sockets, sends.
    fn run(&mut self, now: Now, link: u32, registry: &Registry) -> Result<(), String> {
        match self {
            Self::Automatic(uplink, ports) => {
                uplink.tick(now);
                let adjusted = ports.adjust(link, uplink.needs(), registry);
                while let Some(outgoing) = uplink.transmit() {
                    ports.send(uplink.mac, &outgoing);
                }
                adjusted
            }
            Self::Static(fixed, ports) => {
                fixed.tick(now);
                let needs = Needs {
                    arp: fixed.needs_arp(),
                    ..Needs::default()
                };
                let adjusted = ports.adjust(link, needs, registry);
                while let Some(arp) = fixed.transmit() {
                    ports.send(fixed.mac, &Outgoing::Arp(arp));
                }
                adjusted
            }
        }
    }

    pub(super) fn watch_closely(&mut self, now: Now, closely: bool) {
        match self {
            Self::Automatic(uplink, _) => uplink.watch_closely(now, closely),
            Self::Static(fixed, _) => fixed.watch_closely(now, closely),
        }
    }

    fn deadline(&self) -> Option<Now> {
        match self {
            Self::Automatic(uplink, _) => uplink.deadline(),
            Self::Static(fixed, _) => fixed.deadline(),
        }
    }

    fn wanted(&self) -> Wanted {
        match self {
            Self::Automatic(uplink, _) => uplink.wanted(),
            Self::Static(fixed, _) => fixed.wanted(),
        }
    }

    fn problem(&self) -> Option<String> {
        match self {
            Self::Automatic(uplink, _) => uplink.problem(),
            Self::Static(fixed, _) => fixed.problem(),
        }
    }

    pub(super) fn sight(&self, metric: u32) -> Option<Sight> {
        match self {
            Self::Automatic(uplink, _) => Some(uplink.sight(metric)),
            Self::Static(fixed, _) => fixed.sight(metric),
        }
    }
}

/// Takes up the links that are new, drops those that are gone or somebody else's now, and tells
/// the others of their carrier.
fn adopt_links(
    now: Now,
    config: &NetConfig,
    kernel: &Kernel,
    managed: &mut BTreeMap<u32, Managed>,
    random: &mut Random,
) {
    managed.retain(|index, _| kernel.links.contains_key(index));
    let macs: Vec<Mac> = kernel.links.values().map(|link| link.mac).collect();
    for link in kernel.links.values() {
        match reconcile::addressing(config, link) {
            Some(Addressing::Automatic) => {
                let fits = |managed: &Managed| matches!(managed, Managed::Automatic(uplink, _) if uplink.mac == link.mac);
                if !managed.get(&link.index).is_some_and(fits) {
                    let mut lease = reconcile::lease_of_before(kernel, link.index);
                    if let Some(lease) = &mut lease {
                        lease.routes = classless::of_before(kernel, link.index);
                    }
                    let local = reconcile::link_local_of_before(kernel, link.index);
                    let random = Random::new(random.next());
                    let mut uplink = Uplink::new(link.mac, config.hostname.clone(), random);
                    uplink.adopt(now, lease, local);
                    let automatic = Managed::Automatic(Box::new(uplink), Ports::default());
                    managed.insert(link.index, automatic);
                }
                if let Some(Managed::Automatic(uplink, _)) = managed.get_mut(&link.index) {
                    uplink.know_own(&macs);
                    uplink.carrier(now, link.up && link.carrier);
                }
            }
            Some(addressing @ Addressing::Static { .. }) => {
                let fits = |managed: &Managed| matches!(managed, Managed::Static(fixed, _) if fixed.mac == link.mac && fixed.addressing == addressing);
                if !managed.get(&link.index).is_some_and(fits) {
                    let fixed = Fixed::new(link.mac, addressing);
                    let fixed = Managed::Static(Box::new(fixed), Ports::default());
                    managed.insert(link.index, fixed);
                }
                if let Some(Managed::Static(fixed, _)) = managed.get_mut(&link.index) {
                    fixed.carrier(now, link.up && link.carrier);
                }
            }
            Some(Addressing::Unmanaged) | None => {
                managed.remove(&link.index);
            }
        }
    }
}

/// The links that get their addresses by themselves.
fn automatic(managed: &BTreeMap<u32, Managed>) -> Vec<u32> {
    let automatic = managed
        .iter()
        .filter(|(_, managed)| matches!(managed, Managed::Automatic(..)));
    automatic.map(|(link, _)| *link).collect()
}

/// The routes that each link's lease brings, with the metric of its default one.
fn routes(
    managed: &BTreeMap<u32, Managed>,
    wanted: &BTreeMap<u32, Wanted>,
) -> BTreeMap<u32, (u32, Vec<Route>)> {
    let routes = managed.iter().map(|(link, managed)| {
        let lease = match managed {
            Managed::Automatic(uplink, _) => uplink.lease(),
            Managed::Static(..) => None,
        };
        let metric = match wanted.get(link).map_or(0, |wanted| wanted.metric) {
            0 => METRIC_NO_DEFAULT.saturating_add(*link),
            metric => metric,
        };
        let routes = lease.map_or_else(Vec::new, |lease| lease.routes.clone());
        (*link, (metric, routes))
    });
    routes.collect()
}

/// What makes links' IPv6 addresses private that are not.
fn unprivate(kernel: &Kernel, managed: &BTreeMap<u32, Managed>) -> Vec<Change> {
    let open = managed.keys().filter(|link| {
        let told = kernel.inet6.get(link);
        told.is_some_and(|told| !told.private)
    });
    open.map(|link| Change::StableAddresses { link: *link })
        .collect()
}

/// What matters for the time.
fn around_time(kernel: &Kernel, managed: &BTreeMap<u32, Managed>, inet6: &Inet6) -> Surroundings {
    let leases = managed.values().filter_map(|managed| match managed {
        Managed::Automatic(uplink, _) => uplink.lease(),
        Managed::Static(..) => None,
    });
    let dhcp = leases.flat_map(|lease| lease.ntp.iter().take(DHCP_TIME_SERVERS_MAX));
    let dhcp6 = inet6.time_servers().take(DHCP_TIME_SERVERS_MAX);
    Surroundings {
        dhcp: dhcp.map(|ip| IpAddr::V4(*ip)).chain(dhcp6).collect(),
        is_connected: is_connected(kernel, managed, is_lasting),
        has_v4: is_connected(kernel, managed, |ip| ip.is_ipv4()),
    }
}

/// Whether a link that is looked after has such an address to ask from.
fn is_connected(
    kernel: &Kernel,
    managed: &BTreeMap<u32, Managed>,
    is_such: fn(IpAddr) -> bool,
) -> bool {
    managed.keys().any(|index| {
        let there = kernel.links.get(index).is_some_and(|link| link.carrier);
        let mut addresses = kernel.addresses_of(*index);
        there && addresses.any(|address| is_such(address.ip))
    })
}

fn is_lasting(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(_) => true,
        IpAddr::V6(ip) => !ip.is_unicast_link_local(),
    }
}

/// What came by the command channel, for the loop around the engine.
pub(crate) enum Next {
    Continue,
    End,
}

/// Obeys a command.
pub(crate) fn obey(engine: &mut Engine, command: Command, poll: &Poll) -> Next {
    match command {
        Command::Configure(config) => {
            engine.configure(*config);
            Next::Continue
        }
        Command::Shutdown { release } => {
            if release {
                engine.release(poll);
            }
            Next::End
        }
    }
}

/// Tokens of links' sockets have a part from 1 to 3 in their lowest two bits, those of questions for
/// the time have the fifth bit, and none below but the fourth, those of IPv6 the third and fourth, so
/// these are free.
pub(crate) const WAKER: Token = Token(0);
const RTNL: Token = Token(4);
const FILTER: Token = Token(8);
const GUARD: Token = Token(20);

/// When an address goes that was given back: the message to its server has left by then.
const RELEASED_WITHIN: Duration = Duration::from_secs(5);

/// The loop turns at least this often, for whoever watches that it does.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// So many that DHCP does not outvote the configuration by numbers alone.
const DHCP_TIME_SERVERS_MAX: usize = 4;

/// Between two tries of what failed for a reason that may pass.
const RETRY_PAUSE: Duration = Duration::from_secs(2);

/// The packet filter sees what is routed and not what passes from port to port of a bridge, where a
/// kernel with `br_netfilter` would change its target too late for it to come to the box.
const BRIDGED: [&str; 2] = [
    "/proc/sys/net/bridge/bridge-nf-call-iptables",
    "/proc/sys/net/bridge/bridge-nf-call-ip6tables",
];

/// A file of the kernel's, which answers at once.
const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";

/// Only where packets vanish: the sizes that fit are kept elsewhere (RFC 4821).
const MTU_PROBING: &str = "/proc/sys/net/ipv4/tcp_mtu_probing";

/// Of the routes of a link that leads not everywhere: behind any that does.
const METRIC_NO_DEFAULT: u32 = 1 << 24;
