//! Any name server that takes signed DNS UPDATE messages: BIND, Knot, PowerDNS, Windows with TSIG.
//!
//! It has no weights, so it switches between 0 % and 100 %. One message is one transaction, and its conditions are a
//! true compare-and-swap: the marker must stand there to the letter, and each record with the values that were read.

mod config;

use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use hickory_proto::op::{DnsRequest, DnsRequestOptions, Message, ResponseCode};
use hickory_proto::rr::{RData, RecordType as WireType, TSigner};
use secrecy::ExposeSecret;

use super::change::{self, Wanted};
use super::listing::{self, ListedRecord, Listing};
use super::update::{DnsUpdate, UpdateData, UpdateSet, UpdateStep};
use super::wire::{self, QueryError, ServerClient};
use super::{
    Capabilities, Change, Confirmation, Desired, DnsError, DnsErrorKind, DnsProvider, DnsResult, DomainName,
    Exclusion, Observed, ObservedRecord, Precondition, Propagation, Record, RecordForm, RecordState, Request,
    SiblingRecord, Side, Target, Ticket, Value, Weights, WriteOutcome,
};
use crate::error::{Error, Result};
use crate::finding::Finding;
use config::with_port;
pub use config::{Algorithm, Rfc2136Config, TsigConfig};

const NAME: &str = "rfc2136";

/// The marker is read from the primary, so nobody needs to cache it.
const MARKER_TTL: u32 = 10;

/// How far the two clocks may be apart, as in `nsupdate`.
const FUDGE: u16 = 300;

pub struct Rfc2136 {
    config: Rfc2136Config,
    /// `host:port`.
    server: String,
    signer: TSigner,
    caps: Capabilities,
}

impl std::fmt::Debug for Rfc2136 {
    // The signer holds the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rfc2136").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Rfc2136 {
    /// Reads the key; connects to nothing.
    pub fn new(config: Rfc2136Config) -> Result<Self> {
        let server = with_port(&config.server)?;
        let wrong_key = || {
            Error::usage(format!("the secret of the TSIG key {} is not base64", config.tsig.name))
                .remedy("Give it as tsig-keygen prints it behind \"secret\", without quotes.")
        };
        let secret = config.tsig.secret.read("the secret of the TSIG key")?;
        let text = secret.expose_secret().trim();
        // The error would show the text.
        let key = data_encoding::BASE64.decode(text.as_bytes()).map_err(|_| wrong_key())?;
        let name = wire::wire_name(&config.tsig.name);
        let signer = TSigner::new(key, config.tsig.algorithm.wire(), name, FUDGE)
            .map_err(|e| Error::usage("the TSIG key cannot be used").source(e))?;
        let caps = Capabilities {
            weights: Weights::SwitchOnly,
            exclusion: Exclusion::CompareAndSwap,
            confirmation: Confirmation::Immediate,
            min_ttl: 0,
            sticky: false,
            hidden: false,
            settle: Duration::ZERO,
        };
        Ok(Rfc2136 { config, server, signer, caps })
    }

    fn timeout(&self) -> Duration {
        Duration::from_secs(self.config.timeout_seconds)
    }

    async fn address(&self) -> DnsResult<SocketAddr> {
        let unknown = |why: String| {
            let kind = DnsErrorKind::Transient { may_be_applied: false };
            error(kind, format!("{} has no address here ({why})", self.server))
        };
        let mut found = tokio::net::lookup_host(&self.server).await.map_err(|e| unknown(e.to_string()))?;
        found.next().ok_or_else(|| unknown("no answer".to_owned()))
    }

    async fn ask(&self, client: &ServerClient, name: &DomainName, rtype: WireType) -> DnsResult<Message> {
        let answer = client.query(name, rtype).await.map_err(|why| {
            let kind = DnsErrorKind::Transient { may_be_applied: false };
            error(kind, format!("{} does not answer ({})", self.server, why.text()))
        })?;
        match answer.metadata.response_code {
            ResponseCode::NoError | ResponseCode::NXDomain => Ok(answer),
            ResponseCode::Refused | ResponseCode::NotAuth => {
                Err(error(DnsErrorKind::Auth, format!("{} refuses to answer about {name}", self.server)))
            }
            code => {
                let kind = DnsErrorKind::Transient { may_be_applied: false };
                Err(error(kind, format!("{} answers {code} to {name}", self.server)))
            }
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
            let answer = self.ask(client, &key.name, rtype).await?;
            let here = wire::records_of(&answer, &key.name, rtype);
            let Some(first) = here.first() else { continue };
            let text = here.iter().map(|one| one.data.to_string()).collect::<Vec<_>>().join(", ");
            if rtype == wire::wire_type(key.rtype) {
                let values = here.iter().map(|one| wire::value(&one.data)).collect::<Option<Vec<_>>>();
                state = plain_state(record, values.unwrap_or_default(), text);
                ttl = Some(first.ttl);
            } else if !is_in_target(target, &key.name, rtype) {
                siblings.push(SiblingRecord { rtype: rtype.to_string(), ttl: first.ttl, text });
            }
        }
        Ok(ObservedRecord { key: key.clone(), state, ttl, siblings, raw: serde_json::Value::Null })
    }

