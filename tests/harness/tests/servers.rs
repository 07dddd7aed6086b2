//! The harness itself, with real servers: what other tests build on.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use kongferry::green::local::{Binaries, LocalPostgres, Options as PgOptions};
use kongferry_harness::cassandra::{Cassandra, ClientTls, Endpoint, Options, Tls};
use kongferry_harness::catalog::{Catalog, KeyspaceOptions, LINES};
use kongferry_harness::fixture::{BlueRow, Fixture};
use kongferry_harness::keyspace::{Keyspace, LoadOptions};
use kongferry_harness::postgres::PgServer;
use kongferry_harness::{fill, lab};
use serde_json::{Map, Value, json};
use sqlx::{Connection, PgConnection};

const FIRST_ID: &str = "00000000-0000-4000-8000-000000000001";

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Cells as they are compared: no nulls, since both sides name every column, and a set in the order of Cassandra.
fn compared(row: &Map<String, Value>) -> Map<String, Value> {
    let cells = row.iter().filter(|(_, value)| !value.is_null());
    let mut cells: Map<String, Value> = cells.map(|(name, value)| (name.clone(), value.clone())).collect();
    if let Some(Value::Array(migrations)) = cells.get_mut("executed") {
        migrations.sort_by_key(ToString::to_string);
    }
    cells
}

fn sorted(rows: impl Iterator<Item = Map<String, Value>>) -> Vec<String> {
    // Through a BTreeMap: the order of columns is not part of a row.
    let mut lines: Vec<String> = rows
        .map(|row| compared(&row).into_iter().collect::<std::collections::BTreeMap<_, _>>())
        .map(|row| serde_json::to_string(&row).unwrap())
        .collect();
    lines.sort();
    lines
}

/// A recorded row that is not about to expire while the test runs.
fn is_lasting(row: &BlueRow) -> bool {
    row.ttl.as_ref().is_none_or(|cells| cells.values().all(|seconds| *seconds > 200))
}

async fn assert_holds(keyspace: &Keyspace, fixture: &Fixture) {
    for (table, rows) in &fixture.blue {
        let brief: Vec<&Value> =
            rows.iter().filter(|row| !is_lasting(row)).filter_map(|row| row.row.get("id")).collect();
        let found = keyspace.rows(table).await.unwrap().into_iter();
        assert_eq!(
            sorted(found.filter(|row| row.get("id").is_none_or(|id| !brief.contains(&id)))),
            sorted(rows.iter().filter(|row| is_lasting(row)).map(|row| row.row.clone())),
            "{table} in Cassandra is not what was recorded"
        );
    }
}

#[tokio::test]
async fn every_fixture_row_is_loaded_as_it_was_recorded() -> Outcome {
    for line in LINES {
        let keyspace = lab().keyspace(line).await?;
        assert_holds(&keyspace, &Fixture::shipped(line)?).await;
    }
    Ok(())
}

#[tokio::test]
async fn loaded_cells_keep_their_recorded_time_to_live() -> Outcome {
    let keyspace = lab().filled_keyspace("3.3").await?;
    let fixture = Fixture::shipped("3.3")?;
    let mut seen = 0;
    for (table, column) in
        [("sessions", "data"), ("keyauth_credentials", "key"), ("oauth2_tokens", "access_token")]
    {
        for row in fixture.blue[table].iter().filter(|row| is_lasting(row)) {
            let recorded = row.ttl.as_ref().and_then(|ttl| ttl.get(column)).copied();
            let key = json!({"id": row.row["id"]});
            let found = keyspace.ttl(table, column, &key).await?;
            assert_eq!(recorded.is_some(), found.is_some(), "{table} {key}");
            if let (Some(recorded), Some(found)) = (recorded, found) {
                assert!(
                    (recorded - 120..=recorded).contains(&found),
                    "{table} {key}: {recorded} became {found}"
                );
                seen += 1;
            }
        }
    }
    assert!(seen > 3, "the fixture has rows with a time to live");
    Ok(())
}

