//! `verify --repair`: every difference is repaired, nothing else is changed, and the result is verified again.

use std::collections::BTreeMap;

use kongferry_harness::lab;
use kongferry_harness::postgres::Database;
use serde_json::{Value, json};

use super::mutations::damage_everything;
use super::support::{kongferry, migrate};
use super::verify::{migrated, verify};

/// Tables that Kong's data plane writes: a repair leaves them alone unless they are named.
const TRAFFIC: &[&str] = &["oauth2_tokens", "acme_storage"];

/// Every row of every table of Kong, without the expiry, which two runs count from two clocks.
async fn everything(green: &Database) -> BTreeMap<String, Vec<String>> {
    let tables = green
        .json("select to_jsonb(relname) from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r' order by relname")
        .await
        .expect("tables");
    let mut all = BTreeMap::new();
    for table in tables.iter().filter_map(Value::as_str) {
        let sql = format!("select to_jsonb(t) - 'ttl' from \"{table}\" t");
        let mut rows: Vec<String> =
            green.json(&sql).await.expect("rows").iter().map(Value::to_string).collect();
        rows.sort();
        all.insert(table.to_owned(), rows);
    }
    all
}

async fn mends_every_damage(line: &str) {
    let (blue, green) = migrated(line).await;
    let reference = lab().fresh_green(line).await.expect("green");
    migrate(&blue, &reference).await.expect_code(3);
    let before = green.rows("acme_storage").await.expect("rows");
    let mutations = damage_everything(&green).await;
    green.execute("set session_replication_role = replica; update tags set tags = '{stray}' where entity_id = (select max(id::text)::uuid from services); delete from tags where entity_id = (select min(id::text)::uuid from services)").await.expect("tags");
    let repaired = verify(&blue, &green, &["--repair", "--delete-extra", "--yes"]).await.expect_code(0);
    let report = repaired.ran.json();
    let number =
        |name: &str| report["repair"][name].as_u64().unwrap_or_else(|| panic!("no {name} in {report:#}"));
    let rows = |kind: &dyn Fn(&str) -> bool| {
        let mut keys: Vec<(&str, &str)> = (mutations.iter())
            .filter(|one| kind(one.kind) && !TRAFFIC.contains(&one.table.as_str()))
            .map(|one| (one.table.as_str(), one.key.as_str()))
            .collect();
        keys.sort_unstable();
        keys.dedup();
        keys.len() as u64
    };
    assert_eq!(number("written"), rows(&|kind| kind != "extra"), "{:#}", report["repair"]);
    assert_eq!(number("removed"), rows(&|kind| kind == "extra"), "{:#}", report["repair"]);
    assert_eq!(number("not_repaired"), 0, "{:#}", report["repair"]);
    assert!(
        repaired.findings.iter().all(|line| line["after_repair"] != true
            || TRAFFIC.contains(&line["table"].as_str().unwrap_or_default()))
    );
    verify(&blue, &green, &[]).await.expect_code(0);
    // Traffic's tables are the owner's decision.
    let named: Vec<&str> = TRAFFIC.iter().flat_map(|table| ["--table", table]).collect();
    verify(&blue, &green, &[&["--repair", "--yes"], named.as_slice()].concat()).await.expect_code(0);
    let last = verify(&blue, &green, &[]).await.expect_code(0);
    assert_eq!(last.findings, Vec::<Value>::new(), "not even traffic differs any more");
    assert_eq!(green.rows("acme_storage").await.expect("rows").len(), before.len());
    let (ours, theirs) = (everything(&green).await, everything(&reference).await);
    for (table, rows) in &theirs {
        assert_eq!(&ours[table], rows, "{table} is not as a migration leaves it");
    }
    // The next run sees no local change: what the repair wrote is in the ledger.
    let next = migrate(&blue, &green).await.expect_code(3);
    assert_eq!(next.json()["manual_changes"].as_array().map_or(0, Vec::len), 0, "{next:#?}");
    let left = green
        .json("select to_jsonb(relname) from pg_class where relname like 'stage\\_%'")
        .await
        .expect("leftovers");
    assert_eq!(left, Vec::<Value>::new(), "the staging tables are dropped");
}

