//! Memory for the moment when there is none: a piece that PID 1 holds and never uses, given back
//! when an allocation fails, which then succeeds. Without it every failed allocation would end in a
//! re-execution, which works as long as there is memory for that.
//!
//! The other roles share the allocator and hold no reserve: their end is an ordinary replacement.
#![allow(unsafe_code)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    ptr,
    sync::atomic::{AtomicBool, AtomicPtr, Ordering},
};

/// The system's allocator, and the reserve behind it.
#[derive(Debug)]
pub struct Allocator;

// SAFETY: each function hands its arguments on to the system's allocator unchanged, so that what
// its caller promises and what it promises hold as they are; an allocation that failed took nothing,
// and may be asked for once more.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise about `layout`.
        again_if_short(|| unsafe { System.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise about `layout`.
        again_if_short(|| unsafe { System.alloc_zeroed(layout) })
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promises; a failed attempt leaves `old` as it is.
        again_if_short(|| unsafe { System.realloc(old, layout, size) })
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises.
        unsafe { System.dealloc(old, layout) };
    }
}

/// Takes the reserve, if there is memory for it.
pub fn take() {
    if !RESERVE.load(Ordering::Acquire).is_null() {
        return;
    }
    // SAFETY: the layout's size is not zero.
    let taken = unsafe { System.alloc(LAYOUT) };
    if taken.is_null() {
        return;
    }
    // Pages that were never written are no memory yet.
    // SAFETY: all of it was just allocated.
    unsafe { ptr::write_bytes(taken, 0xa5, LAYOUT.size()) };
    give(RESERVE.swap(taken, Ordering::AcqRel));
}

/// Takes the reserve again after it was needed. Whether that is the news.
pub fn take_again() -> bool {
    if !NEEDED.load(Ordering::Acquire) {
        return false;
    }
    take();
    let taken = !RESERVE.load(Ordering::Acquire).is_null();
    if taken {
        NEEDED.store(false, Ordering::Release);
    }
    taken
}

fn again_if_short(attempt: impl Fn() -> *mut u8) -> *mut u8 {
    let got = attempt();
    if got.is_null() && give(RESERVE.swap(ptr::null_mut(), Ordering::AcqRel)) {
        NEEDED.store(true, Ordering::Release);
        return attempt();
    }
    got
}

fn give(reserve: *mut u8) -> bool {
    if reserve.is_null() {
        return false;
    }
    // SAFETY: it is from `take`, with this layout, and whoever swapped it out alone has it.
    unsafe { System.dealloc(reserve, LAYOUT) };
    true
}

static RESERVE: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());
static NEEDED: AtomicBool = AtomicBool::new(false);

/// Enough for a role's start and a state's publication. Large enough to be a mapping of its own, so
/// that giving it back gives address space too.
const LAYOUT: Layout = match Layout::from_size_align(256 * 1024, 4096) {
    Ok(layout) => layout,
    Err(_) => panic!("a power of two"),
};

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn an_allocation_that_fails_is_tried_again_with_the_reserve_once() {
        take();
        let attempts = Cell::new(0);
        let fails_first = || {
            attempts.set(attempts.get() + 1);
            let got = [ptr::null_mut(), ptr::dangling_mut()];
            got[usize::from(attempts.get() > 1)]
        };
        assert!(!again_if_short(fails_first).is_null());
        assert_eq!(attempts.get(), 2);
        assert!(
            again_if_short(ptr::null_mut).is_null(),
            "it was given already"
        );
        assert!(take_again());
        assert!(!take_again(), "told twice");
    }
}
