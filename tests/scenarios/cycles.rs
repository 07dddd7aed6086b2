//! Tables that refer to themselves and to each other in cycles: none of their references is deferrable, and the role
//! that migrates is no superuser.

use std::collections::BTreeMap;

use kongferry_harness::lab;
use kongferry_harness::postgres::Database;
use serde_json::{Value, json};

use super::row_builder::{KongKeyspace, id};
use super::support::{Ran, kongferry, migrate_arguments};

const BLUE: &[&str] = &[
    "CREATE TABLE guild_team (id uuid PRIMARY KEY, name text, lead_id uuid)",
    "CREATE TABLE guild_member (id uuid PRIMARY KEY, name text, team_id uuid, badge_id uuid)",
    "CREATE TABLE guild_badge (id uuid PRIMARY KEY, owner_id uuid, parent_id uuid)",
];

/// team → member → team, and member → badge → member; in the second circle both sides must have a value.
const GREEN: &str = "
create table guild_team (id uuid primary key, name text unique, lead_id uuid);
create table guild_member (id uuid primary key, name text, team_id uuid not null references guild_team (id), badge_id uuid not null);
create table guild_badge (
  id uuid primary key,
  owner_id uuid not null references guild_member (id) on delete cascade,
  parent_id uuid references guild_badge (id)
);
alter table guild_team add constraint leads foreign key (lead_id) references guild_member (id) on delete set null;
alter table guild_member add constraint wears foreign key (badge_id) references guild_badge (id) not deferrable;
";

struct Guild {
    blue: KongKeyspace,
    green: Database,
}

impl Guild {
    /// A green whose tables all belong to a role that may do nothing else.
    async fn new() -> Guild {
        let blue = KongKeyspace::new("3.3").await;
        for table in BLUE {
            blue.execute(table).await.expect("a table");
        }
        let green = lab().fresh_green("3.3").await.expect("green");
        green.execute(GREEN).await.expect("tables");
        Guild { blue: blue.reread().await, green }
    }

    async fn put(&self, table: &str, row: Value) {
        self.blue.write_row(table, &row).await.unwrap_or_else(|e| panic!("{e:?}: {row}"));
    }

    /// A team whose lead is its own member, who wears a badge of his own.
    async fn team(&self, name: &str) {
        let (team, member, badge) =
            (id(&format!("{name} team")), id(&format!("{name} member")), id(&format!("{name} badge")));
        self.put("guild_team", json!({ "id": team, "name": name, "lead_id": member })).await;
        self.put("guild_member", json!({ "id": member, "name": name, "team_id": team, "badge_id": badge }))
            .await;
        self.put("guild_badge", json!({ "id": badge, "owner_id": member, "parent_id": badge })).await;
    }

    async fn migrate(&self) -> Ran {
        kongferry(&migrate_arguments(&self.blue, &self.green, &["--accept-rejects"])).await
    }

    async fn count(&self, table: &str) -> i64 {
        self.green.count(table).await.expect("a number")
    }
}

/// Every constraint with its flags, and every trigger behind it.
async fn definitions(green: &Database) -> BTreeMap<String, String> {
    let sql = "select jsonb_build_object('name', name, 'definition', definition) from (
        select 'constraint ' || o.oid as name, concat_ws(' ', o.conrelid::regclass, o.conname, pg_get_constraintdef(o.oid), o.condeferrable, o.condeferred, o.convalidated) as definition
        from pg_constraint o where o.connamespace = 'public'::regnamespace
        union all
        select 'trigger ' || t.oid, concat_ws(' ', t.tgrelid::regclass, t.tgenabled, t.tgdeferrable, t.tginitdeferred)
        from pg_trigger t join pg_class c on c.oid = t.tgrelid where c.relnamespace = 'public'::regnamespace) all_of_them";
    let rows = green.json(sql).await.expect("definitions");
    let text = |row: &Value, name: &str| row[name].as_str().expect("a text").to_owned();
    rows.iter().map(|row| (text(row, "name"), text(row, "definition"))).collect()
}

