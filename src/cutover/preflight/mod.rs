//! The checks before the first change: provider, name servers, metrics, databases, green's nodes.
//!
//! Nothing here changes what clients see. What cannot be proven is accepted by an operator or by `cutover.toml`, never by
//! default.

mod admin;
mod databases;

use std::cmp::Ordering;
use std::collections::BTreeSet;

use super::config::{CutoverConfig, Unproven};
use super::databases::Databases;
use super::gates::config::GateCheck;
use super::gates::measurement::GateVerdict;
use super::gates::metrics::{KongMajor, PrometheusConfig};
use super::gates::prometheus::Prometheus;
use super::gates::runner::GateRunner;
use crate::dns::query::{self, NameServer};
use crate::dns::{
    Desired, DnsProvider, Observed, Precondition, Record, RecordForm, RecordKey, RecordType, Share,
    SiblingRecord, Ttl,
};
use crate::error::Error;
use crate::finding::{Finding, Severity};

pub struct Preflight<'a> {
    pub config: &'a CutoverConfig,
    pub provider: &'a dyn DnsProvider,
    pub observed: &'a Observed,
    pub servers: &'a [NameServer],
    pub health: &'a GateRunner,
    /// None if they are not configured.
    pub databases: Option<&'a dyn Databases>,
}

/// The findings that are not accepted yet.
pub fn unproven_findings(findings: &[Finding]) -> Vec<&Finding> {
    findings.iter().filter(|finding| finding.severity == Severity::Unproven).collect()
}

/// The line of `cutover.toml` that accepts all of them.
pub fn acceptance_line(open: &[&Finding]) -> String {
    let words: BTreeSet<&str> = open.iter().filter_map(|finding| finding.unproven).collect();
    format!("unproven = {:?}", Vec::from_iter(words))
}

fn unproven(subject: Unproven, message: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding::unproven(subject.as_str(), message, remedy)
}

