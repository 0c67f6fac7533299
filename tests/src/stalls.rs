//! The ways in which the manager's pool is wedged, natively and in the booted box.

/// Every way to wedge a Tokio pool that is known (a, b1 to b3, c1 to c4, d, e, f of the notes on
/// stalls), and being stopped.
pub const KINDS: [&str; 17] = [
    "condvar",
    "mutex",
    "sleep",
    "read",
    "driver-owner",
    "driver-timer",
    "attrition",
    "waker",
    "lifo",
    "pool-full",
    "pool-full-in-place",
    "in-place-storm",
    "busy-all",
    "busy-one",
    "threads",
    "stderr",
    "stop",
];
