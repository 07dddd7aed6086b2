//! `credentials` on greens that `migrate` filled: each known secret is accepted and no other is, and the report
//! says what was migrated.

use std::io::Write;

use kongferry_harness::fixture::Fixture;
use kongferry_harness::keyspace::Keyspace;
use kongferry_harness::postgres::Database;
use serde_json::{Value, json};

use super::databases::lasting_blue;
use super::support::{Ran, kongferry, migrate};

/// The second workspace of the open-source fixtures.
const SECOND: &str = "team-é-2";

/// The call that scripts rely on.
pub async fn check(green: &Database, checks: &Value, more: &[&str]) -> Ran {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    write!(file, "{checks}").expect("written");
    let path = file.path().display().to_string();
    let arguments = ["credentials", "check", "--green", green.url(), "--file", &path, "--format", "json"];
    kongferry(&[&arguments, more].concat()).await
}

/// Checks all of them and compares what each is found to be.
async fn expect(green: &Database, checks: Vec<(Value, Option<bool>, &str)>) {
    let asked: Vec<&Value> = checks.iter().map(|(check, ..)| check).collect();
    let ran = check(green, &json!(asked), &[]).await;
    let answers = ran.json();
    let answers = answers.as_array().expect("a list");
    assert_eq!(answers.len(), checks.len());
    for (answer, (check, accepted, reason)) in answers.iter().zip(&checks) {
        assert_eq!(answer["accepted"], json!(accepted), "{check} {answer}");
        assert_eq!(answer["reason"], *reason, "{check} {answer}");
        for name in ["kind", "workspace", "user"] {
            assert_eq!(answer.get(name), check.get(name), "the answer repeats the check");
        }
        assert_eq!(answer.get("secret"), None, "but not its secret");
    }
    let all = checks.iter().all(|(_, accepted, _)| *accepted == Some(true));
    assert_eq!(ran.code, if all { 0 } else { 3 }, "{ran:#?}");
}

pub fn one(kind: &str, workspace: &str, user: Option<&str>, secret: &str) -> Value {
    let mut check = json!({ "kind": kind, "workspace": workspace, "secret": secret });
    if let Some(user) = user {
        check["user"] = user.into();
    }
    check
}

/// What every right secret must be, and what becomes of it with a slip of each kind.
fn right_and_wrong(
    kind: &'static str,
    workspace: &str,
    user: Option<&str>,
    secret: &str,
    reason: &'static str,
) -> Vec<(Value, Option<bool>, &'static str)> {
    let other = if workspace == SECOND { "default" } else { SECOND };
    let wrong = format!("{secret}x");
    vec![
        (one(kind, workspace, user, secret), Some(true), "accepted"),
        (one(kind, workspace, user, &wrong), Some(false), reason),
        (one(kind, other, user, secret), Some(false), "other_workspace"),
        (one(kind, "nowhere", user, secret), Some(false), "unknown_workspace"),
    ]
}

fn text<'r>(row: &'r Value, name: &str) -> &'r str {
    row[name].as_str().unwrap_or_else(|| panic!("no {name} in {row}"))
}

/// The rows of a table that live long, as Kong would show them: without the workspace in front.
fn rows(fixture: &Fixture, table: &str, columns: &[&str]) -> Vec<(String, Value)> {
    let lasting = |row: &&kongferry_harness::fixture::BlueRow| {
        row.ttl.iter().flat_map(|ttl| ttl.values()).all(|s| *s > 3600)
    };
    let shown = |row: &kongferry_harness::fixture::BlueRow| {
        let mut row = json!(row.row);
        let own = format!("{}:", text(&row, "ws_id"));
        for column in columns {
            if let Some(rest) = row[*column].as_str().and_then(|value| value.strip_prefix(&own)) {
                row[*column] = rest.to_owned().into();
            }
        }
        let workspace = if text(&row, "ws_id").starts_with("11111111") { SECOND } else { "default" };
        (workspace.to_owned(), row)
    };
    fixture.blue[table].iter().filter(lasting).map(shown).collect()
}

