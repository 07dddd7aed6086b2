//! The configuration of green: the driver's options, and the schemas of Kong's tables and of kongferry's own.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::PgConnectOptions;

use super::address::Address;
pub(crate) use super::address::PASSWORD_VARIABLE;
use crate::error::{Error, Result};

pub(crate) const DEFAULT_KONG_SCHEMA: &str = "public";

/// The schema of kongferry's own tables.
pub(crate) const DEFAULT_WORK_SCHEMA: &str = "kongferry";

/// `Debug` does not contain the password.
#[derive(Clone)]
pub struct GreenConfig {
    options: PgConnectOptions,
    kong_schema: String,
    work_schema: String,
    schema_must_exist: bool,
    password_in_address: bool,
    warnings: Vec<String>,
    /// Options and the files that they name.
    files: Vec<(&'static str, PathBuf)>,
    /// How long a connection may take to open.
    pub connect_timeout: Duration,
    /// How long a statement waits for a lock before it fails.
    pub lock_timeout: Duration,
    /// Connections at the same time, at most.
    pub max_connections: u32,
}

impl fmt::Debug for GreenConfig {
    // The driver's options print the password, so they are left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GreenConfig")
            .field("address", &self.address())
            .field("kong_schema", &self.kong_schema)
            .field("work_schema", &self.work_schema)
            .finish_non_exhaustive()
    }
}

impl GreenConfig {
    /// Reads `postgres://[user[:password]@][host][:port][/database][?option=value&…]`.
    ///
    /// No error repeats the address, because it may contain a password.
    pub fn parse(address: &str) -> Result<Self> {
        let address = Address::parse(address)?;
        let mut config = GreenConfig::new(address.options);
        config.password_in_address = address.has_password;
        config.warnings = address.warnings;
        config.files = address.files;
        config.connect_timeout = address.connect_timeout.unwrap_or(config.connect_timeout);
        Ok(config)
    }

    /// A configuration from the driver's options, with everything else at its default: for servers that kongferry started
    /// itself, and for Kong's own configuration file.
    pub fn new(options: PgConnectOptions) -> Self {
        GreenConfig {
            options,
            kong_schema: DEFAULT_KONG_SCHEMA.to_owned(),
            work_schema: DEFAULT_WORK_SCHEMA.to_owned(),
            schema_must_exist: true,
            password_in_address: false,
            warnings: Vec::new(),
            files: Vec::new(),
            connect_timeout: Duration::from_secs(10),
            lock_timeout: Duration::from_secs(10),
            max_connections: 10,
        }
    }

    /// Sets the password, which overrides any other.
    #[must_use]
    pub fn with_password(mut self, password: &SecretString) -> Self {
        self.options = self.options.password(password.expose_secret());
        self
    }

    /// Sets the schemas of Kong's tables and of kongferry's own.
    pub fn with_schemas(mut self, kong: &str, work: &str) -> Result<Self> {
        check_schema(kong, "Kong's schema")?;
        check_schema(work, "the work schema")?;
        if work.starts_with("pg_") || work == "information_schema" {
            return Err(Error::usage(format!(
                "the work schema cannot be \"{work}\", which belongs to PostgreSQL"
            )));
        }
        if kong == work {
            return Err(Error::usage(format!("the work schema cannot be \"{work}\", which is Kong's"))
                .remedy("Give kongferry's own tables another schema with --work-schema."));
        }
        kong.clone_into(&mut self.kong_schema);
        work.clone_into(&mut self.work_schema);
        Ok(self)
    }

    /// For a database in which Kong's schema does not exist yet.
    #[must_use]
    pub fn without_schema_check(mut self) -> Self {
        self.schema_must_exist = false;
        self
    }

    /// The schema of Kong's tables, unquoted.
    pub fn kong_schema(&self) -> &str {
        &self.kong_schema
    }

    /// The schema with our own tables, unquoted.
    pub fn work_schema(&self) -> &str {
        &self.work_schema
    }

