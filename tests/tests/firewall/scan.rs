//! What nmap sees.

use std::{collections::BTreeMap, time::Instant};

use anyhow::{Context as _, Result, ensure};
use tests::netns::{Machine, until};

use super::lab::SOON;

/// The ports to look at.
pub(crate) struct Scan<'a> {
    pub(crate) tcp: &'a [u16],
    pub(crate) udp: &'a [u16],
}

/// Looks from a machine at an address, and makes sure that it sees these TCP and UDP ports open and
/// nothing at all of the others, not even that they are closed.
///
/// A packet lost on a busy machine may hide a port, so what is missing is looked for again; what
/// must not be seen must not be seen once.
pub(crate) fn sees(
    from: &Machine,
    target: &str,
    scan: &Scan<'_>,
    open: (&[u16], &[u16]),
) -> Result<()> {
    again_and_again(from, target, scan, |seen| {
        let surplus = seen
            .iter()
            .find(|(key, state)| !is_hidden(state) && !is_among(key, open));
        ensure!(surplus.is_none(), "{target} shows {surplus:?}");
        Ok(has_open(seen, open))
    })
}

/// The same where nothing is filtered: all other TCP ports are seen to be closed.
pub(crate) fn sees_all(
    from: &Machine,
    target: &str,
    scan: &Scan<'_>,
    open: (&[u16], &[u16]),
) -> Result<()> {
    again_and_again(from, target, scan, |seen| {
        let mut others = seen.iter().filter(|(key, _)| !is_among(key, open));
        // ICMP, by which a UDP port is known to be closed, the kernel rations.
        let are_closed =
            others.all(|((protocol, _), state)| protocol == "udp" || state == "closed");
        Ok(are_closed && has_open(seen, open))
    })
}

/// Looks at all TCP ports and at the thousand UDP ports that are most used, and makes sure that these
/// are open and nothing at all is seen of the others. 2000 to 4000 packets a second: nmap by itself
/// slows down ever more where nothing answers.
pub(crate) fn sees_of_everything(
    from: &Machine,
    target: &str,
    open: (&[u16], &[u16]),
) -> Result<()> {
    let family = family(target);
    for (ports, open) in [
        (
            "-sS -p 1-65535 --min-rate 2000 --max-rate 4000",
            (open.0, &[][..]),
        ),
        (
            "-sU --top-ports 1000 --min-rate 500 --max-rate 1000",
            (&[][..], open.1),
        ),
    ] {
        let mut seen = Seen::new();
        for _ in 0..TRIES {
            let report = from.run(&format!(
                "nmap {family} -n -Pn --disable-arp-ping --send-ip {ports} --max-retries 1 \
                 --max-rtt-timeout 300ms -oG - {target}"
            ))?;
            // Those of which there are most are told by their number, and may be all there are.
            seen = seen_in(&report).unwrap_or_default();
            let (_, many) = report.split_once("Ignored State: ").unwrap_or_default();
            let many = many.split_whitespace().next().unwrap_or_default();
            ensure!(is_hidden(many), "most ports are {many:?}: {report}");
            seen.retain(|_, state| !is_hidden(state));
            let surplus = seen.keys().find(|key| !is_among(key, open));
            ensure!(surplus.is_none(), "{target} shows {surplus:?}: {report}");
            if has_open(&seen, open) {
                break;
            }
        }
        ensure!(has_open(&seen, open), "{target} shows {seen:?} only");
    }
    Ok(())
}

/// Makes sure that an address answers pings.
pub(crate) fn answers_pings(from: &Machine, target: &str) -> Result<()> {
    let family = family(target);
    until(SOON, || {
        let report = from.run(&format!("nmap {family} -n -sn -PE --send-ip {target}"));
        report.is_ok_and(|report| report.contains("1 host up"))
    })
    .with_context(|| format!("{target} does not answer pings"))
}

type Seen = BTreeMap<(String, u16), String>;

/// Whether nmap has seen nothing there.
fn is_hidden(state: &str) -> bool {
    matches!(state, "filtered" | "open|filtered")
}

fn is_among((protocol, port): &(String, u16), (tcp, udp): (&[u16], &[u16])) -> bool {
    let ports = if protocol == "tcp" { tcp } else { udp };
    ports.contains(port)
}

fn has_open(seen: &Seen, open: (&[u16], &[u16])) -> bool {
    let found = seen
        .iter()
        .filter(|(key, state)| is_among(key, open) && *state == "open");
    found.count() == open.0.len() + open.1.len()
}

fn again_and_again(
    from: &Machine,
    target: &str,
    scan: &Scan<'_>,
    mut is_so: impl FnMut(&Seen) -> Result<bool>,
) -> Result<()> {
    let end = Instant::now() + SOON;
    loop {
        let seen = look(from, target, scan)?;
        if is_so(&seen).with_context(|| format!("{seen:?}"))? {
            return Ok(());
        }
        ensure!(Instant::now() < end, "{target} looks like {seen:?}");
    }
}

fn family(target: &str) -> &'static str {
    if target.contains(':') { "-6" } else { "-4" }
}

fn look(from: &Machine, target: &str, scan: &Scan<'_>) -> Result<Seen> {
    let list = |ports: &[u16]| {
        let ports: Vec<_> = ports.iter().map(u16::to_string).collect();
        ports.join(",")
    };
    let family = family(target);
    let report = from.run(&format!(
        "nmap {family} -n -Pn --disable-arp-ping --send-ip -sS -sU -p T:{},U:{} --max-retries 2 \
         --max-rtt-timeout 300ms -d -oG - {target}",
        list(scan.tcp),
        list(scan.udp)
    ))?;
    let seen = seen_in(&report)?;
    ensure!(
        seen.len() == scan.tcp.len() + scan.udp.len(),
        "nmap does not tell of each port: {report}"
    );
    Ok(seen)
}

/// What a report of nmap's tells of single ports.
fn seen_in(report: &str) -> Result<Seen> {
    let line = report.lines().find(|line| line.contains("\tPorts: "));
    let (_, ports) = line
        .and_then(|line| line.split_once("Ports: "))
        .with_context(|| format!("nmap says nothing of ports: {report}"))?;
    let ports = ports.split('\t').next().unwrap_or_default();
    let seen = ports
        .split(',')
        .filter_map(|port| {
            let mut fields = port.trim().split('/');
            let number = fields.next()?.parse().ok()?;
            let state = fields.next()?.to_owned();
            Some(((fields.next()?.to_owned(), number), state))
        })
        .collect();
    Ok(seen)
}

/// A packet lost on a busy machine may hide a port.
const TRIES: usize = 3;
