//! For every pair of column types that there is a rule for: random values, written to a real Cassandra by the driver,
//! migrated by the real program, read back from a real PostgreSQL, equal.
//!
//! All pairs stand side by side in a few tables of their own, so one migration carries hundreds of random rows of each.
//! `PROPTEST_CASES` says how many rows; `PROPTEST_RNG_SEED` repeats a run whose first line it is.

use std::collections::BTreeMap;
use std::fmt::Write;

use futures::{StreamExt, TryStreamExt, stream};
use kongferry_harness::keyspace::Keyspace;
use kongferry_harness::lab;
use kongferry_harness::postgres::Database;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use scylla::value::{Counter, CqlTimestamp, CqlTimeuuid, CqlValue};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Row};
use uuid::Uuid;

use super::databases::bare_blue;
use super::support::{Ran, kongferry, migrate_arguments};

/// First and last millisecond that PostgreSQL's timestamps hold, since 1970.
const TIMESTAMPS: (i64, i64) = (-210_866_803_200_000, 9_224_318_015_999_999);

/// Longest value of the columns with a length.
const LENGTH: usize = 32;

/// Blue's scalar types, with the types of green that their values may go to.
const SCALARS: &[(&str, &[&str])] = &[
    ("uuid", &["uuid"]),
    ("timeuuid", &["uuid"]),
    ("text", &["text", "character varying", "character varying(32)", "character(32)"]),
    ("ascii", &["text", "character varying", "character varying(32)", "character(32)"]),
    ("int", &["integer", "bigint", "smallint"]),
    ("smallint", &["smallint", "integer"]),
    ("tinyint", &["smallint"]),
    ("bigint", &["bigint", "integer"]),
    ("boolean", &["boolean"]),
    ("timestamp", &["timestamp with time zone", "timestamp without time zone"]),
    ("float", &["double precision", "real"]),
    ("double", &["double precision"]),
    ("blob", &["bytea"]),
];

/// What the values of a map may be, for `map<text, …>` to a JSON object.
const MEMBERS: &[&str] = &[
    "text",
    "ascii",
    "int",
    "bigint",
    "boolean",
    "float",
    "double",
    "uuid",
    "frozen<set<text>>",
    "frozen<list<int>>",
    "frozen<map<text, text>>",
    "frozen<map<text, frozen<list<double>>>>",
];

/// A column: its types, and the rules by which its values are made.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pair {
    blue: String,
    green: String,
}

/// The pairs of one table each.
fn tables() -> BTreeMap<&'static str, Vec<Pair>> {
    let mut tables: BTreeMap<&str, Vec<Pair>> = BTreeMap::new();
    let mut add = |table, blue: String, green: String| {
        tables.entry(table).or_default().push(Pair { blue, green });
    };
    let texts = ["text", "ascii"];
    for (blue, greens) in SCALARS {
        for green in *greens {
            add("rt_scalar", (*blue).to_owned(), (*green).to_owned());
            add("rt_set", format!("set<{blue}>"), format!("{green}[]"));
            add("rt_list", format!("list<{blue}>"), format!("{green}[]"));
            add("rt_frozen", format!("frozen<set<{blue}>>"), format!("{green}[]"));
            add("rt_frozen", format!("frozen<list<{blue}>>"), format!("{green}[]"));
        }
    }
    for green in ["jsonb", "json"] {
        for blue in texts {
            add("rt_json", blue.to_owned(), green.to_owned());
            add("rt_json", format!("set<{blue}>"), format!("{green}[]"));
            add("rt_json", format!("frozen<list<{blue}>>"), format!("{green}[]"));
        }
        for member in MEMBERS {
            add("rt_map", format!("map<text, {member}>"), green.to_owned());
            add("rt_map", format!("frozen<map<text, {member}>>"), green.to_owned());
        }
    }
    for green in ["bigint", "integer"] {
        add("rt_counter", "counter".to_owned(), green.to_owned());
    }
    tables
}

/// The name of a table's column number `at`.
fn column(at: usize) -> String {
    format!("c{at}")
}

/// How many random rows each table gets.
fn cases() -> usize {
    Config::default().cases as usize
}

type Values = BoxedStrategy<CqlValue>;

