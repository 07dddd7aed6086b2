//! `src/mapping/json.rs` decides without PostgreSQL what PostgreSQL takes as JSON: here both judge the same texts.

use kongferry::mapping::json::{JsonType, TopLevel, check};
use kongferry::mapping::text;
use kongferry_harness::lab;
use kongferry_harness::postgres::Database;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};

use super::roundtrip::json_text;

/// Texts for each of `PROPTEST_CASES`: they cost little.
const TEXTS_PER_CASE: u32 = 40;

/// What PostgreSQL says of a text: the kind of its outermost value, or the SQLSTATE with which it refuses it.
const JUDGE: &str = "
    create function judge_jsonb(t text) returns text language plpgsql as
    $$ begin return jsonb_typeof(t::jsonb); exception when others then return sqlstate; end $$;
    create function judge_json(t text) returns text language plpgsql as
    $$ begin return json_typeof(t::json); exception when others then return sqlstate; end $$;";

/// Pieces of which texts are made that look like JSON.
const PIECES: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    "/",
    " ",
    "\n",
    "\t",
    "\r",
    "\u{b}",
    "\u{a0}",
    "\u{feff}",
    "null",
    "true",
    "false",
    "nul",
    "NaN",
    "Infinity",
    "-",
    "+",
    ".",
    "0",
    "00",
    "1",
    "9",
    "e",
    "E",
    "e5",
    "0x1",
    "1_000",
    "é",
    "🐘",
    "\"a\"",
    "\"a\":",
    "\\u",
    "\\u0000",
    "\\u00e9",
    "\\ud83d",
    "\\ude00",
    "\\ud83d\\ude00",
    "\\uD800\\u0041",
    "\\u12G4",
    "\\x",
    "\\'",
    "'",
    "//",
    "/**/",
    "\u{1}",
    "\u{1f}",
    "\u{7f}",
    "_",
    "a",
    "1e400",
    "-0",
    "1.5",
];

fn soup() -> BoxedStrategy<String> {
    let piece = proptest::sample::select(PIECES);
    proptest::collection::vec(piece, 0..10).prop_map(|pieces| pieces.concat()).boxed()
}

/// The same inside a string, where most escapes mean something.
fn quoted_soup() -> BoxedStrategy<String> {
    soup().prop_map(|text| format!("{{\"k\":\"{text}\"}}")).boxed()
}

fn numbers() -> BoxedStrategy<String> {
    "[-+]?[0-9]{0,4}[.]?[0-9]{0,3}([eE][-+]?[0-9]{0,3})?[a-z_é]?"
        .prop_map(|number| format!("[{number}]"))
        .boxed()
}

/// Good JSON with one piece put in, taken out or put in another's place.
fn nearly() -> BoxedStrategy<String> {
    (json_text(), any::<prop::sample::Index>(), proptest::sample::select(PIECES), 0..3_u8)
        .prop_map(|(text, at, piece, how)| {
            let mut characters: Vec<String> = text.chars().map(String::from).collect();
            let at = at.index(characters.len() + 1);
            match how {
                0 => characters.insert(at, piece.to_owned()),
                _ if at == characters.len() => {}
                1 => characters[at] = piece.to_owned(),
                _ => drop(characters.remove(at)),
            }
            characters.concat()
        })
        .boxed()
}

fn texts(runner: &mut TestRunner) -> Vec<String> {
    let strategy = prop_oneof![json_text(), soup(), quoted_soup(), numbers(), nearly()];
    let mut text = |_| strategy.new_tree(runner).expect("a text").current();
    (0..Config::default().cases * TEXTS_PER_CASE).map(&mut text).collect()
}

async fn judged(green: &Database, function: &str, texts: &[String]) -> Vec<String> {
    let mut connection = green.connect().await.expect("PostgreSQL");
    let sql = format!("select {function}(t) from unnest($1::text[]) with ordinality as u(t, n) order by n");
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).bind(texts).fetch_all(&mut connection).await.expect("judged")
}

/// Whether our judgement of a text is PostgreSQL's. What only PostgreSQL can know – how large a number may be, how deep
/// its stack is – we leave to it.
fn agrees(text: &str, json_type: JsonType, theirs: &str) -> bool {
    let ours = text::check(text.as_bytes()).and_then(|text| check(text.as_bytes(), json_type));
    match (ours, theirs) {
        (Ok(TopLevel::Object), "object") => true,
        (Ok(TopLevel::Other), "array" | "string" | "number" | "boolean" | "null") => true,
        (Ok(_), "22003" | "54001") => true,
        (Err(_), sqlstate) => sqlstate.starts_with("22"),
        _ => false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn json_validation_agrees_with_postgres_on_random_and_nearly_valid_texts() {
    let green = lab().empty_database().await.expect("a database");
    green.execute(JUDGE).await.expect("functions");
    let texts = texts(&mut TestRunner::new(Config { failure_persistence: None, ..Config::default() }));
    let mut taken = 0;
    for (json_type, function) in [(JsonType::Jsonb, "judge_jsonb"), (JsonType::Json, "judge_json")] {
        for (text, theirs) in texts.iter().zip(judged(&green, function, &texts).await) {
            assert!(agrees(text, json_type, &theirs), "{json_type:?}: PostgreSQL says {theirs} of {text:?}");
            taken += usize::from(!theirs.starts_with('2'));
        }
    }
    // Neither side may be judged by one kind of text only.
    assert!(
        taken * 4 > texts.len() && taken * 4 < texts.len() * 7,
        "{taken} of {} were taken",
        texts.len() * 2
    );
}
