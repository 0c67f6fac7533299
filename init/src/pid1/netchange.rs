//! The owner's settings of the network, and the change of them that waits to be confirmed.
//!
//! It is here and not in the thread `net`, since here is what it needs: the clock that rolls it back
//! whoever else is dead, the hand-over that carries it over a re-execution, and `keep`, where what is
//! settled, and that alone, waits for the next boot.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use netstack::net::{
    Addressing, Bridge, General, Made, TimeServer,
    settings::{Settings, Surroundings},
    transaction::{self, End, Token, Transaction, Turn, Unconfirmed},
};
use rustix::rand::{GetRandomFlags, getrandom};
use serde::{Deserialize, Serialize};
use supervise::{
    control::{Event, Secret},
    network::{Change, ChangeTaken, GeneralSetting, NetworkStatus, NotConfirmed, Wish},
};

use super::{
    Pid1,
    netwish::{addresses_of, binding, changed, made_link, setting, wish_of},
    publish,
    roles::Role,
    tries::WrongTries,
};
use crate::{
    console::NetOrder,
    handover::records::{self, Tag},
    keep::KeptNetwork,
};

/// What is settled and what waits.
#[derive(Debug, Default)]
pub(super) struct NetChanges {
    transaction: Transaction,
    /// Who is answered once `keep` has what was confirmed.
    unanswered: Vec<(Role, u64)>,
    wrong: WrongTries,
    /// What needs no confirmation.
    pub(super) general: General,
    /// Whether `net` has not taken what it was last told.
    pub(super) untold: bool,
}

/// The same, handed over.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ChangesRecord<'a> {
    transaction: Cow<'a, Transaction>,
    unanswered: Cow<'a, [(Role, u64)]>,
    general: Cow<'a, General>,
}

/// The same for and of versions that know of links' addresses alone.
#[derive(Debug, Serialize, Deserialize)]
struct FormerRecord {
    transaction: Transaction<BTreeMap<String, Addressing>>,
    unanswered: Vec<(Role, u64)>,
}

impl NetChanges {
    /// What is set now.
    pub(super) fn in_force(&self) -> &Settings {
        self.transaction.in_force()
    }

    /// What the next boot begins with.
    pub(super) fn kept(&self) -> KeptNetwork {
        KeptNetwork {
            settings: self.transaction.settled().clone(),
            unconfirmed: self.transaction.deadline().is_some(),
        }
    }

    /// When it has to be looked at.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.transaction.deadline()
    }

    /// Lets time pass.
    pub(super) fn tick(&mut self, now: Duration) -> Option<Turn> {
        self.transaction.tick(now)
    }

    /// For a successor.
    pub(super) fn record(&self) -> ChangesRecord<'_> {
        ChangesRecord {
            transaction: Cow::Borrowed(&self.transaction),
            unanswered: Cow::Borrowed(&self.unanswered),
            general: Cow::Borrowed(&self.general),
        }
    }

    /// Writes it for a successor of whichever version.
    pub(super) fn push(&self, state: &mut Vec<u8>) -> Result<(), postcard::Error> {
        let transaction = self.transaction.clone();
        let former = FormerRecord {
            transaction: transaction.with(|settings| settings.links),
            unanswered: self.unanswered.clone(),
        };
        records::push(state, Tag::Network, 1, &former)?;
        records::push(state, Tag::Network, 2, &self.record())
    }

    /// What a predecessor, of whichever version, left in its state.
    pub(super) fn read(state: &[u8], now: Duration) -> Option<Self> {
        if let Some(record) = records::read(state, Tag::Network, 2) {
            return Some(Self::of(record, now));
        }
        let former: FormerRecord = records::read(state, Tag::Network, 1)?;
        let transaction = former.transaction.with(|links| Settings {
            links,
            ..Settings::default()
        });
        Some(Self {
            transaction: transaction.resumed(now),
            unanswered: former.unanswered,
            ..Self::default()
        })
    }

    /// Of a predecessor.
    fn of(record: ChangesRecord<'_>, now: Duration) -> Self {
        Self {
            transaction: record.transaction.into_owned().resumed(now),
            unanswered: record.unanswered.into_owned(),
            general: record.general.into_owned(),
            ..Self::default()
        }
    }

    /// What is shown of it.
    pub(super) fn status(&self, now: Duration) -> NetworkStatus {
        let settled = self.transaction.settled();
        let waiting = self.transaction.waiting(now);
        let links = settled.links.iter();
        let made = settled.made.iter();
        let bound = settled.services.iter();
        NetworkStatus {
            settings: links
                .map(|(link, addressing)| (link.clone(), setting(addressing)))
                .collect(),
            made: made
                .map(|(link, made)| (link.clone(), made_link(made)))
                .collect(),
            metrics: settled.metrics.clone(),
            bound: bound
                .map(|(id, bound)| (id.clone(), binding(bound)))
                .collect(),
            change: waiting.map(|waiting| Change {
                link: waiting.link.to_owned(),
                wish: wish_of(waiting.link, settled, waiting.settings),
                applied: waiting.applied,
                until: now + waiting.left,
            }),
            last: self.transaction.last().map(ended),
            lan: self.general.lan,
            time: self.general.time.as_ref().map(|servers| spelt(servers)),
            ..NetworkStatus::default()
        }
    }
}

