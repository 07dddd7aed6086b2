//! The configuration of blue: a `cassandra://` address and its options.
//!
//! Parsing opens no connection and reads no file. An address contains no password, because every user of the machine can
//! read it in the process list; [`BlueConfig::with_password`] sets it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use secrecy::SecretString;

pub use super::consistency::ReadConsistency;
use crate::error::{Error, Result};

pub const DEFAULT_PORT: u16 = 9042;

/// The environment variable with blue's password.
pub const PASSWORD_VARIABLE: &str = "KONGFERRY_BLUE_PASSWORD";

/// The options of an address.
const OPTIONS: &str =
    "dc, consistency, tls, tls_ca, tls_cert, tls_key, connect_timeout, request_timeout, page_size";

/// `Debug` does not contain the password.
#[derive(Debug, Clone)]
pub struct BlueConfig {
    /// The nodes to try first; the others are learnt from them.
    pub contact_points: Vec<ContactPoint>,
    /// Kong's keyspace, spelt exactly as Cassandra has it.
    pub keyspace: String,
    pub username: Option<String>,
    pub password: Option<SecretString>,
    pub datacenter: Option<String>,
    pub consistency: ReadConsistency,
    pub tls: Tls,
    pub connect_timeout: Duration,
    /// Of one request, retries included.
    pub request_timeout: Duration,
    pub page_size: i32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContactPoint {
    /// Name or address, IPv6 without brackets.
    pub host: String,
    pub port: u16,
}

impl fmt::Display for ContactPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Whether and how connections to blue are encrypted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    pub mode: TlsMode,
    /// Files with the certificates to trust.
    pub ca_files: Vec<PathBuf>,
    /// Whether the certificates that the system trusts are trusted too. With no file they always are.
    pub system_roots: bool,
    pub client: Option<ClientCertificate>,
}

/// What is checked about the server's certificate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TlsMode {
    #[default]
    Off,
    /// Encrypted; the certificate is not checked.
    Require,
    /// Encrypted; who issued the certificate is checked, the name in it is not. This is what Kong's own driver does.
    VerifyCa,
    /// Encrypted; issuer and name are checked.
    Verify,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// PEM file with the certificate, followed by its chain.
    pub certificate: PathBuf,
    /// PEM file with the private key.
    pub key: PathBuf,
}

impl BlueConfig {
    /// A configuration with every option at its default.
    pub fn new(contact_points: Vec<ContactPoint>, keyspace: impl Into<String>) -> Self {
        BlueConfig {
            contact_points,
            keyspace: keyspace.into(),
            username: None,
            password: None,
            datacenter: None,
            consistency: ReadConsistency::All,
            tls: Tls::default(),
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(60),
            page_size: 5000,
        }
    }

    /// Reads `cassandra://[user@]host[:port][,host[:port]…]/keyspace[?option=value&…]`.
    ///
    /// No error repeats the address, because it may contain a password by mistake.
    pub fn parse(address: &str) -> Result<Self> {
        let rest = without_scheme(address)?;
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        // Before anything else is parsed: a password with a "/" or "?" in it would be cut in two, and
        // the pieces would show up in other messages.
        refuse_password(place, query)?;
        let (username, place) = match place.rsplit_once('@') {
            Some((user, place)) => (Some(decode(user, "the user name")?), place),
            None => (None, place),
        };
        let (hosts, keyspace) = place.split_once('/').unwrap_or((place, ""));
        let contact_points = hosts.split(',').map(|host| ContactPoint::parse(host, DEFAULT_PORT));
        let mut config = BlueConfig::new(contact_points.collect::<Result<_>>()?, parse_keyspace(keyspace)?);
        config.username = username.filter(|name| !name.is_empty());
        config.set_options(query)?;
        Ok(config)
    }

