//! A real PowerDNS: exact shares, one request per change, and a complete rollback.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use kongferry::dns::powerdns::{Policy, PowerDns as Provider, PowerDnsConfig};
use kongferry::dns::query::{self, AnswerFault, ShareVerdict};
use kongferry::dns::{
    Desired, DnsErrorKind, DnsProvider, Precondition, ProviderConfig, RecordForm, RecordState, RecordType,
    SecretSource, Share, Side, Target, Ttl,
};
use kongferry::finding::{Finding, Severity};
use kongferry_harness::dns::{Forwarder, PowerDns};
use serde_json::{Value, json};

use crate::support::{
    BLUE, GREEN, apply, assert_served, measure_first, percent, plain, plan, queries, record, rollback,
    run_in_bash, server, split, target,
};

fn config(server: &PowerDns) -> PowerDnsConfig {
    PowerDnsConfig {
        url: server.url(),
        server: "localhost".to_owned(),
        api_key: SecretSource::File(server.api_key_file()),
        ca_file: None,
        policy: Policy::Random,
        replica_cache_ttl: Duration::ZERO,
        lua_records_enabled: false,
    }
}

fn provider(server: &PowerDns) -> Provider {
    Provider::new(config(server)).unwrap()
}

fn rrset(name: &str, rtype: &str, ttl: u32, contents: &[&str]) -> Value {
    let records: Vec<Value> = contents.iter().map(|c| json!({ "content": c, "disabled": false })).collect();
    json!({ "name": name, "type": rtype, "ttl": ttl, "changetype": "REPLACE", "records": records })
}

/// A server with `api.example.test` on blue, TTL 300, and a foreign comment.
async fn with_zone() -> PowerDns {
    // The usual setting; the tests of the cutover run with `shared`.
    let server = PowerDns::start_with("enable-lua-records=yes\n").await.unwrap();
    let mut api = rrset("api.example.test.", "A", 300, &[BLUE]);
    api["comments"] =
        json!([{ "content": "the front door", "account": "anna", "modified_at": 1_700_000_000 }]);
    server.create_zone("example.test.", json!([api])).await.unwrap();
    server
}

async fn rrsets(server: &PowerDns, name: &str) -> Vec<Value> {
    let zone = server.call("GET", "/zones/example.test.", None).await.unwrap();
    let sets = zone["rrsets"].as_array().unwrap().iter().filter(|set| set["name"] == name);
    sets.cloned().collect()
}

#[tokio::test]
async fn every_share_is_served_and_the_end_restores_the_original_records() {
    let server = with_zone().await;
    let (provider, target) = (provider(&server), target());
    let before = rrsets(&server, "api.example.test.").await;
    let findings = provider.preflight(&target).await.unwrap();
    assert!(findings.iter().all(|finding| finding.severity == Severity::Ok), "{findings:?}");

    // The program's default; `make soak` sets more.
    let count = std::env::var("KONGFERRY_QUERIES").ok().and_then(|n| n.parse().ok()).unwrap_or(2_000);
    for (generation, share) in [0, 1, 5, 10, 50, 100, 0].into_iter().enumerate() {
        let share = percent(share);
        apply(&provider, &target, &split(generation as u64 + 1, share, 2)).await;
        assert_served(server.dns(), &target, share, count, 2).await;
    }
    let marker = provider.read(&target).await.unwrap().marker.unwrap();
    assert_eq!((marker.generation, &*marker.owner), (7, "anna@ops-1/4711"));

    apply(&provider, &target, &plain(Side::Blue, 300)).await;
    assert_eq!(rrsets(&server, "api.example.test.").await, before);
    assert_served(server.dns(), &target, Share::BLUE, 100, 300).await;
}