#[cfg(test)]
impl NetChanges {
    /// With a change that waits, always the same.
    pub(super) fn sample() -> Self {
        let mut changes = Self::default();
        let settings = Settings {
            links: [("eth0".to_owned(), Addressing::Unmanaged)].into(),
            ..Settings::default()
        };
        let (link, token) = ("eth0".to_owned(), Token::new([7; 16]));
        let (now, wait) = (Duration::from_secs(9), transaction::USUAL_WAIT);
        let taken = changes
            .transaction
            .propose(now, link, settings, token, wait);
        taken.expect("nothing waits");
        changes.unanswered.push((Role::Front, 3));
        changes.general.lan = true;
        changes.general.time = Some(TimeServer::usual());
        changes
    }
}

impl Pid1 {
    /// What `keep` holds of the network is what is settled; whatever waited is forgotten.
    pub(super) fn begin_network_settings(&mut self) {
        let kept = self.keep.network.clone();
        self.changes.transaction = Transaction::new(kept.settings);
        self.changes.general = self.keep.general.clone();
        if kept.unconfirmed {
            self.trouble.push(publish::care(UNCONFIRMED.to_owned()));
            self.write_keep();
        }
    }

    /// Takes a change that the manager asks for.
    pub(super) fn set_network(
        &mut self,
        id: u64,
        link: String,
        wish: Wish,
        seconds: u64,
        now: Duration,
    ) {
        let wait = Duration::from_secs(seconds);
        let result = self.propose_network(link, wish, wait, now);
        self.tell(Role::Manager, Event::NetworkSet { id, result }, vec![]);
    }

    /// Takes a confirmation.
    pub(super) fn confirm_network(
        &mut self,
        role: Role,
        id: u64,
        from: Option<IpAddr>,
        token: &Secret,
        now: Duration,
    ) {
        match self.try_confirm(from, token, now) {
            Ok(()) => {
                self.changes.unanswered.push((role, id));
                self.network_settled();
            }
            Err(not) => {
                let result = Err(not);
                self.tell(role, Event::NetworkConfirmed { id, result }, vec![]);
            }
        }
    }

    /// Sets something of the time or of names.
    pub(super) fn set_general(&mut self, id: u64, setting: GeneralSetting) {
        let result = self.take_general(setting);
        self.tell(Role::Manager, Event::Acted { id, result }, vec![]);
    }

    /// Undoes the change that waits.
    pub(super) fn undo_network(&mut self, id: u64) {
        let result = self.undo();
        self.tell(Role::Manager, Event::Acted { id, result }, vec![]);
    }

