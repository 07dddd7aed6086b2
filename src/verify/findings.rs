//! The findings file: one JSON object per difference, readable by its owner only, secrets shortened.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Value as Shown, json};
use sha2::{Digest, Sha256};

use super::selection::Selection;
use super::value::Value;
use crate::error::{Error, Kind, Result};

/// Columns that hold, or may hold, what lets somebody in.
const SECRET: &[&str] = &[
    "password",
    "secret",
    "key",
    "client_secret",
    "access_token",
    "refresh_token",
    "code",
    "value",
    "data",
    "session_id",
    "jwk",
    "pem",
    "config",
    "user_token",
    "user_token_ident",
    "rsa_public_key",
    "cert",
    "cert_alt",
    "key_alt",
    "payload",
    "credential_data",
    "vault_token",
    "keys",
    "previous",
    "configuration",
    "jwks",
    "contents",
];

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// On blue only.
    Missing,
    /// On green only.
    Extra,
    /// A field differs.
    Different,
    /// The workspace differs.
    WrongWorkspace,
    /// The expiry differs, or is on one side only.
    WrongExpiry,
    /// The cache_key is not what Kong would build.
    WrongCacheKey,
    /// Green's table of tags does not say what the entity says.
    TagsDiffer,
    /// A reference leads nowhere.
    Orphan,
    /// More than one default workspace.
    SecondDefaultWorkspace,
    /// A definition of Kong's schema is not as the run left it; `key` names it, `blue` shows how it was.
    DefinitionChanged,
}

/// One line of the file.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// Its table.
    pub table: String,
    /// Its key.
    pub key: Shown,
    /// What is wrong.
    pub kind: What,
    /// The column, where one is to blame.
    pub column: Option<String>,
    /// What Kong reads on blue.
    pub blue: Shown,
    /// What Kong reads on green.
    pub green: Shown,
    /// Whether it was found when everything was looked at again after a repair.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub after_repair: bool,
}

/// The file, and what went into it.
#[derive(Debug)]
pub struct Findings {
    file: Option<BufWriter<File>>,
    path: PathBuf,
    show_secrets: bool,
    salt: uuid::Uuid,
    /// Findings so far.
    pub count: u64,
    /// The first few, for the summary.
    pub first: Vec<Finding>,
    /// What a repair would do, where there shall be one.
    pub selection: Option<Selection>,
    after_repair: bool,
}

/// Findings that the summary shows.
const FIRST: usize = 10;

impl Findings {
    /// Creates the file before the work begins: a path that cannot be written should fail now.
    pub fn create(path: Option<&Path>, show_secrets: bool) -> Result<Findings> {
        let path = path.map(Path::to_path_buf).unwrap_or_default();
        let file = if path.as_os_str().is_empty() { None } else { Some(BufWriter::new(open(&path)?)) };
        Ok(Findings {
            file,
            path,
            show_secrets,
            salt: uuid::Uuid::new_v4(),
            count: 0,
            first: Vec::new(),
            selection: None,
            after_repair: false,
        })
    }

    /// A value as the file may show it.
    pub fn shown(&self, column: &str, value: &Value) -> Shown {
        if self.show_secrets || !SECRET.contains(&column) || matches!(value, Value::Null | Value::Bool(_)) {
            return value.shown();
        }
        self.shortened(&value.encoded())
    }

    /// Enough to see whether two values of one file are the same; salted, so that nobody can try out guesses.
    fn shortened(&self, bytes: &[u8]) -> Shown {
        let digest = format!("{:x}", Sha256::new().chain_update(self.salt).chain_update(bytes).finalize());
        json!(format!("digest:{}", digest.get(..12).unwrap_or_default()))
    }

    /// From here on, what is found is what a repair left.
    pub fn after_repair(&mut self) {
        self.after_repair = true;
        self.selection = None;
        self.first.clear();
    }

    /// Adds one line.
    pub fn write(&mut self, mut finding: Finding) -> Result<()> {
        finding.after_repair = self.after_repair;
        if let Some(selection) = &mut self.selection {
            selection.add(&finding);
        }
        if let Some(file) = &mut self.file {
            serde_json::to_writer(&mut *file, &finding)
                .map_err(std::io::Error::from)
                .and_then(|()| file.write_all(b"\n"))
                .map_err(|e| unwritable(&self.path, e))?;
        }
        self.count += 1;
        if self.first.len() < FIRST {
            self.first.push(finding);
        }
        Ok(())
    }

    /// Makes sure that everything is on disk.
    pub fn close(&mut self) -> Result<()> {
        match &mut self.file {
            Some(file) => file.flush().map_err(|e| unwritable(&self.path, e)),
            None => Ok(()),
        }
    }
}

fn open(path: &Path) -> Result<File> {
    use std::os::unix::fs::PermissionsExt;
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map_err(|e| unwritable(path, e))?;
    // The file may have been there before, with other rights.
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
    fn secrets_are_shortened_unless_asked_for() {
        let (closed, open) = (Findings::create(None, false).unwrap(), Findings::create(None, true).unwrap());
        let value = Value::Text(b"hunter2".to_vec());
        assert!(closed.shown("password", &value).to_string().contains("digest:"));
        assert_eq!(open.shown("password", &value), "hunter2");
        assert_eq!(closed.shown("username", &value), "hunter2");
        assert_eq!(closed.shown("password", &Value::Null), Shown::Null);
    }
}
