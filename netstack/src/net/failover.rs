//! Which uplink carries what goes out, where there are several. Pure.
//!
//! An uplink that fails (no cable, no address, a gateway that does not answer) is left at once. One
//! that is well again is trusted only after a while, longer each time it failed, so that a link
//! that flaps moves nobody's connections again and again. Until then it comes behind those that are
//! trusted, but before those that have failed: whatever there is, is used.

use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

use super::{clock::Now, status::UplinkStatus};

/// What is seen of one uplink now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sight {
    /// The owner's number or that of its kind: the lowest is preferred.
    pub(crate) metric: u32,
    pub(crate) gateway: Option<Ipv4Addr>,
    pub(crate) fault: Option<Fault>,
}

/// What is wrong with an uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    NoAddress,
    NoCarrier,
    NoGateway,
    /// The gateway does not answer.
    Silent,
}

/// The uplinks that there are, and what has become of them.
#[derive(Debug, Default)]
pub(crate) struct Failover {
    standings: BTreeMap<u32, Standing>,
    /// Those with a gateway, the one that carries the default first.
    order: Vec<Place>,
}

#[derive(Clone, Copy, Debug)]
struct Standing {
    state: State,
    /// How often it failed after it had been trusted, of late.
    failures: u32,
    /// As last seen.
    sight: Sight,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Trusted { since: Now },
    Recovering { trusted_at: Now },
    Failed,
}

/// An uplink's place among the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) link: u32,
    pub(crate) gateway: Ipv4Addr,
    /// Of its default route; no other of ours has the same.
    pub(crate) metric: u32,
    /// Whether it has not failed of late.
    pub(crate) trusted: bool,
}

impl Failover {
    /// A predecessor of this process found that an uplink had failed.
    pub(crate) fn adopt_failed(&mut self, link: u32) {
        self.standings.entry(link).or_insert(Standing {
            state: State::Failed,
            failures: 1,
            sight: Sight {
                metric: 0,
                gateway: None,
                fault: None,
            },
        });
    }

    /// Takes in what is seen of every uplink.
    pub(crate) fn judge(&mut self, now: Now, seen: &BTreeMap<u32, Sight>) {
        self.standings.retain(|link, _| seen.contains_key(link));
        for (link, sight) in seen {
            let standing = self.standings.entry(*link).or_insert(Standing {
                state: State::Trusted { since: now },
                failures: 0,
                sight: *sight,
            });
            standing.see(now, *sight);
        }
        self.order = self.ordered();
    }

    /// When [`judge`](Self::judge) is next needed though nothing has changed.
    pub(crate) fn deadline(&self) -> Option<Now> {
        let states = self.standings.values().map(|standing| standing.state);
        let recovering = states.filter_map(|state| match state {
            State::Recovering { trusted_at } => Some(trusted_at),
            State::Failed | State::Trusted { .. } => None,
        });
        recovering.min()
    }

    /// The uplinks with a gateway, the one that carries the default first.
    pub(crate) fn order(&self) -> &[Place] {
        &self.order
    }

    /// An uplink's place, if it has a gateway.
    pub(crate) fn place(&self, link: u32) -> Option<&Place> {
        self.order.iter().find(|place| place.link == link)
    }

    /// All uplinks for whoever looks, the one that is used first.
    pub(crate) fn statuses(&self, name: impl Fn(u32) -> String) -> Vec<UplinkStatus> {
        let first = self.order.first();
        let used = self.order.iter().enumerate().map(|(at, place)| {
            let use_ = match at {
                0 => self.reason(place, &name),
                _ => "It stands by.".to_owned(),
            };
            UplinkStatus {
                link: name(place.link),
                gateway: Some(place.gateway),
                metric: place.metric,
                is_default: Some(place) == first,
                trusted: place.trusted,
                why: format!("{} {use_}", self.standing(place.link)),
            }
        });
        let without = self
            .standings
            .iter()
            .filter(|(link, _)| self.place(**link).is_none());
        let without = without.map(|(link, standing)| UplinkStatus {
            link: name(*link),
            gateway: None,
            metric: standing.sight.metric,
            is_default: false,
            trusted: false,
            why: self.standing(*link),
        });
        used.chain(without).collect()
    }

