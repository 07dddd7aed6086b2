//! Route 53's rules, enforced by the harness's stateful fake.

use std::time::Duration;

use kongferry::dns::{
    DnsErrorKind, DnsProvider, Propagation, ProviderConfig, RecordState, Share, Side, WriteOutcome,
};
use kongferry_harness::dns::Moto;
use kongferry_harness::route53::{FakeRoute53, Fault};

use crate::route53::Credentials;
use crate::support::{apply, percent, plain, plan, rollback, run_in_bash, split, target};

#[tokio::test]
async fn a_cutover_and_its_rollback_follow_the_rules() {
    let fake = FakeRoute53::start("api.example.test", 300, "127.0.0.1").await;
    let provider = Credentials::new_provider(fake.url());
    let (provider, target, before) = (&provider.1, target(), fake.sets());
    for (generation, share) in [0, 1, 5, 10, 50, 100, 0].into_iter().enumerate() {
        let share = percent(share);
        apply(provider, &target, &split(generation as u64 + 1, share, 30)).await;
        assert_eq!(provider.read(&target).await.unwrap().share(), Some(share));
    }
    assert_eq!(fake.sets().len(), 3, "{:?}", fake.sets());
    apply(provider, &target, &rollback(8, 30)).await;
    apply(provider, &target, &plain(Side::Blue, 300)).await;
    assert_eq!(fake.sets(), before);
}

#[tokio::test]
async fn a_write_is_polled_until_it_is_in_sync() {
    let fake = FakeRoute53::start("api.example.test", 300, "127.0.0.1").await;
    let (_files, provider) = Credentials::new_provider(fake.url());
    let change = plan(&provider, &target(), &split(1, percent(1), 30)).await.unwrap();
    let ticket = provider.apply(&change).await.unwrap();
    assert_eq!(ticket.change_id.as_deref(), Some("C1"));
    let mut states = Vec::new();
    for _ in 0..3 {
        states.push(provider.confirm(&ticket).await.unwrap());
    }
    assert_eq!(states, [Propagation::Pending, Propagation::Pending, Propagation::InSync]);
}

#[tokio::test]
async fn of_two_writers_the_second_changes_nothing() {
    let fake = FakeRoute53::start("api.example.test", 300, "127.0.0.1").await;
    let (_files, provider) = Credentials::new_provider(fake.url());
    let target = target();
    let first = plan(&provider, &target, &split(1, percent(1), 30)).await.unwrap();
    let second = plan(&provider, &target, &split(1, percent(50), 30)).await.unwrap();
    provider.apply(&first).await.unwrap();
    let after_first = fake.sets();
    let refused = provider.apply(&second).await.unwrap_err();
    assert_eq!(refused.kind, DnsErrorKind::Conflict, "{refused}");
    assert_eq!(fake.sets(), after_first);
    // A repetition, as after a timeout.
    provider.apply(&first).await.unwrap();
    assert_eq!(fake.sets(), after_first);

    // Another client changes a weight and keeps the marker.
    let change = plan(&provider, &target, &split(2, percent(5), 30)).await.unwrap();
    fake.tamper(|sets| {
        for set in sets {
            if let Some((identifier, weight)) = &mut set.weighted
                && identifier.contains("green")
            {
                *weight = 77;
            }
        }
    });
    assert_eq!(provider.apply(&change).await.unwrap_err().kind, DnsErrorKind::Conflict);
    // A rollback overwrites it.
    apply(&provider, &target, &rollback(3, 30)).await;
}

