//! A question as it goes out to one server, and whether what comes back is its answer.

use super::super::{
    chance::Chance,
    upstream::{ServerId, Via},
    wire::{self, FORMAT_ERROR, NOT_IMPLEMENTED, Query, Question, RECURSION_DESIRED, RESPONSE},
};
use crate::net::clock::Now;

/// A message that was sent and may be answered.
#[derive(Debug)]
pub(super) struct Attempt {
    /// Whose it is; `None` if only its server's health is of interest yet.
    pub(super) flight: Option<usize>,
    pub(super) server: ServerId,
    pub(super) via: Via,
    pub(super) question: Question,
    pub(super) is_mixed: bool,
    pub(super) edns: bool,
    pub(super) sent_at: Now,
    /// When the next one is tried; `None` once it was.
    pub(super) until: Option<Now>,
    /// Messages that came instead of its answer.
    pub(super) forged: u32,
    /// Whether it was sent again over a new connection.
    pub(super) again: bool,
}

/// What a message is to an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    Answers,
    Forged,
    LacksEdns,
}

impl Attempt {
    pub(super) fn judge(&self, id: u16, message: &[u8]) -> Judgement {
        let flags = wire::u16_at(message, 2).unwrap_or_default();
        if wire::u16_at(message, 0) != Some(id) || flags & RESPONSE == 0 {
            return Judgement::Forged;
        }
        let is_refusal = [FORMAT_ERROR, NOT_IMPLEMENTED].contains(&(flags & 15)) && self.edns;
        match wire::question(message) {
            // Servers of before 1999 give nothing back.
            None if is_refusal && message.len() == wire::HEADER => Judgement::LacksEdns,
            None => Judgement::Forged,
            Some((question, _)) if !self.is_asked(&question) => Judgement::Forged,
            Some(_) if is_refusal => Judgement::LacksEdns,
            Some(_) => Judgement::Answers,
        }
    }

    fn is_asked(&self, question: &Question) -> bool {
        let is_name = match self.is_mixed {
            true => question.name == self.question.name,
            false => question.name.eq_ignore_ascii_case(&self.question.name),
        };
        is_name && (question.kind, question.class) == (self.question.kind, self.question.class)
    }
}

pub(super) fn message(id: u16, query: &Query, attempt: &Attempt) -> Vec<u8> {
    let mut message = Vec::with_capacity(wire::HEADER + attempt.question.name.len() + 15);
    let flags = query.echoed() | RECURSION_DESIRED;
    for field in [id, flags, 1, 0, 0, 0] {
        message.extend(field.to_be_bytes());
    }
    attempt.question.write(&mut message);
    if attempt.edns {
        let mut options = Vec::new();
        if attempt.via == Via::Tls {
            // All are as long as others, so that their length tells nothing (RFC 8467, 4.1).
            let used = message.len() + OPT_LENGTH + PADDING_HEADER;
            let padding = used.next_multiple_of(PADDED_TO) - used;
            options.extend(PADDING.to_be_bytes());
            options.extend((padding as u16).to_be_bytes());
            options.resize(PADDING_HEADER + padding, 0);
        }
        wire::append_opt(&mut message, 0, query.is_signed(), &options);
    }
    message
}

/// Changes the case of letters by chance.
pub(super) fn mix(name: &mut [u8], chance: &mut Chance) {
    let (mut bits, mut left) = (0, 0);
    for byte in name.iter_mut().filter(|byte| byte.is_ascii_alphabetic()) {
        if left == 0 {
            (bits, left) = (chance.byte(), 8);
        }
        if bits & 1 == 1 {
            *byte ^= 0x20;
        }
        (bits, left) = (bits >> 1, left - 1);
    }
}

/// RFC 8467 and RFC 7830.
const PADDED_TO: usize = 128;
const PADDING: u16 = 12;
const PADDING_HEADER: usize = 4;
/// An EDNS record without options, in bytes.
const OPT_LENGTH: usize = 11;
