//! Types, functions, sequences, tables and views: which of them to build, and in which order.
//!
//! PostgreSQL knows what needs what. A table that needs something that cannot be rebuilt is refused; anything else that
//! does is left out, since Kong's schema may be `public` and shared with much that is not Kong's.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::Row;
use sqlx::postgres::PgRow;

use super::Step;
use crate::error::{Error, Result};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    id: String,
    kind: String,
    name: String,
    statement: Option<String>,
    obstacle: Option<String>,
}

/// One thing that an item needs, itself or through one of its parts.
#[derive(Debug, Clone)]
pub(super) struct Need {
    item: String,
    /// The item that is needed; none where it stands outside of Kong's schema or is no item.
    need: Option<String>,
    description: String,
    extension: Option<String>,
    is_early: bool,
}

/// What is built, in order.
#[derive(Debug)]
pub(super) struct Chosen {
    /// What is built before the rows are copied.
    pub early: Vec<Item>,
    pub late: Vec<Item>,
    /// The extensions without which something could not be built.
    pub extensions: BTreeSet<String>,
    pub left_out: Vec<String>,
    ids: BTreeSet<String>,
}

impl Item {
    /// From a row of one of the queries for items.
    pub fn from_row(row: &PgRow) -> sqlx::Result<Item> {
        Ok(Item {
            id: row.try_get("item")?,
            kind: row.try_get("kind")?,
            name: row.try_get("name")?,
            statement: row.try_get("statement")?,
            obstacle: row.try_get("obstacle")?,
        })
    }

    pub fn step(&self) -> Step {
        Step { what: self.to_string(), sql: self.statement.clone().unwrap_or_default() }
    }

    fn is_table(&self) -> bool {
        self.kind == "table"
    }
}

impl std::fmt::Display for Item {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} \"{}\"", self.kind, self.name)
    }
}

impl Need {
    /// From a row of `dependencies.sql`.
    pub fn from_row(row: &PgRow) -> sqlx::Result<Need> {
        Ok(Need {
            item: row.try_get("item")?,
            need: row.try_get("need")?,
            description: row.try_get("description")?,
            extension: row.try_get("extension")?,
            is_early: row.try_get("is_early")?,
        })
    }
}

impl Chosen {
    pub fn has(&self, id: &str) -> bool {
        self.ids.contains(id)
    }

    /// The names of the tables that are built.
    pub fn table_names(&self) -> Vec<String> {
        self.early.iter().filter(|item| item.is_table()).map(|item| item.name.clone()).collect()
    }
}

/// Chooses among `items`, all but the tables named in `skip`, and sorts them.
pub(super) fn choose(items: Vec<Item>, needs: Vec<Need>, skip: &BTreeSet<String>) -> Result<Chosen> {
    let (skipped, kept): (Vec<_>, Vec<_>) =
        items.into_iter().partition(|item| item.is_table() && skip.contains(&item.name));
    let graph = Graph::new(&kept, &needs, &skipped);
    let needed_by_tables = graph.needed_by_tables()?;
    let left_out = graph.left_out(&needed_by_tables);
    let (early, late) = graph.sorted(&left_out);
    let ids: BTreeSet<String> = early.iter().chain(&late).map(|item| item.id.clone()).collect();
    let extensions = needs
        .iter()
        .filter(|need| ids.contains(&need.item))
        .filter_map(|need| need.extension.clone())
        .collect();
    let mut left_out: Vec<String> = left_out.into_values().collect();
    left_out.sort();
    Ok(Chosen { early, late, extensions, left_out, ids })
}

struct Graph<'g> {
    items: &'g [Item],
    by_id: BTreeMap<&'g str, &'g Item>,
    needs: BTreeMap<&'g str, Vec<&'g Need>>,
    skipped: BTreeSet<&'g str>,
}

impl<'g> Graph<'g> {
    fn new(items: &'g [Item], needs: &'g [Need], skipped: &'g [Item]) -> Graph<'g> {
        let mut of_items: BTreeMap<&str, Vec<&Need>> = BTreeMap::new();
        for need in needs {
            of_items.entry(need.item.as_str()).or_default().push(need);
        }
        Graph {
            items,
            by_id: items.iter().map(|item| (item.id.as_str(), item)).collect(),
            needs: of_items,
            skipped: skipped.iter().map(|item| item.id.as_str()).collect(),
        }
    }

    fn needs(&self, item: &Item) -> impl Iterator<Item = &'g Need> {
        self.needs.get(item.id.as_str()).into_iter().flatten().copied()
    }

    /// The items that `item` needs.
    fn needed(&self, item: &Item) -> impl Iterator<Item = (&'g Item, &'g Need)> {
        self.needs(item).filter_map(|need| Some((*self.by_id.get(need.need.as_deref()?)?, need)))
    }