impl Preflight<'_> {
    /// Runs all checks without changing anything, and reports each finding as it comes.
    pub async fn run(&self, report: &mut (dyn FnMut(&Finding) + Send)) -> Vec<Finding> {
        let mut all = Vec::new();
        let mut add = |findings: Vec<Finding>| {
            let findings = findings.into_iter().map(|finding| self.accept(finding));
            all.extend(findings.inspect(|finding| report(finding)));
        };
        add(self.provider().await);
        add(self.records());
        add(self.name_servers().await);
        add(self.metrics().await);
        add(self.calls());
        add(self.nodes().await);
        add(Box::pin(self.databases()).await);
        all
    }

    /// What `preflight.unproven` names becomes a warning.
    fn accept(&self, mut finding: Finding) -> Finding {
        let accepted = &self.config.settings.preflight.unproven;
        if accepted.iter().any(|subject| finding.unproven == Some(subject.as_str())) {
            finding.severity = Severity::Warning;
            finding.message.push_str(" (accepted by preflight.unproven)");
            finding.remedy = String::new();
        }
        finding
    }

    async fn provider(&self) -> Vec<Finding> {
        match self.provider.preflight(&self.config.target).await {
            Ok(findings) => findings,
            Err(error) => vec![Finding::blocker(error.to_string(), "Correct [provider] in cutover.toml.")],
        }
    }

    fn records(&self) -> Vec<Finding> {
        let ttl = self.config.settings.ttl.max(self.provider.capabilities().min_ttl);
        let ttl = match self.observed.max_ttl() {
            0 => ttl,
            longest => ttl.min(longest),
        };
        let records = self.observed.records.iter().map(|record| {
            let now = record.ttl.unwrap_or(0);
            let change = match now.cmp(&ttl) {
                Ordering::Greater => {
                    format!(", will be lowered to {ttl} s; resolvers may hold the old answer for {now} s")
                }
                Ordering::Less => format!(", will be {ttl} s during the cutover, as for all records"),
                Ordering::Equal => String::new(),
            };
            Finding::ok(format!("{}: TTL {now} s{change}", record.key))
        });
        let siblings = self.observed.records.iter().flat_map(|record| {
            record.siblings.iter().map(|sibling| not_moved(&record.key, sibling)).collect::<Vec<_>>()
        });
        records.chain(siblings).collect()
    }

    async fn name_servers(&self) -> Vec<Finding> {
        let settings = &self.config.settings;
        let mut findings = self.serials().await;
        let hidden = self.provider.capabilities().hidden;
        if hidden {
            findings.push(Finding::warning(
                "the answers of the name servers do not show the side: green's share is known from the provider only, until counters show it",
                "Set both sides in [prometheus], and add a gate with kind = \"kong-share\".",
            ));
        }
        let few = query::QueryConfig { count: 20, ..settings.query.clone() };
        for record in self.config.target.records() {
            for measured in query::measure(self.servers, record, &few).await {
                let verdict = if hidden {
                    measured.judge_without_sides()
                } else {
                    measured.judge(Share::BLUE, false, None)
                };
                match verdict {
                    query::ShareVerdict::Good => {}
                    // `serials` has reported a server that does not answer at all.
                    query::ShareVerdict::TooFewAnswers if measured.unanswered == measured.queries => {}
                    query::ShareVerdict::TooFewAnswers => findings.push(Finding::blocker(
                        format!("{}: too few answers to judge: {measured}", record.key),
                        ALL_MUST_ANSWER,
                    )),
                    _ => findings.push(Finding::blocker(
                        format!("{}: the answers are not blue's: {measured}", record.key),
                        "Set blue in cutover.toml to the present answers of the name servers.",
                    )),
                }
            }
            if let Some(server) = self.servers.first() {
                findings.extend(self.siblings(server, record).await);
            }
        }
        findings
    }

    async fn serials(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut serials = BTreeSet::new();
        let query = &self.config.settings.query;
        for (server, serial) in query::serials(self.servers, self.config.target.zone(), query).await {
            match serial {
                Ok(serial) => {
                    serials.insert(serial);
                }
                Err(error) => findings.push(Finding::blocker(
                    format!("the name server {server} does not answer: {error}"),
                    ALL_MUST_ANSWER,
                )),
            }
        }
        match serials.first() {
            None => {}
            Some(serial) if serials.len() == 1 => findings.push(Finding::ok(format!(
                "{} name server(s) agree on serial {serial}",
                self.servers.len()
            ))),
            Some(_) => findings.push(unproven(
                Unproven::Serials,
                format!("the name servers have different serials: {:?}", Vec::from_iter(serials)),
                "Wait until all have the same, or find out why one lags. Some providers have no common serial: each server counts for itself.",
            )),
        }
        findings
    }

    /// Other records of the name, from a name server: not every provider lists them.
    async fn siblings(&self, server: &NameServer, record: &Record) -> Vec<Finding> {
        let key = &record.key;
        let found = query::siblings(server, &key.name, &self.config.settings.query).await;
        let is_moved = |rtype: &str| {
            let mut records = self.config.target.records().iter();
            records.any(|other| other.key.name == key.name && other.key.rtype.as_str() == rtype)
        };
        let observed = self.observed.record(key);
        let is_reported = |rtype: &str| {
            observed.is_some_and(|observed| observed.siblings.iter().any(|sibling| sibling.rtype == rtype))
        };
        // The target of a CNAME answers with addresses.
        let is_of_cname = |rtype: &str| key.rtype == RecordType::Cname && rtype != "HTTPS";
        let found = found.unwrap_or_default().into_iter().filter(|sibling| {
            let rtype = &sibling.rtype;
            !is_moved(rtype) && !is_reported(rtype) && !is_of_cname(rtype)
        });
        found.map(|sibling| not_moved(key, &sibling)).collect()
    }

    /// Rehearses the rollback by a write that changes nothing: the only write before a cutover begins.
    pub async fn rehearsal(&self) -> Finding {
        let unchanged = Desired {
            form: RecordForm::AsFound,
            ttl: Ttl::AsFound,
            marker: self.observed.marker.clone(),
            precondition: Precondition::Overwrite,
        };
        let written = match self.provider.plan(&self.config.target, self.observed, &unchanged) {
            Ok(change) => self.provider.apply(&change).await,
            Err(error) => Err(error),
        };
        let Err(error) = written else {
            return Finding::ok(
                "the provider accepted a write that changes nothing: a rollback can be written",
            );
        };
        let message = format!(
            "the provider did not accept a write that changes nothing, so no rollback could be written: {error}"
        );
        let error = Error::from(error);
        Finding::blocker(message, error.remedy_text().unwrap_or("Correct [provider] in cutover.toml."))
    }

    /// Hooks and receivers of notifications.
    fn calls(&self) -> Vec<Finding> {
        let settings = &self.config.settings;
        let hooks = settings.hooks.named().map(|(name, call)| (name, call.check_target()));
        let receivers = settings.notify.iter().map(|receiver| ("[[notify]]", receiver.call().check_target()));
        let failures = hooks.chain(receivers).filter_map(|(name, result)| Some((name, result.err()?)));
        failures
            .map(|(name, error)| {
                let remedy = error.remedy_text().unwrap_or("Correct it in cutover.toml.");
                Finding::blocker(format!("{name}: {}", error.one_line()), remedy)
            })
            .collect()
    }

    async fn metrics(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let unwatched =
            self.config.steps.iter().filter(|step| step.bake.is_zero() && step.share > Share::BLUE);
        let unwatched: Vec<String> = unwatched.map(|step| step.share.to_string()).collect();
        if !unwatched.is_empty() {
            findings.push(Finding::warning(
                format!(
                    "bake is zero at {}: the next step begins as soon as each gate has passed once",
                    unwatched.join(", ")
                ),
                "Set bake in [[step]] to a time in which errors can show.",
            ));
        }
        if self.config.gates.is_empty() {
            findings.push(unproven(
                Unproven::Gates,
                "there are no gates: only time and the name servers decide",
                "Add [[gate]] tables to cutover.toml, such as kind = \"kong-errors\".",
            ));
        }
        match self.health.prometheus() {
            Some((prometheus, metrics)) => {
                // With an Admin API the node itself reports what it exports.
                let has_admin = !self.config.settings.preflight.green_admin.is_empty();
                findings.extend(series(metrics, prometheus, has_admin).await);
            }
            None => findings.push(unproven(
                Unproven::Metrics,
                "no Prometheus: there are no metrics of either side, and kongferry cannot tell when traffic on blue or green stops",
                "Add [prometheus] to cutover.toml, or watch open connections by other means.",
            )),
        }
        for (index, gate) in self.config.gates.iter().enumerate() {
            if matches!(gate.check, GateCheck::Prometheus(_)) {
                continue;
            }
            let measured = self.health.check(index, Share::BLUE, None).await;
            let (name, line) = (&gate.name, measured.line());
            findings.push(match measured.verdict {
                GateVerdict::Pass => Finding::ok(format!("gate {name}: {line}")),
                GateVerdict::Fail => Finding::blocker(
                    format!("gate {name} fails before the cutover: {line}"),
                    "Repair green, or correct the gate in cutover.toml.",
                ),
                GateVerdict::Inconclusive => Finding::blocker(
                    format!("gate {name} is inconclusive: {line}"),
                    "Correct the gate in cutover.toml.",
                ),
            });
        }
        findings
    }
}

