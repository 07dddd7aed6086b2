//! A fault in each converter, one after another: whatever `migrate` writes wrongly, `verify` finds.
//!
//! `KONGFERRY_FAULT=TABLE.COLUMN` makes a debug build write other values of the right type into that column, as a
//! mistake in its converter would. Which converters there are is asked of the program: a new one is tested by itself.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, stream};
use kongferry_harness::keyspace::Keyspace;
use kongferry_harness::lab;
use kongferry_harness::postgres::Database;
use serde_json::{Value, json};

use super::support::{kongferry, migrate_arguments, program, ran};
use super::verify::verify;

/// Tables that move only on request: their converters are tested as well.
const ON_REQUEST: &[&str] =
    &["sessions", "oauth2_authorization_codes", "ratelimiting_metrics", "response_ratelimiting_metrics"];

/// A plugin's tables with a column for each pair of types that Kong's own tables do not have.
const BLUE: &[&str] = &[
    "CREATE TABLE everything (id uuid PRIMARY KEY, tu timeuuid, a ascii, v text, ch text, i2 int, i4 int, i8 int, s2 smallint, s4 smallint, \
     t2 tinyint, b8 bigint, b4 bigint, yes boolean, ts timestamp, tn timestamp, f4 float, f8 float, d8 double, bl blob, j text, jb text, \
     lj list<text>, sj set<text>, li list<int>, lt list<text>, su set<uuid>, sb set<bigint>, mt map<text, text>, mi map<text, int>, \
     md map<text, frozen<list<double>>>, mm map<text, frozen<map<text, frozen<set<boolean>>>>>, mu map<text, uuid>)",
    "CREATE TABLE counted (id uuid PRIMARY KEY, n counter)",
];

const GREEN: &str = "
create table everything (id uuid primary key, tu uuid, a text, v character varying(20), ch character(8), i2 smallint, i4 integer, i8 bigint,
  s2 smallint, s4 integer, t2 smallint, b8 bigint, b4 integer, yes boolean, ts timestamp with time zone, tn timestamp without time zone,
  f4 real, f8 double precision, d8 double precision, bl bytea, j json, jb jsonb, lj json[], sj jsonb[], li integer[], lt text[],
  su uuid[], sb bigint[], mt jsonb, mi jsonb, md json, mm jsonb, mu jsonb, only_green text);
create table counted (id uuid primary key, n bigint);";

async fn both() -> (Keyspace, Database) {
    let mut blue = lab().filled_keyspace("3.3").await.expect("blue");
    for table in BLUE {
        blue.execute(table).await.expect("a table");
    }
    blue.reread().await.expect("the tables");
    let id = "11111111-2222-4333-8444-555555555555";
    let row = json!({
        "id": id, "tu": "8a5e8e20-82f5-11ee-b962-0242ac120002", "a": "ascii", "v": "varying", "ch": "char", "i2": -2, "i4": 4, "i8": 8,
        "s2": 2, "s4": -4, "t2": -1, "b8": 9_007_199_254_740_993_i64, "b4": 44, "yes": true, "ts": "2023-11-14 22:13:20.123Z",
        "tn": "2023-11-14 22:13:20.123Z", "f4": 0.5, "f8": 0.1, "d8": 1e100, "bl": "0x00ff", "j": "{\"b\": 1, \"a\": [1.0]}",
        "jb": "{\"b\":1,\"a\":[1.0, \"\\u00e9\"]}", "lj": ["{\"b\":1}", "{\"a\":2}"], "sj": ["{\"z\":1}", "{\"a\":2}"], "li": [3, 1, 2],
        "lt": ["b", "a"], "su": [id], "sb": [5, -5], "mt": { "k": "v", "a": "\"quoted\"" }, "mi": { "k": -7 }, "md": { "k": [0.25, 1.0e-7] },
        "mm": { "k": { "i": [true, false] } }, "mu": { "k": id },
    });
    blue.write_row("everything", &row).await.expect("a row");
    blue.write_row("counted", &json!({ "id": id, "n": 41 })).await.expect("a counter");
    (blue, fresh_green().await)
}

async fn fresh_green() -> Database {
    let green = lab().fresh_green("3.3").await.expect("green");
    green.execute(GREEN).await.expect("tables");
    green
}

fn on_request() -> Vec<&'static str> {
    ON_REQUEST.iter().flat_map(|table| ["--include-table", table]).collect()
}

