//! What was carried of each kind, which admins are whole, and what is left for people to do.

use std::collections::{BTreeMap, BTreeSet};

use scylla::response::PagingState;
use serde::Serialize;
use sqlx::Row as _;
use uuid::Uuid;

use super::admins::{self, Chain};
use super::judge::Judge;
use super::kind::{PLACES, Place};
use super::lookup::id_of;
use super::store::{OnGreen, Store, WORKSPACE};
use crate::blue::scan::{Page, TokenRange};
use crate::blue::session::{Blue, quote as cql_quote};
use crate::catalog::blue::BlueTable;
use crate::catalog::green::GreenCatalog;
use crate::error::Result;
use crate::green::session::During;
use crate::green::session::Green;
use crate::green::sql::{fill, quote};
use crate::green::statement::query;
use crate::inspect::{BlueSide, GreenSide};
use crate::mapping::schema_map::SchemaMap;
use crate::verify::last_run::LastRun;

/// The whole report.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Version of this format, 1.
    pub format: u32,
    /// Credentials, by kind and workspace.
    pub kinds: Vec<KindReport>,
    /// Rows that the last run left behind, by kind.
    pub rejected: BTreeMap<&'static str, u64>,
    /// Admins of Enterprise.
    pub admins: Vec<AdminReport>,
    /// Admins that the last run left behind.
    pub admins_rejected: u64,
    /// Which ones; what is known of them is on blue, where it was asked.
    pub admins_left: Vec<AdminLeft>,
    /// What people must still do, each a sentence.
    pub to_do: Vec<String>,
}

/// Credentials of one kind in one workspace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct KindReport {
    /// The kind.
    pub kind: &'static str,
    /// The workspace's name; nothing for rows without one.
    pub workspace: Option<String>,
    /// On green.
    pub carried: u64,
    /// On blue now, where it was asked.
    pub on_blue: Option<u64>,
    /// Of those on blue: left behind by the last run.
    pub rejected: Option<u64>,
    /// Of those on green: their time has run out.
    pub expired: u64,
    /// Their time will run out or has.
    pub with_expiry: u64,
    /// Stored as a hash.
    pub hashed: u64,
    /// Stored as it is.
    pub plain: u64,
    /// Stored as cipher text of the keyring.
    pub encrypted: u64,
    /// Nothing is stored, as for a jwt credential with a public key.
    pub without_secret: u64,
    /// What is stored accepts no secret at all.
    pub dead: u64,
    /// Their consumer is missing.
    pub owners_missing: u64,
}

/// One admin.
#[derive(Debug, Clone, Serialize)]
pub struct AdminReport {
    /// Its username.
    pub name: String,
    /// The workspace of its RBAC user.
    pub workspace: Option<String>,
    /// Its roles, as workspace:role.
    pub roles: Vec<String>,
    /// Whether admin, consumer, RBAC user and roles hang together.
    pub whole: bool,
    /// What is missing.
    pub gaps: Vec<String>,
    /// Whether it has a password.
    pub has_password: bool,
    /// Whether its RBAC user is switched on.
    pub enabled: bool,
    /// Whether it may use a token.
    pub token_enabled: bool,
}

/// An admin that the last run left behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AdminLeft {
    /// Its id.
    pub id: String,
    /// Its username on blue.
    pub name: Option<String>,
    /// What is missing of it on blue.
    pub gaps: Vec<String>,
}

impl Report {
    /// 0 where nothing is left to do, else 3.
    pub fn exit_code(&self) -> u8 {
        if self.to_do.is_empty() { 0 } else { 3 }
    }

