//! The network of the box: links up, addresses by DHCP, the time of the day, the services' bridge
//! with NAT.
//!
//! It runs in a thread of PID 1 and must never wait for anyone: not for another thread, not for a
//! server, not for a disk. It is told what should be ([`NetConfig`]) and makes it so, again and
//! again; it says what is ([`NetStatus`]) after every change. With everybody else dead it goes on
//! with what it was last told. A panic in it costs a second and no address: the next attempt
//! starts from what the kernel has.
//!
//! | module | concept |
//! |---|---|
//! | `config`, `status` | what should be, what is |
//! | [`settings`], [`transaction`] | what the owner sets, and a change of it that can't lock him out |
//! | `engine`, `ports` | the loop and its sockets |
//! | `dhcp`, `linklocal`, `collision`, `gateway`, `uplink`, `fixed` | the protocols, without sockets or clocks |
//! | `failover`, `routing`, `ways` | which of several uplinks is used, and by which one answers leave |
//! | `made` | the owner's bridges and VLANs |
//! | `router`, `solicit` | what IPv6 routers announce, as far as it is not the kernel's work |
//! | `dhcp6`, `inet6`, `privacy` | servers' names by DHCPv6; addresses that do not tell the hardware's |
//! | `classless`, `searchlist` | routes and search domains that come with a lease |
//! | `ntp` | the time of the day, from servers that agree |
//! | `kernel`, `reconcile`, `change`, `rtnl` | links, addresses, routes: seen, compared, changed |
//! | `nft`, `filter` | the packet filter |
//! | `dialogue`, `netlink`, `frame` | words and formats on the wire |
//! | `clock`, `random`, `report`, `switch` | time, chance, words, the kernel's switches |

mod change;
mod classless;
pub(crate) mod clock;
mod collision;
mod config;
mod dhcp;
mod dhcp6;
mod dialogue;
mod engine;
mod failover;
mod filter;
mod fixed;
mod frame;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod gateway;
mod general;
mod inet6;
mod kernel;
mod linklocal;
mod made;
mod netlink;
mod nft;
mod ntp;
mod ports;
mod privacy;
pub(crate) mod random;
mod reconcile;
mod report;
mod router;
mod routing;
mod rtnl;
mod searchlist;
pub mod settings;
mod solicit;
mod status;
mod switch;
mod thread;
pub mod transaction;
mod uplink;
mod ways;

pub use self::{
    config::{
        Addressing, Bound, Bridge, Clock, Forward, Made, NetConfig, NoTimeServer, Otherwise,
        TimeConfig, TimeServer, Transport,
    },
    general::{General, UnfitServers},
    privacy::AddressSecret,
    status::{
        FilterStatus, LeaseStatus, LinkStatus, NetStatus, ServicesStatus, TimeServerStatus,
        TimeSource, TimeStatus, TimeStep, UplinkStatus,
    },
    thread::{NetError, NetHandle, spawn, spawn_prepared},
};

use self::thread::Command;

/// The kernel modules that the packet filter and the services' network need. Whoever starts `net` loads them first, where
/// they are not built in: what the kernel has to load on request, it waits for, and `net` with it.
pub const MODULES: &[&str] = &[
    "af_packet",
    "bridge",
    "8021q",
    "veth",
    "nf_tables",
    "nf_conntrack",
    "nf_nat",
    "nft_chain_nat",
    "nft_ct",
    "nft_fib",
    "nft_fib_ipv4",
    "nft_fib_ipv6",
    "nft_fib_inet",
    "nft_masq",
    "nft_nat",
];
