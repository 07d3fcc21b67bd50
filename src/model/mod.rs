//! The protocol files under the model checker.
//!
//! Built only with `--cfg cleanbreak_loom`. Each protocol is included by path, beside the files it
//! names with `super::`, and nothing else of the crate is compiled: what loom cannot see into
//! (crossbeam-channel, time, OS threads) stays outside.

mod channel;
