//! Types, functions, sequences, tables and views: which of them to create, and in which order.
//!
//! PostgreSQL records the dependencies. A table that depends on something that cannot be rebuilt is refused; any other such
//! object is skipped, since Kong's schema may be `public` and have objects that are not Kong's.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::Row;
use sqlx::postgres::PgRow;

use super::DdlStatement;
use crate::error::{Error, Result};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SchemaObject {
    id: String,
    kind: String,
    name: String,
    statement: Option<String>,
    obstacle: Option<String>,
}

/// Something on which an object depends, itself or through one of its parts.
#[derive(Debug, Clone)]
pub(super) struct Dependency {
    object: String,
    /// The object that is needed; none where it is outside of Kong's schema or of another kind.
    needed: Option<String>,
    description: String,
    extension: Option<String>,
    is_early: bool,
}

/// What is created, in order.
#[derive(Debug)]
pub(super) struct Selected {
    /// Before the rows are copied.
    pub early: Vec<SchemaObject>,
    pub late: Vec<SchemaObject>,
    /// The extensions on which these objects depend.
    pub extensions: BTreeSet<String>,
    pub skipped: Vec<String>,
    ids: BTreeSet<String>,
}

impl SchemaObject {
    pub fn from_row(row: &PgRow) -> sqlx::Result<SchemaObject> {
        Ok(SchemaObject {
            id: row.try_get("item")?,
            kind: row.try_get("kind")?,
            name: row.try_get("name")?,
            statement: row.try_get("statement")?,
            obstacle: row.try_get("obstacle")?,
        })
    }

    pub fn ddl(&self) -> DdlStatement {
        DdlStatement { object: self.to_string(), sql: self.statement.clone().unwrap_or_default() }
    }

    fn is_table(&self) -> bool {
        self.kind == "table"
    }
}

impl std::fmt::Display for SchemaObject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} \"{}\"", self.kind, self.name)
    }
}

impl Dependency {
    pub fn from_row(row: &PgRow) -> sqlx::Result<Dependency> {
        Ok(Dependency {
            object: row.try_get("item")?,
            needed: row.try_get("need")?,
            description: row.try_get("description")?,
            extension: row.try_get("extension")?,
            is_early: row.try_get("is_early")?,
        })
    }
}

impl Selected {
    pub fn contains(&self, id: &str) -> bool {
        self.ids.contains(id)
    }

    /// The names of the tables that are created.
    pub fn table_names(&self) -> Vec<String> {
        self.early.iter().filter(|object| object.is_table()).map(|object| object.name.clone()).collect()
    }
}

/// Selects among `objects`, without the tables named in `skip`, and sorts them.
pub(super) fn select(
    objects: Vec<SchemaObject>,
    dependencies: Vec<Dependency>,
    skip: &BTreeSet<String>,
) -> Result<Selected> {
    let (skipped, kept): (Vec<_>, Vec<_>) =
        objects.into_iter().partition(|object| object.is_table() && skip.contains(&object.name));
    let graph = Graph::new(&kept, &dependencies, &skipped);
    let needed_by_tables = graph.needed_by_tables()?;
    let skipped = graph.skipped(&needed_by_tables);
    let (early, late) = graph.sorted(&skipped);
    let ids: BTreeSet<String> = early.iter().chain(&late).map(|object| object.id.clone()).collect();
    let extensions = dependencies
        .iter()
        .filter(|dependency| ids.contains(&dependency.object))
        .filter_map(|dependency| dependency.extension.clone())
        .collect();
    let mut skipped: Vec<String> = skipped.into_values().collect();
    skipped.sort();
    Ok(Selected { early, late, extensions, skipped, ids })
}

struct Graph<'g> {
    objects: &'g [SchemaObject],
    by_id: BTreeMap<&'g str, &'g SchemaObject>,
    dependencies: BTreeMap<&'g str, Vec<&'g Dependency>>,
    skipped: BTreeSet<&'g str>,
}

