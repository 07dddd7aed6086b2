//! The types of CQL, as `system_schema.columns` spells them.

use std::fmt;

/// The type of a column on blue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CqlType {
    /// A type without parameters, in its canonical spelling (`varchar` is `text`).
    Native(String),
    /// `list<…>`
    List(Box<CqlType>),
    /// `set<…>`
    Set(Box<CqlType>),
    /// `map<…, …>`
    Map(Box<CqlType>, Box<CqlType>),
    /// A tuple, a user-defined type, a vector or a custom class: nothing that Kong uses.
    Other(String),
}

impl CqlType {
    /// Reads a type as `system_schema.columns.type` spells it. `frozen` changes storage, not values, and is left out.
    pub fn parse(text: &str) -> CqlType {
        let text = text.trim();
        let Some((name, inner)) = parameters(text) else {
            return match text {
                "varchar" => CqlType::Native("text".to_owned()),
                _ if text.starts_with('\'') || text.contains('<') => CqlType::Other(text.to_owned()),
                _ => CqlType::Native(text.to_owned()),
            };
        };
        match (name, inner.as_slice()) {
            ("frozen", [element]) => CqlType::parse(element),
            ("list", [element]) => CqlType::List(Box::new(CqlType::parse(element))),
            ("set", [element]) => CqlType::Set(Box::new(CqlType::parse(element))),
            ("map", [key, value]) => {
                CqlType::Map(Box::new(CqlType::parse(key)), Box::new(CqlType::parse(value)))
            }
            _ => CqlType::Other(text.to_owned()),
        }
    }

    /// Whether this is the native type of that name.
    pub fn is(&self, name: &str) -> bool {
        matches!(self, CqlType::Native(native) if native == name)
    }

    /// Whether its cells are many under one name: a collection, of which `TTL()` may not be asked before Cassandra 5.
    pub fn is_collection(&self) -> bool {
        matches!(self, CqlType::List(_) | CqlType::Set(_) | CqlType::Map(..))
    }
}

impl fmt::Display for CqlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CqlType::Native(name) | CqlType::Other(name) => f.write_str(name),
            CqlType::List(element) => write!(f, "list<{element}>"),
            CqlType::Set(element) => write!(f, "set<{element}>"),
            CqlType::Map(key, value) => write!(f, "map<{key}, {value}>"),
        }
    }
}

/// `name<a, b<c, d>>` taken apart at its outermost brackets.
fn parameters(text: &str) -> Option<(&str, Vec<&str>)> {
    let (name, rest) = text.split_once('<')?;
    let inner = rest.strip_suffix('>')?;
    let mut depth = 0_usize;
    let mut parts = Vec::new();
    let mut start = 0;
    for (at, character) in inner.char_indices() {
        match character {
            '<' => depth += 1,
            '>' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(inner.get(start..at)?.trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(inner.get(start..)?.trim());
    Some((name.trim(), parts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_of_kongs_tables_is_read() {
        let text = || Box::new(CqlType::Native("text".into()));
        assert_eq!(CqlType::parse("uuid"), CqlType::Native("uuid".into()));
        assert_eq!(CqlType::parse("varchar"), CqlType::Native("text".into()));
        assert_eq!(CqlType::parse("set<text>"), CqlType::Set(text()));
        assert_eq!(CqlType::parse("frozen<list<text>>"), CqlType::List(text()));
        assert_eq!(
            CqlType::parse("map<text, frozen<set<text>>>"),
            CqlType::Map(text(), Box::new(CqlType::Set(text())))
        );
    }

    #[test]
    fn what_kong_does_not_use_is_kept_by_name() {
        assert_eq!(CqlType::parse("tuple<int, text>"), CqlType::Other("tuple<int, text>".into()));
        assert_eq!(CqlType::parse("'org.example.Type'"), CqlType::Other("'org.example.Type'".into()));
    }
}
