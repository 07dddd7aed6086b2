//! Passwords, keys and tokens reach no output and no file: every command, at its most verbose, on both
//! fixtures, with passwords on both connections; then everything that it said, wrote and showed is searched for every
//! secret there is. Only the rejects file may hold a row, and only its owner may read it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kongferry_harness::catalog::{Catalog, KeyspaceOptions};
use kongferry_harness::fixture::Fixture;
use kongferry_harness::green::bootstrap_green;
use kongferry_harness::keyspace::{Keyspace, LoadOptions};
use kongferry_harness::lab;
use kongferry_harness::postgres::{Database, PASSWORD};
use serde_json::Value;

/// What blue's role types in; like nothing else.
pub const BLUE_PASSWORD: &str = "blue-Pa55word/with?odd&characters=";

/// A wrong one, for the errors.
const WRONG_PASSWORD: &str = "wrong-Pa55word-of-no-role";

const SECRET_COLUMNS: &[(&str, &[&str])] = &[
    ("acme_storage", &["value"]),
    ("basicauth_credentials", &["password"]),
    ("certificates", &["key", "key_alt"]),
    ("hmacauth_credentials", &["secret"]),
    ("jwt_secrets", &["secret"]),
    ("keyauth_credentials", &["key"]),
    ("keys", &["jwk", "pem"]),
    ("oauth2_authorization_codes", &["code", "challenge"]),
    ("oauth2_credentials", &["client_secret"]),
    ("oauth2_tokens", &["access_token", "refresh_token"]),
    ("sessions", &["session_id", "data"]),
    ("sm_vaults", &["config"]),
    ("vaults_beta", &["config"]),
];

/// Members of a plugin's configuration that are secrets.
const SECRET_MEMBERS: &[&str] = &["secret", "password", "token", "api_key", "private_key", "aws_secret"];

const ONLY_GREEN: &[&str] = &["status", "cleanup"];

/// Shorter texts are words that may stand anywhere.
const SHORTEST: usize = 8;

fn secrets(fixture: &Fixture) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (table, columns) in SECRET_COLUMNS {
        for row in fixture.blue.get(*table).into_iter().flatten() {
            for column in *columns {
                if let Some(text) = row.row.get(*column).and_then(Value::as_str) {
                    pieces(text, &mut found);
                }
            }
        }
    }
    for plugin in fixture.blue.get("plugins").into_iter().flatten() {
        let config = plugin.row.get("config").and_then(Value::as_str).unwrap_or("{}");
        members(&serde_json::from_str(config).expect("JSON"), &mut found);
    }
    found.retain(|text| text.len() >= SHORTEST && !text.starts_with("-----"));
    found
}

/// A secret as it may be shown: without the workspace in front, and each line of a key or each text of a JSON by itself.
fn pieces(text: &str, found: &mut BTreeSet<String>) {
    let text = match text.as_bytes().get(36) {
        Some(b':') => &text[37..],
        _ => text,
    };
    match serde_json::from_str::<Value>(text) {
        Ok(json @ (Value::Object(_) | Value::Array(_))) => texts(&json, found),
        _ => found.extend(text.lines().map(str::to_owned)),
    }
}

fn texts(json: &Value, found: &mut BTreeSet<String>) {
    match json {
        // What is as long as that is no name of an algorithm and no header.
        Value::String(text) if text.len() >= 20 => found.extend(text.lines().map(str::to_owned)),
        Value::Array(values) => values.iter().for_each(|value| texts(value, found)),
        Value::Object(members) => members.values().for_each(|value| texts(value, found)),
        _ => {}
    }
}

fn members(json: &Value, found: &mut BTreeSet<String>) {
    let Value::Object(all) = json else { return };
    for (name, value) in all {
        match value {
            Value::String(text) if SECRET_MEMBERS.iter().any(|member| name.contains(member)) => {
                found.insert(text.clone());
            }
            other => members(other, found),
        }
    }
}

