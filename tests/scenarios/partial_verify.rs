//! `verify` of a workspace or a sample: it says that it is no proof, and its findings are correct.

use kongferry_harness::fill;
use kongferry_harness::lab;
use serde_json::{Value, json};

use super::support::{kongferry, migrate};
use super::verify::{migrated, verify};

#[tokio::test(flavor = "multi_thread")]
async fn verify_compares_a_single_workspace_on_request() {
    let (blue, green) = migrated("3.3").await;
    let workspaces = green.rows("workspaces").await.expect("workspaces");
    let other = workspaces.iter().find(|row| row["name"] != "default").expect("a second workspace");
    let name = other["name"].as_str().expect("a name");
    let only = ["--workspace", name];
    let clean = verify(&blue, &green, &only).await.expect_code(0);
    let report = clean.ran.json();
    assert_eq!((&report["partial"], &report["part"]["workspace"]), (&json!(true), &json!(name)));
    let id = other["id"].as_str().expect("an id");
    let sql = format!("select to_jsonb(count(*)) from consumers where ws_id = '{id}'");
    let consumers = green.json(&sql).await.expect("a count")[0].as_u64().expect("a number");
    assert!(consumers > 0, "the fixture has consumers in its second workspace");
    let table = |name: &str| {
        report["tables"].as_array().expect("tables").iter().find(|t| t["table"] == name).cloned()
    };
    assert_eq!(table("consumers").expect("consumers")["source"], consumers);
    assert_eq!(table("ca_certificates"), None, "belongs to no workspace");
    assert_eq!(table("workspaces").expect("workspaces")["source"], 1);
    let unprotected = "set session_replication_role = replica;";
    green
        .execute(&format!(
            "{unprotected} update consumers set created_at = now() where ws_id <> '{id}';
             update consumers set username = id::text, custom_id = null, ws_id = (select id from workspaces where name = 'default') where id = (select min(id::text)::uuid from consumers where ws_id = '{id}');"
        ))
        .await
        .expect("changes");
    let found = verify(&blue, &green, &only).await.expect_code(3);
    let kinds: Vec<(&Value, &Value)> = (found.findings.iter().filter(|line| line["kind"] != "orphan"))
        .map(|line| (&line["table"], &line["kind"]))
        .collect();
    let moved = (&json!("consumers"), &json!("wrong_workspace"));
    assert!(kinds.contains(&moved), "{kinds:?}");
    assert!(
        kinds.iter().all(|kind| *kind == moved || kind.0 != "consumers" || kind.1 == "different"),
        "{kinds:?}"
    );
    assert_eq!(
        found.number("different"),
        1,
        "changes in other workspaces are not compared: {:#?}",
        found.findings
    );
    let ran =
        kongferry(&["verify", "--blue", &blue.url(), "--green", green.url(), "--workspace", "unknown"]).await;
    assert!(ran.code == 2 && ran.stderr.contains("Blue's workspaces are: "), "{ran:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sample_is_reported_as_no_proof() {
    let blue = lab().filled_keyspace("3.3").await.expect("blue");
    let workspaces = blue.rows("workspaces").await.expect("workspaces");
    let default = workspaces.iter().find(|row| row["name"] == "default").expect("a default workspace");
    let id = default["id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
    fill::fill(&blue, id, 4_000).await.expect("consumers");
    let green = lab().fresh_green("3.3").await.expect("green");
    migrate(&blue, &green).await.expect_code(3);
    let sample = verify(&blue, &green, &["--sample", "10%"]).await.expect_code(0);
    let report = sample.ran.json();
    assert_eq!((&report["partial"], &report["part"]["sample_percent"]), (&json!(true), &json!(10.0)));
    let whole = verify(&blue, &green, &[]).await.expect_code(0);
    let (some, all) = (sample.number("equal"), whole.number("equal"));
    assert!(some > 500 && some < all / 2, "{some} of {all}");
    green.execute("update acls set \"group\" = 'another'").await.expect("changes");
    let found = verify(&blue, &green, &["--sample", "10"]).await.expect_code(3);
    assert!(
        found.number("different") > 100 && found.number("missing") + found.number("extra") == 0,
        "{:#?}",
        found.ran.json()["summary"]
    );
    let (blue_url, green_url) = (blue.url(), green.url());
    let ran = kongferry(&[
        "verify",
        "--blue",
        &blue_url,
        "--green",
        green_url,
        "--sample",
        "1%",
        "--table",
        "consumers",
    ])
    .await;
    assert!(
        ran.code == 0 && ran.stdout.contains("NOT A PROOF.") && ran.stdout.contains("a sample of 1 %"),
        "{ran:#?}"
    );
    for wrong in ["0", "101%", "some"] {
        let ran = kongferry(&["verify", "--blue", &blue_url, "--green", green_url, "--sample", wrong]).await;
        assert_eq!(ran.code, 2, "{ran:#?}");
    }
}
