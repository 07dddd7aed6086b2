//! Tables whose rows are all in one partition of Cassandra, and too many for a page: they are read in slices, and every
//! row arrives once, whatever its id looks like.

use std::collections::BTreeSet;

use kongferry_harness::lab;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::row_builder::KongKeyspace;
use crate::support::{kongferry, migrate_arguments};

/// Rows of a page: the table must be many of them.
const PAGE: usize = 10;

/// Ids of every UUID version, spread over all slices, and those on the bounds themselves.
fn ids() -> BTreeSet<Uuid> {
    let mut ids = BTreeSet::from([Uuid::nil(), Uuid::max(), Uuid::from_u128(1)]);
    for n in 0..160_u128 {
        let spread = n.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        let version = [1, 4, 4, 4, 5, 7, 8, 15][n as usize % 8];
        ids.insert(Uuid::from_u128((spread & !(0xf << 76)) | (version << 76)));
    }
    for version in [4_u128, 5] {
        for nth in 0..8_u128 {
            let bound = (nth << 125) | (version << 76);
            ids.extend([bound.saturating_sub(1), bound, bound + 1].map(Uuid::from_u128));
        }
        let last = !(0xf << 76) | (version << 76);
        ids.extend([last - 1, last].map(Uuid::from_u128));
    }
    ids
}

fn number(of: &Value, table: &str, name: &str) -> u64 {
    let tables = of["tables"].as_array().expect("tables");
    let own = tables.iter().find(|one| one["table"] == table).unwrap_or_else(|| panic!("no {table}: {of:#}"));
    own[name].as_u64().unwrap_or_else(|| panic!("no {name}: {own:#}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_of_a_large_partition_is_migrated_once() {
    let blue = KongKeyspace::new("3.3").await;
    let ids = ids();
    for id in &ids {
        blue.put("services", &format!("service {id}"), json!({ "id": id.to_string() })).await;
    }
    // Rows of partitions that Kong does not read, before and after its own on the ring.
    for n in 0..12 {
        let elsewhere = json!({ "partition": format!("elsewhere {n}") });
        blue.put("services", &format!("elsewhere {n}"), elsewhere).await;
    }
    let green = lab().fresh_green("3.3").await.expect("green");
    let mut arguments = migrate_arguments(&blue, &green, &[]);
    for argument in &mut arguments {
        if *argument == blue.url() {
            argument.push_str(&format!("?page_size={PAGE}"));
        }
    }

    let report = kongferry(&arguments).await.expect_code(0).json();
    let all = ids.len() as u64 + 12;
    assert_eq!(number(&report, "services", "source"), all);
    assert_eq!(number(&report, "services", "not_copied"), 12);
    let rows = green.rows("services").await.expect("rows");
    let mut arrived: Vec<Uuid> =
        rows.iter().map(|row| row["id"].as_str().and_then(|id| id.parse().ok()).expect("an id")).collect();
    arrived.sort_unstable();
    assert_eq!(arrived, ids.iter().copied().collect::<Vec<_>>());

    // The same slices serve the comparison and the proof.
    let again = kongferry(&arguments).await.expect_code(0).json();
    assert_eq!(again["changes"]["unchanged"], again["totals"]["applied"], "{again:#}");
    assert_eq!(number(&again, "services", "applied"), ids.len() as u64);
    arguments.retain(|one| !["--yes", "--rejects-file", "rejects.jsonl"].contains(&one.as_str()));
    arguments[0] = "verify".to_owned();
    let proof = kongferry(&arguments).await.expect_code(0).json();
    assert_eq!(number(&proof, "services", "equal"), ids.len() as u64, "{proof:#}");
}
