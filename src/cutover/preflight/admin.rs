//! Kong's nodes on green, asked over their Admin API: plugins, database, data planes, and whether they know what was
//! migrated. An answer that does not come is never a good one.

#![expect(clippy::indexing_slicing, reason = "only JSON is indexed, which answers null for what it lacks")]

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::StatusCode;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;

use super::{Preflight, ok, stop, unproven, warn};
use crate::cutover::config::Unproven;
use crate::cutover::databases::{Databases, GreenRuns};
use crate::cutover::gates::metrics::{KongMajor, PrometheusConfig};
use crate::error::{Error, Result};
use crate::finding::Finding;
use crate::http;

/// How long a data plane may have been silent; it speaks every 30 s.
const SILENT: TimeDelta = TimeDelta::minutes(3);

/// The hash of a data plane that never got a configuration.
const NO_CONFIGURATION: &str = "00000000000000000000000000000000";

impl Preflight<'_> {
    /// Every node whose Admin API is named.
    pub(super) async fn nodes(&self) -> Vec<Finding> {
        let settings = &self.config.settings.preflight;
        if settings.green_admin.is_empty() {
            return vec![unproven(
                Unproven::Nodes,
                "green's nodes were not asked for their plugins, database and data planes, and whether they were restarted since the last run is not known: green_admin is not set",
                "Set [preflight] green_admin = \"http://…:8001\", or the list of all nodes.",
            )];
        }
        let mut found = Vec::new();
        let mut all_list = true;
        for base in &settings.green_admin {
            match AdminClient::new(base, settings.green_admin_token_env.as_ref()) {
                Ok(admin) => {
                    let (of_node, lists) = self.node(&admin).await;
                    found.extend(of_node);
                    all_list &= lists;
                }
                Err(error) => {
                    found.push(stop(error.one_line(), "Correct [preflight]."));
                    all_list = false;
                }
            }
        }
        found.push(self.restart(all_list).await);
        found
    }

    /// A node does not report when it was started, and its `node_id` proves nothing: 3.2 and later keep it, and another
    /// node may answer at the same address. But the first run replaces the default workspace, and a node that was not
    /// restarted since then lists nothing. If that run is the only one that wrote, it is also the last one.
    async fn restart(&self, all_list: bool) -> Finding {
        let open = |why: String| {
            unproven(
                Unproven::Restart,
                format!("cannot verify that Kong's nodes on green were restarted since the last run: {why}"),
                "Restart every Kong node on green, control planes too, unless that has been done.",
            )
        };
        let Some(databases) = self.databases else {
            return open("the databases are not configured".to_owned());
        };
        match databases.green_runs().await {
            Err(error) => open(error.one_line()),
            Ok(GreenRuns { count: 0, .. }) => open("no run is known that wrote green's tables".to_owned()),
            Ok(GreenRuns { count: 1, last_ended: last }) if all_list => ok(format!(
                "every node asked was restarted since the only run that wrote green's tables ({last})"
            )),
            Ok(GreenRuns { count: 1, .. }) => open("not every node lists what was migrated".to_owned()),
            Ok(GreenRuns { count: runs, last_ended: last }) => open(format!(
                "{runs} runs wrote green's tables, the last one at {last}, and only a restart since the first shows"
            )),
        }
    }

    /// What it says, and whether it lists what was migrated.
    async fn node(&self, admin: &AdminClient) -> (Vec<Finding>, bool) {
        let mut found = match admin.get("/").await {
            Ok(root) => plugins(&admin.base, &root),
            Err(why) => {
                let silent = stop(
                    format!("green's Admin API {}: {}", admin.base, why.text()),
                    "Correct green_admin, or start green.",
                );
                return (vec![silent], false);
            }
        };
        found.push(match admin.get("/status").await {
            Ok(status) if status["database"]["reachable"] == Value::Bool(true) => {
                ok("green reaches its database")
            }
            Ok(_) => stop("green does not reach its database", "Read Kong's log on green."),
            Err(why) => stop(format!("green's status: {}", why.text()), "Read Kong's log on green."),
        });
        found.extend(admin.data_planes(Utc::now()).await);
        found.extend(admin.exports(self.config.settings.prometheus.as_ref()).await);
        let Some(databases) = self.databases else { return (found, false) };
        let (finding, lists) = admin.knows_what_was_migrated(databases).await;
        found.push(finding);
        (found, lists)
    }
}

fn plugins(base: &str, root: &Value) -> Vec<Finding> {
    let version = root["version"].as_str().unwrap_or("?");
    let available = &root["plugins"]["available_on_server"];
    let is_there = |name: &str| match available {
        Value::Object(map) => map.get(name).is_some_and(|value| *value != Value::Bool(false)),
        Value::Array(list) => list.iter().any(|one| one == name),
        _ => false,
    };
    let Some(used) = root["plugins"]["enabled_in_cluster"].as_array() else {
        return vec![stop(
            format!("{base} does not list the plugins in use: it is not Kong's Admin API"),
            "Correct green_admin; it is Kong's Admin API, usually at port 8001.",
        )];
    };
    let missing: Vec<&str> = used.iter().filter_map(Value::as_str).filter(|name| !is_there(name)).collect();
    if missing.is_empty() {
        return vec![ok(format!("Kong {version} on green has loaded every plugin that is in use"))];
    }
    vec![stop(
        format!("Kong on green has not loaded plugins that are in use: {}", missing.join(", ")),
        "Add them to plugins in kong.conf on green, and restart.",
    )]
}

struct AdminClient {
    client: reqwest::Client,
    base: String,
    token: Option<SecretString>,
}

