//! The way through, and back, on a real PowerDNS and a real BIND.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use kongferry::dns::Share;
use kongferry_harness::dns::{Bind, Forwarder};
use kongferry_harness::metrics::resolve;

use super::site::{ALL_UNPROVEN, NAME, STEPS, Site, assert_share, at_share, baking, run_command};

/// The steps of Kong's own guide.
const GUIDE: [u16; 5] = [1, 5, 10, 50, 100];

#[tokio::test]
async fn a_run_completes_and_clients_get_the_share_of_each_step() {
    let steps: String =
        GUIDE.iter().map(|percent| format!("[[step]]\nshare = {percent}\nbake = \"10m\"\n")).collect();
    let site = Site::new(&steps).await;
    let planned = site.run(&["plan"]).await.exits_with(0);
    assert!(planned.stdout.contains("pickwrandom") && planned.stdout.contains("curl"), "{}", planned.stdout);
    assert_eq!(site.records().await, ["\"A\" 2 \"192.0.2.1\""], "plan changes nothing");

    let running = site.spawn(&["start", "--yes", "--no-wait"]);
    for percent in GUIDE {
        site.until(&format!("{percent} %"), baking(percent)).await;
        let survey = site.survey(10_000).await;
        assert!(survey.faulty.is_empty(), "{survey}");
        assert_share(survey.fraction().expect("answers"), Share::percent(percent).unwrap(), 10_000);
        site.run(&["promote"]).await.exits_with(0);
    }
    let ended = running.end().await.exits_with(0);
    assert!(ended.stdout.contains("Drained."), "{ended:#?}");
    let marker = site.marker().await.expect("a marker");
    assert_eq!((marker.state.as_str(), marker.share), ("step", Share::GREEN));

    let finished = site.run(&["finish"]).await.exits_with(0);
    assert!(finished.stdout.contains("Blue can be shut down."), "{finished:#?}");
    assert_eq!(site.records().await, ["\"A\" 2 \"192.0.2.2\""]);
    assert_eq!(site.marker().await, None);
    assert_eq!(site.status().await["state"], "finished");
}

#[tokio::test]
async fn a_rollback_reaches_clients_within_the_ttl() {
    let site =
        Site::new(&STEPS.replace("bake = \"1s\"", "bake = \"10m\"").replace("share = 10\n", "share = 50\n"))
            .await;
    let cache = Forwarder::start(site.dns.dns(), 0).await.expect("a BIND that forwards");
    let running = site.spawn(&["start", "--yes"]);
    site.until("1 %", baking(1)).await;
    site.run(&["promote"]).await.exits_with(0);
    site.until("50 %", baking(50)).await;

    let asked = Instant::now();
    site.run(&["rollback", "--reason", "a drill"]).await.exits_with(0);
    let reported = Instant::now();
    while site.measured(50).await > 0.0 {
        assert!(reported.elapsed() < Duration::from_secs(5), "green is answered");
    }
    let ended = running.end().await.exits_with(3);
    assert!(ended.stdout.contains("Rolled back.") && ended.stdout.contains("a drill"), "{ended:#?}");
    // The TTL was 1 s: the answers in the cache have expired.
    assert!(asked.elapsed() > Duration::from_secs(1));
    for _ in 0..20 {
        assert_eq!(answer(cache.address()).await, "192.0.2.1");
    }
}

#[tokio::test]
async fn a_rollback_ends_after_the_resolver_floor() {
    // Some resolvers cache longer than the TTL: nine seconds instead of one, below `resolver_floor`.
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

    site.run(&["rollback"]).await.exits_with(0);
    site.until("blue at the provider", at_share(0)).await;
    assert_eq!(site.measured(50).await, 0.0);
    // The name servers answer with blue, but the rollback has not ended: a resolver returns green.
    let status = site.status().await;
    assert_eq!(status["state"], "rolling_back", "{status:#}");
    assert_eq!(answer(resolver.address()).await, "192.0.2.2");
    let reported = status["events"].to_string();
    assert!(
        reported.contains("resolvers follow within 1s, or later if they cache answers longer"),
        "{reported}"
    );

    running.end().await.exits_with(3);
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
preflight = {{ {ALL_UNPROVEN} }}

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
    let refused = run_command(site.command_in(home.path(), &["start", "--yes"])).await.exits_with(2);
    assert!(refused.stderr.contains("cannot send 1 % of new resolutions to green"), "{refused:#?}");
    write("[[step]]\nshare = 100\nbake = \"1s\"\n");
    let ended =
        run_command(site.command_in(home.path(), &["start", "--yes", "--no-wait"])).await.exits_with(0);
    assert!(ended.stdout.contains("Drained."), "{ended:#?}");
    assert_eq!(answer(bind.address()).await, "192.0.2.2");
    run_command(site.command_in(home.path(), &["rollback"])).await.exits_with(3);
    assert_eq!(answer(bind.address()).await, "192.0.2.1");
    run_command(site.command_in(home.path(), &["finish"])).await.exits_with(0);
    run_command(site.command_in(home.path(), &["status"])).await.exits_with(0);
}