    /// Applies options, written as in the address (`consistency=quorum&tls=require`), over this configuration.
    pub fn set_options(&mut self, options: &str) -> Result<()> {
        let (mut seen, mut tls) = (Vec::new(), TlsOptions::default());
        for pair in options.trim().trim_start_matches('?').split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decode(name, "an option")?, decode(value, "an option's value")?);
            if seen.contains(&name) {
                return Err(Error::usage(format!("option \"{name}\" is given twice in the address of blue")));
            }
            self.set_option(&name, value, &mut tls)?;
            seen.push(name);
        }
        self.tls = tls.over(&self.tls)?;
        Ok(())
    }

    fn set_option(&mut self, name: &str, value: String, tls: &mut TlsOptions) -> Result<()> {
        if value.is_empty() && OPTIONS.split(", ").any(|option| option == name) {
            return Err(Error::usage(format!("option \"{name}\" in the address of blue has no value")));
        }
        match name {
            "dc" => self.datacenter = Some(value),
            "consistency" => self.consistency = ReadConsistency::parse(&value)?,
            "tls" => tls.mode = Some(parse_tls(&value)?),
            "tls_ca" => tls.ca = Some(value.into()),
            "tls_cert" => tls.certificate = Some(value.into()),
            "tls_key" => tls.key = Some(value.into()),
            "connect_timeout" => self.connect_timeout = parse_duration(name, &value)?,
            "request_timeout" => self.request_timeout = parse_duration(name, &value)?,
            "page_size" => self.page_size = parse_page_size(&value)?,
            _ => return Err(unknown_option(name)),
        }
        Ok(())
    }

    #[must_use]
    pub fn with_password(mut self, password: SecretString) -> Self {
        self.password = Some(password);
        self
    }

    /// The contact points as one text, for messages.
    pub fn hosts(&self) -> String {
        self.contact_points.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }
}

impl ContactPoint {
    /// Reads `host`, `host:port` or `[ipv6]:port`. Does not look the name up.
    pub fn parse(text: &str, default_port: u16) -> Result<Self> {
        let text = text.trim();
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, after) = rest.split_once(']').ok_or_else(|| {
                    Error::usage("an IPv6 address in the address of blue has no closing bracket")
                        .remedy("Write it as [::1]:9042.")
                })?;
                (host, (!after.is_empty()).then(|| after.strip_prefix(':').unwrap_or_default()))
            }
            None if text.matches(':').count() > 1 => {
                return Err(Error::usage("an IPv6 address in the address of blue is not in brackets")
                    .remedy("Write it as [::1]:9042."));
            }
            None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
        };
        if host.is_empty() {
            return Err(Error::usage("the address of blue has an empty host name").remedy(FORM));
        }
        let host = decode(host, "a host name")?;
        let port = port.map_or(Ok(default_port), |port| parse_port(port, &host))?;
        Ok(ContactPoint { host, port })
    }
}

const FORM: &str = "Write it as cassandra://user@host1:9042,host2/keyspace.";

fn without_scheme(address: &str) -> Result<&str> {
    let address = address.trim();
    match address.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("cassandra") => Ok(rest),
        Some((scheme, _)) if scheme.starts_with("postgres") => Err(Error::usage(
            "the address of blue is a PostgreSQL address",
        )
        .remedy(
            "Blue is the Cassandra cluster: give cassandra://… with --blue and postgres://… with --green.",
        )),
        _ => Err(Error::usage("the address of blue does not begin with cassandra://").remedy(FORM)),
    }
}

fn refuse_password(place: &str, query: &str) -> Result<()> {
    let user = place.rsplit_once('@').map(|(user, _)| user);
    // "user:pass?word@host/keyspace": the "?" belongs to a password that was not percent-encoded.
    let hidden_in_query =
        user.is_none() && place.contains(':') && !place.contains('/') && query.contains('@');
    if hidden_in_query || user.is_some_and(|user| user.contains(':')) { Err(has_password()) } else { Ok(()) }
}

