//! Our door as a process, with the limits and the log that a box has.

use std::{
    io::Write as _,
    net::{Ipv4Addr, TcpListener},
};

use anyhow::Result;
use netstack::door::{self, Command, DoorConfig, Limits, Setup, Upstream};

use super::contender::Room;

/// Serves until it is ended.
pub(crate) fn run(room: &Room, port: u16) -> Result<()> {
    let (sender, receiver) = door::channel()?;
    let dashboard = match room.upstream_port() {
        Some(port) => Upstream::Tcp((Ipv4Addr::LOCALHOST, port).into()),
        None => Upstream::Unix(room.socket()),
    };
    let config = DoorConfig {
        hostname: "bench".into(),
        identity: Some(room.identity()?),
        dashboard,
        ..DoorConfig::default()
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    // The same queue as the others have.
    rustix::net::listen(&listener, 4096)?;
    sender.send(Command::Configure(Box::new(config)))?;
    let port = 443;
    sender.send(Command::Listen { port, listener })?;
    let setup = Setup {
        probe: None,
        limits: Limits::default(),
        log: Box::new(|line| drop(writeln!(std::io::stderr(), "{line}"))),
    };
    Ok(door::run(setup, receiver)?)
}
