//! Gates on real servers: a Prometheus that scrapes Kong's metric names, and programs.

use std::net::Ipv4Addr;

use kongferry::dns::Share;
use kongferry_harness::metrics::{Clients, KongMetrics, Line, Prometheus};

use super::site::{NAME, STEPS, Site, at_share, baking};

/// A Prometheus with both sides, and clients that go where the name server sends them.
struct Traffic {
    prometheus: Prometheus,
    green: KongMetrics,
    blue: KongMetrics,
    _clients: Clients,
}

async fn traffic(site: &Site) -> Traffic {
    let blue = KongMetrics::start(Line::Two).await.expect("blue's metrics");
    let green = KongMetrics::start(Line::Three).await.expect("green's metrics");
    let prometheus = Prometheus::start(&[&blue, &green]).await.expect("a Prometheus");
    let addresses = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2));
    let clients = Clients::start(site.dns.dns(), NAME, 200, (addresses.0, &blue), (addresses.1, &green));
    prometheus.wait_for("sum(rate(kong_http_status[3s]))").await.expect("requests of blue");
    Traffic { prometheus, green, blue, _clients: clients }
}

impl Traffic {
    /// Clients that go to blue although the name server sends them to green, as those do that never ask again.
    fn late_clients(&self, site: &Site) -> Clients {
        let (blue, green) = (Ipv4Addr::new(192, 0, 2, 2), Ipv4Addr::new(192, 0, 2, 1));
        Clients::start(site.dns.dns(), NAME, 20, (blue, &self.blue), (green, &self.green))
    }
}

fn config_with_gates(traffic: &Traffic, bake: &str) -> String {
    format!(
        r#"
prometheus = {{ url = "{}", window = "10s", kong_green = "3.3" }}
{}
[[gate]]
kind = "kong-errors"
interval = "500ms"
min_requests = 1
inconclusive_limit = 1000
[[gate]]
kind = "kong-latency"
interval = "500ms"
min_requests = 1
max_decrease = 0.5
inconclusive_limit = 1000
"#,
        traffic.prometheus.url(),
        STEPS.replace("bake = \"1s\"", &format!("bake = \"{bake}\""))
    )
}

/// The metric servers' own address must be in the file before its tables.
fn write(site: &Site, more: &str) {
    let (head, tables) = more.trim_start().split_once('\n').expect("a first line");
    site.configure(site.home.path(), tables);
    let path = site.home.path().join("cutover.toml");
    let text = std::fs::read_to_string(&path).expect("a file");
    std::fs::write(&path, format!("{head}\n{text}")).expect("written");
}

#[tokio::test]
async fn errors_on_green_at_10_percent_roll_back() {
    let site = Site::new("").await;
    let traffic = traffic(&site).await;
    write(&site, &config_with_gates(&traffic, "6s"));
    let running = site.spawn(&["start", "--yes"]);
    site.until("10 %", baking(10)).await;
    traffic.green.fail(50);
    let ended = running.end().await.exits_with(3);
    assert!(ended.stdout.contains("Rolled back. gate kong-errors:"), "{ended:#?}");
    assert_eq!(site.measured(500).await, 0.0);
    let marker = site.marker().await.expect("a marker");
    assert_eq!((marker.state.as_str(), marker.share), ("rolled-back", Share::BLUE));
}

#[tokio::test]
async fn healthy_sides_complete_the_run_and_counters_confirm_the_share() {
    let site = Site::new("").await;
    let traffic = traffic(&site).await;
    write(&site, &config_with_gates(&traffic, "8s"));
    let running = site.spawn(&["start", "--yes", "--no-wait"]);
    let seen = site
        .until("10 % by counters", |status| {
            at_share(10)(status) && status["share"]["by_counters"].as_f64() > Some(3.0)
        })
        .await;
    assert!(seen["share"]["by_counters"].as_f64() < Some(25.0), "{seen:#}");
    let ended = running.end().await.exits_with(0);
    assert!(ended.stdout.contains("Drained."), "{ended:#?}");
}

#[tokio::test]
async fn a_stopped_prometheus_pauses_at_the_present_share() {
    let site = Site::new("").await;
    let traffic = traffic(&site).await;
    write(
        &site,
        &config_with_gates(&traffic, "6s").replace("inconclusive_limit = 1000", "inconclusive_limit = 3"),
    );
    let running = site.spawn(&["start", "--yes"]);
    site.until("1 %", |status| at_share(1)(status)).await;
    traffic.prometheus.stop();
    let paused = site.until("a pause", |status| status["state"] == "paused").await;
    assert!(
        paused["paused"]["reason"].as_str().is_some_and(|why| why.contains("Prometheus did not answer")),
        "{paused:#}"
    );
    tokio::time::sleep(std::time::Duration::from_secs(8)).await;
    let still = site.status().await;
    assert_eq!((still["state"].as_str(), still["share"]["weight"].as_f64()), (Some("paused"), Some(1.0)));
    // Going back needs no Prometheus.
    site.run(&["rollback"]).await.exits_with(0);
    running.end().await.exits_with(3);
    assert_eq!(site.measured(500).await, 0.0);
}

