//! Keyspaces that tests use one after another. Creating Kong's tables costs Cassandra more CPU than everything else that
//! a test asks of it, truncating them costs little: when a test ends, its keyspace is emptied for the next test that asks
//! for the same tables. A keyspace whose schema the test changed is dropped.

use std::collections::{BTreeMap, HashMap};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{LazyLock, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use kongferry::error::Result;
use scylla::client::session::Session;

use crate::cassandra::Endpoint;
use crate::catalog::{Catalog, KeyspaceOptions, quote};
use crate::context::Context;

/// How long a test waits for a keyspace that is being emptied before it creates one of its own.
const PATIENCE: Duration = Duration::from_secs(20);

/// Tables of `system_schema` that hold what a test can change in a keyspace.
const SCHEMA_TABLES: &[&str] =
    &["keyspaces", "tables", "columns", "dropped_columns", "indexes", "views", "types", "triggers"];

/// How long the flush of a table with one row may take.
const FLUSH: Duration = Duration::from_millis(500);

const CONCURRENCY: usize = 4;

/// A keyspace that goes back to the pool.
#[derive(Debug)]
pub(crate) struct Lease {
    endpoint: Endpoint,
    pub(crate) keyspace: String,
    /// Which tables on which server; keyspaces of the same kind replace each other.
    kind: String,
    /// The schema as it was created.
    schema: Vec<String>,
    /// How often each table had been written to when it was last known to be empty.
    writes: BTreeMap<String, i64>,
}

#[derive(Default)]
struct Pool {
    idle: HashMap<String, Vec<Lease>>,
    /// How many keyspaces of a kind are being emptied.
    returning: HashMap<String, usize>,
}

fn pool() -> MutexGuard<'static, Pool> {
    static POOL: LazyLock<Mutex<Pool>> = LazyLock::new(Mutex::default);
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An empty keyspace with these tables of `line`: one that another test has used, or a new one of that name.
pub(crate) async fn take(
    endpoint: &Endpoint,
    name: &str,
    line: &str,
    catalog: &Catalog,
    options: KeyspaceOptions,
) -> Result<Lease> {
    let tables: Vec<&String> = catalog.tables.keys().collect();
    let kind = format!("{} {line} {options:?} {tables:?}", endpoint.contact_point);
    if let Some(lease) = idle(&kind).await {
        return Ok(lease);
    }
    let session = endpoint.session().await?;
    catalog.create(&session, name, options).await?;
    let schema = read_schema(&session, name).await?;
    Ok(Lease { endpoint: endpoint.clone(), keyspace: name.to_owned(), kind, schema, writes: BTreeMap::new() })
}

/// An idle keyspace of this kind; waits for one that is being emptied.
async fn idle(kind: &str) -> Option<Lease> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        {
            let mut pool = pool();
            if let Some(lease) = pool.idle.get_mut(kind).and_then(Vec::pop) {
                return Some(lease);
            }
            if pool.returning.get(kind).is_none_or(|count| *count == 0) || Instant::now() > deadline {
                return None;
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Empties a keyspace soon, on a thread of its own: the caller may be about to end its runtime.
pub(crate) fn give_back(lease: Lease) {
    static CLEANER: OnceLock<Sender<Lease>> = OnceLock::new();
    let cleaner = CLEANER.get_or_init(|| {
        let (sender, receiver) = channel();
        std::thread::spawn(move || clean_all(&receiver));
        sender
    });
    *pool().returning.entry(lease.kind.clone()).or_default() += 1;
    // Without the thread the keyspace stays until its server ends.
    let _ = cleaner.send(lease);
}

fn clean_all(receiver: &Receiver<Lease>) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
    let mut sessions: HashMap<String, Session> = HashMap::new();
    while let Ok(lease) = receiver.recv() {
        let kind = lease.kind.clone();
        let cleaned = runtime.block_on(async {
            let address = lease.endpoint.contact_point.clone();
            if !sessions.contains_key(&address) {
                let session = lease.endpoint.session().await.ok()?;
                keep_an_sstable(&session).await.ok()?;
                sessions.insert(address.clone(), session);
            }
            clean(&sessions[&address], lease).await
        });
        let mut pool = pool();
        if let Some(count) = pool.returning.get_mut(&kind) {
            *count -= 1;
        }
        pool.idle.entry(kind).or_default().extend(cleaned);
    }
}

/// Empties the tables that were written to; drops the keyspace if its schema was changed or anything fails.
async fn clean(session: &Session, mut lease: Lease) -> Option<Lease> {
    let emptied = async {
        if read_schema(session, &lease.keyspace).await? != lease.schema {
            return Ok(false);
        }
        let writes = count_writes(session, &lease.keyspace).await?;
        let written = writes.iter().filter(|(table, count)| lease.writes.get(*table) != Some(count));
        let truncate = written.map(|(table, _)| truncate(session, &lease.keyspace, table));
        stream::iter(truncate).buffer_unordered(CONCURRENCY).try_collect::<()>().await?;
        lease.writes = writes;
        Ok::<_, kongferry::error::Error>(true)
    };
    if matches!(emptied.await, Ok(true)) {
        return Some(lease);
    }
    let _ = session.query_unpaged(format!("DROP KEYSPACE IF EXISTS {}", quote(&lease.keyspace)), ()).await;
    None
}

/// Gives the server a data file that stays. TRUNCATE makes Cassandra compact `system.local`; where that is the only
/// table with files, it announces to its gossip that there are none for a moment, and 5.0 then blocks for ever if a table
/// is created at the same time.
async fn keep_an_sstable(session: &Session) -> Result<()> {
    for cql in [
        "CREATE KEYSPACE IF NOT EXISTS kept WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}",
        "CREATE TABLE IF NOT EXISTS kept.kept (id int PRIMARY KEY) WITH memtable_flush_period_in_ms = 100",
        "INSERT INTO kept.kept (id) VALUES (1)",
    ] {
        session.query_unpaged(cql, ()).await.context(|| format!("Cassandra refuses: {cql}"))?;
    }
    tokio::time::sleep(FLUSH).await;
    Ok(())
}

async fn truncate(session: &Session, keyspace: &str, table: &str) -> Result<()> {
    let cql = format!("TRUNCATE {}.{}", quote(keyspace), quote(table));
    let done = session.query_unpaged(cql.as_str(), ()).await;
    done.map(|_| ()).context(|| format!("Cassandra refuses: {cql}"))
}

/// Everything that `system_schema` says about a keyspace, ids of tables included: one that was dropped and created
/// again has another id.
async fn read_schema(session: &Session, keyspace: &str) -> Result<Vec<String>> {
    let failed = || format!("cannot read the schema of {keyspace}");
    let mut lines = Vec::new();
    for table in SCHEMA_TABLES {
        let cql = format!("SELECT JSON * FROM system_schema.{table} WHERE keyspace_name = ?");
        let result = session.query_unpaged(cql, (keyspace,)).await.context(failed)?;
        let rows = result.into_rows_result().context(failed)?;
        for row in rows.rows::<(String,)>().context(failed)? {
            lines.push(row.context(failed)?.0);
        }
    }
    Ok(lines)
}

/// How often each table was written to since Cassandra started; tables without a write are left out.
async fn count_writes(session: &Session, keyspace: &str) -> Result<BTreeMap<String, i64>> {
    let failed = || format!("cannot count the writes to {keyspace}");
    let cql = "SELECT keyspace_name, table_name, count FROM system_views.local_write_latency";
    let result = session.query_unpaged(cql, ()).await.context(failed)?.into_rows_result().context(failed)?;
    let mut writes = BTreeMap::new();
    for row in result.rows::<(String, String, i64)>().context(failed)? {
        let (owner, table, count) = row.context(failed)?;
        if owner == keyspace && count > 0 {
            writes.insert(table, count);
        }
    }
    Ok(writes)
}
