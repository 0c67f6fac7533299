//! The DHCP servers that people's routers run, in a laboratory of network name spaces.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Child, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::netns::{Machine, end, until};

/// Which of the servers this machine lacks; none if it has them all.
pub fn lacks() -> Option<String> {
    crate::netns::lacks_tool(&["kea-dhcp4", "dhcpd", "dnsmasq"])
}

/// A kind of server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Of most home routers.
    Dnsmasq,
    /// ISC's successor of its `dhcpd`.
    Kea,
    /// ISC's `dhcpd`.
    Isc,
}

/// What a server gives away: addresses of a /24 whose first is the router's.
#[derive(Clone, Copy, Debug)]
pub struct Pool {
    /// The first three bytes of every address.
    pub network: [u8; 3],
    /// The last byte of the first address.
    pub first: u8,
    /// The last byte of the last address.
    pub last: u8,
    /// Whether leases last for an hour, so that a test sees none renewed.
    pub lasting: bool,
}

/// A server at work.
#[derive(Debug)]
pub struct Server {
    kind: Kind,
    child: Child,
    folder: PathBuf,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Dnsmasq, Self::Kea, Self::Isc];
}

impl Pool {
    /// Ten addresses of a network.
    pub fn of(network: [u8; 3]) -> Self {
        Self {
            network,
            first: 100,
            last: 109,
            lasting: false,
        }
    }

    /// How long a lease lasts, and when it is to be renewed and rebound, in seconds.
    fn terms(&self) -> [u64; 3] {
        if self.lasting {
            return [3600, 1800, 3000];
        }
        [LEASE, RENEW, REBIND].map(|term| term.as_secs())
    }

    /// An address of the network.
    pub fn address(&self, last: u8) -> String {
        let [a, b, c] = self.network;
        format!("{a}.{b}.{c}.{last}")
    }
}

impl Server {
    /// Serves a pool on `link` of `machine`, as the only server that knows the network: it refuses
    /// what does not fit. Leases last [`LEASE`] (dnsmasq: two minutes, its least), are to be
    /// renewed after [`RENEW`] and rebound after [`REBIND`].
    pub fn start(kind: Kind, machine: &Machine, link: &str, pool: Pool) -> Result<Self> {
        Self::giving(kind, machine, link, pool, false)
    }

    /// The same; if it is generous, with [`SEARCH`], routes to [`FAR`] and everywhere by way of
    /// [`ROUTER`], and, if it can, leases for who looks for servers (RFC 4039).
    pub fn giving(
        kind: Kind,
        machine: &Machine,
        link: &str,
        pool: Pool,
        generous: bool,
    ) -> Result<Self> {
        // Kea gives up on a link without a carrier.
        until(STARTED_WITHIN, || {
            let seen = machine.run(&format!("ip link show dev {link}"));
            seen.is_ok_and(|seen| seen.contains("LOWER_UP"))
        })
        .with_context(|| format!("{link} has no carrier"))?;
        let folder = std::env::temp_dir().join(format!("{}-{kind:?}-{link}", machine.name()));
        fs::create_dir_all(&folder)?;
        let log = File::create(folder.join("log"))?;
        let [lasts, renew, rebind] = pool.terms();
        let path = |name: &str| folder.join(name).display().to_string();
        let line: Vec<String> = match kind {
            Kind::Dnsmasq => {
                let range = (pool.address(pool.first), pool.address(pool.last));
                let router = pool.address(ROUTER);
                let more = [
                    format!("--dhcp-option=option:domain-search,{}", SEARCH.join(",")),
                    format!("--dhcp-option=121,{FAR},{router},0.0.0.0/0,{router}"),
                    "--dhcp-rapid-commit".to_owned(),
                ];
                let more = if generous {
                    more.join(" ")
                } else {
                    String::new()
                };
                [
                    "dnsmasq --keep-in-foreground --conf-file=/dev/null --port=0 --user=root",
                    &more,
                    "--bind-interfaces --no-ping --log-dhcp --log-facility=- --dhcp-authoritative",
                    &format!(
                        "--interface={link} --pid-file= --dhcp-leasefile={}",
                        path("leases")
                    ),
                    &format!(
                        "--dhcp-range={},{},255.255.255.0,{}",
                        range.0,
                        range.1,
                        lasts.max(120)
                    ),
                    &format!("--dhcp-option=option:T1,{renew}"),
                    &format!("--dhcp-option=option:T2,{rebind}"),
                ]
                .iter()
                .flat_map(|words| words.split_whitespace())
                .map(str::to_owned)
                .collect()
            }
            Kind::Kea => {
                fs::write(folder.join("kea.conf"), kea(link, pool, generous))?;
                vec!["kea-dhcp4".to_owned(), "-c".to_owned(), path("kea.conf")]
            }
            Kind::Isc => {
                fs::write(folder.join("dhcpd.conf"), isc(pool, generous))?;
                fs::write(folder.join("leases"), "")?;
                let files = [path("dhcpd.conf"), path("leases"), path("pid")];
                let [config, leases, pid] = files;
                format!("dhcpd -4 -f -d -cf {config} -lf {leases} -pf {pid} {link}")
                    .split_whitespace()
                    .map(str::to_owned)
                    .collect()
            }
        };
        let child = machine
            .command()
            .args(line)
            .env("KEA_PIDFILE_DIR", &folder)
            .env("KEA_LOCKFILE_DIR", "none")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("{kind:?} does not start"))?;
        let server = Self {
            kind,
            child,
            folder,
        };
        let ready = match kind {
            Kind::Dnsmasq => "DHCP, IP range",
            Kind::Kea => "DHCP4_STARTED",
            Kind::Isc => "Server starting service",
        };
        until(STARTED_WITHIN, || server.log().contains(ready)).with_context(|| server.log())?;
        Ok(server)
    }

    /// What it has said so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// How many leases it has granted or prolonged so far.
    pub fn granted(&self) -> usize {
        self.said(match self.kind {
            Kind::Dnsmasq => "DHCPACK(",
            Kind::Kea => "DHCP4_LEASE_ALLOC",
            Kind::Isc => "DHCPACK on",
        })
    }

    /// How many leases it has offered so far.
    pub fn offered(&self) -> usize {
        self.said(match self.kind {
            Kind::Dnsmasq => "DHCPOFFER(",
            Kind::Kea => "DHCP4_LEASE_ADVERT",
            Kind::Isc => "DHCPOFFER on",
        })
    }

    /// How many requests it has refused so far.
    pub fn refused(&self) -> usize {
        self.said(match self.kind {
            Kind::Dnsmasq => "DHCPNAK(",
            Kind::Kea => "DHCPNAK",
            Kind::Isc => "DHCPNAK on",
        })
    }

    /// Whether it has been told that somebody else has this address.
    pub fn knows_declined(&self, address: &str) -> bool {
        let declined = match self.kind {
            Kind::Dnsmasq => "DHCPDECLINE(",
            Kind::Kea => "DHCP4_DECLINE_LEASE ",
            Kind::Isc => "DHCPDECLINE of",
        };
        let log = self.log();
        let mut lines = log.lines();
        lines.any(|line| line.contains(declined) && line.contains(address))
    }

    fn said(&self, what: &str) -> usize {
        self.log().matches(what).count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        end(&mut self.child);
        drop(fs::remove_dir_all(&self.folder));
    }
}

