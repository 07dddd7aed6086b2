//! bcrypt: tokens are compared on all cores, and rows with hashes are migrated as fast as any other row.

use kongferry_harness::shapes;
use serde_json::{Value, json};

use super::credentials::{check, one};
use super::enterprise;
use super::enterprise_credentials::{DEFAULT, sha1_ident};
use super::support::migrate;

/// The cost that Kong uses: about thirty milliseconds a hash.
const COST: u32 = 9;

const TOKENS: usize = 60;

#[tokio::test(flavor = "multi_thread")]
async fn credentials_check_keeps_the_file_order_for_many_bcrypt_tokens() {
    let green = enterprise::green().await;
    let hash = |n: usize| {
        tokio::task::spawn_blocking(move || bcrypt::hash(format!("token {n}"), COST).expect("a hash"))
    };
    let hashes: Vec<_> = (0..TOKENS).map(hash).collect();
    let mut users = Vec::with_capacity(TOKENS);
    for (n, hash) in hashes.into_iter().enumerate() {
        let hash = hash.await.expect("a thread");
        // Every tenth is switched off.
        let ident = sha1_ident(&format!("token {n}"));
        users.push(format!("(gen_random_uuid(), 'bot-{n}', '{hash}', '{ident}', {})", n % 10 != 9));
    }
    let columns = "id, name, user_token, user_token_ident, enabled";
    let insert = format!("insert into rbac_users ({columns}) values {}", users.join(", "));
    green.execute(&insert).await.expect("users");
    // Every fifth secret is wrong.
    let secret = |n: usize| format!("token {}", if n % 5 == 4 { n + 1 } else { n });
    let checks: Vec<Value> =
        (0..TOKENS).map(|n| one("rbac-token", "default", Some(&format!("bot-{n}")), &secret(n))).collect();
    let began = std::time::Instant::now();
    let answers = check(&green, &json!(checks), &[]).await.expect_code(3).json();
    println!("{TOKENS} tokens of cost {COST}: {:.1?}", began.elapsed());
    let answers = answers.as_array().expect("a list");
    assert_eq!(answers.len(), TOKENS);
    for (n, answer) in answers.iter().enumerate() {
        assert_eq!(answer["user"], format!("bot-{n}"), "in the order of the file");
        let reason = if n % 5 == 4 { "wrong_secret" } else { "accepted" };
        assert_eq!(answer["reason"], reason, "{answer}");
    }
    let off = one("rbac-token", "default", Some("bot-9"), "token 9");
    let ran = check(&green, &json!([off]), &[]).await.expect_code(3);
    assert_eq!(ran.json()[0]["reason"], "disabled");
}

/// For more rows, with timing:
/// `KONGFERRY_USERS=100000 cargo test --release --test scenarios -- --nocapture very_many_bcrypt_rows`.
#[tokio::test(flavor = "multi_thread")]
async fn bcrypt_hashes_are_copied_byte_for_byte() {
    let users: u64 = std::env::var("KONGFERRY_USERS").ok().and_then(|n| n.parse().ok()).unwrap_or(1_000);
    let (blue, green) = (enterprise::blue().await, enterprise::green().await);
    shapes::rbac_users(&blue, DEFAULT.parse().expect("an id"), users).await.expect("users");
    let began = std::time::Instant::now();
    let ran = migrate(&blue, &green).await.expect_code(3);
    println!("{users} rows with bcrypt hashes: {:.1?} for the whole migration", began.elapsed());
    assert_eq!(ran.table("rbac_users")["applied"], users + 10);
    let rows = "select jsonb_build_object('name', name, 'token', user_token, 'ident', user_token_ident) \
                from rbac_users where comment = 'one of very many'";
    let rows = green.json(rows).await.expect("rows");
    assert_eq!(rows.len() as u64, users);
    for row in rows {
        let name = row["name"].as_str().expect("a name");
        let n: u64 =
            name.strip_prefix("bot-").and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("{row}"));
        let token = shapes::bcrypt_shaped(n);
        assert_eq!(row["token"], token, "never hashed again");
        assert_eq!(row["ident"], token[7..12]);
    }
}
