//! How Kong reads the rows of one table on either side: a statement of its rules that is independent of the mapping's
//! (docs/kong-data-model.md, section 1).

use std::collections::BTreeSet;

use uuid::Uuid;

use super::cells::FieldType;
use super::prefixed_columns::PrefixedColumns;
use crate::catalog::blue::{BlueTable, ColumnKind, OnePartition};
use crate::catalog::green::{GreenColumn, GreenTable};
use crate::cql::CqlType;
use crate::green::sql::quote;
use crate::mapping::schema_map::{BootstrapRow, Names, Prefix, TableRules, Writer};

/// Sets of blue that are lists to Kong: their order matters.
const ORDERED: &[(&str, &str)] = &[("services", "ca_certificates"), ("oauth2_credentials", "redirect_uris")];

/// Kong builds the cache_key of these tables from these columns, and the workspace as the last of seven parts; a table
/// without workspaces has an empty one.
pub(super) const CACHE_KEYS: &[(&str, &[&str])] = &[
    ("plugins", &["name", "route_id", "service_id", "consumer_id"]),
    ("acls", &["consumer_id", "group"]),
    ("targets", &["upstream_id", "target"]),
    ("consumer_group_consumers", &["consumer_group_id", "consumer_id"]),
    ("consumer_group_plugins", &["consumer_group_id", "name"]),
    ("mtls_auth_credentials", &["subject_name", "ca_certificate_id"]),
];

/// The table whose cache_key has a form of its own.
pub(super) const KEYS: &str = "keys";

/// Enterprise's table of the keyring's keys; on PostgreSQL its `state` names the active one.
const KEYRING: &str = "keyring_meta";

/// Blue's table that names the active key.
pub(super) const ACTIVE_KEYS: &str = "keyring_meta_active";

/// Columns that Kong writes without the row's time to live, by a second statement.
const OUTLIVES_ROW: &[(&str, &str)] = &[("keyauth_enc_credentials", "key_ident")];

/// Rows that outlive their workspace, by this column: Kong does not read them afterwards.
const OUTLIVES_WORKSPACE: &[(&str, &str)] = &[("workspace_entity_counters", "workspace_id")];

/// Columns that Kong needs of a row beside unique columns, references and those that green requires.
const NEEDED: &[(&str, &str)] = &[("acme_storage", "value")];

/// The reading rules of one table.
#[derive(Debug, Clone)]
pub struct ReadingRules {
    pub(super) name: String,
    pub(super) writer: Writer,
    /// Blue's columns in the order in which they are read. The times to live and the read time follow them.
    pub(super) cells: Vec<String>,
    /// Blue's columns whose time to live is read.
    pub(super) ttls: Vec<String>,
    /// Whether a row expires with the first of these cells, not with the last one.
    pub(super) expires_with_first: bool,
    /// The cells that are all null in what is left of an expired row; empty where nothing outlives its row.
    pub(super) null_when_expired: Vec<usize>,
    /// The cell with a workspace's id, and the ids of the workspaces that exist, where rows outlive theirs.
    pub(super) existing_workspace: Option<(usize, BTreeSet<[u8; 16]>)>,
    /// The ids of the keyring's active keys.
    pub(super) active_keys: BTreeSet<String>,
    pub(super) partition_key: Vec<String>,
    /// The compared columns, in the order in which green is read.
    pub(super) columns: Vec<ComparedColumn>,
    /// Places of the key among `columns`.
    pub(super) key: Vec<usize>,
    pub(super) expiry: Option<String>,
    /// Columns of green of a type that is not compared.
    pub(super) not_compared: Vec<String>,
    /// Blue's key, where the id is all of the key that varies, so that single rows can be read by id.
    pub(super) by_id: Option<Vec<BlueKeyColumn>>,
    /// The partition of Cassandra with all rows that Kong reads, where there is such a one.
    pub(super) one_partition: Option<OnePartition>,
    /// Rows that green's bootstrap made, as the place of a column and its value. They stay where blue has no row of the
    /// same meaning.
    pub(super) bootstrap: Vec<(usize, String)>,
    /// The cell and the value that a row must have for Kong to read it.
    pub(super) partition: Option<(usize, String)>,
    pub(super) counter_window: Option<CounterWindow>,
    pub(super) workspaces: Option<WorkspaceFilter>,
}

