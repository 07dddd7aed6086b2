//! A provider's failures, classified by what the engine does about them.

use std::fmt;
use std::time::Duration;

use crate::error::{Error, Kind};

/// A `Result` with [`DnsError`].
pub type DnsResult<T> = Result<T, DnsError>;

/// A provider's failure. No text of it contains a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsError {
    pub kind: DnsErrorKind,
    /// The provider's name, as in `cutover.toml`.
    pub provider: &'static str,
    /// A sentence without a full stop at its end.
    pub message: String,
    /// The provider's own message, if it sent one.
    pub answer: Option<String>,
}

/// Each kind says whether the request was carried out, and whether to send it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DnsErrorKind {
    /// The credentials are wrong or lack a privilege. Nothing was written; a retry fails too.
    Auth,
    /// The zone, or another item that the configuration names, does not exist. Nothing was written.
    NotFound,
    /// The provider rejects the request. Nothing was written; a retry fails too.
    Invalid,
    /// This provider, as it is configured, has no such feature. Nothing was sent.
    Unsupported,
    /// Another client changed the records, or they have values of neither side. Nothing was written: read again.
    Conflict,
    /// The provider's rate limit was exceeded. Nothing was written; wait for `retry_after`, or back off.
    Throttled {
        /// The wait that the provider asks for.
        retry_after: Option<Duration>,
    },
    /// A connection or a server failed.
    Transient {
        /// Whether the request may have been carried out. If so, read and ask
        /// [`Change::outcome`](super::Change::outcome) before a retry.
        may_be_applied: bool,
    },
}

impl DnsError {
    pub fn new(provider: &'static str, kind: DnsErrorKind, message: impl Into<String>) -> Self {
        DnsError { kind, provider, message: message.into(), answer: None }
    }

    /// A failure of a request that writes nothing; a retry may succeed.
    pub(super) fn transient(provider: &'static str, message: impl Into<String>) -> Self {
        DnsError::new(provider, DnsErrorKind::Transient { may_be_applied: false }, message)
    }

    /// Adds the provider's own message, truncated to a readable length.
    #[must_use]
    pub(super) fn with_answer(mut self, answer: impl AsRef<str>) -> Self {
        const LIMIT: usize = 600;
        let text = answer.as_ref().trim();
        if !text.is_empty() {
            let cut = text.floor_char_boundary(LIMIT);
            let ellipsis = if cut < text.len() { "…" } else { "" };
            self.answer = Some(format!("{}{ellipsis}", &text[..cut]));
        }
        self
    }

    /// The message after the provider's name, without the provider's own.
    fn subject(&self) -> String {
        format!("{}: {}", self.provider, self.message)
    }

    /// Whether the same request may succeed later.
    pub fn is_temporary(&self) -> bool {
        matches!(self.kind, DnsErrorKind::Throttled { .. } | DnsErrorKind::Transient { .. })
    }

    /// Whether the request may have been carried out.
    pub fn may_be_applied(&self) -> bool {
        matches!(self.kind, DnsErrorKind::Transient { may_be_applied: true })
    }
}

impl fmt::Display for DnsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.subject())?;
        self.answer.as_ref().map_or(Ok(()), |answer| write!(f, ": {answer}"))
    }
}

impl std::error::Error for DnsError {}

impl From<DnsError> for Error {
    fn from(error: DnsError) -> Error {
        let message = error.subject();
        let built = match error.kind {
            DnsErrorKind::Auth => Error::new(Kind::Connection, message).remedy(
                "Check the credentials in [provider] of cutover.toml and their privileges (docs/dns-providers.md).",
            ),
            DnsErrorKind::NotFound => Error::usage(message)
                .remedy("Correct the zone, the names and the ids in cutover.toml."),
            DnsErrorKind::Invalid => Error::new(Kind::Server, message),
            DnsErrorKind::Unsupported => Error::usage(message),
            DnsErrorKind::Conflict => Error::refused(message)
                .remedy("Run \"kongferry cutover status\" to see the records that the provider has now."),
            DnsErrorKind::Throttled { .. } => {
                Error::new(Kind::Connection, message).remedy("Wait a minute, then run the command again.")
            }
            DnsErrorKind::Transient { .. } => Error::new(Kind::Connection, message).remedy(
                "Check the provider's address in cutover.toml and the connection from this machine, then run the \
                 command again.",
            ),
        };
        error.answer.into_iter().fold(built, Error::detail)
    }
}
