//! Kong's schema as statements that build it again on another, empty server, where a run can be rehearsed.
//!
//! Green is only read, by an account that need not see more than the catalog. What decides which rows PostgreSQL takes
//! is rebuilt; owners, grants and the like are not (`sql/catalog/blueprint/README.md` says what). Anything a table
//! needs that cannot be rebuilt is refused by name when the blueprint is read.

mod copy;
mod items;

use std::collections::BTreeSet;
use std::fmt;

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, Row};

pub use copy::copy_rows;
use items::{Chosen, Item, Need};

use super::catalog_settings::{self, failed};
use super::sql::quote;
use super::statement;
use crate::error::{Error, Result};

/// The text of a query of the blueprint's.
macro_rules! sql {
    ($name:literal) => {
        include_str!(concat!("../../sql/catalog/blueprint/", $name, ".sql"))
    };
}

const READING: &str = "cannot read the blueprint of Kong's schema";

/// Items may need one another; see [`items`].
const ITEMS: &[&str] = &[sql!("sequences"), sql!("types"), sql!("functions"), sql!("tables"), sql!("views")];
/// What the items lack before rows can be copied.
const BEFORE_DATA: &[&str] = &[sql!("partitions"), sql!("columns")];
/// What is quicker to make once the rows are there, or would refuse or change them.
const AFTER_DATA: &[&str] = &[sql!("constraints"), sql!("indexes"), sql!("index_partitions")];
/// What may only come after everything else that holds data together.
const LAST: &[&str] = &[sql!("triggers"), sql!("remarks")];

/// All that makes Kong's schema, in the order in which it can be made.
#[derive(Debug, Clone)]
pub struct Blueprint {
    before_data: Vec<Step>,
    after_data: Vec<Step>,
    tables: Vec<String>,
    left_out: Vec<String>,
    locale: Locale,
}

/// One statement, and what it makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What to call it in a message, such as `index "routes_name_idx" of table "routes"`.
    pub what: String,
    /// The statement; every name in it has its schema.
    pub sql: String,
}

/// How a database encodes and compares text. It cannot be changed later: a database that a blueprint is built in should
/// be created with green's, or `lower()` and ranges of text may decide differently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Locale {
    /// Such as `UTF8`.
    pub encoding: String,
    /// `LC_COLLATE`, such as `en_US.UTF-8`.
    pub collate: String,
    /// `LC_CTYPE`.
    pub ctype: String,
}

impl Blueprint {
    /// Reads the blueprint of `schema` without the tables in `skip`. Refuses where a table needs what cannot be rebuilt.
    pub async fn read(conn: &mut PgConnection, schema: &str, skip: &BTreeSet<String>) -> Result<Blueprint> {
        if conn.server_version_num().is_some_and(|version| version < 100_000) {
            return Err(Error::refused("a run on PostgreSQL 9.6 cannot be rehearsed")
                .remedy("Run plan --quick, which needs no scratch server."));
        }
        let mut tx = catalog_settings::begin(conn, READING).await?;
        let blueprint = read_in(&mut tx, schema, skip).await?;
        tx.rollback().await.map_err(|e| failed(&e, READING))?;
        Ok(blueprint)
    }

    /// Builds all that rows can be copied into. All of it or, on an error, nothing.
    pub async fn build_before(&self, scratch: &mut PgConnection) -> Result<()> {
        build(scratch, &self.before_data).await
    }

    /// Builds what checks the rows and what acts on them. All of it or, on an error, nothing.
    pub async fn build_after(&self, scratch: &mut PgConnection) -> Result<()> {
        build(scratch, &self.after_data).await
    }

    /// What [`Blueprint::build_before`] does.
    pub fn before_data(&self) -> &[Step] {
        &self.before_data
    }

    /// What [`Blueprint::build_after`] does.
    pub fn after_data(&self) -> &[Step] {
        &self.after_data
    }

    /// The tables with rows to copy, by name; a partitioned table stands for its partitions.
    pub fn tables(&self) -> &[String] {
        &self.tables
    }

    /// What no table needs and cannot be rebuilt either, each as a sentence that says why.
    pub fn left_out(&self) -> &[String] {
        &self.left_out
    }

    /// How green's database encodes and compares text.
    pub fn locale(&self) -> &Locale {
        &self.locale
    }
}

async fn read_in(tx: &mut PgConnection, schema: &str, skip: &BTreeSet<String>) -> Result<Blueprint> {
    let chosen = read_items(tx, schema, skip).await?;
    let mut before_data = vec![Step {
        what: format!("schema {}", quote(schema)),
        sql: format!("create schema if not exists {}", quote(schema)),
    }];
    before_data.extend(extensions(tx, schema, &chosen).await?);
    before_data.extend(chosen.early.iter().map(Item::step));
    before_data.extend(parts(tx, schema, BEFORE_DATA, &chosen).await?);

    let mut after_data = parts(tx, schema, AFTER_DATA, &chosen).await?;
    after_data.extend(foreign_keys(tx, schema, &chosen).await?);
    after_data.extend(chosen.late.iter().map(Item::step));
    after_data.extend(parts(tx, schema, LAST, &chosen).await?);

    Ok(Blueprint {
        before_data,
        after_data,
        tables: tables(tx, schema, &chosen).await?,
        left_out: chosen.left_out,
        locale: locale(tx).await?,
    })
}

