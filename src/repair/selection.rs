//! The keys that a repair would write or delete, collected while the comparison reports differences.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;

use crate::verify::differences::{Difference, DifferenceKind};
use crate::verify::key::canonical_key;

/// Above this number of differing rows `migrate` is the remedy, not a repair.
pub(super) const MAX_ROWS: usize = 200_000;

/// Keys by table and by their canonical text.
type KeysByTable = BTreeMap<String, BTreeMap<String, SelectedKey>>;

#[derive(Debug, Clone)]
pub(super) struct SelectedKey {
    /// As the differences file shows it.
    pub(super) key: Json,
    /// Whether green has a row with this key.
    pub(super) is_on_green: bool,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Selection {
    /// Rows that differ, or that green lacks.
    pub(super) write: KeysByTable,
    pub(super) delete: KeysByTable,
    /// Whether green's table of tags does not match the entities.
    pub(super) tags: bool,
    rows: usize,
}

impl Selection {
    /// Adds the row of a difference where writing or deleting that row is the remedy.
    pub(super) fn add(&mut self, difference: &Difference) {
        let keys = match difference.kind {
            DifferenceKind::Missing
            | DifferenceKind::Different
            | DifferenceKind::WrongWorkspace
            | DifferenceKind::WrongExpiry
            | DifferenceKind::WrongCacheKey => &mut self.write,
            DifferenceKind::Extra => &mut self.delete,
            DifferenceKind::TagsDiffer => {
                self.tags = true;
                return;
            }
            DifferenceKind::Orphan
            | DifferenceKind::SecondDefaultWorkspace
            | DifferenceKind::DefinitionChanged => return,
        };
        if self.rows >= MAX_ROWS {
            self.rows += 1;
            return;
        }
        let table = keys.entry(difference.table.clone()).or_default();
        let is_on_green = difference.kind != DifferenceKind::Missing;
        let selected = SelectedKey { key: difference.key.clone(), is_on_green };
        if table.insert(canonical_key(&difference.key), selected).is_none() {
            self.rows += 1;
        }
    }

    pub(super) fn is_too_large(&self) -> bool {
        self.rows > MAX_ROWS
    }

    pub(super) fn remove_tables(&mut self, is_removed: impl Fn(&str) -> bool) {
        self.write.retain(|table, _| !is_removed(table));
        self.delete.retain(|table, _| !is_removed(table));
    }

    pub(super) fn tables(&self) -> BTreeSet<String> {
        self.write.keys().chain(self.delete.keys()).cloned().collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.write.is_empty() && self.delete.is_empty() && !self.tags
    }
}
