//! 4.11, 4.14 and 4.20: rows whose time runs out on the way, and times and numbers that green cannot hold.

use kongferry_harness::lab;
use serde_json::{Value, json};

use crate::migrated::Migrated;
use crate::row_builder::{KongKeyspace, id};

/// The first millisecond after the last one that PostgreSQL can hold: the year 294277.
const AFTER_POSTGRES: i64 = 9_224_318_016_000_000;

/// The last millisecond before the first one: 4714-11-24 BC.
const BEFORE_POSTGRES: i64 = -210_866_803_200_001;

#[tokio::test(flavor = "multi_thread")]
async fn a_timestamp_out_of_range_is_rejected() {
    let blue = KongKeyspace::new("3.3").await;
    blue.parents().await;
    let mut expected = Vec::new();
    for (at, time) in [AFTER_POSTGRES, BEFORE_POSTGRES, i64::MAX, i64::MIN].into_iter().enumerate() {
        for (table, column) in [
            ("consumers", "created_at"),
            ("routes", "updated_at"),
            ("acls", "created_at"),
            ("workspaces", "created_at"),
        ] {
            let row = blue.put(table, &format!("{table} {at}"), json!({})).await;
            let taken = blue.put_bytes(table, &row, column, &time.to_be_bytes()).await;
            assert_eq!(taken, Ok(()), "Cassandra takes {time}");
            expected.push((table, row, column));
        }
    }
    let migrated = Migrated::new(&blue, "3.3").await;
    for (table, row, column) in &expected {
        migrated.rejected(table, row, "timestamp_out_of_range", column);
    }
    assert_eq!(migrated.ran.rejects.len(), expected.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn unlikely_timestamps_are_copied_to_the_millisecond_with_a_note() {
    let blue = KongKeyspace::new("3.3").await;
    blue.parents().await;
    let unlikely =
        [AFTER_POSTGRES - 1, BEFORE_POSTGRES + 1, 1_700_000_000, 0, -1, 1_262_303_999_999, 7_000_000_000_001];
    let likely = [1_262_304_000_000, 1_700_000_000_123];
    let mut expected = Vec::new();
    for (at, time) in unlikely.iter().chain(&likely).enumerate() {
        let row = blue.put("consumers", &format!("consumer {at}"), json!({ "created_at": null })).await;
        blue.put_bytes("consumers", &row, "created_at", &time.to_be_bytes()).await.expect("a time");
        expected.push((row, *time));
    }
    let never = blue.put("consumers", "never", json!({ "created_at": null })).await;
    let migrated = Migrated::new(&blue, "3.3").await;
    for (row, time) in &expected {
        let sql = format!(
            "select to_jsonb(extract(epoch from created_at) * 1000) from consumers where id = '{row}'"
        );
        let found = migrated.green.json(&sql).await.expect("a row");
        assert_eq!(found.first().and_then(Value::as_f64), Some(*time as f64), "{row}");
    }
    assert_eq!(migrated.row("consumers", &never)["created_at"], Value::Null, "no default steps in");
    let note = migrated.group("notes", "consumers", "created_at", "timestamp_unlikely");
    assert_eq!(note["rows"], unlikely.len());
    assert_eq!(migrated.ran.code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_out_of_range_is_rejected() {
    let blue = KongKeyspace::new("3.3").await;
    let depth = async |depth: i64| {
        blue.put("services", &format!("depth {depth}"), json!({ "tls_verify_depth": depth })).await
    };
    let (largest, smallest) = (depth(32767).await, depth(-32768).await);
    let (larger, smaller) = (depth(32768).await, depth(-32769).await);
    let counter = |table: &str, identifier: &str, period: &str, value: i64| {
        let row = json!({ "identifier": identifier, "period": period, "period_date": 1_700_000_000_000_i64,
            "service_id": id("services"), "route_id": id("routes"), "value": value });
        (table.to_owned(), row)
    };
    let counters = [
        counter("ratelimiting_metrics", "fits", "year", 2_147_483_647),
        counter("ratelimiting_metrics", "too much", "year", 2_147_483_648),
        counter("response_ratelimiting_metrics", "fits", "video_year", 2_147_483_647),
        counter("response_ratelimiting_metrics", "too much", "video_year", 2_147_483_648),
    ];
    for (table, row) in &counters {
        blue.write_row(table, row).await.expect("a counter");
    }
    let more =
        ["--include-table", "ratelimiting_metrics", "--include-table", "response_ratelimiting_metrics"];
    let migrated = Migrated::with(&blue, "3.3", &more).await;
    for row in [&larger, &smaller] {
        migrated.rejected("services", row, "number_out_of_range", "tls_verify_depth");
    }
    assert_eq!(migrated.row("services", &largest)["tls_verify_depth"], 32767);
    assert_eq!(migrated.row("services", &smallest)["tls_verify_depth"], -32768);
    for table in ["ratelimiting_metrics", "response_ratelimiting_metrics"] {
        let line = migrated.ran.rejects.iter().find(|line| line["table"] == table).expect("a reject");
        assert_eq!(
            (line["reason"].as_str(), line["column"].as_str()),
            (Some("number_out_of_range"), Some("value"))
        );
        assert_eq!(
            (&line["key"]["identifier"], &line["row"]["value"]),
            (&json!("too much"), &json!(2_147_483_648_i64))
        );
        // Its window ended long ago where green keeps an expiry, so only the other table has the row.
        let values: Vec<&Value> = migrated.rows(table).iter().map(|row| &row["value"]).collect();
        let expected: &[i64] = if table == "ratelimiting_metrics" { &[] } else { &[2_147_483_647] };
        assert_eq!(json!(values), json!(expected), "{table}");
    }
    assert_eq!(migrated.count("ratelimiting_metrics", "expired"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_counter_with_an_unknown_period_is_rejected() {
    let blue = KongKeyspace::new("3.3").await;
    let row = json!({ "identifier": "i", "period": "fortnight", "period_date": 1_700_000_000_000_i64,
        "service_id": id("services"), "route_id": id("routes"), "value": 1 });
    blue.write_row("ratelimiting_metrics", &row).await.expect("a counter");
    let migrated = Migrated::with(&blue, "3.3", &["--include-table", "ratelimiting_metrics"]).await;
    assert_eq!(migrated.ran.rejects.len(), 1);
    assert_eq!(migrated.ran.rejects[0]["reason"], "period_unknown");
}

#[tokio::test(flavor = "multi_thread")]
async fn cells_that_are_invalid_for_their_type_are_rejected() {
    let blue = KongKeyspace::new("3.3").await;
    blue.parents().await;
    let mut expected = Vec::new();
    // Cassandra takes an empty value for any of these types, and hands it out again.
    for (table, column) in [
        ("services", "port"),
        ("services", "created_at"),
        ("services", "enabled"),
        ("plugins", "consumer_id"),
        ("plugins", "ws_id"),
    ] {
        let row = blue.put(table, &format!("{table} {column}"), json!({})).await;
        let taken = blue.put_bytes(table, &row, column, b"").await;
        assert_eq!(taken, Ok(()), "Cassandra takes an empty {table}.{column}");
        expected.push((table, row, column));
    }
    let migrated = Migrated::new(&blue, "3.3").await;
    for (table, row, column) in &expected {
        migrated.rejected(table, row, "undecodable", column);
    }
}

/// Green's CHECK constraint takes its time, so that rows run out between their reading and the apply.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_expire_during_the_run_are_counted_and_not_copied() {
    let blue = KongKeyspace::new("3.3").await;
    blue.parents().await;
    blue.execute("CREATE TABLE slow (id uuid PRIMARY KEY)").await.expect("a table");
    blue.execute(&format!("INSERT INTO slow (id) VALUES ({})", id("slow"))).await.expect("a row");
    let green = lab().fresh_green("3.3").await.expect("green");
    let slow = "create function slow() returns boolean language plpgsql as 'begin perform pg_sleep(2.5); return true; end'; \
                create table slow (id uuid primary key, check (slow()))";
    green.execute(slow).await.expect("a table");
    let lasting = blue.put_with_ttl("keyauth_credentials", "lasting", json!({}), 3600).await;
    let forever = blue.put("keyauth_credentials", "forever", json!({})).await;
    // Whenever blue is read within half a minute, some of these are about to end.
    for ttl in 1..=30 {
        blue.put_with_ttl("keyauth_credentials", &format!("ends in {ttl}"), json!({}), ttl).await;
    }
    let migrated = Migrated::into_green(&blue, green, &[]).await;
    let expired = migrated.count("keyauth_credentials", "expired");
    assert!((2..=10).contains(&expired), "{expired} rows ended while the check slept");
    migrated.row("keyauth_credentials", &lasting);
    assert_eq!(migrated.row("keyauth_credentials", &forever)["ttl"], Value::Null);
    assert_eq!(migrated.ran.code, 0, "an expired row is no reject: {:#?}", migrated.ran.rejects);
}
