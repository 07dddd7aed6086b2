//! The flags of `init` that say where the records are kept, and the `[provider]` table that they make: with the places
//! of credentials, never with a credential.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use crate::dns::ProviderConfig;
use crate::error::{Error, Result};

/// Which provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProviderKind {
    Powerdns,
    Rfc2136,
    Route53,
    Exec,
}

impl ProviderKind {
    /// As in the file.
    pub fn word(self) -> &'static str {
        match self {
            ProviderKind::Powerdns => "powerdns",
            ProviderKind::Rfc2136 => "rfc2136",
            ProviderKind::Route53 => "route53",
            ProviderKind::Exec => "exec",
        }
    }
}

/// Where the records are kept.
#[derive(Debug, Clone, Args)]
pub struct ProviderArgs {
    /// Where the records are kept
    #[arg(long, value_name = "KIND", value_enum, default_value = "powerdns")]
    pub provider: ProviderKind,

    /// Where the API listens, http://127.0.0.1:8081
    #[arg(long, value_name = "URL", help_heading = "PowerDNS")]
    url: Option<String>,

    /// The variable that holds the API key [default: PDNS_API_KEY]
    #[arg(long, value_name = "NAME", help_heading = "PowerDNS", conflicts_with = "api_key_file")]
    api_key_env: Option<String>,

    /// The file that holds the API key
    #[arg(long, value_name = "FILE", help_heading = "PowerDNS")]
    api_key_file: Option<PathBuf>,

    /// Certificate authorities of an https address
    #[arg(long, value_name = "FILE", help_heading = "PowerDNS")]
    ca_file: Option<PathBuf>,

    /// The primary that takes updates, ns1.example.com or 192.0.2.53:53
    #[arg(long, value_name = "ADDRESS", help_heading = "RFC 2136")]
    server: Option<String>,

    /// The name of the TSIG key [default: kongferry]
    #[arg(long, value_name = "NAME", help_heading = "RFC 2136")]
    tsig_name: Option<String>,

    /// hmac-sha256, hmac-sha384 or hmac-sha512 [default: hmac-sha256]
    #[arg(long, value_name = "NAME", help_heading = "RFC 2136")]
    tsig_algorithm: Option<String>,

    /// The variable that holds the key's secret in base64 [default: KONGFERRY_TSIG]
    #[arg(long, value_name = "NAME", help_heading = "RFC 2136", conflicts_with = "tsig_secret_file")]
    tsig_secret_env: Option<String>,

    /// The file that holds it
    #[arg(long, value_name = "FILE", help_heading = "RFC 2136")]
    tsig_secret_file: Option<PathBuf>,

    /// The id of the hosted zone, Z2ABCDEFGHIJKL
    #[arg(long, value_name = "ID", help_heading = "Route 53")]
    hosted_zone_id: Option<String>,

    /// The variable that holds the access key's id [default: AWS_ACCESS_KEY_ID]
    #[arg(long, value_name = "NAME", help_heading = "Route 53", conflicts_with = "access_key_id_file")]
    access_key_id_env: Option<String>,

    /// The file that holds it
    #[arg(long, value_name = "FILE", help_heading = "Route 53")]
    access_key_id_file: Option<PathBuf>,

    /// The variable that holds the secret access key [default: AWS_SECRET_ACCESS_KEY]
    #[arg(long, value_name = "NAME", help_heading = "Route 53", conflicts_with = "secret_access_key_file")]
    secret_access_key_env: Option<String>,

    /// The file that holds it
    #[arg(long, value_name = "FILE", help_heading = "Route 53")]
    secret_access_key_file: Option<PathBuf>,

    /// The file that holds the token of temporary credentials
    #[arg(long, value_name = "FILE", help_heading = "Route 53")]
    session_token_file: Option<PathBuf>,

    /// Where the API is, in other partitions of AWS
    #[arg(long, value_name = "URL", help_heading = "Route 53")]
    endpoint: Option<String>,

    /// What requests are signed for, in other partitions of AWS
    #[arg(long, value_name = "NAME", help_heading = "Route 53")]
    region: Option<String>,