#[derive(Debug, Clone)]
pub(super) enum BlueKeyColumn {
    Id(String),
    /// A column with this value in every row that Kong reads.
    Constant(String, String),
}

/// The workspaces to which a comparison is restricted.
#[derive(Debug, Clone)]
pub(super) struct WorkspaceFilter {
    pub(super) cell: usize,
    column: String,
    pub(super) ids: BTreeSet<[u8; 16]>,
}

/// The cells with the start of a rate-limiting counter's window and with the name of its period.
#[derive(Debug, Clone, Copy)]
pub(super) struct CounterWindow {
    pub(super) start: usize,
    pub(super) period: usize,
}

#[derive(Debug, Clone)]
pub(super) struct ComparedColumn {
    pub(super) name: String,
    pub(super) field_type: FieldType,
    pub(super) source: ValueSource,
}

/// Where Kong on blue takes a column's value from. Numbers are places among the cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ValueSource {
    Null,
    Cell(usize),
    /// The text after `<workspace id>:`.
    Prefixed(usize),
    /// The text after the row's own `<workspace id>:`, where the text begins with it. In a table that is not Kong's.
    OwnPrefix {
        cell: usize,
        workspace: usize,
    },
    /// One of `Cell` and `OwnPrefix`: blue's rows have not been counted yet.
    UndecidedPrefix {
        cell: usize,
        workspace: usize,
    },
    /// Null means true.
    TrueByDefault(usize),
    /// Null means 0.
    ZeroByDefault(usize),
    /// Null means the digest of the certificate.
    CertificateDigest {
        cell: usize,
        certificate: usize,
    },
    /// "active" where the keyring's active key has this id.
    KeyState {
        cell: usize,
        id: usize,
    },
    /// Built from other columns; the cell, where it exists, may hold an outdated value.
    CacheKey(Option<usize>),
}

/// What is known of a table beside its columns.
#[derive(Clone, Copy)]
struct TableFacts<'f> {
    rules: &'f TableRules,
    names: &'f Names,
    prefixes: &'f PrefixedColumns,
}

impl ReadingRules {
    /// The rules of a table that both sides have.
    pub fn new(
        blue: &BlueTable,
        green: &GreenTable,
        rules: &TableRules,
        names: &Names,
        prefixes: &PrefixedColumns,
    ) -> ReadingRules {
        let cell = |name: &str| blue.columns.iter().position(|column| column.name == name);
        let expiry = names
            .expiry_column
            .as_deref()
            .filter(|name| green.column(name).is_some() && cell(name).is_none());
        let has_ttl = |column: &&crate::catalog::blue::BlueColumn| {
            column.kind == ColumnKind::Regular
                && !column.cql_type.is_collection()
                && !column.cql_type.is("counter")
        };
        let ttls = blue.columns.iter().filter(|column| expiry.is_some() && has_ttl(column));
        let (ttls, expires_with_first) = expiring(ttls.map(|column| column.name.clone()).collect(), green);
        let partition = rules.partition_of(blue, green);
        let partition = partition.as_ref();
        let window = rules.expiry.as_ref();
        let mut table = ReadingRules {
            name: blue.name.clone(),
            writer: rules.writer.unwrap_or(Writer::Admin),
            cells: blue.columns.iter().map(|column| column.name.clone()).collect(),
            ttls,
            expires_with_first,
            null_when_expired: null_when_expired(blue),
            existing_workspace: None,
            active_keys: BTreeSet::new(),
            partition_key: blue.partition_key().into_iter().map(str::to_owned).collect(),
            columns: Vec::new(),
            key: Vec::new(),
            expiry: expiry.map(str::to_owned),
            not_compared: Vec::new(),
            by_id: None,
            bootstrap: Vec::new(),
            workspaces: None,
            one_partition: partition.and_then(|own| blue.one_partition(&own.column, &own.value)),
            partition: partition.and_then(|own| Some((cell(&own.column)?, own.value.clone()))),
            counter_window: window
                .and_then(|own| Some(CounterWindow { start: cell(&own.start)?, period: cell(&own.period)? })),
        };
        for column in green.columns.iter().filter(|column| Some(column.name.as_str()) != expiry) {
            table.add_column(column, blue, TableFacts { rules, names, prefixes });
        }
        let place = |name: &String| table.columns.iter().position(|column| column.name == *name);
        table.key = green.primary_key.iter().filter_map(place).collect();
        table.by_id = table.id_lookup(blue, green);
        table
    }

