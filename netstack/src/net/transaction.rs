//! A change of the owner's settings that can't lock him out: it holds for a while, and for good only
//! once a client that knows its token has confirmed it; else the settings of before come back.
//!
//! Pure: it is given the time (CLOCK_BOOTTIME, which nobody steps) and says what is in force and
//! when it wants to be asked again. It can be written down at any moment and gone on with by
//! another process on the same boot; what outlives a boot is what is settled, and that alone.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::{clock::Now, settings::Settings};

/// What is settled, and at most one change that waits for its confirmation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transaction<S = Settings> {
    settled: S,
    pending: Option<Pending<S>>,
    last: Option<Ended>,
    changes: u64,
}

/// A change that waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Pending<S = Settings> {
    id: u64,
    link: String,
    settings: S,
    token: TokenHash,
    applies: Duration,
    applied: bool,
    until: Duration,
}

/// A change that is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Ended {
    token: TokenHash,
    end: End,
}

/// How a change ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// Its client came back: it is settled.
    Confirmed,
    /// Nobody came back in time, so the settings of before are in force.
    RolledBack,
    /// It was taken back on purpose.
    Undone,
}

/// What a change's client confirms it with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Token([u8; 16]);

/// All that is known of a token where it could be read.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct TokenHash([u8; 32]);

/// A change that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proposed {
    /// Its number.
    pub id: u64,
    /// When it is undone by itself.
    pub until: Now,
}

/// The change that waits, for whoever looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting<'a> {
    /// Its number.
    pub id: u64,
    /// The link that is changed.
    pub link: &'a str,
    /// All settings with it.
    pub settings: &'a Settings,
    /// Whether it is in force yet.
    pub applied: bool,
    /// How long it has left to be confirmed.
    pub left: Duration,
}

/// What time has brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The change is in force from now on.
    Applied,
    /// Nobody confirmed it: what was settled is in force again.
    RolledBack,
}

/// Why a change was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Another waits.
    #[error(
        "Another change of {link} still waits to be confirmed, for {left_s} s more. Confirm it or \
         undo it first."
    )]
    Pending {
        /// What it changes.
        link: String,
        /// How long it waits yet, in seconds.
        left_s: u64,
    },
    /// The time is out of bounds.
    #[error("A change can wait for its confirmation from 10 to 600 s, not {0} s.")]
    Seconds(u64),
}

/// Why a confirmation was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unconfirmed {
    /// It comes before the change: on the old way, which proves nothing.
    #[error("The change is not in force yet. Confirm it in a moment, at the new address.")]
    Early,
    /// The change is over.
    #[error("It is too late: the change was undone, and the settings of before are in force.")]
    Over,
    /// No change of late has this token.
    #[error("There is no change that this confirms.")]
    Wrong,
}

impl Transaction {
    /// With nothing but these settings.
    pub fn new(settled: Settings) -> Self {
        Self {
            settled,
            ..Self::default()
        }
    }

    /// The same after another process wrote it down: whatever it says, a change waits no longer
    /// than it may.
    pub fn resumed(mut self, now: Now) -> Self {
        if let Some(pending) = &mut self.pending {
            pending.applies = pending.applies.min(now + GRACE);
            pending.until = pending.until.min(pending.applies + MAX_WAIT);
        }
        self
    }

    /// Takes a change to `settings`, which is about `link`. It is applied after a moment, in which
    /// the answer goes back by the old way; then it has `wait` to be confirmed with `token`.
    ///
    /// # Errors
    /// [`Refused::Pending`] while another waits: settings that build on one another are confirmed
    /// one by one. [`Refused::Seconds`] if `wait` is out of bounds.
    pub fn propose(
        &mut self,
        now: Now,
        link: String,
        settings: Settings,
        token: Token,
        wait: Duration,
    ) -> Result<Proposed, Refused> {
        if let Some(pending) = &self.pending {
            return Err(Refused::Pending {
                link: pending.link.clone(),
                left_s: pending.until.saturating_sub(now).as_secs(),
            });
        }
        if !(MIN_WAIT..=MAX_WAIT).contains(&wait) {
            return Err(Refused::Seconds(wait.as_secs()));
        }
        self.changes = self.changes.wrapping_add(1);
        let until = now + GRACE + wait;
        self.pending = Some(Pending {
            id: self.changes,
            link,
            settings,
            token: token.hash(),
            applies: now + GRACE,
            applied: false,
            until,
        });
        Ok(Proposed {
            id: self.changes,
            until,
        })
    }

