//! The DHCP message (RFC 2131, 2132) as bytes.
//!
//! Written here: the one library for it brings a DNS library with Unicode tables into PID 1. It
//! reads what a client needs and skips the rest; hostile bytes give `None` or missing options.

use std::{collections::BTreeMap, net::Ipv4Addr};

use crate::net::frame::Mac;

/// What a message is for (option 53).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Discover,
    Offer,
    Request,
    Decline,
    Ack,
    Nak,
    Release,
    Inform,
}

/// A message of either side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// Whether a server says it.
    pub(crate) reply: bool,
    pub(crate) transaction: u32,
    /// Since the client began, in seconds.
    pub(crate) seconds: u16,
    /// The address the client has.
    pub(crate) client: Ipv4Addr,
    /// The address the server gives.
    pub(crate) yours: Ipv4Addr,
    pub(crate) mac: Mac,
    pub(crate) options: Options,
}

/// The options of a message by their code. An option in several pieces is one (RFC 3396).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options(BTreeMap<u8, Vec<u8>>);

impl Message {
    /// Reads a message. `None` if it is not one, or not for Ethernet.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let (fixed, options) = bytes.split_at_checked(FIXED_LEN)?;
        if fixed[1..3] != ETHERNET || fixed[236..240] != COOKIE {
            return None;
        }
        let reply = match fixed[0] {
            1 => false,
            2 => true,
            _ => return None,
        };
        Some(Self {
            reply,
            transaction: u32::from_be_bytes(*fixed[4..].first_chunk()?),
            seconds: u16::from_be_bytes(*fixed[8..].first_chunk()?),
            client: address(&fixed[12..])?,
            yours: address(&fixed[16..])?,
            mac: *fixed[28..].first_chunk()?,
            options: Options::parse(fixed, options),
        })
    }

    /// The message as bytes, padded to the least that old relays take.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; FIXED_LEN];
        bytes[0] = if self.reply { 2 } else { 1 };
        bytes[1..3].copy_from_slice(&ETHERNET);
        bytes[4..8].copy_from_slice(&self.transaction.to_be_bytes());
        bytes[8..10].copy_from_slice(&self.seconds.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.client.octets());
        bytes[16..20].copy_from_slice(&self.yours.octets());
        bytes[28..34].copy_from_slice(&self.mac);
        bytes[236..240].copy_from_slice(&COOKIE);
        for (code, value) in &self.options.0 {
            // An empty option is one piece without content; a long one several.
            let pieces = value.chunks(usize::from(u8::MAX));
            for piece in pieces.chain(value.is_empty().then_some(&[][..])) {
                bytes.extend_from_slice(&[*code, piece.len() as u8]);
                bytes.extend_from_slice(piece);
            }
        }
        bytes.push(END);
        bytes.resize(bytes.len().max(LEAST_LEN), PAD);
        bytes
    }

    /// What the message is for.
    pub(crate) fn kind(&self) -> Option<Kind> {
        Some(match self.options.bytes(KIND)?.first()? {
            1 => Kind::Discover,
            2 => Kind::Offer,
            3 => Kind::Request,
            4 => Kind::Decline,
            5 => Kind::Ack,
            6 => Kind::Nak,
            7 => Kind::Release,
            8 => Kind::Inform,
            _ => return None,
        })
    }
}

impl Options {
    /// Those of a message of this kind, no others yet.
    pub(crate) fn of(kind: Kind) -> Self {
        let number = match kind {
            Kind::Discover => 1,
            Kind::Offer => 2,
            Kind::Request => 3,
            Kind::Decline => 4,
            Kind::Ack => 5,
            Kind::Nak => 6,
            Kind::Release => 7,
            Kind::Inform => 8,
        };
        Self::default().with(KIND, &[number])
    }

    /// These and one more.
    pub(crate) fn with(mut self, code: u8, value: &[u8]) -> Self {
        self.0.insert(code, value.to_vec());
        self
    }

    /// The option's content.
    pub(crate) fn bytes(&self, code: u8) -> Option<&[u8]> {
        self.0.get(&code).map(Vec::as_slice)
    }

    /// The option's first address.
    pub(crate) fn address(&self, code: u8) -> Option<Ipv4Addr> {
        address(self.bytes(code)?)
    }

    /// The option's addresses.
    pub(crate) fn addresses(&self, code: u8) -> Vec<Ipv4Addr> {
        let bytes = self.bytes(code).unwrap_or_default();
        bytes.chunks_exact(4).filter_map(address).collect()
    }

    /// The option as a number of 32 bits.
    pub(crate) fn u32(&self, code: u8) -> Option<u32> {
        Some(u32::from_be_bytes(self.bytes(code)?.try_into().ok()?))
    }

    /// The option as a number of 16 bits.
    pub(crate) fn u16(&self, code: u8) -> Option<u16> {
        Some(u16::from_be_bytes(self.bytes(code)?.try_into().ok()?))
    }

    /// The option as a host or domain name; `None` if it holds what no name may hold, since these
    /// texts end up in files and on terminals.
    pub(crate) fn name(&self, code: u8) -> Option<String> {
        let text = std::str::from_utf8(self.bytes(code)?).ok()?;
        let text = text.trim_end_matches(['\0', '.']);
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        let fits = !text.is_empty() && text.len() <= NAME_MAX && text.chars().all(allowed);
        fits.then(|| text.to_owned())
    }

    fn parse(fixed: &[u8], bytes: &[u8]) -> Self {
        let mut options = Self::default();
        options.read(bytes);
        // Option 52: the fields for names hold more options (RFC 2131, 4.1).
        let overload = options.bytes(OVERLOAD).and_then(|v| v.first().copied());
        if matches!(overload, Some(1 | 3)) {
            options.read(&fixed[108..236]);
        }
        if matches!(overload, Some(2 | 3)) {
            options.read(&fixed[44..108]);
        }
        options
    }