    fn add_column(&mut self, column: &GreenColumn, blue: &BlueTable, facts: TableFacts<'_>) {
        let name = column.name.clone();
        let blue_type = blue.column(&name).map(|own| &own.cql_type);
        let is_ordered = ORDERED.contains(&(self.name.as_str(), name.as_str()));
        let text = CqlType::Native("text".to_owned());
        match FieldType::from_pair(blue_type.unwrap_or(&text), &column.column_type, is_ordered) {
            Some(field_type) => {
                let source = self.source(column, facts);
                self.columns.push(ComparedColumn { name, field_type, source });
            }
            // A column that blue lacks must be null, and null is the same in every type.
            None if blue_type.is_none() => {
                let (field_type, source) = (FieldType::Text, ValueSource::Null);
                self.columns.push(ComparedColumn { name, field_type, source });
            }
            None => self.not_compared.push(name),
        }
    }

    /// The same table, restricted to the rows of these workspaces; `None` where its rows belong to no workspace.
    pub(super) fn within(mut self, column: &str, ids: BTreeSet<[u8; 16]>) -> Option<ReadingRules> {
        let is_id = |own: &ComparedColumn| own.name == column && own.field_type == FieldType::Uuid;
        if !self.columns.iter().any(is_id) {
            return None;
        }
        self.workspaces = Some(WorkspaceFilter { cell: self.cell(column)?, column: column.to_owned(), ids });
        Some(self)
    }