fn kea(link: &str, pool: Pool, generous: bool) -> String {
    let [lasts, renew, rebind] = pool.terms();
    let mut options = vec![json!({ "name": "routers", "data": pool.address(1) })];
    if generous {
        options.push(json!({ "name": "domain-search", "data": SEARCH.join(", ") }));
        let routes = routes(pool).map(|byte| format!("{byte:02x}")).concat();
        options.push(json!({ "code": 121, "csv-format": false, "data": routes }));
    }
    let config = json!({ "Dhcp4": {
        "interfaces-config": { "interfaces": [link], "dhcp-socket-type": "raw" },
        "lease-database": { "type": "memfile", "persist": false },
        "authoritative": true,
        "option-def": [{ "name": "routes", "code": 121, "type": "binary", "space": "dhcp4" }],
        "valid-lifetime": lasts,
        "renew-timer": renew,
        "rebind-timer": rebind,
        "subnet4": [{
            "subnet": format!("{}/24", pool.address(0)),
            "pools": [{
                "pool": format!("{} - {}", pool.address(pool.first), pool.address(pool.last)),
            }],
            "option-data": options,
        }],
        "loggers": [{
            "name": "kea-dhcp4",
            "output_options": [{ "output": "stdout" }],
            "severity": "DEBUG",
            "debuglevel": 40,
        }],
    }});
    config.to_string()
}

/// The routes of a generous server, as RFC 3442 writes them.
fn routes(pool: Pool) -> [u8; 12] {
    let [a, b, c] = pool.network;
    let d = ROUTER;
    [16, 172, 20, a, b, c, d, 0, a, b, c, d]
}

fn isc(pool: Pool, generous: bool) -> String {
    let [seconds, renew, rebind] = pool.terms();
    let routes = routes(pool).map(|byte| byte.to_string()).join(", ");
    let search = SEARCH.map(|domain| format!("{domain:?}")).join(", ");
    let more = match generous {
        true => format!("option domain-search {search}; option routes {routes};\n"),
        false => String::new(),
    };
    format!(
        "option routes code 121 = array of unsigned integer 8;\n\
         {more}\
         authoritative; ping-check false;\n\
         default-lease-time {seconds}; max-lease-time {seconds}; min-lease-time {seconds};\n\
         option dhcp-renewal-time {renew}; option dhcp-rebinding-time {rebind};\n\
         subnet {network} netmask 255.255.255.0 {{\n\
           range {first} {last};\n\
           option routers {router};\n\
         }}\n",
        network = pool.address(0),
        first = pool.address(pool.first),
        last = pool.address(pool.last),
        router = pool.address(1),
    )
}

/// The domains that a generous server names.
pub const SEARCH: [&str; 2] = ["home.arpa", "lan.home.arpa"];

/// The network that a generous server knows a way to.
pub const FAR: &str = "172.20.0.0/16";

/// The last byte of a generous server's router's address.
pub const ROUTER: u8 = 8;

/// How long a lease lasts: little more than the least that our client believes in.
pub const LEASE: Duration = Duration::from_secs(30);

/// When a lease is to be renewed.
pub const RENEW: Duration = Duration::from_secs(6);

/// When a lease is to be rebound.
pub const REBIND: Duration = Duration::from_secs(14);

/// What takes less than a second on a quiet machine.
const STARTED_WITHIN: Duration = Duration::from_secs(60);
