//! One row: the bytes of blue's cells in, the bytes of a binary COPY row out.
//!
//! No value is built per cell and nothing is allocated per row that goes through: each column of the table plan
//! appends to the caller's buffer. A row that green would not accept is taken back out of the buffer, whole, and
//! reported with its column and reason.

use std::collections::{BTreeMap, BTreeSet};

use ring::digest::{SHA256, digest};
use uuid::Uuid;

use crate::cql::cell;

use super::digest::{Digest128, key_of};
#[cfg(feature = "test-hooks")]
use super::fault_injection;
use super::prefix::{self, PrefixPolicy, Stripped};
use super::reason::{Note, Reason, ValueRepair};
use super::schema_map::ColumnRemark;
use super::table_plan::{
    CacheKeyPart, CacheKeyPartKind, ColumnPlan, ColumnSource, ExpiryChoice, Substitute, TablePlan,
};
use super::{conversion, pg_binary};

/// A timestamp before this (2010-01-01) is older than Kong.
const BEFORE_KONG_MS: i64 = 1_262_304_000_000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowOutcome {
    Staged,
    /// Its partition is one that Kong does not read; nothing was written.
    OtherPartition,
    /// Its workspace was deleted, and the map says that its rows outlive it; nothing was written.
    DeletedWorkspace,
    /// All cells but those that outlive the row have expired; nothing was written.
    Expired,
    /// Green would not accept it; nothing was written.
    Rejected(Rejection),
    /// A column that green does not have holds a value; nothing was written. The cell's place is given.
    UnknownColumn(usize),
}

/// Why a row was set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The column, where one is to error; for a half row the columns that are missing.
    pub column: Option<String>,
    pub reason: Reason,
}

/// What was mended and what is worth a note in one row; cleared and reused from row to row.
#[derive(Debug, Default)]
pub struct RowNotes {
    /// Place of the column in the plan, and what was done.
    pub repairs: Vec<(usize, ValueRepair)>,
    /// Place of the column in the plan, and what was seen.
    pub notes: Vec<(usize, Note)>,
}

/// What a transcoder has to know beyond the plan.
#[derive(Debug, Clone, Default)]
pub struct RowContext {
    /// Ids of all workspaces on blue.
    pub workspaces: Vec<Uuid>,
    /// By table of blue that names rows of another one: the names.
    pub named_rows: NamedRows,
    /// Milliseconds since 1970; a day after it a timestamp lies in the future.
    pub now_ms: i64,
}

/// By table of blue that names rows of another one: the names.
pub type NamedRows = BTreeMap<String, BTreeSet<String>>;

/// The compiled converter of one table.
#[derive(Debug, Clone)]
pub struct Transcoder<'a> {
    plan: &'a TablePlan,
    context: &'a RowContext,
}

/// The cells of one row, in the order of the plan; `None` is null.
type Cells<'a> = [Option<&'a [u8]>];

impl<'a> Transcoder<'a> {
    /// A converter for the rows of one table.
    pub fn new(plan: &'a TablePlan, context: &'a RowContext) -> Self {
        Transcoder { plan, context }
    }

    /// Appends one row to `out`, or says why not. `notes` are those of this row only.
    pub fn row(&self, cells: &Cells<'_>, out: &mut Vec<u8>, notes: &mut RowNotes) -> RowOutcome {
        notes.repairs.clear();
        notes.notes.clear();
        if let Some((cell, value)) = &self.plan.partition
            && get(cells, *cell) != Some(value.as_bytes())
        {
            return RowOutcome::OtherPartition;
        }
        if let Some(cell) = self.plan.of_workspace
            && !self.is_workspace(get(cells, cell))
        {
            return RowOutcome::DeletedWorkspace;
        }
        if let Some(&unknown) = self.plan.unknown.iter().find(|&&cell| get(cells, cell).is_some()) {
            return RowOutcome::UnknownColumn(unknown);
        }
        if self.is_expired(cells) {
            return RowOutcome::Expired;
        }
        let start = out.len();
        match self.write_row(cells, out, notes) {
            Ok(()) => RowOutcome::Staged,
            Err(rejection) => {
                out.truncate(start);
                notes.repairs.clear();
                notes.notes.clear();
                RowOutcome::Rejected(rejection)
            }
        }
    }

    fn is_workspace(&self, id: Option<&[u8]>) -> bool {
        let id = id.and_then(|bytes| Uuid::from_slice(bytes).ok());
        id.is_some_and(|id| self.context.workspaces.contains(&id))
    }

    /// Whether only cells are left that Kong writes without the row's time to live.
    fn is_expired(&self, cells: &Cells<'_>) -> bool {
        let expires = &self.plan.null_when_expired;
        !expires.is_empty() && expires.iter().all(|cell| get(cells, *cell).is_none())
    }

