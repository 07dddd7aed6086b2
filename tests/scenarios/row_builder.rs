//! A keyspace with the rows that Kong needs at least, and a builder for realistic rows.
//!
//! `blue.put("plugins", "open", json!({ "service_id": id("missing") }))` writes a row as Kong would, except
//! for the given columns. Its parents are those of [`KongKeyspace::parents`], and its id is `id("open")`.

use std::collections::BTreeMap;
use std::ops::Deref;

use kongferry_harness::catalog::Catalog;
use kongferry_harness::fixture::Fixture;
use kongferry_harness::keyspace::{Keyspace, LoadOptions};
use kongferry_harness::{fill, lab};
use ring::digest::{SHA256, digest};
use scylla::serialize::SerializationError;
use scylla::serialize::value::SerializeValue;
use scylla::serialize::writers::{CellWriter, WrittenCellProof};
use serde_json::{Map, Value, json};

/// When every row was created, unless a test says otherwise: 2023-11-14 22:13:20.
pub const CREATED_AT: i64 = 1_700_000_000_000;

/// Tables whose rows Kong keeps in one partition of their own name.
const PARTITIONED: &[&str] = &["ca_certificates", "certificates", "routes", "services", "snis"];

/// Tables that others refer to, parents first.
const PARENTS: &[&str] = &[
    "certificates",
    "upstreams",
    "key_sets",
    "consumers",
    "services",
    "routes",
    "plugins",
    "oauth2_credentials",
];

/// The id that goes by this name: always the same one.
pub fn id(name: &str) -> String {
    fill::id(name, 0).to_string()
}

/// Text of that many characters that no compression makes shorter, other for each name.
pub fn incompressible(name: &str, characters: usize) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-";
    let blocks =
        (0_u32..).flat_map(|block| digest(&SHA256, format!("{name} {block}").as_bytes()).as_ref().to_vec());
    blocks.take(characters).map(|byte| char::from(ALPHABET[usize::from(byte % 64)])).collect()
}

/// A keyspace with a default workspace, a `cluster_id` and a finished record of migrations.
pub struct KongKeyspace {
    keyspace: Keyspace,
    columns: BTreeMap<String, Vec<String>>,
    pub ws: String,
}

impl Deref for KongKeyspace {
    type Target = Keyspace;

    fn deref(&self) -> &Keyspace {
        &self.keyspace
    }
}

impl KongKeyspace {
    /// A new one of a line of Kong versions.
    pub async fn new(line: &str) -> KongKeyspace {
        let keyspace = lab().fresh_keyspace(line).await.expect("a keyspace");
        let catalog = Catalog::of(line).expect("a catalog");
        let names =
            |table: kongferry_harness::catalog::Table| table.columns.into_iter().map(|c| c.name).collect();
        let columns = catalog.tables.into_iter().map(|(name, table)| (name, names(table))).collect();
        let blue = KongKeyspace { keyspace, columns, ws: id("default workspace") };
        for row in &Fixture::shipped(line).expect("a fixture").blue["schema_meta"] {
            blue.write_recorded("schema_meta", row, LoadOptions::default()).await.expect("schema_meta");
        }
        blue.put("workspaces", "default workspace", json!({ "name": "default" })).await;
        blue.put("parameters", "cluster_id", json!({ "value": id("cluster") })).await;
        blue
    }

    /// Knows the tables and columns made meanwhile as well.
    pub async fn reread(mut self) -> KongKeyspace {
        self.keyspace.reread().await.expect("the tables");
        self
    }

    /// One more workspace; gives its id.
    pub async fn workspace(&self, name: &str) -> String {
        self.put("workspaces", name, json!({})).await
    }

    /// One row of every table that others refer to: `id("consumers")`, `id("services")` and so on.
    pub async fn parents(&self) {
        for table in PARENTS.iter().filter(|table| self.has(table)) {
            self.put(table, table, json!({})).await;
        }
    }

    /// A value of the default workspace, as Kong on Cassandra writes unique texts.
    pub fn own(&self, value: &str) -> String {
        format!("{}:{value}", self.ws)
    }

