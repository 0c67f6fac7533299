//! The responder on one link: its claims, and what it tells to whom.

use std::{
    cmp::Ordering,
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use simple_dns::{Name, Packet, PacketFlag, ResourceRecord, TYPE};

use super::{
    Addresses, PORT,
    claim::{Claim, Step},
    message,
};
use crate::{
    names::zone::{Part, Record},
    net::{clock::Now, random::Random},
};

/// One link.
#[derive(Debug, Default)]
pub(super) struct Link {
    pub(super) addresses: Addresses,
    pub(super) records: Vec<Known>,
    claims: BTreeMap<Part, Claim>,
    pending: Vec<Pending>,
}

/// A record, and when everybody on the link last heard of it.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) record: Record,
    told: Option<Now>,
}

/// An answer that waits a little, so that others' answers and further questions are heard first.
#[derive(Debug)]
struct Pending {
    due: Now,
    from: SocketAddr,
    answers: Vec<ResourceRecord<'static>>,
    /// What everybody was told within this is not said again.
    told_within: Now,
}

/// What a response of others means for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Nothing,
    /// Another host has a name that we are about to claim.
    TheName,
}

impl Link {
    /// Takes new records. Gives the messages that take back those that are no more.
    pub(super) fn become_site(
        &mut self,
        now: Now,
        records: Vec<Record>,
        random: &mut Random,
    ) -> Vec<Vec<u8>> {
        if self.records.iter().map(|known| &known.record).eq(&records) {
            return Vec::new();
        }
        let gone = self.farewell(&records);
        let mut claims = BTreeMap::new();
        for part in records.iter().map(|record| &record.part) {
            if claims.contains_key(part) {
                continue;
            }
            let before = names_of(part, self.records.iter().map(|known| &known.record));
            let claim = match self.claims.get(part) {
                Some(claim) if before == names_of(part, records.iter()) => claim.renew(now),
                _ => Claim::begin(now, random),
            };
            claims.insert(part.clone(), claim);
        }
        self.claims = claims;
        self.pending.clear();
        let known = |record| Known { record, told: None };
        self.records = records.into_iter().map(known).collect();
        gone
    }

    /// Whether `address` is on this link: others have no business here (RFC 6762, 11).
    pub(super) fn is_near(&self, address: IpAddr) -> bool {
        let link_local = match address {
            IpAddr::V4(ip) => ip.is_link_local(),
            IpAddr::V6(ip) => ip.is_unicast_link_local(),
        };
        let same = |(own, prefix): &(IpAddr, u8)| same_subnet(*own, address, *prefix);
        link_local || self.addresses.iter().any(same)
    }

    /// Notes down what is to be answered to everybody. Gives the messages for `from` alone.
    pub(super) fn query(
        &mut self,
        now: Now,
        from: SocketAddr,
        packet: &Packet<'_>,
        random: &mut Random,
    ) -> Vec<Vec<u8>> {
        self.meet_probe(now, packet);
        if packet.questions.is_empty() {
            self.forget_known(from, packet);
            return Vec::new();
        }
        let legacy = from.port() != PORT;
        let (mut alone, mut all, mut shared) = (Vec::new(), Vec::new(), false);
        for question in packet.questions.iter().take(QUESTIONS_MAX) {
            for (answer, known) in self.answers(question, packet, legacy) {
                shared |= known.is_some_and(|known| !known.record.unique);
                let recent = known.is_none_or(|known| known.told_lately(now));
                let to_one = legacy || (question.unicast_response && recent);
                let list = if to_one { &mut alone } else { &mut all };
                if !list.contains(&answer) {
                    list.push(answer);
                }
            }
        }
        if !all.is_empty() && self.pending.len() < PENDING_MAX {
            let pause = match (packet.has_flags(PacketFlag::TRUNCATION), shared) {
                (true, _) => random.between(MORE_COMES, MORE_COMES + Now::from_millis(100)),
                (false, true) => random.between(SHARED_PAUSE, Now::from_millis(120)),
                (false, false) => Now::ZERO,
            };
            // Who claims a name asks three times within a second, and takes silence for leave.
            let told_within = match packet.name_servers.is_empty() {
                true => TOLD_PAUSE,
                false => TOLD_PAUSE_OF_PROBES,
            };
            self.pending.push(Pending {
                due: now + pause,
                from,
                answers: all,
                told_within,
            });
        }
        if alone.is_empty() {
            return Vec::new();
        }
        let more = self.more_to(&alone, legacy);
        if legacy {
            message::responses(packet.id(), &packet.questions, alone, more)
        } else {
            message::responses(0, &[], alone, more)
        }
    }

