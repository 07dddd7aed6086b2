//! Where a provider's credential comes from: the environment or a file, never `cutover.toml` itself.

use std::path::PathBuf;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::settings::password;

/// `{ env = "PDNS_API_KEY" }` or `{ file = "/run/secrets/pdns" }`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", from = "Given")]
pub enum SecretSource {
    Env(String),
    /// The file that holds it and nothing else.
    File(PathBuf),
}

/// As it is written down. What does not fit is not repeated in the error: it is the secret itself.
#[derive(Deserialize)]
#[serde(
    untagged,
    deny_unknown_fields,
    expecting = "a secret does not stand here, only where it is kept: { env = \"NAME\" } or { file = \"/path\" }"
)]
enum Given {
    Env { env: String },
    File { file: PathBuf },
}

impl From<Given> for SecretSource {
    fn from(given: Given) -> SecretSource {
        match given {
            Given::Env { env } => SecretSource::Env(env),
            Given::File { file } => SecretSource::File(file),
        }
    }
}

impl SecretSource {
    /// The shell's word for what it holds, for commands that people copy: the secret itself is never in it.
    pub(super) fn in_shell(&self) -> String {
        match self {
            SecretSource::Env(variable) => format!("\"${variable}\""),
            SecretSource::File(path) => {
                format!("\"$(cat {})\"", super::shell::quoted(&path.to_string_lossy()))
            }
        }
    }

    /// Fetches the credential; `what` names it in the error.
    pub fn read(&self, what: &str) -> Result<SecretString> {
        match self {
            SecretSource::Env(variable) => {
                let value = std::env::var(variable).ok().filter(|value| !value.is_empty());
                value.map(SecretString::from).ok_or_else(|| {
                    Error::usage(format!(
                        "{what} is not there: the variable {variable} is not set or is empty"
                    ))
                    .remedy(format!("export {variable}, or name a file in cutover.toml"))
                })
            }
            SecretSource::File(path) => {
                let (secret, warning) = password::from_file(path)
                    .map_err(|e| Error::usage(format!("{what} is not there")).source(e))?;
                if let Some(warning) = warning {
                    tracing::warn!("{warning}.");
                }
                Ok(secret)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_named_by_its_place_only() {
        #[derive(Deserialize)]
        struct Section {
            key: SecretSource,
        }
        let read = |text: &str| toml::from_str::<Section>(text).map(|section| section.key);
        assert_eq!(read("key = { env = \"A\" }").unwrap(), SecretSource::Env("A".to_owned()));
        assert_eq!(read("key = { file = \"/a\" }").unwrap(), SecretSource::File("/a".into()));
        for wrong in ["key = \"s3cr3t\"", "key = { value = \"s3cr3t\" }", "key = { s3cr3t = 1 }"] {
            let refused = read(wrong).unwrap_err().message().to_owned();
            assert!(refused.contains("{ env = ") && !refused.contains("s3cr3t"), "{refused}");
        }
    }

    #[test]
    fn a_missing_variable_is_named() {
        let error =
            SecretSource::Env("KONGFERRY_NO_SUCH_VARIABLE".to_owned()).read("the API key").unwrap_err();
        assert!(
            error.message().contains("the API key") && error.message().contains("KONGFERRY_NO_SUCH_VARIABLE")
        );
    }
}
