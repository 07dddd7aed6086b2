//! Snapshots of the text that each command prints on the rows of Kong 3.3, with what changes from run to
//! run filtered out.

use kongferry_harness::lab;

use super::databases::lasting_blue;
use super::support::kongferry;

/// Runs a command and pins what it prints on either stream.
async fn pin(name: &str, code: i32, arguments: &[String]) {
    let ran = kongferry(arguments).await.expect_code(code);
    let seen = format!("{}---\n{}", ran.stdout, ran.stderr);
    insta::with_settings!({ filters => vec![
        (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "[id]"),
        (r"127\.0\.0\.1:\d+", "[address]"),
        (r"kong_3_3_[0-9a-f]+", "[name]"),
        (r"\d+(\.\d+)? (ms|s)\b", "[time]"),
        (r"\d+(\.\d+)? [KMGT]iB", "[size]"),
        (r"(Cassandra|PostgreSQL) \d[\d.]*", "$1 [version]"),
    ]}, { insta::assert_snapshot!(name, seen); });
}

#[tokio::test(flavor = "multi_thread")]
async fn the_output_of_every_command_matches_its_snapshot() {
    let blue = lasting_blue("3.3").await;
    let green = lab().fresh_green("3.3").await.expect("green");
    let (blue, database, green) = (blue.url(), &green, green.url().to_owned());
    let sides = ["--blue", &blue, "--green", &green];
    let with = |command: &str, more: &[&str]| -> Vec<String> {
        let all = [&[command], &sides[..], more].concat();
        all.into_iter().map(str::to_owned).collect()
    };
    let rejects = ["--rejects-file", "rejects.jsonl"];
    for (name, code, arguments) in [
        ("inspect", 0, with("inspect", &[])),
        ("plan", 3, with("plan", &rejects)),
        ("plan_columns", 3, with("plan", &["--quick", "--columns"])),
        ("migrate_refused", 4, with("migrate", &[&["--yes"], &rejects[..]].concat())),
        ("migrate", 3, with("migrate", &[&["--yes", "--accept-rejects"], &rejects[..]].concat())),
        ("verify", 0, with("verify", &[])),
    ] {
        pin(name, code, &arguments).await;
    }
    let damage = "delete from acls where id = (select min(id::text)::uuid from acls);
        update basicauth_credentials set password = reverse(password) where id = (select min(id::text)::uuid from basicauth_credentials);
        update plugins set consumer_id = null where id = (select min(id::text)::uuid from plugins where consumer_id is not null);
        insert into consumers (id, username, ws_id) select '99999999-0000-4000-8000-000000000001', 'somebody', ws_id from consumers limit 1;
        drop index routes_service_id_idx;";
    database.execute(damage).await.expect("damage");
    for (name, code, arguments) in [
        ("verify_damaged", 3, with("verify", &["--findings", "findings.jsonl"])),
        ("verify_part", 0, with("verify", &["--table", "services", "--sample", "5%"])),
        ("verify_repair", 3, with("verify", &["--repair", "--delete-extra", "--yes"])),
    ] {
        pin(name, code, &arguments).await;
    }
}
