//! PowerDNS Authoritative: LUA records with weights, written through its HTTP API.
//!
//! One PATCH is one transaction: it replaces the ordinary record with a split one and writes the marker. There is no
//! compare-and-swap, so the records are read before and after the write. The API does not validate Lua; see `lua`.

mod config;
mod lua;
mod rrset;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::{Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value as Json;

use super::change::{self, Plan};
use super::http_api::HttpResponse;
use super::listing::{self, Listing};
use super::providers::ProviderTable;
use super::{
    Capabilities, Change, Desired, DnsError, DnsErrorKind, DnsProvider, DnsResult, DomainName, Exclusion,
    Observed, RecordForm, Request, SecretSource, Share, Target, Ticket, Weights, exclusion, http_api,
};
use crate::error::{Error, Result};
use crate::finding::Finding;
use config::PowerDnsArgs;
pub use config::PowerDnsConfig;
pub use lua::Policy;
use rrset::RrSet;

const NAME: &str = "powerdns";

/// In steps of 0.01 %.
const WEIGHTS: Weights = Weights::Whole { max_sum: 10_000 };

#[async_trait]
impl ProviderTable for PowerDnsConfig {
    type InitArgs = PowerDnsArgs;

    fn check(&self) -> Result<()> {
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        if self.server.is_empty() || !self.server.chars().all(is_allowed) {
            return Err(Error::usage("provider.server in cutover.toml is not the id of a PowerDNS server")
                .remedy("Set server to the id in the API, which is localhost by default."));
        }
        http_api::check_base("url", &self.url)
    }

    async fn connect(self) -> Result<Arc<dyn DnsProvider>> {
        Ok(Arc::new(PowerDns::new(self)?))
    }

    /// Split records with all weight on blue. Without a list of comments PowerDNS keeps the existing ones, and with them
    /// the marker.
    fn manual_rollback(&self, target: &Target, ttl: u32) -> DnsResult<String> {
        change::refuse_aliases(NAME, target)?;
        let form = RecordForm::Split(Share::BLUE);
        Plan::manual_rollback(NAME, &WEIGHTS, target, form, ttl, |plan| {
            let mut patch = rrset::patch(self.policy, plan)?;
            for rrset in patch.get_mut("rrsets").and_then(Json::as_array_mut).into_iter().flatten() {
                if let Some(rrset) = rrset.as_object_mut() {
                    rrset.remove("comments");
                }
            }
            Ok(curl(self, &self.zone_url(target.zone()), &format!("{patch:#}")))
        })
    }
}

impl PowerDnsConfig {
    fn url_of(&self, path: &str) -> String {
        http_api::join(&self.url, &format!("/api/v1/servers/{}{path}", self.server))
    }

    fn zone_url(&self, zone: &DomainName) -> String {
        // PowerDNS escapes only characters that a DomainName does not contain.
        self.url_of(&format!("/zones/{}", zone.as_str()))
    }
}

#[derive(Debug)]
pub struct PowerDns {
    config: PowerDnsConfig,
    key: SecretString,
    caps: Capabilities,
    client: reqwest::Client,
}

impl PowerDns {
    /// Reads the API key; connects to nothing.
    pub fn new(config: PowerDnsConfig) -> Result<Self> {
        config.check()?;
        let key = config.api_key.read("the API key of PowerDNS")?;
        let client = crate::http::client(config.ca_file.as_deref(), crate::http::TIMEOUT)?;
        let caps = Capabilities {
            weights: WEIGHTS,
            exclusion: Exclusion::ReadBack,
            sticky: config.policy == Policy::Hashed,
            settle: config.replica_cache_ttl,
            ..Capabilities::default()
        };
        Ok(PowerDns { config, key, caps, client })
    }

    async fn get(&self, url: &str) -> DnsResult<Json> {
        let body = self.send(Method::GET, url, None).await?;
        serde_json::from_str(&body).map_err(|e| {
            let url = &self.config.url;
            DnsError::transient(
                NAME,
                format!("the response is not JSON ({e}); is {url} the API of PowerDNS?"),
            )
        })
    }

