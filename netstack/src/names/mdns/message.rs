//! Messages as they go out, and how records of others compare.

use std::net::IpAddr;

use simple_dns::{
    CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, ResourceRecord, rdata::RData,
};

use crate::names::zone::Record;

/// The question whether anybody has the names of these, with what we would say of them.
pub(super) fn probe<'a>(claimed: impl Iterator<Item = &'a Record>) -> Option<Vec<u8>> {
    let mut packet = Packet::new_query(0);
    for record in claimed {
        if !packet
            .questions
            .iter()
            .any(|asked| asked.qname == record.name)
        {
            let class = QCLASS::CLASS(CLASS::IN);
            let question = Question::new(record.name.clone(), QTYPE::ANY, class, true);
            packet.questions.push(question);
        }
        let mut proposed = record.to_wire(false);
        proposed.cache_flush = false;
        packet.name_servers.push(proposed);
    }
    packet.build_bytes_vec_compressed().ok()
}

/// Messages with these answers, as many as their size asks for. `more` is a courtesy, left out
/// where it does not fit.
pub(super) fn responses(
    id: u16,
    questions: &[Question<'_>],
    mut answers: Vec<ResourceRecord<'static>>,
    more: Vec<ResourceRecord<'static>>,
) -> Vec<Vec<u8>> {
    let mut packet = Packet::new_reply(id);
    packet.set_flags(PacketFlag::AUTHORITATIVE_ANSWER);
    packet.questions = questions.to_vec();
    packet.answers.clone_from(&answers);
    packet.additional_records = more;
    match packet.build_bytes_vec_compressed() {
        Ok(bytes) if bytes.len() <= MESSAGE_MAX => vec![bytes],
        Ok(_) if !packet.additional_records.is_empty() => {
            responses(id, questions, answers, Vec::new())
        }
        Ok(_) if answers.len() > 1 => {
            let rest = answers.split_off(answers.len() / 2);
            let mut messages = responses(id, questions, answers, Vec::new());
            messages.extend(responses(id, questions, rest, Vec::new()));
            messages
        }
        Ok(_) | Err(_) => Vec::new(),
    }
}

/// Whether the client has the answer already, for half of its life yet (RFC 6762, 7.1).
pub(super) fn is_known(answer: &ResourceRecord<'_>, packet: &Packet<'_>) -> bool {
    let same = |known: &ResourceRecord<'_>| {
        known.name == answer.name && known.rdata == answer.rdata && known.ttl >= answer.ttl / 2
    };
    packet.answers.iter().any(same)
}

/// The address that a record is about.
pub(super) fn address_of(data: &RData<'_>) -> Option<IpAddr> {
    match data {
        RData::A(a) => Some(IpAddr::V4(a.address.into())),
        RData::AAAA(a) => Some(IpAddr::V6(a.address.into())),
        _ => None,
    }
}

/// By what two claims are compared: class, type, data as bytes (RFC 6762, 8.2).
pub(super) fn weight(record: &ResourceRecord<'_>) -> (u16, u16, Vec<u8>) {
    let mut packet = Packet::new_reply(0);
    let mut bare = record.clone();
    bare.name = Name::new_with_labels(&[]);
    packet.answers.push(bare);
    let bytes = packet.build_bytes_vec().unwrap_or_default();
    let data = bytes.get(BEFORE_DATA..).unwrap_or_default().to_vec();
    (record.class as u16, record.rdata.type_code().into(), data)
}

/// Header, the root's name, and type, class, TTL and length of the record, in bytes.
const BEFORE_DATA: usize = 12 + 1 + 10;

/// What fits into an Ethernet frame over IPv6, in bytes (RFC 6762, 17).
const MESSAGE_MAX: usize = 1440;
