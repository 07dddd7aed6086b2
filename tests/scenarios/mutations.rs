//! More than a hundred mutations of green's rows, each in another row or column.
//! `verify.rs` requires each to be found under its name, `repair.rs` requires each to be repaired.

use std::collections::BTreeSet;

use kongferry_harness::postgres::Database;
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgConnection, Row};

/// One sort of damage, done to one row for each of its columns.
struct Damage {
    what: &'static str,
    kind: &'static str,
    /// `table.column`; what a line of Kong versions does not have is left out.
    places: &'static [&'static str],
    /// Which rows can be damaged so; `{c}` is the column.
    of: &'static str,
    becomes: &'static str,
}

/// What was done to one row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mutation {
    pub what: &'static str,
    /// The kind of finding that it must come to.
    pub kind: &'static str,
    pub table: String,
    pub key: String,
    /// Its column; none where it is about the row.
    pub column: Option<String>,
}

impl Mutation {
    /// Whether a line of the findings file is about this one.
    pub fn is(&self, line: &Value) -> bool {
        line["table"] == self.table
            && line["key"] == self.key
            && line["kind"] == self.kind
            && line["column"] == Value::from(self.column.clone())
    }
}

const fn damage(
    what: &'static str,
    places: &'static [&'static str],
    of: &'static str,
    becomes: &'static str,
) -> Damage {
    Damage { what, kind: "different", places, of, becomes }
}

const NOT_NULL: &str = "{c} is not null";

