//! Counts the rows of one kind of credentials on either side, by workspace.

use std::collections::{BTreeMap, BTreeSet};

use scylla::response::PagingState;
use sqlx::Row as _;
use uuid::Uuid;

use super::blue_indexes::id_column;
use super::kind::CredentialTable;
use super::store::WORKSPACE;
use crate::blue::scan::{Page, TokenRange};
use crate::blue::session::{Blue, quote as cql_quote};
use crate::catalog::blue::BlueTable;
use crate::catalog::green::GreenCatalog;
use crate::error::Result;
use crate::green::session::Green;
use crate::green::sql::{fill, quote};
use crate::green::statement::query;

/// The number of rows on green, by property.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct GreenCounts {
    pub(super) workspace: Option<String>,
    pub(super) total: u64,
    pub(super) expired: u64,
    pub(super) with_expiry: u64,
    pub(super) hashed: u64,
    pub(super) encrypted: u64,
    pub(super) without_secret: u64,
    pub(super) of_fips_mode: u64,
    pub(super) unusable: u64,
    pub(super) owners_missing: u64,
}

/// The number of rows on blue.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct BlueCounts {
    pub(super) rows: u64,
    pub(super) rejected: u64,
}

pub(super) async fn count_on_green(
    green: &Green,
    catalog: &GreenCatalog,
    credentials: &CredentialTable,
) -> Result<Vec<GreenCounts>> {
    let Some(table) = catalog.tables.get(credentials.table).filter(|own| own.column(WORKSPACE).is_some())
    else {
        return Ok(Vec::new());
    };
    let has_ttl = table.column("ttl").is_some();
    let or_ttl = |condition: &str, ttl_condition: &str| {
        if has_ttl { format!("({ttl_condition}) or ({condition})") } else { condition.to_owned() }
    };
    let ownerless = credentials.owner.map_or("false".to_owned(), |owner| {
        format!("not exists (select from consumers c where c.id = g.{})", quote(owner))
    });
    let sql = fill(
        include_str!("../../sql/credentials/kind.sql"),
        &[
            ("expired", &or_ttl(credentials.expired, "g.ttl < now()")),
            ("expires", &or_ttl(credentials.expires, "g.ttl is not null")),
            ("secret", &quote(credentials.secret)),
            ("hashed", credentials.hashed),
            ("fips_mode", credentials.of_fips_mode),
            ("dead", credentials.unusable),
            ("ownerless", &ownerless),
            ("table", &quote(credentials.table)),
            ("workspaces", "workspaces"),
        ],
    );
    let read = async |tx: &mut sqlx::PgConnection| {
        let rows = query(sql).fetch_all(tx).await?;
        Ok(rows.iter().map(green_counts).collect::<sqlx::Result<Vec<_>>>()?)
    };
    green.read(&format!("cannot count the rows of green's table \"{}\"", credentials.table), read).await
}

fn green_counts(row: &sqlx::postgres::PgRow) -> sqlx::Result<GreenCounts> {
    let number = |name: &str| row.try_get(name).map(|number: i64| u64::try_from(number).unwrap_or(0));
    Ok(GreenCounts {
        workspace: row.try_get("workspace")?,
        total: number("total")?,
        expired: number("expired")?,
        with_expiry: number("expiring")?,
        hashed: number("hashed")?,
        encrypted: number("encrypted")?,
        without_secret: number("empty")?,
        of_fips_mode: number("fips_mode")?,
        unusable: number("dead")?,
        owners_missing: number("ownerless")?,
    })
}

/// Counts the rows of one of blue's tables by workspace; `rejected` are the ids of rejected rows.
pub(super) async fn count_on_blue(
    blue: &Blue,
    table: &BlueTable,
    rejected: &BTreeSet<String>,
) -> Result<BTreeMap<Option<Uuid>, BlueCounts>> {
    let key: Vec<String> = table.partition_key().into_iter().map(str::to_owned).collect();
    let cells: Vec<String> = [WORKSPACE].into_iter().chain(id_column(table)).map(cql_quote).collect();
    let reader = blue.reader(&table.name, &cells.join(", "), &key).await?;
    let uuid =
        |cell: Option<&Option<&[u8]>>| cell.copied().flatten().and_then(|id| Uuid::from_slice(id).ok());
    let mut by_workspace: BTreeMap<Option<Uuid>, BlueCounts> = BTreeMap::new();
    let mut next = Some((PagingState::start(), Page::first_rows()));
    while let Some((from, rows)) = next.take() {
        let page = blue.page(&reader, TokenRange::WHOLE, from, rows).await?;
        page.for_each(|cells| {
            let counts = by_workspace.entry(uuid(cells.first())).or_default();
            counts.rows += 1;
            let id = uuid(cells.get(1)).filter(|_| !rejected.is_empty());
            counts.rejected += u64::from(id.is_some_and(|id| rejected.contains(&id.to_string())));
        })
        .map_err(|e| blue.explain(e, &format!("cannot read the table \"{}\"", table.name)))?;
        next = page.next.clone().map(|from| (from, page.next_rows()));
    }
    Ok(by_workspace)
}
