//! The command line.

use std::time::Duration;

use anyhow::{Context, bail, ensure};

/// Workers that share the passes.
pub(crate) const WORKERS: u64 = 4;

pub(crate) struct Options {
    /// Of the hot loop, by all workers together.
    pub(crate) passes: u64,
    /// Every so many passes of a worker there is a span.
    pub(crate) every: u64,
    /// For the last export.
    pub(crate) flush: Duration,
    /// Spawns outside of the span, so that the check of the tree has something to find.
    pub(crate) unparented: bool,
}

impl Options {
    pub(crate) fn from_arguments(
        mut arguments: impl Iterator<Item = String>,
    ) -> anyhow::Result<Self> {
        let (mut passes, mut every, mut flush) = (1_000_000_u64, 50_000, 2000);
        let mut unparented = false;
        while let Some(option) = arguments.next() {
            let value = match option.as_str() {
                "--passes" => &mut passes,
                "--every" => &mut every,
                "--flush" => &mut flush,
                "--unparented" => {
                    unparented = true;
                    continue;
                }
                _ => bail!("unknown option {option:?}"),
            };
            let given = arguments.next();
            let given = given.with_context(|| format!("{option} needs a number"))?;
            *value = given
                .parse()
                .with_context(|| format!("{option} {given:?}: not a number"))?;
        }
        ensure!(
            passes > 0 && passes.is_multiple_of(WORKERS),
            "--passes {passes}: must be a multiple of {WORKERS}, the number of workers"
        );
        ensure!(every > 0, "--every 0: there would be no breakpoints");
        let flush = Duration::from_millis(flush);
        Ok(Self {
            passes,
            every,
            flush,
            unparented,
        })
    }

    pub(crate) fn passes_per_worker(&self) -> u64 {
        self.passes / WORKERS
    }

    /// Whether a worker hands a part of this pass to the pool: every second breakpoint.
    pub(crate) fn is_checkpoint(&self, pass: u64) -> bool {
        pass.is_multiple_of(self.every.saturating_mul(2))
    }
}
