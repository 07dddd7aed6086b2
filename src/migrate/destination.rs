//! Where converted rows go: into the stage, or into fingerprints; `plan --quick` discards them.

use std::collections::BTreeMap;
use std::sync::Mutex;

use serde_json::Value;

use crate::green::stage::{RejectedRow, Stage};
use crate::spill::SpillFile;

use super::batch::ConvertedRows;
use super::fingerprints::Fingerprint;
use super::loaded::EXAMPLES;

pub enum Destination {
    Stage(Box<Stage>),
    /// `plan --quick` only reports which rows cannot be converted.
    Discard(Mutex<QuickResults>),
    /// A fingerprint of each row, table by table; rejected rows go to the stage where there is one.
    Fingerprints(Option<Box<Stage>>, Vec<Mutex<SpillFile<Fingerprint>>>),
}

/// Rejects and repairs of a run without a stage.
#[derive(Debug, Default)]
pub struct QuickResults {
    pub rejects: Vec<(String, RejectedRow)>,
    /// Repaired values per table, column and repair: how many, and keys of some of the rows.
    pub repairs: BTreeMap<(String, String, &'static str), (u64, Vec<Value>)>,
    /// Rows with a repaired value, per table.
    pub repaired_rows: BTreeMap<String, u64>,
}

impl QuickResults {
    pub(super) fn add(&mut self, table: &str, converted: &mut ConvertedRows) {
        self.rejects.extend(converted.rejects.drain(..).map(|row| (table.to_owned(), row)));
        let mut previous_key = None;
        for repair in converted.repairs.drain(..) {
            // The repairs of one row follow each other.
            if previous_key.as_ref() != Some(&repair.key) {
                *self.repaired_rows.entry(table.to_owned()).or_default() += 1;
            }
            let group = (table.to_owned(), repair.column, repair.repair);
            let (count, keys) = self.repairs.entry(group).or_default();
            *count += 1;
            if keys.len() < EXAMPLES {
                keys.push(repair.key.clone());
            }
            previous_key = Some(repair.key);
        }
    }
}
