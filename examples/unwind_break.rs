//! Unwinding as a break: `panic` and `catch_unwind`. It works, within bounds; this shows them. For
//! what it costs beside a labelled break, see `benches/`.
//!
//! What it cannot do: cross to another thread, pass where `panic = "abort"` is set, or be told from
//! a bug without a payload type of its own. What it should not do: run the panic hook, which prints
//! (`resume_unwind` goes around it).

use std::panic::{AssertUnwindSafe, catch_unwind, panic_any, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::ensure;
use cleanbreak::{CancelToken, scope};
use crossbeam_channel::bounded;

/// The break's own payload, so that a bug is not taken for it.
struct Leave<T>(T);

/// Runs `body`, from any depth of which [`leave`] leaves with a value. Other panics go on.
fn leavable<T: Send + 'static>(body: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|payload| match payload.downcast() {
        Ok(leave) => {
            let Leave(value) = *leave;
            value
        }
        Err(bug) => resume_unwind(bug),
    })
}

fn leave<T: Send + 'static>(value: T) -> ! {
    resume_unwind(Box::new(Leave(value))) // no hook, no message
}

fn descend(depth: u32, dropped: &AtomicUsize) -> u32 {
    scopeguard::defer!({
        dropped.fetch_add(1, Ordering::SeqCst);
    });
    match depth {
        0 => leave(717_u32),
        _ => descend(depth - 1, dropped) + 1,
    }
}

fn main() -> anyhow::Result<()> {
    static HOOKED: AtomicUsize = AtomicUsize::new(0);
    std::panic::set_hook(Box::new(|_| {
        HOOKED.fetch_add(1, Ordering::SeqCst);
    }));
    let hooked = || HOOKED.load(Ordering::SeqCst);

    let dropped = AtomicUsize::new(0);
    let value = leavable(|| descend(99, &dropped));
    println!("left 100 frames with {value}");
    ensure!(
        value == 717 && dropped.into_inner() == 100,
        "guards did not run"
    );
    ensure!(hooked() == 0, "resume_unwind ran the hook");

    // `panic_any` runs the hook: a break that way prints a message and a backtrace.
    ensure!(leavable(|| -> u32 { panic_any(Leave(1_u32)) }) == 1);
    ensure!(hooked() == 1);

    // A bug is not taken for a break.
    let bug = catch_unwind(|| leavable(|| -> u32 { panic!("a bug") }));
    ensure!(bug.unwrap_err().is::<&str>());

    // It ends at the thread's edge. The group sees a panic, and tells it as one.
    let crossed = catch_unwind(AssertUnwindSafe(|| {
        leavable(|| {
            let (tx, rx) = bounded::<()>(0);
            let plain = std::thread::Builder::new();
            #[allow(clippy::disallowed_methods, reason = "shows what a plain thread does")]
            let plain = plain.spawn(move || -> () {
                let _end = tx;
                leave(2_u32)
            });
            rx.recv().unwrap_err();
            // The caller was not left: it runs on, and finds the panic only if it joins.
            let lost = plain.ok().and_then(|plain| plain.join().err());
            if lost.is_some_and(|payload| payload.is::<Leave<u32>>()) {
                3_u32
            } else {
                4
            }
        })
    }));
    ensure!(crossed.ok() == Some(3), "it crossed a thread by itself");
    let grouped = leavable(|| {
        let result = scope(&CancelToken::new(), |group| {
            group.spawn(|_| -> anyhow::Result<()> { leave(5_u32) })?;
            group.spawn(|token| Ok(token.wait()))?; // stopped by it all the same
            Ok(())
        });
        result.map_or(0_u32, |()| 0)
    });
    ensure!(grouped == 5, "a group resumes the payload in its caller");
    println!("stopped at the thread's edge; a group carries it on after the join");
    Ok(())
}