fn has_password() -> Error {
    Error::usage("the address of blue contains a password, which other users of this machine can see").remedy(
        format!(
            "Remove it and set {PASSWORD_VARIABLE}, pass --blue-password-file, or type it at the prompt."
        ),
    )
}

fn parse_port(text: &str, host: &str) -> Result<u16> {
    // The text is not repeated: it may be a piece of a password.
    text.parse().ok().filter(|port| *port > 0).ok_or_else(|| {
        Error::usage(format!("the port after host \"{host}\" is not a number from 1 to 65535")).remedy(FORM)
    })
}

fn parse_keyspace(text: &str) -> Result<String> {
    let name = decode(text.trim_end_matches('/'), "the keyspace")?;
    if name.is_empty() {
        return Err(Error::usage("the address of blue names no keyspace")
            .remedy("Add it after the hosts: cassandra://host/keyspace; Kong's default is \"kong\"."));
    }
    check_keyspace(&name)?;
    Ok(name)
}

/// Whether Cassandra could have a keyspace of this name; the driver and CQL take no other.
pub(crate) fn check_keyspace(name: &str) -> Result<()> {
    let legal = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if legal && (1..=48).contains(&name.len()) {
        return Ok(());
    }
    Err(Error::usage(format!("\"{name}\" is not a valid keyspace name"))
        .remedy("Give a name of up to 48 letters, digits and underscores, without quotes."))
}

fn decode(text: &str, part: &str) -> Result<String> {
    percent_decode_str(text).decode_utf8().map(|text| text.into_owned()).map_err(|_| {
        Error::usage(format!("{part} in the address of blue is not UTF-8 after percent-decoding"))
    })
}

/// The TLS options of one address, before they are checked against each other.
#[derive(Default)]
struct TlsOptions {
    mode: Option<TlsMode>,
    ca: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
}

impl TlsOptions {
    /// These options over those that were set before.
    fn over(self, before: &Tls) -> Result<Tls> {
        let files = self.ca.is_some() || self.certificate.is_some() || self.key.is_some();
        // A file without a mode means the safest mode.
        let default = if files && before.mode == TlsMode::Off { TlsMode::Verify } else { before.mode };
        let mode = self.mode.unwrap_or(default);
        if mode == TlsMode::Off && files {
            return Err(Error::usage("tls=off and a TLS file contradict each other in the address of blue")
                .remedy("Use tls=verify, or remove tls_ca, tls_cert and tls_key."));
        }
        if mode == TlsMode::Require && self.ca.is_some() {
            return Err(Error::usage(
                "tls=require does not check the certificate, so tls_ca would have no effect",
            )
            .remedy("Use tls=verify."));
        }
        let client = match (self.certificate, self.key) {
            (Some(certificate), Some(key)) => Some(ClientCertificate { certificate, key }),
            (None, None) => before.client.clone(),
            _ => {
                return Err(Error::usage("the address of blue has only one of tls_cert and tls_key")
                    .remedy("Give both, or neither."));
            }
        };
        let (ca_files, system_roots) = match self.ca {
            Some(file) => (vec![file], false),
            None => (before.ca_files.clone(), before.system_roots),
        };
        Ok(Tls { mode, ca_files, system_roots, client })
    }
}

fn unknown_option(name: &str) -> Error {
    if matches!(name, "password" | "pass" | "pwd") {
        return has_password();
    }
    Error::usage(format!("the address of blue has an unknown option \"{name}\""))
        .remedy(format!("The known options are {OPTIONS}."))
}

fn parse_tls(value: &str) -> Result<TlsMode> {
    match value {
        "off" => Ok(TlsMode::Off),
        "require" => Ok(TlsMode::Require),
        "verify" => Ok(TlsMode::Verify),
        "verify-ca" => Ok(TlsMode::VerifyCa),
        _ => Err(Error::usage(format!("tls=\"{value}\" in the address of blue is not supported")).remedy(
            "Use tls=off, tls=require (encrypted, certificate not checked), tls=verify (issuer and host name \
             checked) or tls=verify-ca (issuer only, as Kong does).",
        )),
    }
}

