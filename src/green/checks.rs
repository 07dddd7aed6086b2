//! What Kong's tables would refuse, found set by set in the stage before anything is applied.
//!
//! First what a table's rows show by themselves – expiry, duplicates, CHECK constraints, index rows too large –, then
//! references, parents before children, so that a child of a rejected parent carries its parent's key as the cause.
//! The statements are in `sql/checks/`; everything they need to know of Kong comes from green's catalog.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, TryStreamExt, stream};
use sqlx::PgConnection;

use super::catalog::{ForeignKey, GreenCatalog, GreenTable, Index};
use super::gone::Gone;
use super::sql::{columns, fill, key, literal, quote};
use super::stage::Stage;
use super::statement::query_scalar;
use crate::error::Result;
use crate::mapping::schema_map::{Names, Writer};
use crate::mapping::table_plan::{KeyspacePlan, TablePlan};

/// Everything the checks look at.
#[derive(Debug, Clone, Copy)]
pub struct Checks<'a> {
    /// The filled stage.
    pub stage: &'a Stage,
    /// What was staged.
    pub plan: &'a KeyspacePlan,
    /// Green's tables.
    pub catalog: &'a GreenCatalog,
    /// The names that the whole line shares.
    pub names: &'a Names,
    /// What leaves green, in an incremental run: then rows of green that stay are parents and neighbours too.
    pub gone: Option<Gone<'a>>,
}

/// What the checks did to one table's stage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Checked {
    /// Rows whose time ran out since they were read.
    pub expired: u64,
    /// Rows that were staged because they hang on rows that leave green.
    pub pulled_in: u64,
}

/// Rows with more bytes than this in one index may be too long for it (facts, 4.13): the limit is about 2700 bytes after
/// compression.
const CANDIDATES: &str = "1600";

/// Tables that are looked at by themselves at the same time.
const TABLES_AT_ONCE: usize = 4;

/// What one step of one check may use to sort and hash, where green is not more generous by itself.
const WORK_MEM: &str = "32MB";

/// A member of a group of duplicates that is let go: its table and key.
pub type Kept = (String, serde_json::Value);