    /// The program: JSON in, JSON out
    #[arg(long, value_name = "PROGRAM", help_heading = "exec")]
    command: Option<String>,

    /// An argument for it (repeatable); no place for a secret
    #[arg(long, value_name = "TEXT", help_heading = "exec", allow_hyphen_values = true)]
    argument: Vec<String>,

    /// A variable that it may see (repeatable)
    #[arg(long, value_name = "NAME", help_heading = "exec")]
    pass_env: Vec<String>,
}

/// A `[provider]` table as it goes into the file.
pub struct Section {
    /// With its head, and with comments.
    pub text: String,
    /// The flag without which the provider cannot be asked, where it was not given.
    pub missing: Option<&'static str>,
}

impl Section {
    /// The table, read as `plan` will read it.
    pub fn config(&self) -> Result<ProviderConfig> {
        let table = self.text.trim_start().strip_prefix("[provider]\n").unwrap_or(&self.text);
        let config: ProviderConfig = toml::from_str(table).map_err(|e| {
            Error::usage(format!("the provider: {}", e.message().trim().replace('\n', " ")))
                .remedy("Correct the flags; --help lists those of each provider.")
        })?;
        // Otherwise what was wrong would be written down, a password in an address with it.
        config.check()?;
        Ok(config)
    }
}

impl ProviderArgs {
    /// Makes the table. What was not given stands there as an example.
    pub fn section(&self) -> Result<Section> {
        self.refuse_those_of_others()?;
        let kind = self.provider;
        let mut text = format!("[provider]\nkind = \"{}\"\n", kind.word());
        let missing = match kind {
            ProviderKind::Powerdns => self.powerdns(&mut text),
            ProviderKind::Rfc2136 => self.rfc2136(&mut text),
            ProviderKind::Route53 => self.route53(&mut text),
            ProviderKind::Exec => self.exec(&mut text),
        };
        Ok(Section { text, missing })
    }

    fn refuse_those_of_others(&self) -> Result<()> {
        use ProviderKind::{Exec, Powerdns, Rfc2136, Route53};
        let flags = [
            ("--url", Powerdns, self.url.is_some()),
            ("--api-key-env", Powerdns, self.api_key_env.is_some()),
            ("--api-key-file", Powerdns, self.api_key_file.is_some()),
            ("--ca-file", Powerdns, self.ca_file.is_some()),
            ("--server", Rfc2136, self.server.is_some()),
            ("--tsig-name", Rfc2136, self.tsig_name.is_some()),
            ("--tsig-algorithm", Rfc2136, self.tsig_algorithm.is_some()),
            ("--tsig-secret-env", Rfc2136, self.tsig_secret_env.is_some()),
            ("--tsig-secret-file", Rfc2136, self.tsig_secret_file.is_some()),
            ("--hosted-zone-id", Route53, self.hosted_zone_id.is_some()),
            ("--access-key-id-env", Route53, self.access_key_id_env.is_some()),
            ("--access-key-id-file", Route53, self.access_key_id_file.is_some()),
            ("--secret-access-key-env", Route53, self.secret_access_key_env.is_some()),
            ("--secret-access-key-file", Route53, self.secret_access_key_file.is_some()),
            ("--session-token-file", Route53, self.session_token_file.is_some()),
            ("--endpoint", Route53, self.endpoint.is_some()),
            ("--region", Route53, self.region.is_some()),
            ("--command", Exec, self.command.is_some()),
            ("--argument", Exec, !self.argument.is_empty()),
            ("--pass-env", Exec, !self.pass_env.is_empty()),
        ];
        match flags.iter().find(|(_, kind, given)| *given && *kind != self.provider) {
            None => Ok(()),
            Some((flag, kind, _)) => Err(Error::usage(format!(
                "{flag} belongs to {}, and the provider is {}",
                kind.word(),
                self.provider.word()
            ))
            .remedy(format!("Add --provider {}, or leave {flag} out.", kind.word()))),
        }
    }

