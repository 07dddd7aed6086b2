//! PowerDNS Authoritative: LUA records with weights, written through its HTTP API.
//!
//! One PATCH is one transaction, so an ordinary record becomes a split one, marker included, at once. There is no
//! compare-and-swap: what stands there is read before and after the write. The API checks no Lua, hence `lua`.

mod config;
mod lua;
mod rrset;

use std::time::Duration;

use async_trait::async_trait;
use reqwest::{Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value as Json;

use super::change::{self, Wanted};
use super::http_api::HttpResponse;
use super::listing::{self, Listing};
use super::providers::ProviderTable;
use super::{
    Capabilities, Change, Confirmation, Desired, DnsError, DnsErrorKind, DnsProvider, DnsResult, DomainName,
    Exclusion, Observed, Precondition, Propagation, RecordForm, Request, SecretSource, Share, Target, Ticket,
    Weights, WriteOutcome, http_api,
};
use crate::error::Result;
use crate::finding::Finding;
pub use config::PowerDnsConfig;
pub use lua::Policy;
use rrset::RrSet;

const NAME: &str = "powerdns";

/// Hundredths of a per cent.
const WEIGHTS: Weights = Weights::Whole { max_sum: 10_000 };

#[derive(Debug)]
pub struct PowerDns {
    config: PowerDnsConfig,
    key: SecretString,
    caps: Capabilities,
    client: reqwest::Client,
}

impl PowerDns {
    /// Reads the key; connects to nothing.
    pub fn new(config: PowerDnsConfig) -> Result<Self> {
        config.check()?;
        let key = config.api_key.read("PowerDNS's API key")?;
        let client = crate::http::client(config.ca_file.as_deref(), crate::http::TIMEOUT)?;
        let caps = Capabilities {
            weights: WEIGHTS,
            exclusion: Exclusion::ReadBack,
            confirmation: Confirmation::Immediate,
            min_ttl: 0,
            sticky: config.policy == Policy::Hashed,
            hidden: false,
            settle: Duration::from_secs(config.replica_cache_seconds.into()),
        };
        Ok(PowerDns { config, key, caps, client })
    }

    fn url(&self, path: &str) -> String {
        url(&self.config, path)
    }

    fn zone_url(&self, zone: &DomainName) -> String {
        zone_url(&self.config, zone)
    }

    async fn get(&self, url: &str) -> DnsResult<Json> {
        let answer = self.send(Method::GET, url, None).await?;
        serde_json::from_str(&answer).map_err(|e| {
            let message =
                format!("its answer is not JSON ({e}); is {} really PowerDNS's API?", self.config.url);
            self.error(DnsErrorKind::Transient { may_be_applied: false }, message)
        })
    }

    async fn send(&self, method: Method, url: &str, body: Option<String>) -> DnsResult<String> {
        let writes = method != Method::GET;
        let mut request = self.client.request(method, url).header("X-API-Key", self.key.expose_secret());
        if let Some(body) = body {
            request = request.header("Content-Type", "application/json").body(body);
        }
        let HttpResponse { status, retry_after, body } = http_api::exchange(NAME, writes, request).await?;
        if status.is_success() { Ok(body) } else { Err(refusal(status, retry_after, writes, &body)) }
    }

    fn error(&self, kind: DnsErrorKind, message: impl Into<String>) -> DnsError {
        DnsError::new(NAME, kind, message)
    }

    async fn sets_of(&self, zone: &DomainName, name: &DomainName) -> DnsResult<Vec<RrSet>> {
        let url = format!("{}?rrset_name={}", self.zone_url(zone), name.as_str());
        let mut zone = self.get(&url).await?;
        let listed = zone.get_mut("rrsets").map(Json::take).unwrap_or_default();
        // Versions that do not know the parameter send the whole zone, with names that we could not parse.
        let listed = listed.as_array().map(Vec::as_slice).unwrap_or_default();
        let ours = listed
            .iter()
            .filter(|set| text_of(set, "name").is_some_and(|n| n.eq_ignore_ascii_case(name.as_str())));
        let read = |set: &Json| {
            serde_json::from_value(set.clone()).map_err(|e| {
                let kind = DnsErrorKind::Transient { may_be_applied: false };
                self.error(kind, format!("an RRset of {name} cannot be read ({e})"))
            })
        };
        ours.map(read).collect()
    }

    /// The smallest zone of this server that holds the names.
    async fn zone_of(&self, zone: Option<&DomainName>, names: &[DomainName]) -> DnsResult<DomainName> {
        let mut unknown = self.error(DnsErrorKind::NotFound, "it knows no such zone");
        for zone in listing::zones_of(zone, names) {
            match self.get(&format!("{}?rrsets=false", self.zone_url(&zone))).await {
                Ok(_) => return Ok(zone),
                Err(error) if error.kind == DnsErrorKind::NotFound => unknown = error,
                Err(error) => return Err(error),
            }
        }
        Err(unknown)
    }

    /// Whether LUA records are switched on for the whole server; `None` when the API does not say.
    async fn lua_is_enabled(&self) -> DnsResult<Option<bool>> {
        let settings = self.get(&self.url("/config")).await?;
        let settings = settings.as_array().map(Vec::as_slice).unwrap_or_default();
        let setting = settings.iter().find(|setting| text_of(setting, "name") == Some("enable-lua-records"));
        let value = setting.and_then(|setting| text_of(setting, "value"));
        Ok(value.map(|value| !matches!(value, "" | "0" | "no" | "off" | "false")))
    }

    /// The body of the only request that changes anything.
    fn body(&self, wanted: &[Wanted<'_>], desired: &Desired) -> DnsResult<String> {
        let patch = rrset::patch(NAME, self.config.policy, wanted, desired.marker.as_ref())?;
        Ok(format!("{patch:#}"))
    }

    async fn check_before(&self, change: &Change) -> DnsResult<WriteOutcome> {
        let now = self.read(&change.target).await?;
        match change.outcome(&now) {
            WriteOutcome::NotApplied if now.version != change.before.version => Err(changed(&now)),
            WriteOutcome::Conflicting => Err(changed(&now)),
            landed => Ok(landed),
        }
    }
}

fn url(config: &PowerDnsConfig, path: &str) -> String {
    http_api::join(&config.url, &format!("/api/v1/servers/{}{path}", config.server))
}

fn zone_url(config: &PowerDnsConfig, zone: &DomainName) -> String {
    // A name in a path needs no escaping, save PowerDNS's own `=2F` for what cannot be in a name here.
    url(config, &format!("/zones/{}", zone.as_str()))
}

fn text_of<'a>(json: &'a Json, key: &str) -> Option<&'a str> {
    json.get(key).and_then(Json::as_str)
}

