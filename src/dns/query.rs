//! What name servers really answer: each authoritative one is asked directly, many times, and the share is judged by
//! the binomial distribution.
//!
//! A provider's word is not enough. PowerDNS accepts Lua that answers SERVFAIL to everybody, a secondary lags, a
//! replica caches: only the answers count.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures::stream::{self, StreamExt};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{RData, RecordType as WireType};
use serde::{Deserialize, Serialize};

use super::wire::{self, Asker, NoAnswer};
use super::{DomainName, Record, RecordKey, Share, SiblingRecord, Side, Value};
use crate::error::{Error, Kind, Result};

/// Questions on their way to one server at the same time.
const CONCURRENT: usize = 16;

/// How far the measured share may lie from the wanted one, in standard deviations.
pub const Z_LIMIT: f64 = 4.0;

/// The `[query]` section of `cutover.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QueryConfig {
    /// The authoritative name servers to ask, `ns1.example.com`, `192.0.2.53` or `127.0.0.1:5353`. Without, those
    /// that the zone's NS records name, found through the system's resolver.
    pub name_servers: Vec<String>,
    /// Questions to each server and record.
    pub count: u32,
    /// How long one answer may take.
    pub timeout_ms: u64,
    /// Addresses of this machine to ask from, in turn; for policies that always give one address the same answer.
    pub sources: Vec<IpAddr>,
}

impl Default for QueryConfig {
    fn default() -> Self {
        QueryConfig { name_servers: Vec::new(), count: 2000, timeout_ms: 2000, sources: Vec::new() }
    }
}

impl QueryConfig {
    fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }
}

/// One authoritative name server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NameServer {
    /// As the zone or the configuration calls it.
    pub name: String,
    /// Where it is asked.
    pub address: SocketAddr,
}

impl fmt::Display for NameServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.address.to_string();
        if self.name == address { f.write_str(&address) } else { write!(f, "{} ({address})", self.name) }
    }
}

/// The authoritative name servers of the zone: from the configuration, or by its NS records. A name with several
/// addresses is several servers; IPv6 addresses count only when this machine has a route for IPv6.
pub async fn name_servers(zone: &DomainName, config: &QueryConfig) -> Result<Vec<NameServer>> {
    let names = if config.name_servers.is_empty() {
        names_of(zone, config).await?
    } else {
        config.name_servers.clone()
    };
    let mut servers: Vec<NameServer> = Vec::new();
    let mut failures = Vec::new();
    for name in names {
        match addresses_of(&name).await {
            Ok(found) => {
                servers.extend(found.into_iter().map(|address| NameServer { name: name.clone(), address }));
            }
            Err(error) => failures.push(format!("{name}: {error}")),
        }
    }
    servers.retain(|server| server.address.is_ipv4() || has_route(server.address));
    let mut seen = std::collections::BTreeSet::new();
    servers.retain(|server| seen.insert(server.address));
    if servers.is_empty() || !failures.is_empty() {
        let error =
            Error::new(Kind::Connection, format!("not every name server of {zone} has an address here"));
        let error = failures.into_iter().fold(error, Error::detail);
        return Err(
            error.remedy("name the servers to ask in cutover.toml: [query] name_servers = [\"192.0.2.53\"]")
        );
    }
    Ok(servers)
}

async fn addresses_of(name: &str) -> std::io::Result<Vec<SocketAddr>> {
    if let Ok(address) = name.parse::<SocketAddr>() {
        return Ok(vec![address]);
    }
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, 53)]);
    }
    let with_port = if name.contains(':') { name.to_owned() } else { format!("{name}:53") };
    Ok(tokio::net::lookup_host(with_port).await?.collect())
}

/// Connecting a UDP socket sends nothing, but fails without a route.
fn has_route(address: SocketAddr) -> bool {
    std::net::UdpSocket::bind("[::]:0").is_ok_and(|socket| socket.connect(address).is_ok())
}

