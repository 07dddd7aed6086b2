//! A keyspace of Kong Enterprise 2.8 (modelled, not observed: tests/fixtures/enterprise-2.8/README.md): every row
//! is migrated, green's bootstrap admin is replaced by blue's, and what is broken is reported.

use std::collections::{BTreeMap, BTreeSet};

use kongferry_harness::catalog::fixtures;
use kongferry_harness::fixture::Fixture;
use kongferry_harness::keyspace::{Keyspace, LoadOptions};
use kongferry_harness::lab;
use kongferry_harness::postgres::Database;
use serde_json::{Value, json};

use super::databases::Contents;
use super::support::{Ran, kongferry, migrate, migrate_arguments};

pub const LINE: &str = "enterprise-2.8";

/// The default workspaces of blue and of green's bootstrap.
pub const BLUES: &str = "c931ac03-a818-46f2-ba7c-beb0e1873001";
pub const GREENS: &str = "77840cb0-09d5-4821-855b-428aa04bcd1c";

/// All rows of the fixture in a keyspace of its own.
pub async fn blue() -> Keyspace {
    let blue = lab().fresh_keyspace(LINE).await.expect("a keyspace");
    let fixture = Fixture::shipped(LINE).expect("a fixture");
    blue.load(&fixture, LoadOptions::default()).await.expect("rows");
    blue
}

/// A green as Enterprise's bootstrap leaves it.
pub async fn green() -> Database {
    lab().fresh_green(LINE).await.expect("green")
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

/// A row in one spelling, without what differs by the time of reading.
fn spelled(mut row: Value, kept_as_text: bool) -> String {
    let columns = row.as_object_mut().expect("an object");
    columns.remove("ttl");
    for value in columns.values_mut() {
        // Empty collections of a client are null on Cassandra.
        if *value == json!([]) || (*value == json!({}) && !kept_as_text) {
            *value = Value::Null;
        }
    }
    sorted(&row).to_string()
}

/// The members of every object in one order: jsonb has an order of its own.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let members: BTreeMap<&String, Value> =
                members.iter().map(|(name, one)| (name, sorted(one))).collect();
            json!(members)
        }
        Value::Array(values) => values.iter().map(sorted).collect(),
        other => other.clone(),
    }
}

fn spelled_all(rows: Vec<Value>, table: &str) -> BTreeSet<String> {
    rows.into_iter().map(|row| spelled(row, table == "event_hooks")).collect()
}

fn class(expected: &Value, table: &str) -> String {
    expected["classes"][table].as_str().unwrap_or_default().to_owned()
}

/// Tables that hold what the fixture says they must, and none of green's own rows.
async fn arrived(green: &Database, ran: &Ran, include: &[&str]) {
    let expected = about("expected.json");
    let wanted = Fixture::shipped(LINE).expect("a fixture").green().expect("green's rows");
    for (table, wanted) in wanted {
        let moved = class(&expected, &table) == "copy" || include.contains(&table.as_str());
        if !moved {
            continue;
        }
        let (found, wanted) = (spelled_all(rows(green, &table).await, &table), spelled_all(wanted, &table));
        let missing: Vec<&String> = wanted.difference(&found).collect();
        let extra: Vec<&String> = found.difference(&wanted).collect();
        assert!(missing.is_empty() && extra.is_empty(), "{table}\nmissing {missing:#?}\nextra {extra:#?}");
        assert_eq!(ran.table(&table)["not_copied"], 0, "{table}");
    }
}

