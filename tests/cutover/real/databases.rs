//! Preflight and the check for drift before each step, on a real Cassandra and a real PostgreSQL after a real migration,
//! and with a node of Kong's on green as its Admin API shows it.

use kongferry_harness::admin_api::AdminApi;
use kongferry_harness::fixture::Fixture;
use kongferry_harness::keyspace::LoadOptions;
use kongferry_harness::metrics::Line;
use kongferry_harness::{Database, Keyspace, lab};

use super::site::{ALL_UNPROVEN, CommandOutput, STEPS, Site, at_share, baking, run_command};

struct Sides {
    blue: Keyspace,
    green: Database,
}

impl Sides {
    /// The shipped rows of 3.3 that outlive a test, and a green that was only bootstrapped.
    async fn new() -> Sides {
        let mut fixture = Fixture::shipped("3.3").expect("a fixture");
        for rows in fixture.blue.values_mut() {
            rows.retain(|row| row.ttl.iter().flat_map(|ttl| ttl.values()).all(|seconds| *seconds > 3600));
        }
        let blue = lab().fresh_keyspace("3.3").await.expect("a keyspace");
        blue.load(&fixture, LoadOptions::default()).await.expect("rows");
        Sides { blue, green: lab().fresh_green("3.3").await.expect("green") }
    }

    fn arguments<'a>(&'a self, before: &[&'a str]) -> Vec<String> {
        let urls = ["--blue", &self.blue.url(), "--green", self.green.url()].map(str::to_owned);
        before.iter().map(|one| (*one).to_owned()).chain(urls).collect()
    }

    async fn migrate(&self, site: &Site) {
        let mut command = site.program(&[]);
        command.args(self.arguments(&["migrate", "--yes", "--accept-rejects", "--green-online"]));
        let migrated = run_command(command).await;
        assert!([0, 3].contains(&migrated.code), "{migrated:#?}");
    }

    /// `kongferry cutover …` with both databases.
    async fn cutover(&self, site: &Site, arguments: &[&str]) -> CommandOutput {
        let mut command = site.program(&["cutover"]);
        command.args(self.arguments(arguments));
        run_command(command).await
    }
}

/// A file that names the node, and what was read and accepted of traffic's tables.
fn with_preflight(node: &AdminApi, acknowledge: &[&str]) -> String {
    format!(
        "{STEPS}[preflight]\ngreen_admin = \"{}\"\nacknowledge = {acknowledge:?}\nunproven = [\"metrics\", \"gates\"]\n",
        node.url()
    )
}

const TRAFFIC: &[&str] = &[
    "acme_storage",
    "oauth2_authorization_codes",
    "oauth2_tokens",
    "ratelimiting_metrics",
    "response_ratelimiting_metrics",
    "sessions",
];