#[tokio::test]
async fn a_row_may_have_cells_that_expire_at_different_times() -> Outcome {
    let keyspace = lab().fresh_keyspace("3.3").await?;
    let row = serde_json::from_value(json!({
        "row": {"id": FIRST_ID, "code": "stays", "challenge": "short", "scope": "long"},
        "ttl": {"challenge": 1, "scope": 1000},
    }))?;
    keyspace.write_recorded("oauth2_authorization_codes", &row, LoadOptions::default()).await?;
    let key = json!({"id": FIRST_ID});
    assert_eq!(
        keyspace.ttl("oauth2_authorization_codes", "code", &key).await?,
        None,
        "the default of 300 s is off"
    );
    assert!(keyspace.ttl("oauth2_authorization_codes", "scope", &key).await? > Some(900));
    tokio::time::sleep(Duration::from_millis(2100)).await;
    let rows = keyspace.rows("oauth2_authorization_codes").await?;
    assert_eq!(rows.len(), 1);
    assert_eq!((&rows[0]["challenge"], &rows[0]["scope"]), (&Value::Null, &json!("long")));
    Ok(())
}

#[tokio::test]
async fn a_row_without_a_given_time_to_live_takes_the_tables() -> Outcome {
    let keyspace = lab().fresh_keyspace("3.3").await?;
    let row = json!({"id": FIRST_ID, "code": "c"});
    keyspace.write_row("oauth2_authorization_codes", &row).await?;
    assert!(keyspace.ttl("oauth2_authorization_codes", "code", &row).await? > Some(250));
    let unknown = keyspace.write_row("consumers", &json!({"unknown": 1})).await.unwrap_err();
    assert_eq!(unknown.message(), "the table consumers has no column unknown");
    Ok(())
}

#[tokio::test]
async fn indexes_and_replication_are_made_when_asked_for() -> Outcome {
    let options = KeyspaceOptions { replication_factor: 3, indexes: true };
    let keyspace = lab().fresh_keyspace_with("2.8", options).await?;
    let catalog = Catalog::of("2.8")?;
    let expected: usize = catalog.tables.values().map(|table| table.indexes.len()).sum();
    let cql = "SELECT count(*) FROM system_schema.indexes WHERE keyspace_name = ?";
    let result = keyspace.session().query_unpaged(cql, (keyspace.name(),)).await?.into_rows_result()?;
    assert_eq!(result.single_row::<(i64,)>()?.0, i64::try_from(expected)?);
    keyspace.write_row("consumers", &json!({"id": FIRST_ID})).await?;
    Ok(())
}

#[tokio::test]
async fn a_fresh_green_is_bootstrapped_with_its_own_ids() -> Outcome {
    for line in LINES {
        let (one, two) = tokio::try_join!(lab().fresh_green(line), lab().fresh_green(line))?;
        let (first, second) = (one.rows("workspaces").await?, two.rows("workspaces").await?);
        assert_eq!((first.len(), &first[0]["name"]), (1, &json!("default")), "{line}");
        assert_ne!(first[0]["id"], second[0]["id"], "{line}");
        let parameters = one.rows("parameters").await?;
        assert_eq!((parameters.len(), &parameters[0]["key"]), (1, &json!("cluster_id")), "{line}");
        let core =
            one.json("select to_jsonb(last_executed) from schema_meta where subsystem = 'core'").await?;
        let blue = Fixture::shipped(line)?;
        let recorded = blue.blue["schema_meta"].iter().find(|row| row.row["subsystem"] == "core").unwrap();
        assert_eq!(core, [recorded.row["last_executed"].clone()], "{line}");

        // The triggers of Kong are there, and the defaults of columns that are not given.
        one.insert("consumers", &json!({"id": FIRST_ID, "username": "x", "tags": ["a"]})).await?;
        assert!(one.rows("consumers").await?[0]["created_at"].is_string(), "{line}");
        let tags = one.rows("tags").await?;
        assert!(tags.iter().any(|row| row["entity_id"] == FIRST_ID && row["tags"] == json!(["a"])), "{line}");
    }
    Ok(())
}