#[tokio::test]
async fn each_fault_has_its_kind_and_none_leaves_a_partial_write() {
    let fake = FakeRoute53::start("api.example.test", 300, "127.0.0.1").await;
    let (_files, provider) = Credentials::new_provider(fake.url());
    let target = target();
    let before = fake.sets();
    let change = plan(&provider, &target, &split(1, percent(1), 30)).await.unwrap();
    for (fault, kind) in [
        (Fault::Throttle, DnsErrorKind::Throttled { retry_after: None }),
        (Fault::PriorRequest, DnsErrorKind::Throttled { retry_after: None }),
        (Fault::Denied, DnsErrorKind::Auth),
        (Fault::Broken, DnsErrorKind::Transient { may_be_applied: true }),
    ] {
        fake.next(fault);
        let refused = provider.apply(&change).await.unwrap_err();
        assert_eq!(refused.kind, kind, "{fault:?}: {refused}");
        assert!(!refused.to_string().contains("s3cr3t-of-aws"));
        assert_eq!(fake.sets(), before);
        assert_eq!(change.outcome(&provider.read(&target).await.unwrap()), WriteOutcome::NotApplied);
    }
    fake.next(Fault::LostAnswer);
    let lost = provider.apply(&change).await.unwrap_err();
    assert!(lost.may_be_applied(), "{lost}");
    assert_eq!(change.outcome(&provider.read(&target).await.unwrap()), WriteOutcome::Applied);
    assert_eq!(provider.read(&target).await.unwrap().share(), Some(percent(1)));
    let writes = fake.writes();
    provider.apply(&change).await.unwrap();
    assert_eq!(fake.writes(), writes);
}

#[tokio::test]
async fn all_weights_zero_is_no_share() {
    let fake = FakeRoute53::start("api.example.test", 300, "127.0.0.1").await;
    let (_files, provider) = Credentials::new_provider(fake.url());
    let target = target();
    apply(&provider, &target, &split(1, Share::BLUE, 30)).await;
    fake.tamper(|sets| {
        for set in sets {
            if let Some((_, weight)) = &mut set.weighted {
                *weight = 0;
            }
        }
    });
    let now = provider.read(&target).await.unwrap();
    assert!(matches!(now.records[0].state, RecordState::Foreign(_)), "{now:?}");
    assert_eq!(now.share(), None);
    tokio::time::timeout(Duration::from_secs(60), apply(&provider, &target, &rollback(2, 30))).await.unwrap();
}

/// The part of `aws` that the command uses, on AWS's own library.
const AWS: &str = r#"aws() { "$PYTHON" -c '
import json, sys, boto3
_, service, _, *rest = sys.argv
given = dict(zip(rest[::2], rest[1::2]))
client = boto3.client(service, endpoint_url=given["--endpoint-url"], region_name="us-east-1")
batch = json.load(open(given["--change-batch"].removeprefix("file://")))
client.change_resource_record_sets(HostedZoneId=given["--hosted-zone-id"], ChangeBatch=batch)
' "$@"; }
"#;

#[tokio::test(flavor = "multi_thread")]
async fn the_manual_rollback_needs_only_the_configuration_for_split_and_ordinary_records() {
    let fake = FakeRoute53::start("api.example.test", 300, "127.0.0.1").await;
    let (_files, provider) = Credentials::new_provider(fake.url());
    let target = target();
    let section = format!("kind = \"route53\"\nhosted_zone_id = \"Z1\"\nendpoint = \"{}\"", fake.url());
    let config: ProviderConfig = toml::from_str(&section).unwrap();
    let command = config.manual_rollback(&target, 30).unwrap();
    let python = Moto::python_with_boto3().unwrap();
    let run_command = || async {
        let variables = [
            ("PYTHON", python.display().to_string()),
            ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "s3cr3t-of-aws".to_owned()),
        ];
        let script = format!("{AWS}{command}");
        let run = move || {
            let variables: Vec<(&str, &str)> =
                variables.iter().map(|(name, value)| (*name, &**value)).collect();
            run_in_bash(&script, &variables)
        };
        let output = tokio::task::spawn_blocking(run).await.unwrap();
        assert!(output.status.success(), "{command}\n{}", String::from_utf8_lossy(&output.stderr));
    };
    // Weighted sets, during the cutover and at 100 %.
    for (generation, share) in [(1, 10), (2, 100)] {
        apply(&provider, &target, &split(generation, percent(share), 30)).await;
        run_command().await;
        let now = provider.read(&target).await.unwrap();
        assert_eq!((now.share(), now.max_ttl()), (Some(Share::BLUE), 30));
        assert!(now.marker.is_some());
    }
    // An ordinary record of green, for which Route 53 rejects the first command.
    apply(&provider, &target, &split(3, Share::GREEN, 30)).await;
    apply(&provider, &target, &plain(Side::Green, 300)).await;
    run_command().await;
    let now = provider.read(&target).await.unwrap();
    assert_eq!((&now.records[0].state, now.max_ttl()), (&RecordState::Plain(Side::Blue), 30));
}