#[tokio::test]
async fn several_records_of_all_types_move_in_one_request() {
    let server = PowerDns::start().await.unwrap();
    let sets = json!([
        rrset("api.example.test.", "A", 300, &["127.0.0.1", "127.0.0.3"]),
        rrset("api.example.test.", "AAAA", 300, &["::1"]),
        rrset("www.example.test.", "CNAME", 60, &["blue.example.test."]),
        rrset("*.apps.example.test.", "A", 60, &["127.0.0.1"]),
    ]);
    server.create_zone("example.test.", sets).await.unwrap();
    let records = vec![
        record("api.example.test", RecordType::A, &["127.0.0.1", "127.0.0.3"], &["127.0.0.2"]),
        record("api.example.test", RecordType::Aaaa, &["::1"], &["::2"]),
        record("www.example.test", RecordType::Cname, &["blue.example.test"], &["green.example.test"]),
        record("*.apps.example.test", RecordType::A, &["127.0.0.1"], &["127.0.0.2"]),
    ];
    let target = Target::new("example.test".parse().unwrap(), records).unwrap();
    let provider = provider(&server);
    for (generation, share) in [(1, percent(50)), (2, Share::GREEN)] {
        apply(&provider, &target, &split(generation, share, 20)).await;
        for record in target.records() {
            let answers = query::measure(&[server_of(&server)], record, &queries(1000)).await;
            assert_eq!(
                answers[0].judge(share, false, Some(20)),
                ShareVerdict::Good,
                "{}: {}",
                record.key,
                answers[0]
            );
        }
    }
    apply(&provider, &target, &plain(Side::Green, 300)).await;
    let mut types: Vec<Value> =
        rrsets(&server, "api.example.test.").await.into_iter().map(|set| set["type"].clone()).collect();
    types.sort_by_key(Value::to_string);
    assert_eq!(types, ["A", "AAAA"]);
}

fn server_of(server: &PowerDns) -> query::NameServer {
    self::server(server.dns())
}

#[tokio::test]
async fn sticky_answers_are_constant_for_a_client_and_have_the_share_over_many() {
    let server = with_zone().await;
    let provider = Provider::new(PowerDnsConfig { policy: Policy::Hashed, ..config(&server) }).unwrap();
    assert!(provider.capabilities().sticky);
    let target = target();
    apply(&provider, &target, &split(1, percent(10), 2)).await;
    let answers = measure_first(server.dns(), &target, 200).await;
    assert!(answers.blue == 200 || answers.green == 200, "{answers}");
    assert_eq!(answers.judge(percent(10), true, Some(2)), ShareVerdict::Good);

    let clients =
        (0..1000_u16).map(|n| IpAddr::V4(Ipv4Addr::new(127, 1, (n / 250) as u8, (n % 250) as u8 + 1)));
    let many = query::QueryConfig { sources: clients.collect(), ..queries(1000) };
    let answers = query::measure(&[server_of(&server)], &target.records()[0], &many).await;
    assert_eq!(answers[0].judge(percent(10), false, Some(2)), ShareVerdict::Good, "{}", answers[0]);
}

#[tokio::test]
async fn invalid_lua_is_detected_by_queries_and_rolled_back() {
    let server = with_zone().await;
    let (provider, target) = (provider(&server), target());
    apply(&provider, &target, &split(1, percent(10), 2)).await;
    let invalid = rrset("api.example.test.", "LUA", 2, &["A \"pickwrandom({ {99,'127.0.0.1'}\""]);
    server.call("PATCH", "/zones/example.test.", Some(json!({ "rrsets": [invalid] }))).await.unwrap();

    let answers = measure_first(server.dns(), &target, 50).await;
    assert_eq!(answers.judge(percent(10), false, None), ShareVerdict::Faulty);
    assert_eq!((answers.faulty[0].fault, answers.faulty[0].count), (AnswerFault::ServFail, 50));
    let now = provider.read(&target).await.unwrap();
    assert!(matches!(now.records[0].state, RecordState::Foreign(_)), "{now:?}");
    let refused = provider.plan(&target, &now, &split(2, percent(50), 2)).unwrap_err();
    assert_eq!(refused.kind, DnsErrorKind::Conflict);

    apply(&provider, &target, &rollback(2, 2)).await;
    assert_served(server.dns(), &target, Share::BLUE, 100, 2).await;
}

