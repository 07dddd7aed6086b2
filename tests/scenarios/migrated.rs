//! A migration that ended, with its results, and the assertions about it that tests share.

use std::collections::BTreeMap;

use kongferry::green::definitions::Definitions;
use kongferry_harness::keyspace::Keyspace;
use kongferry_harness::lab;
use kongferry_harness::postgres::Database;
use serde_json::{Value, json};

use super::support::{Ran, kongferry, migrate_arguments};

pub struct Migrated {
    pub ran: Ran,
    pub green: Database,
    tables: BTreeMap<String, Vec<Value>>,
}

impl Migrated {
    /// Migrates into a fresh green of this line and leaves rejects behind.
    pub async fn new(blue: &Keyspace, line: &str) -> Migrated {
        Migrated::with(blue, line, &[]).await
    }

    pub async fn with(blue: &Keyspace, line: &str, more: &[&str]) -> Migrated {
        let green = lab().fresh_green(line).await.expect("green");
        Migrated::into_green(blue, green, more).await
    }

    /// The same into a fresh green of Kong 3.3 with more tables.
    pub async fn with_green_like(blue: &Keyspace, more_tables: &str) -> Migrated {
        let green = lab().fresh_green("3.3").await.expect("green");
        green.execute(more_tables).await.expect("more tables");
        Migrated::into_green(blue, green, &[]).await
    }

    /// The same into a green that is given.
    pub async fn into_green(blue: &Keyspace, green: Database, more: &[&str]) -> Migrated {
        let more = [&["--accept-rejects"], more].concat();
        let ran = kongferry(&migrate_arguments(blue, &green, &more)).await;
        assert!([0, 3].contains(&ran.code), "the migration failed: {ran:#?}");
        let migrated = Migrated { tables: contents(&green).await, ran, green };
        migrated.adds_up();
        migrated
    }

    /// Every row of blue is in one class, every reject in the file, every other row on green.
    fn adds_up(&self) {
        let report = self.ran.json();
        let mut rejected = 0;
        for table in report["tables"].as_array().expect("tables") {
            let number = |name: &str| table[name].as_u64().unwrap_or_else(|| panic!("no {name} in {table}"));
            let classes = ["applied", "repaired", "rejected", "expired", "not_copied"];
            assert_eq!(number("source"), classes.map(number).iter().sum::<u64>(), "{table}");
            let name = table["table"].as_str().expect("a name");
            let in_file = self.ran.rejects.iter().filter(|line| line["table"] == name).count() as u64;
            assert_eq!(number("rejected"), in_file, "rejects of {name} in the file: {:#?}", self.ran.rejects);
            let arrived = number("applied") + number("repaired");
            if number("source") > number("not_copied") {
                let on_green = self.rows(name).len() as u64;
                assert_eq!(arrived, on_green, "rows of {name} on green: {table}");
            }
            rejected += number("rejected");
        }
        assert_eq!(report["totals"]["rejected"], rejected);
        assert_eq!(
            self.ran.code,
            if rejected > 0 { 3 } else { 0 },
            "the exit code says whether there are rejects"
        );
    }

    /// All rows of one of green's tables.
    pub fn rows(&self, table: &str) -> &[Value] {
        self.tables.get(table).unwrap_or_else(|| panic!("green has no table {table}"))
    }

    /// A row of green by its id (or key).
    pub fn find(&self, table: &str, key: &str) -> Option<&Value> {
        self.rows(table).iter().find(|row| row["id"] == key || row["key"] == key)
    }

    /// A row that must be on green.
    #[track_caller]
    pub fn row(&self, table: &str, key: &str) -> &Value {
        let reject = self.ran.reject(table, key);
        self.find(table, key).unwrap_or_else(|| panic!("{table} {key} is not on green; reject: {reject:#?}"))
    }

    /// A row that must have been rejected for this reason and column, and nowhere else. Gives its line.
    #[track_caller]
    pub fn rejected(&self, table: &str, key: &str, reason: &str, column: &str) -> &Value {
        let line = self.ran.reject(table, key).unwrap_or_else(|| {
            panic!("{table} {key} was not rejected ({reason}); on green: {:#?}", self.find(table, key))
        });
        assert_eq!(
            (line["reason"].as_str(), line["column"].as_str()),
            (Some(reason), Some(column)),
            "{line:#}"
        );
        let shown = if line["row"]["id"].is_null() { &line["row"]["key"] } else { &line["row"]["id"] };
        assert_eq!(shown, key, "the whole row is shown: {line:#}");
        assert!(line["message"].as_str().is_some_and(|message| message.len() > 10), "{line:#}");
        if reason != "parent_rejected" {
            assert!(line["cause"].is_null(), "only a child of a reject has a cause: {line:#}");
        }
        assert!(self.find(table, key).is_none(), "{table} {key} was rejected and is on green");
        line
    }

