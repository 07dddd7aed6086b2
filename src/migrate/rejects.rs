//! The rejects file: rejected rows, one JSON object per line, and the reviewed file of an earlier run.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use futures::TryStreamExt;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use sqlx::{PgConnection, Row};

use crate::error::{Error, Kind, Result};
use crate::green::checks::KeptDuplicate;
use crate::green::journal::AcceptedReject;
use crate::green::session::During;
use crate::green::sql::fill;
use crate::green::stage::{RejectedRow, Stage};
use crate::green::statement::query;
use crate::mapping::reason::{Reason, current_code};
use crate::mapping::schema_map::SchemaMap;
use crate::secrets::Redaction;

use super::report::Refusal;

#[derive(Debug, Serialize)]
struct RejectLine<'a> {
    table: &'a str,
    key: &'a RawValue,
    column: Option<&'a str>,
    reason: &'a str,
    message: String,
    cause: Option<&'a RawValue>,
    row: Value,
}

/// What is read of a line of a reviewed file.
#[derive(Debug, Deserialize)]
struct ReviewedLine {
    table: String,
    key: Value,
    reason: String,
    decision: Option<Decision>,
}

/// The operator's decision on a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Decision {
    /// Apply this one of a group of duplicates; the others are rejected.
    Keep,
    /// The same as a line without a decision.
    Reject,
}

/// The rejects with which a run may apply.
#[derive(Debug, Clone, Default)]
pub enum AcceptedRejects {
    /// None: one reject stops the run.
    #[default]
    None,
    /// All, after the counts were shown.
    All,
    Reviewed(ReviewedRejects),
}

/// A rejects file that an operator reviewed.
#[derive(Debug, Clone, Default)]
pub struct ReviewedRejects {
    accepted: BTreeSet<(String, String, String)>,
    keep: Vec<KeptDuplicate>,
}

impl ReviewedRejects {
    /// Reads a file that `plan` or `migrate` wrote.
    pub fn read(path: &Path) -> Result<ReviewedRejects> {
        let shown = path.display();
        let file = File::open(path)
            .map_err(|e| Error::usage(format!("cannot read the reviewed rejects file {shown}")).source(e))?;
        let mut reviewed = ReviewedRejects::default();
        for (number, line) in BufReader::new(file).lines().enumerate() {
            let line = line.map_err(|e| {
                Error::usage(format!("cannot read the reviewed rejects file {shown}")).source(e)
            })?;
            if line.trim().is_empty() {
                continue;
            }
            let parsed: ReviewedLine = serde_json::from_str(&line).map_err(|e| {
                Error::usage(format!("line {} of {shown} is not a line of a rejects file", number + 1))
                    .source(e)
            })?;
            if parsed.decision == Some(Decision::Keep) {
                reviewed.keep(parsed, number + 1)?;
            } else {
                let reason = current_code(parsed.reason);
                reviewed.accepted.insert((parsed.table, parsed.key.to_string(), reason));
            }
        }
        Ok(reviewed)
    }

    fn keep(&mut self, line: ReviewedLine, number: usize) -> Result<()> {
        if line.reason != Reason::Duplicate.code() {
            return Err(Error::usage(format!(
                "line {number} keeps a row that was rejected for \"{}\": only a duplicate can be kept",
                line.reason
            )));
        }
        self.keep.push((line.table, line.key));
        Ok(())
    }

    fn accepts(&self, table: &str, key: &str, reason: &str) -> bool {
        self.accepted.contains(&(table.to_owned(), normalize_key(key), reason.to_owned()))
    }
}

/// A key as serde_json writes it into the file; PostgreSQL spells the same one with other blanks.
fn normalize_key(key: &str) -> String {
    serde_json::from_str::<Value>(key).map_or_else(|_| key.to_owned(), |key| key.to_string())
}

impl AcceptedRejects {
    pub fn keep(&self) -> &[KeptDuplicate] {
        match self {
            AcceptedRejects::Reviewed(reviewed) => &reviewed.keep,
            AcceptedRejects::None | AcceptedRejects::All => &[],
        }
    }

