//! Keyspaces of Kong Enterprise on its real tables (tests/fixtures/enterprise-2.8/README.md), of every line: every row is
//! migrated, green's bootstrap admin is replaced by blue's, and what is broken is reported.

use std::collections::BTreeSet;

use kongferry_harness::catalog::{LINES, fixtures};
use kongferry_harness::enterprise::PASSWORD;
use kongferry_harness::fixture::Fixture;
use kongferry_harness::keyspace::Keyspace;
use kongferry_harness::lab;
use kongferry_harness::postgres::Database;
use serde_json::{Value, json};

use super::databases::Contents;
use super::support::{Ran, kongferry, migrate, migrate_arguments};

pub const LINE: &str = "enterprise-2.8";

/// Workspaces of blue: the default one and another.
pub const BLUES: &str = "173bad7e-414c-5bf1-9582-bde3c54692fe";
pub const TEAM_A: &str = "59a1a1e7-54e9-5b97-8082-17efa005ab81";

/// All rows of the fixture in a keyspace of its own.
pub async fn blue() -> Keyspace {
    lab().filled_keyspace(LINE).await.expect("a keyspace")
}

/// A green as Enterprise's bootstrap leaves it.
pub async fn green() -> Database {
    lab().fresh_green(LINE).await.expect("green")
}

/// The id of green's default workspace.
pub async fn default_workspace(green: &Database) -> String {
    let found = green.json("select to_jsonb(id) from workspaces where name = 'default'").await;
    found.expect("a workspace")[0].as_str().expect("an id").to_owned()
}

/// Tables with rows that a bootstrap makes under ids of its own.
const SEEDED: &[&str] =
    &["workspaces", "rbac_roles", "rbac_users", "consumers", "admins", "basicauth_credentials"];

/// The rows that green's bootstrap made, by table and id.
pub async fn seeds(green: &Database) -> Vec<(&'static str, Value)> {
    let mut found = Vec::new();
    for table in SEEDED {
        found.extend(rows(green, table).await.into_iter().map(|row| (*table, row["id"].clone())));
    }
    found
}

/// Nothing that green's bootstrap made is left, but what took blue's values.
pub async fn none_is_left(green: &Database, seeds: &[(&str, Value)]) {
    for table in SEEDED {
        let left: Vec<Value> = rows(green, table).await.into_iter().map(|row| row["id"].clone()).collect();
        for (_, id) in seeds.iter().filter(|(of, _)| of == table) {
            assert!(!left.contains(id), "{table} {id} of green's bootstrap was not deleted");
        }
    }
    assert_eq!(default_workspace(green).await, BLUES);
}

/// What is added to the rows of the fixture.
pub fn about(file: &str) -> Value {
    let path = fixtures().join(LINE).join(file);
    serde_json::from_str(&std::fs::read_to_string(path).expect("a file")).expect("JSON")
}

/// Rows of a table. Not by jsonb: a json column holds what jsonb refuses.
pub async fn rows(green: &Database, table: &str) -> Vec<Value> {
    let sql = format!("select to_jsonb(row_to_json(t)::text) from \"{table}\" t");
    let texts = green.json(&sql).await.expect("rows");
    texts.iter().map(|text| serde_json::from_str(text.as_str().expect("a text")).expect("JSON")).collect()
}

/// An instant without its zone, which is UTC on both sides.
fn instant(text: &str) -> Option<chrono::NaiveDateTime> {
    let plain = text.replace(' ', "T");
    let plain = plain.trim_end_matches('Z').trim_end_matches("+00:00");
    chrono::NaiveDateTime::parse_from_str(plain, "%Y-%m-%dT%H:%M:%S%.f").ok()
}

/// Whether green's value is the one of the fixture, which has JSON and instants as texts.
fn same(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Array(found), Value::Array(wanted)) => {
            found.len() == wanted.len() && found.iter().zip(wanted).all(|(found, wanted)| same(found, wanted))
        }
        (Value::Object(_) | Value::Array(_), Value::String(wanted)) => {
            serde_json::from_str::<Value>(wanted).is_ok_and(|wanted| wanted == *found)
        }
        (Value::String(found), Value::String(wanted)) => {
            found == wanted || instant(found).is_some_and(|found| instant(wanted) == Some(found))
        }
        (Value::Number(found), Value::Number(wanted)) => found.as_f64() == wanted.as_f64(),
        _ => found == wanted,
    }
}