    /// A child of a rejected parent.
    #[track_caller]
    pub fn rejected_for(&self, table: &str, key: &str, column: &str, parent: &str) {
        let line = self.rejected(table, key, "parent_rejected", column);
        assert_eq!(line["cause"], parent, "the cause is the parent's key: {line:#}");
    }

    /// How many rows of a table are in this class of the report.
    pub fn count(&self, table: &str, class: &str) -> u64 {
        self.ran.table(table)[class]
            .as_u64()
            .unwrap_or_else(|| panic!("no {class} of {table} in {}", self.ran.json()))
    }

    /// The group of the report's `repairs` or `notes` with this table, column and code.
    #[track_caller]
    pub fn group(&self, list: &str, table: &str, column: &str, code: &str) -> Value {
        let report = self.ran.json();
        let wanted = |one: &&Value| one["table"] == table && one["column"] == column && one["reason"] == code;
        let found = report[list].as_array().and_then(|groups| groups.iter().find(wanted).cloned());
        found.unwrap_or_else(|| panic!("no {code} of {table}.{column} in {:#}", report[list]))
    }

    /// Whether the report has such a group at all.
    pub fn has_group(&self, list: &str, table: &str, code: &str) -> bool {
        let report = self.ran.json();
        let wanted = |one: &Value| one["table"] == table && one["reason"] == code;
        report[list].as_array().is_some_and(|groups| groups.iter().any(wanted))
    }
}

/// Every table of green's schema, as JSON.
pub async fn contents(green: &Database) -> BTreeMap<String, Vec<Value>> {
    per_table(green, "to_jsonb(t)").await
}

/// Every table of green's schema, as PostgreSQL writes its rows: not a byte is lost.
pub async fn texts(green: &Database) -> BTreeMap<String, Vec<Value>> {
    per_table(green, "t::text").await
}

async fn per_table(green: &Database, shown: &str) -> BTreeMap<String, Vec<Value>> {
    let tables = "select to_jsonb(relname::text) from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r'";
    let mut parts = Vec::new();
    for table in green.json(tables).await.expect("tables") {
        let name = table.as_str().expect("a name");
        let (literal, quoted) = (name.replace('\'', "''"), name.replace('"', "\"\""));
        parts.push(format!(
            "select jsonb_build_object('table', '{literal}', 'rows', \
             (select coalesce(jsonb_agg({shown} order by t::text), '[]') from public.\"{quoted}\" t))"
        ));
    }
    let all = green.json(&parts.join(" union all ")).await.expect("rows");
    let pair = |one: Value| {
        let rows = one["rows"].as_array().cloned().unwrap_or_default();
        (one["table"].as_str().unwrap_or_default().to_owned(), rows)
    };
    all.into_iter().map(pair).collect()
}

pub async fn definitions(green: &Database) -> Definitions {
    let mut connection = green.connect().await.expect("a connection");
    Definitions::read(&mut connection, "public").await.expect("definitions")
}

/// Runs a migration that must refuse with this in its message, and leave green byte for byte as it was.
pub async fn refused(blue: &Keyspace, line: &str, more: &[&str], sentence: &str) -> Value {
    let green = lab().fresh_green(line).await.expect("green");
    refused_into(blue, &green, more, sentence).await
}

/// The same into a green that is given.
pub async fn refused_into(blue: &Keyspace, green: &Database, more: &[&str], sentence: &str) -> Value {
    let before = (texts(green).await, definitions(green).await);
    let ran = kongferry(&migrate_arguments(blue, green, more)).await.expect_code(4);
    let said = ran.json();
    // A refusal after the rows were read is a report; one before is an error.
    let refusal = match &said["refusal"] {
        Value::Null => {
            json!({ "problem": said["message"], "details": said["details"], "remedy": said["remedy"] })
        }
        refusal => refusal.clone(),
    };
    let problem = refusal["problem"].as_str().unwrap_or_default();
    assert!(problem.contains(sentence), "{sentence:?} is not what was said: {said:#}");
    assert!(refusal["remedy"].as_str().is_some_and(|text| !text.is_empty()), "no way out is named: {said:#}");
    let after = (texts(green).await, definitions(green).await);
    assert_eq!(after.0, before.0, "green's rows are as they were");
    assert_eq!(
        after.1.differences(&before.1, &std::collections::BTreeSet::new()),
        [],
        "green's definitions are as they were"
    );
    refusal
}
