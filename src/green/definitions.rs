//! Every definition in Kong's schema: read before and after a run and compared, to prove that the run changed none.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use ring::digest;
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
use uuid::Uuid;

use super::catalog_settings::{self, failed};
use super::sql::fill;
use super::statement;
use crate::error::{Error, Kind, Result};

const QUERY: &str = include_str!("../../sql/catalog/definitions.sql");
const QUERY_SINCE_10: &str = include_str!("../../sql/catalog/definitions_since_10.sql");

/// Characters of a definition in a message, from the first line that changed.
const MAX_CHARS: usize = 160;

/// How many differences a message names.
const NAMED: usize = 5;

/// A table, or something that belongs to one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subject {
    /// The table it belongs to; empty for what belongs to the schema itself, such as tables.
    pub table: String,
    /// Such as `index`.
    pub kind: String,
    /// Its name; a function's with its arguments.
    pub name: String,
}

/// All definitions of one schema at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definitions(BTreeMap<Subject, Aspects>);

/// The properties of a subject (`owner`, `type` …). Those that do not apply are absent.
type Aspects = BTreeMap<String, String>;

/// A definition as the journal contains it: table, kind, name, aspects.
type Recorded = (String, String, String, Aspects);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefinitionChange {
    /// The table, or what belongs to one.
    pub subject: Subject,
    /// Such as `default`; `None` where the whole subject was created or dropped.
    pub aspect: Option<String>,
    /// `None` where it did not exist.
    pub before: Option<String>,
    /// `None` where it does not exist any more.
    pub after: Option<String>,
}

impl Definitions {
    /// Reads them all by one query. Needs no privileges beyond connecting. Inside a transaction it sees that
    /// transaction's changes, and keeps its settings.
    pub async fn read(conn: &mut PgConnection, schema: &str) -> Result<Definitions> {
        let action = "cannot read the definitions of Kong's schema";
        // Without the number, as behind some poolers, a recent server is assumed.
        let is_old = conn.server_version_num().is_some_and(|version| version < 100_000);
        let sql = if is_old { QUERY.to_owned() } else { format!("{QUERY}{QUERY_SINCE_10}") };
        // A savepoint that is rolled back to stays open, and rows written after it would have its number instead of the
        // transaction's, by which the ledger recognizes our rows. It ends with the outer savepoint, which is released.
        let mut outer = conn.begin().await.map_err(|e| failed(&e, action))?;
        let mut tx = catalog_settings::begin(&mut outer, action).await?;
        let rows = statement::query(AssertSqlSafe(sql))
            .bind(schema)
            .fetch_all(&mut *tx)
            .await
            .map_err(|e| failed(&e, action))?;
        tx.rollback().await.map_err(|e| failed(&e, action))?;
        outer.commit().await.map_err(|e| failed(&e, action))?;
        rows.iter()
            .map(definition)
            .collect::<sqlx::Result<_>>()
            .map(Definitions)
            .map_err(|e| failed(&e, action))
    }

    /// What differs in `after`. A column in `new_default` (table, column) may have another default, but must have one if
    /// it had one. The parts of a table that was created or dropped are not listed beside it.
    pub fn differences(
        &self,
        after: &Definitions,
        new_default: &BTreeSet<(String, String)>,
    ) -> Vec<DefinitionChange> {
        let subjects: BTreeSet<&Subject> = self.0.keys().chain(after.0.keys()).collect();
        let mut differences = Vec::new();
        for subject in subjects {
            match (self.0.get(subject), after.0.get(subject)) {
                (Some(before), Some(after)) => compare(subject, before, after, &mut differences),
                (before, after) => differences.push(DefinitionChange {
                    subject: subject.clone(),
                    aspect: None,
                    before: before.map(whole),
                    after: after.map(whole),
                }),
            }
        }
        let lone: BTreeSet<String> =
            differences.iter().filter(|d| d.aspect.is_none()).filter_map(|d| d.subject.as_table()).collect();
        differences.retain(|d| !lone.contains(&d.subject.table) && !d.is_new_default(new_default));
        differences
    }

    /// Fails where a definition differs, except for the new defaults of these columns (table, column).
    pub(super) fn check_unchanged(
        &self,
        after: &Definitions,
        new_default: &BTreeSet<(String, String)>,
    ) -> Result<()> {
        let differences = self.differences(after, new_default);
        if differences.is_empty() {
            return Ok(());
        }
        let message = "the run would change definitions of Kong's schema on green; nothing was applied";
        let error = Error::new(Kind::Server, message).remedy(
            "Another session changed the schema meanwhile, or this is a defect of kongferry: run the command again, and \
             report it if it persists.",
        );
        let named = differences.iter().take(NAMED);
        Err(named.fold(error, |error, difference| error.detail(difference.to_string())))
    }

