//! A set of signals that may be handled.

use std::fmt;

use super::err::InterruptError;

/// The largest number that there can be; signal-hook's own bound.
pub(super) const MAX_SIGNAL: usize = 127;

/// The kernel lets nobody handle the first two. The others report a fault of the instruction that
/// runs: it would run again, and fault again, when the handler returns.
const FORBIDDEN: [i32; 8] = [
    libc::SIGKILL,
    libc::SIGSTOP,
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGILL,
    libc::SIGFPE,
    libc::SIGTRAP,
    libc::SIGSYS,
];

/// One bit for each number.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct SignalSet(u128);

impl SignalSet {
    pub(super) fn checked(signals: &[i32]) -> Result<Self, InterruptError> {
        let mut set = 0;
        for &signal in signals {
            if FORBIDDEN.contains(&signal) {
                return Err(InterruptError::Forbidden(signal));
            }
            match usize::try_from(signal) {
                Ok(1..=MAX_SIGNAL) => set |= 1_u128 << signal,
                _ => return Err(InterruptError::Unknown(signal)),
            }
        }
        match set {
            0 => Err(InterruptError::NoSignals),
            set => Ok(Self(set)),
        }
    }

    pub(super) fn contains(self, signal: i32) -> bool {
        matches!(usize::try_from(signal), Ok(n @ 1..=MAX_SIGNAL) if self.0 >> n & 1 == 1)
    }

    pub(super) fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    pub(super) fn iter(self) -> impl Iterator<Item = i32> {
        (1_i32..)
            .take(MAX_SIGNAL)
            .filter(move |n| self.0 >> n & 1 == 1)
    }
}

impl fmt::Debug for SignalSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}
