//! Sends the queries of a measurement and classifies each answer by the values of both sides.

use std::collections::BTreeMap;
use std::net::IpAddr;

use futures::stream::{self, StreamExt};
use hickory_proto::op::{Message, ResponseCode};

use super::{AnswerFault, FaultyAnswers, NameServer, QueryConfig, ShareMeasurement};
use crate::dns::wire::{self, QueryError, ServerClient};
use crate::dns::{Record, RecordKey, Side, Value};

/// Concurrent queries to one server.
const CONCURRENT: usize = 16;

/// Queries each server for the record, `config.count` times.
pub async fn measure(servers: &[NameServer], record: &Record, config: &QueryConfig) -> Vec<ShareMeasurement> {
    let expected = ExpectedValues::resolve(record).await;
    let measurements = servers.iter().map(|server| measure_server(server, &expected, config));
    futures::future::join_all(measurements).await
}

async fn measure_server(
    server: &NameServer,
    expected: &ExpectedValues<'_>,
    config: &QueryConfig,
) -> ShareMeasurement {
    let sources = if config.sources.is_empty() {
        vec![None]
    } else {
        config.sources.iter().copied().map(Some).collect()
    };
    let clients: Vec<ServerClient> =
        sources.into_iter().map(|source| ServerClient::new(server.address, source, config.timeout)).collect();
    let key = expected.key;
    let mut measurement = ShareMeasurement::new(server, key, config.count);
    let rtype = wire::wire_type(key.rtype);
    let mut answers = stream::iter(0..config.count)
        .zip(stream::iter(clients.into_iter().cycle()))
        .map(|(_, client)| async move { client.query(&key.name, rtype).await })
        .buffer_unordered(CONCURRENT);
    let mut faulty: BTreeMap<AnswerFault, (u32, String)> = BTreeMap::new();
    while let Some(answer) = answers.next().await {
        match answer.map(|message| expected.classify(&message)) {
            Err(error) => {
                measurement.unanswered += 1;
                measurement.last_error = Some(error.text().to_owned());
                // Stop early if the server does not run.
                if matches!(error, QueryError::Unreachable(_))
                    || (measurement.unanswered > 50 && measurement.blue + measurement.green == 0)
                {
                    measurement.unanswered = measurement.queries - measurement.blue - measurement.green;
                    break;
                }
            }
            Ok(ClassifiedAnswer::Good(side, ttl)) => {
                match side {
                    Side::Blue => measurement.blue += 1,
                    Side::Green => measurement.green += 1,
                }
                let (min, max) = measurement.ttl.unwrap_or((ttl, ttl));
                measurement.ttl = Some((min.min(ttl), max.max(ttl)));
            }
            Ok(ClassifiedAnswer::Ambiguous) => measurement.ambiguous += 1,
            Ok(ClassifiedAnswer::Faulty(fault, example)) => {
                faulty.entry(fault).or_insert((0, example)).0 += 1;
            }
        }
    }
    let faulty = faulty.into_iter().map(|(fault, (count, example))| FaultyAnswers { fault, count, example });
    measurement.faulty = faulty.collect();
    measurement
}

enum ClassifiedAnswer {
    /// All values are of one side; the number is their TTL.
    Good(Side, u32),
    Ambiguous,
    Faulty(AnswerFault, String),
}

/// The values of each side, aliases resolved.
struct ExpectedValues<'a> {
    key: &'a RecordKey,
    blue: Vec<Value>,
    green: Vec<Value>,
    /// The addresses of an alias may change at any time.
    has_alias: bool,
}

impl<'a> ExpectedValues<'a> {
    async fn resolve(record: &'a Record) -> Self {
        let (blue, green) = (resolve_aliases(&record.blue).await, resolve_aliases(&record.green).await);
        ExpectedValues { key: &record.key, blue, green, has_alias: record.has_alias() }
    }

    fn classify(&self, message: &Message) -> ClassifiedAnswer {
        use ClassifiedAnswer::{Ambiguous, Faulty, Good};
        match message.metadata.response_code {
            ResponseCode::NoError => {}
            ResponseCode::ServFail => return Faulty(AnswerFault::ServFail, "SERVFAIL".to_owned()),
            ResponseCode::NXDomain => return Faulty(AnswerFault::NxDomain, "NXDOMAIN".to_owned()),
            code => return Faulty(AnswerFault::Refused, code.to_string()),
        }
        let rtype = wire::wire_type(self.key.rtype);
        let records = message.answers.iter().filter(|record| record.record_type() == rtype);
        let values: Vec<(Option<Value>, u32)> =
            records.map(|record| (wire::value(&record.data), record.ttl)).collect();
        let Some(ttl) = values.iter().map(|(_, ttl)| *ttl).max() else {
            return Faulty(AnswerFault::NoData, "no record of the type".to_owned());
        };
        let count_of = |side: &[Value]| {
            values
                .iter()
                .filter(|(value, _)| value.as_ref().is_some_and(|value| side.contains(value)))
                .count()
        };
        let example = || {
            let texts = values
                .iter()
                .map(|(value, _)| value.as_ref().map_or_else(|| "?".to_owned(), ToString::to_string));
            texts.collect::<Vec<_>>().join(", ")
        };
        match (count_of(&self.blue), count_of(&self.green)) {
            (blue, 0) if blue == values.len() => Good(Side::Blue, ttl),
            (0, green) if green == values.len() => Good(Side::Green, ttl),
            (blue, green) if blue > 0 && green > 0 => Faulty(AnswerFault::BothSides, example()),
            _ if self.has_alias => Ambiguous,
            _ => Faulty(AnswerFault::OtherValue, example()),
        }
    }
}

async fn resolve_aliases(values: &[Value]) -> Vec<Value> {
    let mut resolved = Vec::new();
    for value in values {
        match value {
            Value::Alias(alias) => {
                let addresses = tokio::net::lookup_host((alias.name.without_dot(), 0)).await;
                resolved.extend(addresses.into_iter().flatten().map(|address| match address.ip() {
                    IpAddr::V4(address) => Value::V4(address),
                    IpAddr::V6(address) => Value::V6(address),
                }));
            }
            value => resolved.push(value.clone()),
        }
    }
    resolved
}
