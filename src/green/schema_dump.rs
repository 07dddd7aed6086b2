//! A dump of Kong's schema, as `pg_dump --schema-only` makes it: statements that create it again in an empty database, in
//! which a run can be rehearsed.
//!
//! Green is only read, by a role that need not see more than the catalog. What decides which rows PostgreSQL accepts is
//! dumped; owners, grants and the like are not (`sql/catalog/schema_dump/README.md` lists both). Where a table depends on
//! something that cannot be dumped, reading the dump fails and names it.

mod copy;
mod objects;

use std::collections::BTreeSet;

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, Row};

pub use copy::copy_rows;
use objects::{Dependency, SchemaObject, Selected};

use super::catalog_settings::{self, failed};
use super::session::Green;
use super::sql::quote;
use super::statement;
use crate::error::{Error, Result};

/// The text of one of the dump's queries.
macro_rules! sql {
    ($name:literal) => {
        include_str!(concat!("../../sql/catalog/schema_dump/", $name, ".sql"))
    };
}

const ACTION: &str = "cannot dump Kong's schema";

/// Objects may depend on each other; see [`objects`].
const OBJECTS: &[&str] =
    &[sql!("sequences"), sql!("types"), sql!("functions"), sql!("tables"), sql!("views")];
/// What these objects lack before rows can be copied.
const PRE_DATA: &[&str] = &[sql!("partitions"), sql!("columns")];
/// What is created faster after the rows are copied, or would refuse or change them.
const POST_DATA: &[&str] = &[sql!("constraints"), sql!("indexes"), sql!("index_partitions")];
/// What may only be created after all keys and indexes.
const LAST: &[&str] = &[sql!("triggers"), sql!("remarks")];

/// The statements of the dump, in the order in which they are executed.
#[derive(Debug, Clone)]
pub struct SchemaDump {
    pre_data: Vec<DdlStatement>,
    post_data: Vec<DdlStatement>,
    tables: Vec<String>,
    skipped: Vec<String>,
}

/// A statement, and the object that it creates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DdlStatement {
    /// Such as `index "routes_name_idx" of table "routes"`.
    pub object: String,
    /// The statement; every name in it has its schema.
    pub sql: String,
}

/// How a database encodes and compares text. It is set when the database is created: with another one than green's,
/// `lower()` and ranges of text may decide differently.
#[derive(Debug, Clone)]
pub struct Locale {
    /// Such as `UTF8`.
    pub encoding: String,
    /// `LC_COLLATE`, such as `en_US.UTF-8`.
    pub collate: String,
    /// `LC_CTYPE`.
    pub ctype: String,
}

impl SchemaDump {
    /// Dumps `schema` without the tables in `skip`. Refuses where a table depends on what cannot be dumped.
    pub async fn read(conn: &mut PgConnection, schema: &str, skip: &BTreeSet<String>) -> Result<SchemaDump> {
        if conn.server_version_num().is_some_and(|version| version < 100_000) {
            return Err(Error::refused("a run on PostgreSQL 9.6 cannot be rehearsed")
                .remedy("Run plan --quick, which needs no scratch server."));
        }
        let mut tx = catalog_settings::begin(conn, ACTION).await?;
        let dump = read_in(&mut tx, schema, skip).await?;
        tx.rollback().await.map_err(|e| failed(&e, ACTION))?;
        Ok(dump)
    }

    /// Creates everything that rows can be copied into; on an error, nothing.
    pub async fn restore_pre_data(&self, scratch: &mut PgConnection) -> Result<()> {
        restore(scratch, &self.pre_data).await
    }

    /// Creates what checks the rows and what acts on them; on an error, nothing.
    pub async fn restore_post_data(&self, scratch: &mut PgConnection) -> Result<()> {
        restore(scratch, &self.post_data).await
    }

    /// The statements of [`SchemaDump::restore_pre_data`].
    pub fn pre_data(&self) -> &[DdlStatement] {
        &self.pre_data
    }

    /// The tables with rows to copy, by name; a partitioned table stands for its partitions.
    pub fn tables(&self) -> &[String] {
        &self.tables
    }

    /// Objects that cannot be dumped and on which no table depends, each with the reason.
    pub fn skipped(&self) -> &[String] {
        &self.skipped
    }
}

impl Locale {
    pub(crate) async fn read(green: &Green) -> Result<Locale> {
        let read =
            async |tx: &mut PgConnection| Ok(statement::query_as(sql!("database")).fetch_one(tx).await?);
        let (encoding, collate, ctype) = green.read("cannot read green's collation", read).await?;
        Ok(Locale { encoding, collate, ctype })
    }
}

