//! The schema map: what a line of Kong versions does that does not follow from the two catalogs.
//!
//! One JSON file per line in `schema-maps/` (format and reasons: `schema-maps/README.md`), laid over those that it extends,
//! and the user's own files over that, later ones winning column by column. This file only reads and merges; the
//! [`table plan`](super::table_plan) decides what the entries mean for the tables that really stand on both sides.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use crate::catalog::blue::BlueTable;
use crate::catalog::green::GreenTable;
use crate::error::{Error, Kind, Result};

/// The only map format there is so far.
const FORMAT: u32 = 1;

/// The subsystem in `schema_meta` that only Enterprise has.
pub const ENTERPRISE: &str = "enterprise";

/// The maps that come with the program, by the name under which another extends them; each after those that it extends.
const BUILT_IN: &[(&str, &str)] = &[
    ("2.8", include_str!("../../schema-maps/kong-2.8.json")),
    ("3.0", include_str!("../../schema-maps/kong-3.0.json")),
    ("3.1", include_str!("../../schema-maps/kong-3.1.json")),
    ("3.2", include_str!("../../schema-maps/kong-3.2.json")),
    ("3.3", include_str!("../../schema-maps/kong-3.3.json")),
    ("enterprise-2.8", include_str!("../../schema-maps/kong-enterprise-2.8.json")),
    ("enterprise-3.0", include_str!("../../schema-maps/kong-enterprise-3.0.json")),
    ("enterprise-3.1", include_str!("../../schema-maps/kong-enterprise-3.1.json")),
    ("enterprise-3.2", include_str!("../../schema-maps/kong-enterprise-3.2.json")),
    ("enterprise-3.3", include_str!("../../schema-maps/kong-enterprise-3.3.json")),
];

/// One schema map, as it stands in a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SchemaMap {
    /// Where the JSON Schema of the format is; for editors only.
    #[serde(rename = "$schema")]
    pub schema: Option<String>,
    /// Version of the format, 1.
    pub format: u32,
    /// The line of Kong versions, such as `3.3`; in a user's map: which line it is for, or absent for any.
    pub line: Option<String>,
    /// The maps that this one is laid over, the lowest first. Built-in maps only.
    #[serde(default)]
    pub extends: Vec<String>,
    /// How `schema_meta` says that a database is of this line. Absent in a user's map.
    pub detect: Option<Detect>,
    /// Migrations that a later version folded into another, by subsystem: a database that was upgraded has executed them,
    /// one that was bootstrapped has not, and both have the same schema.
    #[serde(default)]
    pub folded: BTreeMap<String, BTreeSet<String>>,
    /// Names that the whole line shares.
    #[serde(default)]
    pub names: Names,
    /// What is special about each table.
    #[serde(default)]
    pub tables: BTreeMap<String, TableRules>,
    /// Rows that green's own bootstrap made and that blue's take the place of.
    #[serde(default)]
    pub bootstrap: Vec<BootstrapRow>,
}

/// A migration whose whole name tells the line (docs/kong-data-model.md, 5: never compare ordinals).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Detect {
    /// The subsystem in `schema_meta`.
    pub subsystem: String,
    /// The migration it must have executed last.
    pub last_executed: String,
}

/// Tables and columns with a meaning of their own in every table of the line.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Names {
    pub workspaces: Option<WorkspaceNames>,
    /// Column that holds an entity's workspace.
    pub workspace_column: Option<String>,
    /// Column of green that holds an expiry; on blue it is the TTL of the cells.
    pub expiry_column: Option<String>,
    /// Trigger function of Kong that deletes expired rows when others are inserted.
    pub expiry_function: Option<String>,
    /// Column that holds the text of a composite key; never prefixed.
    pub cache_key_column: Option<String>,
    /// Table that green fills by trigger, from these columns of every entity.
    pub derived_tags: Option<DerivedTags>,
    /// Table whose live rows say that a migration of Kong is running.
    pub locks_table: Option<String>,
}

/// Where the workspaces are and which one is the default.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct WorkspaceNames {
    pub table: String,
    pub id: String,
    pub name: String,
    /// The name of the default workspace.
    pub default: String,
}

/// The table that Kong's `sync_tags` trigger keeps on green.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DerivedTags {
    pub table: String,
    pub entity_id: String,
    pub entity_name: String,
    /// Column with the tags, also the entities' own column.
    pub tags: String,
    /// The trigger function that fills it.
    pub function: String,
}

