//! The checks before the first change: provider, name servers, metrics, databases, green's nodes.
//!
//! Nothing here changes what clients see. What cannot be proven is reported, and an operator or `cutover.toml` accepts
//! it, never a default.

mod admin;
mod databases;

use super::config::{CutoverConfig, Unproven};
use super::databases::Databases;
use super::environment::HealthChecks;
use super::gates::config::GateCheck;
use super::gates::measurement::GateVerdict;
use super::gates::metrics::{KongMajor, PrometheusConfig};
use super::gates::prometheus::Prometheus;
use super::gates::runner::GateRunner;
use crate::dns::query::{self, NameServer};
use crate::dns::{Desired, DnsProvider, Observed, Precondition, RecordForm, RecordType, Share, Ttl};
use crate::error::Error;
use crate::finding::{Finding, Severity};

pub struct Preflight<'a> {
    pub config: &'a CutoverConfig,
    pub provider: &'a dyn DnsProvider,
    pub observed: &'a Observed,
    pub servers: &'a [NameServer],
    pub health: &'a GateRunner,
    /// Both databases, where it is said where they are.
    pub databases: Option<&'a dyn Databases>,
}

/// The findings that are not accepted yet.
pub fn unproven_findings(findings: &[Finding]) -> Vec<&Finding> {
    findings.iter().filter(|finding| finding.severity == Severity::Unproven).collect()
}

/// What is not proven, as the line of `cutover.toml` that takes all of it on trust.
pub fn as_line(open: &[&Finding]) -> String {
    let words: std::collections::BTreeSet<&str> =
        open.iter().filter_map(|finding| finding.unproven).collect();
    let quoted: Vec<String> = words.into_iter().map(|word| format!("\"{word}\"")).collect();
    format!("unproven = [{}]", quoted.join(", "))
}

fn ok(message: impl Into<String>) -> Finding {
    Finding::ok(message)
}

fn warn(message: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding::warning(message, remedy)
}

fn unproven(what: Unproven, message: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding::unproven(what.as_str(), message, remedy)
}

fn stop(message: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding::blocker(message, remedy)
}