    /// Settles the change that waits. Said again, it is as good as said once.
    ///
    /// # Errors
    /// See [`Unconfirmed`]; nothing has changed then.
    pub fn confirm(&mut self, now: Now, token: Token) -> Result<(), Unconfirmed> {
        self.tick(now);
        let offered = token.hash();
        if let Some(pending) = self.pending.take_if(|pending| pending.token.is(offered)) {
            if !pending.applied {
                self.pending = Some(pending);
                return Err(Unconfirmed::Early);
            }
            self.settle(pending);
            return Ok(());
        }
        match &self.last {
            Some(last) if last.token.is(offered) => match last.end {
                End::Confirmed => Ok(()),
                End::RolledBack | End::Undone => Err(Unconfirmed::Over),
            },
            _ => Err(Unconfirmed::Wrong),
        }
    }

    /// Settles the change that waits, for somebody who sits at the box itself. False if none does.
    pub fn confirm_here(&mut self) -> bool {
        let pending = self.pending.take();
        pending.map(|pending| self.settle(pending)).is_some()
    }

    /// Takes the change that waits back. False if none does.
    pub fn undo(&mut self) -> bool {
        self.end(End::Undone)
    }

    /// Lets time pass; what has come of it since it was last asked.
    pub fn tick(&mut self, now: Now) -> Option<Turn> {
        let pending = self.pending.as_mut()?;
        if pending.until <= now {
            self.end(End::RolledBack);
            return Some(Turn::RolledBack);
        }
        if pending.applied || pending.applies > now {
            return None;
        }
        pending.applied = true;
        Some(Turn::Applied)
    }

    /// When [`tick`](Self::tick) is next needed.
    pub fn deadline(&self) -> Option<Now> {
        let pending = self.pending.as_ref()?;
        Some(match pending.applied {
            true => pending.until,
            false => pending.applies,
        })
    }

    /// What the network should be now.
    pub fn in_force(&self) -> &Settings {
        let applied = self.pending.as_ref().filter(|pending| pending.applied);
        applied.map_or(&self.settled, |pending| &pending.settings)
    }

    /// What the network is to be after the next boot, whatever waits.
    pub fn settled(&self) -> &Settings {
        &self.settled
    }

    /// The change that waits.
    pub fn waiting(&self, now: Now) -> Option<Waiting<'_>> {
        self.pending.as_ref().map(|pending| Waiting {
            id: pending.id,
            link: &pending.link,
            settings: &pending.settings,
            applied: pending.applied,
            left: pending.until.saturating_sub(now),
        })
    }

    /// How the last change ended, if there was one since the box booted.
    pub fn last(&self) -> Option<End> {
        self.last.as_ref().map(|last| last.end)
    }

    fn settle(&mut self, pending: Pending) {
        self.settled = pending.settings;
        self.last = Some(Ended {
            token: pending.token,
            end: End::Confirmed,
        });
    }

    fn end(&mut self, end: End) -> bool {
        let pending = self.pending.take();
        let was = pending.is_some();
        self.last = pending
            .map(|Pending { token, .. }| Ended { token, end })
            .or_else(|| self.last.take());
        was
    }
}

impl<S> Transaction<S> {
    /// The same with settings of another kind, as another version knows them.
    pub fn with<T>(self, settings: impl Fn(S) -> T) -> Transaction<T> {
        Transaction {
            settled: settings(self.settled),
            pending: self.pending.map(|pending| Pending {
                id: pending.id,
                link: pending.link,
                settings: settings(pending.settings),
                token: pending.token,
                applies: pending.applies,
                applied: pending.applied,
                until: pending.until,
            }),
            last: self.last,
            changes: self.changes,
        }
    }
}

impl Token {
    /// One made of random bytes.
    pub fn new(random: [u8; 16]) -> Self {
        Self(random)
    }

