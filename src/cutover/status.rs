//! The state of a cutover for the live view, scripts and Prometheus.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::gates::measurement::{GateVerdict, Measurement, Traffic};
use super::notice::Notice;
use super::state::{CutoverPhase, Pause};
use super::step::CutoverStep;
use crate::dns::Share;

/// The field names are a contract with scripts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StatusSnapshot {
    pub format: u32,
    pub run: Uuid,
    pub records: Vec<String>,
    /// The word of the phase, `paused` or `not_started`.
    pub state: String,
    #[serde(flatten)]
    pub phase: CutoverPhase,
    pub sentence: String,
    pub paused: Option<Pause>,
    #[serde(alias = "why_back")]
    pub rollback_reason: Option<String>,
    pub steps: Vec<CutoverStep>,
    /// From 0.
    pub step: Option<usize>,
    /// Steps that were skipped on the way up, from 0.
    #[serde(default)]
    pub skipped: Vec<usize>,
    pub share: Shares,
    /// Seconds until the current activity ends if all goes well.
    pub seconds_left: Option<f64>,
    /// Seconds since the current activity began.
    pub seconds_in_stage: f64,
    pub gates: Vec<GateStatus>,
    pub traffic: Option<Traffic>,
    /// The last events, the newest at the end.
    pub events: Vec<TimedNotice>,
    pub owner: String,
    pub at: DateTime<Utc>,
    pub watched: bool,
    pub rollback_command: String,
    /// The rollback without kongferry, once the provider has refused ours.
    pub manual_command: Option<String>,
}

impl StatusSnapshot {
    /// The JSON for scripts, with the field names of earlier versions beside the present ones.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        let mut json = serde_json::json!(self);
        if let Some(fields) = json.as_object_mut() {
            fields.insert("why_back".to_owned(), serde_json::json!(self.rollback_reason));
        }
        json
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Shares {
    pub weight: Share,
    /// Green's share of the name servers' answers, in per cent.
    pub by_queries: Option<f64>,
    /// Green's share of the requests, in per cent.
    pub by_counters: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GateStatus {
    pub name: String,
    pub last: Option<Measurement>,
    /// Checks that passed since the share was last changed.
    pub passes: u32,
    pub seconds_to_next: Option<f64>,
}

impl GateStatus {
    pub(crate) fn verdict(&self) -> Option<GateVerdict> {
        self.last.as_ref().map(|last| last.verdict)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimedNotice {
    pub at: DateTime<Utc>,
    #[serde(flatten)]
    pub notice: Notice,
}

/// Seconds, rounded to a tenth.
pub(crate) fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 10.0).round() / 10.0
}

/// The metrics in Prometheus' text format.
pub(crate) fn exposition(snapshot: &StatusSnapshot) -> String {
    let mut text = String::new();
    let mut metric = |name: &str, help: &str, samples: &[(String, f64)]| {
        text.push_str(&format!(
            "# HELP kongferry_cutover_{name} {help}\n# TYPE kongferry_cutover_{name} gauge\n"
        ));
        for (labels, value) in samples {
            text.push_str(&format!("kongferry_cutover_{name}{labels} {value}\n"));
        }
    };
    let plain = |value: f64| vec![(String::new(), value)];
    let flag = |on: bool| if on { 1.0 } else { 0.0 };
    metric(
        "share_ratio",
        "Green's share of new resolutions at the provider.",
        &plain(snapshot.share.weight.fraction()),
    );
    let measured = [("queries", snapshot.share.by_queries), ("counters", snapshot.share.by_counters)];
    let measured: Vec<(String, f64)> = measured
        .into_iter()
        .filter_map(|(by, percent)| Some((format!("{{by=\"{by}\"}}"), percent? / 100.0)))
        .collect();
    metric("measured_share_ratio", "Green's measured share, by method.", &measured);
    metric("state", "1 for the current state.", &[(format!("{{state=\"{}\"}}", snapshot.state), 1.0)]);
    metric("paused", "1 while the cutover is paused.", &plain(flag(snapshot.paused.is_some())));
    let step = snapshot.step.map_or(0, |step| step + 1);
    metric(
        "step",
        "Number of the current step, from 1; 0 outside of a step.",
        &plain(u32::try_from(step).unwrap_or(0).into()),
    );
    metric("steps", "Number of steps.", &plain(u32::try_from(snapshot.steps.len()).unwrap_or(0).into()));
    let left = snapshot.seconds_left.map(plain).unwrap_or_default();
    metric("stage_seconds_left", "Seconds until the current activity ends if all goes well.", &left);
    let gates: Vec<(String, f64)> = snapshot
        .gates
        .iter()
        .filter_map(|gate| {
            let value = match gate.verdict()? {
                GateVerdict::Pass => 1.0,
                GateVerdict::Inconclusive => 0.0,
                GateVerdict::Fail => -1.0,
            };
            Some((format!("{{gate=\"{}\"}}", escaped(&gate.name)), value))
        })
        .collect();
    metric("gate", "1 for a pass, 0 for inconclusive, -1 for a failure.", &gates);
    text
}

fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
