//! Blue's and green's databases for a cutover, through the code of `verify` and `migrate`.

use std::sync::Arc;

use futures::future::{BoxFuture, LocalBoxFuture};
use tokio::sync::oneshot;

use crate::blue::config::BlueConfig;
use crate::blue::session::Blue;
use crate::cutover::databases::{DatabaseComparison, Databases, GreenRuns};
use crate::error::{Error, Kind, Result};
use crate::green::config::GreenConfig;
use crate::green::session::{During, Green};
use crate::green::sql::{fill, quote};
use crate::green::statement::{query_as, query_scalar};
use crate::inspect::InspectOptions;
use crate::mapping::schema_map::Writer;
use crate::migrate::drift::{self, DriftReport};
use crate::progress::NoProgress;
use crate::verify;
use crate::verify::options::VerifyOptions;
use crate::verify::report::VerifyReport;

#[derive(Debug, Clone)]
pub struct LiveDatabases {
    pub(crate) blue: BlueConfig,
    pub(crate) green: GreenConfig,
    /// Which tables were migrated, and the user's schema maps.
    pub(crate) choices: InspectOptions,
}

impl LiveDatabases {
    async fn connect(&self) -> Result<(Arc<Blue>, Green)> {
        let green = self.connect_green().await?;
        match Blue::connect(&self.blue).await {
            Ok(blue) => Ok((Arc::new(blue), green)),
            Err(error) => {
                green.close().await;
                Err(error)
            }
        }
    }

    /// Under the application name of every command, so that a concurrent migration knows this session as kongferry's.
    async fn connect_green(&self) -> Result<Green> {
        Green::connect(&self.green, &format!("kongferry {}", std::process::id())).await
    }

    async fn verify(&self) -> Result<VerifyReport> {
        let (blue, green) = self.connect().await?;
        let options = VerifyOptions { choices: self.choices.clone(), ..VerifyOptions::default() };
        let report = Box::pin(verify::run(blue, &green, &options, Arc::new(NoProgress))).await;
        green.close().await;
        report
    }

    async fn read_drift(&self) -> Result<DriftReport> {
        let (blue, green) = self.connect().await?;
        let drift = Box::pin(drift::detect(blue, &green, &self.choices, Arc::new(NoProgress))).await;
        green.close().await;
        drift
    }

    /// Reads the drift on a thread of its own, because its future cannot be sent between threads. The thread ends when
    /// the caller stops waiting: neither a rollback nor the end of the program waits for a scan of a large keyspace.
    async fn drift_on_own_thread(&self) -> Result<DriftReport> {
        let (mut sender, receiver) = oneshot::channel();
        let databases = self.clone();
        let scan = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = match runtime {
                Ok(runtime) => runtime,
                Err(error) => return drop(sender.send(Err(drift_check_stopped().source(error)))),
            };
            let drift = runtime.block_on(async {
                tokio::select! {
                    drift = databases.read_drift() => Some(drift),
                    () = sender.closed() => None,
                }
            });
            if let Some(drift) = drift {
                // The caller may have stopped waiting.
                let _ = sender.send(drift);
            }
        };
        std::thread::Builder::new()
            .name("drift".to_owned())
            .spawn(scan)
            .map_err(|error| drift_check_stopped().source(error))?;
        receiver.await.map_err(|error| drift_check_stopped().source(error))?
    }

    async fn read_listed_collections(&self) -> Result<Vec<String>> {
        let green = self.connect_green().await?;
        let context = "cannot read Kong's tables on green";
        let sql = include_str!("../sql/preflight/admin_api_collections.sql");
        let sql = fill(sql, &[("kong", &quote(green.kong_schema()))]);
        let mut tx = green.begin_snapshot().await?;
        let collections = query_scalar(sql).fetch_all(&mut *tx).await.during(&green, context)?;
        tx.rollback().await.during(&green, context)?;
        green.close().await;
        Ok(collections)
    }

    async fn read_green_runs(&self) -> Result<GreenRuns> {
        let green = self.connect_green().await?;
        let context = "cannot read the journal on green";
        let mut tx = green.begin_snapshot().await?;
        let mut runs = GreenRuns { count: 0, last_ended: String::new() };
        if green.has_own_table(&mut tx, "writer").await.during(&green, context)? {
            let sql = include_str!("../sql/preflight/applied_runs.sql");
            let sql = fill(sql, &[("work", &quote(green.work_schema()))]);
            let row: (i64, String) =
                query_as(sql).bind(green.kong_schema()).fetch_one(&mut *tx).await.during(&green, context)?;
            runs = GreenRuns { count: row.0, last_ended: row.1 };
        }
        tx.rollback().await.during(&green, context)?;
        green.close().await;
        Ok(runs)
    }
}

impl Databases for LiveDatabases {
    fn compare(&self) -> LocalBoxFuture<'_, Result<DatabaseComparison>> {
        Box::pin(async move { Ok(comparison(&self.verify().await?)) })
    }

    fn drift(&self) -> BoxFuture<'_, Result<Option<String>>> {
        Box::pin(async move {
            let drift = self.drift_on_own_thread().await?;
            Ok((!drift.clean).then(|| drift.in_tables()))
        })
    }

    fn listed_collections(&self) -> BoxFuture<'_, Result<Vec<String>>> {
        Box::pin(self.read_listed_collections())
    }

    fn green_runs(&self) -> BoxFuture<'_, Result<GreenRuns>> {
        Box::pin(self.read_green_runs())
    }
}

fn drift_check_stopped() -> Error {
    Error::new(Kind::Io, "the check for drift between blue and green stopped")
}

fn comparison(report: &VerifyReport) -> DatabaseComparison {
    let traffic_tables = report
        .tables
        .iter()
        .filter(|table| table.writer == Writer::Traffic && table.counts.source + table.counts.extra > 0);
    DatabaseComparison {
        equal_rows: report.summary.equal,
        differences: (!report.clean).then(|| differences(report)),
        has_applied_run: report.run.is_some(),
        traffic_tables: traffic_tables.map(|table| table.table.clone()).collect(),
    }
}

/// What differs in the tables that Admin API clients write.
fn differences(report: &VerifyReport) -> String {
    let tables: Vec<String> = report
        .tables
        .iter()
        .filter(|table| table.writer == Writer::Admin)
        .filter_map(|table| {
            let counts = &table.counts;
            let kinds = [
                (counts.missing, "only on blue"),
                (counts.extra, "only on green"),
                (counts.different, "different"),
            ];
            let kinds = kinds.iter().filter(|(rows, _)| *rows > 0);
            let kinds: Vec<String> = kinds.map(|(rows, kind)| format!("{rows} {kind}")).collect();
            (!kinds.is_empty()).then(|| format!("{} {}", table.table, kinds.join(" and ")))
        })
        .collect();
    if tables.is_empty() {
        return format!("{} findings about tags, orphans or workspaces", report.other_findings);
    }
    tables.join(", ")
}