    /// Does what the holder of the console wants.
    pub(super) fn obey_network(
        &mut self,
        order: NetOrder,
        now: Duration,
    ) -> Result<String, String> {
        match order {
            NetOrder::Set { link, wish } => {
                let wait = transaction::USUAL_WAIT;
                self.propose_network(link, wish, wait, now)?;
                Ok(format!(
                    "It is in force in a moment, and undone in {} s unless you say `net confirm`.",
                    wait.as_secs()
                ))
            }
            NetOrder::General(setting) => {
                let said = setting.to_string();
                self.take_general(setting)?;
                Ok(format!("It holds from now on: {said}."))
            }
            NetOrder::Confirm if self.changes.transaction.confirm_here() => {
                self.network_settled();
                Ok("It holds from now on.".to_owned())
            }
            NetOrder::Confirm => Err(NOTHING_WAITS.to_owned()),
            NetOrder::Rollback => self
                .undo()
                .map(|()| "The settings of before are in force.".to_owned()),
        }
    }

    /// Lets time pass over the change that waits, and tells `net` what it has not taken yet.
    pub(super) fn watch_network(&mut self, now: Duration) {
        let turn = self.changes.tick(now);
        match turn {
            Some(Turn::Applied) => {
                supervise::warning!("the network is changed; it has yet to be confirmed");
            }
            Some(Turn::RolledBack) => {
                supervise::warning!("nobody confirmed the change of the network: it is undone");
                self.write_keep();
            }
            None if self.changes.untold => {}
            None => return,
        }
        self.configure_net();
        self.changed();
    }

    /// `keep` was written, or can't be: who confirmed a change is told which.
    pub(super) fn answer_confirmations(&mut self, outlives_a_reboot: bool) {
        for (role, id) in std::mem::take(&mut self.changes.unanswered) {
            let result = Ok(outlives_a_reboot);
            self.tell(role, Event::NetworkConfirmed { id, result }, vec![]);
        }
    }

    fn propose_network(
        &mut self,
        link: String,
        wish: Wish,
        wait: Duration,
        now: Duration,
    ) -> Result<ChangeTaken, String> {
        let said = wish.to_string();
        let around = Surroundings {
            links: &known_links(&self.net, self.changes.transaction.settled()),
            bridge: &Bridge::default(),
            services: &self.service_ids(),
        };
        let settled = self.changes.transaction.settled();
        let settings = changed(settled, &link, wish, around).map_err(|e| e.to_string())?;
        let mut random = [0; 16];
        getrandom(&mut random, GetRandomFlags::NONBLOCK)
            .map_err(|e| format!("There are no random numbers for a token: {e}."))?;
        let token = Token::new(random);
        let addresses = addresses_of(settings.links.get(&link));
        let transaction = &mut self.changes.transaction;
        let taken = transaction.propose(now, link.clone(), settings, token, wait);
        taken.map_err(|e| e.to_string())?;
        supervise::info!("{link} is to be {said}, if that is confirmed");
        self.write_keep();
        self.changed();
        Ok(ChangeTaken {
            token: Secret(token.text()),
            seconds: wait.as_secs(),
            applies_in: transaction::GRACE.as_secs(),
            addresses,
        })
    }

    fn take_general(&mut self, setting: GeneralSetting) -> Result<(), String> {
        let said = setting.to_string();
        let general = &mut self.changes.general;
        match setting {
            GeneralSetting::Lan(lan) => general.lan = lan,
            GeneralSetting::Time(None) => general.time = None,
            GeneralSetting::Time(Some(words)) => {
                let servers = General::time_servers(&words).map_err(|e| e.to_string())?;
                general.time = Some(servers);
            }
        }
        supervise::info!("{said}, as the owner wants");
        self.configure_net();
        self.open_names();
        self.write_keep();
        self.changed();
        Ok(())
    }

    fn try_confirm(
        &mut self,
        from: Option<IpAddr>,
        Secret(token): &Secret,
        now: Duration,
    ) -> Result<(), NotConfirmed> {
        let changes = &mut self.changes;
        if let Some(wait) = from.and_then(|from| changes.wrong.wait_alone(from, now)) {
            let wait_s = wait.as_secs() + 1;
            return Err(NotConfirmed::Throttled { wait_s });
        }
        let confirmed = match Token::parse(token) {
            Some(token) => changes.transaction.confirm(now, token),
            None => Err(Unconfirmed::Wrong),
        };
        confirmed.map_err(|why| match why {
            Unconfirmed::Early => NotConfirmed::Early(why.to_string()),
            Unconfirmed::Over => NotConfirmed::Over(why.to_string()),
            Unconfirmed::Wrong => {
                if let Some(from) = from {
                    changes.wrong.note(from, now);
                }
                NotConfirmed::Wrong(why.to_string())
            }
        })
    }

