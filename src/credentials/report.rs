//! Counts the credentials of each kind, lists the admins, and names what the operator must do.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use uuid::Uuid;

use super::admins::{self, AdminRows, AdminStatus};
use super::green_store::GreenStore;
use super::kind::CREDENTIAL_TABLES;
use super::rbac::is_enabled;
use super::row_counts::{GreenCounts, count_on_blue, count_on_green};
use super::store::{CredentialStore, TextRow, WORKSPACE};
use crate::blue::session::Blue;
use crate::error::Result;
use crate::green::session::Green;
use crate::green::statement::query_as;
use crate::inspect::{BlueSide, GreenSide};
use crate::mapping::schema_map::SchemaMap;
use crate::verify::last_run::LastRun;

#[derive(Debug, Clone, Serialize)]
pub(crate) struct CredentialsReport {
    /// Version of this structure, 1.
    pub(crate) format: u32,
    pub(crate) kinds: Vec<KindReport>,
    /// Rows that the last run rejected, by kind.
    pub(crate) rejected: BTreeMap<&'static str, u64>,
    pub(crate) admins: Vec<AdminReport>,
    /// Admins that the last run rejected.
    pub(crate) admins_rejected: u64,
    /// Those admins; their names and gaps are read from blue, where it is connected.
    #[serde(rename = "admins_left")]
    pub(crate) rejected_admins: Vec<RejectedAdmin>,
    /// What the operator must do, one sentence each.
    pub(crate) to_do: Vec<String>,
}

/// Credentials of one kind in one workspace, by number of rows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct KindReport {
    pub(crate) kind: &'static str,
    /// `None` for rows without a workspace.
    pub(crate) workspace: Option<String>,
    pub(crate) carried: u64,
    /// Rows on blue now, where it is connected.
    pub(crate) on_blue: Option<u64>,
    /// Of those on blue: rejected by the last run.
    pub(crate) rejected: Option<u64>,
    /// Of those on green, as all counts below.
    pub(crate) expired: u64,
    pub(crate) with_expiry: u64,
    pub(crate) hashed: u64,
    pub(crate) plain: u64,
    pub(crate) encrypted: u64,
    /// Without a stored secret, as a jwt credential with a public key.
    pub(crate) without_secret: u64,
    /// With a hash that Kong accepts in FIPS mode only.
    #[serde(rename = "fips_mode")]
    pub(crate) of_fips_mode: u64,
    /// Kong accepts no secret at all for the stored value.
    #[serde(rename = "dead")]
    pub(crate) unusable: u64,
    pub(crate) owners_missing: u64,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct AdminReport {
    pub(crate) name: String,
    /// The workspace of its RBAC user.
    pub(crate) workspace: Option<String>,
    /// As workspace:role.
    pub(crate) roles: Vec<String>,
    #[serde(rename = "whole")]
    pub(crate) is_complete: bool,
    /// Why the admin does not work.
    pub(crate) gaps: Vec<String>,
    pub(crate) status: AdminStatus,
    /// Whether a login to Kong Manager with the right password gets in.
    pub(crate) can_log_in: bool,
    /// Whether the login finds a password.
    pub(crate) has_password: bool,
    /// Whether the RBAC user is enabled.
    pub(crate) enabled: bool,
    /// Whether Kong accepts the admin's token; only an enabled RBAC user has one.
    pub(crate) token_enabled: bool,
}

/// An admin that the last run rejected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct RejectedAdmin {
    pub(crate) id: String,
    pub(crate) name: Option<String>,
    pub(crate) gaps: Vec<String>,
}

impl CredentialsReport {
    /// 0 where the operator has nothing to do, else 3.
    pub(crate) fn exit_code(&self) -> u8 {
        if self.to_do.is_empty() { 0 } else { 3 }
    }

