//! Green: a real PostgreSQL, open and with scram and TLS.

use kongferry::error::{Error, Kind};
use kongferry::green::config::GreenConfig;
use kongferry::green::session::Green;
use kongferry::green::statement;
use kongferry_harness::certs::Certificates;
use kongferry_harness::lab;
use kongferry_harness::postgres::{Database, PASSWORD, PgServer};

use crate::{assert_tells, closed_port, file, loopback_proxy, text};

const NAME: &str = "kongferry test";

fn config(address: &str) -> GreenConfig {
    GreenConfig::parse(address).expect("an address")
}

async fn connect(address: &str) -> Result<Green, Error> {
    Green::connect(&config(address), NAME).await
}

async fn refused(address: &str) -> Error {
    connect(address).await.expect_err("should not connect")
}

async fn empty() -> Database {
    lab().empty_database().await.expect("a database")
}

/// The address of the open server up to the database.
async fn server() -> String {
    let url = lab().postgres().await.expect("a PostgreSQL").database("x").url().to_owned();
    url.trim_end_matches("/x").to_owned()
}

async fn setting(green: &Green, name: &'static str) -> String {
    let mut transaction = green.begin().await.expect("a transaction");
    statement::query_scalar("select current_setting($1)")
        .bind(name)
        .fetch_one(&mut *transaction)
        .await
        .expect("a setting")
}

#[tokio::test]
async fn every_transaction_has_its_settings_whatever_the_role_and_the_server_say() {
    let database = empty().await;
    database
        .execute(&format!(
            "create schema \"Ko\"\"ng\";
             alter database \"{name}\" set timezone = 'America/New_York';
             alter database \"{name}\" set search_path = 'elsewhere';
             alter database \"{name}\" set statement_timeout = '1s';
             alter database \"{name}\" set idle_in_transaction_session_timeout = '1s';
             alter database \"{name}\" set synchronous_commit = 'off';
             alter database \"{name}\" set datestyle = 'SQL, DMY'",
            name = database.name()
        ))
        .await
        .expect("settings");
    let config = config(database.url()).with_schemas("Ko\"ng", "kongferry").expect("schemas");
    let green = Green::connect(&config, NAME).await.expect("connected");
    for (name, value) in [
        ("timezone", "UTC"),
        ("search_path", "\"Ko\"\"ng\""),
        ("statement_timeout", "0"),
        ("idle_in_transaction_session_timeout", "0"),
        ("lock_timeout", "10s"),
        ("datestyle", "ISO, YMD"),
        ("row_security", "off"),
        ("synchronous_commit", "on"),
        ("application_name", NAME),
    ] {
        assert_eq!(setting(&green, name).await, value, "{name}");
    }
    assert!(green.server_version_num() >= 90_500);
    assert!(green.server_version().contains('.'));
}

#[tokio::test]
async fn synchronous_commit_of_the_server_is_kept_unless_it_is_off() {
    let database = empty().await;
    let sql = format!("alter database \"{}\" set synchronous_commit = 'local'", database.name());
    database.execute(&sql).await.expect("a setting");
    let green = connect(database.url()).await.expect("connected");
    assert_eq!(setting(&green, "synchronous_commit").await, "local");
}

#[tokio::test]
async fn a_snapshot_cannot_write() {
    let green = connect(empty().await.url()).await.expect("connected");
    let mut transaction = green.begin_snapshot().await.expect("a transaction");
    let result = sqlx::raw_sql("create table t ()").execute(&mut *transaction).await;
    let error = green.explain(result.expect_err("read only"), "cannot write");
    assert_tells(&error, &["SQLSTATE 25006", "read-only"]);
}

#[tokio::test]
async fn nothing_listens_at_a_wrong_port() {
    let error = refused(&format!("postgres://u@127.0.0.1:{}/kong", closed_port())).await;
    assert_eq!(error.kind(), Kind::Connection);
    assert_tells(&error, &["cannot reach green at 127.0.0.1:", "connection refused", "listen_addresses"]);
}

#[tokio::test]
async fn an_unresolvable_host_name_is_reported() {
    let error = refused("postgres://u@no-such-host.invalid/kong").await;
    assert_eq!(error.kind(), Kind::Connection);
    assert_tells(&error, &["no-such-host.invalid", "host name cannot be resolved"]);
}

#[tokio::test]
async fn a_missing_unix_socket_is_reported() {
    let error = refused("postgres://u@/kong?host=/nowhere").await;
    assert_eq!(error.kind(), Kind::Connection);
    assert_tells(&error, &["/nowhere", "socket cannot be opened"]);
}

#[tokio::test]
async fn a_missing_database_is_reported_by_name() {
    let error = refused(&format!("{}/no_such_database", server().await)).await;
    assert_eq!(error.kind(), Kind::Connection);
    assert_tells(&error, &["has no database \"no_such_database\"", "Kong's default"]);
}

