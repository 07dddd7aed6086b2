//! Writing rows into a real keyspace and looking at them.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use futures::{StreamExt, TryStreamExt, stream};
use kongferry::error::{Error, Result};
use scylla::client::caching_session::CachingSession;
use scylla::client::session::Session;
use scylla::response::PagingState;
use serde_json::{Map, Value};

use crate::cassandra::Endpoint;
use crate::catalog::quote;
use crate::context::Context;
use crate::fixture::{BlueRow, Fixture};
use crate::keyspace_pool::{self, Lease};

/// Rows that are written at once when a fixture is loaded.
const CONCURRENCY: usize = 64;

/// A keyspace and a session of the caller's runtime. Do not carry it into another test. One that the lab gave to
/// the caller alone is emptied or dropped with this value.
pub struct Keyspace {
    session: CachingSession,
    endpoint: Endpoint,
    name: String,
    tables: BTreeMap<String, BTreeMap<String, Column>>,
    /// Set for a keyspace that goes back to the pool.
    lease: Option<Lease>,
}

impl Drop for Keyspace {
    fn drop(&mut self) {
        if let Some(lease) = self.lease.take() {
            keyspace_pool::give_back(lease);
        }
    }
}

#[derive(Debug, Clone)]
struct Column {
    is_key: bool,
    cql_type: String,
}

/// What of a recording is written beside the values.
#[derive(Debug, Clone, Copy, Default)]
pub struct LoadOptions {
    /// Writes each cell with its recorded time instead of now. A later write of a test then wins only if the
    /// recording is older than the clock.
    pub keep_writetime: bool,
}

impl std::fmt::Debug for Keyspace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyspace").field("url", &self.url()).finish_non_exhaustive()
    }
}

impl Keyspace {
    /// Connects and reads which tables there are.
    pub async fn open(endpoint: &Endpoint, name: &str) -> Result<Self> {
        let session = endpoint.session().await?;
        session.use_keyspace(name, true).await.context(|| format!("there is no keyspace {name}"))?;
        let tables = read_tables(&session, name).await?;
        Ok(Keyspace {
            session: CachingSession::from(session, 512),
            endpoint: endpoint.clone(),
            name: name.to_owned(),
            tables,
            lease: None,
        })
    }

    /// The same, for one that goes back to the pool when the caller is done with it.
    pub(crate) async fn open_leased(endpoint: &Endpoint, lease: Lease) -> Result<Self> {
        let mut keyspace = Keyspace::open(endpoint, &lease.keyspace).await?;
        keyspace.lease = Some(lease);
        Ok(keyspace)
    }

    /// Leaves it as it is on its server until the end of the process.
    pub fn keep(&mut self) {
        self.lease = None;
    }

