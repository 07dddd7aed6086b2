//! Kong's own configuration: kong.conf, overridden by `KONG_*` variables, both read as Kong reads them.
//!
//! Only keys about the database are used. Kong's consistency and time-outs are for serving requests: they are reported, and
//! not used.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};

use secrecy::SecretString;
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use crate::blue::config::{self as blue, BlueConfig, ContactPoint, Tls, TlsMode};
use crate::error::{Error, Result};
use crate::green::config::{self as green, DEFAULT_KONG_SCHEMA, DEFAULT_WORK_SCHEMA, GreenConfig};

use super::penlight;

/// The keys that may come from `KONG_*` variables.
const KEYS: &str = "database cassandra_contact_points cassandra_port cassandra_keyspace cassandra_username \
                    cassandra_password cassandra_ssl cassandra_ssl_verify cassandra_local_datacenter \
                    cassandra_lb_policy cassandra_read_consistency cassandra_write_consistency cassandra_consistency \
                    cassandra_timeout pg_host pg_port pg_user pg_password pg_database pg_schema pg_ssl pg_ssl_verify \
                    pg_ssl_required pg_ssl_cert pg_ssl_cert_key pg_timeout lua_ssl_trusted_certificate";

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum DatabaseSide {
    /// Kong on Cassandra.
    Blue,
    /// Kong on PostgreSQL.
    Green,
}

/// Kong's settings, as texts. `Debug` shows the keys only.
#[derive(Clone, Default)]
pub struct KongConf {
    origin: String,
    values: BTreeMap<String, Value>,
}

#[derive(Clone)]
struct Value {
    text: String,
    /// Whether Kong takes the text for a number, and thereby changes it.
    is_changed: bool,
}

impl fmt::Debug for KongConf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KongConf").field("origin", &self.origin).field("keys", &self.values.keys()).finish()
    }
}

/// A configuration, and what the operator should know about how it was read.
#[derive(Debug)]
pub struct WithNotes<T> {
    pub config: T,
    /// Sentences without a full stop.
    pub notes: Vec<String>,
}

impl KongConf {
    pub fn from_file(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(|e| {
            Error::usage(format!("cannot read Kong's configuration {}", path.display())).source(e)
        })?;
        Ok(KongConf::parse(&text, &path.display().to_string()))
    }

    /// Reads the text of a configuration file; `origin` names it in messages.
    pub fn parse(text: &str, origin: &str) -> Self {
        let values = penlight::entries(text)
            .into_iter()
            .map(|entry| (entry.key, Value { text: entry.value, is_changed: entry.is_changed }));
        KongConf { origin: origin.to_owned(), values: values.collect() }
    }

    /// No file: everything comes from `KONG_*` variables and Kong's defaults.
    pub fn empty() -> Self {
        KongConf { origin: "the KONG_* variables".to_owned(), values: BTreeMap::new() }
    }

    /// The same with `KONG_*` variables over it, as Kong does: one that is set but empty unsets the key.
    #[must_use]
    pub fn with_environment(mut self, variable: &dyn Fn(&str) -> Option<String>) -> Self {
        for key in KEYS.split(' ') {
            if let Some(text) = variable(&format!("KONG_{}", key.to_ascii_uppercase())) {
                let value = Value { text: text.trim().to_owned(), is_changed: false };
                self.values.insert(key.to_owned(), value);
            }
        }
        self
    }

    pub fn blue(&self) -> Result<WithNotes<BlueConfig>> {
        self.check_database(DatabaseSide::Blue)?;
        let port = self.port("cassandra_port", blue::DEFAULT_PORT)?;
        let text = |key| self.text(key, DatabaseSide::Blue);
        let keyspace = text("cassandra_keyspace")?.unwrap_or("kong");
        blue::check_keyspace(keyspace)?;
        let mut config = BlueConfig::new(self.contact_points(port)?, keyspace);
        config.username = Some(text("cassandra_username")?.unwrap_or("kong").to_owned());
        config.password = text("cassandra_password")?.map(SecretString::from);
        config.datacenter = text("cassandra_local_datacenter")?.map(str::to_owned);
        config.tls = self.cassandra_tls()?;
        Ok(WithNotes { config, notes: self.blue_notes() })
    }

