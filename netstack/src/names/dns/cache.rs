//! Answers that are kept: bounded in number and bytes, each for its time, and a while longer for
//! when no upstream can be asked (RFC 8767).

use std::{collections::HashMap, time::Duration};

use slab::Slab;

use super::{
    answer::{Age, Answer},
    wire::Query,
};
use crate::net::clock::Now;

/// What an answer is kept under: all of the question that it depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key(Box<[u8]>);

impl Key {
    /// Of a question: its name in lower case, type, class, and what else is wanted.
    pub(super) fn of(query: &Query) -> Self {
        let question = &query.question;
        let mut key = Vec::with_capacity(question.name.len() + 5);
        key.extend(question.name.iter().map(u8::to_ascii_lowercase));
        key.extend(question.kind.to_be_bytes());
        key.extend(question.class.to_be_bytes());
        let unchecked = query.flags & super::wire::CHECKING_DISABLED != 0;
        key.push(u8::from(query.is_signed()) << 1 | u8::from(unchecked));
        Self(key.into_boxed_slice())
    }

    /// The name in lower case, on the wire.
    pub(super) fn name(&self) -> &[u8] {
        &self.0[..self.0.len() - 5]
    }
}

/// The answers.
#[derive(Debug)]
pub(super) struct Cache {
    places: HashMap<Key, usize>,
    entries: Slab<Entry>,
    /// Where the next one to give way is looked for.
    hand: usize,
    bytes: usize,
    limits: Limits,
}

/// The most that is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) entries: usize,
    pub(super) bytes: usize,
}

#[derive(Debug)]
struct Entry {
    key: Key,
    answer: Answer,
    since: Now,
    until: Now,
    /// Until then it is given although its time is over, and nobody is asked.
    stale_until: Now,
    /// Whether it was of use since the hand last passed.
    used: bool,
}

/// An answer that was found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found<'c> {
    pub(super) answer: &'c Answer,
    pub(super) age: Age,
    /// Whether somebody should be asked beside it.
    pub(super) renew: bool,
}

impl Cache {
    /// An empty one.
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            places: HashMap::new(),
            entries: Slab::new(),
            hand: 0,
            bytes: 0,
            limits,
        }
    }

    /// What is kept under `key`, fresh or stale.
    pub(super) fn find(&mut self, now: Now, key: &Key) -> Option<Found<'_>> {
        let entry = &mut self.entries[*self.places.get(key)?];
        if now >= entry.until + STALE_FOR {
            return None;
        }
        entry.used = true;
        let is_fresh = now < entry.until;
        if !is_fresh && !entry.answer.is_answer() {
            return None;
        }
        Some(Found {
            answer: &entry.answer,
            age: match is_fresh {
                true => Age::Fresh(now.saturating_sub(entry.since)),
                false => Age::Stale,
            },
            renew: !is_fresh && now >= entry.stale_until,
        })
    }

    /// Keeps an answer, if it may be kept.
    pub(super) fn put(&mut self, now: Now, key: Key, answer: Answer) {
        let Some(lifetime) = answer.lifetime() else {
            return;
        };
        // What can't be found out now does not take the place of what was known.
        let known = self.places.get(&key).map(|place| &self.entries[*place]);
        let keeps = known.is_some_and(|known| {
            known.answer.is_answer() && now < known.until + STALE_FOR && !answer.is_answer()
        });
        if keeps {
            return self.hold(now, &key);
        }
        self.forget(&key);
        let weight = weight(&key, &answer);
        if weight > self.limits.bytes / 8 {
            return;
        }
        while self.entries.len() >= self.limits.entries || self.bytes + weight > self.limits.bytes {
            self.make_room();
        }
        self.bytes += weight;
        let entry = Entry {
            key: key.clone(),
            answer,
            since: now,
            until: now + lifetime,
            stale_until: Now::ZERO,
            used: false,
        };
        self.places.insert(key, self.entries.insert(entry));
    }

    /// Nobody could be asked: what is stale is given for a while without trying again.
    pub(super) fn hold(&mut self, now: Now, key: &Key) {
        if let Some(place) = self.places.get(key) {
            self.entries[*place].stale_until = now + STALE_HELD;
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Self::new(self.limits);
    }

    /// How many answers there are, and their bytes.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.entries.len(), self.bytes)
    }

    fn forget(&mut self, key: &Key) {
        if let Some(place) = self.places.remove(key) {
            let entry = self.entries.remove(place);
            self.bytes -= weight(&entry.key, &entry.answer);
        }
    }

    /// The first that was of no use since the hand last passed gives way.
    fn make_room(&mut self) {
        loop {
            self.hand = (self.hand + 1) % self.entries.capacity().max(1);
            match self.entries.get_mut(self.hand) {
                Some(entry) if entry.used => entry.used = false,
                Some(entry) => {
                    let key = entry.key.clone();
                    return self.forget(&key);
                }
                None => {}
            }
        }
    }
}

