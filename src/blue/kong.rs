//! What Kong on blue says about itself: its record of migrations, its workspaces, the locks of a running migration.

use std::collections::{BTreeSet, HashSet};

use uuid::Uuid;

use super::session::{Blue, quote};
use crate::error::Result;

/// One row of Kong's record of migrations: subsystem, last executed, executed, pending.
pub type MetaRow = (String, Option<String>, Option<HashSet<String>>, Option<HashSet<String>>);

/// A workspace: its id, and its name, which an incomplete row lacks.
pub type WorkspaceRow = (Uuid, Option<String>);

impl Blue {
    pub async fn schema_meta(&self, table: &str) -> Result<Vec<MetaRow>> {
        let cql = format!("SELECT subsystem, last_executed, executed, pending FROM {}", self.table(table));
        self.rows(&cql, (), "cannot read Kong's record of migrations on blue").await
    }

    pub async fn workspaces(&self, table: &str, id: &str, name: &str) -> Result<Vec<WorkspaceRow>> {
        let cql = format!("SELECT {}, {} FROM {}", quote(id), quote(name), self.table(table));
        self.rows(&cql, (), "cannot read the workspaces of blue").await
    }

    /// The texts in a column of a small table.
    pub async fn texts(&self, table: &str, column: &str) -> Result<BTreeSet<String>> {
        let cql = format!("SELECT {} FROM {}", quote(column), self.table(table));
        let action = format!("cannot read the table \"{table}\"");
        let rows: Vec<(Option<String>,)> = self.rows(&cql, (), &action).await?;
        Ok(rows.into_iter().filter_map(|(text,)| text).collect())
    }

    /// The values of a table's partition key, which is one text column.
    pub async fn partitions(&self, table: &str, column: &str) -> Result<BTreeSet<String>> {
        let cql = format!("SELECT DISTINCT {} FROM {}", quote(column), self.table(table));
        let rows: Vec<(String,)> =
            self.rows(&cql, (), &format!("cannot read the partitions of \"{table}\"")).await?;
        Ok(rows.into_iter().map(|(partition,)| partition).collect())
    }

    /// Whether a table has a row; `partition_key` are the columns of its partition key.
    pub async fn has_rows(&self, table: &str, partition_key: &[&str]) -> Result<bool> {
        let key: Vec<String> = partition_key.iter().map(|name| quote(name)).collect();
        let cql = format!("SELECT token({}) FROM {} LIMIT 1", key.join(", "), self.table(table));
        let rows: Vec<(i64,)> = self.rows(&cql, (), &format!("cannot read the table \"{table}\"")).await?;
        Ok(!rows.is_empty())
    }

    /// How many rows a small table has.
    pub async fn rows_in(&self, table: &str) -> Result<i64> {
        let cql = format!("SELECT count(*) FROM {}", self.table(table));
        let rows: Vec<(i64,)> =
            self.rows(&cql, (), &format!("cannot count the rows of table \"{table}\"")).await?;
        Ok(rows.first().map_or(0, |(count,)| *count))
    }
}