    /// Whether this line has the table.
    pub fn has(&self, table: &str) -> bool {
        self.columns.contains_key(table)
    }

    /// Writes a sensible row of that name with these columns instead; null leaves a column out. Gives the row's key.
    pub async fn put(&self, table: &str, name: &str, instead: Value) -> String {
        self.put_with_ttl(table, name, instead, 0).await
    }

    /// The same with a time to live in seconds.
    pub async fn put_with_ttl(&self, table: &str, name: &str, instead: Value, ttl: i32) -> String {
        let row = self.row(table, name, instead);
        self.write_row_with_ttl(table, &row, ttl).await.unwrap_or_else(|e| panic!("{e:?}: {row}"));
        let key = if table == "parameters" { "key" } else { "id" };
        row[key].as_str().expect("a key").to_owned()
    }

    /// The row that [`KongKeyspace::put`] writes.
    pub fn row(&self, table: &str, name: &str, instead: Value) -> Value {
        let ws = instead["ws_id"].as_str().unwrap_or(&self.ws).to_owned();
        let mut row = as_map(sensible(table, name, &ws));
        row.entry("id").or_insert_with(|| id(name).into());
        row.entry("created_at").or_insert_with(|| CREATED_AT.into());
        row.entry("ws_id").or_insert_with(|| ws.into());
        row.entry("partition").or_insert_with(|| table.into());
        let known = self.columns.get(table).unwrap_or_else(|| panic!("no table {table}"));
        row.retain(|column, _| known.contains(column));
        if !PARTITIONED.contains(&table) {
            row.remove("partition");
        }
        let instead = as_map(instead);
        let has_key = instead.contains_key("cache_key");
        row.extend(instead);
        if !has_key && known.iter().any(|column| column == "cache_key") {
            row.insert("cache_key".to_owned(), cache_key(table, &row).into());
        }
        row.retain(|_, value| !value.is_null());
        Value::Object(row)
    }

    /// Writes these very bytes into one cell of a row, whatever its type; Cassandra decides whether it takes them.
    pub async fn put_bytes(&self, table: &str, id: &str, column: &str, bytes: &[u8]) -> Result<(), String> {
        let prepared = self.session().prepare(update(table, id, column, "?")).await.expect("a statement");
        let done = self.session().execute_unpaged(&prepared, (Raw(bytes),)).await;
        done.map(|_| ()).map_err(|e| e.to_string())
    }

    /// Writes a literal into one cell of a row. Cassandra looks closer at a collection that it gets as bytes than at
    /// one that is made of [`text_of`] bytes.
    pub async fn put_literal(&self, table: &str, id: &str, column: &str, term: &str) -> Result<(), String> {
        let done = self.session().query_unpaged(update(table, id, column, term), ()).await;
        done.map(|_| ()).map_err(|e| e.to_string())
    }
}

fn update(table: &str, id: &str, column: &str, term: &str) -> String {
    let partition =
        if PARTITIONED.contains(&table) { format!("\"partition\" = '{table}' AND ") } else { String::new() };
    format!("UPDATE \"{table}\" SET \"{column}\" = {term} WHERE {partition}id = {id}")
}

/// A text of CQL with these very bytes.
pub fn text_of(bytes: &[u8]) -> String {
    format!("blob_as_text(0x{})", hex(bytes))
}

/// Two digits for each byte.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes that go to Cassandra as they are.
struct Raw<'a>(&'a [u8]);

impl SerializeValue for Raw<'_> {
    fn serialize<'b>(
        &self,
        _: &scylla::cluster::metadata::ColumnType<'_>,
        writer: CellWriter<'b>,
    ) -> Result<WrittenCellProof<'b>, SerializationError> {
        writer.set_value(self.0).map_err(SerializationError::new)
    }
}

fn as_map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => panic!("{other} is no row"),
    }
}

