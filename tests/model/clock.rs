//! Stand-ins for `src/clock`: instants only, as no time passes in the model.

#[path = "../../src/clock/instant.rs"]
mod instant;

pub(crate) use instant::Instant;