/// Texts that PostgreSQL accepts, at most `longest` characters long.
fn text(longest: usize) -> BoxedStrategy<String> {
    let character = prop_oneof![
        4 => proptest::char::range('\u{1}', '\u{7f}'),
        2 => proptest::char::range('\u{80}', '\u{d7ff}'),
        1 => proptest::char::range('\u{e000}', '\u{ffff}'),
        2 => proptest::char::range('\u{10000}', '\u{10ffff}'),
    ];
    let some = proptest::collection::vec(character, 0..=longest.min(40)).prop_map(String::from_iter);
    let odd = ["", " ", "\\", "\"", "'", "{}", "NULL", "\u{feff}", "🐘", "\r\n\t", "\\N", "$ke$", "a:b"];
    prop_oneof![6 => some, 1 => proptest::sample::select(odd.map(str::to_owned).to_vec())].boxed()
}

fn ascii(longest: usize) -> BoxedStrategy<String> {
    let character = proptest::char::range('\u{1}', '\u{7f}');
    proptest::collection::vec(character, 0..=longest.min(40)).prop_map(String::from_iter).boxed()
}

/// Numbers of a width, its ends more often than chance would have it.
macro_rules! number {
    ($low:expr, $high:expr) => {
        prop_oneof![4 => $low..=$high, 1 => Just($low), 1 => Just($high), 1 => Just(0)]
    };
}

fn double() -> BoxedStrategy<f64> {
    let odd = [
        f64::NAN,
        -0.0,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::MIN_POSITIVE,
        f64::MAX,
        f64::MIN,
        5e-324,
        0.1,
    ];
    prop_oneof![3 => proptest::num::f64::ANY, 1 => proptest::sample::select(odd.to_vec())].boxed()
}

fn float() -> BoxedStrategy<f32> {
    let odd =
        [f32::NAN, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::MIN_POSITIVE, f32::MAX, f32::MIN, 1e-45, 0.1];
    prop_oneof![3 => proptest::num::f32::ANY, 1 => proptest::sample::select(odd.to_vec())].boxed()
}

/// Values of a native type that green's type can hold.
fn scalar(blue: &str, green: &str) -> Values {
    let longest = if green.ends_with("(32)") { LENGTH } else { usize::MAX };
    match blue {
        "uuid" => any::<[u8; 16]>().prop_map(|bytes| CqlValue::Uuid(Uuid::from_bytes(bytes))).boxed(),
        "timeuuid" => any::<[u8; 16]>()
            .prop_map(|mut bytes| {
                // Cassandra checks the version.
                bytes[6] = bytes[6] & 0x0f | 0x10;
                CqlValue::Timeuuid(CqlTimeuuid::from_bytes(bytes))
            })
            .boxed(),
        "text" => text(longest).prop_map(CqlValue::Text).boxed(),
        "ascii" => ascii(longest).prop_map(CqlValue::Ascii).boxed(),
        "int" if green == "smallint" => {
            number!(i32::from(i16::MIN), i32::from(i16::MAX)).prop_map(CqlValue::Int).boxed()
        }
        "int" => number!(i32::MIN, i32::MAX).prop_map(CqlValue::Int).boxed(),
        "smallint" => number!(i16::MIN, i16::MAX).prop_map(CqlValue::SmallInt).boxed(),
        "tinyint" => number!(i8::MIN, i8::MAX).prop_map(CqlValue::TinyInt).boxed(),
        "bigint" if green == "integer" => {
            number!(i64::from(i32::MIN), i64::from(i32::MAX)).prop_map(CqlValue::BigInt).boxed()
        }
        "bigint" => number!(i64::MIN, i64::MAX).prop_map(CqlValue::BigInt).boxed(),
        "counter" if green == "integer" => number!(i64::from(i32::MIN), i64::from(i32::MAX))
            .prop_map(|n| CqlValue::Counter(Counter(n)))
            .boxed(),
        "counter" => number!(i64::MIN, i64::MAX).prop_map(|n| CqlValue::Counter(Counter(n))).boxed(),
        "boolean" => any::<bool>().prop_map(CqlValue::Boolean).boxed(),
        "timestamp" => prop_oneof![number!(TIMESTAMPS.0, TIMESTAMPS.1), 0..4_102_444_800_000_i64]
            .prop_map(|milliseconds| CqlValue::Timestamp(CqlTimestamp(milliseconds)))
            .boxed(),
        "float" => float().prop_map(CqlValue::Float).boxed(),
        "double" => double().prop_map(CqlValue::Double).boxed(),
        "blob" => any::<Vec<u8>>().prop_map(CqlValue::Blob).boxed(),
        other => panic!("no values of {other}"),
    }
}

