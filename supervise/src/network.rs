//! The network as its owner sets it and as it is shown: what passes between PID 1 and its roles.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::control::Secret;

/// How a link is to get its addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum LinkSetting {
    /// From the network's router.
    #[default]
    Automatic,
    /// Always the same.
    Static {
        /// The box's address.
        address: Ipv4Addr,
        /// The subnet's prefix length.
        prefix: u8,
        /// Where all else goes.
        gateway: Option<Ipv4Addr>,
        /// Name servers in the order of their use.
        dns: Vec<IpAddr>,
    },
    /// Not the box's business.
    Unmanaged,
}

/// What can be set of the time and of names. It holds at once, as it cuts nobody off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GeneralSetting {
    /// Whether machines on the box's own networks may ask its name server.
    Lan(bool),
    /// Whom to ask for the time, by address or name, beside those that routers name; none for the
    /// usual ones.
    Time(Option<Vec<String>>),
}

/// A change that was taken, for the client who asked for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeTaken {
    /// What it is confirmed with, once.
    pub token: Secret,
    /// How long it holds without that, in seconds from when it is in force.
    pub seconds: u64,
    /// In how many seconds it is in force.
    pub applies_in: u64,
    /// Where the box is found then, as far as that is known.
    pub addresses: Vec<IpAddr>,
}

/// Why a change was not confirmed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum NotConfirmed {
    /// It comes before the change is in force.
    #[error("{0}")]
    Early(String),
    /// The change was undone.
    #[error("{0}")]
    Over(String),
    /// Too many wrong tokens lately.
    #[error("Too many wrong confirmations. Wait {wait_s} s and try again.")]
    Throttled {
        /// For how long, in seconds.
        wait_s: u64,
    },
    /// No change has this token.
    #[error("{0}")]
    Wrong(String),
}

/// What is set, what is being changed, and why the box can or can't be reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkStatus {
    /// What is settled, by link; those not named are automatic.
    pub settings: BTreeMap<String, LinkSetting>,
    /// The change that waits for its confirmation.
    pub change: Option<Change>,
    /// How the last change ended, as a sentence.
    pub last: Option<String>,
    /// Why the box can or can't be reached, in the order in which to look.
    pub findings: Vec<Finding>,
    /// What routers gave the box.
    pub leases: Vec<Lease>,
    /// Time servers that routers named.
    pub ntp: Vec<IpAddr>,
    /// The domain that routers named.
    pub domain: Option<String>,
    /// The domains that routers named to look for short names in, in this order.
    pub search: Vec<String>,
    /// The rules of the packet filter, one a line.
    pub firewall: Vec<String>,
    /// Whether machines on the box's own networks may ask its name server.
    pub lan: bool,
    /// Whom its owner has the box ask for the time; none for the usual ones.
    pub time: Option<Vec<String>>,
    /// Whether time servers have confirmed the clock of late.
    pub clock_is_right: bool,
}

/// A change that waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Which link it is about.
    pub link: String,
    /// What is to be.
    pub setting: LinkSetting,
    /// Whether it is in force.
    pub applied: bool,
    /// When it is undone by itself, since the kernel started.
    pub until: Duration,
}

/// Something that has to work for the box to be reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What was looked at: "cable", "address", …
    pub about: String,
    /// How it is.
    pub verdict: Verdict,
    /// What was seen, as a sentence.
    pub evidence: String,
}

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// It does not work.
    Broken,
    /// It works, or will, with something to know.
    Care,
    /// Nothing shows whether it works.
    Unknown,
    /// It works.
    Works,
}

/// What a router gave a link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The link.
    pub link: String,
    /// The address.
    pub address: Ipv4Addr,
    /// The subnet's prefix length.
    pub prefix: u8,
    /// Who granted it; none while it is one of before, not yet confirmed.
    pub server: Option<Ipv4Addr>,
    /// The gateway.
    pub router: Option<Ipv4Addr>,
    /// Routes beside that by the gateway, as text: "10.0.0.0/8 via 192.168.1.2".
    pub routes: Vec<String>,
    /// How long it was granted for; none is for ever.
    pub lasts: Option<Duration>,
    /// The name that the server knows the box by.
    pub hostname: Option<String>,
}

impl Verdict {
    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Broken => "broken",
            Self::Care => "care",
            Self::Unknown => "unknown",
            Self::Works => "works",
        }
    }
}

impl std::fmt::Display for GeneralSetting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Lan(true) => f.write_str("names are answered for on the box's own networks"),
            Self::Lan(false) => f.write_str("names are answered for on the box alone"),
            Self::Time(None) => f.write_str("the time is from the usual servers"),
            Self::Time(Some(servers)) if servers.is_empty() => {
                f.write_str("the time is from nobody but those that routers name")
            }
            Self::Time(Some(servers)) => write!(f, "the time is from {}", servers.join(", ")),
        }
    }
}

impl std::fmt::Display for LinkSetting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Automatic => f.write_str("automatic"),
            Self::Static {
                address,
                prefix,
                gateway,
                dns,
            } => {
                write!(f, "{address}/{prefix}")?;
                if let Some(gateway) = gateway {
                    write!(f, " by gateway {gateway}")?;
                }
                let dns: Vec<String> = dns.iter().map(ToString::to_string).collect();
                if !dns.is_empty() {
                    write!(f, ", names from {}", dns.join(", "))?;
                }
                Ok(())
            }
            Self::Unmanaged => f.write_str("left alone"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_reads_as_its_owner_would_say_it() {
        let fixed = LinkSetting::Static {
            address: [192, 168, 1, 5].into(),
            prefix: 24,
            gateway: Some([192, 168, 1, 1].into()),
            dns: vec![[9, 9, 9, 9].into()],
        };
        assert_eq!(
            fixed.to_string(),
            "192.168.1.5/24 by gateway 192.168.1.1, names from 9.9.9.9"
        );
        assert_eq!(LinkSetting::default().to_string(), "automatic");
    }
}