    /// The short form of the row's key on green, also of a row that was set aside; nothing where the key itself cannot
    /// be converted.
    pub fn key(&self, cells: &Cells<'_>) -> Option<Digest128> {
        let workspace = self.workspace(cells).ok().flatten();
        let (mut out, mut notes, mut ends) = (Vec::new(), RowNotes::default(), Vec::new());
        for name in &self.plan.key {
            let at = self.plan.columns.iter().position(|column| column.name == *name)?;
            let column = self.plan.columns.get(at)?;
            let mut field =
                Field { at, cells, workspace, context: self.context, out: &mut out, notes: &mut notes };
            field.write(column).ok()?;
            ends.push(out.len());
        }
        let mut start = 0;
        let mut fields = Vec::with_capacity(ends.len());
        for end in ends {
            fields.push(out.get(start + 4..end));
            start = end;
        }
        Some(key_of(&fields))
    }

    fn write_row(&self, cells: &Cells<'_>, out: &mut Vec<u8>, notes: &mut RowNotes) -> Result<(), Rejection> {
        self.check_required(cells)?;
        let workspace = self.workspace(cells)?;
        pg_binary::row(out, i16::try_from(self.plan.columns.len()).unwrap_or(i16::MAX));
        for (at, column) in self.plan.columns.iter().enumerate() {
            #[cfg(feature = "test-hooks")]
            let start = out.len();
            let mut field = Field { at, cells, workspace, context: self.context, out, notes };
            field.write(column).map_err(|error| self.rejection(column, error))?;
            #[cfg(feature = "test-hooks")]
            fault_injection::alter(&self.plan.table, column, start, out);
        }
        Ok(())
    }

    fn rejection(&self, column: &ColumnPlan, error: FieldError) -> Rejection {
        let part = error.cell.and_then(|cell| self.plan.cell_name(cell));
        Rejection { column: Some(part.unwrap_or(&column.name).to_owned()), reason: error.reason }
    }

    fn check_required(&self, cells: &Cells<'_>) -> Result<(), Rejection> {
        let missing = |group: &&Vec<usize>| group.iter().all(|&cell| get(cells, cell).is_none());
        if !self.plan.required.iter().any(|group| missing(&group)) {
            return Ok(());
        }
        let names: Vec<String> =
            self.plan.required.iter().filter(missing).map(|group| self.names(group)).collect();
        Err(Rejection { column: Some(names.join(", ")), reason: Reason::IncompleteRow })
    }

    fn names(&self, group: &[usize]) -> String {
        let names: Vec<&str> = group.iter().filter_map(|&cell| self.plan.cell_name(cell)).collect();
        names.join("|")
    }

    fn workspace(&self, cells: &Cells<'_>) -> Result<Option<Uuid>, Rejection> {
        let Some(cell) = self.plan.workspace else { return Ok(None) };
        let refuse = |reason| Rejection { column: self.plan.cell_name(cell).map(str::to_owned), reason };
        let bytes = get(cells, cell).ok_or_else(|| refuse(Reason::WorkspaceNull))?;
        Uuid::from_slice(bytes).map(Some).map_err(|_| refuse(Reason::Undecodable))
    }
}

fn get<'a>(cells: &Cells<'a>, at: usize) -> Option<&'a [u8]> {
    cells.get(at).copied().flatten()
}

/// Why a field could not be written, and the cell to error where that is not the field's own.
struct FieldError {
    reason: Reason,
    cell: Option<usize>,
}

impl From<Reason> for FieldError {
    fn from(reason: Reason) -> Self {
        FieldError { reason, cell: None }
    }
}

struct Field<'r, 'c> {
    at: usize,
    cells: &'r Cells<'c>,
    workspace: Option<Uuid>,
    context: &'r RowContext,
    out: &'r mut Vec<u8>,
    notes: &'r mut RowNotes,
}

impl Field<'_, '_> {
    fn write(&mut self, column: &ColumnPlan) -> Result<(), FieldError> {
        match &column.source {
            ColumnSource::CacheKey { cell, parts } => self.cache_key(*cell, parts),
            other => self.plain(other, column).map_err(FieldError::from),
        }
    }

