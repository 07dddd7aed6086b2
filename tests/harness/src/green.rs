//! Kong's tables on PostgreSQL as Kong's own bootstrap leaves them.

use kongferry::error::{Error, Kind, Result};
use kongferry::green::kong_schema;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection};
use uuid::Uuid;

use crate::catalog::{edition, quote};
use crate::context::Context;
use crate::enterprise;
use crate::postgres::{Database, PgServer};

/// Fills an empty database: tables, functions, indexes and triggers of `line`, and the rows that a bootstrap makes
/// (`schema_meta`, a default workspace and a `cluster_id` with new random ids, and [Enterprise's](crate::enterprise)
/// with [`enterprise::PASSWORD`]).
pub async fn bootstrap_green(database: &Database, line: &str) -> Result<()> {
    database.execute(&definition(line)?).await?;
    add_rows(database, line, Some(enterprise::PASSWORD)).await
}

/// A new database with the content of [`bootstrap_green`], copied from a template that is made once per server and
/// definition.
pub async fn fresh_green(server: &PgServer, name: &str, line: &str) -> Result<Database> {
    fresh_green_with_password(server, name, line, Some(enterprise::PASSWORD)).await
}

/// The same with this `KONG_PASSWORD`, or none; only Enterprise reads it.
pub async fn fresh_green_with_password(
    server: &PgServer,
    name: &str,
    line: &str,
    password: Option<&str>,
) -> Result<Database> {
    let template = template(server, line).await?;
    let database = server.copy_database(name, &template).await?;
    add_rows(&database, line, password).await?;
    Ok(database)
}

/// What every bootstrap makes anew. The row of a new workspace passes the triggers, like Kong's.
async fn add_rows(database: &Database, line: &str, password: Option<&str>) -> Result<()> {
    if edition(line).1 {
        return enterprise::seed_green(database, password).await;
    }
    let (workspace, cluster) = (Uuid::new_v4(), Uuid::new_v4());
    let rows = format!(
        "insert into workspaces (id, name) values ('{workspace}', 'default');
         insert into parameters (key, value) values ('cluster_id', '{cluster}');"
    );
    database.execute(&rows).await
}

/// The DDL of a line and its `schema_meta`.
fn definition(line: &str) -> Result<String> {
    let (line, is_enterprise) = edition(line);
    kong_schema::statements(line, is_enterprise)
        .ok_or_else(|| Error::usage(format!("the schema of Kong {line} on PostgreSQL is not known")))
}

/// The name of the template for `line`, made now if there is none. Its name tells the definition, so a changed one
/// is not mistaken for it on a server that outlives the test.
async fn template(server: &PgServer, line: &str) -> Result<String> {
    let name = format!("kong {line} {:016x}", fingerprint(&definition(line)?));
    let mut connection = server.connect().await?;
    // Held until the connection is closed; other tests and processes wait here.
    let key = fingerprint(&name).cast_signed();
    run(&mut connection, &format!("select pg_advisory_lock({key})")).await?;
    let found: Option<i32> = sqlx::query_scalar("select 1 from pg_database where datname = $1")
        .bind(&name)
        .fetch_optional(&mut connection)
        .await
        .context(|| "cannot list databases".to_owned())?;
    if found.is_none() {
        make_template(server, &name, line).await?;
    }
    connection.close().await.context(|| "PostgreSQL ended the connection".to_owned())?;
    Ok(name)
}

/// A database with the template's name is complete: it gets that name last.
async fn make_template(server: &PgServer, name: &str, line: &str) -> Result<()> {
    let unfinished = format!("{name} unfinished");
    server.maintain(&format!("drop database if exists {} with (force)", quote(&unfinished))).await?;
    let database = server.create_database(&unfinished).await?;
    database.execute(&definition(line)?).await?;
    server.maintain(&format!("alter database {} rename to {}", quote(&unfinished), quote(name))).await
}

async fn run(connection: &mut PgConnection, sql: &str) -> Result<()> {
    let done = sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await;
    done.map(|_| ()).map_err(|e| Error::new(Kind::Server, format!("PostgreSQL refuses: {sql}")).source(e))
}

/// FNV-1a: the standard hasher may differ between two builds of the tests.
fn fingerprint(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}
