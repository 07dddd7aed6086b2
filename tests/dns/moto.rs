//! Names, XML and reading back against moto, which does not enforce Route 53's rules; see `fake_route53`.

use kongferry::dns::{DnsErrorKind, DnsProvider, RecordState, Share, Side};
use kongferry::finding::Severity;
use kongferry_harness::dns::Moto;

use crate::route53::Credentials;
use crate::support::{apply, percent, plain, rollback, split, target};

#[tokio::test]
async fn a_cutover_and_its_rollback_over_the_wire() {
    let moto = Moto::start().await.unwrap();
    let zone = moto.create_zone("example.test.").await.unwrap();
    let seed = "<ChangeResourceRecordSetsRequest xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\"><ChangeBatch>\
                <Changes><Change><Action>CREATE</Action><ResourceRecordSet><Name>api.example.test.</Name><Type>A</Type>\
                <TTL>300</TTL><ResourceRecords><ResourceRecord><Value>127.0.0.1</Value></ResourceRecord></ResourceRecords>\
                </ResourceRecordSet></Change></Changes></ChangeBatch></ChangeResourceRecordSetsRequest>";
    moto.post(&format!("/2013-04-01/hostedzone/{zone}/rrset/"), seed.to_owned()).await.unwrap();

    let credentials = Credentials::new();
    let provider = credentials.provider(&moto.url(), &zone);
    let target = target();
    let findings = provider.preflight(&target).await.unwrap();
    assert!(findings.iter().all(|finding| finding.severity < Severity::Blocker), "{findings:?}");
    let before = provider.read(&target).await.unwrap();
    assert_eq!((&before.records[0].state, before.max_ttl()), (&RecordState::Plain(Side::Blue), 300));
    for (generation, share) in [0, 1, 5, 10, 50, 100].into_iter().enumerate() {
        let share = percent(share);
        apply(&provider, &target, &split(generation as u64 + 1, share, 30)).await;
        assert_eq!(provider.read(&target).await.unwrap().share(), Some(share));
    }
    apply(&provider, &target, &rollback(7, 30)).await;
    assert_eq!(provider.read(&target).await.unwrap().share(), Some(Share::BLUE));
    // Another TTL than at first: moto refuses to CREATE a record a second time, although the same batch deletes the
    // first one. `fake_route53` restores the identical record.
    apply(&provider, &target, &plain(Side::Blue, 60)).await;
    let after = provider.read(&target).await.unwrap();
    assert_eq!(
        (&after.records[0].state, after.max_ttl(), after.marker),
        (&before.records[0].state, 60, None)
    );

    let unknown_zone = credentials.provider(&moto.url(), "ZNOWHERE");
    assert_eq!(unknown_zone.read(&target).await.unwrap_err().kind, DnsErrorKind::NotFound);
}
