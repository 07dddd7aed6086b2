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

#[derive(Debug, Clone)]
pub struct GateRunner(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    gates: Vec<Gate>,
    prometheus: Option<Prometheus>,
    metrics: Option<PrometheusConfig>,
}

impl GateRunner {
    pub fn new(gates: Vec<Gate>, metrics: Option<PrometheusConfig>) -> Result<GateRunner> {
        let prometheus = metrics.as_ref().map(Prometheus::new).transpose()?;
        Ok(GateRunner(Arc::new(Inner { gates, prometheus, metrics })))
    }

    pub fn prometheus(&self) -> Option<&Prometheus> {
        self.0.prometheus.as_ref()
    }
}

impl HealthChecks for GateRunner {
    fn check_gate(
        &self,
        gate: usize,
        share: Share,
        baseline: Option<f64>,
    ) -> BoxFuture<'static, Measurement> {
        let inner = self.0.clone();
        Box::pin(async move {
            match inner.gates.get(gate).map(|gate| &gate.check) {
                Some(GateCheck::Prometheus(query)) => match &inner.prometheus {
                    Some(prometheus) => prometheus.judge(query, share, baseline).await,
                    None => Measurement::inconclusive("Prometheus is not configured"),
                },
                Some(GateCheck::Http(request)) => probe::judge(request).await,
                Some(GateCheck::Command(program)) => command::judge(program, share).await,
                None => Measurement::inconclusive("there is no such gate"),
            }
        })
    }

    fn read_traffic(&self) -> Option<BoxFuture<'static, Traffic>> {
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
