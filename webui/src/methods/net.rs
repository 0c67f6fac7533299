//! The network: how it is set, why the box can or can't be reached, and changing it.

use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use supervise::{
    network::{Change, ChangeTaken, GeneralSetting, Lease, LinkSetting},
    status::{BoxStatus, LinkSummary},
};

/// How a link is to get its addresses.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SetParams {
    pub(super) link: String,
    mode: Mode,
    address: Option<String>,
    gateway: Option<String>,
    #[serde(default)]
    dns: Vec<String>,
    pub(super) seconds: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Automatic,
    Static,
    Unmanaged,
}

/// What is set of the time and of names. What is left out stays as it is.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GeneralParams {
    /// `null` for the usual servers.
    #[serde(default, deserialize_with = "said")]
    time: Option<Option<Vec<String>>>,
    lan: Option<bool>,
}

/// Tells `null` from what is left out.
fn said<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<Vec<String>>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl GeneralParams {
    /// What is to be, one after the other.
    pub(super) fn settings(self) -> impl Iterator<Item = GeneralSetting> {
        let time = self.time.map(GeneralSetting::Time);
        time.into_iter().chain(self.lan.map(GeneralSetting::Lan))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ConfirmParams {
    pub(super) token: String,
}

impl SetParams {
    /// What is to be.
    ///
    /// # Errors
    /// With what is no address, or missing, or too much, as a sentence.
    pub(super) fn setting(&self) -> Result<LinkSetting, String> {
        let link = &self.link;
        match self.mode {
            Mode::Static => {}
            _ if self.address.is_some() || self.gateway.is_some() || !self.dns.is_empty() => {
                return Err(format!(
                    "{link}: address, gateway and name servers are for the mode \"static\" only. \
                     Leave them out, or choose that mode."
                ));
            }
            Mode::Automatic => return Ok(LinkSetting::Automatic),
            Mode::Unmanaged => return Ok(LinkSetting::Unmanaged),
        }
        let written = self.address.as_deref().unwrap_or_default();
        let (address, prefix) = parse_address(written).ok_or_else(|| {
            format!(
                "{link}: {written:?} is no address with its prefix. Write it like 192.168.1.5/24."
            )
        })?;
        let gateway = self
            .gateway
            .as_deref()
            .filter(|gateway| !gateway.is_empty());
        let gateway: Option<Ipv4Addr> = gateway
            .map(|gateway| {
                let parsed = gateway.trim().parse();
                parsed.map_err(|_| {
                    format!(
                        "{link}: the gateway {gateway:?} is no IPv4 address. Write it like \
                         192.168.1.1, or leave it out."
                    )
                })
            })
            .transpose()?;
        let dns = self.dns.iter().map(|ip| {
            let parsed = ip.trim().parse::<IpAddr>();
            parsed.map_err(|_| {
                format!(
                    "{link}: the name server {ip:?} is no IP address. Write it like 9.9.9.9, or \
                     leave it out."
                )
            })
        });
        Ok(LinkSetting::Static {
            address,
            prefix,
            gateway,
            dns: dns.collect::<Result<_, _>>()?,
        })
    }
}

/// An address with its prefix length.
fn parse_address(text: &str) -> Option<(Ipv4Addr, u8)> {
    let (address, prefix) = text.trim().split_once('/')?;
    Some((address.parse().ok()?, prefix.parse().ok()?))
}

/// All that is known of the network.
pub(super) fn status(status: &BoxStatus) -> Value {
    let network = &status.network;
    let findings = network.findings.iter().map(|finding| {
        json!({
            "about": finding.about,
            "verdict": finding.verdict.word(),
            "evidence": finding.evidence,
        })
    });
    let change = network.change.as_ref();
    json!({
        "hostname": status.hostname,
        "findings": findings.collect::<Vec<_>>(),
        "links": status.net.links.iter().map(|link| self::link(status, link)).collect::<Vec<_>>(),
        "change": change.map(|change| self::change(status, change)),
        "last": network.last,
        "leases": network.leases.iter().map(lease).collect::<Vec<_>>(),
        "gateway": status.net.gateway,
        "dns": status.net.dns,
        "domain": network.domain,
        "search": network.search,
        "ntp": network.ntp,
        "firewall": network.firewall,
        "lan": network.lan,
        "time": network.time,
    })
}

/// What the client who asked for a change needs: where to confirm it, with what, and until when.
pub(super) fn taken(hostname: &str, taken: &ChangeTaken) -> Value {
    let token = &taken.token.0;
    let by_address = taken.addresses.iter().map(|ip| match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    });
    let hosts = by_address.chain(std::iter::once(format!("{hostname}.local")));
    let urls = hosts.map(|host| format!("https://{host}/net/confirm/{token}"));
    json!({
        "token": token,
        "seconds": taken.seconds,
        "appliesInS": taken.applies_in,
        "urls": urls.collect::<Vec<_>>(),
    })
}

/// A setting, as [`SetParams`] reads it.
pub(crate) fn setting(setting: &LinkSetting) -> Value {
    match setting {
        LinkSetting::Automatic => json!({ "mode": "automatic" }),
        LinkSetting::Static {
            address,
            prefix,
            gateway,
            dns,
        } => json!({
            "mode": "static",
            "address": format!("{address}/{prefix}"),
            "gateway": gateway,
            "dns": dns,
        }),
        LinkSetting::Unmanaged => json!({ "mode": "unmanaged" }),
    }
}

fn link(status: &BoxStatus, link: &LinkSummary) -> Value {
    let addresses = link.addresses.iter();
    let addresses: Vec<String> = addresses
        .map(|(ip, prefix)| format!("{ip}/{prefix}"))
        .collect();
    let settled = status.network.settings.get(&link.name);
    json!({
        "name": link.name,
        "mac": link.mac,
        "carrier": link.carrier,
        "addresses": addresses,
        "origin": link.origin,
        "setting": setting(settled.unwrap_or(&LinkSetting::Automatic)),
    })
}

fn change(status: &BoxStatus, change: &Change) -> Value {
    json!({
        "link": change.link,
        "setting": setting(&change.setting),
        "applied": change.applied,
        "leftS": change.until.saturating_sub(status.uptime).as_secs(),
    })
}

fn lease(lease: &Lease) -> Value {
    json!({
        "link": lease.link,
        "address": format!("{}/{}", lease.address, lease.prefix),
        "server": lease.server,
        "router": lease.router,
        "routes": lease.routes,
        "lastsS": lease.lasts.map(|lasts| lasts.as_secs()),
        "hostname": lease.hostname,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(params: Value) -> Result<LinkSetting, String> {
        let params: SetParams = serde_json::from_value(params).unwrap();
        params.setting()
    }

    #[test]
    fn a_setting_is_read_as_it_is_shown() {
        let fixed = json!({
            "link": "eth0", "mode": "static", "address": "192.168.1.5/24",
            "gateway": "192.168.1.1", "dns": ["9.9.9.9", "2620:fe::fe"],
        });
        let read_back = setting(&read(fixed.clone()).unwrap());
        for (key, value) in read_back.as_object().unwrap() {
            assert_eq!(fixed[key], *value, "{key}");
        }
        let read = read(json!({ "link": "eth0", "mode": "automatic" }));
        assert_eq!(read, Ok(LinkSetting::Automatic));
    }

    #[test]
    fn what_is_left_out_stays_and_null_means_the_usual_servers() {
        let read = |params: Value| {
            let params: GeneralParams = serde_json::from_value(params).unwrap();
            params.settings().collect::<Vec<_>>()
        };
        assert_eq!(read(json!({})), []);
        let usual = GeneralSetting::Time(None);
        assert_eq!(read(json!({ "time": null })), [usual]);
        let servers = GeneralSetting::Time(Some(vec!["a.example".to_owned()]));
        let both = json!({ "lan": true, "time": ["a.example"] });
        assert_eq!(read(both), [servers, GeneralSetting::Lan(true)]);
    }

    #[test]
    fn what_is_no_setting_is_answered_with_an_example() {
        for (wrong, said) in [
            (json!({ "address": "192.168.1.5" }), "like 192.168.1.5/24"),
            (
                json!({ "address": "192.168.1.500/24" }),
                "like 192.168.1.5/24",
            ),
            (json!({}), "like 192.168.1.5/24"),
            (
                json!({ "address": "192.168.1.5/24", "gateway": "router" }),
                "\"router\" is no IPv4 address",
            ),
            (
                json!({ "address": "192.168.1.5/24", "dns": ["9.9.9"] }),
                "\"9.9.9\" is no IP address",
            ),
            (
                json!({ "mode": "automatic", "gateway": "192.168.1.1" }),
                "\"static\" only",
            ),
        ] {
            let mut params = json!({ "link": "eth0", "mode": "static" });
            for (key, value) in wrong.as_object().unwrap() {
                params[key] = value.clone();
            }
            let why = read(params).unwrap_err();
            assert!(why.starts_with("eth0: ") && why.contains(said), "{why}");
        }
    }

    #[test]
    fn a_change_is_confirmed_at_its_new_address_or_by_name() {
        let told = taken(
            "otter",
            &ChangeTaken {
                token: supervise::control::Secret("ab".to_owned()),
                seconds: 90,
                applies_in: 2,
                addresses: vec![[192, 168, 1, 5].into()],
            },
        );
        assert_eq!(
            told["urls"],
            json!([
                "https://192.168.1.5/net/confirm/ab",
                "https://otter.local/net/confirm/ab"
            ])
        );
    }
}
