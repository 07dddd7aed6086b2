//! Statements that keep no state in the session.
//!
//! sqlx names and keeps every statement unless told not to – even with its cache switched off. Behind a pooler in
//! transaction mode the next transaction runs in another session: there the name is unknown or, worse, belongs to
//! another client's statement. So every statement with parameters is created here; a test enforces it.

use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::{Query, QueryAs, QueryScalar};
use sqlx::{FromRow, Postgres, SqlSafeStr};

/// [`sqlx::query()`] that is not kept.
pub fn query<'q>(sql: impl SqlSafeStr) -> Query<'q, Postgres, PgArguments> {
    sqlx::query(sql).persistent(false)
}

/// [`sqlx::query_as()`] that is not kept.
pub fn query_as<'q, O>(sql: impl SqlSafeStr) -> QueryAs<'q, Postgres, O, PgArguments>
where
    O: for<'r> FromRow<'r, PgRow>,
{
    sqlx::query_as(sql).persistent(false)
}

/// [`sqlx::query_scalar()`] that is not kept.
pub fn query_scalar<'q, O>(sql: impl SqlSafeStr) -> QueryScalar<'q, Postgres, O, PgArguments>
where
    (O,): for<'r> FromRow<'r, PgRow>,
{
    sqlx::query_scalar(sql).persistent(false)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// Words that would name a statement in the session.
    const FORBIDDEN: &[&str] = &[
        "sqlx::query(",
        "sqlx::query_as(",
        "sqlx::query_as::<",
        "sqlx::query_scalar(",
        "sqlx::query_scalar::<",
    ];

    fn offenders(folder: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).expect("a folder of sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                offenders(&path, found);
            } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("green/statement.rs") {
                let text = std::fs::read_to_string(&path).expect("a source file");
                if FORBIDDEN.iter().any(|word| text.contains(word)) {
                    found.push(path.display().to_string());
                }
            }
        }
    }

    #[test]
    fn every_statement_is_made_here() {
        let mut found = Vec::new();
        offenders(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
        assert!(
            found.is_empty(),
            "use green::statement in {found:?}: a pooler would mix up named statements"
        );
    }
}