    fn plain(&mut self, source: &ColumnSource, column: &ColumnPlan) -> Result<(), Reason> {
        match source {
            ColumnSource::Null | ColumnSource::CacheKey { .. } => {
                pg_binary::null(self.out);
                Ok(())
            }
            ColumnSource::Cell { cell, conversion, prefixed, prefix_policy, when_null, remark } => {
                match (get(self.cells, *cell), when_null) {
                    (None, None) => {
                        pg_binary::null(self.out);
                        Ok(())
                    }
                    (None, Some(substitute)) => self.substitute(substitute),
                    (Some(bytes), _) if *prefixed => self.prefixed(bytes, *prefix_policy),
                    (Some(bytes), _) => {
                        self.remark(bytes, *remark, &column.green_type);
                        pg_binary::field(self.out, |out| conversion.write(bytes, out))
                    }
                }
            }
            ColumnSource::CellExpiry { ttls, now, choice, default_ttl } => {
                self.cell_expiry(ttls, *now, *choice, *default_ttl)
            }
            ColumnSource::WhenNamed { key, table, value, otherwise } => {
                let names = self.context.named_rows.get(table);
                let key = get(self.cells, *key).and_then(|key| std::str::from_utf8(key).ok());
                match key.filter(|key| names.is_some_and(|names| names.contains(*key))) {
                    Some(_) => {
                        pg_binary::field(self.out, |out| conversion::write_text(value.as_bytes(), out))
                    }
                    None => self.plain(otherwise, column),
                }
            }
            ColumnSource::WindowExpiry { start, period, seconds } => {
                self.window_expiry(*start, *period, seconds)
            }
        }
    }

    fn prefixed(&mut self, bytes: &[u8], prefix_policy: PrefixPolicy) -> Result<(), Reason> {
        let own = self.workspace.ok_or(Reason::WorkspaceNull)?;
        let (value, missing) =
            match prefix::strip_by_policy(bytes, own, &self.context.workspaces, prefix_policy)? {
                Stripped::Own(value) => (value, false),
                Stripped::Missing(value) => (value, true),
            };
        if value.starts_with(prefix::CIPHER) {
            self.notes.notes.push((self.at, Note::KeyringCipherText));
        } else if missing {
            self.notes.notes.push((self.at, Note::PrefixMissing));
        }
        pg_binary::field(self.out, |out| conversion::write_text(value, out))
    }

    fn substitute(&mut self, substitute: &Substitute) -> Result<(), Reason> {
        match substitute {
            Substitute::Boolean(value) => {
                self.notes.repairs.push((self.at, ValueRepair::DefaultForNull));
                pg_binary::field(self.out, |out| {
                    out.push(u8::from(*value));
                    Ok(())
                })
            }
            Substitute::Integer(bytes) => {
                self.notes.repairs.push((self.at, ValueRepair::DefaultForNull));
                pg_binary::field(self.out, |out| {
                    out.extend_from_slice(bytes);
                    Ok(())
                })
            }
            Substitute::CertificateDigest(cell) => {
                let digest =
                    get(self.cells, *cell).and_then(certificate_digest).ok_or(Reason::IncompleteRow)?;
                self.notes.repairs.push((self.at, ValueRepair::DigestRecomputed));
                pg_binary::field(self.out, |out| conversion::write_text(digest.as_bytes(), out))
            }
        }
    }

    fn cache_key(&mut self, stored: Option<usize>, parts: &[CacheKeyPart]) -> Result<(), FieldError> {
        let (cells, workspace, known) = (self.cells, self.workspace, &self.context.workspaces);
        let start = self.out.len();
        pg_binary::field(self.out, |out| {
            for (at, part) in parts.iter().enumerate() {
                if at > 0 {
                    out.push(b':');
                }
                match part {
                    CacheKeyPart::Text(text) => out.extend_from_slice(text.as_bytes()),
                    CacheKeyPart::Cell { cell, kind } => {
                        let Some(bytes) = get(cells, *cell) else { continue };
                        write_cache_key_part(bytes, *kind, workspace, known, out)
                            .map_err(|reason| FieldError { reason, cell: Some(*cell) })?;
                    }
                }
            }
            Ok::<_, FieldError>(())
        })?;
        let rebuilt = self.out.get(start + 4..);
        if rebuilt != stored.and_then(|cell| get(self.cells, cell)) {
            self.notes.repairs.push((self.at, ValueRepair::CacheKeyRebuilt));
        }
        Ok(())
    }

    /// Read time cut to the second plus a time to live, both of the same page (docs/architecture.md, "Time to live").
    fn cell_expiry(
        &mut self,
        ttls: &[usize],
        now: usize,
        choice: ExpiryChoice,
        default_ttl: i32,
    ) -> Result<(), Reason> {
        let mut chosen: Option<i32> = None;
        for bytes in ttls.iter().filter_map(|&ttl| get(self.cells, ttl)) {
            let seconds = cell::int(bytes)?;
            chosen = Some(match (choice, chosen) {
                (_, None) => seconds,
                (ExpiryChoice::Smallest, Some(other)) => other.min(seconds),
                (ExpiryChoice::Largest, Some(other)) => other.max(seconds),
            });
        }
        if chosen.is_some_and(|seconds| seconds <= default_ttl) {
            self.notes.notes.push((self.at, Note::DefaultTimeToLive));
        }
        let Some(seconds) = chosen else {
            pg_binary::null(self.out);
            return Ok(());
        };
        let now = cell::bigint(get(self.cells, now).ok_or(Reason::Undecodable)?)?;
        self.instant(now.div_euclid(1000).saturating_add(i64::from(seconds)).saturating_mul(1000))
    }