/// The NS records of the zone, by the system's resolver.
async fn names_of(zone: &DomainName, config: &QueryConfig) -> Result<Vec<String>> {
    let no_answer = || {
        Error::new(Kind::Connection, format!("the name servers of {zone} cannot be found"))
            .remedy("name the servers to ask in cutover.toml: [query] name_servers = [\"192.0.2.53\"]")
    };
    let text = std::fs::read_to_string("/etc/resolv.conf").map_err(|e| no_answer().source(e))?;
    let mut error = no_answer();
    for resolver in resolvers(&text) {
        match Asker::new(resolver, None, config.timeout()).ask(zone, WireType::NS).await {
            Ok(answer) => {
                let names = answer.answers.iter().filter_map(|record| match &record.data {
                    RData::NS(name) => Some(name.0.to_ascii().trim_end_matches('.').to_owned()),
                    _ => None,
                });
                let names: Vec<String> = names.collect();
                if !names.is_empty() {
                    return Ok(names);
                }
                error = error.detail(format!("{resolver} answers {}", answer.metadata.response_code));
            }
            Err(why) => error = error.detail(format!("{resolver}: {}", why.text())),
        }
    }
    Err(error)
}

fn resolvers(resolv_conf: &str) -> impl Iterator<Item = SocketAddr> {
    let lines = resolv_conf.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    lines.filter_map(|rest| rest.trim().parse::<IpAddr>().ok()).map(|address| SocketAddr::new(address, 53))
}

/// What is wrong with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Wrong {
    /// The server failed: what clients see of broken Lua.
    ServFail,
    /// The name does not exist.
    NxDomain,
    /// The name exists, without a record of this type.
    NoData,
    /// Another error code.
    Refused,
    /// Values of both sides in one answer.
    BothSides,
    /// A value of neither side.
    OtherValue,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Wrong::ServFail => "SERVFAIL",
            Wrong::NxDomain => "NXDOMAIN",
            Wrong::NoData => "no record",
            Wrong::Refused => "an error",
            Wrong::BothSides => "values of both sides at once",
            Wrong::OtherValue => "a value of neither side",
        })
    }
}

/// Answers of one kind that no client should get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WrongAnswers {
    /// What is wrong.
    pub what: Wrong,
    /// How often.
    pub count: u32,
    /// One of them, for people.
    pub example: String,
}

/// The answers of one server about one record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Survey {
    /// Who was asked.
    pub server: NameServer,
    /// About what.
    pub key: RecordKey,
    /// Questions sent.
    pub asked: u32,
    /// Answers with blue's values.
    pub blue: u32,
    /// Answers with green's values.
    pub green: u32,
    /// Answers that may be of either side: addresses that an alias has meanwhile.
    pub unclear: u32,
    /// Wrong answers by kind.
    pub wrong: Vec<WrongAnswers>,
    /// Questions without an answer, and why one of them had none.
    pub unanswered: u32,
    /// The reason for one of those.
    pub silence: Option<String>,
    /// Least and largest TTL of good answers.
    pub ttl: Option<(u32, u32)>,
}

/// What a survey says about a wanted share.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As it should be.
    Good,
    /// The share is another one; right after a change this means: not yet.
    ShareDiffers {
        /// Standard deviations between measured and wanted; infinite when a side is answered that must not be.
        z: f64,
    },
    /// Another TTL is served: old data.
    TtlDiffers,
    /// Clients get answers that break them.
    Wrong,
    /// Too few answers to say anything.
    Silent,
}

impl Survey {
    /// Green's share of the good answers, between 0 and 1.
    pub fn fraction(&self) -> Option<f64> {
        let good = self.blue + self.green;
        (good > 0).then(|| f64::from(self.green) / f64::from(good))
    }

    /// Distance of the measured share from `share` in standard deviations of the binomial distribution.
    pub fn z(&self, share: Share) -> Option<f64> {
        let n = f64::from(self.blue + self.green);
        if n == 0.0 {
            return None;
        }
        let (p, green) = (share.fraction(), f64::from(self.green));
        if share.is_whole() {
            // Chance has no part in it.
            let strays = if share == Share::BLUE { self.green } else { self.blue };
            return Some(if strays == 0 { 0.0 } else { f64::INFINITY });
        }
        Some((green - n * p) / (n * p * (1.0 - p)).sqrt())
    }

    /// Judges where answers do not show the side: clients must get some answer, whatever it is.
    pub fn judge_any(&self) -> Verdict {
        let shown = |wrong: &WrongAnswers| matches!(wrong.what, Wrong::OtherValue | Wrong::BothSides);
        if !self.wrong.iter().all(shown) {
            return Verdict::Wrong;
        }
        if self.unanswered > self.asked / 2 { Verdict::Silent } else { Verdict::Good }
    }

