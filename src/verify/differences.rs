//! The differences file: one JSON object per line, readable by its owner only, secrets as digests.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value as Json;

use super::value::KongValue;
use crate::error::{Error, Kind, Result};
use crate::mapping::schema_map::SchemaMap;
use crate::secrets::Redaction;

const LISTED: usize = 10;

/// The kinds of differences. The codes are a contract with scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DifferenceKind {
    /// On blue only.
    Missing,
    /// On green only.
    Extra,
    Different,
    WrongWorkspace,
    /// The expiry differs, or is on one side only.
    WrongExpiry,
    /// The cache_key is not the one that Kong would build.
    WrongCacheKey,
    /// Green's table of tags does not match the entity.
    TagsDiffer,
    /// A reference to a row that does not exist.
    Orphan,
    SecondDefaultWorkspace,
    /// A definition of Kong's schema is not as the run left it: `key` names it, `blue` holds how it was.
    DefinitionChanged,
}

#[derive(Debug, Clone, Serialize)]
pub struct Difference {
    pub table: String,
    pub key: Json,
    pub kind: DifferenceKind,
    pub column: Option<String>,
    pub blue: Json,
    pub green: Json,
    /// Whether the comparison after a repair found it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub after_repair: bool,
}

impl Difference {
    pub(super) fn new(table: &str, key: Json, kind: DifferenceKind) -> Difference {
        Difference {
            table: table.to_owned(),
            key,
            kind,
            column: None,
            blue: Json::Null,
            green: Json::Null,
            after_repair: false,
        }
    }
}

/// Is called with each difference as it is found.
pub(crate) type DifferenceListener = Box<dyn FnMut(&Difference) + Send>;

/// The differences file, the first differences, and their number.
pub(crate) struct DifferenceLog {
    file: Option<BufWriter<File>>,
    path: PathBuf,
    redaction: Redaction,
    listener: Option<DifferenceListener>,
    after_repair: bool,
    pub(super) count: u64,
    pub(super) first: Vec<Difference>,
}

impl DifferenceLog {
    /// Creates the file before the work begins, so that a path that cannot be written fails at once.
    pub(crate) fn create(path: Option<&Path>, show_secrets: bool) -> Result<DifferenceLog> {
        let path = path.map(Path::to_path_buf).unwrap_or_default();
        let file = if path.as_os_str().is_empty() { None } else { Some(BufWriter::new(open(&path)?)) };
        Ok(DifferenceLog {
            file,
            path,
            redaction: Redaction::new(show_secrets),
            listener: None,
            after_repair: false,
            count: 0,
            first: Vec::new(),
        })
    }

    pub(crate) fn listen(&mut self, listener: DifferenceListener) {
        self.listener = Some(listener);
    }

    /// Marks every later difference as one that the repair did not remove.
    pub(crate) fn begin_after_repair(&mut self) {
        self.after_repair = true;
        self.listener = None;
        self.first.clear();
    }

    /// Also hides the columns that this map calls secret.
    pub(super) fn hide_secrets_of(&mut self, map: &SchemaMap) {
        self.redaction.add_map(map);
    }

    /// The value as the file may show it.
    pub(super) fn redacted(&self, table: &str, column: &str, value: &KongValue) -> Json {
        self.redaction.shown(table, column, value.to_json())
    }

    pub(super) fn write(&mut self, mut difference: Difference) -> Result<()> {
        difference.after_repair = self.after_repair;
        if let Some(listener) = &mut self.listener {
            listener(&difference);
        }
        if let Some(file) = &mut self.file {
            serde_json::to_writer(&mut *file, &difference)
                .map_err(std::io::Error::from)
                .and_then(|()| file.write_all(b"\n"))
                .map_err(|e| unwritable(&self.path, e))?;
        }
        self.count += 1;
        if self.first.len() < LISTED {
            self.first.push(difference);
        }
        Ok(())
    }

    pub(crate) fn close(&mut self) -> Result<()> {
        match &mut self.file {
            Some(file) => file.flush().map_err(|e| unwritable(&self.path, e)),
            None => Ok(()),
        }
    }
}

fn open(path: &Path) -> Result<File> {
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map_err(|e| unwritable(path, e))?;
    // An existing file may have other permissions.
    if file.metadata().is_ok_and(|about| about.is_file()) {
        file.set_permissions(std::fs::Permissions::from_mode(0o600)).map_err(|e| unwritable(path, e))?;
    }
    Ok(file)
}

fn unwritable(path: &Path, error: std::io::Error) -> Error {
    Error::new(Kind::Io, format!("cannot write the findings file {}", path.display())).source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_shown_as_digests_unless_asked_for() {
        let redacting = DifferenceLog::create(None, false).unwrap();
        let showing = DifferenceLog::create(None, true).unwrap();
        let value = KongValue::Text(b"hunter2".to_vec());
        assert!(redacting.redacted("any", "password", &value).to_string().contains("digest:"));
        assert_eq!(showing.redacted("any", "password", &value), "hunter2");
        assert_eq!(redacting.redacted("any", "username", &value), "hunter2");
        assert_eq!(redacting.redacted("any", "password", &KongValue::Null), Json::Null);
    }
}
