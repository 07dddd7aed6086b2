//! Places on the ring, as computed here and as Cassandra itself says, for partition keys of every shape.

use kongferry::blue::token;
use kongferry_harness::lab;
use scylla::deserialize::row::ColumnIterator;

/// Types of a partition key, and for each some literals of them. Kong's own are the first three: the third
/// is that of its counters.
const KEYS: &[(&[&str], &[&[&str]])] = &[
    (
        &["uuid"],
        &[
            &["00000000-0000-0000-0000-000000000000"],
            &["6f9d5a5e-3b8a-4c86-9d6a-0d3f6a1b2c3d"],
            &["ffffffff-ffff-ffff-ffff-ffffffffffff"],
        ],
    ),
    (&["text"], &[&["'routes'"], &["'a'"], &["'exactly sixteen b'"], &["'schlüssel 🔑'"]]),
    (
        &["uuid", "uuid", "text", "timestamp", "text"],
        &[&[
            "6f9d5a5e-3b8a-4c86-9d6a-0d3f6a1b2c3d",
            "00000000-0000-0000-0000-000000000000",
            "'127.0.0.1'",
            "1700000000000",
            "'minute'",
        ]],
    ),
    (
        &["text", "text"],
        &[&["'a'", "'bc'"], &["'ab'", "'c'"], &["''", "'abc'"], &["'abc'", "''"], &["''", "''"]],
    ),
    (&["uuid", "text", "int"], &[&["6f9d5a5e-3b8a-4c86-9d6a-0d3f6a1b2c3d", "'second'", "-1"]]),
    (&["timestamp"], &[&["0"], &["-1"], &["1700000000000"]]),
    (&["boolean"], &[&["true"], &["false"]]),
    (&["blob"], &[&["0x00"], &["0x80ff"], &["0x000102030405060708090a0b0c0d0e0f1011ffee80"]]),
    (&["frozen<list<int>>"], &[&["[]"], &["[1, 2, 3]"]]),
];

#[tokio::test(flavor = "multi_thread")]
async fn computed_tokens_equal_cassandras_own() {
    let endpoint = lab().cassandra().await.expect("a Cassandra");
    let session = endpoint.session().await.expect("a session");
    let run = async |cql: String| {
        session.query_unpaged(cql.clone(), ()).await.unwrap_or_else(|e| panic!("{e}: {cql}"))
    };
    run("CREATE KEYSPACE IF NOT EXISTS ring WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}".into())
        .await;
    for (table, (types, keys)) in KEYS.iter().enumerate() {
        let names: Vec<String> = (0..types.len()).map(|nth| format!("k{nth}")).collect();
        let key = names.join(", ");
        let columns: Vec<String> =
            names.iter().zip(*types).map(|(name, cql_type)| format!("{name} {cql_type}")).collect();
        run(format!("CREATE TABLE ring.t{table} ({}, PRIMARY KEY (({key})))", columns.join(", "))).await;
        for values in *keys {
            run(format!("INSERT INTO ring.t{table} ({key}) VALUES ({})", values.join(", "))).await;
        }

        let rows = run(format!("SELECT {key}, token({key}) FROM ring.t{table}")).await;
        let rows = rows.into_rows_result().expect("rows");
        assert_eq!(rows.rows_num(), keys.len());
        for row in rows.rows::<ColumnIterator<'_, '_>>().expect("rows") {
            let cells: Vec<Option<&[u8]>> = row
                .expect("a row")
                .map(|cell| cell.expect("a cell").slice.map(|slice| slice.as_slice()))
                .collect();
            let (last, of_key) = cells.split_last().expect("cells");
            let theirs = last.and_then(|bytes| bytes.try_into().ok()).map(i64::from_be_bytes);
            let ours = token::of_key(of_key.iter().copied());
            assert!(ours.is_some());
            assert_eq!(ours, theirs, "{types:?} {of_key:?}");
            if let [Some(one)] = of_key {
                assert_eq!(Some(token::of_single_column(one)), theirs, "{types:?} {one:?}");
            }
        }
    }
}
