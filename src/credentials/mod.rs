//! Checks offline that a password, key or token is still valid on green, and counts the credentials of each kind.
//!
//! Rows are found and secrets compared by Kong's own rules (docs/kong-data-model.md, section 6). Nothing is written, and
//! no result contains a secret.

pub(crate) mod admins;
mod blue_indexes;
mod blue_store;
mod checker;
mod green_store;
mod jwt;
mod key_material;
mod keys;
pub(crate) mod kind;
mod oauth2;
pub(crate) mod outcome;
mod rbac;
pub(crate) mod report;
mod row_counts;
mod secret;
mod store;
mod stored_secret;

pub(crate) use checker::DEFAULT_WORKSPACE;

use futures::StreamExt;
use serde_json::{Map, Value, json};

use crate::blue::session::Blue;
use crate::error::{Error, Result};
use crate::green::session::Green;
use crate::inspect::{BlueSide, GreenSide};
use crate::mapping::schema_map::SchemaMap;

use blue_indexes::BlueIndexes;
use blue_store::BlueStore;
use checker::{CredentialChecker, KongRules};
use green_store::GreenStore;
use kind::CredentialKind;
use outcome::CheckOutcome;

#[derive(Clone)]
pub(crate) struct CredentialCheck {
    kind: CredentialKind,
    /// Name or id. `None` is the default workspace, and for an admin the admin's own.
    workspace: Option<String>,
    user: Option<String>,
    secret: String,
    /// The entry of the checks file without the secret, for the result.
    entry: Map<String, Value>,
}

impl std::fmt::Debug for CredentialCheck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CredentialCheck").field("entry", &self.entry).finish_non_exhaustive()
    }
}

impl CredentialCheck {
    pub(crate) fn new(
        kind: CredentialKind,
        workspace: Option<String>,
        user: Option<String>,
        secret: String,
    ) -> Result<CredentialCheck> {
        let mut entry = Map::new();
        entry.insert("kind".to_owned(), json!(kind));
        entry.insert("workspace".to_owned(), json!(workspace));
        entry.insert("user".to_owned(), json!(user));
        let check = CredentialCheck { kind, workspace, user, secret, entry };
        check.require_user("").map(|()| check)
    }

    /// Reads a checks file: a JSON list of objects with `kind`, `workspace`, `user` and `secret`.
    pub(crate) fn parse_list(text: &str) -> Result<Vec<CredentialCheck>> {
        let malformed = || {
            Error::usage("the checks file is not a list of checks").remedy(
                "Write a JSON list of {\"kind\": …, \"workspace\": …, \"user\": …, \"secret\": …}; see docs/credentials.md.",
            )
        };
        // The parser's own message may quote a secret.
        let list: Vec<Map<String, Value>> = serde_json::from_str(text)
            .map_err(|e| malformed().detail(format!("line {}, column {}", e.line(), e.column())))?;
        if list.is_empty() {
            // An empty list from a failed script would pass for proof.
            return Err(Error::usage("the checks file contains no checks"));
        }
        list.into_iter().enumerate().map(|(index, entry)| CredentialCheck::parse(index + 1, entry)).collect()
    }

    fn parse(number: usize, mut entry: Map<String, Value>) -> Result<CredentialCheck> {
        let place = format!("check {number}: ");
        let invalid = |problem: &str| Error::usage(format!("{place}{problem}"));
        let Some(Value::String(secret)) = entry.shift_remove("secret") else {
            return Err(invalid("\"secret\" is missing or not a string"));
        };
        let kind: CredentialKind = match entry.get("kind") {
            Some(kind) => serde_json::from_value(kind.clone()).map_err(|_| {
                invalid("\"kind\" is unknown")
                    .remedy("Run \"kongferry credentials check --help\": it lists the kinds.")
            })?,
            None => return Err(invalid("\"kind\" is missing")),
        };
        let text = |name: &str| match entry.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(invalid(&format!("\"{name}\" is not a string"))),
        };
        let (workspace, user) = (text("workspace")?, text("user")?);
        let check = CredentialCheck { kind, workspace, user, secret, entry };
        check.require_user(&place).map(|()| check)
    }

    fn require_user(&self, place: &str) -> Result<()> {
        if !self.kind.needs_user() || self.user.is_some() {
            return Ok(());
        }
        Err(Error::usage(format!("{place}{} needs a user", self.kind.name()))
            .remedy(format!("Name {}.", self.kind.user_description())))
    }

    /// Empty where none is named.
    fn user(&self) -> &str {
        self.user.as_deref().unwrap_or_default()
    }
}

#[derive(Debug, Clone)]
pub(crate) struct CheckResult {
    entry: Map<String, Value>,
    pub(crate) kind: CredentialKind,
    pub(crate) workspace: Option<String>,
    pub(crate) user: Option<String>,
    pub(crate) green: CheckOutcome,
    /// `None` where blue is not connected.
    pub(crate) blue: Option<CheckOutcome>,
}

