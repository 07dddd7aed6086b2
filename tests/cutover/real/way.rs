//! The way through, and back, on a real PowerDNS and a real BIND.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use kongferry::dns::Share;
use kongferry_harness::dns::{Bind, Forwarder};
use kongferry_harness::metrics::resolve;

use super::site::{NAME, ON_TRUST, STEPS, Site, assert_share, at_share, baking, ran};

/// The steps of Kong's own guide.
const GUIDE: [u16; 5] = [1, 5, 10, 50, 100];

#[tokio::test]
async fn it_goes_through_drains_and_finishes_and_each_step_is_what_clients_get() {
    let steps: String =
        GUIDE.iter().map(|percent| format!("[[step]]\nshare = {percent}\nbake = \"10m\"\n")).collect();
    let site = Site::new(&steps).await;
    let planned = site.run(&["plan"]).await.ends_with(0);
    assert!(planned.stdout.contains("pickwrandom") && planned.stdout.contains("curl"), "{}", planned.stdout);
    assert_eq!(site.records().await, ["\"A\" 2 \"192.0.2.1\""], "plan changes nothing");

    let running = site.spawn(&["start", "--yes", "--no-wait"]);
    for percent in GUIDE {
        site.until(&format!("{percent} %"), baking(percent)).await;
        let survey = site.survey(10_000).await;
        assert!(survey.faulty.is_empty(), "{survey}");
        assert_share(survey.fraction().expect("answers"), Share::percent(percent).unwrap(), 10_000);
        site.run(&["promote"]).await.ends_with(0);
    }
    let ended = running.end().await.ends_with(0);
    assert!(ended.stdout.contains("Drained."), "{ended:#?}");
    let marker = site.marker().await.expect("a marker");
    assert_eq!((marker.state.as_str(), marker.share), ("step", Share::GREEN));

    let finished = site.run(&["finish"]).await.ends_with(0);
    assert!(finished.stdout.contains("Blue can be shut down."), "{finished:#?}");
    assert_eq!(site.records().await, ["\"A\" 2 \"192.0.2.2\""]);
    assert_eq!(site.marker().await, None);
    assert_eq!(site.status().await["state"], "finished");
}

#[tokio::test]
async fn a_rollback_is_at_the_authoritative_server_within_a_second_and_behind_a_cache_within_the_ttl() {
    let site =
        Site::new(&STEPS.replace("bake = \"1s\"", "bake = \"10m\"").replace("share = 10\n", "share = 50\n"))
            .await;
    let cache = Forwarder::start(site.dns.dns(), 0).await.expect("a BIND that forwards");
    let running = site.spawn(&["start", "--yes"]);
    site.until("1 %", baking(1)).await;
    site.run(&["promote"]).await.ends_with(0);
    site.until("50 %", baking(50)).await;

    let asked = Instant::now();
    site.run(&["rollback", "--reason", "a drill"]).await.ends_with(0);
    let told = Instant::now();
    while site.measured(50).await > 0.0 {
        assert!(told.elapsed() < Duration::from_secs(5), "green is still answered");
    }
    let ended = running.end().await.ends_with(3);
    assert!(ended.stdout.contains("Rolled back.") && ended.stdout.contains("a drill"), "{ended:#?}");
    // The TTL was 1 s: what the cache knows from before is gone.
    assert!(asked.elapsed() > Duration::from_secs(1));
    for _ in 0..20 {
        assert_eq!(answer(cache.address()).await, "192.0.2.1");
    }
}

#[tokio::test]
async fn behind_a_resolver_that_keeps_answers_longer_it_is_over_when_that_lets_go() {
    // Nine seconds where the record says one, as some resolvers do; the file says so.
    let site = Site::new("").await;
    site.configure(site.home.path(), "[[step]]\nshare = 100\nbake = \"10m\"\n");
    let file = site.home.path().join("cutover.toml");
    let text = std::fs::read_to_string(&file).expect("a file");
    std::fs::write(&file, text.replace("resolver_floor = \"0s\"", "resolver_floor = \"10s\""))
        .expect("written");
    let running = site.spawn(&["start", "--yes"]);
    site.until("100 %", baking(100)).await;
    let resolver = Forwarder::start(site.dns.dns(), 9).await.expect("a BIND that forwards");
    assert_eq!(answer(resolver.address()).await, "192.0.2.2");

    site.run(&["rollback"]).await.ends_with(0);
    site.until("blue at the provider", at_share(0)).await;
    assert_eq!(site.measured(50).await, 0.0);
    // What it says is what clients see: new answers of the name servers are blue's, and it is not over.
    let status = site.status().await;
    assert_eq!(status["state"], "rolling_back", "{status:#}");
    assert_eq!(answer(resolver.address()).await, "192.0.2.2");
    let told = status["events"].to_string();
    assert!(told.contains("resolvers follow within 1s, or later if they cache answers longer"), "{told}");

    running.end().await.ends_with(3);
    assert_eq!(answer(resolver.address()).await, "192.0.2.1");
}

/// What a client gets that asks there.
async fn answer(server: SocketAddr) -> String {
    resolve(server, NAME).await.map(|address| address.to_string()).unwrap_or_default()
}

#[tokio::test]
async fn a_server_without_weights_is_switched_by_signed_updates() {
    let bind = Bind::primary("example.test.", "api 2 IN A 192.0.2.1\n").await.expect("a BIND");
    let site = Site::new("").await;
    let home = tempfile::tempdir().expect("a directory");
    let write = |steps: &str| {
        let text = format!(
            r#"zone = "example.test"
ttl = 1
resolver_floor = "0s"
check_every = "500ms"
drain = {{ time = "1s" }}
query = {{ name_servers = ["{address}"], count = 200 }}
preflight = {{ {ON_TRUST} }}

[provider]
kind = "rfc2136"
server = "{address}"
tsig = {{ name = "{key}", secret = {{ file = "{secret}" }} }}

[[record]]
name = "{NAME}"
type = "A"
blue = ["192.0.2.1"]
green = ["192.0.2.2"]
{steps}"#,
            address = bind.address(),
            key = Bind::KEY_NAME,
            secret = bind.secret_file().display()
        );
        std::fs::write(home.path().join("cutover.toml"), text).expect("written");
    };
    write(STEPS);
    let refused = ran(site.command_in(home.path(), &["start", "--yes"])).await.ends_with(2);
    assert!(refused.stderr.contains("cannot send 1 % of new resolutions to green"), "{refused:#?}");
    write("[[step]]\nshare = 100\nbake = \"1s\"\n");
    let ended = ran(site.command_in(home.path(), &["start", "--yes", "--no-wait"])).await.ends_with(0);
    assert!(ended.stdout.contains("Drained."), "{ended:#?}");
    assert_eq!(answer(bind.address()).await, "192.0.2.2");
    ran(site.command_in(home.path(), &["rollback"])).await.ends_with(3);
    assert_eq!(answer(bind.address()).await, "192.0.2.1");
    ran(site.command_in(home.path(), &["finish"])).await.ends_with(0);
    ran(site.command_in(home.path(), &["status"])).await.ends_with(0);
}
