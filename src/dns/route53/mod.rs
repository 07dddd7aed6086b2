//! Amazon Route 53: weighted record sets, written as one ChangeBatch.
//!
//! One batch converts an ordinary record into weighted ones, or back, and replaces the marker. A batch of DELETE and
//! CREATE is a compare-and-swap (see `change_batch`); the rollback uses UPSERT, without conditions. GetChange is polled
//! until the change is INSYNC. Throttling is HTTP 400.

mod change_batch;
mod config;
mod record_sets;
mod response;
mod sigv4;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_credential_types::Credentials;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::ExposeSecret;
use serde::Deserialize;

use super::change::{Plan, PlannedRecord};
use super::http_api::HttpResponse;
use super::listing::Listing;
use super::providers::ProviderTable;
use super::{
    Capabilities, Change, Confirmation, Desired, DnsError, DnsErrorKind, DnsProvider, DnsResult, DomainName,
    Exclusion, Observed, Precondition, Propagation, RecordForm, Request, SecretSource, Share, Side, Target,
    Ticket, Weights, exclusion, http_api,
};
use crate::error::{Error, Result};
use crate::finding::Finding;
use change_batch::ChangeBatch;
pub use config::Route53Config;
use config::{Route53Args, default_endpoint};
use record_sets::ResourceRecordSet;
use response::{
    ChangeResponse, GetHostedZoneResponse, ListProtectionsResponse, ListResourceRecordSetsResponse,
};
use sigv4::Signer;

const NAME: &str = "route53";
const API_VERSION: &str = "/2013-04-01";

/// A weight is at most 255. Two positive weights with the sum 256 are.
const WEIGHTS: Weights = Weights::Whole { max_sum: 256 };

/// The rate limit is five requests a second for the whole account.
const POLL: Duration = Duration::from_secs(3);

#[async_trait]
impl ProviderTable for Route53Config {
    type InitArgs = Route53Args;

    fn check(&self) -> Result<()> {
        http_api::check_base("endpoint", &self.endpoint)
    }

    async fn connect(self) -> Result<Arc<dyn DnsProvider>> {
        Ok(Arc::new(Route53::new(self)?))
    }

    /// Two commands with UPSERT, which needs no old values. The first one sets kongferry's weighted sets to 100 and 0.
    /// Route 53 rejects it if there is an ordinary record, which the second one then overwrites. Neither removes foreign
    /// sets: a DELETE needs their exact values, which are unknown here.
    fn manual_rollback(&self, target: &Target, ttl: u32) -> DnsResult<String> {
        let command = |form, operator| {
            Plan::manual_rollback(NAME, &WEIGHTS, target, form, ttl, |plan| {
                let mut batch = ChangeBatch::new(plan)?;
                "kongferry: manual rollback to blue".clone_into(&mut batch.comment);
                Ok(aws(self, &batch, operator))
            })
        };
        let weighted = command(RecordForm::Split(Share::BLUE), " ||")?;
        let ordinary = command(RecordForm::Plain(Side::Blue), "")?;
        Ok(format!("{weighted}\n{ordinary}"))
    }
}

#[derive(Debug)]
pub struct Route53 {
    config: Route53Config,
    caps: Capabilities,
    client: reqwest::Client,
}

impl Route53 {
    /// Reads the credentials; connects to nothing.
    pub fn new(mut config: Route53Config) -> Result<Self> {
        config.check()?;
        let id = config.hosted_zone_id.trim_start_matches("/hostedzone/").to_owned();
        if id.is_empty() || id.len() > 32 || !id.chars().all(|c| c.is_ascii_alphanumeric()) {
            return Err(Error::usage(
                "provider.hosted_zone_id in cutover.toml is not the id of a hosted zone",
            )
            .remedy("Set hosted_zone_id to an id such as Z2ABCDEFGHIJKL."));
        }
        config.hosted_zone_id = id;
        let caps = Capabilities {
            weights: WEIGHTS,
            exclusion: Exclusion::CompareAndSwap,
            confirmation: Confirmation::Poll { interval: POLL },
            ..Capabilities::default()
        };
        let route53 = Route53 { config, caps, client: crate::http::client(None, crate::http::TIMEOUT)? };
        route53.credentials()?;
        Ok(route53)
    }

