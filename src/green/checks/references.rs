//! References: a row whose parent is neither staged nor on green to stay, parents before children, so that a child of a
//! rejected parent carries its parent's key as the cause.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::PgConnection;

use super::check_sql::{Place, shown};
use super::{Checked, Checks, WORK_MEM};
use crate::catalog::green::ForeignKey;
use crate::error::Result;
use crate::green::deletions::Deletions;
use crate::green::ledger;
use crate::green::sql::{columns, literal, quote};
use crate::mapping::table_plan::TablePlan;

impl Checks<'_> {
    /// One pass over all references; says whether another pass could find more, which only cycles can make so.
    pub(super) async fn references(
        &self,
        filled: &BTreeSet<String>,
        seen: &impl Fn(&str),
        checked: &mut BTreeMap<String, Checked>,
    ) -> Result<bool> {
        let mut again = false;
        for (position, plan) in self.plan.moved.iter().enumerate() {
            seen(&plan.table);
            if !filled.contains(&plan.table) {
                continue;
            }
            let (aside, pulled_in) = self.references_of(plan).await?;
            checked.entry(plan.table.clone()).or_default().pulled_in += pulled_in;
            again |= aside > 0 && self.is_parent_of_earlier(&plan.table, position);
        }
        Ok(again)
    }

    fn is_parent_of_earlier(&self, table: &str, position: usize) -> bool {
        let refers = |plan: &TablePlan| self.foreign_keys(plan).iter().any(|key| key.parent == table);
        self.plan.moved.iter().take(position + 1).any(refers)
    }

    fn foreign_keys(&self, plan: &TablePlan) -> &[ForeignKey] {
        self.catalog.tables.get(&plan.table).map_or(&[], |table| &table.foreign_keys)
    }

    /// How many rows were set aside, and how many were staged for it.
    async fn references_of(&self, plan: &TablePlan) -> Result<(u64, u64)> {
        let keys = self.foreign_keys(plan);
        if keys.is_empty() {
            return Ok((0, 0));
        }
        let green = self.stage.green();
        let action = format!("cannot check the references of \"{}\"", plan.table);
        let check = green.write(&action, async |tx| {
            green.at_least(tx, "work_mem", WORK_MEM).await?;
            let place = Place::new(self.stage, plan, self.gone);
            let mut found = 0;
            let pulled_in = match &self.gone {
                Some(gone) => gone.pull_in(tx, plan).await?,
                None => 0,
            };
            // The workspace comes first: in an unknown workspace every other reference is broken as well.
            let (first, then): (Vec<_>, Vec<_>) = keys.iter().partition(|key| self.is_workspace(key));
            for key in first.into_iter().chain(then) {
                found += self.reference(tx, &place, key).await?;
            }
            let rejected = match found {
                0 => 0,
                _ => place.set_aside(tx).await?,
            };
            Ok((rejected, pulled_in))
        });
        check.await
    }

    fn is_workspace(&self, key: &ForeignKey) -> bool {
        let table = self.names.workspaces.as_ref().map(|workspaces| workspaces.table.as_str());
        let column = self.names.workspace_column.as_deref();
        table == Some(&key.parent) && matches!(key.columns.as_slice(), [one] if Some(one.as_str()) == column)
    }

    async fn reference(&self, tx: &mut PgConnection, place: &Place, key: &ForeignKey) -> sqlx::Result<u64> {
        let own = self.without_workspace(key);
        let elsewhere = if own.len() < key.columns.len() && !own.is_empty() {
            format!("({})", self.has_parent(key, &joined(&own)).join(" or "))
        } else {
            "false".to_owned()
        };
        let named: Vec<&String> = if own.is_empty() {
            key.columns.iter().collect()
        } else {
            own.iter().map(|(child, _)| *child).collect()
        };
        let pairs: Vec<(&String, &String)> = key.columns.iter().zip(&key.parent_columns).collect();
        let lacks = self.has_parent(key, &joined(&pairs)).into_iter().map(|exists| format!("not {exists}"));
        let lacks_parent = lacks.collect::<Vec<_>>().join(" and ");
        let places = [
            ("lacks_parent", lacks_parent.as_str()),
            ("all_set", &all_set(&key.columns, "s")),
            ("torn", &torn(key, "s")),
            ("elsewhere", &elsewhere),
            ("to_workspace", if self.is_workspace(key) { "true" } else { "false" }),
            ("cause", &self.cause(key)),
            ("columns", &shown(&named)),
            ("constraint", &literal(&key.name)),
        ];
        // Counting is done by several workers, inserting is not; and mostly there is nothing to insert.
        if place.count(tx, include_str!("../../../sql/checks/broken_references.sql"), &places).await? == 0 {
            return Ok(0);
        }
        place.execute(tx, include_str!("../../../sql/checks/foreign_key.sql"), &places).await
    }

    /// Where the row that a reference leads to may be: staged, or on green and staying as it is. One condition each, so
    /// that lacking all of them is a row of anti-joins.
    fn has_parent(&self, foreign: &ForeignKey, joined: &str) -> Vec<String> {
        let exists =
            |table: &str, stays: &str| format!("exists (select from {table} p where {joined}{stays})");
        let staged = || exists(&self.stage.table(&foreign.parent), "");
        let on_green = |stays: &str| exists(&self.stage.kong_table(&foreign.parent), stays);
        match (self.plan.table(&foreign.parent), &self.gone) {
            (Some(_), None) => vec![staged()],
            (None, None) => vec![on_green("")],
            (Some(plan), Some(gone)) => vec![staged(), on_green(&stays(self, gone, plan))],
            (None, Some(gone)) => {
                let table = self.catalog.tables.get(&foreign.parent).filter(|t| !t.primary_key.is_empty());
                vec![on_green(&table.map_or_else(String::new, |table| {
                    let leaving = gone.leaving(table).replace(" = g.", " = p.");
                    format!(" and not exists (select from {} d where {leaving})", gone.table(&table.name))
                }))]
            }
        }
    }

    /// The pairs of columns of a reference, but that of the workspace.
    fn without_workspace<'k>(&self, key: &'k ForeignKey) -> Vec<(&'k String, &'k String)> {
        let workspace = self.names.workspace_column.as_ref();
        let pairs = key.columns.iter().zip(&key.parent_columns);
        pairs.filter(|(child, _)| Some(*child) != workspace).collect()
    }

    /// The key of the rejected parent that a child refers to, as an expression; null where there is none.
    fn cause(&self, foreign: &ForeignKey) -> String {
        let primary = self.catalog.tables.get(&foreign.parent).map_or(&[][..], |table| &table.primary_key);
        let child_of = |name: &String| {
            let at = foreign.parent_columns.iter().position(|own| own == name)?;
            foreign.columns.get(at).map(|child| format!("s.{}", quote(child)))
        };
        let children: Option<Vec<String>> = primary.iter().map(child_of).collect();
        let wanted = match children.as_deref() {
            None | Some([]) => return "null::jsonb".to_owned(),
            Some([one]) => format!("to_jsonb({one})"),
            Some(many) => {
                let parts =
                    primary.iter().zip(many).map(|(name, child)| format!("{}, {child}", literal(name)));
                format!("jsonb_build_object({})", parts.collect::<Vec<_>>().join(", "))
            }
        };
        format!(
            "(select r.key from {} r where r.table_name = {} and r.key = {wanted} limit 1)",
            self.stage.own("stage_reject"),
            literal(&foreign.parent)
        )
    }
}

/// That a row `p` of green stays as it is: neither staged nor leaving.
fn stays(checks: &Checks<'_>, gone: &Deletions<'_>, plan: &TablePlan) -> String {
    let staged = plan.key.iter().map(|name| format!("r.{0} = p.{0}", quote(name)));
    format!(
        " and not exists (select from {} r where {}) and not exists (select from {} d where {})",
        checks.stage.table(&plan.table),
        staged.collect::<Vec<_>>().join(" and "),
        gone.table(&plan.table),
        ledger::same_key(plan, "d", "p")
    )
}

fn joined(pairs: &[(&String, &String)]) -> String {
    let one = |(child, parent): &(&String, &String)| format!("p.{} = s.{}", quote(parent), quote(child));
    pairs.iter().map(one).collect::<Vec<_>>().join(" and ")
}

/// A reference of which only a part is there, where green does not take that.
fn torn(key: &ForeignKey, alias: &str) -> String {
    if !key.match_full {
        return "false".to_owned();
    }
    let names = columns(&key.columns, alias);
    format!("num_nulls({names}) > 0 and num_nonnulls({names}) > 0")
}

fn all_set(names: &[String], alias: &str) -> String {
    format!("num_nulls({}) = 0", columns(names, alias))
}