    async fn send(&self, method: Method, url: &str, body: Option<String>) -> DnsResult<String> {
        let writes = method != Method::GET;
        let mut request = self.client.request(method, url).header("X-API-Key", self.key.expose_secret());
        if let Some(body) = body {
            request = request.header("Content-Type", "application/json").body(body);
        }
        let HttpResponse { status, retry_after, body } = http_api::exchange(NAME, writes, request).await?;
        if status.is_success() { Ok(body) } else { Err(error_of(status, retry_after, writes, &body)) }
    }

    async fn rrsets_of(&self, zone: &DomainName, name: &DomainName) -> DnsResult<Vec<RrSet>> {
        let url = format!("{}?rrset_name={}", self.config.zone_url(zone), name.as_str());
        let mut zone = self.get(&url).await?;
        let rrsets = zone.get_mut("rrsets").map(Json::take).unwrap_or_default();
        // Versions that do not know the parameter send the whole zone, with names that are no DomainNames.
        let rrsets = rrsets.as_array().map(Vec::as_slice).unwrap_or_default();
        let of_name = rrsets
            .iter()
            .filter(|set| text_of(set, "name").is_some_and(|text| text.eq_ignore_ascii_case(name.as_str())));
        let parse = |set: &Json| {
            serde_json::from_value(set.clone()).map_err(|e| {
                DnsError::transient(NAME, format!("the response has an invalid RRset of {name} ({e})"))
            })
        };
        of_name.map(parse).collect()
    }

    /// The smallest zone of this server that contains all names.
    async fn zone_of(&self, zone: Option<&DomainName>, names: &[DomainName]) -> DnsResult<DomainName> {
        let mut not_found = DnsError::new(NAME, DnsErrorKind::NotFound, "the server does not have the zone");
        for zone in listing::candidate_zones(zone, names) {
            match self.get(&format!("{}?rrsets=false", self.config.zone_url(&zone))).await {
                Ok(_) => return Ok(zone),
                Err(error) if error.kind == DnsErrorKind::NotFound => not_found = error,
                Err(error) => return Err(error),
            }
        }
        Err(not_found)
    }

    /// `None` when the API does not show the setting.
    async fn lua_is_enabled(&self) -> DnsResult<Option<bool>> {
        let settings = self.get(&self.config.url_of("/config")).await?;
        let settings = settings.as_array().map(Vec::as_slice).unwrap_or_default();
        let setting = settings.iter().find(|setting| text_of(setting, "name") == Some("enable-lua-records"));
        let value = setting.and_then(|setting| text_of(setting, "value"));
        Ok(value.map(|value| !matches!(value, "" | "0" | "no" | "off" | "false")))
    }
}

fn text_of<'a>(json: &'a Json, key: &str) -> Option<&'a str> {
    json.get(key).and_then(Json::as_str)
}

fn error_of(status: StatusCode, retry_after: Option<Duration>, writes: bool, body: &str) -> DnsError {
    let json: Json = serde_json::from_str(body).unwrap_or_default();
    let answer = text_of(&json, "error").unwrap_or(body);
    let (kind, message) = match status.as_u16() {
        401 | 403 => (DnsErrorKind::Auth, "the server rejects the API key".to_owned()),
        404 => (DnsErrorKind::NotFound, "the zone or the server id does not exist".to_owned()),
        422 if answer.contains("Could not find domain") => {
            (DnsErrorKind::NotFound, "the zone does not exist".to_owned())
        }
        429 => (DnsErrorKind::Throttled { retry_after }, "the rate limit of the API was exceeded".to_owned()),
        code if code >= 500 => (
            DnsErrorKind::Transient { may_be_applied: writes },
            format!("the server failed with HTTP {code}"),
        ),
        code => (DnsErrorKind::Invalid, format!("the server rejects the request with HTTP {code}")),
    };
    DnsError::new(NAME, kind, message).with_answer(answer)
}

