//! What the door is to be, as far as the manager decides it.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use netstack::door::{DoorConfig, Identity, Route, RouteKind, Upstream};
use services::ports;
use supervise::{network::LinkSetting, status::BoxStatus};

/// The names and addresses that the box itself answers to.
pub(super) fn own_names(status: &BoxStatus) -> BTreeSet<String> {
    let hostname = &status.hostname;
    let fixed = [format!("{hostname}.local"), hostname.clone()];
    let local = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let addresses = status.net.links.iter().flat_map(|link| &link.addresses);
    let addresses = addresses
        .filter(|(ip, _)| is_lasting(ip))
        .map(|(ip, _)| ip.to_string());
    // Whoever confirms a change comes by an address that is not there yet.
    let change = status.network.change.as_ref();
    let setting = change.and_then(|change| change.wish.setting());
    let next = setting.and_then(|setting| match setting {
        LinkSetting::Static { address, .. } => Some(address.to_string()),
        LinkSetting::Automatic | LinkSetting::Unmanaged => None,
    });
    let names = fixed.into_iter().chain(local).chain(addresses);
    names.chain(next).collect()
}

/// The door's configuration.
pub(super) fn config(
    hostname: &str,
    identity: Option<(Identity, String)>,
    routes: &[ports::Route],
) -> DoorConfig {
    let (identity, ca_pem) = identity.unzip();
    let route = |route: &ports::Route| Route {
        service: route.service.clone(),
        upstream: Upstream::Tcp(SocketAddr::V4(route.upstream)),
        port: route.tls_port,
        kind: match route.passes_tls {
            true => RouteKind::PassThrough,
            false => RouteKind::Http,
        },
    };
    DoorConfig {
        hostname: hostname.to_owned(),
        identity,
        ca_pem,
        dashboard: Upstream::default(),
        routes: routes.iter().map(route).collect(),
    }
}

/// Link-local addresses need a zone in a URL, which no certificate can name.
fn is_lasting(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(_) => true,
        IpAddr::V6(ip) => !ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_with_its_own_certificate_is_passed_through_to() {
        let route = |passes_tls| ports::Route {
            service: "demo".into(),
            upstream: "10.77.0.2:443".parse().unwrap(),
            tls_port: None,
            passes_tls,
        };
        let config = config("otter", None, &[route(true), route(false)]);
        let kinds: Vec<RouteKind> = config.routes.iter().map(|route| route.kind).collect();
        assert_eq!(kinds, [RouteKind::PassThrough, RouteKind::Http]);
    }
}
