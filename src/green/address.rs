//! `postgres://` addresses, as libpq and sqlx read them.
//!
//! Parsing opens no connection. What libpq takes from `PGHOST`, `PGPASSWORD`, `~/.pgpass` and so on is taken from there;
//! an option without effect is refused, or named in a warning.

use std::borrow::Cow;
use std::path::PathBuf;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use url::Url;

use crate::error::{Error, Result};

/// The environment variable with green's password; it overrides `PGPASSWORD` and `~/.pgpass`.
pub(crate) const PASSWORD_VARIABLE: &str = "KONGFERRY_GREEN_PASSWORD";

/// Options that sqlx reads, each by one of its names.
const SUPPORTED: &str = "sslmode, sslrootcert, sslcert, sslkey, host, hostaddr, port, dbname, user, password, options, \
                         connect_timeout";

const FILES: &[&str] = &["sslrootcert", "sslcert", "sslkey"];

/// Options of libpq or sqlx that change nothing for kongferry.
const WITHOUT_EFFECT: &str = "application_name, fallback_application_name, client_encoding, gssencmode, keepalives, \
                              keepalives_idle, keepalives_interval, keepalives_count, tcp_user_timeout, \
                              statement-cache-capacity, target_session_attrs";

pub(super) struct Address {
    pub(super) options: PgConnectOptions,
    pub(super) has_password: bool,
    pub(super) connect_timeout: Option<Duration>,
    /// Options and the files that they name.
    pub(super) files: Vec<(&'static str, PathBuf)>,
    /// Options without effect, one sentence each.
    pub(super) warnings: Vec<String>,
}

impl Address {
    /// No error repeats the address, because it may contain a password.
    pub(super) fn parse(address: &str) -> Result<Address> {
        let mut url = parse_url(address)?;
        check_environment(&|name| std::env::var(name).ok())?;
        let mut warnings = Vec::new();
        let system_ca = option(&url, "sslrootcert").as_deref() == Some("system");
        let connect_timeout = take_options(&mut url, &mut warnings)?;
        let options = url.as_str().parse::<PgConnectOptions>().map_err(|e| unusable(&e))?;
        let options = if system_ca {
            trust_system(options, option(&url, "sslmode").as_deref())?
        } else {
            adjust(options, option(&url, "sslrootcert").is_some())
        };
        let has_password = url.password().is_some() || option(&url, "password").is_some();
        let files = FILES.iter().filter_map(|name| Some((*name, file_of(&url, name)?))).collect();
        Ok(Address { options, has_password, connect_timeout, files, warnings })
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
        return Err(several_hosts());
    }
    if url.fragment().is_some() {
        return Err(Error::usage("the address of green contains a \"#\"")
            .remedy(format!("Write it as %23, or give the password in {PASSWORD_VARIABLE}.")));
    }
    Ok(url)
}

fn several_hosts() -> Error {
    Error::usage("the address of green names several hosts")
        .remedy("Give only the primary: a standby is read-only.")
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
            "host" | "hostaddr" if value.contains(',') => return Err(several_hosts()),
            _ if is_listed(SUPPORTED, name) || name.starts_with("options[") => {
                kept.push((name.to_owned(), value));
            }
            _ if is_listed(WITHOUT_EFFECT, name) => {
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

fn is_listed(names: &str, name: &str) -> bool {
    names.split(", ").any(|listed| listed == name)
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
        .remedy(format!("Use only {SUPPORTED}."))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environment_that_the_driver_would_ignore_is_refused() {
        for (name, value) in [("PGPORT", "x"), ("PGSSLMODE", "on"), ("PGSSLROOTCERT", "system")] {
            let lookup = |variable: &str| (variable == name).then(|| value.to_owned());
            assert!(check_environment(&lookup).is_err(), "{name}");
        }
        assert!(check_environment(&|_| None).is_ok());
    }
}
