//! Any name server that takes signed DNS UPDATE messages: BIND, Knot, PowerDNS, Windows with TSIG.
//!
//! There are no weights, so it switches between 0 % and 100 %. One message is one transaction, and its prerequisites are
//! a compare-and-swap: the marker must be unchanged to the letter, and each record must have the values that were read.

mod config;

use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use hickory_proto::op::{DnsRequest, DnsRequestOptions, Message, ResponseCode};
use hickory_proto::rr::{RData, RecordType as WireType, TSigner};
use secrecy::ExposeSecret;

use super::change::{self, Plan, PlannedRecord};
use super::listing::{self, ListedRecord, Listing};
use super::providers::ProviderTable;
use super::update::{DnsUpdate, UpdateData, UpdateSet, UpdateStep};
use super::wire::{self, QueryError, ServerClient};
use super::{
    Capabilities, Change, Desired, DnsError, DnsErrorKind, DnsProvider, DnsResult, DomainName, Exclusion,
    Observed, ObservedRecord, Precondition, Record, RecordForm, RecordState, Request, SiblingRecord, Side,
    Target, Ticket, Value, Weights, exclusion,
};
use crate::error::{Error, Result};
use crate::finding::Finding;
use config::{Rfc2136Args, with_port};
pub use config::{Rfc2136Config, TsigAlgorithm, TsigConfig};

const NAME: &str = "rfc2136";

/// In seconds. The marker is read from the primary, so caches have no use for it.
const MARKER_TTL: u32 = 10;

/// The tolerated difference of the clocks in seconds, as in `nsupdate`.
const FUDGE: u16 = 300;

#[async_trait]
impl ProviderTable for Rfc2136Config {
    type InitArgs = Rfc2136Args;

    fn check(&self) -> Result<()> {
        with_port(&self.server).map(drop)
    }

    async fn connect(self) -> Result<Arc<dyn DnsProvider>> {
        Ok(Arc::new(Rfc2136::new(self)?))
    }

    /// Replaces all values with blue's, without prerequisites. The marker is kept.
    fn manual_rollback(&self, target: &Target, ttl: u32) -> DnsResult<String> {
        change::refuse_aliases(NAME, target)?;
        let server =
            with_port(&self.server).map_err(|e| error(DnsErrorKind::Unsupported, e.message().to_owned()))?;
        let form = RecordForm::Plain(Side::Blue);
        Plan::manual_rollback(NAME, &Weights::SwitchOnly, target, form, ttl, |plan| {
            let mut steps = update_steps(plan)?;
            steps.retain(|step| !matches!(step, UpdateStep::Delete(UpdateSet::Text(_))));
            Ok(nsupdate(&self.tsig, &DnsUpdate { server, zone: target.zone().clone(), steps }))
        })
    }
}

pub struct Rfc2136 {
    config: Rfc2136Config,
    /// `host:port`.
    server: String,
    signer: TSigner,
    caps: Capabilities,
}

impl std::fmt::Debug for Rfc2136 {
    // The signer contains the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rfc2136").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Rfc2136 {
    /// Reads the TSIG key; connects to nothing.
    pub fn new(config: Rfc2136Config) -> Result<Self> {
        let server = with_port(&config.server)?;
        let not_base64 = || {
            Error::usage(format!("the secret of the TSIG key {} is not base64", config.tsig.name))
                .remedy("Store the secret as tsig-keygen prints it after \"secret\", without quotes.")
        };
        let secret = config.tsig.secret.read("the secret of the TSIG key")?;
        let text = secret.expose_secret().trim();
        // The decoder's error would show the text.
        let key = data_encoding::BASE64.decode(text.as_bytes()).map_err(|_| not_base64())?;
        let name = wire::wire_name(&config.tsig.name);
        let signer = TSigner::new(key, config.tsig.algorithm.wire(), name, FUDGE)
            .map_err(|e| Error::usage(format!("the TSIG key {} is invalid", config.tsig.name)).source(e))?;
        let caps = Capabilities {
            weights: Weights::SwitchOnly,
            exclusion: Exclusion::CompareAndSwap,
            ..Capabilities::default()
        };
        Ok(Rfc2136 { config, server, signer, caps })
    }