fn single_line(ran: &CommandOutput) -> String {
    ran.stdout.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `plan` has this blocker.
#[track_caller]
fn stopped(ran: &CommandOutput, why: &str) {
    assert_eq!(ran.code, 4, "{ran:#?}");
    let message = single_line(ran);
    assert!(message.contains(&format!("stop {why}")), "not \"{why}\" in {message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn preflight_reports_differences_restarts_plugins_and_databases() {
    let sides = Sides::new().await;
    let node = AdminApi::start(Line::Three, &sides.green).await.expect("a node");
    let site = Site::new(&with_preflight(&node, &[])).await;
    let plan = ["plan"];

    // Nothing was migrated.
    let found = sides.cutover(&site, &plan).await;
    stopped(&found, "verify: blue and green differ: ");
    stopped(&found, "cannot detect changes since the last run: no run has been applied to this database");

    // The node has run since before the migration.
    sides.migrate(&site).await;
    let found = sides.cutover(&site, &plan).await;
    let url = node.url();
    stopped(
        &found,
        &format!(
            "{url} lists no services, but green's database has some: the node was not restarted since the run"
        ),
    );
    stopped(&found, "the data plane writes acme_storage, ");
    let refused = sides.cutover(&site, &["start", "--yes"]).await.exits_with(4);
    assert!(refused.stderr.contains("was not restarted since the run"), "{refused:#?}");
    assert_eq!(site.records().await, ["\"A\" 2 \"192.0.2.1\""]);

    // It is restarted, and the owners of the APIs were reported.
    node.restart().await.expect("a restart");
    site.configure(site.home.path(), &with_preflight(&node, TRAFFIC));
    let fine = sides.cutover(&site, &plan).await.exits_with(0);
    for message in [
        "rows of blue read alike on green",
        "no Admin API client has changed blue or green since the last run",
        "every node in green_admin was restarted since the only run that wrote green's tables",
    ] {
        assert!(single_line(&fine).contains(message), "{fine:#?}");
    }

    // A run that finds nothing to do is no reason to restart; one that writes is, and that cannot be observed.
    sides.migrate(&site).await;
    sides.cutover(&site, &plan).await.exits_with(0);
    let key = sides.blue.rows("keyauth_credentials").await.expect("keys").remove(0);
    let key = key["id"].as_str().expect("an id").to_owned();
    sides.blue.execute(&format!("DELETE FROM keyauth_credentials WHERE id = {key}")).await.expect("gone");
    sides.migrate(&site).await;
    let asked = sides.cutover(&site, &plan).await.exits_with(4);
    let message = single_line(&asked);
    assert!(
        message.contains(
            "ask cannot verify that Kong's nodes on green were restarted since the last run: 2 runs wrote"
        ) && message.contains("[preflight] unproven = [\"restart\"]"),
        "{asked:#?}"
    );
    let refused = sides.cutover(&site, &["start", "--yes"]).await.exits_with(4);
    assert!(
        refused.stderr.contains("could not prove 1 check") && refused.stderr.contains("\"restart\""),
        "{refused:#?}"
    );
    assert_eq!(site.records().await, ["\"A\" 2 \"192.0.2.1\""]);
    let taken = with_preflight(&node, TRAFFIC).replace("\"gates\"]", "\"gates\", \"restart\"]");
    site.configure(site.home.path(), &taken);
    sides.cutover(&site, &plan).await.exits_with(0);

    node.unload("rate-limiting");
    let found = sides.cutover(&site, &plan).await;
    stopped(&found, "Kong on green has not loaded plugins that are in use: rate-limiting");
    node.restart().await.expect("a restart");
    node.reach_database(false);
    stopped(&sides.cutover(&site, &plan).await, "green does not reach its database");
    node.reach_database(true);
    node.ask_for("a-token-of-the-admins");
    stopped(&sides.cutover(&site, &plan).await, &format!("green's Admin API {url}: / answers HTTP 401"));
}

#[tokio::test(flavor = "multi_thread")]
async fn data_planes_out_of_sync_are_blockers() {
    let green = lab().fresh_green("3.3").await.expect("green");
    let node = AdminApi::start(Line::Three, &green).await.expect("a node");
    let trusted = with_preflight(&node, &[]).replace("\"gates\"]", "\"gates\", \"databases\", \"restart\"]");
    let site = Site::new(&trusted).await;
    let (one, other) = ("a9a166c59873245db8f1a747ba9a80a7", "b0f35d6b8a2e4c0f9d1e7a6c5b4d3e2f");
    let all = |first: &'static str, second| [("dp-1", Some(first), "normal", 5), second];
    let plan = &["plan"][..];

    node.data_planes(&all(one, ("dp-2", Some(one), "normal", 20)));
    let fine = site.run(plan).await.exits_with(0);
    assert!(fine.stdout.contains("2 data plane(s) have the same configuration"), "{fine:#?}");
    assert!(
        fine.stdout.contains(
            "note  blue and green were not compared, and changes by Admin API clients will not be detected"
        ),
        "{fine:#?}"
    );
    node.data_planes(&all(one, ("dp-2", Some(other), "normal", 20)));
    stopped(&site.run(plan).await, "the data planes have 2 different configurations");
    node.data_planes(&all(one, ("dp-2", Some(one), "plugin_set_incompatible", 20)));
    stopped(&site.run(plan).await, "data planes are not in sync: dp-2 (plugin_set_incompatible)");
    for none in [None, Some("00000000000000000000000000000000")] {
        node.data_planes(&all(one, ("dp-2", none, "normal", 20)));
        stopped(&site.run(plan).await, "data planes are not in sync: dp-2 (has no configuration)");
    }
    // A data plane that was shut down last week is listed.
    node.data_planes(&all(one, ("dp-2", Some(other), "normal", 600_000)));
    let fine = site.run(plan).await.exits_with(0);
    assert!(fine.stdout.contains("data planes that have not reported for minutes: dp-2"), "{fine:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn drift_on_either_side_refuses_start_and_pauses_a_run() {
    let sides = Sides::new().await;
    let site = Site::new("").await;
    let slow = STEPS.replace("bake = \"1s\"", "bake = \"10m\"");
    site.configure(
        site.home.path(),
        &format!("{slow}[preflight]\n{ALL_UNPROVEN}\nacknowledge = {TRAFFIC:?}\n"),
    );
    sides.migrate(&site).await;
    let consumer = sides.blue.rows("consumers").await.expect("consumers").remove(0);
    let (id, name) = (consumer["id"].as_str().expect("an id"), &consumer["username"]);
    let name = name.as_str().expect("a name").replace('\'', "''");
    let rename = |name: &str| format!("UPDATE consumers SET username = '{name}' WHERE id = {id}");

    // Before anything has begun.
    sides.blue.execute(&rename(&format!("{name} the second"))).await.expect("an edit");
    stopped(
        &sides.cutover(&site, &["plan"]).await,
        "Admin API clients have changed rows since the last run: consumers 1 changed on blue",
    );
    let refused = sides.cutover(&site, &["start", "--yes"]).await.exits_with(4);
    assert!(refused.stderr.contains("consumers 1 changed on blue"), "{refused:#?}");
    sides.blue.execute(&rename(&name)).await.expect("an edit");

    let mut command = site.program(&["cutover"]);
    command.args(sides.arguments(&["start", "--yes"]));
    let running = site.spawn_command(command);
    site.until("1 %", baking(1)).await;

    // A row deleted on blue.
    let key = sides.blue.rows("keyauth_credentials").await.expect("keys").remove(0);
    let key = key["id"].as_str().expect("an id");
    sides.blue.execute(&format!("DELETE FROM keyauth_credentials WHERE id = {key}")).await.expect("gone");
    site.run(&["promote"]).await.exits_with(0);
    let paused = site.until("a pause", |status| status["state"] == "paused").await;
    let reason = paused["paused"]["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("keyauth_credentials 1 deleted on blue"), "{paused:#}");
    assert!(at_share(1)(&paused), "{paused:#}");
    sides.migrate(&site).await;
    site.run(&["resume"]).await.exits_with(0);
    site.until("10 %", baking(10)).await;

    // A row changed on green.
    sides
        .green
        .execute(&format!("update consumers set tags = '{{new}}' where id = '{id}'"))
        .await
        .expect("an edit");
    site.run(&["promote"]).await.exits_with(0);
    let paused = site.until("a pause", |status| status["state"] == "paused").await;
    let reason = paused["paused"]["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("consumers 1 changed on green"), "{paused:#}");
    assert!(at_share(10)(&paused), "{paused:#}");
    site.run(&["rollback"]).await.exits_with(0);
    running.end().await.exits_with(3);
}

#[tokio::test(flavor = "multi_thread")]
async fn drift_after_the_last_step_refuses_finish_without_accept_drift() {
    let sides = Sides::new().await;
    let site = Site::new("").await;
    let one = "\n[[step]]\nshare = 100\nbake = \"1s\"\n";
    site.configure(
        site.home.path(),
        &format!("{one}[preflight]\n{ALL_UNPROVEN}\nacknowledge = {TRAFFIC:?}\n"),
    );
    sides.migrate(&site).await;
    sides.cutover(&site, &["start", "--yes", "--no-wait"]).await.exits_with(0);

    let consumer = sides.blue.rows("consumers").await.expect("consumers").remove(0);
    let id = consumer["id"].as_str().expect("an id");
    sides
        .green
        .execute(&format!("update consumers set tags = '{{new}}' where id = '{id}'"))
        .await
        .expect("an edit");
    let before = site.records().await;
    let refused = sides.cutover(&site, &["finish"]).await.exits_with(4);
    let message = refused.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        message.contains("Not finished, nothing was changed: Admin API clients have changed rows since the last run: consumers 1 changed on green")
            && message.contains("--accept-drift"),
        "{refused:#?}"
    );
    assert_eq!(site.records().await, before);
    assert_eq!(site.status().await["state"], "drained");
    sides.cutover(&site, &["finish", "--accept-drift"]).await.exits_with(0);
    assert_eq!(site.records().await, ["\"A\" 2 \"192.0.2.2\""]);
}
