//! Resolves the plan of one table: its rules × its columns on blue × its columns on green.

use std::collections::BTreeSet;

use crate::catalog::blue::{BlueTable, ColumnKind};
use crate::catalog::green::{GreenColumn, GreenTable};

use super::conversion::Conversion;
use super::prefix::PrefixPolicy;
use super::schema_map::{
    ColumnRules, Expiry, JsonShape, KeyPart, Partition, Prefix, Required, SchemaMap, TableRules, WhenNull,
    Writer,
};
use super::table_plan::{
    CacheKeyPart, CacheKeyPartKind, Cell, ColumnPlan, ColumnSource, ExpiryChoice, Obstacle, Substitute,
    TablePlan, quoted, snippet,
};

/// The plan of one table, and what must be decided before it can be followed.
pub(super) fn resolve(
    map: &SchemaMap,
    rules: &TableRules,
    blue: &BlueTable,
    green: &GreenTable,
) -> (TablePlan, Vec<Obstacle>) {
    let partition = rules.partition_of(blue, green);
    let (cells, unconverted, obstacles) = (Vec::new(), Vec::new(), Vec::new());
    let mut resolver = Resolver { map, rules, blue, green, partition, cells, unconverted, obstacles };
    (resolver.resolve(), resolver.obstacles)
}

struct Resolver<'a> {
    map: &'a SchemaMap,
    rules: &'a TableRules,
    blue: &'a BlueTable,
    green: &'a GreenTable,
    /// The partition that Kong reads, where the table has one.
    partition: Option<Partition>,
    cells: Vec<Cell>,
    /// Cells of a type that green's column cannot be made of.
    unconverted: Vec<usize>,
    obstacles: Vec<Obstacle>,
}