impl Preflight<'_> {
    /// Runs all checks without changing anything, and passes each finding on as it comes.
    pub async fn run(&self, tell: &mut (dyn FnMut(&Finding) + Send)) -> Vec<Finding> {
        let mut all = Vec::new();
        let mut add = |found: Vec<Finding>| {
            let found: Vec<Finding> = found.into_iter().map(|one| self.on_trust(one)).collect();
            found.iter().for_each(&mut *tell);
            all.extend(found);
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

    /// What `cutover.toml` takes on trust is worth a note, not a question.
    fn on_trust(&self, mut finding: Finding) -> Finding {
        let trusted = &self.config.settings.preflight.unproven;
        if trusted.iter().any(|what| finding.unproven == Some(what.as_str())) {
            finding.severity = Severity::Warning;
            finding.message.push_str(" (accepted by preflight.unproven)");
            finding.remedy = String::new();
        }
        finding
    }

    async fn provider(&self) -> Vec<Finding> {
        match self.provider.preflight(&self.config.target).await {
            Ok(findings) => findings,
            Err(error) => vec![stop(error.to_string(), "Correct [provider] in cutover.toml.")],
        }
    }

    fn records(&self) -> Vec<Finding> {
        let wanted = self.config.settings.ttl.max(self.provider.capabilities().min_ttl);
        let longest = self.observed.max_ttl();
        let ttl = if longest == 0 { wanted } else { wanted.min(longest) };
        let records = self.observed.records.iter().map(|record| {
            let now = record.ttl.unwrap_or(0);
            let becomes = match now.cmp(&ttl) {
                std::cmp::Ordering::Greater => {
                    format!(", will be lowered to {ttl} s; resolvers may hold the old answer for {now} s")
                }
                std::cmp::Ordering::Less => {
                    format!(", will be {ttl} s as all records while the cutover lasts")
                }
                std::cmp::Ordering::Equal => String::new(),
            };
            ok(format!("{}: TTL {now} s{becomes}", record.key))
        });
        let siblings = self.observed.records.iter().flat_map(|record| {
            record
                .siblings
                .iter()
                .map(|beside| stays_behind(&record.key.to_string(), &beside.rtype, &beside.text))
        });
        records.chain(siblings).collect()
    }

    async fn name_servers(&self) -> Vec<Finding> {
        let settings = &self.config.settings;
        let mut found = Vec::new();
        let serials = query::serials(self.servers, self.config.target.zone(), &settings.query).await;
        let mut known: Vec<u32> = Vec::new();
        for (server, serial) in &serials {
            match serial {
                Ok(serial) => known.push(*serial),
                Err(why) => found.push(stop(
                    format!("{server} cannot be asked: {why}"),
                    "Every authoritative server must answer; name the servers with [query] name_servers = [\"…\"].",
                )),
            }
        }
        known.sort_unstable();
        known.dedup();
        match known.as_slice() {
            [] => {}
            [one] => found.push(ok(format!("{} name server(s) agree on serial {one}", self.servers.len()))),
            many => found.push(unproven(
                Unproven::Serials,
                format!("the name servers have different serials: {many:?}"),
                "Wait until all have the same, or find out why one lags. Providers whose servers count each for itself have no common serial.",
            )),
        }
        if self.provider.capabilities().hidden {
            found.push(warn(
                "what name servers answer does not show the side: the share is the provider's word, until counters show it",
                "See to it that [prometheus] has both sides, and add a gate kong-share.",
            ));
        }
        let few = query::QueryConfig { count: 20, ..settings.query.clone() };
        for record in self.config.target.records() {
            for survey in query::measure(self.servers, record, &few).await {
                let hidden = self.provider.capabilities().hidden;
                match if hidden { survey.judge_without_sides() } else { survey.judge(Share::BLUE, false, None) } {
                    query::ShareVerdict::Good => {}
                    // Whoever is not there at all was named above.
                    query::ShareVerdict::TooFewAnswers if survey.unanswered == survey.queries => {}
                    query::ShareVerdict::TooFewAnswers => found.push(stop(
                        format!("{}: too few answers to say whose they are: {survey}", record.key),
                        "Every authoritative server must answer; check it, or name the servers that answer with [query] name_servers.",
                    )),
                    _ => found.push(stop(
                        format!("{}: the answers are not blue's: {survey}", record.key),
                        "Make blue in cutover.toml what the name servers answer now.",
                    )),
                }
            }
            if let Some(server) = self.servers.first() {
                found.extend(self.beside(server, record).await);
            }
        }
        found
    }

    /// What else has a moved record's name, asked of a name server: not every provider can tell.
    async fn beside(&self, server: &NameServer, record: &crate::dns::Record) -> Vec<Finding> {
        let config = &self.config.settings.query;
        let Ok(found) = query::siblings(server, &record.key.name, config).await else { return Vec::new() };
        let moved = |rtype: &str| {
            self.config
                .target
                .records()
                .iter()
                .any(|other| other.key.name == record.key.name && other.key.rtype.as_str() == rtype)
        };
        let known = self
            .observed
            .record(&record.key)
            .map(|observed| observed.siblings.as_slice())
            .unwrap_or_default();
        let new =
            found.iter().filter(|one| !moved(&one.rtype) && !known.iter().any(|k| k.rtype == one.rtype));
        // An alias of a CNAME answers with addresses too.
        let of_cname = |rtype: &str| record.key.rtype == RecordType::Cname && rtype != "HTTPS";
        new.filter(|one| !of_cname(&one.rtype))
            .map(|one| stays_behind(&record.key.to_string(), &one.rtype, &one.text))
            .collect()
    }

    /// The rollback is rehearsed by writing what is there: the only write before a cutover begins.
    pub async fn rehearsal(&self) -> Finding {
        let same = Desired {
            form: RecordForm::AsFound,
            ttl: Ttl::AsFound,
            marker: self.observed.marker.clone(),
            precondition: Precondition::Overwrite,
        };
        let written = match self.provider.plan(&self.config.target, self.observed, &same) {
            Ok(change) => self.provider.apply(&change).await,
            Err(error) => Err(error),
        };
        match written {
            Ok(_) => ok("the provider took a write that changes nothing: a rollback can be written"),
            Err(error) => {
                let what = format!("the provider did not take a write that changes nothing: {error}");
                let error = Error::from(error);
                let remedy = error.remedy_text().map(|remedy| format!("; {remedy}")).unwrap_or_default();
                stop(what, format!("What cannot be written now could not be rolled back either{remedy}."))
            }
        }
    }

    /// Hooks and receivers of notifications, which are called when it is too late to correct them.
    fn calls(&self) -> Vec<Finding> {
        let settings = &self.config.settings;
        let hooks = settings.hooks.named().map(|(name, call)| (name, call.look()));
        let told = settings.notify.iter().map(|receiver| ("[[notify]]", receiver.call().look()));
        let missing =
            hooks.chain(told).filter_map(|(name, on_provider_read)| Some((name, on_provider_read.err()?)));
        missing
            .map(|(name, error)| stop(format!("{name}: {}", error.one_line()), "Correct it in cutover.toml."))
            .collect()
    }

    async fn metrics(&self) -> Vec<Finding> {
        let mut found = Vec::new();
        let hasty = self.config.steps.iter().filter(|step| step.bake.is_zero() && step.share != Share::BLUE);
        let hasty: Vec<String> = hasty.map(|step| step.share.to_string()).collect();
        if !hasty.is_empty() {
            found.push(warn(
                format!("nothing is watched at {}: bake is zero, the next step begins as soon as each gate has passed once", hasty.join(", ")),
                "Give [[step]] a bake time in which something can show.",
            ));
        }
        if self.config.gates.is_empty() {
            found.push(unproven(
                Unproven::Gates,
                "there are no gates: only time and the name servers decide",
                "Add [[gate]] tables to cutover.toml, such as kind = \"kong-errors\".",
            ));
        }
        match (&self.config.settings.prometheus, self.health.prometheus()) {
            (Some(metrics), Some(prometheus)) => {
                // The node itself says it better.
                let asked = !self.config.settings.preflight.green_admin.is_empty();
                found.extend(series(metrics, prometheus, asked).await);
            }
            _ => found.push(unproven(
                Unproven::Metrics,
                "no Prometheus: there are no metrics of either side, and kongferry cannot tell when traffic on blue or green stops",
                "Add [prometheus] to cutover.toml, or watch open connections by other means.",
            )),
        }
        for (at, gate) in self.config.gates.iter().enumerate() {
            if matches!(gate.check, GateCheck::Prometheus(_)) {
                continue;
            }
            let measured = self.health.check_gate(at, Share::BLUE, None).await;
            found.push(match measured.verdict {
                GateVerdict::Pass => ok(format!("gate {}: {}", gate.name, measured.line())),
                GateVerdict::Fail => stop(
                    format!("gate {} fails already: {}", gate.name, measured.line()),
                    "Repair green, or correct the gate.",
                ),
                GateVerdict::Inconclusive => stop(
                    format!("gate {} cannot be judged: {}", gate.name, measured.line()),
                    "Correct the gate.",
                ),
            });
        }
        found
    }
}

fn stays_behind(key: &str, rtype: &str, text: &str) -> Finding {
    warn(
        format!(
            "{key} has {rtype} ({text}) beside it, which is not moved: clients that prefer it stay where they are"
        ),
        "Add it as another [[record]], or remove it and wait for its TTL.",
    )
}

/// Whether either side is scraped, and whether green will say anything at all.
async fn series(metrics: &PrometheusConfig, prometheus: &Prometheus, node_is_asked: bool) -> Vec<Finding> {
    if let Err(error) = prometheus.number("vector(1)").await {
        return vec![stop(error.one_line(), "Correct [prometheus], or start it.")];
    }
    let mut found = vec![ok("Prometheus answers")];
    match prometheus.number(&metrics.blue_rate()).await {
        Ok(rate) if rate > 0.0 => found.push(ok(format!("blue has {rate:.1} requests/s"))),
        Ok(_) => found.push(unproven(
            Unproven::Metrics,
            "blue has no requests just now: a gate that compares with blue has nothing to compare with",
            "Begin while there is traffic, or look whether [prometheus] blue = '…' names the right labels.",
        )),
        Err(error) => found.push(stop(
            format!("Prometheus has no requests of blue: {}", error.one_line()),
            "Is Kong's prometheus plugin on, is blue scraped, and does [prometheus] blue = '…' name its labels?",
        )),
    }
    let up = format!("count({{__name__=~\"kong_.+\",{}}})", metrics.green);
    match prometheus.number(&up).await {
        Ok(_) => found.push(ok("green is scraped")),
        Err(error) => found.push(stop(
            format!("Prometheus has nothing of green: {}", error.one_line()),
            "Is Kong's prometheus plugin on, is green scraped, and does [prometheus] green = '…' name its labels?",
        )),
    }
    let silent = metrics.kong_green == KongMajor::Three && !node_is_asked;
    if silent && prometheus.number(&metrics.green_rate()).await.is_err() {
        found.push(unproven(
            Unproven::Metrics,
            "green exports no requests yet, and Kong 3.x exports status codes and latencies only where the plugin has status_code_metrics and latency_metrics on",
            "Switch them on and send one request through green, or set [preflight] green_admin; without them every gate on them stays inconclusive.",
        ));
    }
    found
}