    /// The smallest zone of this server that holds the names.
    async fn zone_of(
        &self,
        client: &ServerClient,
        zone: Option<&DomainName>,
        names: &[DomainName],
    ) -> DnsResult<DomainName> {
        for zone in listing::zones_of(zone, names) {
            let Ok(answer) = self.ask(client, &zone, WireType::SOA).await else { continue };
            let soa = wire::records_of(&answer, &zone, WireType::SOA);
            if answer.metadata.authoritative && !soa.is_empty() {
                return Ok(zone);
            }
        }
        // A server that does not answer at all says why here.
        if let Some(name) = names.first() {
            self.ask(client, name, WireType::SOA).await?;
        }
        Err(error(DnsErrorKind::NotFound, format!("{} serves no such zone", self.server)))
    }

    async fn send(&self, update: &DnsUpdate) -> DnsResult<()> {
        let request = DnsRequest::new(update.message(), DnsRequestOptions::default());
        let address = self.address().await?;
        let answer = wire::over_tcp(address, self.timeout(), Some(self.signer.clone()), request).await;
        let code = match answer {
            Ok(message) => message.metadata.response_code,
            Err(QueryError::BadSignature(_)) => {
                let message =
                    format!("{} does not accept the TSIG key {}", self.server, self.config.tsig.name);
                return Err(error(DnsErrorKind::Auth, message)
                    .answered("the name, the algorithm or the secret differs, or a clock is wrong"));
            }
            Err(QueryError::Unreachable(why)) => {
                let kind = DnsErrorKind::Transient { may_be_applied: false };
                return Err(error(kind, format!("{} cannot be reached ({why})", self.server)));
            }
            Err(QueryError::NoAnswer(why)) => {
                let kind = DnsErrorKind::Transient { may_be_applied: true };
                return Err(error(kind, format!("{} did not answer the update ({why})", self.server)));
            }
        };
        match code {
            ResponseCode::NoError => Ok(()),
            code => Err(refusal(code, &update.zone)),
        }
    }
}

