//! How long a rollback takes, from the command to the first of only blue answers: at the authoritative server,
//! and behind a resolver that caches. Nothing is asserted about the time; `--nocapture` shows it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use kongferry_harness::dns::{Bind, Forwarder};
use kongferry_harness::metrics::resolve;

use super::site::{NAME, Site, baking};

const BLUE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const GREEN: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

/// The TTL while the cutover lasts, in seconds.
const TTL: u64 = 2;

/// Queries a server every few milliseconds and records its answers.
struct Listener {
    heard: Arc<Mutex<Vec<(Instant, Ipv4Addr)>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Listener {
    fn start(server: SocketAddr) -> Listener {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let writes = heard.clone();
        let task = tokio::spawn(async move {
            loop {
                if let Some(address) = resolve(server, NAME).await {
                    writes.lock().unwrap_or_else(PoisonError::into_inner).push((Instant::now(), address));
                }
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
        });
        Listener { heard, task }
    }

    /// From the command to the first answer of blue's after the last one of green's.
    fn took(&self, ordered: Instant) -> Duration {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let last = heard.iter().rposition(|(_, address)| *address == GREEN).expect("green was answered");
        let (at, address) = heard.get(last + 1).expect("blue is answered in the end");
        assert_eq!(*address, BLUE);
        at.duration_since(ordered)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Everything to green, then back by this order; the time at the server and behind the cache.
async fn measure(what: &str, site: &Site, server: SocketAddr, arguments: &[&str]) {
    let cache = Forwarder::start(server, 0).await.expect("a BIND that forwards");
    let running = site.spawn(&["start", "--yes"]);
    site.until("100 %", baking(100)).await;
    let (direct, cached) = (Listener::start(server), Listener::start(cache.address()));
    tokio::time::sleep(Duration::from_millis(500)).await;

    let ordered = Instant::now();
    let reported = site.run(arguments).await;
    assert!([0, 3].contains(&reported.code), "{reported:#?}");
    running.end().await.exits_with(3);
    tokio::time::sleep(Duration::from_secs(TTL + 1)).await;
    let (direct, cached) = (direct.took(ordered).as_millis(), cached.took(ordered).as_millis());
    println!(
        "{what}, \"{}\": {direct} ms to the authoritative server, {cached} ms behind a cache (TTL {} ms)",
        arguments.join(" "),
        TTL * 1000
    );
}

const STEP: &str = "[[step]]\nshare = 100\nbake = \"10m\"\n";

fn rewrite(site: &Site, change: impl FnOnce(String) -> String) {
    let file = site.home.path().join("cutover.toml");
    let text = std::fs::read_to_string(&file).expect("a file");
    std::fs::write(&file, change(text)).expect("written");
}

const ORDERS: [&[&str]; 2] = [&["rollback"], &["rollback", "--direct"]];

#[tokio::test(flavor = "multi_thread")]
async fn rollback_time_on_powerdns() {
    for order in ORDERS {
        let site = Site::new(STEP).await;
        rewrite(&site, |text| text.replace("ttl = 1\n", &format!("ttl = {TTL}\n")));
        measure("PowerDNS", &site, site.dns.dns(), order).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rollback_time_on_bind() {
    for order in ORDERS {
        let bind = Bind::primary("example.test.", "api 2 IN A 192.0.2.1\n").await.expect("a BIND");
        let site = Site::new("").await;
        let provider = format!(
            "kind = \"rfc2136\", server = \"{}\", tsig = {{ name = \"{}\", secret = {{ file = \"{}\" }} }}",
            bind.address(),
            Bind::KEY_NAME,
            bind.secret_file().display()
        );
        site.configure_with(site.home.path(), &provider, STEP);
        rewrite(&site, |text| {
            text.replace("ttl = 1\n", &format!("ttl = {TTL}\n"))
                .replace(&site.dns.dns().to_string(), &bind.address().to_string())
        });
        measure("BIND", &site, bind.address(), order).await;
    }
}