fn changed(now: &Observed) -> DnsError {
    let by = now.marker.as_ref().map(|marker| format!(" by {} at {}", marker.owner, marker.written_at));
    let message = format!("the records were changed{} since they were read", by.unwrap_or_default());
    DnsError::new(NAME, DnsErrorKind::Conflict, message)
}

fn refusal(status: StatusCode, retry_after: Option<Duration>, writes: bool, text: &str) -> DnsError {
    let json: Json = serde_json::from_str(text).unwrap_or_default();
    let said = text_of(&json, "error").unwrap_or(text);
    let (kind, message) = match status.as_u16() {
        401 | 403 => (DnsErrorKind::Auth, "it refuses the API key".to_owned()),
        404 => (DnsErrorKind::NotFound, "it knows no such zone or server".to_owned()),
        422 if said.contains("Could not find domain") => {
            (DnsErrorKind::NotFound, "it knows no such zone".to_owned())
        }
        429 => (DnsErrorKind::Throttled { retry_after }, "it is asked too often".to_owned()),
        code if code >= 500 => {
            (DnsErrorKind::Transient { may_be_applied: writes }, format!("it failed with HTTP {code}"))
        }
        code => (DnsErrorKind::Invalid, format!("it refuses the request with HTTP {code}")),
    };
    DnsError::new(NAME, kind, message).answered(said)
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
        let zone = self.get(&format!("{}?rrsets=false", self.zone_url(target.zone()))).await?;
        let kind = text_of(&zone, "kind").unwrap_or("unknown");
        let mut findings = vec![Finding::ok(format!("PowerDNS has the zone {} ({kind})", target.zone()))];
        let mut blocked = |message: String, remedy: &str| findings.push(Finding::blocker(message, remedy));
        if matches!(kind, "Slave" | "Secondary" | "Consumer") {
            blocked(
                format!("{} is a copy on this server ({kind})", target.zone()),
                "name the primary server in cutover.toml",
            );
        }
        if zone.get("presigned") == Some(&Json::Bool(true)) {
            blocked(
                format!("{} is presigned: LUA records are not answered there", target.zone()),
                "let PowerDNS sign the zone itself",
            );
        }
        if !self.config.lua_records_enabled && self.lua_is_enabled().await? == Some(false) {
            // With them switched off, clients would get no answer at all from the first step on.
            blocked(
                "enable-lua-records is off on this server".to_owned(),
                "switch it on; or, if the zone's metadata has ENABLE-LUA-RECORDS (the API does not show it), say \
                 lua_records_enabled = true in cutover.toml",
            );
        }
        Ok(findings)
    }

    async fn list(&self, zone: Option<&DomainName>, names: &[DomainName]) -> DnsResult<Listing> {
        let zone = self.zone_of(zone, names).await?;
        let mut records = Vec::new();
        for name in names {
            records.extend(self.sets_of(&zone, name).await?.iter().filter_map(rrset::listed));
        }
        Ok(Listing { zone, records })
    }

    async fn read(&self, target: &Target) -> DnsResult<Observed> {
        let mut names: Vec<&DomainName> = target.records().iter().map(|record| &record.key.name).collect();
        names.sort();
        names.dedup();
        let mut sets = Vec::new();
        for name in names {
            sets.extend(self.sets_of(target.zone(), name).await?);
        }
        Ok(rrset::observe(target, &sets))
    }

    fn plan(&self, target: &Target, before: &Observed, desired: &Desired) -> DnsResult<Change> {
        refuse_aliases(target)?;
        let wanted = change::wanted(NAME, &self.caps.weights, self.caps.min_ttl, target, before, desired)?;
        let body = self.body(&wanted, desired)?;
        let key = match &self.config.api_key {
            SecretSource::Env(variable) => format!("(what {variable} holds)"),
            SecretSource::File(path) => format!("(what {} holds)", path.display()),
        };
        let request = Request::Http {
            method: "PATCH".to_owned(),
            url: self.zone_url(target.zone()),
            headers: vec![
                ("X-API-Key".to_owned(), key),
                ("Content-Type".to_owned(), "application/json".to_owned()),
            ],
            body,
        };
        Ok(change::planned(target, before, desired, &wanted, request))
    }

    async fn apply(&self, change: &Change) -> DnsResult<Ticket> {
        let Request::Http { url, body, .. } = &change.request else {
            return Err(self.error(DnsErrorKind::Unsupported, "this change was planned for another provider"));
        };
        let done = Ticket { change_id: None };
        let guarded = change.desired.precondition == Precondition::Unchanged;
        if guarded && self.check_before(change).await? == WriteOutcome::Applied {
            return Ok(done);
        }
        self.send(Method::PATCH, url, Some(body.clone())).await?;
        if guarded {
            let after = self.read(&change.target).await.map_err(|mut error| {
                error.kind = DnsErrorKind::Transient { may_be_applied: true };
                error
            })?;
            if change.outcome(&after) != WriteOutcome::Applied {
                return Err(changed(&after));
            }
        }
        Ok(done)
    }

    async fn confirm(&self, _ticket: &Ticket) -> DnsResult<Propagation> {
        Ok(Propagation::InSync)
    }

    fn manual_command(&self, change: &Change) -> String {
        let Request::Http { url, body, .. } = &change.request else { return String::new() };
        curl(&self.config, url, body)
    }
}

