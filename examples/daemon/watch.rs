//! The daemon's work: how many files wait in the spool, and whether those are too many.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use cleanbreak::CancelToken;
use metrics::{
    Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use parking_lot::Mutex;

use super::config::Config;

const FILES: &str = "daemon_spool_files";
const BYTES: &str = "daemon_spool_bytes";
const HEALTHY: &str = "daemon_healthy";
const CHECKS: &str = "daemon_checks_total";
const DURATION: &str = "daemon_check_duration_seconds";

pub(crate) struct Watch {
    state: Mutex<State>,
}

struct State {
    config: Config,
    health: Health,
}

/// What the last check found.
#[derive(Clone, Debug)]
pub(crate) enum Health {
    /// Nobody has looked yet.
    Unknown,
    Good(Spool),
    TooMany(Spool, u64),
    Unreadable(String),
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spool {
    files: u64,
    bytes: u64,
}

impl Watch {
    pub(crate) fn new(config: Config) -> Self {
        describe_gauge!(FILES, "Files in the spool at the last check.");
        describe_gauge!(BYTES, Unit::Bytes, "Their length in sum.");
        describe_gauge!(
            HEALTHY,
            "Whether the last check found all in order: 1 or 0."
        );
        describe_counter!(CHECKS, "Checks so far, by outcome.");
        describe_histogram!(DURATION, Unit::Seconds, "How long a check took.");
        let health = Health::Unknown;
        let state = Mutex::new(State { config, health });
        Self { state }
    }

    pub(crate) fn config(&self) -> Config {
        self.state.lock().config.clone()
    }

    pub(crate) fn reconfigure(&self, config: Config) {
        self.state.lock().config = config;
    }

    pub(crate) fn health(&self) -> Health {
        self.state.lock().health.clone()
    }

    /// Looks into the spool, as long as the token allows: not under the lock, as it may take long.
    pub(crate) fn check(&self, token: &CancelToken) -> Health {
        let config = self.config();
        let began = token.clock().now();
        let health = match count(&config.spool, token) {
            // Told to stop: half a count says nothing.
            Ok(None) => return self.health(),
            Ok(Some(spool)) if spool.files <= config.max_files => Health::Good(spool),
            Ok(Some(spool)) => Health::TooMany(spool, config.max_files),
            Err(error) => Health::Unreadable(format!("{}: {error}", config.spool.display())),
        };
        histogram!(DURATION).record(token.clock().now().duration_since(began));
        health.publish();
        self.state.lock().health = health.clone();
        health
    }
}

/// What is in the folder itself; `None` if it was told to stop.
fn count(folder: &Path, token: &CancelToken) -> io::Result<Option<Spool>> {
    let mut spool = Spool::default();
    for entry in fs::read_dir(folder)? {
        if token.is_cancelled() {
            return Ok(None);
        }
        // A file that was fetched in this moment is none.
        if let Ok(found) = entry?.metadata()
            && found.is_file()
        {
            spool.files += 1;
            spool.bytes += found.len();
        }
    }
    Ok(Some(spool))
}

impl Health {
    pub(crate) fn is_good(&self) -> bool {
        matches!(self, Self::Good(_))
    }

    fn publish(&self) {
        let outcome = if self.is_good() {
            "healthy"
        } else {
            "unhealthy"
        };
        counter!(CHECKS, "outcome" => outcome).increment(1);
        gauge!(HEALTHY).set(f64::from(u8::from(self.is_good())));
        if let Self::Good(spool) | Self::TooMany(spool, _) = self {
            gauge!(FILES).set(spool.files as f64);
            gauge!(BYTES).set(spool.bytes as f64);
        }
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => write!(f, "not checked yet"),
            Self::Good(Spool { files, bytes }) => {
                write!(f, "healthy: {files} files, {bytes} bytes")
            }
            Self::TooMany(Spool { files, .. }, most) => {
                write!(f, "unhealthy: {files} files wait, more than {most}")
            }
            Self::Unreadable(problem) => write!(f, "unhealthy: {problem}"),
        }
    }
}