/// Every secret of an open-source fixture, right and wrong, and rows of our own where the fixture does not know them.
async fn every_secret(line: &str) {
    let fixture = Fixture::shipped(line).expect("a fixture");
    let blue = lasting_blue(line).await;
    let consumers = rows(&fixture, "consumers", &["username", "custom_id"]);
    let alice =
        consumers.iter().find(|(ws, row)| ws == "default" && row["username"] == "alice").expect("alice");
    let (ws, id) = (text(&alice.1, "ws_id").to_owned(), text(&alice.1, "id").to_owned());
    for (number, (user, password)) in
        [("own-1", "pässwörd : €"), ("own-2", ""), ("a:b", "p\"q\\r\n")].iter().enumerate()
    {
        let row = json!({
            "id": format!("00000000-0000-4000-8000-0000000001{number:02}"), "ws_id": ws, "consumer_id": id,
            "username": format!("{ws}:{user}"), "password": kongferry_harness::fill::basic_auth_hash(password, &id),
        });
        blue.write_row("basicauth_credentials", &row).await.expect("a row");
    }
    for (client, secret) in [
        (
            "pbkdf2",
            "$pbkdf2-sha512$i=10000,l=32$AAECAwQFBgcICQoLDA0ODw$s1qOkFay1DbcR0sablkjBgtOqf1IcoQVkkK1uzR9LdU",
        ),
        (
            "rounds",
            "$pbkdf2-sha512$i=20000,l=32$AAECAwQFBgcICQoLDA0ODw$s1qOkFay1DbcR0sablkjBgtOqf1IcoQVkkK1uzR9LdU",
        ),
        ("bcrypt", "$2b$09$fOCn0etrhinaY0r.F3x70u4FZdj4r.ltoYgNJhZvyIAC56Cv1EvIy"),
    ] {
        let row = json!({
            "id": uuid::Uuid::new_v4().to_string(), "ws_id": ws, "consumer_id": id, "name": client,
            "client_id": format!("{ws}:{client}"), "client_secret": secret, "hash_secret": true,
        });
        blue.write_row("oauth2_credentials", &row).await.expect("a row");
    }
    let key = rcgen::KeyPair::generate().expect("a key");
    let row = json!({
        "id": uuid::Uuid::new_v4().to_string(), "ws_id": ws, "consumer_id": id, "key": format!("{ws}:own-es"),
        "algorithm": "ES256", "rsa_public_key": key.public_key_pem(), "secret": "unused",
    });
    blue.write_row("jwt_secrets", &row).await.expect("a row");
    let now = chrono::Utc::now();
    let ago = |seconds: i64| {
        (now - chrono::Duration::seconds(seconds)).format("%Y-%m-%d %H:%M:%S%.3fZ").to_string()
    };
    let client = rows(&fixture, "oauth2_credentials", &["client_id"])
        .into_iter()
        .find(|(_, row)| row["client_id"] == "client-1")
        .expect("a client");
    for (token, age, life) in [("own-live", 10, 3600), ("own-over", 3700, 3600), ("own-ever", 900_000, 0)] {
        let row = json!({
            "id": uuid::Uuid::new_v4().to_string(), "ws_id": ws, "credential_id": client.1["id"], "token_type": "bearer",
            "access_token": format!("{ws}:{token}"), "refresh_token": format!("{ws}:{token}-again"),
            "created_at": ago(age), "expires_in": life,
        });
        blue.write_row("oauth2_tokens", &row).await.expect("a row");
    }

    let green = kongferry_harness::lab().fresh_green(line).await.expect("green");
    migrate(&blue, &green).await.expect_code(3);

    let mut checks = Vec::new();
    for (user, password) in [("own-1", "pässwörd : €"), ("own-2", ""), ("a:b", "p\"q\\r\n")] {
        checks.extend(right_and_wrong("basic-auth", "default", Some(user), password, "wrong_secret"));
    }
    checks.extend(right_and_wrong("basic-auth", SECOND, Some("alice"), "pw2", "wrong_secret"));
    let stored = kongferry_harness::fill::basic_auth_hash("pässwörd : €", &id);
    checks.push((one("basic-auth", "default", Some("own-1"), &stored), Some(false), "wrong_secret"));
    checks.push((one("basic-auth", "default", Some("unknown"), "x"), Some(false), "unknown_user"));
    checks.push((one("basic-auth", &ws, Some("own-2"), ""), Some(true), "accepted"));
    for (workspace, row) in rows(&fixture, "keyauth_credentials", &["key"]) {
        checks.extend(right_and_wrong("key-auth", &workspace, None, text(&row, "key"), "unknown_secret"));
    }
    checks.push((one("key-auth", "default", Some("alice"), "alice-key"), Some(true), "accepted"));
    checks.push((one("key-auth", "default", Some("Zoë"), "alice-key"), Some(false), "other_user"));
    for (workspace, row) in rows(&fixture, "hmacauth_credentials", &["username"]) {
        checks.extend(right_and_wrong(
            "hmac-auth",
            &workspace,
            Some(text(&row, "username")),
            text(&row, "secret"),
            "wrong_secret",
        ));
    }
    // One name in two workspaces: the wrong secret here is the right one there, and the other way round.
    checks.retain(|(check, ..)| {
        !(check["kind"] == "hmac-auth"
            && check["user"] == "alice-hmac"
            && check["secret"].as_str().is_some_and(|s| s.ends_with("xx")))
    });
    for (workspace, row) in
        rows(&fixture, "jwt_secrets", &["key"]).into_iter().filter(|(_, row)| row["algorithm"] == "HS256")
    {
        checks.extend(right_and_wrong(
            "jwt",
            &workspace,
            Some(text(&row, "key")),
            text(&row, "secret"),
            "wrong_secret",
        ));
        // The fixture's jwt plugin verifies both claims, and allows an hour.
        let claims = json!({ "iss": row["key"], "exp": now.timestamp() + 3500, "nbf": 0 });
        let token = signed(&claims, text(&row, "secret"));
        if workspace == "default" {
            for claims in [
                json!({ "iss": row["key"], "exp": now.timestamp() - 1, "nbf": 0 }),
                json!({ "iss": row["key"], "exp": now.timestamp() + 5000, "nbf": 0 }),
                json!({ "iss": row["key"], "exp": now.timestamp() + 3500 }),
            ] {
                let token = signed(&claims, text(&row, "secret"));
                checks.push((one("jwt", "default", None, &token), Some(false), "expired"));
            }
        }
        checks.extend([
            (one("jwt", &workspace, None, &token), Some(true), "accepted"),
            (one("jwt", &workspace, None, &signed(&claims, "another")), Some(false), "wrong_secret"),
        ]);
    }
    for (workspace, row) in
        rows(&fixture, "jwt_secrets", &["key"]).into_iter().filter(|(_, row)| row["algorithm"] != "HS256")
    {
        let public = text(&row, "rsa_public_key");
        checks.push((one("jwt", &workspace, Some(text(&row, "key")), public), Some(true), "accepted"));
        checks.push((
            one("jwt", &workspace, Some(text(&row, "key")), &key.serialize_pem()),
            Some(false),
            "wrong_secret",
        ));
    }
    checks.push((one("jwt", "default", Some("own-es"), &key.serialize_pem()), Some(true), "accepted"));
    checks.push((one("jwt", "default", Some("own-es"), "no key"), None, "undecidable"));
    for (workspace, row) in rows(&fixture, "oauth2_credentials", &["client_id"]) {
        let known = if row["hash_secret"] == true { "secret-2" } else { text(&row, "client_secret") };
        checks.extend(right_and_wrong(
            "oauth2-client",
            &workspace,
            Some(text(&row, "client_id")),
            known,
            "wrong_secret",
        ));
    }
    checks.push((one("oauth2-client", "default", Some("pbkdf2"), "secret"), Some(true), "accepted"));
    checks.push((one("oauth2-client", "default", Some("pbkdf2"), "Secret"), Some(false), "wrong_secret"));
    checks.push((
        one("oauth2-client", "default", Some("rounds"), "secret"),
        Some(false),
        "hash_not_accepted",
    ));
    checks.push((
        one("oauth2-client", "default", Some("bcrypt"), "super-admin-token"),
        Some(false),
        "hash_not_accepted",
    ));
    for (token, accepted, reason) in [
        ("own-live", true, "accepted"),
        ("own-over", false, "expired"),
        ("own-over-again", true, "accepted"),
        ("own-ever", true, "accepted"),
        ("at-2", true, "accepted"),
        ("at-9", false, "unknown_secret"),
    ] {
        checks.push((one("oauth2-token", "default", None, token), Some(accepted), reason));
    }
    checks.push((one("oauth2-token", SECOND, None, "own-live"), Some(false), "other_workspace"));
    for (workspace, row) in rows(&fixture, "acls", &[]) {
        let owner =
            consumers.iter().find(|(_, consumer)| consumer["id"] == row["consumer_id"]).expect("a consumer");
        let user = owner.1["username"].as_str().unwrap_or_else(|| text(&owner.1, "custom_id"));
        checks.push((one("acl", &workspace, Some(user), text(&row, "group")), Some(true), "accepted"));
        checks.push((one("acl", &workspace, Some(user), "no such group"), Some(false), "wrong_secret"));
    }
    checks.push((one("acl", "default", Some("unknown"), "admins"), Some(false), "unknown_user"));
    checks.push((one("rbac-token", "default", Some("kong_admin"), "x"), Some(false), "no_table"));
    checks.push((one("admin-password", "default", Some("kong_admin"), "x"), Some(false), "no_table"));
    expect(&green, checks).await;
    let refresh = json!([one("oauth2-token", "default", None, "own-live-again")]);
    let answer = check(&green, &refresh, &[]).await.expect_code(0).json();
    let message = answer[0]["message"].as_str().expect("a message");
    assert!(message.starts_with("The secret is a refresh token"), "{message}");
    expired_and_orphaned(&blue, &green).await;
}

