//! What the engine needs, as traits that tests implement.

use std::sync::Arc;

use futures::future::BoxFuture;

use super::call::CallReply;
use super::clock::Clock;
use super::gates::measurement::{Measurement, Traffic};
use super::notice::Notice;
use crate::dns::{DnsProvider, Share};

#[derive(Clone)]
pub struct Environment {
    pub clock: Arc<dyn Clock>,
    pub provider: Arc<dyn DnsProvider>,
    pub name_servers: Arc<dyn NameServers>,
    pub health: Arc<dyn HealthChecks>,
    pub integrations: Arc<dyn Integrations>,
}

/// Calls never fail: what cannot be measured is inconclusive.
pub trait HealthChecks: Send + Sync {
    /// Checks one gate once. `baseline` is blue's last good number, for when blue has none.
    fn check_gate(
        self: Arc<Self>,
        gate: usize,
        share: Share,
        baseline: Option<f64>,
    ) -> BoxFuture<'static, Measurement>;
    /// Reads the counters of both sides; `None` without a Prometheus.
    fn read_traffic(self: Arc<Self>) -> Option<BoxFuture<'static, Traffic>>;
}

pub trait NameServers: Send + Sync {
    /// Sends this many queries to each server. A network error is [`NameServerState::Pending`].
    fn query(self: Arc<Self>, share: Share, queries: u32) -> BoxFuture<'static, NameServerReport>;
}

#[derive(Debug, Clone, PartialEq)]
pub struct NameServerReport {
    pub answers: NameServerState,
    /// Green's fraction of the answers of all servers.
    pub green: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameServerState {
    /// Every server answers with the share.
    Agree,
    /// A server answers with another share, or not at all: it may lag behind.
    Pending(String),
    /// A server answers with an error, or with what is neither blue nor green.
    Wrong(String),
}

/// Whether Admin API clients changed rows since the last run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DriftStatus {
    None,
    /// In these tables.
    Changed(String),
    Unknown(String),
    NotChecked,
}

/// When the user's own programs and services are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Before the first step, until it succeeds.
    ConfirmRollout,
    PreStep,
    PostStep,
    /// Before 100 %, until it succeeds.
    ConfirmPromotion,
    /// After the write of a rollback.
    Rollback,
}

impl Hook {
    pub fn as_str(self) -> &'static str {
        match self {
            Hook::ConfirmRollout => "confirm_rollout",
            Hook::PreStep => "pre_step",
            Hook::PostStep => "post_step",
            Hook::ConfirmPromotion => "confirm_promotion",
            Hook::Rollback => "rollback",
        }
    }
}

pub trait Integrations: Send + Sync {
    fn drift(self: Arc<Self>) -> BoxFuture<'static, DriftStatus>;
    /// Calls a hook; `None` where it is not configured.
    fn hook(self: Arc<Self>, hook: Hook, body: serde_json::Value) -> BoxFuture<'static, Option<CallReply>>;
    /// Sends a notice to the event hook and the receivers of notifications.
    fn notify(self: Arc<Self>, notice: Notice, body: serde_json::Value) -> BoxFuture<'static, ()>;
}