/// JSON texts that both of PostgreSQL's types take.
pub(super) fn json_text() -> BoxedStrategy<String> {
    let number = prop_oneof![
        any::<i64>().prop_map(|n| n.to_string()),
        proptest::num::f64::NORMAL.prop_map(|n| format!("{n:e}")),
        "-?(0|[1-9][0-9]{0,40})(\\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?",
    ];
    let escaped = proptest::sample::select(
        [r"\u00e9", r"\ud83d\ude00", r"\/", r"\\", r#"\""#, r"\b\f\n\r\t", r"\u001f", r"\uFFFF"].to_vec(),
    );
    let piece = prop_oneof![
        3 => text(usize::MAX).prop_map(|text| {
            let quoted = Value::String(text).to_string();
            quoted[1..quoted.len() - 1].to_owned()
        }),
        1 => escaped.prop_map(str::to_owned),
    ];
    let string = proptest::collection::vec(piece, 0..3).prop_map(|pieces| format!("\"{}\"", pieces.concat()));
    let word = proptest::sample::select(vec!["null".to_owned(), "true".to_owned(), "false".to_owned()]);
    let blank = || proptest::sample::select(vec!["", "", " ", "\n\t", "\r\n"]);
    let scalar = prop_oneof![number, string.clone(), word];
    let tree = scalar.prop_recursive(5, 40, 5, move |inner| {
        let array = (proptest::collection::vec(inner.clone(), 0..5), blank()).prop_map(|(items, blank)| {
            format!("[{blank}{}{blank}]", items.join(&format!("{blank},{blank}")))
        });
        let member = (string.clone(), inner, blank())
            .prop_map(|(name, value, blank)| format!("{name}{blank}:{blank}{value}"));
        let object = (proptest::collection::vec(member, 0..5), blank())
            .prop_map(|(members, blank)| format!("{{{blank}{}{blank}}}", members.join(",")));
        prop_oneof![array, object]
    });
    (blank(), tree, blank()).prop_map(|(before, tree, after)| format!("{before}{tree}{after}")).boxed()
}

/// The parameters of `name<a, b>`, taken apart at the outermost comma.
fn parameters<'a>(blue: &'a str, name: &str) -> Option<&'a str> {
    blue.strip_prefix(name)?.strip_prefix('<')?.strip_suffix('>')
}

/// Values of any type that green's type can hold; `green` is that of an element.
fn values(blue: &str, green: &str) -> Values {
    if let Some(inner) = parameters(blue, "frozen") {
        return values(inner, green);
    }
    let is_json = green.starts_with("json");
    if let Some(inner) = parameters(blue, "set") {
        // Cassandra holds an element once; equal floats of different bytes are different elements to it.
        return proptest::collection::vec(values(inner, green), 0..5)
            .prop_map(|items| {
                let mut seen: Vec<CqlValue> = Vec::new();
                for item in items {
                    if !seen.iter().any(|one| format!("{one:?}") == format!("{item:?}")) {
                        seen.push(item);
                    }
                }
                CqlValue::Set(seen)
            })
            .boxed();
    }
    if let Some(inner) = parameters(blue, "list") {
        return proptest::collection::vec(values(inner, green), 0..5).prop_map(CqlValue::List).boxed();
    }
    if let Some(inner) = parameters(blue, "map") {
        let member = inner.strip_prefix("text, ").expect("maps are by text");
        let member = member_values(member);
        return proptest::collection::btree_map(text(usize::MAX), member, 0..5)
            .prop_map(|members| {
                CqlValue::Map(
                    members.into_iter().map(|(name, value)| (CqlValue::Text(name), value)).collect(),
                )
            })
            .boxed();
    }
    match blue {
        "text" if is_json => json_text().prop_map(CqlValue::Text).boxed(),
        "ascii" if is_json => {
            json_text().prop_filter("ASCII", |text| text.is_ascii()).prop_map(CqlValue::Ascii).boxed()
        }
        _ => scalar(blue, green),
    }
}

/// Values for the members of a JSON object, which knows no NaN and no infinity.
fn member_values(blue: &str) -> Values {
    if let Some(inner) = parameters(blue, "frozen") {
        return member_values(inner);
    }
    if let Some(inner) = parameters(blue, "list") {
        return proptest::collection::vec(member_values(inner), 0..4).prop_map(CqlValue::List).boxed();
    }
    match blue {
        "float" => float().prop_filter("finite", |n| n.is_finite()).prop_map(CqlValue::Float).boxed(),
        "double" => double().prop_filter("finite", |n| n.is_finite()).prop_map(CqlValue::Double).boxed(),
        _ => values(blue, "text"),
    }
}

