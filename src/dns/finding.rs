//! What was looked at before a cutover begins, and what came of it.

use serde::Serialize;

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// One sentence without a full stop at its end.
    pub message: String,
    /// What to do about it; empty when there is nothing to do.
    pub remedy: String,
    /// The word by which `cutover.toml` takes it on trust, where it could not be proven.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unproven: Option<&'static str>,
}

/// How bad a [`Finding`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Good to know: something was checked and is as it should be.
    Ok,
    /// The cutover can run, but the operator should know.
    Warning,
    /// Nothing speaks against it, and nothing proves it: somebody must take it on trust.
    Unproven,
    /// The cutover would fail.
    Blocker,
}

impl Finding {
    fn new(severity: Severity, message: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding { severity, message: message.into(), remedy: remedy.into(), unproven: None }
    }

    /// As it should be.
    pub fn ok(message: impl Into<String>) -> Finding {
        Finding::new(Severity::Ok, message, "")
    }

    /// Good to know.
    pub fn warn(message: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding::new(Severity::Warning, message, remedy)
    }

    /// Not proven; `word` is the one of `cutover.toml`.
    pub fn unproven(word: &'static str, message: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding { unproven: Some(word), ..Finding::new(Severity::Unproven, message, remedy) }
    }

    /// In the way.
    pub fn stop(message: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding::new(Severity::Blocker, message, remedy)
    }
}
