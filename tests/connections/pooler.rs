//! Green behind a pooler: nothing may depend on the session.

use std::str::FromStr;

use kongferry::error::Kind;
use kongferry::green::config::GreenConfig;
use kongferry::green::session::Green;
use kongferry::green::statement;
use kongferry_harness::lab;
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection};

use crate::assert_tells;
use crate::pgbouncer::PgBouncer;

async fn connect(address: &str) -> Green {
    Green::connect(&GreenConfig::parse(address).expect("an address"), "kongferry test")
        .await
        .expect("connected")
}

#[tokio::test]
async fn many_clients_share_few_pooled_sessions() {
    let database = lab().empty_database().await.expect("a database");
    database.execute("create table t (client int, n int, note text)").await.expect("a table");
    let bouncer = PgBouncer::start(&database, "transaction", 2).await;
    // Each client has several connections, and all of them share two sessions of the server: a statement that
    // stayed prepared under a name would soon be found under it by another client.
    let mut work = Vec::new();
    for client in 0..4_i32 {
        let green = connect(&bouncer.url()).await;
        for n in 0..25_i32 {
            let green = green.clone();
            work.push(tokio::spawn(async move {
                let mut transaction = green.begin().await.expect("a transaction");
                let zone: String = statement::query_scalar("select current_setting('timezone')")
                    .fetch_one(&mut *transaction)
                    .await
                    .expect("the zone");
                statement::query("insert into t values ($1, $2, $3)")
                    .bind(client)
                    .bind(n)
                    .bind(zone)
                    .execute(&mut *transaction)
                    .await
                    .expect("a row");
                let mut copy =
                    transaction.copy_in_raw("copy t (client, n, note) from stdin").await.expect("a copy");
                copy.send(format!("{client}\t{n}\tcopied\n").as_bytes()).await.expect("sent");
                copy.finish().await.expect("copied");
                transaction.commit().await.expect("committed");
            }));
        }
    }
    for task in work {
        task.await.expect("no panic");
    }
    let rows =
        database.json("select jsonb_build_object('note', note, 'n', count(*)) from t group by note").await;
    let mut rows: Vec<String> = rows.expect("rows").iter().map(ToString::to_string).collect();
    rows.sort();
    assert_eq!(rows, [r#"{"n":100,"note":"UTC"}"#, r#"{"n":100,"note":"copied"}"#]);
}

#[tokio::test]
async fn no_setting_and_no_prepared_statement_remains_in_the_session() {
    let database = lab().empty_database().await.expect("a database");
    let bouncer = PgBouncer::start(&database, "transaction", 1).await;
    let green = connect(&bouncer.url()).await;
    let mut transaction = green.begin().await.expect("a transaction");
    let one: i32 =
        statement::query_scalar("select $1::int4").bind(1_i32).fetch_one(&mut *transaction).await.expect("1");
    assert_eq!(one, 1);
    transaction.commit().await.expect("committed");
    // Another client, in the very same session of the server.
    let options = PgConnectOptions::from_str(&bouncer.url()).expect("an address").extra_float_digits(None);
    let mut other = PgConnection::connect_with(&options).await.expect("connected");
    let left: (i64, String, String) = sqlx::query_as(
        "select (select count(*) from pg_prepared_statements), current_setting('search_path'), current_setting('row_security')",
    )
    .persistent(false)
    .fetch_one(&mut other)
    .await
    .expect("a look");
    assert_eq!(left, (0, "\"$user\", public".to_owned(), "on".to_owned()));
}

#[tokio::test]
async fn a_pooler_in_statement_mode_is_refused() {
    let database = lab().empty_database().await.expect("a database");
    let bouncer = PgBouncer::start(&database, "statement", 1).await;
    let config = GreenConfig::parse(&bouncer.url()).expect("an address");
    let error = Green::connect(&config, "kongferry test").await.expect_err("no transactions there");
    assert_eq!(error.kind(), Kind::Connection);
    assert_tells(&error, &["statement", "transaction or session mode"]);
}

#[tokio::test]
async fn a_database_unknown_to_the_pooler_is_reported() {
    let database = lab().empty_database().await.expect("a database");
    let bouncer = PgBouncer::start(&database, "transaction", 1).await;
    let config = GreenConfig::parse(&bouncer.url_of("no_such_database")).expect("an address");
    let error = Green::connect(&config, "kongferry test").await.expect_err("not there");
    assert_eq!(error.kind(), Kind::Connection);
    assert_tells(&error, &["has no database \"no_such_database\""]);
}

#[tokio::test]
async fn a_startup_option_that_the_pooler_refuses_is_reported() {
    let database = lab().empty_database().await.expect("a database");
    let bouncer = PgBouncer::start(&database, "transaction", 1).await;
    let address = format!("{}?options=-c%20geqo%3Doff", bouncer.url());
    let config = GreenConfig::parse(&address).expect("an address");
    let error = Green::connect(&config, "kongferry test").await.expect_err("refused");
    assert_eq!(error.kind(), Kind::Connection);
    assert_tells(&error, &["refuses a start-up parameter", "PGOPTIONS"]);
}