    async fn address(&self) -> DnsResult<SocketAddr> {
        let unresolved = |reason: String| {
            DnsError::transient(NAME, format!("{} does not resolve to an address ({reason})", self.server))
        };
        let mut addresses =
            tokio::net::lookup_host(&self.server).await.map_err(|e| unresolved(e.to_string()))?;
        addresses.next().ok_or_else(|| unresolved("empty answer".to_owned()))
    }

    async fn client(&self) -> DnsResult<ServerClient> {
        Ok(ServerClient::new(self.address().await?, None, self.config.timeout))
    }

    async fn query(&self, client: &ServerClient, name: &DomainName, rtype: WireType) -> DnsResult<Message> {
        let answer = client.query(name, rtype).await.map_err(|e| {
            DnsError::transient(NAME, format!("{} does not answer ({})", self.server, e.text()))
        })?;
        match answer.metadata.response_code {
            ResponseCode::NoError | ResponseCode::NXDomain => Ok(answer),
            code @ (ResponseCode::Refused | ResponseCode::NotAuth) => Err(error(
                DnsErrorKind::Auth,
                format!("{} answers {code} to a query for {name}", self.server),
            )),
            code => Err(DnsError::transient(
                NAME,
                format!("{} answers {code} to a query for {name}", self.server),
            )),
        }
    }

    async fn observe_record(
        &self,
        client: &ServerClient,
        target: &Target,
        record: &Record,
    ) -> DnsResult<ObservedRecord> {
        let key = &record.key;
        let mut state = RecordState::Absent;
        let mut ttl = None;
        let mut siblings = Vec::new();
        for rtype in wire::ROUTING_TYPES {
            let answer = self.query(client, &key.name, rtype).await?;
            let found = wire::records_of(&answer, &key.name, rtype);
            let Some(first) = found.first() else { continue };
            let text = found.iter().map(|found| found.data.to_string()).collect::<Vec<_>>().join(", ");
            if rtype == wire::wire_type(key.rtype) {
                let values: Option<Vec<Value>> = found.iter().map(|found| wire::value(&found.data)).collect();
                let side = values.and_then(|values| record.side_of(values));
                state = side.map_or(RecordState::Foreign(text), RecordState::Plain);
                ttl = Some(first.ttl);
            } else if !target.contains(&key.name, &rtype.to_string()) {
                siblings.push(SiblingRecord { rtype: rtype.to_string(), ttl: first.ttl, text });
            }
        }
        Ok(ObservedRecord { key: key.clone(), state, ttl, siblings, raw: serde_json::Value::Null })
    }

    /// The smallest zone of this server that contains all names.
    async fn zone_of(
        &self,
        client: &ServerClient,
        zone: Option<&DomainName>,
        names: &[DomainName],
    ) -> DnsResult<DomainName> {
        for zone in listing::candidate_zones(zone, names) {
            let Ok(answer) = self.query(client, &zone, WireType::SOA).await else { continue };
            let soa = wire::records_of(&answer, &zone, WireType::SOA);
            if answer.metadata.authoritative && !soa.is_empty() {
                return Ok(zone);
            }
        }
        // If the server does not answer at all, this returns the reason.
        if let Some(name) = names.first() {
            self.query(client, name, WireType::SOA).await?;
        }
        Err(error(DnsErrorKind::NotFound, format!("{} does not serve the zone", self.server)))
    }

