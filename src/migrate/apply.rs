//! The last phase of a run: writes Kong's tables in one transaction, retries while another session holds a lock, and
//! updates the planner's statistics.

use std::time::Instant;

use futures::{StreamExt, TryStreamExt};

use crate::error::{Error, Kind, Result};
use crate::failpoints;
use crate::green::apply::Apply;
use crate::green::bulk_load;
use crate::green::journal::Journal;
use crate::green::sql::fill;
use crate::green::stage::Stage;
use crate::mapping::table_plan::TablePlan;
use crate::progress::ProgressPhase;

use super::report::MigrationReport;
use super::{MigrationRun, RunState, faults};

/// Tables whose statistics are brought up to date at the same time.
const ANALYZED: usize = 2;

impl MigrationRun<'_> {
    /// Writes Kong's tables in one transaction, which is retried as a whole while another session holds a lock.
    pub(super) async fn apply(
        &mut self,
        stage: &Stage,
        journal: &mut Journal,
        state: &RunState,
    ) -> Result<MigrationReport> {
        let began = Instant::now();
        self.observer.begin_phase(ProgressPhase::Applying, self.inspection.plan.moved.len());
        let mut attempt = 1;
        let mut report = loop {
            match Box::pin(self.apply_once(stage, journal, state)).await {
                Ok(report) => break report,
                Err(error) => faults::wait_to_apply_again(&error, attempt).await.ok_or(error)?,
            }
            attempt += 1;
        };
        failpoints::reached("applied").await;
        if let Err(error) = self.analyze(state).await {
            tracing::warn!("{error}.");
        }
        self.seconds.apply = began.elapsed().as_secs_f64();
        self.seconds.total = self.started.elapsed().as_secs_f64();
        report.seconds = self.seconds;
        Ok(report)
    }

    /// Builds the report before the commit: after it, the rows are on green whatever happens to this process.
    async fn apply_once(
        &self,
        stage: &Stage,
        journal: &mut Journal,
        state: &RunState,
    ) -> Result<MigrationReport> {
        let mut tx = self.green.begin().await?;
        self.check_no_other_sessions(&mut tx).await?;
        self.check_green_schema().await?;
        failpoints::reached("writing").await;
        let staged: u64 = state.loaded.iter().map(|table| table.staged).sum();
        let alone = self.options.rehearsal || !self.options.inspect.green_online;
        let context = self.apply_context(stage, &state.ledger);
        let merge = state.comparison.as_ref().map(|comparison| self.merge(context, comparison));
        let bulk_load = merge.is_none() && alone && staged >= bulk_load::MIN_ROWS;
        let apply = Apply { context, bulk_load, merge };
        let applied = apply
            .run(&mut tx, |table, rows| {
                self.observer.add_rows(table, rows);
                self.observer.table_done(table);
            })
            .await?;
        let report = self.report(stage, state, Some(&applied)).await?;
        check_sums(&report)?;
        let tables = serde_json::to_value(&report.tables).unwrap_or_default();
        journal.keep_rejects(&mut tx).await?;
        journal.keep_definitions(&mut tx).await?;
        journal.state(&mut tx, "applied", Some(&tables)).await?;
        failpoints::reached("applying").await;
        journal.check_run_lock().await?;
        if let Err(error) = tx.commit().await {
            // A connection that breaks just here leaves open which of the two it was.
            let error = self.green.explain(error, "cannot apply the stage");
            if !journal.was_applied(error).await? {
                return Err(Error::new(Kind::Server, "green did not commit the rows; green is unchanged")
                    .remedy("MigrationRun the command again."));
            }
        }
        Ok(report)
    }

    /// A column that was added since the plan was resolved would lack blue's values.
    async fn check_green_schema(&self) -> Result<()> {
        if self.options.rehearsal {
            return Ok(());
        }
        let now = self.green.catalog().await?;
        if now == self.inspection.green.catalog {
            return Ok(());
        }
        Err(Error::refused(
            "the definition of Kong's tables on green changed during the run; nothing was applied",
        )
        .remedy("Do not run Kong's migrations during a run, and run the command again."))
    }

    async fn check_no_other_sessions(&self, tx: &mut sqlx::PgConnection) -> Result<()> {
        if self.options.inspect.green_online || self.options.rehearsal {
            return Ok(());
        }
        let sessions = self.green.other_sessions(tx).await?;
        match sessions.first() {
            None => Ok(()),
            Some(session) => Err(Error::refused(format!(
                "{} other sessions connected to green during the run, such as {} ({}, from {}); nothing was applied",
                sessions.len(),
                session.application,
                session.user_name,
                session.client
            ))
            .remedy("Stop Kong and other clients of green's database and run the command again, or pass --green-online to migrate while they are connected.")),
        }
    }

    /// Runs ANALYZE, so that Kong's first queries are planned well.
    async fn analyze(&self, state: &RunState) -> Result<()> {
        let action =
            "all rows are applied, but green's statistics could not be updated; run ANALYZE on green";
        let is_affected = |table: &&TablePlan| {
            let forecast = state.forecast.as_ref().and_then(|forecasts| forecasts.get(&table.table));
            forecast.is_none_or(|forecast| forecast.affected > 0)
        };
        let analyze = |table: &TablePlan| {
            let sql = fill("analyze {table}", &[("table", &crate::green::sql::quote(&table.table))]);
            self.green.write(action, async |tx| {
                sqlx::raw_sql(sql).execute(tx).await?;
                Ok(())
            })
        };
        futures::stream::iter(self.inspection.plan.moved.iter().filter(is_affected).map(analyze))
            .buffer_unordered(ANALYZED)
            .try_collect()
            .await
    }
}

/// The last check before the commit: every row of blue is accounted for.
fn check_sums(report: &MigrationReport) -> Result<()> {
    for table in &report.tables {
        if !table.counts.add_up() {
            return Err(Error::new(
                Kind::Server,
                format!(
                    "the rows of \"{}\" do not add up, so nothing was applied: {:?}",
                    table.table, table.counts
                ),
            )
            .remedy("MigrationRun the command again; if the error remains, report it: it is a defect of kongferry."));
        }
    }
    Ok(())
}