impl Checks<'_> {
    /// Runs all checks; says what became of each table. `seen` is told each table before its checks begin.
    pub async fn run(&self, keep: &[Kept], seen: impl Fn(&str)) -> Result<BTreeMap<String, Checked>> {
        self.load_keep(keep).await?;
        let filled = self.filled().await?;
        let alone = stream::iter(&self.plan.moved).map(async |plan| {
            seen(&plan.table);
            let expired = if filled.contains(&plan.table) { self.table_by_itself(plan).await? } else { 0 };
            Ok::<_, crate::error::Error>((plan.table.clone(), Checked { expired, ..Checked::default() }))
        });
        let mut checked: BTreeMap<String, Checked> =
            alone.buffer_unordered(TABLES_AT_ONCE).try_collect().await?;
        while self.references(&filled, &seen, &mut checked).await? {}
        Ok(checked)
    }

    /// The tables of which there are rows: most of Kong's tables are empty, and no check of them finds anything. In an
    /// incremental run a table may be filled while others are checked.
    async fn filled(&self) -> Result<BTreeSet<String>> {
        if self.gone.is_some() || self.plan.moved.is_empty() {
            return Ok(self.plan.moved.iter().map(|plan| plan.table.clone()).collect());
        }
        let what = "cannot look which staging tables are filled";
        let green = self.stage.green();
        let mut tx = green.begin().await?;
        let one = |plan: &TablePlan| {
            format!(
                "select {} where exists (select from {})",
                literal(&plan.table),
                self.stage.table(&plan.table)
            )
        };
        let all: Vec<String> = self.plan.moved.iter().map(one).collect();
        let sql = sqlx::AssertSqlSafe(all.join(" union all "));
        let filled: Vec<String> =
            query_scalar(sql).fetch_all(&mut *tx).await.map_err(|e| green.explain(e, what))?;
        tx.commit().await.map_err(|e| green.explain(e, what))?;
        Ok(filled.into_iter().collect())
    }

    async fn load_keep(&self, keep: &[Kept]) -> Result<()> {
        if keep.is_empty() {
            return Ok(());
        }
        let what = "cannot load the reviewed rejects";
        let mut tx = self.stage.green().begin().await?;
        let sql = fill(
            "insert into {keep} select * from unnest($1::text[], $2::jsonb[])",
            &[("keep", &self.stage.own("stage_keep"))],
        );
        let tables: Vec<&str> = keep.iter().map(|(table, _)| table.as_str()).collect();
        let keys: Vec<&serde_json::Value> = keep.iter().map(|(_, key)| key).collect();
        let query = super::statement::query(sql).bind(tables).bind(keys);
        query.execute(&mut *tx).await.map_err(|e| self.stage.green().explain(e, what))?;
        tx.commit().await.map_err(|e| self.stage.green().explain(e, what))
    }

    async fn table_by_itself(&self, plan: &TablePlan) -> Result<u64> {
        let what = format!("cannot check the stage of \"{}\"", plan.table);
        let green = self.stage.green();
        let mut tx = green.begin().await?;
        green.at_least(&mut tx, "work_mem", WORK_MEM).await?;
        let table = self.catalog.tables.get(&plan.table);
        let gone = match table {
            Some(table) => self.alone(&mut tx, plan, table).await.map_err(|e| green.explain(e, &what))?,
            None => 0,
        };
        tx.commit().await.map_err(|e| green.explain(e, &what))?;
        Ok(gone)
    }

    async fn alone(&self, tx: &mut PgConnection, plan: &TablePlan, table: &GreenTable) -> sqlx::Result<u64> {
        let place = Place::new(self.stage, plan, self.gone);
        let gone = match &plan.expiry {
            Some(column) => {
                place
                    .count(tx, include_str!("../../sql/checks/expired.sql"), &[("expiry", &quote(column))])
                    .await?
            }
            None => 0,
        };
        let mut found = 0;
        for index in unique_indexes(table) {
            found += self.duplicates(tx, &place, plan, index).await?;
        }
        for index in table.indexes.iter().filter(|index| !index.exclusion.is_empty()) {
            found += excluded(tx, &place, index).await?;
        }
        for check in &table.checks {
            let places = [("constraint", literal(&check.name)), ("expression", check.expression.clone())];
            let places = places.each_ref().map(|(name, value)| (*name, value.as_str()));
            found +=
                place.execute(tx, include_str!("../../sql/checks/check_constraint.sql"), &places).await?;
        }
        found += self.index_sizes(tx, &place, plan, table).await?;
        if found > 0 {
            place.set_aside(tx).await?;
        }
        Ok(gone)
    }

    /// Says how many rows may be too long for an index; one scan of the table tells it for all indexes.
    async fn index_sizes(
        &self,
        tx: &mut PgConnection,
        place: &Place,
        plan: &TablePlan,
        table: &GreenTable,
    ) -> sqlx::Result<u64> {
        let indexes: Vec<(&Index, String)> = table
            .indexes
            .iter()
            .filter(|index| !always_short(index, table))
            .map(|index| (index, length(index, table)))
            .collect();
        if indexes.is_empty() {
            return Ok(0);
        }
        let one = |(_, length): &(&Index, String)| format!("count(*) filter (where {length} > {CANDIDATES})");
        let counts = indexes.iter().map(one).collect::<Vec<_>>().join(", ");
        let sql = place.fill("select array[{counts}] from {stage} s", &[("counts", &counts)]);
        let counts: Vec<i64> = query_scalar(sql).fetch_one(&mut *tx).await?;
        let mut candidates = 0;
        for ((index, length), count) in indexes.iter().zip(counts) {
            if count > 0 {
                self.probe_index(tx, place, plan, index, length).await?;
                candidates += u64::try_from(count).unwrap_or(0);
            }
        }
        Ok(candidates)
    }

    async fn probe_index(
        &self,
        tx: &mut PgConnection,
        place: &Place,
        plan: &TablePlan,
        index: &Index,
        length: &str,
    ) -> sqlx::Result<u64> {
        let names: Vec<&str> = plan.columns.iter().map(|column| column.name.as_str()).collect();
        let places = [
            ("length", length),
            ("candidates", CANDIDATES),
            ("definition", &index.definition),
            ("columns", &shown(&index.named)),
            ("index", &literal(&index.name)),
            ("probe", &self.stage.own(&super::ledger::named("stage_probe_", &plan.table))),
            ("table_ref", &self.stage.kong_table(&plan.table)),
            ("all_columns", &columns(&names, "")),
        ];
        place.execute(tx, include_str!("../../sql/checks/index_probe.sql"), &places).await
    }

    /// One pass over all references; says whether another pass could find more, which only cycles can make so.
    async fn references(
        &self,
        filled: &BTreeSet<String>,
        seen: &impl Fn(&str),
        checked: &mut BTreeMap<String, Checked>,
    ) -> Result<bool> {
        let mut again = false;
        for (position, plan) in self.plan.moved.iter().enumerate() {
            seen(&plan.table);
            if !filled.contains(&plan.table) {
                continue;
            }
            let (aside, pulled_in) = self.references_of(plan).await?;
            checked.entry(plan.table.clone()).or_default().pulled_in += pulled_in;
            again |= aside > 0 && self.is_parent_of_earlier(&plan.table, position);
        }
        Ok(again)
    }

    fn is_parent_of_earlier(&self, table: &str, position: usize) -> bool {
        let refers = |plan: &TablePlan| self.foreign_keys(plan).iter().any(|key| key.parent == table);
        self.plan.moved.iter().take(position + 1).any(refers)
    }

    fn foreign_keys(&self, plan: &TablePlan) -> &[ForeignKey] {
        self.catalog.tables.get(&plan.table).map_or(&[], |table| &table.foreign_keys)
    }

    /// How many rows were set aside, and how many were staged for it.
    async fn references_of(&self, plan: &TablePlan) -> Result<(u64, u64)> {
        let keys = self.foreign_keys(plan);
        if keys.is_empty() {
            return Ok((0, 0));
        }
        let green = self.stage.green();
        let what = format!("cannot check the references of \"{}\"", plan.table);
        let mut tx = green.begin().await?;
        green.at_least(&mut tx, "work_mem", WORK_MEM).await?;
        let place = Place::new(self.stage, plan, self.gone);
        let mut found = 0;
        let pulled_in = match &self.gone {
            Some(gone) => gone.pull_in(&mut tx, plan).await.map_err(|e| green.explain(e, &what))?,
            None => 0,
        };
        // The workspace comes first: in an unknown workspace every other reference is broken as well.
        let (first, then): (Vec<_>, Vec<_>) = keys.iter().partition(|key| self.is_workspace(key));
        for key in first.into_iter().chain(then) {
            found += self.reference(&mut tx, &place, key).await.map_err(|e| green.explain(e, &what))?;
        }
        let aside = match found {
            0 => 0,
            _ => place.set_aside(&mut tx).await.map_err(|e| green.explain(e, &what))?,
        };
        tx.commit().await.map_err(|e| green.explain(e, &what))?;
        Ok((aside, pulled_in))
    }

    fn is_workspace(&self, key: &ForeignKey) -> bool {
        let table = self.names.workspaces.as_ref().map(|workspaces| workspaces.table.as_str());
        let column = self.names.workspace_column.as_deref();
        table == Some(&key.parent) && matches!(key.columns.as_slice(), [one] if Some(one.as_str()) == column)
    }

    async fn reference(&self, tx: &mut PgConnection, place: &Place, key: &ForeignKey) -> sqlx::Result<u64> {
        let own = self.without_workspace(key);
        let elsewhere = if own.len() < key.columns.len() && !own.is_empty() {
            format!("({})", self.has_parent(key, &joined(&own)).join(" or "))
        } else {
            "false".to_owned()
        };
        let named: Vec<&String> = if own.is_empty() {
            key.columns.iter().collect()
        } else {
            own.iter().map(|(child, _)| *child).collect()
        };
        let pairs: Vec<(&String, &String)> = key.columns.iter().zip(&key.parent_columns).collect();
        let lacks = self.has_parent(key, &joined(&pairs)).into_iter().map(|exists| format!("not {exists}"));
        let lacks_parent = lacks.collect::<Vec<_>>().join(" and ");
        let places = [
            ("lacks_parent", lacks_parent.as_str()),
            ("all_set", &all_set(&key.columns, "s")),
            ("torn", &torn(key, "s")),
            ("elsewhere", &elsewhere),
            ("to_workspace", if self.is_workspace(key) { "true" } else { "false" }),
            ("cause", &self.cause(key)),
            ("columns", &shown(&named)),
            ("constraint", &literal(&key.name)),
        ];
        // Counting is done by several workers, inserting is not; and mostly there is nothing to insert.
        if place.count(tx, include_str!("../../sql/checks/broken_references.sql"), &places).await? == 0 {
            return Ok(0);
        }
        place.execute(tx, include_str!("../../sql/checks/foreign_key.sql"), &places).await
    }

    /// Where the row that a reference leads to may be: staged, or on green and staying as it is. One condition each, so
    /// that lacking all of them is a row of anti-joins.
    fn has_parent(&self, foreign: &ForeignKey, joined: &str) -> Vec<String> {
        let exists =
            |table: &str, stays: &str| format!("exists (select from {table} p where {joined}{stays})");
        let staged = || exists(&self.stage.table(&foreign.parent), "");
        let on_green = |stays: &str| exists(&self.stage.kong_table(&foreign.parent), stays);
        match (self.plan.table(&foreign.parent), &self.gone) {
            (Some(_), None) => vec![staged()],
            (None, None) => vec![on_green("")],
            (Some(plan), Some(gone)) => vec![staged(), on_green(&stays(self, gone, plan))],
            (None, Some(gone)) => {
                let table = self.catalog.tables.get(&foreign.parent).filter(|t| !t.primary_key.is_empty());
                vec![on_green(&table.map_or_else(String::new, |table| {
                    let leaving = gone.leaving(table).replace(" = g.", " = p.");
                    format!(" and not exists (select from {} d where {leaving})", gone.table(&table.name))
                }))]
            }
        }
    }

    /// Rows that hold what one unique index of green allows only once: several staged ones, or one beside a row of green
    /// that stays. One that green holds with this very value already was there first.
    async fn duplicates(
        &self,
        tx: &mut PgConnection,
        place: &Place,
        plan: &TablePlan,
        index: &Index,
    ) -> sqlx::Result<u64> {
        let Some(gone) = &self.gone else {
            // What tells rows apart on blue cannot be the same in two of them; most tables have such a primary key.
            let told_apart =
                |identity: &Vec<String>| identity.iter().all(|column| index.columns.contains(column));
            if plan.identity.as_ref().is_some_and(told_apart) {
                return Ok(0);
            }
            return duplicates(tx, place, index, "false").await;
        };
        let named: Vec<String> =
            index.expressions.iter().enumerate().map(|(at, part)| format!("({part}) as part_{at}")).collect();
        let present = |alias: &str| {
            plan.key
                .iter()
                .enumerate()
                .map(|(at, name)| format!("{alias}{} as own_{at}", quote(name)))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let pair = |one: &str, other: &str, operator: &str| {
            let pairs = (0..plan.key.len()).map(|at| format!("{one}.own_{at} {operator} {other}.own_{at}"));
            pairs.collect::<Vec<_>>()
        };
        let own_parts = (0..index.expressions.len()).map(|at| format!("o.part_{at}")).collect::<Vec<_>>();
        let same_row =
            plan.key.iter().enumerate().map(|(at, name)| format!("o.own_{at} = s.{}", quote(name)));
        let standing = format!(
            "exists (select from (select {}, {} from {} where {}) o where {} and ({}) is not distinct from ({}))",
            present(""),
            named.join(", "),
            self.stage.kong_table(&plan.table),
            covered(index),
            same_row.collect::<Vec<_>>().join(" and "),
            own_parts.join(", "),
            index.expressions.join(", ")
        );
        let found = duplicates(tx, place, index, &standing).await?;
        if plan.writer == Writer::Traffic {
            // Merged by key: what green holds stays, and the apply holds the staged row back.
            return Ok(found);
        }
        let equal = if index.nulls_distinct { "=" } else { "is not distinct from" };
        let equal_parts = (0..index.expressions.len())
            .map(|at| format!("m.part_{at} {equal} g.part_{at}"))
            .collect::<Vec<_>>();
        let restaged =
            plan.key.iter().enumerate().map(|(at, name)| format!("s.{} = g.own_{at}", quote(name)));
        let leaving = (0..plan.key.len()).map(|at| format!("d.key_{} = g.own_{at}", at + 1));
        let places = [
            ("staged_keys", present("s.")),
            ("present_keys", present("")),
            ("present_shown", key(&plan.key, "k").replace("k.", "")),
            ("present_alive", super::ledger::alive(plan.expiry.as_deref(), "k").replace("k.", "")),
            ("named_parts", named.join(", ")),
            ("covered", covered(index)),
            ("table_ref", self.stage.kong_table(&plan.table)),
            ("equal_parts", equal_parts.join(" and ")),
            ("other_key", pair("m", "g", "is distinct from").join(" or ")),
            ("restaged", restaged.collect::<Vec<_>>().join(" and ")),
            ("leaving", leaving.collect::<Vec<_>>().join(" and ")),
            ("gone", gone.table(&plan.table)),
            ("columns", shown(&index.named)),
        ];
        let places: Vec<(&str, &str)> = places.iter().map(|(name, value)| (*name, value.as_str())).collect();
        Ok(found + place.execute(tx, include_str!("../../sql/checks/taken.sql"), &places).await?)
    }

    /// The pairs of columns of a reference, but that of the workspace.
    fn without_workspace<'k>(&self, key: &'k ForeignKey) -> Vec<(&'k String, &'k String)> {
        let workspace = self.names.workspace_column.as_ref();
        let pairs = key.columns.iter().zip(&key.parent_columns);
        pairs.filter(|(child, _)| Some(*child) != workspace).collect()
    }

    /// The key of the rejected parent that a child refers to, as an expression; null where there is none.
    fn cause(&self, foreign: &ForeignKey) -> String {
        let primary = self.catalog.tables.get(&foreign.parent).map_or(&[][..], |table| &table.primary_key);
        let child_of = |name: &String| {
            let at = foreign.parent_columns.iter().position(|own| own == name)?;
            foreign.columns.get(at).map(|child| format!("s.{}", quote(child)))
        };
        let children: Option<Vec<String>> = primary.iter().map(child_of).collect();
        let wanted = match children.as_deref() {
            None | Some([]) => return "null::jsonb".to_owned(),
            Some([one]) => format!("to_jsonb({one})"),
            Some(many) => {
                let parts =
                    primary.iter().zip(many).map(|(name, child)| format!("{}, {child}", literal(name)));
                format!("jsonb_build_object({})", parts.collect::<Vec<_>>().join(", "))
            }
        };
        format!(
            "(select r.key from {} r where r.table_name = {} and r.key = {wanted} limit 1)",
            self.stage.own("stage_reject"),
            literal(&foreign.parent)
        )
    }
}

