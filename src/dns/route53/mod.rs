//! Amazon Route 53: weighted record sets, written as one ChangeBatch.
//!
//! An ordinary record becomes two weighted ones, and back, in one batch that also replaces the marker. A batch of DELETE
//! and CREATE is a compare-and-swap (`batch`); the rollback uses UPSERT and asks for nothing. A change is followed by
//! GetChange until it is INSYNC. Throttling is HTTP 400 here.

mod batch;
mod config;
mod response;
mod sets;
mod sigv4;

use std::time::Duration;

use async_trait::async_trait;
use chrono::Utc;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::change::{self, Wanted};
use super::http_api::HttpResponse;
use super::listing::Listing;
use super::providers::ProviderTable;
use super::{
    Capabilities, Change, Confirmation, Desired, DnsError, DnsErrorKind, DnsProvider, DnsResult, DomainName,
    Exclusion, Observed, Precondition, Propagation, RecordForm, Request, SecretSource, Share, Side, Target,
    Ticket, Weights, WriteOutcome, http_api,
};
use crate::error::{Error, Result};
use crate::finding::Finding;
use batch::Batch;
pub use config::Route53Config;
use config::default_endpoint;
use sets::Set;
use sigv4::{Credentials, Scope, Unsigned};

const NAME: &str = "route53";
const VERSION: &str = "/2013-04-01";

/// Two weights in lowest terms whose sum is 256 are both 255 at most.
const WEIGHTS: Weights = Weights::Whole { max_sum: 256 };

/// Five requests a second are allowed to the whole account, so questions are rare.
const POLL: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub struct Route53 {
    config: Route53Config,
    /// As the `Host` header has it.
    host: String,
    caps: Capabilities,
    client: reqwest::Client,
}

impl Route53 {
    /// Checks that the credentials are there; connects to nothing.
    pub fn new(mut config: Route53Config) -> Result<Self> {
        config.check()?;
        let bare = config.hosted_zone_id.trim_start_matches("/hostedzone/").to_owned();
        if bare.is_empty() || bare.len() > 32 || !bare.chars().all(|c| c.is_ascii_alphanumeric()) {
            return Err(Error::usage("hosted_zone_id must be an id such as Z2ABCDEFGHIJKL"));
        }
        config.hosted_zone_id = bare;
        let url = url::Url::parse(&config.endpoint)
            .map_err(|e| Error::usage("the endpoint is no URL").source(e))?;
        let host = url.host_str().unwrap_or_default();
        let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let caps = Capabilities {
            weights: WEIGHTS,
            exclusion: Exclusion::CompareAndSwap,
            confirmation: Confirmation::Poll { interval: POLL },
            min_ttl: 0,
            sticky: false,
            hidden: false,
            settle: Duration::ZERO,
        };
        let route53 =
            Route53 { config, host, caps, client: crate::http::client(None, crate::http::TIMEOUT)? };
        route53.credentials()?;
        Ok(route53)
    }

    /// Read again for each request: files with temporary credentials are renewed while a cutover runs for days.
    fn credentials(&self) -> Result<Credentials> {
        let config = &self.config;
        let from_environment = matches!(config.access_key_id, SecretSource::Env(_));
        let ambient = std::env::var("AWS_SESSION_TOKEN").ok().filter(|token| !token.is_empty());
        let session_token = match &config.session_token {
            Some(source) => Some(source.read("the AWS session token")?),
            None => ambient.filter(|_| from_environment).map(SecretString::from),
        };
        Ok(Credentials {
            access_key_id: config.access_key_id.read("the AWS access key id")?,
            secret_access_key: config.secret_access_key.read("the AWS secret access key")?,
            session_token,
        })
    }

    fn zone_path(&self) -> String {
        format!("{VERSION}/hostedzone/{}", self.config.hosted_zone_id)
    }

    async fn get<T: for<'de> Deserialize<'de>>(&self, path: &str, query: &[(&str, &str)]) -> DnsResult<T> {
        let mut pairs: Vec<String> = query
            .iter()
            .map(|(key, value)| format!("{key}={}", utf8_percent_encode(value, UNRESERVED)))
            .collect();
        pairs.sort();
        let text = self.send("GET", path, &pairs.join("&"), None).await?;
        response::parse(NAME, &text)
    }

