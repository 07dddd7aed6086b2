//! The keys that a repair would write or remove, collected while findings are written.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Shown;

use super::compare::spelled;
use super::findings::{Finding, What};

/// Rows that a repair takes on. More than so many are not mended but migrated.
pub const MOST: usize = 200_000;

/// Keys of one sort of rows, by table and by their one spelling.
pub type Keys = BTreeMap<String, BTreeMap<String, Selected>>;

/// One row.
#[derive(Debug, Clone)]
pub struct Selected {
    /// Its key as findings show it.
    pub shown: Shown,
    /// Whether green has a row with this key.
    pub on_green: bool,
}

/// What a repair would do.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Rows that differ or are missing on green.
    pub write: Keys,
    /// Rows that blue lacks.
    pub remove: Keys,
    /// Whether green's table of tags does not say what the entities say.
    pub tags: bool,
    rows: usize,
}

impl Selection {
    /// Takes the row of a finding, where writing or removing it is what mends it.
    pub fn add(&mut self, finding: &Finding) {
        let keys = match finding.kind {
            What::Missing
            | What::Different
            | What::WrongWorkspace
            | What::WrongExpiry
            | What::WrongCacheKey => &mut self.write,
            What::Extra => &mut self.remove,
            What::TagsDiffer => {
                self.tags = true;
                return;
            }
            What::Orphan | What::SecondDefaultWorkspace | What::DefinitionChanged => return,
        };
        if self.rows >= MOST {
            self.rows += 1;
            return;
        }
        let table = keys.entry(finding.table.clone()).or_default();
        let selected = Selected { shown: finding.key.clone(), on_green: finding.kind != What::Missing };
        if table.insert(spelled(&finding.key), selected).is_none() {
            self.rows += 1;
        }
    }

    /// Whether there are more rows than a repair takes on.
    pub fn is_too_large(&self) -> bool {
        self.rows > MOST
    }

    /// Leaves these tables alone.
    pub fn without(&mut self, is_left: impl Fn(&str) -> bool) {
        self.write.retain(|table, _| !is_left(table));
        self.remove.retain(|table, _| !is_left(table));
    }

    /// The tables it is about.
    pub fn tables(&self) -> BTreeSet<String> {
        self.write.keys().chain(self.remove.keys()).cloned().collect()
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.write.is_empty() && self.remove.is_empty() && !self.tags
    }
}