    /// Read again for each request: files with temporary credentials are renewed during a cutover.
    fn credentials(&self) -> Result<Credentials> {
        let config = &self.config;
        let session_token = match (&config.session_token, &config.access_key_id) {
            (Some(source), _) => Some(source.read("the AWS session token")?.expose_secret().to_owned()),
            (None, SecretSource::Env(_)) => {
                std::env::var("AWS_SESSION_TOKEN").ok().filter(|token| !token.is_empty())
            }
            (None, SecretSource::File(_)) => None,
        };
        let id = config.access_key_id.read("the AWS access key id")?;
        let key = config.secret_access_key.read("the AWS secret access key")?;
        Ok(Credentials::new(id.expose_secret(), key.expose_secret(), session_token, None, NAME))
    }

    fn zone_path(&self) -> String {
        format!("{API_VERSION}/hostedzone/{}", self.config.hosted_zone_id)
    }

    async fn get<T: for<'de> Deserialize<'de>>(&self, path: &str, query: &[(&str, &str)]) -> DnsResult<T> {
        let encode =
            |(key, value): &(&str, &str)| format!("{key}={}", utf8_percent_encode(value, UNRESERVED));
        let query = query.iter().map(encode).collect::<Vec<_>>().join("&");
        let separator = if query.is_empty() { "" } else { "?" };
        response::parse(&self.send(&format!("{path}{separator}{query}"), None).await?)
    }

    /// POST with a body, GET without.
    async fn send(&self, path_and_query: &str, body: Option<&str>) -> DnsResult<String> {
        let writes = body.is_some();
        let credentials = self.credentials().map_err(|e| {
            error(DnsErrorKind::Auth, e.message().to_owned()).with_answer(e.causes().join(": "))
        })?;
        let method = if writes { reqwest::Method::POST } else { reqwest::Method::GET };
        let url = http_api::join(&self.config.endpoint, path_and_query);
        let signer = Signer {
            credentials: credentials.clone(),
            region: &self.config.region,
            service: NAME,
            time: SystemTime::now(),
        };
        let headers = signer
            .headers(method.as_str(), &url, body.unwrap_or_default())
            .map_err(|e| error(DnsErrorKind::Invalid, format!("the request cannot be signed ({e})")))?;
        let mut request = self.client.request(method, url);
        for (name, value) in headers {
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
        // The response to a wrong signature repeats what was signed, including the session token.
        let text = match credentials.session_token() {
            Some(token) => text.replace(token, "(session token)"),
            None => text,
        };
        Err(response::error_of(status.as_u16(), retry_after, writes, &text))
    }

    /// The sets of one name. The API's list begins at the name and continues with the names after it.
    async fn sets_of(&self, name: &DomainName, rtype: Option<&str>) -> DnsResult<Vec<ResourceRecordSet>> {
        let path = format!("{}/rrset", self.zone_path());
        let mut sets = Vec::new();
        let (mut next_type, mut next_identifier) = (rtype.map(str::to_owned), None::<String>);
        loop {
            let mut query = vec![("name", name.as_str()), ("maxitems", "100")];
            query.extend(next_type.as_deref().map(|value| ("type", value)));
            query.extend(next_identifier.as_deref().map(|value| ("identifier", value)));
            let page: ListResourceRecordSetsResponse = self.get(&path, &query).await?;
            let found = page.resource_record_sets.sets.into_iter().filter_map(|set| set.into_record_set());
            sets.extend(
                found.filter(|set| set.name == *name && rtype.is_none_or(|rtype| rtype == set.rtype)),
            );
            let next_name = page.next_record_name.as_deref().and_then(response::parse_name);
            if !page.is_truncated || next_name.as_ref() != Some(name) {
                return Ok(sets);
            }
            (next_type, next_identifier) = (page.next_record_type, page.next_record_identifier);
        }
    }

    fn planned<'a>(
        &self,
        target: &'a Target,
        before: &'a Observed,
        desired: &'a Desired,
    ) -> DnsResult<Plan<'a>> {
        let mut plan = Plan::new(NAME, &self.caps, target, before, desired)?;
        for planned in &mut plan.records {
            planned.ttl = record_sets::effective_ttl(planned.record, &planned.state, planned.ttl);
        }
        Ok(plan)
    }

    async fn protections(&self, target: &Target) -> DnsResult<Vec<Finding>> {
        let path = format!("{}/rrsetprotection", self.zone_path());
        let response: ListProtectionsResponse = match self.get(&path, &[]).await {
            Ok(response) => response,
            Err(error) if error.is_temporary() => return Err(error),
            Err(error) => {
                return Ok(vec![Finding::warning(
                    format!(
                        "kongferry cannot read whether the records are protected against changes ({error})"
                    ),
                    "Allow route53:ListResourceRecordSetProtections.",
                )]);
            }
        };
        let protections = response.resource_record_set_protections.list.into_iter();
        let of_target = protections.filter(|protection| {
            response::parse_name(&protection.record_name).is_some_and(|name| {
                target.contains(&name, &protection.record_type)
                    || (name == target.marker_name() && protection.record_type == "TXT")
            })
        });
        let blockers = of_target.map(|protection| {
            Finding::blocker(
                format!("{} {} is protected against changes", protection.record_name, protection.record_type),
                "Remove the protection: aws route53 delete-resource-record-set-protections.",
            )
        });
        Ok(blockers.collect())
    }
}

