//! What each worker of the pool does: its thread, and how often it went idle or came back from it.
//! A count that stays the same and is even is a worker that has been in one task all the while.

use std::{
    cell::Cell,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

use super::WORKERS;

/// One worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Worker {
    /// Its thread, as this name space counts.
    pub tid: u32,
    /// How often it went idle or came back: odd while it is idle.
    pub turns: u64,
}

/// A thread of the pool has started. (`Builder::on_thread_start`)
pub(super) fn started() {
    let thread = std::thread::current();
    let Some(number) = thread.name().and_then(|name| name.strip_prefix(NAME)) else {
        return;
    };
    if let Ok(seat) = number.parse::<usize>()
        && seat < WORKERS
    {
        let tid = rustix::thread::gettid().as_raw_nonzero().get();
        SEATS[seat]
            .tid
            .store(tid.cast_unsigned(), Ordering::Relaxed);
        SEAT.set(Some(seat));
    }
}

/// A thread of the pool goes idle, or has come back. (`Builder::on_thread_park`, `…_unpark`)
pub(super) fn turned() {
    if let Some(seat) = SEAT.get() {
        SEATS[seat].turns.fetch_add(1, Ordering::Relaxed);
    }
}

/// All of them, now.
pub(super) fn all() -> [Worker; WORKERS] {
    std::array::from_fn(|seat| Worker {
        tid: SEATS[seat].tid.load(Ordering::Relaxed),
        turns: SEATS[seat].turns.load(Ordering::Relaxed),
    })
}

struct Seat {
    tid: AtomicU32,
    turns: AtomicU64,
}

static SEATS: [Seat; WORKERS] = [const {
    Seat {
        tid: AtomicU32::new(0),
        turns: AtomicU64::new(0),
    }
}; WORKERS];

thread_local! {
    static SEAT: Cell<Option<usize>> = const { Cell::new(None) };
}

/// How the workers' threads are called, before their numbers.
pub(super) const NAME: &str = "worker-";
