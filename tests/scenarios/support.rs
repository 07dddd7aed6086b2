//! Runs the program as an operator does, and reads its output.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Output};

use kongferry_harness::keyspace::Keyspace;
use kongferry_harness::postgres::Database;
use serde_json::Value;

use super::schemas;

/// The result of one call of the program.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
    /// The rejects file of a migration, line by line; empty where there is none.
    pub rejects: Vec<Value>,
}

impl Ran {
    /// The result of `--format json`, which matches its schema.
    #[track_caller]
    pub fn json(&self) -> Value {
        let result = serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e} in {self:#?}"));
        schemas::check(&result);
        result
    }

    /// Fails with everything that was said unless the exit code is this one.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        self
    }

    /// The reject of a table and key.
    pub fn reject(&self, table: &str, key: &str) -> Option<&Value> {
        self.rejects.iter().find(|line| line["table"] == table && line["key"] == key)
    }

    /// The counts of one table in the report.
    pub fn table(&self, table: &str) -> Value {
        let report = self.json();
        let tables = report["tables"].as_array().unwrap_or_else(|| panic!("no tables in {report}"));
        tables.iter().find(|one| one["table"] == table).cloned().unwrap_or(Value::Null)
    }
}

/// The program, with nothing of this machine's settings, in a directory of its own.
pub fn program() -> (Command, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a directory");
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("kongferry"));
    for (name, _) in std::env::vars() {
        if ["KONG", "PG", "XDG"].iter().any(|start| name.starts_with(start)) {
            command.env_remove(name);
        }
    }
    command.current_dir(folder.path()).env("NO_COLOR", "1");
    (command, folder)
}

/// Runs the program with these arguments to its end.
pub async fn kongferry<S: AsRef<OsStr>>(arguments: &[S]) -> Ran {
    let (mut command, folder) = program();
    command.args(arguments);
    let output =
        tokio::task::spawn_blocking(move || command.output()).await.expect("a thread").expect("the program");
    ran(output, &folder.path().join("rejects.jsonl"))
}

/// What an ended program came to; `rejects` is its rejects file.
pub fn ran(output: Output, rejects: &PathBuf) -> Ran {
    let rejects = std::fs::read_to_string(rejects).unwrap_or_default();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    for line in stdout.lines().chain(stderr.lines()) {
        assert!(!line.ends_with("..") || line.ends_with("..."), "two full stops: {line}");
    }
    Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: stdout.into_owned(),
        stderr: stderr.into_owned(),
        rejects: rejects.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect(),
    }
}

/// The arguments that scripts rely on, for these two databases, and more.
pub fn migrate_arguments(blue: &Keyspace, green: &Database, more: &[&str]) -> Vec<String> {
    let mut arguments: Vec<String> = [
        "migrate",
        "--blue",
        &blue.url(),
        "--green",
        green.url(),
        "--yes",
        "--rejects-file",
        "rejects.jsonl",
        "--format",
        "json",
    ]
    .map(str::to_owned)
    .to_vec();
    arguments.extend(more.iter().map(|one| (*one).to_owned()));
    arguments
}

/// `migrate --accept-rejects`, as scripts call it.
pub async fn migrate(blue: &Keyspace, green: &Database) -> Ran {
    kongferry(&migrate_arguments(blue, green, &["--accept-rejects"])).await
}