impl Resolver<'_> {
    fn resolve(&mut self) -> TablePlan {
        self.cells =
            self.blue.columns.iter().map(|c| Cell::Value(c.name.clone(), c.cql_type.clone())).collect();
        let expiry = self.expiry_column();
        let columns: Vec<ColumnPlan> =
            self.green.columns.iter().map(|column| self.column(column, expiry.as_deref())).collect();
        TablePlan {
            identity: self.identity(&columns),
            table: self.blue.name.clone(),
            writer: self.rules.writer.unwrap_or(Writer::Admin),
            partition_key: self.blue.partition_key().into_iter().map(str::to_owned).collect(),
            partition_cells: self
                .blue
                .partition_key()
                .into_iter()
                .filter_map(|name| self.cell(name))
                .collect(),
            columns,
            generated: self.green.generated.clone(),
            key: self.key(),
            partition_inferred: self.partition.is_some() && self.rules.partition.is_none(),
            partition: self.partition(),
            one_partition: self
                .partition
                .as_ref()
                .and_then(|shared| self.blue.one_partition(&shared.column, &shared.value)),
            workspace: self.workspace(),
            of_workspace: self.rules.of_workspace.as_ref().and_then(|name| self.cell(name)),
            required: self.required(expiry.as_deref()),
            unknown: self.unknown(),
            null_when_expired: self.null_when_expired(),
            dropped: self.dropped(),
            expiry,
            cells: std::mem::take(&mut self.cells),
        }
    }

    fn cell(&self, name: &str) -> Option<usize> {
        self.blue.columns.iter().position(|column| column.name == name)
    }

    /// Where blue's primary key is on green, but for the partition that all of Kong's rows share.
    fn identity(&self, columns: &[ColumnPlan]) -> Option<Vec<String>> {
        let shared = self.partition.as_ref().and_then(|shared| self.cell(&shared.column));
        let of_key = self.blue.columns.iter().enumerate().filter(|(at, column)| {
            matches!(column.kind, ColumnKind::PartitionKey(_) | ColumnKind::Clustering(_))
                && shared != Some(*at)
        });
        of_key
            .map(|(at, column)| {
                let is_uuid = matches!(&column.cql_type, crate::cql::CqlType::Native(name) if name == "uuid" || name == "timeuuid");
                let copies = |own: &&ColumnPlan| {
                    own.green_type == "uuid"
                        && matches!(own.source, ColumnSource::Cell { cell, prefixed: false, .. } if cell == at)
                };
                is_uuid.then(|| columns.iter().find(copies).map(|own| own.name.clone()))?
            })
            .collect()
    }

    fn rules_of(&self, column: &str) -> ColumnRules {
        self.rules.columns.get(column).cloned().unwrap_or_default()
    }

    /// Green's key names a row; in a table without one, or whose key blue lacks, blue's key does.
    fn key(&self) -> Vec<String> {
        let on_green = &self.green.primary_key;
        if !on_green.is_empty() && on_green.iter().all(|name| self.cell(name).is_some()) {
            return on_green.clone();
        }
        let is_key = |kind| matches!(kind, ColumnKind::PartitionKey(_) | ColumnKind::Clustering(_));
        let of_blue =
            self.blue.columns.iter().filter(|c| is_key(c.kind) && self.green.column(&c.name).is_some());
        of_blue.map(|column| column.name.clone()).collect()
    }

    fn partition(&mut self) -> Option<(usize, String)> {
        let Partition { column, value } = self.partition.clone()?;
        let found = self.cell(&column);
        if found.is_none() {
            self.stop(
                format!(
                    "the schema map names the partition column {}.{column}, which blue does not have",
                    self.blue.name
                ),
                "Correct the schema map.",
            );
        }
        Some((found?, value))
    }

    fn workspace(&self) -> Option<usize> {
        let name = self.map.names.workspace_column.as_deref()?;
        self.green.column(name).and_then(|_| self.cell(name))
    }

    /// Green's column that blue keeps as time to live: named by the map, and absent on blue.
    fn expiry_column(&self) -> Option<String> {
        let name = self.map.names.expiry_column.as_deref()?;
        self.green.column(name)?;
        self.cell(name).is_none().then(|| name.to_owned())
    }

    fn required(&mut self, expiry: Option<&str>) -> Vec<Vec<usize>> {
        let not_null = self.green.columns.iter().filter(|column| column.not_null);
        let mut groups: Vec<Vec<usize>> = not_null
            .filter(|column| Some(column.name.as_str()) != expiry && !self.has_substitute(&column.name))
            .filter_map(|column| self.cell(&column.name))
            .map(|cell| vec![cell])
            .collect();
        for required in self.rules.required.iter().flatten() {
            let group: Vec<usize> = required.names().iter().filter_map(|name| self.cell(name)).collect();
            if !group.is_empty() && !groups.contains(&group) {
                groups.push(group);
            }
        }
        groups
    }

    fn has_substitute(&self, column: &str) -> bool {
        let rules = self.rules_of(column);
        rules.when_null.is_some() || rules.cache_key.is_some()
    }

    /// Columns that only blue has: dropped by the map, or to be null in every row.
    fn unknown(&self) -> Vec<usize> {
        let partition = self.partition.as_ref().map(|partition| partition.column.as_str());
        let is_unknown = |name: &str| {
            self.green.column(name).is_none() && self.rules_of(name).drop.is_none() && partition != Some(name)
        };
        (0..self.blue.columns.len())
            .filter(|&at| self.blue.columns.get(at).is_some_and(|column| is_unknown(&column.name)))
            .chain(self.unconverted.iter().copied())
            .collect()
    }

    fn null_when_expired(&self) -> Vec<usize> {
        let Some(outlives_row) = &self.rules.outlives_row else { return Vec::new() };
        let columns = self.blue.columns.iter().enumerate();
        let expires = columns
            .filter(|(_, column)| column.kind == ColumnKind::Regular && !outlives_row.contains(&column.name));
        expires.map(|(cell, _)| cell).collect()
    }

    fn dropped(&self) -> Vec<(String, String)> {
        let columns = self.blue.columns.iter();
        columns.filter_map(|column| Some((column.name.clone(), self.rules_of(&column.name).drop?))).collect()
    }

    fn column(&mut self, column: &GreenColumn, expiry: Option<&str>) -> ColumnPlan {
        let rules = self.rules_of(&column.name);
        let source = if expiry == Some(column.name.as_str()) {
            self.expiry(&column.name)
        } else if let Some(recipe) = &rules.cache_key {
            ColumnSource::CacheKey { cell: self.cell(&column.name), parts: self.parts(recipe, &column.name) }
        } else if let Some(cell) = self.cell(&column.name) {
            let source = self.converted(cell, column, &rules);
            self.when_named(source, column, &rules)
        } else {
            self.nothing(column)
        };
        ColumnPlan { name: column.name.clone(), green_type: column.column_type.clone(), source }
    }

    fn converted(&mut self, cell: usize, column: &GreenColumn, rules: &ColumnRules) -> ColumnSource {
        let shape = rules.json.unwrap_or(JsonShape::Object);
        let Some(Cell::Value(_, blue_type)) = self.cells.get(cell) else { return ColumnSource::Null };
        let Some(conversion) = Conversion::between(blue_type, &column.column_type, column.element_oid, shape)
        else {
            let (table, name) = (&self.blue.name, &column.name);
            self.obstacles.push(Obstacle {
                problem: format!(
                    "{table}.{name} is {blue_type} on blue and {} on green, and there is no rule for this pair",
                    column.column_type
                ),
                remedy: "If its values may be lost, drop the column in a schema map; otherwise leave the table behind with --skip-table.".to_owned(),
                schema_map: Some(snippet(table, &format!("\"columns\": {{{}: {{\"drop\": \"Why its values may be lost.\"}}}}", quoted(name)))),
                only_with_rows_in: Some(table.clone()),
            });
            // A row that is written after the check for rows is found there.
            self.unconverted.push(cell);
            return ColumnSource::Null;
        };
        let prefixed = self.is_prefixed(column, rules);
        ColumnSource::Cell {
            cell,
            conversion,
            prefixed,
            prefix_policy: if rules.prefix.is_some() || self.rules.observed {
                PrefixPolicy::Prefixed
            } else {
                PrefixPolicy::Undetermined
            },
            when_null: self.substitute(rules, column),
            remark: rules.remark,
        }
    }

    /// Kong writes `<ws_id>:` in front of texts that are unique per workspace; green shows which those are.
    fn is_prefixed(&self, column: &GreenColumn, rules: &ColumnRules) -> bool {
        let names = &self.map.names;
        let Some(workspace) = names.workspace_column.as_deref() else { return false };
        if self.cell(workspace).is_none() || !column.column_type.starts_with("text") {
            return false;
        }
        match rules.prefix {
            Some(prefix) => prefix == Prefix::Workspace,
            None => {
                names.cache_key_column.as_deref() != Some(&column.name)
                    && self.green.is_unique_over(&[workspace, &column.name])
            }
        }
    }

    fn substitute(&mut self, rules: &ColumnRules, column: &GreenColumn) -> Option<Substitute> {
        match rules.when_null.as_ref()? {
            WhenNull::Boolean(value) => Some(Substitute::Boolean(*value)),
            WhenNull::Integer(value) => match integer(*value, &column.column_type) {
                Some(bytes) => Some(Substitute::Integer(bytes)),
                None => {
                    self.stop(
                        format!(
                            "the schema map puts {value} where {}.{} is null, which green holds as {}",
                            self.blue.name, column.name, column.column_type
                        ),
                        "Correct the schema map.",
                    );
                    None
                }
            },
            WhenNull::Sha256OfCertificate(source) => match self.cell(source) {
                Some(cell) => Some(Substitute::CertificateDigest(cell)),
                None => {
                    self.missing_in_map(&column.name, source);
                    None
                }
            },
        }
    }

    fn parts(&mut self, recipe: &[KeyPart], column: &str) -> Vec<CacheKeyPart> {
        let mut parts = Vec::new();
        for part in recipe {
            match part {
                KeyPart::Text(text) => parts.push(CacheKeyPart::Text(text.clone())),
                KeyPart::Column(name) => match self.part(name) {
                    Some(part) => parts.push(part),
                    None => self.missing_in_map(column, name),
                },
            }
        }
        parts
    }

    fn part(&self, name: &str) -> Option<CacheKeyPart> {
        let cell = self.cell(name)?;
        let is_prefixed = |column| self.is_prefixed(column, &self.rules_of(name));
        let kind = if self.blue.column(name)?.cql_type.is("uuid") {
            CacheKeyPartKind::Uuid
        } else if self.green.column(name).is_some_and(is_prefixed) {
            CacheKeyPartKind::Prefixed
        } else {
            CacheKeyPartKind::Text
        };
        Some(CacheKeyPart::Cell { cell, kind })
    }

    fn missing_in_map(&mut self, column: &str, source: &str) {
        self.stop(
            format!(
                "the schema map builds {}.{column} from {source}, which blue does not have",
                self.blue.name
            ),
            "Correct the schema map.",
        );
    }

    fn expiry(&mut self, column: &str) -> ColumnSource {
        if let Some(Expiry { start, period, seconds }) = &self.rules.expiry {
            let (from, of) = (self.cell(start), self.cell(period));
            if let (Some(start), Some(period)) = (from, of) {
                return ColumnSource::WindowExpiry { start, period, seconds: seconds.clone() };
            }
            let missing = if from.is_none() { start } else { period };
            self.missing_in_map(column, missing);
            return ColumnSource::Null;
        }
        let needed = self.expiry_cells();
        // Counters cannot expire, and the time to live of a collection may be asked only since Cassandra 5.0.
        let expiring: Vec<String> = self
            .blue
            .columns
            .iter()
            .filter(|c| {
                c.kind == ColumnKind::Regular && !c.cql_type.is_collection() && !c.cql_type.is("counter")
            })
            .map(|column| column.name.clone())
            .collect();
        let needed: Vec<String> = expiring.iter().filter(|name| needed.contains(*name)).cloned().collect();
        let (expiring, choice) = match needed.is_empty() {
            true => (expiring, ExpiryChoice::Largest),
            false => (needed, ExpiryChoice::Smallest),
        };
        if expiring.is_empty() {
            return ColumnSource::Null;
        }
        let first = self.cells.len();
        self.cells.extend(expiring.into_iter().map(Cell::TimeToLive));
        let now = self.cells.len();
        self.cells.push(Cell::ReadTime);
        let default_ttl = self.blue.default_ttl;
        ColumnSource::CellExpiry { ttls: (first..now).collect(), now, choice, default_ttl }
    }

    /// Columns without which Kong cannot use a row: those that the map names; else unique columns, references, columns
    /// that green requires and those that the map does.
    fn expiry_cells(&self) -> BTreeSet<String> {
        if let Some(named) = &self.rules.expires_with {
            return named.iter().cloned().collect();
        }
        let green = self.green;
        let not_null = green.columns.iter().filter(|column| column.not_null).map(|column| &column.name);
        let unique = green.indexes.iter().filter(|index| index.unique).flat_map(|index| &index.columns);
        let references = green.foreign_keys.iter().flat_map(|key| &key.columns);
        let required = self.rules.required.iter().flatten().flat_map(Required::names);
        not_null.chain(unique).chain(references).chain(required).cloned().collect()
    }

    fn when_named(
        &mut self,
        otherwise: ColumnSource,
        column: &GreenColumn,
        rules: &ColumnRules,
    ) -> ColumnSource {
        let Some(named) = &rules.when_named else { return otherwise };
        let Some(key) = self.cell(&named.key) else {
            self.missing_in_map(&column.name, &named.key);
            return otherwise;
        };
        let (table, value) = (named.table.clone(), named.value.clone());
        ColumnSource::WhenNamed { key, table, value, otherwise: Box::new(otherwise) }
    }

    fn nothing(&mut self, column: &GreenColumn) -> ColumnSource {
        if column.not_null {
            self.stop(
                format!(
                    "green's column {}.{} must have a value, and blue has nothing to put there",
                    self.blue.name, column.name
                ),
                "Bootstrap green with the version of Kong that runs on blue, or exclude the table with --skip-table.",
            );
        }
        ColumnSource::Null
    }

    fn stop(&mut self, problem: String, remedy: &str) {
        self.obstacles.push(Obstacle::new(problem, remedy));
    }
}

/// A whole number in PostgreSQL's binary form, where the column's type takes it.
fn integer(value: i32, green_type: &str) -> Option<Vec<u8>> {
    match green_type {
        "smallint" => i16::try_from(value).ok().map(|small| small.to_be_bytes().to_vec()),
        "integer" => Some(value.to_be_bytes().to_vec()),
        "bigint" => Some(i64::from(value).to_be_bytes().to_vec()),
        _ => None,
    }
}