fn error(kind: DnsErrorKind, message: impl Into<String>) -> DnsError {
    DnsError::new(NAME, kind, message)
}

/// The characters that SigV4 does not encode.
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
        let zone = self.get::<GetHostedZoneResponse>(&self.zone_path(), &[]).await?.hosted_zone;
        let id = &self.config.hosted_zone_id;
        let mut findings = Vec::new();
        if response::parse_name(&zone.name).as_ref() == Some(target.zone()) {
            findings.push(Finding::ok(format!("the hosted zone {id} is {}", target.zone())));
        } else {
            findings.push(Finding::blocker(
                format!("the hosted zone {id} is {}, not {}", zone.name, target.zone()),
                "Correct zone or hosted_zone_id in cutover.toml.",
            ));
        }
        if zone.config.and_then(|config| config.private_zone) == Some(true) {
            findings.push(Finding::warning(
                format!("the hosted zone {id} is private: only resolvers inside its VPCs can query it"),
                "Run the cutover inside one of the VPCs, with its resolver in [query] name_servers.",
            ));
        }
        findings.extend(self.protections(target).await?);
        Ok(findings)
    }

    async fn list(&self, zone: Option<&DomainName>, names: &[DomainName]) -> DnsResult<Listing> {
        let hosted = self.get::<GetHostedZoneResponse>(&self.zone_path(), &[]).await?.hosted_zone.name;
        let id = &self.config.hosted_zone_id;
        let not_found = |message: String| error(DnsErrorKind::NotFound, message);
        let hosted = response::parse_name(&hosted).ok_or_else(|| {
            not_found(format!("the hosted zone {id} is {hosted}, a name that kongferry does not support"))
        })?;
        let outside = names.iter().find(|name| !name.is_in(&hosted));
        if let Some(name) = zone.filter(|zone| **zone != hosted).or(outside) {
            return Err(not_found(format!(
                "the hosted zone {id} is {hosted}, which is not the zone of {name}"
            )));
        }
        let mut records = Vec::new();
        for name in names {
            records.extend(self.sets_of(name, None).await?.iter().filter_map(record_sets::listed));
        }
        Ok(Listing { zone: hosted, records })
    }

    async fn read(&self, target: &Target) -> DnsResult<Observed> {
        let mut sets = self.sets_of(&target.marker_name(), Some("TXT")).await?;
        for name in target.names() {
            sets.extend(self.sets_of(name, None).await?);
        }
        Ok(record_sets::observe(target, &sets))
    }

    fn plan(&self, target: &Target, before: &Observed, desired: &Desired) -> DnsResult<Change> {
        let plan = self.planned(target, before, desired)?;
        let request = Request::Http {
            method: "POST".to_owned(),
            url: http_api::join(&self.config.endpoint, &format!("{}/rrset/", self.zone_path())),
            headers: vec![("Authorization".to_owned(), "(AWS4-HMAC-SHA256 signature)".to_owned())],
            body: ChangeBatch::new(&plan)?.xml(),
        };
        // The next step is planned from these sets.
        let raw = plan.records.iter().map(|PlannedRecord { record, state, ttl, .. }| {
            let sets = record_sets::for_state(record, state, *ttl).unwrap_or_default();
            serde_json::to_value(sets).unwrap_or_default()
        });
        let raw: Vec<serde_json::Value> = raw.collect();
        let mut change = plan.into_change(request);
        for (after, raw) in change.after.records.iter_mut().zip(raw) {
            after.raw = raw;
        }
        Ok(change)
    }

    async fn apply(&self, change: &Change) -> DnsResult<Ticket> {
        let (_, body) = change.http(NAME)?;
        match self.send(&format!("{}/rrset/", self.zone_path()), Some(body)).await {
            Ok(text) => {
                // It was carried out, even if the response is invalid.
                let response = response::parse::<ChangeResponse>(&text).ok();
                let id = response.map(|response| response.change_info.id.replace("/change/", ""));
                Ok(Ticket { change_id: id })
            }
            // Route 53 rejects a batch as a whole: perhaps because it is repeated, or because of another client's write.
            Err(refusal)
                if refusal.kind == DnsErrorKind::Invalid
                    && change.desired.precondition == Precondition::Unchanged =>
            {
                exclusion::explain_refusal(self, change, refusal).await
            }
            Err(error) => Err(error),
        }
    }

    async fn confirm(&self, ticket: &Ticket) -> DnsResult<Propagation> {
        // Without an id (the response was lost) only the name servers can tell.
        let Some(id) = &ticket.change_id else { return Ok(Propagation::InSync) };
        let id = utf8_percent_encode(id, UNRESERVED).to_string();
        let response: ChangeResponse = self.get(&format!("{API_VERSION}/change/{id}"), &[]).await?;
        let is_in_sync = response.change_info.status == "INSYNC";
        Ok(if is_in_sync { Propagation::InSync } else { Propagation::Pending })
    }

    fn manual_command(&self, change: &Change) -> String {
        let plan = self.planned(&change.target, &change.before, &change.desired);
        let batch = plan.and_then(|plan| ChangeBatch::new(&plan));
        batch.map(|batch| aws(&self.config, &batch, "")).unwrap_or_default()
    }
}

/// `operator` of the shell follows the command.
fn aws(config: &Route53Config, batch: &ChangeBatch, operator: &str) -> String {
    let endpoint = if config.endpoint == default_endpoint() {
        String::new()
    } else {
        format!(" --endpoint-url {}", shell_words::quote(&config.endpoint))
    };
    let id = config.hosted_zone_id.trim_start_matches("/hostedzone/");
    format!(
        "aws route53 change-resource-record-sets{endpoint} --hosted-zone-id {id} --change-batch file:///dev/stdin \
         <<'JSON'{operator}\n{:#}\nJSON",
        batch.json()
    )
}