    /// Whether connecting fails where Kong's schema is missing.
    pub(super) fn schema_must_exist(&self) -> bool {
        self.schema_must_exist
    }

    /// Whether the address contains a password, which other users may see.
    pub(crate) fn password_in_address(&self) -> bool {
        self.password_in_address
    }

    /// Options without effect, one sentence each.
    pub(crate) fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Checks that the files of the address are readable, which the driver does only while connecting.
    pub(super) fn check_files(&self) -> Result<()> {
        for (option, file) in &self.files {
            std::fs::File::open(file).map_err(|e| {
                Error::usage(format!("cannot read {} ({option} of green)", file.display()))
                    .source(e)
                    .remedy("Give a readable file with PEM text (-----BEGIN …).")
            })?;
        }
        Ok(())
    }

    pub(crate) fn username(&self) -> &str {
        self.options.get_username()
    }

    /// The database; libpq's default is the name of the role.
    pub(crate) fn database(&self) -> &str {
        self.options.get_database().unwrap_or_else(|| self.options.get_username())
    }

    /// Host and port or socket, for messages.
    pub(crate) fn address(&self) -> String {
        let (host, port) = (self.options.get_host(), self.options.get_port());
        match self.options.get_socket() {
            Some(socket) => format!("{}, port {port}", socket.display()),
            None if host.starts_with('/') => format!("{host}, port {port}"),
            None if host.contains(':') => format!("[{host}]:{port}"),
            None => format!("{host}:{port}"),
        }
    }

    #[cfg(test)]
    pub(crate) fn ssl_mode(&self) -> sqlx::postgres::PgSslMode {
        self.options.get_ssl_mode()
    }

    /// The driver's options for connections that need no state in the session.
    ///
    /// A pooler in transaction mode gives each transaction another session of the server. So no statement is kept
    /// prepared, and no start-up parameter is sent that pgbouncer refuses (`extra_float_digits`).
    pub(super) fn options(&self, application_name: &str) -> PgConnectOptions {
        use sqlx::ConnectOptions;
        self.options
            .clone()
            .application_name(application_name)
            .statement_cache_capacity(0)
            .extra_float_digits(None)
            .disable_statement_logging()
    }
}

