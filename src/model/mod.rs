//! The protocol files under the model checker.