enum AdminFailure {
    Status(String, StatusCode),
    /// None at all, or none that can be read.
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

    /// Why it does not have a configuration that it can use.
    fn fault(&self) -> Option<String> {
        match (self.sync_status.as_deref(), self.config_hash.as_deref()) {
            (Some(status), _) if status != "normal" => Some(format!("{} ({status})", self.name())),
            (_, None | Some(NO_CONFIGURATION)) => Some(format!("{} (has no configuration)", self.name())),
            _ => None,
        }
    }

    fn is_silent(&self, now: DateTime<Utc>) -> bool {
        let observed = self.last_seen.and_then(|at| DateTime::from_timestamp(at, 0));
        observed.is_some_and(|observed| now - observed > SILENT)
    }
}

impl AdminClient {
    fn new(base: &str, token_env: Option<&String>) -> Result<AdminClient> {
        let token = match token_env {
            Some(name) => Some(std::env::var(name).map(SecretString::from).map_err(|_| {
                Error::usage(format!("the variable {name} with green's admin token is not set"))
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
            status if status.is_success() => {
                answer.json().await.map_err(|_| AdminFailure::Other(format!("{path} is no JSON")))
            }
            status => Err(AdminFailure::Status(path.to_owned(), status)),
        }
    }

    /// Every data plane has the same configuration. A node that is no control plane says 400, an old one 404.
    async fn data_planes(&self, now: DateTime<Utc>) -> Vec<Finding> {
        let answer = match self.get("/clustering/data-planes?size=1000").await {
            Ok(answer) => answer,
            Err(AdminFailure::Status(_, StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND)) => {
                return Vec::new();
            }
            Err(why) => {
                return vec![stop(
                    format!("green's data planes: {}", why.text()),
                    "Read the control plane's log.",
                )];
            }
        };
        match serde_json::from_value::<DataPlanes>(answer) {
            Ok(planes) => in_sync(&planes.data, now),
            Err(error) => vec![stop(
                format!("green's data planes: the answer is not Kong's ({error})"),
                "Correct green_admin.",
            )],
        }
    }

    /// A node that was not restarted since the first run reads a workspace that no longer exists.
    async fn knows_what_was_migrated(&self, databases: &dyn Databases) -> (Finding, bool) {
        let held = match databases.listed_collections().await {
            Ok(held) => held,
            Err(error) => {
                let unknown = stop(
                    format!("cannot determine what green's nodes should list: {}", error.one_line()),
                    error.remedy_text().unwrap_or("Repair the connection first.").to_owned(),
                );
                return (unknown, false);
            }
        };
        let Some(collection) = held.first() else {
            return (ok("green's default workspace is empty, so its nodes have nothing to list"), false);
        };
        let listed = match self.get(&format!("/{collection}?size=1")).await {
            Ok(answer) => answer["data"].as_array().is_some_and(|rows| !rows.is_empty()),
            Err(why) => {
                let silent = stop(
                    format!("green's Admin API {}: {}", self.base, why.text()),
                    "Correct green_admin, or read Kong's log on green.",
                );
                return (silent, false);
            }
        };
        if listed {
            return (ok(format!("{} lists what was migrated", self.base)), true);
        }
        let lost = stop(
            format!(
                "{} lists no {collection}, and green's database has some: the node was not restarted since the run and reads a workspace that no longer exists",
                self.base
            ),
            "Restart every Kong node on green, control planes too.",
        );
        (lost, false)
    }

    /// Whether Kong 3.x exports what the gates ask for.
    async fn exports(&self, metrics: Option<&PrometheusConfig>) -> Vec<Finding> {
        if metrics.is_none_or(|metrics| metrics.kong_green == KongMajor::Two) {
            return Vec::new();
        }
        let answer = match self.get("/plugins?size=1000").await {
            Ok(answer) => answer,
            Err(why) => {
                return vec![stop(format!("green's plugins: {}", why.text()), "Read Kong's log on green.")];
            }
        };
        let plugins = answer["data"].as_array().into_iter().flatten();
        let prometheus: Vec<&Value> =
            plugins.filter(|plugin| plugin["name"] == "prometheus" && plugin["enabled"] != false).collect();
        if prometheus.is_empty() {
            return vec![stop(
                "the prometheus plugin is not enabled on green",
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

/// Those that were heard of lately hold one configuration, and each can use it.
fn in_sync(planes: &[DataPlane], now: DateTime<Utc>) -> Vec<Finding> {
    let (silent, speaking): (Vec<&DataPlane>, Vec<&DataPlane>) =
        planes.iter().partition(|plane| plane.is_silent(now));
    let mut found = Vec::new();
    if !silent.is_empty() {
        let names: Vec<&str> = silent.iter().map(|plane| plane.name()).collect();
        found.push(warn(
            format!("data planes that have not reported for minutes: {}", names.join(", ")),
            "Kong lists a data plane for two weeks after it stops. One that runs without a connection serves its last configuration.",
        ));
    }
    if speaking.is_empty() {
        return found;
    }
    let faults: Vec<String> = speaking.iter().filter_map(|plane| plane.fault()).collect();
    let hashes: BTreeSet<&str> = speaking.iter().filter_map(|plane| plane.config_hash.as_deref()).collect();
    found.push(match (faults.is_empty(), hashes.len()) {
        (false, _) => stop(format!("data planes are not in sync: {}", faults.join(", ")), "Read their logs."),
        (true, 0 | 1) => ok(format!("{} data plane(s) have the same configuration", speaking.len())),
        (true, many) => stop(
            format!("the data planes have {many} different configurations"),
            "Wait until all have the same config_hash, or read their logs.",
        ),
    });
    found
}