/// The rejects that the fixture foretells: the admin whose RBAC user is missing, and that user's roles.
fn only_the_broken_admin(ran: &Ran) {
    let expected = about("expected.json");
    let wanted = expected["rejects"].as_array().expect("rejects");
    assert_eq!(ran.rejects.len(), wanted.len(), "{:#?}", ran.rejects);
    for reject in wanted {
        let table = reject["table"].as_str().expect("a table");
        let id = &reject["key"]["id"];
        let key = if id.is_null() { &reject["key"] } else { id };
        let found = ran.rejects.iter().find(|line| line["table"] == table && line["key"] == *key);
        let line = found.unwrap_or_else(|| panic!("{table} {key} was not rejected: {:#?}", ran.rejects));
        assert_eq!(line["reason"], "dangling_reference", "{line:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_enterprise_row_is_migrated_and_the_bootstrap_admin_is_replaced() {
    let (blue, green) = (blue().await, green().await);
    let before = definitions(&green).await;
    let ran = migrate(&blue, &green).await.expect_code(3);
    only_the_broken_admin(&ran);
    arrived(&green, &ran, &[]).await;

    let expected = about("expected.json");
    for (table, keys) in expected["replaced"].as_object().expect("tables") {
        let left = rows(&green, table).await;
        for key in keys.as_array().expect("keys").iter().filter(|_| table != "parameters") {
            let same = |row: &&Value| {
                key.as_object().expect("a key").iter().all(|(name, value)| row[name] == *value)
            };
            assert_eq!(left.iter().find(same), None, "{table} {key} of green's bootstrap was not deleted");
        }
    }
    assert_eq!(
        green.json(&format!("select to_jsonb(id) from workspaces where id = '{GREENS}'")).await.unwrap(),
        Vec::<Value>::new()
    );
    let after = definitions(&green).await;
    let changed: Vec<&str> =
        after.lines().filter(|line| !before.replace(GREENS, BLUES).lines().any(|own| own == *line)).collect();
    assert_eq!(changed, Vec::<&str>::new(), "nothing but the defaults of ws_id follows the workspace");
    assert_eq!(before.lines().count(), after.lines().count());
    assert!(before.contains(GREENS), "the bootstrap's workspace was in a default");
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
    let expected = about("expected.json");
    let classes = expected["classes"].as_object().expect("classes");
    let optional: Vec<&str> = classes
        .iter()
        .filter(|(table, class)| {
            let asked = ["login_attempts", "rl_counters", "vitals_code_classes_by_cluster"];
            *class == "optional" || asked.contains(&table.as_str())
        })
        .map(|(table, _)| table.as_str())
        .collect();
    let mut more = vec!["--accept-rejects"];
    for table in &optional {
        more.extend(["--include-table", table]);
    }
    let without = kongferry(&migrate_arguments(&blue, &green, &["--accept-rejects"])).await.expect_code(3);
    for table in &optional {
        let line = without.table(table);
        assert_eq!(line["not_copied"], line["source"], "{line}");
        assert!(line["reason"].as_str().is_some_and(|reason| reason.ends_with('.')), "{line}");
    }
    let green = self::green().await;
    let ran = kongferry(&migrate_arguments(&blue, &green, &more)).await.expect_code(3);
    arrived(&green, &ran, &optional).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incomplete_admin_stops_the_run_unless_rejects_are_accepted() {
    let (blue, green) = (blue().await, green().await);
    let before = Contents::read(&green).await;
    let ran = kongferry(&migrate_arguments(&blue, &green, &[])).await.expect_code(4);
    only_the_broken_admin(&ran);
    assert_eq!(Contents::read(&green).await.without_journal(), before.without_ours());
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_created_on_green_are_not_mistaken_for_bootstrap_rows() {
    let (blue, green) = (blue().await, green().await);
    let role = "11111111-2222-4333-8444-555555555501";
    green
        .insert("rbac_roles", &json!({ "id": role, "name": "made-locally", "ws_id": GREENS }))
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
    let role = json!({ "id": seeded, "name": "workspace-portal-admin", "ws_id": GREENS });
    green.insert("rbac_roles", &role).await.expect("a role");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("baseline.json").display().to_string();
    let (from, to) = (blue.url(), green.url().to_owned());
    let inspect = ["inspect", "--blue", &from, "--green", &to, "--save-baseline", &path];
    kongferry(&inspect).await.expect_code(0);
    kongferry(&inspect).await.expect_code(1);

    let arguments = ["--accept-rejects", "--baseline", &path];
    let made =
        json!({ "id": "11111111-2222-4333-8444-555555555503", "name": "made-locally", "ws_id": GREENS });
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
    let ran = kongferry(&migrate_arguments(&blue, &green, &arguments)).await.expect_code(3);
    arrived(&green, &ran, &[]).await;
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
    only_the_broken_admin(&ran);
    let found = rows(&green, "consumers").await;
    let consumer = found.iter().find(|row| row["id"] == id).expect("it arrived");
    assert_eq!(consumer["type"], 0);
    assert_eq!(ran.table("consumers")["repaired"], 1);
    assert_eq!(verified(&blue, &green).await["summary"]["repaired"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn encrypted_fields_are_copied_byte_for_byte_and_listed_with_a_remedy() {
    let (blue, green) = (blue().await, green().await);
    let ran = migrate(&blue, &green).await.expect_code(3);
    for value in about("secrets.json")["keyring"].as_array().expect("values") {
        let (table, column) =
            (value["table"].as_str().expect("a table"), value["column"].as_str().expect("a column"));
        let found = rows(&green, table).await;
        let row = found.iter().find(|row| row["id"] == value["id"]).expect("it arrived");
        assert_eq!(row[column], value["value"]);
        let report = ran.json();
        let notes = report["notes"].as_array().expect("notes");
        let note =
            notes.iter().find(|note| note["table"] == table && note["reason"] == "keyring_cipher_text");
        let note = note.unwrap_or_else(|| panic!("no note about {table}: {notes:#?}"));
        let listed = note["examples"].as_array().expect("examples");
        assert!(listed.contains(&value["id"]), "{note:#}");
    }
    let next = ran.json()["next"].to_string();
    assert!(next.contains("keyring"), "{next}");
}

#[tokio::test(flavor = "multi_thread")]
async fn inspect_reports_the_edition_and_that_its_map_is_modelled() {
    let (blue, green) = (blue().await, green().await);
    let (from, to) = (blue.url(), green.url().to_owned());
    let ran =
        kongferry(&["inspect", "--blue", &from, "--green", &to, "--format", "json"]).await.expect_code(0);
    let answer = ran.json();
    assert_eq!((&answer["kong"], &answer["edition"]), (&json!("2.8"), &json!("enterprise")));
    assert!(answer["findings"].to_string().contains("not observed"), "{answer:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_enterprise_version_without_a_map_is_migrated_by_catalog_with_a_warning() {
    let (blue, green) = (blue().await, green().await);
    for (subsystem, name) in [("enterprise", "015_3000_to_3100"), ("core", "018_300_to_310")] {
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
    only_the_broken_admin(&ran);
    arrived(&green, &ran, &[]).await;
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
    assert_eq!(names("acme_mixed").await, set(&["gold", "silver", "$ke$1$-key-nonce-cipher"]));
    let inconsistent = ran.reject("acme_mixed", &id(3)).expect("the inconsistent one is named");
    assert_eq!(
        (&inconsistent["reason"], &inconsistent["column"]),
        (&json!("inconsistent_prefix"), &json!("name")),
        "{inconsistent:#}"
    );
    let report = ran.json();
    assert!(report["warnings"].to_string().contains("acme_mixed.name"), "{report:#}");
    let notes = report["notes"].as_array().expect("notes");
    assert!(!notes.iter().any(|note| note["table"] == "acme_plain"), "nothing is missing there: {notes:#?}");
    assert_eq!(verified(&blue, &green).await["summary"]["rejected"], 4);
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