/// What only happens after the migration: a key's time runs out; and blue has a credential whose consumer was deleted.
async fn expired_and_orphaned(blue: &Keyspace, green: &Database) {
    // Later versions delete such a row when the next one comes; here it is present.
    green
        .execute("update keyauth_credentials set ttl = now() - interval '1 second' where key = 'alice-key'")
        .await
        .expect("an expiry");
    let keys =
        json!([one("key-auth", "default", None, "alice-key"), one("key-auth", "default", None, "none")]);
    let from = blue.url();
    let ran = check(green, &keys, &["--blue", &from]).await.expect_code(3);
    let answers = ran.json();
    assert_eq!((&answers[0]["accepted"], &answers[0]["reason"]), (&json!(false), &json!("expired")));
    assert_eq!(answers[0]["blue"]["accepted"], true, "blue accepts it: {answers:#}");
    assert_eq!(answers[1]["blue"]["accepted"], false);

    let shown = kongferry(&["credentials", "report", "--green", green.url(), "--blue", &from]).await;
    assert!(shown.stdout.contains("basic-auth"), "{shown:#?}");
    let report =
        kongferry(&["credentials", "report", "--green", green.url(), "--blue", &from, "--format", "json"])
            .await
            .json();
    let kinds = report["kinds"].as_array().expect("kinds");
    let of = |kind: &str, workspace: &str| {
        kinds
            .iter()
            .find(|one| one["kind"] == kind && one["workspace"] == workspace)
            .cloned()
            .unwrap_or_else(|| panic!("{report:#}"))
    };
    let basic = of("basic-auth", "default");
    assert_eq!(
        (&basic["carried"], &basic["on_blue"], &basic["hashed"]),
        (&json!(6), &json!(6), &json!(6)),
        "{basic}"
    );
    assert_eq!(of("key-auth", "default")["expired"], 1);
    assert_eq!(of("oauth2-client", "default")["dead"], 2, "hashes that no Kong accepts are told");
    assert_eq!(of("basic-auth", SECOND)["carried"], 1);
    assert!(report["to_do"].to_string().contains("oauth2-client"), "{report:#}");
}

/// A token of the jwt plugin, signed with HS256.
pub fn signed(claims: &Value, secret: &str) -> String {
    let part = |value: &Value| data_encoding::BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let body = format!("{}.{}", part(&json!({ "alg": "HS256", "typ": "JWT" })), part(claims));
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
    let signature = ring::hmac::sign(&key, body.as_bytes());
    format!("{body}.{}", data_encoding::BASE64URL_NOPAD.encode(signature.as_ref()))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kong_2_8_secret_is_accepted_for_its_own_credential_only() {
    every_secret("2.8").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kong_3_3_secret_is_accepted_for_its_own_credential_only() {
    every_secret("3.3").await;
}
