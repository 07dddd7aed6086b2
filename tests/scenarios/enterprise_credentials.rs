//! `credentials` on Enterprise's real tables: every secret of the fixture, and one for each rule by which Kong finds and
//! compares, asked right and wrong on both sides of a migration.

use std::io::Write;
use std::process::Stdio;

use kongferry_harness::keyspace::Keyspace;
use kongferry_harness::lab;
use kongferry_harness::postgres::Database;
use serde_json::{Value, json};

use super::credentials::{check, one, signed};
use super::enterprise;
use super::row_builder::id;
use super::support::{kongferry, migrate, program, ran};

pub const DEFAULT: &str = "173bad7e-414c-5bf1-9582-bde3c54692fe";
const TEAM_A: &str = "59a1a1e7-54e9-5b97-8082-17efa005ab81";
const TEAM_B: &str = "68554c69-a3cb-508c-a235-f13be0cd11a6";

/// A proxy consumer of team-a, one of default, and the role super-admin.
const ALICE: &str = "2a63b20f-8071-5e7b-82d9-cb888a0f1f4b";
const ALICE_OF_DEFAULT: &str = "8cdd8553-7639-51ab-837b-500b21904cda";
const SUPER_ADMIN: &str = "be8f72c3-b791-5b88-be6a-82f54f9d926c";

const PBKDF2_OF_SECRET: &str =
    "$pbkdf2-sha512$i=10000,l=32$AAECAwQFBgcICQoLDA0ODw$s1qOkFay1DbcR0sablkjBgtOqf1IcoQVkkK1uzR9LdU";

fn hex(algorithm: &'static ring::digest::Algorithm, text: &str) -> String {
    data_encoding::HEXLOWER.encode(ring::digest::digest(algorithm, text.as_bytes()).as_ref())
}

/// The digits by which Kong finds a secret.
pub fn sha1_ident(secret: &str) -> String {
    hex(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, secret)[..5].to_owned()
}

fn sha256_ident(secret: &str) -> String {
    hex(&ring::digest::SHA256, secret)[..5].to_owned()
}

fn bcrypt_of(token: &str) -> String {
    bcrypt::hash(token, 4).expect("a hash")
}

