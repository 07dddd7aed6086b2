//! Reads both sides before a migration and checks the prerequisites. `inspect` prints the result; `plan` and `migrate`
//! begin with it and continue only without blockers.

pub mod prefixes;
mod sides;

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt};

use self::prefixes::PrefixCount;
pub use self::sides::{BlueSide, GreenSide};
use crate::blue::session::Blue;
use crate::error::{Error, Result};
use crate::finding::{self, Finding, Severity};
use crate::green::baseline::Baseline;
use crate::green::session::Green;
use crate::mapping::schema_map::{SchemaMap, Writer};
use crate::mapping::schema_meta::{self, SchemaMeta};
use crate::mapping::table_plan::{KeyspacePlan, TableChoices, leave_behind, partition_in};
use crate::mapping::validate_names;

/// Both sides, the plan, and what was found.
#[derive(Debug, Clone)]
pub struct Inspection {
    pub blue: BlueSide,
    pub green: GreenSide,
    pub plan: KeyspacePlan,
    /// Rows of tables that are not moved.
    pub rows_not_migrated: BTreeMap<String, u64>,
    /// What was found, what stops first.
    pub findings: Vec<Finding>,
}

/// What to inspect, and how strictly.
#[derive(Debug, Clone, Default)]
pub struct InspectOptions {
    pub tables: TableChoices,
    /// The user's own schema maps, later ones over earlier ones.
    pub maps: Vec<SchemaMap>,
    pub green_online: bool,
    /// Green is not written: missing write privileges are only warnings.
    pub only_reading: bool,
    /// The rows of green right after its bootstrap (`inspect --save-baseline`).
    pub baseline: Option<Baseline>,
}

impl Inspection {
    /// Reads and checks both sides. An error means that a side cannot be read; everything else is a finding.
    pub async fn read(blue: &Blue, green: &Green, choices: &InspectOptions) -> Result<Inspection> {
        let blue_side = BlueSide::read(blue, &choices.maps).await?;
        let green_side = GreenSide::read(green).await?;
        Inspection::from_sides(blue, green, blue_side, green_side, choices).await
    }

    /// Checks what was read of both sides.
    pub async fn from_sides(
        blue: &Blue,
        green: &Green,
        blue_side: BlueSide,
        green_side: GreenSide,
        choices: &InspectOptions,
    ) -> Result<Inspection> {
        let mut plan =
            KeyspacePlan::resolve(&blue_side.map, &blue_side.catalog, &green_side.catalog, &choices.tables);
        plan.obstacles.splice(
            0..0,
            validate_names::unknown_names(&choices.maps, &blue_side.catalog, &green_side.catalog),
        );
        let counted = prefixes::count(blue, &mut plan).await?;
        let mut inspection = Inspection {
            rows_not_migrated: count_not_migrated(blue, &blue_side, &plan).await?,
            blue: blue_side,
            green: green_side,
            plan,
            findings: Vec::new(),
        };
        inspection.check_versions();
        inspection.check_edition();
        inspection.check_prefixes(&counted);
        inspection.check_locks(blue, green).await?;
        inspection.check_workspaces();
        inspection.check_tables(blue).await?;
        inspection.check_partitions(blue).await?;
        inspection.check_lost_expiry();
        inspection.check_rights(green, choices).await?;
        inspection.check_sessions(choices);
        inspection.check_consistency(blue);
        inspection.findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        Ok(inspection)
    }

    /// The findings that stop a migration, as one error; nothing where there are none.
    pub fn refusal(&self) -> Result<()> {
        finding::refuse_blockers(&self.findings)
    }

    fn block(&mut self, problem: impl Into<String>, remedy: impl Into<String>) {
        self.findings.push(Finding::blocker(problem, remedy));
    }

    fn warn(&mut self, problem: impl Into<String>, remedy: impl Into<String>) {
        self.findings.push(Finding::warning(problem, remedy));
    }

