//! Policy routing: answers leave by the uplink that the question came in on, and a service sends by
//! the one that its owner bound it to. From what should be and what is, the changes. Pure.
//!
//! Each uplink has a table of its own with its subnets and its default. The rules, in this order:
//! what is of an uplink's own address goes to that uplink's subnets directly; whatever else the main
//! table knows better than by a default goes there; then come the tables by source address, by the
//! mark of what came in by an uplink, and by service. A box with one uplink and no bound service has
//! none of them.

use std::net::Ipv4Addr;

use super::{change::Change, config::Otherwise, kernel::Kernel};

/// An uplink that leads out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    pub(crate) link: u32,
    pub(crate) gateway: Ipv4Addr,
    pub(crate) addresses: Vec<(Ipv4Addr, u8)>,
    /// Whether it has not failed of late.
    pub(crate) trusted: bool,
}

/// A service's address, and the uplink it is bound to; none while there is no such link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tie {
    pub(crate) address: Ipv4Addr,
    pub(crate) link: Option<u32>,
    pub(crate) otherwise: Otherwise,
}

/// A route in one of the uplinks' tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TableRoute {
    pub(crate) table: u32,
    pub(crate) link: u32,
    pub(crate) to: (Ipv4Addr, u8),
    pub(crate) gateway: Option<Ipv4Addr>,
}

/// A rule of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rule {
    pub(crate) priority: u32,
    pub(crate) from: Option<Ipv4Addr>,
    pub(crate) mark: Option<u32>,
    pub(crate) then: Then,
}

/// What a rule does with what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Then {
    /// It goes by that table, but not by a default.
    Specific(u32),
    Table(u32),
    /// Its sender is told that there is no way.
    Unreachable,
}

/// What the kernel should have of tables and rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Routing {
    routes: Vec<TableRoute>,
    rules: Vec<Rule>,
}

impl Routing {
    /// That of these uplinks and bound services.
    pub(crate) fn of(ways: &[Way], ties: &[Tie]) -> Self {
        let mut routing = Self::default();
        if ways.len() < 2 && ties.is_empty() {
            return routing;
        }
        routing.rules.push(Rule {
            then: Then::Specific(MAIN),
            ..Rule::at(SPECIFIC)
        });
        for way in ways {
            routing.add_way(way);
        }
        for tie in ties {
            routing.add_tie(ways, tie);
        }
        routing.rules.sort_unstable();
        routing.rules.dedup();
        routing
    }

    /// The changes that lead there. What is new comes before what is old goes.
    pub(crate) fn changes(&self, kernel: &Kernel, changes: &mut Vec<Change>) {
        let there = &kernel.tables;
        let new = self.routes.iter().filter(|route| !there.contains(route));
        changes.extend(new.map(|route| Change::AddTableRoute(*route)));
        let rules = &kernel.rules;
        let new = self.rules.iter().filter(|rule| !rules.contains(rule));
        changes.extend(new.map(|rule| Change::AddRule(*rule)));
        let old = rules.iter().filter(|rule| !self.rules.contains(rule));
        changes.extend(old.map(|rule| Change::RemoveRule(*rule)));
        // One of the same table and target is replaced by the new one.
        let replaced = |old: &TableRoute| {
            let mut routes = self.routes.iter();
            routes.any(|new| (new.table, new.to) == (old.table, old.to))
        };
        let old = there.iter().filter(|old| !replaced(old));
        changes.extend(old.map(|route| Change::RemoveTableRoute(*route)));
    }

    fn add_way(&mut self, way: &Way) {
        let table = table_of(way.link);
        let route = TableRoute {
            table,
            link: way.link,
            to: (Ipv4Addr::UNSPECIFIED, 0),
            gateway: Some(way.gateway),
        };
        self.routes.push(route);
        self.rules.push(Rule {
            mark: Some(table),
            then: Then::Table(table),
            ..Rule::at(SOURCE)
        });
        for (address, prefix) in &way.addresses {
            let mask = u32::MAX
                .checked_shl(32 - u32::from((*prefix).min(32)))
                .unwrap_or_default();
            let subnet = TableRoute {
                to: (Ipv4Addr::from(u32::from(*address) & mask), *prefix),
                gateway: None,
                ..route
            };
            if !self.routes.contains(&subnet) {
                self.routes.push(subnet);
            }
            let from = Some(*address);
            let own = |priority, then| Rule {
                from,
                then,
                ..Rule::at(priority)
            };
            self.rules.push(own(SUBNET, Then::Specific(table)));
            self.rules.push(own(SOURCE, Then::Table(table)));
        }
    }

    fn add_tie(&mut self, ways: &[Way], tie: &Tie) {
        let from = Some(tie.address);
        let way = ways.iter().find(|way| Some(way.link) == tie.link);
        let used = way.filter(|way| way.trusted || tie.otherwise == Otherwise::Stop);
        self.rules.extend(used.map(|way| Rule {
            from,
            then: Then::Table(table_of(way.link)),
            ..Rule::at(BOUND)
        }));
        if tie.otherwise == Otherwise::Stop {
            self.rules.push(Rule {
                from,
                ..Rule::at(STOP)
            });
        }
    }
}

