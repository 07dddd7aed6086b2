//! Converts a page of blue: each of its rows goes into the buffer for the stage, becomes a mark, or is set aside.

use serde_json::Value;

use crate::blue::Failure;
use crate::blue::scan::Page;
use crate::blue::token;
use crate::green::stage::RejectedRow;
use crate::mapping::digest::{Digest128, Digester, RowDigest};
use crate::mapping::row_json;
use crate::mapping::table_plan::TablePlan;
use crate::mapping::transcode::{Rejection, RowContext, RowNotes, RowOutcome, Transcoder};

use super::batch::Converted;
use super::fingerprints::Fingerprint;
use super::load::Wanted;

/// How the rows of one table are converted.
pub(super) struct Converting<'a> {
    /// Its plan.
    pub plan: &'a TablePlan,
    /// What transcoders must know.
    pub surroundings: &'a RowContext,
    /// Which of its rows.
    pub wanted: &'a Wanted,
    /// Whether only marks are kept of them.
    pub marking: bool,
}

/// Why a page could not be converted to its end.
pub(super) enum Stop {
    /// The driver cannot read it.
    Unreadable(Failure),
    /// A cell at this place holds a value that green has no column for; the row's key.
    UnknownColumn(usize, Value),
    /// What was made of a row is not one: a defect of ours.
    NotARow,
}

impl Converting<'_> {
    /// Converts all rows of a page, in place of what was there.
    pub fn page(&self, page: &Page, to: &mut Converted) -> Result<(), Stop> {
        let transcoder = Transcoder::new(self.plan, self.surroundings);
        let mut digester = Digester::new(self.plan);
        let mut remarks = RowNotes::default();
        let mut stop = None;
        let mut place = 0;
        to.clear();
        let read = page.for_each(|cells| {
            let start = to.buffer.bytes.len();
            let counts = match transcoder.row(cells, &mut to.buffer.bytes, &mut remarks) {
                RowOutcome::Staged if self.marking => self.mark(&mut digester, cells, start, &remarks, to),
                RowOutcome::Staged => self.stage(&mut digester, cells, (start, place), &remarks, to),
                RowOutcome::OtherPartition => {
                    to.counts.other_partition += 1;
                    Some(true)
                }
                RowOutcome::Rejected(rejection) => {
                    Some(self.set_aside(rejection, transcoder.key(cells), cells, to))
                }
                RowOutcome::UnknownColumn(cell) => {
                    stop = Some(Stop::UnknownColumn(cell, row_json::key(self.plan, cells)));
                    Some(true)
                }
            };
            match counts {
                Some(counts) => to.counts.source += u64::from(counts),
                None => stop = Some(Stop::NotARow),
            }
            place += 1;
        });
        read.map_err(Stop::Unreadable)?;
        stop.map_or(Ok(()), Err)
    }

    /// Keeps the mark of the last row of the buffer in the place of the row.
    fn mark(
        &self,
        digester: &mut Digester,
        cells: &[Option<&[u8]>],
        start: usize,
        remarks: &RowNotes,
        to: &mut Converted,
    ) -> Option<bool> {
        let row = to.buffer.bytes.get(start..)?;
        let (key, (digest, expiry)) = (digester.key(row)?, digester.values(row)?);
        to.buffer.bytes.truncate(start);
        to.note(self.plan, cells, remarks);
        let repaired = !remarks.repairs.is_empty();
        let mark = RowDigest { key, digest, expiry };
        let of_key = self.plan.partition_cells.iter().map(|&at| cells.get(at).copied().flatten());
        to.marks.push(Fingerprint { mark, token: token::of(of_key)?, repaired, rejected: false });
        Some(true)
    }

    /// Finishes the last row of the buffer, which began at `start`; takes it out again where it is not wanted.
    fn stage(
        &self,
        digester: &mut Digester,
        cells: &[Option<&[u8]>],
        (start, place): (usize, usize),
        remarks: &RowNotes,
        to: &mut Converted,
    ) -> Option<bool> {
        let row = to.buffer.bytes.get(start..)?;
        if let Wanted::Only { keys, .. } = self.wanted {
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
        to.places.push(place);
        to.counts.staged += 1;
        to.remark(self.plan, cells, remarks);
        Some(true)
    }

    /// Sets a row aside, where it is wanted.
    fn set_aside(
        &self,
        rejection: Rejection,
        key: Option<Digest128>,
        cells: &[Option<&[u8]>],
        to: &mut Converted,
    ) -> bool {
        if let Wanted::Only { keys, .. } = self.wanted {
            match key.filter(|key| keys.contains(key)) {
                Some(key) => to.counts.aside.insert(key),
                None => return false,
            };
        }
        if let (true, Some(key)) = (self.marking, key) {
            let mark = RowDigest { key, digest: Digest128::default(), expiry: None };
            to.marks.push(Fingerprint { mark, token: 0, repaired: false, rejected: true });
        }
        to.aside.push(RejectedRow {
            key: row_json::key(self.plan, cells),
            column: rejection.column,
            reason: rejection.reason.code(),
            detail: None,
            row: row_json::row(self.plan, cells),
            mark: None,
        });
        true
    }
}
