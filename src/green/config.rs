//! The configuration of green: a `postgres://` address as libpq and sqlx read it, and the two schemas.
//!
//! Parsing opens no connection. What libpq takes from `PGHOST`, `PGPASSWORD`, `~/.pgpass` and so on is taken from there;
//! an option without effect is refused or named in [`GreenConfig::warnings`].

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use url::Url;

use crate::error::{Error, Result};

/// The environment variable with green's password; it overrides `PGPASSWORD` and `~/.pgpass`.
pub(crate) const PASSWORD_VARIABLE: &str = "KONGFERRY_GREEN_PASSWORD";

pub(crate) const DEFAULT_KONG_SCHEMA: &str = "public";

/// The schema of kongferry's own tables.
pub(crate) const DEFAULT_WORK_SCHEMA: &str = "kongferry";

/// Options that sqlx reads, each by one of its names.
const SUPPORTED: &[&str] = &[
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "options",
    "connect_timeout",
];

const FILES: &[&str] = &["sslrootcert", "sslcert", "sslkey"];

/// Options of libpq or sqlx that change nothing for kongferry.
const WITHOUT_EFFECT: &[&str] = &[
    "application_name",
    "fallback_application_name",
    "client_encoding",
    "gssencmode",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "tcp_user_timeout",
    "statement-cache-capacity",
    "target_session_attrs",
];

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
        let mut url = parse_url(address)?;
        check_environment(&|name| std::env::var(name).ok())?;
        let mut warnings = Vec::new();
        let system_ca = option(&url, "sslrootcert").as_deref() == Some("system");
        let connect_timeout = take_options(&mut url, &mut warnings)?;
        let password_in_address = url.password().is_some() || option(&url, "password").is_some();
        let options = url.as_str().parse::<PgConnectOptions>().map_err(|e| unusable(&e))?;
        let mut config = GreenConfig::new(options);
        config.options = if system_ca {
            trust_system(config.options, option(&url, "sslmode").as_deref())?
        } else {
            adjust(config.options, option(&url, "sslrootcert").is_some())
        };
        config.password_in_address = password_in_address;
        config.warnings = warnings;
        config.files = FILES.iter().filter_map(|name| Some((*name, file_of(&url, name)?))).collect();
        config.connect_timeout = connect_timeout.unwrap_or(config.connect_timeout);
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

    /// The schema with Kong's tables, unquoted.
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
    pub(crate) fn ssl_mode(&self) -> PgSslMode {
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

const FORM: &str = "Write it as postgres://user@host:5432/database.";

fn parse_url(address: &str) -> Result<Url> {
    let address = address.trim();
    let scheme = address.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    match scheme.as_deref() {
        Some("postgres" | "postgresql") => {}
        Some("cassandra") => {
            return Err(Error::usage("the address of green is a Cassandra address").remedy(
                "Green is the PostgreSQL database: give cassandra://… with --blue and postgres://… with --green.",
            ));
        }
        _ => return Err(Error::usage("the address of green does not begin with postgres://").remedy(FORM)),
    }
    // The error of `url` never contains a part of the address.
    let url = Url::parse(&with_user_in_query(address)).map_err(|e| {
        Error::usage("the address of green cannot be parsed").source(e).remedy(format!(
            "{FORM} Several hosts are not supported. Percent-encode the special characters of a password, or give the \
             password in {PASSWORD_VARIABLE}."
        ))
    })?;
    if url.host_str().is_some_and(|host| host.contains(',')) {
        return Err(Error::usage("the address of green names several hosts")
            .remedy("Give only the primary: a standby is read-only."));
    }
    if url.fragment().is_some() {
        return Err(Error::usage("the address of green contains a \"#\"")
            .remedy(format!("Write it as %23, or give the password in {PASSWORD_VARIABLE}.")));
    }
    Ok(url)
}

/// libpq accepts a user without a host (`postgres://user@/database?host=/run`), `url` does not: there the user is moved
/// into the query.
fn with_user_in_query(address: &str) -> Cow<'_, str> {
    let rewritten = || {
        let (scheme, rest) = address.split_once("://")?;
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at_checked(end)?;
        let user_info = authority.strip_suffix('@')?.replace('&', "%26").replace('+', "%2B");
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let user = match user_info.split_once(':') {
            Some((user, password)) => format!("user={user}&password={password}"),
            None => format!("user={user_info}"),
        };
        Some(format!("{scheme}://{path}?{user}&{query}"))
    };
    rewritten().map_or(Cow::Borrowed(address), Cow::Owned)
}

/// sqlx silently uses a default where one of these is invalid; here that is an error.
fn check_environment(variable: &dyn Fn(&str) -> Option<String>) -> Result<()> {
    if let Some(port) = variable("PGPORT").filter(|port| port.parse::<u16>().is_err()) {
        return Err(Error::usage(format!("PGPORT=\"{port}\" is not a port number")));
    }
    if let Some(mode) = variable("PGSSLMODE").filter(|mode| mode.parse::<PgSslMode>().is_err()) {
        return Err(unknown_ssl_mode(&mode));
    }
    if variable("PGSSLROOTCERT").as_deref() == Some("system") {
        return Err(Error::usage("PGSSLROOTCERT=system is not supported").remedy(
            "Unset it and use sslmode=verify-full: without a file, the system's certificates are trusted.",
        ));
    }
    Ok(())
}