fn listed(name: &DomainName, rtype: WireType, answer: &Message) -> Option<ListedRecord> {
    let here = wire::records_of(answer, name, rtype);
    let first = here.first()?;
    let values = here.iter().map(|one| one.data.to_string().trim_end_matches('.').to_owned());
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

fn refusal(code: ResponseCode, zone: &DomainName) -> DnsError {
    let (kind, message) = match code {
        ResponseCode::NXRRSet | ResponseCode::YXRRSet | ResponseCode::YXDomain | ResponseCode::NXDomain => {
            (DnsErrorKind::Conflict, "the records were changed since they were read".to_owned())
        }
        ResponseCode::Refused => {
            (DnsErrorKind::Auth, format!("its policy does not let this key change {zone}"))
        }
        ResponseCode::NotAuth | ResponseCode::BADKEY | ResponseCode::BADSIG | ResponseCode::BADTIME => {
            (DnsErrorKind::Auth, format!("it does not accept the key, or is not the primary of {zone}"))
        }
        ResponseCode::NotZone => (DnsErrorKind::NotFound, format!("a name does not lie in {zone}")),
        ResponseCode::ServFail => {
            (DnsErrorKind::Transient { may_be_applied: true }, "it failed to carry out the update".to_owned())
        }
        _ => (DnsErrorKind::Invalid, "it refuses the update".to_owned()),
    };
    error(kind, message).answered(code.to_string())
}

fn plain_state(record: &Record, mut values: Vec<Value>, text: String) -> RecordState {
    values.sort();
    let side = [Side::Blue, Side::Green].into_iter().find(|&side| record.values(side) == values);
    side.map_or(RecordState::Foreign(text), RecordState::Plain)
}

fn is_in_target(target: &Target, name: &DomainName, rtype: WireType) -> bool {
    target
        .records()
        .iter()
        .any(|record| record.key.name == *name && wire::wire_type(record.key.rtype) == rtype)
}

/// Conditions, then one replacement for each record, then the marker's.
fn steps(
    target: &Target,
    before: &Observed,
    desired: &Desired,
    wanted: &[Wanted<'_>],
) -> DnsResult<Vec<UpdateStep>> {
    let marker = UpdateSet::Text(target.marker_name());
    let values = |record: &Record, side| {
        record.values(side).iter().cloned().map(UpdateData::Value).collect::<Vec<_>>()
    };
    let mut steps = Vec::new();
    if desired.precondition == Precondition::Unchanged {
        steps.push(match &before.marker_text {
            Some(text) => UpdateStep::Require(marker.clone(), vec![UpdateData::Text(text.clone())]),
            None => UpdateStep::RequireAbsent(marker.clone()),
        });
        for one in wanted {
            let set = UpdateSet::Record(one.record.key.clone());
            steps.push(match one.before.state {
                RecordState::Plain(side) => UpdateStep::Require(set, values(one.record, side)),
                _ => UpdateStep::RequireAbsent(set),
            });
        }
    }
    for one in wanted {
        let RecordState::Plain(side) = one.state else {
            return Err(error(DnsErrorKind::Unsupported, format!("{} cannot be split", one.record.key)));
        };
        let set = UpdateSet::Record(one.record.key.clone());
        steps.push(UpdateStep::Delete(set.clone()));
        steps.extend(
            values(one.record, side).into_iter().map(|data| UpdateStep::Add(set.clone(), one.ttl, data)),
        );
    }
    steps.push(UpdateStep::Delete(marker.clone()));
    if let Some(new) = &desired.marker {
        steps.push(UpdateStep::Add(marker, MARKER_TTL, UpdateData::Text(new.to_text())));
    }
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
        let client = ServerClient::new(self.address().await?, None, self.timeout());
        let answer = self.ask(&client, target.zone(), WireType::SOA).await?;
        let serves = wire::soa_serial(&answer).filter(|_| answer.metadata.authoritative);
        let finding = match serves {
            Some(serial) => Finding::ok(format!("{} serves {}, serial {serial}", self.server, target.zone())),
            None => Finding::blocker(
                format!("{} does not serve {}", self.server, target.zone()),
                "name the primary server and the zone in cutover.toml",
            ),
        };
        Ok(vec![finding])
    }

    async fn list(&self, zone: Option<&DomainName>, names: &[DomainName]) -> DnsResult<Listing> {
        let client = ServerClient::new(self.address().await?, None, self.timeout());
        let zone = self.zone_of(&client, zone, names).await?;
        let mut records = Vec::new();
        for name in names {
            for rtype in wire::ROUTING_TYPES {
                let answer = self.ask(&client, name, rtype).await?;
                records.extend(listed(name, rtype, &answer));
            }
        }
        Ok(Listing { zone, records })
    }

    async fn read(&self, target: &Target) -> DnsResult<Observed> {
        let client = ServerClient::new(self.address().await?, None, self.timeout());
        let mut records = Vec::new();
        for record in target.records() {
            records.push(self.observe_record(&client, target, record).await?);
        }
        let answer = self.ask(&client, &target.marker_name(), WireType::TXT).await?;
        let marker = answer.answers.iter().find_map(|record| match &record.data {
            RData::TXT(txt) => Some(txt.txt_data.concat()),
            _ => None,
        });
        let marker = marker.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        Ok(Observed::new(records, marker))
    }

    fn plan(&self, target: &Target, before: &Observed, desired: &Desired) -> DnsResult<Change> {
        change::refuse_aliases(NAME, target)?;
        let wanted = change::wanted(NAME, &self.caps.weights, self.caps.min_ttl, target, before, desired)?;
        let steps = steps(target, before, desired, &wanted)?;
        let update = DnsUpdate { server: self.server.clone(), zone: target.zone().clone(), steps };
        Ok(change::planned(target, before, desired, &wanted, Request::Update(update)))
    }

    async fn apply(&self, change: &Change) -> DnsResult<Ticket> {
        let Request::Update(update) = &change.request else {
            return Err(error(DnsErrorKind::Unsupported, "this change was planned for another provider"));
        };
        let done = Ticket { change_id: None };
        match self.send(update).await {
            Ok(()) => Ok(done),
            // The conditions fail as well when this very change was carried out before.
            Err(refused) if refused.kind == DnsErrorKind::Conflict => {
                let now = self.read(&change.target).await?;
                if change.outcome(&now) == WriteOutcome::Applied { Ok(done) } else { Err(refused) }
            }
            Err(other) => Err(other),
        }
    }

    async fn confirm(&self, _ticket: &Ticket) -> DnsResult<Propagation> {
        Ok(Propagation::InSync)
    }

    fn manual_command(&self, change: &Change) -> String {
        let Request::Update(update) = &change.request else { return String::new() };
        nsupdate(&self.config, update)
    }
}

fn nsupdate(config: &Rfc2136Config, update: &DnsUpdate) -> String {
    let tsig = &config.tsig;
    // printf is part of the shell, so the secret is in no list of processes.
    format!(
        "nsupdate -k <(printf 'key \"{}\" {{ algorithm {}; secret \"%s\"; }};\\n' {}) <<'EOF'\n{update}\nEOF",
        tsig.name.as_str(),
        tsig.algorithm.as_str(),
        tsig.secret.in_shell(),
    )
}

/// Blue's values in place of those that stand there, without a condition. The marker is not touched.
fn manual_rollback(config: &Rfc2136Config, target: &Target, ttl: u32) -> DnsResult<String> {
    change::refuse_aliases(NAME, target)?;
    let server =
        with_port(&config.server).map_err(|e| error(DnsErrorKind::Unsupported, e.message().to_owned()))?;
    let desired = change::blue_again(RecordForm::Plain(Side::Blue), ttl);
    let before = change::unread(target);
    let wanted = change::wanted(NAME, &Weights::SwitchOnly, 0, target, &before, &desired)?;
    let mut steps = steps(target, &before, &desired, &wanted)?;
    steps.retain(|step| !matches!(step, UpdateStep::Delete(UpdateSet::Text(_))));
    Ok(nsupdate(config, &DnsUpdate { server, zone: target.zone().clone(), steps }))
}
