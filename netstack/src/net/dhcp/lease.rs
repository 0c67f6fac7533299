//! What a server granted: parsed and made sane once, so that nobody after has to doubt it.

use std::{net::Ipv4Addr, time::Duration};

use super::{
    message::{self, Message},
    routes::{self, Route},
};
use crate::net::{
    clock::Now,
    searchlist::{self, Form},
};

/// An address with all that came with it, and how long it lasts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) address: Ipv4Addr,
    /// The subnet's prefix length, 1 to 32.
    pub(crate) prefix: u8,
    /// Who granted it; none if it was taken over from the kernel.
    pub(crate) server: Option<Ipv4Addr>,
    pub(crate) router: Option<Ipv4Addr>,
    /// Routes beside that by the router.
    pub(crate) routes: Vec<Route>,
    pub(crate) dns: Vec<Ipv4Addr>,
    pub(crate) ntp: Vec<Ipv4Addr>,
    pub(crate) domain: Option<String>,
    /// Domains to look for a short name in, in this order.
    pub(crate) search: Vec<String>,
    /// The name the server knows the box by.
    pub(crate) hostname: Option<String>,
    pub(crate) mtu: Option<u32>,
    /// How long it was granted for; none is for ever.
    pub(crate) lasts: Option<Duration>,
    /// When to ask the same server to renew it (T1).
    pub(crate) renew_at: Option<Now>,
    /// When to ask any server (T2).
    pub(crate) rebind_at: Option<Now>,
    /// When it ends.
    pub(crate) expires: Option<Now>,
}

impl Lease {
    /// The lease that `message` offers or grants, counted from `asked_at`, as RFC 2131 (4.4.1) has
    /// it: from the request, so that ours never outlasts the server's.
    ///
    /// `None` without an address a host can have, a server, or a lease time.
    pub(crate) fn from_message(message: &Message, asked_at: Now) -> Option<Self> {
        let options = &message.options;
        let server = options.address(message::SERVER)?;
        let lasts = match options.u32(message::LEASE_TIME)? {
            0 => return None,
            u32::MAX => None,
            seconds => Some(Duration::from_secs(seconds.into()).max(SHORTEST)),
        };
        let (renewal, rebinding) = terms(message, lasts);
        let mtu = options.u16(message::MTU).map(u32::from);
        let (router, routes) = ways(message);
        let search = options.bytes(message::DOMAIN_SEARCH).unwrap_or_default();
        Some(Self {
            address: usable(message.yours)?,
            prefix: prefix(options.address(message::SUBNET_MASK), message.yours),
            server: Some(server),
            router,
            routes,
            dns: servers(options.addresses(message::DNS)),
            ntp: servers(options.addresses(message::NTP)),
            domain: options.name(message::DOMAIN_NAME),
            search: searchlist::read(search, Form::Compressed),
            hostname: options.name(message::HOST_NAME),
            mtu: mtu.filter(|mtu| *mtu >= LEAST_MTU),
            lasts,
            renew_at: renewal.map(|term| asked_at + term),
            rebind_at: rebinding.map(|term| asked_at + term),
            expires: lasts.map(|term| asked_at + term),
        })
    }

    /// An address that the kernel already has, from a predecessor of this process: worth asking
    /// for again, and kept meanwhile.
    pub(crate) fn adopted(
        address: Ipv4Addr,
        prefix: u8,
        router: Option<Ipv4Addr>,
        expires: Now,
    ) -> Self {
        Self {
            address,
            prefix,
            server: None,
            router,
            routes: Vec::new(),
            dns: Vec::new(),
            ntp: Vec::new(),
            domain: None,
            search: Vec::new(),
            hostname: None,
            mtu: None,
            lasts: None,
            renew_at: None,
            rebind_at: None,
            expires: Some(expires),
        }
    }
}

/// The router and the routes beside it. A list of routes says it all, the router too (RFC 3442).
fn ways(message: &Message) -> (Option<Ipv4Addr>, Vec<Route>) {
    let options = &message.options;
    let listed = options
        .bytes(message::CLASSLESS_ROUTES)
        .and_then(routes::read);
    let Some(mut routes) = listed else {
        let routers = options.addresses(message::ROUTER);
        return (routers.into_iter().find_map(usable), Vec::new());
    };
    let router = routes.iter().find(|route| route.is_default());
    let router = router.and_then(|route| route.gateway);
    routes.retain(|route| !route.is_default());
    (router, routes)
}

/// T1 and T2: the server's if they make sense, else half and seven eighths (RFC 2131, 4.4.5).
fn terms(message: &Message, lasts: Option<Duration>) -> (Option<Duration>, Option<Duration>) {
    let Some(lasts) = lasts else {
        return (None, None);
    };
    let given = |code| {
        let seconds = message.options.u32(code)?;
        Some(Duration::from_secs(seconds.into()).max(SHORTEST / 4))
    };
    let rebinding = given(message::REBINDING_TIME)
        .filter(|term| *term < lasts)
        .unwrap_or(lasts * 7 / 8);
    let renewal = given(message::RENEWAL_TIME)
        .filter(|term| *term < rebinding)
        .unwrap_or(lasts.min(rebinding * 8 / 7) / 2);
    (Some(renewal), Some(rebinding))
}

fn prefix(mask: Option<Ipv4Addr>, address: Ipv4Addr) -> u8 {
    let length = mask.map(u32::from).map(|bits| (bits, bits.leading_ones()));
    match length {
        Some((bits, length)) if length > 0 && length == bits.count_ones() => length as u8,
        // No mask, or one with holes: the address's class decides, as before there were masks.
        _ => match address.octets()[0] {
            0..=127 => 8,
            128..=191 => 16,
            192..=255 => 24,
        },
    }
}

