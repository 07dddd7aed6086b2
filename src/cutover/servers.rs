//! The real name servers, judged.

use std::sync::Arc;

use futures::future::BoxFuture;

use super::environment::{NameServerReport, NameServerState, NameServers};
use crate::dns::query::{self, NameServer, QueryConfig, ShareMeasurement, ShareVerdict};
use crate::dns::{Capabilities, Share, Target};

/// Every authoritative name server of the records, queried directly.
#[derive(Debug)]
pub struct Authoritative {
    pub servers: Vec<NameServer>,
    pub target: Target,
    pub config: QueryConfig,
    /// The provider's: they say what answers can show of the share.
    pub caps: Capabilities,
}

impl NameServers for Authoritative {
    fn query(self: Arc<Self>, share: Share, queries: u32) -> BoxFuture<'static, NameServerReport> {
        Box::pin(async move { self.measure(share, queries).await })
    }
}

impl Authoritative {
    async fn measure(&self, share: Share, queries: u32) -> NameServerReport {
        let config = QueryConfig { count: queries, ..self.config.clone() };
        let records = self.target.records().iter();
        let measurements = records.map(|record| query::measure(&self.servers, record, &config));
        let measurements: Vec<ShareMeasurement> =
            futures::future::join_all(measurements).await.into_iter().flatten().collect();
        let blue: u32 = measurements.iter().map(|measured| measured.blue).sum();
        let green: u32 = measurements.iter().map(|measured| measured.green).sum();
        let fraction = f64::from(green) / f64::from(blue + green);
        NameServerReport {
            answers: self.judge(share, &measurements),
            green: Some(fraction).filter(|fraction| fraction.is_finite() && !self.caps.hidden),
        }
    }

    /// A wrong answer comes before a late one, whichever server gave it.
    fn judge(&self, share: Share, measurements: &[ShareMeasurement]) -> NameServerState {
        let mut pending = None;
        for measured in measurements {
            let about = |text: &str| format!("{}: {text}; {measured}", measured.key);
            let verdict = if self.caps.hidden {
                measured.judge_without_sides()
            } else {
                measured.judge(share, self.caps.sticky, None)
            };
            match verdict {
                ShareVerdict::Good => {}
                ShareVerdict::Faulty => return NameServerState::Wrong(about("a wrong answer")),
                ShareVerdict::TooFewAnswers => pending = pending.or_else(|| Some(about("too few answers"))),
                ShareVerdict::ShareDiffers { .. } | ShareVerdict::TtlDiffers => {
                    pending = pending.or_else(|| Some(about(&format!("not yet {share} to green"))));
                }
            }
        }
        pending.map_or(NameServerState::Agree, NameServerState::Pending)
    }
}