#[tokio::test]
async fn a_failing_program_rolls_back_during_a_pause() {
    let gate =
        "[[gate]]\nkind = \"command\"\nrun = [\"test\", \"!\", \"-e\", \"bad\"]\ninterval = \"500ms\"\n";
    let site = Site::new(&format!("{}{gate}", STEPS.replace("bake = \"1s\"", "bake = \"10m\""))).await;
    let running = site.spawn(&["start", "--yes"]);
    site.until("1 %", baking(1)).await;
    site.run(&["pause"]).await.exits_with(0);
    site.until("a pause", |status| status["state"] == "paused").await;
    std::fs::write(site.home.path().join("bad"), "").expect("written");
    running.end().await.exits_with(3);
    assert_eq!(site.measured(500).await, 0.0);
}

#[tokio::test]
async fn an_unreachable_prometheus_refuses_start() {
    let site = Site::new("").await;
    let gate = "prometheus = { url = \"http://127.0.0.1:9\" }\n";
    write(&site, &format!("{gate}{STEPS}[[gate]]\nkind = \"kong-errors\"\n"));
    let refused = site.run(&["start", "--yes"]).await.exits_with(4);
    assert!(refused.stderr.contains("Prometheus did not answer"), "{refused:#?}");
    assert_eq!(site.records().await, ["\"A\" 2 \"192.0.2.1\""]);
}

#[tokio::test]
async fn missing_metrics_are_unproven_or_blockers() {
    let site = Site::new(STEPS).await;
    let traffic = traffic(&site).await;
    let gate = "[[gate]]\nkind = \"kong-errors\"\nmin_requests = 1\n[preflight]\nunproven = [\"databases\", \"nodes\"]\n";
    let url = traffic.prometheus.url();
    let plan = async |more: &str| {
        let head = format!(
            "prometheus = {{ url = \"{url}\", window = \"10s\", kong_green = \"3.3\"{more} }}\n{STEPS}{gate}"
        );
        write(&site, &head);
        let planned = site.run(&["plan"]).await.exits_with(4);
        planned.stdout.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    // Green had no request yet, so it is unknown whether Kong 3.x will export any.
    let message = plan("").await;
    assert!(
        message.contains("ok blue receives ") && message.contains("ask green exports no requests yet"),
        "{message}"
    );
    assert!(message.contains("unproven = [\"metrics\"]"), "{message}");
    let message = plan(", blue_requests = \"vector(0)\"").await;
    assert!(message.contains("ask blue receives no requests at present"), "{message}");
    let message = plan(", blue = 'job=\"none\"'").await;
    assert!(message.contains("stop Prometheus has no requests of blue"), "{message}");
}

#[tokio::test]
async fn a_refused_finish_gives_the_same_reason_with_and_without_an_engine() {
    let site = Site::new("").await;
    let traffic = traffic(&site).await;
    let metrics = format!("prometheus = {{ url = \"{}\", window = \"3s\" }}\n", traffic.prometheus.url());
    write(&site, &format!("{metrics}[[step]]\nshare = 100\nbake = \"1s\"\n"));
    let running = site.spawn(&["start", "--yes"]);
    site.until("a drain", |status| status["state"] == "drained").await;

    // Old clients come back to blue: it drains again.
    let late = traffic.late_clients(&site);
    site.until("draining again", |status| status["state"] == "draining").await;
    let refused = site.run(&["finish"]).await.exits_with(4);
    assert!(refused.stdout.contains("blue has not been idle for long enough"), "{refused:#?}");
    drop(late);
    site.until("a drain", |status| status["state"] == "drained").await;

    // Without Prometheus blue cannot be counted.
    traffic.prometheus.stop();
    let why = "Not finished, nothing was changed: blue's requests cannot be counted";
    let refused = site.run(&["finish"]).await.exits_with(4);
    assert!(refused.stdout.contains(why), "{refused:#?}");
    let json = site.run(&["finish", "--format", "json"]).await.exits_with(4).json();
    assert_eq!(json["outcome"], "not_finished", "{json:#}");
    assert_eq!(site.status().await["state"], "drained");
    running.kill();
    // The same reason without an engine.
    let refused = site.run(&["finish"]).await.exits_with(4);
    assert!(refused.stdout.contains(why), "{refused:#?}");
    site.run(&["finish", "--force"]).await.exits_with(0);
    assert_eq!(site.records().await, ["\"A\" 2 \"192.0.2.2\""]);
}