#[tokio::test]
async fn of_two_writers_the_second_is_refused_and_a_repetition_is_not() {
    let server = with_zone().await;
    let (provider, target) = (provider(&server), target());
    let first = plan(&provider, &target, &split(1, percent(1), 2)).await.unwrap();
    let second = plan(&provider, &target, &split(1, percent(50), 2)).await.unwrap();
    provider.apply(&first).await.unwrap();
    let refused = provider.apply(&second).await.unwrap_err();
    assert_eq!(refused.kind, DnsErrorKind::Conflict, "{refused}");
    assert!(refused.message.contains("anna@ops-1/4711"), "{refused}");
    provider.apply(&first).await.unwrap();
    assert_eq!(provider.read(&target).await.unwrap().share(), Some(percent(1)));

    // Another client changes the record itself.
    let change = plan(&provider, &target, &split(2, percent(5), 2)).await.unwrap();
    let other =
        rrset("api.example.test.", "LUA", 2, &["A \"pickwrandom({ {1,'127.0.0.1'}, {1,'127.0.0.2'} })\""]);
    server.call("PATCH", "/zones/example.test.", Some(json!({ "rrsets": [other] }))).await.unwrap();
    assert_eq!(provider.apply(&change).await.unwrap_err().kind, DnsErrorKind::Conflict);
}

#[tokio::test]
async fn a_rehearsal_changes_nothing_but_the_marker() {
    let server = with_zone().await;
    let (provider, target) = (provider(&server), target());
    let rehearsal = Desired { form: RecordForm::AsFound, ttl: Ttl::AsFound, ..split(1, Share::BLUE, 2) };
    let change = apply(&provider, &target, &rehearsal).await;
    assert!(change.after.has_same_records(&change.before));
    assert_served(server.dns(), &target, Share::BLUE, 100, 300).await;
}

#[tokio::test]
async fn refusals_have_the_right_kind() {
    let server = with_zone().await;
    let target = target();
    let key = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(key.path(), "wrong").unwrap();
    let wrong_key = PowerDnsConfig { api_key: SecretSource::File(key.path().to_owned()), ..config(&server) };
    let refused = Provider::new(wrong_key).unwrap().read(&target).await.unwrap_err();
    assert_eq!(refused.kind, DnsErrorKind::Auth, "{refused}");
    assert!(!refused.to_string().contains("wrong"), "{refused}");

    let other_zone = record("api.example.org", RecordType::A, &[BLUE], &[GREEN]);
    let other_target = Target::new("example.org".parse().unwrap(), vec![other_zone]).unwrap();
    let refused = provider(&server).read(&other_target).await.unwrap_err();
    assert_eq!(refused.kind, DnsErrorKind::NotFound, "{refused}");

    // A CNAME beside an A record: PowerDNS answers 422.
    let cname =
        record("api.example.test", RecordType::Cname, &["blue.example.test"], &["green.example.test"]);
    let cname = Target::new("example.test".parse().unwrap(), vec![cname]).unwrap();
    let desired = Desired { precondition: Precondition::Overwrite, ..plain(Side::Blue, 60) };
    let change = plan(&provider(&server), &cname, &desired).await.unwrap();
    let refused = provider(&server).apply(&change).await.unwrap_err();
    assert_eq!(refused.kind, DnsErrorKind::Invalid, "{refused}");
    assert_served(server.dns(), &target, Share::BLUE, 10, 300).await;

    let unreachable = PowerDnsConfig { url: "http://127.0.0.1:9".to_owned(), ..config(&server) };
    let refused = Provider::new(unreachable).unwrap().read(&target).await.unwrap_err();
    assert_eq!(refused.kind, DnsErrorKind::Transient { may_be_applied: false }, "{refused}");
}

