//! Enterprise, run after run: what changed on blue's admins, roles and tokens arrives, blue's roles that are named like
//! those of a bootstrap stay, and green's own bootstrap rows are deleted by every kind of run.

use std::collections::BTreeSet;

use kongferry_harness::keyspace::Keyspace;
use kongferry_harness::postgres::Database;
use serde_json::json;

use super::databases::Contents;
use super::enterprise::{BLUES, TEAM_A, blue, default_workspace, green, none_is_left, rows, seeds, verified};
use super::enterprise_credentials::sha1_ident;
use super::support::{Ran, kongferry, migrate, migrate_arguments};

const SUPER_ADMIN: &str = "be8f72c3-b791-5b88-be6a-82f54f9d926c";
const CI_BOT: &str = "3801ac11-b151-5e1f-b530-e895567f5918";

async fn run(blue: &Keyspace, green: &Database, more: &[&str]) -> Ran {
    kongferry(&migrate_arguments(blue, green, &[&["--accept-rejects"], more].concat())).await
}

fn changes(ran: &Ran) -> (u64, u64, u64) {
    let changes = &ran.json()["changes"];
    let number = |name: &str| changes[name].as_u64().unwrap_or_else(|| panic!("no {name} in {changes}"));
    (number("inserted"), number("updated"), number("deleted"))
}

fn id(number: u32) -> String {
    format!("11111111-2222-4333-8444-5555555557{number:02}")
}

async fn ids(green: &Database, table: &str) -> BTreeSet<String> {
    rows(green, table).await.iter().map(|row| row["id"].as_str().expect("an id").to_owned()).collect()
}

/// What green's bootstrap makes, once more: roles, the first super admin and all that belongs to him.
async fn seed(green: &Database, workspace: &str) {
    let role = json!({ "id": id(90), "name": "super-admin", "ws_id": workspace });
    green.insert("rbac_roles", &role).await.expect("a role");
}

/// A new admin with everything that makes one, as Kong writes it.
async fn new_admin(blue: &Keyspace, name: &str) {
    let (admin, user, consumer) = (id(1), id(2), id(3));
    let token = format!("{name}'s token");
    let hash = bcrypt::hash(&token, 4).expect("a hash");
    let own = |text: &str| format!("{BLUES}:{text}");
    let password = kongferry_harness::fill::basic_auth_hash(&format!("{name}'s password"), &consumer);
    for (table, row) in [
        ("consumers", json!({ "id": consumer, "ws_id": BLUES, "username": own(name), "type": 2 })),
        (
            "rbac_users",
            json!({ "id": user, "ws_id": BLUES, "name": own(name), "user_token": hash, "user_token_ident": sha1_ident(&token), "enabled": true }),
        ),
        ("rbac_user_roles", json!({ "user_id": user, "role_id": SUPER_ADMIN })),
        (
            "basicauth_credentials",
            json!({ "id": id(4), "ws_id": BLUES, "consumer_id": consumer, "username": own(name), "password": password }),
        ),
        (
            "admins",
            json!({ "id": admin, "username": name, "consumer_id": consumer, "rbac_user_id": user, "rbac_token_enabled": true }),
        ),
    ] {
        blue.write_row(table, &row).await.expect("a row");
    }
}

/// What `credentials check` says of one secret on both sides.
async fn opens(
    blue: &Keyspace,
    green: &Database,
    kind: &str,
    workspace: &str,
    user: &str,
    secret: &str,
) -> String {
    let check = json!([{ "kind": kind, "workspace": workspace, "user": user, "secret": secret }]);
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), check.to_string()).expect("written");
    let path = file.path().display().to_string();
    let (to, from) = (green.url().to_owned(), blue.url());
    let arguments =
        ["credentials", "check", "--green", &to, "--blue", &from, "--file", &path, "--format", "json"];
    let answer = kongferry(&arguments).await.json()[0].clone();
    assert_eq!(answer["reason"], answer["blue"]["reason"], "both sides say the same: {answer}");
    answer["reason"].as_str().expect("a reason").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_admins_roles_and_tokens_are_migrated_by_the_second_run() {
    let (blue, green) = (blue().await, green().await);
    let made = seeds(&green).await;
    let first = migrate(&blue, &green).await.expect_code(3);
    none_is_left(&green, &made).await;
    let before = (ids(&green, "rbac_roles").await, rows(&green, "rbac_role_endpoints").await.len());

    // A role that is named like one of a bootstrap is edited; the others are unchanged.
    blue.execute(&format!("UPDATE rbac_roles SET comment = 'ours now' WHERE id = {SUPER_ADMIN}"))
        .await
        .expect("edited");
    new_admin(&blue, "Nora").await;
    blue.execute(&format!("DELETE FROM rbac_user_roles WHERE user_id = {CI_BOT}")).await.expect("deleted");
    blue.execute(&format!("DELETE FROM rbac_users WHERE id = {CI_BOT}")).await.expect("deleted");
    blue.execute("UPDATE rbac_users SET enabled = false WHERE id = db9cf709-86ee-53f4-b95e-f19c29a26768")
        .await
        .expect("switched off");

    let second = migrate(&blue, &green).await.expect_code(3);
    assert_eq!(second.json()["incremental"], true);
    assert_eq!(changes(&second), (5, 2, 3), "{second:#?}");
    assert_eq!(second.rejects.len(), first.rejects.len(), "what is broken stays behind: {second:#?}");
    none_is_left(&green, &made).await;
    let roles = rows(&green, "rbac_roles").await;
    assert_eq!(ids(&green, "rbac_roles").await, before.0, "every role of blue is there, under its id");
    assert_eq!(rows(&green, "rbac_role_endpoints").await.len(), before.1);
    let super_admin = roles.iter().find(|role| role["id"] == SUPER_ADMIN).expect("the role");
    assert_eq!(super_admin["comment"], "ours now");
    assert_eq!(verified(&blue, &green).await["summary"]["rejected"], 3);

    for (kind, workspace, user, secret, reason) in [
        ("admin-token", "default", "Nora", "Nora's token", "accepted"),
        ("admin-password", "default", "Nora", "Nora's password", "accepted"),
        ("admin-token", "default", "kong_admin", "Kong's-Adm1n!", "accepted"),
        ("admin-token", "default", "Dora.Two", "dora-token", "disabled"),
        ("admin-password", "default", "Dora.Two", "dora's pässword €", "accepted"),
        ("rbac-token", "team-a", "ci-bot", "team-a-bot", "unknown_user"),
    ] {
        assert_eq!(opens(&blue, &green, kind, workspace, user, secret).await, reason, "{kind} {user}");
    }

    let at_rest = Contents::read(&green).await.without_journal();
    let third = migrate(&blue, &green).await.expect_code(3);
    assert_eq!(changes(&third), (0, 0, 0), "{third:#?}");
    assert_eq!(Contents::read(&green).await.without_journal(), at_rest, "an unchanged run writes nothing");
    assert_eq!(verified(&blue, &green).await["summary"]["rejected"], 3);
}