    /// Why the one that is used is.
    fn reason(&self, used: &Place, name: impl Fn(u32) -> String) -> String {
        let preference = |link: u32| Some((self.standings.get(&link)?.sight.metric, link));
        let own = preference(used.link);
        let before = self
            .standings
            .keys()
            .filter(|link| preference(**link) < own);
        let mut failed: Vec<_> = before.collect();
        failed.sort_by_key(|link| preference(**link));
        match failed.as_slice() {
            [] if self.order.len() < 2 => "It is the only way out.".to_owned(),
            [] => "It is used, as it comes first.".to_owned(),
            [failed, ..] => {
                let (failed, how) = (name(**failed), self.standing(**failed));
                format!("It is used in place of {failed}: {how}")
            }
        }
    }

    /// How an uplink is, as a sentence.
    fn standing(&self, link: u32) -> String {
        let Some(standing) = self.standings.get(&link) else {
            return "It is no uplink.".to_owned();
        };
        let sight = standing.sight;
        let gateway = sight.gateway.map_or_else(String::new, |ip| ip.to_string());
        match (sight.fault, standing.state) {
            (Some(Fault::NoCarrier), _) => "It has no cable.".to_owned(),
            (Some(Fault::NoAddress), _) => "It has no address.".to_owned(),
            (Some(Fault::NoGateway), _) => "Its network has no gateway.".to_owned(),
            (Some(Fault::Silent), _) => format!("Its gateway {gateway} does not answer."),
            (None, State::Recovering { .. }) => format!(
                "It is well again, and trusted once it has been so for {} s.",
                hold(standing.failures).as_secs()
            ),
            (None, State::Trusted { .. } | State::Failed) => {
                format!("It leads to the gateway {gateway}.")
            }
        }
    }

    fn ordered(&self) -> Vec<Place> {
        let with_gateway = self
            .standings
            .iter()
            .filter_map(|(link, standing)| Some((*link, *standing, standing.sight.gateway?)));
        let mut uplinks: Vec<_> = with_gateway.collect();
        uplinks.sort_by_key(|(link, standing, _)| {
            (standing.state.rank(), standing.sight.metric, *link)
        });
        let alone = uplinks.len() < 2;
        let mut last = None;
        let placed = uplinks.into_iter().map(|(link, standing, gateway)| {
            let behind = if alone { 0 } else { standing.state.rank() };
            let metric = standing.sight.metric.saturating_add(behind * FAILED_BY);
            let metric = last.map_or(metric, |last: u32| metric.max(last.saturating_add(1)));
            last = Some(metric);
            Place {
                link,
                gateway,
                metric,
                trusted: matches!(standing.state, State::Trusted { .. }),
            }
        });
        placed.collect()
    }
}

impl Standing {
    fn see(&mut self, now: Now, sight: Sight) {
        self.sight = sight;
        self.state = match (self.state, sight.fault) {
            (State::Trusted { since }, Some(_)) => {
                // One that never was well since it came has not failed: it begins.
                if now > since {
                    let forgiven = now.saturating_sub(since) >= FORGIVEN_AFTER;
                    self.failures = if forgiven { 0 } else { self.failures };
                    self.failures = self.failures.saturating_add(1);
                }
                State::Failed
            }
            (State::Recovering { .. } | State::Failed, Some(_)) => State::Failed,
            (State::Failed, None) => State::Recovering {
                trusted_at: now + hold(self.failures),
            },
            (state, None) => state,
        };
        if let State::Recovering { trusted_at } = self.state
            && trusted_at <= now
        {
            self.state = State::Trusted { since: now };
        }
    }
}

impl State {
    fn rank(self) -> u32 {
        match self {
            Self::Trusted { .. } => 0,
            Self::Recovering { .. } => 1,
            Self::Failed => 2,
        }
    }
}

