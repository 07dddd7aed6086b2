//! A larger and nastier keyspace of Enterprise's shape: many workspaces, admins in several of them with chains that are
//! broken in every way there is, and what else real keyspaces gather in years. What the program says must be what is true.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt, stream};
use kongferry_harness::catalog::KeyspaceOptions;
use kongferry_harness::fixture::Fixture;
use kongferry_harness::keyspace::{Keyspace, LoadOptions};
use kongferry_harness::lab;
use kongferry_harness::postgres::Database;
use serde_json::{Value, json};

use super::credentials::check;
use super::enterprise::{BLUES, LINE, TEAM_A, green, rows, verified};
use super::enterprise_credentials::sha1_ident;
use super::row_builder::id;
use super::support::{Ran, kongferry, migrate};

/// Names that try the patience of whoever splits, trims or lowers them.
const WORKSPACES: &[&str] = &[
    "Team Ü",
    "a:b",
    "173bad7e-414c-5bf1-9582-bde3c54692fe",
    "DEFAULT",
    "team a ",
    "日本",
    "x",
    "'; drop--",
];

const ADMINS_EACH: usize = 6;

/// What is wrong with an admin on blue, and what must be said of it on green.
struct Case {
    name: &'static str,
    /// Columns of the admin's own row, instead.
    admin: fn() -> Value,
    /// Whether the RBAC user, its roles, the consumer and the password are written.
    parts: [bool; 4],
    more: fn() -> Vec<(&'static str, Value)>,
    rejected: bool,
    /// A part of what is missing; empty where the admin is whole.
    gap: &'static str,
    /// What becomes of its token and its password on green, and on blue.
    token: [&'static str; 2],
    password: [&'static str; 2],
}

const WHOLE: Case = Case {
    name: "",
    admin: || json!({}),
    parts: [true; 4],
    more: Vec::new,
    rejected: false,
    gap: "",
    token: ["accepted"; 2],
    password: ["accepted"; 2],
};

fn role(name: &str) -> String {
    id(&format!("role {name}"))
}

fn user(name: &str) -> String {
    id(&format!("rbac {name}"))
}

fn consumer(name: &str) -> String {
    id(&format!("consumer {name}"))
}

const BROKEN: [&str; 2] = ["broken_chain"; 2];

const CASES: &[Case] = &[
    Case { name: "whole", ..WHOLE },
    Case {
        name: "no consumer",
        parts: [true, true, false, true],
        rejected: true,
        token: BROKEN,
        password: BROKEN,
        ..WHOLE
    },
    Case {
        name: "null consumer",
        admin: || json!({ "consumer_id": null }),
        rejected: true,
        token: BROKEN,
        password: BROKEN,
        ..WHOLE
    },
    Case {
        name: "no user",
        parts: [false, true, true, true],
        rejected: true,
        token: BROKEN,
        password: BROKEN,
        ..WHOLE
    },
    Case {
        name: "null user",
        admin: || json!({ "rbac_user_id": null }),
        rejected: true,
        token: BROKEN,
        password: BROKEN,
        ..WHOLE
    },
    Case {
        name: "no role",
        parts: [true, false, true, true],
        gap: "no role",
        token: BROKEN,
        password: BROKEN,
        ..WHOLE
    },
    Case {
        name: "lost roles",
        parts: [true, false, true, true],
        more: || {
            vec![("rbac_user_roles", json!({ "user_id": user("lost roles"), "role_id": id("never was") }))]
        },
        gap: "no role",
        token: BROKEN,
        password: BROKEN,
        ..WHOLE
    },
    Case {
        name: "one lost role",
        more: || {
            vec![("rbac_user_roles", json!({ "user_id": user("one lost role"), "role_id": id("never was") }))]
        },
        ..WHOLE
    },
    Case {
        name: "role of nowhere",
        parts: [true, false, true, true],
        more: || {
            let role = role("of nowhere");
            vec![
                (
                    "rbac_roles",
                    json!({ "id": role, "ws_id": id("no workspace"), "name": format!("{}:lost", id("no workspace")) }),
                ),
                ("rbac_user_roles", json!({ "user_id": user("role of nowhere"), "role_id": role })),
                (
                    "rbac_role_endpoints",
                    json!({ "role_id": role, "workspace": "*", "endpoint": "*", "actions": 15, "negative": false }),
                ),
            ]
        },
        gap: "no role",
        token: ["broken_chain", "accepted"],
        password: ["broken_chain", "accepted"],
        ..WHOLE
    },
    Case { name: "no password", parts: [true, true, true, false], password: ["no_secret"; 2], ..WHOLE },
    Case {
        name: "half",
        admin: || json!({ "rbac_token_enabled": null }),
        rejected: true,
        token: ["broken_chain", "accepted"],
        password: ["broken_chain", "accepted"],
        ..WHOLE
    },
    // Kong looks at `enabled` of the RBAC user alone, into which it copies this at each change.
    Case { name: "token off", admin: || json!({ "rbac_token_enabled": false }), ..WHOLE },
];

fn workspace(name: &str) -> String {
    id(&format!("workspace {name}"))
}

/// The rows of one admin; every part that is not left out is whole.
fn admin(
    name: &str,
    ws: &str,
    parts: [bool; 4],
    instead: &Value,
    roles: &[String],
) -> Vec<(&'static str, Value)> {
    let (consumer, user) = (consumer(name), user(name));
    let own = |text: &str| format!("{ws}:{text}");
    let mut row = json!({
        "id": id(&format!("admin {name}")), "username": name, "username_lower": name.to_lowercase(),
        "email": format!("{name}@example.com"), "consumer_id": consumer, "rbac_user_id": user,
        "rbac_token_enabled": true, "status": 0, "created_at": "2023-11-14 23:08:12.123Z",
    });
    for (column, value) in instead.as_object().into_iter().flatten() {
        row[column] = value.clone();
    }
    let mut rows = vec![("admins", row)];
    if parts[0] {
        let token = format!("{name} token");
        let hash = bcrypt::hash(&token, 4).expect("a hash");
        rows.push((
            "rbac_users",
            json!({ "id": user, "ws_id": ws, "name": own(name), "user_token": hash, "user_token_ident": sha1_ident(&token), "enabled": true }),
        ));
    }
    if parts[1] {
        rows.extend(
            roles.iter().map(|role| ("rbac_user_roles", json!({ "user_id": user, "role_id": role }))),
        );
    }
    if parts[2] {
        rows.push(("consumers", json!({ "id": consumer, "ws_id": ws, "username": own(name), "type": 2 })));
    }
    if parts[3] {
        let password = kongferry_harness::fill::basic_auth_hash(&format!("{name} password"), &consumer);
        rows.push((
            "basicauth_credentials",
            json!({ "id": id(&format!("password {name}")), "ws_id": ws, "consumer_id": consumer, "username": own(name), "password": password }),
        ));
    }
    rows
}

/// Workspaces with what is in each of them, the same names in all.
fn everywhere() -> Vec<(&'static str, Value)> {
    let mut rows = Vec::new();
    for name in WORKSPACES {
        let ws = workspace(name);
        let own = |text: &str| format!("{ws}:{text}");
        let here = |text: &str| id(&format!("{name} {text}"));
        rows.push((
            "workspaces",
            json!({ "id": ws, "name": name, "config": "{}", "meta": "{\"color\": \"#f0f\"}" }),
        ));
        for role_name in ["read-only", "admin", "workspace-admin", "a role: with a colon"] {
            rows.push(("rbac_roles", json!({ "id": role(&format!("{name} {role_name}")), "ws_id": ws, "name": own(role_name), "is_default": false })));
            rows.push(("rbac_role_endpoints", json!({
                "role_id": role(&format!("{name} {role_name}")), "workspace": name, "endpoint": "/services/*", "actions": 15, "negative": role_name == "admin",
            })));
        }
        for entity in ["*".to_owned(), ws.clone(), here("service"), "not a uuid".to_owned()] {
            rows.push(("rbac_role_entities", json!({
                "role_id": role(&format!("{name} admin")), "entity_id": entity, "entity_type": "services", "actions": 1, "negative": false,
            })));
        }
        rows.push(("services", json!({ "partition": "services", "id": here("service"), "ws_id": ws, "name": own("api"), "host": "h", "port": 80, "protocol": "http", "connect_timeout": 1, "read_timeout": 1, "write_timeout": 1, "retries": 5, "enabled": true })));
        rows.push(("groups", json!({ "id": here("group"), "name": format!("group of {name}"), "created_at": "2023-11-14 23:08:12.999Z" })));
        rows.push(("group_rbac_roles", json!({ "group_id": here("group"), "rbac_role_id": role(&format!("{name} admin")), "workspace_id": ws })));
        rows.push(("consumer_groups", json!({ "id": here("consumers"), "ws_id": ws, "name": own("gold") })));
        rows.push(("consumer_group_plugins", json!({ "id": here("plugin"), "ws_id": ws, "consumer_group_id": here("consumers"), "name": "rate-limiting-advanced", "config": "{\"limit\": [1, 2.5], \"x\": null}" })));
        for developer in 0..3 {
            let (person, who) =
                (format!("dev{developer}@example.com"), here(&format!("developer {developer}")));
            let owner = here(&format!("developer consumer {developer}"));
            rows.push((
                "consumers",
                json!({ "id": owner, "ws_id": ws, "username": own(&person), "type": 1 }),
            ));
            rows.push((
                "consumer_group_consumers",
                json!({ "consumer_group_id": here("consumers"), "consumer_id": owner }),
            ));
            rows.push(("developers", json!({ "id": who, "ws_id": ws, "email": own(&person), "consumer_id": owner, "status": 0, "meta": "{\"full_name\": \"D\\u0000\"}" })));
            let app = here(&format!("application {developer}"));
            rows.push(("applications", json!({ "id": app, "ws_id": ws, "name": "app", "redirect_uri": "https://x", "developer_id": who, "consumer_id": owner })));
            rows.push(("application_instances", json!({ "id": here(&format!("instance {developer}")), "ws_id": ws, "application_id": app, "service_id": here("service"), "suspended": false, "status": 0 })));
            rows.push(("credentials", json!({ "id": here(&format!("index {developer}")), "consumer_id": owner, "consumer_type": 1, "plugin": "basic-auth", "credential_data": "{\"b\": 1, \"a\": \"\\u0000\"}" })));
        }
        rows.push(("files", json!({ "id": here("file"), "ws_id": ws, "path": own("specs/a:b.json"), "contents": "x\r\ny", "checksum": "c" })));
        rows.push(("document_objects", json!({ "id": here("document"), "ws_id": ws, "service_id": here("service"), "path": own("specs/a:b.json") })));
        rows.push(("keyauth_enc_credentials", json!({ "id": here("plain key"), "ws_id": ws, "consumer_id": here("developer consumer 0"), "key": own(&format!("key of {name}")), "key_ident": sha1_ident(&format!("key of {name}")) })));
        rows.push(("keyauth_enc_credentials", json!({ "id": here("cipher key"), "ws_id": ws, "consumer_id": here("developer consumer 0"), "key": format!("$ke$1$-{name}-00-ff"), "key_ident": sha1_ident("who knows") })));
        rows.push(("graphql_ratelimiting_advanced_cost_decoration", json!({ "partition": "graphql_ratelimiting_advanced_cost_decoration", "id": here("cost"), "service_id": here("service"), "type_path": "Query.x", "add_constant": 0.1, "mul_constant": -2.5, "add_arguments": ["b", "a"] })));
    }
    rows
}

/// Every admin there is: whole ones at home in each workspace with roles in others, and the cases.
fn all_admins() -> Vec<(&'static str, Value)> {
    let mut rows = Vec::new();
    for (at, name) in WORKSPACES.iter().enumerate() {
        for n in 0..ADMINS_EACH {
            let roles: Vec<String> = (0..=n % 3)
                .map(|more| role(&format!("{} workspace-admin", WORKSPACES[(at + more) % WORKSPACES.len()])))
                .collect();
            rows.extend(admin(
                &format!("admin {n} of {name}"),
                &workspace(name),
                [true; 4],
                &json!({}),
                &roles,
            ));
        }
    }
    for case in CASES {
        let home = workspace(WORKSPACES[0]);
        let roles = [role(&format!("{} admin", WORKSPACES[0]))];
        rows.extend(admin(case.name, &home, case.parts, &(case.admin)(), &roles));
        rows.extend((case.more)());
    }
    rows
}

async fn large_blue() -> Keyspace {
    let options = KeyspaceOptions { indexes: true, ..KeyspaceOptions::default() };
    let blue = lab().fresh_keyspace_with(LINE, options).await.expect("a keyspace");
    let fixture = Fixture::shipped(LINE).expect("a fixture");
    blue.load(&fixture, LoadOptions::default()).await.expect("rows");
    let rows: Vec<(&str, Value)> = everywhere().into_iter().chain(all_admins()).collect();
    let writes = rows.iter().map(|(table, row)| blue.write_row(table, row));
    stream::iter(writes).buffer_unordered(32).try_collect::<()>().await.expect("rows");
    blue
}

async fn report(green: &Database, blue: &Keyspace) -> Ran {
    let (to, from) = (green.url().to_owned(), blue.url());
    kongferry(&["credentials", "report", "--green", &to, "--blue", &from, "--format", "json"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_about_a_large_enterprise_keyspace_are_correct() {
    let (blue, green) = (large_blue().await, green().await);
    let ran = migrate(&blue, &green).await.expect_code(3);
    every_row_is_accounted_for(&blue, &green, &ran).await;
    for case in CASES {
        let key = id(&format!("admin {}", case.name));
        assert_eq!(ran.reject("admins", &key).is_some(), case.rejected, "{}: {:#?}", case.name, ran.rejects);
    }
    let proven = verified(&blue, &green).await;
    assert_eq!(proven["summary"]["rejected"], ran.rejects.len(), "{proven:#}");
    the_report_names_who_is_broken(&report(&green, &blue).await.expect_code(3).json(), &ran);
    every_admin_opens_what_it_should(&blue, &green).await;
    let again = migrate(&blue, &green).await.expect_code(3).json();
    let none = |name: &str| again["changes"][name].as_u64() == Some(0);
    assert!(none("inserted") && none("updated") && none("deleted"), "{again:#}");
}

/// The classes add up to blue's rows, counted independently, and green has the rows that the report says it has.
async fn every_row_is_accounted_for(blue: &Keyspace, green: &Database, ran: &Ran) {
    let report = ran.json();
    for table in report["tables"].as_array().expect("tables") {
        let name = table["table"].as_str().expect("a name");
        let number = |class: &str| table[class].as_i64().unwrap_or_else(|| panic!("no {class} in {table}"));
        assert_eq!(number("source"), blue.count(name).await.expect("a count"), "{name}");
        let aside = number("rejected") + number("not_copied") + number("expired");
        if number("source") > 0 && number("not_copied") == 0 {
            assert_eq!(green.count(name).await.expect("a count"), number("source") - aside, "{name}");
        }
    }
}

fn the_report_names_who_is_broken(report: &Value, ran: &Ran) {
    let admins: BTreeMap<&str, &Value> = report["admins"]
        .as_array()
        .expect("admins")
        .iter()
        .map(|one| (one["name"].as_str().expect("a name"), one))
        .collect();
    let to_do = report["to_do"].to_string();
    for case in CASES {
        let found = admins.get(case.name);
        if case.rejected {
            assert_eq!(found, None, "{} was rejected", case.name);
            continue;
        }
        let found = found.unwrap_or_else(|| panic!("{} is missing: {report:#}", case.name));
        assert_eq!(found["whole"], case.gap.is_empty(), "{}: {found:#}", case.name);
        assert!(found["gaps"].to_string().contains(case.gap), "{}: {found:#}", case.name);
        assert_eq!(
            to_do.contains(&format!("admin {}:", case.name)),
            !case.gap.is_empty(),
            "{}: {to_do}",
            case.name
        );
    }
    for (at, name) in WORKSPACES.iter().enumerate() {
        for n in 0..ADMINS_EACH {
            let who = format!("admin {n} of {name}");
            let found = admins.get(who.as_str()).unwrap_or_else(|| panic!("{who} is missing"));
            let mut roles: Vec<String> = (0..=n % 3)
                .map(|more| format!("{}:workspace-admin", WORKSPACES[(at + more) % WORKSPACES.len()]))
                .collect();
            roles.sort();
            assert_eq!(
                (&found["whole"], &found["roles"], &found["workspace"]),
                (&json!(true), &json!(roles), &json!(name))
            );
        }
    }
    let rejected = ran.rejects.iter().filter(|line| line["table"] == "admins").count();
    assert_eq!(report["admins_rejected"], rejected);
    assert!(to_do.contains(&format!("{rejected} admins were rejected")), "{to_do}");
    let left: Vec<&str> = report["admins_left"]
        .as_array()
        .expect("admins")
        .iter()
        .filter_map(|one| one["name"].as_str())
        .collect();
    for case in CASES {
        assert_eq!(left.contains(&case.name), case.rejected, "{}: {left:?}", case.name);
    }
}

async fn every_admin_opens_what_it_should(blue: &Keyspace, green: &Database) {
    let mut checks = Vec::new();
    let mut expected: Vec<[String; 2]> = Vec::new();
    let mut ask = |kind: &str, user: &str, secret: String, reasons: [&str; 2]| {
        checks.push(json!({ "kind": kind, "user": user, "secret": secret }));
        expected.push(reasons.map(str::to_owned));
    };
    for case in CASES {
        ask("admin-token", case.name, format!("{} token", case.name), case.token);
        ask("admin-password", case.name, format!("{} password", case.name), case.password);
    }
    for name in WORKSPACES {
        for n in 0..ADMINS_EACH {
            let who = format!("admin {n} of {name}");
            ask("admin-token", &who, format!("{who} token"), ["accepted"; 2]);
            ask("admin-password", &who, format!("{who} password"), ["accepted"; 2]);
            ask("admin-token", &who, "another".to_owned(), ["wrong_secret"; 2]);
        }
    }
    ask("admin-token", "unknown", "x".to_owned(), ["unknown_user"; 2]);
    for name in WORKSPACES {
        // One of them is called what another one's id is: an id is meant first.
        let ws = if *name == BLUES { workspace(name) } else { (*name).to_owned() };
        let key = json!({ "kind": "key-auth-enc", "workspace": ws, "secret": format!("key of {name}") });
        let other = json!({ "kind": "key-auth-enc", "workspace": ws, "secret": "who knows" });
        let elsewhere =
            json!({ "kind": "key-auth-enc", "workspace": BLUES, "secret": format!("key of {name}") });
        checks.extend([key, other, elsewhere]);
        expected.push(["accepted"; 2].map(str::to_owned));
        expected.push(["encrypted"; 2].map(str::to_owned));
        expected.push(["other_workspace"; 2].map(str::to_owned));
    }
    let answers = check(green, &json!(checks), &["--blue", &blue.url()]).await.expect_code(3).json();
    for (answer, [on_green, on_blue]) in answers.as_array().expect("answers").iter().zip(&expected) {
        assert_eq!(answer["reason"], *on_green, "green: {answer:#}");
        assert_eq!(answer["blue"]["reason"], *on_blue, "blue: {answer:#}");
    }
    let users = rows(green, "rbac_users").await;
    assert!(users.iter().all(|row| row["name"].as_str().is_some_and(|name| !name.starts_with(BLUES))));
}

/// A row that green must refuse: its table, its name, its columns, the reason and the column at fault.
type RefusedRow = (&'static str, &'static str, Value, &'static str, &'static str);

fn refused_rows() -> Vec<RefusedRow> {
    let own = |text: &str| format!("{BLUES}:{text}");
    let hash = |name: &str| bcrypt::hash(name, 4).expect("a hash");
    let rbac =
        |name: &str| json!({ "ws_id": BLUES, "name": own(name), "user_token": hash(name), "enabled": true });
    let but = |mut row: Value, column: &str, value: Value| {
        row[column] = value;
        row
    };
    let consumer = "ea8ada70-2330-5013-b9f4-ead5bbe36df2";
    let role = "be8f72c3-b791-5b88-be6a-82f54f9d926c";
    let elsewhere = TEAM_A;
    vec![
        (
            "rbac_users",
            "no token",
            but(rbac("no token"), "user_token", Value::Null),
            "incomplete_row",
            "user_token",
        ),
        (
            "rbac_users",
            "neither on nor off",
            but(rbac("neither"), "enabled", Value::Null),
            "incomplete_row",
            "enabled",
        ),
        ("rbac_users", "no workspace", but(rbac("nowhere"), "ws_id", Value::Null), "workspace_null", "ws_id"),
        (
            "rbac_users",
            "deleted workspace",
            but(
                but(rbac("deleted"), "ws_id", json!(id("deleted"))),
                "name",
                json!(format!("{}:deleted", id("deleted"))),
            ),
            "workspace_unknown",
            "ws_id",
        ),
        (
            "rbac_users",
            "of team-a",
            but(rbac("x"), "name", json!(format!("{elsewhere}:of team-a"))),
            "prefix_foreign",
            "name",
        ),
        // One token for two users: Kong could not tell who came.
        (
            "rbac_users",
            "same token",
            but(
                rbac("same"),
                "user_token",
                json!("$2b$09$b3d57df8f92b2f92c4f83ecFf.Fpi7BMrQcD.Atf0Ba4fmWWcxDA6"),
            ),
            "duplicate",
            "user_token",
        ),
        ("rbac_roles", "no workspace", json!({ "name": own("r"), "ws_id": null }), "workspace_null", "ws_id"),
        (
            "developers",
            "of another workspace's consumer",
            json!({ "ws_id": elsewhere, "email": format!("{elsewhere}:d@x"), "consumer_id": consumer }),
            "cross_workspace_reference",
            "consumer_id",
        ),
        (
            "event_hooks",
            "broken json",
            json!({ "source": "s", "handler": "h", "config": "{\"a\":" }),
            "json_invalid",
            "config",
        ),
        ("event_hooks", "no config", json!({ "source": "s", "handler": "h" }), "incomplete_row", "config"),
        (
            "licenses",
            "no payload",
            json!({ "partition": "licenses", "created_at": "2023-11-14 23:08:12.000Z" }),
            "incomplete_row",
            "payload",
        ),
        (
            "credentials",
            "index of a missing consumer",
            json!({ "consumer_id": id("missing"), "plugin": "basic-auth" }),
            "dangling_reference",
            "consumer_id",
        ),
        (
            "rbac_role_endpoints",
            "",
            json!({ "role_id": role, "workspace": "*", "endpoint": "/too/many", "actions": 70000, "negative": false }),
            "number_out_of_range",
            "actions",
        ),
        (
            "rbac_role_endpoints",
            "",
            json!({ "role_id": role, "workspace": "*", "endpoint": "/half", "actions": 1, "negative": null }),
            "incomplete_row",
            "negative",
        ),
        (
            "rbac_role_entities",
            "",
            json!({ "role_id": id("no role"), "entity_id": "*", "entity_type": "wildcard", "actions": 1, "negative": false }),
            "dangling_reference",
            "role_id",
        ),
        (
            "consumer_group_plugins",
            "array config",
            json!({ "ws_id": BLUES, "name": "p", "config": "[1]" }),
            "json_not_object",
            "config",
        ),
        (
            "files",
            "a nul",
            json!({ "ws_id": BLUES, "path": own("nul"), "contents": "a\u{0}b" }),
            "text_nul",
            "contents",
        ),
        (
            "keyauth_enc_credentials",
            "half",
            json!({ "ws_id": BLUES, "key": own("half") }),
            "incomplete_row",
            "consumer_id",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_that_green_would_refuse_is_rejected_with_its_reason() {
    let blue = super::enterprise::blue().await;
    let refused = refused_rows();
    for (table, name, row, ..) in &refused {
        let mut row = row.clone();
        if !name.is_empty() {
            row["id"] = json!(id(name));
        }
        blue.write_row(table, &row).await.unwrap_or_else(|e| panic!("{e:?}: {row}"));
    }
    // Kept and noted, like the RBAC user of a bootstrap.
    let plain = json!({ "id": id("plain"), "ws_id": BLUES, "name": "without prefix", "user_token": "t", "enabled": true });
    blue.write_row("rbac_users", &plain).await.expect("a row");
    // Good rows with unusual values: NaN and infinities, the ends of a range, an instant before 1970.
    let cost = "graphql_ratelimiting_advanced_cost_decoration";
    for (at, value) in ["NaN", "Infinity", "-Infinity", "-0.0", "1e-40"].iter().enumerate() {
        let insert = format!(
            "INSERT INTO {cost} (partition, id, type_path, add_constant) VALUES ('{cost}', {}, 'unusual', {value})",
            id(&format!("cost {at}"))
        );
        blue.execute(&insert).await.expect("a row");
    }
    let endpoint = json!({ "role_id": "be8f72c3-b791-5b88-be6a-82f54f9d926c", "workspace": "*", "endpoint": "/least", "actions": -32768, "negative": true });
    blue.write_row("rbac_role_endpoints", &endpoint).await.expect("a row");
    let group = json!({ "id": id("old group"), "name": "old", "created_at": "1901-01-01 00:00:00.001Z" });
    blue.write_row("groups", &group).await.expect("a row");

    let green = green().await;
    let ran = migrate(&blue, &green).await.expect_code(3);
    let mut missed = Vec::new();
    for (table, name, row, reason, column) in &refused {
        let same = |line: &&Value| {
            let key = &line["key"];
            line["table"] == *table
                && if name.is_empty() {
                    key.as_object().is_some_and(|key| key.iter().all(|(part, value)| row[part] == *value))
                } else {
                    *key == id(name)
                }
        };
        match ran.rejects.iter().find(same) {
            None => missed.push(format!("{table} {name} is not rejected")),
            Some(line) if line["reason"] != *reason || line["column"] != *column => {
                missed.push(format!(
                    "{table} {name}: {} of {} and not {reason} of {column}",
                    line["reason"], line["column"]
                ));
            }
            Some(_) => {}
        }
    }
    assert!(missed.is_empty(), "{missed:#?}\n{:#?}", ran.rejects);
    // Three belong to the applications of the fixture with one custom_id, and the token's other holder cannot be told from
    // the one that was given it too.
    assert_eq!(ran.rejects.len(), refused.len() + 3 + also_rejected(&ran), "{:#?}", ran.rejects);
    verified(&blue, &green).await;
    let kinds = report(&green, &blue).await.expect_code(3).json()["kinds"].clone();
    let of = |workspace: Value| {
        kinds
            .as_array()
            .expect("kinds")
            .iter()
            .find(|one| one["kind"] == "rbac-token" && one["workspace"] == workspace)
            .unwrap_or_else(|| panic!("{kinds:#}"))
    };
    // Of the seven of the default workspace three are incomplete or inconsistent, and two share a token; two have no workspace.
    for (workspace, on_blue, rejected) in
        [(json!("default"), 7, 5), (json!("team-a"), 4, 0), (Value::Null, 2, 2)]
    {
        let one = of(workspace);
        assert_eq!((&one["on_blue"], &one["rejected"]), (&json!(on_blue), &json!(rejected)), "{one:#}");
    }
    let again = migrate(&blue, &green).await.expect_code(3).json();
    assert_eq!(again["changes"]["inserted"], 0, "{again:#}");
    assert_eq!(again["changes"]["updated"], 0, "{again:#}");
    let old = rows(&green, "groups").await.into_iter().find(|row| row["id"] == id("old group"));
    assert_eq!(old.expect("it arrived")["created_at"], "1901-01-01T00:00:00.001");
}

/// An admin has the token that another user was given too: none of the two can stay, nor what hangs on him.
fn also_rejected(ran: &Ran) -> usize {
    let his = "db9cf709-86ee-53f4-b95e-f19c29a26768";
    ran.rejects.iter().filter(|line| line["key"] == his || line["cause"] == his).count()
}
