//! The naive way: `INSERT … SELECT` into Kong's tables, with all triggers, indexes and foreign keys.

use kongferry::error::Result;
use kongferry_harness::postgres::Database;
use uuid::Uuid;

/// Blue's workspaces, in place of the one that the bootstrap made: the rows refer to them.
pub async fn prepare(green: &Database, workspaces: &[(Uuid, String)]) -> Result<()> {
    green.execute("truncate workspaces cascade").await?;
    for (id, name) in workspaces {
        green.execute(&format!("insert into workspaces (id, name) values ('{id}', '{name}')")).await?;
    }
    Ok(())
}

/// Inserts the staged rows, parents first, in one transaction.
pub async fn apply(green: &Database, tables: &[&str]) -> Result<()> {
    let inserts = tables.iter().map(|table| format!("insert into {table} select * from staged.{table};"));
    green.execute(&format!("begin; {} commit", inserts.collect::<String>())).await
}