    async fn send(&self, update: &DnsUpdate) -> DnsResult<()> {
        let request = DnsRequest::new(update.message(), DnsRequestOptions::default());
        let address = self.address().await?;
        let response = wire::over_tcp(address, self.config.timeout, Some(self.signer.clone()), request).await;
        let code = match response {
            Ok(message) => message.metadata.response_code,
            Err(QueryError::BadSignature(_)) => {
                let message = format!("{} rejects the TSIG key {}", self.server, self.config.tsig.name);
                return Err(error(DnsErrorKind::Auth, message)
                    .with_answer("name, algorithm or secret of the key differ, or the clocks do"));
            }
            Err(QueryError::Unreachable(reason)) => {
                return Err(DnsError::transient(
                    NAME,
                    format!("{} cannot be reached ({reason})", self.server),
                ));
            }
            Err(QueryError::NoAnswer(reason)) => {
                let kind = DnsErrorKind::Transient { may_be_applied: true };
                return Err(error(kind, format!("{} did not answer the update ({reason})", self.server)));
            }
        };
        match code {
            ResponseCode::NoError => Ok(()),
            code => Err(error_of(code, &update.zone)),
        }
    }
}

fn listed(name: &DomainName, rtype: WireType, answer: &Message) -> Option<ListedRecord> {
    let found = wire::records_of(answer, name, rtype);
    let first = found.first()?;
    let values = found.iter().map(|record| record.data.to_string().trim_end_matches('.').to_owned());
    Some(ListedRecord {
        name: name.clone(),
        rtype: rtype.to_string(),
        ttl: first.ttl,
        values: values.collect(),
        obstacle: None,
    })
}

fn error(kind: DnsErrorKind, message: impl Into<String>) -> DnsError {
    DnsError::new(NAME, kind, message)
}

fn error_of(code: ResponseCode, zone: &DomainName) -> DnsError {
    let (kind, message) = match code {
        ResponseCode::NXRRSet | ResponseCode::YXRRSet | ResponseCode::YXDomain | ResponseCode::NXDomain => {
            (DnsErrorKind::Conflict, "the records were changed after kongferry read them".to_owned())
        }
        ResponseCode::Refused => {
            (DnsErrorKind::Auth, format!("the server's policy does not allow this TSIG key to change {zone}"))
        }
        ResponseCode::NotAuth | ResponseCode::BADKEY | ResponseCode::BADSIG | ResponseCode::BADTIME => (
            DnsErrorKind::Auth,
            format!("the server rejects the TSIG key, or is not the primary server of {zone}"),
        ),
        ResponseCode::NotZone => (DnsErrorKind::NotFound, format!("a name of the update is not in {zone}")),
        ResponseCode::ServFail => (
            DnsErrorKind::Transient { may_be_applied: true },
            "the server failed to make the update".to_owned(),
        ),
        _ => (DnsErrorKind::Invalid, "the server rejects the update".to_owned()),
    };
    error(kind, message).with_answer(code.to_string())
}

/// Prerequisites, then the replacement of each record, then that of the marker.
fn update_steps(plan: &Plan<'_>) -> DnsResult<Vec<UpdateStep>> {
    let marker = UpdateSet::Text(plan.target.marker_name());
    let values = |record: &Record, side| {
        record.values(side).iter().cloned().map(UpdateData::Value).collect::<Vec<_>>()
    };
    let mut steps = Vec::new();
    if plan.desired.precondition == Precondition::Unchanged {
        steps.push(match &plan.before.marker_text {
            Some(text) => UpdateStep::Require(marker.clone(), vec![UpdateData::Text(text.clone())]),
            None => UpdateStep::RequireAbsent(marker.clone()),
        });
        for PlannedRecord { record, before, .. } in &plan.records {
            let set = UpdateSet::Record(record.key.clone());
            steps.push(match before.state {
                RecordState::Plain(side) => UpdateStep::Require(set, values(record, side)),
                _ => UpdateStep::RequireAbsent(set),
            });
        }
    }
    for PlannedRecord { record, state, ttl, .. } in &plan.records {
        let RecordState::Plain(side) = *state else {
            return Err(error(DnsErrorKind::Unsupported, format!("{} cannot be split", record.key)));
        };
        let set = UpdateSet::Record(record.key.clone());
        steps.push(UpdateStep::Delete(set.clone()));
        steps.extend(values(record, side).into_iter().map(|data| UpdateStep::Add(set.clone(), *ttl, data)));
    }
    steps.push(UpdateStep::Delete(marker.clone()));
    steps.extend(plan.marker_text().map(|text| UpdateStep::Add(marker, MARKER_TTL, UpdateData::Text(text))));
    Ok(steps)
}