    /// Judges. With `sticky` (one address always gets the same answer) only 0 % and 100 % are checked, unless the
    /// answers differ. `ttl` is the TTL that must be served, if that is known.
    pub fn judge(&self, share: Share, sticky: bool, ttl: Option<u32>) -> Verdict {
        if !self.wrong.is_empty() {
            return Verdict::Wrong;
        }
        let good = self.blue + self.green;
        if good == 0 || self.unanswered + self.unclear > self.asked / 2 {
            return Verdict::Silent;
        }
        // An authoritative server answers the TTL as it is stored, never what is left of it.
        if ttl.is_some_and(|wanted| self.ttl != Some((wanted, wanted))) {
            return Verdict::TtlDiffers;
        }
        let one_sided = self.blue == 0 || self.green == 0;
        if sticky && one_sided && !share.is_whole() {
            return Verdict::Good;
        }
        match self.z(share) {
            Some(z) if z.abs() < Z_LIMIT => Verdict::Good,
            Some(z) => Verdict::ShareDiffers { z },
            None => Verdict::Silent,
        }
    }
}

impl fmt::Display for Survey {
    /// `ns1.example.com (192.0.2.53): 18 of 2000 answers are green (0.90 %)`, and whatever is wrong.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} of {} answers are green", self.server, self.green, self.blue + self.green)?;
        if let Some(fraction) = self.fraction() {
            write!(f, " ({:.2} %)", fraction * 100.0)?;
        }
        for wrong in &self.wrong {
            write!(f, ", {} with {} ({})", wrong.count, wrong.what, wrong.example)?;
        }
        if self.unanswered > 0 {
            let why = self.silence.as_deref().unwrap_or("no reason given");
            write!(f, ", {} without an answer ({why})", self.unanswered)?;
        }
        Ok(())
    }
}

/// Asks every server about the record, `config.count` times.
pub async fn survey(servers: &[NameServer], record: &Record, config: &QueryConfig) -> Vec<Survey> {
    let sides = Sides::of(record).await;
    let all = servers.iter().map(|server| survey_one(server, record, &sides, config));
    futures::future::join_all(all).await
}

async fn survey_one(server: &NameServer, record: &Record, sides: &Sides, config: &QueryConfig) -> Survey {
    let sources = if config.sources.is_empty() {
        vec![None]
    } else {
        config.sources.iter().copied().map(Some).collect()
    };
    let askers: Vec<Asker> =
        sources.into_iter().map(|source| Asker::new(server.address, source, config.timeout())).collect();
    let mut survey = Survey {
        server: server.clone(),
        key: record.key.clone(),
        asked: config.count,
        blue: 0,
        green: 0,
        unclear: 0,
        wrong: Vec::new(),
        unanswered: 0,
        silence: None,
        ttl: None,
    };
    let rtype = wire::wire_type(record.key.rtype);
    let mut answers = stream::iter(0..config.count)
        .zip(stream::iter(askers.into_iter().cycle()))
        .map(|(_, asker)| async move { asker.ask(&record.key.name, rtype).await })
        .buffer_unordered(CONCURRENT);
    let mut wrong: BTreeMap<Wrong, (u32, String)> = BTreeMap::new();
    while let Some(answer) = answers.next().await {
        match answer.map(|message| sides.classify(&record.key, &message)) {
            Err(why) => {
                survey.unanswered += 1;
                survey.silence = Some(why.text().to_owned());
                // A server that is not there is not asked two thousand times.
                if matches!(why, NoAnswer::Unreachable(_))
                    || (survey.unanswered > 50 && survey.blue + survey.green == 0)
                {
                    survey.unanswered = survey.asked - survey.blue - survey.green;
                    break;
                }
            }
            Ok(Answer::Good(arm, ttl)) => {
                match arm {
                    Side::Blue => survey.blue += 1,
                    Side::Green => survey.green += 1,
                }
                let (least, most) = survey.ttl.unwrap_or((ttl, ttl));
                survey.ttl = Some((least.min(ttl), most.max(ttl)));
            }
            Ok(Answer::Unclear) => survey.unclear += 1,
            Ok(Answer::Bad(what, example)) => {
                wrong.entry(what).or_insert((0, example)).0 += 1;
            }
        }
    }
    survey.wrong =
        wrong.into_iter().map(|(what, (count, example))| WrongAnswers { what, count, example }).collect();
    survey
}

enum Answer {
    Good(Side, u32),
    Unclear,
    Bad(Wrong, String),
}