/// A check, and what both sides must say of it.
type Expected = (Value, Option<bool>, &'static str);

/// Asks both sides; each must give the same answer, and repeat the check without its secret.
async fn expect(blue: &Keyspace, green: &Database, checks: Vec<Expected>) {
    let asked: Vec<&Value> = checks.iter().map(|(check, ..)| check).collect();
    let ran = check(green, &json!(asked), &["--blue", &blue.url()]).await.expect_code(3);
    let answers = ran.json();
    for (n, (check, accepted, reason)) in checks.iter().enumerate() {
        let answer = &answers[n];
        for side in [answer, &answer["blue"]] {
            assert_eq!(
                (&side["accepted"], &side["reason"]),
                (&json!(accepted), &json!(reason)),
                "{check} {answer}"
            );
        }
    }
}

/// The secrets of the fixture. A wrong one is another character at the end, unless the file has its own.
#[tokio::test(flavor = "multi_thread")]
async fn each_secret_of_the_fixture_is_accepted_as_kong_accepts_it() {
    let (blue, green) = (enterprise::blue().await, enterprise::green().await);
    migrate(&blue, &green).await.expect_code(3);
    let secrets = enterprise::about("secrets.json");
    let secrets = secrets.as_array().expect("a list");
    let mut checks = Vec::new();
    for entry in secrets {
        let given = |secret: &str| json!({ "kind": entry["kind"], "workspace": entry["workspace"], "user": entry["user"], "secret": secret });
        let secret = entry["secret"].as_str().expect("a secret");
        checks.push((given(secret), entry["want"].clone(), entry["soft"] == true));
        checks.push((given(&format!("{secret}x")), json!(false), false));
        checks.push((given(&secret[1..]), json!(false), false));
        checks.push((given(""), json!(false), false));
    }
    let asked: Vec<&Value> = checks.iter().map(|(check, ..)| check).collect();
    let answers = check(&green, &json!(asked), &["--blue", &blue.url()]).await.expect_code(3).json();
    for (n, (check, want, soft)) in checks.iter().enumerate() {
        for side in [&answers[n], &answers[n]["blue"]] {
            let found = &side["accepted"];
            assert!(found == want || (*soft && found.is_null()), "{check} {}", answers[n]);
        }
    }
    let plain = &answers[4];
    assert!(plain["message"].as_str().is_some_and(|message| message.contains("plain text")), "{plain}");
}

/// One admin with everything that makes one, as Kong writes it, on blue.
struct Admin {
    name: &'static str,
    ws: &'static str,
    status: Option<i32>,
    enabled: bool,
}

impl Admin {
    fn consumer(&self) -> String {
        id(&format!("consumer of {}", self.name))
    }

    fn user(&self) -> String {
        id(&format!("rbac user of {}", self.name))
    }

    fn rows(&self) -> Vec<(&'static str, Value)> {
        let Admin { name, ws, status, enabled } = self;
        let own = |text: &str| format!("{ws}:{text}");
        let (token, password) = (format!("{name} token"), format!("{name} password"));
        let label = format!("{name}-{}", id(name));
        let role = id(&format!("role of {name}"));
        vec![
            (
                "consumers",
                json!({ "id": self.consumer(), "ws_id": ws, "username": own(&format!("{name}_ADMIN_")), "username_lower": own(&format!("{}_admin_", name.to_lowercase())), "type": 2 }),
            ),
            (
                "rbac_users",
                json!({ "id": self.user(), "ws_id": ws, "name": own(&label), "user_token": bcrypt_of(&token), "user_token_ident": sha1_ident(&token), "enabled": enabled }),
            ),
            ("rbac_roles", json!({ "id": role, "ws_id": ws, "name": own(&label), "is_default": true })),
            ("rbac_user_roles", json!({ "user_id": self.user(), "role_id": role })),
            ("rbac_user_roles", json!({ "user_id": self.user(), "role_id": SUPER_ADMIN })),
            (
                "admins",
                json!({ "id": id(&format!("admin {name}")), "username": name, "username_lower": name.to_lowercase(), "email": format!("{name}@example.com"), "status": status, "rbac_token_enabled": enabled, "consumer_id": self.consumer(), "rbac_user_id": self.user() }),
            ),
            (
                "basicauth_credentials",
                json!({ "id": id(&format!("password of {name}")), "ws_id": ws, "consumer_id": self.consumer(), "username": own(name), "password": kongferry_harness::fill::basic_auth_hash(&password, self.consumer()) }),
            ),
        ]
    }
}

const ADMINS: &[Admin] = &[
    Admin { name: "Pending", ws: TEAM_A, status: Some(1), enabled: true },
    Admin { name: "rejected", ws: TEAM_A, status: Some(2), enabled: true },
    Admin { name: "unverified", ws: TEAM_A, status: Some(5), enabled: true },
    Admin { name: "welcome", ws: TEAM_B, status: Some(4), enabled: true },
    Admin { name: "swapped", ws: TEAM_B, status: Some(0), enabled: true },
    Admin { name: "userless", ws: TEAM_B, status: Some(0), enabled: true },
];

/// Rows for the rules that the fixture has no row for.
fn own_rows() -> Vec<(&'static str, Value)> {
    let mut rows: Vec<(&str, Value)> = ADMINS.iter().flat_map(Admin::rows).collect();
    // The password under the username of one admin belongs to another's consumer, and one has lost the RBAC user.
    for (table, row) in &mut rows {
        if *table == "basicauth_credentials" && row["id"] == json!(id("password of swapped")) {
            row["consumer_id"] = json!(ADMINS[3].consumer());
        }
    }
    rows.retain(|(table, row)| *table != "rbac_users" || row["id"] != json!(ADMINS[5].user()));
    let own = |text: &str| format!("{TEAM_A}:{text}");
    for (name, password) in [
        ("fips", hex(&ring::digest::SHA256, &format!("fips password{ALICE}"))),
        ("cipher", "$ke$1$-k0a1b2c3-40646cc6199f7619e7a12d75-5fb2ab76".to_owned()),
    ] {
        rows.push((
            "basicauth_credentials",
            json!({ "id": id(name), "ws_id": TEAM_A, "consumer_id": ALICE, "username": own(name), "password": password }),
        ));
    }
    for (name, token, ident, enabled) in [
        ("other hash", bcrypt_of("y").replacen("$2b$", "$2y$", 1), Some(sha1_ident("y")), true),
        ("lost ident", bcrypt_of("lost ident"), Some("00000".to_owned()), true),
        ("no ident", bcrypt_of("no ident"), None, true),
        ("fips ident", bcrypt_of("fips ident"), Some(sha256_ident("fips ident")), true),
        ("plain off", "plain off".to_owned(), None, false),
        ("plain with ident", "plain with ident".to_owned(), Some(sha1_ident("plain with ident")), true),
        ("pbkdf2", PBKDF2_OF_SECRET.to_owned(), Some(sha1_ident("secret")), true),
    ] {
        rows.push((
            "rbac_users",
            json!({ "id": id(name), "ws_id": TEAM_A, "name": own(name), "user_token": token, "user_token_ident": ident, "enabled": enabled }),
        ));
    }
    for (key, stored, ident) in [
        ("enc sha1", "enc sha1", sha1_ident("enc sha1")),
        ("enc sha256", "enc sha256", sha256_ident("enc sha256")),
        ("enc lost", "enc lost", "00000".to_owned()),
        ("enc cipher", "$ke$1$-k0a1b2c3-40646cc6199f7619e7a12d75-5fb2ab77", sha1_ident("enc cipher")),
    ] {
        rows.push((
            "keyauth_enc_credentials",
            json!({ "id": id(key), "ws_id": TEAM_A, "consumer_id": ALICE, "key": own(stored), "key_ident": ident }),
        ));
    }
    for (ws, consumer) in [(TEAM_A, ALICE), (DEFAULT, ALICE_OF_DEFAULT)] {
        rows.push((
            "jwt_secrets",
            json!({ "id": id(&format!("jwt of {ws}")), "ws_id": ws, "consumer_id": consumer, "key": format!("{ws}:issuer"), "secret": "jwt secret", "algorithm": "HS256" }),
        ));
    }
    rows.push((
        "plugins",
        json!({ "id": id("jwt plugin"), "ws_id": TEAM_A, "name": "jwt", "enabled": true, "protocols": ["http"], "config": "{\"claims_to_verify\": [\"exp\"]}", "cache_key": format!("plugins:jwt:::::{TEAM_A}") }),
    ));
    rows
}

/// Every right secret with what both sides must say of it; `later` is a line from 3.1 on.
fn right(later: bool) -> Vec<Expected> {
    let (yes, no) = (Some(true), Some(false));
    let mut checks = Vec::new();
    for (kind, secret, user, accepted, reason) in [
        ("admin-password", "Pending password", "Pending", no, "not_approved"),
        ("admin-password", "rejected password", "rejected", no, "not_approved"),
        ("admin-password", "unverified password", "unverified", no, "not_approved"),
        ("admin-password", "welcome password", "welcome", yes, "accepted"),
        ("admin-password", "welcome password", "welcome@example.com", yes, "accepted"),
        // Kong finds the admin in any case, and the password only in its own.
        ("admin-password", "welcome password", "WELCOME", no, "no_secret"),
        ("admin-password", "swapped password", "swapped", no, "broken_chain"),
        ("admin-password", "userless password", "userless", no, "broken_chain"),
        ("admin-password", "x", "invited", no, "no_secret"),
        ("admin-password", "x", "nobody", no, "unknown_user"),
        ("admin-token", "Pending token", "Pending", yes, "accepted"),
        ("admin-token", "welcome token", "WELCOME", yes, "accepted"),
        ("admin-token", "userless token", "userless", no, "broken_chain"),
        ("admin-token", "x", "nobody", no, "unknown_user"),
    ] {
        checks.push((json!({ "kind": kind, "user": user, "secret": secret }), accepted, reason));
    }
    let elsewhere = one("admin-token", "team-a", Some("Dora.Two"), "dora-token");
    checks.push((elsewhere, no, "other_workspace"));
    for (kind, user, secret, accepted, reason) in [
        ("basic-auth", Some("fips"), "fips password", None, "fips_mode"),
        ("basic-auth", Some("fips"), "another", no, "wrong_secret"),
        ("basic-auth", Some("cipher"), "anything", None, "encrypted"),
        ("rbac-token", Some("other hash"), "y", no, "wrong_secret"),
        ("rbac-token", Some("lost ident"), "lost ident", no, "wrong_ident"),
        ("rbac-token", Some("no ident"), "no ident", no, "wrong_ident"),
        ("rbac-token", Some("fips ident"), "fips ident", None, "fips_mode"),
        ("rbac-token", Some("fips ident"), "another", no, "wrong_secret"),
        ("rbac-token", Some("plain off"), "plain off", no, "disabled"),
        ("rbac-token", Some("plain with ident"), "plain with ident", yes, "accepted"),
        ("rbac-token", Some("pbkdf2"), "Secret", no, "wrong_secret"),
        (
            "rbac-token",
            Some("pbkdf2"),
            "secret",
            Some(later),
            if later { "accepted" } else { "wrong_secret" },
        ),
        ("key-auth-enc", None, "enc sha1", yes, "accepted"),
        ("key-auth-enc", None, "enc lost", no, "wrong_ident"),
        ("key-auth-enc", None, "enc cipher", None, "encrypted"),
        ("key-auth-enc", None, "enc other", no, "unknown_secret"),
        ("key-auth-enc", None, "enc sha256", Some(later), if later { "accepted" } else { "wrong_ident" }),
    ] {
        checks.push((one(kind, "team-a", user, secret), accepted, reason));
    }
    checks.push((one("key-auth-enc", "team-b", None, "enc sha1"), no, "other_workspace"));
    let token = |claims: Value| signed(&claims, "jwt secret");
    let now = chrono::Utc::now().timestamp();
    for (ws, claims, accepted, reason) in [
        ("team-a", json!({ "iss": "issuer", "exp": now + 3600 }), yes, "accepted"),
        ("team-a", json!({ "iss": "issuer", "exp": now - 1 }), no, "expired"),
        ("team-a", json!({ "iss": "issuer" }), no, "expired"),
        ("default", json!({ "iss": "issuer", "exp": now - 1 }), yes, "accepted"),
        ("default", json!({ "iss": "issuer" }), yes, "accepted"),
    ] {
        checks.push((one("jwt", ws, None, &token(claims)), accepted, reason));
    }
    checks
}

async fn every_rule(line: &str) {
    let blue = lab().filled_keyspace(line).await.expect("a keyspace");
    for (table, row) in own_rows() {
        blue.write_row(table, &row).await.expect("a row");
    }
    let green = lab().fresh_green(line).await.expect("green");
    let ran = migrate(&blue, &green).await.expect_code(3);
    let lost = ran.reject("admins", &id("admin userless")).expect("an admin without RBAC user is rejected");
    assert_eq!(lost["reason"], "dangling_reference", "{lost:#}");
    expect(&blue, &green, right(!line.ends_with("2.8"))).await;
    report_of_admins(&green, &blue).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn enterprise_2_8_secrets_are_found_and_compared_by_its_rules() {
    every_rule("enterprise-2.8").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn enterprise_3_3_secrets_are_found_and_compared_by_its_rules() {
    every_rule("enterprise-3.3").await;
}

async fn report_of_admins(green: &Database, blue: &Keyspace) {
    let (to, from) = (green.url().to_owned(), blue.url());
    let arguments = ["credentials", "report", "--green", &to, "--blue", &from];
    let report = kongferry(&[&arguments[..], &["--format", "json"]].concat()).await.expect_code(3).json();
    let admins = report["admins"].as_array().expect("admins");
    assert_eq!(admins.len(), 11, "{report:#}");
    for (name, whole, status, can_log_in, token) in [
        ("kong_admin", true, "invited", true, true),
        ("Dora.Two", true, "approved", true, true),
        ("eve", true, "approved", true, true),
        ("invited", true, "invited", false, true),
        ("revoked", true, "revoked", false, true),
        ("tokenless", true, "approved", true, false),
        ("Pending", true, "pending", false, true),
        ("rejected", true, "rejected", false, true),
        ("unverified", true, "unverified", false, true),
        ("welcome", true, "invited", true, true),
        ("swapped", true, "approved", false, true),
    ] {
        let found = admins.iter().find(|admin| admin["name"] == name).expect("the admin is listed");
        let expected = json!([whole, status, can_log_in, token]);
        let shown = json!([found["whole"], found["status"], found["can_log_in"], found["token_enabled"]]);
        assert_eq!(shown, expected, "{found:#}");
    }
    assert_eq!(report["admins_rejected"], 1);
    let left = &report["admins_left"][0];
    assert_eq!(left["name"], "userless", "{report:#}");
    assert!(left["gaps"][0].as_str().is_some_and(|gap| gap.starts_with("its RBAC user ")), "{left:#}");

    let to_do = report["to_do"].to_string();
    for part in ["keyring", "1 admin was rejected", "invited, swapped", "fips = on"] {
        assert!(to_do.contains(part), "{part}: {to_do}");
    }
    for well in ["Dora", "revoked", "Pending"] {
        assert!(!to_do.contains(well), "{well}: {to_do}");
    }
    let basic = report["kinds"]
        .as_array()
        .expect("kinds")
        .iter()
        .find(|kind| kind["kind"] == "basic-auth" && kind["workspace"] == "team-a");
    let basic = basic.expect("a kind");
    assert_eq!((&basic["fips_mode"], &basic["encrypted"], &basic["dead"]), (&json!(1), &json!(1), &json!(0)));

    let text = kongferry(&arguments).await.expect_code(3).stdout;
    let counted =
        "5 of 11 admins can log in (1 pending, 1 rejected, 1 revoked, 1 unverified, 2 without a password).";
    for line in [counted, "To do"] {
        assert!(text.contains(line), "{line}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_read_from_stdin_or_a_file_and_never_printed() {
    let (blue, green) = (enterprise::blue().await, enterprise::green().await);
    migrate(&blue, &green).await.expect_code(3);
    let arguments =
        ["credentials", "check", "--green", green.url(), "--kind", "basic-auth", "--user", "kong_admin"];
    for (given, code) in [("Kong's-Adm1n!\n", 0), ("Kong's-Adm1n!", 0), ("Kong's-Adm1n! \n", 3)] {
        let (mut command, folder) = program();
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program");
        child.stdin.take().expect("a pipe").write_all(given.as_bytes()).expect("written");
        let output = tokio::task::spawn_blocking(move || child.wait_with_output())
            .await
            .expect("a thread")
            .expect("its end");
        let ran = ran(output, &folder.path().join("none"));
        assert_eq!(ran.code, code, "{ran:#?}");
        assert!(!format!("{ran:?}").contains("Adm1n!"), "{ran:#?}");
    }
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "Kong's-Adm1n!\n").expect("written");
    let path = file.path().display().to_string();
    kongferry(&[&arguments[..], &["--secret-file", &path]].concat()).await.expect_code(0);
    let token =
        ["credentials", "check", "--green", green.url(), "--kind", "rbac-token", "--secret-file", &path];
    let ran = kongferry(&token).await.expect_code(2);
    assert!(ran.stderr.contains("needs a user"), "{ran:#?}");
    let ran = kongferry(&[&token[..], &["--user", "kong_admin"]].concat()).await.expect_code(0);
    assert!(ran.stdout.contains("accepted: The token is stored as plain text."), "{ran:#?}");
}
