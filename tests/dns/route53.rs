//! Requests for Route 53: snapshots, and validation by AWS's own model.

use std::io::Write;

use kongferry::dns::route53::{Route53 as Provider, Route53Config};
use kongferry::dns::{
    Change, Desired, DnsErrorKind, DnsProvider, Observed, ObservedRecord, Precondition, RecordForm,
    RecordState, RecordType, Request, SecretSource, Share, Side, Target, Ttl,
};
use serde_json::json;

use crate::support::{BLUE, percent, plain, record, rollback, split, target};
use kongferry_harness::route53::model;

/// Credentials in files that are deleted on drop.
pub struct Credentials {
    pub key_id: tempfile::NamedTempFile,
    pub key: tempfile::NamedTempFile,
}

impl Credentials {
    pub fn new() -> Self {
        let file = |text: &str| {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(text.as_bytes()).unwrap();
            file
        };
        Credentials { key_id: file("AKIDEXAMPLE"), key: file("s3cr3t-of-aws") }
    }

    /// For the zone `Z1`. Keep the files as long as the provider.
    pub fn new_provider(endpoint: &str) -> (Self, Provider) {
        let credentials = Credentials::new();
        let provider = credentials.provider(endpoint, "Z1");
        (credentials, provider)
    }

    pub fn provider(&self, endpoint: &str, zone_id: &str) -> Provider {
        Provider::new(Route53Config {
            hosted_zone_id: zone_id.to_owned(),
            access_key_id: SecretSource::File(self.key_id.path().to_owned()),
            secret_access_key: SecretSource::File(self.key.path().to_owned()),
            session_token: None,
            region: "us-east-1".to_owned(),
            endpoint: endpoint.to_owned(),
        })
        .unwrap()
    }
}

/// Ordinary records of blue, as they are read from Route 53.
fn ordinary(target: &Target) -> Observed {
    let records = target.records().iter().map(|record| {
        let values: Vec<String> = record.blue.iter().map(ToString::to_string).collect();
        let alias = values[0].starts_with("alias").then(|| record.blue[0].clone());
        let alias = alias.map(|value| match value {
            kongferry::dns::Value::Alias(alias) => json!(alias),
            _ => json!(null),
        });
        let ttl = if alias.is_some() { 60 } else { 300 };
        let raw = json!([{
            "name": record.key.name, "type": record.key.rtype, "weighted": null,
            "ttl": if alias.is_some() { json!(null) } else { json!(ttl) },
            "values": if alias.is_some() { json!([]) } else { json!(values) },
            "alias": alias, "unsupported": [],
        }]);
        ObservedRecord {
            key: record.key.clone(),
            state: RecordState::Plain(Side::Blue),
            ttl: Some(ttl),
            siblings: Vec::new(),
            raw,
        }
    });
    Observed::new(records.collect(), None)
}

fn body(change: &Change) -> &str {
    match &change.request {
        Request::Http { body, .. } => body,
        other => panic!("{other}"),
    }
}

/// Plans the changes in order, each from the records that the one before leaves.
fn plan_in_order(target: &Target, desired: &[Desired]) -> Vec<Change> {
    let provider = Credentials::new().provider("https://route53.amazonaws.com", "Z2ABCDEFGHIJKL");
    let mut before = ordinary(target);
    desired
        .iter()
        .map(|desired| {
            let change = provider.plan(target, &before, desired).unwrap();
            before = change.after.clone();
            change
        })
        .collect()
}

#[test]
fn the_requests_of_a_whole_cutover() {
    let lower = Desired { form: RecordForm::AsFound, ..split(1, Share::BLUE, 30) };
    let steps = [lower, split(2, percent(1), 30), split(3, Share::GREEN, 30), plain(Side::Green, 300)];
    for (change, name) in plan_in_order(&target(), &steps).iter().zip(["lower", "convert", "all", "finish"]) {
        insta::assert_snapshot!(name, change.request.to_string());
    }
}

#[test]
fn a_rollback_is_an_upsert_without_conditions() {
    let changes = plan_in_order(&target(), &[split(1, percent(50), 30), rollback(2, 30)]);
    let request = body(&changes[1]);
    assert!(!request.contains("DELETE") && !request.contains("CREATE"), "{request}");
    insta::assert_snapshot!("rollback", changes[1].request.to_string());
    let provider = Credentials::new().provider("https://route53.amazonaws.com", "Z2ABCDEFGHIJKL");
    insta::assert_snapshot!("manual_command", provider.manual_command(&changes[1]));
}

#[test]
fn every_request_is_valid_by_awss_model() {
    let two_values = record("api.example.test", RecordType::A, &[BLUE, "127.0.0.3"], &["127.0.0.2"]);
    let v6 = record("api.example.test", RecordType::Aaaa, &["::1"], &["::2"]);
    let cname =
        record("www.example.test", RecordType::Cname, &["blue.example.test"], &["green.example.test"]);
    let wildcard = record("*.apps.example.test", RecordType::A, &[BLUE], &["127.0.0.2"]);
    let alias = record(
        "example.test",
        RecordType::A,
        &["alias:Z1ELB/blue.elb.example.net"],
        &["alias+health:Z1ELB/green.elb.example.net"],
    );
    let target =
        Target::new("example.test".parse().unwrap(), vec![two_values, v6, cname, wildcard, alias]).unwrap();
    let mut steps =
        vec![Desired { form: RecordForm::AsFound, ttl: Ttl::AsFound, ..split(1, Share::BLUE, 0) }];
    let shares = [0, 1, 5, 10, 50, 100].map(percent);
    steps.extend(shares.into_iter().enumerate().map(|(n, share)| split(n as u64 + 2, share, 60)));
    steps.extend([rollback(8, 60), split(9, percent(50), 60), plain(Side::Blue, 300)]);
    for change in plan_in_order(&target, &steps) {
        assert_eq!(model::complaints(body(&change)), Vec::<String>::new(), "{}", body(&change));
    }
}

#[test]
fn changes_that_route_53_cannot_make_are_refused_by_plan() {
    let provider = Credentials::new().provider("https://route53.amazonaws.com", "Z2ABCDEFGHIJKL");
    let target = target();
    let before = ordinary(&target);
    let too_fine =
        provider.plan(&target, &before, &split(1, Share::basis_points(1).unwrap(), 30)).unwrap_err();
    assert_eq!(too_fine.kind, DnsErrorKind::Unsupported, "{too_fine}");
    let mut health = before;
    health.records[0].state = RecordState::Foreign("127.0.0.1 (with a health check)".to_owned());
    health.records[0].raw[0]["unsupported"] = json!(["a health check"]);
    for precondition in [Precondition::Unchanged, Precondition::Overwrite] {
        let desired = Desired { precondition, ..split(1, percent(1), 30) };
        let refused = provider.plan(&target, &health, &desired).unwrap_err();
        assert_eq!(refused.kind, DnsErrorKind::Conflict);
        assert!(refused.message.contains("health check"), "{refused}");
    }
}

#[test]
fn no_output_contains_a_credential() {
    let credentials = Credentials::new();
    let provider = credentials.provider("https://route53.amazonaws.com", "/hostedzone/Z2ABCDEFGHIJKL");
    let target = target();
    let change = provider.plan(&target, &ordinary(&target), &split(1, percent(1), 30)).unwrap();
    let shown = format!("{provider:?} {change:?} {} {}", change.request, provider.manual_command(&change));
    assert!(!shown.contains("s3cr3t-of-aws"), "{shown}");
    let journaled: Change = serde_json::from_str(&serde_json::to_string(&change).unwrap()).unwrap();
    assert_eq!(journaled, change);
}
