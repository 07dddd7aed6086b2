//! Preflight of Kong's nodes on green through their Admin API: plugins, database, data planes, and whether they list
//! the migrated rows. A missing answer is a blocker.

#![expect(clippy::indexing_slicing, reason = "only JSON is indexed, which answers null for what it lacks")]

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::StatusCode;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;

use super::databases::failed;
use super::{Preflight, unproven};
use crate::cutover::config::Unproven;
use crate::cutover::databases::{Databases, GreenRuns};
use crate::cutover::gates::metrics::{KongMajor, PrometheusConfig};
use crate::error::{Error, Result};
use crate::finding::Finding;
use crate::http;

/// How long ago a data plane may have reported last; it reports every 30 s.
const SILENT_AFTER: TimeDelta = TimeDelta::minutes(3);

/// The `config_hash` of a data plane that never got a configuration.
const NO_CONFIGURATION: &str = "00000000000000000000000000000000";

const READ_LOG: &str = "Read Kong's log on green.";

impl Preflight<'_> {
    pub(super) async fn nodes(&self) -> Vec<Finding> {
        let settings = &self.config.settings.preflight;
        if settings.green_admin.is_empty() {
            return vec![unproven(
                Unproven::Nodes,
                "the plugins, database and data planes of green's nodes were not checked, nor whether the nodes were restarted since the last run: green_admin is not set",
                "Set [preflight] green_admin = \"http://…:8001\", or the list of all nodes.",
            )];
        }
        let (mut findings, mut all_list) = (Vec::new(), true);
        for base in &settings.green_admin {
            let lists = match AdminClient::new(base, settings.green_admin_token_env.as_ref()) {
                Ok(admin) => self.node(&admin, &mut findings).await,
                Err(error) => {
                    let remedy = error.remedy_text().unwrap_or("Correct [preflight] in cutover.toml.");
                    findings.push(Finding::blocker(error.one_line(), remedy));
                    false
                }
            };
            all_list &= lists;
        }
        findings.push(self.restart(all_list).await);
        findings
    }

    /// A node does not report when it was started, and its `node_id` proves nothing: 3.2 and later keep it, and another
    /// node may answer at the same address. But the first run replaces the default workspace, and a node that was not
    /// restarted since then lists nothing. If that run is the only one that wrote, it is also the last one.
    async fn restart(&self, all_list: bool) -> Finding {
        let reason = match self.databases {
            None => "the databases are not configured".to_owned(),
            Some(databases) => match databases.green_runs().await {
                Err(error) => error.one_line(),
                Ok(GreenRuns { count: 0, .. }) => {
                    "the journal on green has no run that wrote Kong's tables".to_owned()
                }
                Ok(GreenRuns { count: 1, last_ended }) if all_list => {
                    return Finding::ok(format!(
                        "every node in green_admin was restarted since the only run that wrote green's tables ({last_ended})"
                    ));
                }
                Ok(GreenRuns { count: 1, .. }) => "not every node lists the migrated rows".to_owned(),
                Ok(GreenRuns { count, last_ended }) => format!(
                    "{count} runs wrote green's tables, the last one at {last_ended}, and only a restart since the first can be observed"
                ),
            },
        };
        unproven(
            Unproven::Restart,
            format!("cannot verify that Kong's nodes on green were restarted since the last run: {reason}"),
            "Restart every Kong node on green, control planes too, unless that has been done.",
        )
    }

    /// Adds the findings of a node; returns whether it lists migrated rows.
    async fn node(&self, admin: &AdminClient, findings: &mut Vec<Finding>) -> bool {
        match admin.get("/").await {
            Ok(root) => findings.push(plugins(&admin.base, &root)),
            Err(error) => {
                let message = format!("green's Admin API {}: {}", admin.base, error.text());
                let remedy = "Correct green_admin in cutover.toml, or start Kong on green.";
                findings.push(Finding::blocker(message, remedy));
                return false;
            }
        }
        findings.push(match admin.get("/status").await {
            Ok(status) if status["database"]["reachable"] == Value::Bool(true) => {
                Finding::ok("green reaches its database")
            }
            Ok(_) => Finding::blocker("green does not reach its database", READ_LOG),
            Err(error) => Finding::blocker(format!("green's status: {}", error.text()), READ_LOG),
        });
        findings.extend(admin.data_planes(Utc::now()).await);
        findings.extend(admin.exports(self.config.settings.prometheus.as_ref()).await);
        let Some(databases) = self.databases else { return false };
        let (finding, lists) = admin.lists_migrated_rows(databases).await;
        findings.push(finding);
        lists
    }
}