#[tokio::test]
async fn a_missing_schema_is_reported_with_the_existing_ones() {
    let database = empty().await;
    database.execute("create schema \"Kong\"").await.expect("a schema");
    let at = |schema: &str| config(database.url()).with_schemas(schema, "kongferry").expect("schemas");
    let error = Green::connect(&at("elsewhere"), NAME).await.expect_err("no schema");
    assert_eq!(error.kind(), Kind::Connection);
    assert_tells(&error, &["has no schema \"elsewhere\"", "\"Kong\", \"public\"", "--green-schema"]);
    let error = Green::connect(&at("kong"), NAME).await.expect_err("wrong case");
    assert_tells(&error, &["has no schema \"kong\"", "--green-schema \"Kong\""]);
    assert!(Green::connect(&at("elsewhere").without_schema_check(), NAME).await.is_ok());
}

#[tokio::test]
async fn a_missing_role_is_reported() {
    let database = empty().await;
    let address = database.url().replacen("postgres@", "no_such_role@", 1);
    let error = refused(&address).await;
    assert_eq!(error.kind(), Kind::Connection);
    assert_tells(&error, &["does not allow \"no_such_role\" to log in", "pg_hba.conf"]);
}

#[tokio::test]
async fn a_role_without_a_free_connection_or_connect_privilege_is_reported() {
    let database = empty().await;
    database
        .execute(&format!(
            "create role limited_{name} login connection limit 0; create role barred_{name} login;
             revoke connect on database \"{name}\" from public; grant connect on database \"{name}\" to limited_{name}",
            name = database.name()
        ))
        .await
        .expect("roles");
    let of = |role: &str| database.url().replacen("postgres@", &format!("{role}_{}@", database.name()), 1);
    let error = refused(&of("limited")).await;
    assert_eq!(error.kind(), Kind::Connection);
    assert_tells(&error, &["no free connection", "CONNECTION LIMIT"]);
    let error = refused(&of("barred")).await;
    assert_tells(&error, &["may not connect to database", "GRANT CONNECT ON DATABASE"]);
}

#[tokio::test]
async fn tls_required_of_a_plain_server_is_reported() {
    let database = empty().await;
    for mode in ["require", "verify-ca", "verify-full"] {
        let error = refused(&format!("{}?sslmode={mode}", database.url())).await;
        assert_eq!(error.kind(), Kind::Connection);
        assert_tells(&error, &["does not support TLS", "sslmode=disable"]);
    }
    assert!(connect(&format!("{}?sslmode=prefer", database.url())).await.is_ok());
}

#[tokio::test]
async fn a_cassandra_port_given_for_postgresql_is_reported() {
    let cassandra = lab().cassandra().await.expect("a Cassandra");
    let error = refused(&format!("postgres://u@{}/kong?connect_timeout=5", cassandra.contact_point)).await;
    assert_eq!(error.kind(), Kind::Connection);
    assert_tells(&error, &[&cassandra.contact_point, "port"]);
}

#[tokio::test]
async fn a_server_that_never_answers_times_out() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let error = refused(&format!("postgres://u@127.0.0.1:{port}/kong?connect_timeout=1")).await;
    assert_eq!(error.kind(), Kind::Connection);
    assert_tells(&error, &["no answer within 1 s", "connect_timeout"]);
}

#[tokio::test]
async fn errors_about_rows_never_show_their_values() {
    let database = empty().await;
    database
        .execute("create table parents (id int primary key); create table t (key text unique, n int, p int references parents, check (n > 0)); insert into t values ('s3cr3t', 1)")
        .await
        .expect("tables");
    let green = connect(database.url()).await.expect("connected");
    for (sql, wanted) in [
        (
            "insert into t values ('s3cr3t', 1)",
            vec!["SQLSTATE 23505", "Key (key) already exists.", "constraint \"t_key_key\""],
        ),
        ("insert into t values ('x', -4711)", vec!["SQLSTATE 23514", "constraint \"t_n_check\""]),
        (
            "insert into t values ('x', 1, 4711)",
            vec!["SQLSTATE 23503", "Key (p) is not present in table \"parents\"."],
        ),
        ("insert into t values ('x', 's3cr3t'::text::int)", vec!["SQLSTATE 22P02", "type integer: …"]),
        ("select 's3cr3t {'::text::jsonb", vec!["SQLSTATE 22P02"]),
        ("select repeat('x', 10)::text::uuid", vec!["SQLSTATE 22P02"]),
        ("do $$ begin raise exception 'row: s3cr3t'; end $$", vec!["SQLSTATE P0001"]),
    ] {
        let mut transaction = green.begin().await.expect("a transaction");
        let result = statement::query(sqlx::AssertSqlSafe(sql)).execute(&mut *transaction).await;
        let error = green.explain(result.expect_err(sql), "cannot fill table \"t\"");
        let shown = format!("{}\n{error:?}", text(&error));
        assert!(wanted.iter().all(|part| shown.contains(part)), "{sql}: {shown}");
        assert!(
            !shown.contains("s3cr3t") && !shown.contains("4711") && !shown.contains("xxxxx"),
            "{sql}: {shown}"
        );
    }
}