const DAMAGES: &[Damage] = &[
    damage(
        "one hex digit of a password",
        &["basicauth_credentials.password", "ca_certificates.cert_digest"],
        NOT_NULL,
        "overlay({c} placing case left({c}, 1) when '0' then '1' else '0' end from 1 for 1)",
    ),
    damage(
        "the last character of a secret",
        &[
            "hmacauth_credentials.secret",
            "jwt_secrets.secret",
            "oauth2_credentials.client_secret",
            "keyauth_credentials.key",
            "oauth2_tokens.refresh_token",
        ],
        "length({c}) > 1",
        "left({c}, -1) || case right({c}, 1) when 'a' then 'b' else 'a' end",
    ),
    damage(
        "a blank behind a value",
        &[
            "acls.group",
            "services.host",
            "snis.name",
            "targets.target",
            "oauth2_credentials.name",
            "jwt_secrets.key",
        ],
        NOT_NULL,
        "{c} || ' '",
    ),
    damage(
        "another case",
        &["consumers.custom_id", "upstreams.hash_on_header", "services.path"],
        "upper({c}) <> {c}",
        "upper({c})",
    ),
    damage(
        "a tag added",
        &[
            "acls.tags",
            "basicauth_credentials.tags",
            "ca_certificates.tags",
            "certificates.tags",
            "consumers.tags",
            "hmacauth_credentials.tags",
            "jwt_secrets.tags",
            "key_sets.tags",
            "keyauth_credentials.tags",
            "keys.tags",
            "oauth2_credentials.tags",
            "plugins.tags",
            "routes.tags",
            "services.tags",
            "sm_vaults.tags",
            "snis.tags",
            "targets.tags",
            "upstreams.tags",
            "vaults_beta.tags",
        ],
        "true",
        "array_append({c}, 'added')",
    ),
    damage(
        "a list reordered",
        &["routes.paths", "routes.hosts", "services.ca_certificates", "oauth2_credentials.redirect_uris"],
        "cardinality({c}) > 1 and {c}[1] <> {c}[cardinality({c})]",
        "array(select one from unnest({c}) with ordinality u(one, n) order by n desc)",
    ),
    damage(
        "an element of a set lost",
        &["routes.protocols", "routes.methods", "routes.snis", "plugins.protocols", "routes.sources"],
        "cardinality({c}) > 0",
        "{c}[2:]",
    ),
    damage(
        "an element twice",
        &["routes.hosts", "routes.paths"],
        "cardinality({c}) > 0",
        "array_append({c}, {c}[1])",
    ),
    damage(
        "a null turned into {}",
        &[
            "routes.methods",
            "routes.hosts",
            "routes.paths",
            "routes.snis",
            "routes.sources",
            "services.ca_certificates",
        ],
        "{c} is null",
        "'{}'",
    ),
    damage(
        "a null turned into an object",
        &["routes.headers", "workspaces.meta", "keys.pem"],
        "{c} is null",
        "'{}'",
    ),
    damage(
        "a null turned into the column's default",
        &["routes.path_handling", "services.retries", "upstreams.slots", "routes.regex_priority"],
        "{c} is null",
        "default",
    ),
    damage(
        "a value lost",
        &[
            "routes.path_handling",
            "services.path",
            "services.retries",
            "services.client_certificate_id",
            "consumers.username",
            "routes.name",
            "upstreams.host_header",
            "upstreams.algorithm",
            "routes.headers",
            "keyauth_credentials.created_at",
        ],
        NOT_NULL,
        "null",
    ),
    damage(
        "a prefix left on",
        &[
            "basicauth_credentials.username",
            "consumers.custom_id",
            "consumers.username",
            "hmacauth_credentials.username",
            "jwt_secrets.key",
            "key_sets.name",
            "keyauth_credentials.key",
            "keys.name",
            "oauth2_credentials.client_id",
            "oauth2_tokens.access_token",
            "plugins.instance_name",
            "routes.name",
            "services.name",
            "upstreams.name",
        ],
        NOT_NULL,
        "ws_id || ':' || {c}",
    ),
    damage(
        "a plugin made global, or wider",
        &["plugins.consumer_id", "plugins.route_id", "plugins.service_id"],
        NOT_NULL,
        "null",
    ),
    damage(
        "another parent",
        &[
            "acls.consumer_id",
            "basicauth_credentials.consumer_id",
            "jwt_secrets.consumer_id",
            "keyauth_credentials.consumer_id",
        ],
        NOT_NULL,
        "(select id from consumers o where o.id <> {c} and o.ws_id = t.ws_id order by id limit 1)",
    ),
    damage(
        "a route to another service",
        &["routes.service_id", "plugins.service_id"],
        NOT_NULL,
        "(select id from services o where o.id <> {c} and o.ws_id = t.ws_id order by id limit 1)",
    ),
    damage(
        "JSON changed deep inside",
        &["plugins.config", "sm_vaults.config", "vaults_beta.config", "keys.pem", "routes.headers"],
        "jsonb_typeof({c}) = 'object'",
        "{c} || '{\"added\": [{\"deep\": [1, {\"er\": null}]}]}'",
    ),
    damage(
        "a number in JSON",
        &["upstreams.healthchecks"],
        NOT_NULL,
        "jsonb_set({c}, '{active,healthy,interval}', '12345')",
    ),
    damage(
        "a member of JSON lost",
        &["plugins.config"],
        "{c} <> '{}'",
        "{c} - (select min(k) from jsonb_object_keys({c}) k)",
    ),
    damage(
        "JSON as a text in JSON",
        &["plugins.config", "upstreams.healthchecks"],
        NOT_NULL,
        "to_jsonb({c}::text)",
    ),
    damage(
        "a certificate cut",
        &["certificates.cert", "ca_certificates.cert", "certificates.cert_alt"],
        NOT_NULL,
        "left({c}, length({c}) - 30)",
    ),
    damage(
        "a line break lost",
        &["certificates.key", "jwt_secrets.rsa_public_key"],
        "{c} like '%' || chr(10) || '%'",
        "replace({c}, chr(10), ' ')",
    ),
    damage(
        "a switch turned",
        &[
            "plugins.enabled",
            "routes.strip_path",
            "routes.preserve_host",
            "services.enabled",
            "oauth2_credentials.hash_secret",
        ],
        NOT_NULL,
        "not {c}",
    ),
    damage(
        "off by one",
        &[
            "services.port",
            "services.read_timeout",
            "targets.weight",
            "upstreams.slots",
            "oauth2_tokens.expires_in",
        ],
        NOT_NULL,
        "{c} + 1",
    ),
    damage(
        "a time off by an hour",
        &[
            "consumers.created_at",
            "routes.created_at",
            "services.updated_at",
            "plugins.created_at",
            "acls.created_at",
        ],
        NOT_NULL,
        "{c} + interval '1 hour'",
    ),
    damage(
        "a time off by a millisecond",
        &["upstreams.created_at", "targets.created_at", "snis.created_at"],
        NOT_NULL,
        "{c} + interval '1 millisecond'",
    ),
    damage(
        "a time made up",
        &["consumers.updated_at", "plugins.updated_at", "workspaces.updated_at", "upstreams.updated_at"],
        "true",
        "now()",
    ),
    Damage {
        what: "an expiry off by an hour",
        kind: "wrong_expiry",
        places: &["keyauth_credentials.ttl", "oauth2_tokens.ttl", "acme_storage.ttl"],
        of: "{c} > now() + interval '10 minutes'",
        becomes: "{c} + interval '1 hour'",
    },
    Damage {
        what: "an expiry lost",
        kind: "wrong_expiry",
        places: &["keyauth_credentials.ttl", "oauth2_tokens.ttl"],
        of: "{c} > now() + interval '10 minutes'",
        becomes: "null",
    },
    Damage {
        what: "an expiry made up",
        kind: "wrong_expiry",
        places: &["keyauth_credentials.ttl"],
        of: "{c} is null",
        becomes: "now() + interval '1 day'",
    },
    Damage {
        what: "a workspace swapped",
        kind: "wrong_workspace",
        places: &[
            "acls.ws_id",
            "certificates.ws_id",
            "consumers.ws_id",
            "jwt_secrets.ws_id",
            "keyauth_credentials.ws_id",
            "plugins.ws_id",
            "routes.ws_id",
            "services.ws_id",
            "snis.ws_id",
            "upstreams.ws_id",
        ],
        of: NOT_NULL,
        becomes: "(select id from workspaces w where w.id <> {c} order by id limit 1)",
    },
    Damage {
        what: "a workspace lost",
        kind: "wrong_workspace",
        places: &["consumers.ws_id", "plugins.ws_id"],
        of: NOT_NULL,
        becomes: "null",
    },
    Damage {
        what: "a cache_key of an older Kong",
        kind: "wrong_cache_key",
        places: &["acls.cache_key", "keys.cache_key", "plugins.cache_key", "targets.cache_key"],
        of: NOT_NULL,
        becomes: "{c} || ':'",
    },
];

