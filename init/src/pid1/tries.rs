//! Wrong secrets of late: how long whoever offered them waits before the next.

use std::{collections::VecDeque, net::IpAddr, time::Duration};

/// Wrong tries of late. What the front says of who tried it says freely, so that all tries together
/// count as well, and that they are remembered in a space that can't grow.
#[derive(Debug, Default)]
pub(super) struct WrongTries(VecDeque<(IpAddr, Duration)>);

impl WrongTries {
    /// One more.
    pub(super) fn note(&mut self, from: IpAddr, now: Duration) {
        self.0.push_back((from, now));
        if self.0.len() > TRIES_IN_ALL {
            self.0.pop_front();
        }
    }

    /// How long `from` has to wait, if it has: for a secret that many together may guess.
    pub(super) fn wait(&mut self, from: IpAddr, now: Duration) -> Option<Duration> {
        let own = self.oldest_of(from, now);
        let all = self.0.front().filter(|_| self.0.len() >= TRIES_IN_ALL);
        let oldest = own.max(all.map(|(_, at)| *at))?;
        Some(WINDOW.saturating_sub(now.saturating_sub(oldest)))
    }

    /// How long `from` has to wait, if it has, whatever others do: for a secret that nobody guesses,
    /// and that its holder must be able to say in time.
    pub(super) fn wait_alone(&mut self, from: IpAddr, now: Duration) -> Option<Duration> {
        let oldest = self.oldest_of(from, now)?;
        Some(WINDOW.saturating_sub(now.saturating_sub(oldest)))
    }

    /// When the first of `from`'s tries was, if there are too many.
    fn oldest_of(&mut self, from: IpAddr, now: Duration) -> Option<Duration> {
        self.0.retain(|(_, at)| now.saturating_sub(*at) < WINDOW);
        let own = self.0.iter().filter(|(sender, _)| *sender == from);
        let count = own.clone().count();
        let mut own = own.map(|(_, at)| *at);
        own.next().filter(|_| count >= TRIES_PER_SENDER)
    }
}

/// A person mistypes twice or three times; a machine that guesses would need thousands.
const TRIES_PER_SENDER: usize = 5;
/// All senders together: a guesser may have any number of addresses.
const TRIES_IN_ALL: usize = 20;
/// Over which tries are counted.
const WINDOW: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(1000 + seconds)
    }

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    #[test]
    fn five_wrong_tries_a_minute_and_then_others_only() {
        let mut wrong = WrongTries::default();
        for second in 0..5 {
            assert_eq!(wrong.wait(address(1), at(second)), None);
            wrong.note(address(1), at(second));
        }
        assert_eq!(
            wrong.wait(address(1), at(10)),
            Some(Duration::from_secs(50))
        );
        assert_eq!(wrong.wait(address(2), at(10)), None);
        assert_eq!(wrong.wait(address(1), at(60)), None);
    }

    #[test]
    fn many_addresses_do_not_help_a_guesser_nor_lock_the_holder_out() {
        let mut wrong = WrongTries::default();
        for last in 0..=255 {
            if wrong.wait(address(last), at(1)).is_none() {
                wrong.note(address(last), at(1));
            }
        }
        assert_eq!(wrong.0.len(), TRIES_IN_ALL);
        assert!(wrong.wait(address(7), at(2)).is_some());
        assert_eq!(wrong.wait_alone(address(7), at(2)), None);
    }
}