    /// Looks for objections in others' answers. `ours` are the box's addresses on all links.
    pub(super) fn response(&mut self, now: Now, packet: &Packet<'_>, ours: &[IpAddr]) -> Heard {
        let mut heard = Heard::Nothing;
        for other in packet.answers.iter().chain(&packet.additional_records) {
            // Our own, heard on another link.
            if message::address_of(&other.rdata).is_some_and(|address| ours.contains(&address)) {
                continue;
            }
            let Some(part) = self.contested(other) else {
                continue;
            };
            match self.claims.get_mut(&part) {
                // Who was first will say so again (RFC 6762, 9).
                Some(claim) if claim.stands() => *claim = Claim::Probing { sent: 0, next: now },
                _ => heard = Heard::TheName,
            }
        }
        heard
    }

    /// The messages to everybody that are due.
    pub(super) fn due(&mut self, now: Now) -> Vec<Vec<u8>> {
        let (mut messages, mut announced) = (Vec::new(), Vec::new());
        for (part, claim) in &mut self.claims {
            match claim.step(now) {
                Some(Step::Announce) => announced.push(part),
                Some(Step::Probe) => {
                    let records = self.records.iter().map(|known| &known.record);
                    let claimed = records.filter(|record| is_claimed_by(part, record));
                    messages.extend(message::probe(claimed));
                }
                None => {}
            }
        }
        let of_part = |known: &&Known| announced.contains(&&known.record.part);
        let records = self.records.iter().filter(of_part);
        let mut answers: Vec<_> = records.map(|known| known.record.to_wire(false)).collect();
        let due = self.pending.extract_if(.., |pending| pending.due <= now);
        for pending in due.collect::<Vec<_>>() {
            for answer in pending.answers {
                let told = self.was_told(now, pending.told_within, &answer);
                if !told && !answers.contains(&answer) {
                    answers.push(answer);
                }
            }
        }
        if !answers.is_empty() {
            let more = self.more_to(&answers, false);
            self.note_told(now, answers.iter().chain(&more));
            messages.extend(message::responses(0, &[], answers, more));
        }
        messages
    }

    /// When [`due`](Self::due) is next needed.
    pub(super) fn deadline(&self) -> Option<Now> {
        let claims = self.claims.values().filter_map(|claim| claim.deadline());
        claims
            .chain(self.pending.iter().map(|pending| pending.due))
            .min()
    }

    /// The messages that take back what was told and is not in `kept`.
    pub(super) fn farewell(&self, kept: &[Record]) -> Vec<Vec<u8>> {
        let stays = |record: &Record| {
            let mut kept = kept.iter();
            kept.any(|k| k.name == record.name && k.data == record.data)
        };
        let records = self.records.iter().map(|known| &known.record);
        let gone = records.filter(|record| self.stands(record) && !stays(record));
        let gone: Vec<_> = gone.map(Record::farewell).collect();
        if gone.is_empty() {
            return Vec::new();
        }
        message::responses(0, &[], gone, Vec::new())
    }

    /// Whether the record's name may be used.
    pub(super) fn stands(&self, record: &Record) -> bool {
        self.claims
            .get(&record.part)
            .is_some_and(|claim| claim.stands())
    }

    /// The part whose name somebody else's record contests. While the name is only being claimed
    /// any record of that name does.
    fn contested(&self, other: &ResourceRecord<'_>) -> Option<Part> {
        let kind = other.rdata.type_code();
        let mut part = None;
        for Known { record, .. } in &self.records {
            if !record.unique || record.name != other.name || kind == TYPE::NSEC {
                continue;
            }
            if record.data == other.rdata {
                return None;
            }
            if record.kind() == kind || !self.stands(record) {
                part = Some(&record.part);
            }
        }
        part.cloned()
    }