/// That a row `p` of green stays as it is: neither staged nor leaving.
fn stays(checks: &Checks<'_>, gone: &Gone<'_>, plan: &TablePlan) -> String {
    let staged = plan.key.iter().map(|name| format!("r.{0} = p.{0}", quote(name)));
    format!(
        " and not exists (select from {} r where {}) and not exists (select from {} d where {})",
        checks.stage.table(&plan.table),
        staged.collect::<Vec<_>>().join(" and "),
        gone.table(&plan.table),
        super::ledger::same_key(plan, "d", "p")
    )
}

/// The holders that every check of one table fills in the same way.
struct Place {
    stage: String,
    work: String,
    table: String,
    key: String,
    row: String,
    own_keys: String,
    leaving: String,
}

impl Place {
    fn new(stage: &Stage, plan: &TablePlan, gone: Option<Gone<'_>>) -> Place {
        let names = plan.columns.iter().map(|column| &column.name);
        let names: Vec<&String> = names.chain(plan.generated.iter().map(|column| &column.name)).collect();
        let mut place = Place {
            stage: stage.table(&plan.table),
            work: quote(stage.green().work_schema()),
            table: literal(&plan.table),
            key: key(&plan.key, "s"),
            row: columns(&names, "s"),
            own_keys: String::new(),
            leaving: String::new(),
        };
        if let Some(gone) = gone.filter(|_| !plan.key.is_empty()) {
            let own = super::ledger::key_columns(plan, "");
            let pairs = plan.key.iter().zip(&own).map(|(name, own)| format!(", s.{} as {own}", quote(name)));
            place.own_keys = pairs.collect();
            let same = own.iter().map(|own| format!("l.{own} = gone.{own}")).collect::<Vec<_>>();
            // What an earlier run wrote, and green would not accept any more, leaves green.
            place.leaving = format!(
                ", leaving as (\n  insert into {} select {}, 'rejected' from gone\n  where exists (select from {} l where {})\n)",
                gone.table(&plan.table),
                own.iter().map(|own| format!("gone.{own}")).collect::<Vec<_>>().join(", "),
                super::ledger::relation(stage.green(), &plan.table),
                same.join(" and ")
            );
        }
        place
    }

