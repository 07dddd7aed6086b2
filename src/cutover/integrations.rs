//! The real databases, hooks and notifications.

use std::sync::Arc;

use futures::future::{BoxFuture, join_all};
use serde_json::Value;

use super::call::{CallReply, ExternalCall};
use super::config::Hooks;
use super::databases::Databases;
use super::environment::{DriftStatus, Hook, Integrations};
use super::notice::Notice;
use super::notify::Notification;

pub(super) fn describe_drift(tables: &str) -> String {
    format!("Admin API clients have changed rows since the last run: {tables}")
}

#[derive(Debug)]
pub struct LiveIntegrations {
    pub databases: Option<Arc<dyn Databases>>,
    pub hooks: Hooks,
    pub notify: Vec<Notification>,
}

impl LiveIntegrations {
    fn call_of(&self, hook: Hook) -> Option<&ExternalCall> {
        let hooks = &self.hooks;
        match hook {
            Hook::ConfirmRollout => hooks.confirm_rollout.as_ref(),
            Hook::PreStep => hooks.pre_step.as_ref(),
            Hook::PostStep => hooks.post_step.as_ref(),
            Hook::ConfirmPromotion => hooks.confirm_promotion.as_ref(),
            Hook::Rollback => hooks.rollback.as_ref(),
        }
    }

    async fn call_event_hook(&self, notice: &Notice, body: &Value) {
        let Some(hook) = &self.hooks.event else { return };
        let body = with_field(body.clone(), "text", notice.text.clone().into());
        let body = with_field(body, "level", serde_json::json!(notice.level));
        if let CallReply::Failure(text) | CallReply::NoReply(text) = hook.call(&body).await {
            tracing::warn!("The event hook failed: {text}.");
        }
    }
}

impl Integrations for LiveIntegrations {
    fn drift(self: Arc<Self>) -> BoxFuture<'static, DriftStatus> {
        Box::pin(async move {
            let Some(databases) = &self.databases else { return DriftStatus::NotChecked };
            match databases.drift().await {
                Ok(None) => DriftStatus::None,
                Ok(Some(tables)) => DriftStatus::Changed(describe_drift(&tables)),
                Err(error) => DriftStatus::Unknown(format!(
                    "cannot detect changes since the last run: {}",
                    error.one_line()
                )),
            }
        })
    }

    fn hook(self: Arc<Self>, hook: Hook, body: Value) -> BoxFuture<'static, Option<CallReply>> {
        let body = with_field(body, "hook", hook.as_str().into());
        Box::pin(async move { Some(self.call_of(hook)?.call(&body).await) })
    }

    fn notify(self: Arc<Self>, notice: Notice, body: Value) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let sent = self.notify.iter().map(|receiver| receiver.send(&notice, &body));
            for error in join_all(sent).await.into_iter().flatten() {
                tracing::warn!("A notification was not delivered: {error}.");
            }
            self.call_event_hook(&notice, &body).await;
        })
    }
}

fn with_field(mut body: Value, name: &str, value: Value) -> Value {
    if let Some(fields) = body.as_object_mut() {
        fields.insert(name.to_owned(), value);
    }
    body
}
