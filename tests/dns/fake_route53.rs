//! Route 53's rules, by the harness's stateful fake.

use std::time::Duration;

use kongferry::dns::{
    DnsErrorKind, DnsProvider, Propagation, ProviderConfig, RecordState, Share, Side, WriteOutcome,
};
use kongferry_harness::dns::Moto;
use kongferry_harness::route53::{FakeRoute53, Fault};

use crate::route53::Credentials;
use crate::support::{carry_out, in_bash, percent, plain, plan, rollback, split, target};

#[tokio::test]
async fn a_cutover_and_its_way_back_by_the_rules() {
    let fake = FakeRoute53::start("api.example.test", 300, "127.0.0.1").await;
    let provider = Credentials::new_provider(fake.url());
    let (provider, target, before) = (&provider.1, target(), fake.sets());
    for (generation, share) in [0, 1, 5, 10, 50, 100, 0].into_iter().enumerate() {
        let share = percent(share);
        carry_out(provider, &target, &split(generation as u64 + 1, share, 30)).await;
        assert_eq!(provider.read(&target).await.unwrap().share(), Some(share));
    }
    assert_eq!(fake.sets().len(), 3, "{:?}", fake.sets());
    carry_out(provider, &target, &rollback(8, 30)).await;
    carry_out(provider, &target, &plain(Side::Blue, 300)).await;
    assert_eq!(fake.sets(), before);
}

#[tokio::test]
async fn a_write_is_followed_until_it_is_in_sync() {
    let fake = FakeRoute53::start("api.example.test", 300, "127.0.0.1").await;
    let (_files, provider) = Credentials::new_provider(fake.url());
    let change = plan(&provider, &target(), &split(1, percent(1), 30)).await.unwrap();
    let ticket = provider.apply(&change).await.unwrap();
    assert_eq!(ticket.change_id.as_deref(), Some("C1"));
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(provider.confirm(&ticket).await.unwrap());
    }
    assert_eq!(seen, [Propagation::Pending, Propagation::Pending, Propagation::InSync]);
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
    // The same once more, as after a time-out.
    provider.apply(&first).await.unwrap();
    assert_eq!(fake.sets(), after_first);

    // Somebody changes a weight in the console; the marker is as it was.
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
    // A rollback does not mind.
    carry_out(&provider, &target, &rollback(3, 30)).await;
}

#[tokio::test]
async fn each_fault_is_what_it_is_and_none_leaves_half_a_write() {
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
async fn all_weights_zero_is_not_taken_for_a_share() {
    let fake = FakeRoute53::start("api.example.test", 300, "127.0.0.1").await;
    let (_files, provider) = Credentials::new_provider(fake.url());
    let target = target();
    carry_out(&provider, &target, &split(1, Share::BLUE, 30)).await;
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
    tokio::time::timeout(Duration::from_secs(60), carry_out(&provider, &target, &rollback(2, 30)))
        .await
        .unwrap();
}

/// `aws`, as far as the command needs it, over AWS's own library.
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
async fn blue_comes_back_by_hand_from_the_configuration_alone_split_or_ordinary() {
    let fake = FakeRoute53::start("api.example.test", 300, "127.0.0.1").await;
    let (_files, provider) = Credentials::new_provider(fake.url());
    let target = target();
    let section = format!("kind = \"route53\"\nhosted_zone_id = \"Z1\"\nendpoint = \"{}\"", fake.url());
    let config: ProviderConfig = toml::from_str(&section).unwrap();
    let command = config.manual_rollback(&target, 30).unwrap();
    let python = Moto::python_with_boto3().unwrap();
    let paste = || async {
        let variables = [
            ("PYTHON", python.display().to_string()),
            ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "s3cr3t-of-aws".to_owned()),
        ];
        let script = format!("{AWS}{command}");
        let run = move || {
            let variables: Vec<(&str, &str)> =
                variables.iter().map(|(name, value)| (*name, &**value)).collect();
            in_bash(&script, &variables)
        };
        let output = tokio::task::spawn_blocking(run).await.unwrap();
        assert!(output.status.success(), "{command}\n{}", String::from_utf8_lossy(&output.stderr));
    };
    // Weighted sets, on their way and at the end of it.
    for (generation, share) in [(1, 10), (2, 100)] {
        carry_out(&provider, &target, &split(generation, percent(share), 30)).await;
        paste().await;
        let now = provider.read(&target).await.unwrap();
        assert_eq!((now.share(), now.max_ttl()), (Some(Share::BLUE), 30));
        assert!(now.marker.is_some());
    }
    // An ordinary record of green, where the first command is refused.
    carry_out(&provider, &target, &split(3, Share::GREEN, 30)).await;
    carry_out(&provider, &target, &plain(Side::Green, 300)).await;
    paste().await;
    let now = provider.read(&target).await.unwrap();
    assert_eq!((&now.records[0].state, now.max_ttl()), (&RecordState::Plain(Side::Blue), 30));
}
