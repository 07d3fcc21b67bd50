//! An allocator that counts what each thread allocates, and on demand the bytes that are held. For a
//! binary of its own: it is the process's.
#![allow(unsafe_code, reason = "a global allocator")]
#![allow(dead_code, reason = "each binary uses a part of it")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicIsize, Ordering::Relaxed};

struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

/// Whether bytes are counted: not always, as one counter for all threads is no small thing.
static WATCHED: AtomicBool = AtomicBool::new(false);
static HELD: AtomicIsize = AtomicIsize::new(0);

fn took(bytes: isize) {
    COUNT.try_with(|count| count.set(count.get() + 1)).ok();
    if WATCHED.load(Relaxed) {
        HELD.fetch_add(bytes, Relaxed);
    }
}

// SAFETY: every call is handed to the system's allocator as it is; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        took(layout.size().cast_signed());
        // SAFETY: the caller's promises are those that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        took(layout.size().cast_signed());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        took(new_size.cast_signed() - layout.size().cast_signed());
        // SAFETY: as above.
        unsafe { System.realloc(ptr, layout, new_size) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        if WATCHED.load(Relaxed) {
            HELD.fetch_sub(layout.size().cast_signed(), Relaxed);
        }
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

/// What `make` made, and by how many bytes more the process holds after it.
pub(crate) fn held<T>(make: impl FnOnce() -> T) -> (T, isize) {
    let before = HELD.load(Relaxed);
    WATCHED.store(true, Relaxed);
    let made = make();
    WATCHED.store(false, Relaxed);
    (made, HELD.load(Relaxed) - before)
}
