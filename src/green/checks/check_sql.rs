//! What every check of one table fills into its statement in the same way.

use sqlx::PgConnection;

use crate::green::deletions::Deletions;
use crate::green::ledger;
use crate::green::sql::{columns, fill, key, literal, quote};
use crate::green::stage::Stage;
use crate::green::statement::query_scalar;
use crate::mapping::table_plan::TablePlan;

/// The holders that every check of one table fills in the same way.
pub(super) struct Place {
    stage: String,
    work: String,
    table: String,
    key: String,
    row: String,
    own_keys: String,
    leaving: String,
}

impl Place {
    pub(super) fn new(stage: &Stage, plan: &TablePlan, gone: Option<Deletions<'_>>) -> Place {
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
            let own = ledger::key_columns(plan, "");
            let pairs = plan.key.iter().zip(&own).map(|(name, own)| format!(", s.{} as {own}", quote(name)));
            place.own_keys = pairs.collect();
            let same = own.iter().map(|own| format!("l.{own} = gone.{own}")).collect::<Vec<_>>();
            // What an earlier run wrote, and green would not accept any more, leaves green.
            place.leaving = format!(
                ", leaving as (\n  insert into {} select {}, 'rejected' from gone\n  where exists (select from {} l where {})\n)",
                gone.table(&plan.table),
                own.iter().map(|own| format!("gone.{own}")).collect::<Vec<_>>().join(", "),
                ledger::relation(stage.green(), &plan.table),
                same.join(" and ")
            );
        }
        place
    }

    pub(super) fn fill(&self, template: &str, places: &[(&str, &str)]) -> sqlx::AssertSqlSafe<String> {
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

    pub(super) async fn execute(
        &self,
        tx: &mut PgConnection,
        template: &str,
        places: &[(&str, &str)],
    ) -> sqlx::Result<u64> {
        sqlx::raw_sql(self.fill(template, places)).execute(tx).await.map(|done| done.rows_affected())
    }

    pub(super) async fn count(
        &self,
        tx: &mut PgConnection,
        template: &str,
        places: &[(&str, &str)],
    ) -> sqlx::Result<u64> {
        let count: i64 = query_scalar(self.fill(template, places)).fetch_one(tx).await?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    pub(super) async fn set_aside(&self, tx: &mut PgConnection) -> sqlx::Result<u64> {
        self.count(tx, include_str!("../../../sql/checks/set_aside.sql"), &[]).await
    }
}

/// Column names as one text literal, as they stand in a reject.
pub(super) fn shown<S: AsRef<str>>(names: &[S]) -> String {
    if names.is_empty() {
        return "null::text".to_owned();
    }
    literal(&names.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(", "))
}
