//! A real BIND: signed updates whose prerequisites are a compare-and-swap.

use kongferry::dns::query::{self, ShareVerdict};
use kongferry::dns::rfc2136::{Rfc2136 as Provider, Rfc2136Config, TsigAlgorithm, TsigConfig};
use kongferry::dns::{
    Desired, DnsErrorKind, DnsProvider, Precondition, ProviderConfig, RecordForm, RecordState, RecordType,
    SecretSource, Share, Side, Target, Ttl, WriteOutcome,
};
use kongferry::finding::Severity;
use kongferry_harness::dns::Bind;

use crate::support::{
    BLUE, GREEN, apply, assert_served, measure_first, percent, plain, plan, queries, record, rollback,
    run_in_bash, server, split, target,
};

const RECORDS: &str =
    "api 300 IN A 127.0.0.1\nprotected 300 IN A 127.0.0.1\nwww 60 IN CNAME blue.example.test.";

fn config(server: &Bind) -> Rfc2136Config {
    Rfc2136Config {
        server: server.address().to_string(),
        tsig: TsigConfig {
            name: Bind::KEY_NAME.parse().unwrap(),
            algorithm: TsigAlgorithm::HmacSha256,
            secret: SecretSource::File(server.secret_file()),
        },
        timeout: std::time::Duration::from_secs(10),
    }
}

fn provider(server: &Bind) -> Provider {
    Provider::new(config(server)).unwrap()
}

#[tokio::test]
async fn a_cutover_and_its_rollback_restore_the_record() {
    let server = Bind::primary("example.test", RECORDS).await.unwrap();
    let (provider, target) = (provider(&server), target());
    let findings = provider.preflight(&target).await.unwrap();
    assert!(findings.iter().all(|finding| finding.severity == Severity::Ok), "{findings:?}");
    let before = provider.read(&target).await.unwrap();
    assert_eq!((before.share(), before.max_ttl()), (Some(Share::BLUE), 300));

    let lower = Desired { form: RecordForm::AsFound, ..split(1, Share::BLUE, 2) };
    apply(&provider, &target, &lower).await;
    assert_served(server.address(), &target, Share::BLUE, 100, 2).await;
    apply(&provider, &target, &split(2, Share::GREEN, 2)).await;
    assert_served(server.address(), &target, Share::GREEN, 100, 2).await;
    apply(&provider, &target, &rollback(3, 2)).await;
    assert_served(server.address(), &target, Share::BLUE, 100, 2).await;
    let marker = provider.read(&target).await.unwrap().marker.unwrap();
    assert_eq!(marker.originals[0].ttl, 300);

    let restore = Desired { ttl: Ttl::Each(marker.originals), ..plain(Side::Blue, 0) };
    apply(&provider, &target, &restore).await;
    assert!(provider.read(&target).await.unwrap().matches(&before));
}

#[tokio::test]
async fn several_names_and_types_move_in_one_message() {
    let records = format!("{RECORDS}\napi 300 IN AAAA ::1\napi 300 IN HTTPS 1 .");
    let server = Bind::primary("example.test", &records).await.unwrap();
    let moved = vec![
        record("api.example.test", RecordType::A, &[BLUE], &["127.0.0.2", "127.0.0.3"]),
        record("api.example.test", RecordType::Aaaa, &["::1"], &["::2"]),
        record("www.example.test", RecordType::Cname, &["blue.example.test"], &["green.example.test"]),
    ];
    let target = Target::new("example.test".parse().unwrap(), moved).unwrap();
    let provider = provider(&server);
    let found = provider.read(&target).await.unwrap();
    assert_eq!(found.records[0].siblings[0].rtype, "HTTPS");
    apply(&provider, &target, &split(1, Share::GREEN, 20)).await;
    for record in target.records() {
        let answers = query::measure(&[self::server(server.address())], record, &queries(50)).await;
        assert_eq!(answers[0].judge(Share::GREEN, false, Some(20)), ShareVerdict::Good, "{}", answers[0]);
    }
    let name = &target.records()[0].key.name;
    let siblings = query::siblings(&self::server(server.address()), name, &queries(1)).await.unwrap();
    let types: Vec<&str> = siblings.iter().map(|sibling| &*sibling.rtype).collect();
    assert_eq!(types, ["A", "AAAA", "HTTPS"]);
}