    fn read(&mut self, mut bytes: &[u8]) {
        while let Some((&code, rest)) = bytes.split_first() {
            bytes = match code {
                PAD => rest,
                END => return,
                _ => {
                    let Some((&length, rest)) = rest.split_first() else {
                        return;
                    };
                    let Some((value, rest)) = rest.split_at_checked(usize::from(length)) else {
                        return;
                    };
                    self.0.entry(code).or_default().extend_from_slice(value);
                    rest
                }
            };
        }
    }
}

fn address(bytes: &[u8]) -> Option<Ipv4Addr> {
    Some(Ipv4Addr::from(*bytes.first_chunk::<4>()?))
}

pub(crate) const SUBNET_MASK: u8 = 1;
pub(crate) const ROUTER: u8 = 3;
pub(crate) const DNS: u8 = 6;
pub(crate) const HOST_NAME: u8 = 12;
pub(crate) const DOMAIN_NAME: u8 = 15;
pub(crate) const MTU: u8 = 26;
pub(crate) const NTP: u8 = 42;
pub(crate) const REQUESTED_ADDRESS: u8 = 50;
pub(crate) const LEASE_TIME: u8 = 51;
const OVERLOAD: u8 = 52;
const KIND: u8 = 53;
pub(crate) const SERVER: u8 = 54;
pub(crate) const PARAMETERS: u8 = 55;
pub(crate) const MAX_SIZE: u8 = 57;
pub(crate) const RENEWAL_TIME: u8 = 58;
pub(crate) const REBINDING_TIME: u8 = 59;
pub(crate) const CLIENT_ID: u8 = 61;
pub(crate) const RAPID_COMMIT: u8 = 80;
pub(crate) const DOMAIN_SEARCH: u8 = 119;
pub(crate) const CLASSLESS_ROUTES: u8 = 121;
const PAD: u8 = 0;
const END: u8 = 255;

/// The fixed fields with the cookie.
const FIXED_LEN: usize = 240;
/// BOOTP's length; some relays and servers drop shorter messages (RFC 1542, 2.1).
const LEAST_LEN: usize = 300;
/// Ethernet, addresses of 6 bytes.
const ETHERNET: [u8; 2] = [1, 6];
const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// The longest name DNS has (RFC 1035).
const NAME_MAX: usize = 253;

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Message {
        Message {
            reply: true,
            transaction: 0xdead_beef,
            seconds: 3,
            client: Ipv4Addr::UNSPECIFIED,
            yours: Ipv4Addr::new(192, 168, 1, 7),
            mac: [2, 0, 0, 0, 0, 9],
            options: Options::of(Kind::Ack)
                .with(SERVER, &[192, 168, 1, 1])
                .with(DNS, &[1, 1, 1, 1, 8, 8, 8, 8])
                .with(DOMAIN_NAME, b"home.arpa\0")
                .with(LEASE_TIME, &3600u32.to_be_bytes()),
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        let read = Message::parse(&message().encode()).expect("a message");
        assert_eq!(read, message());
        assert_eq!(read.kind(), Some(Kind::Ack));
        assert_eq!(read.options.addresses(DNS).len(), 2);
        assert_eq!(read.options.name(DOMAIN_NAME).as_deref(), Some("home.arpa"));
        assert_eq!(read.options.u32(LEASE_TIME), Some(3600));
        assert_eq!(read.options.u16(LEASE_TIME), None, "of the wrong length");
    }

    #[test]
    fn an_option_longer_than_a_piece_comes_back_whole() {
        let long = vec![7u8; 600];
        let mut sent = message();
        sent.options = sent.options.with(CLIENT_ID, &long).with(224, &[]);
        let read = Message::parse(&sent.encode()).expect("a message");
        assert_eq!(read.options.bytes(CLIENT_ID), Some(&long[..]));
        assert_eq!(read.options.bytes(224), Some(&[][..]));
    }

    #[test]
    fn options_in_the_name_fields_are_found() {
        let mut sent = message();
        sent.options = sent.options.with(OVERLOAD, &[3]);
        let mut bytes = sent.encode();
        bytes[108..112].copy_from_slice(&[NTP, 0, END, 0]);
        bytes[44..52].copy_from_slice(&[MTU, 2, 5, 0, END, 0, 0, 0]);
        let read = Message::parse(&bytes).expect("a message");
        assert_eq!(read.options.bytes(NTP), Some(&[][..]));
        assert_eq!(read.options.u16(MTU), Some(1280));
    }

    #[test]
    fn names_that_could_harm_a_file_or_a_terminal_are_not_names() {
        for bad in [
            &b"a b"[..],
            b"a\nnameserver 6.6.6.6",
            b"\x1b[2J",
            b"",
            b"\xff",
        ] {
            let options = Options::default().with(DOMAIN_NAME, bad);
            assert_eq!(options.name(DOMAIN_NAME), None, "{bad:?}");
        }
    }

    #[test]
    fn no_bytes_panic() {
        let mut random = crate::net::random::Random::new(11);
        let good = message().encode();
        for _ in 0..20_000 {
            let mut bytes = good.clone();
            for _ in 0..random.below(8) {
                let at = random.below(bytes.len() as u64) as usize;
                bytes[at] = random.next() as u8;
            }
            bytes.truncate(random.below(bytes.len() as u64 + 1) as usize);
            if let Some(message) = Message::parse(&bytes) {
                message.kind();
                Message::parse(&message.encode()).expect("what was read can be written");
            }
        }
    }
}
