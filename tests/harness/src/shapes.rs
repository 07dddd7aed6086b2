//! Other shapes of Kong's databases than many consumers: large plugins, many routes, tokens that expire.
//!
//! As in [`fill`](crate::fill), everything follows from a number and the workspace.

use std::fmt::Write;

use futures::{StreamExt, TryStreamExt, stream};
use kongferry::error::Result;
use scylla::client::session::Session;
use scylla::serialize::row::SerializeRow;
use uuid::Uuid;

use crate::context::Context;
use crate::fill::{CREATED_AT, id};
use crate::keyspace::Keyspace;

/// Rows that are written at once.
const CONCURRENCY: usize = 128;

/// Bytes of one plugin's configuration, about.
const CONFIG: usize = 20_000;

const ROUTES_EACH: u64 = 100;

const TOKENS_EACH: u64 = 100;

/// Seconds that a token lives.
const TOKEN_TTL: i32 = 7 * 86_400;

/// Writes plugins 0 to `plugins` − 1, each global and with 20 KB of configuration; `instance_name` tells them apart.
pub async fn plugins(keyspace: &Keyspace, workspace: Uuid, plugins: u64) -> Result<()> {
    let cql = "INSERT INTO plugins (id, ws_id, created_at, updated_at, name, instance_name, enabled, protocols, \
               config, cache_key, consumer_id) VALUES (?, ?, ?, ?, 'request-transformer', ?, true, ?, ?, ?, ?)";
    // A plugin is unique by what it is bound to.
    let consumers = "INSERT INTO consumers (id, ws_id, created_at, username) VALUES (?, ?, ?, ?)";
    each(keyspace, consumers, 0..plugins, |n| {
        (id("consumer", n), workspace, CREATED_AT, format!("{workspace}:consumer-{n}"))
    })
    .await?;
    each(keyspace, cql, 0..plugins, |n| {
        let consumer = id("consumer", n);
        (
            id("plugin", n),
            workspace,
            CREATED_AT,
            CREATED_AT,
            format!("{workspace}:plugin-{n}"),
            vec!["grpc", "grpcs", "http", "https"],
            config(n, 0),
            format!("plugins:request-transformer:::{consumer}::{workspace}"),
            consumer,
        )
    })
    .await
}

pub async fn change_plugins(
    keyspace: &Keyspace,
    numbers: impl Iterator<Item = u64>,
    round: u32,
) -> Result<()> {
    let cql = "UPDATE plugins SET config = ? WHERE id = ?";
    each(keyspace, cql, numbers, |n| (config(n, round), id("plugin", n))).await
}

/// What request-transformer may be configured with, at length.
fn config(n: u64, round: u32) -> String {
    let mut text = format!("{{\"http_method\":null,\"round\":{round},\"add\":{{\"headers\":[");
    let mut at = 0;
    while text.len() < CONFIG {
        let comma = if at > 0 { "," } else { "" };
        // Writing to a String cannot fail.
        let _ = write!(text, "{comma}\"x-header-{at}:\\\"value\\\" {} of plugin {n}\\/é\"", n * 31 + at);
        at += 1;
    }
    text.push_str("],\"querystring\":[],\"body\":[]},\"timeout\":1.5e3}");
    text
}

/// Writes routes 0 to `routes` − 1, a hundred to a service. All routes of a Kong are one partition.
pub async fn routes(keyspace: &Keyspace, workspace: Uuid, routes: u64) -> Result<()> {
    let services = "INSERT INTO services (partition, id, ws_id, created_at, updated_at, name, protocol, host, port, \
                    retries, connect_timeout, read_timeout, write_timeout, enabled) \
                    VALUES ('services', ?, ?, ?, ?, ?, 'http', ?, 80, 5, 60000, 60000, 60000, true)";
    each(keyspace, services, 0..routes.div_ceil(ROUTES_EACH), |n| {
        let name = format!("{workspace}:service-{n}");
        (id("service", n), workspace, CREATED_AT, CREATED_AT, name, format!("upstream-{n}.example.com"))
    })
    .await?;
    let cql = "INSERT INTO routes (partition, id, ws_id, created_at, updated_at, name, service_id, protocols, methods, \
               hosts, paths, tags, regex_priority, strip_path, preserve_host, path_handling, \
               https_redirect_status_code, request_buffering, response_buffering) \
               VALUES ('routes', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, true, false, 'v0', 426, true, true)";
    each(keyspace, cql, 0..routes, |n| {
        (
            id("route", n),
            workspace,
            CREATED_AT,
            CREATED_AT,
            format!("{workspace}:route-{n}"),
            id("service", n / ROUTES_EACH),
            vec!["http", "https"],
            vec!["GET", "POST"],
            vec![format!("host-{n}.example.com")],
            vec![format!("/path/{n}"), format!("~/v\\d+/{n}$")],
            vec!["bulk".to_owned(), format!("shard-{}", n % 16)],
        )
    })
    .await
}

