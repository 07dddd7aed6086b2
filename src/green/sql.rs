//! Statements from `sql/`: placeholders are filled with names, and names are quoted.
//!
//! The files contain placeholders such as `{table}` for what PostgreSQL does not take as a parameter: tables, columns,
//! expressions from its own catalog. Values are bound as parameters, or quoted here as literals.

use ring::digest::{SHA256, digest};
use sqlx::AssertSqlSafe;

const MAX_NAME_BYTES: usize = 63;

/// A name as SQL takes it literally.
pub fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as an SQL literal.
pub fn literal(text: &str) -> String {
    // A backslash means itself only in standard strings; an E-string means the same under every setting.
    if text.contains('\\') {
        format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
    } else {
        format!("'{}'", text.replace('\'', "''"))
    }
}

/// Fills the placeholders of a statement. One without a value is kept and fails in PostgreSQL, which tests show.
pub fn fill(template: &str, values: &[(&str, &str)]) -> AssertSqlSafe<String> {
    let mut sql = String::with_capacity(template.len() * 2);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        sql.push_str(before);
        let value = after.split_once('}').and_then(|(name, remainder)| {
            values.iter().find(|(placeholder, _)| *placeholder == name).map(|(_, value)| (*value, remainder))
        });
        match value {
            Some((value, remainder)) => {
                sql.push_str(value);
                rest = remainder;
            }
            None => {
                sql.push('{');
                rest = after;
            }
        }
    }
    sql.push_str(rest);
    AssertSqlSafe(sql)
}

/// Column names as a list, each quoted, each with this alias in front unless it is empty.
pub fn columns<S: AsRef<str>>(names: &[S], alias: &str) -> String {
    let dot = if alias.is_empty() { String::new() } else { format!("{alias}.") };
    names.iter().map(|name| format!("{dot}{}", quote(name.as_ref()))).collect::<Vec<_>>().join(", ")
}

/// The expression that gives a row's key as jsonb: the value of a single column, an object of several.
pub fn key<S: AsRef<str>>(names: &[S], alias: &str) -> String {
    match names {
        [name] => format!("to_jsonb({alias}.{})", quote(name.as_ref())),
        _ => {
            let member = |name: &S| format!("{}, {alias}.{}", literal(name.as_ref()), quote(name.as_ref()));
            format!("jsonb_build_object({})", names.iter().map(member).collect::<Vec<_>>().join(", "))
        }
    }
}

/// The name of a table of our own about one of Kong's. A long one is replaced by its digest, so that names stay apart
/// where PostgreSQL would cut them.
pub(super) fn own_table_name(prefix: &str, table: &str) -> String {
    if prefix.len() + table.len() <= MAX_NAME_BYTES {
        return format!("{prefix}{table}");
    }
    let digest = data_encoding::HEXLOWER.encode(digest(&SHA256, table.as_bytes()).as_ref());
    format!("{prefix}x{}", digest.get(..40).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_own_tables_fit_and_stay_apart() {
        let long = "a".repeat(60);
        assert_eq!(own_table_name("ledger_", "routes"), "ledger_routes");
        assert!(own_table_name("stage_changed_", &long).len() <= MAX_NAME_BYTES);
        assert_ne!(own_table_name("ledger_", &long), own_table_name("ledger_", &"a".repeat(61)));
    }

    #[test]
    fn names_and_texts_are_quoted() {
        assert_eq!(quote("gr\"oup"), "\"gr\"\"oup\"");
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("a\\'b"), "E'a\\\\''b'");
    }

    #[test]
    fn filled_values_are_not_filled_again() {
        let AssertSqlSafe(sql) = fill("select {a} from {b} where {c}", &[("a", "{b}"), ("b", "t")]);
        assert_eq!(sql, "select {b} from t where {c}");
    }

    #[test]
    fn a_key_of_several_columns_is_an_object() {
        assert_eq!(key(&["id"], "s"), "to_jsonb(s.\"id\")");
        assert_eq!(key(&["a", "b"], "s"), "jsonb_build_object('a', s.\"a\", 'b', s.\"b\")");
    }
}
