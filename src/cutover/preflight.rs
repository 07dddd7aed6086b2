//! Everything that can be known before the first change: provider, name servers, metrics, databases, green's nodes.
//!
//! Nothing here changes what clients see. One write is made, if asked for: the one that writes what is there.

#![expect(clippy::indexing_slicing, reason = "only JSON is indexed, which answers null for what it lacks")]

use serde::Deserialize;
use serde_json::Value;

use super::config::CutoverConfig;
use super::gates::config::{Check, KongLine, Metrics};
use super::gates::prometheus::Prometheus;
use super::gates::{Measure, Meters, Verdict};
use super::outside::{Databases, changed, differences};
use crate::dns::query::{self, NameServer};
use crate::dns::{
    Desired, DnsProvider, Finding, Form, Guard, Observed, RecordType, Severity, Share, Ttl, http,
};
use crate::error::Error;
use crate::mapping::schema_map::Writer;
use crate::verify::report::Report;

/// What is looked at.
pub struct Preflight<'a> {
    /// The configuration.
    pub config: &'a CutoverConfig,
    /// The provider.
    pub provider: &'a dyn DnsProvider,
    /// What it holds.
    pub seen: &'a Observed,
    /// The name servers.
    pub servers: &'a [NameServer],
    /// Gates and counters.
    pub meters: &'a Meters,
    /// Both databases, where it is said where they are.
    pub databases: Option<&'a Databases>,
    /// Whether the rollback is rehearsed by writing what is there.
    pub rehearse: bool,
}

fn ok(message: impl Into<String>) -> Finding {
    Finding { severity: Severity::Ok, message: message.into(), remedy: String::new() }
}

fn warn(message: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding { severity: Severity::Warning, message: message.into(), remedy: remedy.into() }
}

fn stop(message: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding { severity: Severity::Blocker, message: message.into(), remedy: remedy.into() }
}

fn reason(error: &Error) -> String {
    super::gates::because(error)
}

