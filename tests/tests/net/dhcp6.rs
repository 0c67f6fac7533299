//! Servers' names by stateless DHCPv6, where an IPv6 router says that there is somebody to ask: with
//! Kea beside radvd, and with dnsmasq, which is both.

use std::{
    fs::{self, File},
    net::IpAddr,
    path::PathBuf,
    process::{Child, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use netstack::net::NetStatus;
use serde_json::json;
use tests::netns::{Dnsmasq, Machine, Net, end, lacks_kea6, lacks_radvd, until};

use super::{Lab, SOON, config, leased, router::Radvd, test};

#[test]
fn kea_is_asked_as_long_as_a_router_says_so() {
    let name = "kea_is_asked_as_long_as_a_router_says_so";
    test(name, || {
        if let Some(why) = lacks_radvd().or_else(lacks_kea6) {
            println!("SKIPPED: {name}: {why}");
            return Ok(());
        }
        let lab = Lab::new()?;
        // Else a link without a carrier has no address to serve from.
        lab.the_box.run("ip link set up0 up")?;
        let kea = Kea::start(&lab.router)?;
        let mut net = Net::start(&lab.the_box, config())?;
        for flag in ["AdvOtherConfigFlag", "AdvManagedFlag"] {
            let radvd = Radvd::saying(&lab.router, &announcement(&format!("{flag} on;")))?;
            net.wait_for("the server's word", SOON, informed)
                .with_context(|| radvd.watch.so_far() + &kea.log())?;
            ensure!(
                net.latest.search == ["home.arpa", "lan"],
                "{:?}",
                net.latest.search
            );
            ensure!(net.latest.problems.is_empty(), "{:?}", net.latest.problems);
            drop(radvd);

            let silent = Radvd::saying(&lab.router, &announcement(""))?;
            net.wait_for("end of it", SOON, |status| {
                status.dns.is_empty() && status.ntp.is_empty() && status.domain.is_none()
            })
            .with_context(|| silent.watch.so_far())?;
        }
        Ok(())
    });
}

#[test]
fn dnsmasq_is_asked_beside_its_leases() {
    test("dnsmasq_is_asked_beside_its_leases", || {
        let lab = Lab::new()?;
        lab.router
            .run("ip addr add 2001:db8:50::1/64 dev lan0 nodad")?;
        let options = "--enable-ra --dhcp-range=2001:db8:50::,ra-stateless \
                       --dhcp-option=option6:dns-server,[2001:db8:50::53] \
                       --dhcp-option=option6:domain-search,home.arpa,lan \
                       --dhcp-option=option6:sntp-server,[2001:db8:50::7b]";
        let server = Dnsmasq::start(&lab.router, "lan0", options)?;
        let mut net = Net::start(&lab.the_box, config())?;
        net.wait_for("both servers' words", SOON, |status| {
            informed(status) && leased(status).is_some()
        })
        .with_context(|| server.log())?;
        ensure!(
            server.said("DHCPINFORMATION-REQUEST(lan0)") > 0,
            "{}",
            server.log()
        );

        // Plugged in elsewhere, nothing of before is left.
        lab.router.run("ip link set lan0 down")?;
        net.wait_for("end of the carrier", SOON, |status| {
            let far = |servers: &[IpAddr]| servers.iter().any(IpAddr::is_ipv6);
            !far(&status.dns) && !far(&status.ntp)
        })
    });
}

/// Whether the box knows what the server says: the time server only it has named.
fn informed(status: &NetStatus) -> bool {
    let named = |servers: &[IpAddr], last: &str| {
        let wanted = format!("2001:db8:50::{last}").parse();
        wanted.is_ok_and(|wanted: IpAddr| servers.contains(&wanted))
    };
    named(&status.dns, "53")
        && named(&status.ntp, "7b")
        && status.domain.as_deref() == Some("home.arpa")
}

fn announcement(flag: &str) -> String {
    format!(
        "AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4; {flag}\n\
         prefix 2001:db8:50::/64 {{ }};"
    )
}

/// ISC's server, for information only.
struct Kea {
    child: Child,
    folder: PathBuf,
}

impl Kea {
    fn start(machine: &Machine) -> Result<Self> {
        // It serves from the link's own address, and gives up without one.
        until(SOON, || {
            let seen = machine.run("ip -6 addr show dev lan0 scope link -tentative");
            seen.is_ok_and(|seen| seen.contains("inet6 fe80"))
        })?;
        let folder = std::env::temp_dir().join(format!("{}-kea6", machine.name()));
        fs::create_dir_all(&folder)?;
        let option = |name: &str, data: &str| json!({ "name": name, "data": data });
        let config = json!({ "Dhcp6": {
            "interfaces-config": { "interfaces": ["lan0"] },
            "lease-database": { "type": "memfile", "persist": false },
            // Without a file for it, which is another user's.
            "server-id": { "type": "LL", "persist": false },
            "subnet6": [{ "subnet": "2001:db8:50::/64", "interface": "lan0" }],
            "option-data": [
                option("dns-servers", "2001:db8:50::53"),
                option("domain-search", "home.arpa, lan"),
                option("sntp-servers", "2001:db8:50::7b"),
                option("information-refresh-time", "7200"),
            ],
            "loggers": [{
                "name": "kea-dhcp6",
                "output_options": [{ "output": "stdout" }],
                "severity": "DEBUG",
                "debuglevel": 40,
            }],
        }});
        fs::write(folder.join("kea.conf"), config.to_string())?;
        let log = File::create(folder.join("log"))?;
        let child = machine
            .command()
            .arg("kea-dhcp6")
            .arg("-c")
            .arg(folder.join("kea.conf"))
            .env("KEA_PIDFILE_DIR", &folder)
            .env("KEA_LOCKFILE_DIR", "none")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("Kea does not start")?;
        let kea = Self { child, folder };
        until(SOON, || kea.log().contains("DHCP6_STARTED")).with_context(|| kea.log())?;
        Ok(kea)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

impl Drop for Kea {
    fn drop(&mut self) {
        end(&mut self.child);
        drop(fs::remove_dir_all(&self.folder));
    }
}