    fn check_versions(&mut self) {
        for (side, meta) in [("blue", self.blue.meta.clone()), ("green", self.green.meta.clone())] {
            let pending = meta.pending();
            if !pending.is_empty() {
                let names: Vec<String> =
                    pending.iter().map(|(subsystem, name)| format!("{subsystem} {name}")).collect();
                self.block(
                    format!("Kong's migrations on {side} are pending: {}", names.join(", ")),
                    format!("Run \"kong migrations finish\" against {side}, with the version of Kong that began them."),
                );
            }
        }
        let mut found = self.blue.meta.disagreement(&self.green.meta, &self.blue.map.folded);
        // Where Kong itself is another version, so are its plugins; that it is comes first.
        found.unequal.sort_by_key(|(subsystem, ..)| subsystem != schema_meta::CORE);
        for (subsystem, only_blue, only_green) in &found.unequal {
            self.block(unequal(subsystem, only_blue, only_green, &self.blue.meta, &self.green.meta), "Bootstrap green with the version of Kong that runs on blue: the rows of two versions differ.");
        }
        if self.blue.meta.is_enterprise() != self.green.meta.is_enterprise() {
            let name = |enterprise| if enterprise { "Kong Enterprise" } else { "open-source Kong" };
            self.block(
                format!(
                    "blue is {}, green is {}",
                    name(self.blue.meta.is_enterprise()),
                    name(self.green.meta.is_enterprise())
                ),
                "Bootstrap green with the edition and version of Kong that run on blue.",
            );
        }
        if !found.only_blue.is_empty() {
            self.warn(
                format!("plugins with tables exist on blue only: {}", found.only_blue.join(", ")),
                "If they are in use, load them on green too and run \"kong migrations bootstrap\" or \"up\" there again; Kong does not start with an unknown plugin.",
            );
        }
        if !found.only_green.is_empty() {
            self.warn(
                format!("plugins with tables exist on green only: {}", found.only_green.join(", ")),
                "Do nothing: their tables stay empty.",
            );
        }
    }

    /// The rules for Enterprise's tables are inferred: the operator must know.
    fn check_edition(&mut self) {
        if !self.blue.meta.is_enterprise() {
            return;
        }
        if self.blue.map.detect.is_some() {
            self.warn(
                "the rules for Kong Enterprise's own tables follow the definitions of its migrations; no Enterprise server has confirmed them",
                "Rehearse with plan, and check the result with verify and credentials check before you shift traffic (docs/enterprise.md).",
            );
            return;
        }
        self.warn(
            format!(
                "no schema map covers this version of Kong Enterprise (core {}, enterprise {}): its tables are copied by the two catalogs, with the rules of the versions that are known for the tables of the same name. Unknown are the tables that hold run-time data, and the rows that its bootstrap creates apart from the default roles and kong_admin",
                self.blue.meta.core(),
                self.blue.meta.enterprise(),
            ),
            "Bootstrap green again, record its rows with inspect --save-baseline FILE, and pass --baseline FILE to plan and migrate; write a schema map for tables that must not be copied.",
        );
    }

    fn check_prefixes(&mut self, counted: &[PrefixCount]) {
        for column in counted.iter().filter(|column| column.odd() > 0) {
            let outcome = if column.with >= column.without {
                "those without are copied as they are"
            } else {
                "those with it will be rejected"
            };
            self.warn(
                format!(
                    "blue's rows are inconsistent in {}.{}: {} start with their workspace's id, {} do not; {outcome}",
                    column.table, column.column, column.with, column.without
                ),
                "Review them in the report and the rejects file of plan. If you know how Kong writes the column, set it in a schema map: {\"prefix\": \"workspace\"} or {\"prefix\": \"never\"}.",
            );
        }
    }

    async fn check_locks(&mut self, blue: &Blue, green: &Green) -> Result<()> {
        let Some(table) = self.blue.map.names.locks_table.clone() else { return Ok(()) };
        let remedy = "Wait until it ends; the lock of a crashed migration expires within a minute.";
        if self.blue.catalog.tables.contains_key(&table) && blue.rows_in(&table).await? > 0 {
            self.block("a migration of Kong is running on blue: its lock is held", remedy);
        }
        let expiry = self.blue.map.names.expiry_column.clone().unwrap_or_default();
        let has_expiry =
            self.green.catalog.tables.get(&table).is_some_and(|own| own.column(&expiry).is_some());
        if has_expiry && green.live_locks(&table, &expiry).await? > 0 {
            self.block("a migration of Kong is running on green: its lock is held", remedy);
        }
        Ok(())
    }

