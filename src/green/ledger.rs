//! The ledger on green: for each row that a run wrote, its key and a digest of what was written.
//!
//! Every table has a ledger of its own with the columns of its key, so that green compares and deletes by sets. It is
//! written in the applying transaction. Whether another session changed a row since is known without reading its values:
//! PostgreSQL keeps with each row the number of the transaction that wrote it last, and the ledger has the numbers of our
//! runs. Only a row with another number is read and digested; where the values are the same, it was not edited.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::PgConnection;

use super::conditions::{alive, as_numbered_key, numbered_key, same_key, same_numbered_key, same_row};
use super::copy_out;
use super::session::{During, Green};
use super::sql::{fill, literal, own_table_name, quote};
use super::stage::Stage;
use super::statement::{query, query_as, query_scalar};
use crate::error::Result;
use crate::mapping::digest::{Digest128, Digester, key_of};
use crate::mapping::schema_map::Writer;
use crate::mapping::table_plan::{KeyspacePlan, TablePlan};

const READ: &str = "cannot read the ledger on green";

/// The number of the current transaction, as rows carry it.
const CURRENT_XID: &str = "(txid_current() % 4294967296)::text";

/// What earlier runs wrote into the tables of this very database.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    tables: BTreeSet<String>,
    /// Numbers of the transactions of our runs.
    writers: Vec<String>,
    /// The server's system identifier and the database's oid.
    database_id: String,
}

/// How a row of green differs from what our runs wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LocalChange {
    /// None of our runs wrote it.
    Inserted,
    Edited,
    /// A run wrote it, and it was deleted since.
    Deleted,
}

impl LocalChange {
    /// Its code in our own tables and in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            LocalChange::Inserted => "made",
            LocalChange::Edited => "edited",
            LocalChange::Deleted => "removed",
        }
    }
}

/// Rows of one table that differ from what our runs wrote: by the digest of their key, with the key's fields as COPY
/// takes them.
pub type LocalChanges = BTreeMap<Digest128, (LocalChange, Vec<u8>)>;

/// The ledger of one of Kong's tables, quoted.
pub fn relation(green: &Green, table: &str) -> String {
    format!("{}.{}", quote(green.work_schema()), quote(&own_table_name("ledger_", table)))
}

impl Ledger {
    /// Reads which tables have a ledger that describes them as they are now.
    pub async fn read(green: &Green, plan: &KeyspacePlan) -> Result<Ledger> {
        let database_id = database_id(green).await?;
        let read = green.read(READ, async |tx| {
            if !green.has_own_table(tx, "ledger").await? {
                return Ok(Ledger { database_id, ..Ledger::default() });
            }
            let work = quote(green.work_schema());
            let ledgers: Vec<(String, Vec<String>)> =
                query_as(fill(include_str!("../../sql/ledger/read.sql"), &[("work", &work)]))
                    .bind(green.kong_schema())
                    .bind(&database_id)
                    .fetch_all(&mut *tx)
                    .await?;
            let sql = "select xid from {work}.writer where database_id = $1 order by entered_at";
            let writers =
                query_scalar(fill(sql, &[("work", &work)])).bind(&database_id).fetch_all(tx).await?;
            let with_this_key =
                |(name, key): (String, Vec<String>)| (plan.table(&name)?.key == key).then_some(name);
            let tables = ledgers.into_iter().filter_map(with_this_key).collect();
            Ok(Ledger { tables, writers, database_id })
        });
        read.await
    }

    /// Whether no table has one: no run was ever applied here.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// Creates an empty ledger for every table that has none: none of its rows on green was written by our runs.
    pub async fn create_missing(&mut self, green: &Green, plan: &KeyspacePlan) -> Result<()> {
        let create = green.write("cannot create a ledger on green", async |tx| {
            for table in plan.moved.iter().filter(|table| !table.key.is_empty()) {
                if self.tables.insert(table.table.clone()) {
                    self.create(green, tx, table).await?;
                    add_primary_key(green, tx, table).await?;
                }
            }
            Ok(())
        });
        create.await
    }

    pub fn contains(&self, table: &str) -> bool {
        self.tables.contains(table)
    }