/// What is special about one table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct TableRules {
    /// Who writes it: people (default) or the data plane.
    pub writer: Option<Writer>,
    /// Whether its rows are moved; `always` where nothing is said.
    pub copy: Option<CopyPolicy>,
    /// `copy` holds only while green lacks the table: a table that stands on green as well is somebody's, whatever
    /// Kong once used its name for, and is moved.
    pub only_if_missing: Option<bool>,
    /// Why it is not moved, or only on request: one sentence, shown to the user.
    pub reason: Option<String>,
    /// These rules replace those of the base map and of patterns; otherwise they are merged into them.
    pub replace: bool,
    /// Open-source Kong has this table, so it is known which of its columns have the workspace as a prefix. Of any other
    /// table only the rows can tell.
    #[serde(skip_deserializing)]
    pub observed: bool,
    /// Only rows of this partition are Kong's.
    pub partition: Option<Partition>,
    /// Columns without which a row is only half a row, beside green's NOT NULL columns.
    pub required: Option<Vec<Required>>,
    /// Where the expiry comes from when it is not the cells' TTL.
    pub expiry: Option<Expiry>,
    /// Column with a workspace's id: rows of workspaces that blue does not have are left behind.
    pub of_workspace: Option<String>,
    /// Columns without which Kong cannot use the row: it expires with the first of them.
    pub expires_with: Option<Vec<String>>,
    /// Columns that Kong writes without the row's TTL: they outlive it, and a row of these alone has expired.
    pub outlives_row: Option<Vec<String>>,
    /// What is special about its columns.
    pub columns: BTreeMap<String, ColumnRules>,
}

/// Who writes a table (docs/architecture.md, "Terms").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Writer {
    Admin,
    /// The data plane, while requests flow.
    Traffic,
}

/// Whether a table's rows are moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CopyPolicy {
    Always,
    /// Moved only with `--include-table`.
    OnRequest,
    /// Not moved: run-time data, derived data, or left over from a version before.
    Never,
}

/// The partition that Kong reads (docs/kong-data-model.md, 1 "partition").
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Partition {
    pub column: String,
    /// The only value that Kong reads.
    pub value: String,
}

/// A required column, or a group of which one is enough.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(untagged)]
pub enum Required {
    /// This column must have a value.
    Column(String),
    /// One of these must have a value.
    OneOf(Vec<String>),
}

impl Required {
    /// The columns, of which one must have a value.
    pub fn names(&self) -> &[String] {
        match self {
            Required::Column(name) => std::slice::from_ref(name),
            Required::OneOf(names) => names,
        }
    }
}

/// An expiry that is computed from columns: the start of a window plus the seconds of its period.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Expiry {
    /// Timestamp column with the start of the window.
    pub start: String,
    /// Text column with the name of the period.
    pub period: String,
    /// Seconds of each period.
    pub seconds: BTreeMap<String, i64>,
}

/// What is special about one column.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ColumnRules {
    /// These rules replace those of the base map; otherwise they are merged into them.
    pub replace: bool,
    /// Whether the value carries `<ws_id>:` on blue; inferred from green's unique constraints where nothing is said.
    pub prefix: Option<Prefix>,
    /// Blue's column is left behind, for this reason.
    pub drop: Option<String>,
    /// Value for green where blue has null.
    pub when_null: Option<WhenNull>,
    /// The parts of a composite key, joined by `:`; the value is rebuilt from them.
    pub cache_key: Option<Vec<KeyPart>>,
    /// What the top level of a JSON text must be; an object where nothing is said.
    pub json: Option<JsonShape>,
    /// What is worth a note without being touched.
    pub remark: Option<ColumnRemark>,
    /// A value that blue keeps as a row of another table.
    pub when_named: Option<WhenNamed>,
    /// Whether it holds a secret, which no output shows.
    pub secret: Option<bool>,
}

/// The value of the one row that another table of blue names.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct WhenNamed {
    /// Blue's table that names the row.
    pub table: String,
    /// Its text column with the row's name.
    pub column: String,
    /// The text column of this table that is named.
    pub key: String,
    /// The value of the named row; the others keep their own.
    pub value: String,
}

/// Whether a text carries its row's workspace id in front.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Prefix {
    /// Blue holds `<ws_id>:<value>`.
    Workspace,
    Never,
}

/// The value that takes the place of null.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum WhenNull {
    Boolean(bool),
    Integer(i32),
    /// Lower-case hex of SHA-256 over the DER of the first certificate in this PEM column.
    Sha256OfCertificate(String),
}

