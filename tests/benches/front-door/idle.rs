//! What a connection that does nothing costs in memory.

use std::{
    collections::HashMap,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use mio::{Events, Interest, Poll, Token, net::TcpStream};
use rustix::process::{Resource, getrlimit};

use super::{
    client::{self, Client, Memory},
    contender::{Contender, Kind},
    table::Sample,
};

/// Memory for each of many connections that had a request answered, and for all of them.
pub(crate) fn memory(contender: &Contender) -> Result<Sample> {
    let many = match contender.kind {
        Kind::Door => most()?,
        Kind::Nginx | Kind::Haproxy | Kind::Hyper => 2_000,
    };
    let config = client::config("http/1.1", Memory::Forgets)?;
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(1024);
    let mut scratch = vec![0; 16 * 1024];
    let before = contender.memory()?;
    let mut kept: Vec<TcpStream> = Vec::with_capacity(many);
    let mut under_way: HashMap<usize, Client> = HashMap::new();
    let (mut begun, until) = (0, Instant::now() + PATIENCE);
    while kept.len() < many {
        ensure!(Instant::now() < until, "only {} are there", kept.len());
        while begun < many && under_way.len() < AT_ONCE {
            let mut client = Client::begin(contender.address, begun, &config)?;
            let both = Interest::READABLE | Interest::WRITABLE;
            poll.registry()
                .register(&mut client.stream, Token(begun), both)?;
            client.say(REQUEST)?;
            under_way.insert(begun, client);
            begun += 1;
        }
        poll.poll(&mut events, Some(Duration::from_millis(20)))?;
        for event in &events {
            let Some(client) = under_way.get_mut(&event.token().0) else {
                continue;
            };
            let mut answered = false;
            let open = client.read(&mut scratch, |_| {
                answered = true;
                Ok(())
            })?;
            ensure!(open, "a connection was closed");
            client.write()?;
            if answered && let Some(mut client) = under_way.remove(&event.token().0) {
                poll.registry().deregister(&mut client.stream)?;
                // Our end of TLS is not needed any more.
                kept.push(client.stream);
            }
        }
    }
    thread::sleep(Duration::from_millis(500));
    Ok(Sample::memory(before, contender.memory()?, many))
}

/// Ten thousand, or as many as a door takes that may not open two descriptors for each.
fn most() -> Result<usize> {
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    Ok(usize::try_from(descriptors / 2)?
        .saturating_sub(200)
        .min(10_000))
}

const REQUEST: &[u8] = b"GET /128 HTTP/1.1\r\nHost: localhost\r\n\r\n";
const AT_ONCE: usize = 64;
const PATIENCE: Duration = Duration::from_secs(60);