impl CheckResult {
    /// Whether blue accepts what green does not, so that the migration broke it.
    pub(crate) fn is_broken(&self) -> bool {
        !self.green.is_accepted() && self.blue.as_ref().is_some_and(CheckOutcome::is_accepted)
    }
}

impl serde::Serialize for CheckResult {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut fields = self.entry.clone();
        fields.insert("accepted".to_owned(), json!(self.green.accepted));
        fields.insert("reason".to_owned(), json!(self.green.reason));
        fields.insert("message".to_owned(), json!(self.green.message));
        if let Some(blue) = &self.blue {
            fields.insert("blue".to_owned(), json!(blue));
        }
        fields.serialize(serializer)
    }
}

/// 0 where green accepts all of them, else 3.
pub(crate) fn exit_code(results: &[CheckResult]) -> u8 {
    if results.iter().all(|result| result.green.is_accepted()) { 0 } else { 3 }
}

/// Runs all checks on all cores and returns the results in their order; `done` is called after each.
pub(crate) async fn check_all(
    green: &Green,
    blue: Option<&Blue>,
    checks: &[CredentialCheck],
    maps: &[SchemaMap],
    done: impl Fn(),
) -> Result<Vec<CheckResult>> {
    let green_side = GreenSide::read(green).await?;
    let blue_side = match blue {
        Some(blue) => Some((blue, BlueSide::read(blue, maps).await?)),
        None => None,
    };
    let now_ms = chrono::Utc::now().timestamp_millis();
    let built_in = SchemaMap::built_in()?;
    let line = green_side.meta.line(&built_in).and_then(|map| map.line.as_deref());
    let on_green = CredentialChecker {
        store: GreenStore { green, catalog: &green_side.catalog },
        rules: KongRules::of(line),
        now_ms,
    };
    let on_blue = match &blue_side {
        Some((blue, side)) => {
            let rules = KongRules::of(side.map.line.as_deref());
            Some(CredentialChecker { store: blue_store(blue, side).await?, rules, now_ms })
        }
        None => None,
    };
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let (on_green, on_blue, done) = (&on_green, &on_blue, &done);
    let results = checks.iter().map(|check| async move {
        let green = on_green.check(check).await?;
        let blue = match on_blue {
            Some(checker) => Some(checker.check(check).await?),
            None => None,
        };
        done();
        let CredentialCheck { kind, workspace, user, entry, .. } = check.clone();
        Ok(CheckResult { entry, kind, workspace, user, green, blue })
    });
    // Twice as many as cores: while some hash, others wait for a row.
    let results: Vec<Result<CheckResult>> =
        futures::stream::iter(results).buffered(cores * 2).collect().await;
    results.into_iter().collect()
}

async fn blue_store<'a>(blue: &'a Blue, side: &'a BlueSide) -> Result<BlueStore<'a>> {
    let workspaces = side.workspaces.iter().map(|(id, _)| *id).collect();
    let indexes = BlueIndexes::read(blue).await?;
    Ok(BlueStore { blue, catalog: &side.catalog, map: &side.map, workspaces, indexes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checks_file_is_parsed_and_its_secrets_are_never_shown() {
        let text = r#"[{"kind": "basic-auth", "workspace": "default", "user": "bob", "secret": "s3cr3t", "who": "x"},
                       {"kind": "oauth2-token", "secret": "t0ken"}]"#;
        let checks = CredentialCheck::parse_list(text).unwrap();
        assert_eq!(
            (checks[0].kind, checks[0].user(), checks[0].secret.as_str()),
            (CredentialKind::BasicAuth, "bob", "s3cr3t")
        );
        assert_eq!(
            (checks[1].kind, &checks[1].workspace, &checks[1].user),
            (CredentialKind::Oauth2Token, &None, &None)
        );
        assert!(!format!("{checks:?}").contains("s3cr3t"));
    }

    #[test]
    fn an_invalid_checks_file_is_refused_with_the_place_and_without_its_secrets() {
        for (text, message) in [
            (r#"[{"kind": "basic-auth", "secret": "s3cr3t"}]"#, "check 1: basic-auth needs a user"),
            (r#"[{"kind": "rbac-token", "workspace": "default", "secret": "s3cr3t"}]"#, "needs a user"),
            (r#"[{"kind": "key", "secret": "s3cr3t"}]"#, "\"kind\" is unknown"),
            (r#"[{"kind": "acl", "user": "x"}]"#, "\"secret\" is missing or not a string"),
            (r#"[{"kind": "acl", "user": 5, "secret": "s3cr3t"}]"#, "\"user\" is not a string"),
            (r#"{"kind": "s3cr3t"}"#, "not a list of checks"),
            (r#"["s3cr3t"]"#, "not a list of checks"),
            ("[]", "contains no checks"),
        ] {
            let error = CredentialCheck::parse_list(text).unwrap_err();
            assert!(error.message().contains(message), "{text}: {error}");
            assert!(!format!("{error:?}").contains("s3cr3t"), "{error:?}");
        }
    }
}