    fn powerdns(&self, text: &mut String) -> Option<&'static str> {
        key(text, "url", self.url.as_deref().unwrap_or("http://127.0.0.1:8081"));
        secret(text, "api_key", self.api_key_env.as_ref(), self.api_key_file.as_ref(), "PDNS_API_KEY");
        path(text, "ca_file", self.ca_file.as_ref());
        text.push_str(
            "#~ policy = \"hashed\"                    # a resolver always gets the same side; the default is random\n\
             #~ replica_cache_seconds = 20           # query-cache-ttl of other servers on the same database\n",
        );
        self.url.is_none().then_some("--url")
    }

    fn rfc2136(&self, text: &mut String) -> Option<&'static str> {
        key(text, "server", self.server.as_deref().unwrap_or("192.0.2.53:53"));
        let name = quoted(self.tsig_name.as_deref().unwrap_or("kongferry"));
        let algorithm = self.tsig_algorithm.as_ref();
        let algorithm = algorithm.map(|name| format!("algorithm = {}, ", quoted(name))).unwrap_or_default();
        let held = source(self.tsig_secret_env.as_ref(), self.tsig_secret_file.as_ref(), "KONGFERRY_TSIG");
        let _ = writeln!(text, "tsig = {{ name = {name}, {algorithm}secret = {held} }}");
        self.server.is_none().then_some("--server")
    }

    fn route53(&self, text: &mut String) -> Option<&'static str> {
        key(text, "hosted_zone_id", self.hosted_zone_id.as_deref().unwrap_or("Z2ABCDEFGHIJKL"));
        let (env, file) = (self.access_key_id_env.as_ref(), self.access_key_id_file.as_ref());
        secret(text, "access_key_id", env, file, "AWS_ACCESS_KEY_ID");
        let (env, file) = (self.secret_access_key_env.as_ref(), self.secret_access_key_file.as_ref());
        secret(text, "secret_access_key", env, file, "AWS_SECRET_ACCESS_KEY");
        if self.session_token_file.is_some() {
            secret(text, "session_token", None, self.session_token_file.as_ref(), "");
        }
        for (name, value) in [("endpoint", &self.endpoint), ("region", &self.region)] {
            if let Some(value) = value {
                key(text, name, value);
            }
        }
        self.hosted_zone_id.is_none().then_some("--hosted-zone-id")
    }

    fn exec(&self, text: &mut String) -> Option<&'static str> {
        let program = self.command.as_deref().unwrap_or("./my-dns");
        let words = std::iter::once(program).chain(self.argument.iter().map(String::as_str));
        let _ = writeln!(text, "command = {}   # JSON in, JSON out: docs/dns-providers.md", list(words));
        text.push_str("#~ timeout_seconds = 30\n");
        if self.pass_env.is_empty() {
            text.push_str("#~ pass_env = [\"MY_DNS_TOKEN\"]\n");
        } else {
            let _ = writeln!(text, "pass_env = {}", list(self.pass_env.iter().map(String::as_str)));
        }
        self.command.is_none().then_some("--command")
    }
}

/// Text as TOML has it.
pub(super) fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

pub(super) fn list<'a>(words: impl Iterator<Item = &'a str>) -> String {
    format!("[{}]", words.map(quoted).collect::<Vec<_>>().join(", "))
}

fn key(text: &mut String, name: &str, value: &str) {
    let _ = writeln!(text, "{name} = {}", quoted(value));
}

fn path(text: &mut String, name: &str, value: Option<&PathBuf>) {
    if let Some(value) = value {
        key(text, name, &value.to_string_lossy());
    }
}

fn secret(text: &mut String, name: &str, env: Option<&String>, file: Option<&PathBuf>, default: &str) {
    let _ = writeln!(text, "{name} = {}", source(env, file, default));
}

fn source(env: Option<&String>, file: Option<&PathBuf>, default: &str) -> String {
    match file.map(PathBuf::as_path).map(Path::to_string_lossy) {
        Some(file) => format!("{{ file = {} }}", quoted(&file)),
        None => format!("{{ env = {} }}", quoted(env.map_or(default, String::as_str))),
    }
}