    pub fn green(&self) -> Result<WithNotes<GreenConfig>> {
        self.check_database(DatabaseSide::Green)?;
        let text = |key| self.text(key, DatabaseSide::Green);
        let host = text("pg_host")?.unwrap_or("127.0.0.1");
        // PGHOST and the other variables of libpq do not count.
        let mut options = PgConnectOptions::new_without_pgpass()
            .port(self.port("pg_port", 5432)?)
            .username(text("pg_user")?.unwrap_or("kong"))
            .database(text("pg_database")?.unwrap_or("kong"))
            .ssl_mode(self.pg_ssl_mode());
        options = if host.starts_with('/') { options.socket(host) } else { options.host(host) };
        if let Some(password) = text("pg_password")? {
            options = options.password(password);
        }
        let config = GreenConfig::new(self.pg_certificates(options)?);
        let schema = text("pg_schema")?.unwrap_or(DEFAULT_KONG_SCHEMA);
        let notes = self.timeout_note("pg_timeout").into_iter().collect();
        Ok(WithNotes { config: config.with_schemas(schema, DEFAULT_WORK_SCHEMA)?, notes })
    }

    fn check_database(&self, side: DatabaseSide) -> Result<()> {
        let (expected, name, flag, other) = match side {
            DatabaseSide::Blue => ("cassandra", "Cassandra", "--blue-kong-conf", "--green-kong-conf"),
            DatabaseSide::Green => ("postgres", "PostgreSQL", "--green-kong-conf", "--blue-kong-conf"),
        };
        match self.value("database") {
            Some(database) if database != expected => Err(Error::usage(format!(
                "{flag} requires Kong on {name}, but {} has database = {database}",
                self.origin
            ))
            .remedy(format!(
                "Give the configuration of a Kong node on {name}, and pass this one with {other}."
            ))),
            _ => Ok(()),
        }
    }

    fn contact_points(&self, port: u16) -> Result<Vec<ContactPoint>> {
        let hosts = self.text("cassandra_contact_points", DatabaseSide::Blue)?.unwrap_or("127.0.0.1");
        let contact_point = |host: &str| match host.parse::<Ipv6Addr>() {
            Ok(address) => Ok(ContactPoint { host: address.to_string(), port }),
            Err(_) => ContactPoint::parse(host, port),
        };
        hosts.split(',').map(str::trim).filter(|host| !host.is_empty()).map(contact_point).collect()
    }

    fn cassandra_tls(&self) -> Result<Tls> {
        let mode = match (self.is_on("cassandra_ssl"), self.is_on("cassandra_ssl_verify")) {
            (false, _) => return Ok(Tls::default()),
            (true, false) => TlsMode::Require,
            // Kong's driver hands the handshake no name to check.
            (true, true) => TlsMode::VerifyCa,
        };
        if mode == TlsMode::Require {
            return Ok(Tls { mode, ..Tls::default() });
        }
        let (ca_files, system_roots) = self.authorities()?;
        Ok(Tls { mode, ca_files, system_roots, client: None })
    }

    fn pg_ssl_mode(&self) -> PgSslMode {
        match (self.is_on("pg_ssl"), self.is_on("pg_ssl_verify"), self.is_on("pg_ssl_required")) {
            (false, ..) => PgSslMode::Disable,
            // Kong's driver hands the handshake no name to check.
            (true, true, _) => PgSslMode::VerifyCa,
            (true, false, true) => PgSslMode::Require,
            (true, false, false) => PgSslMode::Prefer,
        }
    }

