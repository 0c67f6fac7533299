//! Whom the box asks for the time, and how the questions get there: the client, the names of its
//! servers and the sockets of both, on the loop of `net`.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use mio::Registry;

use super::{
    Client,
    names::Names,
    sockets::{Purpose, Sockets},
    wall::Wall,
};
use crate::net::{
    clock::{self, Now},
    config::{Clock, NetConfig, TimeServer},
    random::{self, Random},
    status::{TimeSource, TimeStatus},
};

/// The time of the day.
#[derive(Debug)]
pub(crate) struct Time {
    client: Client,
    sockets: Sockets<IpAddr>,
    names: Names,
    questions: Sockets<u16>,
    wall: Wall,
}

/// What the network is like, as far as it matters for the time.
#[derive(Debug)]
pub(crate) struct Surroundings {
    /// The time servers that DHCP names.
    pub(crate) dhcp: Vec<IpAddr>,
    /// Whether there is an address to ask from.
    pub(crate) is_connected: bool,
    /// Whether there is one of IPv4.
    pub(crate) has_v4: bool,
}

impl Time {
    pub(crate) fn new(clock: Clock, random: Random) -> Self {
        Self {
            client: Client::new(random),
            sockets: Sockets::new(Purpose::Time),
            names: Names::default(),
            questions: Sockets::new(Purpose::Names),
            wall: Wall::new(clock),
        }
    }

    /// Keeps another clock right.
    pub(crate) fn keep(&mut self, clock: Clock) {
        self.wall = Wall::new(clock);
    }

    /// Who should be asked, in what is around.
    pub(crate) fn want(&mut self, now: Now, config: &NetConfig, around: &Surroundings) {
        let dhcp = &around.dhcp;
        let (listed, source) = if !config.time.servers.is_empty() {
            (config.time.servers.as_slice(), TimeSource::Configured)
        } else if dhcp.iter().all(|ip| self.client.is_failing(*ip)) {
            (config.time.fallback.as_slice(), TimeSource::Fallback)
        } else {
            (&[][..], TimeSource::Fallback)
        };
        let names = listed.iter().filter_map(|server| match server {
            TimeServer::Name(name) => Some(name.as_str()),
            TimeServer::Address(_) => None,
        });
        self.names.judge(now, |ip| self.client.is_failing(ip));
        self.names.want(now, names, around.is_connected);
        let by_address = listed.iter().filter_map(|server| match server {
            TimeServer::Address(ip) => Some(*ip),
            TimeServer::Name(_) => None,
        });
        let by_name = self.names.addresses(!around.has_v4);
        let servers: Vec<(IpAddr, TimeSource)> = dhcp
            .iter()
            .map(|ip| (*ip, TimeSource::Dhcp))
            .chain(by_address.chain(by_name).map(|ip| (ip, source)))
            .collect();
        self.client.want(now, &servers, around.is_connected);
    }

    /// Takes what has arrived at a socket.
    pub(crate) fn receive(&mut self, (purpose, slot): (Purpose, usize)) {
        match purpose {
            Purpose::Time => {
                let (client, wall) = (&mut self.client, &self.wall);
                self.sockets.receive(slot, |server, answer| match answer {
                    Ok(bytes) => client.receive(clock::now(), wall.base(), server, bytes),
                    Err(error) => client.undelivered(server, error.to_string()),
                });
            }
            Purpose::Names => {
                let names = &mut self.names;
                self.questions.receive(slot, |id, answer| match answer {
                    Ok(bytes) => names.receive(clock::now(), id, bytes),
                    Err(_) => names.undelivered(id),
                });
            }
        }
    }

    /// Lets time pass, sets the clock, then asks whom there is to ask. `named` are the name servers
    /// that the network named.
    pub(crate) fn run(
        &mut self,
        config: &NetConfig,
        named: impl FnOnce() -> Vec<IpAddr>,
        registry: &Registry,
    ) {
        let correction = self.client.tick(clock::now(), self.wall.base());
        if let Some(correction) = correction {
            let result = self.wall.correct(correction);
            let (now, base) = (clock::now(), self.wall.base());
            self.client.corrected(now, correction, base, result);
        }
        self.sockets.close_idle(|server| self.client.awaits(server));
        self.ask_for_names(config, named, registry);
        while self.client.is_due(clock::now()) {
            let Some(cookie) = random::secret() else {
                // The kernel has no entropy yet.
                self.client.wait_until(clock::now() + RETRY_PAUSE);
                return;
            };
            let Some((server, question)) = self.client.transmit(clock::now(), cookie) else {
                return;
            };
            let to = SocketAddr::new(server, PORT);
            if let Err(error) = self.sockets.ask(server, to, &question, registry) {
                self.client.undelivered(server, error.to_string());
            }
        }
    }