/// The other way into a green that was just bootstrapped: no ledger, and its rows are replaced.
#[tokio::test(flavor = "multi_thread")]
async fn replace_without_a_ledger_deletes_every_bootstrap_row() {
    let (blue, green) = (blue().await, green().await);
    let made = seeds(&green).await;
    // Local changes on green are deleted too, with their children.
    let (role, service) = (id(10), id(11));
    green
        .insert(
            "rbac_roles",
            &json!({ "id": role, "name": "by-hand", "ws_id": default_workspace(&green).await }),
        )
        .await
        .expect("a role");
    green
        .insert("services", &json!({ "id": service, "name": "by-hand", "host": "by.hand", "ws_id": default_workspace(&green).await }))
        .await
        .expect("a service");
    run(&blue, &green, &["--replace"]).await.expect_code(3);
    none_is_left(&green, &made).await;
    assert!(
        !ids(&green, "rbac_roles").await.contains(&role) && !ids(&green, "services").await.contains(&service)
    );
    verified(&blue, &green).await;
    let again = run(&blue, &green, &[]).await.expect_code(3);
    assert_eq!(changes(&again), (0, 0, 0), "{again:#?}");

    // The same with a cleanup in between, which deletes the ledger, and with a bootstrap row that came meanwhile.
    kongferry(&["cleanup", "--yes", "--green", green.url()]).await.expect_code(0);
    green
        .execute(&format!("update rbac_roles set name = 'moved away' where id = '{SUPER_ADMIN}'"))
        .await
        .expect("renamed");
    seed(&green, BLUES).await;
    run(&blue, &green, &["--replace"]).await.expect_code(3);
    none_is_left(&green, &made).await;
    assert!(!ids(&green, "rbac_roles").await.contains(&id(90)));
    verified(&blue, &green).await;
}

/// A refused run leaves its empty ledger behind: the next one must not take the bootstrap's rows for a part of green.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_replace_keeps_the_bootstrap_rows_recognisable() {
    let (blue, green) = (blue().await, green().await);
    let made = seeds(&green).await;
    // Without consent the two applications with one custom_id stop the run.
    kongferry(&migrate_arguments(&blue, &green, &["--replace"])).await.expect_code(4);
    run(&blue, &green, &[]).await.expect_code(3);
    none_is_left(&green, &made).await;
    verified(&blue, &green).await;
}

/// The bootstrap's rows hold on to each other: with a table of theirs left out they cannot go.
#[tokio::test(flavor = "multi_thread")]
async fn an_excluded_table_with_bootstrap_rows_is_reported() {
    let (blue, green) = (blue().await, green().await);
    let made = seeds(&green).await;
    let before = Contents::read(&green).await;
    let ran = run(&blue, &green, &["--skip-table", "admins"]).await.expect_code(4);
    assert!(ran.stdout.contains("rows of \\\"admins\\\", which is not moved"), "{ran:#?}");
    assert_eq!(Contents::read(&green).await.without_ours(), before.without_ours());
    run(&blue, &green, &[]).await.expect_code(3);
    none_is_left(&green, &made).await;
    verified(&blue, &green).await;
}

/// After the first run green has no bootstrap rows: a row with such a name is a local change.
#[tokio::test(flavor = "multi_thread")]
async fn rows_created_on_green_later_are_local_changes_whatever_their_name() {
    let (blue, green) = (blue().await, green().await);
    let endpoint = json!({ "role_id": SUPER_ADMIN, "workspace": "team-a", "endpoint": "/made/by/hand", "actions": 15, "negative": false });
    migrate(&blue, &green).await.expect_code(3);
    green.insert("rbac_role_endpoints", &endpoint).await.expect("an endpoint");
    let ran = run(&blue, &green, &[]).await.expect_code(4);
    assert!(ran.stdout.contains("/made/by/hand"), "{ran:#?}");
    run(&blue, &green, &["--replace"]).await.expect_code(3);
    verified(&blue, &green).await;
    // A role of the bootstrap's name in another workspace.
    let team_a = TEAM_A;
    green
        .insert("rbac_roles", &json!({ "id": id(20), "name": "read-only", "ws_id": team_a }))
        .await
        .expect("a role");
    let ran = run(&blue, &green, &[]).await.expect_code(4);
    assert!(ran.stdout.contains(&id(20)), "{ran:#?}");
    run(&blue, &green, &["--replace"]).await.expect_code(3);
    verified(&blue, &green).await;
}