#[async_trait]
impl DnsProvider for Rfc2136 {
    fn name(&self) -> &'static str {
        NAME
    }

    fn capabilities(&self) -> &Capabilities {
        &self.caps
    }

    async fn preflight(&self, target: &Target) -> DnsResult<Vec<Finding>> {
        let client = self.client().await?;
        let answer = self.query(&client, target.zone(), WireType::SOA).await?;
        let serial = wire::soa_serial(&answer).filter(|_| answer.metadata.authoritative);
        let finding = match serial {
            Some(serial) => Finding::ok(format!("{} serves {}, serial {serial}", self.server, target.zone())),
            None => Finding::blocker(
                format!("{} is not authoritative for {}", self.server, target.zone()),
                "Set zone and the address of its primary server in cutover.toml.",
            ),
        };
        Ok(vec![finding])
    }

    async fn list(&self, zone: Option<&DomainName>, names: &[DomainName]) -> DnsResult<Listing> {
        let client = self.client().await?;
        let zone = self.zone_of(&client, zone, names).await?;
        let mut records = Vec::new();
        for name in names {
            for rtype in wire::ROUTING_TYPES {
                let answer = self.query(&client, name, rtype).await?;
                records.extend(listed(name, rtype, &answer));
            }
        }
        Ok(Listing { zone, records })
    }

    async fn read(&self, target: &Target) -> DnsResult<Observed> {
        let client = self.client().await?;
        let mut records = Vec::new();
        for record in target.records() {
            records.push(self.observe_record(&client, target, record).await?);
        }
        let answer = self.query(&client, &target.marker_name(), WireType::TXT).await?;
        let marker = answer.answers.iter().find_map(|record| match &record.data {
            RData::TXT(txt) => Some(txt.txt_data.concat()),
            _ => None,
        });
        let marker = marker.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        Ok(Observed::new(records, marker))
    }

    fn plan(&self, target: &Target, before: &Observed, desired: &Desired) -> DnsResult<Change> {
        change::refuse_aliases(NAME, target)?;
        let plan = Plan::new(NAME, &self.caps, target, before, desired)?;
        let steps = update_steps(&plan)?;
        let update = DnsUpdate { server: self.server.clone(), zone: target.zone().clone(), steps };
        Ok(plan.into_change(Request::Update(update)))
    }

    async fn apply(&self, change: &Change) -> DnsResult<Ticket> {
        let Request::Update(update) = &change.request else {
            return Err(change::planned_for_another(NAME));
        };
        match self.send(update).await {
            Ok(()) => Ok(Ticket::default()),
            // The prerequisites of a repeated update fail too.
            Err(refusal) if refusal.kind == DnsErrorKind::Conflict => {
                exclusion::explain_refusal(self, change, refusal).await
            }
            Err(error) => Err(error),
        }
    }

    fn manual_command(&self, change: &Change) -> String {
        let Request::Update(update) = &change.request else { return String::new() };
        nsupdate(&self.config.tsig, update)
    }
}

fn nsupdate(tsig: &TsigConfig, update: &DnsUpdate) -> String {
    // printf is a builtin of the shell, so that the secret is in no list of processes.
    format!(
        "nsupdate -k <(printf 'key \"{}\" {{ algorithm {}; secret \"%s\"; }};\\n' {}) <<'EOF'\n{update}\nEOF",
        tsig.name.as_str(),
        tsig.algorithm.wire(),
        tsig.secret.shell_expression(),
    )
}