async fn read_in(tx: &mut PgConnection, schema: &str, skip: &BTreeSet<String>) -> Result<SchemaDump> {
    let selected = read_objects(tx, schema, skip).await?;
    let mut pre_data = vec![DdlStatement {
        object: format!("schema {}", quote(schema)),
        sql: format!("create schema if not exists {}", quote(schema)),
    }];
    pre_data.extend(extensions(tx, schema, &selected).await?);
    pre_data.extend(selected.early.iter().map(SchemaObject::ddl));
    pre_data.extend(parts(tx, schema, PRE_DATA, &selected).await?);

    let mut post_data = parts(tx, schema, POST_DATA, &selected).await?;
    post_data.extend(foreign_keys(tx, schema, &selected).await?);
    post_data.extend(selected.late.iter().map(SchemaObject::ddl));
    post_data.extend(parts(tx, schema, LAST, &selected).await?);

    Ok(SchemaDump {
        pre_data,
        post_data,
        tables: tables(tx, schema, &selected).await?,
        skipped: selected.skipped,
    })
}

async fn read_objects(tx: &mut PgConnection, schema: &str, skip: &BTreeSet<String>) -> Result<Selected> {
    let mut objects = Vec::new();
    for sql in OBJECTS {
        objects.extend(rows(tx, schema, sql, SchemaObject::from_row).await?);
    }
    let dependencies = rows(tx, schema, sql!("dependencies"), Dependency::from_row).await?;
    objects::select(objects, dependencies, skip)
}

/// Those that Kong's tables, types and functions need, and those whose functions they may call.
async fn extensions(tx: &mut PgConnection, schema: &str, selected: &Selected) -> Result<Vec<DdlStatement>> {
    let found = rows(tx, schema, sql!("extensions"), |row| {
        let name: String = row.try_get("name")?;
        let sql = if selected.extensions.contains(&name) {
            row.try_get("statement")?
        } else if row.try_get("is_mentioned")? {
            row.try_get("statement_if_available")?
        } else {
            return Ok(None);
        };
        Ok(Some(DdlStatement { object: format!("extension \"{name}\""), sql }))
    });
    Ok(found.await?.into_iter().flatten().collect())
}

async fn parts(
    tx: &mut PgConnection,
    schema: &str,
    queries: &[&'static str],
    selected: &Selected,
) -> Result<Vec<DdlStatement>> {
    let mut statements = Vec::new();
    for sql in queries {
        statements.extend(rows(tx, schema, sql, |row| part(row, selected)).await?.into_iter().flatten());
    }
    Ok(statements)
}

async fn foreign_keys(tx: &mut PgConnection, schema: &str, selected: &Selected) -> Result<Vec<DdlStatement>> {
    let found = rows(tx, schema, sql!("foreign_keys"), |row| {
        if selected.contains(row.try_get("other")?) { part(row, selected) } else { Ok(None) }
    });
    Ok(found.await?.into_iter().flatten().collect())
}

/// The statement that a row describes, unless it belongs to an object that is not selected.
fn part(row: &PgRow, selected: &Selected) -> sqlx::Result<Option<DdlStatement>> {
    if row.try_get::<Option<&str>, _>("item")?.is_some_and(|object| !selected.contains(object)) {
        return Ok(None);
    }
    let (kind, table, name): (&str, &str, &str) =
        (row.try_get("kind")?, row.try_get("table_name")?, row.try_get("name")?);
    let name = if name.is_empty() { String::new() } else { format!(" \"{name}\"") };
    let table = if table.is_empty() { String::new() } else { format!(" of table \"{table}\"") };
    Ok(Some(DdlStatement { object: format!("{kind}{name}{table}"), sql: row.try_get("statement")? }))
}

async fn tables(tx: &mut PgConnection, schema: &str, selected: &Selected) -> Result<Vec<String>> {
    let partitions = rows(tx, schema, sql!("partitions"), |row| row.try_get::<String, _>("name")).await?;
    let mut tables = selected.table_names();
    tables.retain(|table| !partitions.contains(table));
    tables.sort();
    Ok(tables)
}

async fn rows<T>(
    tx: &mut PgConnection,
    schema: &str,
    sql: &'static str,
    read: impl Fn(&PgRow) -> sqlx::Result<T>,
) -> Result<Vec<T>> {
    let rows = statement::query(sql).bind(schema).fetch_all(tx).await.map_err(|e| failed(&e, ACTION))?;
    rows.iter().map(read).collect::<sqlx::Result<_>>().map_err(|e| failed(&e, ACTION))
}

async fn restore(scratch: &mut PgConnection, statements: &[DdlStatement]) -> Result<()> {
    let action = "cannot create green's tables on the scratch server";
    let mut tx = catalog_settings::begin(scratch, action).await?;
    for DdlStatement { object, sql } in statements {
        sqlx::raw_sql(AssertSqlSafe(sql.as_str())).execute(&mut *tx).await.map_err(|e| {
            failed(&e, &format!("the scratch server rejects green's {object}")).remedy(
                "Pass a scratch server of green's version and extensions with --scratch, or run plan --quick, which needs no \
                 scratch server.",
            )
        })?;
    }
    tx.commit().await.map_err(|e| failed(&e, action))
}
