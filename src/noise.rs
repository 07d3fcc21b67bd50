//! Floor 0, for tests and fuzzers: arbitrary bytes as a source of decisions.
#![allow(dead_code, reason = "with fewer features, there is less to try")]

/// Bytes that are used up; zeros after that.
pub(crate) struct Noise<'a>(pub(crate) &'a [u8]);

impl<'a> Noise<'a> {
    pub(crate) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    /// Small as often as large.
    pub(crate) fn number(&mut self) -> u64 {
        let length = usize::from(self.byte() % 9);
        let mut bytes = [0; 8];
        bytes[..length].fill_with(|| self.byte());
        u64::from_le_bytes(bytes)
    }

    pub(crate) fn one_in(&mut self, many: u8) -> bool {
        self.byte() % many == 1
    }

    /// Up to `most` bytes.
    pub(crate) fn slice(&mut self, most: usize) -> &'a [u8] {
        let length = usize::from(self.byte()) % (most + 1);
        let (slice, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        slice
    }
}

/// How a property test is run: `CLEANBREAK_CASES` is how many cases it tries, `many` without that;
/// from `CLEANBREAK_SEED`, or from a seed that a failure shows.
#[cfg(test)]
pub(crate) fn cases(many: u32) -> proptest::test_runner::Config {
    use proptest::test_runner::{Config, RngSeed};
    let given = |name| std::env::var(name).ok();
    let seed = given("CLEANBREAK_SEED").map_or_else(|| fastrand::u64(..), |it| it.parse().unwrap());
    println!("CLEANBREAK_SEED={seed}");
    Config {
        cases: given("CLEANBREAK_CASES").map_or(many, |it| it.parse().unwrap()),
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        ..Config::default()
    }
}