/// A converter, and the columns that it writes, those first that nothing refers to.
type Converters = BTreeMap<(String, String, String), Vec<(String, String)>>;

async fn converters(blue: &Keyspace, green: &Database) -> Converters {
    let url = blue.url();
    let mut arguments =
        vec!["plan", "--quick", "--columns", "--format", "json", "--blue", &url, "--green", green.url()];
    arguments.extend(on_request());
    let ran = kongferry(&arguments).await.expect_code(3);
    let plan = ran.json();
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let mut converters = Converters::new();
    for table in plan["columns"].as_array().expect("tables") {
        for column in table["columns"].as_array().expect("columns") {
            if column["green"] == "–" {
                continue;
            }
            let which = (text(&column["blue"]), text(&column["rule"]), text(&column["green"]));
            converters.entry(which).or_default().push((text(&table["table"]), text(&column["column"])));
        }
    }
    let is_reference = |column: &str| column == "id" || column.ends_with("_id");
    for places in converters.values_mut() {
        places.sort_by_key(|(_, column)| is_reference(column));
    }
    converters
}

/// The first column of a converter that holds values on a green that was migrated rightly.
async fn place(green: &Database, places: &[(String, String)], is_null: bool) -> Option<(String, String)> {
    for (table, column) in places {
        let found = green
            .json(&format!("select to_jsonb(count(\"{column}\")) from \"{table}\""))
            .await
            .expect("a count");
        if is_null || found.first().and_then(Value::as_i64) > Some(0) {
            return Some((table.clone(), column.clone()));
        }
    }
    None
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_finds_a_fault_in_every_converter() {
    let (blue, right) = both().await;
    let converters = converters(&blue, &right).await;
    let mut more = on_request();
    more.push("--accept-rejects");
    kongferry(&migrate_arguments(&blue, &right, &more)).await.expect_code(3);
    let clean = verify(&blue, &right, &[]).await.expect_code(0);
    assert_eq!(clean.findings, Vec::<Value>::new());
    let report = clean.ran.json();
    let left_out: Vec<&Value> = (report["tables"].as_array().expect("tables").iter())
        .filter(|table| table["not_compared"].is_array())
        .collect();
    assert!(left_out.is_empty(), "not compared: {left_out:#?}");
    let mut wanted = Vec::new();
    for (converter, places) in &converters {
        let place = place(&right, places, converter.1 == "NULL").await;
        let place = place.unwrap_or_else(|| panic!("no column of {converter:?} holds a value: {places:?}"));
        wanted.push((converter.clone(), place));
    }
    let missed: Vec<String> = stream::iter(wanted.iter())
        .map(|(converter, place)| fault(&blue, converter, place))
        .buffer_unordered(3)
        .filter_map(|missed| async { missed })
        .collect()
        .await;
    assert!(missed.is_empty(), "faults that were not found: {missed:#?}");
    let types: BTreeSet<&String> = converters.keys().map(|(_, _, green)| green).collect();
    println!("{} converters to {} types, each fault found", converters.len(), types.len());
}

/// Migrates with a fault in this column and says what is wrong unless `verify` names it.
async fn fault(
    blue: &Keyspace,
    converter: &(String, String, String),
    (table, column): &(String, String),
) -> Option<String> {
    let green = fresh_green().await;
    let (mut command, folder) = program();
    let mut more = on_request();
    more.push("--accept-rejects");
    command.args(migrate_arguments(blue, &green, &more)).env("KONGFERRY_FAULT", format!("{table}.{column}"));
    let output =
        tokio::task::spawn_blocking(move || command.output()).await.expect("a thread").expect("the program");
    let migrated = ran(output, &folder.path().join("rejects.jsonl"));
    assert!([0, 3].contains(&migrated.code), "{converter:?} {table}.{column}: {migrated:#?}");
    assert!(migrated.stderr.contains("on purpose"), "the fault is said aloud: {}", migrated.stderr);
    let verified = verify(blue, &green, &["--table", table]).await;
    let kinds = ["different", "wrong_expiry", "wrong_cache_key", "wrong_workspace", "missing"];
    let found = verified.findings.iter().any(|line| {
        line["table"] == **table
            && (line["column"] == **column || line["kind"] == "missing")
            && kinds.contains(&line["kind"].as_str().unwrap_or_default())
    });
    (!found).then(|| format!("{converter:?} in {table}.{column}: {:#?}", verified.findings))
}