    /// Reads green, and counts rows on blue where it is connected.
    pub(crate) async fn read(
        green: &Green,
        blue: Option<&Blue>,
        maps: &[SchemaMap],
    ) -> Result<CredentialsReport> {
        let side = GreenSide::read(green).await?;
        let run = LastRun::read(green).await?;
        let rejected_admins = rejected_ids(&run, admins::TABLE).into_iter();
        let mut report = CredentialsReport {
            format: 1,
            kinds: Vec::new(),
            rejected: BTreeMap::new(),
            admins: Vec::new(),
            admins_rejected: rejected_rows(&run, admins::TABLE),
            rejected_admins: rejected_admins
                .map(|id| RejectedAdmin { id, name: None, gaps: Vec::new() })
                .collect(),
            to_do: Vec::new(),
        };
        for table in CREDENTIAL_TABLES.iter().filter(|own| side.catalog.tables.contains_key(own.table)) {
            let counts = count_on_green(green, &side.catalog, table).await?;
            report
                .kinds
                .extend(counts.into_iter().map(|own| KindReport::from_counts(table.kind.name(), own)));
            let rejected = rejected_rows(&run, table.table);
            if rejected > 0 {
                report.rejected.insert(table.kind.name(), rejected);
            }
        }
        if let Some(blue) = blue {
            let side = BlueSide::read(blue, maps).await?;
            report.add_blue(blue, &side, &run).await?;
            let store = super::blue_store(blue, &side).await?;
            for admin in &mut report.rejected_admins {
                admin.read_from(&store).await?;
            }
        }
        let store = GreenStore { green, catalog: &side.catalog };
        let workspaces = workspace_names(green).await?;
        for rows in admins::all(&store).await? {
            let password = rows.password(&store, rows.username("")).await?;
            let has_password = password.is_some_and(|row| rows.owns(&row));
            report.admins.push(AdminReport::from_rows(&rows, has_password, &workspaces));
        }
        report.to_do = report.remaining_actions();
        Ok(report)
    }

    async fn add_blue(&mut self, blue: &Blue, side: &BlueSide, run: &LastRun) -> Result<()> {
        let names: BTreeMap<Uuid, String> =
            side.workspaces.iter().filter_map(|(id, name)| Some((*id, name.clone()?))).collect();
        for credentials in CREDENTIAL_TABLES {
            let Some(table) = side.catalog.tables.get(credentials.table) else { continue };
            let rejected = rejected_ids(run, credentials.table);
            let mut by_name: BTreeMap<Option<String>, (u64, u64)> = BTreeMap::new();
            for (workspace, counts) in count_on_blue(blue, table, &rejected).await? {
                let sum = by_name.entry(workspace.and_then(|id| names.get(&id).cloned())).or_default();
                *sum = (sum.0 + counts.rows, sum.1 + counts.rejected);
            }
            for kind in self.kinds.iter_mut().filter(|own| own.kind == credentials.kind.name()) {
                let (rows, rejected) = by_name.remove(&kind.workspace).unwrap_or_default();
                (kind.on_blue, kind.rejected) = (Some(rows), Some(rejected));
            }
            self.kinds.extend(by_name.into_iter().map(|(workspace, (rows, rejected))| KindReport {
                kind: credentials.kind.name(),
                workspace,
                on_blue: Some(rows),
                rejected: Some(rejected),
                ..KindReport::default()
            }));
        }
        Ok(())
    }

    fn remaining_actions(&self) -> Vec<String> {
        let mut actions = Vec::new();
        let encrypted: u64 = self.kinds.iter().map(|kind| kind.encrypted).sum();
        if encrypted > 0 {
            actions.push(format!(
                "Import blue's keyring on green before it serves (docs/enterprise.md): it encrypts {}.",
                counted(encrypted, "secret")
            ));
        }
        let of_fips_mode: u64 = self.kinds.iter().map(|kind| kind.of_fips_mode).sum();
        if of_fips_mode > 0 {
            actions.push(format!(
                "Run green in FIPS mode (fips = on), as blue: the hashes of {} are accepted only there.",
                counted(of_fips_mode, "password")
            ));
        }
        for (kind, rows) in &self.rejected {
            actions.push(format!(
                "{rows} rows of {kind} were rejected: correct them on blue and run migrate again, or create them on green (see the run's rejects file)."
            ));
        }
        if self.admins_rejected > 0 {
            let (admins, them) = match self.admins_rejected {
                1 => ("1 admin was".to_owned(), "it"),
                many => (format!("{many} admins were"), "them"),
            };
            actions.push(format!(
                "{admins} rejected: correct {them} on blue and run migrate again, or invite {them} again on green (see the run's rejects file)."
            ));
        }
        actions.extend(self.kinds.iter().filter(|kind| kind.unusable > 0).map(|kind| {
            format!(
                "Reset {} {} secrets in workspace {}: Kong accepts no secret for their stored values, on blue as on green.",
                kind.unusable,
                kind.kind,
                kind.workspace_name()
            )
        }));
        actions.extend(self.kinds.iter().filter(|kind| kind.owners_missing > 0).map(|kind| {
            format!(
                "{} rows of {} in workspace {} have no consumer: run verify, then migrate again.",
                kind.owners_missing,
                kind.kind,
                kind.workspace_name()
            )
        }));
        actions.extend(self.admins.iter().filter(|admin| !admin.is_complete).map(|admin| {
            format!("Correct on blue or invite again the admin {}: {}.", admin.name, admin.gaps.join("; "))
        }));
        let without_password =
            |admin: &&AdminReport| admin.is_complete && admin.status.may_log_in() && !admin.has_password;
        let names: Vec<&str> =
            self.admins.iter().filter(without_password).map(|admin| admin.name.as_str()).collect();
        if !names.is_empty() {
            actions.push(format!(
                "Invite again the admins without a password: {} (the links that blue mailed lead to blue).",
                names.join(", ")
            ));
        }
        actions
    }
}