/// One row: its key and its values, `None` for null.
#[derive(Debug, Clone)]
struct Written {
    id: Uuid,
    values: Vec<Option<CqlValue>>,
}

/// Random rows; a quarter of the values are null.
fn random_rows(runner: &mut TestRunner, pairs: &[Pair], rows: usize) -> Vec<Written> {
    let strategies: Vec<_> = pairs
        .iter()
        .map(|pair| proptest::option::weighted(0.75, values(&pair.blue, pair.green.trim_end_matches("[]"))))
        .collect();
    let mut value = |strategy: &proptest::option::OptionStrategy<Values>| {
        strategy.new_tree(runner).expect("a value").current()
    };
    (0..rows)
        .map(|_| Written { id: Uuid::new_v4(), values: strategies.iter().map(&mut value).collect() })
        .collect()
}

/// Tables of the same name on both sides, one column for each pair.
async fn create(blue: &Keyspace, green: &Database, table: &str, pairs: &[Pair]) {
    let columns = |of: fn(&Pair) -> &str| {
        pairs.iter().enumerate().fold(String::new(), |mut text, (at, pair)| {
            let _ = write!(text, ", {} {}", column(at), of(pair));
            text
        })
    };
    let on_blue = columns(|pair| &pair.blue);
    blue.execute(&format!("CREATE TABLE {table} (id uuid PRIMARY KEY{on_blue})")).await.expect("on blue");
    let on_green = columns(|pair| &pair.green);
    green.execute(&format!("create table {table} (id uuid primary key{on_green})")).await.expect("on green");
}

async fn write(blue: &Keyspace, table: &str, columns: usize, rows: &[Written]) {
    let names: Vec<String> = (0..columns).map(column).collect();
    let is_counter =
        rows.iter().flat_map(|row| &row.values).any(|value| matches!(value, Some(CqlValue::Counter(_))));
    let cql = if is_counter {
        let additions: Vec<String> = names.iter().map(|name| format!("{name} = {name} + ?")).collect();
        format!("UPDATE {table} SET {} WHERE id = ?", additions.join(", "))
    } else {
        format!("INSERT INTO {table} ({}, id) VALUES ({}?)", names.join(", "), "?, ".repeat(columns))
    };
    let statement = blue.session().prepare(cql).await.expect("prepared");
    stream::iter(rows)
        .map(|row| {
            let mut values = row.values.clone();
            values.push(Some(CqlValue::Uuid(row.id)));
            blue.session().execute_unpaged(&statement, values)
        })
        .buffer_unordered(64)
        .try_for_each(|_| async { Ok(()) })
        .await
        .expect("written");
}

/// The expression that shows a value of this type as a text in which different values differ.
fn shown_by_green(green: &str, value: &str) -> String {
    match green {
        "smallint" | "integer" | "bigint" | "uuid" | "boolean" | "json" | "jsonb" => format!("{value}::text"),
        "real" => format!("encode(float4send({value}), 'hex')"),
        "double precision" => format!("encode(float8send({value}), 'hex')"),
        "bytea" => format!("encode({value}, 'hex')"),
        _ if green.starts_with("timestamp") => {
            format!("(extract(epoch from {value}) * 1000)::numeric(30, 3)::text")
        }
        _ if green == "text" || green.starts_with("character") => format!("{value}::text"),
        other => panic!("no way to read {other}"),
    }
}

/// The same as a list of texts, one for each element; a scalar is a list of one.
fn reader(green: &str, column: &str) -> String {
    match green.strip_suffix("[]") {
        None => format!("case when {column} is not null then array[{}] end", shown_by_green(green, column)),
        Some(element) => format!(
            "case when {column} is not null then array(select {} from unnest({column}) with ordinality as u(e, n) order by n) end",
            shown_by_green(element, "e")
        ),
    }
}

