//! What each side is, as far as a migration must know it: its catalog, its record of migrations, its schema map.

use uuid::Uuid;

use crate::blue::session::Blue;
use crate::catalog::blue::BlueCatalog;
use crate::catalog::green::GreenCatalog;
use crate::error::{Error, Kind, Result};
use crate::green::kong::Session;
use crate::green::session::{During, Green};
use crate::mapping::schema_map::SchemaMap;
use crate::mapping::schema_meta::{self, SchemaMeta, Subsystem};
use crate::mapping::transcode::NamedRows;

#[derive(Debug, Clone)]
pub struct BlueSide {
    pub catalog: BlueCatalog,
    pub meta: SchemaMeta,
    /// The schema map in force, user's maps laid over it.
    pub map: SchemaMap,
    /// Id and name of each workspace.
    pub workspaces: Vec<(Uuid, Option<String>)>,
    /// The names in tables that name rows of other tables.
    pub named_rows: NamedRows,
}

#[derive(Debug, Clone)]
pub struct GreenSide {
    pub catalog: GreenCatalog,
    pub meta: SchemaMeta,
    pub sessions: Vec<Session>,
}

impl BlueSide {
    /// Reads blue; a keyspace that is not Kong's is an error.
    pub async fn read(blue: &Blue, maps: &[SchemaMap]) -> Result<BlueSide> {
        let catalog = blue.catalog().await?;
        if !catalog.tables.contains_key(schema_meta::TABLE) {
            return Err(not_kong(blue, &catalog));
        }
        let meta = meta_of_blue(blue).await?;
        let map = line(&meta, maps)?;
        let workspaces = match &map.names.workspaces {
            Some(names) => blue.workspaces(&names.table, &names.id, &names.name).await?,
            None => Vec::new(),
        };
        let named_rows = named_rows(blue, &catalog, &map).await?;
        Ok(BlueSide { catalog, meta, map, workspaces, named_rows })
    }
}

impl GreenSide {
    /// Reads green; a database that Kong has not bootstrapped is an error.
    pub async fn read(green: &Green) -> Result<GreenSide> {
        let catalog = green.catalog().await?;
        if !catalog.tables.contains_key(schema_meta::TABLE) {
            return Err(not_bootstrapped(green));
        }
        let rows = green.schema_meta(schema_meta::TABLE).await?;
        let subsystem = |(name, last_executed, executed, pending): crate::green::kong::SchemaMetaRow| {
            let set = |names: Option<Vec<String>>| names.into_iter().flatten().collect();
            (name, Subsystem { last_executed, executed: set(executed), pending: set(pending) })
        };
        let meta = SchemaMeta { subsystems: rows.into_iter().map(subsystem).collect() };
        if meta.subsystems.is_empty() {
            return Err(not_bootstrapped(green));
        }
        let mut tx = green.begin().await?;
        let sessions = green.other_sessions(&mut tx).await?;
        tx.rollback().await.during(green, "cannot read the sessions of green")?;
        Ok(GreenSide { catalog, meta, sessions })
    }
}

async fn meta_of_blue(blue: &Blue) -> Result<SchemaMeta> {
    let rows = blue.schema_meta(schema_meta::TABLE).await?;
    let subsystem = |(name, last_executed, executed, pending): crate::blue::kong::MetaRow| {
        let set = |names: Option<std::collections::HashSet<String>>| names.into_iter().flatten().collect();
        (name, Subsystem { last_executed, executed: set(executed), pending: set(pending) })
    };
    Ok(SchemaMeta { subsystems: rows.into_iter().map(subsystem).collect() })
}

/// The map of the database's line, with the user's maps laid over it.
fn line(meta: &SchemaMeta, user: &[SchemaMap]) -> Result<SchemaMap> {
    let built_in = SchemaMap::built_in()?;
    let with_line: Vec<SchemaMap> =
        built_in.into_iter().chain(user.iter().filter(|map| map.detect.is_some()).cloned()).collect();
    let mut map = match meta.line(&with_line) {
        Some(found) => found.clone(),
        None if meta.is_enterprise() => SchemaMap::of_unknown_enterprise(meta.core())?,
        None => return Err(unknown_version(meta)),
    };
    let line = map.line.clone();
    for over in user.iter().filter(|over| over.line.is_none() || over.line == line) {
        map.overlay(over.clone());
    }
    Ok(map)
}

fn unknown_version(meta: &SchemaMeta) -> Error {
    if meta.subsystems.is_empty() {
        return Error::refused("blue's keyspace has Kong's tables but no record of migrations, so its version is unknown")
            .remedy("Check that this is the keyspace that Kong uses; a keyspace that is not fully bootstrapped cannot be migrated.");
    }
    Error::refused(format!(
        "no schema map covers blue's version of Kong: its last core migration is {}",
        meta.core()
    ))
    .remedy("Upgrade Kong on blue to the last release of 2.8, 3.0, 3.1, 3.2 or 3.3, or pass your own schema map with --schema-map.")
}

fn not_kong(blue: &Blue, catalog: &BlueCatalog) -> Error {
    let keyspace = blue.keyspace();
    let error = if catalog.tables.is_empty() {
        Error::refused(format!("blue's keyspace \"{keyspace}\" is empty: it has no tables"))
    } else {
        Error::refused(format!(
            "blue's keyspace \"{keyspace}\" is not Kong's: it has no table \"{}\" among its {} tables",
            schema_meta::TABLE,
            catalog.tables.len()
        ))
    };
    error.remedy("Use the keyspace of Kong's configuration: cassandra_keyspace, by default \"kong\".")
}

fn not_bootstrapped(green: &Green) -> Error {
    Error::new(
        Kind::Refused,
        format!(
            "green's database \"{}\" is not bootstrapped: Kong's record of migrations is not in its schema \"{}\"",
            green.config().database(),
            green.kong_schema()
        ),
    )
    .remedy("Run \"kong migrations bootstrap\" against it with the version of Kong that runs on blue; for another schema pass --green-schema.")
}

/// What the tables hold by which blue names a row of another table; nothing for a table that blue lacks.
async fn named_rows(blue: &Blue, catalog: &BlueCatalog, map: &SchemaMap) -> Result<NamedRows> {
    let columns = map.tables.values().flat_map(|rules| rules.columns.values());
    let mut found = NamedRows::new();
    for named in columns.filter_map(|rules| rules.when_named.as_ref()) {
        if catalog.tables.get(&named.table).is_some_and(|table| table.column(&named.column).is_some()) {
            found.insert(named.table.clone(), blue.texts(&named.table, &named.column).await?);
        }
    }
    Ok(found)
}