/// Rows that go: table, and how many.
const DROPPED: &[(&str, usize)] = &[
    ("acls", 1),
    ("basicauth_credentials", 1),
    ("ca_certificates", 1),
    ("consumers", 2),
    ("hmacauth_credentials", 1),
    ("jwt_secrets", 1),
    ("keyauth_credentials", 2),
    ("keys", 1),
    ("plugins", 5),
    ("routes", 3),
    ("snis", 1),
    ("targets", 1),
    ("upstreams", 1),
];

/// Rows that come: the table, and what is unique in it.
const ADDED: &[(&str, &[&str])] = &[
    ("acls", &["cache_key"]),
    ("basicauth_credentials", &["username"]),
    ("consumers", &["username", "custom_id"]),
    ("hmacauth_credentials", &["username"]),
    ("jwt_secrets", &["key"]),
    ("keyauth_credentials", &["key"]),
    ("plugins", &["cache_key", "instance_name"]),
    ("routes", &["name"]),
    ("services", &["name"]),
    ("snis", &["name"]),
    ("upstreams", &["name"]),
];

/// Does all of it, with constraints and triggers off.
pub async fn damage_everything(green: &Database) -> Vec<Mutation> {
    let mut connection = green.connect().await.expect("a connection");
    scalar(&mut connection, "select set_config('session_replication_role', 'replica', false)").await;
    let mut done = Vec::new();
    for (table, rows) in DROPPED {
        if !has(&mut connection, table, "id").await {
            continue;
        }
        for _ in 0..*rows {
            let sql = format!(
                "delete from {table} where id = (select id from {table} order by id desc limit 1) returning id::text"
            );
            done.extend(
                scalar(&mut connection, &sql).await.map(|key| of_row("a row dropped", "missing", table, key)),
            );
        }
    }
    // What was added is not damaged as well: a row that blue lacks has no fields to compare.
    let mut left_alone = BTreeSet::new();
    for (table, unique) in ADDED {
        let key = add(&mut connection, table, unique).await;
        left_alone.insert(((*table).to_owned(), key.clone()));
        done.push(of_row("a row added", "extra", table, key));
    }
    let mut used: BTreeSet<(String, String, String)> = BTreeSet::new();
    for one in DAMAGES {
        for place in one.places {
            let (table, column) = place.split_once('.').expect("table and column");
            if !has(&mut connection, table, column).await {
                continue;
            }
            let candidates = format!(
                "select id::text from {table} t where ({}) order by id",
                one.of.replace("{c}", &format!("t.\"{column}\""))
            );
            let free = |key: &String| {
                !left_alone.contains(&(table.to_owned(), key.clone()))
                    && !used.contains(&(table.to_owned(), key.clone(), column.to_owned()))
            };
            let Some(key) = all(&mut connection, &candidates).await.into_iter().find(free) else { continue };
            let becomes = one.becomes.replace("{c}", &format!("t.\"{column}\""));
            let sql = format!(
                "update {table} t set \"{column}\" = {becomes} where id = '{key}' returning id::text"
            );
            scalar(&mut connection, &sql).await.unwrap_or_else(|| panic!("{sql} changed nothing"));
            used.insert((table.to_owned(), key.clone(), column.to_owned()));
            done.push(Mutation {
                what: one.what,
                kind: one.kind,
                table: table.to_owned(),
                key,
                column: Some(column.to_owned()),
            });
        }
    }
    done
}

