//! TOML as `cutover init` writes it: line by line, so that comments can be between the keys.

use std::fmt::Write as _;
use std::path::Path;

#[derive(Debug, Default)]
pub(crate) struct TomlDraft(String);

impl TomlDraft {
    pub(crate) fn new(head: &str) -> TomlDraft {
        TomlDraft(format!("{head}\n"))
    }

    /// `name = "text"`
    pub(crate) fn text(&mut self, name: &str, text: &str) {
        self.value(name, &quote(text));
    }

    /// `name = value`, where the value is TOML.
    pub(crate) fn value(&mut self, name: &str, value: &str) {
        let _ = writeln!(self.0, "{name} = {value}");
    }

    pub(crate) fn path(&mut self, name: &str, path: Option<&Path>) {
        if let Some(path) = path {
            self.text(name, &path.to_string_lossy());
        }
    }

    /// `name = { env = "NAME" }` or `name = { file = "PATH" }`; see [`secret_source`].
    pub(crate) fn secret(&mut self, name: &str, env: Option<&str>, file: Option<&Path>, default: &str) {
        self.value(name, &secret_source(env, file, default));
    }

    /// A key that is commented out, with its explanation.
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

/// The text as TOML has it.
pub(crate) fn quote(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// The texts as a list in TOML.
pub(crate) fn list<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    format!("[{}]", texts.map(quote).collect::<Vec<_>>().join(", "))
}

/// Where a secret is kept: the file, or else the environment variable, `default` if neither is given.
pub(crate) fn secret_source(env: Option<&str>, file: Option<&Path>, default: &str) -> String {
    match file.map(Path::to_string_lossy) {
        Some(file) => format!("{{ file = {} }}", quote(&file)),
        None => format!("{{ env = {} }}", quote(env.unwrap_or(default))),
    }
}