/// One part of a composite key.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum KeyPart {
    /// A fixed text, often empty.
    Text(String),
    /// The value of a column of the row; empty where it is null.
    Column(String),
}

/// What the top level of a JSON text must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum JsonShape {
    /// An object, as Kong writes for every record and map.
    Object,
    Any,
}

/// What is worth a note without being touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnRemark {
    /// Elements that look like a regular expression but lack the `~` that Kong 3.x asks for (docs/kong-data-model.md, 4.18).
    RegexPath,
}

/// Rows on green that its bootstrap made.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct BootstrapRow {
    pub table: String,
    pub column: String,
    pub value: String,
    /// What becomes of it where blue has no row of this meaning.
    #[serde(default)]
    pub if_missing: IfMissing,
    /// Tables whose rows were made with it: those that refer to it.
    #[serde(default)]
    pub with: Vec<String>,
}

/// What becomes of a row of green's bootstrap where blue has no row of the same meaning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum IfMissing {
    /// It stays: Kong on green needs one.
    #[default]
    Keep,
    /// It goes: somebody removed it on blue, and a first admin whose password is in a script must not survive.
    Remove,
}

impl SchemaMap {
    /// Reads a map from JSON text; `origin` names it in errors.
    pub fn parse(text: &str, origin: &str) -> Result<Self> {
        let map: SchemaMap = serde_json::from_str(text).map_err(|e| {
            Error::usage(format!("the schema map {origin} cannot be read"))
                .source(e)
                .remedy("See schema-maps/README.md for the format.")
        })?;
        if map.format != FORMAT {
            return Err(Error::usage(format!(
                "the schema map {origin} has format {}, this program knows format {FORMAT}",
                map.format
            )));
        }
        Ok(map)
    }

    /// Reads a user's map from a file.
    pub fn from_file(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| {
            Error::new(Kind::Usage, format!("cannot read the schema map {}", path.display())).source(e)
        })?;
        SchemaMap::parse(&text, &path.display().to_string())
    }

    /// All built-in maps: open-source Kong's, oldest line first, then Enterprise's.
    pub fn built_in() -> Result<Vec<SchemaMap>> {
        let own = SchemaMap::files()?;
        let mut layers: Vec<Vec<usize>> = Vec::with_capacity(own.len());
        for (_, map) in &own {
            let below =
                own.iter().zip(&layers).filter(|((name, _), _)| map.extends.iter().any(|e| e == name));
            let mut found: Vec<usize> = below.flat_map(|(_, layers)| layers.clone()).collect();
            // Built-in maps are in the order in which they are laid over each other.
            found.push(layers.len());
            found.sort_unstable();
            found.dedup();
            layers.push(found);
        }
        let resolved = |layers: &Vec<usize>| {
            SchemaMap::resolved(
                own.iter().enumerate().filter(|(n, _)| layers.contains(n)).map(|(_, (_, map))| map),
            )
        };
        Ok(layers.iter().map(resolved).collect())
    }

    /// The built-in maps as their files state them, by name.
    fn files() -> Result<Vec<(&'static str, SchemaMap)>> {
        let parse = |(name, text): &(&'static str, &str)| {
            let map = SchemaMap::parse(text, &format!("of Kong {name}"))?;
            Ok((*name, if map.is_enterprise() { map } else { map.observed() }))
        };
        BUILT_IN.iter().map(parse).collect()
    }

    /// The map that these make, laid over each other; it is of the line of the last one.
    fn resolved<'m>(layers: impl Iterator<Item = &'m SchemaMap>) -> SchemaMap {
        let mut whole = SchemaMap::default();
        for layer in layers {
            whole.format = layer.format;
            whole.line.clone_from(&layer.line);
            whole.extends.clone_from(&layer.extends);
            whole.detect.clone_from(&layer.detect);
            whole.overlay(layer.clone());
        }
        whole
    }

    /// Whether the map is for a line of Kong Enterprise.
    pub fn is_enterprise(&self) -> bool {
        self.detect.as_ref().is_some_and(|detect| detect.subsystem == ENTERPRISE)
    }

    /// SHA-256 of the map in its serialised form, in hex.
    pub fn fingerprint(&self) -> String {
        // A map of strings and numbers always has a serialised form.
        data_encoding::HEXLOWER
            .encode(digest(&SHA256, &serde_json::to_vec(self).unwrap_or_default()).as_ref())
    }

    fn observed(mut self) -> SchemaMap {
        self.tables.values_mut().for_each(|rules| rules.observed = true);
        self
    }

    /// The rules for a version of Enterprise that no map is for: what is known of its tables from other versions, over
    /// the open-source line with the same last step of migrations, or the newest one.
    pub fn of_unknown_enterprise(core: &str) -> Result<SchemaMap> {
        let (enterprise, open): (Vec<SchemaMap>, Vec<SchemaMap>) =
            SchemaMap::files()?.into_iter().map(|(_, map)| map).partition(SchemaMap::is_enterprise);
        let digits =
            |map: &SchemaMap| map.line.as_ref().map(|line| line.replace('.', "")).unwrap_or_default();
        let same = open.iter().position(|map| core.ends_with(&format!("_to_{}0", digits(map))));
        let lines = open.iter().take(same.map_or(open.len(), |at| at + 1));
        let mut whole = SchemaMap::resolved(lines.chain(&enterprise));
        whole.line = same.and_then(|at| open.get(at)).and_then(|map| map.line.clone());
        whole.detect = None;
        Ok(whole)
    }

    /// What is special about a table: of its own name, over what a name that ends in `*` says of all that begin so.
    pub fn rules(&self, table: &str) -> TableRules {
        let mut rules = TableRules::default();
        for (name, general) in &self.tables {
            if name.strip_suffix('*').is_some_and(|start| table.starts_with(start)) {
                rules.overlay(general.clone());
            }
        }
        if let Some(own) = self.tables.get(table) {
            rules.overlay(own.clone());
        }
        rules
    }

    /// Lays `over` on this map: its table and column entries win, one by one.
    pub fn overlay(&mut self, over: SchemaMap) {
        for (table, rules) in over.tables {
            self.tables.entry(table).or_default().overlay(rules);
        }
        self.bootstrap.extend(over.bootstrap);
        for (subsystem, migrations) in over.folded {
            self.folded.entry(subsystem).or_default().extend(migrations);
        }
        self.names.overlay(over.names);
    }
}