#[tokio::test]
async fn shares_that_need_weights_are_refused_by_plan() {
    let server = Bind::primary("example.test", RECORDS).await.unwrap();
    let provider = provider(&server);
    assert!(!provider.capabilities().can_split(percent(1)));
    let refused = plan(&provider, &target(), &split(1, percent(1), 2)).await.unwrap_err();
    assert_eq!(refused.kind, DnsErrorKind::Unsupported);
    assert!(refused.message.contains("1 %"), "{refused}");
}

#[tokio::test]
async fn of_two_writers_the_second_changes_nothing() {
    let server = Bind::primary("example.test", RECORDS).await.unwrap();
    let (provider, target) = (provider(&server), target());
    let first = plan(&provider, &target, &split(1, Share::GREEN, 2)).await.unwrap();
    let second = plan(&provider, &target, &Desired { form: RecordForm::AsFound, ..split(1, Share::BLUE, 9) })
        .await
        .unwrap();
    provider.apply(&first).await.unwrap();
    let refused = provider.apply(&second).await.unwrap_err();
    assert_eq!(refused.kind, DnsErrorKind::Conflict, "{refused}");
    let now = provider.read(&target).await.unwrap();
    assert_eq!(
        (first.outcome(&now), second.outcome(&now)),
        (WriteOutcome::Applied, WriteOutcome::Conflicting)
    );
    // A repetition, as after a timeout.
    provider.apply(&first).await.unwrap();

    // A stale generation.
    let stale = plan(&provider, &target, &split(2, Share::BLUE, 2)).await.unwrap();
    apply(
        &provider,
        &target,
        &Desired { precondition: Precondition::Overwrite, ..split(2, Share::GREEN, 7) },
    )
    .await;
    assert_eq!(provider.apply(&stale).await.unwrap_err().kind, DnsErrorKind::Conflict);
    assert_served(server.address(), &target, Share::GREEN, 20, 7).await;
}

#[tokio::test]
async fn refusals_have_the_right_kind() {
    let server = Bind::primary("example.test", RECORDS).await.unwrap();
    let target = target();
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "d3Jvbmcgd3Jvbmcgd3Jvbmcgd3Jvbmc=").unwrap();
    let mut wrong = config(&server);
    wrong.tsig.secret = SecretSource::File(secret.path().to_owned());
    let wrong = Provider::new(wrong).unwrap();
    let change = plan(&wrong, &target, &split(1, Share::GREEN, 2)).await.unwrap();
    let refused = wrong.apply(&change).await.unwrap_err();
    assert_eq!(refused.kind, DnsErrorKind::Auth, "{refused}");
    let shown = format!("{refused} {wrong:?} {} {}", change.request, wrong.manual_command(&change));
    assert!(!shown.contains("d3Jvbmcg") && !shown.to_lowercase().contains("github"), "{shown}");

    let protected = record("protected.example.test", RecordType::A, &[BLUE], &[GREEN]);
    let protected = Target::new("example.test".parse().unwrap(), vec![protected]).unwrap();
    let provider = provider(&server);
    let change = plan(&provider, &protected, &split(1, Share::GREEN, 2)).await.unwrap();
    let refused = provider.apply(&change).await.unwrap_err();
    assert_eq!(refused.kind, DnsErrorKind::Auth, "{refused}");

    let other_zone = record("api.example.org", RecordType::A, &[BLUE], &[GREEN]);
    let other_target = Target::new("example.org".parse().unwrap(), vec![other_zone]).unwrap();
    let findings = provider.preflight(&other_target).await;
    assert!(findings.map_or(true, |findings| findings[0].severity == Severity::Blocker));
    assert_served(server.address(), &target, Share::BLUE, 20, 300).await;
}

