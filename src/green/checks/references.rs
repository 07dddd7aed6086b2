//! References: rejects rows whose parent is neither staged nor remains on green, parents before children, so that a child
//! of a rejected parent has its parent's key as the cause.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::PgConnection;

use super::check_sql::{CheckSql, column_list};
use super::{CheckCounts, Checks, WORK_MEM};
use crate::catalog::green::ForeignKey;
use crate::error::Result;
use crate::green::conditions::{same_key, same_numbered_key};
use crate::green::deletions::{Deletions, is_deleted};
use crate::green::sql::{columns, literal, quote};
use crate::mapping::table_plan::TablePlan;

impl Checks<'_> {
    /// One pass over all references; returns whether another pass could find more, which only happens with cycles.
    pub(super) async fn check_references(
        &self,
        filled: &BTreeSet<String>,
        progress: &impl Fn(&str),
        counts: &mut BTreeMap<String, CheckCounts>,
    ) -> Result<bool> {
        let mut again = false;
        for (position, plan) in self.context.plan.moved.iter().enumerate() {
            progress(&plan.table);
            if !filled.contains(&plan.table) {
                continue;
            }
            let (rejected, dependents) = self.check_references_of(plan).await?;
            counts.entry(plan.table.clone()).or_default().dependents += dependents;
            again |= rejected > 0 && self.is_parent_of_earlier(&plan.table, position);
        }
        Ok(again)
    }

    fn is_parent_of_earlier(&self, table: &str, position: usize) -> bool {
        let refers = |plan: &TablePlan| self.foreign_keys(plan).iter().any(|key| key.parent == table);
        self.context.plan.moved.iter().take(position + 1).any(refers)
    }

    fn foreign_keys(&self, plan: &TablePlan) -> &[ForeignKey] {
        self.context.table(&plan.table).map_or(&[], |table| &table.foreign_keys)
    }

    /// Returns how many rows were rejected, and how many dependents of deleted rows were staged for it.
    async fn check_references_of(&self, plan: &TablePlan) -> Result<(u64, u64)> {
        let keys = self.foreign_keys(plan);
        if keys.is_empty() {
            return Ok((0, 0));
        }
        let green = self.context.stage.green();
        let action = format!("cannot check the references of \"{}\"", plan.table);
        let checked = green.write(&action, async |tx| {
            green.at_least(tx, "work_mem", WORK_MEM).await?;
            let check = CheckSql::new(self.context.stage, plan, self.deletions());
            let mut found = 0;
            let dependents = match self.deletions() {
                Some(deletions) => deletions.stage_dependents(tx, plan).await?,
                None => 0,
            };
            // The workspace comes first: in an unknown workspace every other reference is broken as well.
            let (first, then): (Vec<_>, Vec<_>) = keys.iter().partition(|key| self.is_workspace(key));
            for key in first.into_iter().chain(then) {
                found += self.check_reference(tx, &check, key).await?;
            }
            let rejected = match found {
                0 => 0,
                _ => check.reject(tx).await?,
            };
            Ok((rejected, dependents))
        });
        checked.await
    }

    fn is_workspace(&self, key: &ForeignKey) -> bool {
        let table = self.context.map.names.workspaces.as_ref().map(|workspaces| workspaces.table.as_str());
        let column = self.context.map.names.workspace_column.as_deref();
        table == Some(&key.parent)
            && matches!(key.columns.as_slice(), [name] if Some(name.as_str()) == column)
    }

    async fn check_reference(
        &self,
        tx: &mut PgConnection,
        check: &CheckSql,
        key: &ForeignKey,
    ) -> sqlx::Result<u64> {
        let without_workspace = self.without_workspace(key);
        let elsewhere = if without_workspace.len() < key.columns.len() && !without_workspace.is_empty() {
            format!("({})", self.has_parent(key, &joined(&without_workspace)).join(" or "))
        } else {
            "false".to_owned()
        };
        let named: Vec<&String> = if without_workspace.is_empty() {
            key.columns.iter().collect()
        } else {
            without_workspace.iter().map(|(child, _)| *child).collect()
        };
        let pairs: Vec<(&String, &String)> = key.columns.iter().zip(&key.parent_columns).collect();
        let lacks = self.has_parent(key, &joined(&pairs)).into_iter().map(|exists| format!("not {exists}"));
        let lacks_parent = lacks.collect::<Vec<_>>().join(" and ");
        let places = [
            ("lacks_parent", lacks_parent.as_str()),
            ("all_set", &all_set(&key.columns, "s")),
            ("is_partial", &is_partial(key, "s")),
            ("elsewhere", &elsewhere),
            ("to_workspace", if self.is_workspace(key) { "true" } else { "false" }),
            ("cause", &self.cause(key)),
            ("columns", &column_list(&named)),
            ("constraint", &literal(&key.name)),
        ];
        // PostgreSQL counts with several workers, and inserts with one; and mostly there is nothing to insert.
        if check.count(tx, include_str!("../../../sql/checks/broken_references.sql"), &places).await? == 0 {
            return Ok(0);
        }
        check.execute(tx, include_str!("../../../sql/checks/foreign_key.sql"), &places).await
    }

    /// That the parent is staged, and that it is on green and remains there. One condition each, so that "neither" is a
    /// sequence of anti-joins.
    fn has_parent(&self, foreign: &ForeignKey, joined: &str) -> Vec<String> {
        let exists =
            |table: &str, remains: &str| format!("exists (select from {table} p where {joined}{remains})");
        let staged = || exists(&self.context.stage.table(&foreign.parent), "");
        let on_green = |remains: &str| exists(&self.context.stage.kong_table(&foreign.parent), remains);
        match (self.context.plan.table(&foreign.parent), &self.deletions()) {
            (Some(_), None) => vec![staged()],
            (None, None) => vec![on_green("")],
            (Some(plan), Some(deletions)) => vec![staged(), on_green(&remains(self, deletions, plan))],
            (None, Some(deletions)) => {
                let table = self.context.table(&foreign.parent).filter(|t| !t.primary_key.is_empty());
                vec![on_green(&table.map_or_else(String::new, |table| {
                    let is_deleted = is_deleted(table).replace(" = g.", " = p.");
                    format!(
                        " and not exists (select from {} d where {is_deleted})",
                        deletions.table(&table.name)
                    )
                }))]
            }
        }
    }

    /// The pairs of columns of a foreign key, except that of the workspace.
    fn without_workspace<'k>(&self, key: &'k ForeignKey) -> Vec<(&'k String, &'k String)> {
        let workspace = self.context.map.names.workspace_column.as_ref();
        let pairs = key.columns.iter().zip(&key.parent_columns);
        pairs.filter(|(child, _)| Some(*child) != workspace).collect()
    }

    /// The key of the rejected parent that a child refers to, as an expression; null where there is none.
    fn cause(&self, foreign: &ForeignKey) -> String {
        let primary = self.context.table(&foreign.parent).map_or(&[][..], |table| &table.primary_key);
        let child_of = |name: &String| {
            let at = foreign.parent_columns.iter().position(|column| column == name)?;
            foreign.columns.get(at).map(|child| format!("s.{}", quote(child)))
        };
        let children: Option<Vec<String>> = primary.iter().map(child_of).collect();
        let parent_key = match children.as_deref() {
            None | Some([]) => return "null::jsonb".to_owned(),
            Some([child]) => format!("to_jsonb({child})"),
            Some(children) => {
                let members =
                    primary.iter().zip(children).map(|(name, child)| format!("{}, {child}", literal(name)));
                format!("jsonb_build_object({})", members.collect::<Vec<_>>().join(", "))
            }
        };
        format!(
            "(select r.key from {} r where r.table_name = {} and r.key = {parent_key} limit 1)",
            self.context.stage.own("stage_reject"),
            literal(&foreign.parent)
        )
    }
}

/// That a row `p` of green is neither staged nor deleted.
fn remains(checks: &Checks<'_>, deletions: &Deletions<'_>, plan: &TablePlan) -> String {
    format!(
        " and not exists (select from {} r where {}) and not exists (select from {} d where {})",
        checks.context.stage.table(&plan.table),
        same_key(&plan.key, "r", "p"),
        deletions.table(&plan.table),
        same_numbered_key(&plan.key, "d", "p")
    )
}

fn joined(pairs: &[(&String, &String)]) -> String {
    let pair = |(child, parent): &(&String, &String)| format!("p.{} = s.{}", quote(parent), quote(child));
    pairs.iter().map(pair).collect::<Vec<_>>().join(" and ")
}

/// That only some columns of a reference are set, where green refuses that.
fn is_partial(key: &ForeignKey, alias: &str) -> String {
    if !key.match_full {
        return "false".to_owned();
    }
    let names = columns(&key.columns, alias);
    format!("num_nulls({names}) > 0 and num_nonnulls({names}) > 0")
}

fn all_set(names: &[String], alias: &str) -> String {
    format!("num_nulls({}) = 0", columns(names, alias))
}