    fn accepts(&self, table: &str, key: &str, reason: &str) -> bool {
        match self {
            AcceptedRejects::None => false,
            AcceptedRejects::All => true,
            AcceptedRejects::Reviewed(reviewed) => reviewed.accepts(table, key, reason),
        }
    }
}

/// A file that exists before the work begins, readable by its owner only.
#[derive(Debug)]
pub struct RejectsFile {
    path: PathBuf,
    file: BufWriter<File>,
    lines: u64,
    /// What of a row is not shown.
    redaction: Redaction,
    /// Whether to remove it if nothing was written to it.
    pub remove_if_empty: bool,
    /// Table, key and reason of the rejects that an earlier run was allowed to apply with.
    accepted_before: BTreeSet<(String, String, String)>,
}

/// What was written to the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RejectsSummary {
    pub lines: u64,
    pub not_accepted: u64,
    /// The first of those, as sentences.
    pub examples: Vec<String>,
}

impl RejectsSummary {
    /// Why the run stops at what was not accepted.
    pub fn refusal(&self, accept: &AcceptedRejects) -> Refusal {
        let problem = match accept {
            AcceptedRejects::Reviewed(_) => format!(
                "{} of {} rejected rows are not in the reviewed file with the same reason",
                self.not_accepted, self.lines
            ),
            _ if self.lines == 1 => "green does not accept one row of blue".to_owned(),
            _ => format!("green does not accept {} rows of blue", self.lines),
        };
        let mut details = self.examples.clone();
        let more = self.not_accepted.saturating_sub(details.len() as u64);
        if more > 0 {
            details.push(format!("… and {more} more"));
        }
        Refusal {
            problem,
            details,
            remedy: Some(
                "Repair them on blue, or review the rejects file and pass it with --accept-rejects=FILE; --accept-rejects alone accepts all of them. A rejected plugin may leave a route unprotected."
                    .to_owned(),
            ),
        }
    }
}

impl RejectsFile {
    /// Creates the file, or says why it cannot be written.
    pub fn create(path: &Path, redaction: Redaction) -> Result<RejectsFile> {
        let opened =
            std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
        let file = opened.map_err(|e| {
            Error::new(Kind::Usage, format!("cannot write the rejects file {}", path.display()))
                .source(e)
                .remedy("Pass a writable path with --rejects-file; nothing has been read or written yet.")
        })?;
        restrict(&file, path)?;
        Ok(RejectsFile {
            path: path.to_owned(),
            file: BufWriter::new(file),
            lines: 0,
            redaction,
            remove_if_empty: false,
            accepted_before: BTreeSet::new(),
        })
    }