    /// Reads green, and counts on blue where it is given.
    pub async fn take(green: &Green, blue: Option<&Blue>, maps: &[SchemaMap]) -> Result<Report> {
        let side = GreenSide::read(green).await?;
        let run = LastRun::read(green).await?;
        let mut report = Report {
            format: 1,
            kinds: Vec::new(),
            rejected: BTreeMap::new(),
            admins: Vec::new(),
            admins_rejected: run.rejected.get(admins::TABLE).map_or(0, |keys| keys.len() as u64),
            admins_left: Vec::new(),
            to_do: Vec::new(),
        };
        for place in PLACES.iter().filter(|place| side.catalog.tables.contains_key(place.table)) {
            report.kinds.extend(on_green(green, &side.catalog, place).await?);
            let rejected = run.rejected.get(place.table).map_or(0, |keys| keys.len() as u64);
            if rejected > 0 {
                report.rejected.insert(place.kind.name(), rejected);
            }
        }
        report.admins_left = left_behind(&run, admins::TABLE)
            .into_iter()
            .map(|id| AdminLeft { id, name: None, gaps: Vec::new() })
            .collect();
        let now_ms = chrono::Utc::now().timestamp_millis();
        if let Some(blue) = blue {
            let side = BlueSide::read(blue, maps).await?;
            report.count_on_blue(blue, &side, &run).await?;
            let judge = super::on_blue(blue, &side, now_ms).await?;
            for admin in &mut report.admins_left {
                admin.look_at(&judge).await?;
            }
        }
        let judge = Judge { store: OnGreen { green, catalog: &side.catalog }, now_ms };
        let workspaces = workspaces(green).await?;
        report.admins = admins::all(&judge).await?.iter().map(|chain| about(chain, &workspaces)).collect();
        report.to_do = report.left_to_do();
        Ok(report)
    }

    async fn count_on_blue(&mut self, blue: &Blue, side: &BlueSide, run: &LastRun) -> Result<()> {
        let names: BTreeMap<Uuid, String> =
            side.workspaces.iter().filter_map(|(id, name)| Some((*id, name.clone()?))).collect();
        for place in PLACES {
            let Some(table) = side.catalog.tables.get(place.table) else { continue };
            let left = left_behind(run, place.table);
            let mut counts: BTreeMap<Option<String>, OnBlue> = BTreeMap::new();
            for (id, here) in on_blue(blue, table, &left).await? {
                let all = counts.entry(id.and_then(|id| names.get(&id).cloned())).or_default();
                all.rows += here.rows;
                all.rejected += here.rejected;
            }
            for own in self.kinds.iter_mut().filter(|own| own.kind == place.kind.name()) {
                let here = counts.remove(&own.workspace).unwrap_or_default();
                (own.on_blue, own.rejected) = (Some(here.rows), Some(here.rejected));
            }
            self.kinds.extend(counts.into_iter().map(|(workspace, here)| KindReport {
                kind: place.kind.name(),
                workspace,
                on_blue: Some(here.rows),
                rejected: Some(here.rejected),
                ..KindReport::default()
            }));
        }
        Ok(())
    }

