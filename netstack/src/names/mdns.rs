//! The multicast DNS responder (RFC 6762) as a state machine: messages and the time go in, messages
//! and the next deadline come out. It has no socket and no clock.
//!
//! It claims names before it uses them (probes), says so (announcements), answers, gives way to who
//! was first (the next free of `otter-2`, `otter-3`, ...), and says good-bye. It must never panic
//! and never answer more than it is asked: whatever arrives is from anybody on the LAN.

mod answers;
mod claim;
#[cfg(any(test, fuzzing))]
pub(super) mod fuzzing;
mod link;
mod message;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, VecDeque},
    net::{IpAddr, SocketAddr},
};

use simple_dns::{OPCODE, Packet, PacketFlag, RCODE};

use super::zone::{self, Site};
use crate::net::{clock::Now, random::Random};

use link::{Heard, Link};

/// The responder, on all links.
#[derive(Debug)]
pub(super) struct Responder {
    random: Random,
    /// What should be published.
    wanted: Site,
    /// The host name claimed: the one wanted, or the next that nobody else has.
    hostname: String,
    links: BTreeMap<u32, Link>,
    /// When others turned out to have our name, lately.
    conflicts: VecDeque<Now>,
    outgoing: VecDeque<Transmit>,
    going: bool,
}

/// A message to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Transmit {
    /// By the link with this index.
    pub(super) link: u32,
    /// To this address; none is everybody on the link, by each family that it has addresses of.
    pub(super) to: Option<SocketAddr>,
    pub(super) bytes: Vec<u8>,
}

/// The addresses of a link, with their prefix lengths.
pub(super) type Addresses = Vec<(IpAddr, u8)>;

impl Responder {
    /// One that publishes nothing yet.
    pub(super) fn new(random: Random) -> Self {
        Self {
            random,
            wanted: Site::default(),
            hostname: String::new(),
            links: BTreeMap::new(),
            conflicts: VecDeque::new(),
            outgoing: VecDeque::new(),
            going: false,
        }
    }

    /// What should be published, and on which links. The same again changes nothing.
    pub(super) fn configure(&mut self, now: Now, site: Site, links: &BTreeMap<u32, Addresses>) {
        if self.going {
            return;
        }
        // Whoever was told of the other name may tell it back.
        if site.hostname != self.wanted.hostname && site.hostname != self.hostname {
            self.hostname.clone_from(&site.hostname);
        }
        self.wanted = site;
        self.links.retain(|index, _| links.contains_key(index));
        for (&index, addresses) in links {
            self.links
                .entry(index)
                .or_default()
                .addresses
                .clone_from(addresses);
        }
        self.publish(now);
    }

    /// The host name claimed.
    pub(super) fn hostname(&self) -> &str {
        &self.hostname
    }

    /// A message arrived on the link `index`.
    pub(super) fn receive(&mut self, now: Now, index: u32, from: SocketAddr, bytes: &[u8]) {
        let Some(link) = self.links.get_mut(&index) else {
            return;
        };
        if !link.is_near(from.ip()) {
            return;
        }
        let Ok(packet) = Packet::parse(bytes) else {
            return;
        };
        // RFC 6762, 18.3 and 18.11: such messages are ignored.
        if packet.opcode() != OPCODE::StandardQuery || packet.rcode() != RCODE::NoError {
            return;
        }
        if !packet.has_flags(PacketFlag::RESPONSE) {
            let answers = link.query(now, from, &packet, &mut self.random);
            let sent = answers.into_iter().map(|bytes| Transmit {
                link: index,
                to: Some(from),
                bytes,
            });
            self.outgoing.extend(sent);
            self.limit();
        } else if from.port() == PORT {
            let ours: Vec<IpAddr> = self.addresses().collect();
            let heard = match self.links.get_mut(&index) {
                Some(link) => link.response(now, &packet, &ours),
                None => Heard::Nothing,
            };
            if heard == Heard::TheName {
                self.rename(now);
            }
        }
    }

    /// The deadline has come; earlier calls do nothing.
    pub(super) fn tick(&mut self, now: Now) {
        for (&index, link) in &mut self.links {
            let messages = link.due(now);
            let sent = messages.into_iter().map(|bytes| Transmit {
                link: index,
                to: None,
                bytes,
            });
            self.outgoing.extend(sent);
        }
        self.limit();
    }

    /// Takes the next message to send.
    pub(super) fn transmit(&mut self) -> Option<Transmit> {
        self.outgoing.pop_front()
    }

    /// When [`tick`](Self::tick) is next needed.
    pub(super) fn deadline(&self) -> Option<Now> {
        self.links.values().filter_map(Link::deadline).min()
    }

    /// Takes everything back. Nothing is published after this.
    pub(super) fn go(&mut self) {
        self.going = true;
        for (index, link) in std::mem::take(&mut self.links) {
            let messages = link.farewell(&[]);
            self.outgoing
                .extend(messages.into_iter().map(|bytes| Transmit {
                    link: index,
                    to: None,
                    bytes,
                }));
        }
    }

    /// Another host has the name: the next one is tried.
    fn rename(&mut self, now: Now) {
        self.conflicts
            .retain(|at| now.saturating_sub(*at) < CONFLICTS_WITHIN);
        self.conflicts.push_back(now);
        self.hostname = next_name(&self.hostname);
        self.publish(now);
    }

    fn publish(&mut self, now: Now) {
        let site = Site {
            hostname: self.hostname.clone(),
            services: self.wanted.services.clone(),
        };
        // RFC 6762, 8.1: who meets conflict after conflict slows down.
        let pause = match self.conflicts.len() {
            0..CONFLICTS_MAX => Now::ZERO,
            _ => CONFLICTS_PAUSE,
        };
        for (&index, link) in &mut self.links {
            let addresses: Vec<_> = link.addresses.iter().map(|(ip, _)| *ip).collect();
            let gone = link.become_site(
                now + pause,
                zone::records(&site, &addresses),
                &mut self.random,
            );
            self.outgoing.extend(gone.into_iter().map(|bytes| Transmit {
                link: index,
                to: None,
                bytes,
            }));
        }
        self.limit();
    }

    fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.links
            .values()
            .flat_map(|link| link.addresses.iter().map(|(ip, _)| *ip))
    }

    /// What can't be sent in time is not worth keeping: who asked asks again.
    fn limit(&mut self) {
        self.outgoing.truncate(OUTGOING_MAX);
    }
}

/// `otter` becomes `otter-2`, and that `otter-3`.
fn next_name(name: &str) -> String {
    let counted = name.rsplit_once('-').and_then(|(base, n)| {
        let n: u32 = n.parse().ok().filter(|n| (2..u32::MAX).contains(n))?;
        Some((base, n + 1))
    });
    let (base, n) = counted.unwrap_or((name, 2));
    let suffix = format!("-{n}");
    let mut cut = base.len().min(LABEL_MAX - suffix.len());
    while !base.is_char_boundary(cut) {
        cut -= 1;
    }
    format!("{}{suffix}", &base[..cut])
}

/// Of multicast DNS (RFC 6762, 5).
pub(super) const PORT: u16 = 5353;

/// The longest label, in bytes.
const LABEL_MAX: usize = 63;

/// Conflicts within [`CONFLICTS_WITHIN`] from which on each next probe waits.
const CONFLICTS_MAX: usize = 15;
const CONFLICTS_WITHIN: Now = Now::from_secs(10);
const CONFLICTS_PAUSE: Now = Now::from_secs(5);

/// Messages that may wait to be sent.
const OUTGOING_MAX: usize = 64;