fn curl(config: &PowerDnsConfig, url: &str, body: &str) -> String {
    let ca = config.ca_file.as_ref();
    let ca = ca.map(|file| format!(" --cacert {}", super::shell::quoted(&file.to_string_lossy())));
    // printf is part of the shell, so the key is in no list of processes.
    format!(
        "curl -fsS{} -X PATCH -K <(printf 'header = \"X-API-Key: %s\"\\n' {}) \\\n  \
         -H 'Content-Type: application/json' {} --data-binary @- <<'JSON'\n{body}\nJSON",
        ca.unwrap_or_default(),
        config.api_key.in_shell(),
        super::shell::quoted(url),
    )
}

/// All to blue, as a rollback writes it. Without a list of comments PowerDNS leaves those that are there, the marker
/// among them.
fn manual_rollback(config: &PowerDnsConfig, target: &Target, ttl: u32) -> DnsResult<String> {
    refuse_aliases(target)?;
    let desired = change::blue_again(RecordForm::Split(Share::BLUE), ttl);
    let before = change::unread(target);
    let wanted = change::wanted(NAME, &WEIGHTS, 0, target, &before, &desired)?;
    let mut patch = rrset::patch(NAME, config.policy, &wanted, None)?;
    for set in patch.get_mut("rrsets").and_then(Json::as_array_mut).into_iter().flatten() {
        if let Some(set) = set.as_object_mut() {
            set.remove("comments");
        }
    }
    Ok(curl(config, &zone_url(config, target.zone()), &format!("{patch:#}")))
}

fn refuse_aliases(target: &Target) -> DnsResult<()> {
    change::refuse_aliases(NAME, target)
}