fn check_schema(name: &str, schema: &str) -> Result<()> {
    // PostgreSQL cuts a longer name without an error.
    if name.is_empty() || name.len() > 63 || name.contains('\0') {
        return Err(Error::usage(format!("{schema} has an invalid name: \"{name}\""))
            .remedy("Give a name of 1 to 63 bytes, without quotes."));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use sqlx::postgres::PgSslMode;

    use super::*;
    use crate::error::Kind;

    fn ok(address: &str) -> GreenConfig {
        GreenConfig::parse(address).expect(address)
    }

    fn refused(address: &str) -> String {
        let error = GreenConfig::parse(address).expect_err(address);
        assert_eq!(error.kind(), Kind::Usage);
        format!("{}\n{}\n{:?}", error.message(), error.remedy_text().unwrap_or_default(), error.causes())
    }

    #[test]
    fn the_parts_of_an_address() {
        let config = ok("postgres://kong@db1:5433/kongdb?sslmode=disable");
        assert_eq!(config.address(), "db1:5433");
        assert_eq!(config.username(), "kong");
        assert_eq!(config.database(), "kongdb");
        assert_eq!(config.kong_schema(), "public");
        assert_eq!(config.work_schema(), "kongferry");
        assert!(matches!(config.ssl_mode(), PgSslMode::Disable));
        assert!(!config.password_in_address());
    }

    #[test]
    fn both_schemes_sockets_and_ipv6() {
        assert_eq!(ok("postgresql://u@[::1]:5433/d").address(), "[::1]:5433");
        assert_eq!(ok("postgres://u@/d?host=/run/pg&port=5433").address(), "/run/pg, port 5433");
        assert_eq!(ok("postgres://u@/d?host=/run/pg").username(), "u");
        assert!(ok("postgres://u:p@/d?host=/run/pg").password_in_address());
        assert_eq!(ok("postgres://u@%2Frun%2Fpg:5433/d").address(), "/run/pg, port 5433");
        assert_eq!(ok("postgres://operator@h").database(), "operator");
    }

    #[test]
    fn a_password_in_the_address_is_noticed_and_kept_out_of_debug() {
        let config = ok("postgres://kong:s3cr3t@db1/kong");
        assert!(config.password_in_address());
        assert!(!format!("{config:?}").contains("s3cr3t"));
        assert!(ok("postgres://kong@db1/kong?password=s3cr3t").password_in_address());
    }

    #[test]
    fn no_error_repeats_the_address() {
        for address in [
            "postgres://kong:s3cr3t@db1:x/kong",
            "postgres://kong:s3cr3t/more@db1/kong",
            "postgres://kong:s3cr3t#more@db1/kong",
            "postgres://kong:s3cr3t@db1,db2:5432/kong",
            "postgres://kong:s3cr3t@db1:5432,db2:5432/kong",
            "postgres://kong:s3cr3t@db1/kong?nonsense=s3cr3t",
            "kong:s3cr3t@db1",
            "cassandra://kong:s3cr3t@db1/kong",
        ] {
            let text = refused(address);
            assert!(!text.contains("s3cr3t"), "{text}");
        }
    }

    #[test]
    fn mistakes_say_what_is_wrong() {
        assert!(refused("cassandra://db1/kong").contains("--blue"));
        assert!(refused("db1/kong").contains("postgres://"));
        assert!(refused("postgres://db1,db2/kong").contains("primary"));
        assert!(refused("postgres://u@/kong?host=db1,db2").contains("primary"));
        assert!(refused("postgres://db1/kong?sslmod=require").contains("\"sslmod\""));
        assert!(refused("postgres://db1/kong?sslmode=on").contains("verify-full"));
        assert!(refused("postgres://db1/kong?connect_timeout=x").contains("seconds"));
        assert!(refused("postgres://db1/kong?port=x").contains("port number"));
        assert!(refused("postgres://db1/kong?channel_binding=require").contains("not supported"));
        assert!(refused("postgres://db1/kong#x").contains("%23"));
    }

    #[test]
    fn options_that_change_nothing_are_named() {
        let config = ok("postgres://db1/kong?keepalives=1&connect_timeout=3&target_session_attrs=read-write");
        assert_eq!(config.connect_timeout, Duration::from_secs(3));
        assert_eq!(config.warnings().len(), 2);
        assert!(config.warnings().iter().any(|w| w.contains("keepalives")));
    }

    #[test]
    fn a_ca_file_makes_require_check_the_issuer_as_libpq_does() {
        let with = ok("postgres://db1/kong?sslmode=require&sslrootcert=/ca.pem");
        assert!(matches!(with.ssl_mode(), PgSslMode::VerifyCa));
        let without = ok("postgres://db1/kong?sslmode=require");
        assert!(matches!(without.ssl_mode(), PgSslMode::Require));
    }

    #[test]
    fn the_systems_certificates_mean_full_checks() {
        let config = ok("postgres://db1/kong?sslrootcert=system");
        assert!(matches!(config.ssl_mode(), PgSslMode::VerifyFull));
        assert!(refused("postgres://db1/kong?sslrootcert=system&sslmode=require").contains("verify-full"));
    }

    #[test]
    fn schemas_must_be_possible_and_two() {
        let config = || ok("postgres://db1/kong");
        let named = config().with_schemas("Kong EE", "move \"it\"").expect("odd names are names");
        assert_eq!((named.kong_schema(), named.work_schema()), ("Kong EE", "move \"it\""));
        assert!(config().with_schemas("", "x").is_err());
        assert!(config().with_schemas("kong", "kong").is_err());
        assert!(config().with_schemas("kong", "pg_catalog").is_err());
        assert!(config().with_schemas(&"x".repeat(64), "y").is_err());
    }
}
