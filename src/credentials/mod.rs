//! Proof that a known secret still opens the door, offline, before any traffic moves; and what was carried of each kind.
//!
//! The rules are Kong's own, of how it looks a row up and compares a secret (facts, section 6). Nothing is written, and
//! no secret leaves the process: answers name the user, never the secret.

pub mod admins;
pub mod judge;
pub mod keys;
pub mod kind;
pub mod lookup;
pub mod on_blue;
pub mod report;
pub mod secret;
pub mod store;
mod stored;
pub mod verdict;

use futures::StreamExt;
use serde_json::{Map, Value, json};

use crate::blue::session::Blue;
use crate::error::{Error, Result};
use crate::green::session::Green;
use crate::inspect::{BlueSide, GreenSide};
use crate::mapping::schema_map::SchemaMap;

use judge::Judge;
use kind::Kind;
use lookup::Lookups;
use on_blue::OnBlue;
use store::OnGreen;
use verdict::Verdict;

/// One secret that somebody knows.
#[derive(Clone)]
pub struct Check {
    /// What it is for.
    pub kind: Kind,
    /// Name or id of the workspace; the default one where none is named, and for admins their own.
    pub workspace: Option<String>,
    /// Whose it is.
    pub user: Option<String>,
    /// The secret.
    pub secret: String,
    /// The check as it stood in the file, without the secret: the answer repeats it.
    shown: Map<String, Value>,
}

impl std::fmt::Debug for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Check").field("check", &self.shown).finish_non_exhaustive()
    }
}

impl Check {
    /// One check from the command line.
    pub fn new(kind: Kind, workspace: Option<String>, user: Option<String>, secret: String) -> Result<Check> {
        let mut shown = Map::new();
        shown.insert("kind".to_owned(), json!(kind));
        shown.insert("workspace".to_owned(), json!(workspace));
        shown.insert("user".to_owned(), json!(user));
        let check = Check { kind, workspace, user, secret, shown };
        check.is_whole("").map(|()| check)
    }

    /// The checks of a file: a list of objects with `kind`, `workspace`, `user` and `secret`.
    pub fn list(text: &str) -> Result<Vec<Check>> {
        let shape = || {
            Error::usage("the file of checks cannot be read").remedy(
                "It is a JSON list of {\"kind\": …, \"workspace\": …, \"user\": …, \"secret\": …}; see docs/credentials.md.",
            )
        };
        // The parser's own message may quote what it stumbles over, and that may be a secret.
        let list: Vec<Map<String, Value>> = serde_json::from_str(text)
            .map_err(|e| shape().detail(format!("line {}, column {}", e.line(), e.column())))?;
        if list.is_empty() {
            // A list that a script failed to fill would pass for proof.
            return Err(Error::usage("the file of checks holds none"));
        }
        list.into_iter().enumerate().map(|(at, entry)| Check::entry(at + 1, entry)).collect()
    }

    fn entry(number: usize, mut entry: Map<String, Value>) -> Result<Check> {
        let place = format!("check {number}: ");
        let wrong = |what: &str| Error::usage(format!("{place}{what}"));
        let Some(Value::String(secret)) = entry.shift_remove("secret") else {
            return Err(wrong("it has no text \"secret\""));
        };
        let kind: Kind = match entry.get("kind") {
            Some(kind) => serde_json::from_value(kind.clone()).map_err(|_| {
                wrong("its \"kind\" is none").remedy("kongferry credentials check --help lists the kinds.")
            })?,
            None => return Err(wrong("it has no \"kind\"")),
        };
        let text = |name: &str| match entry.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(wrong(&format!("its \"{name}\" is no text"))),
        };
        let (workspace, user) = (text("workspace")?, text("user")?);
        let check = Check { kind, workspace, user, secret, shown: entry };
        check.is_whole(&place).map(|()| check)
    }

    fn is_whole(&self, place: &str) -> Result<()> {
        if !self.kind.needs_user() || self.user.is_some() {
            return Ok(());
        }
        Err(Error::usage(format!("{place}{} needs a user", self.kind.name()))
            .remedy(format!("Name {}.", self.kind.user_is())))
    }

    /// Whose it is; empty where nobody said so.
    pub(crate) fn user(&self) -> &str {
        self.user.as_deref().unwrap_or_default()
    }
}

/// What became of one check.
#[derive(Debug, Clone)]
pub struct Answer {
    shown: Map<String, Value>,
    /// What was checked.
    pub kind: Kind,
    /// Where.
    pub workspace: Option<String>,
    /// Whose.
    pub user: Option<String>,
    /// What green says.
    pub green: Verdict,
    /// What blue says, where it was asked.
    pub blue: Option<Verdict>,
}

