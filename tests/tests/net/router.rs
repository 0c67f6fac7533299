//! What an IPv6 router announces, with radvd.

use std::{fs, net::IpAddr, path::PathBuf};

use anyhow::{Context as _, Result};
use netstack::net::NetStatus;
use tests::netns::{Machine, Net, Watch, lacks_radvd};

use super::{Lab, SOON, config, test};

#[test]
fn an_ipv6_router_s_addresses_route_and_name_servers_are_taken_and_end() {
    let name = "an_ipv6_router_s_addresses_route_and_name_servers_are_taken_and_end";
    test(name, || {
        if let Some(why) = lacks_radvd() {
            println!("SKIPPED: {name}: {why}");
            return Ok(());
        }
        let lab = Lab::new()?;
        let mut net = Net::start(&lab.the_box, config())?;
        let first = Radvd::start(&lab.router, "2001:db8:50:", "home.arpa")?;
        net.wait_for("what is announced", SOON, has("2001:db8:50:", "home.arpa"))
            .with_context(|| first.watch.so_far())?;
        net.wait_for("IPv6 gateway", SOON, |status| {
            status.gateway.is_some_and(|gateway| gateway.is_ipv6())
        })?;

        // It dies without a word, as routers do: what it announced ends by itself.
        drop(first);
        net.wait_for("end of it", SOON, |status| {
            status.dns.is_empty() && status.domain.is_none()
        })?;
        let other = Radvd::start(&lab.router, "2001:db8:60:", "lan")?;
        net.wait_for("what is announced now", SOON, has("2001:db8:60:", "lan"))
            .with_context(|| other.watch.so_far())?;

        // Plugged in elsewhere, nothing of before is left.
        lab.router.run("ip link set lan0 down")?;
        net.wait_for("end of the carrier", SOON, |status| status.dns.is_empty())
    });
}

/// Whether the box has an address, the name server and the domain of a network.
fn has(network: &str, domain: &'static str) -> impl Fn(&NetStatus) -> bool {
    let server = format!("{network}:53").parse::<IpAddr>();
    let network = network.to_owned();
    move |status| {
        let mut addresses = status.links.iter().flat_map(|link| &link.addresses);
        let in_it = |ip: &IpAddr| ip.to_string().starts_with(&network);
        addresses.any(|(ip, _)| in_it(ip))
            && status.domain.as_deref() == Some(domain)
            && server.as_ref().is_ok_and(|ip| status.dns == [*ip])
    }
}

/// The daemon that announces routers.
pub(crate) struct Radvd {
    pub(crate) watch: Watch,
    folder: PathBuf,
}

impl Radvd {
    /// Announces a network with its name server and its domain, which end soon.
    pub(crate) fn start(machine: &Machine, network: &str, domain: &str) -> Result<Self> {
        Self::saying(
            machine,
            &format!(
                "AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4;\n\
                 AdvDefaultLifetime 60;\n\
                 prefix {network}:/64 {{ AdvValidLifetime 60; AdvPreferredLifetime 30; }};\n\
                 RDNSS {network}:53 {{ AdvRDNSSLifetime 12; }};\n\
                 DNSSL {domain} {{ AdvDNSSLLifetime 12; }};\n"
            ),
        )
    }

    /// Announces what is written in the form of radvd.conf(5).
    pub(crate) fn saying(machine: &Machine, announcement: &str) -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("{}-radvd", machine.name()));
        fs::create_dir_all(&folder)?;
        let config = format!("interface lan0 {{\n{announcement}\n}};\n");
        let path = |name: &str| folder.join(name).display().to_string();
        fs::write(folder.join("radvd.conf"), config)?;
        machine.set("ipv6/conf/all/forwarding", "1")?;
        let (config, pid) = (path("radvd.conf"), path("pid"));
        let watch = machine.watch(&format!("radvd -n -m stderr -C {config} -p {pid}"))?;
        Ok(Self { watch, folder })
    }
}

impl Drop for Radvd {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.folder));
    }
}