/// Reads the command line of every process until it is told to stop; returns them.
pub fn watch(secrets: BTreeSet<String>, stop: Arc<AtomicBool>) -> std::thread::JoinHandle<BTreeSet<String>> {
    std::thread::spawn(move || {
        let mut seen = BTreeSet::new();
        while !stop.load(Ordering::Relaxed) {
            for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
                let Ok(line) = std::fs::read(entry.path().join("cmdline")) else { continue };
                let line = String::from_utf8_lossy(&line);
                seen.extend(secrets.iter().filter(|secret| line.contains(*secret)).cloned());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        seen
    })
}

/// One fixture on servers that ask for passwords.
struct Sides {
    blue: String,
    green: String,
    database: Database,
    secrets: BTreeSet<String>,
}

async fn sides(line: &str) -> Sides {
    let endpoint = lab().secured_cassandra().await.expect("a secured Cassandra");
    let session = endpoint.session().await.expect("a session");
    let keyspace = format!("secrets_{}", uuid::Uuid::new_v4().simple());
    Catalog::of(line)
        .expect("a catalog")
        .create(&session, &keyspace, KeyspaceOptions::default())
        .await
        .expect("tables");
    let fixture = Fixture::shipped(line).expect("a fixture");
    let rows = Keyspace::open(endpoint, &keyspace).await.expect("a keyspace");
    rows.load(&fixture, LoadOptions::default()).await.expect("rows");
    let role = format!("reader_{}", uuid::Uuid::new_v4().simple());
    for cql in [
        format!("CREATE ROLE {role} WITH PASSWORD = '{BLUE_PASSWORD}' AND LOGIN = true"),
        format!("GRANT SELECT ON KEYSPACE {keyspace} TO {role}"),
    ] {
        session.query_unpaged(cql, ()).await.expect("a role");
    }
    let server = lab().secured_postgres().await.expect("a secured PostgreSQL");
    let name = format!("secrets_{}", uuid::Uuid::new_v4().simple());
    let database = server.create_database(&name).await.expect("a database");
    bootstrap_green(&database, line).await.expect("Kong's tables");
    let mut secrets = secrets(&fixture);
    assert!(secrets.len() > 40, "only {} secrets in the fixture", secrets.len());
    secrets.extend([BLUE_PASSWORD, PASSWORD, WRONG_PASSWORD].map(str::to_owned));
    Sides {
        blue: format!("cassandra://{role}@{}/{keyspace}?tls=require", endpoint.contact_point),
        green: format!("{}?sslmode=require", database.url()),
        database,
        secrets,
    }
}

/// Calls the program; gives its exit code and all that it said.
async fn call(
    sides: &Sides,
    folder: &Path,
    arguments: &[&str],
    json: bool,
    password: &str,
) -> (i32, Vec<u8>) {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("kongferry"));
    command.env_clear().current_dir(folder).args(arguments).arg("-vv");
    command.args(["--green", &sides.green]);
    if !ONLY_GREEN.contains(&arguments[0]) {
        command.args(["--blue", &sides.blue]);
    }
    if json {
        command.args(["--format", "json", "--log-format", "json"]);
    }
    command.envs([
        ("KONGFERRY_LOG", "trace"),
        ("KONGFERRY_BLUE_PASSWORD", BLUE_PASSWORD),
        ("KONGFERRY_GREEN_PASSWORD", password),
        ("RUST_BACKTRACE", "full"),
        ("PATH", &std::env::var("PATH").unwrap_or_default()),
        ("HOME", "/nonexistent"),
        ("TMPDIR", &folder.display().to_string()),
    ]);
    let output =
        tokio::task::spawn_blocking(move || command.output()).await.expect("a thread").expect("it runs");
    (output.status.code().unwrap_or(-1), [output.stdout, output.stderr].concat())
}

/// No text there holds any of the secrets.
#[track_caller]
pub fn assert_silent(secrets: &BTreeSet<String>, what: &str, said: &[u8]) {
    let said = String::from_utf8_lossy(said);
    // JSON spells some characters otherwise.
    let shown = |secret: &String| {
        let escaped = Value::from(secret.as_str()).to_string();
        said.contains(secret.as_str()) || said.contains(escaped.trim_matches('"'))
    };
    if let Some(secret) = secrets.iter().find(|secret| shown(secret)) {
        let line = said.lines().find(|line| line.contains(secret.as_str())).unwrap_or_default();
        panic!("{what} shows the secret {secret:?} in: {line}");
    }
}

/// Everything that is left in our own schema.
async fn journal(database: &Database) -> Vec<u8> {
    let tables = database
        .json("select to_jsonb(tablename) from pg_tables where schemaname = 'kongferry'")
        .await
        .expect("our tables");
    assert!(tables.len() >= 3, "{tables:?}");
    let mut all = Vec::new();
    for table in tables.iter().filter_map(Value::as_str) {
        let rows =
            database.json(&format!("select to_jsonb(t) from kongferry.\"{table}\" t")).await.expect("rows");
        all.extend(rows.iter().flat_map(|row| format!("{table} {row}\n").into_bytes()));
    }
    all
}