    #[must_use]
    pub(super) fn with_bootstrap<'b>(mut self, rows: impl Iterator<Item = &'b BootstrapRow>) -> ReadingRules {
        let place = |column: &str| self.columns.iter().position(|own| own.name == column);
        self.bootstrap = rows.filter_map(|row| Some((place(&row.column)?, row.value.clone()))).collect();
        self
    }

    #[must_use]
    pub(super) fn with_workspaces(mut self, ids: impl Iterator<Item = Uuid>) -> ReadingRules {
        let column = OUTLIVES_WORKSPACE.iter().find(|(table, _)| *table == self.name);
        let cell = column.and_then(|(_, column)| self.cell(column));
        self.existing_workspace = cell.map(|cell| (cell, ids.map(Uuid::into_bytes).collect()));
        self
    }

    #[must_use]
    pub(super) fn with_active_keys(mut self, ids: &BTreeSet<String>) -> ReadingRules {
        self.active_keys.clone_from(ids);
        self
    }

    /// The SQL condition on the table's own columns that selects the rows of the compared workspaces.
    pub(super) fn workspace_condition(&self) -> String {
        let Some(filter) = &self.workspaces else { return "true".to_owned() };
        let ids: Vec<String> = filter.ids.iter().map(|id| format!("'{}'", Uuid::from_bytes(*id))).collect();
        if ids.is_empty() {
            return "false".to_owned();
        }
        format!("{} in ({})", quote(&filter.column), ids.join(", "))
    }

    fn id_lookup(&self, blue: &BlueTable, green: &GreenTable) -> Option<Vec<BlueKeyColumn>> {
        let [id] = self.key.as_slice() else { return None };
        let id = self.columns.get(*id).filter(|own| own.field_type == FieldType::Uuid)?;
        if green.primary_key.len() != 1 {
            return None;
        }
        let is_key = |kind| matches!(kind, ColumnKind::PartitionKey(_) | ColumnKind::Clustering(_));
        let partition =
            self.partition.as_ref().and_then(|(cell, value)| Some((self.cells.get(*cell)?, value)));
        let key_column = |name: &String| match partition {
            _ if *name == id.name => Some(BlueKeyColumn::Id(name.clone())),
            Some((column, value)) if column == name => {
                Some(BlueKeyColumn::Constant(name.clone(), value.clone()))
            }
            _ => None,
        };
        let keys = blue.columns.iter().filter(|column| is_key(column.kind));
        let keys: Vec<BlueKeyColumn> = keys.map(|column| key_column(&column.name)).collect::<Option<_>>()?;
        keys.iter().any(|column| matches!(column, BlueKeyColumn::Id(_))).then_some(keys)
    }

    pub(super) fn cell(&self, name: &str) -> Option<usize> {
        self.cells.iter().position(|own| own == name)
    }

    fn source(&self, column: &GreenColumn, facts: TableFacts<'_>) -> ValueSource {
        let name = column.name.as_str();
        let cell = self.cell(name);
        if facts.names.cache_key_column.as_deref() == Some(name) && self.has_cache_key() {
            return ValueSource::CacheKey(cell);
        }
        let Some(cell) = cell else { return ValueSource::Null };
        match (self.name.as_str(), name) {
            ("plugins", "enabled") => ValueSource::TrueByDefault(cell),
            // Of Enterprise: a consumer without a type is of the type 0, an ordinary consumer.
            ("consumers", "type") => ValueSource::ZeroByDefault(cell),
            ("ca_certificates", "cert_digest") => match self.cell("cert") {
                Some(certificate) => ValueSource::CertificateDigest { cell, certificate },
                None => ValueSource::Cell(cell),
            },
            (KEYRING, "state") => match self.cell("id") {
                Some(id) => ValueSource::KeyState { cell, id },
                None => ValueSource::Cell(cell),
            },
            _ if is_text(&column.column_type) => self.text_source(cell, name, facts),
            _ => ValueSource::Cell(cell),
        }
    }

    fn has_cache_key(&self) -> bool {
        self.name == KEYS || CACHE_KEYS.iter().any(|(table, _)| *table == self.name)
    }

    /// Kong writes `<workspace id>:` in front of some texts of a table with workspaces. Of Kong's own columns it is known
    /// which; of others the operator may state it in a schema map; else blue's rows decide.
    fn text_source(&self, cell: usize, column: &str, facts: TableFacts<'_>) -> ValueSource {
        let workspace = facts.names.workspace_column.as_deref().and_then(|name| self.cell(name));
        let stated = facts.rules.columns.get(column).and_then(|own| own.prefix);
        match (facts.prefixes.is_prefixed(&self.name, column), workspace, stated) {
            (Some(true), ..) => ValueSource::Prefixed(cell),
            (None, Some(workspace), Some(Prefix::Workspace)) => ValueSource::OwnPrefix { cell, workspace },
            (None, Some(workspace), None) => ValueSource::UndecidedPrefix { cell, workspace },
            _ => ValueSource::Cell(cell),
        }
    }

    pub fn column_count(&self) -> usize {
        self.columns.len()
    }

    /// The key's column, where the key has one column.
    pub(super) fn key_name(&self) -> Option<&str> {
        match self.key.as_slice() {
            [place] => self.columns.get(*place).map(|column| column.name.as_str()),
            _ => None,
        }
    }
}

/// Of these columns those without which Kong cannot use a row, and that it expires with the first of them; all, and that
/// it expires with the last one, where there is none.
fn expiring(columns: Vec<String>, green: &GreenTable) -> (Vec<String>, bool) {
    let is_needed = |name: &String| {
        let is_unique = green.indexes.iter().any(|index| index.unique && index.columns.contains(name));
        let refers = green.foreign_keys.iter().any(|key| key.columns.contains(name));
        let is_required = green.column(name).is_some_and(|column| column.not_null);
        is_unique || refers || is_required || NEEDED.contains(&(green.name.as_str(), name))
    };
    let needed: Vec<String> = columns.iter().filter(|name| is_needed(name)).cloned().collect();
    if needed.is_empty() { (columns, false) } else { (needed, true) }
}

fn null_when_expired(blue: &BlueTable) -> Vec<usize> {
    let Some((_, outlives)) = OUTLIVES_ROW.iter().find(|(table, _)| *table == blue.name) else {
        return Vec::new();
    };
    let columns = blue.columns.iter().enumerate();
    let expires = columns.filter(|(_, own)| own.kind == ColumnKind::Regular && own.name != *outlives);
    expires.map(|(place, _)| place).collect()
}

fn is_text(column_type: &str) -> bool {
    column_type.starts_with("text") && !column_type.ends_with("[]")
}
