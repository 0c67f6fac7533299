//! What the thread `names` is told: the box's name and the services behind the door, on the links
//! that PID 1 looks after.

use std::{
    io,
    net::IpAddr,
    os::fd::{AsFd as _, OwnedFd},
};

use netstack::{
    door::{DoorConfig, RouteKind},
    names::{self, Command, Published, Sender, Setup, Site},
};
use supervise::{
    control::{self, Event, Request},
    status::BoxStatus,
};

/// The way to the thread, and what it was last told.
#[derive(Debug)]
pub(super) struct Publisher {
    sender: Sender,
    hostname: String,
    links: Vec<(String, Vec<(IpAddr, u8)>)>,
    services: Vec<Published>,
    told: bool,
}

impl Publisher {
    /// Starts the thread. A name that is another's already is told to PID 1, over `control`.
    pub(super) fn start(control: &OwnedFd) -> io::Result<Self> {
        let (sender, receiver) = names::channel()?;
        let control = control.try_clone()?;
        let setup = Setup {
            log: Box::new(|line| supervise::warning!("{line}")),
            on_hostname: Box::new(move |name| {
                let request = Request::Hostname(name.to_owned());
                if let Err(e) = control::send(control.as_fd(), &request, &[]) {
                    supervise::warning!("PID 1 can't be told that the box goes by {name}: {e}");
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
        })
    }

    /// Hears what PID 1 says, and passes on what is new of it.
    pub(super) fn hear(&mut self, event: &Event) {
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