/// Whether a row of green has every column of the fixture's.
fn same_row(found: &Value, wanted: &Value) -> bool {
    wanted.as_object().expect("a row").iter().all(|(column, value)| same(&found[column], value))
}

/// The rows of which green takes one at most, because its custom_id is unique over all workspaces.
fn of_shared_custom_id() -> Vec<Value> {
    about("notes.json").as_array().expect("notes").iter().map(|note| note["key"].clone()).collect()
}

/// Green has exactly the rows of the fixture.
async fn arrived(green: &Database, line: &str) {
    let rejected = of_shared_custom_id();
    for (table, wanted) in Fixture::shipped(line).expect("a fixture").green().expect("green's rows") {
        let found = rows(green, &table).await;
        let wanted: Vec<Value> = wanted.into_iter().filter(|row| !rejected.contains(&row["id"])).collect();
        let missing = wanted.iter().filter(|wanted| !found.iter().any(|found| same_row(found, wanted)));
        let extra = found.iter().filter(|found| !wanted.iter().any(|wanted| same_row(found, wanted)));
        let (missing, extra): (Vec<&Value>, Vec<&Value>) = (missing.collect(), extra.collect());
        assert!(
            missing.is_empty() && extra.is_empty(),
            "{line} {table}\nmissing {missing:#?}\nextra {extra:#?}"
        );
        assert_eq!(found.len(), wanted.len(), "{line} {table}");
    }
}

/// The rejects that the fixture foretells: two applications with one custom_id, and the instance of one of them.
fn only_the_shared_custom_id(ran: &Ran) {
    let wanted = of_shared_custom_id();
    assert_eq!(ran.rejects.len(), wanted.len(), "{:#?}", ran.rejects);
    for key in wanted {
        let found = ran.rejects.iter().find(|line| line["key"] == key);
        let line = found.unwrap_or_else(|| panic!("{key} was not rejected: {:#?}", ran.rejects));
        let reason = if line["table"] == "applications" { "duplicate" } else { "parent_rejected" };
        assert_eq!(line["reason"], reason, "{line:#}");
    }
}

/// Every line, on a green that was bootstrapped with a password and on one without: first, second and third run, and
/// what `verify` says of each.
#[tokio::test(flavor = "multi_thread")]
async fn every_line_is_migrated_whether_green_has_a_first_admin_or_not() {
    for line in LINES.iter().filter(|line| line.starts_with("enterprise-")) {
        let blue = lab().filled_keyspace(line).await.expect("a keyspace");
        for password in [Some(PASSWORD), None] {
            let green = lab().fresh_green_with_password(line, password).await.expect("green");
            let made = seeds(&green).await;
            let first = migrate(&blue, &green).await.expect_code(3);
            only_the_shared_custom_id(&first);
            assert_eq!(format!("enterprise-{}", first.json()["kong"].as_str().expect("a line")), *line);
            arrived(&green, line).await;
            none_is_left(&green, &made).await;
            assert_eq!(verified(&blue, &green).await["summary"]["rejected"], 3, "{line}");
            for _ in ["second", "third"] {
                let again = migrate(&blue, &green).await.expect_code(3).json();
                let changes = ["inserted", "updated", "deleted"].map(|kind| again["changes"][kind].as_u64());
                assert_eq!(changes, [Some(0); 3], "{line} {again:#}");
            }
        }
    }
}

/// A keyspace that Kong has only bootstrapped, as blue and as green, with and without a password on either side.
#[tokio::test(flavor = "multi_thread")]
async fn a_keyspace_that_was_only_bootstrapped_is_migrated_without_a_reject() {
    for line in ["enterprise-2.8", "enterprise-3.3"] {
        for (on_blue, on_green) in
            [(Some("blue's"), Some("green's")), (Some("blue's"), None), (None, Some("green's"))]
        {
            let blue = lab().bootstrapped_keyspace(line, on_blue).await.expect("a keyspace");
            let green = lab().fresh_green_with_password(line, on_green).await.expect("green");
            let ran = migrate(&blue, &green).await.expect_code(0);
            assert_eq!(ran.rejects, Vec::<Value>::new(), "{line}");
            for table in SEEDED {
                let (there, here) = (blue.count(table).await, green.count(table).await);
                assert_eq!(there.expect("a count"), here.expect("a count"), "{line} {table}");
            }
            let jwks = async |side: Vec<Value>| side[0]["jwks"].clone();
            let blues: Vec<Value> =
                blue.rows("oic_jwks").await.expect("rows").into_iter().map(Value::Object).collect();
            let (blues, greens) = (jwks(blues).await, jwks(rows(&green, "oic_jwks").await).await);
            assert!(same(&greens, &blues), "{line} {greens} {blues}");
            verified(&blue, &green).await;
        }
    }
}

