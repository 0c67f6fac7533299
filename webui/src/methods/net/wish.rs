//! What a client wants to have changed of the network.

use std::net::{IpAddr, Ipv4Addr};

use serde::Deserialize;
use supervise::network::{Binding, LinkSetting, MadeLink, Wish};

/// One change, of one link or one service.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct SetParams {
    link: Option<String>,
    service: Option<String>,
    mode: Option<Mode>,
    address: Option<String>,
    gateway: Option<String>,
    #[serde(default)]
    dns: Vec<String>,
    bridge: Option<Vec<String>>,
    vlan: Option<Vlan>,
    metric: Option<u32>,
    uplink: Option<String>,
    #[serde(default)]
    only: bool,
    pub(in super::super) seconds: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Automatic,
    Removed,
    Static,
    Unmanaged,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vlan {
    on: String,
    id: u16,
}

impl SetParams {
    /// What is to be, and of which link or service.
    ///
    /// # Errors
    /// With what is missing, too much, or can't be read, as a sentence.
    pub(in super::super) fn wish(self) -> Result<(String, Wish), String> {
        let made = match (&self.bridge, &self.vlan) {
            (None, None) => None,
            (Some(ports), None) => Some(MadeLink::Bridge {
                ports: ports.clone(),
            }),
            (None, Some(Vlan { on, id })) => Some(MadeLink::Vlan {
                on: on.clone(),
                id: *id,
            }),
            (Some(_), Some(_)) => return Err(EITHER.to_owned()),
        };
        match (&self.link, &self.service) {
            (Some(link), None) => {
                let wish = self.link_wish(link, made)?;
                Ok((link.clone(), wish))
            }
            (None, Some(service)) => {
                let uplink = self.uplink.clone().ok_or(NO_UPLINK)?;
                let is_more = made.is_some() || self.mode.is_some() || self.metric.is_some();
                if is_more || self.is_addressed() {
                    return Err(EITHER.to_owned());
                }
                let only = self.only;
                let bound = (!uplink.is_empty()).then_some(Binding { uplink, only });
                Ok((service.clone(), Wish::Bound(bound)))
            }
            (None, None) | (Some(_), Some(_)) => Err(NO_SUBJECT.to_owned()),
        }
    }

    fn link_wish(&self, link: &str, made: Option<MadeLink>) -> Result<Wish, String> {
        let mode = self.mode;
        let has_no_addresses = self.metric.is_some() || mode == Some(Mode::Removed);
        if self.uplink.is_some() || self.only || (has_no_addresses && self.is_addressed()) {
            return Err(EITHER.to_owned());
        }
        match (mode, self.metric, made) {
            (None, Some(metric), None) => Ok(Wish::Metric(Some(metric).filter(|it| *it != 0))),
            (Some(Mode::Removed), None, None) => Ok(Wish::Removed),
            (Some(Mode::Removed), ..) | (_, Some(_), _) => Err(EITHER.to_owned()),
            (mode, None, Some(made)) => {
                let setting = self.setting(link, mode.unwrap_or(Mode::Automatic))?;
                Ok(Wish::Made(made, setting))
            }
            (Some(mode), None, None) => Ok(Wish::Addresses(self.setting(link, mode)?)),
            (None, None, None) => Err(format!(
                "{link}: nothing is to be changed. Give a mode, bridge, vlan or metric."
            )),
        }
    }

    fn is_addressed(&self) -> bool {
        self.address.is_some() || self.gateway.is_some() || !self.dns.is_empty()
    }