    async fn send(
        &self,
        method: &'static str,
        path: &str,
        query: &str,
        body: Option<&str>,
    ) -> DnsResult<String> {
        let writes = body.is_some();
        let credentials = self.credentials().map_err(|e| {
            let causes = e.causes().join(": ");
            self.error(DnsErrorKind::Auth, e.message().to_owned()).answered(causes)
        })?;
        let unsigned =
            Unsigned { method, host: &self.host, path, query, body: body.unwrap_or_default().as_bytes() };
        let scope = Scope { region: &self.config.region, service: NAME, time: Utc::now() };
        let mark = if query.is_empty() { "" } else { "?" };
        let url = http_api::join(&self.config.endpoint, &format!("{path}{mark}{query}"));
        let verb = if writes { reqwest::Method::POST } else { reqwest::Method::GET };
        let mut request = self.client.request(verb, url);
        for (name, value) in sigv4::headers(&unsigned, &scope, &credentials) {
            request = request.header(name, value);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/xml").body(body.to_owned());
        }
        let HttpResponse { status, retry_after, body: text } =
            http_api::exchange(NAME, writes, request).await?;
        if status.is_success() {
            return Ok(text);
        }
        // The answer to a wrong signature repeats what was signed, the session token too.
        let token = credentials.session_token.as_ref().map(|token| token.expose_secret().to_owned());
        let text = token.map_or(text.clone(), |token| text.replace(&token, "(session token)"));
        Err(response::refusal(NAME, status.as_u16(), retry_after, writes, &text))
    }

    fn error(&self, kind: DnsErrorKind, message: impl Into<String>) -> DnsError {
        DnsError::new(NAME, kind, message)
    }

    /// All sets of one name. The list begins at the name and goes on to those behind it.
    async fn sets_of(&self, name: &DomainName, rtype: Option<&str>) -> DnsResult<Vec<Set>> {
        let path = format!("{}/rrset", self.zone_path());
        let mut sets = Vec::new();
        let (mut next_type, mut next_identifier) = (rtype.map(str::to_owned), None::<String>);
        loop {
            let mut query = vec![("name", name.as_str()), ("maxitems", "100")];
            query.extend(next_type.as_deref().map(|value| ("type", value)));
            query.extend(next_identifier.as_deref().map(|value| ("identifier", value)));
            let list: response::ListAnswer = self.get(&path, &query).await?;
            for set in list.resource_record_sets.sets {
                let ours =
                    response::name(&set.name).as_ref() == Some(name) && rtype.is_none_or(|t| t == set.rtype);
                sets.extend(set.into_set().filter(|_| ours));
            }
            let same_name = list.next_record_name.as_deref().and_then(response::name).as_ref() == Some(name);
            if !list.is_truncated || !same_name {
                return Ok(sets);
            }
            (next_type, next_identifier) = (list.next_record_type, list.next_record_identifier);
        }
    }

    fn batch(&self, change: &Change) -> DnsResult<Batch> {
        let wanted = self.wanted(&change.target, &change.before, &change.desired)?;
        Batch::plan(NAME, &change.target, &change.before, &change.desired, &wanted)
    }

