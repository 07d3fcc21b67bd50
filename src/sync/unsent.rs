//! How a blocking send ends without having sent.

/// Why a blocking send gave up; the value comes back.
pub(crate) enum Unsent<T> {
    /// The gate opened, or the channel has no receiver.
    Closed(T),
    /// The caller's `stop` fired.
    Stopped(T),
    /// The deadline passed.
    TimedOut(T),
}
