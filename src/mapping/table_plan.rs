//! The table plan: schema map × blue's catalog × green's catalog, resolved.
//!
//! For each green column it says where its value comes from and how it is converted; for each table whether it is
//! moved. Whatever stands on both sides under the same name is mapped by columns and types; the map states only the
//! exceptions. What cannot be resolved becomes an [`Obstacle`], never a silent omission.

use std::collections::{BTreeMap, BTreeSet};

use crate::blue::catalog::{BlueCatalog, BlueTable, ColumnKind};
use crate::blue::slices::OnePartition;
use crate::green::catalog::{ForeignKey, GreenCatalog, GreenColumn, GreenTable};

use super::conversion::Conversion;
use super::prefix::Habit;
use super::schema_map::{
    ColumnRules, Copy, Expiry, JsonShape, KeyPart, Partition, Prefix, Remark, Required, SchemaMap,
    TableRules, WhenNull, Writer,
};

/// What the user said about single tables.
#[derive(Debug, Clone, Default)]
pub struct TableChoices {
    /// Tables to move although the map moves them only on request.
    pub include: BTreeSet<String>,
    /// Tables to leave behind.
    pub skip: BTreeSet<String>,
}

/// The plan of a whole keyspace.
#[derive(Debug, Clone)]
pub struct KeyspacePlan {
    /// Tables that are moved, parents before children.
    pub moved: Vec<TablePlan>,
    /// Tables of blue that are not moved, and why.
    pub left: Vec<LeftTable>,
    /// Tables that only green has.
    pub only_green: Vec<String>,
    /// What must be decided before anything can be moved.
    pub obstacles: Vec<Obstacle>,
}

/// A table of blue that is not moved.
#[derive(Debug, Clone)]
pub struct LeftTable {
    /// Its name.
    pub table: String,
    /// Who writes it.
    pub writer: Writer,
    /// Why it is not moved.
    pub reason: String,
    /// Whether rows in it are a reason to stop: nobody decided that they may stay behind.
    pub must_be_empty: bool,
}

/// Something that stops the run, with the way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// What is wrong, one sentence.
    pub problem: String,
    /// What to do, one sentence.
    pub remedy: String,
    /// A schema map that would decide it, where one can.
    pub schema_map: Option<String>,
}

/// The plan of one table that is moved.
#[derive(Debug, Clone)]
pub struct TablePlan {
    /// Its name, the same on both sides.
    pub table: String,
    /// Who writes it.
    pub writer: Writer,
    /// What is read from blue, in this order.
    pub cells: Vec<Cell>,
    /// Blue's partition key, for `token(…)`.
    pub partition_key: Vec<String>,
    /// Green's columns, in the order of its table.
    pub columns: Vec<ColumnPlan>,
    /// Green's columns that it computes by itself; indexes and checks may be about them.
    pub generated: Vec<GreenColumn>,
    /// Green's primary key, which names the row to people.
    pub key: Vec<String>,
    /// Green's columns that hold blue's primary key as it is: no two rows of blue are the same in all of them. Nothing
    /// where a part of that key is converted in a way that could make two values one.
    pub identity: Option<Vec<String>>,
    /// Only rows whose cell at this place holds this text are Kong's.
    pub partition: Option<(usize, String)>,
    /// Where they are all in one partition, what that is.
    pub one_partition: Option<OnePartition>,
    /// The cell with the row's workspace.
    pub workspace: Option<usize>,
    /// Groups of cells: of each, one must have a value.
    pub required: Vec<Vec<usize>>,
    /// Cells of blue that green has no column for, and that must be null.
    pub unknown: Vec<usize>,
    /// Green's column with the expiry.
    pub expiry: Option<String>,
    /// Names of blue's columns that are left behind, and why.
    pub dropped: Vec<(String, String)>,
}

/// One thing read from blue for each row.
#[derive(Debug, Clone)]
pub enum Cell {
    /// The value of a column.
    Value(String, crate::blue::cql_type::CqlType),
    /// The seconds that a column's cell has left to live.
    TimeToLive(String),
    /// The time of reading.
    ReadTime,
}

/// Where one column of green comes from.
#[derive(Debug, Clone)]
pub struct ColumnPlan {
    /// Its name.
    pub name: String,
    /// Its type on green.
    pub green_type: String,
    /// Where its value comes from.
    pub source: Source,
}

