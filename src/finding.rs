//! What a check found: how severe it is, and what to do about it. `inspect`, the DNS providers and the preflight of
//! `cutover start` report findings of this one type.

use serde::{Serialize, Serializer};

use crate::error::{Error, Result};

/// How severe a [`Finding`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    Ok,
    /// The operator should know; nothing stops.
    Warning,
    /// Neither proven nor disproven: the operator has to accept it.
    Unproven,
    /// The command would fail or refuse.
    Blocker,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub severity: Severity,
    /// One sentence without a full stop at its end.
    pub message: String,
    /// An imperative sentence; empty where there is nothing to do.
    pub remedy: String,
    /// The word by which `preflight.unproven` of `cutover.toml` accepts it.
    pub unproven: Option<&'static str>,
    /// A schema map that would settle it.
    pub schema_map: Option<String>,
}

impl Finding {
    fn new(severity: Severity, message: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding { severity, message: message.into(), remedy: remedy.into(), unproven: None, schema_map: None }
    }

    pub(crate) fn ok(message: impl Into<String>) -> Finding {
        Finding::new(Severity::Ok, message, "")
    }

    pub(crate) fn warning(message: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding::new(Severity::Warning, message, remedy)
    }

    pub(crate) fn blocker(message: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding::new(Severity::Blocker, message, remedy)
    }

    /// `word` is the one of `preflight.unproven` in `cutover.toml`.
    pub(crate) fn unproven(
        word: &'static str,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Finding {
        Finding { unproven: Some(word), ..Finding::new(Severity::Unproven, message, remedy) }
    }

    #[must_use]
    pub(crate) fn with_schema_map(self, schema_map: Option<String>) -> Finding {
        Finding { schema_map, ..self }
    }
}

/// The JSON of a finding. `weight` and `problem` are the names that `inspect` and `migrate` used before.
#[derive(Serialize)]
struct FindingJson<'a> {
    severity: Severity,
    message: &'a str,
    remedy: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    unproven: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    schema_map: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    weight: Option<&'static str>,
    problem: &'a str,
}

impl Serialize for Finding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let json = FindingJson {
            severity: self.severity,
            message: &self.message,
            remedy: &self.remedy,
            unproven: self.unproven,
            schema_map: self.schema_map.as_deref(),
            weight: match self.severity {
                Severity::Blocker => Some("stop"),
                Severity::Warning => Some("warn"),
                Severity::Ok | Severity::Unproven => None,
            },
            problem: &self.message,
        };
        json.serialize(serializer)
    }
}

/// An error that names every blocker among `findings`; `Ok` where there is none.
pub(crate) fn refuse_blockers(findings: &[Finding]) -> Result<()> {
    let mut blockers = findings.iter().filter(|finding| finding.severity == Severity::Blocker);
    let Some(first) = blockers.next() else { return Ok(()) };
    let refused = Error::refused(first.message.clone()).remedy(first.remedy.clone());
    let refused = with_schema_map_of(refused, first);
    Err(blockers.fold(refused, |error, finding| {
        let error = error.detail(format!("Also: {}. {}", finding.message, finding.remedy));
        with_schema_map_of(error, finding)
    }))
}

fn with_schema_map_of(error: Error, finding: &Finding) -> Error {
    match &finding.schema_map {
        Some(map) => error.detail(format!("Schema map: {map}")),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_keeps_the_names_of_earlier_releases() {
        let blocker = Finding::blocker("it is full", "Empty it.").with_schema_map(Some("{}".to_owned()));
        assert_eq!(
            serde_json::to_value(blocker).expect("JSON"),
            json!({
                "severity": "blocker", "message": "it is full", "remedy": "Empty it.", "schema_map": "{}",
                "weight": "stop", "problem": "it is full",
            })
        );
        let warning = serde_json::to_value(Finding::warning("it is old", "Renew it.")).expect("JSON");
        assert_eq!((&warning["severity"], &warning["weight"]), (&json!("warning"), &json!("warn")));
        let unproven = serde_json::to_value(Finding::unproven("nodes", "no node", "")).expect("JSON");
        assert_eq!((&unproven["severity"], &unproven["unproven"]), (&json!("unproven"), &json!("nodes")));
        assert_eq!(unproven.get("weight"), None);
    }

    #[test]
    fn every_blocker_is_named_in_the_refusal() {
        assert!(refuse_blockers(&[Finding::ok("good"), Finding::warning("old", "")]).is_ok());
        let findings = [
            Finding::warning("old", ""),
            Finding::blocker("full", "Empty it."),
            Finding::blocker("locked", "Unlock it.").with_schema_map(Some("{}".to_owned())),
        ];
        let refused = refuse_blockers(&findings).expect_err("refused");
        assert_eq!((refused.message(), refused.remedy_text()), ("full", Some("Empty it.")));
        assert_eq!(refused.details(), ["Also: locked. Unlock it.", "Schema map: {}"]);
    }
}
