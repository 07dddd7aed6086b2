//! Statements from `sql/`: filled in with names, and names made safe.
//!
//! The files hold `{place}` holders for what PostgreSQL cannot take as a parameter: tables, columns, expressions from
//! its own catalog. Values go in as parameters, or as literals quoted here.

use sqlx::AssertSqlSafe;

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

/// Fills the holders of a statement. A holder without a value stays and fails in PostgreSQL, which tests would see.
pub fn fill(template: &str, places: &[(&str, &str)]) -> AssertSqlSafe<String> {
    let mut sql = String::with_capacity(template.len() * 2);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        sql.push_str(before);
        let value = after.split_once('}').and_then(|(name, behind)| {
            places.iter().find(|(place, _)| *place == name).map(|(_, value)| (*value, behind))
        });
        match value {
            Some((value, behind)) => {
                sql.push_str(value);
                rest = behind;
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
        [one] => format!("to_jsonb({alias}.{})", quote(one.as_ref())),
        _ => {
            let part = |name: &S| format!("{}, {alias}.{}", literal(name.as_ref()), quote(name.as_ref()));
            format!("jsonb_build_object({})", names.iter().map(part).collect::<Vec<_>>().join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_texts_cannot_break_out() {
        assert_eq!(quote("gr\"oup"), "\"gr\"\"oup\"");
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("a\\'b"), "E'a\\\\''b'");
    }

    #[test]
    fn what_is_filled_in_is_not_filled_again() {
        let AssertSqlSafe(sql) = fill("select {a} from {b} where {c}", &[("a", "{b}"), ("b", "t")]);
        assert_eq!(sql, "select {b} from t where {c}");
    }

    #[test]
    fn keys_have_the_shape_that_people_see() {
        assert_eq!(key(&["id"], "s"), "to_jsonb(s.\"id\")");
        assert_eq!(key(&["a", "b"], "s"), "jsonb_build_object('a', s.\"a\", 'b', s.\"b\")");
    }
}