    /// Calls `each` with every entry: the digests of the key and of the values, the expiry in microseconds since 2000, and
    /// the key's fields.
    pub async fn entries(
        &self,
        green: &Green,
        plan: &TablePlan,
        mut each: impl FnMut(Digest128, Digest128, Option<i64>, &[Option<&[u8]>]) -> Result<()>,
    ) -> Result<()> {
        let action = format!("cannot read the ledger of \"{}\"", plan.table);
        let select = format!(
            "select {}, digest, expiry from {}",
            numbered_key(&plan.key, "").join(", "),
            relation(green, &plan.table)
        );
        let mut read_entry = |fields: &[Option<&[u8]>]| {
            let (key, rest) = fields.split_at(plan.key.len().min(fields.len()));
            let digest = rest.first().copied().flatten().and_then(|bytes| bytes.try_into().ok());
            let expiry = rest.get(1).copied().flatten().and_then(|bytes| bytes.try_into().ok());
            each(key_of(key), digest.unwrap_or_default(), expiry.map(i64::from_be_bytes), key)
        };
        let read = green.read(&action, async |tx| {
            Ok(copy_out::rows(green, tx, &select, &action, &mut read_entry).await?)
        });
        read.await
    }

    /// The rows of one table that differ from what our runs wrote. Costs only a count where there are none.
    pub async fn local_changes(
        &self,
        green: &Green,
        tx: &mut PgConnection,
        plan: &TablePlan,
    ) -> Result<LocalChanges> {
        let action = format!("cannot read the rows of \"{}\" that were changed on green", plan.table);
        let table_ref = table_ref(green, plan);
        let (ledger, ours) = (relation(green, &plan.table), self.ours("g"));
        let columns: Vec<String> =
            plan.columns.iter().map(|column| format!("g.{}", quote(&column.name))).collect();
        let places = [
            ("table_ref", table_ref.as_str()),
            ("ledger", &ledger),
            ("ours", &ours),
            ("alive", &alive(plan.expiry.as_deref(), "g")),
            ("ledger_alive", &alive(plan.expiry.as_ref().map(|_| "expiry"), "l")),
            ("same_key", &same_numbered_key(&plan.key, "l", "g")),
            ("columns", &columns.join(", ")),
            ("keys", &numbered_key(&plan.key, "l").join(", ")),
            ("expiry_differs", &expiry_differs(plan)),
        ];
        let counts = fill(include_str!("../../sql/ledger/counts.sql"), &places);
        let (rows, others, in_ledger): (i64, i64, i64) =
            query_as(counts).fetch_one(&mut *tx).await.during(green, &action)?;
        let mut changes = LocalChanges::new();
        if others == 0 && rows == in_ledger {
            return Ok(changes);
        }
        let mut digester = Digester::new(plan);
        let key_positions: Vec<usize> = plan
            .key
            .iter()
            .filter_map(|name| plan.columns.iter().position(|column| column.name == *name))
            .collect();
        let select = fill(include_str!("../../sql/ledger/changed_rows.sql"), &places).0;
        copy_out::rows(green, tx, &select, &action, |fields| {
            let row = digester.digest_fields(fields);
            let written = fields.get(plan.columns.len()).copied().flatten();
            let other_expiry = fields.get(plan.columns.len() + 1).copied().flatten() == Some(&[1]);
            let change = match written {
                None => LocalChange::Inserted,
                Some(digest) if digest == row.digest && !other_expiry => return Ok(()),
                Some(_) => LocalChange::Edited,
            };
            let key: Vec<Option<&[u8]>> =
                key_positions.iter().map(|at| fields.get(*at).copied().flatten()).collect();
            changes.insert(row.key, (change, copy_fields(&key)));
            Ok(())
        })
        .await?;
        let select = fill(include_str!("../../sql/ledger/removed_rows.sql"), &places).0;
        copy_out::rows(green, tx, &select, &action, |key| {
            changes.insert(key_of(key), (LocalChange::Deleted, copy_fields(key)));
            Ok(())
        })
        .await?;
        Ok(changes)
    }

    /// That a row was last written by one of our runs.
    fn ours(&self, alias: &str) -> String {
        if self.writers.is_empty() {
            return "false".to_owned();
        }
        format!("{alias}.xmin = any ('{{{}}}'::xid[])", self.writers.join(","))
    }
}

/// The names of all tables that have a ledger and exist on green, whether or not the ledger describes them.
pub async fn tables(green: &Green) -> Result<Vec<String>> {
    // A missing privilege is reported by `inspect`, not here.
    let is_readable = "select exists (
        select from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where n.nspname = $1 and c.relname = 'ledger'
          and has_schema_privilege(n.oid, 'USAGE') and has_table_privilege(c.oid, 'SELECT'))";
    let list = "select l.table_name from {work}.ledger l
                where to_regclass(quote_ident($1) || '.' || quote_ident(l.table_name)) is not null
                order by 1";
    let list = fill(list, &[("work", &quote(green.work_schema()))]);
    let read = green.read(READ, async |tx| {
        if !query_scalar(is_readable).bind(green.work_schema()).fetch_one(&mut *tx).await? {
            return Ok(Vec::new());
        }
        Ok(query_scalar(list).bind(green.kong_schema()).fetch_all(tx).await?)
    });
    read.await
}

