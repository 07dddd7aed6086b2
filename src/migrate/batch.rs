//! One page of blue, converted, and several of them on their way into the stage: they go in by one COPY, because each
//! COPY costs a transaction and a wait for the network, however few rows it brings.

use crate::blue::scan::Page;
use crate::green::stage::{RejectedRow, RepairedValue, RowBuffer};
use crate::mapping::digest::Digest128;
use crate::mapping::row_json;
use crate::mapping::table_plan::TablePlan;
use crate::mapping::transcode::RowNotes;

use super::fingerprints::Fingerprint;
use super::load::{EXAMPLES, Loaded};

/// Bytes that are worth a COPY of their own.
const FULL: usize = 4 << 20;

/// Pages that are at most kept for one: each is held as blue sent it, too, until its rows are in.
const MANY: usize = 512;

/// A page with what became of it.
pub(super) type Kept = (Page, Converted);

/// Pages of one table that wait for their COPY.
#[derive(Default)]
pub(super) struct Batch {
    pages: Vec<Kept>,
    bytes: usize,
}

impl Batch {
    /// Adds a page; gives all of them back when there are enough.
    pub(super) fn add(&mut self, page: Page, converted: Converted) -> Option<Vec<Kept>> {
        self.bytes += converted.buffer.bytes.len();
        self.pages.push((page, converted));
        (self.bytes >= FULL || self.pages.len() >= MANY).then(|| self.take())
    }

    /// Gives back all of them.
    pub(super) fn take(&mut self) -> Vec<Kept> {
        self.bytes = 0;
        std::mem::take(&mut self.pages)
    }
}

/// One page, converted. Its memory goes from page to page.
#[derive(Default)]
pub(super) struct Converted {
    pub(super) buffer: RowBuffer,
    /// For each row of the buffer its place in the page.
    pub(super) places: Vec<usize>,
    pub(super) aside: Vec<RejectedRow>,
    pub(super) mended: Vec<RepairedValue>,
    pub(super) marks: Vec<Fingerprint>,
    /// For each row of the buffer its key, where only some rows are wanted.
    pub(super) keys: Vec<Digest128>,
    pub(super) counts: Loaded,
}

impl Converted {
    pub(super) fn clear(&mut self) {
        self.buffer.clear();
        self.places.clear();
        self.aside.clear();
        self.mended.clear();
        self.marks.clear();
        self.keys.clear();
        self.counts = Loaded::default();
    }

    pub(super) fn remark(&mut self, plan: &TablePlan, cells: &[Option<&[u8]>], remarks: &RowNotes) {
        for (at, repair) in &remarks.repairs {
            let Some(column) = plan.columns.get(*at) else { continue };
            self.mended.push(RepairedValue {
                key: row_json::key(plan, cells),
                column: column.name.clone(),
                repair: repair.code(),
            });
        }
        self.note(plan, cells, remarks);
    }

    pub(super) fn note(&mut self, plan: &TablePlan, cells: &[Option<&[u8]>], remarks: &RowNotes) {
        for (at, note) in &remarks.notes {
            let Some(column) = plan.columns.get(*at) else { continue };
            let (count, keys) = self.counts.notes.entry((column.name.clone(), *note)).or_default();
            *count += 1;
            if keys.len() < EXAMPLES {
                keys.push(row_json::display_key(&row_json::key(plan, cells)));
            }
        }
    }
}
