//! Fixtures and assertions of all providers' tests.

use std::net::SocketAddr;
use std::process::{Command, Output};
use std::time::Duration;

use kongferry::dns::query::{NameServer, QueryConfig, ShareMeasurement, ShareVerdict, measure};
use kongferry::dns::{
    Change, Desired, DnsProvider, DnsResult, Marker, OriginalTtl, Precondition, Propagation, Record,
    RecordForm, RecordType, Share, Target, Ttl,
};

pub const BLUE: &str = "127.0.0.1";
pub const GREEN: &str = "127.0.0.2";

pub fn record(name: &str, rtype: RecordType, blue: &[&str], green: &[&str]) -> Record {
    let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
    Record::new(name.parse().unwrap(), rtype, &texts(blue), &texts(green)).unwrap()
}

/// One A record, `api.example.test`.
pub fn target() -> Target {
    let api = record("api.example.test", RecordType::A, &[BLUE], &[GREEN]);
    Target::new("example.test".parse().unwrap(), vec![api]).unwrap()
}

pub fn percent(percent: u16) -> Share {
    Share::percent(percent).unwrap()
}

pub fn marker(generation: u64, share: Share) -> Marker {
    Marker {
        run: "7b6a1f52-1c0e-4f39-9d6f-2f8f0f6f0a01".parse().unwrap(),
        generation,
        state: "step".to_owned(),
        step: 1,
        share,
        started_at: "2026-11-24T01:00:00Z".parse().unwrap(),
        written_at: "2026-11-24T01:05:00Z".parse().unwrap(),
        owner: "anna@ops-1/4711".to_owned(),
        lease_until: Some("2026-11-24T01:10:00Z".parse().unwrap()),
        originals: vec![OriginalTtl { key: target().records()[0].key.clone(), ttl: 300 }],
        note: String::new(),
    }
}

/// A share with a TTL, if nothing has changed.
pub fn split(generation: u64, share: Share, ttl: u32) -> Desired {
    Desired {
        form: RecordForm::Split(share),
        ttl: Ttl::All(ttl),
        marker: Some(marker(generation, share)),
        precondition: Precondition::Unchanged,
    }
}

/// All traffic to blue, whatever the current records are.
pub fn rollback(generation: u64, ttl: u32) -> Desired {
    Desired { precondition: Precondition::Overwrite, ..split(generation, Share::BLUE, ttl) }
}

/// An ordinary record without a marker.
pub fn plain(side: kongferry::dns::Side, ttl: u32) -> Desired {
    Desired {
        form: RecordForm::Plain(side),
        ttl: Ttl::All(ttl),
        marker: None,
        precondition: Precondition::Unchanged,
    }
}

pub async fn plan(provider: &dyn DnsProvider, target: &Target, desired: &Desired) -> DnsResult<Change> {
    let before = provider.read(target).await?;
    provider.plan(target, &before, desired)
}

/// Reads, plans, writes, polls for the confirmation, and asserts that the records are as planned.
pub async fn apply(provider: &dyn DnsProvider, target: &Target, desired: &Desired) -> Change {
    let change = plan(provider, target, desired).await.unwrap();
    let ticket = provider.apply(&change).await.unwrap();
    while provider.confirm(&ticket).await.unwrap() == Propagation::Pending {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let now = provider.read(target).await.unwrap();
    assert!(now.matches(&change.after), "{:#?}\nis not\n{:#?}", now, change.after);
    change
}

pub fn server(address: SocketAddr) -> NameServer {
    NameServer { name: address.to_string(), address }
}

pub fn queries(count: u32) -> QueryConfig {
    QueryConfig { count, timeout: Duration::from_secs(10), ..QueryConfig::default() }
}

/// The answers for the target's first record.
pub async fn measure_first(address: SocketAddr, target: &Target, count: u32) -> ShareMeasurement {
    let mut measurements = measure(&[server(address)], &target.records()[0], &queries(count)).await;
    measurements.pop().unwrap()
}

pub async fn assert_served(address: SocketAddr, target: &Target, share: Share, count: u32, ttl: u32) {
    let answers = measure_first(address, target, count).await;
    assert_eq!(answers.judge(share, false, Some(ttl)), ShareVerdict::Good, "{share}: {answers}\n{answers:?}");
    assert_eq!(answers.blue + answers.green, count, "{answers}");
}

/// Runs a printed command.
pub fn run_in_bash(script: &str, variables: &[(&str, &str)]) -> Output {
    Command::new("bash")
        .args(["-euo", "pipefail", "-c", script])
        .envs(variables.iter().copied())
        .output()
        .unwrap()
}
