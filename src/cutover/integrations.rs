//! Databases, hooks and notifications, as they really are.

use std::sync::Arc;

use futures::StreamExt;
use futures::future::BoxFuture;
use serde_json::Value;
use tokio::sync::oneshot;

use super::call::{Call, Reply};
use super::config::Hooks;
use super::environment::{Drift, Hook, Integrations};
use super::machine::Said;
use super::notify::Notification;
use crate::blue::config::BlueConfig;
use crate::blue::session::Blue;
use crate::error::{Error, Kind, Result};
use crate::green::config::GreenConfig;
use crate::green::session::During;
use crate::green::session::Green;
use crate::green::sql::{fill, quote};
use crate::green::statement::{query_as, query_scalar};
use crate::inspect::Choices;
use crate::mapping::schema_map::Writer;
use crate::migrate::drift::{self, Drift as Drifted};
use crate::progress::Unwatched;
use crate::verify::report::Report;
use crate::verify::{self, Options};

/// Where both databases are, for `verify` and for the look for drift.
#[derive(Debug, Clone)]
pub struct Databases {
    /// Blue.
    pub blue: BlueConfig,
    /// Green.
    pub green: GreenConfig,
    /// Which tables were moved, and the user's maps.
    pub choices: Choices,
}

impl Databases {
    /// Compares both, as `verify` does.
    pub async fn compare(&self) -> Result<Report> {
        let (blue, green) = self.connect().await?;
        let options = Options { choices: self.choices.clone(), ..Options::default() };
        let report = Box::pin(verify::run(blue, &green, &options, Arc::new(Unwatched))).await;
        green.close().await;
        report
    }

    /// What people changed on either side since the last run, by the ledger that it left.
    ///
    /// Comparing holds what cannot be sent from thread to thread, so it has one of its own. It ends when nobody waits
    /// for it any more: neither a rollback nor the end of the program has to wait for a look at a large keyspace.
    pub async fn drift(&self) -> Result<Drifted> {
        let (mut sender, answer) = oneshot::channel();
        let databases = self.clone();
        let look = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = match runtime {
                Ok(runtime) => runtime,
                Err(error) => return drop(sender.send(Err(stopped().source(error)))),
            };
            let drift = runtime.block_on(async {
                tokio::select! {
                    drift = databases.look() => Some(drift),
                    () = sender.closed() => None,
                }
            });
            if let Some(drift) = drift {
                // Whoever asked may have gone.
                let _ = sender.send(drift);
            }
        };
        std::thread::Builder::new()
            .name("drift".to_owned())
            .spawn(look)
            .map_err(|error| stopped().source(error))?;
        answer.await.map_err(|error| stopped().source(error))?
    }

    async fn look(&self) -> Result<Drifted> {
        let (blue, green) = self.connect().await?;
        let drift = Box::pin(drift::look(blue, &green, &self.choices, Arc::new(Unwatched))).await;
        green.close().await;
        drift
    }

    /// Collections that Kong's Admin API must list in its default workspace, since green's database has them.
    pub async fn listed(&self) -> Result<Vec<String>> {
        let green = Green::connect(&self.green, &application_name()).await?;
        let what = "cannot read Kong's tables on green";
        let sql = include_str!("../../sql/preflight/listed.sql");
        let sql = fill(sql, &[("kong", &quote(green.kong_schema()))]);
        let mut tx = green.begin_snapshot().await?;
        let held = query_scalar(sql).fetch_all(&mut *tx).await.during(&green, what)?;
        tx.rollback().await.during(&green, what)?;
        green.close().await;
        Ok(held)
    }

    /// Which runs wrote Kong's tables on green, by the journal that they left there.
    pub async fn wrote(&self) -> Result<Wrote> {
        let green = Green::connect(&self.green, &application_name()).await?;
        let what = "cannot read the journal on green";
        let mut tx = green.begin_snapshot().await?;
        let mut wrote = Wrote { runs: 0, last: String::new() };
        if green.has_own_table(&mut tx, "writer").await.during(&green, what)? {
            let sql = include_str!("../../sql/preflight/wrote.sql");
            let sql = fill(sql, &[("work", &quote(green.work_schema()))]);
            let row: (i64, String) =
                query_as(sql).bind(green.kong_schema()).fetch_one(&mut *tx).await.during(&green, what)?;
            wrote = Wrote { runs: row.0, last: row.1 };
        }
        tx.rollback().await.during(&green, what)?;
        green.close().await;
        Ok(wrote)
    }

    async fn connect(&self) -> Result<(Arc<Blue>, Green)> {
        let green = Green::connect(&self.green, &application_name()).await?;
        match Blue::connect(&self.blue).await {
            Ok(blue) => Ok((Arc::new(blue), green)),
            Err(error) => {
                green.close().await;
                Err(error)
            }
        }
    }
}