/// What either side may answer.
struct Sides {
    blue: Vec<Value>,
    green: Vec<Value>,
    /// Whether addresses may come and go by themselves.
    alias: bool,
}

impl Sides {
    async fn of(record: &Record) -> Sides {
        let (blue, green) = (expand(&record.blue).await, expand(&record.green).await);
        let alias = record.blue.iter().chain(&record.green).any(|value| matches!(value, Value::Alias(_)));
        Sides { blue, green, alias }
    }

    fn classify(&self, key: &RecordKey, message: &Message) -> Answer {
        match message.metadata.response_code {
            ResponseCode::NoError => {}
            ResponseCode::ServFail => return Answer::Bad(Wrong::ServFail, "SERVFAIL".to_owned()),
            ResponseCode::NXDomain => return Answer::Bad(Wrong::NxDomain, "NXDOMAIN".to_owned()),
            other => return Answer::Bad(Wrong::Refused, other.to_string()),
        }
        let wanted = wire::wire_type(key.rtype);
        let of_type = message.answers.iter().filter(|record| record.record_type() == wanted);
        let values: Vec<(Option<Value>, u32)> =
            of_type.map(|record| (wire::value(&record.data), record.ttl)).collect();
        let Some(ttl) = values.iter().map(|(_, ttl)| *ttl).max() else {
            return Answer::Bad(Wrong::NoData, "no record of this type".to_owned());
        };
        let within = |side: &[Value]| {
            values.iter().filter(|(v, _)| v.as_ref().is_some_and(|v| side.contains(v))).count()
        };
        let (blue, green) = (within(&self.blue), within(&self.green));
        let shown = || {
            let texts =
                values.iter().map(|(v, _)| v.as_ref().map_or_else(|| "?".to_owned(), ToString::to_string));
            texts.collect::<Vec<_>>().join(", ")
        };
        match (blue, green) {
            (b, 0) if b == values.len() => Answer::Good(Side::Blue, ttl),
            (0, g) if g == values.len() => Answer::Good(Side::Green, ttl),
            (b, g) if b > 0 && g > 0 => Answer::Bad(Wrong::BothSides, shown()),
            _ if self.alias => Answer::Unclear,
            _ => Answer::Bad(Wrong::OtherValue, shown()),
        }
    }
}

/// An alias answers the addresses that its own name has now.
async fn expand(values: &[Value]) -> Vec<Value> {
    let mut all = Vec::new();
    for value in values {
        match value {
            Value::Alias(alias) => {
                let found = tokio::net::lookup_host((alias.name.without_dot(), 0)).await;
                all.extend(found.into_iter().flatten().map(|address| match address.ip() {
                    IpAddr::V4(address) => Value::V4(address),
                    IpAddr::V6(address) => Value::V6(address),
                }));
            }
            other => all.push(other.clone()),
        }
    }
    all
}

/// The zone's serial on each server, or why it has none there.
pub async fn serials(
    servers: &[NameServer],
    zone: &DomainName,
    config: &QueryConfig,
) -> Vec<(NameServer, std::result::Result<u32, String>)> {
    let all = servers.iter().map(|server| async move {
        let answer = Asker::new(server.address, None, config.timeout()).ask(zone, WireType::SOA).await;
        let serial = answer.map_err(|why| why.text().to_owned()).and_then(|message| {
            let soa = message.answers.iter().find_map(|record| match &record.data {
                RData::SOA(soa) => Some(soa.serial),
                _ => None,
            });
            let code = message.metadata.response_code;
            soa.ok_or_else(|| format!("it has no SOA of the zone ({code})"))
        });
        (server.clone(), serial)
    });
    futures::future::join_all(all).await
}

