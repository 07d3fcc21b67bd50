//! An allocator that counts what each thread allocates. For a binary of its own: it is the process's.
#![allow(unsafe_code, reason = "a global allocator")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is handed to the system's allocator as it is; counting allocates nothing.
// `realloc` and `alloc_zeroed` are the trait's own, which come by here.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.try_with(|count| count.set(count.get() + 1)).ok();
        // SAFETY: the caller's promises are those that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often the calling thread allocates in `calls` calls, after `before` that do not count.
pub(crate) fn allocations(before: usize, calls: usize, mut call: impl FnMut()) -> usize {
    (0..before).for_each(|_| call());
    let start = COUNT.get();
    (0..calls).for_each(|_| call());
    COUNT.get() - start
}