/// That a row was written by the current transaction.
fn written_here(alias: &str) -> String {
    format!("{alias}.xmin::text = {CURRENT_XID}")
}

/// Identifies the database and its server: in a copy elsewhere the ledger does not apply. Where the role may not read the
/// server's identifier, the database's oid alone has to do.
async fn database_id(green: &Green) -> Result<String> {
    let oid = "select oid::text from pg_database where datname = current_database()";
    let server = "select system_identifier::text from pg_control_system()";
    let read = green.read("cannot read the identifier of green's database", async |tx| {
        let oid: String = query_scalar(oid).fetch_one(&mut *tx).await?;
        // Refused to a role without the privilege; the rollback of the failed transaction is no error.
        let server: Option<String> = query_scalar(server).fetch_one(tx).await.ok();
        Ok(format!("{}/{oid}", server.unwrap_or_default()))
    });
    read.await
}

impl Ledger {
    /// Records the current transaction as one of our runs.
    pub(super) async fn insert_writer(
        &self,
        green: &Green,
        tx: &mut PgConnection,
        run: uuid::Uuid,
    ) -> Result<()> {
        let sql = fill(
            "insert into {work}.writer (xid, database_id, run_id) values ({number}, $1, $2) on conflict do nothing",
            &[("work", &quote(green.work_schema())), ("number", CURRENT_XID)],
        );
        let inserted = query(sql).bind(&self.database_id).bind(run).execute(tx).await;
        inserted.map(|_| ()).during(green, "cannot record the transaction in the ledger")
    }

    /// Creates the ledger of a table that has none.
    pub(super) async fn create(
        &self,
        green: &Green,
        tx: &mut PgConnection,
        plan: &TablePlan,
    ) -> sqlx::Result<()> {
        let sql = fill(
            include_str!("../../sql/ledger/create.sql"),
            &[
                ("ledger", &relation(green, &plan.table)),
                ("keys", &as_numbered_key(&plan.key, "g")),
                ("expiry", &expiry_of(plan, "g")),
                ("table_ref", &table_ref(green, plan)),
            ],
        );
        sqlx::raw_sql(sql).execute(&mut *tx).await?;
        self.register(green, tx, plan).await
    }

    async fn register(&self, green: &Green, tx: &mut PgConnection, plan: &TablePlan) -> sqlx::Result<()> {
        let names: Vec<String> = plan.key.iter().map(|name| literal(name)).collect();
        let sql = fill(
            include_str!("../../sql/ledger/register.sql"),
            &[
                ("table_ref_literal", &literal(&table_ref(green, plan))),
                ("work", &quote(green.work_schema())),
                ("table", &literal(&plan.table)),
                ("database_id", &literal(&self.database_id)),
                ("key_columns", &format!("array[{}]::text[]", names.join(", "))),
            ],
        );
        sqlx::raw_sql(sql).execute(tx).await.map(|_| ())
    }

    /// Attaches the ledger that [`build_concurrently`] made.
    pub(super) async fn attach(
        &self,
        green: &Green,
        tx: &mut PgConnection,
        plan: &TablePlan,
    ) -> sqlx::Result<()> {
        let sql = fill(
            include_str!("../../sql/ledger/attach.sql"),
            &[
                ("ledger", &relation(green, &plan.table)),
                ("building", &building_relation(green, plan)),
                ("ledger_name", &quote(&own_table_name("ledger_", &plan.table))),
                ("building_key", &quote(&own_table_name(BUILDING_KEY, &plan.table))),
                ("ledger_key", &quote(&own_table_name("key_of_ledger_", &plan.table))),
            ],
        );
        sqlx::raw_sql(sql).execute(&mut *tx).await?;
        self.register(green, tx, plan).await
    }
}

/// Builds the ledgers of a first load from the stage, in transactions of their own, while another one writes Kong's tables.
pub(super) async fn build_concurrently(stage: &Stage, plan: &KeyspacePlan) -> Result<()> {
    let green = stage.green();
    for table in plan.moved.iter().filter(|table| !table.key.is_empty()) {
        let action = format!("cannot write the ledger of \"{}\"", table.table);
        let sql = fill(
            include_str!("../../sql/ledger/build_concurrently.sql"),
            &[
                ("building", &building_relation(green, table)),
                ("building_key", &quote(&own_table_name(BUILDING_KEY, &table.table))),
                ("keys", &as_numbered_key(&table.key, "s")),
                ("expiry", &expiry_of(table, "s")),
                ("stage", &stage.table(&table.table)),
                ("alive", &alive(table.expiry.as_deref(), "s")),
                ("key_columns", &numbered_key(&table.key, "").join(", ")),
            ],
        );
        let create = green.write(&action, async |tx| {
            sqlx::raw_sql(sql).execute(tx).await?;
            Ok(())
        });
        create.await?;
    }
    Ok(())
}

