//! Databases, hooks and notifications, as they really are.

use std::sync::Arc;

use futures::StreamExt;
use futures::future::BoxFuture;
use serde_json::Value;

use super::call::{CallReply, ExternalCall};
use super::config::Hooks;
use super::databases::Databases;
use super::environment::{DriftStatus, Hook, Integrations};
use super::notice::Notice;
use super::notify::Notification;
use crate::error::Result;

/// The changes since the last run, in one sentence.
pub(super) fn changed(tables: &str) -> String {
    format!("Admin API clients have changed rows since the last run: {tables}")
}

#[derive(Debug, Clone)]
pub struct LiveIntegrations(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    databases: Option<Arc<dyn Databases>>,
    hooks: Hooks,
    notify: Vec<Notification>,
}

impl LiveIntegrations {
    /// Checks how everything is called; calls nothing.
    pub fn new(
        databases: Option<Arc<dyn Databases>>,
        hooks: Hooks,
        notify: Vec<Notification>,
    ) -> Result<LiveIntegrations> {
        hooks.named().try_for_each(|(place, call)| call.check(place))?;
        notify.iter().try_for_each(Notification::check)?;
        Ok(LiveIntegrations(Arc::new(Inner { databases, hooks, notify })))
    }
}

impl Inner {
    fn call_of(&self, hook: Hook) -> Option<&ExternalCall> {
        match hook {
            Hook::ConfirmRollout => self.hooks.confirm_rollout.as_ref(),
            Hook::PreStep => self.hooks.pre_step.as_ref(),
            Hook::PostStep => self.hooks.post_step.as_ref(),
            Hook::ConfirmPromotion => self.hooks.confirm_promotion.as_ref(),
            Hook::Rollback => self.hooks.rollback.as_ref(),
        }
    }

    async fn drift(&self) -> DriftStatus {
        let Some(databases) = &self.databases else { return DriftStatus::NotChecked };
        match databases.drift().await {
            Ok(None) => DriftStatus::None,
            Ok(Some(tables)) => DriftStatus::Changed(changed(&tables)),
            Err(error) => DriftStatus::Unknown(format!(
                "cannot detect changes since the last run: {}",
                error.one_line()
            )),
        }
    }

    async fn notify(&self, notice: &Notice, body: &Value) {
        let sent: futures::stream::FuturesUnordered<_> =
            self.notify.iter().map(|receiver| receiver.send(notice, body)).collect();
        for failed in sent.filter_map(async |failed| failed).collect::<Vec<String>>().await {
            tracing::warn!("A notification was not taken: {failed}.");
        }
        if let Some(hook) = &self.hooks.event {
            let mut body = body.clone();
            if let Some(body) = body.as_object_mut() {
                body.insert("text".to_owned(), notice.text.clone().into());
                body.insert("level".to_owned(), serde_json::json!(notice.level));
            }
            if let CallReply::Failure(text) | CallReply::NoReply(text) = hook.call(&body).await {
                tracing::warn!("The event hook did not take it: {text}.");
            }
        }
    }
}

impl Integrations for LiveIntegrations {
    fn drift(&self) -> BoxFuture<'static, DriftStatus> {
        let inner = self.0.clone();
        Box::pin(async move { inner.drift().await })
    }

    fn hook(&self, hook: Hook, body: Value) -> BoxFuture<'static, Option<CallReply>> {
        let inner = self.0.clone();
        Box::pin(async move {
            match inner.call_of(hook) {
                Some(call) => {
                    let mut body = body;
                    if let Some(body) = body.as_object_mut() {
                        body.insert("hook".to_owned(), hook.as_str().into());
                    }
                    Some(call.call(&body).await)
                }
                None => None,
            }
        })
    }

    fn notify(&self, notice: Notice, body: Value) -> BoxFuture<'static, ()> {
        let inner = self.0.clone();
        Box::pin(async move { inner.notify(&notice, &body).await })
    }
}