    fn window_expiry(
        &mut self,
        start: usize,
        period: usize,
        seconds: &BTreeMap<String, i64>,
    ) -> Result<(), Reason> {
        let start = cell::bigint(get(self.cells, start).ok_or(Reason::IncompleteRow)?)?;
        let period = get(self.cells, period).and_then(|bytes| std::str::from_utf8(bytes).ok());
        let length = period.and_then(|period| seconds.get(period)).ok_or(Reason::PeriodUnknown)?;
        self.instant(start.saturating_add(length.saturating_mul(1000)))
    }

    fn instant(&mut self, milliseconds: i64) -> Result<(), Reason> {
        let instant = pg_binary::timestamp(milliseconds).ok_or(Reason::TimestampOutOfRange)?;
        pg_binary::field(self.out, |out| {
            out.extend(instant.to_be_bytes());
            Ok(())
        })
    }

    fn remark(&mut self, bytes: &[u8], remark: Option<ColumnRemark>, green_type: &str) {
        if green_type.starts_with("timestamp") {
            let likely = BEFORE_KONG_MS..self.context.now_ms.saturating_add(86_400_000);
            if cell::bigint(bytes).is_ok_and(|instant| !likely.contains(&instant)) {
                self.notes.notes.push((self.at, Note::TimestampUnlikely));
            }
        }
        if remark == Some(ColumnRemark::RegexPath) && any_regex_without_tilde(bytes) {
            self.notes.notes.push((self.at, Note::RegexPathWithoutTilde));
        }
        if bytes.starts_with(prefix::CIPHER) {
            self.notes.notes.push((self.at, Note::KeyringCipherText));
        }
    }
}

/// The text of one part of a composite key, as Kong made it: of the value itself, without the prefix that only blue has.
fn write_cache_key_part(
    bytes: &[u8],
    kind: CacheKeyPartKind,
    workspace: Option<Uuid>,
    known: &[Uuid],
    out: &mut Vec<u8>,
) -> Result<(), Reason> {
    match kind {
        CacheKeyPartKind::Uuid => {
            let id = Uuid::from_slice(bytes).map_err(|_| Reason::Undecodable)?;
            let mut text = Uuid::encode_buffer();
            out.extend_from_slice(id.hyphenated().encode_lower(&mut text).as_bytes());
            Ok(())
        }
        CacheKeyPartKind::Text => conversion::write_text(bytes, out),
        CacheKeyPartKind::Prefixed => match stripped(bytes, workspace, known)? {
            Stripped::Own(value) | Stripped::Missing(value) => conversion::write_text(value, out),
        },
    }
}

fn stripped<'v>(bytes: &'v [u8], workspace: Option<Uuid>, known: &[Uuid]) -> Result<Stripped<'v>, Reason> {
    // A row without workspace was rejected before; this column then has no prefix to speak of.
    prefix::strip(bytes, workspace.ok_or(Reason::WorkspaceNull)?, known)
}

/// Lower-case hex of SHA-256 over the DER of the first certificate in a PEM text.
fn certificate_digest(pem: &[u8]) -> Option<String> {
    use rustls_pki_types::{CertificateDer, pem::PemObject};
    let certificate = CertificateDer::from_pem_slice(pem).ok()?;
    Some(data_encoding::HEXLOWER.encode(digest(&SHA256, &certificate).as_ref()))
}

/// Kong 3.0's own test for a plain path: only these characters (docs/kong-data-model.md, 4.18).
fn any_regex_without_tilde(paths: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"._~/%-".contains(byte);
    let Ok(paths) = cell::Elements::of_collection(paths) else { return false };
    paths.flatten().any(|path| !path.starts_with(b"~") && !path.iter().all(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_looks_like_a_regex_is_remarked_unless_it_says_so() {
        let list = |path: &[u8]| {
            let mut cell = 1_i32.to_be_bytes().to_vec();
            cell.extend((path.len() as i32).to_be_bytes());
            cell.extend(path);
            cell
        };
        assert!(any_regex_without_tilde(&list(br"/a/\d+$")));
        assert!(!any_regex_without_tilde(&list(br"~/a/\d+$")));
        assert!(!any_regex_without_tilde(&list(b"/plain/path-1_2.html%20")));
    }

    #[test]
    fn the_digest_is_that_of_the_der_bytes() {
        // "MAMCAQE=" is a DER sequence holding the integer 1; its digest was made with sha256sum.
        let pem = b"-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----\n";
        assert_eq!(
            certificate_digest(pem).as_deref(),
            Some("1b65f68a522c858715f5dd951cd0402dc16691778814bf0759822b7a257421d0")
        );
        assert_eq!(certificate_digest(b"no certificate"), None);
    }
}
