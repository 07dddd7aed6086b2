//! What the engine needs from outside, as traits that tests implement.

use std::sync::Arc;

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

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

/// Where measurements come from. Calls never fail: what cannot be measured is inconclusive.
pub trait HealthChecks: Send + Sync {
    /// Checks one gate once. `baseline` is blue's last good number, for when blue has none any more.
    fn check_gate(&self, gate: usize, share: Share, baseline: Option<f64>)
    -> BoxFuture<'static, Measurement>;
    /// Reads the counters of both sides; `None` where nothing says how.
    fn read_traffic(&self) -> Option<BoxFuture<'static, Traffic>>;
}

pub trait NameServers: Send + Sync {
    /// Sends this many queries to each server. A network error is [`NameServerState::Pending`].
    fn query(&self, share: Share, queries: u32) -> BoxFuture<'static, NameServerReport>;
}

#[derive(Debug, Clone, PartialEq)]
pub struct NameServerReport {
    pub answers: NameServerState,
    /// Green's share of the answers of all servers.
    pub green: Option<f64>,
}

/// The judgement on what name servers answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameServerState {
    /// Every one of them answers with the share.
    Agree,
    /// One answers with another share, or not at all: it may lag behind.
    Pending(String),
    /// One answers with an error, or with what is neither blue nor green.
    Wrong(String),
}

/// Whether rows were changed since they were moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DriftStatus {
    None,
    /// Some were; the text says which.
    Changed(String),
    Unknown(String),
    NotChecked,
}

/// The places where the user's own programs and services are asked or told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hook {
    /// Before the first step, until it says yes.
    ConfirmRollout,
    PreStep,
    PostStep,
    /// Before everything goes to green, until it says yes.
    ConfirmPromotion,
    /// Once new resolutions are on their way back.
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
    /// Whether rows were changed since they were moved.
    fn drift(&self) -> BoxFuture<'static, DriftStatus>;
    /// Calls a hook; `None` where there is none.
    fn hook(&self, hook: Hook, body: serde_json::Value) -> BoxFuture<'static, Option<CallReply>>;
    /// Sends a notice to the event hook and the receivers of notifications.
    fn notify(&self, notice: Notice, body: serde_json::Value) -> BoxFuture<'static, ()>;
}