#[tokio::test(flavor = "multi_thread")]
async fn repair_fixes_every_mutation_on_kong_2_8() {
    mends_every_damage("2.8").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn repair_fixes_every_mutation_on_kong_3_3() {
    mends_every_damage("3.3").await;
}

/// A service went to another workspace with its routes, and in each workspace every consumer has the next one's name.
#[tokio::test(flavor = "multi_thread")]
async fn rows_with_conflicting_unique_values_are_repaired() {
    let (blue, green) = migrated("3.3").await;
    green
        .execute(
            "set session_replication_role = replica;
             with moved as (
               update services set ws_id = (select w.id from workspaces w where w.id <> services.ws_id limit 1)
               where id = (select service_id from routes where service_id is not null order by service_id limit 1) returning id, ws_id
             ) update routes r set ws_id = m.ws_id from moved m where r.service_id = m.id;
             create temporary table was as select id, username, lead(username) over w as next_name, first_value(username) over w as first_name
               from consumers where username is not null window w as (partition by ws_id order by id);
             update consumers c set username = null from was where was.id = c.id;
             update consumers c set username = coalesce(was.next_name, was.first_name) from was where was.id = c.id;",
        )
        .await
        .expect("changes");
    let found = verify(&blue, &green, &[]).await.expect_code(3);
    let kinds = |kind: &str| found.findings.iter().filter(|line| line["kind"] == kind).count();
    assert!(kinds("different") > 3 && kinds("wrong_workspace") > 1, "{:#?}", found.findings);
    verify(&blue, &green, &["--repair", "--yes"]).await.expect_code(0);
    verify(&blue, &green, &[]).await.expect_code(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn extra_rows_are_kept_unless_their_deletion_is_allowed() {
    let (blue, green) = migrated("3.3").await;
    green.execute("insert into consumers (id, username, ws_id) select gen_random_uuid(), 'extra', ws_id from consumers limit 1").await.expect("a row");
    green.execute("update consumers set tags = '{changed}' where username = (select min(username) from consumers where username <> 'extra')").await.expect("a change");
    let kept = verify(&blue, &green, &["--repair", "--yes"]).await.expect_code(3);
    assert_eq!((kept.number("extra"), kept.number("different")), (1, 0));
    assert_eq!(kept.ran.json()["repair"]["removed"], 0);
    assert!(
        kept.findings.iter().any(|line| line["kind"] == "extra" && line["after_repair"] == true),
        "{:#?}",
        kept.findings
    );
    let gone = verify(&blue, &green, &["--repair", "--delete-extra", "--yes"]).await.expect_code(0);
    assert_eq!(gone.ran.json()["repair"]["removed"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_repair_cannot_write_stay_findings() {
    let (blue, green) = migrated("3.3").await;
    // Since the run: a row that green would refuse, and one that it takes.
    let consumers = blue.rows("consumers").await.expect("consumers");
    let ws = consumers[0]["ws_id"].clone();
    let (bad, good) = ("99999999-0000-4000-8000-000000000001", "99999999-0000-4000-8000-000000000002");
    blue.write_row(
        "consumers",
        &json!({ "id": bad, "ws_id": ws, "username": format!("{}:nul\u{0}", ws.as_str().expect("a text")) }),
    )
    .await
    .expect("a row");
    blue.write_row(
        "consumers",
        &json!({ "id": good, "ws_id": ws, "username": format!("{}:late", ws.as_str().expect("a text")) }),
    )
    .await
    .expect("a row");
    let repaired = verify(&blue, &green, &["--repair", "--yes"]).await.expect_code(3);
    assert!(repaired.has("consumers", bad, "missing"), "{:#?}", repaired.findings);
    let report = repaired.ran.json();
    assert_eq!((&report["repair"]["written"], &report["repair"]["not_repaired"]), (&json!(1), &json!(1)));
    let left = &report["repair"]["left"][0];
    assert_eq!((&left["key"], &left["reason"]), (&json!(bad), &json!("text_nul")));
    let after = verify(&blue, &green, &[]).await.expect_code(3);
    assert_eq!(
        (after.number("missing"), after.number("rejected")),
        (1, 1),
        "the run's own reject is not counted twice"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn repair_asks_for_confirmation_and_leaves_green_unchanged_when_refused() {
    let (blue, green) = migrated("3.3").await;
    green.execute("update consumers set custom_id = null").await.expect("changes");
    let before = everything(&green).await;
    let (blue_url, green_url) = (blue.url(), green.url());
    let call = |more: &[&'static str]| {
        let mut arguments = vec![
            "verify".to_owned(),
            "--blue".into(),
            blue_url.clone(),
            "--green".into(),
            green_url.to_owned(),
        ];
        arguments.extend(more.iter().map(|one| (*one).to_owned()));
        arguments
    };
    let unconfirmed = kongferry(&call(&["--repair"])).await;
    assert!(unconfirmed.code == 2 && unconfirmed.stderr.contains("pass --yes"), "{unconfirmed:#?}");
    for alone in ["--delete-extra", "--yes"] {
        assert_eq!(kongferry(&call(&[alone])).await.code, 2, "{alone} says nothing without --repair");
    }
    // Another session uses green.
    let other = green.connect().await.expect("a session");
    let refused = kongferry(&call(&["--repair", "--yes"])).await;
    assert!(refused.code == 4 && refused.stderr.contains("sessions"), "{refused:#?}");
    assert_eq!(everything(&green).await, before);
    kongferry(&call(&["--repair", "--yes", "--green-online"])).await.expect_code(0);
    drop(other);
}
