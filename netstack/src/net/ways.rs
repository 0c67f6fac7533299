//! What the links that are looked after are as uplinks: which of them are used in which order, and
//! what routing and the packet filter have to know of them. Pure.

use std::collections::BTreeMap;

use super::{
    clock::Now,
    config::NetConfig,
    engine::Managed,
    failover::Failover,
    kernel::Kernel,
    reconcile::{self, Wanted},
    routing::{self, Tie, Way},
};

/// Decides anew which uplinks are used in which order, and how closely their gateways are watched.
pub(crate) fn judge(
    now: Now,
    config: &NetConfig,
    kernel: &Kernel,
    managed: &mut BTreeMap<u32, Managed>,
    failover: &mut Failover,
) {
    let sights = managed.iter().filter_map(|(index, managed)| {
        let link = kernel.links.get(index)?;
        let sight = managed.sight(reconcile::metric_of(config, &link.name))?;
        Some((*index, sight))
    });
    failover.judge(now, &sights.collect());
    let several = failover.order().len() > 1;
    for managed in managed.values_mut() {
        managed.watch_closely(now, several);
    }
}

/// The uplinks that lead out, by their index.
pub(crate) fn of(kernel: &Kernel, wanted: &BTreeMap<u32, Wanted>, failover: &Failover) -> Vec<Way> {
    let ways = failover.order().iter().filter_map(|place| {
        kernel.links.get(&place.link).filter(|link| link.up)?;
        let addresses = &wanted.get(&place.link)?.addresses;
        let lasting = addresses.iter().filter(|one| !one.ip.is_link_local());
        Some(Way {
            link: place.link,
            gateway: place.gateway,
            addresses: lasting.map(|one| (one.ip, one.prefix)).collect(),
            trusted: place.trusted,
        })
    });
    let mut ways: Vec<_> = ways.collect();
    ways.sort_by_key(|way| way.link);
    ways
}

/// The services that are bound to an uplink.
pub(crate) fn ties(config: &NetConfig, kernel: &Kernel) -> Vec<Tie> {
    let ties = config.bound.iter().map(|bound| Tie {
        address: bound.address,
        link: kernel.named(&bound.uplink).map(|link| link.index),
        otherwise: bound.otherwise,
    });
    ties.collect()
}

/// What tells by which of several uplinks something came in.
pub(crate) fn marks(kernel: &Kernel, ways: &[Way]) -> Vec<(String, u32)> {
    let several = ways.len() > 1;
    let marks = ways.iter().filter(|_| several).filter_map(|way| {
        let link = kernel.links.get(&way.link)?;
        Some((link.name.clone(), routing::table_of(way.link)))
    });
    marks.collect()
}