/// What one server has under a name, of the types that decide where clients go: A, AAAA, CNAME, HTTPS.
pub async fn neighbours(
    server: &NameServer,
    name: &DomainName,
    config: &QueryConfig,
) -> std::result::Result<Vec<SiblingRecord>, String> {
    let asker = Asker::new(server.address, None, config.timeout());
    let mut found = Vec::new();
    for rtype in [WireType::A, WireType::AAAA, WireType::CNAME, WireType::HTTPS] {
        let message = asker.ask(name, rtype).await.map_err(|why| format!("{server}: {}", why.text()))?;
        match message.metadata.response_code {
            ResponseCode::NoError | ResponseCode::NXDomain => {}
            code => return Err(format!("{server} answers {code} to {name}/{rtype}")),
        }
        let owner = wire::wire_name(name);
        let here =
            || message.answers.iter().filter(|record| record.record_type() == rtype && record.name == owner);
        if let Some(first) = here().next() {
            let texts: Vec<String> = here().map(|record| record.data.to_string()).collect();
            found.push(SiblingRecord { rtype: rtype.to_string(), ttl: first.ttl, text: texts.join(", ") });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn survey(blue: u32, green: u32) -> Survey {
        Survey {
            server: NameServer { name: "ns1".to_owned(), address: "192.0.2.53:53".parse().unwrap() },
            key: RecordKey { name: "api.example.com".parse().unwrap(), rtype: super::super::RecordType::A },
            asked: blue + green,
            blue,
            green,
            unclear: 0,
            wrong: Vec::new(),
            unanswered: 0,
            silence: None,
            ttl: Some((30, 30)),
        }
    }

    fn percent(percent: u16) -> Share {
        Share::percent(percent).unwrap()
    }

    #[test]
    fn chance_is_allowed_for_and_a_wrong_share_is_not() {
        assert_eq!(survey(1980, 20).judge(percent(1), false, None), Verdict::Good);
        assert_eq!(survey(1965, 35).judge(percent(1), false, None), Verdict::Good);
        assert!(
            matches!(survey(1900, 100).judge(percent(1), false, None), Verdict::ShareDiffers { z } if z > 15.0)
        );
        assert!(matches!(survey(2000, 0).judge(percent(1), false, None), Verdict::ShareDiffers { .. }));
    }

    #[test]
    fn at_either_end_a_single_stray_is_wrong() {
        assert_eq!(survey(2000, 0).judge(Share::BLUE, false, None), Verdict::Good);
        assert_eq!(
            survey(1999, 1).judge(Share::BLUE, false, None),
            Verdict::ShareDiffers { z: f64::INFINITY }
        );
        assert_eq!(
            survey(1, 1999).judge(Share::GREEN, true, None),
            Verdict::ShareDiffers { z: f64::INFINITY }
        );
    }

    #[test]
    fn a_sticky_server_shows_one_side_from_one_address() {
        assert_eq!(survey(2000, 0).judge(percent(10), true, None), Verdict::Good);
        assert!(matches!(survey(1000, 1000).judge(percent(10), true, None), Verdict::ShareDiffers { .. }));
    }

    #[test]
    fn behind_a_proxy_any_answer_is_good_and_none_is_not() {
        let mut proxied = survey(0, 0);
        proxied.asked = 10;
        proxied.wrong.push(WrongAnswers {
            what: Wrong::OtherValue,
            count: 10,
            example: "192.0.2.77".to_owned(),
        });
        assert_eq!(proxied.judge_any(), Verdict::Good);
        proxied.wrong.push(WrongAnswers { what: Wrong::ServFail, count: 1, example: "SERVFAIL".to_owned() });
        assert_eq!(proxied.judge_any(), Verdict::Wrong);
        let mut silent = survey(0, 0);
        (silent.asked, silent.unanswered) = (10, 9);
        assert_eq!(silent.judge_any(), Verdict::Silent);
    }

    #[test]
    fn wrong_answers_silence_and_old_ttls_are_never_good() {
        let mut broken = survey(1999, 0);
        broken.wrong.push(WrongAnswers { what: Wrong::ServFail, count: 1, example: "SERVFAIL".to_owned() });
        assert_eq!(broken.judge(Share::BLUE, false, None), Verdict::Wrong);
        let mut silent = survey(10, 0);
        (silent.asked, silent.unanswered) = (100, 90);
        assert_eq!(silent.judge(Share::BLUE, false, None), Verdict::Silent);
        assert_eq!(survey(0, 0).judge(Share::BLUE, false, None), Verdict::Silent);
        assert_eq!(survey(10, 0).judge(Share::BLUE, false, Some(60)), Verdict::TtlDiffers);
    }

    #[test]
    fn resolvers_are_read_from_resolv_conf() {
        let text =
            "# comment\nsearch example.com\nnameserver 192.0.2.1\nnameserver\t2001:db8::1\noptions edns0\n";
        let found: Vec<String> = resolvers(text).map(|address| address.to_string()).collect();
        assert_eq!(found, ["192.0.2.1:53", "[2001:db8::1]:53"]);
    }
}
