//! How Kong reads a row of either database: our own statement of its rules (facts, section 1), one table at a time.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::cells::{self, Meaning};
use super::value::Value;
use crate::catalog::blue::OnePartition;
use crate::catalog::blue::{BlueTable, ColumnKind};
use crate::catalog::green::GreenTable;
use crate::green::sql::quote;
use crate::mapping::schema_map::{BootstrapRow, Names, Prefix, TableRules, Writer};

/// Sets of blue that stand for lists of Kong: their first element means something.
const ORDERED: &[(&str, &str)] = &[("services", "ca_certificates"), ("oauth2_credentials", "redirect_uris")];

/// Kong builds the cache_key of these tables from these columns and `ws_id` as the last of seven parts.
const CACHE_KEYS: &[(&str, &[&str])] = &[
    ("plugins", &["name", "route_id", "service_id", "consumer_id"]),
    ("acls", &["consumer_id", "group"]),
    ("targets", &["upstream_id", "target"]),
];

/// Length of a workspace id in front of a unique text.
const WORKSPACE: usize = 36;

/// One table, as it is read on both sides.
#[derive(Debug, Clone)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// Who writes it.
    pub writer: Writer,
    /// Blue's columns, in the order in which they are read; the times to live and the read time follow.
    pub cells: Vec<String>,
    /// Blue's columns whose time to live is asked.
    pub ttls: Vec<String>,
    /// Blue's partition key.
    pub partition_key: Vec<String>,
    /// What is compared, in the order in which green is read.
    pub columns: Vec<Column>,
    /// Places of the key among the columns.
    pub key: Vec<usize>,
    /// Green's column with the expiry.
    pub expiry: Option<String>,
    /// Columns of green of a type that is not compared.
    pub not_compared: Vec<String>,
    /// How one row of blue is read by its id, where the key on both sides is no more than that.
    pub by_id: Option<Vec<KeyCell>>,
    /// Rows that green's own bootstrap made: they stay where blue has none of the same meaning.
    bootstrap: Vec<(usize, String)>,
    /// Where all rows that Kong reads are one partition of Cassandra, what that is.
    pub one_partition: Option<OnePartition>,
    partition: Option<(usize, String)>,
    window: Option<(usize, usize)>,
    scope: Option<Scope>,
}

/// One column of blue's key, where a row is read by its id.
#[derive(Debug, Clone)]
pub enum KeyCell {
    /// The column that holds the id.
    Id(String),
    /// A column that holds the same in every row that Kong reads.
    Fixed(String, String),
}

/// The workspaces whose rows are compared, where not all are.
#[derive(Debug, Clone)]
struct Scope {
    cell: usize,
    column: String,
    ids: BTreeSet<[u8; 16]>,
}

/// What a row of blue is to a comparison.
#[derive(Debug)]
pub enum OnBlue {
    /// Kong reads it so.
    Read(Row),
    /// Of a partition that Kong does not read.
    Foreign,
    /// Of a workspace that is not looked at.
    Outside,
}

/// One column that is compared.
#[derive(Debug, Clone)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub meaning: Meaning,
    source: Source,
}

/// Where Kong on blue has a value from.
#[derive(Debug, Clone)]
enum Source {
    /// It has none.
    Nothing,
    /// This cell.
    Cell(usize),
    /// This cell, behind the workspace's id.
    Prefixed(usize),
    /// The first cell, behind the id in the second, if it stands there at all: nobody knows which of these tables' texts
    /// carry their workspace.
    PerhapsPrefixed(usize, usize),
    /// This cell; null means true.
    TrueByDefault(usize),
    /// This cell; null means 0.
    ZeroByDefault(usize),
    /// This cell; null means the digest of the certificate in the other one.
    Digest(usize, usize),
    /// Built from other columns; this cell may hold it, or an old one.
    CacheKey(Option<usize>),
}

/// One row as Kong reads it.
#[derive(Debug, Clone)]
pub struct Row {
    /// Its values, in the order of the table's columns.
    pub values: Vec<Value>,
    /// When it ends, in milliseconds since 1970.
    pub expiry: Option<i64>,
    /// Whether a value had to be mended to be read so.
    pub repaired: bool,
}