    /// SHA-256 of all of it, in hexadecimal digits; the same for two schemas that are defined alike.
    pub fn digest(&self) -> String {
        let mut hasher = digest::Context::new(&digest::SHA256);
        let mut add = |text: &str| {
            hasher.update(&(text.len() as u64).to_be_bytes());
            hasher.update(text.as_bytes());
        };
        for (subject, aspects) in &self.0 {
            add(&subject.table);
            add(&subject.kind);
            add(&subject.name);
            add(&aspects.len().to_string());
            for (aspect, text) in aspects {
                add(aspect);
                add(text);
            }
        }
        data_encoding::HEXLOWER.encode(hasher.finish().as_ref())
    }

    /// Inserts them into the journal, as those at the end of this run.
    pub async fn record(&self, conn: &mut PgConnection, work: &str, run: Uuid) -> sqlx::Result<()> {
        let list: Vec<_> = self
            .0
            .iter()
            .map(|(subject, aspects)| (&subject.table, &subject.kind, &subject.name, aspects))
            .collect();
        let sql = fill(include_str!("../../sql/journal/insert_definitions.sql"), &[("work", work)]);
        statement::query(sql).bind(run).bind(self.digest()).bind(Json(list)).execute(conn).await.map(|_| ())
    }

    /// Those at the end of a run: recorded by itself or, where it wrote nothing, by the last run before it. `None` where
    /// none recorded any.
    pub async fn recorded(
        conn: &mut PgConnection,
        work: &str,
        run: &str,
    ) -> sqlx::Result<Option<Definitions>> {
        let exists: bool = statement::query_scalar("select to_regclass($1) is not null")
            .bind(format!("{work}.definitions"))
            .fetch_one(&mut *conn)
            .await?;
        if !exists {
            return Ok(None);
        }
        let sql = fill(include_str!("../../sql/journal/definitions.sql"), &[("work", work)]);
        let found: Option<Json<Vec<Recorded>>> =
            statement::query_scalar(sql).bind(run).fetch_optional(conn).await?;
        let entry = |(table, kind, name, aspects)| (Subject { table, kind, name }, aspects);
        Ok(found.map(|Json(list)| Definitions(list.into_iter().map(entry).collect())))
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// As where the schema does not exist.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Removes these aspects, such as owners when comparing schemas on servers with different roles.
    #[must_use]
    pub fn without(mut self, aspects: &[&str]) -> Definitions {
        for definition in self.0.values_mut() {
            definition.retain(|aspect, _| !aspects.contains(&aspect.as_str()));
        }
        self
    }
}

impl Subject {
    /// The table's name, where the subject is one.
    fn as_table(&self) -> Option<String> {
        (self.kind == "table").then(|| self.name.clone())
    }
}

impl DefinitionChange {
    fn is_new_default(&self, columns: &BTreeSet<(String, String)>) -> bool {
        self.subject.kind == "column"
            && self.aspect.as_deref() == Some("default")
            && self.before.is_some()
            && self.after.is_some()
            && columns.contains(&(self.subject.table.clone(), self.subject.name.clone()))
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} \"{}\"", self.kind, self.name)?;
        if self.table.is_empty() { Ok(()) } else { write!(f, " of table \"{}\"", self.table) }
    }
}

impl fmt::Display for DefinitionChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subject = &self.subject;
        let Some(aspect) = &self.aspect else {
            return match &self.before {
                Some(before) => write!(f, "{subject} was dropped; it was: {}", cut(before)),
                None => {
                    write!(f, "{subject} was created: {}", cut(self.after.as_deref().unwrap_or_default()))
                }
            };
        };
        match (&self.before, &self.after) {
            (Some(before), Some(after)) => {
                let (before, after) = from_first_change(before, after);
                write!(f, "{subject}: its {aspect} was \"{}\" and is now \"{}\"", cut(before), cut(after))
            }
            (Some(before), None) => {
                write!(f, "{subject}: its {aspect} was \"{}\" and was removed", cut(before))
            }
            (None, after) => {
                let after = cut(after.as_deref().unwrap_or_default());
                write!(f, "{subject}: it had no {aspect} and now has \"{after}\"")
            }
        }
    }
}