/// Files that a call left, but for the rejects file, which only its owner may read.
pub fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    use std::os::unix::fs::PermissionsExt;
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let (path, about) = (entry.path(), entry.metadata().expect("a file"));
        if about.is_dir() {
            all.extend(files(&path));
            continue;
        }
        if path.extension().is_some_and(|ending| ending == "jsonl") {
            assert_eq!(about.permissions().mode() & 0o777, 0o600, "{}", path.display());
        }
        if path.file_name().is_some_and(|name| name != "rejects.jsonl") {
            all.push((path.clone(), std::fs::read(&path).expect("readable")));
        }
    }
    all
}

async fn nothing_is_told(line: &str, json: bool) {
    let sides = sides(line).await;
    let folder = tempfile::tempdir().expect("a folder");
    let stop = Arc::new(AtomicBool::new(false));
    let watching = watch(sides.secrets.clone(), stop.clone());
    let damage = "set session_replication_role = replica;
        update basicauth_credentials set password = reverse(password); update jwt_secrets set secret = secret || 'x';
        update certificates set key = left(key, 40); delete from keyauth_credentials; update plugins set config = config || '{\"a\": 1}'";
    let calls: &[(&[&str], i32)] = &[
        (&["inspect"], 0),
        (&["plan", "--quick", "--columns", "--rejects-file", "rejects.jsonl"], 3),
        (&["plan", "--rejects-file", "rejects.jsonl"], 3),
        (&["migrate", "--yes", "--rejects-file", "rejects.jsonl"], 4),
        (&["migrate", "--yes", "--accept-rejects", "--rejects-file", "rejects.jsonl"], 3),
        (&["verify", "--findings", "findings.jsonl"], 0),
        (&["verify", "--findings", "damaged.jsonl"], 3),
        (&["verify", "--repair", "--delete-extra", "--yes", "--findings", "repaired.jsonl"], 0),
        (&["migrate", "--yes", "--accept-rejects", "--rejects-file", "rejects.jsonl"], 3),
    ];
    for (arguments, code) in calls {
        if arguments.contains(&"damaged.jsonl") {
            sides.database.execute(damage).await.expect("damage");
        }
        let (came_to, said) = call(&sides, folder.path(), arguments, json, PASSWORD).await;
        assert_silent(&sides.secrets, &format!("{arguments:?}"), &said);
        assert_eq!(
            came_to,
            *code,
            "{arguments:?}: {}",
            String::from_utf8_lossy(&said).lines().rev().take(20).collect::<Vec<_>>().join("\n")
        );
        assert!(said.len() > 2_000, "{arguments:?} is not verbose");
    }
    let elsewhere = tempfile::tempdir().expect("a folder");
    let checks = checks(&sides, elsewhere.path());
    let calls: &[&[&str]] = &[
        &["verify", "--since-run"],
        &["credentials", "report"],
        &["credentials", "check", "--file", &checks],
        &["status"],
    ];
    for arguments in calls {
        let (code, said) = call(&sides, folder.path(), arguments, json, PASSWORD).await;
        assert_silent(&sides.secrets, &format!("{arguments:?}"), &said);
        assert!([0, 3].contains(&code), "{arguments:?}: {}", String::from_utf8_lossy(&said));
    }
    let (code, said) = call(&sides, folder.path(), &["inspect"], json, WRONG_PASSWORD).await;
    assert_eq!(code, 1);
    assert_silent(&sides.secrets, "a refused login", &said);
    stop.store(true, Ordering::Relaxed);
    assert_eq!(watching.join().expect("the watch"), BTreeSet::new(), "secrets in the process list");
    assert_silent(&sides.secrets, "the journal on green", &journal(&sides.database).await);
    for (path, content) in files(folder.path()) {
        assert_silent(&sides.secrets, &path.display().to_string(), &content);
    }
    let (code, said) = call(&sides, folder.path(), &["cleanup", "--yes"], json, PASSWORD).await;
    assert_eq!(code, 0, "{}", String::from_utf8_lossy(&said));
    assert_silent(&sides.secrets, "cleanup", &said);
}

/// A file that asks about every secret, as a key and as a user's password.
fn checks(sides: &Sides, folder: &Path) -> String {
    let one =
        |kind: &str, secret: &String| serde_json::json!({ "kind": kind, "user": "alice", "secret": secret });
    let all: Vec<Value> = sides
        .secrets
        .iter()
        .flat_map(|secret| [one("key-auth", secret), one("basic-auth", secret)])
        .collect();
    let path = folder.join("checks.json");
    std::fs::write(&path, Value::from(all).to_string()).expect("a file");
    path.display().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_told_on_kong_2_8_in_text() {
    nothing_is_told("2.8", false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_told_on_kong_2_8_in_json() {
    nothing_is_told("2.8", true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_told_on_kong_3_3_in_text() {
    nothing_is_told("3.3", false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_told_on_kong_3_3_in_json() {
    nothing_is_told("3.3", true).await;
}
