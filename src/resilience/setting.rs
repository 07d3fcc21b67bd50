//! The error of a builder.

use std::fmt;

/// A setting that makes no sense, in words.
///
/// # Examples
///
/// ```
/// use cleanbreak::Breaker;
///
/// let error = Breaker::builder().failure_rate(1.5).build().unwrap_err();
/// assert_eq!(error.to_string(), "a rate must be above 0, and 1 at the most");
/// let error = Breaker::builder().probes(1).successes(2).build().unwrap_err();
/// let words = "the successes that close it must be from one to the number of probes";
/// assert_eq!(error.to_string(), words);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidSetting(&'static str);

impl InvalidSetting {
    /// An error unless `valid`.
    pub(super) fn unless(valid: bool, why: &'static str) -> Result<(), Self> {
        match valid {
            true => Ok(()),
            false => Err(Self(why)),
        }
    }
}

impl fmt::Display for InvalidSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for InvalidSetting {}