impl Names {
    fn overlay(&mut self, over: Names) {
        replace(&mut self.workspaces, over.workspaces);
        replace(&mut self.workspace_column, over.workspace_column);
        replace(&mut self.expiry_column, over.expiry_column);
        replace(&mut self.expiry_function, over.expiry_function);
        replace(&mut self.cache_key_column, over.cache_key_column);
        replace(&mut self.derived_tags, over.derived_tags);
        replace(&mut self.locks_table, over.locks_table);
    }
}

impl TableRules {
    /// The partition that Kong reads: the one that a map names; else that of a column which leads blue's key, which green
    /// lacks, and in which Kong writes the table's name.
    pub fn partition_of(&self, blue: &BlueTable, green: &GreenTable) -> Option<Partition> {
        let inferred = blue.kong_partition(green);
        let inferred =
            inferred.map(|column| Partition { column: column.name.clone(), value: blue.name.clone() });
        self.partition.clone().or(inferred)
    }

    fn overlay(&mut self, over: TableRules) {
        if over.replace {
            *self = TableRules { replace: true, observed: self.observed, ..TableRules::default() };
        }
        replace(&mut self.writer, over.writer);
        replace(&mut self.copy, over.copy);
        replace(&mut self.only_if_missing, over.only_if_missing);
        replace(&mut self.reason, over.reason);
        self.observed |= over.observed;
        replace(&mut self.partition, over.partition);
        replace(&mut self.required, over.required);
        replace(&mut self.expiry, over.expiry);
        replace(&mut self.of_workspace, over.of_workspace);
        replace(&mut self.expires_with, over.expires_with);
        replace(&mut self.outlives_row, over.outlives_row);
        for (column, rules) in over.columns {
            self.columns.entry(column).or_default().overlay(rules);
        }
    }
}

impl ColumnRules {
    fn overlay(&mut self, over: ColumnRules) {
        if over.replace {
            *self = ColumnRules { replace: true, ..ColumnRules::default() };
        }
        replace(&mut self.prefix, over.prefix);
        replace(&mut self.drop, over.drop);
        replace(&mut self.when_null, over.when_null);
        replace(&mut self.cache_key, over.cache_key);
        replace(&mut self.json, over.json);
        replace(&mut self.remark, over.remark);
        replace(&mut self.when_named, over.when_named);
        replace(&mut self.secret, over.secret);
    }
}

fn replace<T>(slot: &mut Option<T>, over: Option<T>) {
    if over.is_some() {
        *slot = over;
    }
}