/// Whether a default route with that metric was one of an uplink that had failed.
pub(crate) fn is_of_failed(metric: u32) -> bool {
    metric >= FAILED_BY
}

/// How long an uplink must be well before it is trusted again.
fn hold(failures: u32) -> Duration {
    match failures {
        0 => Duration::ZERO,
        failures => (HOLD_FIRST * (1 << (failures - 1).min(HOLD_DOUBLINGS_MAX))).min(HOLD_MAX),
    }
}

/// What the default route's metric gets on top, once for an uplink that is well again, twice for
/// one that has failed: more than any metric that an owner can set.
const FAILED_BY: u32 = 10_000;

/// Longer than it takes to find that a gateway is silent.
const HOLD_FIRST: Duration = Duration::from_secs(20);
const HOLD_DOUBLINGS_MAX: u32 = 5;
const HOLD_MAX: Duration = Duration::from_secs(600);

/// What was trusted for so long has no failures behind it.
const FORGIVEN_AFTER: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    fn well(metric: u32) -> Sight {
        Sight {
            metric,
            gateway: Some(Ipv4Addr::new(10, 0, 0, 1)),
            fault: None,
        }
    }

    fn ill(metric: u32, fault: Fault) -> Sight {
        Sight {
            fault: Some(fault),
            ..well(metric)
        }
    }

    fn at(seconds: u64) -> Now {
        Duration::from_secs(seconds)
    }

    /// The links in their order with their metrics.
    fn order(failover: &Failover) -> Vec<(u32, u32)> {
        let places = failover.order().iter();
        places.map(|place| (place.link, place.metric)).collect()
    }

    fn seen<const N: usize>(sights: [(u32, Sight); N]) -> BTreeMap<u32, Sight> {
        BTreeMap::from(sights)
    }

    #[test]
    fn the_lowest_metric_is_preferred_and_no_two_are_the_same() {
        let mut failover = Failover::default();
        let sights = seen([
            (2, well(600)),
            (3, well(100)),
            (5, well(100)),
            (7, well(50)),
        ]);
        failover.judge(at(0), &sights);
        assert_eq!(order(&failover), [(7, 50), (3, 100), (5, 101), (2, 600)]);
        assert_eq!(failover.deadline(), None);
    }

    #[test]
    fn an_uplink_that_fails_is_left_at_once_and_trusted_again_after_a_while() {
        let mut failover = Failover::default();
        let all_well = seen([(2, well(100)), (3, well(100))]);
        failover.judge(at(0), &all_well);
        for fault in [Fault::Silent, Fault::NoCarrier, Fault::NoAddress] {
            let mut failover = Failover::default();
            failover.judge(at(0), &all_well);
            failover.judge(at(9), &seen([(2, ill(100, fault)), (3, well(100))]));
            assert_eq!(order(&failover), [(3, 100), (2, 20_100)]);
            failover.judge(at(10), &all_well);
            assert_eq!(order(&failover), [(3, 100), (2, 10_100)], "not yet");
            assert_eq!(failover.deadline(), Some(at(30)));
            failover.judge(at(29), &all_well);
            assert_eq!(failover.order()[0].link, 3);
            failover.judge(at(30), &all_well);
            assert_eq!(order(&failover), [(2, 100), (3, 101)]);
        }
    }

    #[test]
    fn an_uplink_that_flaps_is_trusted_ever_later() {
        let mut failover = Failover::default();
        let all_well = seen([(2, well(100)), (3, well(100))]);
        failover.judge(at(0), &all_well);
        let (mut now, mut held, mut moves, mut first) = (at(1), Vec::new(), 0, 2);
        for _ in 0..9 {
            failover.judge(
                now,
                &seen([(2, ill(100, Fault::NoCarrier)), (3, well(100))]),
            );
            moves += u32::from(failover.order()[0].link != first);
            failover.judge(now + at(1), &all_well);
            let trusted_at = failover.deadline().expect("it is held back");
            held.push((trusted_at - now - at(1)).as_secs());
            // It fails again before it is trusted: that is no new failure.
            failover.judge(
                now + at(2),
                &seen([(2, ill(100, Fault::Silent)), (3, well(100))]),
            );
            failover.judge(now + at(3), &all_well);
            assert_eq!(failover.order()[0].link, 3);
            now = failover.deadline().expect("it is held back");
            failover.judge(now, &all_well);
            first = failover.order()[0].link;
            assert_eq!(first, 2);
            now += at(1);
        }
        assert_eq!(held, [20, 40, 80, 160, 320, 600, 600, 600, 600]);
        assert_eq!(moves, 9);

        // An hour of peace, and what was is forgotten.
        now += FORGIVEN_AFTER;
        failover.judge(
            now,
            &seen([(2, ill(100, Fault::NoCarrier)), (3, well(100))]),
        );
        failover.judge(now, &all_well);
        assert_eq!(failover.deadline(), Some(now + at(20)));
    }

    #[test]
    fn whatever_there_is_is_used() {
        let mut failover = Failover::default();
        let both = |first, second| seen([(2, first), (3, second)]);
        failover.judge(at(0), &both(well(100), well(100)));
        let silent = ill(100, Fault::Silent);
        failover.judge(at(5), &both(silent, silent));
        assert_eq!(order(&failover), [(2, 20_100), (3, 20_101)]);
        failover.judge(at(6), &both(silent, well(100)));
        assert_eq!(order(&failover), [(3, 10_100), (2, 20_100)]);
        let gone = Sight {
            gateway: None,
            ..ill(100, Fault::NoAddress)
        };
        failover.judge(at(7), &both(silent, gone));
        assert_eq!(order(&failover), [(2, 100)], "alone, it is not put behind");
    }

    #[test]
    fn one_that_comes_up_for_the_first_time_is_trusted_at_once() {
        let mut failover = Failover::default();
        let unplugged = Sight {
            gateway: None,
            ..ill(100, Fault::NoCarrier)
        };
        failover.judge(at(0), &seen([(2, unplugged), (3, unplugged)]));
        assert!(failover.order().is_empty());
        failover.judge(at(5), &seen([(2, unplugged), (3, well(100))]));
        failover.judge(at(6), &seen([(2, well(100)), (3, well(100))]));
        assert_eq!(order(&failover), [(2, 100), (3, 101)]);
    }

    #[test]
    fn what_a_predecessor_found_silent_is_not_trusted_before_it_answers() {
        let mut failover = Failover::default();
        assert!(is_of_failed(20_102) && !is_of_failed(102));
        failover.adopt_failed(2);
        failover.judge(at(1), &seen([(2, well(100)), (3, well(100))]));
        assert_eq!(failover.order()[0].link, 3);
        failover.judge(at(21), &seen([(2, well(100)), (3, well(100))]));
        assert_eq!(failover.order()[0].link, 2);
    }

    #[test]
    fn each_says_how_it_is() {
        let mut failover = Failover::default();
        let with = |fault| seen([(2, ill(100, fault)), (3, well(100))]);
        for (fault, said) in [
            (Fault::NoAddress, "no address"),
            (Fault::NoCarrier, "no cable"),
            (Fault::NoGateway, "no gateway"),
            (Fault::Silent, "10.0.0.1 does not answer"),
        ] {
            failover.judge(at(1), &with(fault));
            assert!(failover.standing(2).contains(said));
            let told = failover.statuses(|link| format!("eth{link}"));
            assert!(told[0].is_default && told[0].link == "eth3");
            assert!(told[0].why.contains("in place of eth2"), "{}", told[0].why);
        }
        failover.judge(at(2), &seen([(2, well(100)), (3, well(100))]));
        assert!(
            failover
                .standing(3)
                .contains("leads to the gateway 10.0.0.1")
        );
        let told = failover.statuses(|link| format!("eth{link}"));
        assert!(told[0].why.ends_with("It is used, as it comes first."));
        assert!(told[1].why.ends_with("It stands by."));
        failover.judge(at(3), &seen([(3, well(100))]));
        let told = failover.statuses(|link| format!("eth{link}"));
        assert!(told[0].why.ends_with("It is the only way out."));
    }
}
