//! The placeholders that every check of one table fills in the same way.

use sqlx::PgConnection;

use crate::green::conditions::numbered_key;
use crate::green::deletions::Deletions;
use crate::green::ledger;
use crate::green::sql::{columns, fill, key, literal, quote};
use crate::green::stage::Stage;
use crate::green::statement::query_scalar;
use crate::mapping::table_plan::TablePlan;

pub(super) struct CheckSql {
    stage: String,
    work: String,
    table: String,
    key: String,
    row: String,
    own_keys: String,
    deletion: String,
}

impl CheckSql {
    pub(super) fn new(stage: &Stage, plan: &TablePlan, deletions: Option<Deletions<'_>>) -> CheckSql {
        let names = plan.columns.iter().map(|column| &column.name);
        let names: Vec<&String> = names.chain(plan.generated.iter().map(|column| &column.name)).collect();
        let mut check = CheckSql {
            stage: stage.table(&plan.table),
            work: quote(stage.green().work_schema()),
            table: literal(&plan.table),
            key: key(&plan.key, "s"),
            row: columns(&names, "s"),
            own_keys: String::new(),
            deletion: String::new(),
        };
        if let Some(deletions) = deletions.filter(|_| !plan.key.is_empty()) {
            let numbers = numbered_key(&plan.key, "");
            let pairs = plan.key.iter().zip(&numbers);
            check.own_keys = pairs.map(|(name, number)| format!(", s.{} as {number}", quote(name))).collect();
            let same: Vec<String> =
                numbers.iter().map(|number| format!("l.{number} = rejected.{number}")).collect();
            // A row that an earlier run wrote, and that is rejected now, is deleted from green.
            check.deletion = format!(
                ", deletion as (\n  insert into {} select {}, 'rejected' from rejected\n  where exists (select from {} l where {})\n)",
                deletions.table(&plan.table),
                numbered_key(&plan.key, "rejected").join(", "),
                ledger::relation(stage.green(), &plan.table),
                same.join(" and ")
            );
        }
        check
    }

    pub(super) fn fill(&self, template: &str, values: &[(&str, &str)]) -> sqlx::AssertSqlSafe<String> {
        let mut all: Vec<(&str, &str)> = vec![
            ("stage", &self.stage),
            ("work", &self.work),
            ("table", &self.table),
            ("key", &self.key),
            ("row", &self.row),
            ("own_keys", &self.own_keys),
            ("deletion", &self.deletion),
        ];
        all.extend_from_slice(values);
        fill(template, &all)
    }

    pub(super) async fn execute(
        &self,
        tx: &mut PgConnection,
        template: &str,
        values: &[(&str, &str)],
    ) -> sqlx::Result<u64> {
        sqlx::raw_sql(self.fill(template, values)).execute(tx).await.map(|done| done.rows_affected())
    }

    pub(super) async fn count(
        &self,
        tx: &mut PgConnection,
        template: &str,
        values: &[(&str, &str)],
    ) -> sqlx::Result<u64> {
        let count: i64 = query_scalar(self.fill(template, values)).fetch_one(tx).await?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// Moves the rows that were found from the stage to the rejects; returns how many.
    pub(super) async fn reject(&self, tx: &mut PgConnection) -> sqlx::Result<u64> {
        self.count(tx, include_str!("../../../sql/checks/reject.sql"), &[]).await
    }
}

/// Column names as one text literal, as a reject contains them.
pub(super) fn column_list<S: AsRef<str>>(names: &[S]) -> String {
    if names.is_empty() {
        return "null::text".to_owned();
    }
    literal(&names.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(", "))
}
