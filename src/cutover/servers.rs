//! The real name servers, judged.

use std::sync::Arc;

use futures::future::BoxFuture;

use super::environment::{NameServerReport, NameServerState, NameServers};
use crate::dns::query::{self, NameServer, QueryConfig, ShareVerdict};
use crate::dns::{Capabilities, Share, Target};

/// Every authoritative name server of the records, asked directly.
#[derive(Debug, Clone)]
pub struct Authoritative(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    servers: Vec<NameServer>,
    target: Target,
    config: QueryConfig,
    sticky: bool,
    hidden: bool,
}

impl Authoritative {
    /// `caps` say what answers can show of the share.
    pub fn new(
        servers: Vec<NameServer>,
        target: Target,
        config: QueryConfig,
        caps: &Capabilities,
    ) -> Authoritative {
        let (sticky, hidden) = (caps.sticky, caps.hidden);
        Authoritative(Arc::new(Inner { servers, target, config, sticky, hidden }))
    }
}

impl NameServers for Authoritative {
    fn query(&self, share: Share, queries: u32) -> BoxFuture<'static, NameServerReport> {
        let inner = self.0.clone();
        Box::pin(async move { inner.survey(share, queries).await })
    }
}

impl Inner {
    async fn survey(&self, share: Share, queries: u32) -> NameServerReport {
        let config = QueryConfig { count: queries, ..self.config.clone() };
        let all = self.target.records().iter().map(|record| query::measure(&self.servers, record, &config));
        let surveys: Vec<query::ShareMeasurement> =
            futures::future::join_all(all).await.into_iter().flatten().collect();
        let (blue, green) = surveys.iter().fold((0, 0), |(b, g), one| (b + one.blue, g + one.green));
        let share_of_green =
            (blue + green > 0 && !self.hidden).then(|| f64::from(green) / f64::from(blue + green));
        NameServerReport { answers: self.judge(share, &surveys), green: share_of_green }
    }

    /// What is wrong goes before what is late, whoever is asked first.
    fn judge(&self, share: Share, surveys: &[query::ShareMeasurement]) -> NameServerState {
        let mut late = None;
        for survey in surveys {
            let about = |what: &str| format!("{}: {what}; {survey}", survey.key);
            let verdict = if self.hidden {
                survey.judge_without_sides()
            } else {
                survey.judge(share, self.sticky, None)
            };
            match verdict {
                ShareVerdict::Good => {}
                ShareVerdict::Faulty => return NameServerState::Wrong(about("a wrong answer")),
                ShareVerdict::TooFewAnswers => late = late.or_else(|| Some(about("too few answers"))),
                ShareVerdict::ShareDiffers { .. } | ShareVerdict::TtlDiffers => {
                    late = late.or_else(|| Some(about(&format!("not yet {share} to green"))));
                }
            }
        }
        late.map_or(NameServerState::Agree, NameServerState::Pending)
    }
}
