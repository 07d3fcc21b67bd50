//! Loops on blocking OS threads that stop when they are told.

#![cfg_attr(cleanbreak_loom, allow(dead_code, unused_imports, unreachable_pub))]

mod sync;

#[cfg(not(cleanbreak_loom))]
pub mod channel;

#[cfg(all(cleanbreak_loom, test))]
mod model;
