//! Who may change something: whoever holds the setup code, which the box's own console shows.
//!
//! A wrong code costs its sender a place in a small window; with none left, not even the right one
//! is looked at, so that guessing learns nothing. A second window is shared by all senders, because
//! one attacker may have any number of addresses.

use std::{
    collections::{BTreeMap, VecDeque},
    net::IpAddr,
    time::{Duration, Instant},
};

use subtle::ConstantTimeEq as _;

/// Counts wrong tries; the clock is the caller's.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    by_sender: BTreeMap<Sender, VecDeque<Instant>>,
    all: VecDeque<Instant>,
}

/// Whom wrong tries are counted for: an IPv4 address, an IPv6 network of 64 bits, or nobody known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Sender(Option<IpAddr>);

/// Why a change was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Denied {
    #[error("This needs the setup code. The server's own console shows it: type setup-code there.")]
    Missing,
    #[error("The server has no setup code yet. Look at its console.")]
    NoCode,
    #[error("Too many wrong codes. Wait {} s and try again.", .0.as_secs() + 1)]
    Throttled(Duration),
    #[error("That is not the setup code. The server's own console shows it.")]
    Wrong,
}

impl Throttle {
    /// Compares `offered` with the box's `code`, unless `sender` has tried too often.
    pub(crate) fn check(
        &mut self,
        sender: Sender,
        offered: Option<&str>,
        code: Option<&str>,
        now: Instant,
    ) -> Result<(), Denied> {
        let offered = offered.ok_or(Denied::Missing)?;
        let code = code.filter(|code| !code.is_empty()).ok_or(Denied::NoCode)?;
        self.forget_old(now);
        if let Some(wait) = self.wait(sender, now) {
            return Err(Denied::Throttled(wait));
        }
        if normalised(offered)
            .as_bytes()
            .ct_eq(normalised(code).as_bytes())
            .into()
        {
            return Ok(());
        }
        if self.by_sender.len() < MAX_SENDERS || self.by_sender.contains_key(&sender) {
            self.by_sender.entry(sender).or_default().push_back(now);
        }
        self.all.push_back(now);
        Err(Denied::Wrong)
    }

    /// How long `sender` has to wait, if it has.
    fn wait(&self, sender: Sender, now: Instant) -> Option<Duration> {
        let own = self
            .by_sender
            .get(&sender)
            .filter(|tries| tries.len() >= TRIES_PER_SENDER);
        let all = Some(&self.all).filter(|tries| tries.len() >= TRIES_IN_ALL);
        let oldest = [own, all]
            .into_iter()
            .flatten()
            .filter_map(VecDeque::front)
            .max()?;
        Some(WINDOW.saturating_sub(now.duration_since(*oldest)))
    }

    fn forget_old(&mut self, now: Instant) {
        let forget = |tries: &mut VecDeque<Instant>| {
            while tries
                .front()
                .is_some_and(|at| now.duration_since(*at) >= WINDOW)
            {
                tries.pop_front();
            }
        };
        forget(&mut self.all);
        self.by_sender.values_mut().for_each(forget);
        self.by_sender.retain(|_, tries| !tries.is_empty());
    }
}

impl Sender {
    /// From `X-Forwarded-For`: the last address is the one that the door itself saw and added, those
    /// before it are the sender's own claim.
    pub(crate) fn from_forwarded(header: Option<&str>) -> Self {
        let last = header.and_then(|list| list.rsplit(',').next());
        Self(
            last.and_then(|address| address.trim().parse().ok())
                .map(network),
        )
    }
}

fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        v4 @ IpAddr::V4(_) => v4,
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & !u128::from(u64::MAX)).into()),
    }
}

/// As people type it: in either case, with or without the dashes and spaces it is shown with.
fn normalised(code: &str) -> String {
    let shown = code.chars().filter(|c| !c.is_whitespace() && *c != '-');
    shown.flat_map(char::to_lowercase).collect()
}

/// A person mistypes twice or three times; a machine that guesses would need thousands.
const TRIES_PER_SENDER: usize = 5;
/// All senders together: a house full of people, yet no guesser with a thousand addresses.
const TRIES_IN_ALL: usize = 60;
/// Over which tries are counted.
const WINDOW: Duration = Duration::from_secs(60);
/// Senders remembered; beyond them the shared window alone counts.
const MAX_SENDERS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: Option<&str> = Some("otter-lantern-42");

    fn sender(address: &str) -> Sender {
        Sender::from_forwarded(Some(address))
    }

    #[test]
    fn the_code_is_taken_as_people_type_it() {
        let mut throttle = Throttle::default();
        let now = Instant::now();
        for good in ["otter-lantern-42", " Otter Lantern 42", "OTTERLANTERN42"] {
            assert_eq!(
                throttle.check(sender("10.0.0.1"), Some(good), CODE, now),
                Ok(())
            );
        }
        for (offered, code, denied) in [
            (None, CODE, Denied::Missing),
            (Some("x"), None, Denied::NoCode),
            (Some(""), Some(""), Denied::NoCode),
            (Some("otter-lantern-43"), CODE, Denied::Wrong),
            (Some(""), CODE, Denied::Wrong),
        ] {
            assert_eq!(
                throttle.check(sender("10.0.0.1"), offered, code, now),
                Err(denied)
            );
        }
    }

    #[test]
    fn five_wrong_codes_a_minute_and_then_not_even_the_right_one() {
        let mut throttle = Throttle::default();
        let start = Instant::now();
        for i in 0..5 {
            let now = start + Duration::from_secs(i);
            assert_eq!(
                throttle.check(sender("10.0.0.1"), Some("x"), CODE, now),
                Err(Denied::Wrong)
            );
        }
        let now = start + Duration::from_secs(10);
        let right = throttle.check(sender("10.0.0.1"), CODE, CODE, now);
        assert_eq!(right, Err(Denied::Throttled(Duration::from_secs(50))));
        assert_eq!(throttle.check(sender("10.0.0.2"), CODE, CODE, now), Ok(()));
        let now = start + Duration::from_secs(60);
        assert_eq!(throttle.check(sender("10.0.0.1"), CODE, CODE, now), Ok(()));
    }

    #[test]
    fn many_addresses_do_not_help_a_guesser() {
        let mut throttle = Throttle::default();
        let now = Instant::now();
        let wrong = (0..2000u32).filter(|i| {
            let from = Sender(Some(IpAddr::V4((0x0a00_0000 + i).into())));
            throttle.check(from, Some("x"), CODE, now) == Err(Denied::Wrong)
        });
        assert_eq!(wrong.count(), TRIES_IN_ALL);
    }

    #[test]
    fn the_sender_is_whom_the_door_saw() {
        assert_eq!(sender("1.1.1.1, 10.0.0.9"), sender("10.0.0.9"));
        assert_eq!(sender("::ffff:10.0.0.9"), sender("10.0.0.9"));
        assert_eq!(sender("2001:db8::1"), sender("2001:db8::2"));
        assert_ne!(sender("2001:db8:0:1::1"), sender("2001:db8::1"));
        assert_eq!(Sender::from_forwarded(None), sender("no address"));
    }
}