/// Reads `5`, `5s`, `500ms` or `1m30s`, up to a day; a bare number is seconds.
pub(crate) fn parse_duration(name: &str, value: &str) -> Result<Duration> {
    let duration = match value.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => humantime::parse_duration(value).ok(),
    };
    duration.filter(|duration| !duration.is_zero() && *duration <= Duration::from_secs(86_400)).ok_or_else(
        || {
            Error::usage(format!("{name}=\"{value}\" is not a duration"))
                .remedy("Write it as 10s, 500ms or 2m.")
        },
    )
}

fn parse_page_size(value: &str) -> Result<i32> {
    value.parse().ok().filter(|n| (1..=100_000).contains(n)).ok_or_else(|| {
        Error::usage(format!("page_size=\"{value}\" is not a number of rows from 1 to 100000"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn ok(address: &str) -> BlueConfig {
        BlueConfig::parse(address).expect(address)
    }

    /// The whole text of the error, as a user would see it.
    fn refused(address: &str) -> String {
        let error = BlueConfig::parse(address).expect_err(address);
        assert_eq!(error.kind(), Kind::Usage);
        format!("{}\n{}", error.message(), error.remedy_text().unwrap_or_default())
    }

    #[test]
    fn a_bare_address_has_safe_defaults() {
        let config = ok("cassandra://db1/kong");
        assert_eq!(config.hosts(), "db1:9042");
        assert_eq!(config.keyspace, "kong");
        assert_eq!(config.consistency, ReadConsistency::All);
        assert_eq!(config.tls, Tls::default());
        assert_eq!(config.username, None);
        assert!(config.password.is_none());
    }

    #[test]
    fn several_hosts_each_with_its_port() {
        let config = ok("cassandra://kong@db1:9142,db2,[2001:db8::1]:9043,[::1]/Kong_2");
        assert_eq!(config.hosts(), "db1:9142, db2:9042, [2001:db8::1]:9043, [::1]:9042");
        assert_eq!(config.username.as_deref(), Some("kong"));
        assert_eq!(config.keyspace, "Kong_2");
    }

    #[test]
    fn names_are_percent_decoded() {
        let config = ok("cassandra://kong%40corp@db1/kong?dc=M%C3%BCnchen%201");
        assert_eq!(config.username.as_deref(), Some("kong@corp"));
        assert_eq!(config.datacenter.as_deref(), Some("München 1"));
    }

    #[test]
    fn every_option_is_read() {
        let config = ok("cassandra://db1/kong?dc=dc1&consistency=LOCAL_QUORUM&tls=verify&tls_ca=/a/ca.pem\
             &tls_cert=c.pem&tls_key=k.pem&connect_timeout=500ms&request_timeout=2m&page_size=100");
        assert_eq!(config.datacenter.as_deref(), Some("dc1"));
        assert_eq!(config.consistency, ReadConsistency::LocalQuorum);
        assert_eq!(config.tls.mode, TlsMode::Verify);
        assert_eq!(config.tls.ca_files, [PathBuf::from("/a/ca.pem")]);
        assert_eq!(config.tls.client.as_ref().map(|c| c.key.clone()), Some("k.pem".into()));
        assert_eq!(config.connect_timeout, Duration::from_millis(500));
        assert_eq!(config.request_timeout, Duration::from_secs(120));
        assert_eq!(config.page_size, 100);
    }

    #[test]
    fn a_ca_file_alone_means_verify() {
        assert_eq!(ok("cassandra://h/k?tls_ca=ca.pem").tls.mode, TlsMode::Verify);
    }

    #[test]
    fn options_can_be_laid_over_an_address() {
        let mut config = ok("cassandra://h/k?tls_ca=ca.pem&dc=dc1");
        config.set_options("?consistency=one").expect("an option");
        assert_eq!((config.consistency, config.datacenter.as_deref()), (ReadConsistency::One, Some("dc1")));
        assert_eq!(config.tls.ca_files, [PathBuf::from("ca.pem")]);
        config.set_options("tls=off").expect("an option");
        assert_eq!(config.tls.mode, TlsMode::Off);
        assert!(config.set_options("password=x").is_err());
    }

    #[test]
    fn a_password_is_refused_and_never_repeated() {
        for address in [
            "cassandra://kong:s3cr3t@db1/kong",
            "cassandra://kong:s3c/s3cr3t@db1/kong",
            "cassandra://kong:s3c?s3cr3t@db1/kong",
            "cassandra://kong:s3c@s3cr3t@db1/kong",
            "cassandra://kong:s3c#s3cr3t@db1/kong",
            "cassandra://db1/kong?password=s3cr3t",
        ] {
            let text = refused(address);
            assert!(text.contains("KONGFERRY_BLUE_PASSWORD"), "{text}");
            assert!(!text.contains("s3c"), "{text}");
        }
    }

    #[test]
    fn a_port_that_is_none_is_not_repeated() {
        let text = refused("cassandra://kong:s3cr3t/kong");
        assert!(text.contains("after host \"kong\""), "{text}");
        assert!(!text.contains("s3cr3t"), "{text}");
        refused("cassandra://db1:0/kong");
        refused("cassandra://db1:65536/kong");
        refused("cassandra://[::1]9042/kong").contains("number");
    }

    #[test]
    fn an_unknown_option_names_the_known_ones() {
        let text = refused("cassandra://db1/kong?ssl=true");
        assert!(text.contains("\"ssl\""), "{text}");
        assert!(text.contains("consistency, tls, tls_ca"), "{text}");
        assert!(refused("cassandra://db1/kong?ssl").contains("unknown option"));
    }

    #[test]
    fn other_mistakes_say_what_is_wrong() {
        assert!(refused("postgres://db1/kong").contains("--green"));
        assert!(refused("db1/kong").contains("cassandra://"));
        assert!(refused("cassandra://db1").contains("names no keyspace"));
        assert!(refused("cassandra://db1/").contains("Kong's default"));
        assert!(refused("cassandra:///kong").contains("empty host"));
        assert!(refused("cassandra://db1,/kong").contains("empty host"));
        assert!(refused("cassandra://::1/kong").contains("brackets"));
        assert!(refused("cassandra://[::1/kong").contains("closing bracket"));
        assert!(refused("cassandra://db1/my-keyspace").contains("not a valid keyspace name"));
        assert!(refused("cassandra://db1/%22kong%22").contains("without quotes"));
        assert!(refused("cassandra://db1/kong?dc=").contains("no value"));
        assert!(refused("cassandra://db1/kong?dc=a&dc=b").contains("twice"));
        assert!(refused("cassandra://db1/kong?dc=%ff").contains("UTF-8"));
        assert!(refused("cassandra://db1/kong?consistency=any").contains("local_quorum"));
        assert!(refused("cassandra://db1/kong?tls=yes").contains("tls=require"));
        assert!(refused("cassandra://db1/kong?tls=off&tls_ca=x").contains("contradict"));
        assert!(refused("cassandra://db1/kong?tls=require&tls_ca=x").contains("tls=verify"));
        assert!(refused("cassandra://db1/kong?tls=verify&tls_cert=x").contains("only one of"));
        assert!(refused("cassandra://db1/kong?connect_timeout=0").contains("10s"));
        assert!(refused("cassandra://db1/kong?request_timeout=25h").contains("10s"));
        assert!(refused("cassandra://db1/kong?page_size=0").contains("100000"));
    }

    #[test]
    fn debug_does_not_show_the_password() {
        let config = ok("cassandra://kong@db1/kong").with_password("s3cr3t".into());
        assert!(!format!("{config:?}").contains("s3cr3t"));
    }
}