pub async fn change_routes(
    keyspace: &Keyspace,
    numbers: impl Iterator<Item = u64>,
    round: u32,
) -> Result<()> {
    let cql = "UPDATE routes SET paths = ? WHERE partition = 'routes' AND id = ?";
    each(keyspace, cql, numbers, |n| (vec![format!("/changed/{round}/{n}")], id("route", n))).await
}

/// Writes oauth2 tokens 0 to `tokens` − 1, a hundred to a consumer's application. They live a week.
pub async fn tokens(keyspace: &Keyspace, workspace: Uuid, tokens: u64) -> Result<()> {
    let applications = tokens.div_ceil(TOKENS_EACH);
    let consumers = "INSERT INTO consumers (id, ws_id, created_at, username) VALUES (?, ?, ?, ?)";
    each(keyspace, consumers, 0..applications, |n| {
        (id("consumer", n), workspace, CREATED_AT, format!("{workspace}:consumer-{n}"))
    })
    .await?;
    let credentials = "INSERT INTO oauth2_credentials (id, ws_id, created_at, consumer_id, name, client_id, \
                       client_secret, client_type, hash_secret, redirect_uris) \
                       VALUES (?, ?, ?, ?, ?, ?, ?, 'confidential', false, ?)";
    each(keyspace, credentials, 0..applications, |n| {
        (
            id("oauth2", n),
            workspace,
            CREATED_AT,
            id("consumer", n),
            format!("application {n}"),
            format!("{workspace}:client-{n}"),
            format!("secret-{n}"),
            vec!["https://app.example.com/callback"],
        )
    })
    .await?;
    let cql = format!(
        "INSERT INTO oauth2_tokens (id, ws_id, created_at, credential_id, access_token, refresh_token, token_type, \
         expires_in, scope, authenticated_userid) VALUES (?, ?, ?, ?, ?, ?, 'bearer', 7200, 'email', ?) \
         USING TTL {TOKEN_TTL}"
    );
    each(keyspace, &cql, 0..tokens, |n| {
        (
            id("token", n),
            workspace,
            CREATED_AT,
            id("oauth2", n / TOKENS_EACH),
            format!("{workspace}:access-{}", id("access", n).simple()),
            format!("{workspace}:refresh-{}", id("refresh", n).simple()),
            format!("user-{n}"),
        )
    })
    .await
}

/// Gives these tokens another scope, and their whole rows a new life.
pub async fn change_tokens(
    keyspace: &Keyspace,
    numbers: impl Iterator<Item = u64>,
    round: u32,
) -> Result<()> {
    let cql = format!("UPDATE oauth2_tokens USING TTL {TOKEN_TTL} SET scope = ? WHERE id = ?");
    each(keyspace, &cql, numbers, |n| (format!("round-{round}"), id("token", n))).await
}

/// Writes RBAC users 0 to `users` − 1 of Enterprise. Their tokens have the shape of bcrypt hashes and are the hash of
/// no known password: a hundred thousand real hashes would take an hour to compute.
pub async fn rbac_users(keyspace: &Keyspace, workspace: Uuid, users: u64) -> Result<()> {
    let cql = "INSERT INTO rbac_users (id, ws_id, created_at, name, user_token, user_token_ident, enabled, comment) \
               VALUES (?, ?, ?, ?, ?, ?, true, 'one of very many')";
    each(keyspace, cql, 0..users, |n| {
        let hash = bcrypt_shaped(n);
        (
            id("rbac-user", n),
            workspace,
            CREATED_AT,
            format!("{workspace}:bot-{n}"),
            hash.clone(),
            hash.chars().skip(7).take(5).collect::<String>(),
        )
    })
    .await
}