    fn check_workspaces(&mut self) {
        let Some(names) = self.blue.map.names.workspaces.clone() else { return };
        let is_default = |name: &Option<String>| name.as_deref() == Some(names.default.as_str());
        let defaults: Vec<String> = self
            .blue
            .workspaces
            .iter()
            .filter(|(_, name)| is_default(name))
            .map(|(id, _)| id.to_string())
            .collect();
        match defaults.as_slice() {
            [_] => {}
            [] => self.block(
                format!("blue has no workspace named \"{}\"", names.default),
                "Check that this is the keyspace that Kong uses: Kong does not start without that workspace.",
            ),
            many => self.block(
                format!("blue has {} workspaces named \"{}\": {}", many.len(), names.default, many.join(", ")),
                "Find out which workspace Kong's entities belong to, move or delete the entities of the others, and delete the other workspaces on blue. A defect of Kong 2.1 creates them.",
            ),
        }
    }

    async fn check_tables(&mut self, blue: &Blue) -> Result<()> {
        for obstacle in &self.plan.obstacles {
            if let Some(table) =
                obstacle.only_with_rows_in.as_ref().and_then(|name| self.blue.catalog.tables.get(name))
                && !blue.has_rows(&table.name, &table.partition_key()).await?
            {
                continue;
            }
            let finding = Finding::blocker(&obstacle.problem, &obstacle.remedy);
            self.findings.push(finding.with_schema_map(obstacle.schema_map.clone()));
        }
        let stuck: Vec<(String, u64)> = self
            .plan
            .not_moved
            .iter()
            .filter(|left| left.must_be_empty)
            .filter_map(|left| Some((left.table.clone(), *self.rows_not_migrated.get(&left.table)?)))
            .filter(|(_, rows)| *rows > 0)
            .collect();
        for (table, rows) in stuck {
            let finding = Finding::blocker(
                format!("blue's table \"{table}\" holds {rows} rows, and green has no such table"),
                format!(
                    "Install the plugin of that table on green and run \"kong migrations bootstrap\" or \"up\" there, or exclude the table with --skip-table {table} (or permanently, with the schema map)."
                ),
            );
            self.findings.push(finding.with_schema_map(Some(leave_behind(&table))));
        }
        Ok(())
    }

    /// A partition that no map names is the one with the table's name. Rows of others are counted; a table that has only
    /// others is one whose plugin names its partition otherwise.
    async fn check_partitions(&mut self, blue: &Blue) -> Result<()> {
        let mut found = Vec::new();
        for plan in self.plan.moved.iter().filter(|plan| plan.partition_inferred) {
            let ([column], Some((_, value))) = (plan.partition_key.as_slice(), &plan.partition) else {
                continue;
            };
            let partitions = blue.partitions(&plan.table, column).await?;
            if partitions.is_empty() || partitions.contains(value) {
                continue;
            }
            let shown: Vec<&str> = partitions.iter().take(3).map(String::as_str).collect();
            found.push(
                Finding::blocker(
                    format!(
                        "blue's table \"{}\" has rows, but none in the partition \"{value}\", the only one that Kong reads; it has the partitions \"{}\"",
                        plan.table,
                        shown.join("\", \"")
                    ),
                    "If the plugin of that table reads another partition, name it in a schema map.",
                )
                .with_schema_map(Some(partition_in(&plan.table, column, shown.first().copied().unwrap_or_default()))),
            );
        }
        self.findings.extend(found);
        Ok(())
    }

    /// Rows that expire on blue and have no column for it on green.
    fn check_lost_expiry(&mut self) {
        let permanent: Vec<(String, i32)> = self
            .plan
            .moved
            .iter()
            .filter(|plan| plan.expiry.is_none())
            .filter_map(|plan| self.blue.catalog.tables.get(&plan.table))
            .filter(|table| table.default_ttl > 0)
            .map(|table| (table.name.clone(), table.default_ttl))
            .collect();
        for (table, seconds) in permanent {
            self.warn(
                format!(
                    "rows of blue's table \"{table}\" expire after {seconds} seconds by its default; green's table has no column for an expiry, so they become permanent"
                ),
                format!("Exclude the table with --skip-table {table} if its rows should expire, or delete them on green later."),
            );
        }
    }

