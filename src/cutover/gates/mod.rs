//! Gates: health checks with three answers. Only a pass is a pass.
//!
//! [`config`] says what may be asked, [`prometheus`], [`probe`] and a program answer it, [`tally`] judges a row of
//! answers. No data, no number, more than one number and no answer are inconclusive, never a pass.

pub mod config;
pub mod kong;
pub mod probe;
pub mod prometheus;
pub mod tally;

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::cutover::call::run_program;
use crate::dns::Share;
use crate::error::Result;
use config::{Check, Gate, Metrics, Program};
use prometheus::Prometheus;

/// What one check came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It held.
    Pass,
    /// It did not hold.
    Fail,
    /// It cannot be said.
    Inconclusive,
}

/// One check, with what was seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// The judgement.
    pub verdict: Verdict,
    /// What was measured, for people: `0.4 %`, `HTTP 200 in 12 ms`.
    pub value: String,
    /// What it was held against: `≤ 1.2 %`.
    pub limit: String,
    /// Why, where that does not follow from the two.
    pub why: String,
    /// Blue's number, if blue had one.
    pub baseline: Option<f64>,
}

impl Measurement {
    /// A check that says nothing.
    pub fn inconclusive(why: impl Into<String>) -> Measurement {
        Measurement {
            verdict: Verdict::Inconclusive,
            value: "–".to_owned(),
            limit: String::new(),
            why: why.into(),
            baseline: None,
        }
    }

    /// A check that says something.
    pub fn judged(holds: bool, value: impl Into<String>, limit: impl Into<String>) -> Measurement {
        Measurement {
            verdict: if holds { Verdict::Pass } else { Verdict::Fail },
            value: value.into(),
            limit: limit.into(),
            why: String::new(),
            baseline: None,
        }
    }

    /// In one line.
    pub fn line(&self) -> String {
        let limit = if self.limit.is_empty() { String::new() } else { format!(", must be {}", self.limit) };
        match self.why.as_str() {
            "" => format!("{}{limit}", self.value),
            why if self.value == "–" => why.to_owned(),
            why => format!("{}{limit}: {why}", self.value),
        }
    }
}

/// What the counters say, in requests a second; `None` is no data.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Traffic {
    /// Blue's.
    pub blue: Option<f64>,
    /// Green's.
    pub green: Option<f64>,
}

impl Traffic {
    /// Green's share of all requests.
    pub fn share(&self) -> Option<f64> {
        let (blue, green) = (self.blue?, self.green?);
        (blue + green > 0.0).then(|| green / (blue + green))
    }
}

/// Where measurements come from. Calls never fail: what cannot be measured is inconclusive.
pub trait Measure: Send + Sync {
    /// Checks one gate once. `baseline` is blue's last good number, for when blue has none any more.
    fn gate(&self, gate: usize, share: Share, baseline: Option<f64>) -> BoxFuture<'static, Measurement>;
    /// Reads the counters of both sides; `None` where nothing says how.
    fn traffic(&self) -> Option<BoxFuture<'static, Traffic>>;
}

/// The real thing.
#[derive(Debug, Clone)]
pub struct GateRunner(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    gates: Vec<Gate>,
    prometheus: Option<Prometheus>,
    metrics: Option<Metrics>,
}

impl GateRunner {
    /// Connects to nothing yet.
    pub fn new(gates: Vec<Gate>, metrics: Option<Metrics>) -> Result<GateRunner> {
        let prometheus = metrics.as_ref().map(Prometheus::new).transpose()?;
        Ok(GateRunner(Arc::new(Inner { gates, prometheus, metrics })))
    }

    /// Prometheus, where there is one.
    pub fn prometheus(&self) -> Option<&Prometheus> {
        self.0.prometheus.as_ref()
    }
}

impl Measure for GateRunner {
    fn gate(&self, gate: usize, share: Share, baseline: Option<f64>) -> BoxFuture<'static, Measurement> {
        let inner = self.0.clone();
        Box::pin(async move {
            match inner.gates.get(gate).map(|gate| &gate.check) {
                Some(Check::Prometheus(query)) => match &inner.prometheus {
                    Some(prometheus) => prometheus.judge(query, share, baseline).await,
                    None => Measurement::inconclusive("it is not said where Prometheus is"),
                },
                Some(Check::Http(request)) => probe::judge(request).await,
                Some(Check::Command(program)) => judge_program(program, share).await,
                None => Measurement::inconclusive("there is no such gate"),
            }
        })
    }

    fn traffic(&self) -> Option<BoxFuture<'static, Traffic>> {
        let inner = self.0.clone();
        inner.prometheus.as_ref().zip(inner.metrics.as_ref())?;
        Some(Box::pin(async move {
            let (Some(prometheus), Some(metrics)) = (&inner.prometheus, &inner.metrics) else {
                return Traffic::default();
            };
            let (blue, green) = (metrics.blue_rate(), metrics.green_rate());
            let (blue, green) = futures::join!(prometheus.number(&blue), prometheus.number(&green));
            Traffic { blue: blue.ok(), green: green.ok() }
        }))
    }
}

/// How long a program may take where nothing is said.
const PROGRAM_LIMIT: Duration = Duration::from_secs(20);

/// Exit code 0 passes, 1 fails; everything else says that the program itself did not work.
async fn judge_program(program: &Program, share: Share) -> Measurement {
    let limit = program.timeout.map_or(PROGRAM_LIMIT, |limit| limit.duration());
    let input = serde_json::json!({ "share": share }).to_string();
    match run_program(&program.run, input.as_bytes(), limit).await {
        Ok(ran) => match ran.code {
            Some(code @ (0 | 1)) => {
                let value = if ran.said.is_empty() { format!("exit code {code}") } else { ran.said };
                Measurement::judged(code == 0, value, "exit code 0")
            }
            Some(code) => {
                Measurement::inconclusive(format!("exit code {code} {}", ran.said).trim().to_owned())
            }
            None => Measurement::inconclusive("a signal ended it"),
        },
        Err(error) => Measurement::inconclusive(error.one_line()),
    }
}
