//! Databases, hooks and notifications, as they really are.

use std::sync::Arc;

use futures::StreamExt;
use futures::future::BoxFuture;
use serde_json::Value;

use super::call::{Call, Reply};
use super::config::Hooks;
use super::machine::Said;
use super::notify::Notification;
use super::ports::{Drift, Hook, Outside};
use crate::blue::config::BlueConfig;
use crate::blue::session::Blue;
use crate::error::Result;
use crate::green::config::GreenConfig;
use crate::green::session::Green;
use crate::inspect::Choices;
use crate::mapping::schema_map::Writer;
use crate::progress::Unwatched;
use crate::verify::report::Report;
use crate::verify::{self, Options};

/// Where both databases are, for `verify`.
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
        let name = format!("kongferry cutover {}", std::process::id());
        let green = Green::connect(&self.green, &name).await?;
        let blue = Arc::new(Blue::connect(&self.blue).await?);
        let options = Options { choices: self.choices.clone(), ..Options::default() };
        let report = Box::pin(verify::run(blue, &green, &options, Arc::new(Unwatched))).await;
        green.close().await;
        report
    }
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
pub struct World(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    databases: Option<Databases>,
    hooks: Hooks,
    notify: Vec<Notification>,
}

impl World {
    /// Checks how everything is called; calls nothing.
    pub fn new(databases: Option<Databases>, hooks: Hooks, notify: Vec<Notification>) -> Result<World> {
        for (place, call) in [
            ("hooks.confirm_rollout", &hooks.confirm_rollout),
            ("hooks.pre_step", &hooks.pre_step),
            ("hooks.post_step", &hooks.post_step),
            ("hooks.confirm_promotion", &hooks.confirm_promotion),
            ("hooks.rollback", &hooks.rollback),
            ("hooks.event", &hooks.event),
        ] {
            call.as_ref().map_or(Ok(()), |call| call.check(place))?;
        }
        notify.iter().try_for_each(Notification::check)?;
        Ok(World(Arc::new(Inner { databases, hooks, notify })))
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
        match Box::pin(databases.compare()).await {
            Ok(report) if report.clean => Drift::None,
            Ok(report) => Drift::Changed(format!("blue and green differ: {}", differences(&report))),
            Err(error) => Drift::Unknown(format!(
                "blue and green cannot be compared: {}",
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

impl Outside for World {
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