fn of_row(what: &'static str, kind: &'static str, table: &str, key: String) -> Mutation {
    Mutation { what, kind, table: table.to_owned(), key, column: None }
}

async fn add(connection: &mut PgConnection, table: &str, unique: &[&str]) -> String {
    let mut others = vec!["'id', gen_random_uuid()".to_owned()];
    for column in unique {
        if has(connection, table, column).await {
            others.push(format!("'{column}', 'added-' || gen_random_uuid()"));
        }
    }
    let sql = format!(
        "insert into {table} select n.* from (select * from {table} order by id limit 1) o, \
         jsonb_populate_record(null::{table}, to_jsonb(o) || jsonb_build_object({})) n returning id::text",
        others.join(", ")
    );
    scalar(connection, &sql).await.unwrap_or_else(|| panic!("{sql} added nothing"))
}

async fn has(connection: &mut PgConnection, table: &str, column: &str) -> bool {
    let sql = format!(
        "select 'yes' from information_schema.columns where table_schema = 'public' and table_name = '{table}' and column_name = '{column}'"
    );
    scalar(connection, &sql).await.is_some()
}

async fn scalar(connection: &mut PgConnection, sql: &str) -> Option<String> {
    all(connection, sql).await.into_iter().next()
}

async fn all(connection: &mut PgConnection, sql: &str) -> Vec<String> {
    let rows = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).fetch_all(connection).await;
    rows.unwrap_or_else(|e| panic!("{sql}: {e}")).iter().map(|row| row.get(0)).collect()
}
