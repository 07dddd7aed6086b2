//! Converts a page of blue: each row is added to the buffer for the stage, is fingerprinted, or is rejected.

use serde_json::Value;

use crate::blue::ReadFailure;
use crate::blue::scan::Page;
use crate::blue::token;
use crate::green::stage::RejectedRow;
use crate::mapping::digest::{Digest128, Digester, RowDigest};
use crate::mapping::row_json;
use crate::mapping::table_plan::TablePlan;
use crate::mapping::transcode::{Rejection, RowContext, RowNotes, RowOutcome, Transcoder};

use super::batch::ConvertedRows;
use super::fingerprints::Fingerprint;
use super::row_filter::RowFilter;

/// Converts the pages of one table.
pub(super) struct PageConverter<'a> {
    pub plan: &'a TablePlan,
    pub context: &'a RowContext,
    pub filter: &'a RowFilter,
    pub fingerprints_only: bool,
}

/// Why a page could not be converted to its end.
pub(super) enum ConvertError {
    Unreadable(ReadFailure),
    /// The cell with this number has a value, and green has no such column; the key of the row.
    UnknownColumn(usize, Value),
    /// The converted row is malformed: a defect of kongferry.
    NotARow,
}

impl PageConverter<'_> {
    /// Converts all rows of a page; what `to` held before is replaced.
    pub fn convert(&self, page: &Page, to: &mut ConvertedRows) -> Result<(), ConvertError> {
        let transcoder = Transcoder::new(self.plan, self.context);
        let mut digester = Digester::new(self.plan);
        let mut notes = RowNotes::default();
        let mut error = None;
        let mut row_number = 0;
        to.clear();
        let read = page.for_each(|cells| {
            let start = to.buffer.bytes.len();
            let is_counted = match transcoder.row(cells, &mut to.buffer.bytes, &mut notes) {
                RowOutcome::Staged if self.fingerprints_only => {
                    self.fingerprint(&mut digester, cells, start, &notes, to)
                }
                RowOutcome::Staged => self.stage(&mut digester, cells, (start, row_number), &notes, to),
                RowOutcome::OtherPartition => {
                    to.counts.other_partition += 1;
                    Some(true)
                }
                RowOutcome::DeletedWorkspace => {
                    to.counts.deleted_workspace += 1;
                    Some(true)
                }
                RowOutcome::Expired => {
                    to.counts.expired += 1;
                    Some(true)
                }
                RowOutcome::Rejected(rejection) => {
                    Some(self.reject(rejection, transcoder.key(cells), cells, to))
                }
                RowOutcome::UnknownColumn(cell) => {
                    error = Some(ConvertError::UnknownColumn(cell, row_json::key(self.plan, cells)));
                    Some(true)
                }
            };
            match is_counted {
                Some(is_counted) => to.counts.source += u64::from(is_counted),
                None => error = Some(ConvertError::NotARow),
            }
            row_number += 1;
        });
        read.map_err(ConvertError::Unreadable)?;
        error.map_or(Ok(()), Err)
    }

    /// Replaces the last row of the buffer by its fingerprint.
    fn fingerprint(
        &self,
        digester: &mut Digester,
        cells: &[Option<&[u8]>],
        start: usize,
        notes: &RowNotes,
        to: &mut ConvertedRows,
    ) -> Option<bool> {
        let row = to.buffer.bytes.get(start..)?;
        let (key, (digest, expiry)) = (digester.key(row)?, digester.values(row)?);
        to.buffer.bytes.truncate(start);
        to.add_notes(self.plan, cells, notes);
        let repaired = !notes.repairs.is_empty();
        let row = RowDigest { key, digest, expiry };
        let partition_key = self.plan.partition_cells.iter().map(|&at| cells.get(at).copied().flatten());
        to.fingerprints.push(Fingerprint {
            row,
            token: token::of_key(partition_key)?,
            repaired,
            rejected: false,
        });
        Some(true)
    }

    /// Finishes the last row of the buffer, which begins at `start`; removes it if the filter excludes it.
    fn stage(
        &self,
        digester: &mut Digester,
        cells: &[Option<&[u8]>],
        (start, row_number): (usize, usize),
        notes: &RowNotes,
        to: &mut ConvertedRows,
    ) -> Option<bool> {
        let row = to.buffer.bytes.get(start..)?;
        if let RowFilter::Keys { keys, .. } = self.filter {
            let key = digester.key(row)?;
            if !keys.contains(&key) {
                to.buffer.bytes.truncate(start);
                return Some(false);
            }
            to.keys.push(key);
        }
        let (digest, _) = digester.values(row)?;
        to.buffer.starts.push(start);
        to.buffer.add_field(start, &digest);
        to.page_rows.push(row_number);
        to.counts.staged += 1;
        to.add_repairs_and_notes(self.plan, cells, notes);
        Some(true)
    }

    /// Rejects a row, unless the filter excludes it.
    fn reject(
        &self,
        rejection: Rejection,
        key: Option<Digest128>,
        cells: &[Option<&[u8]>],
        to: &mut ConvertedRows,
    ) -> bool {
        if let RowFilter::Keys { keys, .. } = self.filter {
            match key.filter(|key| keys.contains(key)) {
                Some(key) => to.counts.rejected_keys.insert(key),
                None => return false,
            };
        }
        if let (true, Some(key)) = (self.fingerprints_only, key) {
            let row = RowDigest { key, digest: Digest128::default(), expiry: None };
            to.fingerprints.push(Fingerprint { row, token: 0, repaired: false, rejected: true });
        }
        to.rejects.push(RejectedRow {
            key: row_json::key(self.plan, cells),
            column: rejection.column,
            reason: rejection.reason.code(),
            detail: None,
            row: row_json::row(self.plan, cells),
            digest: None,
        });
        true
    }
}