/// Hands everything on green to a role that is no superuser, and gives its address.
async fn given_to_a_plain_role(green: &Database) -> (String, String) {
    let role = format!("plain_{}", &uuid::Uuid::new_v4().simple().to_string()[..12]);
    green
        .execute(&format!(
            "create role {role} login password 'plain';
             grant create on database \"{}\" to {role};
             do $$ declare r record; begin
               for r in select format('alter table %s owner to {role}', c.oid::regclass) as sql from pg_class c
                        where c.relnamespace = 'public'::regnamespace and c.relkind = 'r' loop execute r.sql; end loop;
             end $$;
             alter schema public owner to {role}",
            green.name()
        ))
        .await
        .expect("a role");
    let (scheme, rest) = green.url().split_once("://").expect("an address");
    let rest = rest.split_once('@').map_or(rest, |(_, host)| host);
    (format!("{scheme}://{role}@{rest}"), role)
}

#[tokio::test(flavor = "multi_thread")]
async fn reference_cycles_are_inserted_without_superuser_rights() {
    let guild = Guild::new().await;
    for name in ["one", "two", "three"] {
        guild.team(name).await;
    }
    let before = definitions(&guild.green).await;
    let (url, _role) = given_to_a_plain_role(&guild.green).await;
    let arguments = migrate_arguments(&guild.blue, &guild.green, &["--accept-rejects"]);
    let arguments: Vec<String> =
        arguments.into_iter().map(|one| if one == guild.green.url() { url.clone() } else { one }).collect();
    let ran = {
        let (mut command, folder) = super::support::program();
        command.args(&arguments).env("PGPASSWORD", "plain");
        let output = tokio::task::spawn_blocking(move || command.output())
            .await
            .expect("a thread")
            .expect("the program");
        super::support::ran(output, &folder.path().join("rejects.jsonl"))
    };
    let ran = ran.expect_code(0);
    for table in ["guild_team", "guild_member", "guild_badge"] {
        assert_eq!(ran.table(table)["applied"], 3, "{table}");
        assert_eq!(guild.count(table).await, 3, "{table}");
    }
    assert_eq!(definitions(&guild.green).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reference_cycle_with_a_dangling_reference_is_rejected_as_a_whole() {
    let guild = Guild::new().await;
    guild.team("good").await;
    guild.team("bad").await;
    guild
        .blue
        .execute(&format!("DELETE FROM guild_badge WHERE id = {}", id("bad badge")))
        .await
        .expect("deleted");
    let before = definitions(&guild.green).await;
    let ran = guild.migrate().await.expect_code(3);
    assert_eq!(ran.rejects.len(), 2, "{:#?}", ran.rejects);
    let member = ran.reject("guild_member", &id("bad member")).expect("a reject");
    assert_eq!(member["reason"], "dangling_reference");
    let team = ran.reject("guild_team", &id("bad team")).expect("a reject");
    assert_eq!((&team["reason"], &team["cause"]), (&json!("parent_rejected"), &json!(id("bad member"))));
    assert_eq!((guild.count("guild_team").await, guild.count("guild_member").await), (1, 1));
    assert_eq!(definitions(&guild.green).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incremental_run_inserts_new_rows_of_a_reference_cycle() {
    let guild = Guild::new().await;
    guild.team("first").await;
    guild.migrate().await.expect_code(0);
    let before = definitions(&guild.green).await;
    guild.team("second").await;
    // The old team gets the new member as its lead.
    let row = json!({ "id": id("first team"), "lead_id": id("second member") });
    guild.put("guild_team", row).await;
    guild.migrate().await.expect_code(0);
    assert_eq!(guild.count("guild_badge").await, 2);
    let leads = guild.green.rows("guild_team").await.expect("rows");
    let first = leads.iter().find(|row| row["name"] == "first").expect("a team");
    assert_eq!(first["lead_id"], id("second member"));
    assert_eq!(definitions(&guild.green).await, before);
}