fn weight(key: &Key, answer: &Answer) -> usize {
    // The key is in the map and in the entry.
    2 * key.0.len() + answer.weight() + size_of::<Entry>() + 2 * size_of::<Key>()
}

/// For a day, an old answer is better than none (RFC 8767, 5).
const STALE_FOR: Duration = Duration::from_secs(86_400);
/// RFC 8767, 5: the failure recheck timer.
const STALE_HELD: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::{
        super::{
            answer::tests::{query, said},
            wire::{A, NO_ERROR, Section},
        },
        *,
    };
    use crate::net::random::Random;

    const LIMITS: Limits = Limits {
        entries: 100,
        bytes: 60_000,
    };

    fn answer(name: &str, ttl: u32, size: usize) -> (Key, Answer) {
        let query = query(name);
        let message = said(
            &query,
            NO_ERROR,
            &[(Section::Answer, A, ttl, &vec![7; size])],
        );
        (Key::of(&query), Answer::read(&message).unwrap())
    }

    fn seconds(n: u64) -> Now {
        Duration::from_secs(1000 + n)
    }

    #[test]
    fn an_answer_is_fresh_then_stale_then_gone() {
        let mut cache = Cache::new(LIMITS);
        let (key, kept) = answer("a.example", 60, 4);
        cache.put(seconds(0), key.clone(), kept);
        let (upper, _) = answer("A.EXAMPLE", 60, 4);
        let found = cache.find(seconds(59), &upper).unwrap();
        assert_eq!(found.age, Age::Fresh(Duration::from_secs(59)));
        let found = cache.find(seconds(60), &key).unwrap();
        assert!(found.age == Age::Stale && found.renew);
        cache.hold(seconds(60), &key);
        assert!(!cache.find(seconds(89), &key).unwrap().renew);
        assert!(cache.find(seconds(90), &key).unwrap().renew);
        assert!(cache.find(seconds(60 + 86_400), &key).is_none());
    }

    #[test]
    fn a_failure_is_kept_for_a_moment_and_takes_no_answers_place() {
        let mut cache = Cache::new(LIMITS);
        let (key, kept) = answer("a.example", 60, 4);
        let failure = Answer::failure(&query("a.example").question);
        cache.put(seconds(0), key.clone(), failure.clone());
        assert!(cache.find(seconds(1), &key).is_some());
        assert!(cache.find(seconds(5), &key).is_none());
        cache.put(seconds(5), key.clone(), kept.clone());
        cache.put(seconds(70), key.clone(), failure);
        let found = cache.find(seconds(71), &key).unwrap();
        assert!(*found.answer == kept && !found.renew, "and is held");
    }

    #[test]
    fn its_bounds_hold_and_what_is_used_stays() {
        let mut cache = Cache::new(LIMITS);
        let mut random = Random::new(7);
        let (key, kept) = answer("popular.example", 60, 4);
        cache.put(seconds(0), key.clone(), kept);
        for n in 0..20_000 {
            let size = random.below(2000) as usize;
            let (other, kept) = answer(&format!("n{}.example", random.below(1000)), 60, size);
            cache.put(seconds(0), other, kept);
            let (entries, bytes) = cache.size();
            assert!(entries <= LIMITS.entries && bytes <= LIMITS.bytes);
            assert!(cache.find(seconds(0), &key).is_some(), "{n}");
        }
        let (huge, kept) = answer("huge.example", 60, 20_000);
        cache.put(seconds(0), huge.clone(), kept);
        assert!(cache.find(seconds(0), &huge).is_none());
        cache.clear();
        assert_eq!(cache.size(), (0, 0));
    }
}
