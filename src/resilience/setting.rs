//! The error of a builder.

use std::fmt;

/// A setting that makes no sense, in words.
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