impl Rule {
    fn at(priority: u32) -> Self {
        Self {
            priority,
            from: None,
            mark: None,
            then: Then::Unreachable,
        }
    }
}

/// The table of an uplink, which is also the mark of what came in by it.
pub(crate) fn table_of(link: u32) -> u32 {
    TABLES.saturating_add(link)
}

/// Above what people and their tools number by hand.
pub(crate) const TABLES: u32 = 10_000;
const MAIN: u32 = 254;

/// The rules' priorities.
const SUBNET: u32 = 1000;
const SPECIFIC: u32 = 1001;
const SOURCE: u32 = 1002;
const BOUND: u32 = 1003;
const STOP: u32 = 1004;

/// Those that rules of ours have.
pub(crate) const PRIORITIES: std::ops::RangeInclusive<u32> = SUBNET..=STOP;

#[cfg(test)]
mod tests {
    use super::*;

    fn way(link: u32, trusted: bool) -> Way {
        let net = link as u8;
        Way {
            link,
            gateway: Ipv4Addr::new(192, 168, net, 1),
            addresses: vec![(Ipv4Addr::new(192, 168, net, 7), 24)],
            trusted,
        }
    }

    const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 5);

    fn tied(otherwise: Otherwise) -> [Tie; 1] {
        [Tie {
            address: SERVICE,
            link: Some(3),
            otherwise,
        }]
    }

    /// The rules as `ip rule` writes them, more or less.
    fn written(routing: &Routing) -> Vec<String> {
        let rules = routing.rules.iter().map(|rule| {
            let from = rule.from.map_or("all".to_owned(), |ip| ip.to_string());
            let mark = rule
                .mark
                .map_or(String::new(), |mark| format!(" mark {mark}"));
            format!("{}: {from}{mark} {:?}", rule.priority, rule.then)
        });
        rules.collect()
    }

    #[test]
    fn one_uplink_needs_no_rule_and_two_have_a_table_each() {
        assert_eq!(Routing::of(&[way(2, true)], &[]), Routing::default());
        let two = Routing::of(&[way(2, true), way(3, false)], &[]);
        assert_eq!(
            written(&two),
            [
                "1000: 192.168.2.7 Specific(10002)",
                "1000: 192.168.3.7 Specific(10003)",
                "1001: all Specific(254)",
                "1002: all mark 10002 Table(10002)",
                "1002: all mark 10003 Table(10003)",
                "1002: 192.168.2.7 Table(10002)",
                "1002: 192.168.3.7 Table(10003)",
            ]
        );
        assert_eq!(two.routes.len(), 4);
        assert_eq!(two.routes[1].to, (Ipv4Addr::new(192, 168, 2, 0), 24));
    }

    #[test]
    fn a_bound_service_follows_its_uplink_and_then_its_owner_s_word() {
        let has = |ways: &[Way], otherwise, rule: &str| {
            let routing = Routing::of(ways, &tied(otherwise));
            written(&routing).iter().any(|there| there == rule)
        };
        let (bound, stop) = (
            "1003: 10.77.0.5 Table(10003)",
            "1004: 10.77.0.5 Unreachable",
        );
        let well = [way(2, true), way(3, true)];
        let ill = [way(2, true), way(3, false)];
        let gone = [way(2, true)];
        for (ways, by_it) in [(&well[..], true), (&ill, false), (&gone, false)] {
            assert_eq!(has(ways, Otherwise::FailOver, bound), by_it);
            assert!(!has(ways, Otherwise::FailOver, stop));
        }
        for (ways, by_it) in [(&well[..], true), (&ill, true), (&gone, false)] {
            assert_eq!(has(ways, Otherwise::Stop, bound), by_it);
            assert!(has(ways, Otherwise::Stop, stop));
        }
    }

    #[test]
    fn what_is_there_is_left_and_what_is_not_wanted_goes() {
        let two = Routing::of(&[way(2, true), way(3, true)], &tied(Otherwise::Stop));
        let mut kernel = Kernel::default();
        let mut made = Vec::new();
        two.changes(&kernel, &mut made);
        assert_eq!(made.len(), two.routes.len() + two.rules.len());
        (kernel.tables, kernel.rules) = (two.routes.clone(), two.rules.clone());
        made.clear();
        two.changes(&kernel, &mut made);
        assert_eq!(made, []);

        // Another gateway replaces the one before.
        let other = Way {
            gateway: Ipv4Addr::new(192, 168, 3, 254),
            ..way(3, true)
        };
        let moved = Routing::of(&[way(2, true), other], &tied(Otherwise::Stop));
        moved.changes(&kernel, &mut made);
        assert!(matches!(made[..], [Change::AddTableRoute(_)]), "{made:?}");
        made.clear();
        Routing::default().changes(&kernel, &mut made);
        assert_eq!(made.len(), kernel.tables.len() + kernel.rules.len());
    }
}