impl Table {
    /// The reading rules of a table that stands on both sides.
    pub fn new(blue: &BlueTable, green: &GreenTable, rules: &TableRules, names: &Names) -> Table {
        let cell = |name: &str| blue.columns.iter().position(|column| column.name == name);
        let expiry = names
            .expiry_column
            .as_deref()
            .filter(|name| green.column(name).is_some() && cell(name).is_none());
        let may_expire = |kind: ColumnKind| kind == ColumnKind::Regular;
        let ttls = blue.columns.iter().filter(|c| {
            expiry.is_some() && may_expire(c.kind) && !c.cql_type.is_collection() && !c.cql_type.is("counter")
        });
        let mut table = Table {
            name: blue.name.clone(),
            writer: rules.writer.unwrap_or(Writer::Admin),
            cells: blue.columns.iter().map(|column| column.name.clone()).collect(),
            ttls: ttls.map(|column| column.name.clone()).collect(),
            partition_key: blue.partition_key().into_iter().map(str::to_owned).collect(),
            columns: Vec::new(),
            key: Vec::new(),
            expiry: expiry.map(str::to_owned),
            not_compared: Vec::new(),
            by_id: None,
            bootstrap: Vec::new(),
            scope: None,
            one_partition: (rules.partition.as_ref()).and_then(|p| blue.one_partition(&p.column, &p.value)),
            partition: rules.partition.as_ref().and_then(|p| Some((cell(&p.column)?, p.value.clone()))),
            window: rules.expiry.as_ref().and_then(|e| Some((cell(&e.start)?, cell(&e.period)?))),
        };
        for column in green.columns.iter().filter(|column| Some(column.name.as_str()) != expiry) {
            let ordered = ORDERED.contains(&(blue.name.as_str(), column.name.as_str()));
            let of_blue = blue.column(&column.name).map(|own| &own.cql_type);
            let text = crate::cql::CqlType::Native("text".to_owned());
            match Meaning::of(of_blue.unwrap_or(&text), &column.column_type, ordered) {
                Some(meaning) => {
                    let source = table.source(&column.name, green, rules, names);
                    table.columns.push(Column { name: column.name.clone(), meaning, source });
                }
                // A column that blue lacks must be null, and null is the same in every type.
                None if of_blue.is_none() => table.columns.push(Column {
                    name: column.name.clone(),
                    meaning: Meaning::Text,
                    source: Source::Nothing,
                }),
                None => table.not_compared.push(column.name.clone()),
            }
        }
        let place = |name: &String| table.columns.iter().position(|column| column.name == *name);
        table.key = green.primary_key.iter().filter_map(place).collect();
        table.by_id = table.id_lookup(blue, green);
        table
    }

    /// The same table, of which only rows of these workspaces are compared; nothing where its rows belong to none.
    pub fn within(mut self, column: &str, ids: BTreeSet<[u8; 16]>) -> Option<Table> {
        let is_id = |own: &Column| own.name == column && own.meaning == Meaning::Uuid;
        if !self.columns.iter().any(is_id) {
            return None;
        }
        self.scope = Some(Scope { cell: self.cell(column)?, column: column.to_owned(), ids });
        Some(self)
    }