#[tokio::test]
async fn a_bootstrap_of_enterprise_fills_both_sides_of_every_line() -> Outcome {
    for line in LINES.iter().filter(|line| line.starts_with("enterprise-")) {
        for (password, admins) in [(Some("secret"), 1), (None, 0)] {
            let blue = lab().bootstrapped_keyspace(line, password).await?;
            let green = lab().fresh_green_with_password(line, password).await?;
            for (table, count) in [("admins", admins), ("consumers", admins), ("rbac_roles", 3 + admins)] {
                assert_eq!(
                    (blue.count(table).await?, green.count(table).await?),
                    (count, count),
                    "{line} {table}"
                );
            }
            let id = green.rows("workspaces").await?[0]["id"].clone();
            let defaults = "select to_jsonb(count(*)) from pg_attrdef where pg_get_expr(adbin, adrelid) like '%' || (select id from workspaces) || '%'";
            assert_eq!(green.json(defaults).await?, [json!(9)], "{line}");
            assert!(green.rows("rbac_roles").await?.iter().all(|role| role["ws_id"] == id), "{line}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_second_statement_writes_without_a_time_to_live() -> Outcome {
    let keyspace = lab().keyspace_with_tables("enterprise-3.3", &["keyauth_enc_credentials"]).await?;
    let row = serde_json::from_value(json!({
        "row": {"id": FIRST_ID, "created_at": "2023-05-01 10:00:00.000Z"}, "ttl": 60, "then": {"key_ident": "abcde"},
    }))?;
    keyspace.write_recorded("keyauth_enc_credentials", &row, LoadOptions::default()).await?;
    let key = json!({"id": FIRST_ID});
    assert!(keyspace.ttl("keyauth_enc_credentials", "created_at", &key).await? <= Some(60));
    let fortnight = 14 * 86_400;
    assert!(keyspace.ttl("keyauth_enc_credentials", "key_ident", &key).await? > Some(fortnight - 60));
    Ok(())
}

#[tokio::test]
async fn filling_writes_four_rows_for_each_consumer() -> Outcome {
    let keyspace = lab().fresh_keyspace("3.3").await?;
    fill::fill(&keyspace, fill::id("workspace", 0), 500).await?;
    for table in ["consumers", "basicauth_credentials", "keyauth_credentials", "acls"] {
        assert_eq!(keyspace.count(table).await?, 500, "{table}");
    }
    Ok(())
}

#[tokio::test]
async fn a_killed_cassandra_comes_back_with_its_rows() -> Outcome {
    let options = Options { heap_mb: 512, survives_kill: true, ..Options::default() };
    let mut cassandra = Cassandra::start(options).await?;
    let endpoint = cassandra.endpoint();
    // One table: without the short cut of the other tests each takes a quarter of a second.
    let mut catalog = Catalog::of("2.8")?;
    catalog.tables.retain(|name, _| name == "consumers");
    catalog.create(&endpoint.session().await?, "kong", KeyspaceOptions::default()).await?;
    let row = json!({"id": FIRST_ID, "username": "x"});
    Keyspace::open(&endpoint, "kong").await?.write_row("consumers", &row).await?;

    // A row that is younger than the last mark in the commit log goes with the process.
    tokio::time::sleep(Duration::from_millis(500)).await;
    cassandra.restart().await?;
    assert_eq!(Keyspace::open(&endpoint, "kong").await?.count("consumers").await?, 1);

    let keyspace = Keyspace::open(&endpoint, "kong").await?;
    cassandra.pause()?;
    let paused = tokio::time::timeout(Duration::from_millis(500), keyspace.count("consumers")).await;
    cassandra.resume()?;
    assert!(paused.is_err(), "a paused server does not answer");
    assert_eq!(Keyspace::open(&endpoint, "kong").await?.count("consumers").await?, 1);

    let home = cassandra.home().to_owned();
    cassandra.stop().await?;
    assert!(!home.exists());
    Ok(())
}

#[tokio::test]
async fn a_secured_cassandra_requires_tls_and_a_password() -> Outcome {
    let endpoint = lab().secured_cassandra().await?;
    let session = endpoint.session().await?;
    session.query_unpaged("CREATE ROLE kong WITH PASSWORD = 'k' AND LOGIN = true", ()).await?;
    let kong = endpoint.clone().with_login("kong", "k").session().await?;
    assert!(kong.query_unpaged("CREATE ROLE other", ()).await.is_err(), "an ordinary role has few rights");

    assert!(endpoint.clone().with_login("kong", "wrong").session().await.is_err());
    let without_tls = Endpoint { tls: None, ..endpoint.clone() };
    assert!(without_tls.session().await.is_err());
    Ok(())
}

#[tokio::test]
async fn a_cassandra_can_require_a_client_certificate() -> Outcome {
    let certificates = lab().certificates().await?.clone();
    let tls = Tls { certificates: certificates.clone(), client_certificate_required: true };
    let options = Options { heap_mb: 512, tls: Some(tls), ..Options::default() };
    let cassandra = Cassandra::start(options).await?;
    let anonymous = ClientTls { ca: certificates.ca, identity: None };
    let refused = Endpoint { tls: Some(anonymous), ..cassandra.endpoint() }.session().await;
    assert!(refused.is_err());
    cassandra.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_secured_postgres_requires_tls_and_a_password() -> Outcome {
    let certificates = lab().certificates().await?;
    let database = lab().secured_postgres().await?.create_database("x").await?;
    let options = database.options().clone();
    PgConnection::connect_with(&options).await?.close().await?;

    let verified = options.clone().ssl_mode(sqlx::postgres::PgSslMode::VerifyFull);
    let verified = verified.ssl_root_cert_from_pem(certificates.ca.clone().into_bytes());
    PgConnection::connect_with(&verified).await?.close().await?;

    assert!(PgConnection::connect_with(&options.clone().password("wrong")).await.is_err());
    let plain = options.ssl_mode(sqlx::postgres::PgSslMode::Disable);
    assert!(PgConnection::connect_with(&plain).await.is_err());
    Ok(())
}

#[tokio::test]
async fn a_scratch_server_refuses_other_users_and_is_removed() -> Outcome {
    let local = LocalPostgres::start(PgOptions::scratch()).await?;
    let mine = PgServer::from(&local);
    mine.create_database("x").await?;
    let stranger = PgServer::at(&local.url("postgres"))?;
    assert!(stranger.connect().await.is_err(), "without the password a connection is refused");

    // PostgreSQL refuses to run as root; whoever we are, it does not.
    let owner = std::fs::read_to_string(format!("/proc/{}/status", local.id()))?;
    let uid =
        owner.lines().find_map(|line| line.strip_prefix("Uid:\t")).and_then(|ids| ids.split('\t').next());
    assert_ne!(uid, Some("0"));

    let data = std::fs::read_link(format!("/proc/{}/cwd", local.id()))?;
    assert!(data.exists());
    local.stop().await?;
    assert!(!data.exists());
    Ok(())
}

#[tokio::test]
async fn after_a_crash_of_postgres_unlogged_tables_are_empty() -> Outcome {
    let mut local = LocalPostgres::start(PgOptions::default()).await?;
    let database = PgServer::from(&local).create_database("x").await?;
    database
        .execute("create unlogged table stage as select 1 as a; create table kept as select 1 as a")
        .await?;
    local.crash_and_restart().await?;
    assert_eq!((database.count("stage").await?, database.count("kept").await?), (0, 1));
    local.stop().await?;
    Ok(())
}

/// Root runs the test of the scratch server again as the user `nobody`, which needs no other user.
#[test]
fn a_scratch_server_of_an_ordinary_user_runs_as_that_user() -> Outcome {
    if !nix::unistd::geteuid().is_root() {
        // Then that test itself was run by an ordinary user.
        return Ok(());
    }
    let nobody = nix::unistd::User::from_name("nobody")?.ok_or("the user nobody is missing")?;
    let directory = tempfile::tempdir_in("/tmp")?;
    std::fs::set_permissions(directory.path(), Permissions::from_mode(0o755))?;
    let program = directory.path().join("servers");
    std::fs::copy(std::env::current_exe()?, &program)?;
    let output = Command::new(&program)
        .args(["--exact", "a_scratch_server_refuses_other_users_and_is_removed"])
        .uid(nobody.uid.as_raw())
        .gid(nobody.gid.as_raw())
        .current_dir("/")
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    Ok(())
}

#[tokio::test]
async fn a_private_postgres_that_cannot_start_reports_why() {
    let options = PgOptions::default().line("shared_buffers = 'nonsense'");
    let error = LocalPostgres::start(options).await.unwrap_err();
    assert!(error.details().iter().any(|line| line.contains("shared_buffers")), "{error:?}");
}

#[tokio::test]
async fn the_embedded_archive_starts_where_postgresql_is_not_installed() -> Outcome {
    let cache = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/harness");
    let binaries = Binaries::embedded(&cache).await?;
    let local = LocalPostgres::start_with(&binaries, PgOptions::scratch()).await?;
    let mut connection = PgConnection::connect_with(&local.connect_options("postgres")).await?;
    let version: String = sqlx::query_scalar("show server_version").fetch_one(&mut connection).await?;
    assert!(version.starts_with("17"), "{version}");
    connection.close().await?;
    local.stop().await?;
    Ok(())
}
