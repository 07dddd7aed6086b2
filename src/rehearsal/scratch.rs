//! The database in which `plan` rehearses a run: Kong's schema is built in it from green's catalog or, before green exists,
//! from the schema that blue's version of Kong bootstraps.

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::Rehearsal;
use crate::blue::session::Blue;
use crate::error::{Error, Kind, Result};
use crate::green::config::GreenConfig;
use crate::green::kong_schema;
use crate::green::local::LocalPostgres;
use crate::green::schema_dump::{Locale, SchemaDump, copy_rows};
use crate::green::session::Green;
use crate::green::sql::{fill, literal};
use crate::green::statement::query_scalar;
use crate::inspect::BlueSide;

/// The database in our own scratch server.
const DATABASE: &str = "rehearsal";

const WORK_SCHEMA: &str = "kongferry";

const BUILD: &str = "cannot build Kong's schema on the scratch server";

/// How to connect to the scratch database, whose schemas are named like green's.
pub(super) fn config(config: GreenConfig, green: Option<&Green>) -> Result<GreenConfig> {
    let schema = green.map_or("public", Green::kong_schema);
    Ok(config.with_schemas(schema, WORK_SCHEMA)?.without_schema_check())
}

/// Creates the scratch database with the encoding and the collation of green, where this machine has them. Returns its
/// connection options, and what differs from green.
pub(super) async fn create_database(
    green: Option<&Green>,
    server: &LocalPostgres,
) -> Result<(GreenConfig, Vec<String>)> {
    let connected = PgConnection::connect_with(&server.connect_options("postgres")).await;
    let mut connection = connected
        .map_err(|e| Error::new(Kind::Connection, "cannot connect to the scratch server").source(e))?;
    let mut not_checked = Vec::new();
    let mut is_created = false;
    if let Some(green) = green {
        let locale = Locale::read(green).await?;
        let sql = fill(
            "create database {database} template template0 encoding {encoding} lc_collate {collate} lc_ctype {ctype}",
            &[
                ("database", DATABASE),
                ("encoding", &literal(&locale.encoding)),
                ("collate", &literal(&locale.collate)),
                ("ctype", &literal(&locale.ctype)),
            ],
        );
        is_created = sqlx::raw_sql(sql).execute(&mut connection).await.is_ok();
        if !is_created {
            not_checked.push(format!(
                "green's collation is {}, which this machine does not have: the rehearsal compared texts byte by byte.",
                locale.collate
            ));
        }
    }
    if !is_created {
        let sql =
            fill("create database {database} template template0 encoding 'UTF8'", &[("database", DATABASE)]);
        let created = sqlx::raw_sql(sql).execute(&mut connection).await;
        created.map_err(|e| Error::new(Kind::Server, "cannot create the scratch database").source(e))?;
    }
    // An error while closing changes nothing: the connection is not used again.
    let _ = connection.close().await;
    Ok((GreenConfig::new(server.connect_options(DATABASE)), not_checked))
}

async fn connect(config: &GreenConfig) -> Result<Green> {
    Green::connect(&config.clone().without_schema_check(), "kongferry scratch").await
}

/// Refuses a scratch database with tables in it. Returns the objects that it has nevertheless, such as extensions.
pub(super) async fn check_empty(config: &GreenConfig) -> Result<Vec<i64>> {
    let scratch = connect(config).await?;
    let read = scratch.read("cannot read the scratch database", async |tx| {
        let relations: i64 =
            query_scalar(include_str!("../../sql/inspect/relations.sql")).fetch_one(&mut *tx).await?;
        let existing = include_str!("../../sql/scratch/existing_objects.sql");
        Ok((relations, query_scalar(existing).fetch_one(tx).await?))
    });
    let (relations, existing) = read.await?;
    scratch.close().await;
    if relations > 0 {
        return Err(Error::usage("the scratch database is not empty, and a rehearsal writes to it").remedy(
            "Pass an empty database with --scratch, or omit it: plan then starts a PostgreSQL of its own.",
        ));
    }
    Ok(existing)
}

/// Removes everything that the rehearsal created in the given database, which includes credentials.
pub(super) async fn empty(config: &GreenConfig, existing: &[i64]) -> Result<()> {
    let scratch = connect(config).await?;
    let drop = scratch.write("the scratch database could not be emptied", async |tx| {
        let sql = include_str!("../../sql/scratch/drop_new_objects.sql");
        let statements: Vec<String> = query_scalar(sql).bind(existing).fetch_all(&mut *tx).await?;
        for statement in statements {
            sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut *tx).await?;
        }
        Ok(())
    });
    drop.await?;
    scratch.close().await;
    Ok(())
}

/// Builds Kong's schema on the scratch server; returns what could not be rebuilt and does not affect rows.
pub(super) async fn build(
    blue: &Blue,
    green: Option<&Green>,
    rehearsal: &Rehearsal,
    config: &GreenConfig,
) -> Result<Vec<String>> {
    let scratch = connect(config).await?;
    let skipped = scratch.write(BUILD, async |tx| {
        Ok(match green {
            Some(green) => rebuild(green, rehearsal, tx).await?,
            None => bootstrap(blue, rehearsal, tx).await?,
        })
    });
    let skipped = skipped.await?;
    scratch.close().await;
    Ok(skipped)
}

async fn rebuild(green: &Green, rehearsal: &Rehearsal, scratch: &mut PgConnection) -> Result<Vec<String>> {
    let schema = green.kong_schema();
    let copy = green.read("cannot read green's schema", async |tx| {
        let dump = SchemaDump::read(tx, schema, &rehearsal.inspect.tables.skip).await?;
        dump.restore_pre_data(scratch).await?;
        for table in dump.tables() {
            copy_rows(tx, scratch, schema, table).await?;
        }
        dump.restore_post_data(scratch).await?;
        Ok(dump.skipped().to_vec())
    });
    copy.await
}

async fn bootstrap(blue: &Blue, rehearsal: &Rehearsal, scratch: &mut PgConnection) -> Result<Vec<String>> {
    let side = BlueSide::read(blue, &rehearsal.inspect.maps).await?;
    let line = side.map.line.clone().unwrap_or_default();
    let enterprise = side.meta.is_enterprise();
    let kong = if enterprise { "Kong Enterprise" } else { "open-source Kong" };
    // A version of Enterprise that no map is for is not that of the open-source line with the same core.
    let known = side.map.detect.is_some().then(|| kong_schema::statements(&line, enterprise)).flatten();
    let Some(statements) = known else {
        return Err(Error::usage(format!("the schema of {kong} {line} on PostgreSQL is not built in"))
            .remedy("Bootstrap green with blue's version of Kong and pass its address with --green."));
    };
    let built = sqlx::raw_sql(AssertSqlSafe(statements)).execute(scratch).await;
    built.map_err(|e| Error::new(Kind::Server, BUILD).source(e))?;
    Ok(vec![
        "green itself: its rows, its version and its privileges (pass --green once it exists).".to_owned(),
        format!("whether green's plugins have tables of their own; the schema is that of {kong} {line}."),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::schema_map::SchemaMap;

    #[test]
    fn every_built_in_map_has_its_built_in_schema() {
        for map in SchemaMap::built_in().expect("maps") {
            let line = map.line.clone().unwrap_or_default();
            assert!(kong_schema::statements(&line, map.is_enterprise()).is_some(), "{line}");
        }
    }
}