impl<'g> Graph<'g> {
    fn new(
        objects: &'g [SchemaObject],
        dependencies: &'g [Dependency],
        skipped: &'g [SchemaObject],
    ) -> Graph<'g> {
        let mut by_object: BTreeMap<&str, Vec<&Dependency>> = BTreeMap::new();
        for dependency in dependencies {
            by_object.entry(dependency.object.as_str()).or_default().push(dependency);
        }
        Graph {
            objects,
            by_id: objects.iter().map(|object| (object.id.as_str(), object)).collect(),
            dependencies: by_object,
            skipped: skipped.iter().map(|object| object.id.as_str()).collect(),
        }
    }

    fn dependencies(&self, object: &SchemaObject) -> impl Iterator<Item = &'g Dependency> {
        self.dependencies.get(object.id.as_str()).into_iter().flatten().copied()
    }

    /// The objects on which `object` depends.
    fn needed(&self, object: &SchemaObject) -> impl Iterator<Item = (&'g SchemaObject, &'g Dependency)> {
        self.dependencies(object)
            .filter_map(|dependency| Some((*self.by_id.get(dependency.needed.as_deref()?)?, dependency)))
    }

    /// Why `object` cannot be created, as the end of a sentence about it.
    fn obstacle(&self, object: &SchemaObject) -> Option<String> {
        object.obstacle.clone().or_else(|| {
            let missing = self.dependencies(object).find(|dependency| !self.is_met(dependency))?;
            Some(format!("needs {}, which is not rebuilt on the scratch server", missing.description))
        })
    }

    fn is_met(&self, dependency: &Dependency) -> bool {
        dependency.extension.is_some()
            || dependency.needed.as_deref().is_some_and(|id| {
                // A part that needs a skipped table, such as a foreign key, is skipped with it.
                self.by_id.contains_key(id) || (self.skipped.contains(id) && !dependency.is_early)
            })
    }

    /// The tables and everything on which they depend; or an error that names each table with an unmet dependency.
    fn needed_by_tables(&self) -> Result<BTreeSet<&'g str>> {
        let mut all = BTreeSet::new();
        let mut obstacles = Vec::new();
        for table in self.objects.iter().filter(|object| object.is_table()) {
            let reached = self.reached_from(table);
            // The obstacle of another table is reported for that table.
            let found = reached.iter().filter(|object| !object.is_table() || object.id == table.id);
            obstacles.extend(found.filter_map(|object| Some((table, *object, self.obstacle(object)?))));
            all.extend(reached.into_iter().map(|object| object.id.as_str()));
        }
        if obstacles.is_empty() { Ok(all) } else { Err(refusal(&obstacles)) }
    }

    fn reached_from(&self, table: &'g SchemaObject) -> Vec<&'g SchemaObject> {
        let mut seen = BTreeSet::from([table.id.as_str()]);
        let mut reached = vec![table];
        let mut next = vec![table];
        while let Some(object) = next.pop() {
            for (needed, _) in self.needed(object) {
                if seen.insert(needed.id.as_str()) {
                    reached.push(needed);
                    // The dependencies of a table are followed from that table.
                    if !needed.is_table() {
                        next.push(needed);
                    }
                }
            }
        }
        reached
    }

    /// Objects that cannot be created and on which no table depends, with the reason.
    fn skipped(&self, needed_by_tables: &BTreeSet<&str>) -> BTreeMap<&'g str, String> {
        let mut skipped: BTreeMap<&str, String> = BTreeMap::new();
        loop {
            let before = skipped.len();
            for object in self.objects.iter().filter(|object| !needed_by_tables.contains(object.id.as_str()))
            {
                if skipped.contains_key(object.id.as_str()) {
                    continue;
                }
                let reason = self.obstacle(object).or_else(|| {
                    let (missing, _) =
                        self.needed(object).find(|(needed, _)| skipped.contains_key(needed.id.as_str()))?;
                    Some(format!("needs {missing}, which is skipped"))
                });
                if let Some(reason) = reason {
                    skipped.insert(&object.id, format!("{object} {reason}"));
                }
            }
            if skipped.len() == before {
                return skipped;
            }
        }
    }

    /// Each object after its dependencies, otherwise in the order of `objects`.
    fn sorted(&self, skipped: &BTreeMap<&str, String>) -> (Vec<SchemaObject>, Vec<SchemaObject>) {
        let mut sorted = Sorted::default();
        for object in self.objects.iter().filter(|object| !skipped.contains_key(object.id.as_str())) {
            self.sort_in(object, &mut sorted);
        }
        sorted.objects.into_iter().cloned().partition(|object| !sorted.late.contains(object.id.as_str()))
    }

    fn sort_in(&self, object: &'g SchemaObject, sorted: &mut Sorted<'g>) {
        // Two objects that depend on each other stay in their order; the server then reports the missing one.
        if !sorted.seen.insert(&object.id) {
            return;
        }
        let mut is_late = object.kind == "view";
        for (needed, _) in self.needed(object).filter(|(_, dependency)| dependency.is_early) {
            self.sort_in(needed, sorted);
            is_late |= sorted.late.contains(needed.id.as_str());
        }
        if is_late {
            sorted.late.insert(&object.id);
        }
        sorted.objects.push(object);
    }
}

#[derive(Default)]
struct Sorted<'g> {
    objects: Vec<&'g SchemaObject>,
    seen: BTreeSet<&'g str>,
    late: BTreeSet<&'g str>,
}

fn refusal(obstacles: &[(&SchemaObject, &SchemaObject, String)]) -> Error {
    let mut error = Error::refused("not all of green's tables can be rebuilt on a scratch server");
    let mut tables: Vec<&str> = Vec::new();
    for (table, object, obstacle) in obstacles {
        error = error.detail(if table.id == object.id {
            format!("{table} {obstacle}")
        } else {
            format!("{table} needs {object}, which {obstacle}")
        });
        if !tables.contains(&table.name.as_str()) {
            tables.push(&table.name);
        }
    }
    let skips = tables.iter().map(|table| format!("--skip-table {table}")).collect::<Vec<_>>().join(" ");
    error.remedy(format!(
        "Skip the tables that are not Kong's ({skips}), or run plan --quick, which needs no scratch server."
    ))
}