    fn pg_certificates(&self, mut options: PgConnectOptions) -> Result<PgConnectOptions> {
        if self.is_on("pg_ssl") && self.is_on("pg_ssl_verify") {
            let (files, _) = self.authorities()?;
            let mut pem = Vec::new();
            for file in files {
                pem.extend(fs::read(&file).map_err(|e| self.unreadable_authority(&file).source(e))?);
                pem.push(b'\n');
            }
            // The driver trusts the system's certificates in any case.
            options = options.ssl_root_cert_from_pem(pem);
        }
        match (
            self.text("pg_ssl_cert", DatabaseSide::Green)?,
            self.text("pg_ssl_cert_key", DatabaseSide::Green)?,
        ) {
            (Some(certificate), Some(key)) if self.is_on("pg_ssl") => {
                Ok(options.ssl_client_cert(certificate).ssl_client_key(key))
            }
            _ => Ok(options),
        }
    }

    /// The files in `lua_ssl_trusted_certificate`, and whether the system's certificates are among what it names.
    fn authorities(&self) -> Result<(Vec<PathBuf>, bool)> {
        let list = self.value("lua_ssl_trusted_certificate").unwrap_or("system");
        let (mut files, mut system) = (Vec::new(), false);
        for entry in list.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            if entry == "system" {
                system = true;
            } else if Path::new(entry).is_file() {
                files.push(PathBuf::from(entry));
            } else {
                return Err(self.unreadable_authority(Path::new(entry)));
            }
        }
        Ok((files, system))
    }

    fn unreadable_authority(&self, file: &Path) -> Error {
        // A certificate written into the setting itself would fill the screen.
        let shown: String = file.display().to_string().chars().take(80).collect();
        Error::usage(format!(
            "lua_ssl_trusted_certificate in {} names a file that does not exist: {shown}",
            self.origin
        ))
        .remedy("Copy the certificate to this path, or give the address with --blue or --green instead of Kong's configuration.")
    }

    fn blue_notes(&self) -> Vec<String> {
        let consistency =
            |key: &str| self.value(key).or(self.value("cassandra_consistency")).unwrap_or("ONE").to_owned();
        let mut notes = vec![format!(
            "Kong reads at {} and writes at {}; kongferry ignores both, and reads at ALL unless --blue-options sets another consistency",
            consistency("cassandra_read_consistency"),
            consistency("cassandra_write_consistency"),
        )];
        notes.extend(self.timeout_note("cassandra_timeout"));
        if self.value("database").is_none() {
            notes.push(format!(
                "{} has no key \"database\": Kong would use PostgreSQL, kongferry uses Cassandra",
                self.origin
            ));
        }
        notes
    }

    fn timeout_note(&self, key: &str) -> Option<String> {
        self.value(key)
            .map(|value| format!("kongferry ignores {key} = {value}, which is Kong's own time-out"))
    }

    /// The value of a key; an empty one counts as none, as in Kong.
    fn value(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(|value| value.text.as_str()).filter(|text| !text.is_empty())
    }

    /// The value of a key that is a text to Kong, refused where kongferry cannot know what Kong makes of it.
    fn text(&self, key: &str, side: DatabaseSide) -> Result<Option<&str>> {
        let Some(text) = self.value(key) else { return Ok(None) };
        let problem = if text.starts_with("{vault://") && text.ends_with('}') {
            "is a reference to a vault, which only Kong can resolve"
        } else if self.values.get(key).is_some_and(|value| value.is_changed) {
            "is changed by Kong, which reads it as a number"
        } else {
            return Ok(Some(text));
        };
        Err(Error::usage(format!("{key} in {} {problem}", self.origin)).remedy(remedy_for(key, side)))
    }

    fn port(&self, key: &str, default: u16) -> Result<u16> {
        let Some(value) = self.value(key) else { return Ok(default) };
        value
            .parse()
            .ok()
            .filter(|port| *port > 0)
            .ok_or_else(|| Error::usage(format!("{key} in {} is not a port number", self.origin)))
    }

    fn is_on(&self, key: &str) -> bool {
        matches!(self.value(key), Some("on" | "true"))
    }
}