/// Where a value comes from.
#[derive(Debug, Clone)]
pub enum Source {
    /// A cell of blue, converted.
    Cell {
        /// Place among the cells.
        cell: usize,
        /// How its bytes are converted.
        conversion: Conversion,
        /// Whether the row's workspace id stands in front.
        prefixed: bool,
        /// What its rows do with it, where no map knows.
        habit: Habit,
        /// What takes the place of null.
        when_null: Option<Substitute>,
        /// What to look at without touching it.
        remark: Option<Remark>,
    },
    /// A composite key, rebuilt from other cells; the stored one is compared with it.
    CacheKey {
        /// The stored one.
        cell: Option<usize>,
        /// What it is made of.
        parts: Vec<Part>,
    },
    /// Read time plus the largest of these cells' times to live.
    CellExpiry {
        /// Places of the times to live.
        ttls: Vec<usize>,
        /// Place of the read time.
        now: usize,
    },
    /// Start of a window plus the seconds of its period.
    WindowExpiry {
        /// Place of the window's start.
        start: usize,
        /// Place of the period's name.
        period: usize,
        /// Seconds of each period.
        seconds: BTreeMap<String, i64>,
    },
    /// Nothing on blue: NULL, spelled out so that green's default does not step in.
    Nothing,
}

/// What takes the place of null.
#[derive(Debug, Clone)]
pub enum Substitute {
    /// A boolean.
    Boolean(bool),
    /// A whole number, as green's column holds it.
    Integer(Vec<u8>),
    /// SHA-256 over the first certificate in this cell.
    CertificateDigest(usize),
}

/// One part of a composite key.
#[derive(Debug, Clone)]
pub enum Part {
    /// A fixed text.
    Text(String),
    /// A cell's value.
    Cell {
        /// Place among the cells.
        cell: usize,
        /// How its text is made.
        kind: PartKind,
    },
}

/// How a cell becomes a part of a composite key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartKind {
    /// Its text as it is.
    Text,
    /// Its text without the workspace id in front.
    Prefixed,
    /// Its uuid in text form.
    Uuid,
}

impl KeyspacePlan {
    /// Resolves the plan of every table of blue.
    pub fn resolve(
        map: &SchemaMap,
        blue: &BlueCatalog,
        green: &GreenCatalog,
        choices: &TableChoices,
    ) -> KeyspacePlan {
        let mut plan = KeyspacePlan {
            moved: Vec::new(),
            left: Vec::new(),
            only_green: Vec::new(),
            obstacles: Vec::new(),
        };
        for table in blue.tables.values() {
            let rules = map.rules(&table.name);
            match decide(&rules, table, green, choices) {
                Decision::Leave { reason, must_be_empty } => plan.left.push(LeftTable {
                    table: table.name.clone(),
                    writer: rules.writer.unwrap_or(Writer::Admin),
                    reason,
                    must_be_empty,
                }),
                Decision::Move(green_table) => {
                    let mut resolver = Resolver {
                        map,
                        rules: &rules,
                        blue: table,
                        green: green_table,
                        cells: Vec::new(),
                        obstacles: Vec::new(),
                    };
                    let table_plan = resolver.resolve();
                    plan.obstacles.append(&mut resolver.obstacles);
                    plan.moved.push(table_plan);
                }
            }
        }
        // What the data plane writes is no reason to stop, and what is never moved is none either.
        let without_rows = |name: &&String| {
            let rules = map.rules(name);
            rules.copy != Some(Copy::Never)
                && rules.writer != Some(Writer::Traffic)
                && !choices.skip.contains(*name)
        };
        let only_green = green.tables.keys().filter(|name| !blue.tables.contains_key(*name));
        plan.only_green = only_green.filter(without_rows).cloned().collect();
        plan.obstacles.extend(unknown_choices(choices, blue, green));
        plan.obstacles.extend(never_moved(choices, map, &plan));
        plan.moved = parents_first(plan.moved, green);
        plan
    }

    /// The plan of a table that is moved.
    pub fn table(&self, name: &str) -> Option<&TablePlan> {
        self.moved.iter().find(|plan| plan.table == name)
    }
}