/// The tables that [`enterprise`] fills, parents first.
pub const ENTERPRISE_TABLES: &[&str] = &[
    "consumers",
    "keyauth_credentials",
    "rbac_users",
    "rbac_roles",
    "rbac_user_roles",
    "rbac_role_endpoints",
    "rbac_role_entities",
];

/// Writes seven rows of Enterprise for each of the numbers 0 to `users` − 1: a consumer with a key, and an RBAC user with a
/// default role of its name, one endpoint and one entity.
pub async fn enterprise(keyspace: &Keyspace, workspace: Uuid, users: u64) -> Result<()> {
    let consumers = "INSERT INTO consumers (id, ws_id, created_at, username, username_lower, type) VALUES (?, ?, ?, ?, ?, 0)";
    each(keyspace, consumers, 0..users, |n| {
        let (name, lower) = (format!("{workspace}:Consumer-{n}"), format!("{workspace}:consumer-{n}"));
        (id("consumer", n), workspace, CREATED_AT, name, lower)
    })
    .await?;
    let keys =
        "INSERT INTO keyauth_credentials (id, ws_id, created_at, consumer_id, key) VALUES (?, ?, ?, ?, ?)";
    each(keyspace, keys, 0..users, |n| {
        (id("key-auth", n), workspace, CREATED_AT, id("consumer", n), format!("{workspace}:key-{n}"))
    })
    .await?;
    rbac_users(keyspace, workspace, users).await?;
    let roles = "INSERT INTO rbac_roles (id, ws_id, created_at, name, is_default) VALUES (?, ?, ?, ?, true)";
    each(keyspace, roles, 0..users, |n| {
        (id("rbac-role", n), workspace, CREATED_AT, format!("{workspace}:bot-{n}"))
    })
    .await?;
    let of_user = "INSERT INTO rbac_user_roles (user_id, role_id) VALUES (?, ?)";
    each(keyspace, of_user, 0..users, |n| (id("rbac-user", n), id("rbac-role", n))).await?;
    let endpoints = "INSERT INTO rbac_role_endpoints (role_id, workspace, endpoint, actions, negative, created_at) \
                     VALUES (?, '*', ?, 15, false, ?)";
    each(keyspace, endpoints, 0..users, |n| (id("rbac-role", n), format!("/services/{n}"), CREATED_AT))
        .await?;
    let entities = "INSERT INTO rbac_role_entities (role_id, entity_id, entity_type, actions, negative, created_at) \
                    VALUES (?, ?, 'consumers', 1, false, ?)";
    each(keyspace, entities, 0..users, |n| (id("rbac-role", n), id("consumer", n).to_string(), CREATED_AT))
        .await
}

/// Gives these consumers another custom_id and the RBAC users of the same numbers another comment.
pub async fn change_enterprise(
    keyspace: &Keyspace,
    workspace: Uuid,
    numbers: impl Iterator<Item = u64> + Clone,
    round: u32,
) -> Result<()> {
    let consumers = "UPDATE consumers SET custom_id = ? WHERE id = ?";
    each(keyspace, consumers, numbers.clone(), |n| {
        (format!("{workspace}:custom-{round}-{n}"), id("consumer", n))
    })
    .await?;
    let users = "UPDATE rbac_users SET comment = ? WHERE id = ?";
    each(keyspace, users, numbers, |n| (format!("round {round}"), id("rbac-user", n))).await
}

/// What [`rbac_users`] writes as the token of user number `n`.
pub fn bcrypt_shaped(n: u64) -> String {
    let text = format!("{}{}", id("salt", n).simple(), id("hash", n).simple());
    format!("$2b$09${}", text.get(..53).unwrap_or_default())
}

/// Runs one statement for each of these numbers.
pub(crate) async fn each<V: SerializeRow>(
    keyspace: &Keyspace,
    cql: &str,
    numbers: impl Iterator<Item = u64>,
    values: impl Fn(u64) -> V,
) -> Result<()> {
    let session: &Session = keyspace.session();
    let statement = session.prepare(cql).await.context(|| format!("cannot prepare {cql}"))?;
    let statement = &statement;
    let writes = numbers.map(|n| {
        let values = values(n);
        async move { session.execute_unpaged(statement, values).await.map(|_| ()) }
    });
    let all = stream::iter(writes).buffer_unordered(CONCURRENCY).try_collect::<()>().await;
    all.context(|| format!("Cassandra refuses: {cql}"))
}
