//! What the engine needs of the world, so that tests can put another one there.

use std::sync::Arc;

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use super::call::Reply;
use super::clock::Clock;
use super::gates::measurement::{Measurement, Traffic};
use super::notice::Said;
use crate::dns::{DnsProvider, Share};

/// Everything that is not rules.
#[derive(Clone)]
pub struct Environment {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where the records are kept.
    pub provider: Arc<dyn DnsProvider>,
    /// Who answers with them.
    pub servers: Arc<dyn NameServers>,
    /// Gates and counters.
    pub meters: Arc<dyn Measure>,
    /// Databases, hooks, notifications.
    pub outside: Arc<dyn Integrations>,
}

/// Where measurements come from. Calls never fail: what cannot be measured is inconclusive.
pub trait Measure: Send + Sync {
    /// Checks one gate once. `baseline` is blue's last good number, for when blue has none any more.
    fn gate(&self, gate: usize, share: Share, baseline: Option<f64>) -> BoxFuture<'static, Measurement>;
    /// Reads the counters of both sides; `None` where nothing says how.
    fn traffic(&self) -> Option<BoxFuture<'static, Traffic>>;
}

/// The authoritative name servers.
pub trait NameServers: Send + Sync {
    /// Asks every one of them so many times. An error of a network is [`Answers::NotYet`].
    fn survey(&self, share: Share, queries: u32) -> BoxFuture<'static, Survey>;
}

/// What name servers answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Survey {
    /// The judgement.
    pub answers: Answers,
    /// Green's share of the answers of all servers.
    pub green: Option<f64>,
}

/// The judgement on what name servers answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answers {
    /// Every one of them answers with the share.
    Right,
    /// One answers with another share, or not at all: it may lag behind.
    NotYet(String),
    /// One answers with an error, or with what is neither blue nor green.
    Wrong(String),
}

/// Whether rows were changed since they were moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Drift {
    /// None were.
    None,
    /// Some were; the text says which.
    Changed(String),
    /// It cannot be said.
    Unknown(String),
    /// Nobody looks.
    Unwatched,
}

/// The places where the user's own programs and services are asked or told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hook {
    /// Before the first step, until it says yes.
    ConfirmRollout,
    /// Before each step.
    PreStep,
    /// After each step.
    PostStep,
    /// Before everything goes to green, until it says yes.
    ConfirmPromotion,
    /// Once new resolutions are on their way back.
    Rollback,
}

impl Hook {
    /// The word of `cutover.toml`.
    pub fn word(self) -> &'static str {
        match self {
            Hook::ConfirmRollout => "confirm_rollout",
            Hook::PreStep => "pre_step",
            Hook::PostStep => "post_step",
            Hook::ConfirmPromotion => "confirm_promotion",
            Hook::Rollback => "rollback",
        }
    }
}

/// Databases, hooks, notifications.
pub trait Integrations: Send + Sync {
    /// Whether rows were changed since they were moved.
    fn drift(&self) -> BoxFuture<'static, Drift>;
    /// Calls a hook; `None` where there is none.
    fn hook(&self, hook: Hook, body: serde_json::Value) -> BoxFuture<'static, Option<Reply>>;
    /// Tells everybody who wants to know.
    fn tell(&self, said: Said, body: serde_json::Value) -> BoxFuture<'static, ()>;
}
