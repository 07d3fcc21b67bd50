//! Help shared by the tests.
#![allow(
    clippy::disallowed_methods,
    reason = "the tests are outside the library's doors"
)]
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Long enough for any machine; only a test that has failed waits it out.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A random generator whose seed is printed, and taken from `CLEANBREAK_SEED` if that is set.
pub fn rng(test: &str) -> fastrand::Rng {
    let given = std::env::var("CLEANBREAK_SEED").ok();
    let seed = given.map_or_else(|| fastrand::u64(..), |seed| seed.parse().expect("a number"));
    eprintln!("{test}: CLEANBREAK_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}

/// Some processor time to shift the threads of a race against each other. Not a synchronisation.
pub fn dither(rng: &mut fastrand::Rng, most: u32) {
    for _ in 0..rng.u32(0..=most) {
        std::hint::spin_loop();
    }
}

/// Runs `body` on a thread and hands back what it returns; fails if it hangs.
pub fn finishes<R: Send + 'static>(body: impl FnOnce() -> R + Send + 'static) -> R {
    let (done, result) = mpsc::sync_channel(1);
    let worker = thread::spawn(move || done.send(body()).expect("the test waits"));
    match result.recv_timeout(PATIENCE) {
        Ok(result) => {
            worker.join().expect("it has sent its result");
            result
        }
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs"),
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            std::panic::resume_unwind(worker.join().expect_err("it sent no result"))
        }
    }
}

/// Waits, for a while, until `condition` holds; for what happens a moment after what can be waited
/// for, such as the end of a thread that nobody joins.
pub fn eventually(what: &str, condition: impl Fn() -> bool) {
    let start = std::time::Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        thread::yield_now();
    }
}