fn counted(count: u64, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}

impl KindReport {
    fn from_counts(kind: &'static str, counts: GreenCounts) -> KindReport {
        let hashed = counts.hashed + counts.of_fips_mode;
        let not_plain = hashed + counts.encrypted + counts.without_secret + counts.unusable;
        KindReport {
            kind,
            workspace: counts.workspace,
            carried: counts.total,
            on_blue: None,
            rejected: None,
            expired: counts.expired,
            with_expiry: counts.with_expiry,
            hashed: counts.hashed,
            plain: counts.total.saturating_sub(not_plain),
            encrypted: counts.encrypted,
            without_secret: counts.without_secret,
            of_fips_mode: counts.of_fips_mode,
            unusable: counts.unusable,
            owners_missing: counts.owners_missing,
        }
    }

    fn workspace_name(&self) -> &str {
        self.workspace.as_deref().unwrap_or("(none)")
    }
}

fn rejected_rows(run: &LastRun, table: &str) -> u64 {
    run.rejected.get(table).map_or(0, |keys| keys.len() as u64)
}

/// Ids of the rows of a table that the last run rejected.
fn rejected_ids(run: &LastRun, table: &str) -> BTreeSet<String> {
    // Keys are JSON texts.
    let id = |key: &String| key.trim_matches('"').to_owned();
    run.rejected.get(table).into_iter().flatten().map(id).collect()
}

impl RejectedAdmin {
    async fn read_from(&mut self, blue: &impl CredentialStore) -> Result<()> {
        if let Some(row) = admins::find(blue, &self.id).await?.into_iter().next() {
            let rows = AdminRows::read(blue, row).await?;
            self.name = Some(rows.name());
            self.gaps = rows.all_gaps();
        }
        Ok(())
    }

    /// The name where it is known, else the id.
    pub(crate) fn display_name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.id)
    }
}

async fn workspace_names(green: &Green) -> Result<BTreeMap<String, String>> {
    let read = async |tx: &mut sqlx::PgConnection| {
        let rows: Vec<(String, Option<String>)> =
            query_as("select id::text, name from workspaces").fetch_all(tx).await?;
        Ok(rows)
    };
    let rows = green.read("cannot read green's workspaces", read).await?;
    Ok(rows.into_iter().filter_map(|(id, name)| Some((id, name?))).collect())
}

impl AdminReport {
    fn from_rows(rows: &AdminRows, has_password: bool, workspaces: &BTreeMap<String, String>) -> AdminReport {
        let workspace_name =
            |id: Option<&String>| id.and_then(|id| workspaces.get(id).cloned().or(Some(id.clone())));
        let role = |row: &TextRow| {
            let workspace = workspace_name(row.get(WORKSPACE)).unwrap_or_default();
            format!("{workspace}:{}", row.get("name").map_or("?", String::as_str))
        };
        let mut roles: Vec<String> = rows.roles.iter().map(role).collect();
        roles.sort();
        let home = rows.rbac_user.as_ref().or(rows.consumer.as_ref());
        let enabled = rows.rbac_user.as_ref().is_some_and(is_enabled);
        let (gaps, status) = (rows.all_gaps(), rows.status());
        AdminReport {
            name: rows.name(),
            workspace: workspace_name(home.and_then(|row| row.get(WORKSPACE))),
            roles,
            is_complete: gaps.is_empty(),
            can_log_in: rows.gaps().is_empty() && has_password && status.may_log_in(),
            gaps,
            status,
            has_password,
            enabled,
            token_enabled: enabled,
        }
    }
}
