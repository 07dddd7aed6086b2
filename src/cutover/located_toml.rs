//! Reads a TOML text part by part; every error names its line.

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use crate::error::{Error, Result};

pub(super) struct TomlDocument<'t> {
    text: &'t str,
    table: DeTable<'t>,
}

#[derive(Clone)]
pub(super) struct LocatedValue<'t> {
    text: &'t str,
    value: Spanned<DeValue<'t>>,
}

impl<'t> TomlDocument<'t> {
    pub(super) fn parse(text: &'t str) -> Result<TomlDocument<'t>> {
        let table = DeTable::parse(text).map_err(|e| explained(text, e.message(), e.span()))?;
        Ok(TomlDocument { text, table: table.into_inner() })
    }

    pub(super) fn take(&mut self, key: &str) -> Option<LocatedValue<'t>> {
        self.table.remove(key).map(|value| LocatedValue { text: self.text, value })
    }

    /// The line of a key that has not been taken.
    pub(super) fn line(&self, key: &str) -> Option<usize> {
        self.table.get_key_value(key).map(|(key, _)| line_at(self.text, key.span().start))
    }

    pub(super) fn rest(self) -> LocatedValue<'t> {
        LocatedValue { text: self.text, value: Spanned::new(0..self.text.len(), DeValue::Table(self.table)) }
    }
}

impl<'t> LocatedValue<'t> {
    pub(super) fn read<T: Deserialize<'t>>(&self) -> Result<T> {
        T::deserialize(ValueDeserializer::from(self.value.clone())).map_err(|e| {
            // For an internally tagged enum, serde loses the position of a key.
            let all = 0..self.text.len();
            let of_value = Some(self.value.span()).filter(|span| *span != all);
            let span = self.span_of_unknown(e.message()).or_else(|| e.span()).or(of_value);
            explained(self.text, e.message(), span)
        })
    }

    /// The items of a list, or the value itself if it is none.
    pub(super) fn items(self) -> Vec<LocatedValue<'t>> {
        let text = self.text;
        match self.value.get_ref() {
            DeValue::Array(list) => {
                list.iter().map(|value| LocatedValue { text, value: value.clone() }).collect()
            }
            _ => vec![self],
        }
    }

    pub(super) fn line(&self) -> usize {
        line_at(self.text, self.value.span().start)
    }

    /// Adds the line to an error about this value.
    pub(super) fn explain(&self, error: &Error) -> Error {
        let line = self
            .span_of_unknown(error.message())
            .map_or_else(|| self.line(), |span| line_at(self.text, span.start));
        at_line(line, error)
    }

    /// The position of the key that a message calls unknown.
    fn span_of_unknown(&self, message: &str) -> Option<std::ops::Range<usize>> {
        let (_, rest) = message.split_once("unknown field `")?;
        let (name, _) = rest.split_once('`')?;
        find(self.value.get_ref(), name)
    }
}

fn find(value: &DeValue<'_>, name: &str) -> Option<std::ops::Range<usize>> {
    let DeValue::Table(table) = value else { return None };
    let span = table.get_key_value(name).map(|(key, _)| key.span());
    span.or_else(|| table.iter().find_map(|(_, inner)| find(inner.get_ref(), name)))
}

pub(super) fn at_line(line: usize, error: &Error) -> Error {
    with_prefix(&format!("line {line}"), error)
}

/// The same error with its place in front.
pub(super) fn with_prefix(place: &str, error: &Error) -> Error {
    let prefixed = Error::usage(format!("{place}: {}", error.message()));
    let prefixed = error.details().iter().fold(prefixed, |prefixed, detail| prefixed.detail(detail.clone()));
    error.remedy_text().into_iter().fold(prefixed, |prefixed, remedy| prefixed.remedy(remedy.to_owned()))
}

/// Reads a table whose keys are all known.
pub(super) fn from_table<T: for<'a> Deserialize<'a>>(table: toml::Table, place: &str) -> Result<T> {
    T::deserialize(toml::Value::Table(table)).map_err(|e| {
        // `span_of_unknown` finds the key by these words.
        let message = e.message().trim().replace('\n', " ");
        let message = if message.starts_with("unknown field") { message } else { reword(&message) };
        Error::usage(format!("{place}: {message}"))
    })
}

fn explained(text: &str, message: &str, span: Option<std::ops::Range<usize>>) -> Error {
    let error = Error::usage(reword(message));
    match span {
        Some(span) => at_line(line_at(text, span.start), &error),
        None => error,
    }
}

fn line_at(text: &str, position: usize) -> usize {
    text.bytes().take(position).filter(|byte| *byte == b'\n').count() + 1
}

/// A parser's message in the terms of TOML. A value of the wrong type is not repeated: it may be a secret.
fn reword(message: &str) -> String {
    let message = message.trim().replace('\n', " ");
    if let Some(value) = message
        .strip_prefix("invalid value: string ")
        .and_then(|rest| rest.strip_suffix(", expected a duration"))
    {
        return format!("{value} is not a duration: write it like 30s, 10m, 1h30m or 24h");
    }
    let message = match (message.strip_prefix("invalid type: "), message.rsplit_once(", expected ")) {
        (Some(found), Some((_, expected))) => {
            let found = found.split([' ', ',']).next().unwrap_or_default();
            format!("expected {}, found {}", type_name(expected), type_name(found))
        }
        _ => message,
    };
    message.replace("unknown field `", "unknown key `").replace("unknown variant `", "unknown value `")
}

/// TOML's name for a type as serde names it.
fn type_name(serde_name: &str) -> &str {
    match serde_name {
        "string" | "a string" => "a string",
        "integer" | "u32" | "u64" | "u16" | "usize" => "an integer",
        "floating" => "a float",
        "f64" => "a number",
        "map" | "a map" => "a table",
        "sequence" | "a sequence" => "an array",
        "boolean" | "a boolean" => "a boolean",
        "a duration" => "a duration such as \"30s\" or \"1h30m\"",
        other if other.starts_with("struct ") => "a table",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_of_the_wrong_type_is_not_printed() {
        for (message, reworded) in [
            (
                "invalid type: string \"s3cr3t, expected\", expected u32",
                "expected an integer, found a string",
            ),
            ("invalid type: integer `5`, expected a string", "expected a string, found an integer"),
            (
                "invalid type: integer `5`, expected a duration",
                "expected a duration such as \"30s\" or \"1h30m\", found an integer",
            ),
        ] {
            assert_eq!(reword(message), reworded);
        }
    }
}
