//! Runs after the first one: what changed on blue arrives and nothing else is touched, whatever order green's
//! constraints ask for, and no local change on green is lost unreported.

use kongferry_harness::keyspace::Keyspace;
use kongferry_harness::lab;
use kongferry_harness::postgres::Database;
use serde_json::{Value, json};

use super::databases::Contents;
use super::row_builder::{KongKeyspace, id};
use super::support::{Ran, kongferry, migrate_arguments};

async fn sides() -> (KongKeyspace, Database) {
    let blue = KongKeyspace::new("3.3").await;
    blue.parents().await;
    let green = lab().fresh_green("3.3").await.expect("green");
    (blue, green)
}

async fn run(blue: &Keyspace, green: &Database, more: &[&str]) -> Ran {
    kongferry(&migrate_arguments(blue, green, more)).await
}

/// `verify` finds both sides equal.
async fn proven(blue: &Keyspace, green: &Database) {
    let ran = kongferry(&["verify", "--blue", &blue.url(), "--green", green.url(), "--format", "json"]).await;
    assert_eq!(ran.code, 0, "{ran:#?}");
}

fn changes(ran: &Ran) -> (u64, u64, u64) {
    let changes = &ran.json()["changes"];
    let number = |name: &str| changes[name].as_u64().unwrap_or_else(|| panic!("no {name} in {changes}"));
    (number("inserted"), number("updated"), number("deleted"))
}

async fn delete(blue: &KongKeyspace, table: &str, name: &str) {
    let partition = match table {
        "services" | "routes" | "certificates" | "snis" | "ca_certificates" => {
            format!("\"partition\" = '{table}' AND ")
        }
        _ => String::new(),
    };
    blue.execute(&format!("DELETE FROM \"{table}\" WHERE {partition}id = {}", id(name)))
        .await
        .expect("deleted");
}

async fn value(green: &Database, sql: &str) -> Value {
    green.json(&format!("select to_jsonb(({sql}))")).await.expect("a value").remove(0)
}