    /// Only what a person has to do: what is well is not mentioned.
    fn left_to_do(&self) -> Vec<String> {
        let mut to_do = Vec::new();
        let sum = |of: fn(&KindReport) -> u64| self.kinds.iter().map(of).sum::<u64>();
        let encrypted = sum(|kind| kind.encrypted);
        if encrypted > 0 {
            to_do.push(format!(
                "Import blue's keyring on green (POST /keyring/import): {encrypted} secrets are encrypted by it."
            ));
        }
        for (kind, rows) in &self.rejected {
            to_do.push(format!(
                "{rows} rows of {kind} stayed behind: mend them on blue and migrate again, or make them anew on green (see the run's rejects file)."
            ));
        }
        if self.admins_rejected > 0 {
            let (who, them) = match self.admins_rejected {
                1 => ("1 admin".to_owned(), "it"),
                many => (format!("{many} admins"), "them"),
            };
            to_do.push(format!(
                "{who} stayed behind: mend {them} on blue and migrate again, or invite {them} anew on green (see the run's rejects file)."
            ));
        }
        for kind in self.kinds.iter().filter(|kind| kind.dead > 0) {
            to_do.push(format!(
                "Set {} {} secrets in workspace {} anew: what is stored accepts none, on blue as on green.",
                kind.dead,
                kind.kind,
                kind.workspace.as_deref().unwrap_or("(none)")
            ));
        }
        for kind in self.kinds.iter().filter(|kind| kind.owners_missing > 0) {
            to_do.push(format!(
                "{} rows of {} in workspace {} have no consumer: run verify, and migrate again.",
                kind.owners_missing,
                kind.kind,
                kind.workspace.as_deref().unwrap_or("(none)")
            ));
        }
        for admin in self.admins.iter().filter(|admin| !admin.whole) {
            to_do.push(format!("Mend or re-invite the admin {}: {}.", admin.name, admin.gaps.join("; ")));
        }
        let invited: Vec<&str> = self
            .admins
            .iter()
            .filter(|admin| admin.whole && !admin.has_password)
            .map(|admin| admin.name.as_str())
            .collect();
        if !invited.is_empty() {
            to_do.push(format!(
                "Invite anew who has not set a password yet: {} (links that blue mailed lead to blue).",
                invited.join(", ")
            ));
        }
        to_do
    }
}

async fn on_green(green: &Green, catalog: &GreenCatalog, place: &Place) -> Result<Vec<KindReport>> {
    let Some(table) = catalog.tables.get(place.table).filter(|table| table.column(WORKSPACE).is_some())
    else {
        return Ok(Vec::new());
    };
    let has_ttl = table.column("ttl").is_some();
    let or_ttl =
        |own: &str, of_ttl: &str| if has_ttl { format!("({of_ttl}) or ({own})") } else { own.to_owned() };
    let ownerless = place.owner.map_or("false".to_owned(), |owner| {
        format!("not exists (select from consumers c where c.id = g.{})", quote(owner))
    });
    let sql = fill(
        include_str!("../../sql/credentials/kind.sql"),
        &[
            ("expired", &or_ttl(place.expired, "g.ttl < now()")),
            ("expires", &or_ttl(place.expires, "g.ttl is not null")),
            ("secret", &quote(place.secret)),
            ("hashed", place.hashed),
            ("dead", place.dead),
            ("ownerless", &ownerless),
            ("table", &quote(place.table)),
            ("workspaces", "workspaces"),
        ],
    );
    let what = format!("cannot count the rows of green's table \"{}\"", place.table);
    let mut tx = green.begin_snapshot().await?;
    let rows = query(sql).fetch_all(&mut *tx).await.during(green, &what)?;
    tx.rollback().await.during(green, &what)?;
    let one = |row: &sqlx::postgres::PgRow| -> sqlx::Result<KindReport> {
        let number =
            |name: &str| Ok::<u64, sqlx::Error>(u64::try_from(row.try_get::<i64, _>(name)?).unwrap_or(0));
        let (carried, hashed, encrypted) = (number("total")?, number("hashed")?, number("encrypted")?);
        let (without_secret, dead) = (number("empty")?, number("dead")?);
        Ok(KindReport {
            kind: place.kind.name(),
            workspace: row.try_get("workspace")?,
            carried,
            on_blue: None,
            rejected: None,
            expired: number("expired")?,
            with_expiry: number("expiring")?,
            hashed,
            plain: carried.saturating_sub(hashed + encrypted + without_secret + dead),
            encrypted,
            without_secret,
            dead,
            owners_missing: number("ownerless")?,
        })
    };
    rows.iter().map(one).collect::<sqlx::Result<_>>().during(green, &what)
}

/// Ids of the rows of a table that the last run left behind.
fn left_behind(run: &LastRun, table: &str) -> BTreeSet<String> {
    // The journal has keys as JSON.
    let id = |key: &String| key.trim_matches('"').to_owned();
    run.rejected.get(table).into_iter().flatten().map(id).collect()
}