    fn wanted<'a>(
        &self,
        target: &'a Target,
        before: &'a Observed,
        desired: &Desired,
    ) -> DnsResult<Vec<Wanted<'a>>> {
        let caps = &self.caps;
        let mut wanted = change::wanted(NAME, &caps.weights, caps.min_ttl, target, before, desired)?;
        for one in &mut wanted {
            one.ttl = sets::effective_ttl(one.record, &one.state, one.ttl);
        }
        Ok(wanted)
    }

    /// A batch was refused as a whole. Either somebody else wrote, or it is this very change a second time, or Route 53
    /// has something against it.
    async fn explain(&self, change: &Change, refused: DnsError) -> DnsResult<Ticket> {
        let now = self.read(&change.target).await?;
        if change.outcome(&now) == WriteOutcome::Applied {
            return Ok(Ticket { change_id: None });
        }
        if now.version == change.before.version {
            return Err(refused);
        }
        let by = now.marker.as_ref().map(|marker| format!(" by {} at {}", marker.owner, marker.written_at));
        let message = format!("the records were changed{} since they were read", by.unwrap_or_default());
        Err(DnsError { kind: DnsErrorKind::Conflict, message, ..refused })
    }

    async fn protections(&self, target: &Target) -> DnsResult<Vec<Finding>> {
        let path = format!("{}/rrsetprotection", self.zone_path());
        let answer: response::ProtectionsAnswer = match self.get(&path, &[]).await {
            Ok(answer) => answer,
            Err(error) if error.is_temporary() => return Err(error),
            Err(error) => {
                return Ok(vec![Finding::warning(
                    format!("whether records are protected cannot be seen ({error})"),
                    "allow route53:ListResourceRecordSetProtections",
                )]);
            }
        };
        let list = answer.resource_record_set_protections.list.into_iter();
        let ours = list.filter(|protection| {
            let name = response::name(&protection.record_name);
            let moved = target.records().iter().any(|record| {
                Some(&record.key.name) == name.as_ref() && record.key.rtype.as_str() == protection.record_type
            });
            moved || (name.as_ref() == Some(&target.marker_name()) && protection.record_type == "TXT")
        });
        Ok(ours
            .map(|protection| {
                Finding::blocker(
                    format!(
                        "{} {} is protected against changes",
                        protection.record_name, protection.record_type
                    ),
                    "remove the protection: aws route53 delete-resource-record-set-protections",
                )
            })
            .collect())
    }
}

/// What SigV4 leaves as it is.
const UNRESERVED: &percent_encoding::AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

#[async_trait]
impl DnsProvider for Route53 {
    fn name(&self) -> &'static str {
        NAME
    }

    fn capabilities(&self) -> &Capabilities {
        &self.caps
    }

    async fn preflight(&self, target: &Target) -> DnsResult<Vec<Finding>> {
        let zone: response::ZoneAnswer = self.get(&self.zone_path(), &[]).await?;
        let zone = zone.hosted_zone;
        let id = &self.config.hosted_zone_id;
        let mut findings = Vec::new();
        if response::name(&zone.name).as_ref() == Some(target.zone()) {
            findings.push(Finding::ok(format!("the hosted zone {id} is {}", target.zone())));
        } else {
            findings.push(Finding::blocker(
                format!("the hosted zone {id} is {}, not {}", zone.name, target.zone()),
                "name the right zone or the right id in cutover.toml",
            ));
        }
        if zone.config.and_then(|config| config.private_zone) == Some(true) {
            findings.push(Finding::warning(
                format!("the hosted zone {id} is private: its name servers answer inside its VPCs only"),
                "run the cutover inside one of them, with their resolver in [query] name_servers",
            ));
        }
        findings.extend(self.protections(target).await?);
        Ok(findings)
    }

    async fn list(&self, zone: Option<&DomainName>, names: &[DomainName]) -> DnsResult<Listing> {
        let answer: response::ZoneAnswer = self.get(&self.zone_path(), &[]).await?;
        let id = &self.config.hosted_zone_id;
        let not_found = |message: String| self.error(DnsErrorKind::NotFound, message);
        let hosted = answer.hosted_zone.name;
        let hosted = response::name(&hosted)
            .ok_or_else(|| not_found(format!("the hosted zone {id} is {hosted}, which is no name here")))?;
        let outside = names.iter().find(|name| !name.is_in(&hosted));
        if let Some(wrong) = zone.filter(|zone| **zone != hosted).or(outside) {
            return Err(not_found(format!("the hosted zone {id} is {hosted}, and not the one of {wrong}")));
        }
        let mut records = Vec::new();
        for name in names {
            records.extend(self.sets_of(name, None).await?.iter().filter_map(sets::listed));
        }
        Ok(Listing { zone: hosted, records })
    }

    async fn read(&self, target: &Target) -> DnsResult<Observed> {
        let mut names: Vec<&DomainName> = target.records().iter().map(|record| &record.key.name).collect();
        names.sort();
        names.dedup();
        let mut found = self.sets_of(&target.marker_name(), Some("TXT")).await?;
        for name in names {
            found.extend(self.sets_of(name, None).await?);
        }
        Ok(sets::observe(target, &found))
    }

    fn plan(&self, target: &Target, before: &Observed, desired: &Desired) -> DnsResult<Change> {
        let wanted = self.wanted(target, before, desired)?;
        let body = Batch::plan(NAME, target, before, desired, &wanted)?.xml();
        let request = Request::Http {
            method: "POST".to_owned(),
            url: http_api::join(&self.config.endpoint, &format!("{}/rrset/", self.zone_path())),
            headers: vec![("Authorization".to_owned(), "(AWS4-HMAC-SHA256 signature)".to_owned())],
            body,
        };
        let mut change = change::planned(target, before, desired, &wanted, request);
        // The next step is planned from these sets, as they will be read.
        for (after, one) in change.after.records.iter_mut().zip(&wanted) {
            let written = sets::of_state(one.record, &one.state, one.ttl).unwrap_or_default();
            after.raw = serde_json::to_value(written).unwrap_or_default();
        }
        Ok(change)
    }

    async fn apply(&self, change: &Change) -> DnsResult<Ticket> {
        let Request::Http { body, .. } = &change.request else {
            return Err(self.error(DnsErrorKind::Unsupported, "this change was planned for another provider"));
        };
        let path = format!("{}/rrset/", self.zone_path());
        match self.send("POST", &path, "", Some(body)).await {
            Ok(text) => {
                // It was carried out; an answer that cannot be read does not change that.
                let answer = response::parse::<response::ChangeAnswer>(NAME, &text).ok();
                Ok(Ticket { change_id: answer.map(|answer| answer.change_info.id.replace("/change/", "")) })
            }
            Err(refused) if refused.kind == DnsErrorKind::Invalid => {
                if change.desired.precondition == Precondition::Overwrite {
                    return Err(refused);
                }
                self.explain(change, refused).await
            }
            Err(other) => Err(other),
        }
    }

    async fn confirm(&self, ticket: &Ticket) -> DnsResult<Propagation> {
        // Without an id (the answer was lost) the name servers are the only ones to ask.
        let Some(id) = &ticket.change_id else { return Ok(Propagation::InSync) };
        let id = utf8_percent_encode(id, UNRESERVED).to_string();
        let answer: response::ChangeAnswer = self.get(&format!("{VERSION}/change/{id}"), &[]).await?;
        Ok(if answer.change_info.status == "INSYNC" { Propagation::InSync } else { Propagation::Pending })
    }

    fn manual_command(&self, change: &Change) -> String {
        let Ok(batch) = self.batch(change) else { return String::new() };
        aws(&self.config, &batch, "")
    }
}

