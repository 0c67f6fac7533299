//! The network: how it is set, why the box can or can't be reached, and changing it.

mod wish;

use std::{collections::BTreeMap, net::IpAddr};

use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use supervise::{
    network::{
        Binding, Change, ChangeTaken, GeneralSetting, Lease, LinkSetting, MadeLink, Uplink, Wish,
    },
    status::{BoxStatus, LinkSummary},
};

pub(super) use self::wish::SetParams;

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
        "uplinks": network.uplinks.iter().map(uplink).collect::<Vec<_>>(),
        "made": by_name(&network.made, made),
        "metrics": network.metrics,
        "bound": by_name(&network.bound, bound),
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

/// What a link is made of, as [`SetParams`] reads it.
fn made(made: &MadeLink) -> Value {
    match made {
        MadeLink::Bridge { ports } => json!({ "bridge": ports }),
        MadeLink::Vlan { on, id } => json!({ "vlan": { "on": on, "id": id } }),
    }
}

/// What a service is bound to, as [`SetParams`] reads it.
fn bound(Binding { uplink, only }: &Binding) -> Value {
    json!({ "uplink": uplink, "only": only })
}

fn by_name<T>(values: &BTreeMap<String, T>, written: fn(&T) -> Value) -> Value {
    let values = values.iter();
    Value::Object(
        values
            .map(|(name, value)| (name.clone(), written(value)))
            .collect(),
    )
}

/// A change's wish, as [`SetParams`] reads it.
fn wished(wish: &Wish) -> Value {
    match wish {
        Wish::Addresses(addresses) => setting(addresses),
        Wish::Bound(None) => json!({ "uplink": "" }),
        Wish::Bound(Some(binding)) => bound(binding),
        Wish::Made(link, addresses) => {
            let mut written = setting(addresses);
            if let (Some(written), Value::Object(made)) = (written.as_object_mut(), made(link)) {
                written.extend(made);
            }
            written
        }
        Wish::Metric(metric) => json!({ "metric": metric.unwrap_or(0) }),
        Wish::Removed => json!({ "mode": "removed" }),
    }
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
        "setting": wished(&change.wish),
        "applied": change.applied,
        "leftS": change.until.saturating_sub(status.uptime).as_secs(),
    })
}

fn uplink(uplink: &Uplink) -> Value {
    json!({
        "link": uplink.link,
        "gateway": uplink.gateway,
        "metric": uplink.metric,
        "isDefault": uplink.is_default,
        "why": uplink.why,
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
