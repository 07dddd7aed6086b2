//! TOML as `cutover init` writes it: line by line, with comments between the keys.

use std::fmt::Write as _;
use std::path::Path;

#[derive(Debug, Default)]
pub(crate) struct TomlDraft(String);

impl TomlDraft {
    pub(crate) fn new(head: &str) -> TomlDraft {
        TomlDraft(format!("{head}\n"))
    }

    pub(crate) fn text(&mut self, name: &str, text: &str) {
        self.value(name, &quote(text));
    }

    /// `value` is TOML.
    pub(crate) fn value(&mut self, name: &str, value: &str) {
        let _ = writeln!(self.0, "{name} = {value}");
    }

    pub(crate) fn path(&mut self, name: &str, path: Option<&Path>) {
        if let Some(path) = path {
            self.text(name, &path.to_string_lossy());
        }
    }

    /// See [`secret_source`].
    pub(crate) fn secret(&mut self, name: &str, env: Option<&str>, file: Option<&Path>, default: &str) {
        self.value(name, &secret_source(env, file, default));
    }

    /// A key that is commented out.
    pub(crate) fn example(&mut self, key: &str, comment: &str) {
        if comment.is_empty() {
            let _ = writeln!(self.0, "#~ {key}");
        } else {
            let _ = writeln!(self.0, "#~ {key:<36} # {comment}");
        }
    }

    pub(crate) fn into_text(self) -> String {
        self.0
    }
}

/// A TOML string.
pub(crate) fn quote(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// A TOML array of strings.
pub(crate) fn list<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    format!("[{}]", texts.map(quote).collect::<Vec<_>>().join(", "))
}

/// `{ file = "PATH" }`, or else `{ env = "NAME" }` with the variable `default` if neither is given.
pub(crate) fn secret_source(env: Option<&str>, file: Option<&Path>, default: &str) -> String {
    match file.map(Path::to_string_lossy) {
        Some(file) => format!("{{ file = {} }}", quote(&file)),
        None => format!("{{ env = {} }}", quote(env.unwrap_or(default))),
    }
}
