//! Green's tables, as `pg_catalog` describes them.

use std::collections::BTreeMap;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GreenCatalog {
    pub tables: BTreeMap<String, GreenTable>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GreenTable {
    pub name: String,
    /// In the order of the table.
    pub columns: Vec<GreenColumn>,
    /// Columns that green computes by itself from their `default`; no client may write them.
    pub generated: Vec<GreenColumn>,
    /// The columns that identify a row, in order: the primary key's, or those of a unique index that
    /// [`identify_rows`](GreenTable::identify_rows) chose; empty where there is neither.
    pub primary_key: Vec<String>,
    /// All indexes, the primary key's among them.
    pub indexes: Vec<Index>,
    pub foreign_keys: Vec<ForeignKey>,
    pub checks: Vec<Check>,
    /// Triggers, but the internal ones of foreign keys.
    pub triggers: Vec<Trigger>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GreenColumn {
    pub name: String,
    /// Its type, as `format_type()` spells it.
    pub column_type: String,
    /// Type of an array's elements, else 0.
    pub element_oid: u32,
    /// Whether NULL is refused.
    pub not_null: bool,
    pub default: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Index {
    pub name: String,
    pub unique: bool,
    /// Whether it identifies the rows: the primary key's, or the one chosen instead.
    pub primary: bool,
    /// Whether two nulls count as different, as they do unless the index says otherwise.
    pub nulls_distinct: bool,
    /// Its key, one expression per part.
    pub expressions: Vec<String>,
    /// The parts that are plain columns; as long as `expressions` when all are.
    pub columns: Vec<String>,
    /// Every column that an entry is made of, for messages: also those included, and those within expressions.
    pub named: Vec<String>,
    /// Columns that only ride along in each entry.
    pub included: Vec<String>,
    /// Where two rows may not relate like this rather than be equal: an operator per part.
    pub exclusion: Vec<String>,
    /// The rows it covers, when not all.
    pub predicate: Option<String>,
    /// Its definition, from `USING` on.
    pub definition: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ForeignKey {
    pub name: String,
    pub columns: Vec<String>,
    pub parent: String,
    /// The columns referred to, in the same order.
    pub parent_columns: Vec<String>,
    /// Whether a reference is whole or not there at all: `MATCH FULL`.
    pub match_full: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trigger {
    pub name: String,
    pub function: String,
    /// `O` fires, `D` does not, `R` and `A` are about replication.
    pub enabled: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    pub name: String,
    /// The condition over the table's columns.
    pub expression: String,
}

impl Index {
    /// Whether no two rows of the table, whichever they are, have the same values in its columns, which are plain.
    pub fn is_unique_over_columns(&self) -> bool {
        self.unique
            && self.exclusion.is_empty()
            && self.predicate.is_none()
            && !self.columns.is_empty()
            && self.columns.len() == self.expressions.len()
    }
}

impl GreenTable {
    /// Whether one of its triggers calls that function.
    pub fn calls(&self, function: &str) -> bool {
        self.triggers.iter().any(|trigger| trigger.function == function)
    }

    pub fn column(&self, name: &str) -> Option<&GreenColumn> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// In a table without a primary key, lets a unique index over plain columns identify the rows instead, one that takes
    /// no nulls before others. Enterprise's `event_hooks` is such a table.
    pub fn identify_rows(&mut self) {
        if !self.primary_key.is_empty() {
            return;
        }
        let not_null = |name: &String| self.column(name).is_some_and(|column| column.not_null);
        let whole = || self.indexes.iter().filter(|index| index.is_unique_over_columns());
        let chosen = whole().find(|index| index.columns.iter().all(not_null)).or_else(|| whole().next());
        let Some(name) = chosen.map(|index| index.name.clone()) else { return };
        for index in self.indexes.iter_mut().filter(|index| index.name == name) {
            index.primary = true;
            self.primary_key.clone_from(&index.columns);
        }
    }

    /// Whether some unique index covers exactly these columns, in any order and for all rows.
    pub fn is_unique_over(&self, columns: &[&str]) -> bool {
        self.indexes.iter().any(|index| {
            index.is_unique_over_columns()
                && index.columns.len() == columns.len()
                && columns.iter().all(|column| index.columns.iter().any(|name| name == column))
        })
    }
}