impl TablePlan {
    /// Name of the column that a cell is the value of.
    pub fn cell_name(&self, cell: usize) -> Option<&str> {
        match self.cells.get(cell)? {
            Cell::Value(name, _) => Some(name),
            Cell::TimeToLive(_) | Cell::ReadTime => None,
        }
    }
}

enum Decision<'a> {
    Move(&'a GreenTable),
    Leave { reason: String, must_be_empty: bool },
}

fn decide<'a>(
    rules: &TableRules,
    blue: &BlueTable,
    green: &'a GreenCatalog,
    choices: &TableChoices,
) -> Decision<'a> {
    let name = &blue.name;
    let on_green = green.tables.get(name);
    let leave = |reason: &str, must_be_empty| Decision::Leave { reason: reason.to_owned(), must_be_empty };
    if choices.skip.contains(name) {
        return leave("Left behind by --skip-table.", false);
    }
    let reason = rules.reason.as_deref().unwrap_or("Left behind by the schema map.");
    let copy = match rules.copy {
        Some(Copy::Never) if rules.only_if_missing == Some(true) && on_green.is_some() => Copy::Always,
        copy => copy.unwrap_or(Copy::Always),
    };
    match (copy, on_green) {
        (Copy::Never, _) => leave(reason, false),
        (Copy::OnRequest, Some(_)) if !choices.include.contains(name) => {
            leave(&format!("{reason} --include-table {name} moves it."), false)
        }
        (Copy::OnRequest, None) if !choices.include.contains(name) => leave(reason, false),
        (_, Some(table)) => Decision::Move(table),
        (_, None) => leave("Green has no table of this name.", true),
    }
}

/// A table named on the command line that neither side has is a slip of the pen, and slips are not ignored.
fn unknown_choices(choices: &TableChoices, blue: &BlueCatalog, green: &GreenCatalog) -> Vec<Obstacle> {
    let known = |name: &&String| blue.tables.contains_key(*name) || green.tables.contains_key(*name);
    let unknown = choices.skip.iter().chain(&choices.include).filter(|name| !known(name));
    unknown
        .map(|name| Obstacle {
            problem: format!("there is no table \"{name}\" on either side"),
            remedy: "Correct the name given with --skip-table or --include-table.".to_owned(),
            schema_map: None,
        })
        .collect()
}

/// A table that was asked for and does not move for all that: whoever asked would believe that it did.
fn never_moved(choices: &TableChoices, map: &SchemaMap, plan: &KeyspacePlan) -> Vec<Obstacle> {
    let never = |name: &&String| {
        map.rules(name).copy == Some(Copy::Never)
            && plan.table(name).is_none()
            && !choices.skip.contains(*name)
    };
    let obstacle = |name: &String| {
        let rules = map.rules(name);
        let reason = rules.reason.as_deref().unwrap_or("It is left behind by the schema map.");
        Obstacle {
            problem: format!("the table \"{name}\" is never moved, though --include-table asks for it"),
            remedy: format!("{reason} Leave out --include-table {name}."),
            schema_map: None,
        }
    };
    choices.include.iter().filter(never).map(obstacle).collect()
}

/// A table or column in a user's own map that neither side has is a slip of the pen too. Built-in maps may name what
/// only some databases of a line have.
pub fn unknown_names(maps: &[SchemaMap], blue: &BlueCatalog, green: &GreenCatalog) -> Vec<Obstacle> {
    let mut unknown = BTreeSet::new();
    // A name that ends in * stands for tables that only some databases have.
    for (name, rules) in maps.iter().flat_map(|map| &map.tables).filter(|(name, _)| !name.ends_with('*')) {
        let (on_blue, on_green) = (blue.tables.get(name), green.tables.get(name));
        if on_blue.is_none() && on_green.is_none() {
            unknown.insert(format!("there is no table \"{name}\" on either side"));
            continue;
        }
        let known = |column: &str| {
            on_blue.is_some_and(|table| table.column(column).is_some())
                || on_green.is_some_and(|table| table.column(column).is_some())
        };
        for column in names_of(rules).into_iter().filter(|column| !known(column)) {
            unknown.insert(format!("there is no column \"{name}.{column}\" on either side"));
        }
    }
    let obstacle = |problem| Obstacle {
        problem,
        remedy: "Correct the name in the file given with --schema-map.".to_owned(),
        schema_map: None,
    };
    unknown.into_iter().map(obstacle).collect()
}

