//! The DHCPv6 message (RFC 8415, section 8) as bytes: what a client that asks for information only
//! needs of it. Hostile bytes give `None` or missing options.

use std::net::Ipv6Addr;

use crate::net::{
    router::is_usable,
    searchlist::{self, Form},
};

/// A message between a client and a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// What it is for, as its number.
    pub(crate) kind: u8,
    /// 24 bits.
    pub(crate) transaction: u32,
    pub(crate) options: Options,
}

/// The options of a message, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options(Vec<(u16, Vec<u8>)>);

impl Message {
    /// Reads a message. `None` if it is not one, or one between relays.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let ([kind, a, b, c], options) = bytes.split_first_chunk()?;
        let relayed = matches!(*kind, RELAY_FORWARD | RELAY_REPLY);
        (!relayed).then(|| Self {
            kind: *kind,
            transaction: u32::from_be_bytes([0, *a, *b, *c]),
            options: Options::parse(options),
        })
    }

    /// The message as bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = self.transaction.to_be_bytes().to_vec();
        bytes[0] = self.kind;
        for (code, value) in &self.options.0 {
            // What is longer than an option can be is not sent at all.
            if let Ok(length) = u16::try_from(value.len()) {
                bytes.extend_from_slice(&code.to_be_bytes());
                bytes.extend_from_slice(&length.to_be_bytes());
                bytes.extend_from_slice(value);
            }
        }
        bytes
    }
}

impl Options {
    /// These and one more.
    pub(crate) fn with(mut self, code: u16, value: &[u8]) -> Self {
        self.0.push((code, value.to_vec()));
        self
    }

    /// The option's content, that of the first if it is there more than once.
    pub(crate) fn bytes(&self, code: u16) -> Option<&[u8]> {
        let found = self.0.iter().find(|(there, _)| *there == code);
        found.map(|(_, value)| value.as_slice())
    }

    /// The option as a number of 32 bits.
    pub(crate) fn u32(&self, code: u16) -> Option<u32> {
        Some(u32::from_be_bytes(self.bytes(code)?.try_into().ok()?))
    }

    /// The option's addresses, as far as a host far away can have them.
    pub(crate) fn addresses(&self, code: u16) -> Vec<Ipv6Addr> {
        let (addresses, _) = self.bytes(code).unwrap_or_default().as_chunks::<16>();
        let addresses = addresses.iter().map(|bytes| Ipv6Addr::from(*bytes));
        addresses.filter(|address| is_usable(*address)).collect()
    }

    /// The option as a list of domains.
    pub(crate) fn domains(&self, code: u16) -> Vec<String> {
        searchlist::read(self.bytes(code).unwrap_or_default(), Form::Plain)
    }

    /// Whether a server says that all is well: it says nothing else (RFC 8415, 21.13).
    pub(crate) fn succeeds(&self) -> bool {
        self.bytes(STATUS)
            .is_none_or(|status| status.first_chunk() == Some(&[0, 0]))
    }

    /// The time servers of option 56 that are named by an address (RFC 5908, 4.1).
    pub(crate) fn time_servers(&self) -> Vec<Ipv6Addr> {
        Self::parse(self.bytes(NTP).unwrap_or_default()).addresses_of_all(NTP_ADDRESS)
    }

    fn addresses_of_all(&self, code: u16) -> Vec<Ipv6Addr> {
        let there = self.0.iter().filter(|(there, _)| *there == code);
        let addresses = there.filter_map(|(_, value)| <[u8; 16]>::try_from(&value[..]).ok());
        addresses
            .map(Ipv6Addr::from)
            .filter(|address| is_usable(*address))
            .collect()
    }

    /// Ends at the first that is cut short.
    fn parse(mut bytes: &[u8]) -> Self {
        let mut options = Self::default();
        while let Some(([a, b, c, d], rest)) = bytes.split_first_chunk() {
            let length = usize::from(u16::from_be_bytes([*c, *d]));
            let Some((value, rest)) = rest.split_at_checked(length) else {
                break;
            };
            options
                .0
                .push((u16::from_be_bytes([*a, *b]), value.to_vec()));
            bytes = rest;
        }
        options
    }
}

// From RFC 8415, sections 7.3 and 21; RFC 3646, 4075 and 5908.
pub(crate) const REPLY: u8 = 7;
pub(crate) const INFORMATION_REQUEST: u8 = 11;
const RELAY_FORWARD: u8 = 12;
const RELAY_REPLY: u8 = 13;
pub(crate) const CLIENT_ID: u16 = 1;
pub(crate) const SERVER_ID: u16 = 2;
pub(crate) const WANTED: u16 = 6;
pub(crate) const ELAPSED: u16 = 8;
const STATUS: u16 = 13;
pub(crate) const DNS: u16 = 23;
pub(crate) const DOMAINS: u16 = 24;
pub(crate) const SNTP: u16 = 31;
pub(crate) const REFRESH_TIME: u16 = 32;
pub(crate) const NTP: u16 = 56;
pub(crate) const LONGEST_PAUSE: u16 = 83;
/// The part of [`NTP`] that is an address.
const NTP_ADDRESS: u16 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let message = Message {
            kind: REPLY,
            transaction: 0xab_cdef,
            options: Options::default()
                .with(SERVER_ID, &[0, 3, 0, 1, 2, 0, 0, 0, 0, 9])
                .with(REFRESH_TIME, &7200u32.to_be_bytes())
                .with(REFRESH_TIME, &1u32.to_be_bytes())
                .with(300, &[]),
        };
        let bytes = message.encode();
        assert_eq!(Message::parse(&bytes), Some(message.clone()));
        assert_eq!(message.options.u32(REFRESH_TIME), Some(7200));
        assert_eq!(message.options.u32(SERVER_ID), None, "of another length");
        for cut in 0..bytes.len() {
            let read = Message::parse(&bytes[..cut]);
            assert_eq!(read.is_some(), cut >= 4, "{cut}");
        }
    }

    #[test]
    fn what_relays_say_to_each_other_is_not_for_a_client() {
        for kind in [RELAY_FORWARD, RELAY_REPLY] {
            assert_eq!(Message::parse(&[kind, 0, 0, 0]), None);
        }
    }

    #[test]
    fn time_servers_are_those_with_an_address() {
        let one: Ipv6Addr = "2001:db8::1".parse().expect("an address");
        let many: Ipv6Addr = "ff05::101".parse().expect("an address");
        let list = [
            &[0, 3, 0, 5][..],
            b"\x03ntp\x00",
            &[0, 1, 0, 16],
            &one.octets(),
            &[0, 1, 0, 16],
            &many.octets(),
            &[0, 1, 0, 2, 1, 2],
        ]
        .concat();
        let options = Options::default().with(NTP, &list);
        assert_eq!(options.time_servers(), [one]);
        assert_eq!(Options::default().time_servers(), [] as [Ipv6Addr; 0]);
    }

    #[test]
    fn a_server_says_how_it_went_or_nothing() {
        let with = |status: &[u8]| Options::default().with(STATUS, status);
        assert!(Options::default().succeeds() && with(b"\0\0all is well").succeeds());
        assert!(!with(&[0, 1]).succeeds() && !with(&[0]).succeeds());
    }
}