    /// Reads again which tables and columns there are.
    pub async fn reread(&mut self) -> Result<()> {
        self.tables = read_tables(self.session(), &self.name).await?;
        Ok(())
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// `cassandra://HOST:PORT/KEYSPACE`.
    pub fn url(&self) -> String {
        self.endpoint.url(&self.name)
    }

    /// The driver's session; statements that name no keyspace mean this one.
    pub fn session(&self) -> &Session {
        self.session.get_session()
    }

    /// Runs one statement without a result.
    pub async fn execute(&self, cql: &str) -> Result<()> {
        let result = self.session().query_unpaged(cql, ()).await;
        result.map(|_| ()).context(|| format!("Cassandra refuses: {cql}"))
    }

    /// Writes the given columns of a row; `null` deletes the cell, a column left out stays as it is. The table's
    /// default time to live applies. For counters the value is added.
    pub async fn write_row(&self, table: &str, row: &Value) -> Result<()> {
        self.write(table, as_object(row)?, Using::default()).await
    }

    /// The same with a time to live in seconds; 0 is forever, whatever the table's default.
    pub async fn write_row_with_ttl(&self, table: &str, row: &Value, ttl: i32) -> Result<()> {
        self.write(table, as_object(row)?, Using { ttl: Some(ttl), writetime: None }).await
    }

    /// The rows of a table as `SELECT JSON` shows them, in the order of their tokens.
    pub async fn rows(&self, table: &str) -> Result<Vec<Map<String, Value>>> {
        let cql = format!("SELECT JSON * FROM {}", quote(table));
        let failed = || format!("cannot read {table}");
        let result = self.session().query_unpaged(cql, ()).await.context(failed)?;
        let rows = result.into_rows_result().context(failed)?;
        let mut parsed = Vec::new();
        for row in rows.rows::<(String,)>().context(failed)? {
            parsed.push(serde_json::from_str(&row.context(failed)?.0).context(failed)?);
        }
        Ok(parsed)
    }

    /// How many rows a table has.
    pub async fn count(&self, table: &str) -> Result<i64> {
        // Page by page: one statement that counts millions of rows takes longer than Cassandra lets it.
        let key = self.columns(table)?.iter().find(|(_, column)| column.is_key);
        let key = key.map_or_else(|| "*".into(), |(name, _)| quote(name));
        let cql = format!("SELECT {key} FROM {}", quote(table));
        let failed = || format!("cannot count {table}");
        let (mut count, mut state) = (0, PagingState::start());
        loop {
            let (page, next) =
                self.session().query_single_page(cql.as_str(), (), state).await.context(failed)?;
            count += i64::try_from(page.into_rows_result().context(failed)?.rows_num()).unwrap_or(0);
            match next.into_paging_control_flow() {
                ControlFlow::Break(()) => break,
                ControlFlow::Continue(next) => state = next,
            }
        }
        Ok(count)
    }

    /// Seconds that a cell has left; `None` for a cell that stays, or is not there. `key` holds the primary key.
    pub async fn ttl(&self, table: &str, column: &str, key: &Value) -> Result<Option<i32>> {
        let (condition, values) = self.condition(table, as_object(key)?)?;
        let cql = format!("SELECT TTL({}) FROM {} WHERE {condition}", quote(column), quote(table));
        let failed = || format!("cannot read the TTL of {table}.{column}");
        let result = self.session.execute_unpaged(cql, values).await.context(failed)?;
        let row = result.into_rows_result().context(failed)?;
        let found = row.maybe_first_row::<(Option<i32>,)>().context(failed)?;
        Ok(found.and_then(|(ttl,)| ttl))
    }

    /// Writes every row of the blue side. A table or column that this keyspace lacks is an error.
    pub async fn load(&self, fixture: &Fixture, options: LoadOptions) -> Result<()> {
        let rows = fixture.blue.iter().flat_map(|(table, rows)| rows.iter().map(move |row| (table, row)));
        let writes = rows.map(|(table, row)| self.write_recorded(table, row, options));
        stream::iter(writes).buffer_unordered(CONCURRENCY).try_collect().await
    }

    /// Writes one recorded row, each cell with the time it had left.
    pub async fn write_recorded(&self, table: &str, row: &BlueRow, options: LoadOptions) -> Result<()> {
        for (using, cells) in self.split(table, row, options)? {
            self.write(table, &cells, using).await?;
        }
        if row.then.is_empty() {
            return Ok(());
        }
        let key = row
            .row
            .iter()
            .filter(|(name, _)| self.columns(table).is_ok_and(|c| c.get(*name).is_some_and(|c| c.is_key)));
        let key = key.map(|(name, value)| (name.clone(), value.clone()));
        self.update(table, &key.chain(row.then.clone()).collect()).await
    }

    /// Sets columns of a row by an UPDATE: unlike an INSERT it gives the row no life of its own beside its cells.
    pub async fn update_row(&self, table: &str, row: &Value) -> Result<()> {
        self.update(table, as_object(row)?).await
    }

    async fn update(&self, table: &str, row: &Map<String, Value>) -> Result<()> {
        let columns = self.columns(table)?;
        let (mut terms, mut values) = (Vec::new(), Vec::new());
        for (name, value) in row {
            if !columns.get(name).ok_or_else(|| unknown(table, name))?.is_key {
                terms.push(format!("{} = fromJson(?)", quote(name)));
                values.push(value.to_string());
            }
        }
        let (condition, key) = self.condition(table, row)?;
        values.extend(key);
        let cql = format!("UPDATE {} SET {} WHERE {condition}", quote(table), terms.join(", "));
        let result = self.session.execute_unpaged(cql, values).await;
        result.map(|_| ()).context(|| format!("cannot update a row of {table}"))
    }

    /// The cells of a row by what they are written with. The cells that live longest come last: each INSERT sets
    /// the row's own marker, which has to live as long as the last cell.
    fn split(
        &self,
        table: &str,
        row: &BlueRow,
        options: LoadOptions,
    ) -> Result<BTreeMap<Using, Map<String, Value>>> {
        let columns = self.columns(table)?;
        let key: Map<String, Value> = (row.row.iter())
            .filter(|(name, _)| columns.get(*name).is_some_and(|column| column.is_key))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let mut parts: BTreeMap<Using, Map<String, Value>> = BTreeMap::new();
        for (name, value) in &row.row {
            if !key.contains_key(name) && !value.is_null() {
                let column = columns.get(name).ok_or_else(|| unknown(table, name))?;
                let using = using_of(row, name, column, options);
                parts.entry(using).or_insert_with(|| key.clone()).insert(name.clone(), value.clone());
            }
        }
        if parts.is_empty() {
            let using = Using { ttl: row.ttl.as_ref().map(|_| 0), writetime: None };
            parts.insert(using, key);
        }
        Ok(parts)
    }

    async fn write(&self, table: &str, row: &Map<String, Value>, using: Using) -> Result<()> {
        let columns = self.columns(table)?;
        if let Some(name) = row.keys().find(|name| !columns.contains_key(*name)) {
            return Err(unknown(table, name));
        }
        let is_counter = |name: &String| columns[name].cql_type == "counter";
        if row.keys().any(is_counter) {
            return self.add_to_counters(table, row).await;
        }
        let text = insertable(row).to_string();
        let cql = format!("INSERT INTO {} JSON ? DEFAULT UNSET{}", quote(table), using.clause());
        let result = match (using.ttl, using.writetime) {
            (None, None) => self.session.execute_unpaged(cql, (text,)).await,
            (Some(ttl), None) => self.session.execute_unpaged(cql, (text, ttl)).await,
            (None, Some(at)) => self.session.execute_unpaged(cql, (text, at)).await,
            (Some(ttl), Some(at)) => self.session.execute_unpaged(cql, (text, ttl, at)).await,
        };
        result.map(|_| ()).context(|| format!("cannot write a row of {table}"))
    }

    async fn add_to_counters(&self, table: &str, row: &Map<String, Value>) -> Result<()> {
        let (condition, values) = self.condition(table, row)?;
        let columns = self.columns(table)?;
        let mut additions = Vec::new();
        for (name, value) in row.iter().filter(|(name, _)| !columns[*name].is_key) {
            let amount = value.as_i64().ok_or_else(|| {
                Error::usage(format!("{table}.{name} is a counter, and {value} is no whole number"))
            })?;
            let name = quote(name);
            additions.push(format!("{name} = {name} + {amount}"));
        }
        let cql = format!("UPDATE {} SET {} WHERE {condition}", quote(table), additions.join(", "));
        let result = self.session().query_unpaged(cql, values).await;
        result.map(|_| ()).context(|| format!("cannot add to a counter of {table}"))
    }

    /// `"id" = fromJson(?) AND …` for the primary key, and the values as JSON.
    fn condition(&self, table: &str, row: &Map<String, Value>) -> Result<(String, Vec<String>)> {
        let columns = self.columns(table)?;
        let (mut terms, mut values) = (Vec::new(), Vec::new());
        for name in columns.iter().filter(|(_, column)| column.is_key).map(|(name, _)| name) {
            let value = row
                .get(name)
                .ok_or_else(|| Error::usage(format!("a row of {table} is given without its {name}")))?;
            terms.push(format!("{} = fromJson(?)", quote(name)));
            values.push(value.to_string());
        }
        Ok((terms.join(" AND "), values))
    }

    fn columns(&self, table: &str) -> Result<&BTreeMap<String, Column>> {
        self.tables
            .get(table)
            .ok_or_else(|| Error::usage(format!("the keyspace {} has no table {table}", self.name)))
    }
}

/// What a cell is written with. The order is that of writing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Using {
    ttl: Option<i32>,
    writetime: Option<i64>,
}

