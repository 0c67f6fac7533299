//! What the thread `names` is told: the box's name and the services behind the door, on the links
//! that PID 1 looks after; and for its name server, the services' names, whom to ask, and where it
//! is asked.

use std::{
    io,
    net::{IpAddr, TcpListener, UdpSocket},
    os::fd::{AsFd as _, OwnedFd},
};

use netstack::{
    door::{DoorConfig, RouteKind},
    names::{self, Command, DnsConfig, DnsStatus, Published, Sender, Setup, Site},
};
use supervise::{
    control::{self, Event, Request},
    status::{BoxStatus, ResolverServer, ResolverStatus},
};

/// The way to the thread, and what it was last told.
#[derive(Debug)]
pub(super) struct Publisher {
    sender: Sender,
    hostname: String,
    links: Vec<(String, Vec<(IpAddr, u8)>)>,
    services: Vec<Published>,
    told: bool,
    dns: DnsConfig,
    dns_told: bool,
}

impl Publisher {
    /// Starts the thread. A name that is another's already is told to PID 1, over `control`.
    pub(super) fn start(control: &OwnedFd) -> io::Result<Self> {
        let (sender, receiver) = names::channel()?;
        let (control, for_dns) = (control.try_clone()?, control.try_clone()?);
        let setup = Setup {
            log: Box::new(|line| supervise::warning!("{line}")),
            on_hostname: Box::new(move |name| {
                let request = Request::Hostname(name.to_owned());
                if let Err(e) = control::send(control.as_fd(), &request, &[]) {
                    supervise::warning!("PID 1 can't be told that the box goes by {name}: {e}");
                }
            }),
            on_dns: Box::new(move |status| {
                let request = Request::Resolver(Box::new(told(status)));
                if let Err(e) = control::send(for_dns.as_fd(), &request, &[]) {
                    supervise::warning!("PID 1 can't be told how names are found: {e}");
                }
            }),
        };
        std::thread::Builder::new()
            .name("names".to_owned())
            .spawn(move || {
                // Without its name the box still has its addresses: the door goes on.
                if let Err(e) = names::run(setup, receiver) {
                    supervise::error!("the box's name is published no more: {e}");
                }
            })?;
        Ok(Self {
            sender,
            hostname: String::new(),
            links: Vec::new(),
            services: Vec::new(),
            told: false,
            dns: DnsConfig::default(),
            dns_told: false,
        })
    }

    /// Takes no more questions: a successor does.
    pub(super) fn retire(&self) {
        self.sender.send(Command::Retire);
    }

    /// Hears what PID 1 says, and passes on what is new of it. What descriptors are for others it
    /// gives back.
    pub(super) fn hear(&mut self, event: &Event, fds: Vec<OwnedFd>) -> Vec<OwnedFd> {
        match event {
            Event::NameSocket { address } => self.listen(*address, fds),
            Event::NameSocketGone { address } => {
                self.sender.send(Command::Close { address: *address });
            }
            _ => {
                self.publish(event);
                self.resolve(event);
                return fds;
            }
        }
        Vec::new()
    }

    fn listen(&self, address: IpAddr, fds: Vec<OwnedFd>) {
        let Ok([datagrams, listener]) = <[OwnedFd; 2]>::try_from(fds) else {
            return;
        };
        let told = self.sender.send(Command::Listen {
            address,
            datagrams: UdpSocket::from(datagrams),
            listener: TcpListener::from(listener),
        });
        if !told {
            supervise::error!("names can't be asked for at {address}");
        }
    }

    fn resolve(&mut self, event: &Event) {
        let config = match event {
            Event::Names(bytes) => match postcard::from_bytes::<DnsConfig>(bytes) {
                Ok(config) => DnsConfig {
                    settings: config.settings,
                    bridge: config.bridge,
                    services: config.services,
                    ..self.dns.clone()
                },
                Err(e) => {
                    supervise::error!("the name server's configuration does not parse: {e}");
                    return;
                }
            },
            Event::Status(status) => {
                let links = status.net.links.iter();
                DnsConfig {
                    named: status.net.dns.clone(),
                    addresses: links.flat_map(|link| link.addresses.clone()).collect(),
                    hostname: status.hostname.clone(),
                    clock_is_right: status.network.clock_is_right,
                    ..self.dns.clone()
                }
            }
            Event::Door(_) => DnsConfig {
                sites: self.services.iter().map(|site| site.id.clone()).collect(),
                ..self.dns.clone()
            },
            _ => return,
        };
        self.dns_told &= self.dns == config;
        self.dns = config;
        if !self.dns_told {
            let config = Box::new(self.dns.clone());
            self.dns_told = self.sender.send(Command::Resolve(config));
        }
    }

    fn publish(&mut self, event: &Event) {
        match event {
            Event::Door(bytes) => {
                if let Ok(config) = postcard::from_bytes::<DoorConfig>(bytes) {
                    let services = published(&config);
                    self.told &= self.services == services;
                    self.services = services;
                }
            }
            Event::Status(status) if status.going_down.is_some() => {
                self.sender.send(Command::Farewell);
                return;
            }
            Event::Status(status) => {
                let links = links(status);
                self.told &= self.links == links && self.hostname == status.hostname;
                self.links = links;
                self.hostname.clone_from(&status.hostname);
            }
            _ => return,
        }
        if !self.told && !self.hostname.is_empty() {
            self.told = self.sender.send(Command::Publish {
                site: Site {
                    hostname: self.hostname.clone(),
                    services: self.services.clone(),
                },
                links: self.links.clone(),
            });
        }
    }
}

/// The same in the words of the box's status.
fn told(status: &DnsStatus) -> ResolverStatus {
    let servers = status.servers.iter().map(|server| ResolverServer {
        address: server.address,
        tls: server.tls,
        domain: server.domain.clone(),
        silent_for: server.silent_for,
        round_trip: server.round_trip,
        answers: server.answers,
        silences: server.silences,
        forged: server.forged,
    });
    ResolverStatus {
        servers: servers.collect(),
        questions: status.questions,
        from_cache: status.from_cache,
        stale: status.stale,
        own: status.own,
        forwarded: status.forwarded,
        failed: status.failed,
        refused: status.refused,
        kept: status.kept,
        kept_bytes: status.kept_bytes,
    }
}

/// The services that a browser can open by name.
fn published(config: &DoorConfig) -> Vec<Published> {
    let routes = config.routes.iter();
    let mut services: Vec<_> = routes
        .filter(|route| route.kind == RouteKind::Http)
        .map(|route| Published {
            id: route.service.clone(),
            title: route.service.clone(),
        })
        .collect();
    services.dedup();
    services
}

/// Those with a cable.
fn links(status: &BoxStatus) -> Vec<(String, Vec<(IpAddr, u8)>)> {
    let links = status.net.links.iter().filter(|link| link.carrier);
    links
        .map(|link| (link.name.clone(), link.addresses.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use netstack::door::{Route, Upstream};

    use super::*;

    #[test]
    fn each_service_is_published_once_and_those_without_a_page_never() {
        let route = |service: &str, port, kind| Route {
            service: service.to_owned(),
            upstream: Upstream::default(),
            port,
            kind,
        };
        let config = DoorConfig {
            routes: vec![
                route("photos", None, RouteKind::Http),
                route("photos", Some(8443), RouteKind::Http),
                route("mail", None, RouteKind::PassThrough),
            ],
            ..DoorConfig::default()
        };
        let ids: Vec<_> = published(&config).into_iter().map(|p| p.id).collect();
        assert_eq!(ids, ["photos"]);
    }
}
