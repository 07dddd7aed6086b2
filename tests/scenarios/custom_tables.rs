//! Tables of custom plugins: nothing is known of them but the two catalogs, and PostgreSQL allows more there than Kong
//! itself makes use of.

use std::io::Write;

use kongferry_harness::lab;
use kongferry_harness::postgres::Database;
use serde_json::{Value, json};

use crate::databases::Contents;
use crate::migrated::{Migrated, refused_into};
use crate::row_builder::{KongKeyspace, id, incompressible};
use crate::support::{kongferry, migrate_arguments};

const BLUE: &str = "CREATE TABLE \"RatePlans\" (\"group\" text, \"Tenant Id\" uuid, \"Name\" text, code text, note text, remark text, slot text, \
    \"order\" int, length int, weight int, options text, \"Parent\" text, \"Owner\" text, \"Owner's Tenant\" uuid, ws_id uuid, PRIMARY KEY ((\"group\", \"Tenant Id\")))";

const GREEN: &str = r#"
create function one_or_more(n integer) returns boolean immutable language sql as 'select n >= 1';
create table "RatePlans" (
  "group" text not null,
  "Tenant Id" uuid not null,
  "Name" text,
  code text,
  note text,
  remark text,
  slot text,
  "order" integer,
  length integer check (one_or_more(length)),
  weight integer,
  "Doubled" integer generated always as (weight * 2) stored unique,
  options jsonb,
  "Parent" text,
  "Owner" text,
  "Owner's Tenant" uuid,
  ws_id uuid references workspaces (id),
  primary key ("group", "Tenant Id"),
  unique nulls not distinct (code, note),
  exclude using gist (int4range("order", "order" + length) with &&) where (slot is null),
  foreign key ("Parent", "Tenant Id") references "RatePlans" ("group", "Tenant Id"),
  foreign key ("Owner", "Owner's Tenant") references "RatePlans" match full
);
create unique index on "RatePlans" (lower("Name"), ws_id);
create unique index "one per slot" on "RatePlans" (slot) where "order" > 0;
create index on "RatePlans" using gin (options jsonb_path_ops);
create index on "RatePlans" using hash (slot);
create index on "RatePlans" (weight) include (remark) where note <> 'not covered';
create index on "RatePlans" ((note || code) collate "C" text_pattern_ops desc);
"#;

struct Plans {
    blue: KongKeyspace,
    green: Database,
}

impl Plans {
    async fn new() -> Plans {
        let blue = KongKeyspace::new("3.3").await;
        blue.execute(BLUE).await.expect("a table");
        let green = lab().fresh_green("3.3").await.expect("green");
        green.execute(GREEN).await.expect("a table");
        Plans { blue: blue.reread().await, green }
    }

    /// Writes a plan that collides with no other, but for what is given; gives its key.
    async fn put(&self, group: &str, instead: Value) -> Value {
        let tenant = id("tenant");
        let mut row = json!({ "group": group, "Tenant Id": tenant, "Name": group, "code": group, "note": group, "slot": group,
            "order": 0, "length": 1, "options": "{}", "ws_id": self.blue.ws });
        for (column, value) in instead.as_object().expect("columns") {
            row[column] = value.clone();
        }
        self.blue.write_row("RatePlans", &row).await.unwrap_or_else(|e| panic!("{e:?}: {row}"));
        json!({ "group": group, "Tenant Id": tenant })
    }
}