impl Using {
    fn clause(self) -> &'static str {
        match (self.ttl, self.writetime) {
            (None, None) => "",
            (Some(_), None) => " USING TTL ?",
            (None, Some(_)) => " USING TIMESTAMP ?",
            (Some(_), Some(_)) => " USING TTL ? AND TIMESTAMP ?",
        }
    }

    /// A cell that stays outlives all others.
    fn rank(self) -> (i32, Option<i64>) {
        (self.ttl.filter(|ttl| *ttl > 0).unwrap_or(i32::MAX), self.writetime)
    }
}

impl Ord for Using {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.rank().cmp(&other.rank()).then(self.ttl.cmp(&other.ttl))
    }
}

impl PartialOrd for Using {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// `ttl()` and `writetime()` cannot be asked of a collection; it was written with the rest of its row.
fn using_of(row: &BlueRow, name: &str, column: &Column, options: LoadOptions) -> Using {
    let is_collection = ["set<", "list<", "map<"].iter().any(|start| column.cql_type.starts_with(start));
    let ttl = row.ttl.as_ref().map(|recorded| match recorded.get(name) {
        Some(ttl) => *ttl,
        None if is_collection => recorded.values().copied().max().unwrap_or(0),
        None => 0,
    });
    let recorded = row.writetime.as_ref().filter(|_| options.keep_writetime);
    let writetime = recorded.and_then(|times| times.get(name).or_else(|| times.values().max())).copied();
    Using { ttl, writetime }
}

async fn read_tables(
    session: &Session,
    keyspace: &str,
) -> Result<BTreeMap<String, BTreeMap<String, Column>>> {
    let failed = || format!("cannot read the tables of {keyspace}");
    let cql = "SELECT table_name, column_name, kind, type FROM system_schema.columns WHERE keyspace_name = ?";
    let result = session.query_unpaged(cql, (keyspace,)).await.context(failed)?;
    let rows = result.into_rows_result().context(failed)?;
    let mut tables: BTreeMap<String, BTreeMap<String, Column>> = BTreeMap::new();
    for row in rows.rows::<(String, String, String, String)>().context(failed)? {
        let (table, name, kind, cql_type) = row.context(failed)?;
        let is_key = kind == "partition_key" || kind == "clustering";
        tables.entry(table).or_default().insert(name, Column { is_key, cql_type });
    }
    Ok(tables)
}

/// In `INSERT … JSON` a name that is not all lower case needs quotes of its own.
fn insertable(row: &Map<String, Value>) -> Value {
    let plain = |name: &str| name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    let name = |name: &String| if plain(name) { name.clone() } else { quote(name) };
    Value::Object(row.iter().map(|(key, value)| (name(key), value.clone())).collect())
}

fn as_object(row: &Value) -> Result<&Map<String, Value>> {
    row.as_object().ok_or_else(|| Error::usage(format!("a row is a JSON object, not {row}")))
}

fn unknown(table: &str, column: &str) -> Error {
    Error::usage(format!("the table {table} has no column {column}"))
}