fn unknown_ssl_mode(mode: &str) -> Error {
    Error::usage(format!("sslmode \"{mode}\" is not supported for green"))
        .remedy("Use disable, allow, prefer, require, verify-ca or verify-full.")
}

/// Checks the options of the address and removes those that sqlx does not read. Returns the connect timeout.
fn take_options(url: &mut Url, warnings: &mut Vec<String>) -> Result<Option<Duration>> {
    let mut connect_timeout = None;
    let mut kept = Vec::new();
    for (name, value) in url.query_pairs().into_owned() {
        let name = canonical(&name);
        match name {
            "connect_timeout" => connect_timeout = Some(parse_seconds(&value)?),
            "sslmode" if value.parse::<PgSslMode>().is_err() => return Err(unknown_ssl_mode(&value)),
            "port" if value.parse::<u16>().is_err() => {
                return Err(Error::usage(format!(
                    "port={value} in the address of green is not a port number"
                )));
            }
            // The default where no file is given.
            "sslrootcert" if value == "system" => {}
            "channel_binding" if value != "require" => {}
            "host" | "hostaddr" if value.contains(',') => {
                return Err(Error::usage("the address of green names several hosts")
                    .remedy("Give only the primary: a standby is read-only."));
            }
            _ if SUPPORTED.contains(&name) || name.starts_with("options[") => {
                kept.push((name.to_owned(), value));
            }
            _ if WITHOUT_EFFECT.contains(&name) => {
                warnings.push(format!("\"{name}\" in the address of green has no effect"));
            }
            _ => return Err(unknown_option(name)),
        }
    }
    if kept.is_empty() {
        url.set_query(None);
    } else {
        url.query_pairs_mut().clear().extend_pairs(kept);
    }
    Ok(connect_timeout)
}

/// sqlx accepts some options under several names.
fn canonical(name: &str) -> &str {
    match name {
        "ssl-mode" => "sslmode",
        "ssl-root-cert" | "ssl-ca" => "sslrootcert",
        "ssl-cert" => "sslcert",
        "ssl-key" => "sslkey",
        _ => name,
    }
}

fn unknown_option(name: &str) -> Error {
    Error::usage(format!("the address of green has an option that is not supported: \"{name}\""))
        .remedy(format!("Supported options are {}.", SUPPORTED.join(", ")))
}

fn parse_seconds(value: &str) -> Result<Duration> {
    value.parse().ok().filter(|s| (1..=3600).contains(s)).map(Duration::from_secs).ok_or_else(|| {
        Error::usage(format!(
            "connect_timeout={value} in the address of green is not a number of seconds from 1 to 3600"
        ))
    })
}

fn option(url: &Url, option: &str) -> Option<String> {
    url.query_pairs().find(|(name, _)| name == option).map(|(_, value)| value.into_owned())
}

/// The file that an option names; the driver also accepts PEM text in its place.
fn file_of(url: &Url, name: &str) -> Option<PathBuf> {
    option(url, name).filter(|value| !value.trim_start().starts_with("-----BEGIN")).map(PathBuf::from)
}

fn unusable(error: &sqlx::Error) -> Error {
    // The driver's text may repeat a value, so only its kind is printed.
    let reason = match error {
        sqlx::Error::Configuration(_) => "an option has an invalid value",
        _ => "it cannot be parsed",
    };
    Error::usage(format!("the address of green is not usable: {reason}")).remedy(FORM)
}

/// `sslrootcert=system` requires full checks, as in libpq.
fn trust_system(options: PgConnectOptions, ssl_mode: Option<&str>) -> Result<PgConnectOptions> {
    if ssl_mode.is_some_and(|mode| mode != "verify-full") {
        return Err(Error::usage(
            "sslrootcert=system only works with sslmode=verify-full in the address of green",
        ));
    }
    Ok(options.ssl_mode(PgSslMode::VerifyFull))
}

/// What libpq does and sqlx does not.
fn adjust(options: PgConnectOptions, ca_in_address: bool) -> PgConnectOptions {
    let host = options.get_host().trim_matches(['[', ']']).to_owned();
    let mut options = options.host(&host);
    let ca_in_environment = std::env::var_os("PGSSLROOTCERT").is_some();
    let has_ca = ca_in_address || ca_in_environment;
    // libpq: "if a root CA file exists, the behavior of sslmode=require is that of verify-ca".
    if has_ca && matches!(options.get_ssl_mode(), PgSslMode::Require) {
        options = options.ssl_mode(PgSslMode::VerifyCa);
    }
    let checks = matches!(options.get_ssl_mode(), PgSslMode::VerifyCa | PgSslMode::VerifyFull);
    if checks
        && !has_ca
        && let Some(file) = libpq_root_file()
    {
        options = options.ssl_root_cert(file);
    }
    options
}

/// The file that libpq trusts where none is given.
fn libpq_root_file() -> Option<PathBuf> {
    let file = PathBuf::from(std::env::var_os("HOME")?).join(".postgresql/root.crt");
    file.exists().then_some(file)
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
    fn environment_that_the_driver_would_ignore_is_refused() {
        for (name, value) in [("PGPORT", "x"), ("PGSSLMODE", "on"), ("PGSSLROOTCERT", "system")] {
            let lookup = |wanted: &str| (wanted == name).then(|| value.to_owned());
            assert!(check_environment(&lookup).is_err(), "{name}");
        }
        assert!(check_environment(&|_| None).is_ok());
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