/// What to use in place of a setting that cannot be taken from Kong's configuration.
fn remedy_for(key: &str, side: DatabaseSide) -> String {
    let address = |flag: &str| format!("Give the address with {flag} instead of Kong's configuration.");
    match (key, side) {
        ("cassandra_password", _) => {
            format!("Set {}, or pass --blue-password-file.", blue::PASSWORD_VARIABLE)
        }
        ("pg_password", _) => format!("Set {}, or pass --green-password-file.", green::PASSWORD_VARIABLE),
        ("pg_schema", _) => {
            "Name the schema with --green-schema and the rest with --green postgres://….".to_owned()
        }
        (_, DatabaseSide::Blue) => address("--blue cassandra://…"),
        (_, DatabaseSide::Green) => address("--green postgres://…"),
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;
    use crate::error::Kind;

    fn conf(text: &str) -> KongConf {
        KongConf::parse(text, "kong.conf")
    }

    fn refused<T: fmt::Debug>(result: Result<T>) -> String {
        let error = result.expect_err("a usage error");
        assert_eq!(error.kind(), Kind::Usage);
        format!("{}\n{}", error.message(), error.remedy_text().unwrap_or_default())
    }

    #[test]
    fn blue_with_every_key() {
        let text = "database = cassandra\ncassandra_contact_points = db1, ::1 ,db3\ncassandra_port = 9142\n\
                    cassandra_keyspace = Kong\ncassandra_username = reader\ncassandra_password = s3cr3t\n\
                    cassandra_ssl = on\ncassandra_ssl_verify = on\ncassandra_local_datacenter = dc1\n\
                    cassandra_write_consistency = QUORUM\ncassandra_timeout = 5000\n\
                    lua_ssl_trusted_certificate = system,/dev/../etc/hostname\n";
        let read = conf(text).blue().expect("complete");
        let config = read.config;
        assert_eq!(config.hosts(), "db1:9142, [::1]:9142, db3:9142");
        assert_eq!((config.keyspace.as_str(), config.username.as_deref()), ("Kong", Some("reader")));
        assert_eq!(config.password.as_ref().map(|p| p.expose_secret()), Some("s3cr3t"));
        assert_eq!(config.datacenter.as_deref(), Some("dc1"));
        assert_eq!(config.tls.mode, TlsMode::VerifyCa);
        assert!(config.tls.system_roots);
        assert_eq!(config.tls.ca_files.len(), 1);
        assert_eq!(config.consistency, blue::ReadConsistency::All);
        assert!(
            read.notes.iter().any(|note| note.contains("reads at ONE and writes at QUORUM")),
            "{:?}",
            read.notes
        );
        assert!(read.notes.iter().any(|note| note.contains("cassandra_timeout = 5000")));
    }

    #[test]
    fn blue_with_nothing_but_kongs_defaults() {
        let read = conf("database = cassandra").blue().expect("defaults");
        assert_eq!(read.config.hosts(), "127.0.0.1:9042");
        assert_eq!(read.config.keyspace, "kong");
        assert_eq!(read.config.username.as_deref(), Some("kong"));
        assert!(read.config.password.is_none());
        assert_eq!(read.config.tls, Tls::default());
    }

    #[test]
    fn ssl_without_verify_only_encrypts() {
        let read =
            conf("cassandra_ssl = on\nlua_ssl_trusted_certificate = /nowhere").blue().expect("not looked at");
        assert_eq!(read.config.tls.mode, TlsMode::Require);
    }

    #[test]
    fn green_with_every_key() {
        let text = "database = postgres\npg_host = db1\npg_port = 5433\npg_user = k\npg_password = s3cr3t\n\
                    pg_database = kongdb\npg_schema = Kong\npg_ssl = on\npg_ssl_required = on\npg_timeout = 60000";
        let read = conf(text).green().expect("complete");
        assert_eq!(read.config.address(), "db1:5433");
        assert_eq!((read.config.username(), read.config.database()), ("k", "kongdb"));
        assert_eq!(read.config.kong_schema(), "Kong");
        assert!(matches!(read.config.ssl_mode(), PgSslMode::Require));
        assert!(!read.config.password_in_address());
        assert_eq!(read.notes.len(), 1);
    }

    #[test]
    fn green_with_nothing_but_kongs_defaults() {
        let read = conf("").green().expect("defaults");
        assert_eq!(read.config.address(), "127.0.0.1:5432");
        assert_eq!((read.config.username(), read.config.database()), ("kong", "kong"));
        assert_eq!(read.config.kong_schema(), "public");
        assert!(matches!(read.config.ssl_mode(), PgSslMode::Disable));
    }

    #[test]
    fn ssl_modes_of_green_follow_kongs() {
        let mode = |text| conf(text).pg_ssl_mode();
        assert!(matches!(mode("pg_ssl = on"), PgSslMode::Prefer));
        assert!(matches!(mode("pg_ssl = on\npg_ssl_verify = on"), PgSslMode::VerifyCa));
        assert!(matches!(mode("pg_ssl = off\npg_ssl_verify = on"), PgSslMode::Disable));
    }

    #[test]
    fn the_configuration_of_the_other_side_is_refused() {
        assert!(refused(conf("database = postgres").blue()).contains("--green-kong-conf"));
        assert!(refused(conf("database = cassandra").green()).contains("--blue-kong-conf"));
        assert!(refused(conf("database = off").green()).contains("database = off"));
    }

    #[test]
    fn a_vault_reference_is_refused_by_name_with_the_way_around() {
        let text = refused(conf("cassandra_password = {vault://env/cass}").blue());
        assert!(text.contains("cassandra_password") && text.contains("KONGFERRY_BLUE_PASSWORD"), "{text}");
        let text = refused(conf("pg_password = {vault://aws/pg/password}").green());
        assert!(text.contains("pg_password") && text.contains("KONGFERRY_GREEN_PASSWORD"), "{text}");
        assert!(refused(conf("pg_host = {vault://env/host}").green()).contains("--green postgres://"));
    }

    #[test]
    fn a_text_that_kong_turns_into_another_number_is_refused() {
        let text = refused(conf("pg_password = 0x10").green());
        assert!(text.contains("pg_password") && !text.contains("0x10"), "{text}");
        assert!(conf("pg_password = 16").green().is_ok());
    }

    #[test]
    fn variables_stand_over_the_file_and_an_empty_one_unsets() {
        let variables = |name: &str| match name {
            "KONG_PG_HOST" => Some("db2".to_owned()),
            "KONG_PG_SCHEMA" => Some(String::new()),
            "KONG_PG_PASSWORD" => Some("007".to_owned()),
            _ => None,
        };
        let conf = conf("pg_host = db1\npg_schema = kong\npg_password = 008").with_environment(&variables);
        let config = conf.green().expect("complete").config;
        assert_eq!(config.address(), "db2:5432");
        assert_eq!(config.kong_schema(), "public");
    }

    #[test]
    fn bad_ports_and_missing_files_name_the_key() {
        assert!(refused(conf("pg_port = x").green()).contains("pg_port"));
        assert!(refused(conf("cassandra_port = 0").blue()).contains("cassandra_port"));
        let text =
            "cassandra_ssl = on\ncassandra_ssl_verify = on\nlua_ssl_trusted_certificate = /nowhere/ca.pem";
        assert!(refused(conf(text).blue()).contains("/nowhere/ca.pem"));
        assert!(KongConf::from_file(Path::new("/nowhere/kong.conf")).is_err());
    }

    #[test]
    fn debug_shows_no_value() {
        assert!(!format!("{:?}", conf("pg_password = s3cr3t")).contains("s3cr3t"));
    }
}
