//! What the door is to be, as far as the manager decides it.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use netstack::door::{DoorConfig, Identity, Route, RouteKind, Upstream};
use services::reconcile;
use supervise::status::BoxStatus;

/// The names and addresses that the box itself answers to.
pub(super) fn own_names(status: &BoxStatus) -> BTreeSet<String> {
    let hostname = &status.hostname;
    let fixed = [format!("{hostname}.local"), hostname.clone()];
    let local = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let addresses = status.net.links.iter().flat_map(|link| &link.addresses);
    let addresses = addresses
        .filter(|(ip, _)| is_lasting(ip))
        .map(|(ip, _)| ip.to_string());
    fixed.into_iter().chain(local).chain(addresses).collect()
}

/// The door's configuration.
pub(super) fn config(
    hostname: &str,
    identity: Option<(Identity, String)>,
    routes: &[reconcile::Route],
) -> DoorConfig {
    let (identity, ca_pem) = identity.unzip();
    let route = |route: &reconcile::Route| Route {
        service: route.service.clone(),
        upstream: Upstream::Tcp(SocketAddr::V4(route.upstream)),
        port: route.tls_port,
        kind: RouteKind::Http,
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
