//! The protocol files under the model checker.

mod cancel;
