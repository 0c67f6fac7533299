//! The box's own questions for addresses, to a server that asks others in its stead: one message
//! there, one back. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::wire::{
    self, A, AAAA, HEADER, INTERNET, NO_ERROR, NO_SUCH_NAME, Question, RECURSION_DESIRED, RESPONSE,
    Section,
};

/// Which addresses are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

/// What a server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// The addresses that the name has: none, if it has none of this family.
    Addresses(Vec<IpAddr>),
    /// It does not know, or does not say.
    Failed,
}

/// The message that asks for a name's addresses; `None` if it is no name.
pub(crate) fn question(id: u16, name: &str, family: Family) -> Option<Vec<u8>> {
    let mut message = Vec::with_capacity(HEADER + name.len() + 6);
    for field in [id, RECURSION_DESIRED, 1, 0, 0, 0] {
        message.extend(field.to_be_bytes());
    }
    asked(name, family)?.write(&mut message);
    Some(message)
}

/// What `message` says to the question with this id; `None` if it is no answer to it.
pub(crate) fn reply(id: u16, name: &str, family: Family, message: &[u8]) -> Option<Reply> {
    let asked = asked(name, family)?;
    let flags = wire::u16_at(message, 2)?;
    let (question, end) = wire::question(message)?;
    let is_its = wire::u16_at(message, 0) == Some(id)
        && flags & RESPONSE != 0
        && question.name.eq_ignore_ascii_case(&asked.name)
        && (question.kind, question.class) == (asked.kind, asked.class);
    if !is_its {
        return None;
    }
    Some(match flags & 15 {
        NO_ERROR => {
            // Behind an alias the name is another; whoever was asked has followed it.
            let records = wire::records(message, end).map_while(|record| record);
            let answers = records
                .filter(|it| it.section == Section::Answer)
                .filter(|it| (it.kind, it.class) == (asked.kind, INTERNET));
            let addresses = answers.filter_map(|it| address(&message[it.data], family));
            Reply::Addresses(addresses.take(ADDRESSES_MAX).collect())
        }
        NO_SUCH_NAME => Reply::Addresses(Vec::new()),
        _ => Reply::Failed,
    })
}

fn asked(name: &str, family: Family) -> Option<Question> {
    Some(Question {
        name: wire::name(name)?,
        kind: match family {
            Family::V4 => A,
            Family::V6 => AAAA,
        },
        class: INTERNET,
    })
}

/// An address that one can ask something of.
fn address(data: &[u8], family: Family) -> Option<IpAddr> {
    let address = match family {
        Family::V4 => IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(data).ok()?)),
        Family::V6 => IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(data).ok()?)),
    };
    let is_nobodys = address.is_unspecified()
        || address.is_multicast()
        || address == IpAddr::V4(Ipv4Addr::BROADCAST);
    (!is_nobodys).then_some(address)
}

/// More help nobody.
const ADDRESSES_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::{super::wire::Query, *};

    fn answer(name: &str, code: u16, records: &[(u16, &[u8])]) -> Vec<u8> {
        let question = question(7, name, Family::V4).unwrap();
        let mut reply = Query::parse(&question).unwrap().reply(code);
        for (kind, data) in records {
            reply.extend([0xc0, 12]);
            reply.extend(kind.to_be_bytes());
            reply.extend([0, 1, 0, 0, 0, 60]);
            reply.extend((data.len() as u16).to_be_bytes());
            reply.extend_from_slice(data);
        }
        wire::set_u16(&mut reply, 6, records.len() as u16);
        reply
    }

    fn said(message: &[u8]) -> Option<Reply> {
        reply(7, "time.example", Family::V4, message)
    }

    #[test]
    fn addresses_are_taken_also_from_behind_an_alias() {
        let alias = wire::name("other.example").unwrap();
        let records: [(u16, &[u8]); 5] = [
            (5, &alias),
            (A, &[192, 0, 2, 1]),
            (A, &[192, 0, 2]),
            (A, &[0, 0, 0, 0]),
            (A, &[192, 0, 2, 2]),
        ];
        let both = [1, 2].map(|last| IpAddr::from([192, 0, 2, last]));
        let message = answer("Time.Example", NO_ERROR, &records);
        assert_eq!(said(&message), Some(Reply::Addresses(both.into())));
    }

    #[test]
    fn what_answers_another_question_is_no_answer() {
        let message = answer("time.example", NO_ERROR, &[(A, &[192, 0, 2, 1])]);
        assert!(said(&message).is_some());
        assert_eq!(reply(8, "time.example", Family::V4, &message), None);
        assert_eq!(reply(7, "time.example", Family::V6, &message), None);
        assert_eq!(reply(7, "else.example", Family::V4, &message), None);
        assert_eq!(
            said(&question(7, "time.example", Family::V4).unwrap()),
            None
        );
        assert_eq!(said(&[]), None);
    }

    #[test]
    fn a_name_without_addresses_is_something_else_than_a_server_that_fails() {
        let none = Some(Reply::Addresses(Vec::new()));
        assert_eq!(said(&answer("time.example", NO_ERROR, &[])), none);
        assert_eq!(said(&answer("time.example", NO_SUCH_NAME, &[])), none);
        let failed = answer("time.example", wire::SERVER_FAILURE, &[]);
        assert_eq!(said(&failed), Some(Reply::Failed));
    }

    #[test]
    fn what_is_no_name_is_not_asked_for() {
        assert_eq!(question(1, "a..b", Family::V4), None);
        assert!(question(1, "a.b.", Family::V6).is_some());
    }
}