    /// The one that is written so.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let mut bytes = [0; 16];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
        }
        Some(Self(bytes))
    }

    /// As it is written.
    pub fn text(self) -> String {
        self.0.map(|byte| format!("{byte:02x}")).concat()
    }

    fn hash(self) -> TokenHash {
        TokenHash(Sha256::digest(self.0).into())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

impl TokenHash {
    fn is(self, other: Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl PartialEq for TokenHash {
    fn eq(&self, other: &Self) -> bool {
        self.is(*other)
    }
}

impl Eq for TokenHash {}

/// In which the answer to a proposal reaches its client, before the way to it may be gone.
pub const GRACE: Duration = Duration::from_secs(2);
/// As long as a browser needs to find the box at its new address, and its owner to press a button.
pub const USUAL_WAIT: Duration = Duration::from_secs(90);
/// A client needs some time, whoever it is.
pub const MIN_WAIT: Duration = Duration::from_secs(10);
/// So long is a box at the wrong address for at most.
pub const MAX_WAIT: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::{
        super::{config::Addressing, random::Random},
        *,
    };

    fn at(seconds: u64) -> Now {
        Duration::from_secs(1000 + seconds)
    }

    fn settings(last: u8) -> Settings {
        let fixed = Addressing::Static {
            address: [192, 168, 1, last].into(),
            prefix: 24,
            gateway: None,
            dns: Vec::new(),
        };
        Settings {
            links: [("eth0".to_owned(), fixed)].into(),
            ..Settings::default()
        }
    }

    fn token(n: u8) -> Token {
        Token::new([n; 16])
    }

    fn proposed() -> Transaction {
        let mut net = Transaction::default();
        let taken = net.propose(at(0), "eth0".to_owned(), settings(7), token(1), USUAL_WAIT);
        assert_eq!(taken.expect("nothing waits").until, at(92));
        net
    }

    #[test]
    fn a_change_holds_after_a_moment_and_for_good_once_confirmed() {
        let mut net = proposed();
        assert_eq!(
            (net.tick(at(1)), net.in_force()),
            (None, &Settings::default())
        );
        assert_eq!(net.confirm(at(1), token(1)), Err(Unconfirmed::Early));
        assert_eq!(net.deadline(), Some(at(2)));
        assert_eq!(net.tick(at(2)), Some(Turn::Applied));
        assert_eq!(
            (net.in_force(), net.settled()),
            (&settings(7), &Settings::default())
        );
        assert_eq!(net.confirm(at(50), token(2)), Err(Unconfirmed::Wrong));
        assert_eq!(net.confirm(at(91), token(1)), Ok(()));
        // An answer that was lost on its way is asked for again.
        assert_eq!(net.confirm(at(500), token(1)), Ok(()));
        assert_eq!((net.tick(at(501)), net.settled()), (None, &settings(7)));
    }

    #[test]
    fn nobody_came_back() {
        let mut net = proposed();
        assert_eq!(net.tick(at(3)), Some(Turn::Applied));
        assert_eq!(net.deadline(), Some(at(92)));
        assert_eq!(net.tick(at(91)), None);
        assert_eq!(net.tick(at(92)), Some(Turn::RolledBack));
        assert_eq!(*net.in_force(), Settings::default());
        assert_eq!(net.confirm(at(93), token(1)), Err(Unconfirmed::Over));
        assert_eq!((net.last(), net.deadline()), (Some(End::RolledBack), None));
    }

    #[test]
    fn a_confirmation_that_comes_as_the_time_is_over_is_late_even_before_the_turn() {
        let mut net = proposed();
        net.tick(at(3));
        assert_eq!(net.confirm(at(92), token(1)), Err(Unconfirmed::Over));
        assert_eq!(*net.in_force(), Settings::default());
    }

    #[test]
    fn one_change_at_a_time_and_within_bounds() {
        let mut net = proposed();
        let again = net.propose(at(12), "eth1".to_owned(), settings(8), token(2), USUAL_WAIT);
        let why = again.expect_err("one waits").to_string();
        assert!(why.contains("eth0") && why.contains("80 s more"), "{why}");
        assert!(net.undo() && !net.undo());
        for seconds in [0, 9, 601, u64::MAX / 4] {
            let wait = Duration::from_secs(seconds);
            let refused = net.propose(at(1), "eth0".to_owned(), settings(8), token(2), wait);
            assert_eq!(refused, Err(Refused::Seconds(seconds)));
        }
        assert_eq!(net.confirm(at(13), token(1)), Err(Unconfirmed::Over));
    }

    #[test]
    fn a_predecessor_can_not_make_a_change_wait_for_ever() {
        let mut net = proposed();
        let pending = net.pending.as_mut().expect("it waits");
        (pending.applies, pending.until) = (Duration::MAX, Duration::MAX);
        let net = net.resumed(at(10));
        assert_eq!(net.deadline(), Some(at(10) + GRACE));
        let waiting = net.waiting(at(10)).expect("it waits");
        assert_eq!(waiting.left, GRACE + MAX_WAIT);
    }

    #[test]
    fn who_sits_at_the_box_needs_no_token() {
        let mut net = proposed();
        assert!(net.confirm_here() && !net.confirm_here());
        assert_eq!(
            (net.settled(), net.in_force()),
            (&settings(7), &settings(7))
        );
    }

    #[test]
    fn tokens_are_written_in_hexadecimal_and_in_no_log() {
        let one = Token::new([0xab; 16]);
        assert_eq!(Token::parse(&one.text()), Some(one));
        for wrong in [
            "",
            "ab",
            &"zz".repeat(16),
            &"é".repeat(16),
            &"ab".repeat(17),
        ] {
            assert_eq!(Token::parse(wrong), None, "{wrong}");
        }
        assert_eq!(format!("{one:?}"), "Token");
        let net = proposed();
        assert!(!format!("{net:?}").contains("[1, 1, 1"), "{net:?}");
    }

    /// What a schedule has done so far, as a simple model would have it.
    struct Model {
        settled: Settings,
        waits: Option<(u8, Now, Now)>,
    }

    impl Model {
        /// At `now`, what waited for too long has been undone.
        fn pass(&mut self, now: Now) {
            self.waits = self.waits.filter(|(_, _, until)| *until > now);
        }

        fn in_force(&self, now: Now) -> Settings {
            let applied = self.waits.filter(|(_, applies, _)| *applies <= now);
            applied.map_or_else(|| self.settled.clone(), |(n, ..)| settings(n))
        }
    }

    #[test]
    fn whatever_happens_in_whatever_order_only_the_right_token_settles_anything() {
        for seed in 0..2000 {
            let mut random = Random::new(seed);
            let mut net = Transaction::new(settings(0));
            let mut model = Model {
                settled: settings(0),
                waits: None,
            };
            let mut now = at(0);
            for n in 1..60 {
                now += Duration::from_millis(random.below(30_000));
                // Some turns come late, or not before the next thing happens.
                if random.below(4) > 0 {
                    net.tick(now);
                    model.pass(now);
                    assert_eq!(
                        *net.in_force(),
                        model.in_force(now),
                        "seed {seed}, step {n}"
                    );
                }
                step(&mut net, &mut model, &mut random, now, n);
                assert_eq!(*net.settled(), model.settled, "seed {seed}, step {n}");
            }
        }
    }

    /// Does something to both.
    fn step(net: &mut Transaction, model: &mut Model, random: &mut Random, now: Now, n: u8) {
        match random.below(6) {
            0 | 1 => {
                let wait = Duration::from_secs(random.between(MIN_WAIT, MAX_WAIT).as_secs());
                let taken = net.propose(now, "eth0".to_owned(), settings(n), token(n), wait);
                assert_eq!(taken.is_ok(), model.waits.is_none());
                if taken.is_ok() {
                    model.waits = Some((n, now + GRACE, now + GRACE + wait));
                }
            }
            2 => {
                model.pass(now);
                let right = model.waits.filter(|(_, applies, _)| *applies <= now);
                let offered = right.map_or(n.wrapping_add(100), |(n, ..)| n);
                assert_eq!(net.confirm(now, token(offered)).is_ok(), right.is_some());
                if let Some((n, ..)) = right {
                    model.settled = settings(n);
                    model.waits = None;
                }
            }
            3 => {
                model.pass(now);
                assert_eq!(net.confirm(now, token(255)), Err(Unconfirmed::Wrong));
            }
            4 => {
                net.undo();
                model.waits = None;
            }
            // Executed anew: all that it knows is what was written down.
            _ => {
                let written = serde_json::to_string(net).expect("plain data");
                let read: Transaction = serde_json::from_str(&written).expect("written above");
                *net = read.resumed(now);
                assert_eq!(serde_json::to_string(net).expect("plain data"), written);
            }
        }
    }

    #[test]
    fn after_a_power_cut_there_is_what_was_settled() {
        let mut net = proposed();
        net.tick(at(5));
        let kept = net.settled().clone();
        // Boots begin at zero.
        let booted = Transaction::new(kept);
        assert_eq!(*booted.in_force(), Settings::default());
        assert_eq!(
            (booted.waiting(Duration::ZERO), booted.last()),
            (None, None)
        );
    }
}