#[tokio::test]
async fn preflight_refuses_a_server_without_lua_records() {
    let server = PowerDns::start_with("").await.unwrap();
    server
        .create_zone("example.test.", json!([rrset("api.example.test.", "A", 300, &[BLUE])]))
        .await
        .unwrap();
    let blocked = |findings: &[Finding]| findings.iter().any(|f| f.severity == Severity::Blocker);
    assert!(blocked(&provider(&server).preflight(&target()).await.unwrap()));
    // The zone's own metadata may enable them, which the API does not show: the operator declares it.
    let declared = Provider::new(PowerDnsConfig { lua_records_enabled: true, ..config(&server) }).unwrap();
    assert!(!blocked(&declared.preflight(&target()).await.unwrap()));
}

#[tokio::test]
async fn a_rollback_is_served_at_once_and_through_a_resolver_after_the_ttl() {
    let server = with_zone().await;
    let (provider, target) = (provider(&server), target());
    let resolver = Forwarder::start(server.dns(), 0).await.unwrap();
    apply(&provider, &target, &split(1, Share::GREEN, 2)).await;
    let answers = measure_first(resolver.address(), &target, 20).await;
    assert_eq!((answers.green, answers.faulty.len()), (20, 0), "{answers}");

    apply(&provider, &target, &rollback(2, 2)).await;
    assert_served(server.dns(), &target, Share::BLUE, 200, 2).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let answers = measure_first(resolver.address(), &target, 20).await;
    assert_eq!(answers.judge(Share::BLUE, false, None), ShareVerdict::Good, "{answers}");
}

#[tokio::test]
async fn the_manual_command_makes_the_change() {
    let server = with_zone().await;
    let (provider, target) = (provider(&server), target());
    apply(&provider, &target, &split(1, percent(50), 2)).await;
    let change = plan(&provider, &target, &rollback(2, 2)).await.unwrap();
    let command = provider.manual_command(&change);
    assert!(
        !command.contains("kongferry-test-key") && !change.request.to_string().contains("kongferry-test-key")
    );
    kongferry_harness::tools::curl().unwrap();
    let output = run_in_bash(&command, &[]);
    assert!(output.status.success(), "{command}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(provider.read(&target).await.unwrap().matches(&change.after));
}

#[tokio::test]
async fn the_manual_rollback_needs_only_the_configuration_and_overwrites_any_record() {
    let server = PowerDns::start().await.unwrap();
    // Foreign addresses, a foreign Lua program, and a record of green.
    let sets = json!([
        rrset("api.example.test.", "A", 300, &["127.0.0.9"]),
        rrset("api.example.test.", "AAAA", 60, &["::9"]),
        rrset("www.example.test.", "LUA", 60, &["CNAME \"'elsewhere.example.net.'\""]),
        rrset("*.apps.example.test.", "A", 60, &[GREEN]),
    ]);
    server.create_zone("example.test.", sets).await.unwrap();
    let records = vec![
        record("api.example.test", RecordType::A, &[BLUE, "127.0.0.3"], &[GREEN]),
        record("api.example.test", RecordType::Aaaa, &["::1"], &["::2"]),
        record("www.example.test", RecordType::Cname, &["blue.example.test"], &["green.example.test"]),
        record("*.apps.example.test", RecordType::A, &[BLUE], &[GREEN]),
    ];
    let target = Target::new("example.test".parse().unwrap(), records).unwrap();
    let command = ProviderConfig::PowerDns(config(&server)).manual_rollback(&target, 7).unwrap();
    kongferry_harness::tools::curl().unwrap();
    for _ in 0..2 {
        let output = run_in_bash(&command, &[]);
        assert!(output.status.success(), "{command}\n{}", String::from_utf8_lossy(&output.stderr));
        let now = provider(&server).read(&target).await.unwrap();
        assert_eq!((now.share(), now.max_ttl()), (Some(Share::BLUE), 7), "{now:#?}");
    }
    assert_served(server.dns(), &target, Share::BLUE, 100, 7).await;
}