fn servers(addresses: Vec<Ipv4Addr>) -> Vec<Ipv4Addr> {
    let mut servers: Vec<_> = addresses.into_iter().filter_map(usable).collect();
    servers.truncate(SERVERS_MAX);
    servers
}

/// The address if one host can have it.
fn usable(address: Ipv4Addr) -> Option<Ipv4Addr> {
    let never = address.octets()[0] == 0 || address.octets()[0] >= 224 || address.is_loopback();
    (!never).then_some(address)
}

/// A lease shorter than this is taken for this long: a server must not keep the box busy.
const SHORTEST: Duration = Duration::from_secs(20);

/// IPv4's own least is 68; below this, real traffic does not work (RFC 791).
const LEAST_MTU: u32 = 576;

/// More servers than anybody asks.
const SERVERS_MAX: usize = 6;

#[cfg(test)]
mod tests {
    use super::{
        super::message::{Kind, Options},
        *,
    };

    fn ack(options: &[(u8, &[u8])]) -> Message {
        let base = Options::of(Kind::Ack)
            .with(message::SERVER, &[10, 0, 0, 1])
            .with(message::LEASE_TIME, &8000u32.to_be_bytes());
        Message {
            reply: true,
            transaction: 1,
            seconds: 0,
            client: Ipv4Addr::UNSPECIFIED,
            yours: Ipv4Addr::new(10, 0, 0, 7),
            mac: [0; 6],
            options: options
                .iter()
                .fold(base, |all, (code, value)| all.with(*code, value)),
        }
    }

    fn lease(options: &[(u8, &[u8])]) -> Option<Lease> {
        Lease::from_message(&ack(options), Duration::from_secs(100))
    }

    #[test]
    fn times_count_from_the_request() {
        let lease = lease(&[]).expect("a lease");
        assert_eq!(lease.renew_at, Some(Duration::from_secs(4100)));
        assert_eq!(lease.rebind_at, Some(Duration::from_secs(7100)));
        assert_eq!(lease.expires, Some(Duration::from_secs(8100)));
    }

    #[test]
    fn times_in_no_order_are_replaced() {
        let lease = lease(&[
            (message::RENEWAL_TIME, &9000u32.to_be_bytes()),
            (message::REBINDING_TIME, &u32::MAX.to_be_bytes()),
        ])
        .expect("a lease");
        assert!(lease.renew_at < lease.rebind_at && lease.rebind_at < lease.expires);
    }

    #[test]
    fn what_no_host_can_have_is_refused_or_left_out() {
        assert_eq!(lease(&[(message::LEASE_TIME, &[0; 4])]), None);
        assert_eq!(
            lease(&[(message::ROUTER, &[224, 0, 0, 1])])
                .expect("lease")
                .router,
            None
        );
        assert_eq!(lease(&[(message::MTU, &[0, 68])]).expect("lease").mtu, None);
        let mut message = ack(&[]);
        message.yours = Ipv4Addr::BROADCAST;
        assert_eq!(Lease::from_message(&message, Duration::ZERO), None);
    }

    #[test]
    fn a_list_of_routes_takes_the_router_s_place() {
        let router = (message::ROUTER, &[10, 0, 0, 1][..]);
        let listed = [0, 10, 0, 0, 2, 16, 172, 20, 10, 0, 0, 3];
        let with = lease(&[router, (message::CLASSLESS_ROUTES, &listed)]).expect("a lease");
        assert_eq!(with.router, Some(Ipv4Addr::new(10, 0, 0, 2)));
        let beside = Route::new([172, 20, 0, 0].into(), 16, Some([10, 0, 0, 3].into()));
        assert_eq!(with.routes, [beside]);
        let without = lease(&[router, (message::CLASSLESS_ROUTES, &listed[5..])]);
        assert_eq!(without.expect("a lease").router, None);
        let broken = lease(&[router, (message::CLASSLESS_ROUTES, &listed[..4])]);
        let broken = broken.expect("a lease");
        assert_eq!(broken.router, Some(Ipv4Addr::new(10, 0, 0, 1)));
        assert_eq!(broken.routes, []);
    }

    /// As dnsmasq 2.90 writes it for `home.arpa,lan.home.arpa`, but in two pieces amid a label
    /// (RFC 3396), with another option between them.
    #[test]
    fn a_search_list_in_pieces_is_one() {
        let mut bytes = ack(&[]).encode();
        let end = bytes.iter().rposition(|byte| *byte == 255).expect("an end");
        bytes.truncate(end);
        bytes.extend(
            b"\x77\x07\x04home\x04a\x1a\x02\x05\xdc\x77\x0a\x72\x70\x61\x00\x03lan\xc0\x00",
        );
        bytes.push(255);
        let message = Message::parse(&bytes).expect("a message");
        let lease = Lease::from_message(&message, Duration::ZERO).expect("a lease");
        assert_eq!(lease.search, ["home.arpa", "lan.home.arpa"]);
        assert_eq!(lease.mtu, Some(1500));
    }

    #[test]
    fn masks_give_prefixes() {
        let prefix = |mask: [u8; 4]| {
            lease(&[(message::SUBNET_MASK, &mask)])
                .expect("lease")
                .prefix
        };
        assert_eq!(prefix([255, 255, 255, 0]), 24);
        assert_eq!(prefix([255, 255, 255, 255]), 32);
        assert_eq!(prefix([255, 0, 255, 0]), 8, "holes");
        assert_eq!(prefix([0; 4]), 8, "empty");
    }

    #[test]
    fn a_lease_for_ever_has_no_deadlines() {
        let lease = lease(&[(message::LEASE_TIME, &[0xff; 4])]).expect("a lease");
        assert_eq!(
            (lease.renew_at, lease.rebind_at, lease.expires),
            (None, None, None)
        );
    }
}