fn plugins(base: &str, root: &Value) -> Finding {
    let version = root["version"].as_str().unwrap_or("?");
    let available = &root["plugins"]["available_on_server"];
    let is_available = |name: &str| match available {
        Value::Object(plugins) => plugins.get(name).is_some_and(|value| *value != Value::Bool(false)),
        Value::Array(plugins) => plugins.iter().any(|plugin| plugin == name),
        _ => false,
    };
    let Some(used) = root["plugins"]["enabled_in_cluster"].as_array() else {
        return Finding::blocker(
            format!("{base} does not list the plugins in use: it is not Kong's Admin API"),
            "Set green_admin in cutover.toml to Kong's Admin API, usually at port 8001.",
        );
    };
    let used = used.iter().filter_map(Value::as_str);
    let missing: Vec<&str> = used.filter(|name| !is_available(name)).collect();
    if missing.is_empty() {
        return Finding::ok(format!("Kong {version} on green has loaded every plugin that is in use"));
    }
    Finding::blocker(
        format!("Kong on green has not loaded plugins that are in use: {}", missing.join(", ")),
        "Add them to plugins in kong.conf on green, and restart Kong.",
    )
}

struct AdminClient {
    client: reqwest::Client,
    base: String,
    token: Option<SecretString>,
}

enum AdminFailure {
    Status(String, StatusCode),
    /// No answer, or an unreadable one.
    Other(String),
}

impl AdminFailure {
    fn text(&self) -> String {
        match self {
            AdminFailure::Status(path, status) => format!("{path} answers HTTP {status}"),
            AdminFailure::Other(text) => text.clone(),
        }
    }
}

#[derive(Deserialize)]
struct DataPlanes {
    data: Vec<DataPlane>,
}

#[derive(Deserialize)]
struct DataPlane {
    hostname: Option<String>,
    ip: Option<String>,
    config_hash: Option<String>,
    sync_status: Option<String>,
    last_seen: Option<i64>,
}

impl DataPlane {
    fn name(&self) -> &str {
        self.hostname.as_deref().or(self.ip.as_deref()).unwrap_or("?")
    }

    /// Why its configuration is not usable.
    fn fault(&self) -> Option<String> {
        match (self.sync_status.as_deref(), self.config_hash.as_deref()) {
            (Some(status), _) if status != "normal" => Some(format!("{} ({status})", self.name())),
            (_, None | Some(NO_CONFIGURATION)) => Some(format!("{} (has no configuration)", self.name())),
            _ => None,
        }
    }

    fn is_silent(&self, now: DateTime<Utc>) -> bool {
        let last_seen = self.last_seen.and_then(|at| DateTime::from_timestamp(at, 0));
        last_seen.is_some_and(|last_seen| now - last_seen > SILENT_AFTER)
    }
}

impl AdminClient {
    fn new(base: &str, token_env: Option<&String>) -> Result<AdminClient> {
        let token = match token_env {
            Some(name) => Some(std::env::var(name).map(SecretString::from).map_err(|_| {
                Error::usage(format!("the variable {name} with green's admin token is not set"))
                    .remedy(format!("Export {name}, or remove green_admin_token_env from cutover.toml."))
            })?),
            None => None,
        };
        let client = http::client(None, http::TIMEOUT)?;
        Ok(AdminClient { client, base: base.trim_end_matches('/').to_owned(), token })
    }

    async fn get(&self, path: &str) -> std::result::Result<Value, AdminFailure> {
        let mut request = self.client.get(format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.header("Kong-Admin-Token", token.expose_secret());
        }
        let silent =
            |e: reqwest::Error| AdminFailure::Other(format!("no answer to {path}: {}", e.without_url()));
        let answer = request.send().await.map_err(silent)?;
        match answer.status() {
            status if status.is_success() => answer
                .json()
                .await
                .map_err(|_| AdminFailure::Other(format!("the answer to {path} is not JSON"))),
            status => Err(AdminFailure::Status(path.to_owned(), status)),
        }
    }

    /// A node that is no control plane answers 400, an old one 404.
    async fn data_planes(&self, now: DateTime<Utc>) -> Vec<Finding> {
        let answer = match self.get("/clustering/data-planes?size=1000").await {
            Ok(answer) => answer,
            Err(AdminFailure::Status(_, StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND)) => {
                return Vec::new();
            }
            Err(error) => {
                return vec![Finding::blocker(format!("green's data planes: {}", error.text()), READ_LOG)];
            }
        };
        match serde_json::from_value::<DataPlanes>(answer) {
            Ok(planes) => in_sync(&planes.data, now),
            Err(error) => vec![Finding::blocker(
                format!("green's data planes: the answer is not that of Kong's Admin API ({error})"),
                "Set green_admin in cutover.toml to Kong's Admin API, usually at port 8001.",
            )],
        }
    }