    fn fill(&self, template: &str, places: &[(&str, &str)]) -> sqlx::AssertSqlSafe<String> {
        let mut all: Vec<(&str, &str)> =
            vec![("stage", &self.stage), ("work", &self.work), ("table", &self.table), ("key", &self.key)];
        all.extend([
            ("row", self.row.as_str()),
            ("own_keys", &self.own_keys),
            ("leaving_too", &self.leaving),
        ]);
        all.extend_from_slice(places);
        fill(template, &all)
    }

    async fn execute(
        &self,
        tx: &mut PgConnection,
        template: &str,
        places: &[(&str, &str)],
    ) -> sqlx::Result<u64> {
        sqlx::raw_sql(self.fill(template, places)).execute(tx).await.map(|done| done.rows_affected())
    }

    async fn count(
        &self,
        tx: &mut PgConnection,
        template: &str,
        places: &[(&str, &str)],
    ) -> sqlx::Result<u64> {
        let count: i64 = query_scalar(self.fill(template, places)).fetch_one(tx).await?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    async fn set_aside(&self, tx: &mut PgConnection) -> sqlx::Result<u64> {
        self.count(tx, include_str!("../../sql/checks/set_aside.sql"), &[]).await
    }
}

async fn duplicates(
    tx: &mut PgConnection,
    place: &Place,
    index: &Index,
    standing: &str,
) -> sqlx::Result<u64> {
    let (parts, covered) = (index.expressions.join(", "), covered(index));
    let groups =
        "select count(*) from (select from {stage} where {covered} group by {parts} having count(*) > 1) g";
    if place.count(tx, groups, &[("parts", &parts), ("covered", &covered)]).await? == 0 {
        return Ok(0);
    }
    let repeated = if index.nulls_distinct {
        place.fill(include_str!("../../sql/checks/repeated.sql"), &[("parts", &parts), ("covered", &covered)])
    } else {
        sqlx::AssertSqlSafe("true".to_owned())
    };
    let places = [
        ("parts", parts.as_str()),
        ("covered", &covered),
        ("repeated", &repeated.0),
        ("standing", standing),
        ("columns", &shown(&index.named)),
    ];
    place.execute(tx, include_str!("../../sql/checks/duplicates.sql"), &places).await
}

async fn excluded(tx: &mut PgConnection, place: &Place, index: &Index) -> sqlx::Result<u64> {
    let parts = index.expressions.iter().enumerate();
    let named: Vec<String> = parts.map(|(at, part)| format!("({part}) as part_{at}")).collect();
    let pairs = index.exclusion.iter().enumerate();
    let excluded: Vec<String> =
        pairs.map(|(at, operator)| format!("m.part_{at} {operator} o.part_{at}")).collect();
    let places = [
        ("named_parts", named.join(", ")),
        ("excluded", excluded.join(" and ")),
        ("covered", covered(index)),
        ("columns", shown(&index.named)),
    ];
    let places = places.each_ref().map(|(name, value)| (*name, value.as_str()));
    place.execute(tx, include_str!("../../sql/checks/exclusion.sql"), &places).await
}

/// Unique indexes that can refuse something: one that covers the primary key and more refuses nothing of its own.
fn unique_indexes(table: &GreenTable) -> impl Iterator<Item = &Index> {
    let primary = &table.primary_key;
    let implied = |index: &&Index| {
        !index.primary
            && !primary.is_empty()
            && index.columns.len() == index.expressions.len()
            && primary.iter().all(|column| index.columns.contains(column))
    };
    table.indexes.iter().filter(move |index| index.unique && index.exclusion.is_empty() && !implied(index))
}

/// The rows that an index compares at all: nulls differ from each other, and a partial index sees only its part.
fn covered(index: &Index) -> String {
    let mut conditions: Vec<String> =
        index.predicate.iter().map(|predicate| format!("({predicate})")).collect();
    if index.nulls_distinct {
        conditions.extend(index.expressions.iter().map(|part| format!("({part}) is not null")));
    }
    if conditions.is_empty() { "true".to_owned() } else { conditions.join(" and ") }
}

/// Types whose values are too short to matter in an index.
const SHORT_TYPES: &[&str] = &[
    "uuid",
    "boolean",
    "smallint",
    "integer",
    "bigint",
    "real",
    "double precision",
    "timestamp with time zone",
    "timestamp without time zone",
];

fn is_short(table: &GreenTable, column: &str) -> bool {
    table.column(column).is_some_and(|own| SHORT_TYPES.contains(&own.column_type.as_str()))
}

/// Whether no row can be too long for this index: it holds nothing but plain columns of fixed length.
fn always_short(index: &Index, table: &GreenTable) -> bool {
    index.columns.len() == index.expressions.len()
        && index.columns.iter().chain(&index.included).all(|column| is_short(table, column))
}

/// Bytes of everything an index holds of one row, before compression.
fn length(index: &Index, table: &GreenTable) -> String {
    let included: Vec<String> = index.included.iter().map(|name| quote(name)).collect();
    let plain = index.columns.len() == index.expressions.len();
    let one = |(at, part): (usize, &String)| match index.columns.get(at) {
        // As long as its text, which need not be made to know that.
        Some(column) if plain && table.column(column).is_some_and(|own| own.column_type == "uuid") => {
            "36".to_owned()
        }
        _ => format!("coalesce(octet_length(({part})::text), 0)"),
    };
    index.expressions.iter().chain(&included).enumerate().map(one).collect::<Vec<_>>().join(" + ")
}

/// Column names as one text literal, as they stand in a reject.
fn shown<S: AsRef<str>>(names: &[S]) -> String {
    if names.is_empty() {
        return "null::text".to_owned();
    }
    literal(&names.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(", "))
}

fn joined(pairs: &[(&String, &String)]) -> String {
    let one = |(child, parent): &(&String, &String)| format!("p.{} = s.{}", quote(parent), quote(child));
    pairs.iter().map(one).collect::<Vec<_>>().join(" and ")
}

/// A reference of which only a part is there, where green does not take that.
fn torn(key: &ForeignKey, alias: &str) -> String {
    if !key.match_full {
        return "false".to_owned();
    }
    let names = columns(&key.columns, alias);
    format!("num_nulls({names}) > 0 and num_nonnulls({names}) > 0")
}

fn all_set(names: &[String], alias: &str) -> String {
    format!("num_nulls({}) = 0", columns(names, alias))
}
