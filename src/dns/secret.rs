//! The source of a provider's credential: the environment or a file, never `cutover.toml` itself.

use std::path::PathBuf;

use secrecy::SecretString;
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::settings::password;

/// `{ env = "PDNS_API_KEY" }` or `{ file = "/run/secrets/pdns" }`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "SecretSourceToml")]
pub enum SecretSource {
    Env(String),
    /// The file contains nothing else.
    File(PathBuf),
}

/// Untagged, so that an error does not repeat an invalid value: it may be the secret itself.
#[derive(Deserialize)]
#[serde(
    untagged,
    deny_unknown_fields,
    expecting = "cutover.toml must not contain a secret: write { env = \"NAME\" } or { file = \"/path\" }"
)]
enum SecretSourceToml {
    Env { env: String },
    File { file: PathBuf },
}

impl From<SecretSourceToml> for SecretSource {
    fn from(toml: SecretSourceToml) -> SecretSource {
        match toml {
            SecretSourceToml::Env { env } => SecretSource::Env(env),
            SecretSourceToml::File { file } => SecretSource::File(file),
        }
    }
}

impl SecretSource {
    /// The shell expression that expands to the credential.
    pub(super) fn shell_expression(&self) -> String {
        match self {
            SecretSource::Env(variable) => format!("\"${variable}\""),
            SecretSource::File(path) => format!("\"$(cat {})\"", shell_words::quote(&path.to_string_lossy())),
        }
    }

    /// `credential` is its name in the error.
    pub fn read(&self, credential: &str) -> Result<SecretString> {
        match self {
            SecretSource::Env(variable) => {
                let value = std::env::var(variable).ok().filter(|value| !value.is_empty());
                value.map(SecretString::from).ok_or_else(|| {
                    Error::usage(format!(
                        "{credential} is missing: the environment variable {variable} is not set or is empty"
                    ))
                    .remedy(format!("Export {variable}, or write {{ file = \"/path\" }} in cutover.toml."))
                })
            }
            SecretSource::File(path) => {
                let (secret, warning) = password::from_file(path)
                    .map_err(|e| Error::usage(format!("cannot read {credential}")).source(e))?;
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
    fn a_credential_is_given_by_its_source_only() {
        #[derive(Deserialize)]
        struct Section {
            key: SecretSource,
        }
        let read = |text: &str| toml::from_str::<Section>(text).map(|section| section.key);
        assert_eq!(read("key = { env = \"A\" }").unwrap(), SecretSource::Env("A".to_owned()));
        assert_eq!(read("key = { file = \"/a\" }").unwrap(), SecretSource::File("/a".into()));
        for invalid in ["key = \"s3cr3t\"", "key = { value = \"s3cr3t\" }", "key = { s3cr3t = 1 }"] {
            let message = read(invalid).unwrap_err().message().to_owned();
            assert!(message.contains("{ env = ") && !message.contains("s3cr3t"), "{message}");
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
