//! Asks the routers of a link to announce themselves (RFC 4861, section 6.3.7).
//!
//! The kernel does so when a link comes up. When `net` begins on a link that is up already, after a
//! re-execution or a panic, the kernel knows its routers, and `net` does not know what they
//! announced; that may be half an hour old.

use std::{
    io,
    net::{Ipv6Addr, SocketAddrV6},
    time::Duration,
};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::{clock::Now, frame::Mac, random::Random};

/// The questions to one link's routers.
#[derive(Debug)]
pub(crate) struct Solicitor {
    left: u32,
    next: Now,
}

impl Solicitor {
    /// Asks soon, not at the same moment as all others after a power cut.
    pub(crate) fn new(now: Now, random: &mut Random) -> Self {
        Self {
            left: QUESTIONS_MAX,
            next: now + random.between(Duration::ZERO, BEGIN_WITHIN),
        }
    }

    /// A router announced itself, or there is none to ask.
    pub(crate) fn answered(&mut self) {
        self.left = 0;
    }

    /// The deadline has come; earlier calls do nothing. True each time the routers are to be asked.
    pub(crate) fn tick(&mut self, now: Now) -> bool {
        let due = self.left > 0 && self.next <= now;
        if due {
            self.left -= 1;
            self.next = now + PAUSE;
        }
        due
    }

    /// When [`tick`](Self::tick) is next needed.
    pub(crate) fn deadline(&self) -> Option<Now> {
        (self.left > 0).then_some(self.next)
    }
}

/// Asks the routers of a link. The answers go to the kernel, which hands on what is of interest.
///
/// # Errors
/// What the kernel says, when it has no IPv6, no socket left, or no address on the link yet.
pub(crate) fn ask(link: u32, mac: Mac) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
    socket.set_nonblocking(true)?;
    // What came from farther away would not be believed.
    socket.set_multicast_hops_v6(255)?;
    let routers = SockAddr::from(SocketAddrV6::new(ROUTERS, 0, 0, link));
    // The kernel fills in the checksum of this protocol.
    socket.send_to(&question(mac), &routers)?;
    Ok(())
}

/// A router solicitation with the sender's hardware address (RFC 4861, 4.1).
fn question(mac: Mac) -> [u8; 16] {
    let mut question = [0; 16];
    question[0] = SOLICITATION;
    question[8..10].copy_from_slice(&[SOURCE_ADDRESS, 1]);
    question[10..].copy_from_slice(&mac);
    question
}

const SOLICITATION: u8 = 133;
const SOURCE_ADDRESS: u8 = 1;
const ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

// From RFC 4861, section 10.
const BEGIN_WITHIN: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_secs(4);
const QUESTIONS_MAX: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routers_are_asked_three_times_unless_one_answers() {
        for seed in 0..20 {
            let mut solicitor = Solicitor::new(Now::ZERO, &mut Random::new(seed));
            let mut asked = Vec::new();
            while let Some(at) = solicitor.deadline() {
                assert!(
                    !solicitor.tick(at.saturating_sub(Duration::from_nanos(1))) || at.is_zero()
                );
                if solicitor.tick(at) {
                    asked.push(at);
                }
            }
            assert!(asked.len() == 3 && asked[0] <= BEGIN_WITHIN, "{asked:?}");
            assert!(asked.windows(2).all(|two| two[1] - two[0] == PAUSE));
        }
        let mut solicitor = Solicitor::new(Now::ZERO, &mut Random::new(1));
        assert!(solicitor.tick(BEGIN_WITHIN));
        solicitor.answered();
        assert_eq!(
            (solicitor.deadline(), solicitor.tick(Now::MAX)),
            (None, false)
        );
    }

    #[test]
    fn the_question_is_as_rfc_4861_has_it() {
        let expected = [133, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 0, 0, 0, 0, 7];
        assert_eq!(question([2, 0, 0, 0, 0, 7]), expected);
    }
}