/// Rows of one workspace on blue.
#[derive(Debug, Clone, Copy, Default)]
struct OnBlue {
    rows: u64,
    rejected: u64,
}

/// Rows of one of blue's tables, by workspace; `left` are the keys of those that stayed behind.
async fn on_blue(
    blue: &Blue,
    table: &BlueTable,
    left: &BTreeSet<String>,
) -> Result<BTreeMap<Option<Uuid>, OnBlue>> {
    let key: Vec<String> = table.partition_key().into_iter().map(str::to_owned).collect();
    let cells: Vec<String> = [WORKSPACE].into_iter().chain(id_of(table)).map(cql_quote).collect();
    let reader = blue.reader(&table.name, &cells.join(", "), &key).await?;
    let uuid = |bytes: &[u8]| Uuid::from_slice(bytes).ok();
    let mut counts: BTreeMap<Option<Uuid>, OnBlue> = BTreeMap::new();
    let mut next = Some((PagingState::start(), Page::first_rows()));
    while let Some((from, rows)) = next.take() {
        let page = blue.page(&reader, TokenRange::WHOLE, from, rows).await?;
        page.for_each(|cells| {
            let workspace = cells.first().copied().flatten().and_then(uuid);
            let id = cells.get(1).copied().flatten().and_then(uuid);
            let here = counts.entry(workspace).or_default();
            here.rows += 1;
            let stayed = id.filter(|_| !left.is_empty()).is_some_and(|id| left.contains(&id.to_string()));
            here.rejected += u64::from(stayed);
        })
        .map_err(|e| blue.explain(e, &format!("cannot read the table \"{}\"", table.name)))?;
        next = page.next.clone().map(|from| (from, page.next_rows()));
    }
    Ok(counts)
}

impl AdminLeft {
    /// Asks blue who it is, and what is missing of it.
    async fn look_at<S: Store>(&mut self, blue: &Judge<S>) -> Result<()> {
        if let Some(row) = admins::find(blue, &self.id).await?.into_iter().next() {
            let chain = Chain::of(blue, row).await?;
            self.name = Some(chain.name());
            self.gaps = chain.gaps();
        }
        Ok(())
    }

    /// What people call it, as far as it is known.
    pub fn called(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.id)
    }
}

async fn workspaces(green: &Green) -> Result<BTreeMap<String, String>> {
    let what = "cannot read green's workspaces";
    let mut tx = green.begin_snapshot().await?;
    let rows: Vec<(String, Option<String>)> =
        crate::green::statement::query_as("select id::text, name from workspaces")
            .fetch_all(&mut *tx)
            .await
            .during(green, what)?;
    tx.rollback().await.during(green, what)?;
    Ok(rows.into_iter().filter_map(|(id, name)| Some((id, name?))).collect())
}

fn about(chain: &Chain, workspaces: &BTreeMap<String, String>) -> AdminReport {
    let named = |id: Option<&String>| id.and_then(|id| workspaces.get(id).cloned().or(Some(id.clone())));
    let role = |row: &super::store::Row| {
        let workspace = named(row.get(WORKSPACE)).unwrap_or_default();
        format!("{workspace}:{}", row.get("name").map_or("?", String::as_str))
    };
    let mut roles: Vec<String> = chain.roles.iter().map(role).collect();
    roles.sort();
    let is = |row: Option<&super::store::Row>, column: &str| {
        row.and_then(|row| row.get(column)).map(String::as_str) != Some("false")
    };
    let gaps = chain.gaps();
    AdminReport {
        name: chain.name(),
        workspace: named(chain.workspace().map(|id| id.to_string()).as_ref()),
        roles,
        whole: gaps.is_empty(),
        gaps,
        has_password: !chain.passwords.is_empty(),
        enabled: is(chain.rbac_user.as_ref(), "enabled"),
        token_enabled: is(Some(&chain.admin), "rbac_token_enabled"),
    }
}
