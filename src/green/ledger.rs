//! The ledger on green: for each row that a run wrote, its key and a digest of what was written.
//!
//! Every table has a ledger of its own with the columns of its key, so that green compares and deletes by sets. It is
//! written in the applying transaction. That nobody else has changed a row since is seen without reading it: PostgreSQL
//! keeps with each row the number of the transaction that wrote it last, and we know the numbers of our runs. Only a row
//! with another number is read and digested; where the values are the same, it was touched and not edited.

use std::collections::BTreeMap;

use sqlx::PgConnection;

use super::copy_out;
use super::session::Green;
use super::sql::{fill, literal, quote};
use super::stage::Stage;
use super::statement::{query, query_as, query_scalar};
use crate::error::Result;
use crate::green::session::During;
use crate::mapping::digest::{Digest128, Digester, key_of};
use crate::mapping::table_plan::{KeyspacePlan, TablePlan};

const READ: &str = "cannot read the ledger on green";

/// The number of the transaction that is open, as rows carry it.
const OWN_NUMBER: &str = "(txid_current() % 4294967296)::text";

/// What earlier runs are known to have written into the tables of this very database.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    /// Tables with a ledger.
    tables: std::collections::BTreeSet<String>,
    /// Numbers of the transactions of our runs.
    writers: Vec<String>,
    /// Which database of which server this is.
    database_id: String,
}

/// What somebody did to a row of green.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LocalChange {
    /// It is not one that we wrote.
    Made,
    /// We wrote it otherwise.
    Edited,
    /// We wrote it, and it is gone.
    Removed,
}

impl LocalChange {
    /// The word for it, in our own tables.
    pub fn word(self) -> &'static str {
        match self {
            LocalChange::Made => "made",
            LocalChange::Edited => "edited",
            LocalChange::Removed => "removed",
        }
    }
}

/// Rows of one table that are not as we left them: by their key, and the key's fields as COPY takes them.
pub type LocalChanges = BTreeMap<Digest128, (LocalChange, Vec<u8>)>;

/// The name of a table of ours about one of Kong's; long ones are cut as PostgreSQL would, but stay apart.
pub fn named(prefix: &str, table: &str) -> String {
    use sha2::{Digest, Sha256};
    if prefix.len() + table.len() <= 63 {
        return format!("{prefix}{table}");
    }
    let digest = format!("{:x}", Sha256::digest(table));
    format!("{prefix}x{}", digest.get(..40).unwrap_or_default())
}

/// The ledger of one of Kong's tables, quoted.
pub fn relation(green: &Green, table: &str) -> String {
    format!("{}.{}", quote(green.work_schema()), quote(&named("ledger_", table)))
}

/// Names of a key's columns in our own tables.
pub fn key_columns(plan: &TablePlan, alias: &str) -> Vec<String> {
    let dot = if alias.is_empty() { String::new() } else { format!("{alias}.") };
    (1..=plan.key.len()).map(|at| format!("{dot}key_{at}")).collect()
}

/// That a row of ours (`own`) is about this row of Kong's table or of its stage.
pub fn same_key(plan: &TablePlan, own: &str, other: &str) -> String {
    let pair = |(at, name): (usize, &String)| format!("{own}.key_{} = {other}.{}", at + 1, quote(name));
    if plan.key.is_empty() {
        return "false".to_owned();
    }
    plan.key.iter().enumerate().map(pair).collect::<Vec<_>>().join(" and ")
}

/// Whether a row's time has not run out.
pub fn alive(column: Option<&str>, alias: &str) -> String {
    column.map_or_else(
        || "true".to_owned(),
        |column| format!("({alias}.{0} is null or {alias}.{0} > now())", quote(column)),
    )
}

impl Ledger {
    /// Reads which tables have a ledger that is about them as they are now.
    pub async fn read(green: &Green, plan: &KeyspacePlan) -> Result<Ledger> {
        let database_id = database_id(green).await?;
        let read = green.read(READ, async |tx| {
            if !green.has_own_table(tx, "ledger").await? {
                return Ok(Ledger { database_id, ..Ledger::default() });
            }
            let work = quote(green.work_schema());
            let known: Vec<(String, Vec<String>)> =
                query_as(fill(include_str!("../../sql/ledger/known.sql"), &[("work", &work)]))
                    .bind(green.kong_schema())
                    .bind(&database_id)
                    .fetch_all(&mut *tx)
                    .await?;
            let sql = "select xid from {work}.writer where database_id = $1 order by entered_at";
            let writers =
                query_scalar(fill(sql, &[("work", &work)])).bind(&database_id).fetch_all(tx).await?;
            let with_this_key =
                |(name, key): (String, Vec<String>)| (plan.table(&name)?.key == key).then_some(name);
            let tables = known.into_iter().filter_map(with_this_key).collect();
            Ok(Ledger { tables, writers, database_id })
        });
        read.await
    }

