//! The real binary on Route 53 and on a program of the user's own, from 0 to 100 % and back, killed in between.
//!
//! Neither answers DNS. A real PowerDNS does it for them: it is reported every weight that they hold, as a vendor's own name
//! servers are. Route 53 is a stateful fake of the vendor's rules over AWS's own model of requests, and moto for the wire.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use kongferry::dns::Share;
use kongferry_harness::dns::{Moto, PowerDns};
use kongferry_harness::route53::{FakeRoute53, Fault};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::site::{NAME, STEPS, Site, assert_share, at_share, baking, run_command, slow_steps};

/// Weights and time to live as a provider holds them.
type Held = Option<(u32, u32, u32)>;

/// Tells a name server what a provider holds, again and again.
struct Mirror(JoinHandle<()>);

impl Mirror {
    fn start<F: Future<Output = Held> + Send>(
        dns: Arc<PowerDns>,
        held: impl Fn() -> F + Send + 'static,
    ) -> Mirror {
        Mirror(tokio::spawn(async move {
            let mut reported = None;
            loop {
                tokio::time::sleep(Duration::from_millis(100)).await;
                let now = held().await;
                if now.is_none() || now == reported {
                    continue;
                }
                if let Some((blue, green, ttl)) = now {
                    let lua =
                        format!("A \"pickwrandom({{ {{{blue},'192.0.2.1'}}, {{{green},'192.0.2.2'}} }})\"");
                    let body = json!({ "rrsets": [
                        { "name": format!("{NAME}."), "type": "A", "changetype": "DELETE" },
                        { "name": format!("{NAME}."), "type": "LUA", "ttl": ttl, "changetype": "REPLACE",
                          "records": [{ "content": lua, "disabled": false }] },
                    ] });
                    if dns.call("PATCH", "/zones/example.test.", Some(body)).await.is_ok() {
                        reported = now;
                    }
                }
            }
        }))
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A provider with its name server.
struct Provided {
    site: Site,
    /// The `[provider]` table.
    provider: String,
    _mirror: Mirror,
}

impl Provided {
    fn configure(&self, directory: &Path, steps: &str) {
        self.site.configure_with(directory, &self.provider, steps);
    }

    fn command_in(&self, directory: &Path, arguments: &[&str]) -> Command {
        let mut command = self.site.command_in(directory, arguments);
        command.env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE").env("AWS_SECRET_ACCESS_KEY", "s3cr3t-of-aws");
        command
    }

    fn command(&self, arguments: &[&str]) -> Command {
        self.command_in(self.site.home.path(), arguments)
    }

    async fn status(&self) -> Value {
        run_command(self.command(&["status", "--format", "json"])).await.json()
    }
}

fn route53(endpoint: &str, zone: &str) -> String {
    format!(
        "kind = \"route53\", hosted_zone_id = \"{zone}\", region = \"us-east-1\", endpoint = \"{endpoint}\""
    )
}

async fn fake_route53() -> (Provided, Arc<FakeRoute53>) {
    let fake = Arc::new(FakeRoute53::start(NAME, 2, "192.0.2.1").await);
    let (shared, site) = (fake.clone(), Site::new("").await);
    let mirror = Mirror::start(site.dns.clone(), move || {
        let sets = shared.sets();
        async move {
            let ours: Vec<_> =
                sets.iter().filter(|set| set.rtype == "A" && set.name.starts_with(NAME)).collect();
            let ttl = ours.first()?.ttl?;
            let weight = |address: &str| {
                let set = ours.iter().find(|set| set.values == [address]);
                set.map_or(0, |set| set.weighted.as_ref().map_or(100, |(_, weight)| *weight))
            };
            Some((weight("192.0.2.1"), weight("192.0.2.2"), ttl))
        }
    });
    let provider = route53(fake.url(), "Z1");
    (Provided { site, provider, _mirror: mirror }, fake)
}

async fn moto_route53() -> (Provided, Arc<Moto>) {
    let moto = Arc::new(Moto::start().await.expect("moto"));
    let zone = moto.create_zone("example.test.").await.expect("a zone");
    let seed = format!(
        "<ChangeResourceRecordSetsRequest xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\"><ChangeBatch>\
         <Changes><Change><Action>CREATE</Action><ResourceRecordSet><Name>{NAME}.</Name><Type>A</Type><TTL>2</TTL>\
         <ResourceRecords><ResourceRecord><Value>192.0.2.1</Value></ResourceRecord></ResourceRecords>\
         </ResourceRecordSet></Change></Changes></ChangeBatch></ChangeResourceRecordSetsRequest>"
    );
    moto.post(&format!("/2013-04-01/hostedzone/{zone}/rrset/"), seed).await.expect("a record");
    let (shared, site, id) = (moto.clone(), Site::new("").await, zone.clone());
    let mirror = Mirror::start(site.dns.clone(), move || {
        let (moto, id) = (shared.clone(), id.clone());
        async move {
            let xml =
                moto.get(&format!("/2013-04-01/hostedzone/{id}/rrset?name={NAME}&type=A")).await.ok()?;
            let sets: Vec<&str> =
                xml.split("<ResourceRecordSet>").filter(|set| set.contains("<Type>A<")).collect();
            let number = |set: &str, tag: &str| {
                let rest = set.split(&format!("<{tag}>")).nth(1)?;
                rest.split('<').next()?.parse::<u32>().ok()
            };
            let weight = |address: &str| {
                let set = sets.iter().find(|set| set.contains(address));
                set.map_or(0, |set| number(set, "Weight").unwrap_or(100))
            };
            Some((weight("192.0.2.1"), weight("192.0.2.2"), number(sets.first()?, "TTL")?))
        }
    });
    let provider = route53(&moto.url(), &zone);
    (Provided { site, provider, _mirror: mirror }, moto)
}

/// The program of the provider tests; its zone is a file.
const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/dns/stub.py");

async fn exec_program() -> (Provided, tempfile::TempDir) {
    let zone = tempfile::tempdir().expect("a directory");
    let record = json!({ "name": NAME, "type": "A", "state": "plain", "side": "blue", "ttl": 10 });
    let state = json!({ "version": 1, "records": [record], "marker": null, "asked": 0 });
    let file = zone.path().join("state.json");
    std::fs::write(&file, state.to_string()).expect("written");
    let site = Site::new("").await;
    let mirror = Mirror::start(site.dns.clone(), move || {
        let held = held_by_program(&file);
        async move { held }
    });
    let python = kongferry_harness::tools::python().expect("Python");
    let provider = format!(
        "kind = \"exec\", command = [{:?}, {PROGRAM:?}, {:?}]",
        python.display().to_string(),
        zone.path().display().to_string()
    );
    (Provided { site, provider, _mirror: mirror }, zone)
}

fn held_by_program(file: &PathBuf) -> Held {
    let state: Value = serde_json::from_str(&std::fs::read_to_string(file).ok()?).ok()?;
    let record = &state["records"][0];
    let ttl = u32::try_from(record["ttl"].as_u64()?).ok()?;
    let number = |name: &str| record[name].as_u64().and_then(|weight| u32::try_from(weight).ok());
    match (record["state"].as_str()?, record["side"].as_str()) {
        ("split", _) => Some((number("blue_weight")?, number("green_weight")?, ttl)),
        ("plain", Some("blue")) => Some((100, 0, ttl)),
        ("plain", Some("green")) => Some((0, 100, ttl)),
        _ => None,
    }
}

/// Through all steps, each measured at the name server; then ordinary records of green.
async fn completes_a_run(provided: &Provided) {
    let site = &provided.site;
    provided.configure(site.home.path(), &slow_steps());
    let planned = run_command(provided.command(&["plan"])).await.exits_with(0);
    assert!(planned.stdout.contains("Manually, if kongferry cannot"), "{}", planned.stdout);
    let running = site.spawn_command(provided.command(&["start", "--yes", "--no-wait"]));
    for percent in [1_u16, 10, 100] {
        provided.until(&format!("{percent} %"), baking(percent)).await;
        assert_share(site.measured(4000).await, Share::percent(percent).expect("a share"), 4000);
        run_command(provided.command(&["promote"])).await.exits_with(0);
    }
    let ended = running.end().await.exits_with(0);
    assert!(ended.stdout.contains("Drained."), "{ended:#?}");
    run_command(provided.command(&["finish"])).await.exits_with(0);
    assert_eq!(provided.status().await["state"], "finished");
    assert_eq!(site.measured(500).await, 1.0);
}

/// Killed at 10 %; another directory without the journal resumes to 100 %, is killed, and a third one rolls back.
async fn resumes_and_rolls_back_after_kills(provided: &Provided) {
    let site = &provided.site;
    provided.configure(site.home.path(), &slow_steps());
    run_command(provided.command(&["plan"])).await.exits_with(0);
    let first = site.spawn_command(provided.command(&["start", "--yes"]));
    provided.until("1 %", baking(1)).await;
    run_command(provided.command(&["promote"])).await.exits_with(0);
    provided.until("10 %", at_share(10)).await;
    first.kill();

    let second = tempfile::tempdir().expect("a directory");
    provided.configure(second.path(), STEPS);
    let status =
        run_command(provided.command_in(second.path(), &["status", "--format", "json"])).await.json();
    assert_eq!((status["watched"].as_bool(), at_share(10)(&status)), (Some(false), true), "{status:#}");
    let ended = run_command(provided.command_in(second.path(), &["resume", "--no-wait"])).await.exits_with(0);
    assert!(ended.stdout.contains("Drained."), "{ended:#?}");
    assert_eq!(site.measured(500).await, 1.0);

    let third = tempfile::tempdir().expect("a directory");
    provided.configure(third.path(), STEPS);
    run_command(provided.command_in(third.path(), &["rollback", "--reason", "a drill"])).await.exits_with(3);
    assert_eq!(site.measured(500).await, 0.0);
    run_command(provided.command_in(third.path(), &["finish"])).await.exits_with(0);
    assert_eq!(provided.status().await["state"], "not_started");
}

impl Provided {
    async fn until(&self, what: &str, is_expected: impl Fn(&Value) -> bool) -> Value {
        let deadline = std::time::Instant::now() + Duration::from_secs(180);
        loop {
            let status = run_command(self.command(&["status", "--format", "json"])).await;
            let seen: Value = serde_json::from_str(&status.stdout).unwrap_or_default();
            if is_expected(&seen) {
                return seen;
            }
            assert!(std::time::Instant::now() < deadline, "{what} never came: {status:#?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_on_route_53_completes_with_throttling_and_lost_answers() {
    let (provided, fake) = fake_route53().await;
    fake.next(Fault::Denied);
    provided.configure(provided.site.home.path(), STEPS);
    let refused = run_command(provided.command(&["start", "--yes"])).await.exits_with(4);
    assert!(refused.stderr.contains("did not accept a write that changes nothing"), "{refused:#?}");
    // The rehearsal comes first, then the short TTL, then the steps.
    fake.pass();
    for fault in [Fault::Throttle, Fault::LostAnswer, Fault::PriorRequest, Fault::Broken] {
        fake.next(fault);
    }
    completes_a_run(&provided).await;
    let sets = fake.sets();
    assert_eq!(sets.len(), 1, "{sets:?}");
    assert_eq!(
        (sets[0].ttl, &sets[0].weighted, &*sets[0].values),
        (Some(2), &None, &["192.0.2.2".to_owned()][..])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_on_route_53_is_resumed_and_rolled_back_after_kills() {
    let (provided, fake) = fake_route53().await;
    resumes_and_rolls_back_after_kills(&provided).await;
    let sets = fake.sets();
    assert_eq!(sets.len(), 1, "{sets:?}");
    assert_eq!(
        (sets[0].ttl, &sets[0].weighted, &*sets[0].values),
        (Some(2), &None, &["192.0.2.1".to_owned()][..])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_on_moto_completes() {
    let (provided, _moto) = moto_route53().await;
    completes_a_run(&provided).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_on_an_exec_program_completes() {
    let (provided, _zone) = exec_program().await;
    completes_a_run(&provided).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_on_an_exec_program_is_resumed_and_rolled_back_after_kills() {
    let (provided, _zone) = exec_program().await;
    resumes_and_rolls_back_after_kills(&provided).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_proxy_the_share_is_the_providers() {
    let (provided, zone) = exec_program().await;
    std::fs::write(zone.path().join("hidden"), "").expect("written");
    // The proxy's address, whatever the provider holds.
    let Provided { site, provider, _mirror: mirror } = provided;
    drop(mirror);
    let proxied = json!({ "rrsets": [
        { "name": format!("{NAME}."), "type": "LUA", "changetype": "DELETE" },
        { "name": format!("{NAME}."), "type": "A", "ttl": 10, "changetype": "REPLACE",
          "records": [{ "content": "192.0.2.77", "disabled": false }] },
    ] });
    site.dns.call("PATCH", "/zones/example.test.", Some(proxied)).await.expect("a record");
    site.configure_with(site.home.path(), &provider, STEPS);
    let planned = site.run(&["plan"]).await.exits_with(0);
    assert!(planned.stdout.contains("do not show the side"), "{planned:#?}");
    site.run(&["start", "--yes", "--no-wait"]).await.exits_with(0);
    let status = site.status().await;
    assert!(at_share(100)(&status) && status["share"]["by_queries"].is_null(), "{status:#}");
    site.run(&["rollback"]).await.exits_with(3);
    assert_eq!(held_by_program(&zone.path().join("state.json")).map(|(_, green, _)| green), Some(0));
}
