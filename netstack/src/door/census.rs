//! Who holds how many connections, and who may have another.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
};

use super::limits::{FEW, Limits, RESERVED};

/// Clients that count as one: an IPv4 address, or the IPv6 network that one household has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Group(IpAddr);

impl From<IpAddr> for Group {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            v4 @ IpAddr::V4(_) => v4,
            IpAddr::V6(v6) => {
                let [a, b, c, d, ..] = v6.segments();
                IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
        })
    }
}

/// The connections there are, counted.
#[derive(Debug, Default)]
pub(super) struct Census {
    total: usize,
    groups: HashMap<Group, usize>,
}

/// What becomes of a new connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It is welcome.
    Welcome,
    /// It is welcome if an idle one is given up for it.
    IfRoom,
    /// It has to go.
    Refused,
}

impl Census {
    /// Judges a new connection of `group`.
    pub(super) fn judge(&self, group: Group, limits: &Limits) -> Admission {
        let own = self.groups.get(&group).copied().unwrap_or(0);
        let reserved = RESERVED.min(limits.connections / 4);
        let open = if own < FEW {
            limits.connections
        } else {
            limits.connections - reserved
        };
        if own >= limits.per_address {
            Admission::Refused
        } else if self.total < open {
            Admission::Welcome
        } else {
            Admission::IfRoom
        }
    }

    /// One more for `group`.
    pub(super) fn enter(&mut self, group: Group) {
        self.total += 1;
        *self.groups.entry(group).or_default() += 1;
    }

    /// One less for `group`.
    pub(super) fn leave(&mut self, group: Group) {
        self.total = self.total.saturating_sub(1);
        if let Some(count) = self.groups.get_mut(&group) {
            *count -= 1;
            if *count == 0 {
                self.groups.remove(&group);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(last: u8) -> Group {
        IpAddr::from([192, 0, 2, last]).into()
    }

    #[test]
    fn one_address_can_not_take_the_last_places() {
        let limits = Limits {
            connections: 400,
            per_address: 1000,
            ..Limits::default()
        };
        let mut census = Census::default();
        while census.judge(group(1), &limits) == Admission::Welcome {
            census.enter(group(1));
        }
        assert_eq!(census.total, 400 - RESERVED);
        for _ in 0..FEW {
            assert_eq!(census.judge(group(2), &limits), Admission::Welcome);
            census.enter(group(2));
        }
        assert_eq!(census.judge(group(2), &limits), Admission::IfRoom);
    }

    #[test]
    fn an_address_has_its_own_limit_and_leaves_no_trace() {
        let limits = Limits {
            per_address: 3,
            ..Limits::default()
        };
        let mut census = Census::default();
        (0..3).for_each(|_| census.enter(group(1)));
        assert_eq!(census.judge(group(1), &limits), Admission::Refused);
        assert_eq!(census.judge(group(2), &limits), Admission::Welcome);
        (0..3).for_each(|_| census.leave(group(1)));
        assert!(census.groups.is_empty() && census.total == 0);
    }

    #[test]
    fn a_household_counts_as_one() {
        let of = |text: &str| Group::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(of("2001:db8:1:2::a"), of("2001:db8:1:2:ffff::b"));
        assert_ne!(of("2001:db8:1:2::a"), of("2001:db8:1:3::a"));
        assert_eq!(of("::ffff:192.0.2.1"), group(1));
    }
}