#[tokio::test]
async fn a_missing_privilege_is_a_refusal() {
    let database = empty().await;
    let role = format!("reader_{}", database.name());
    database.execute(&format!("create table t (); create role {role} login")).await.expect("a role");
    let green =
        connect(&database.url().replacen("postgres@", &format!("{role}@"), 1)).await.expect("connected");
    let mut transaction = green.begin().await.expect("a transaction");
    let result = statement::query("select * from t").execute(&mut *transaction).await;
    let error = green.explain(result.expect_err("no right"), "cannot read table \"t\"");
    assert_eq!(error.kind(), Kind::Refused);
    assert_tells(&error, &["SQLSTATE 42501", &role, "inspect"]);
}

async fn secured() -> (&'static PgServer, &'static Certificates) {
    let server = lab().secured_postgres().await.expect("a secured PostgreSQL");
    (server, lab().certificates().await.expect("its certificates"))
}

/// Connects to the secured server with these options.
async fn get_in(options: &str, password: Option<&str>) -> Result<Green, Error> {
    let (server, _) = secured().await;
    let config = config(&format!("{}?{options}", server.database("postgres").url()));
    let config = match password {
        Some(password) => config.with_password(&password.into()),
        None => config,
    };
    Green::connect(&config, NAME).await
}

#[tokio::test]
async fn the_right_password_connects_in_every_tls_mode() {
    let (_, certificates) = secured().await;
    let ca = file(&certificates.ca);
    let ca = ca.path().display();
    for options in [
        "sslmode=prefer".to_owned(),
        "sslmode=require".to_owned(),
        format!("sslmode=require&sslrootcert={ca}"),
        format!("sslmode=verify-ca&sslrootcert={ca}"),
        format!("sslmode=verify-full&sslrootcert={ca}"),
    ] {
        let result = get_in(&options, Some(PASSWORD)).await;
        result.unwrap_or_else(|error| panic!("{options}: {}", text(&error)));
    }
}

#[tokio::test]
async fn a_wrong_or_missing_password_is_reported_without_showing_it() {
    for password in [Some("s3cr3t"), None] {
        let error = get_in("sslmode=require", password).await.expect_err("a wrong password");
        assert_eq!(error.kind(), Kind::Connection);
        assert_tells(&error, &["refuses the login of \"postgres\"", "KONGFERRY_GREEN_PASSWORD", ".pgpass"]);
        assert!(!format!("{error:?}{}", text(&error)).contains("s3cr3t"));
    }
}

#[tokio::test]
async fn a_server_that_requires_tls_is_reported() {
    let error = get_in("sslmode=disable", Some(PASSWORD)).await.expect_err("plain");
    assert_eq!(error.kind(), Kind::Connection);
    assert_tells(&error, &["requires TLS", "sslmode=require"]);
}

#[tokio::test]
async fn a_certificate_of_another_ca_is_not_trusted() {
    let other = file(&Certificates::generate().expect("others").ca);
    let by_file = format!("sslrootcert={}", other.path().display());
    for options in [
        format!("sslmode=verify-full&{by_file}"),
        format!("sslmode=require&{by_file}"),
        "sslmode=verify-ca".to_owned(),
    ] {
        let error = get_in(&options, Some(PASSWORD)).await.expect_err("another CA");
        assert_eq!(error.kind(), Kind::Connection);
        assert_tells(&error, &["is not trusted", "sslrootcert="]);
    }
}

#[tokio::test]
async fn a_certificate_must_be_for_the_host() {
    let (server, certificates) = secured().await;
    let ca = file(&certificates.ca);
    let database = server.database("postgres");
    let port = loopback_proxy::forward_from_loopback_alias(
        format!("127.0.0.1:{}", database.options().get_port()),
        true,
    )
    .await;
    let at = |mode: &str| {
        let ca = ca.path().display();
        let address =
            format!("postgres://postgres@127.0.0.2:{port}/postgres?sslmode={mode}&sslrootcert={ca}");
        config(&address).with_password(&PASSWORD.into())
    };
    let error = Green::connect(&at("verify-full"), NAME).await.expect_err("not in the certificate");
    assert_eq!(error.kind(), Kind::Connection);
    assert_tells(&error, &["is not trusted", "host name that the certificate contains", "sslmode=verify-ca"]);
    Green::connect(&at("verify-ca"), NAME).await.expect("the issuer is right");
}

#[tokio::test]
async fn a_missing_certificate_file_is_reported_before_anything_connects() {
    let error =
        refused("postgres://u@no-such-host.invalid/kong?sslmode=verify-full&sslrootcert=/nowhere/ca.pem")
            .await;
    assert_eq!(error.kind(), Kind::Usage);
    assert_tells(&error, &["/nowhere/ca.pem", "sslrootcert", "PEM"]);
}
