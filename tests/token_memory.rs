//! T8: what is dropped leaves no memory behind in what lives on.
//!
//! A binary of its own, because it counts every allocation of the process; and a single test, so
//! that nothing else allocates.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicIsize, Ordering::Relaxed};
use std::time::Duration;

use cleanbreak::{CancelToken, Clock, Ticker};

struct Counting;

static BYTES: AtomicIsize = AtomicIsize::new(0);

#[allow(unsafe_code, reason = "a counting allocator")]
// SAFETY: hands every call on to the system's allocator unchanged; `realloc` and `alloc_zeroed` are
// the trait's own, which come by here.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size().cast_signed(), Relaxed);
        // SAFETY: the caller's promises, handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size().cast_signed(), Relaxed);
        // SAFETY: the caller's promises, handed on.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The bytes that are held at the end and were not after a warm-up of a hundredth.
fn held_after(times: usize, mut body: impl FnMut()) -> isize {
    (0..times / 100).for_each(|_| body());
    let before = BYTES.load(Relaxed);
    (0..times).for_each(|_| body());
    BYTES.load(Relaxed) - before
}

fn flat(what: &str, times: usize, body: impl FnMut()) {
    let held = held_after(times, body);
    assert!(
        held <= 1024,
        "{what}: {held} bytes held after {times} times"
    );
}

#[test]
fn what_is_dropped_leaves_nothing_behind() {
    const MILLION: usize = 1_000_000;
    const HOUR: Duration = Duration::from_secs(3600);
    let root = CancelToken::new();

    flat("children", MILLION, || drop(root.child()));
    flat("grandchildren", 100_000, || drop(root.child().child()));
    flat("children that were cancelled", 100_000, || {
        root.child().cancel();
    });
    flat("children that were waited on", 100_000, || {
        drop(root.child().done().clone());
    });
    flat("hooks", MILLION, || drop(root.on_cancel(|| ())));
    flat("unregistered hooks", 100_000, || {
        assert!(root.on_cancel(|| ()).try_unregister());
    });
    flat("hooks of dropped children", 100_000, || {
        root.child().on_cancel(|| ()).detach();
    });
    let other = CancelToken::new();
    flat("linked tokens", 100_000, || {
        drop(CancelToken::linked(&[&root, &other, &root]));
    });
    flat("crowds", 10, || {
        drop((0..100_000).map(|_| root.child()).collect::<Vec<_>>());
    });
    // One of a crowd stays, and the places of the others are used again.
    let (mut stays, mut round) = (Vec::new(), 0);
    flat(
        "crowds that leave one behind, which goes with the next",
        100,
        || {
            let mut crowd: Vec<_> = (0..1000).map(|_| root.child()).collect();
            stays = vec![crowd.swap_remove(round % 1000)];
            round += 7;
        },
    );
    drop(stays);

    let manual = Clock::manual();
    let isolated = Clock::isolated();
    let _lease = isolated.keep_timer().unwrap();
    for clock in [&*manual, &isolated] {
        let root = CancelToken::with_clock(clock);
        flat("timeouts", MILLION, || drop(root.child_timeout(HOUR)));
        flat("timeouts that were cancelled", 100_000, || {
            root.child_timeout(HOUR).cancel();
        });
        flat("sleeps", 10_000, || {
            assert!(!root.wait_timeout(Duration::ZERO));
        });
        flat("tickers", 100_000, || {
            drop(Ticker::builder(HOUR).clock(clock).start().unwrap());
        });
        let ticker = Ticker::builder(HOUR).clock(clock).start().unwrap();
        flat("resets", 100_000, || ticker.reset(HOUR).unwrap());
    }
    assert_eq!(manual.timers(), 0);
    let root = CancelToken::with_clock(&manual);
    flat("timeouts that have fired", 100_000, || {
        let token = root.child_timeout(Duration::from_nanos(1));
        manual.advance(Duration::from_nanos(1));
        assert!(token.is_cancelled());
    });

    // The counter-proof: the measure sees a leak of one pointer each.
    let mut leak = Vec::new();
    let held = held_after(10_000, || leak.push(root.child()));
    assert!(
        held > 10_000 * 8,
        "a planted leak was not seen: {held} bytes"
    );
    let held = held_after(10_000, || root.on_cancel(|| ()).detach());
    assert!(
        held > 10_000 * 8,
        "a planted leak was not seen: {held} bytes"
    );
}