/// What green must show for a scalar of blue. JSON is compared by PostgreSQL itself.
fn shown_by_blue(value: &CqlValue, green: &str) -> String {
    let hex = |bytes: &[u8]| bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
    match value {
        CqlValue::Uuid(id) => id.to_string(),
        CqlValue::Timeuuid(id) => Uuid::from_bytes(*id.as_bytes()).to_string(),
        // The blanks at the end of character(n) mean nothing, by definition of the type.
        CqlValue::Text(text) | CqlValue::Ascii(text) if green.starts_with("character(") => {
            text.trim_end_matches(' ').to_owned()
        }
        CqlValue::Text(text) | CqlValue::Ascii(text) => text.clone(),
        CqlValue::Int(n) => n.to_string(),
        CqlValue::SmallInt(n) => n.to_string(),
        CqlValue::TinyInt(n) => n.to_string(),
        CqlValue::BigInt(n) | CqlValue::Counter(Counter(n)) => n.to_string(),
        CqlValue::Boolean(is) => is.to_string(),
        CqlValue::Timestamp(CqlTimestamp(milliseconds)) => format!("{milliseconds}.000"),
        CqlValue::Float(n) if green == "real" => hex(&n.to_be_bytes()),
        // What a cast does: a NaN stays one, with whatever bits the processor gives it.
        CqlValue::Float(n) => hex(&f64::from(*n).to_be_bytes()),
        CqlValue::Double(n) => hex(&n.to_be_bytes()),
        CqlValue::Blob(bytes) => hex(bytes),
        other => panic!("no text of {other:?}"),
    }
}

/// A map of blue as the JSON that green must hold.
fn as_json(value: &CqlValue) -> String {
    let joined = |parts: Vec<String>| parts.join(",");
    match value {
        CqlValue::Map(members) => {
            let member =
                |(name, value): &(CqlValue, CqlValue)| format!("{}:{}", as_json(name), as_json(value));
            format!("{{{}}}", joined(members.iter().map(member).collect()))
        }
        CqlValue::List(items) => format!("[{}]", joined(items.iter().map(as_json).collect())),
        CqlValue::Set(items) => {
            let mut items = items.clone();
            items.sort_by(|one, other| one.as_text().cmp(&other.as_text()));
            format!("[{}]", joined(items.iter().map(as_json).collect()))
        }
        CqlValue::Text(text) | CqlValue::Ascii(text) => Value::from(text.as_str()).to_string(),
        CqlValue::Uuid(id) => Value::from(id.to_string()).to_string(),
        CqlValue::Float(n) => format!("{:e}", f64::from(*n)),
        CqlValue::Double(n) => format!("{n:e}"),
        other => shown_by_blue(other, ""),
    }
}

/// What green must show for a value of blue, element by element; sets sorted.
fn expected(pair: &Pair, value: &CqlValue) -> Option<Vec<String>> {
    let green = pair.green.trim_end_matches("[]");
    match value {
        // What is not frozen and empty is not there at all.
        CqlValue::Set(items) | CqlValue::List(items)
            if items.is_empty() && !pair.blue.starts_with("frozen") =>
        {
            None
        }
        CqlValue::Map(members) if members.is_empty() && !pair.blue.starts_with("frozen") => None,
        CqlValue::Set(items) | CqlValue::List(items) => {
            Some(items.iter().map(|item| shown_by_blue(item, green)).collect())
        }
        CqlValue::Map(_) => Some(vec![as_json(value)]),
        scalar => Some(vec![shown_by_blue(scalar, green)]),
    }
}

/// Reads a table of green and compares it, row by row, with what was written to blue.
async fn assert_arrived(green: &Database, table: &str, pairs: &[Pair], rows: &[Written]) {
    let readers: Vec<String> =
        pairs.iter().enumerate().map(|(at, pair)| reader(&pair.green, &column(at))).collect();
    let sql = format!("select id, {} from {table}", readers.join(", "));
    let mut connection = green.connect().await.expect("green");
    let found = sqlx::query(AssertSqlSafe(sql)).fetch_all(&mut connection).await.expect("rows of green");
    let found: BTreeMap<Uuid, _> = found.iter().map(|row| (row.get::<Uuid, _>(0), row)).collect();
    assert_eq!(found.len(), rows.len(), "{table}");
    let mut texts: BTreeMap<&str, (Vec<String>, Vec<String>)> = BTreeMap::new();
    for row in rows {
        let on_green = found.get(&row.id).unwrap_or_else(|| panic!("{table}: a row is missing: {row:?}"));
        for (at, (pair, value)) in pairs.iter().zip(&row.values).enumerate() {
            let mut theirs: Option<Vec<String>> = on_green.get(at + 1);
            let mut ours = value.as_ref().and_then(|value| expected(pair, value));
            if matches!(value, Some(CqlValue::Set(_))) {
                ours.iter_mut().for_each(|items| items.sort());
                theirs.iter_mut().for_each(|items| items.sort());
            }
            if pair.green.starts_with("jsonb") || pair.blue.contains("map<") {
                // The value counts, not its spelling; PostgreSQL says what is equal, below.
                let (ours, theirs) = (ours.unwrap_or_default(), theirs.unwrap_or_default());
                assert_eq!(ours.len(), theirs.len(), "{table}: {pair:?}: {value:?}");
                let (all_ours, all_theirs) = texts.entry(&pair.green).or_default();
                if !matches!(value, Some(CqlValue::Set(_))) {
                    all_ours.extend(ours);
                    all_theirs.extend(theirs);
                } else {
                    // Sets are sorted by their spelling, which differs: compared as JSON arrays sorted by PostgreSQL.
                    all_ours.push(sorted_by_postgres(&mut connection, &ours).await);
                    all_theirs.push(sorted_by_postgres(&mut connection, &theirs).await);
                }
            } else {
                assert_eq!(nan_is_nan(pair, theirs), nan_is_nan(pair, ours), "{table}: {pair:?}: {value:?}");
            }
        }
    }
    for (ours, theirs) in texts.values() {
        let sql = "select o from unnest($1::text[], $2::text[]) as t(o, g) where o::jsonb is distinct from g::jsonb";
        let different: Vec<String> = sqlx::query_scalar(sql)
            .bind(ours)
            .bind(theirs)
            .fetch_all(&mut connection)
            .await
            .expect("compared");
        assert_eq!(different, Vec::<String>::new(), "{table}");
    }
}