    async fn check_rights(&mut self, green: &Green, choices: &InspectOptions) -> Result<()> {
        let severity = if choices.only_reading { Severity::Warning } else { Severity::Blocker };
        let mut found = Vec::new();
        let mut tables: Vec<String> = self.plan.moved.iter().map(|table| table.table.clone()).collect();
        tables.extend(self.blue.map.names.derived_tags.iter().map(|tags| tags.table.clone()));
        let missing = green.missing_privileges(&tables).await?;
        let role = green.config().username().to_owned();
        if !missing.tables.is_empty() {
            let schema = crate::green::sql::quote(green.kong_schema());
            found.push((
                format!("the role \"{role}\" lacks write privileges on {} of Kong's tables on green, such as \"{}\"", missing.tables.len(), missing.tables.first().map_or("", String::as_str)),
                format!("Connect as the role that Kong itself uses, or run: GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {};", crate::green::sql::quote(&role)),
            ));
        }
        if let Some(statements) = missing.work_schema {
            found.push((
                format!(
                    "the role \"{role}\" may not create or use the schema \"{}\" for kongferry's own tables on green",
                    green.work_schema()
                ),
                format!("As the owner of the database, run: {statements}"),
            ));
        }
        let found = found
            .into_iter()
            .map(|(message, remedy)| Finding { severity, ..Finding::blocker(message, remedy) });
        self.findings.extend(found);
        Ok(())
    }

    fn check_sessions(&mut self, choices: &InspectOptions) {
        let sessions = &self.green.sessions;
        let Some(first) = sessions.first() else { return };
        let named = format!("{} ({}, from {})", first.application, first.user_name, first.client);
        let problem = format!("green is in use: {} other sessions, such as {named}", sessions.len());
        if choices.green_online {
            self.warn(problem, "Restart every Kong node on green after the migration.");
        } else {
            self.block(problem, "Stop Kong and other clients of green's database, or pass --green-online to migrate while they are connected.");
        }
    }

    fn check_consistency(&mut self, blue: &Blue) {
        let consistency = blue.config().consistency;
        if consistency.name() != "all" {
            self.warn(
                format!(
                    "blue is read at consistency {}: {}",
                    consistency.name(),
                    consistency.risk().trim_end_matches('.')
                ),
                "Run \"nodetool repair -full\" on blue first, or read at consistency ALL.",
            );
        }
    }
}

fn unequal(
    subsystem: &str,
    only_blue: &[String],
    only_green: &[String],
    blue: &SchemaMeta,
    green: &SchemaMeta,
) -> String {
    if subsystem == schema_meta::CORE {
        return format!("the versions of Kong differ: blue has {}, green has {}", blue.core(), green.core());
    }
    let list = |names: &[String]| if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
    format!(
        "the migrations of \"{subsystem}\" differ: only blue has {}, only green has {}",
        list(only_blue),
        list(only_green)
    )
}

/// Counts the rows of tables that are not migrated, so that the report accounts for every row of blue.
async fn count_not_migrated(
    blue: &Blue,
    side: &BlueSide,
    plan: &KeyspacePlan,
) -> Result<BTreeMap<String, u64>> {
    let counting = plan.not_moved.iter().filter_map(|left| side.catalog.tables.get(&left.table)).map(
        |table| async move {
            let key: Vec<String> = table.partition_key().into_iter().map(str::to_owned).collect();
            Ok::<_, Error>((table.name.clone(), blue.count(&table.name, &key).await?))
        },
    );
    futures::stream::iter(counting).buffer_unordered(4).try_collect().await
}

/// The name of a writer in JSON and text.
pub fn writer_word(writer: Writer) -> &'static str {
    match writer {
        Writer::Admin => "admin",
        Writer::Traffic => "traffic",
    }
}

/// Row counts and sizes, for the operator only.
#[derive(Debug, Clone, Default)]
pub struct DatabaseSizes {
    /// Rows on blue of the tables that are moved.
    pub on_blue: BTreeMap<String, u64>,
    /// Rows on green of all tables.
    pub on_green: BTreeMap<String, u64>,
    pub green_bytes: i64,
    /// Free bytes where green's data is, when that is a file system of this machine.
    pub green_free_bytes: Option<u64>,
}

impl DatabaseSizes {
    pub async fn read(blue: &Blue, green: &Green, inspection: &Inspection) -> Result<DatabaseSizes> {
        let counting = inspection.plan.moved.iter().map(|plan| async move {
            Ok::<_, Error>((plan.table.clone(), blue.count(&plan.table, &plan.partition_key).await?))
        });
        let on_blue = futures::stream::iter(counting).buffer_unordered(4).try_collect().await?;
        let tables: Vec<String> = inspection.green.catalog.tables.keys().cloned().collect();
        let on_green = green.count(&tables).await?;
        let number = |count: i64| u64::try_from(count).unwrap_or(0);
        Ok(DatabaseSizes {
            on_blue,
            on_green: on_green.into_iter().map(|(table, count)| (table, number(count))).collect(),
            green_bytes: green.size().await?,
            green_free_bytes: green.free_bytes().await,
        })
    }
}