/// The prefix of the primary key's name until the ledger is attached.
const BUILDING_KEY: &str = "stage__key_";

fn building_relation(green: &Green, plan: &TablePlan) -> String {
    format!("{}.{}", quote(green.work_schema()), quote(&own_table_name("stage__ledger_", &plan.table)))
}

fn table_ref(green: &Green, plan: &TablePlan) -> String {
    format!("{}.{}", quote(green.kong_schema()), quote(&plan.table))
}

fn expiry_of(plan: &TablePlan, alias: &str) -> String {
    plan.expiry
        .as_ref()
        .map_or_else(|| "null::timestamptz".to_owned(), |column| format!("{alias}.{}", quote(column)))
}

/// Gives a ledger that was just filled its primary key.
pub(super) async fn add_primary_key(
    green: &Green,
    tx: &mut PgConnection,
    plan: &TablePlan,
) -> sqlx::Result<()> {
    let sql = fill(
        "alter table {ledger} add primary key ({keys})",
        &[("ledger", &relation(green, &plan.table)), ("keys", &numbered_key(&plan.key, "").join(", "))],
    );
    sqlx::raw_sql(sql).execute(tx).await.map(|_| ())
}

/// Inserts the staged rows of a table that are on green. With `reads_green` only those that green has as this run would
/// have written them: it may have a row of its own in their place.
pub(super) async fn insert(
    stage: &Stage,
    tx: &mut PgConnection,
    plan: &TablePlan,
    reads_green: bool,
) -> sqlx::Result<()> {
    let staged: Vec<String> = plan.key.iter().map(|name| format!("s.{}", quote(name))).collect();
    let column = plan.expiry.as_deref().map(quote);
    let alias = if reads_green { "g" } else { "s" };
    let mut joined = String::new();
    if reads_green {
        let table = stage.kong_table(&plan.table);
        joined = format!("\njoin {table} g on {}", same_key(&plan.key, "g", "s"));
    }
    let mut alive = alive(plan.expiry.as_deref(), alias);
    if reads_green && plan.writer == Writer::Traffic {
        alive = format!("{alive} and ({} or ({}))", written_here("g"), same_row(plan));
    }
    let sql = fill(
        include_str!("../../sql/ledger/insert.sql"),
        &[
            ("ledger", &relation(stage.green(), &plan.table)),
            ("keys", &numbered_key(&plan.key, "").join(", ")),
            ("staged_keys", &staged.join(", ")),
            ("expiry", &column.map_or_else(|| "null".to_owned(), |column| format!("{alias}.{column}"))),
            ("stage", &stage.table(&plan.table)),
            ("joined", &joined),
            ("alive", &alive),
        ],
    );
    sqlx::raw_sql(sql).execute(tx).await.map(|_| ())
}

/// Deletes the entries of rows that are staged, and of those in this table of deletions.
pub(super) async fn delete(
    stage: &Stage,
    tx: &mut PgConnection,
    plan: &TablePlan,
    deletions: &str,
) -> sqlx::Result<()> {
    let pairs = numbered_key(&plan.key, "l").into_iter().zip(numbered_key(&plan.key, "d"));
    let same_deleted: Vec<String> = pairs.map(|(ledger, deleted)| format!("{ledger} = {deleted}")).collect();
    let sql = fill(
        include_str!("../../sql/ledger/delete.sql"),
        &[
            ("ledger", &relation(stage.green(), &plan.table)),
            ("stage", &stage.table(&plan.table)),
            ("deletions", deletions),
            ("same_staged", &same_numbered_key(&plan.key, "l", "s")),
            ("same_deleted", &same_deleted.join(" and ")),
        ],
    );
    sqlx::raw_sql(sql).execute(tx).await.map(|_| ())
}

fn expiry_differs(plan: &TablePlan) -> String {
    plan.expiry.as_ref().map_or_else(
        || "false".to_owned(),
        |column| {
            let expiry = format!("g.{}", quote(column));
            format!(
                "l.digest is not null and coalesce(abs(extract(epoch from {expiry} - l.expiry)) > 2, ({expiry} is null) <> (l.expiry is null))"
            )
        },
    )
}

/// Fields as binary COPY takes them.
pub fn copy_fields(fields: &[Option<&[u8]>]) -> Vec<u8> {
    let mut out = Vec::new();
    for field in fields {
        match field {
            None => crate::mapping::pg_binary::null(&mut out),
            Some(bytes) => {
                out.extend(i32::try_from(bytes.len()).unwrap_or(i32::MAX).to_be_bytes());
                out.extend_from_slice(bytes);
            }
        }
    }
    out
}