    /// Why `item` cannot be built, as the end of a sentence about it.
    fn obstacle(&self, item: &Item) -> Option<String> {
        item.obstacle.clone().or_else(|| {
            let missing = self.needs(item).find(|need| !self.can_be_met(need))?;
            Some(format!("needs {}, which is not rebuilt on the scratch server", missing.description))
        })
    }

    fn can_be_met(&self, need: &Need) -> bool {
        need.extension.is_some()
            || need.need.as_deref().is_some_and(|id| {
                // A part that needs a skipped table, such as a foreign key, is skipped with it.
                self.by_id.contains_key(id) || (self.skipped.contains(id) && !need.is_early)
            })
    }

    /// The tables and all that they need; or an error that names each table that cannot have what it needs.
    fn needed_by_tables(&self) -> Result<BTreeSet<&'g str>> {
        let mut all = BTreeSet::new();
        let mut obstacles = Vec::new();
        for table in self.items.iter().filter(|item| item.is_table()) {
            let reached = self.reached_from(table);
            // What another table needs is that table's obstacle.
            let found = reached.iter().filter(|item| !item.is_table() || item.id == table.id);
            obstacles.extend(found.filter_map(|item| Some((table, *item, self.obstacle(item)?))));
            all.extend(reached.into_iter().map(|item| item.id.as_str()));
        }
        if obstacles.is_empty() { Ok(all) } else { Err(refusal(&obstacles)) }
    }

    fn reached_from(&self, table: &'g Item) -> Vec<&'g Item> {
        let mut seen = BTreeSet::from([table.id.as_str()]);
        let mut reached = vec![table];
        let mut next = vec![table];
        while let Some(item) = next.pop() {
            for (needed, _) in self.needed(item) {
                if seen.insert(needed.id.as_str()) {
                    reached.push(needed);
                    // A table speaks for itself.
                    if !needed.is_table() {
                        next.push(needed);
                    }
                }
            }
        }
        reached
    }

    /// What no table needs and cannot be built, with the sentence that says why.
    fn left_out(&self, needed_by_tables: &BTreeSet<&str>) -> BTreeMap<&'g str, String> {
        let mut left_out: BTreeMap<&str, String> = BTreeMap::new();
        loop {
            let before = left_out.len();
            for item in self.items.iter().filter(|item| !needed_by_tables.contains(item.id.as_str())) {
                if left_out.contains_key(item.id.as_str()) {
                    continue;
                }
                let reason = self.obstacle(item).or_else(|| {
                    let (lost, _) =
                        self.needed(item).find(|(needed, _)| left_out.contains_key(needed.id.as_str()))?;
                    Some(format!("needs {lost}, which is skipped"))
                });
                if let Some(reason) = reason {
                    left_out.insert(&item.id, format!("{item} {reason}"));
                }
            }
            if left_out.len() == before {
                return left_out;
            }
        }
    }

    /// Each after what it needs; what is not bound by a need stays in the order of `items`.
    fn sorted(&self, left_out: &BTreeMap<&str, String>) -> (Vec<Item>, Vec<Item>) {
        let mut sorted = Sorted::default();
        for item in self.items.iter().filter(|item| !left_out.contains_key(item.id.as_str())) {
            self.sort_in(item, &mut sorted);
        }
        sorted.items.into_iter().cloned().partition(|item| !sorted.late.contains(item.id.as_str()))
    }

    fn sort_in(&self, item: &'g Item, sorted: &mut Sorted<'g>) {
        // Two items that need each other stay in their order; the server then says which one it misses.
        if !sorted.seen.insert(&item.id) {
            return;
        }
        let mut is_late = item.kind == "view";
        for (needed, _) in self.needed(item).filter(|(_, need)| need.is_early) {
            self.sort_in(needed, sorted);
            is_late |= sorted.late.contains(needed.id.as_str());
        }
        if is_late {
            sorted.late.insert(&item.id);
        }
        sorted.items.push(item);
    }
}

#[derive(Default)]
struct Sorted<'g> {
    items: Vec<&'g Item>,
    seen: BTreeSet<&'g str>,
    late: BTreeSet<&'g str>,
}

fn refusal(obstacles: &[(&Item, &Item, String)]) -> Error {
    let mut error = Error::refused("not all of green's tables can be rebuilt on a scratch server");
    let mut tables: Vec<&str> = Vec::new();
    for (table, item, obstacle) in obstacles {
        error = error.detail(if table.id == item.id {
            format!("{table} {obstacle}")
        } else {
            format!("{table} needs {item}, which {obstacle}")
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
