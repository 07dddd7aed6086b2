//! Converted pages of one table that wait for a COPY. Several pages share one, because each COPY costs a transaction and
//! a round trip however few rows it copies.

use crate::blue::scan::Page;
use crate::green::stage::{RejectedRow, RepairedValue, RowBuffer};
use crate::mapping::digest::Digest128;
use crate::mapping::row_json;
use crate::mapping::table_plan::TablePlan;
use crate::mapping::transcode::RowNotes;

use super::fingerprints::Fingerprint;
use super::loaded::{EXAMPLES, LoadedTable};

/// Bytes at which a batch is copied.
const MAX_BYTES: usize = 4 << 20;

/// Pages at which a batch is copied: each is kept as blue sent it, too, until its rows are in the stage.
const MAX_PAGES: usize = 512;

/// A page of blue and its rows for green.
pub(super) type ConvertedPage = (Page, ConvertedRows);

#[derive(Default)]
pub(super) struct CopyBatch {
    pages: Vec<ConvertedPage>,
    bytes: usize,
}

impl CopyBatch {
    /// Adds a page; returns all pages once they are enough for a COPY.
    pub(super) fn add(&mut self, page: Page, converted: ConvertedRows) -> Option<Vec<ConvertedPage>> {
        self.bytes += converted.buffer.bytes.len();
        self.pages.push((page, converted));
        (self.bytes >= MAX_BYTES || self.pages.len() >= MAX_PAGES).then(|| self.take())
    }

    pub(super) fn take(&mut self) -> Vec<ConvertedPage> {
        self.bytes = 0;
        std::mem::take(&mut self.pages)
    }
}

/// The rows of one page after conversion. Its buffers are used again for other pages.
#[derive(Default)]
pub(super) struct ConvertedRows {
    pub(super) buffer: RowBuffer,
    /// For each row of the buffer its row number in the page.
    pub(super) page_rows: Vec<usize>,
    pub(super) rejects: Vec<RejectedRow>,
    pub(super) repairs: Vec<RepairedValue>,
    pub(super) fingerprints: Vec<Fingerprint>,
    /// For each row of the buffer its key, where the filter names keys.
    pub(super) keys: Vec<Digest128>,
    pub(super) counts: LoadedTable,
}

impl ConvertedRows {
    pub(super) fn clear(&mut self) {
        self.buffer.clear();
        self.page_rows.clear();
        self.rejects.clear();
        self.repairs.clear();
        self.fingerprints.clear();
        self.keys.clear();
        self.counts = LoadedTable::default();
    }

    pub(super) fn add_repairs_and_notes(
        &mut self,
        plan: &TablePlan,
        cells: &[Option<&[u8]>],
        notes: &RowNotes,
    ) {
        for (at, repair) in &notes.repairs {
            let Some(column) = plan.columns.get(*at) else { continue };
            self.repairs.push(RepairedValue {
                key: row_json::key(plan, cells),
                column: column.name.clone(),
                repair: repair.code(),
            });
        }
        self.add_notes(plan, cells, notes);
    }

    pub(super) fn add_notes(&mut self, plan: &TablePlan, cells: &[Option<&[u8]>], notes: &RowNotes) {
        for (at, note) in &notes.notes {
            let Some(column) = plan.columns.get(*at) else { continue };
            let (count, keys) = self.counts.notes.entry((column.name.clone(), *note)).or_default();
            *count += 1;
            if keys.len() < EXAMPLES {
                keys.push(row_json::display_key(&row_json::key(plan, cells)));
            }
        }
    }
}