#[async_trait]
impl DnsProvider for PowerDns {
    fn name(&self) -> &'static str {
        NAME
    }

    fn capabilities(&self) -> &Capabilities {
        &self.caps
    }

    async fn preflight(&self, target: &Target) -> DnsResult<Vec<Finding>> {
        let name = target.zone();
        let zone = self.get(&format!("{}?rrsets=false", self.config.zone_url(name))).await?;
        let kind = text_of(&zone, "kind").unwrap_or("unknown");
        let mut findings = vec![Finding::ok(format!("PowerDNS has the zone {name} (kind {kind})"))];
        let mut block = |message: String, remedy: &str| findings.push(Finding::blocker(message, remedy));
        if matches!(kind, "Slave" | "Secondary" | "Consumer") {
            block(
                format!("the server has a read-only copy of {name} (kind {kind})"),
                "Set url in cutover.toml to the API of the primary server.",
            );
        }
        if zone.get("presigned") == Some(&Json::Bool(true)) {
            block(
                format!("{name} is presigned, so PowerDNS cannot sign the answers of LUA records"),
                "Let PowerDNS sign the zone.",
            );
        }
        if !self.config.lua_records_enabled && self.lua_is_enabled().await? == Some(false) {
            block(
                "enable-lua-records is off: from the first step clients would get no answer".to_owned(),
                "Set enable-lua-records=yes on the server. If the zone's metadata has ENABLE-LUA-RECORDS, which the API \
                 does not show, set lua_records_enabled = true in cutover.toml instead.",
            );
        }
        Ok(findings)
    }

    async fn list(&self, zone: Option<&DomainName>, names: &[DomainName]) -> DnsResult<Listing> {
        let zone = self.zone_of(zone, names).await?;
        let mut records = Vec::new();
        for name in names {
            records.extend(self.rrsets_of(&zone, name).await?.iter().filter_map(rrset::listed));
        }
        Ok(Listing { zone, records })
    }

    async fn read(&self, target: &Target) -> DnsResult<Observed> {
        let mut rrsets = Vec::new();
        for name in target.names() {
            rrsets.extend(self.rrsets_of(target.zone(), name).await?);
        }
        Ok(rrset::observe(target, &rrsets))
    }

    fn plan(&self, target: &Target, before: &Observed, desired: &Desired) -> DnsResult<Change> {
        change::refuse_aliases(NAME, target)?;
        let plan = Plan::new(NAME, &self.caps, target, before, desired)?;
        let patch = rrset::patch(self.config.policy, &plan)?;
        let key = match &self.config.api_key {
            SecretSource::Env(variable) => format!("(value of {variable})"),
            SecretSource::File(path) => format!("(content of {})", path.display()),
        };
        let request = Request::Http {
            method: "PATCH".to_owned(),
            url: self.config.zone_url(target.zone()),
            headers: vec![
                ("X-API-Key".to_owned(), key),
                ("Content-Type".to_owned(), "application/json".to_owned()),
            ],
            body: format!("{patch:#}"),
        };
        Ok(plan.into_change(request))
    }

    async fn apply(&self, change: &Change) -> DnsResult<Ticket> {
        let (url, body) = change.http(NAME)?;
        let write = async {
            self.send(Method::PATCH, url, Some(body.to_owned())).await?;
            Ok(Ticket::default())
        };
        exclusion::read_back(self, change, write).await
    }

    fn manual_command(&self, change: &Change) -> String {
        change.http(NAME).map(|(url, body)| curl(&self.config, url, body)).unwrap_or_default()
    }
}

fn curl(config: &PowerDnsConfig, url: &str, body: &str) -> String {
    let ca_file = config.ca_file.as_ref();
    let ca_option = ca_file.map(|file| format!(" --cacert {}", shell_words::quote(&file.to_string_lossy())));
    // printf is a builtin of the shell, so that the key is in no list of processes.
    format!(
        "curl -fsS{} -X PATCH -K <(printf 'header = \"X-API-Key: %s\"\\n' {}) \\\n  \
         -H 'Content-Type: application/json' {} --data-binary @- <<'JSON'\n{body}\nJSON",
        ca_option.unwrap_or_default(),
        config.api_key.shell_expression(),
        shell_words::quote(url),
    )
}
