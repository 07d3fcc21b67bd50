//! The protocol files under the model checker: every interleaving of small scenarios.
//!
//! Each protocol is included by path, beside the files that it names with `super::`, and finds in
//! `crate::sync` the model's primitives instead of the real ones. What loom cannot see into
//! (crossbeam-channel, time, OS threads) stays outside or is modelled in `sync`.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "the scenarios use a part of each file"
)]

mod breaker;
mod budget;
mod cancel;
mod channel;
mod clock;
#[path = "../../src/contain.rs"]
mod contain;
mod group;
mod permits;
mod pool;
#[path = "../../src/resilience/sliced.rs"]
mod sliced;
mod sync;
mod threads;
