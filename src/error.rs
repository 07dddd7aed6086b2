//! The one error type: what failed, where, what it means for the migration, what to do next.
//!
//! A message names table, key and column, never a secret. The kind decides the exit code, which scripts rely on
//! (docs/architecture.md, "Exit codes"); the remedy is one imperative sentence.

use std::fmt;

/// A `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// The command line, a configuration file or a schema map is not usable as given. Exit code 2.
    Usage,
    /// A server could not be reached, refused the login, or dropped the connection. Exit code 1.
    Connection,
    /// A server answered with an unexpected error. Exit code 1.
    Server,
    /// A local file or process failed. Exit code 1.
    Io,
    /// Migrating would not be safe; nothing was written to Kong's tables. Exit code 4.
    Refused,
    /// Ctrl-C or SIGTERM; green is unchanged or complete. Exit code 130.
    Interrupted,
}

impl Kind {
    /// The exit code that scripts see.
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::Usage => 2,
            Kind::Connection | Kind::Server | Kind::Io => 1,
            Kind::Refused => 4,
            Kind::Interrupted => 130,
        }
    }

    /// The stable word for this kind in `--format json`.
    pub fn code(self) -> &'static str {
        match self {
            Kind::Usage => "usage",
            Kind::Connection => "connection",
            Kind::Server => "server",
            Kind::Io => "io",
            Kind::Refused => "refused",
            Kind::Interrupted => "interrupted",
        }
    }
}

/// A failure, with its cause and its remedy.
#[derive(Debug)]
pub struct Error(Box<Repr>);

#[derive(Debug)]
struct Repr {
    kind: Kind,
    message: String,
    details: Vec<String>,
    remedy: Option<String>,
    sqlstate: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// A failure of `kind`; `message` is a sentence without a full stop at its end.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Error(Box::new(Repr {
            kind,
            message: message.into(),
            details: Vec::new(),
            remedy: None,
            sqlstate: None,
            source: None,
        }))
    }

    /// The command line or a file given by the user cannot be used.
    pub fn usage(message: impl Into<String>) -> Self {
        Error::new(Kind::Usage, message)
    }

    /// The run stops before anything was written to Kong's tables.
    pub fn refused(message: impl Into<String>) -> Self {
        Error::new(Kind::Refused, message)
    }

    /// Attaches the cause. It is printed after the message, so the message does not repeat it.
    #[must_use]
    pub fn source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// What to do next, one sentence.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.0.remedy = Some(remedy.into());
        self
    }

    /// One more line under the message, such as a row that was found.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.0.details.push(detail.into());
        self
    }

    /// Remembers PostgreSQL's code, by which it is decided whether to try again.
    #[must_use]
    pub fn with_sqlstate(mut self, code: &str) -> Self {
        self.0.sqlstate = Some(code.to_owned());
        self
    }

    /// PostgreSQL's code, where it was PostgreSQL that refused.
    pub fn sqlstate(&self) -> Option<&str> {
        self.0.sqlstate.as_deref()
    }

    /// The kind, which decides the exit code.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// The sentence that says what failed.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Further lines, each about one thing that was found.
    pub fn details(&self) -> &[String] {
        &self.0.details
    }

    /// The sentence that says what to do, if there is one.
    pub fn remedy_text(&self) -> Option<&str> {
        self.0.remedy.as_deref()
    }

    /// The causes, outermost first, without those that only repeat the one before.
    pub fn causes(&self) -> Vec<String> {
        let mut causes: Vec<String> = Vec::new();
        let mut next: Option<&(dyn std::error::Error + 'static)> =
            self.0.source.as_deref().map(|e| e as &(dyn std::error::Error + 'static));
        while let Some(error) = next {
            let text = error.to_string();
            if !causes.iter().any(|earlier| earlier.contains(&text)) {
                causes.push(text);
            }
            next = error.source();
        }
        causes
    }

    /// Message, details and root cause on one line, for a log, a gate or a comment in a file.
    pub fn one_line(&self) -> String {
        let mut parts = vec![self.message().to_owned()];
        parts.extend(self.details().iter().cloned());
        parts.extend(self.causes().pop());
        parts.join(": ").replace('\n', " ")
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|e| e as &(dyn std::error::Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_listed_once_and_outermost_first() {
        let inner = Error::new(Kind::Io, "disk full");
        let outer = Error::new(Kind::Server, "cannot stage \"routes\"").source(inner);
        assert_eq!(outer.causes(), vec!["disk full"]);
        assert_eq!(outer.to_string(), "cannot stage \"routes\"");
    }

    #[test]
    fn one_line_has_the_message_the_details_and_the_root_cause() {
        let root = Error::new(Kind::Io, "connection\nrefused");
        let cause = Error::new(Kind::Connection, "no answer").source(root);
        let error = Error::new(Kind::Server, "cannot read").detail("from ns1").source(cause);
        assert_eq!(error.one_line(), "cannot read: from ns1: connection refused");
    }

    #[test]
    fn exit_codes_are_those_of_the_design() {
        assert_eq!(Kind::Usage.exit_code(), 2);
        assert_eq!(Kind::Server.exit_code(), 1);
        assert_eq!(Kind::Refused.exit_code(), 4);
        assert_eq!(Kind::Interrupted.exit_code(), 130);
    }
}