    /// A node that was not restarted since the first run reads a workspace that no longer exists.
    async fn lists_migrated_rows(&self, databases: &dyn Databases) -> (Finding, bool) {
        let collections = match databases.listed_collections().await {
            Ok(collections) => collections,
            Err(error) => return (failed("cannot read what green's nodes should list", &error), false),
        };
        let Some(collection) = collections.first() else {
            let text = "green's default workspace is empty: its nodes have nothing to list";
            return (Finding::ok(text), false);
        };
        let base = &self.base;
        match self.get(&format!("/{collection}?size=1")).await {
            Ok(answer) if answer["data"].as_array().is_some_and(|rows| !rows.is_empty()) => {
                (Finding::ok(format!("{base} lists migrated rows")), true)
            }
            Ok(_) => (
                Finding::blocker(
                    format!(
                        "{base} lists no {collection}, but green's database has some: the node was not restarted since the run and reads a workspace that no longer exists"
                    ),
                    "Restart every Kong node on green, control planes too.",
                ),
                false,
            ),
            Err(error) => {
                (Finding::blocker(format!("green's Admin API {base}: {}", error.text()), READ_LOG), false)
            }
        }
    }

    /// Whether Kong 3.x exports the metrics of the gates.
    async fn exports(&self, metrics: Option<&PrometheusConfig>) -> Option<Finding> {
        if metrics?.kong_green == KongMajor::Two {
            return None;
        }
        let answer = match self.get("/plugins?size=1000").await {
            Ok(answer) => answer,
            Err(error) => {
                return Some(Finding::blocker(format!("green's plugins: {}", error.text()), READ_LOG));
            }
        };
        let plugins = answer["data"].as_array().into_iter().flatten();
        let prometheus: Vec<&Value> =
            plugins.filter(|plugin| plugin["name"] == "prometheus" && plugin["enabled"] != false).collect();
        if prometheus.is_empty() {
            return Some(Finding::blocker(
                "the prometheus plugin is not enabled on green",
                "Enable it, with status_code_metrics and latency_metrics.",
            ));
        }
        let off: Vec<&str> = ["status_code_metrics", "latency_metrics"]
            .into_iter()
            .filter(|key| !prometheus.iter().any(|plugin| plugin["config"][*key] == true))
            .collect();
        if off.is_empty() {
            return Some(Finding::ok("the prometheus plugin on green exports status codes and latencies"));
        }
        let off = off.join(" and ");
        Some(Finding::blocker(
            format!("the prometheus plugin on green has {off} off: gates on them would have no data"),
            format!("Set {off} to true in the plugin on green. Kong 2.8 on blue always exports both."),
        ))
    }
}

/// Data planes that reported lately must have the same, usable configuration.
fn in_sync(planes: &[DataPlane], now: DateTime<Utc>) -> Vec<Finding> {
    let (silent, reporting): (Vec<&DataPlane>, Vec<&DataPlane>) =
        planes.iter().partition(|plane| plane.is_silent(now));
    let mut findings = Vec::new();
    if !silent.is_empty() {
        let names: Vec<&str> = silent.iter().map(|plane| plane.name()).collect();
        findings.push(Finding::warning(
            format!("data planes that have not reported for minutes: {}", names.join(", ")),
            "Check that they were shut down: Kong lists them for two weeks. One that runs without a connection serves its last configuration.",
        ));
    }
    if reporting.is_empty() {
        return findings;
    }
    let faults: Vec<String> = reporting.iter().filter_map(|plane| plane.fault()).collect();
    let hashes: BTreeSet<&str> = reporting.iter().filter_map(|plane| plane.config_hash.as_deref()).collect();
    findings.push(match (faults.is_empty(), hashes.len()) {
        (false, _) => Finding::blocker(
            format!("data planes are not in sync: {}", faults.join(", ")),
            "Read their logs.",
        ),
        (true, 0 | 1) => {
            Finding::ok(format!("{} data plane(s) have the same configuration", reporting.len()))
        }
        (true, count) => Finding::blocker(
            format!("the data planes have {count} different configurations"),
            "Wait until all have the same config_hash, or read their logs.",
        ),
    });
    findings
}
