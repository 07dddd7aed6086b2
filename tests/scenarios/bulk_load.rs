//! A load large enough for bulk load: indexes and triggers are dropped meanwhile and restored exactly.

use kongferry::green::config::GreenConfig;
use kongferry::green::definitions::Definitions;
use kongferry::green::session::Green;
use kongferry_harness::{Database, Keyspace, fill, lab};
use serde_json::json;
use tokio::sync::OnceCell;

use super::support::{Ran, migrate};

/// Consumers whose rows are just enough.
const CONSUMERS: u64 = 6_000;

async fn definitions(database: &Database) -> Definitions {
    let config = GreenConfig::new(database.options().clone());
    let green = Green::connect(&config, "kongferry test").await.expect("green");
    let mut tx = green.begin_snapshot().await.expect("a transaction");
    let read = Definitions::read(&mut tx, "public").await.expect("definitions");
    drop(tx);
    green.close().await;
    read
}

/// A keyspace that these tests share, because writing its rows takes longest.
async fn shared_blue() -> Keyspace {
    static NAME: OnceCell<String> = OnceCell::const_new();
    let name = NAME
        .get_or_init(|| async {
            let mut blue = filled().await;
            blue.keep();
            blue.name().to_owned()
        })
        .await;
    Keyspace::open(lab().cassandra().await.expect("a Cassandra"), name).await.expect("a keyspace")
}

async fn filled() -> Keyspace {
    let blue = lab().filled_keyspace("3.3").await.expect("blue");
    let rows = blue.rows("workspaces").await.expect("workspaces");
    let default = rows.iter().find(|row| row["name"] == "default").expect("a default workspace");
    let id = default["id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
    fill::fill(&blue, id, CONSUMERS).await.expect("filled");
    blue
}

/// Rows that do not bear the number of one of our transactions: a later run would have to read and digest them.
const NOT_OURS: &str = "select to_jsonb(count(*)) from
    (select xmin from consumers union all select xmin from acls union all select xmin from keyauth_credentials) rows
    where xmin::text not in (select xid::text from kongferry.writer)";

/// What Kong's triggers would have kept: compared by their own statement, row by row.
const TAGS_OF_CONSUMERS: &str = "select to_jsonb(count(*)) from consumers c full join
    (select * from tags where entity_name = 'consumers') t on t.entity_id = c.id
    where c.id is null or t.entity_id is null or t.tags is distinct from c.tags";

async fn number(green: &Database, sql: &str) -> serde_json::Value {
    green.json(sql).await.expect("a number").first().expect("a row").clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn bulk_load_leaves_the_same_rows_tags_and_definitions_as_row_by_row_inserts() {
    let blue = shared_blue().await;
    let green = lab().fresh_green("3.3").await.expect("green");
    let before = definitions(&green).await;
    let ran: Ran = migrate(&blue, &green).await.expect_code(3);
    assert!(!ran.stderr.contains("takes longer"), "bulk load was used: {}", ran.stderr);
    assert!(ran.table("consumers")["applied"].as_u64() > Some(CONSUMERS));
    let changed = before.differences(&definitions(&green).await, &[].into());
    assert!(changed.is_empty(), "{changed:?}");
    assert_eq!(number(&green, TAGS_OF_CONSUMERS).await, json!(0));
    assert_eq!(number(&green, NOT_OURS).await, json!(0));
    // Triggers and references work again.
    let delete = "delete from consumers where username = (select min(username) from consumers where username like 'consumer%')";
    let before = number(&green, "select to_jsonb(count(*)) from tags").await;
    green.execute(delete).await.expect("deleted");
    let after = number(&green, "select to_jsonb(count(*)) from tags").await;
    assert!(
        after.as_u64() < before.as_u64(),
        "the deleted consumer and its credentials left their tags: {before} {after}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_trigger_disables_bulk_load_and_fires() {
    let blue = shared_blue().await;
    let green = lab().fresh_green("3.3").await.expect("green");
    green
        .execute(
            "create table seen (n bigint); insert into seen values (0);
             create function count_it() returns trigger language plpgsql as
             $$ begin update public.seen set n = n + 1; return null; end $$;
             create trigger count_them after insert on consumers for each row execute function count_it()",
        )
        .await
        .expect("a trigger");
    let ran = super::support::kongferry(&super::support::migrate_arguments(
        &blue,
        &green,
        &["--accept-rejects", "--skip-table", "seen"],
    ))
    .await
    .expect_code(3);
    assert!(ran.stderr.contains("count_them"), "the reason is said: {}", ran.stderr);
    assert_eq!(
        number(&green, "select to_jsonb(n) from seen").await,
        number(&green, "select to_jsonb(count(*)) from consumers").await
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn bulk_load_keeps_keys_that_a_view_needs_and_indexes_with_a_comment() {
    let blue = shared_blue().await;
    let green = lab().fresh_green("3.3").await.expect("green");
    green
        .execute(
            "create schema reporting;
             create view reporting.groups as select c.id, c.username, count(a.id) as groups
               from public.consumers c left join public.acls a on a.consumer_id = c.id group by c.id;
             comment on index acls_group_idx is 'for the reports'",
        )
        .await
        .expect("a view and a comment");
    let before = definitions(&green).await;
    let ran: Ran = migrate(&blue, &green).await.expect_code(3);
    assert!(!ran.stderr.contains("takes longer"), "bulk load was used: {}", ran.stderr);
    let changed = before.differences(&definitions(&green).await, &[].into());
    assert!(changed.is_empty(), "{changed:?}");
    let grouped = number(&green, "select to_jsonb(count(*)) from reporting.groups where groups > 0").await;
    assert!(grouped.as_u64() >= Some(CONSUMERS), "{grouped}");
    let comment = "select to_jsonb(obj_description('acls_group_idx'::regclass))";
    assert_eq!(number(&green, comment).await, json!("for the reports"));
}
