//! Name servers and search domains that IPv6 routers announce (RFC 8106): the kernel makes the
//! addresses and routes of a router advertisement itself, and hands these options on.
//!
//! What arrives is of the LAN, where anybody may send it: it is bounded per link, and only a router
//! of the link itself is believed.

use std::{
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use super::{
    clock::Now,
    netlink::{Frame, attr, u16_at, u32_at},
    searchlist::{self, Form},
};

/// What routers have announced, on all links.
#[derive(Debug, Default)]
pub(crate) struct Announced {
    servers: Vec<Entry<Ipv6Addr>>,
    domains: Vec<Entry<String>>,
}

/// One thing that is announced.
#[derive(Debug)]
struct Entry<T> {
    link: u32,
    value: T,
    /// When it ends; none is never.
    expires: Option<Now>,
}

impl Announced {
    /// Takes in what the kernel hands on; other frames change nothing.
    pub(crate) fn learn(&mut self, now: Now, frame: &Frame<'_>) {
        if frame.kind != NEW_OPTION {
            return;
        }
        let Some((link, option)) = option(frame.payload) else {
            return;
        };
        let (Some(kind), Some(lifetime)) = (option.first(), be32(option, 4)) else {
            return;
        };
        let expires = match lifetime {
            0 => Some(now),
            u32::MAX => None,
            seconds => Some(now + Duration::from_secs(seconds.into())),
        };
        let body = &option[OPTION_HEADER_LEN..];
        match *kind {
            RDNSS => {
                let (addresses, _) = body.as_chunks::<16>();
                for address in addresses.iter().map(|bytes| Ipv6Addr::from(*bytes)) {
                    if is_usable(address) {
                        put(&mut self.servers, now, link, address, expires);
                    }
                }
            }
            DNSSL => {
                for domain in searchlist::read(body, Form::Plain) {
                    put(&mut self.domains, now, link, domain, expires);
                }
            }
            _ => {}
        }
    }

    /// Forgets what was announced on a link: it may hang on another network now.
    pub(crate) fn forget(&mut self, link: u32) {
        self.servers.retain(|entry| entry.link != link);
        self.domains.retain(|entry| entry.link != link);
    }

    /// The links that anything was announced on.
    pub(crate) fn links(&self) -> Vec<u32> {
        let servers = self.servers.iter().map(|entry| entry.link);
        let domains = self.domains.iter().map(|entry| entry.link);
        servers.chain(domains).collect()
    }

    /// The name servers of a link, in the order in which they were first announced.
    pub(crate) fn servers(&self, now: Now, link: u32) -> impl Iterator<Item = IpAddr> {
        live(&self.servers, now, link).map(|address| IpAddr::V6(*address))
    }

    /// The search domains of a link, in the order in which they were first announced.
    pub(crate) fn domains(&self, now: Now, link: u32) -> impl Iterator<Item = &String> {
        live(&self.domains, now, link)
    }
}

fn live<T>(entries: &[Entry<T>], now: Now, link: u32) -> impl Iterator<Item = &T> {
    let lives = move |entry: &&Entry<T>| {
        entry.link == link && entry.expires.is_none_or(|expires| expires > now)
    };
    entries.iter().filter(lives).map(|entry| &entry.value)
}

/// Adds, prolongs or, with an end that has come, takes out. What is above the bound is ignored: the
/// first to announce keep their places.
fn put<T: PartialEq>(
    entries: &mut Vec<Entry<T>>,
    now: Now,
    link: u32,
    value: T,
    expires: Option<Now>,
) {
    entries.retain(|entry| entry.expires.is_none_or(|expires| expires > now));
    if let Some(known) = entries
        .iter_mut()
        .find(|entry| entry.link == link && entry.value == value)
    {
        known.expires = expires;
        return;
    }
    let of_link = entries.iter().filter(|entry| entry.link == link).count();
    if of_link < PER_LINK_MAX && entries.len() < ENTRIES_MAX && expires != Some(now) {
        entries.push(Entry {
            link,
            value,
            expires,
        });
    }
}

/// The link and the option in a message of the kernel's (`struct nduseroptmsg`), if a router of the
/// link itself has sent it. The option is whole, at least its header.
fn option(payload: &[u8]) -> Option<(u32, &[u8])> {
    let [family, _] = *payload.first_chunk()?;
    let [kind, code] = *payload.get(8..)?.first_chunk()?;
    let options_len = usize::from(u16_at(payload, 2)?);
    let (options, attributes) = payload
        .get(MESSAGE_HEADER_LEN..)?
        .split_at_checked(options_len)?;
    let router = attr(attributes, SOURCE)?.first_chunk::<16>()?;
    let believed = (family, kind, code) == (AF_INET6, ROUTER_ADVERTISEMENT, 0)
        && Ipv6Addr::from(*router).is_unicast_link_local();
    // An option's length counts eight bytes.
    let length = usize::from(*options.get(1)?) * 8;
    let option = options.get(..length)?;
    (believed && length >= OPTION_HEADER_LEN).then_some((u32_at(payload, 4)?, option))
}

/// An address that one host has and that needs no link beside it to be reached.
pub(crate) fn is_usable(address: Ipv6Addr) -> bool {
    !(address.is_unspecified()
        || address.is_loopback()
        || address.is_multicast()
        || address.is_unicast_link_local()
        || address.to_ipv4_mapped().is_some())
}

fn be32(bytes: &[u8], offset: usize) -> Option<u32> {
    let field = bytes.get(offset..)?.first_chunk()?;
    Some(u32::from_be_bytes(*field))
}

/// RTM_NEWNDUSEROPT.
const NEW_OPTION: u16 = 68;
/// RTNLGRP_ND_USEROPT as a mask.
pub(crate) const GROUP: u32 = 1 << 19;
/// NDUSEROPT_SRCADDR.
const SOURCE: u16 = 1;
const MESSAGE_HEADER_LEN: usize = 16;
const AF_INET6: u8 = 10;
const ROUTER_ADVERTISEMENT: u8 = 134;
// From RFC 8106, section 5.
const RDNSS: u8 = 25;
const DNSSL: u8 = 31;
/// Kind, length, two bytes reserved, lifetime.
const OPTION_HEADER_LEN: usize = 8;
/// More of each than a router announces; RFC 8106 (5.3.1) asks for room for three.
const PER_LINK_MAX: usize = 4;
/// Of each, on all links.
const ENTRIES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTER: &str = "fe80::1";

    fn v6(text: &str) -> Ipv6Addr {
        text.parse().expect("an address")
    }

    fn message(router: &str, kind: u8, lifetime: u32, body: &[u8]) -> Vec<u8> {
        let mut option = vec![kind, 0, 0, 0];
        option.extend(lifetime.to_be_bytes());
        option.extend(body);
        option.resize(option.len().next_multiple_of(8), 0);
        option[1] = u8::try_from(option.len() / 8).expect("short");
        let mut payload = vec![AF_INET6, 0];
        payload.extend(u16::try_from(option.len()).expect("short").to_ne_bytes());
        payload.extend(7u32.to_ne_bytes());
        payload.extend([ROUTER_ADVERTISEMENT, 0, 0, 0, 0, 0, 0, 0]);
        payload.extend(option);
        payload.extend(20u16.to_ne_bytes());
        payload.extend(SOURCE.to_ne_bytes());
        payload.extend(v6(router).octets());
        payload
    }

    fn learn(announced: &mut Announced, seconds: u64, payload: &[u8]) {
        let frame = Frame {
            kind: NEW_OPTION,
            flags: 0,
            sequence: 0,
            payload,
        };
        announced.learn(Duration::from_secs(seconds), &frame);
    }

    fn servers(announced: &Announced, seconds: u64) -> Vec<IpAddr> {
        announced.servers(Duration::from_secs(seconds), 7).collect()
    }

    fn two() -> Vec<u8> {
        [v6("2001:db8::53").octets(), v6("fd00::53").octets()].concat()
    }

    #[test]
    fn servers_live_as_long_as_they_are_announced_for() {
        let mut announced = Announced::default();
        learn(&mut announced, 0, &message(ROUTER, RDNSS, 100, &two()));
        let both = [IpAddr::V6(v6("2001:db8::53")), IpAddr::V6(v6("fd00::53"))];
        assert_eq!(servers(&announced, 99), both);
        assert_eq!(servers(&announced, 100), [] as [IpAddr; 0]);
        learn(&mut announced, 50, &message(ROUTER, RDNSS, 100, &two()));
        assert_eq!(servers(&announced, 149), both);
        let first = v6("2001:db8::53").octets();
        learn(&mut announced, 60, &message(ROUTER, RDNSS, 0, &first));
        assert_eq!(servers(&announced, 61), both[1..]);
        learn(
            &mut announced,
            60,
            &message(ROUTER, RDNSS, u32::MAX, &first),
        );
        assert!(servers(&announced, u64::from(u32::MAX) * 2).contains(&both[0]));
        announced.forget(7);
        assert_eq!(announced.links(), [] as [u32; 0]);
    }

    #[test]
    fn search_domains_are_read_and_harmful_ones_are_not() {
        let mut announced = Announced::default();
        let list = b"\x04home\x04arpa\x00\x03a b\x00\x03lan\x00";
        learn(&mut announced, 0, &message(ROUTER, DNSSL, 100, list));
        let domains: Vec<_> = announced.domains(Duration::ZERO, 7).collect();
        assert_eq!(domains, ["home.arpa", "lan"]);
        assert_eq!(announced.domains(Duration::ZERO, 8).count(), 0);
    }

    #[test]
    fn a_stranger_and_an_address_that_no_server_has_are_not_believed() {
        let mut announced = Announced::default();
        let far = message("2001:db8::1", RDNSS, 100, &two());
        learn(&mut announced, 0, &far);
        let mut other_kind = message(ROUTER, RDNSS, 100, &two());
        other_kind[8] = 137;
        learn(&mut announced, 0, &other_kind);
        for bad in ["::", "::1", "ff02::fb", "fe80::9", "::ffff:1.2.3.4"] {
            let payload = message(ROUTER, RDNSS, 100, &v6(bad).octets());
            learn(&mut announced, 0, &payload);
        }
        assert_eq!(servers(&announced, 1), [] as [IpAddr; 0]);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut announced = Announced::default();
        for number in 0..1000u16 {
            let server = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, number);
            let mut payload = message(ROUTER, RDNSS, 100, &server.octets());
            payload[4..8].copy_from_slice(&u32::from(number / 10).to_ne_bytes());
            learn(&mut announced, 0, &payload);
        }
        assert_eq!(servers(&announced, 1).len(), PER_LINK_MAX);
        assert_eq!(announced.servers.len(), ENTRIES_MAX);
    }

    #[test]
    fn no_bytes_panic() {
        let mut random = crate::net::random::Random::new(5);
        let mut announced = Announced::default();
        for good in [
            message(ROUTER, RDNSS, 100, &two()),
            message(ROUTER, DNSSL, 100, b"\x04home\x04arpa\x00\x03lan\x00"),
        ] {
            for _ in 0..20_000 {
                let mut bytes = good.clone();
                for _ in 0..random.below(6) {
                    let at = random.below(bytes.len() as u64) as usize;
                    bytes[at] = random.next() as u8;
                }
                bytes.truncate(random.below(bytes.len() as u64 + 1) as usize);
                learn(&mut announced, 0, &bytes);
            }
        }
        assert!(announced.servers.len() <= ENTRIES_MAX);
    }
}
