//! The rows of a freshly bootstrapped green, recorded in a file: every row's key and a digest, never the row.
//!
//! Where the schema map does not name the rows of a bootstrap (another version of Enterprise, a custom plugin that fills
//! its tables) a baseline recorded right after it distinguishes them from rows that were made later.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::session::Green;
use super::sql::{fill, key, quote};
use super::statement::query_as;
use crate::catalog::green::GreenCatalog;
use crate::error::{Error, Kind, Result};
use crate::green::session::During;

const FORMAT: u32 = 1;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    /// Version of the format, 1.
    pub format: u32,
    pub green: String,
    pub taken_at: String,
    pub tables: BTreeMap<String, Vec<BaselineRow>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BaselineRow {
    /// Its key, as JSON text.
    pub key: String,
    /// MD5 over the row: it detects changes, it protects nothing.
    pub digest: String,
}

/// The expression of a row's digest.
pub fn digest(alias: &str) -> String {
    // Not to_jsonb(): a json column may contain what jsonb refuses.
    format!("md5(row_to_json({alias})::text)")
}

impl Baseline {
    /// Reads every table with a primary key.
    pub async fn take(green: &Green, catalog: &GreenCatalog) -> Result<Baseline> {
        let keyed = || catalog.tables.values().filter(|table| !table.primary_key.is_empty());
        let tables = green.read("cannot read green's tables for the baseline", async |tx| {
            let mut tables = BTreeMap::new();
            for table in keyed() {
                let sql = fill(
                    "select {key}::text, {digest} from {table} g order by 1",
                    &[
                        ("key", &key(&table.primary_key, "g")),
                        ("digest", &digest("g")),
                        ("table", &quote(&table.name)),
                    ],
                );
                let action = format!("cannot read green's table \"{}\" for the baseline", table.name);
                let rows: Vec<(String, String)> =
                    query_as(sql).fetch_all(&mut *tx).await.during(green, &action)?;
                if !rows.is_empty() {
                    let row = |(key, digest)| BaselineRow { key, digest };
                    tables.insert(table.name.clone(), rows.into_iter().map(row).collect());
                }
            }
            Ok(tables)
        });
        let tables = tables.await?;
        Ok(Baseline {
            format: FORMAT,
            green: format!("{}/{}", green.config().address(), green.config().database()),
            taken_at: chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
            tables,
        })
    }

    pub fn rows(&self) -> usize {
        self.tables.values().map(Vec::len).sum()
    }

    pub fn from_file(path: &Path) -> Result<Baseline> {
        let unreadable = || Error::usage(format!("cannot read the baseline {}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|e| unreadable().source(e))?;
        let baseline: Baseline = serde_json::from_str(&text)
            .map_err(|e| unreadable().source(e).remedy("Give a file that inspect --save-baseline wrote."))?;
        if baseline.format != FORMAT {
            return Err(unreadable().detail(format!("It has format {}, not {FORMAT}.", baseline.format)));
        }
        Ok(baseline)
    }

    /// Writes it to a new file: an older baseline is the only witness of its time, and is not written over.
    pub fn save(&self, path: &Path) -> Result<()> {
        let failed = |error: std::io::Error| {
            let exists = error.kind() == std::io::ErrorKind::AlreadyExists;
            let error =
                Error::new(Kind::Io, format!("cannot write the baseline {}", path.display())).source(error);
            if exists {
                error.remedy("Give another path, or remove the file if it is obsolete.")
            } else {
                error
            }
        };
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(failed)?;
        let text = serde_json::to_string_pretty(self).unwrap_or_default();
        file.write_all(text.as_bytes()).and_then(|()| file.write_all(b"\n")).map_err(failed)
    }
}