const ALL_MUST_ANSWER: &str = "Repair the server: every authoritative one must answer. Or list those that answer in [query] name_servers.";

fn not_moved(key: &RecordKey, sibling: &SiblingRecord) -> Finding {
    let SiblingRecord { rtype, text, .. } = sibling;
    Finding::warning(
        format!(
            "{key}: {rtype} ({text}) has the same name and is not moved: clients that use it stay on blue"
        ),
        "Add it as another [[record]], or delete it and wait for its TTL.",
    )
}

/// Whether both sides are scraped, and whether green exports what gates need.
async fn series(metrics: &PrometheusConfig, prometheus: &Prometheus, has_admin: bool) -> Vec<Finding> {
    if let Err(error) = prometheus.number("vector(1)").await {
        return vec![Finding::blocker(
            error.one_line(),
            "Correct [prometheus] in cutover.toml, or start Prometheus.",
        )];
    }
    let mut findings = vec![Finding::ok("Prometheus answers")];
    findings.push(match prometheus.number(&metrics.blue_rate()).await {
        Ok(rate) if rate > 0.0 => Finding::ok(format!("blue receives {rate:.1} requests/s")),
        Ok(_) => unproven(
            Unproven::Metrics,
            "blue receives no requests at present: gates that compare with blue are inconclusive",
            "Start while there is traffic, or correct the labels in [prometheus] blue = '…'.",
        ),
        Err(error) => Finding::blocker(
            format!("Prometheus has no requests of blue: {}", error.one_line()),
            "Enable Kong's prometheus plugin on blue, scrape blue, and set its labels in [prometheus] blue = '…'.",
        ),
    });
    let series = format!("count({{__name__=~\"kong_.+\",{}}})", metrics.green);
    findings.push(match prometheus.number(&series).await {
        Ok(_) => Finding::ok("Prometheus scrapes green"),
        Err(error) => Finding::blocker(
            format!("Prometheus has no series of green: {}", error.one_line()),
            "Enable Kong's prometheus plugin on green, scrape green, and set its labels in [prometheus] green = '…'.",
        ),
    });
    let is_unknown = metrics.kong_green == KongMajor::Three && !has_admin;
    if is_unknown && prometheus.number(&metrics.green_rate()).await.is_err() {
        findings.push(unproven(
            Unproven::Metrics,
            "green exports no requests yet: Kong 3.x exports status codes and latencies only if the plugin has status_code_metrics and latency_metrics on; without them every gate on them is inconclusive",
            "Set both to true and send one request through green, or set [preflight] green_admin.",
        ));
    }
    findings
}