    fn network_settled(&mut self) {
        supervise::info!("the change of the network is confirmed");
        // It may have been confirmed in the very turn in which it was to come in force.
        self.configure_net();
        self.write_keep();
        if self.keep_write.is_none() {
            self.answer_confirmations(false);
        }
        self.changed();
    }

    fn undo(&mut self) -> Result<(), String> {
        if !self.changes.transaction.undo() {
            return Err(NOTHING_WAITS.to_owned());
        }
        supervise::info!("the change of the network is undone, as its owner wants");
        self.configure_net();
        self.write_keep();
        self.changed();
        Ok(())
    }
}

/// Links that are there, or are looked after when they are: those left alone are not in the summary.
fn known_links(
    net: &supervise::status::NetSummary,
    settled: &Settings,
) -> Vec<(String, Vec<Ipv4Addr>)> {
    let v4 = |(ip, _): &(IpAddr, u8)| match ip {
        IpAddr::V4(ip) => Some(*ip),
        IpAddr::V6(_) => None,
    };
    let there = net.links.iter().map(|link| {
        let addresses = link.addresses.iter().filter_map(v4).collect();
        (link.name.clone(), addresses)
    });
    let mut known: Vec<_> = there.collect();
    // Ports are nobody's links of their own, so they are not among those looked after.
    let parts = settled.made.values().flat_map(|made| match made {
        Made::Bridge { ports } => ports.as_slice(),
        Made::Vlan { on, .. } => std::slice::from_ref(on),
    });
    for link in settled.links.keys().chain(settled.made.keys()).chain(parts) {
        if !known.iter().any(|(name, _)| name == link) {
            known.push((link.clone(), Vec::new()));
        }
    }
    known
}

fn spelt(servers: &[TimeServer]) -> Vec<String> {
    servers.iter().map(ToString::to_string).collect()
}

fn ended(end: End) -> String {
    match end {
        End::Confirmed => "The last change was confirmed.",
        End::RolledBack => "Nobody confirmed the last change in time, so it was undone.",
        End::Undone => "The last change was undone.",
    }
    .to_owned()
}

const NOTHING_WAITS: &str = "No change of the network waits to be confirmed.";
const UNCONFIRMED: &str = "A change of the network had not been confirmed when the server went down. \
                           The settings of before are in force.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_that_know_of_addresses_alone_hand_over_what_was_set_and_take_it_over() {
        let now = Duration::from_secs(10);
        // As they write it: settings, none that waits, none that ended, changes; nobody to answer.
        let settled = BTreeMap::from([("eth0".to_owned(), Addressing::Unmanaged)]);
        let of_before = (&settled, None::<u8>, None::<u8>, 3_u64, Vec::<u8>::new());
        let mut state = Vec::new();
        records::push(&mut state, Tag::Network, 1, &of_before).unwrap();
        let mut changes = NetChanges::read(&state, now).unwrap();
        assert_eq!(changes.in_force().links, settled);

        changes.general.lan = true;
        changes.transaction = Transaction::new(Settings {
            metrics: [("eth0".to_owned(), 7)].into(),
            ..changes.in_force().clone()
        });
        let mut state = Vec::new();
        changes.push(&mut state).unwrap();
        let read_by_old: (BTreeMap<String, Addressing>, Option<u8>, Option<u8>, u64) =
            records::read(&state, Tag::Network, 1).unwrap();
        assert_eq!(read_by_old, (settled, None, None, 0));
        let again = NetChanges::read(&state, now).unwrap();
        assert_eq!(again.in_force(), changes.in_force());
        assert!(again.general.lan);
    }
}