    /// The same table, of which green's bootstrap makes rows with these values in these columns.
    #[must_use]
    pub fn with_bootstrap<'b>(mut self, rows: impl Iterator<Item = &'b BootstrapRow>) -> Table {
        let place = |column: &str| self.columns.iter().position(|own| own.name == column);
        self.bootstrap = rows.filter_map(|row| Some((place(&row.column)?, row.value.clone()))).collect();
        self
    }

    /// Which of the bootstrap's rows this one is, if it is one.
    pub fn bootstrap_row(&self, row: &Row) -> Option<usize> {
        let is = |(at, value): &(usize, String)| {
            row.values.get(*at).is_some_and(|own| own.shown().as_str() == Some(value.as_str()))
        };
        self.bootstrap.iter().position(is)
    }

    /// The condition under which a row of green is looked at, as SQL about the table's own columns.
    pub fn scope_on_green(&self) -> String {
        let Some(scope) = &self.scope else { return "true".to_owned() };
        let ids = scope.ids.iter().map(|id| format!("'{}'", Uuid::from_bytes(*id)));
        match ids.collect::<Vec<_>>().join(", ") {
            none if none.is_empty() => "false".to_owned(),
            ids => format!("{} in ({ids})", quote(&scope.column)),
        }
    }

    fn id_lookup(&self, blue: &BlueTable, green: &GreenTable) -> Option<Vec<KeyCell>> {
        let [id] = self.key.as_slice() else { return None };
        let id = self.columns.get(*id).filter(|own| own.meaning == Meaning::Uuid)?;
        if green.primary_key.len() != 1 {
            return None;
        }
        let is_key = |kind| matches!(kind, ColumnKind::PartitionKey(_) | ColumnKind::Clustering(_));
        let fixed = self.partition.as_ref().and_then(|(at, value)| Some((self.cells.get(*at)?, value)));
        let cell = |name: &String| match fixed {
            _ if *name == id.name => Some(KeyCell::Id(name.clone())),
            Some((column, value)) if column == name => Some(KeyCell::Fixed(name.clone(), value.clone())),
            _ => None,
        };
        let keys = blue.columns.iter().filter(|column| is_key(column.kind));
        let cells: Vec<KeyCell> = keys.map(|column| cell(&column.name)).collect::<Option<_>>()?;
        cells.iter().any(|cell| matches!(cell, KeyCell::Id(_))).then_some(cells)
    }

    fn cell(&self, name: &str) -> Option<usize> {
        self.cells.iter().position(|own| own == name)
    }

    fn source(&self, column: &str, green: &GreenTable, rules: &TableRules, names: &Names) -> Source {
        let cell = self.cell(column);
        if names.cache_key_column.as_deref() == Some(column) && self.has_cache_key() {
            return Source::CacheKey(cell);
        }
        match (cell, self.name.as_str(), column) {
            (None, _, _) => Source::Nothing,
            (Some(cell), "plugins", "enabled") => Source::TrueByDefault(cell),
            // Of Enterprise: a consumer that is nobody's account is of the type 0, as one without a type is.
            (Some(cell), "consumers", "type") => Source::ZeroByDefault(cell),
            (Some(cell), "ca_certificates", "cert_digest") => {
                self.cell("cert").map_or(Source::Cell(cell), |cert| Source::Digest(cell, cert))
            }
            (Some(cell), _, _) if self.is_prefixed(column, green, rules, names) => {
                let open =
                    !rules.observed && rules.columns.get(column).is_none_or(|own| own.prefix.is_none());
                match names.workspace_column.as_deref().and_then(|name| self.cell(name)) {
                    Some(workspace) if open => Source::PerhapsPrefixed(cell, workspace),
                    _ => Source::Prefixed(cell),
                }
            }
            (Some(cell), _, _) => Source::Cell(cell),
        }
    }

    fn has_cache_key(&self) -> bool {
        self.name == "keys" || CACHE_KEYS.iter().any(|(table, _)| *table == self.name)
    }

    /// Texts that are unique within a workspace carry its id on blue; green's constraints show which those are.
    fn is_prefixed(&self, column: &str, green: &GreenTable, rules: &TableRules, names: &Names) -> bool {
        let Some(workspace) = names.workspace_column.as_deref() else { return false };
        let is_text = green.column(column).is_some_and(|own| own.column_type.starts_with("text"));
        if self.cell(workspace).is_none() || !is_text || names.cache_key_column.as_deref() == Some(column) {
            return false;
        }
        match rules.columns.get(column).and_then(|own| own.prefix) {
            Some(prefix) => prefix == Prefix::Workspace,
            None => green.is_unique_over(&[workspace, column]),
        }
    }

    /// A row of blue as Kong reads it, where it is looked at.
    pub fn of_blue(&self, cells: &[Option<&[u8]>]) -> OnBlue {
        let get = |at: usize| cells.get(at).copied().flatten();
        let is_inside = |scope: &Scope| {
            get(scope.cell).is_some_and(|id| id.try_into().is_ok_and(|id: [u8; 16]| scope.ids.contains(&id)))
        };
        if !self.scope.as_ref().is_none_or(is_inside) {
            return OnBlue::Outside;
        }
        self.any_of_blue(cells).map_or(OnBlue::Foreign, OnBlue::Read)
    }

    /// The same of any workspace; nothing for a row of a partition that Kong does not read.
    pub fn any_of_blue(&self, cells: &[Option<&[u8]>]) -> Option<Row> {
        let get = |at: usize| cells.get(at).copied().flatten();
        if let Some((at, value)) = &self.partition
            && get(*at) != Some(value.as_bytes())
        {
            return None;
        }
        let mut repaired = false;
        let values = self.columns.iter().map(|column| self.value(column, cells, &mut repaired)).collect();
        Some(Row { values, expiry: self.blue_expiry(cells), repaired })
    }

    fn value(&self, column: &Column, cells: &[Option<&[u8]>], repaired: &mut bool) -> Value {
        let get = |at: usize| cells.get(at).copied().flatten();
        match column.source {
            Source::Nothing => Value::Null,
            Source::Cell(at) => cells::blue(&column.meaning, get(at)),
            Source::Prefixed(at) => cells::blue(&column.meaning, get(at).map(without_workspace)),
            Source::PerhapsPrefixed(at, workspace) => {
                let own = get(workspace).and_then(|bytes| Uuid::from_slice(bytes).ok());
                let value = get(at).map(|bytes| match own {
                    Some(own) if bytes.starts_with(format!("{own}:").as_bytes()) => without_workspace(bytes),
                    _ => bytes,
                });
                cells::blue(&column.meaning, value)
            }
            Source::TrueByDefault(at) => get(at).map_or_else(
                || {
                    *repaired = true;
                    Value::Bool(true)
                },
                |bytes| cells::blue(&column.meaning, Some(bytes)),
            ),
            Source::ZeroByDefault(at) => get(at).map_or_else(
                || {
                    *repaired = true;
                    Value::Int(0)
                },
                |bytes| cells::blue(&column.meaning, Some(bytes)),
            ),
            Source::Digest(at, certificate) => get(at).map_or_else(
                || {
                    *repaired = true;
                    get(certificate).and_then(fingerprint).map_or(Value::Null, Value::Text)
                },
                |bytes| cells::blue(&column.meaning, Some(bytes)),
            ),
            Source::CacheKey(at) => {
                let built = self.cache_key(cells);
                *repaired |= at.and_then(get) != Some(built.as_slice());
                Value::Text(built)
            }
        }
    }

    /// The key under which Kong looks a row up in its cache, built as Kong builds it.
    fn cache_key(&self, cells: &[Option<&[u8]>]) -> Vec<u8> {
        let part = |name: &str| {
            let bytes = self.cell(name).and_then(|at| cells.get(at).copied().flatten()).unwrap_or_default();
            // Sixteen bytes of a column with an id are the id; Kong writes it as text.
            let is_id = name.ends_with("_id");
            match <[u8; 16]>::try_from(bytes) {
                Ok(id) if is_id => Uuid::from_bytes(id).to_string().into_bytes(),
                _ => bytes.to_vec(),
            }
        };
        let mut parts = vec![self.name.clone().into_bytes()];
        if self.name == "keys" {
            parts.extend([part("kid"), part("set_id")]);
        } else {
            let columns =
                CACHE_KEYS.iter().find(|(table, _)| *table == self.name).map_or(&[][..], |(_, c)| c);
            parts.extend(columns.iter().map(|name| part(name)));
            parts.resize(6, Vec::new());
            parts.push(part("ws_id"));
        }
        parts.join(&b':')
    }

    /// Read time, to the second, and the longest life of a cell; or the end of the window that a counter is for.
    fn blue_expiry(&self, cells: &[Option<&[u8]>]) -> Option<i64> {
        let get = |at: usize| cells.get(at).copied().flatten();
        self.expiry.as_ref()?;
        if let Some((start, period)) = self.window {
            let seconds = match get(period)? {
                b"second" => 1,
                b"minute" => 60,
                b"hour" => 3_600,
                b"day" => 86_400,
                b"month" => 2_592_000,
                b"year" => 31_536_000,
                _ => return None,
            };
            return Some(cells::number(get(start)?)?.saturating_add(seconds * 1000));
        }
        let first = self.cells.len();
        let now = cells::number(get(first + self.ttls.len())?)?;
        let longest = (first..first + self.ttls.len()).filter_map(|at| cells::number(get(at)?)).max()?;
        Some(now.div_euclid(1000).saturating_add(longest).saturating_mul(1000))
    }

    /// A row of green as Kong reads it: its fields in the order of the columns, and the expiry where there is one.
    pub fn of_green(&self, fields: &[Option<&[u8]>]) -> Row {
        let field = |at: usize| fields.get(at).copied().flatten();
        let values = self.columns.iter().enumerate().map(|(at, column)| {
            match cells::green(&column.meaning, field(at)) {
                // No tags and empty tags are the same to Kong; other empty sets are not (facts, trap 19).
                Value::Set(tags) if column.name == "tags" && tags.is_empty() => Value::Null,
                value => value,
            }
        });
        let expiry = match cells::green(&Meaning::Instant, field(self.columns.len())) {
            Value::Instant(micros) if self.expiry.is_some() => Some(micros.div_euclid(1000)),
            _ => None,
        };
        Row { values: values.collect(), expiry, repaired: false }
    }

    /// The key's column, where it is one.
    pub fn key_name(&self) -> Option<&str> {
        match self.key.as_slice() {
            [one] => self.columns.get(*one).map(|column| column.name.as_str()),
            _ => None,
        }
    }

    /// What names a row: the value of a key of one column, an object for a key of several.
    pub fn shown_key(&self, row: &Row) -> serde_json::Value {
        let part = |at: &usize| Some((self.columns.get(*at)?.name.clone(), key_part(row.values.get(*at)?)));
        let parts: std::collections::BTreeMap<_, _> = self.key.iter().filter_map(part).collect();
        match parts.len() {
            1 => parts.into_values().next().unwrap_or_default(),
            _ => parts.into_iter().collect::<serde_json::Map<_, _>>().into(),
        }
    }
}