/// Several JSON texts as one, in an order that does not hang on their spelling.
async fn sorted_by_postgres(connection: &mut sqlx::PgConnection, texts: &[String]) -> String {
    let sql = "select coalesce(jsonb_agg(t::jsonb order by t::jsonb), '[]')::text from unnest($1::text[]) t";
    sqlx::query_scalar(sql).bind(texts).fetch_one(connection).await.expect("sorted")
}

/// A float that is widened keeps being NaN, but not which one.
fn nan_is_nan(pair: &Pair, texts: Option<Vec<String>>) -> Option<Vec<String>> {
    let is_widened = pair.blue.contains("float") && pair.green.starts_with("double");
    let nan = |text: String| match u64::from_str_radix(&text, 16).map(f64::from_bits) {
        Ok(number) if number.is_nan() => "NaN".to_owned(),
        _ => text,
    };
    texts.map(|texts| {
        let mut texts: Vec<String> = if is_widened { texts.into_iter().map(nan).collect() } else { texts };
        if pair.blue.contains("set<") {
            texts.sort();
        }
        texts
    })
}

async fn sides() -> (Keyspace, Database) {
    let blue = bare_blue("3.3", &["schema_meta", "workspaces", "parameters"]).await;
    (blue, lab().fresh_green("3.3").await.expect("green"))
}

/// A schema map by which these columns may hold any JSON, not only objects.
fn any_json(folder: &tempfile::TempDir, tables: &BTreeMap<&str, Vec<Pair>>) -> String {
    let rules = |pairs: &Vec<Pair>| {
        let columns: serde_json::Map<String, Value> =
            (0..pairs.len()).map(|at| (column(at), json!({ "json": "any" }))).collect();
        json!({ "columns": columns })
    };
    let tables: serde_json::Map<String, Value> =
        tables.iter().map(|(name, pairs)| ((*name).to_owned(), rules(pairs))).collect();
    let path = folder.path().join("map.json");
    std::fs::write(&path, json!({ "format": 1, "tables": tables }).to_string()).expect("written");
    path.display().to_string()
}

