//! What a provider can answer instead of doing what it was asked, by what the engine has to do next.

use std::fmt;
use std::time::Duration;

use crate::error::{Error, Kind};

/// A `Result` with [`DnsError`].
pub type DnsResult<T> = Result<T, DnsError>;

/// A provider's refusal or failure. No text of it holds a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsError {
    pub kind: DnsErrorKind,
    /// The provider's name, as in `cutover.toml`.
    pub provider: &'static str,
    /// A sentence without a full stop at its end.
    pub message: String,
    /// What the provider itself said, if anything.
    pub answer: Option<String>,
}

/// What to do about a [`DnsError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DnsErrorKind {
    /// The credentials are wrong or lack a right. Nothing was written. Trying again does not help.
    Auth,
    /// The zone, or something that the configuration names, does not exist. Nothing was written.
    NotFound,
    /// The provider refuses this request whatever the time. Nothing was written.
    Invalid,
    /// This provider, or its configuration, cannot do what is asked for. Nothing was sent.
    Unsupported,
    /// Somebody else wrote in between, or something stands there that is not ours. Nothing was written: read again.
    Conflict,
    /// Too many requests. Nothing was written; wait as long as said, or with growing intervals.
    Throttled {
        /// How long the provider wants us to wait.
        retry_after: Option<Duration>,
    },
    /// A connection or a server failed.
    Transient {
        /// Whether the request may have been carried out all the same. Then read, and compare with
        /// [`Change::outcome`](super::Change::outcome) before trying again.
        may_be_applied: bool,
    },
}

impl DnsError {
    /// An error without an answer of the provider.
    pub fn new(provider: &'static str, kind: DnsErrorKind, message: impl Into<String>) -> Self {
        DnsError { kind, provider, message: message.into(), answer: None }
    }

    /// Adds what the provider said, cut to a readable length.
    #[must_use]
    pub fn answered(mut self, answer: impl AsRef<str>) -> Self {
        const LIMIT: usize = 600;
        let text = answer.as_ref().trim();
        if !text.is_empty() {
            let cut = text.floor_char_boundary(LIMIT);
            let dots = if cut < text.len() { "…" } else { "" };
            self.answer = Some(format!("{}{dots}", &text[..cut]));
        }
        self
    }

    /// Whether the same request may succeed later.
    pub fn is_temporary(&self) -> bool {
        matches!(self.kind, DnsErrorKind::Throttled { .. } | DnsErrorKind::Transient { .. })
    }

    /// Whether the request may have been carried out.
    pub fn may_be_applied(&self) -> bool {
        matches!(self.kind, DnsErrorKind::Transient { may_be_applied: true })
    }

    /// The stable word for the kind in `--format json` and the journal.
    pub fn code(&self) -> &'static str {
        match self.kind {
            DnsErrorKind::Auth => "auth",
            DnsErrorKind::NotFound => "not-found",
            DnsErrorKind::Invalid => "invalid",
            DnsErrorKind::Unsupported => "unsupported",
            DnsErrorKind::Conflict => "conflict",
            DnsErrorKind::Throttled { .. } => "throttled",
            DnsErrorKind::Transient { .. } => "transient",
        }
    }
}

impl fmt::Display for DnsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.provider, self.message)?;
        self.answer.as_ref().map_or(Ok(()), |answer| write!(f, ": {answer}"))
    }
}

impl std::error::Error for DnsError {}

impl From<DnsError> for Error {
    fn from(error: DnsError) -> Error {
        let (kind, remedy) = match error.kind {
            DnsErrorKind::Auth => {
                (Kind::Connection, Some("check the provider's credentials and their rights in cutover.toml"))
            }
            DnsErrorKind::NotFound => {
                (Kind::Usage, Some("check the names in the provider's section of cutover.toml"))
            }
            DnsErrorKind::Invalid => (Kind::Server, None),
            DnsErrorKind::Unsupported => (Kind::Usage, None),
            DnsErrorKind::Conflict => {
                (Kind::Refused, Some("run `kongferry cutover status` to see what stands at the provider now"))
            }
            DnsErrorKind::Throttled { .. } => (Kind::Connection, Some("wait a little, and try again")),
            DnsErrorKind::Transient { .. } => (
                Kind::Connection,
                Some(
                    "check the provider's address in cutover.toml, and whether it can be reached from here; then try again",
                ),
            ),
        };
        let built = Error::new(kind, format!("{}: {}", error.provider, error.message));
        let built = error.answer.into_iter().fold(built, Error::detail);
        remedy.into_iter().fold(built, Error::remedy)
    }
}
