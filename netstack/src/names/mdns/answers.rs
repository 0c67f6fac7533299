//! What of a link's records answers a question, and what goes along unasked.

use simple_dns::{CLASS, Name, Packet, QCLASS, QTYPE, Question, ResourceRecord, rdata::RData};

use super::{
    link::{Known, Link},
    message,
};
use crate::names::zone;

impl Link {
    /// The answers to one question, each with the record that it is of; that there is none of the
    /// kind asked for is an answer too.
    pub(super) fn answers(
        &self,
        question: &Question<'_>,
        packet: &Packet<'_>,
        legacy: bool,
    ) -> Vec<(ResourceRecord<'static>, Option<&Known>)> {
        if !matches!(question.qclass, QCLASS::CLASS(CLASS::IN) | QCLASS::ANY) {
            return Vec::new();
        }
        let named =
            |known: &&Known| known.record.name == question.qname && self.stands(&known.record);
        let named: Vec<_> = self.records.iter().filter(named).collect();
        let asked = |known: &Known| match question.qtype {
            QTYPE::ANY => true,
            QTYPE::TYPE(kind) => known.record.kind() == kind,
            _ => false,
        };
        let found: Vec<_> = named.iter().copied().filter(|known| asked(known)).collect();
        match named.first() {
            Some(first) if found.is_empty() && first.record.unique && !legacy => {
                let kinds: Vec<_> = named.iter().map(|known| known.record.kind()).collect();
                vec![(zone::nothing_but(&first.record.name, &kinds), None)]
            }
            _ => found
                .into_iter()
                .map(|known| (known.record.to_wire(legacy), Some(known)))
                .filter(|(answer, _)| legacy || !message::is_known(answer, packet))
                .collect(),
        }
    }

    /// What whoever gets `answers` asks for next: the host of a web site, the addresses of a host.
    pub(super) fn more_to(
        &self,
        answers: &[ResourceRecord<'_>],
        legacy: bool,
    ) -> Vec<ResourceRecord<'static>> {
        let mut targets: Vec<Name<'static>> = answers.iter().filter_map(leads_to).collect();
        let mut more: Vec<ResourceRecord<'static>> = Vec::new();
        let mut n = 0;
        while let Some(target) = targets.get(n).cloned() {
            n += 1;
            for Known { record, .. } in &self.records {
                if record.name != target || !record.unique || !self.stands(record) {
                    continue;
                }
                if !answers.iter().chain(&more).any(|told| record.is(told)) {
                    let wire = record.to_wire(legacy);
                    targets.extend(leads_to(&wire).filter(|next| !targets.contains(next)));
                    more.push(wire);
                }
            }
        }
        more
    }
}

/// The name that an answer makes one ask for.
fn leads_to(answer: &ResourceRecord<'_>) -> Option<Name<'static>> {
    match &answer.rdata {
        RData::PTR(target) => Some(target.0.clone().into_owned()),
        RData::SRV(service) => Some(service.target.clone().into_owned()),
        // The other family's.
        RData::A(_) | RData::AAAA(_) => Some(answer.name.clone().into_owned()),
        _ => None,
    }
}