    /// Whether no table has one: nothing was ever applied here.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// Begins an empty ledger for every table that has none: all its rows on green were made by somebody else.
    pub async fn complete(&mut self, green: &Green, plan: &KeyspacePlan) -> Result<()> {
        let create = green.write("cannot create a ledger on green", async |tx| {
            for table in plan.moved.iter().filter(|table| !table.key.is_empty()) {
                if self.tables.insert(table.table.clone()) {
                    self.create(green, tx, table).await?;
                    index(green, tx, table).await?;
                }
            }
            Ok(())
        });
        create.await
    }

    /// Whether this table has one.
    pub fn knows(&self, table: &str) -> bool {
        self.tables.contains(table)
    }

    /// Shows every entry: the key and digest of what was written, and the expiry in microseconds since 2000.
    pub async fn entries(
        &self,
        green: &Green,
        plan: &TablePlan,
        mut each: impl FnMut(Digest128, Digest128, Option<i64>, &[Option<&[u8]>]) -> Result<()>,
    ) -> Result<()> {
        let action = format!("cannot read the ledger of \"{}\"", plan.table);
        let select = format!(
            "select {}, digest, expiry from {}",
            key_columns(plan, "").join(", "),
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

    /// The rows of one table that are not as we left them. Costs a count where nobody touched any.
    pub async fn touched(
        &self,
        green: &Green,
        tx: &mut PgConnection,
        plan: &TablePlan,
    ) -> Result<LocalChanges> {
        let what = format!("cannot look for rows of \"{}\" that were changed on green", plan.table);
        let table_ref = table_ref(green, plan);
        let (ledger, ours) = (relation(green, &plan.table), self.ours("g"));
        let columns: Vec<String> =
            plan.columns.iter().map(|column| format!("g.{}", quote(&column.name))).collect();
        let places = [
            ("table_ref", table_ref.as_str()),
            ("ledger", &ledger),
            ("ours", &ours),
            ("alive", &alive(plan.expiry.as_deref(), "g")),
            ("known_alive", &alive(plan.expiry.as_ref().map(|_| "expiry"), "l")),
            ("same_key", &same_key(plan, "l", "g")),
            ("columns", &columns.join(", ")),
            ("keys", &key_columns(plan, "l").join(", ")),
            ("expiry_differs", &expiry_differs(plan)),
        ];
        let look = fill(include_str!("../../sql/ledger/look.sql"), &places);
        let (rows, foreign, known): (i64, i64, i64) =
            query_as(look).fetch_one(&mut *tx).await.during(green, &what)?;
        let mut touched = LocalChanges::new();
        if foreign == 0 && rows == known {
            return Ok(touched);
        }
        let mut digester = Digester::new(plan);
        let places_of_key: Vec<usize> = plan
            .key
            .iter()
            .filter_map(|name| plan.columns.iter().position(|column| column.name == *name))
            .collect();
        let select = fill(include_str!("../../sql/ledger/foreign.sql"), &places).0;
        copy_out::rows(green, tx, &select, &what, |fields| {
            let mark = digester.mark_fields(fields);
            let written = fields.get(plan.columns.len()).copied().flatten();
            let other_expiry = fields.get(plan.columns.len() + 1).copied().flatten() == Some(&[1]);
            let touch = match written {
                None => LocalChange::Made,
                Some(digest) if digest == mark.digest && !other_expiry => return Ok(()),
                Some(_) => LocalChange::Edited,
            };
            let key: Vec<Option<&[u8]>> =
                places_of_key.iter().map(|at| fields.get(*at).copied().flatten()).collect();
            touched.insert(mark.key, (touch, raw(&key)));
            Ok(())
        })
        .await?;
        let select = fill(include_str!("../../sql/ledger/removed.sql"), &places).0;
        copy_out::rows(green, tx, &select, &what, |key| {
            touched.insert(key_of(key), (LocalChange::Removed, raw(key)));
            Ok(())
        })
        .await?;
        Ok(touched)
    }

    /// That a row was last written by one of our runs.
    fn ours(&self, alias: &str) -> String {
        if self.writers.is_empty() {
            return "false".to_owned();
        }
        format!("{alias}.xmin = any ('{{{}}}'::xid[])", self.writers.join(","))
    }
}

/// Names of all tables that have a ledger here and still stand on green, whatever the ledger is worth.
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

/// That a row was written by the transaction that is open.
pub fn written_here(alias: &str) -> String {
    format!("{alias}.xmin::text = {OWN_NUMBER}")
}

/// Which database of which server this is: a copy elsewhere must not take our ledger for its own. Where the server does
/// not tell, the database alone must do.
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
    /// Enters the open transaction among those of our runs.
    pub async fn enter_writer(&self, green: &Green, tx: &mut PgConnection, run: uuid::Uuid) -> Result<()> {
        let sql = fill(
            "insert into {work}.writer (xid, database_id, run_id) values ({number}, $1, $2) on conflict do nothing",
            &[("work", &quote(green.work_schema())), ("number", OWN_NUMBER)],
        );
        let done = query(sql).bind(&self.database_id).bind(run).execute(tx).await;
        done.map(|_| ()).during(green, "cannot enter the transaction into the ledger")
    }

    /// Makes the ledger of a table that has none.
    pub async fn create(&self, green: &Green, tx: &mut PgConnection, plan: &TablePlan) -> sqlx::Result<()> {
        let sql = fill(
            include_str!("../../sql/ledger/create.sql"),
            &[
                ("ledger", &relation(green, &plan.table)),
                ("keys", &keys_of(plan, "g")),
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

    /// Takes over the ledger that [`aside`] made.
    pub async fn adopt(&self, green: &Green, tx: &mut PgConnection, plan: &TablePlan) -> sqlx::Result<()> {
        let sql = fill(
            include_str!("../../sql/ledger/adopt.sql"),
            &[
                ("ledger", &relation(green, &plan.table)),
                ("aside", &aside_of(green, plan)),
                ("own_name", &quote(&named("ledger_", &plan.table))),
                ("aside_key", &quote(&named(ASIDE_KEY, &plan.table))),
                ("own_key", &quote(&named("key_of_ledger_", &plan.table))),
            ],
        );
        sqlx::raw_sql(sql).execute(&mut *tx).await?;
        self.register(green, tx, plan).await
    }
}

/// Makes the ledgers of a first load from the stage, in a transaction of its own, while another one writes Kong's tables.
pub async fn aside(stage: &Stage, plan: &KeyspacePlan) -> Result<()> {
    let green = stage.green();
    for table in plan.moved.iter().filter(|table| !table.key.is_empty()) {
        let action = format!("cannot write the ledger of \"{}\"", table.table);
        let sql = fill(
            include_str!("../../sql/ledger/aside.sql"),
            &[
                ("aside", &aside_of(green, table)),
                ("aside_key", &quote(&named(ASIDE_KEY, &table.table))),
                ("keys", &keys_of(table, "s")),
                ("expiry", &expiry_of(table, "s")),
                ("stage", &stage.table(&table.table)),
                ("alive", &alive(table.expiry.as_deref(), "s")),
                ("key_columns", &key_columns(table, "").join(", ")),
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

/// What the key of a ledger made aside is called until that is taken over.
const ASIDE_KEY: &str = "stage__key_";

fn aside_of(green: &Green, plan: &TablePlan) -> String {
    format!("{}.{}", quote(green.work_schema()), quote(&named("stage__ledger_", &plan.table)))
}

fn table_ref(green: &Green, plan: &TablePlan) -> String {
    format!("{}.{}", quote(green.kong_schema()), quote(&plan.table))
}

/// A row's key, under the names that its columns have in our own tables.
fn keys_of(plan: &TablePlan, alias: &str) -> String {
    let one = |(name, own): (&String, String)| format!("{alias}.{} as {own}", quote(name));
    plan.key.iter().zip(key_columns(plan, "")).map(one).collect::<Vec<_>>().join(", ")
}

fn expiry_of(plan: &TablePlan, alias: &str) -> String {
    plan.expiry
        .as_ref()
        .map_or_else(|| "null::timestamptz".to_owned(), |column| format!("{alias}.{}", quote(column)))
}

/// Gives a ledger that was just filled its key.
pub async fn index(green: &Green, tx: &mut PgConnection, plan: &TablePlan) -> sqlx::Result<()> {
    let sql = fill(
        "alter table {ledger} add primary key ({keys})",
        &[("ledger", &relation(green, &plan.table)), ("keys", &key_columns(plan, "").join(", "))],
    );
    sqlx::raw_sql(sql).execute(tx).await.map(|_| ())
}

fn expiry_differs(plan: &TablePlan) -> String {
    plan.expiry.as_ref().map_or_else(
        || "false".to_owned(),
        |column| {
            let own = format!("g.{}", quote(column));
            format!(
                "l.digest is not null and coalesce(abs(extract(epoch from {own} - l.expiry)) > 2, ({own} is null) <> (l.expiry is null))"
            )
        },
    )
}

/// Fields as COPY takes them.
pub fn raw(fields: &[Option<&[u8]>]) -> Vec<u8> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_ours_fit_and_stay_apart() {
        let long = "a".repeat(60);
        assert_eq!(named("ledger_", "routes"), "ledger_routes");
        assert!(named("stage_touched_", &long).len() <= 63);
        assert_ne!(named("ledger_", &long), named("ledger_", &"a".repeat(61)));
    }
}