/// The runs that wrote Kong's tables on green.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrote {
    /// How many.
    pub runs: i64,
    /// When the last one ended, for people.
    pub last: String,
}

/// As other commands call themselves: a migration that runs meanwhile knows us for one of them.
fn application_name() -> String {
    format!("kongferry {}", std::process::id())
}

fn stopped() -> Error {
    Error::new(Kind::Io, "the look for drift stopped")
}

/// What people changed since the last run, in one sentence.
pub fn changed(drift: &Drifted) -> String {
    format!("since the last run people have changed {}", drift.in_tables())
}

/// What differs in the tables that people write, in one sentence.
pub fn differences(report: &Report) -> String {
    let tables: Vec<String> = report
        .tables
        .iter()
        .filter(|table| table.writer == Writer::Admin)
        .filter_map(|table| {
            let counts = &table.counts;
            let parts = [
                (counts.missing, "only on blue"),
                (counts.extra, "only on green"),
                (counts.different, "different"),
            ];
            let parts: Vec<String> = parts
                .iter()
                .filter(|(rows, _)| *rows > 0)
                .map(|(rows, what)| format!("{rows} {what}"))
                .collect();
            (!parts.is_empty()).then(|| format!("{} {}", table.table, parts.join(" and ")))
        })
        .collect();
    match (tables.is_empty(), report.other_findings) {
        (false, _) => tables.join(", "),
        (true, others) => format!("{others} findings about tags, orphans or workspaces"),
    }
}

/// The real world.
#[derive(Debug, Clone)]
pub struct LiveIntegrations(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    databases: Option<Databases>,
    hooks: Hooks,
    notify: Vec<Notification>,
}

impl LiveIntegrations {
    /// Checks how everything is called; calls nothing.
    pub fn new(
        databases: Option<Databases>,
        hooks: Hooks,
        notify: Vec<Notification>,
    ) -> Result<LiveIntegrations> {
        hooks.named().try_for_each(|(place, call)| call.check(place))?;
        notify.iter().try_for_each(Notification::check)?;
        Ok(LiveIntegrations(Arc::new(Inner { databases, hooks, notify })))
    }
}

impl Inner {
    fn call_of(&self, hook: Hook) -> Option<&Call> {
        match hook {
            Hook::ConfirmRollout => self.hooks.confirm_rollout.as_ref(),
            Hook::PreStep => self.hooks.pre_step.as_ref(),
            Hook::PostStep => self.hooks.post_step.as_ref(),
            Hook::ConfirmPromotion => self.hooks.confirm_promotion.as_ref(),
            Hook::Rollback => self.hooks.rollback.as_ref(),
        }
    }

    async fn drift(&self) -> Drift {
        let Some(databases) = &self.databases else { return Drift::Unwatched };
        match Box::pin(databases.drift()).await {
            Ok(drift) if drift.clean => Drift::None,
            Ok(drift) => Drift::Changed(changed(&drift)),
            Err(error) => Drift::Unknown(format!(
                "it cannot be seen what changed since the last run: {}",
                super::gates::because(&error)
            )),
        }
    }

    async fn tell(&self, said: &Said, body: &Value) {
        let told: futures::stream::FuturesUnordered<_> =
            self.notify.iter().map(|receiver| receiver.tell(said, body)).collect();
        for failed in told.filter_map(async |failed| failed).collect::<Vec<String>>().await {
            tracing::warn!("A notification was not taken: {failed}.");
        }
        if let Some(hook) = &self.hooks.event {
            let mut body = body.clone();
            if let Some(body) = body.as_object_mut() {
                body.insert("text".to_owned(), said.text.clone().into());
                body.insert("level".to_owned(), serde_json::json!(said.level));
            }
            if let Reply::No(text) | Reply::Silent(text) = hook.call(&body).await {
                tracing::warn!("The event hook did not take it: {text}.");
            }
        }
    }
}

impl Integrations for LiveIntegrations {
    fn drift(&self) -> BoxFuture<'static, Drift> {
        let inner = self.0.clone();
        Box::pin(async move { inner.drift().await })
    }

    fn hook(&self, hook: Hook, body: Value) -> BoxFuture<'static, Option<Reply>> {
        let inner = self.0.clone();
        Box::pin(async move {
            match inner.call_of(hook) {
                Some(call) => {
                    let mut body = body;
                    if let Some(body) = body.as_object_mut() {
                        body.insert("hook".to_owned(), hook.word().into());
                    }
                    Some(call.call(&body).await)
                }
                None => None,
            }
        })
    }

    fn tell(&self, said: Said, body: Value) -> BoxFuture<'static, ()> {
        let inner = self.0.clone();
        Box::pin(async move { inner.tell(&said, &body).await })
    }
}