    /// Also hides the columns that this map calls secret.
    pub fn hide_secrets_of(&mut self, map: &SchemaMap) {
        self.redaction.add_map(map);
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Accepts these rejects of an earlier run as that run did.
    pub fn accept_again(&mut self, rejects: &[AcceptedReject]) {
        self.accepted_before.extend(
            rejects.iter().map(|row| (row.table_name.clone(), normalize_key(&row.key), row.reason.clone())),
        );
    }

    /// Writes every rejected row, ordered by table, and counts those that were not accepted.
    pub async fn write(
        &mut self,
        stage: &Stage,
        tx: &mut PgConnection,
        accept: &AcceptedRejects,
    ) -> Result<RejectsSummary> {
        let sql =
            fill(include_str!("../../sql/stage/rejects.sql"), &[("rejects", &stage.own("stage_reject"))]);
        let action = "cannot read the rejected rows";
        let mut written = RejectsSummary::default();
        let mut rows = query(sql).fetch(tx);
        while let Some(row) = rows.try_next().await.during(stage.green(), action)? {
            self.line(&row, accept, &mut written).map_err(|e| self.not_written().source(e))?;
        }
        drop(rows);
        let flushed = self.file.flush().and_then(|()| sync(self.file.get_ref()));
        flushed.map_err(|e| self.not_written().source(e))?;
        Ok(written)
    }

    fn not_written(&self) -> Error {
        Error::new(Kind::Io, format!("cannot write the rejects file {}", self.path.display()))
    }

    fn line(
        &mut self,
        row: &sqlx::postgres::PgRow,
        accept: &AcceptedRejects,
        written: &mut RejectsSummary,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let (table, key, reason): (&str, &str, &str) =
            (row.try_get("table_name")?, row.try_get("key")?, row.try_get("reason")?);
        let cause: Option<&str> = row.try_get("cause")?;
        let column: Option<&str> = row.try_get("column_name")?;
        let line = RejectLine {
            table,
            key: serde_json::from_str(key)?,
            column,
            reason,
            message: message(table, column, reason, row.try_get("detail")?),
            cause: cause.map(serde_json::from_str).transpose()?,
            row: self.redaction.shown_row(
                table,
                &serde_json::from_str(key)?,
                serde_json::from_str(row.try_get("row_text")?)?,
            ),
        };
        serde_json::to_writer(&mut self.file, &line)?;
        self.file.write_all(b"\n")?;
        written.lines += 1;
        self.lines += 1;
        let before = (table.to_owned(), normalize_key(key), reason.to_owned());
        if !accept.accepts(table, key, reason) && !self.accepted_before.contains(&before) {
            written.not_accepted += 1;
            if written.examples.len() < 5 {
                written.examples.push(format!("{table} {}: {}", key.trim_matches('"'), line.message));
            }
        }
        Ok(())
    }

    /// Writes a row that was rejected without a stage.
    pub fn write_unstaged(&mut self, table: &str, row: &RejectedRow) -> Result<()> {
        let line = serde_json::json!({
            "table": table,
            "key": row.key,
            "column": row.column,
            "reason": row.reason,
            "message": message(table, row.column.as_deref(), row.reason, row.detail.as_deref()),
            "cause": null,
            "row": self.redaction.shown_row(table, &row.key, row.row.clone()),
        });
        let written = writeln!(self.file, "{line}").and_then(|()| self.file.flush());
        written.map_err(|e| self.not_written().source(e))
    }

    /// Closes the file; removes an empty one that the operator did not request.
    pub fn close(self) {
        if self.lines == 0 && self.remove_if_empty {
            // It is empty: if it cannot be removed, nothing is lost.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Waits until the disk has it; a pipe or a device has no disk to wait for.
fn sync(file: &File) -> std::io::Result<()> {
    if file.metadata()?.is_file() { file.sync_all() } else { Ok(()) }
}

/// A file that was there before keeps its mode on opening, so the mode is set again.
fn restrict(file: &File, path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let is_file = file.metadata().is_ok_and(|data| data.is_file());
    if !is_file {
        return Ok(());
    }
    file.set_permissions(std::fs::Permissions::from_mode(0o600)).map_err(|e| {
        Error::new(Kind::Usage, format!("cannot make the rejects file {} private", path.display())).source(e)
    })
}

/// The sentence for one reject. It names table and column, never a value.
fn message(table: &str, column: Option<&str>, reason: &str, detail: Option<&str>) -> String {
    let column = column.unwrap_or("?");
    let sentence = match reason {
        "dangling_reference" => format!("{column} refers to a row that blue does not have"),
        "cross_workspace_reference" => format!("{column} refers to a row of another workspace"),
        "parent_rejected" => format!("the row that {column} refers to is rejected; see cause"),
        "workspace_null" => "the entity belongs to no workspace".to_owned(),
        "workspace_unknown" => "the entity belongs to a workspace that blue does not have".to_owned(),
        "prefix_foreign" => format!("{column} starts with the id of another workspace"),
        "prefix_double" => format!("{column} starts with a workspace id twice"),
        "prefix_literal" => {
            format!("{column} holds $(VALUE): a defect of Kong 2.1.0 overwrote the original value")
        }
        "duplicate" => {
            format!("{column} holds the same value as another row, and green requires unique values")
        }
        "text_nul" => format!("{column} holds U+0000, which PostgreSQL cannot store"),
        "text_not_utf8" => format!("{column} holds bytes that are not UTF-8"),
        "text_too_long" => format!("{column} holds more characters than green's column allows"),
        "json_invalid" => format!("{column} holds text that PostgreSQL does not accept as JSON"),
        "json_not_object" => format!("{column} holds JSON that is not an object"),
        "json_not_array" => format!("{column} holds JSON that is not an array"),
        "incomplete_row" => format!("the row is incomplete: {column} is missing"),
        "index_row_too_large" => format!("{column} is too long for one of green's indexes"),
        "timestamp_out_of_range" => format!("{column} holds a time that PostgreSQL cannot store"),
        "number_out_of_range" => format!("{column} holds a number that green's column cannot store"),
        "period_unknown" => "no expiry can be computed for this period".to_owned(),
        "check_failed" => "a CHECK constraint of green does not hold".to_owned(),
        "undecodable" => format!("{column} holds bytes that are not a value of its type"),
        _ => format!("PostgreSQL refuses this row of {table}"),
    };
    match detail {
        Some(detail) => format!("{sentence} ({detail})"),
        None => sentence,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reviewed(text: &str) -> Result<ReviewedRejects> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        ReviewedRejects::read(file.path())
    }

    #[test]
    fn a_reviewed_file_accepts_its_own_lines_and_no_others() {
        let file =
            reviewed("{\"table\":\"acls\",\"key\":\"a\",\"reason\":\"duplicate\",\"row\":{}}\n\n").unwrap();
        let accept = AcceptedRejects::Reviewed(file);
        assert!(accept.accepts("acls", "\"a\"", "duplicate"));
        assert!(!accept.accepts("acls", "\"a\"", "incomplete_row"));
        assert!(!accept.accepts("acls", "\"b\"", "duplicate"));
    }

    #[test]
    fn a_reviewed_file_of_an_earlier_release_accepts_by_the_old_codes() {
        let line = |reason: &str| format!("{{\"table\":\"t\",\"key\":\"a\",\"reason\":\"{reason}\"}}");
        for (old, code) in [("half_row", "incomplete_row"), ("prefix_odd", "inconsistent_prefix")] {
            let accept = AcceptedRejects::Reviewed(reviewed(&line(old)).unwrap());
            assert!(accept.accepts("t", "\"a\"", code));
            assert!(!accept.accepts("t", "\"a\"", "duplicate"));
        }
    }

    #[test]
    fn keys_of_several_columns_match_whatever_the_blanks() {
        let file =
            reviewed("{\"table\":\"t\",\"key\":{\"a\":\"1\",\"b\":\"2\"},\"reason\":\"duplicate\"}").unwrap();
        assert!(AcceptedRejects::Reviewed(file).accepts("t", "{\"a\": \"1\", \"b\": \"2\"}", "duplicate"));
    }

    #[test]
    fn only_a_duplicate_can_be_kept() {
        let keep = |reason: &str| {
            reviewed(&format!(
                "{{\"table\":\"t\",\"key\":\"a\",\"reason\":\"{reason}\",\"decision\":\"keep\"}}"
            ))
        };
        assert_eq!(keep("duplicate").unwrap().keep.len(), 1);
        assert!(keep("incomplete_row").unwrap_err().message().contains("incomplete_row"));
    }

    #[test]
    fn a_line_of_something_else_is_named() {
        assert!(reviewed("{}\nnonsense").unwrap_err().message().starts_with("line 1 of"));
    }

    #[test]
    fn the_file_is_private_even_when_it_was_there_before() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rejects.jsonl");
        std::fs::write(&path, "old").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        RejectsFile::create(&path, Redaction::new(false)).unwrap();
        let data = std::fs::metadata(&path).unwrap();
        assert_eq!((data.permissions().mode() & 0o777, data.len()), (0o600, 0));
    }
}
