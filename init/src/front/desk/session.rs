//! Who was let in, in which browser: kept in this process's memory, for a short time.

use std::time::{Duration, Instant};

use rustix::rand::{GetRandomFlags, getrandom};
use subtle::ConstantTimeEq as _;
use supervise::control::Grant;

/// The browsers that were let in.
#[derive(Debug, Default)]
pub(super) struct Sessions(Vec<Session>);

#[derive(Debug)]
struct Session {
    id: Id,
    grant: Grant,
    /// Stands in the forms of the page that was shown last, and is good for one of them.
    token: Id,
    until: Instant,
}

/// A number that can't be guessed.
#[derive(Clone, Copy)]
pub(super) struct Id([u8; 16]);

/// It is a secret: not for logs.
impl std::fmt::Debug for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Id")
    }
}

impl Sessions {
    /// Lets a browser in.
    ///
    /// # Errors
    /// Without random numbers, as a sentence.
    pub(super) fn open(&mut self, grant: Grant, now: Instant) -> Result<Id, String> {
        self.forget_old(now);
        if self.0.len() >= MOST {
            self.0.remove(0);
        }
        let (id, token) = (Id::random()?, Id::random()?);
        let until = now + LASTS;
        self.0.push(Session {
            id,
            grant,
            token,
            until,
        });
        Ok(id)
    }

    /// What the forms of session `id` need.
    pub(super) fn token(&mut self, id: Id, now: Instant) -> Option<String> {
        self.find(id, now).map(|session| session.token.hex())
    }

    /// Takes a form's token; what the session may do, if it is the right one.
    pub(super) fn spend(&mut self, id: Id, token: &str, now: Instant) -> Option<Grant> {
        let next = Id::random().ok()?;
        let session = self.find(id, now)?;
        if !session.token.is(token) {
            return None;
        }
        session.token = next;
        Some(session.grant)
    }

    /// Ends session `id`.
    pub(super) fn close(&mut self, id: Id) {
        self.0.retain(|session| !session.id.is(&id.hex()));
    }

    fn find(&mut self, id: Id, now: Instant) -> Option<&mut Session> {
        self.forget_old(now);
        let hex = id.hex();
        self.0.iter_mut().find(|session| session.id.is(&hex))
    }

    fn forget_old(&mut self, now: Instant) {
        self.0.retain(|session| session.until > now);
    }
}

impl Id {
    /// The cookie that says it.
    pub(super) fn cookie(self) -> String {
        let (value, seconds) = (self.hex(), LASTS.as_secs());
        format!("{COOKIE}={value}; Path=/; Max-Age={seconds}; Secure; HttpOnly; SameSite=Strict")
    }

    /// What takes the cookie away again.
    pub(super) fn no_cookie() -> String {
        format!("{COOKIE}=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Strict")
    }

    /// The one that a cookie says, if it is ours.
    pub(super) fn of_cookie(cookie: &str) -> Option<Self> {
        let (name, value) = cookie.split_once('=')?;
        if name != COOKIE || value.len() != 32 || !value.is_ascii() {
            return None;
        }
        let mut bytes = [0; 16];
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&value[2 * index..2 * index + 2], 16).ok()?;
        }
        Some(Self(bytes))
    }

    fn random() -> Result<Self, String> {
        let mut bytes = [0; 16];
        match getrandom(&mut bytes, GetRandomFlags::empty()) {
            Ok(_) => Ok(Self(bytes)),
            Err(e) => Err(format!("No random numbers: {e}.")),
        }
    }

    fn hex(self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn is(self, hex: &str) -> bool {
        self.hex().as_bytes().ct_eq(hex.as_bytes()).into()
    }
}

const COOKIE: &str = "__Host-emergency";
/// As long as PID 1's grant.
const LASTS: Duration = Duration::from_secs(600);
const MOST: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_ends_by_itself() {
        let (mut sessions, now) = (Sessions::default(), Instant::now());
        let id = sessions.open(Grant([1; 16]), now).unwrap();
        assert!(sessions.token(id, now + LASTS / 2).is_some());
        assert!(sessions.token(id, now + LASTS).is_none());
    }

    #[test]
    fn a_token_is_good_once_and_for_its_own_session() {
        let (mut sessions, now) = (Sessions::default(), Instant::now());
        let one = sessions.open(Grant([1; 16]), now).unwrap();
        let other = sessions.open(Grant([2; 16]), now).unwrap();
        let token = sessions.token(one, now).unwrap();
        assert_eq!(sessions.spend(other, &token, now), None);
        assert_eq!(sessions.spend(one, &token, now), Some(Grant([1; 16])));
        assert_eq!(sessions.spend(one, &token, now), None);
    }

    #[test]
    fn the_oldest_makes_room() {
        let (mut sessions, now) = (Sessions::default(), Instant::now());
        let ids: Vec<Id> = (0..9)
            .map(|n| sessions.open(Grant([n; 16]), now).unwrap())
            .collect();
        assert!(sessions.token(ids[8 - MOST], now).is_none());
        assert!(sessions.token(ids[9 - MOST], now).is_some());
    }

    #[test]
    fn a_cookie_is_read_as_it_was_written() {
        let id = Id::random().unwrap();
        let cookie = id.cookie();
        let read = Id::of_cookie(cookie.split(';').next().unwrap()).unwrap();
        assert_eq!(read.0, id.0);
        for wrong in ["__Host-emergency=", "other=00", "__Host-emergency=é"] {
            assert!(Id::of_cookie(wrong).is_none(), "{wrong}");
        }
        let long = format!("{COOKIE}={}é{}", "0".repeat(15), "0".repeat(15));
        assert!(Id::of_cookie(&long).is_none());
    }
}
