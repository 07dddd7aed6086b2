//! Turning the errors of drivers and of the system into one that says what the harness was doing.

use kongferry::error::{Error, Kind, Result};

/// Adds what was being done to a failure.
pub(crate) trait Context<T> {
    /// `message` says what failed; the error becomes its cause.
    fn context(self, message: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<Box<dyn std::error::Error + Send + Sync>>> Context<T> for std::result::Result<T, E> {
    fn context(self, message: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| Error::new(Kind::Io, message()).source(error))
    }
}