#[track_caller]
fn rejected(migrated: &Migrated, key: &Value, reason: &str, column: Option<&str>) -> Value {
    let found = migrated.ran.rejects.iter().find(|line| line["table"] == "RatePlans" && line["key"] == *key);
    let line = found.unwrap_or_else(|| panic!("{key} was not rejected: {:#?}", migrated.ran.rejects));
    assert_eq!((line["reason"].as_str(), line["column"].as_str()), (Some(reason), column), "{line:#}");
    assert_eq!(line["row"]["group"], key["group"], "the whole row is shown: {line:#}");
    line.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_custom_table_that_postgres_would_refuse_are_rejected_beforehand() {
    let plans = Plans::new().await;
    let long = incompressible("a remark", 6400);
    let put = async |group: &str, instead: Value| plans.put(group, instead).await;
    let mut expected = Vec::new();
    // UNIQUE NULLS NOT DISTINCT: two nulls are the same here.
    for group in ["nulls one", "nulls two"] {
        expected.push((
            put(group, json!({ "code": null, "note": null })).await,
            "duplicate",
            Some("code, note"),
        ));
    }
    for group in ["half null one", "half null two"] {
        expected.push((
            put(group, json!({ "code": "same", "note": null })).await,
            "duplicate",
            Some("code, note"),
        ));
    }
    // An index over an expression.
    for (group, name) in [("lower one", "Gold Plan"), ("lower two", "gold plan")] {
        expected.push((put(group, json!({ "Name": name })).await, "duplicate", Some("ws_id, Name")));
    }
    // A generated column.
    for group in ["doubled one", "doubled two"] {
        expected.push((put(group, json!({ "weight": 21 })).await, "duplicate", Some("Doubled")));
    }
    // A partial index sees only its part.
    for group in ["part one", "part two"] {
        expected.push((put(group, json!({ "slot": "a", "order": 1 })).await, "duplicate", Some("slot")));
    }
    let unseen =
        [put("unseen one", json!({ "slot": "b" })).await, put("unseen two", json!({ "slot": "b" })).await];
    // An exclusion constraint.
    for (group, order, length) in
        [("overlap one", 100, 10), ("overlap two", 109, 10), ("overlap three", 118, 1)]
    {
        let row = json!({ "slot": null, "order": order, "length": length });
        expected.push((put(group, row).await, "duplicate", Some("slot, order, length")));
    }
    let beside = put("beside", json!({ "slot": null, "order": 119, "length": 5 })).await;
    expected.push((put("no length", json!({ "length": 0 })).await, "check_failed", None));
    // A row is one index row, whatever the operator class, and included columns count.
    expected.push((
        put("long included", json!({ "remark": long })).await,
        "index_row_too_large",
        Some("weight, remark"),
    ));
    let row = json!({ "note": "not covered", "remark": long, "options": json!({ "a": long }).to_string() });
    let hashed = put("hashed", row).await;
    // References by several columns with unusual names, to the table itself.
    let parent = put("parent", json!({ "length": 0 })).await;
    expected.push((parent.clone(), "check_failed", None));
    let child = put("child", json!({ "Parent": "parent" })).await;
    expected.push((
        put("orphan", json!({ "Parent": "missing" })).await,
        "dangling_reference",
        Some("Parent, Tenant Id"),
    ));
    // Half a reference is none where green asks for all of it.
    let row = json!({ "Owner": "good" });
    expected.push((put("owned by half", row).await, "dangling_reference", Some("Owner, Owner's Tenant")));
    let owned = put("owned", json!({ "Owner": "good", "Owner's Tenant": id("tenant") })).await;
    let good = put("good", json!({ "Parent": "Good \"parent\"" })).await;
    put("Good \"parent\"", json!({})).await;

    let migrated = Migrated::into_green(&plans.blue, plans.green, &[]).await;
    for (key, reason, column) in &expected {
        rejected(&migrated, key, reason, *column);
    }
    let line = rejected(&migrated, &child, "parent_rejected", Some("Parent, Tenant Id"));
    assert_eq!(line["cause"], parent, "a key of several columns is an object: {line:#}");
    assert_eq!(migrated.ran.rejects.len(), expected.len() + 1, "{:#?}", migrated.ran.rejects);
    for key in unseen.iter().chain([&beside, &hashed, &good, &owned]) {
        let arrived = migrated.rows("RatePlans").iter().any(|row| row["group"] == key["group"]);
        assert!(arrived, "{key} is not on green");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_duplicate_in_a_custom_table_can_be_kept() {
    let plans = Plans::new().await;
    let row = |order: i64| json!({ "slot": null, "order": order, "length": 10 });
    let (first, second) = (plans.put("first", row(1)).await, plans.put("second", row(5)).await);
    let migrated = Migrated::with_green_like(&plans.blue, GREEN).await;
    let mut reviewed = tempfile::NamedTempFile::new().expect("a file");
    for line in &migrated.ran.rejects {
        let mut line = line.clone();
        if line["key"] == first {
            line["decision"] = "keep".into();
        }
        writeln!(reviewed, "{line}").expect("written");
    }
    let accept = format!("--accept-rejects={}", reviewed.path().display());
    let arguments = crate::support::migrate_arguments(&plans.blue, &plans.green, &[&accept]);
    let ran = crate::support::kongferry(&arguments).await.expect_code(3);
    assert_eq!(ran.rejects.len(), 1, "{:#?}", ran.rejects);
    assert_eq!(ran.rejects[0]["key"], second);
    let rows = plans.green.rows("RatePlans").await.expect("rows");
    assert_eq!(rows.iter().map(|row| &row["group"]).collect::<Vec<_>>(), ["first"]);
}

/// A map that the user gives, as a file.
fn map(content: &Value) -> (tempfile::NamedTempFile, String) {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), content.to_string()).expect("written");
    let path = file.path().display().to_string();
    (file, path)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_map_entry_that_neither_side_has_stops_the_run() {
    let plans = Plans::new().await;
    let cases = [
        (json!({ "RatePlan": { "writer": "traffic" } }), "there is no table \"RatePlan\" on either side"),
        (
            json!({ "RatePlans": { "columns": { "nmae": { "prefix": "workspace" } } } }),
            "no column \"RatePlans.nmae\" on either side",
        ),
        (json!({ "RatePlans": { "required": ["nmae"] } }), "no column \"RatePlans.nmae\" on either side"),
        (
            json!({ "RatePlans": { "required": [["note", "noet"]] } }),
            "no column \"RatePlans.noet\" on either side",
        ),
        (
            json!({ "RatePlans": { "partition": { "column": "partitoin", "value": "x" } } }),
            "RatePlans.partitoin",
        ),
        (
            json!({ "RatePlans": { "expiry": { "start": "since", "period": "code", "seconds": {} } } }),
            "no column \"RatePlans.since\" on either side",
        ),
        (
            json!({ "RatePlans": { "columns": { "code": { "cache_key": [{ "column": "gruop" }] } } } }),
            "RatePlans.gruop",
        ),
        (
            json!({ "RatePlans": { "columns": { "code": { "when_null": { "sha256_of_certificate": "crt" } } } } }),
            "RatePlans.crt",
        ),
    ];
    for (tables, sentence) in cases {
        let (_file, path) = map(&json!({ "format": 1, "tables": tables }));
        refused_into(&plans.blue, &plans.green, &["--accept-rejects", "--schema-map", &path], sentence).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_map_entry_that_one_side_has_is_accepted() {
    let plans = Plans::new().await;
    plans.blue.execute("ALTER TABLE \"RatePlans\" ADD \"only Blue\" text").await.expect("a column");
    plans.green.execute("alter table \"RatePlans\" add \"only Green\" text").await.expect("a column");
    let columns = json!({ "only Blue": { "drop": "Not used." }, "only Green": { "json": "any" }, "Name": { "prefix": "never" } });
    let (_file, path) = map(&json!({ "format": 1, "tables": { "RatePlans": { "columns": columns } } }));
    let key = plans.put("plan", json!({})).await;
    let migrated = Migrated::into_green(&plans.blue, plans.green, &["--schema-map", &path]).await;
    assert_eq!(migrated.rows("RatePlans").len(), 1, "{key}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_composite_key_of_prefixed_columns_uses_their_unprefixed_values() {
    let blue = KongKeyspace::new("3.3").await;
    let table = "CREATE TABLE limits (id uuid PRIMARY KEY, cache_key text, name text, ws_id uuid)";
    blue.execute(table).await.expect("a table");
    let blue = blue.reread().await;
    let green = lab().fresh_green("3.3").await.expect("green");
    let table = "create table limits (id uuid primary key, cache_key text unique, name text, ws_id uuid references workspaces (id), unique (ws_id, name))";
    green.execute(table).await.expect("a table");
    let rows = [
        ("own", blue.own("gold")),
        ("bare", "silver".to_owned()),
        ("foreign", format!("{}:x", id("stranger"))),
    ];
    for (name, value) in &rows {
        blue.write_row("limits", &json!({ "id": id(name), "name": value, "ws_id": blue.ws }))
            .await
            .expect("a row");
    }
    let recipe = json!([{ "text": "limits" }, { "column": "name" }, { "column": "ws_id" }]);
    let (_file, path) = map(&json!({ "format": 1, "tables": { "limits": { "columns": {
            "cache_key": { "cache_key": recipe }, "name": { "prefix": "workspace" },
        } } } }));
    let migrated = Migrated::into_green(&blue, green, &["--schema-map", &path]).await;
    assert_eq!(migrated.row("limits", &id("own"))["cache_key"], format!("limits:gold:{}", blue.ws));
    assert_eq!(migrated.row("limits", &id("bare"))["cache_key"], format!("limits:silver:{}", blue.ws));
    // The column that holds it is to blame, not the key that is made of it.
    migrated.rejected("limits", &id("foreign"), "prefix_foreign", "name");
}

/// A plugin may call its tables as we call ours: each is staged, and nothing of one is taken for the other's.
#[tokio::test(flavor = "multi_thread")]
async fn tables_named_like_kongferrys_own_are_migrated() {
    let names = [
        "reject",
        "repair",
        "keep",
        "bad",
        "epoch",
        "selected",
        "_delete_acls",
        "delete_acls",
        "_changed_acls",
        "run",
        "ledger",
        "writer",
        "definitions",
        "of_acls",
        "probe_",
        "x",
    ];
    let blue = KongKeyspace::new("3.3").await;
    blue.parents().await;
    blue.put("acls", "acls", json!({})).await;
    let green = lab().fresh_green("3.3").await.expect("green");
    for name in names {
        blue.execute(&format!("CREATE TABLE \"{name}\" (id uuid PRIMARY KEY, value text)"))
            .await
            .expect("a table");
        green
            .execute(&format!("create table \"{name}\" (id uuid primary key, value text)"))
            .await
            .expect("a table");
    }
    let blue = blue.reread().await;
    let put = async |name: &str, row: &str, value: &str| {
        blue.write_row(name, &json!({ "id": id(row), "value": value })).await.expect("a row");
    };
    for name in names {
        put(name, "stays", name).await;
        put(name, "changes", "before").await;
        put(name, "goes", "for now").await;
    }
    // One reject and one repair, so that our own tables hold something as well.
    blue.put("acls", "orphan", json!({ "consumer_id": id("missing") })).await;
    blue.put("plugins", "repaired", json!({ "enabled": null })).await;
    kongferry(&migrate_arguments(&blue, &green, &["--accept-rejects"])).await.expect_code(3);
    for name in names {
        put(name, "changes", "after").await;
        blue.execute(&format!("DELETE FROM \"{name}\" WHERE id = {}", id("goes"))).await.expect("deleted");
    }
    let ran = kongferry(&migrate_arguments(&blue, &green, &[])).await.expect_code(3);
    for name in names {
        let changes = &ran.table(name)["changes"];
        assert_eq!(*changes, json!({ "unchanged": 1, "inserted": 0, "updated": 1, "deleted": 1 }), "{name}");
        let mut rows = green.rows(name).await.expect("rows");
        rows.sort_by_key(|row| row["value"] == "after");
        let wanted =
            [json!({ "id": id("stays"), "value": name }), json!({ "id": id("changes"), "value": "after" })];
        assert_eq!(rows, wanted, "{name}");
    }
    let verified =
        kongferry(&["verify", "--blue", &blue.url(), "--green", green.url(), "--format", "json"]).await;
    assert_eq!(verified.code, 0, "{verified:#?}");
}

/// Two rows of such a table may be the same in all they have: a later run could not tell what changed, and says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_without_a_primary_key_on_green_is_loaded_once_and_then_refused() {
    let blue = KongKeyspace::new("3.3").await;
    blue.parents().await;
    for table in ["visits", "never_used"] {
        let cql = format!("CREATE TABLE {table} (place text, id uuid, n int, PRIMARY KEY (place, id))");
        blue.execute(&cql).await.expect("a table");
    }
    let blue = blue.reread().await;
    let green = lab().fresh_green("3.3").await.expect("green");
    for table in ["visits", "never_used"] {
        green
            .execute(&format!("create table {table} (place text, id uuid, n integer)"))
            .await
            .expect("a table");
    }
    let put = async |table: &str, name: &str, n: i32| {
        blue.write_row(table, &json!({ "place": "here", "id": id(name), "n": n })).await.expect("a row");
    };
    for (name, n) in [("stays", 1), ("changes", 2), ("goes", 3)] {
        put("visits", name, n).await;
    }
    kongferry(&migrate_arguments(&blue, &green, &[])).await.expect_code(0);
    put("visits", "changes", 22).await;
    put("visits", "comes", 4).await;
    let goes = format!("DELETE FROM visits WHERE place = 'here' AND id = {}", id("goes"));
    blue.execute(&goes).await.expect("deleted");
    let before = Contents::read(&green).await.without_journal();
    let ran = kongferry(&migrate_arguments(&blue, &green, &[])).await.expect_code(4);
    let remedy = "ALTER TABLE \"public\".\"visits\" ADD PRIMARY KEY (\"place\",\"id\")";
    assert!(ran.stderr.contains("\"visits\" has no primary key") && ran.stderr.contains(remedy), "{ran:#?}");
    assert_eq!(Contents::read(&green).await.without_journal(), before);
    // A table that is not copied blocks no run; nor does an empty one.
    kongferry(&migrate_arguments(&blue, &green, &["--skip-table", "visits"])).await.expect_code(0);
    // With the key that was asked for, the run goes on where the first one ended.
    green.execute(remedy).await.expect("a key");
    let ran = kongferry(&migrate_arguments(&blue, &green, &[])).await.expect_code(0);
    let wanted = json!({ "unchanged": 1, "inserted": 1, "updated": 1, "deleted": 1 });
    assert_eq!(ran.table("visits")["changes"], wanted, "{ran:#?}");
    let n = green.json("select to_jsonb(array_agg(n order by n)) from visits").await.expect("values");
    assert_eq!(n, [json!([1, 4, 22])]);
    // Rows that come to one that was empty meet the same question.
    put("never_used", "one", 1).await;
    let ran = kongferry(&migrate_arguments(&blue, &green, &[])).await.expect_code(4);
    assert!(ran.stdout.contains("never_used"), "{ran:#?}");
    assert_eq!(green.count("never_used").await.expect("a count"), 0);
}
