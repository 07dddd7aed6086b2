//! Many rows, for the tests with a million of them.

use std::fmt::Write;

use futures::{StreamExt, TryStreamExt, stream};
use kongferry::error::Result;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use scylla::client::session::Session;
use scylla::statement::prepared::PreparedStatement;
use scylla::value::CqlTimestamp;
use uuid::Uuid;

use crate::context::Context;
use crate::keyspace::Keyspace;
use crate::shapes::each;

/// Consumers that are being written at once, each with its four rows one after the other.
const CONCURRENCY: usize = 256;

/// When all of them were created: 2023-11-14 22:13:20.
pub(crate) const CREATED_AT: CqlTimestamp = CqlTimestamp(1_700_000_000_000);

/// The content of consumer number `n`. All of it follows from `n` and the workspace, so that a test can tell what it
/// must find.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consumer {
    /// `consumers.id`.
    pub id: Uuid,
    /// Without the workspace's prefix; `key`, `group` and basic-auth's `username` are made from it.
    pub username: String,
    /// What the consumer types in; `basicauth_credentials.password` is [`basic_auth_hash`] of it.
    pub password: String,
    /// `keyauth_credentials.key` without prefix.
    pub key: String,
    /// `acls.group`.
    pub group: String,
    /// `tags` of the consumer and of its three credentials.
    pub tags: Vec<String>,
}

impl Consumer {
    /// Number `n`.
    pub fn number(n: u64) -> Self {
        Consumer {
            id: id("consumer", n),
            username: format!("consumer-{n}"),
            password: format!("password-{n}"),
            key: format!("key-{n}"),
            group: format!("group-{}", n % 100),
            tags: vec!["bulk".to_owned(), format!("shard-{}", n % 16)],
        }
    }
}