    /// Another host asks for a name at the same time as we do: who has the greater data goes on,
    /// the other waits and asks again (RFC 6762, 8.2).
    fn meet_probe(&mut self, now: Now, packet: &Packet<'_>) {
        let mut lost = Vec::new();
        for (part, claim) in &self.claims {
            if claim.stands() {
                continue;
            }
            let records = self.records.iter().map(|known| &known.record);
            let names = names_of(part, records);
            if names.iter().any(|name| self.is_less(name, packet)) {
                lost.push(part.clone());
            }
        }
        for part in lost {
            self.claims.insert(part, Claim::defer(now));
        }
    }

    /// Whether what we would say of `name` comes before what the other would.
    fn is_less(&self, name: &Name<'_>, packet: &Packet<'_>) -> bool {
        let theirs = packet
            .name_servers
            .iter()
            .filter(|record| record.name == *name);
        let mut theirs: Vec<_> = theirs.map(message::weight).collect();
        let ours = self.records.iter().map(|known| &known.record);
        let ours = ours.filter(|record| record.name == *name);
        let mut ours: Vec<_> = ours
            .map(|record| message::weight(&record.to_wire(true)))
            .collect();
        ours.sort();
        theirs.sort();
        !theirs.is_empty() && ours.cmp(&theirs) == Ordering::Less
    }

    /// More of what a client knows already follows its question (RFC 6762, 7.2).
    fn forget_known(&mut self, from: SocketAddr, packet: &Packet<'_>) {
        for pending in self
            .pending
            .iter_mut()
            .filter(|pending| pending.from == from)
        {
            pending
                .answers
                .retain(|answer| !message::is_known(answer, packet));
        }
        self.pending.retain(|pending| !pending.answers.is_empty());
    }

    /// Whether everybody was told the same within the time `within`.
    fn was_told(&self, now: Now, within: Now, answer: &ResourceRecord<'_>) -> bool {
        let lately = |told: Now| now.saturating_sub(told) < within;
        let mut records = self.records.iter();
        records.any(|known| known.record.is(answer) && known.told.is_some_and(lately))
    }

    fn note_told<'a>(
        &mut self,
        now: Now,
        told: impl Iterator<Item = &'a ResourceRecord<'static>> + Clone,
    ) {
        for known in &mut self.records {
            if told.clone().any(|answer| known.record.is(answer)) {
                known.told = Some(now);
            }
        }
    }
}

impl Known {
    /// Whether everybody heard of it within a quarter of its life (RFC 6762, 5.4).
    fn told_lately(&self, now: Now) -> bool {
        let life = Now::from_secs(u64::from(self.record.ttl));
        self.told
            .is_some_and(|told| now.saturating_sub(told) < life / 4)
    }
}

/// The names that `part` claims.
fn names_of<'a>(part: &Part, records: impl Iterator<Item = &'a Record>) -> Vec<Name<'static>> {
    let mut names: Vec<_> = records
        .filter(|record| is_claimed_by(part, record))
        .map(|record| record.name.clone())
        .collect();
    names.dedup();
    names
}

/// Whether it is one of `part`'s to claim: not those of addresses, which DHCP has settled.
fn is_claimed_by(part: &Part, record: &Record) -> bool {
    record.part == *part && record.unique && record.kind() != TYPE::PTR
}

fn same_subnet(own: IpAddr, other: IpAddr, prefix: u8) -> bool {
    let differs = match (own, other) {
        (IpAddr::V4(own), IpAddr::V4(other)) => u128::from(own.to_bits() ^ other.to_bits())
            .checked_shr(32_u32.saturating_sub(prefix.into())),
        (IpAddr::V6(own), IpAddr::V6(other)) => {
            (own.to_bits() ^ other.to_bits()).checked_shr(128_u32.saturating_sub(prefix.into()))
        }
        _ => return false,
    };
    // Shifted out whole: there is no prefix, so all is one subnet.
    differs.unwrap_or(0) == 0
}

/// Questions of one message that are answered: nobody has more names of ours to ask for.
const QUESTIONS_MAX: usize = 64;
/// Questions of one link whose answers may wait.
const PENDING_MAX: usize = 32;

/// An answer that others may give too waits at least this long (RFC 6762, 6).
const SHARED_PAUSE: Now = Now::from_millis(20);
/// A question that goes on in a further message is waited for this long (RFC 6762, 7.2).
const MORE_COMES: Now = Now::from_millis(400);
/// Nobody is told the same twice within a second, but for who probes (RFC 6762, 6).
const TOLD_PAUSE: Now = Now::from_secs(1);
const TOLD_PAUSE_OF_PROBES: Now = Now::from_millis(250);