    /// What is to be.
    ///
    /// # Errors
    /// With what is no address, or missing, or too much, as a sentence.
    fn setting(&self, link: &str, mode: Mode) -> Result<LinkSetting, String> {
        match mode {
            Mode::Static => {}
            _ if self.is_addressed() => {
                return Err(format!(
                    "{link}: address, gateway and name servers are for the mode \"static\" only. \
                     Leave them out, or choose that mode."
                ));
            }
            Mode::Automatic | Mode::Removed => return Ok(LinkSetting::Automatic),
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

const NO_SUBJECT: &str = "Name a link or a service that is to be changed, and not both.";
const NO_UPLINK: &str = "the uplink is missing. Name the link by which the service is to send, or \"\" for the default way.";
const EITHER: &str = "A change is one of these at a time: addresses (with what a bridge or VLAN is \
                      made of), a metric, a removal, or a service's uplink. Make one, confirm it, \
                      and then the next.";

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{super::wished, *};

    fn read(params: Value) -> Result<Wish, String> {
        let params: SetParams = serde_json::from_value(params).unwrap();
        params.wish().map(|(_, wish)| wish)
    }

    #[test]
    fn a_setting_is_read_as_it_is_shown() {
        let fixed = json!({
            "link": "eth0", "mode": "static", "address": "192.168.1.5/24",
            "gateway": "192.168.1.1", "dns": ["9.9.9.9", "2620:fe::fe"],
        });
        let read_back = wished(&read(fixed.clone()).unwrap());
        for (key, value) in read_back.as_object().unwrap() {
            assert_eq!(fixed[key], *value, "{key}");
        }
        let read = read(json!({ "link": "eth0", "mode": "automatic" }));
        assert_eq!(read, Ok(Wish::Addresses(LinkSetting::Automatic)));
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
    fn every_wish_is_read_as_it_is_shown() {
        for wish in [
            json!({ "link": "br0", "mode": "automatic", "bridge": ["eth0", "eth1"] }),
            json!({
                "link": "lan7", "mode": "static", "address": "192.168.7.5/24", "gateway": null,
                "dns": [], "vlan": { "on": "eth0", "id": 7 },
            }),
            json!({ "link": "lan7", "mode": "removed" }),
            json!({ "link": "eth1", "metric": 50 }),
            json!({ "link": "eth1", "metric": 0 }),
            json!({ "service": "cloud", "uplink": "eth1", "only": true }),
            json!({ "service": "cloud", "uplink": "" }),
        ] {
            let mut shown = wished(&read(wish.clone()).unwrap());
            for name in ["link", "service"] {
                if let Some(subject) = wish.get(name) {
                    shown[name] = subject.clone();
                }
            }
            assert_eq!(shown, wish);
        }
        let bridge = read(json!({ "link": "br0", "bridge": ["eth0"] })).unwrap();
        assert_eq!(bridge.setting(), Some(&LinkSetting::Automatic));
    }

    #[test]
    fn what_is_two_wishes_or_none_is_refused() {
        for (wrong, said) in [
            (json!({}), "Name a link or a service"),
            (
                json!({ "link": "eth0", "service": "cloud" }),
                "Name a link or a service",
            ),
            (json!({ "link": "eth0" }), "nothing is to be changed"),
            (
                json!({ "link": "eth0", "mode": "automatic", "metric": 5 }),
                "one of these at a time",
            ),
            (
                json!({ "link": "eth0", "uplink": "eth1" }),
                "one of these at a time",
            ),
            (
                json!({ "link": "br0", "bridge": ["eth0"], "vlan": { "on": "eth0", "id": 7 } }),
                "one of these at a time",
            ),
            (
                json!({ "link": "eth0", "metric": 5, "address": "192.168.1.5/24" }),
                "one of these at a time",
            ),
            (
                json!({ "link": "br0", "mode": "removed", "dns": ["9.9.9.9"] }),
                "one of these at a time",
            ),
            (
                json!({ "service": "cloud", "uplink": "eth1", "gateway": "192.168.1.1" }),
                "one of these at a time",
            ),
            (json!({ "service": "cloud" }), "the uplink is missing"),
        ] {
            let why = read(wrong.clone()).unwrap_err();
            assert!(why.contains(said), "{wrong}: {why}");
        }
    }
}
