//! Runs the checks of gates.

use std::sync::Arc;

use futures::future::BoxFuture;

use super::config::{Gate, GateCheck};
use super::measurement::{Measurement, Traffic};
use super::metrics::PrometheusConfig;
use super::prometheus::Prometheus;
use super::{command, probe};
use crate::cutover::environment::HealthChecks;
use crate::dns::Share;
use crate::error::Result;

#[derive(Debug)]
pub struct GateRunner {
    gates: Vec<Gate>,
    prometheus: Option<(Prometheus, PrometheusConfig)>,
}

impl GateRunner {
    pub fn new(gates: Vec<Gate>, metrics: Option<&PrometheusConfig>) -> Result<GateRunner> {
        let prometheus = match metrics {
            Some(metrics) => Some((Prometheus::new(metrics)?, metrics.clone())),
            None => None,
        };
        Ok(GateRunner { gates, prometheus })
    }

    pub fn prometheus(&self) -> Option<&(Prometheus, PrometheusConfig)> {
        self.prometheus.as_ref()
    }

    pub async fn check(&self, gate: usize, share: Share, baseline: Option<f64>) -> Measurement {
        match self.gates.get(gate).map(|gate| &gate.check) {
            Some(GateCheck::Prometheus(query)) => match &self.prometheus {
                Some((prometheus, _)) => prometheus.judge(query, share, baseline).await,
                None => Measurement::inconclusive("Prometheus is not configured"),
            },
            Some(GateCheck::Http(request)) => probe::judge(request).await,
            Some(GateCheck::Command(program)) => command::judge(program, share).await,
            None => Measurement::inconclusive("the gate does not exist"),
        }
    }
}

impl HealthChecks for GateRunner {
    fn check_gate(
        self: Arc<Self>,
        gate: usize,
        share: Share,
        baseline: Option<f64>,
    ) -> BoxFuture<'static, Measurement> {
        Box::pin(async move { self.check(gate, share, baseline).await })
    }

    fn read_traffic(self: Arc<Self>) -> Option<BoxFuture<'static, Traffic>> {
        self.prometheus.as_ref()?;
        Some(Box::pin(async move {
            let Some((prometheus, metrics)) = &self.prometheus else { return Traffic::default() };
            let (blue, green) = (metrics.blue_rate(), metrics.green_rate());
            let (blue, green) = futures::join!(prometheus.number(&blue), prometheus.number(&green));
            Traffic { blue: blue.ok(), green: green.ok() }
        }))
    }
}