/// Names the rows of Kong's tables, and what it takes to see that none was written.
async fn contents(green: &Database) -> Contents {
    Contents::read(green).await.without_journal()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_without_changes_stages_and_writes_nothing() {
    let (blue, green) = sides().await;
    blue.put("keyauth_credentials", "with a time to live", json!({})).await;
    blue.put_with_ttl("keyauth_credentials", "for a day", json!({}), 86_400).await;
    let first = run(&blue, &green, &[]).await.expect_code(0);
    assert_eq!(first.json()["incremental"], false);
    let before = contents(&green).await;
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    let again = run(&blue, &green, &[]).await.expect_code(0);
    assert_eq!(contents(&green).await, before);
    let report = again.json();
    assert_eq!(report["incremental"], true);
    assert_eq!(changes(&again), (0, 0, 0), "{again:#?}");
    assert_eq!(report["changes"]["unchanged"], first.json()["totals"]["applied"]);
    assert_eq!(report["totals"], first.json()["totals"]);
    proven(&blue, &green).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inserts_updates_and_deletes_are_applied_and_counted() {
    let (blue, green) = sides().await;
    for name in ["stays", "changes", "goes"] {
        blue.put("keyauth_credentials", name, json!({})).await;
    }
    blue.put_with_ttl("keyauth_credentials", "lives longer", json!({}), 5_000).await;
    run(&blue, &green, &[]).await.expect_code(0);
    blue.put("keyauth_credentials", "comes", json!({ "tags": ["new"] })).await;
    blue.put("keyauth_credentials", "changes", json!({ "key": blue.own("another"), "tags": ["b", "a"] }))
        .await;
    blue.put_with_ttl("keyauth_credentials", "lives longer", json!({}), 50_000).await;
    delete(&blue, "keyauth_credentials", "goes").await;
    let ran = run(&blue, &green, &[]).await.expect_code(0);
    assert_eq!(changes(&ran), (1, 2, 1), "{ran:#?}");
    assert_eq!(ran.table("keyauth_credentials")["changes"]["unchanged"], 1);
    proven(&blue, &green).await;
    // And what was written is in the ledger now, under the number of one of our transactions.
    let not_ours = "select count(*) from keyauth_credentials
        where xmin::text not in (select xid::text from kongferry.writer)";
    assert_eq!(value(&green, not_ours).await, json!(0));
    let ran = run(&blue, &green, &[]).await.expect_code(0);
    assert_eq!(changes(&ran), (0, 0, 0), "{ran:#?}");
}

/// A revoked key must not live on on green.
#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_deleted_on_blue_is_deleted_with_its_keys() {
    let (blue, green) = sides().await;
    for table in ["keyauth_credentials", "acls", "basicauth_credentials"] {
        blue.put(table, table, json!({})).await;
    }
    run(&blue, &green, &[]).await.expect_code(0);
    for table in ["keyauth_credentials", "acls", "basicauth_credentials", "oauth2_credentials", "consumers"] {
        delete(&blue, table, table).await;
    }
    let ran = run(&blue, &green, &[]).await.expect_code(0);
    assert_eq!(changes(&ran), (0, 0, 5), "{ran:#?}");
    assert_eq!(green.count("keyauth_credentials").await.expect("a count"), 0);
    proven(&blue, &green).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unique_names_may_be_swapped_between_rows() {
    let (blue, green) = sides().await;
    let put = async |name: &str, value: &str| {
        let custom = blue.own(&format!("id of {value}"));
        blue.put("consumers", name, json!({ "username": blue.own(value), "custom_id": custom })).await;
        let sni = json!({ "name": format!("{value}.example.com") });
        blue.put("snis", &format!("sni of {name}"), sni).await;
        blue.put("ca_certificates", &format!("ca of {name}"), json!({ "cert_digest": value })).await;
    };
    for name in ["anna", "bob", "carla", "dora", "emil"] {
        put(name, name).await;
    }
    run(&blue, &green, &[]).await.expect_code(0);
    // Two swap, three pass theirs on.
    for (name, new) in
        [("anna", "bob"), ("bob", "anna"), ("carla", "dora"), ("dora", "emil"), ("emil", "carla")]
    {
        put(name, new).await;
    }
    let ran = run(&blue, &green, &[]).await.expect_code(0);
    assert_eq!(changes(&ran), (0, 15, 0), "{ran:#?}");
    let of_anna = format!("select username from consumers where id = '{}'", id("anna"));
    assert_eq!(value(&green, &of_anna).await, "bob");
    proven(&blue, &green).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parent_recreated_under_its_old_name_is_applied() {
    let (blue, green) = sides().await;
    blue.put("consumers", "anna", json!({})).await;
    let of = |consumer: &str| json!({ "consumer_id": id(consumer), "key": blue.own("the same key") });
    blue.put("keyauth_credentials", "old", of("anna")).await;
    blue.put("plugins", "limits", json!({ "consumer_id": id("anna") })).await;
    blue.put("services", "shop", json!({})).await;
    blue.put("routes", "cart", json!({ "service_id": id("shop") })).await;
    run(&blue, &green, &[]).await.expect_code(0);
    for (table, name) in
        [("plugins", "limits"), ("keyauth_credentials", "old"), ("consumers", "anna"), ("services", "shop")]
    {
        delete(&blue, table, name).await;
    }
    blue.put("consumers", "anna again", json!({ "username": blue.own("anna") })).await;
    blue.put("keyauth_credentials", "new", of("anna again")).await;
    blue.put("services", "shop again", json!({ "name": blue.own("shop") })).await;
    // The route itself moves to the new service: it must not go with the old one.
    blue.put("routes", "cart", json!({ "service_id": id("shop again") })).await;
    let ran = run(&blue, &green, &[]).await.expect_code(0);
    assert_eq!(changes(&ran), (3, 1, 4), "{ran:#?}");
    proven(&blue, &green).await;
}

/// A cascade of green's must not take along what has moved to another parent, nor what hangs on that.
#[tokio::test(flavor = "multi_thread")]
async fn a_child_moved_to_another_parent_outlives_its_deleted_parent() {
    let (blue, green) = sides().await;
    blue.put("consumers", "old", json!({})).await;
    blue.put("plugins", "limits", json!({ "consumer_id": id("old") })).await;
    blue.put("oauth2_credentials", "app", json!({ "consumer_id": id("old") })).await;
    blue.put("oauth2_tokens", "token", json!({ "credential_id": id("app") })).await;
    run(&blue, &green, &[]).await.expect_code(0);
    delete(&blue, "consumers", "old").await;
    blue.put("consumers", "new", json!({})).await;
    blue.put("plugins", "limits", json!({ "consumer_id": id("new") })).await;
    blue.put("oauth2_credentials", "app", json!({ "consumer_id": id("new") })).await;
    let ran = run(&blue, &green, &[]).await.expect_code(0);
    assert_eq!(changes(&ran), (1, 2, 1), "{ran:#?}");
    assert_eq!(green.count("oauth2_tokens").await.expect("a count"), 1);
    proven(&blue, &green).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_parent_with_a_locally_created_child_stops_the_run() {
    let (blue, green) = sides().await;
    blue.put("consumers", "anna", json!({})).await;
    run(&blue, &green, &[]).await.expect_code(0);
    let by_hand = format!(
        "insert into keyauth_credentials (id, consumer_id, ws_id, key) values ('{}', '{}', '{}', 'local')",
        id("local"),
        id("anna"),
        blue.ws
    );
    green.execute(&by_hand).await.expect("a key");
    delete(&blue, "consumers", "anna").await;
    let before = contents(&green).await;
    let ran = run(&blue, &green, &[]).await.expect_code(4);
    assert!(ran.stdout.contains(&id("local")), "{ran:#?}");
    assert_eq!(contents(&green).await, before);
    let ran = run(&blue, &green, &["--replace"]).await.expect_code(0);
    assert_eq!(changes(&ran), (0, 0, 2), "{ran:#?}");
    let result = ran.json();
    assert_eq!(result["manual_changes"][0]["reason"], "made");
    assert_eq!(result["by_hand"], result["manual_changes"], "the name of earlier releases");
    proven(&blue, &green).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_orphaned_on_blue_is_reported_and_deleted_with_consent() {
    let (blue, green) = sides().await;
    blue.put("consumers", "anna", json!({})).await;
    blue.put("oauth2_credentials", "app", json!({ "consumer_id": id("anna") })).await;
    blue.put("oauth2_tokens", "token", json!({ "credential_id": id("app") })).await;
    run(&blue, &green, &[]).await.expect_code(0);
    delete(&blue, "consumers", "anna").await;
    let before = contents(&green).await;
    let ran = run(&blue, &green, &[]).await.expect_code(4);
    assert_eq!(contents(&green).await, before);
    let app = ran.reject("oauth2_credentials", &id("app")).expect("a reject");
    assert_eq!(app["reason"], "dangling_reference");
    let token = ran.reject("oauth2_tokens", &id("token")).expect("a reject");
    assert_eq!((&token["reason"], &token["cause"]), (&json!("parent_rejected"), &json!(id("app"))));
    let ran = run(&blue, &green, &["--accept-rejects"]).await.expect_code(3);
    assert_eq!(changes(&ran), (0, 0, 3), "{ran:#?}");
    let left = (green.count("oauth2_credentials").await.ok(), green.count("oauth2_tokens").await.ok());
    assert_eq!(left, (Some(1), Some(0)));
    // What was accepted stays accepted.
    run(&blue, &green, &[]).await.expect_code(3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_workspace_keeps_its_entities() {
    let (blue, green) = sides().await;
    let ws = blue.workspace("team").await;
    blue.put("consumers", "member", json!({ "ws_id": ws })).await;
    run(&blue, &green, &[]).await.expect_code(0);
    blue.put("workspaces", "team", json!({ "name": "the team" })).await;
    let ran = run(&blue, &green, &[]).await.expect_code(0);
    assert_eq!(changes(&ran), (0, 1, 0), "{ran:#?}");
    proven(&blue, &green).await;
}

/// Kong 3.3's trigger deletes expired rows whenever one is inserted: the counts add up all the same.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_expired_between_runs_are_not_local_changes() {
    let (blue, green) = sides().await;
    for name in ["short", "shorter"] {
        blue.put_with_ttl("keyauth_credentials", name, json!({}), 9).await;
    }
    blue.put("keyauth_credentials", "lasting", json!({})).await;
    let first = run(&blue, &green, &[]).await.expect_code(0);
    assert_eq!(first.table("keyauth_credentials")["applied"], 3, "{first:#?}");
    tokio::time::sleep(std::time::Duration::from_secs(11)).await;
    // One of them is purged on green, as Kong does; the other one is there with its key.
    green
        .execute(&format!("delete from keyauth_credentials where id = '{}'", id("short")))
        .await
        .expect("purged");
    blue.put("keyauth_credentials", "new", json!({ "key": blue.own("shorter") })).await;
    let ran = run(&blue, &green, &[]).await.expect_code(0);
    assert_eq!(changes(&ran), (1, 0, 0), "{ran:#?}");
    assert_eq!(green.count("keyauth_credentials").await.expect("a count"), 2);
    let ran = run(&blue, &green, &[]).await.expect_code(0);
    assert_eq!(changes(&ran), (0, 0, 0), "{ran:#?}");
    proven(&blue, &green).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn local_changes_on_green_are_reported_and_kept_unless_replaced() {
    let (blue, green) = sides().await;
    for name in ["edited", "removed", "touched"] {
        blue.put("consumers", name, json!({})).await;
    }
    run(&blue, &green, &[]).await.expect_code(0);
    let by_hand = format!(
        "update consumers set custom_id = 'local' where id = '{}';
         update consumers set custom_id = custom_id where id = '{}';
         delete from consumers where id = '{}';
         insert into consumers (id, ws_id, username) values ('{}', '{}', 'made')",
        id("edited"),
        id("touched"),
        id("removed"),
        id("made"),
        blue.ws
    );
    green.execute(&by_hand).await.expect("edited");
    let before = contents(&green).await;
    let ran = run(&blue, &green, &[]).await.expect_code(4);
    assert_eq!(contents(&green).await, before);
    let mut found: Vec<(Value, Value)> = ran.json()["manual_changes"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|group| (group["reason"].clone(), group["examples"].clone()))
        .collect();
    found.sort_by_key(|(reason, _)| reason.to_string());
    assert_eq!(
        found,
        [
            (json!("edited"), json!([id("edited")])),
            (json!("made"), json!([id("made")])),
            (json!("removed"), json!([id("removed")])),
        ],
        "{ran:#?}"
    );
    let ran = run(&blue, &green, &["--replace"]).await.expect_code(0);
    assert_eq!(changes(&ran), (1, 1, 1), "{ran:#?}");
    proven(&blue, &green).await;
    assert_eq!(changes(&run(&blue, &green, &[]).await.expect_code(0)), (0, 0, 0));
}

/// The default workspace came from green's bootstrap once; since the first run it is blue's.
#[tokio::test(flavor = "multi_thread")]
async fn a_local_change_of_a_row_that_replaced_a_bootstrap_row_is_detected() {
    let (blue, green) = sides().await;
    run(&blue, &green, &[]).await.expect_code(0);
    green.execute("update workspaces set comment = 'local' where name = 'default'").await.expect("edited");
    green.execute("update parameters set value = 'local' where key = 'cluster_id'").await.expect("edited");
    let ran = run(&blue, &green, &[]).await.expect_code(4);
    assert_eq!(ran.json()["manual_changes"].as_array().map(Vec::len), Some(2), "{ran:#?}");
    assert_eq!(changes(&run(&blue, &green, &["--replace"]).await.expect_code(0)), (0, 2, 0));
    proven(&blue, &green).await;
}

/// The same change on both sides is no conflict: an Admin API client made it on green, and then on blue.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_change_made_on_both_sides_is_accepted() {
    let (blue, green) = sides().await;
    run(&blue, &green, &[]).await.expect_code(0);
    let edit = format!("update consumers set custom_id = 'c-1' where id = '{}'", id("consumers"));
    green.execute(&edit).await.expect("edited");
    blue.put("consumers", "consumers", json!({ "custom_id": blue.own("c-1") })).await;
    let ran = run(&blue, &green, &[]).await.expect_code(0);
    assert_eq!(changes(&ran), (0, 0, 0), "{ran:#?}");
    proven(&blue, &green).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn repaired_rejects_are_applied_and_accepted_ones_stay_accepted() {
    let (blue, green) = sides().await;
    let orphan = |consumer: &str| json!({ "consumer_id": id(consumer) });
    blue.put("acls", "repaired", orphan("missing")).await;
    blue.put("acls", "stays", orphan("missing")).await;
    blue.put("consumers", "nul", json!({ "custom_id": blue.own("a\0b") })).await;
    run(&blue, &green, &["--accept-rejects"]).await.expect_code(3);
    blue.put("acls", "repaired", orphan("consumers")).await;
    let ran = run(&blue, &green, &[]).await.expect_code(3);
    assert_eq!(changes(&ran), (1, 0, 0), "{ran:#?}");
    assert_eq!(ran.json()["totals"]["rejected"], 2);
    // A new one is not accepted with the old ones.
    blue.put("acls", "another", orphan("missing")).await;
    let ran = run(&blue, &green, &[]).await.expect_code(4);
    assert!(ran.stdout.contains("1 of 3") || ran.stdout.contains("not accept"), "{ran:#?}");
}

/// What an earlier run wrote and green would not take any more is not left behind in an old version.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_became_a_reject_is_deleted_from_green_with_consent() {
    let (blue, green) = sides().await;
    blue.put("consumers", "anna", json!({ "custom_id": blue.own("a") })).await;
    blue.put("consumers", "twin", json!({})).await;
    run(&blue, &green, &[]).await.expect_code(0);
    blue.put("consumers", "anna", json!({ "custom_id": blue.own("a\0") })).await;
    // The second one of two with a name is rejected; the first one, unchanged, stays.
    blue.put("consumers", "second", json!({ "username": blue.own("twin") })).await;
    let ran = run(&blue, &green, &[]).await.expect_code(4);
    assert_eq!(ran.reject("consumers", &id("anna")).expect("a reject")["reason"], "text_nul");
    assert_eq!(ran.reject("consumers", &id("second")).expect("a reject")["reason"], "duplicate");
    assert_eq!(ran.rejects.len(), 2, "{ran:#?}");
    let ran = run(&blue, &green, &["--accept-rejects"]).await.expect_code(3);
    assert_eq!(changes(&ran), (0, 0, 1), "{ran:#?}");
    let names = value(&green, "select array_agg(username order by username) from consumers").await;
    assert_eq!(names, json!(["consumers", "twin"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newly_bootstrapped_green_gets_a_first_run() {
    let (blue, green) = sides().await;
    run(&blue, &green, &[]).await.expect_code(0);
    green.execute("drop schema public cascade; create schema public").await.expect("dropped");
    kongferry_harness::green::bootstrap_green(&green, "3.3").await.expect("bootstrapped");
    let ran = run(&blue, &green, &[]).await.expect_code(0);
    assert_eq!(ran.json()["incremental"], false, "the ledger is history only: {ran:#?}");
    proven(&blue, &green).await;
    assert_eq!(changes(&run(&blue, &green, &[]).await.expect_code(0)), (0, 0, 0));
}

/// As pg_restore of Kong's schema alone leaves it: the same tables with the same rows, and yet others.
#[tokio::test(flavor = "multi_thread")]
async fn tables_restored_without_the_kongferry_schema_are_adopted() {
    let (blue, green) = sides().await;
    blue.put("acls", "stays", json!({})).await;
    run(&blue, &green, &[]).await.expect_code(0);
    // What the ledger says of the old table must not be believed of the new one: here a row that we wrote is missing.
    let restored = "
        create table kept as select * from acls;
        create table restored (like acls including all);
        drop table acls;
        alter table restored rename to acls;
        alter table acls add foreign key (consumer_id, ws_id) references consumers (id, ws_id) on delete cascade,
          add foreign key (ws_id) references workspaces (id);
        create trigger acls_sync_tags_trigger after insert or update of tags or delete on acls
          for each row execute procedure sync_tags();
        insert into acls select * from kept;
        drop table kept";
    green.execute(restored).await.expect("restored");
    let ran = run(&blue, &green, &[]).await.expect_code(0);
    assert_eq!(changes(&ran), (0, 0, 0), "the rows on green are blue's: {ran:#?}");
    proven(&blue, &green).await;
    green.execute(&format!("{restored}; update acls set \"group\" = 'local'")).await.expect("restored");
    let before = contents(&green).await;
    let ran = run(&blue, &green, &[]).await.expect_code(4);
    assert!(ran.stdout.contains(&id("stays")), "{ran:#?}");
    assert_eq!(contents(&green).await, before);
}

/// A copy of the whole database, our schema and all, is another one: its journal and its ledger are history.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_the_database_gets_a_first_run() {
    let (blue, green) = sides().await;
    run(&blue, &green, &[]).await.expect_code(0);
    let name = format!("{}_copy", green.name());
    let copy =
        lab().postgres().await.expect("a server").copy_database(&name, green.name()).await.expect("a copy");
    // A row of blue's is missing there: the restored ledger would count it as a local deletion.
    copy.execute(&format!("delete from consumers where id = '{}'", id("consumers"))).await.expect("deleted");
    let status =
        kongferry(&["status", "--green", copy.url(), "--format", "json"]).await.expect_code(0).json();
    assert_eq!(
        (&status["applied"], &status["runs"][0]["is_current"]),
        (&json!(null), &json!(false)),
        "{status:#}"
    );
    let ran = run(&blue, &copy, &[]).await.expect_code(0);
    assert_eq!(ran.json()["incremental"], false, "{ran:#?}");
    proven(&blue, &copy).await;
    assert_eq!(changes(&run(&blue, &copy, &[]).await.expect_code(0)), (0, 0, 0));
    assert_eq!(changes(&run(&blue, &green, &[]).await.expect_code(0)), (0, 0, 0));
}

/// What the data plane writes on green while both are in use is merged by key, and never a reason to stop.
#[tokio::test(flavor = "multi_thread")]
async fn rows_written_by_traffic_on_green_are_kept() {
    let (blue, green) = sides().await;
    for name in ["used up", "refreshed", "revoked", "revoked here"] {
        blue.put("oauth2_tokens", name, json!({})).await;
    }
    run(&blue, &green, &[]).await.expect_code(0);
    let by_kong = format!(
        "delete from oauth2_tokens where id = '{}';
         update oauth2_tokens set access_token = 'refreshed on green' where id = '{}';
         insert into oauth2_tokens (id, ws_id, credential_id, access_token) values ('{}', '{}', '{}', 'issued on green')",
        id("used up"),
        id("refreshed"),
        id("issued"),
        blue.ws,
        id("oauth2_credentials")
    );
    green.execute(&by_kong).await.expect("written");
    delete(&blue, "oauth2_tokens", "revoked").await;
    blue.put("oauth2_tokens", "new", json!({})).await;
    let ran = run(&blue, &green, &[]).await.expect_code(0);
    assert_eq!(changes(&ran), (1, 0, 1), "{ran:#?}");
    let table = ran.table("oauth2_tokens");
    assert_eq!((&table["applied"], &table["not_copied"]), (&json!(2), &json!(2)), "{ran:#?}");
    let tokens =
        value(&green, "select array_agg(access_token order by access_token) from oauth2_tokens").await;
    assert_eq!(tokens, json!(["issued on green", "new", "refreshed on green", "revoked here"]));
}

/// Without its ledger a run cannot tell what it wrote: rows equal to blue's are adopted, and the rest are local changes.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_cleanup_a_run_adopts_equal_rows_and_reports_the_others() {
    let (blue, green) = sides().await;
    run(&blue, &green, &[]).await.expect_code(0);
    kongferry(&["cleanup", "--yes", "--green", green.url()]).await.expect_code(0);
    let again = run(&blue, &green, &[]).await.expect_code(0);
    assert_eq!(again.json()["incremental"], false);
    proven(&blue, &green).await;
    assert_eq!(changes(&run(&blue, &green, &[]).await.expect_code(0)), (0, 0, 0));
    kongferry(&["cleanup", "--yes", "--green", green.url()]).await.expect_code(0);
    let edit = format!("update services set host = 'local.example.com' where id = '{}'", id("services"));
    green.execute(&edit).await.expect("edited");
    let ran = run(&blue, &green, &[]).await.expect_code(4);
    assert!(ran.stdout.contains(&id("services")), "{ran:#?}");
    let ran = run(&blue, &green, &["--replace"]).await.expect_code(0);
    assert_eq!(changes(&ran), (0, 1, 0), "{ran:#?}");
    proven(&blue, &green).await;
}

/// A table that was moved on request is kept up to date without being asked for again.
#[tokio::test(flavor = "multi_thread")]
async fn tables_migrated_on_request_are_kept_by_later_runs() {
    let (blue, green) = sides().await;
    blue.put("sessions", "one", json!({})).await;
    run(&blue, &green, &["--include-table", "sessions"]).await.expect_code(0);
    blue.put("sessions", "two", json!({})).await;
    let ran = run(&blue, &green, &[]).await.expect_code(0);
    assert_eq!(changes(&ran), (1, 0, 0), "{ran:#?}");
    assert_eq!(green.count("sessions").await.expect("a count"), 2);
}