async fn read_items(tx: &mut PgConnection, schema: &str, skip: &BTreeSet<String>) -> Result<Chosen> {
    let mut all = Vec::new();
    for sql in ITEMS {
        all.extend(rows(tx, schema, sql, Item::from_row).await?);
    }
    let needs = rows(tx, schema, sql!("dependencies"), Need::from_row).await?;
    items::choose(all, needs, skip)
}

/// Those that Kong's tables, types and functions need, and those whose functions they may call.
async fn extensions(tx: &mut PgConnection, schema: &str, chosen: &Chosen) -> Result<Vec<Step>> {
    let found = rows(tx, schema, sql!("extensions"), |row| {
        let name: String = row.try_get("name")?;
        let sql = if chosen.extensions.contains(&name) {
            row.try_get("statement")?
        } else if row.try_get("is_mentioned")? {
            row.try_get("statement_if_available")?
        } else {
            return Ok(None);
        };
        Ok(Some(Step { what: format!("extension \"{name}\""), sql }))
    });
    Ok(found.await?.into_iter().flatten().collect())
}

async fn parts(
    tx: &mut PgConnection,
    schema: &str,
    queries: &[&'static str],
    chosen: &Chosen,
) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    for sql in queries {
        steps.extend(rows(tx, schema, sql, |row| part(row, chosen)).await?.into_iter().flatten());
    }
    Ok(steps)
}

async fn foreign_keys(tx: &mut PgConnection, schema: &str, chosen: &Chosen) -> Result<Vec<Step>> {
    let found = rows(tx, schema, sql!("foreign_keys"), |row| {
        if chosen.has(row.try_get("other")?) { part(row, chosen) } else { Ok(None) }
    });
    Ok(found.await?.into_iter().flatten().collect())
}

/// The step that a row describes, unless it belongs to an item that is not built.
fn part(row: &PgRow, chosen: &Chosen) -> sqlx::Result<Option<Step>> {
    if row.try_get::<Option<&str>, _>("item")?.is_some_and(|item| !chosen.has(item)) {
        return Ok(None);
    }
    let (kind, table, name): (&str, &str, &str) =
        (row.try_get("kind")?, row.try_get("table_name")?, row.try_get("name")?);
    let name = if name.is_empty() { String::new() } else { format!(" \"{name}\"") };
    let table = if table.is_empty() { String::new() } else { format!(" of table \"{table}\"") };
    Ok(Some(Step { what: format!("{kind}{name}{table}"), sql: row.try_get("statement")? }))
}

async fn tables(tx: &mut PgConnection, schema: &str, chosen: &Chosen) -> Result<Vec<String>> {
    let partitions = rows(tx, schema, sql!("partitions"), |row| row.try_get::<String, _>("name")).await?;
    let mut tables = chosen.table_names();
    tables.retain(|table| !partitions.contains(table));
    tables.sort();
    Ok(tables)
}

async fn locale(tx: &mut PgConnection) -> Result<Locale> {
    let row = statement::query(sql!("database")).fetch_one(tx).await.map_err(|e| failed(&e, READING))?;
    let text = |column: &str| row.try_get(column).map_err(|e| failed(&e, READING));
    Ok(Locale { encoding: text("encoding")?, collate: text("collate")?, ctype: text("ctype")? })
}

async fn rows<T>(
    tx: &mut PgConnection,
    schema: &str,
    sql: &'static str,
    read: impl Fn(&PgRow) -> sqlx::Result<T>,
) -> Result<Vec<T>> {
    let rows = statement::query(sql).bind(schema).fetch_all(tx).await.map_err(|e| failed(&e, READING))?;
    rows.iter().map(read).collect::<sqlx::Result<_>>().map_err(|e| failed(&e, READING))
}

async fn build(scratch: &mut PgConnection, steps: &[Step]) -> Result<()> {
    let what = "cannot build green's tables on the scratch server";
    let mut tx = catalog_settings::begin(scratch, what).await?;
    for Step { what, sql } in steps {
        sqlx::raw_sql(AssertSqlSafe(sql.as_str())).execute(&mut *tx).await.map_err(|e| {
            failed(&e, &format!("the scratch server rejects green's {what}")).remedy(
                "Pass a scratch server of green's version and extensions with --scratch, or run plan --quick, which needs no \
                 scratch server.",
            )
        })?;
    }
    tx.commit().await.map_err(|e| failed(&e, what))
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}