/// The hash that Kong's basic-auth plugin stores: SHA-1 of the password followed by the consumer's id, in hex.
pub fn basic_auth_hash(password: &str, consumer: impl std::fmt::Display) -> String {
    let digest = digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{password}{consumer}").as_bytes());
    digest.as_ref().iter().fold(String::with_capacity(40), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// Writes consumers 0 to `consumers` − 1 into the workspace, each with one basic-auth credential, one key-auth
/// credential and one acl: four rows per consumer, each with two tags. The workspace's own row is not written.
pub async fn fill(keyspace: &Keyspace, workspace: Uuid, consumers: u64) -> Result<()> {
    let session = keyspace.session();
    let statements =
        Statements::prepare(session).await.context(|| "cannot prepare the inserts".to_owned())?;
    let writes = (0..consumers).map(|n| statements.write(session, workspace, n));
    let all = stream::iter(writes).buffer_unordered(CONCURRENCY).try_collect::<()>().await;
    all.context(|| format!("cannot write {consumers} consumers"))
}

/// Gives these consumers, and the three credentials of each, values that they did not have before this round: one
/// column of each of the four rows.
pub async fn change(
    keyspace: &Keyspace,
    workspace: Uuid,
    numbers: impl Iterator<Item = u64> + Clone,
    round: u32,
) -> Result<()> {
    let custom_id = "UPDATE consumers SET custom_id = ? WHERE id = ?";
    each(keyspace, custom_id, numbers.clone(), |n| {
        (format!("{workspace}:custom-{round}-{n}"), id("consumer", n))
    })
    .await?;
    let password = "UPDATE basicauth_credentials SET password = ? WHERE id = ?";
    each(keyspace, password, numbers.clone(), |n| {
        (basic_auth_hash(&format!("password-{round}-{n}"), id("consumer", n)), id("basic-auth", n))
    })
    .await?;
    for (table, kind) in [("keyauth_credentials", "key-auth"), ("acls", "acl")] {
        let tags = format!("UPDATE {table} SET tags = ? WHERE id = ?");
        each(keyspace, &tags, numbers.clone(), |n| (vec![format!("round-{round}")], id(kind, n))).await?;
    }
    Ok(())
}

/// A day's changes to every fiftieth of these consumers: change it and its credentials, give it one more
/// key, and delete the one of the day before.
pub async fn day(keyspace: &Keyspace, workspace: Uuid, consumers: u64, day: u32) -> Result<()> {
    let of = |day: u32| (0..consumers).filter(move |n| n % 50 == u64::from(day % 50));
    let key = |day: u32, n: u64| id(&format!("key of day {day}"), n);
    change(keyspace, workspace, of(day), day).await?;
    let insert =
        "INSERT INTO keyauth_credentials (id, ws_id, created_at, consumer_id, key) VALUES (?, ?, ?, ?, ?)";
    each(keyspace, insert, of(day), |n| {
        (key(day, n), workspace, CREATED_AT, id("consumer", n), format!("{workspace}:key-{day}-{n}"))
    })
    .await?;
    let Some(before) = day.checked_sub(1) else { return Ok(()) };
    let delete = "DELETE FROM keyauth_credentials WHERE id = ?";
    each(keyspace, delete, of(before), |n| (key(before, n),)).await
}

struct Statements {
    consumer: PreparedStatement,
    basic_auth: PreparedStatement,
    key_auth: PreparedStatement,
    acl: PreparedStatement,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

impl Statements {
    async fn prepare(session: &Session) -> std::result::Result<Self, Failure> {
        Ok(Statements {
            consumer: session
                .prepare("INSERT INTO consumers (id, ws_id, created_at, username, tags) VALUES (?, ?, ?, ?, ?)")
                .await?,
            basic_auth: session
                .prepare(
                    "INSERT INTO basicauth_credentials (id, ws_id, created_at, consumer_id, username, password, tags) \
                     VALUES (?, ?, ?, ?, ?, ?, ?)",
                )
                .await?,
            key_auth: session
                .prepare(
                    "INSERT INTO keyauth_credentials (id, ws_id, created_at, consumer_id, key, tags) \
                     VALUES (?, ?, ?, ?, ?, ?)",
                )
                .await?,
            acl: session
                .prepare(
                    "INSERT INTO acls (id, ws_id, created_at, consumer_id, \"group\", cache_key, tags) \
                     VALUES (?, ?, ?, ?, ?, ?, ?)",
                )
                .await?,
        })
    }

    async fn write(&self, session: &Session, ws: Uuid, n: u64) -> std::result::Result<(), Failure> {
        let Consumer { id: consumer, username, password, key, group, tags } = Consumer::number(n);
        let hash = basic_auth_hash(&password, consumer);
        let cache_key = format!("acls:{consumer}:{group}::::{ws}");
        // Unique values carry the workspace on Cassandra.
        let (username, key) = (format!("{ws}:{username}"), format!("{ws}:{key}"));
        session.execute_unpaged(&self.consumer, (consumer, ws, CREATED_AT, &username, &tags)).await?;
        let basic_auth = (id("basic-auth", n), ws, CREATED_AT, consumer, &username, hash, &tags);
        session.execute_unpaged(&self.basic_auth, basic_auth).await?;
        let key_auth = (id("key-auth", n), ws, CREATED_AT, consumer, key, &tags);
        session.execute_unpaged(&self.key_auth, key_auth).await?;
        let acl = (id("acl", n), ws, CREATED_AT, consumer, group, cache_key, &tags);
        session.execute_unpaged(&self.acl, acl).await?;
        Ok(())
    }
}

/// The same id for the same kind and number, spread over the whole token ring.
pub fn id(kind: &str, n: u64) -> Uuid {
    let digest = digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{kind} {n}").as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest.as_ref()[..16]);
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{BlueRow, Fixture};

    #[test]
    fn the_hash_is_that_of_the_fixture() {
        // tests/fixtures/enterprise-2.8: secrets.json has the password, basicauth_credentials the hash.
        let fixture = Fixture::shipped("enterprise-2.8").unwrap();
        let credentials = &fixture.blue["basicauth_credentials"];
        let of_admin =
            |row: &&BlueRow| row.row["username"].as_str().is_some_and(|name| name.ends_with(":kong_admin"));
        let stored = &credentials.iter().find(of_admin).unwrap().row;
        let consumer = stored["consumer_id"].as_str().unwrap();
        assert_eq!(stored["password"], basic_auth_hash("Kong's-Adm1n!", consumer));
    }

    #[test]
    fn numbered_rows_have_distinct_ids() {
        assert_eq!(Consumer::number(7), Consumer::number(7));
        assert_ne!(id("acl", 1), id("acl", 2));
        assert_ne!(id("acl", 1), id("key-auth", 1));
    }
}