/// Names of migrations that were folded into others, and a table that only an old version has.
#[tokio::test(flavor = "multi_thread")]
async fn a_blue_that_was_once_older_is_migrated_like_any_other() {
    let (blue, green) = (blue().await, green().await);
    for (subsystem, names) in [
        (
            "enterprise",
            "{'001_034_to_035', '002_035_to_035-1', '003_035-1_to_036-2', '004_036-2_to_037', '005_037_to_1301'}",
        ),
        ("core", "{'001_14_to_15', '002_15_to_1'}"),
        ("oauth2", "{'001_14_to_15', '002_15_to_10'}"),
    ] {
        blue.execute(&format!("UPDATE schema_meta SET executed = executed + {names} WHERE key = 'schema_meta' AND subsystem = '{subsystem}'")).await.expect("old names");
    }
    let old = json!({ "consumer_id": BLUES, "user_id": TEAM_A });
    blue.write_row("consumers_rbac_users_map", &old).await.expect("a row");
    let ran = migrate(&blue, &green).await.expect_code(3);
    only_the_shared_custom_id(&ran);
    assert_eq!(ran.table("consumers_rbac_users_map")["not_copied"], 1);
    arrived(&green, LINE).await;
    verified(&blue, &green).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_before_green_exists_builds_the_tables_of_every_line() {
    for line in LINES.iter().filter(|line| line.starts_with("enterprise-")) {
        let blue = lab().filled_keyspace(line).await.expect("a keyspace");
        let ran = kongferry(&["plan", "--blue", &blue.url(), "--format", "json"]).await.expect_code(3);
        let report = ran.json();
        assert_eq!(report["totals"]["rejected"], 3, "{line} {report:#}");
        let version = line.trim_start_matches("enterprise-");
        let expected = format!("the schema is that of Kong Enterprise {version}");
        assert!(report["not_checked"].to_string().contains(&expected), "{report:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_but_the_defaults_of_ws_id_changes_among_greens_definitions() {
    let (blue, green) = (blue().await, green().await);
    let (before, greens) = (definitions(&green).await, default_workspace(&green).await);
    migrate(&blue, &green).await.expect_code(3);
    let after = definitions(&green).await;
    let changed: Vec<&str> = after
        .lines()
        .filter(|line| !before.replace(&greens, BLUES).lines().any(|own| own == *line))
        .collect();
    assert_eq!(changed, Vec::<&str>::new(), "nothing but the defaults of ws_id follows the workspace");
    assert_eq!(before.lines().count(), after.lines().count());
    assert_eq!(before.matches(&greens).count(), 9, "the bootstrap's workspace was in the defaults");
}

/// Columns with their defaults, and every constraint with its flags.
async fn definitions(green: &Database) -> String {
    let sql = "select to_jsonb(string_agg(line, E'\\n' order by line)) from (
        select format('%s.%s %s', c.relname, a.attname, pg_get_expr(d.adbin, d.adrelid)) as line
        from pg_attrdef d join pg_class c on c.oid = d.adrelid
        join pg_attribute a on a.attrelid = d.adrelid and a.attnum = d.adnum
        where c.relnamespace = 'public'::regnamespace
        union all
        select format('%s %s %s %s %s %s %s', o.oid, o.conrelid::regclass, o.conname, pg_get_constraintdef(o.oid), o.condeferrable, o.condeferred, o.convalidated)
        from pg_constraint o where o.connamespace = 'public'::regnamespace
        union all
        select format('trigger %s %s %s %s %s', t.tgrelid::regclass, t.oid, t.tgenabled, t.tgdeferrable, t.tginitdeferred)
        from pg_trigger t join pg_class c on c.oid = t.tgrelid where c.relnamespace = 'public'::regnamespace) lines";
    green.json(sql).await.expect("definitions")[0].as_str().expect("a text").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn optional_tables_are_migrated_on_request_and_their_absence_is_explained() {
    let (blue, green) = (blue().await, green().await);
    let optional =
        ["audit_objects", "audit_requests", "consumer_reset_secrets", "license_data", "login_attempts"];
    let mut more = vec!["--accept-rejects"];
    for table in &optional {
        more.extend(["--include-table", table]);
    }
    let without = migrate(&blue, &green).await.expect_code(3);
    for table in &optional {
        let line = without.table(table);
        assert_eq!((&line["not_copied"], &line["source"]), (&json!(1), &json!(1)), "{line}");
        assert!(line["reason"].as_str().is_some_and(|reason| reason.ends_with('.')), "{line}");
        assert_eq!(green.count(table).await.expect("a count"), 0, "{table}");
    }
    let green = self::green().await;
    kongferry(&migrate_arguments(&blue, &green, &more)).await.expect_code(3);
    for table in &optional {
        assert_eq!(green.count(table).await.expect("a count"), 1, "{table}");
    }
    verified(&blue, &green).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_applications_with_one_custom_id_stop_the_run_unless_rejects_are_accepted() {
    let (blue, green) = (blue().await, green().await);
    let before = Contents::read(&green).await;
    let ran = kongferry(&migrate_arguments(&blue, &green, &[])).await.expect_code(4);
    only_the_shared_custom_id(&ran);
    assert_eq!(Contents::read(&green).await.without_journal(), before.without_ours());
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_created_on_green_are_not_mistaken_for_bootstrap_rows() {
    let (blue, green) = (blue().await, green().await);
    let role = "11111111-2222-4333-8444-555555555501";
    green
        .insert(
            "rbac_roles",
            &json!({ "id": role, "name": "made-locally", "ws_id": default_workspace(&green).await }),
        )
        .await
        .expect("a role");
    let ran = kongferry(&migrate_arguments(&blue, &green, &["--accept-rejects"])).await.expect_code(4);
    assert!(ran.stdout.contains(role), "{ran:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_baseline_identifies_the_rows_of_an_unknown_bootstrap() {
    let (blue, green) = (blue().await, green().await);
    // Another version seeds a role that the map does not know.
    let seeded = "11111111-2222-4333-8444-555555555502";
    let role =
        json!({ "id": seeded, "name": "workspace-portal-admin", "ws_id": default_workspace(&green).await });
    green.insert("rbac_roles", &role).await.expect("a role");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("baseline.json").display().to_string();
    let (from, to) = (blue.url(), green.url().to_owned());
    let inspect = ["inspect", "--blue", &from, "--green", &to, "--save-baseline", &path];
    kongferry(&inspect).await.expect_code(0);
    kongferry(&inspect).await.expect_code(1);

    let arguments = ["--accept-rejects", "--baseline", &path];
    let made = json!({ "id": "11111111-2222-4333-8444-555555555503", "name": "made-locally", "ws_id": default_workspace(&green).await });
    green.insert("rbac_roles", &made).await.expect("a role");
    let ran = kongferry(&migrate_arguments(&blue, &green, &arguments)).await.expect_code(4);
    assert!(ran.stdout.contains("555555555503") && !ran.stdout.contains(seeded), "{ran:#?}");
    green.execute("delete from rbac_roles where name = 'made-locally'").await.expect("deleted");
    green
        .execute("update rbac_roles set comment = 'changed' where name = 'workspace-portal-admin'")
        .await
        .expect("changed");
    let ran = kongferry(&migrate_arguments(&blue, &green, &arguments)).await.expect_code(4);
    assert!(ran.stdout.contains(seeded), "a bootstrap row that was changed locally is a local row: {ran:#?}");
    green
        .execute("update rbac_roles set comment = null where name = 'workspace-portal-admin'")
        .await
        .expect("changed");
    kongferry(&migrate_arguments(&blue, &green, &arguments)).await.expect_code(3);
    arrived(&green, LINE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_default_role_deleted_on_blue_is_deleted_on_green() {
    let (blue, green) = (blue().await, green().await);
    let roles = blue.rows("rbac_roles").await.expect("roles");
    let read_only = roles.iter().find(|role| role["name"] == format!("{BLUES}:read-only")).expect("a role");
    let id = read_only["id"].as_str().expect("an id");
    for table in ["rbac_role_endpoints", "rbac_role_entities"] {
        blue.execute(&format!("DELETE FROM {table} WHERE role_id = {id}")).await.expect("deleted");
    }
    for row in blue.rows("rbac_user_roles").await.expect("rows").iter().filter(|row| row["role_id"] == id) {
        let user = row["user_id"].as_str().expect("an id");
        blue.execute(&format!("DELETE FROM rbac_user_roles WHERE user_id = {user} AND role_id = {id}"))
            .await
            .expect("deleted");
    }
    for row in
        blue.rows("group_rbac_roles").await.expect("rows").iter().filter(|row| row["rbac_role_id"] == id)
    {
        let group = row["group_id"].as_str().expect("an id");
        blue.execute(&format!(
            "DELETE FROM group_rbac_roles WHERE group_id = {group} AND rbac_role_id = {id}"
        ))
        .await
        .expect("deleted");
    }
    blue.execute(&format!("DELETE FROM rbac_roles WHERE id = {id}")).await.expect("deleted");
    migrate(&blue, &green).await.expect_code(3);
    let left = rows(&green, "rbac_roles").await;
    assert!(!left.iter().any(|role| role["name"] == "read-only"), "{left:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_without_a_type_is_a_proxy_consumer() {
    let (blue, green) = (blue().await, green().await);
    let id = "11111111-2222-4333-8444-555555555504";
    let row = json!({ "id": id, "ws_id": BLUES, "username": format!("{BLUES}:old-hand") });
    blue.write_row("consumers", &row).await.expect("a consumer");
    let ran = migrate(&blue, &green).await.expect_code(3);
    only_the_shared_custom_id(&ran);
    let found = rows(&green, "consumers").await;
    let consumer = found.iter().find(|row| row["id"] == id).expect("it arrived");
    assert_eq!(consumer["type"], 0);
    // The fixture has another one.
    assert_eq!(ran.table("consumers")["repaired"], 2);
    assert_eq!(verified(&blue, &green).await["summary"]["repaired"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn encrypted_fields_are_copied_byte_for_byte_and_listed_with_a_remedy() {
    let (blue, green) = (blue().await, green().await);
    let ran = migrate(&blue, &green).await.expect_code(3);
    let id = "e6842aa1-f5b9-5cc0-9d68-8eeb41f15d03";
    let found = rows(&green, "keyauth_enc_credentials").await;
    let row = found.iter().find(|row| row["id"] == id).expect("it arrived");
    let on_blue = blue.rows("keyauth_enc_credentials").await.expect("rows");
    let on_blue = on_blue.iter().find(|row| row["id"] == id).expect("the row");
    let cipher = row["key"].as_str().expect("a key");
    assert!(cipher.starts_with("$ke$1$-"), "{cipher}");
    assert_eq!(on_blue["key"], format!("{}:{cipher}", on_blue["ws_id"].as_str().expect("a workspace")));
    let report = ran.json();
    let notes = report["notes"].as_array().expect("notes");
    let note = notes
        .iter()
        .find(|note| note["table"] == "keyauth_enc_credentials" && note["reason"] == "keyring_cipher_text")
        .unwrap_or_else(|| panic!("no note: {notes:#?}"));
    assert!(note["examples"].as_array().expect("examples").contains(&json!(id)), "{note:#}");
    let next = ran.json()["next"].to_string();
    assert!(next.contains("keyring"), "{next}");
}

#[tokio::test(flavor = "multi_thread")]
async fn inspect_reports_the_edition_and_that_no_server_has_confirmed_its_map() {
    let (blue, green) = (blue().await, green().await);
    let (from, to) = (blue.url(), green.url().to_owned());
    let ran =
        kongferry(&["inspect", "--blue", &from, "--green", &to, "--format", "json"]).await.expect_code(0);
    let answer = ran.json();
    assert_eq!((&answer["kong"], &answer["edition"]), (&json!("2.8"), &json!("enterprise")));
    assert!(answer["findings"].to_string().contains("no Enterprise server has confirmed"), "{answer:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_enterprise_version_without_a_map_is_migrated_by_catalog_with_a_warning() {
    let (blue, green) = (blue().await, green().await);
    for (subsystem, name) in [("enterprise", "018_3300_to_3400"), ("core", "020_300_to_310")] {
        blue.execute(&format!("UPDATE schema_meta SET last_executed = '{name}', executed = executed + {{'{name}'}} WHERE key = 'schema_meta' AND subsystem = '{subsystem}'")).await.expect("a migration");
        green.execute(&format!("update schema_meta set last_executed = '{name}', executed = executed || '{name}'::text where subsystem = '{subsystem}'")).await.expect("a migration");
    }
    let ran = migrate(&blue, &green).await.expect_code(3);
    let report = ran.json();
    assert_eq!(report["kong"], "3.1");
    assert!(
        report["warnings"].to_string().contains("no schema map covers this version of Kong Enterprise"),
        "{report:#}"
    );
    only_the_shared_custom_id(&ran);
    arrived(&green, LINE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn blues_rows_decide_whether_an_unmapped_text_has_a_workspace_prefix() {
    let (blue, green) = (blue().await, green().await);
    for name in ["with", "plain", "mixed"] {
        blue.execute(&format!("CREATE TABLE acme_{name} (id uuid PRIMARY KEY, ws_id uuid, name text)"))
            .await
            .expect("a table");
        green.execute(&format!("create table acme_{name} (id uuid primary key, ws_id uuid references workspaces (id), name text, unique (ws_id, name))")).await.expect("a table");
    }
    let mut blue = blue;
    blue.reread().await.expect("the tables");
    let id = |n: u32| format!("11111111-2222-4333-8444-5555555556{n:02}");
    let put = async |table: &str, n: u32, name: &str| {
        blue.write_row(table, &json!({ "id": id(n), "ws_id": BLUES, "name": name })).await.expect("a row");
    };
    put("acme_with", 1, &format!("{BLUES}:gold")).await;
    put("acme_with", 2, &format!("{BLUES}:a:b")).await;
    put("acme_with", 3, "$ke$1$-key-nonce-cipher").await;
    // A uuid in front that is no workspace belongs to the value.
    let stranger = "99999999-2222-4333-8444-555555555555:x";
    put("acme_plain", 1, "gold").await;
    put("acme_plain", 2, stranger).await;
    put("acme_mixed", 1, &format!("{BLUES}:gold")).await;
    put("acme_mixed", 2, &format!("{BLUES}:silver")).await;
    put("acme_mixed", 3, "inconsistent").await;
    put("acme_mixed", 4, "$ke$1$-key-nonce-cipher").await;

    let ran = migrate(&blue, &green).await.expect_code(3);
    let names = async |table: &str| -> BTreeSet<String> {
        rows(&green, table).await.iter().map(|row| row["name"].as_str().expect("a name").to_owned()).collect()
    };
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<String>>();
    assert_eq!(names("acme_with").await, set(&["gold", "a:b", "$ke$1$-key-nonce-cipher"]));
    assert_eq!(names("acme_plain").await, set(&["gold", stranger]));
    let mixed = set(&["gold", "silver", "inconsistent", "$ke$1$-key-nonce-cipher"]);
    assert_eq!(names("acme_mixed").await, mixed, "a value without its prefix is kept");
    let report = ran.json();
    assert!(report["warnings"].to_string().contains("acme_mixed.name"), "{report:#}");
    let notes = report["notes"].as_array().expect("notes");
    assert!(!notes.iter().any(|note| note["table"] == "acme_plain"), "nothing is missing there: {notes:#?}");
    let of_mixed =
        notes.iter().find(|note| note["table"] == "acme_mixed" && note["reason"] == "prefix_missing");
    assert_eq!(of_mixed.map(|note| &note["examples"]), Some(&json!([id(3)])), "{notes:#?}");
    assert_eq!(verified(&blue, &green).await["summary"]["rejected"], 3);
}

/// What `verify` says, which must find nothing.
pub async fn verified(blue: &Keyspace, green: &Database) -> Value {
    let (from, to) = (blue.url(), green.url().to_owned());
    let arguments = ["verify", "--blue", &from, "--green", &to, "--format", "json"];
    kongferry(&arguments).await.expect_code(0).json()
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_finds_no_difference_after_an_enterprise_migration() {
    let (blue, green) = (blue().await, green().await);
    migrate(&blue, &green).await.expect_code(3);
    let report = verified(&blue, &green).await;
    for table in report["tables"].as_array().expect("tables") {
        assert!(
            table["not_compared"].as_array().is_none_or(Vec::is_empty),
            "every type is compared: {table:#}"
        );
    }
    assert_eq!(report["summary"]["rejected"], 3, "{report:#}");
}