/// A key as the journal spells it: jsonb takes no U+0000, and what is no UTF-8 is shown by its bytes.
fn key_part(value: &Value) -> serde_json::Value {
    match value {
        Value::Text(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => text.replace('\0', "\\u0000").into(),
            Err(_) => Value::Opaque(bytes.clone()).shown(),
        },
        other => other.shown(),
    }
}

/// Kong's reader cuts 37 bytes wherever byte 37 is a colon.
fn without_workspace(text: &[u8]) -> &[u8] {
    match text.get(WORKSPACE) {
        Some(b':') => text.get(WORKSPACE + 1..).unwrap_or_default(),
        _ => text,
    }
}

/// Lower-case hex of SHA-256 over the DER bytes of the first certificate of a PEM text.
fn fingerprint(pem: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(pem).ok()?;
    let (_, rest) = text.split_once("-----BEGIN CERTIFICATE-----")?;
    let (body, _) = rest.split_once("-----END CERTIFICATE-----")?;
    Some(format!("{:x}", Sha256::digest(base64(body)?)).into_bytes())
}

fn base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut held) = (0_u32, 0_u32);
    for byte in text.bytes().filter(|byte| !byte.is_ascii_whitespace() && *byte != b'=') {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        held = (held << 6 | u32::from(six)) & 0xff_ffff;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(held >> bits & 0xff).ok()?);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_is_cut_where_kong_cuts_it() {
        let id = "6375b5fd-9c95-4822-b2dd-80ffbccb7ec9";
        for rest in ["bob", "a:b:c", ":x", ""] {
            assert_eq!(without_workspace(format!("{id}:{rest}").as_bytes()), rest.as_bytes());
        }
        assert_eq!(without_workspace(b"bob"), b"bob");
    }

    #[test]
    fn a_key_that_jsonb_cannot_hold_is_spelled_as_in_the_journal() {
        assert_eq!(key_part(&Value::Text(b"a\0b".to_vec())), "a\\u0000b");
        assert_eq!(key_part(&Value::Text(vec![0xff])), serde_json::json!({ "bytes": "ff" }));
    }

    #[test]
    fn the_fingerprint_is_that_of_the_der_bytes() {
        // "MAMCAQE=" is a DER sequence holding the integer 1; its digest was made with sha256sum.
        let pem = b"-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----\n";
        let expected = b"1b65f68a522c858715f5dd951cd0402dc16691778814bf0759822b7a257421d0";
        assert_eq!(fingerprint(pem).as_deref(), Some(&expected[..]));
        assert_eq!(fingerprint(b"none"), None);
    }
}