impl Preflight<'_> {
    /// Looks at everything, and tells of each thing as it comes.
    pub async fn run(&self, tell: &mut (dyn FnMut(&Finding) + Send)) -> Vec<Finding> {
        let mut all = Vec::new();
        let mut add = |found: Vec<Finding>| {
            found.iter().for_each(&mut *tell);
            all.extend(found);
        };
        add(self.provider().await);
        add(self.records());
        add(self.name_servers().await);
        if self.rehearse {
            add(vec![self.rehearsal().await]);
        }
        add(self.metrics().await);
        add(self.admin().await);
        add(Box::pin(self.databases()).await);
        all
    }

    async fn provider(&self) -> Vec<Finding> {
        match self.provider.preflight(&self.config.target).await {
            Ok(findings) => findings,
            Err(error) => vec![stop(error.to_string(), "Correct [provider] in cutover.toml.")],
        }
    }

    fn records(&self) -> Vec<Finding> {
        let ttl = self.config.settings.ttl;
        let records = self.seen.records.iter().map(|record| {
            let now = record.ttl.unwrap_or(0);
            let lower = if now > ttl {
                format!(", will be lowered to {ttl} s; resolvers may hold the old answer for {now} s")
            } else {
                String::new()
            };
            ok(format!("{}: TTL {now} s{lower}", record.key))
        });
        let neighbours = self.seen.records.iter().flat_map(|record| {
            record
                .neighbours
                .iter()
                .map(|beside| stays_behind(&record.key.to_string(), &beside.rtype, &beside.text))
        });
        records.chain(neighbours).collect()
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
            many => found.push(warn(
                format!("the name servers have different serials: {many:?}"),
                "Wait until all have the same, or find out why one lags.",
            )),
        }
        let few = query::QueryConfig { count: 20, ..settings.query.clone() };
        for record in self.config.target.records() {
            for survey in query::survey(self.servers, record, &few).await {
                if survey.judge(Share::BLUE, false, None) != query::Verdict::Good {
                    found.push(stop(
                        format!("{}: the answers are not blue's: {survey}", record.key),
                        "Make blue in cutover.toml what the name servers answer now.",
                    ));
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
        let Ok(found) = query::neighbours(server, &record.key.name, config).await else { return Vec::new() };
        let moved = |rtype: &str| {
            self.config
                .target
                .records()
                .iter()
                .any(|other| other.key.name == record.key.name && other.key.rtype.as_str() == rtype)
        };
        let known = self.seen.record(&record.key).map(|seen| seen.neighbours.as_slice()).unwrap_or_default();
        let new =
            found.iter().filter(|one| !moved(&one.rtype) && !known.iter().any(|k| k.rtype == one.rtype));
        // An alias of a CNAME answers with addresses too.
        let of_cname = |rtype: &str| record.key.rtype == RecordType::Cname && rtype != "HTTPS";
        new.filter(|one| !of_cname(&one.rtype))
            .map(|one| stays_behind(&record.key.to_string(), &one.rtype, &one.text))
            .collect()
    }

    async fn rehearsal(&self) -> Finding {
        let same = Desired {
            form: Form::AsFound,
            ttl: Ttl::AsFound,
            marker: self.seen.marker.clone(),
            guard: Guard::Overwrite,
        };
        let written = match self.provider.plan(&self.config.target, self.seen, &same) {
            Ok(change) => self.provider.apply(&change).await,
            Err(error) => Err(error),
        };
        match written {
            Ok(_) => ok("the provider took a write that changes nothing: a rollback can be written"),
            Err(error) => stop(
                format!("the provider did not take a write that changes nothing: {error}"),
                "What cannot be written now could not be rolled back either.",
            ),
        }
    }

    async fn metrics(&self) -> Vec<Finding> {
        let mut found = Vec::new();
        if self.config.gates.is_empty() {
            found.push(warn(
                "there are no gates: only time and the name servers decide",
                "Add [[gate]] tables to cutover.toml, such as kind = \"kong-errors\".",
            ));
        }
        match (&self.config.settings.prometheus, self.meters.prometheus()) {
            (Some(metrics), Some(prometheus)) => found.extend(series(metrics, prometheus).await),
            _ => found.push(warn(
                "no Prometheus: nobody sees when blue and green fall still",
                "Add [prometheus] to cutover.toml, or watch open connections by other means.",
            )),
        }
        for (at, gate) in self.config.gates.iter().enumerate() {
            if matches!(gate.check, Check::Prometheus(_)) {
                continue;
            }
            let measured = self.meters.gate(at, Share::BLUE, None).await;
            found.push(match measured.verdict {
                Verdict::Pass => ok(format!("gate {}: {}", gate.name, measured.line())),
                Verdict::Fail => stop(
                    format!("gate {} fails already: {}", gate.name, measured.line()),
                    "Mend green first, or the gate.",
                ),
                Verdict::Inconclusive => stop(
                    format!("gate {} cannot be judged: {}", gate.name, measured.line()),
                    "Mend the gate.",
                ),
            });
        }
        found
    }

    async fn databases(&self) -> Vec<Finding> {
        let Some(databases) = self.databases else {
            return vec![warn(
                "blue and green were not compared: it is not said where their databases are",
                "Give --blue and --green (or kongferry.toml), or see to it that \"kongferry verify\" was clean just now; drift before a step is not noticed either.",
            )];
        };
        let wanted = &self.config.settings.preflight;
        let mut found = if wanted.verify {
            match Box::pin(databases.compare()).await {
                Ok(report) => self.judge(&report),
                Err(error) => return vec![not_comparable(&error)],
            }
        } else {
            vec![warn(
                "blue and green were not compared: preflight.verify is false",
                "Run \"kongferry verify\".",
            )]
        };
        found.push(if wanted.drift {
            drift(databases).await
        } else {
            warn(
                "what people change on either side is not noticed: preflight.drift is false",
                "Run \"kongferry verify --since-run\" before each step.",
            )
        });
        found
    }

    fn judge(&self, report: &Report) -> Vec<Finding> {
        let mut found = Vec::new();
        if report.clean {
            found.push(ok(format!("verify: {} rows of blue read alike on green", report.summary.equal)));
        } else {
            found.push(stop(
                format!("verify: blue and green differ: {}", differences(report)),
                "Run \"kongferry migrate\" again, then \"kongferry verify --findings findings.jsonl\".",
            ));
        }
        match &report.run {
            Some(run) => found.push(warn(
                format!("Kong's nodes on green must have been restarted since run {run}; that cannot be seen from here"),
                "Restart every Kong node on green, unless that has been done.",
            )),
            None => found.push(warn("green's journal knows no applied run", "Nothing proves that kongferry filled it.")),
        }
        found.extend(self.traffic_tables(report));
        found
    }

    fn traffic_tables(&self, report: &Report) -> Vec<Finding> {
        let known = &self.config.settings.preflight.acknowledge;
        let written = report
            .tables
            .iter()
            .filter(|table| table.writer == Writer::Traffic && table.counts.source + table.counts.extra > 0);
        let open: Vec<&str> =
            written.map(|table| table.table.as_str()).filter(|table| !known.contains(*table)).collect();
        if open.is_empty() {
            return Vec::new();
        }
        vec![stop(
            format!(
                "the data plane writes {} while traffic is split: a token or session made on one side is unknown on the other (401 until the client asks for a new one), quotas count on each side for itself, and after a rollback what was made on green is gone",
                open.join(", ")
            ),
            format!("Read it, tell the owners of the APIs, and add to [preflight]: acknowledge = {open:?}"),
        )]
    }

    async fn admin(&self) -> Vec<Finding> {
        let Some(base) = &self.config.settings.preflight.green_admin else {
            return vec![warn(
                "green's nodes were not asked: green_admin is not set",
                "Set [preflight] green_admin = \"http://…:8001\" to have plugins, database and data planes checked.",
            )];
        };
        let token = self.config.settings.preflight.green_admin_token_env.as_ref();
        let admin = match Admin::new(base, token) {
            Ok(admin) => admin,
            Err(error) => return vec![stop(reason(&error), "Correct [preflight].")],
        };
        let mut found = Vec::new();
        match admin.get("/").await {
            Ok(root) => found.extend(plugins(&root)),
            Err(why) => {
                return vec![stop(
                    format!("green's Admin API: {why}"),
                    "Correct green_admin, or start green.",
                )];
            }
        }
        found.push(match admin.get("/status").await {
            Ok(status) if status["database"]["reachable"] == Value::Bool(true) => {
                ok("green reaches its database")
            }
            Ok(_) => stop("green does not reach its database", "Look at Kong's log on green."),
            Err(why) => stop(format!("green's status: {why}"), "Look at Kong's log on green."),
        });
        found.extend(admin.data_planes().await);
        if self.config.gates.iter().any(|gate| matches!(gate.check, Check::Prometheus(_))) {
            found.extend(admin.exports(self.config.settings.prometheus.as_ref()).await);
        }
        found
    }
}

fn not_comparable(error: &Error) -> Finding {
    stop(
        format!("blue and green cannot be compared: {}", reason(error)),
        error.remedy_text().unwrap_or("Mend the connection first.").to_owned(),
    )
}

/// Whether people changed anything since the last run, on blue or on green.
async fn drift(databases: &Databases) -> Finding {
    match Box::pin(databases.drift()).await {
        Ok(drift) if drift.clean => ok("nobody has changed blue or green since the last run"),
        Ok(drift) => stop(
            changed(&drift),
            "Freeze the Admin APIs of both, look at \"kongferry verify --since-run\", and run \"kongferry migrate\" again.",
        ),
        Err(error) => stop(
            format!("it cannot be seen what changed since the last run: {}", reason(&error)),
            error.remedy_text().unwrap_or("Mend the connection first.").to_owned(),
        ),
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
async fn series(metrics: &Metrics, prometheus: &Prometheus) -> Vec<Finding> {
    if let Err(error) = prometheus.number("vector(1)").await {
        return vec![stop(reason(&error), "Correct [prometheus], or start it.")];
    }
    let mut found = vec![ok("Prometheus answers")];
    match prometheus.number(&metrics.blue_rate()).await {
        Ok(rate) => found.push(ok(format!("blue has {rate:.1} requests/s"))),
        Err(error) => found.push(stop(
            format!("Prometheus has no requests of blue: {}", reason(&error)),
            "Is Kong's prometheus plugin on, is blue scraped, and does [prometheus] blue = '…' name its labels?",
        )),
    }
    let up = format!("count({{__name__=~\"kong_.+\",{}}})", metrics.green);
    match prometheus.number(&up).await {
        Ok(_) => found.push(ok("green is scraped")),
        Err(error) => found.push(stop(
            format!("Prometheus has nothing of green: {}", reason(&error)),
            "Is Kong's prometheus plugin on, is green scraped, and does [prometheus] green = '…' name its labels?",
        )),
    }
    if prometheus.number(&metrics.green_rate()).await.is_err() && metrics.kong_green == KongLine::Three {
        found.push(warn(
            "green exports no requests yet, and Kong 3.x exports status codes and latencies only where the plugin has status_code_metrics and latency_metrics on",
            "Switch them on and send one request through green; without them every gate on them stays inconclusive.",
        ));
    }
    found
}

fn plugins(root: &Value) -> Vec<Finding> {
    let version = root["version"].as_str().unwrap_or("?");
    let available = &root["plugins"]["available_on_server"];
    let is_there = |name: &str| match available {
        Value::Object(map) => map.get(name).is_some_and(|value| *value != Value::Bool(false)),
        Value::Array(list) => list.iter().any(|one| one == name),
        _ => false,
    };
    let used =
        root["plugins"]["enabled_in_cluster"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let missing: Vec<&str> = used.filter(|name| !is_there(name)).collect();
    if missing.is_empty() {
        return vec![ok(format!("Kong {version} on green has loaded every plugin that is in use"))];
    }
    vec![stop(
        format!("Kong on green has not loaded plugins that are in use: {}", missing.join(", ")),
        "Add them to plugins in kong.conf on green, and restart.",
    )]
}

/// Kong's Admin API on green.
struct Admin {
    client: reqwest::Client,
    base: String,
    token: Option<secrecy::SecretString>,
}

#[derive(Deserialize)]
struct DataPlanes {
    #[serde(default)]
    data: Vec<DataPlane>,
}

#[derive(Deserialize)]
struct DataPlane {
    hostname: Option<String>,
    config_hash: Option<String>,
    sync_status: Option<String>,
}

impl Admin {
    fn new(base: &str, token_env: Option<&String>) -> crate::error::Result<Admin> {
        let token = match token_env {
            Some(name) => Some(std::env::var(name).map(secrecy::SecretString::from).map_err(|_| {
                Error::usage(format!("the variable {name} with green's admin token is not set"))
            })?),
            None => None,
        };
        let client = http::client(None, http::TIMEOUT)?;
        Ok(Admin { client, base: base.trim_end_matches('/').to_owned(), token })
    }

    async fn get(&self, path: &str) -> std::result::Result<Value, String> {
        use secrecy::ExposeSecret;
        let mut request = self.client.get(format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.header("Kong-Admin-Token", token.expose_secret());
        }
        let answer = request.send().await.map_err(|e| format!("no answer to {path}: {}", e.without_url()))?;
        match answer.status() {
            status if status.is_success() => answer.json().await.map_err(|_| format!("{path} is no JSON")),
            status => Err(format!("{path} answers HTTP {status}")),
        }
    }

    /// Every data plane with the newest configuration; a node without data planes has no such path.
    async fn data_planes(&self) -> Vec<Finding> {
        let Ok(answer) = self.get("/clustering/data-planes").await else { return Vec::new() };
        let planes: DataPlanes = serde_json::from_value(answer).unwrap_or(DataPlanes { data: Vec::new() });
        let hashes: std::collections::BTreeSet<&str> =
            planes.data.iter().filter_map(|plane| plane.config_hash.as_deref()).collect();
        let unsynced: Vec<&str> = planes
            .data
            .iter()
            .filter(|plane| plane.sync_status.as_deref().is_some_and(|status| status != "normal"))
            .filter_map(|plane| plane.hostname.as_deref())
            .collect();
        match (planes.data.len(), hashes.len(), unsynced.is_empty()) {
            (0, ..) => Vec::new(),
            (many, 1, true) => vec![ok(format!("{many} data plane(s) have the same configuration"))],
            (_, _, false) => {
                vec![stop(
                    format!("data planes are not in sync: {}", unsynced.join(", ")),
                    "Look at their logs.",
                )]
            }
            (_, hashes, true) => vec![stop(
                format!("the data planes have {hashes} different configurations"),
                "Wait until all have the same config_hash, or look at their logs.",
            )],
        }
    }

    /// Whether Kong 3.x exports what the gates ask for.
    async fn exports(&self, metrics: Option<&Metrics>) -> Vec<Finding> {
        if metrics.is_none_or(|metrics| metrics.kong_green == KongLine::Two) {
            return Vec::new();
        }
        let Ok(answer) = self.get("/plugins?size=1000").await else { return Vec::new() };
        let plugins = answer["data"].as_array().into_iter().flatten();
        let prometheus: Vec<&Value> =
            plugins.filter(|plugin| plugin["name"] == "prometheus" && plugin["enabled"] != false).collect();
        if prometheus.is_empty() {
            return vec![stop(
                "the prometheus plugin is not on on green",
                "Enable it, with status_code_metrics and latency_metrics.",
            )];
        }
        let off: Vec<&str> = ["status_code_metrics", "latency_metrics"]
            .into_iter()
            .filter(|key| !prometheus.iter().any(|plugin| plugin["config"][*key] == true))
            .collect();
        if off.is_empty() {
            return vec![ok("the prometheus plugin on green exports status codes and latencies")];
        }
        vec![stop(
            format!(
                "the prometheus plugin on green has {} off: gates on them would have no data",
                off.join(" and ")
            ),
            "Set them to true on green (Kong 2.8 on blue exports them always).",
        )]
    }
}