/// A runner with a seed that is said, so that a failure can be repeated.
fn runner() -> TestRunner {
    TestRunner::new(Config { failure_persistence: None, ..Config::default() })
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_every_type_pair_survive_the_migration() {
    let (blue, green) = sides().await;
    let (tables, mut runner) = (tables(), runner());
    let mut written = BTreeMap::new();
    for (table, pairs) in &tables {
        create(&blue, &green, table, pairs).await;
        let mut rows = random_rows(&mut runner, pairs, cases());
        if *table == "rt_counter" {
            // A counter that was never incremented is no row.
            for value in rows.iter_mut().flat_map(|row| &mut row.values) {
                value.get_or_insert(CqlValue::Counter(Counter(0)));
            }
        }
        if *table == "rt_scalar" {
            rows.extend(long_texts(pairs));
        }
        write(&blue, table, pairs.len(), &rows).await;
        written.insert(*table, rows);
    }
    let folder = tempfile::tempdir().expect("a folder");
    let map = any_json(&folder, &tables);
    let arguments = migrate_arguments(&blue, &green, &["--schema-map", &map]);
    let ran = kongferry(&arguments).await.expect_code(0);
    for (table, pairs) in &tables {
        assert_eq!(ran.table(table)["applied"], written[table].len(), "{table}: {:?}", ran.rejects);
        assert_arrived(&green, table, pairs, &written[table]).await;
    }
    // A second run finds on green just what it would write.
    let again = kongferry(&arguments).await.expect_code(0);
    assert_eq!(again.json()["outcome"], "applied");
}

/// One row with a megabyte in each unlimited text and blob.
fn long_texts(pairs: &[Pair]) -> Option<Written> {
    let long = |pair: &Pair| match (pair.blue.as_str(), pair.green.as_str()) {
        ("text", "text" | "character varying") => Some(CqlValue::Text("🐘é\\\"".repeat(1 << 17))),
        ("blob", _) => Some(CqlValue::Blob((0..1_u32 << 20).map(|n| n.to_le_bytes()[1]).collect())),
        _ => None,
    };
    Some(Written { id: Uuid::new_v4(), values: pairs.iter().map(long).collect() })
}

/// Values of blue that green's column cannot hold, with the reason that must be given.
fn unfit() -> Vec<(&'static str, &'static str, BoxedStrategy<CqlValue>, &'static str)> {
    let nul = || (text(20), text(20)).prop_map(|(before, after)| format!("{before}\0{after}"));
    let too_long = || {
        (text(40), 0_usize..2).prop_map(|(text, blank)| {
            // Too many characters, or blanks that PostgreSQL would cut off without a word.
            let filler = if blank == 0 { " " } else { "é" };
            text.chars().chain(filler.repeat(LENGTH + 1).chars()).collect::<String>()
        })
    };
    let not_json = || {
        (json_text(), proptest::sample::select(vec!["{", ",", "]", "\"", "x", "'"]))
            .prop_map(|(text, extra)| format!("{text}{extra}"))
    };
    vec![
        ("text", "text", nul().prop_map(CqlValue::Text).boxed(), "text_nul"),
        ("ascii", "character varying", Just(CqlValue::Ascii("\0".to_owned())).boxed(), "text_nul"),
        (
            "set<text>",
            "text[]",
            nul().prop_map(|text| CqlValue::Set(vec![CqlValue::Text(text)])).boxed(),
            "text_nul",
        ),
        ("text", "character varying(32)", too_long().prop_map(CqlValue::Text).boxed(), "text_too_long"),
        ("text", "character(32)", too_long().prop_map(CqlValue::Text).boxed(), "text_too_long"),
        (
            "list<text>",
            "character varying(32)[]",
            too_long().prop_map(|text| CqlValue::List(vec![CqlValue::Text(text)])).boxed(),
            "text_too_long",
        ),
        (
            "int",
            "smallint",
            prop_oneof![i32::MIN..=-32_769, 32_768..=i32::MAX].prop_map(CqlValue::Int).boxed(),
            "number_out_of_range",
        ),
        (
            "bigint",
            "integer",
            prop_oneof![i64::MIN..=-2_147_483_649, 2_147_483_648..=i64::MAX]
                .prop_map(CqlValue::BigInt)
                .boxed(),
            "number_out_of_range",
        ),
        (
            "timestamp",
            "timestamp with time zone",
            prop_oneof![
                Just(TIMESTAMPS.0 - 1),
                Just(TIMESTAMPS.1 + 1),
                i64::MIN..TIMESTAMPS.0,
                TIMESTAMPS.1 + 1..=i64::MAX
            ]
            .prop_map(|milliseconds| CqlValue::Timestamp(CqlTimestamp(milliseconds)))
            .boxed(),
            "timestamp_out_of_range",
        ),
        ("int", "integer", Just(CqlValue::Empty).boxed(), "undecodable"),
        ("boolean", "boolean", Just(CqlValue::Empty).boxed(), "undecodable"),
        ("double", "double precision", Just(CqlValue::Empty).boxed(), "undecodable"),
        ("text", "jsonb", not_json().prop_map(CqlValue::Text).boxed(), "json_invalid"),
        ("text", "json", not_json().prop_map(CqlValue::Text).boxed(), "json_invalid"),
        ("text", "jsonb", Just(CqlValue::Text("{\"a\":\"\\u0000\"}".to_owned())).boxed(), "json_invalid"),
        ("text", "jsonb", Just(CqlValue::Text("[1e1000000]".to_owned())).boxed(), "refused_by_postgres"),
        (
            "map<text, double>",
            "jsonb",
            Just(CqlValue::Map(vec![(CqlValue::Text("a".to_owned()), CqlValue::Double(f64::NAN))])).boxed(),
            "json_invalid",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_green_cannot_hold_is_rejected_alone_with_its_reason() {
    let (blue, green) = sides().await;
    let unfit = unfit();
    let pairs: Vec<Pair> = unfit
        .iter()
        .map(|(blue, green, ..)| Pair { blue: (*blue).to_owned(), green: (*green).to_owned() })
        .collect();
    create(&blue, &green, "rt_unfit", &pairs).await;
    let mut runner = runner();
    let good = random_rows(&mut runner, &pairs, cases() / 4);
    let mut bad = BTreeMap::new();
    let mut rows = good.clone();
    for _ in 0..(cases() / 32).max(1) {
        for (at, (_, _, strategy, reason)) in unfit.iter().enumerate() {
            let mut values = vec![None; pairs.len()];
            values[at] = Some(strategy.new_tree(&mut runner).expect("a value").current());
            let row = Written { id: Uuid::new_v4(), values };
            bad.insert(row.id.to_string(), (at, *reason, row.values[at].clone()));
            rows.push(row);
        }
    }
    write(&blue, "rt_unfit", pairs.len(), &rows).await;
    let folder = tempfile::tempdir().expect("a folder");
    let map = any_json(&folder, &[("rt_unfit", pairs.clone())].into());
    let ran = kongferry(&migrate_arguments(&blue, &green, &["--accept-rejects", "--schema-map", &map])).await;
    let ran: Ran = ran.expect_code(3);
    assert_eq!(ran.rejects.len(), bad.len());
    for (id, (at, reason, value)) in &bad {
        let reject = ran.reject("rt_unfit", id).unwrap_or_else(|| panic!("{value:?} went through"));
        assert_eq!(reject["reason"], *reason, "{value:?}: {reject}");
        if *reason != "refused_by_postgres" {
            assert_eq!(reject["column"], column(*at), "{value:?}: {reject}");
        }
    }
    assert_arrived(&green, "rt_unfit", &pairs, &good).await;
}

/// How deep PostgreSQL nests before its own stack ends.
async fn deepest(green: &Database) -> usize {
    let (mut fits, mut too_deep) = (1_usize, 1_000_000_usize);
    while too_deep - fits > 1 {
        let middle = usize::midpoint(fits, too_deep);
        let sql = format!(
            "select to_jsonb(1) where (repeat('[', {middle}) || repeat(']', {middle}))::jsonb is not null"
        );
        if green.json(&sql).await.is_ok() { fits = middle } else { too_deep = middle }
    }
    fits
}

#[tokio::test(flavor = "multi_thread")]
async fn json_is_accepted_as_deep_as_postgres_accepts_it() {
    let (blue, green) = sides().await;
    let limit = deepest(&green).await;
    assert!(limit > 1000 && limit < 1_000_000, "{limit}");
    let pairs = [Pair { blue: "text".to_owned(), green: "jsonb".to_owned() }];
    create(&blue, &green, "rt_deep", &pairs).await;
    // The stack of a COPY is a little fuller or emptier than that of a query.
    let depths = [1, 128, 1000, limit - limit / 10, limit + limit / 10, limit * 20];
    let rows: Vec<Written> = depths
        .iter()
        .map(|depth| {
            let text = format!("{}{}", "[".repeat(*depth), "]".repeat(*depth));
            Written { id: Uuid::new_v4(), values: vec![Some(CqlValue::Text(text))] }
        })
        .collect();
    write(&blue, "rt_deep", 1, &rows).await;
    let folder = tempfile::tempdir().expect("a folder");
    let map = any_json(&folder, &[("rt_deep", pairs.to_vec())].into());
    let arguments = migrate_arguments(&blue, &green, &["--accept-rejects", "--schema-map", &map]);
    let ran = kongferry(&arguments).await.expect_code(3);
    assert_arrived(&green, "rt_deep", &pairs, &rows[..4]).await;
    for row in &rows[4..] {
        let reject = ran.reject("rt_deep", &row.id.to_string()).expect("a reject");
        assert_eq!(reject["reason"], "refused_by_postgres");
        assert!(reject["message"].to_string().contains("54001"), "{}", reject["message"]);
    }
    // And again: the deep ones are now compared with green's.
    kongferry(&arguments).await.expect_code(3);
}