    /// When [`run`](Self::run) is next needed.
    pub(crate) fn deadline(&self) -> Option<Now> {
        let both = [self.client.deadline(), self.names.deadline()];
        both.into_iter().flatten().min()
    }

    /// What is.
    pub(crate) fn status(&self) -> TimeStatus {
        let mut status = self.client.status();
        for server in &mut status.servers {
            let name = self.names.name_of(server.address);
            server.name = name.map(str::to_owned);
        }
        status.unknown = self.names.unknown().map(str::to_owned).collect();
        status
    }

    /// What does not work, as a sentence.
    pub(crate) fn problem(&self) -> Option<&str> {
        self.client.problem()
    }

    fn ask_for_names(
        &mut self,
        config: &NetConfig,
        named: impl FnOnce() -> Vec<IpAddr>,
        registry: &Registry,
    ) {
        self.names.tick(clock::now());
        let is_open = |id| self.names.awaits(id);
        self.questions.close_idle(is_open);
        if !self.names.is_due() {
            return;
        }
        let servers = name_servers(config, named);
        while self.names.is_due() {
            let Some(secret) = random::secret() else {
                // The kernel has no entropy yet: the loop turns again within a second.
                return;
            };
            let id = secret as u16;
            let Some(sent) = self.names.transmit(clock::now(), id, &servers) else {
                return;
            };
            if ask(&mut self.questions, &sent, registry).is_err() {
                self.names.undelivered(sent.id);
            }
        }
    }
}

fn ask(
    questions: &mut Sockets<u16>,
    sent: &super::names::Outgoing,
    registry: &Registry,
) -> io::Result<()> {
    questions.ask(sent.id, sent.to, &sent.bytes, registry)
}

/// Who is asked for names: the box's own name server, which knows its owner's wishes, and should it
/// be dead, those that the network named; but these not where names are to be asked for in private,
/// or elsewhere.
fn name_servers(config: &NetConfig, named: impl FnOnce() -> Vec<IpAddr>) -> Vec<SocketAddr> {
    let own = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let others = match config.dns.servers.is_empty() && !config.dns.encrypt {
        true => named(),
        false => Vec::new(),
    };
    let all = [own].into_iter().chain(others);
    all.take(NAME_SERVERS_MAX)
        .map(|ip| SocketAddr::new(ip, NAMES_PORT))
        .collect()
}

const PORT: u16 = 123;
const NAMES_PORT: u16 = 53;
/// More would take longer than anybody waits.
const NAME_SERVERS_MAX: usize = 4;
/// Between two tries of what failed for a reason that may pass.
const RETRY_PAUSE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::NameServer;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn asked(config: &NetConfig, dhcp: &[IpAddr]) -> (Vec<IpAddr>, TimeStatus) {
        let mut time = Time::new(Clock::Own(0), Random::new(1));
        let around = Surroundings {
            dhcp: dhcp.to_vec(),
            is_connected: true,
            has_v4: true,
        };
        time.want(Now::ZERO, config, &around);
        let status = time.status();
        (status.servers.iter().map(|it| it.address).collect(), status)
    }

    #[test]
    fn the_fallback_is_asked_only_where_nobody_else_is() {
        let mut config = NetConfig::default();
        config.time.fallback = vec![
            TimeServer::Address(ip(9)),
            TimeServer::Name("pool.example".to_owned()),
        ];
        let (servers, status) = asked(&config, &[]);
        assert_eq!(servers, [ip(9)]);
        assert_eq!(status.servers[0].source, TimeSource::Fallback);
        assert_eq!(status.unknown, ["pool.example"]);
        assert_eq!(asked(&config, &[ip(1)]).0, [ip(1)]);
        config.time.servers = vec![TimeServer::Address(ip(2))];
        assert_eq!(asked(&config, &[]).0, [ip(2)]);
        let (servers, status) = asked(&config, &[ip(1)]);
        assert_eq!(servers, [ip(1), ip(2)]);
        assert_eq!(status.unknown, [""; 0]);
    }

    #[test]
    fn names_are_never_asked_for_in_the_open_where_they_are_to_be_private() {
        let mut config = NetConfig::default();
        let to = |ip: IpAddr| SocketAddr::new(ip, 53);
        let own = to(Ipv4Addr::LOCALHOST.into());
        let servers = |config: &NetConfig| name_servers(config, || vec![ip(1), ip(2)]);
        assert_eq!(servers(&config), [own, to(ip(1)), to(ip(2))]);
        config.dns.encrypt = true;
        assert_eq!(servers(&config), [own]);
        config.dns.encrypt = false;
        config.dns.servers = vec![NameServer::plain(ip(3))];
        assert_eq!(servers(&config), [own]);
    }
}