impl Answer {
    /// Whether blue accepts what green does not: then the migration broke it.
    pub fn is_broken(&self) -> bool {
        !self.green.is_accepted() && self.blue.as_ref().is_some_and(Verdict::is_accepted)
    }
}

impl serde::Serialize for Answer {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut all = self.shown.clone();
        all.insert("accepted".to_owned(), json!(self.green.accepted));
        all.insert("reason".to_owned(), json!(self.green.reason));
        all.insert("message".to_owned(), json!(self.green.message));
        if let Some(blue) = &self.blue {
            all.insert("blue".to_owned(), json!(blue));
        }
        all.serialize(serializer)
    }
}

/// 0 where green accepts all of them, else 3.
pub fn exit_code(answers: &[Answer]) -> u8 {
    if answers.iter().all(|answer| answer.green.is_accepted()) { 0 } else { 3 }
}

/// Answers all checks, in their order, on all cores; `seen` is told of each.
pub async fn check(
    green: &Green,
    blue: Option<&Blue>,
    checks: &[Check],
    maps: &[SchemaMap],
    seen: impl Fn(),
) -> Result<Vec<Answer>> {
    let green_side = GreenSide::read(green).await?;
    let blue_side = match blue {
        Some(blue) => Some((blue, BlueSide::read(blue, maps).await?)),
        None => None,
    };
    let now_ms = chrono::Utc::now().timestamp_millis();
    let on_green = Judge { store: OnGreen { green, catalog: &green_side.catalog }, now_ms };
    let on_blue = match &blue_side {
        Some((blue, side)) => Some(on_blue(blue, side, now_ms).await?),
        None => None,
    };
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let (on_green, on_blue, seen) = (&on_green, &on_blue, &seen);
    let answering = checks.iter().map(|check| async move {
        let green = on_green.judge(check).await?;
        let blue = match on_blue {
            Some(judge) => Some(judge.judge(check).await?),
            None => None,
        };
        seen();
        let Check { kind, workspace, user, shown, .. } = check.clone();
        Ok(Answer { shown, kind, workspace, user, green, blue })
    });
    // Twice as many as there are cores: while some hash, others wait for a row.
    let answers: Vec<Result<Answer>> = futures::stream::iter(answering).buffered(cores * 2).collect().await;
    answers.into_iter().collect()
}

/// Blue, ready to be asked.
async fn on_blue<'a>(blue: &'a Blue, side: &'a BlueSide, now_ms: i64) -> Result<Judge<OnBlue<'a>>> {
    let workspaces = side.workspaces.iter().map(|(id, _)| *id).collect();
    let lookups = Lookups::read(blue).await?;
    Ok(Judge { store: OnBlue { blue, catalog: &side.catalog, map: &side.map, workspaces, lookups }, now_ms })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_checks_is_read_and_never_shown() {
        let text = r#"[{"kind": "basic-auth", "workspace": "default", "user": "bob", "secret": "s3cr3t", "who": "x"},
                       {"kind": "oauth2-token", "secret": "t0ken"}]"#;
        let checks = Check::list(text).unwrap();
        assert_eq!(
            (checks[0].kind, checks[0].user(), checks[0].secret.as_str()),
            (Kind::BasicAuth, "bob", "s3cr3t")
        );
        assert_eq!(
            (checks[1].kind, &checks[1].workspace, &checks[1].user),
            (Kind::Oauth2Token, &None, &None)
        );
        assert!(!format!("{checks:?}").contains("s3cr3t"));
    }

    #[test]
    fn a_wrong_file_is_refused_by_its_place_and_without_its_secrets() {
        for (text, says) in [
            (r#"[{"kind": "basic-auth", "secret": "s3cr3t"}]"#, "check 1: basic-auth needs a user"),
            (r#"[{"kind": "rbac-token", "workspace": "default", "secret": "s3cr3t"}]"#, "needs a user"),
            (r#"[{"kind": "key", "secret": "s3cr3t"}]"#, "its \"kind\" is none"),
            (r#"[{"kind": "acl", "user": "x"}]"#, "no text \"secret\""),
            (r#"[{"kind": "acl", "user": 5, "secret": "s3cr3t"}]"#, "its \"user\" is no text"),
            (r#"{"kind": "s3cr3t"}"#, "cannot be read"),
            (r#"["s3cr3t"]"#, "cannot be read"),
            ("[]", "holds none"),
        ] {
            let error = Check::list(text).unwrap_err();
            assert!(error.message().contains(says), "{text}: {error}");
            assert!(!format!("{error:?}").contains("s3cr3t"), "{error:?}");
        }
    }
}
