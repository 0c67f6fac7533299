//! What every target stands on: the bound on the memory that an input may cost.

use peak_alloc::PeakAlloc;

/// What `body` returns.
///
/// # Panics
/// When it ever holds more than [`MEMORY`] bytes beyond `content`, the size of the input.
pub fn bounded<T>(content: usize, body: impl FnOnce() -> T) -> T {
    ALLOCATOR.reset_peak_usage();
    let before = ALLOCATOR.current_usage();
    let result = body();
    let held = ALLOCATOR.peak_usage().saturating_sub(before);
    assert!(
        held <= content + MEMORY,
        "an input of {content} bytes cost {held} bytes of memory"
    );
    result
}

/// Bytes beyond its own size that no input may cost, at most: what the crate promises.
const MEMORY: usize = 16 << 20;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;