fn definition(row: &sqlx::postgres::PgRow) -> sqlx::Result<(Subject, Aspects)> {
    let Json(aspects) = row.try_get("aspects")?;
    let subject =
        Subject { table: row.try_get("table_name")?, kind: row.try_get("kind")?, name: row.try_get("name")? };
    Ok((subject, aspects))
}

fn compare(subject: &Subject, before: &Aspects, after: &Aspects, differences: &mut Vec<DefinitionChange>) {
    let aspects: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for aspect in aspects {
        let (before, after) = (before.get(aspect), after.get(aspect));
        if before != after {
            differences.push(DefinitionChange {
                subject: subject.clone(),
                aspect: Some(aspect.clone()),
                before: before.cloned(),
                after: after.cloned(),
            });
        }
    }
}

/// The definition of a whole subject, or else all its aspects.
fn whole(aspects: &Aspects) -> String {
    match aspects.get("definition") {
        Some(definition) => definition.clone(),
        None => {
            aspects.iter().map(|(aspect, text)| format!("{aspect} {text}")).collect::<Vec<_>>().join(", ")
        }
    }
}

/// Both texts from the first line that differs.
fn from_first_change<'t>(before: &'t str, after: &'t str) -> (&'t str, &'t str) {
    let same: usize = before
        .split_inclusive('\n')
        .zip(after.split_inclusive('\n'))
        .take_while(|(before, after)| before == after)
        .map(|(line, _)| line.len())
        .sum();
    (before.get(same..).unwrap_or_default(), after.get(same..).unwrap_or_default())
}

/// One line of at most [`MAX_CHARS`] characters.
fn cut(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{} …", line.get(..end).unwrap_or_default()),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(table: &str, kind: &str, name: &str) -> Subject {
        Subject { table: table.into(), kind: kind.into(), name: name.into() }
    }

    fn entry(subject: Subject, aspects: &[(&str, &str)]) -> (Subject, Aspects) {
        (subject, aspects.iter().map(|(aspect, text)| ((*aspect).into(), (*text).into())).collect())
    }

    fn with_default(default: Option<&str>) -> Definitions {
        let default: Vec<_> = default.into_iter().map(|text| ("default", text)).collect();
        Definitions([entry(subject("routes", "column", "ws_id"), &default)].into())
    }

    #[test]
    fn a_default_may_change_only_where_declared_and_may_not_be_removed() {
        let declared: BTreeSet<_> = [("routes".to_owned(), "ws_id".to_owned())].into();
        let (before, after, none) =
            (with_default(Some("'a'::uuid")), with_default(Some("'b'::uuid")), with_default(None));
        assert_eq!(before.differences(&after, &declared), []);
        assert_eq!(
            before.differences(&after, &BTreeSet::new())[0].to_string(),
            "column \"ws_id\" of table \"routes\": its default was \"'a'::uuid\" and is now \"'b'::uuid\""
        );
        assert_eq!(before.differences(&none, &declared).len(), 1);
        assert_eq!(
            none.differences(&before, &declared)[0].to_string(),
            "column \"ws_id\" of table \"routes\": it had no default and now has \"'a'::uuid\""
        );
        assert_ne!(before.digest(), after.digest());
    }

    #[test]
    fn the_parts_of_a_lost_table_are_not_listed() {
        let before = Definitions(
            [
                entry(subject("", "table", "routes"), &[("owner", "kong")]),
                entry(subject("routes", "column", "id"), &[("type", "uuid")]),
            ]
            .into(),
        );
        let differences = before.differences(&Definitions(BTreeMap::new()), &BTreeSet::new());
        let sentences: Vec<_> = differences.iter().map(ToString::to_string).collect();
        assert_eq!(sentences, ["table \"routes\" was dropped; it was: owner kong"]);
    }

    #[test]
    fn a_long_definition_is_shown_from_its_first_change_on() {
        let text = |body: &str| format!("CREATE FUNCTION f()\nAS $$\n  {body}\n$$");
        let before =
            Definitions([entry(subject("", "function", "f()"), &[("definition", &text("a := 1;"))])].into());
        let after =
            Definitions([entry(subject("", "function", "f()"), &[("definition", &text("a := 2;"))])].into());
        assert_eq!(
            before.differences(&after, &BTreeSet::new())[0].to_string(),
            "function \"f()\": its definition was \"a := 1; $$\" and is now \"a := 2; $$\""
        );
    }
}