/// Every column that the rules of a table name.
fn names_of(rules: &TableRules) -> Vec<&str> {
    let mut names: Vec<&str> = rules.columns.keys().map(String::as_str).collect();
    names.extend(rules.partition.iter().map(|partition| partition.column.as_str()));
    names.extend(rules.expiry.iter().flat_map(|expiry| [expiry.start.as_str(), expiry.period.as_str()]));
    for required in rules.required.iter().flatten() {
        match required {
            Required::Column(name) => names.push(name),
            Required::OneOf(group) => names.extend(group.iter().map(String::as_str)),
        }
    }
    for column in rules.columns.values() {
        for part in column.cache_key.iter().flatten() {
            if let KeyPart::Column(name) = part {
                names.push(name);
            }
        }
        if let Some(WhenNull::Sha256OfCertificate(name)) = &column.when_null {
            names.push(name);
        }
    }
    names
}

struct Resolver<'a> {
    map: &'a SchemaMap,
    rules: &'a TableRules,
    blue: &'a BlueTable,
    green: &'a GreenTable,
    cells: Vec<Cell>,
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
            columns,
            generated: self.green.generated.clone(),
            key: self.key(),
            partition: self.partition(),
            one_partition: self
                .rules
                .partition
                .as_ref()
                .and_then(|shared| self.blue.one_partition(&shared.column, &shared.value)),
            workspace: self.workspace(),
            required: self.required(expiry.as_deref()),
            unknown: self.unknown(),
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
        let shared = self.rules.partition.as_ref().and_then(|shared| self.cell(&shared.column));
        let of_key = self.blue.columns.iter().enumerate().filter(|(at, column)| {
            matches!(column.kind, ColumnKind::PartitionKey(_) | ColumnKind::Clustering(_))
                && shared != Some(*at)
        });
        of_key
            .map(|(at, column)| {
                let is_uuid = matches!(&column.cql_type, crate::blue::cql_type::CqlType::Native(name) if name == "uuid" || name == "timeuuid");
                let copies = |own: &&ColumnPlan| {
                    own.green_type == "uuid"
                        && matches!(own.source, Source::Cell { cell, prefixed: false, .. } if cell == at)
                };
                is_uuid.then(|| columns.iter().find(copies).map(|own| own.name.clone()))?
            })
            .collect()
    }

    fn rules_of(&self, column: &str) -> ColumnRules {
        self.rules.columns.get(column).cloned().unwrap_or_default()
    }

    /// Green's primary key names a row; a table without one is named by blue's key.
    fn key(&self) -> Vec<String> {
        if !self.green.primary_key.is_empty() {
            return self.green.primary_key.clone();
        }
        let is_key = |kind| matches!(kind, ColumnKind::PartitionKey(_) | ColumnKind::Clustering(_));
        let of_blue =
            self.blue.columns.iter().filter(|c| is_key(c.kind) && self.green.column(&c.name).is_some());
        of_blue.map(|column| column.name.clone()).collect()
    }

    fn partition(&mut self) -> Option<(usize, String)> {
        let Partition { column, value } = self.rules.partition.as_ref()?;
        let found = self.cell(column);
        if found.is_none() {
            self.stop(
                format!(
                    "the schema map names the partition column {}.{column}, which blue does not have",
                    self.blue.name
                ),
                "Correct the schema map.",
            );
        }
        Some((found?, value.clone()))
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
            let names = match required {
                Required::Column(name) => std::slice::from_ref(name),
                Required::OneOf(names) => names.as_slice(),
            };
            let group: Vec<usize> = names.iter().filter_map(|name| self.cell(name)).collect();
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
        let partition = self.rules.partition.as_ref().map(|partition| partition.column.as_str());
        let is_unknown = |name: &str| {
            self.green.column(name).is_none() && self.rules_of(name).drop.is_none() && partition != Some(name)
        };
        (0..self.blue.columns.len())
            .filter(|&at| self.blue.columns.get(at).is_some_and(|column| is_unknown(&column.name)))
            .collect()
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
            Source::CacheKey { cell: self.cell(&column.name), parts: self.parts(recipe, &column.name) }
        } else if let Some(cell) = self.cell(&column.name) {
            self.converted(cell, column, &rules)
        } else {
            self.nothing(column)
        };
        ColumnPlan { name: column.name.clone(), green_type: column.column_type.clone(), source }
    }

    fn converted(&mut self, cell: usize, column: &GreenColumn, rules: &ColumnRules) -> Source {
        let shape = rules.json.unwrap_or(JsonShape::Object);
        let Some(Cell::Value(_, blue_type)) = self.cells.get(cell) else { return Source::Nothing };
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
            });
            return Source::Nothing;
        };
        let prefixed = self.is_prefixed(column, rules);
        Source::Cell {
            cell,
            conversion,
            prefixed,
            habit: if rules.prefix.is_some() || self.rules.observed { Habit::Known } else { Habit::Open },
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

    fn parts(&mut self, recipe: &[KeyPart], column: &str) -> Vec<Part> {
        let mut parts = Vec::new();
        for part in recipe {
            match part {
                KeyPart::Text(text) => parts.push(Part::Text(text.clone())),
                KeyPart::Column(name) => match self.part(name) {
                    Some(part) => parts.push(part),
                    None => self.missing_in_map(column, name),
                },
            }
        }
        parts
    }

    fn part(&self, name: &str) -> Option<Part> {
        let cell = self.cell(name)?;
        let is_prefixed = |column| self.is_prefixed(column, &self.rules_of(name));
        let kind = if self.blue.column(name)?.cql_type.is("uuid") {
            PartKind::Uuid
        } else if self.green.column(name).is_some_and(is_prefixed) {
            PartKind::Prefixed
        } else {
            PartKind::Text
        };
        Some(Part::Cell { cell, kind })
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

    fn expiry(&mut self, column: &str) -> Source {
        if let Some(Expiry { start, period, seconds }) = &self.rules.expiry {
            let (from, of) = (self.cell(start), self.cell(period));
            if let (Some(start), Some(period)) = (from, of) {
                return Source::WindowExpiry { start, period, seconds: seconds.clone() };
            }
            let missing = if from.is_none() { start } else { period };
            self.missing_in_map(column, missing);
            return Source::Nothing;
        }
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
        if expiring.is_empty() {
            return Source::Nothing;
        }
        let first = self.cells.len();
        self.cells.extend(expiring.into_iter().map(Cell::TimeToLive));
        let now = self.cells.len();
        self.cells.push(Cell::ReadTime);
        Source::CellExpiry { ttls: (first..now).collect(), now }
    }

    fn nothing(&mut self, column: &GreenColumn) -> Source {
        if column.not_null {
            self.stop(
                format!(
                    "green's column {}.{} must have a value, and blue has nothing to put there",
                    self.blue.name, column.name
                ),
                "Bootstrap green with the very version of Kong that blue runs, or leave the table behind with --skip-table.",
            );
        }
        Source::Nothing
    }

    fn stop(&mut self, problem: String, remedy: &str) {
        self.obstacles.push(Obstacle { problem, remedy: remedy.to_owned(), schema_map: None });
    }
}

/// The schema map that leaves a table behind for good.
pub fn leave_behind(table: &str) -> String {
    snippet(table, "\"copy\": \"never\", \"reason\": \"Why its rows may stay behind.\"")
}

fn snippet(table: &str, rules: &str) -> String {
    format!("{{\"format\": 1, \"tables\": {{{}: {{{rules}}}}}}}", quoted(table))
}

fn quoted(name: &str) -> String {
    serde_json::Value::from(name).to_string()
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

/// Orders tables so that every foreign key points backwards, as far as there are no cycles.
fn parents_first(mut plans: Vec<TablePlan>, green: &GreenCatalog) -> Vec<TablePlan> {
    let mut ordered: Vec<TablePlan> = Vec::with_capacity(plans.len());
    while !plans.is_empty() {
        let waits = |plan: &TablePlan| {
            let keys: &[ForeignKey] = green.tables.get(&plan.table).map_or(&[], |table| &table.foreign_keys);
            keys.iter()
                .any(|key| key.parent != plan.table && plans.iter().any(|other| other.table == key.parent))
        };
        let next = plans.iter().position(|plan| !waits(plan)).unwrap_or(0);
        ordered.push(plans.remove(next));
    }
    ordered
}