#[tokio::test]
async fn a_lagging_secondary_is_detected_by_serial_and_answers() {
    let primary = Bind::primary("example.test", RECORDS).await.unwrap();
    let secondary = Bind::secondary("example.test", &primary).await.unwrap();
    let servers = [server(primary.address()), server(secondary.address())];
    let zone = "example.test".parse().unwrap();
    let serials = || async {
        let found = query::serials(&servers, &zone, &queries(1)).await;
        found.into_iter().map(|(_, serial)| serial).collect::<Vec<_>>()
    };
    // Wait for the first zone transfer.
    while serials().await[1].is_err() {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let before = serials().await;
    assert_eq!(before[0], before[1]);
    let target = target();
    apply(&provider(&primary), &target, &split(1, Share::GREEN, 2)).await;
    let after = serials().await;
    assert_ne!(after[0], after[1]);
    assert_eq!(after[1], before[1]);
    let lagging = measure_first(secondary.address(), &target, 20).await;
    assert_eq!(lagging.judge(Share::GREEN, false, None), ShareVerdict::ShareDiffers { z: f64::INFINITY });
}

#[tokio::test]
async fn the_manual_command_makes_the_change() {
    let server = Bind::primary("example.test", RECORDS).await.unwrap();
    let (provider, target) = (provider(&server), target());
    apply(&provider, &target, &split(1, Share::GREEN, 2)).await;
    let change = plan(&provider, &target, &rollback(2, 2)).await.unwrap();
    let command = provider.manual_command(&change);
    kongferry_harness::tools::nsupdate().unwrap();
    let output = run_in_bash(&command, &[]);
    assert!(output.status.success(), "{command}\n{}", String::from_utf8_lossy(&output.stderr));
    let now = provider.read(&target).await.unwrap();
    assert!(now.matches(&change.after));
    assert_eq!(now.records[0].state, RecordState::Plain(Side::Blue));
}

#[tokio::test]
async fn the_manual_rollback_needs_only_the_configuration_and_overwrites_any_record() {
    let records = format!("{RECORDS}\n*.apps 300 IN A 127.0.0.1\nsix 300 IN AAAA ::1");
    let server = Bind::primary("example.test", &records).await.unwrap();
    let many = vec![
        record("api.example.test", RecordType::A, &[BLUE, "127.0.0.3"], &[GREEN]),
        record("www.example.test", RecordType::Cname, &["blue.example.test"], &["green.example.test"]),
        record("*.apps.example.test", RecordType::A, &[BLUE], &[GREEN]),
    ];
    let target = Target::new("example.test".parse().unwrap(), many).unwrap();
    let config = ProviderConfig::Rfc2136(config(&server));
    let command = config.manual_rollback(&target, 7).unwrap();
    kongferry_harness::tools::nsupdate().unwrap();
    let provider = provider(&server);
    // First over other values, then over blue's own.
    for _ in 0..2 {
        let output = run_in_bash(&command, &[]);
        assert!(output.status.success(), "{command}\n{}", String::from_utf8_lossy(&output.stderr));
        let now = provider.read(&target).await.unwrap();
        assert!(now.records.iter().all(|record| record.state == RecordState::Plain(Side::Blue)), "{now:#?}");
        assert_eq!(now.max_ttl(), 7);
    }
    let green = apply(&provider, &target, &split(1, Share::GREEN, 2)).await;
    assert!(run_in_bash(&command, &[]).status.success());
    let now = provider.read(&target).await.unwrap();
    assert_eq!((now.share(), now.marker_text), (Some(Share::BLUE), green.after.marker_text));
}
