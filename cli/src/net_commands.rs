//! `pilot net …`: why the box can or can't be reached, how its network is set, and changing it
//! without locking oneself out.

mod show;

use std::{
    io::{self, Write as _},
    path::Path,
};

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use crate::api::{self, ApiError};

/// `pilot net`.
#[derive(Debug, Args)]
pub(crate) struct NetArguments {
    /// Say it as JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: NetCommand,
}

/// Commands about the network.
#[derive(Debug, Subcommand)]
enum NetCommand {
    /// Why the box can or can't be reached, with what was seen
    Status,
    /// Change how a network card gets its addresses; undone by itself unless it is confirmed
    Set(SetArguments),
    /// Keep a change, with the token that `set` gave
    Confirm {
        /// The token
        token: String,
    },
    /// Undo the change that waits to be confirmed
    Rollback,
    /// What routers gave the box
    Leases,
    /// The name servers that are asked
    Dns,
    /// Addresses and the gateway
    Route,
    /// The rules of the packet filter
    Firewall,
    /// Whom the box asks for the time; without servers, what came of it
    Time {
        /// Servers by address or name; `usual` for the usual ones, `none` for none but a router's
        #[arg(num_args = 0..=8)]
        servers: Vec<String>,
    },
    /// Whether machines on the box's own networks may ask it for names
    Lan {
        /// Whether they may
        wanted: Switch,
    },
}

#[derive(Debug, Args)]
struct SetArguments {
    /// The network card, as `pilot net route` calls it
    link: String,
    /// Where its addresses are from
    mode: Mode,
    /// The address with its prefix, like 192.168.1.5/24
    #[arg(long, required_if_eq("mode", "static"))]
    address: Option<String>,
    /// The router's address
    #[arg(long)]
    gateway: Option<String>,
    /// A name server's address; may be given again
    #[arg(long)]
    dns: Vec<String>,
    /// How long the change waits to be confirmed, in seconds, 10 to 600
    #[arg(long, default_value_t = 90)]
    seconds: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Mode {
    /// From the network's router
    Automatic,
    /// Always the same
    Static,
    /// Not the box's business
    Unmanaged,
}

/// Does it, and writes what came of it to standard output.
pub(crate) fn run(arguments: &NetArguments) -> Result<(), NetError> {
    let call = |method: &str, params| api::call(Path::new(api::SOCKET), method, &params);
    let status = || call("net.status", json!({}));
    let (value, shown): (Value, fn(&Value) -> String) = match &arguments.command {
        NetCommand::Status => (status()?, show::status),
        NetCommand::Set(set) => (call("net.set", params(set))?, show::taken),
        NetCommand::Confirm { token } => (
            call("net.confirm", json!({ "token": token }))?,
            show::confirmed,
        ),
        NetCommand::Rollback => (call("net.rollback", json!({}))?, |_| {
            "The settings of before are in force.\n".to_owned()
        }),
        NetCommand::Leases => (part(status()?, &["leases"]), show::leases),
        NetCommand::Dns => (
            part(status()?, &["dns", "domain", "search", "lan"]),
            show::dns,
        ),
        NetCommand::Route => (part(status()?, &["links", "gateway"]), show::route),
        NetCommand::Time { servers } if servers.is_empty() => {
            (part(status()?, &["time", "findings"]), show::time)
        }
        NetCommand::Time { servers } => (
            call("net.general", json!({ "time": time(servers) }))?,
            |_| HOLDS.to_owned(),
        ),
        NetCommand::Lan { wanted } => (
            call("net.general", json!({ "lan": *wanted == Switch::On }))?,
            |_| HOLDS.to_owned(),
        ),
        NetCommand::Firewall => (part(status()?, &["firewall"]), show::firewall),
    };
    let text = match arguments.json {
        true => format!("{value:#}\n"),
        false => shown(&value),
    };
    io::stdout()
        .write_all(text.as_bytes())
        .map_err(NetError::Output)
}

/// Why a command about the network failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetError {
    /// The API did not do it.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// Nobody reads what is written.
    #[error("standard output can't be written: {0}")]
    Output(io::Error),
}

/// The API's parameters.
fn params(set: &SetArguments) -> Value {
    let mode = match set.mode {
        Mode::Automatic => "automatic",
        Mode::Static => "static",
        Mode::Unmanaged => "unmanaged",
    };
    json!({
        "link": set.link,
        "mode": mode,
        "address": set.address,
        "gateway": set.gateway,
        "dns": set.dns,
        "seconds": set.seconds,
    })
}

/// What the API takes for these servers.
fn time(servers: &[String]) -> Value {
    match servers {
        [one] if one == "usual" => Value::Null,
        [one] if one == "none" => json!([]),
        servers => json!(servers),
    }
}

const HOLDS: &str = "It holds from now on.\n";

/// The fields of `value` that are asked for.
fn part(mut value: Value, fields: &[&str]) -> Value {
    let fields = fields
        .iter()
        .map(|field| ((*field).to_owned(), value[*field].take()));
    Value::Object(fields.collect())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        arguments: NetArguments,
    }

    fn parsed(line: &str) -> Result<NetArguments, clap::Error> {
        let words = std::iter::once("net").chain(line.split_whitespace());
        Line::try_parse_from(words).map(|line| line.arguments)
    }

    #[test]
    fn a_fixed_address_is_said_in_full() {
        let line = "set eth0 static --address 192.168.1.5/24 --gateway 192.168.1.1 --dns 9.9.9.9 \
                    --dns 1.1.1.1 --json";
        let arguments = parsed(line).unwrap();
        assert!(arguments.json);
        let NetCommand::Set(set) = &arguments.command else {
            panic!("{arguments:?}");
        };
        assert_eq!(
            params(set),
            json!({
                "link": "eth0", "mode": "static", "address": "192.168.1.5/24",
                "gateway": "192.168.1.1", "dns": ["9.9.9.9", "1.1.1.1"], "seconds": 90,
            })
        );
    }

    #[test]
    fn time_servers_are_said_by_address_name_or_word() {
        let said = |line: &str| match parsed(line).unwrap().command {
            NetCommand::Time { servers } => time(&servers),
            other => panic!("{other:?}"),
        };
        assert_eq!(said("time usual"), json!(null));
        assert_eq!(said("time none"), json!([]));
        assert_eq!(
            said("time 192.0.2.1 a.example"),
            json!(["192.0.2.1", "a.example"])
        );
        assert!(parsed("lan on").is_ok() && parsed("lan").is_err());
    }

    #[test]
    fn a_fixed_address_without_one_is_none() {
        assert!(parsed("set eth0 static").is_err());
        assert!(parsed("set eth0 automatic").is_ok());
    }
}