/// `then` stands where the shell goes on after the command.
fn aws(config: &Route53Config, batch: &Batch, then: &str) -> String {
    let endpoint = if config.endpoint == default_endpoint() {
        String::new()
    } else {
        format!(" --endpoint-url {}", super::shell::quoted(&config.endpoint))
    };
    let id = config.hosted_zone_id.trim_start_matches("/hostedzone/");
    format!(
        "aws route53 change-resource-record-sets{endpoint} --hosted-zone-id {id} --change-batch file:///dev/stdin <<'JSON'{then}\n{:#}\nJSON",
        batch.json()
    )
}

/// Blue's records by UPSERT, which needs no old values. Where our weighted sets stand, the first command makes them 100
/// to 0. Route 53 refuses it where an ordinary record stands, and then the second one makes that blue's. Sets of
/// somebody else's beside them would have to be deleted first, and a DELETE needs their exact values: nobody can write
/// that down beforehand.
fn manual_rollback(config: &Route53Config, target: &Target, ttl: u32) -> DnsResult<String> {
    let before = change::unread(target);
    let batch = |form| {
        let desired = change::blue_again(form, ttl);
        let wanted = change::wanted(NAME, &WEIGHTS, 0, target, &before, &desired)?;
        Batch::plan(NAME, target, &before, &desired, &wanted)
    };
    let mut weighted = batch(RecordForm::Split(Share::BLUE))?;
    let mut ordinary = batch(RecordForm::Plain(Side::Blue))?;
    "kongferry: back to blue, by hand".clone_into(&mut weighted.comment);
    ordinary.comment.clone_from(&weighted.comment);
    Ok(format!("{}\n{}", aws(config, &weighted, " ||"), aws(config, &ordinary, "")))
}