/// What Kong computes (docs/kong-data-model.md, 1): seven parts, but for keys.
pub fn cache_key(table: &str, row: &Map<String, Value>) -> String {
    let part = |name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let parts: Vec<String> = match table {
        "plugins" => vec![
            part("name"),
            part("route_id"),
            part("service_id"),
            part("consumer_id"),
            String::new(),
            part("ws_id"),
        ],
        "acls" => vec![
            part("consumer_id"),
            part("group"),
            String::new(),
            String::new(),
            String::new(),
            part("ws_id"),
        ],
        "targets" => vec![
            part("upstream_id"),
            part("target"),
            String::new(),
            String::new(),
            String::new(),
            part("ws_id"),
        ],
        "keys" => vec![part("kid"), part("set_id")],
        _ => panic!("{table} has no cache_key"),
    };
    format!("{table}:{}", parts.join(":"))
}

/// What is particular about a sensible row of each table.
fn sensible(table: &str, name: &str, ws: &str) -> Value {
    let own = format!("{ws}:{name}");
    match table {
        "workspaces" => json!({ "name": name, "meta": "{}", "config": "{}" }),
        "parameters" => json!({ "key": name, "value": "a value" }),
        "ca_certificates" => json!({ "cert": "-----BEGIN CERTIFICATE-----", "cert_digest": id(name) }),
        "certificates" => {
            json!({ "cert": "-----BEGIN CERTIFICATE-----", "key": "-----BEGIN PRIVATE KEY-----" })
        }
        "snis" => json!({ "name": format!("{name}.example.com"), "certificate_id": id("certificates") }),
        "services" => {
            json!({ "name": own, "protocol": "http", "host": "upstream.example.com", "port": 80, "retries": 5,
            "connect_timeout": 60000, "read_timeout": 60000, "write_timeout": 60000, "enabled": true })
        }
        "routes" => {
            json!({ "name": own, "service_id": id("services"), "protocols": ["http", "https"], "paths": [format!("/{name}")],
            "strip_path": true, "preserve_host": false, "regex_priority": 0, "path_handling": "v0" })
        }
        "upstreams" => json!({ "name": own, "slots": 10000, "algorithm": "round-robin" }),
        "targets" => json!({ "upstream_id": id("upstreams"), "target": format!("{name}:80"), "weight": 100 }),
        "consumers" => json!({ "username": own }),
        "plugins" => json!({ "name": name, "config": "{}", "enabled": true, "protocols": ["http", "https"] }),
        "acls" => json!({ "consumer_id": id("consumers"), "group": name }),
        "basicauth_credentials" => {
            json!({ "consumer_id": id("consumers"), "username": own, "password": "0a1b2c" })
        }
        "hmacauth_credentials" => {
            json!({ "consumer_id": id("consumers"), "username": own, "secret": "a secret" })
        }
        "jwt_secrets" => {
            json!({ "consumer_id": id("consumers"), "key": own, "secret": "a secret", "algorithm": "HS256" })
        }
        "keyauth_credentials" => json!({ "consumer_id": id("consumers"), "key": own }),
        "oauth2_credentials" => {
            json!({ "consumer_id": id("consumers"), "client_id": own, "client_secret": "a secret",
            "name": name, "redirect_uris": ["https://example.com/cb"], "client_type": "confidential" })
        }
        "oauth2_tokens" => {
            json!({ "credential_id": id("oauth2_credentials"), "access_token": own, "token_type": "bearer", "expires_in": 7200 })
        }
        "oauth2_authorization_codes" => json!({ "credential_id": id("oauth2_credentials"), "code": own }),
        "acme_storage" => json!({ "key": name, "value": "{}" }),
        "sessions" => json!({ "session_id": name, "data": "data", "expires": 1_900_000_000 }),
        "key_sets" => json!({ "name": own }),
        "keys" => json!({ "name": own, "kid": name, "jwk": "{\"kty\": \"oct\"}" }),
        "sm_vaults" | "vaults_beta" => {
            json!({ "prefix": name, "name": "env", "config": "{\"prefix\":\"V_\"}" })
        }
        _ => panic!("no sensible row of {table} is known"),
    }
}
