//! Explains PostgreSQL's errors: the cause, and what the operator does next.
//!
//! PostgreSQL repeats values in its messages (`Key (key)=(…) already exists.`, `invalid input syntax … "…"`, `COPY
//! t, line 3, column password: "…"`), and Kong's values are credentials. So an error about data is printed only in forms
//! that are known to contain no value, and the driver's error is not attached as a source.

use std::io::ErrorKind;

use sqlx::postgres::PgDatabaseError;

use super::config::{GreenConfig, PASSWORD_VARIABLE};
use crate::error::{Error, Kind};

/// The SQLSTATE of an error that the server sent.
pub fn sqlstate(error: &sqlx::Error) -> Option<String> {
    error.as_database_error()?.code().map(|code| code.into_owned())
}

/// Explains why a statement failed. Contains no value of any row.
pub(super) fn statement(error: &sqlx::Error, config: &GreenConfig, action: &str) -> Error {
    match server_error(error) {
        Some(database) => with_remedy(database, config, action),
        None => match error {
            sqlx::Error::PoolTimedOut => {
                Error::new(Kind::Connection, format!("{action}: no connection became free"))
                    .remedy("Check that green answers, and how many connections it allows (max_connections).")
            }
            sqlx::Error::Io(e) => {
                Error::new(Kind::Connection, format!("{action}: the connection to green was lost"))
                    .detail(e.to_string())
                    .remedy(
                        "Check that the server is running, then run the command again: green is unchanged.",
                    )
            }
            // Decoding errors contain the column and the type, not the value.
            other => Error::new(Kind::Server, action).detail(other.to_string()),
        },
    }
}

/// The same without a remedy, for a server that is not green, or without a configuration.
pub(super) fn without_remedy(error: &sqlx::Error, action: &str) -> Error {
    match server_error(error) {
        Some(database) => describe(database, action),
        None => {
            let kind = if matches!(error, sqlx::Error::Io(_)) { Kind::Connection } else { Kind::Server };
            Error::new(kind, action).detail(error.to_string())
        }
    }
}

/// Explains why no connection could be opened.
pub(super) fn connect(error: &sqlx::Error, config: &GreenConfig) -> Error {
    if let Some(database) = server_error(error) {
        return refusal(database, config);
    }
    match error {
        sqlx::Error::Io(e) => transport(e, config),
        sqlx::Error::Tls(e) if e.to_string().contains("does not support TLS") => Error::new(
            Kind::Connection,
            format!("green at {} does not support TLS", config.address()),
        )
        .remedy(
            "Set ssl = on in postgresql.conf, or use sslmode=disable or sslmode=prefer in the address of green.",
        ),
        sqlx::Error::Tls(e) => tls_failed(config).detail(e.to_string()).remedy(
            "Check the files of sslrootcert, sslcert and sslkey, and the host name in the address of green.",
        ),
        sqlx::Error::Configuration(e) => {
            Error::usage("cannot use the TLS files of green").detail(e.to_string())
        }
        _ => Error::new(
            Kind::Connection,
            format!("the server at {}, given as green, does not speak PostgreSQL's protocol", config.address()),
        )
        .detail(error.to_string())
        .remedy("Check host and port: the default port of PostgreSQL is 5432, that of pgbouncer 6432."),
    }
}

/// The error for a server that accepted the connection and does not answer.
pub(super) fn no_answer(config: &GreenConfig) -> Error {
    let seconds = config.connect_timeout.as_secs();
    Error::new(
        Kind::Connection,
        format!("cannot reach green at {}: no answer within {seconds} s", config.address()),
    )
    .remedy(
        "Check address, port and firewall, or set a longer connect_timeout=SECONDS in the address of green.",
    )
}

fn server_error(error: &sqlx::Error) -> Option<&PgDatabaseError> {
    error.as_database_error()?.try_downcast_ref::<PgDatabaseError>()
}

fn transport(error: &std::io::Error, config: &GreenConfig) -> Error {
    let address = config.address();
    if let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        return certificate(tls, config);
    }
    let unreachable =
        |why: &str| Error::new(Kind::Connection, format!("cannot reach green at {address}: {why}"));
    match error.kind() {
        ErrorKind::ConnectionRefused => unreachable("connection refused")
            .remedy("Check host and port, and listen_addresses in postgresql.conf."),
        ErrorKind::NotFound | ErrorKind::PermissionDenied => unreachable("the socket cannot be opened")
            .detail(error.to_string())
            .remedy("Check the directory of the socket, or give host and port."),
        _ if error.to_string().contains("lookup") => unreachable("the host name cannot be resolved")
            .remedy("Check the spelling, or use an IP address."),
        _ => unreachable("the connection was lost")
            .detail(error.to_string())
            .remedy("Check that this is PostgreSQL's port, and read the server's log."),
    }
}

fn tls_failed(config: &GreenConfig) -> Error {
    Error::new(Kind::Connection, format!("TLS to green at {} failed", config.address()))
}

fn certificate(cause: &rustls::Error, config: &GreenConfig) -> Error {
    use rustls::CertificateError::{NotValidForName, NotValidForNameContext};
    let rustls::Error::InvalidCertificate(reason) = cause else {
        return tls_failed(config).source(cause.clone()).remedy(
            "If the server requires a client certificate, give it with sslcert=FILE and sslkey=FILE; otherwise read its log.",
        );
    };
    let error = Error::new(
        Kind::Connection,
        format!("the certificate of green at {} is not trusted", config.address()),
    )
    .source(cause.clone());
    if matches!(reason, NotValidForName | NotValidForNameContext { .. }) {
        return error.remedy(
            "Give a host name that the certificate contains, or use sslmode=verify-ca, which checks the issuer only.",
        );
    }
    error.remedy(
        "Give the file of the certificate authority (sslrootcert=FILE), or use sslmode=require, which encrypts without \
         checking the certificate.",
    )
}

/// Explains an error with which the server refuses a new connection.
fn refusal(error: &PgDatabaseError, config: &GreenConfig) -> Error {
    let address = config.address();
    let refused = |message: String| Error::new(Kind::Connection, message).detail(server_message(error));
    let (user, database) = (config.username(), config.database());
    let text = error.message();
    match error.code() {
        // 08P01 and its texts are pgbouncer's.
        "28P01" => wrong_password(refused(format!("green refuses the login of \"{user}\""))),
        "08P01" if text.contains("password") || text.contains("authentication") || text.contains("no such user") => {
            wrong_password(refused(format!("green refuses the login of \"{user}\"")))
        }
        "28000" if text.contains("no encryption") || text.contains("SSL off") => {
            refused(format!("green at {address} requires TLS"))
                .remedy("Use sslmode=require (or verify-full) in the address of green.")
        }
        "28000" => refused(format!("green does not allow \"{user}\" to log in from this host"))
            .remedy("Ask an administrator to allow this role and host in pg_hba.conf."),
        "3D000" => no_database(refused(format!("green at {address} has no database \"{database}\""))),
        "08P01" if text.contains("no such database") => {
            no_database(refused(format!("green at {address} has no database \"{database}\"")))
        }
        "08P01" if text.contains("startup parameter") => {
            refused("the pooler in front of green refuses a start-up parameter".to_owned()).remedy(
                "Unset PGOPTIONS and remove options=… from the address of green, or connect to PostgreSQL directly.",
            )
        }
        "42501" => refused(format!("\"{user}\" may not connect to database \"{database}\""))
            .remedy(format!("Ask an administrator for: GRANT CONNECT ON DATABASE \"{database}\" TO \"{user}\".")),
        "53300" => refused(format!("green at {address} has no free connection"))
            .remedy("Close other clients, or raise max_connections or the role's CONNECTION LIMIT."),
        "57P03" => refused(format!("green at {address} is starting, stopping or recovering"))
            .remedy("Wait until it is ready, then run the command again."),
        _ => refused(format!("green at {address} refuses the connection")),
    }
}

fn wrong_password(error: Error) -> Error {
    error.remedy(format!(
        "Check the user in the address of green, and the password in {PASSWORD_VARIABLE}, --green-password-file, \
         PGPASSWORD or ~/.pgpass."
    ))
}

fn no_database(error: Error) -> Error {
    error.remedy("Check the name after the host in the address of green; Kong's default is \"kong\".")
}

/// The server's own message; contains no values in errors that are not about data.
fn server_message(error: &PgDatabaseError) -> String {
    format!("PostgreSQL reports: {} (SQLSTATE {})", error.message(), error.code())
}

/// Explains an error with which the server answered a statement.
fn with_remedy(error: &PgDatabaseError, config: &GreenConfig, action: &str) -> Error {
    let explained = describe(error, action);
    match remedy(error.code(), error.message(), config) {
        Some(remedy) => explained.remedy(remedy),
        None => explained,
    }
}

/// What the server answered, without a value of any row.
fn describe(error: &PgDatabaseError, action: &str) -> Error {
    let fields = Fields {
        code: error.code(),
        message: error.message(),
        detail: error.detail(),
        context: error.r#where(),
    };
    let mut explained = Error::new(kind(error.code()), action).with_sqlstate(error.code()).detail(format!(
        "PostgreSQL reports: {} (SQLSTATE {})",
        safe_message(&fields),
        error.code()
    ));
    if let Some(detail) = safe_detail(&fields) {
        explained = explained.detail(detail);
    }
    if let Some(place) = place(error) {
        explained = explained.detail(place);
    }
    for line in safe_context(&fields) {
        explained = explained.detail(line);
    }
    explained
}

fn kind(code: &str) -> Kind {
    match code {
        // A missing privilege: the transaction is rolled back, green is unchanged.
        "42501" => Kind::Refused,
        "53300" | "57P01" | "57P02" | "57P03" | "57P05" => Kind::Connection,
        _ if code.starts_with("08") || code.starts_with("28") => Kind::Connection,
        _ => Kind::Server,
    }
}

fn remedy(code: &str, message: &str, config: &GreenConfig) -> Option<String> {
    Some(match code {
        "42501" => format!(
            "Connect as the owner of Kong's tables, or grant the missing privilege to \"{}\"; \"inspect\" lists them.",
            config.username()
        ),
        "25006" => "This server or transaction is read-only: connect to the primary.".to_owned(),
        "53100" => "Free disk space on green, then run the command again: green is unchanged.".to_owned(),
        "53300" => "Close other clients, or raise max_connections.".to_owned(),
        "55P03" => {
            "Another session holds a lock on a table: stop Kong and other clients of green, or run the command again."
                .to_owned()
        }
        "40P01" | "40001" => {
            "Another session wrote to the same tables: stop it, then run the command again.".to_owned()
        }
        "57P01" | "57P02" | "57P03" => {
            "Wait until the server is ready, then run the command again.".to_owned()
        }
        "08P01" if message.contains("statement pooling") => {
            "The pooler is in statement mode: use transaction or session mode, or connect to PostgreSQL directly."
                .to_owned()
        }
        _ => return None,
    })
}

fn place(error: &PgDatabaseError) -> Option<String> {
    let parts: Vec<String> =
        [("table", error.table()), ("column", error.column()), ("constraint", error.constraint())]
            .into_iter()
            .filter_map(|(kind, name)| name.map(|name| format!("{kind} \"{name}\"")))
            .collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// The fields of an error that may contain values.
struct Fields<'a> {
    code: &'a str,
    message: &'a str,
    detail: Option<&'a str>,
    context: Option<&'a str>,
}

impl Fields<'_> {
    /// Whether the error is about a value (class 22), or raised by a PL/pgSQL function (P0).
    fn is_about_a_value(&self) -> bool {
        self.code.starts_with("22") || self.code.starts_with("P0")
    }

    /// Classes whose details contain objects, locks and limits, never rows.
    fn has_plain_detail(&self) -> bool {
        ["08", "0A", "25", "28", "2B", "3D", "3F", "40", "42", "53", "54", "55", "57", "58"]
            .iter()
            .any(|class| self.code.starts_with(class))
    }
}

const HIDDEN: &str = "…";

/// The message, without values. Only errors about a value contain one there.
fn safe_message(fields: &Fields<'_>) -> String {
    if !fields.is_about_a_value() {
        return fields.message.to_owned();
    }
    let (head, cut) = match fields.message.split_once(": ") {
        Some((head, _)) => (head, true),
        None => (fields.message, false),
    };
    let head = mask_quoted(head);
    if cut { format!("{head}: {HIDDEN}") } else { head }
}

/// Replaces everything from the first quotation mark to the last, in any language of the server. A value may itself
/// contain quotation marks, so they cannot be paired.
fn mask_quoted(text: &str) -> String {
    const QUOTES: &[char] = &['"', '\'', '«', '»', '„', '“', '”', '‘', '’', '「', '」', '『', '』'];
    match (text.split_once(QUOTES), text.rsplit_once(QUOTES)) {
        (Some((before, _)), Some((_, after))) => format!("{before}\"{HIDDEN}\"{after}"),
        _ => text.to_owned(),
    }
}

/// The detail, without values; none where its form is not known.
fn safe_detail(fields: &Fields<'_>) -> Option<String> {
    let detail = fields.detail?;
    if fields.has_plain_detail() {
        return Some(detail.to_owned());
    }
    if fields.code.starts_with("23") {
        return key_detail(detail);
    }
    None
}

/// `Key (a, b)=(1, 2) already exists.` → `Key (a, b) already exists.`
fn key_detail(detail: &str) -> Option<String> {
    let (columns, rest) = detail.strip_prefix("Key (")?.split_once(")=(")?;
    // A value may itself contain ") is not present"; the last occurrence is the server's.
    let endings = [
        ") already exists.",
        ") is not present in table ",
        ") is still referenced from table ",
        ") is duplicated.",
    ];
    let ending = endings.iter().filter_map(|ending| rest.rfind(ending)).max()?;
    let ending = rest.get(ending..)?.strip_prefix(')')?;
    Some(format!("Key ({columns}){ending}"))
}

/// The lines of the context that name a table, a column or a function, cut before a value may begin.
fn safe_context(fields: &Fields<'_>) -> Vec<String> {
    let lines = fields.context.into_iter().flat_map(str::lines);
    lines
        .filter(|line| line.starts_with("COPY ") || line.starts_with("PL/pgSQL function "))
        .filter_map(|line| line.split(':').next())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields<'a>(
        code: &'a str,
        message: &'a str,
        detail: Option<&'a str>,
        context: Option<&'a str>,
    ) -> Fields<'a> {
        Fields { code, message, detail, context }
    }

    #[test]
    fn the_key_of_a_duplicate_is_named_without_its_value() {
        let detail_of = |detail| safe_detail(&fields("23505", "", Some(detail), None));
        assert_eq!(
            detail_of("Key (key)=(s3cr3t) already exists.").as_deref(),
            Some("Key (key) already exists.")
        );
        assert_eq!(
            detail_of("Key (lower(username))=(a) already exists.").as_deref(),
            Some("Key (lower(username)) already exists.")
        );
        assert_eq!(
            detail_of("Key (key)=(a) already exists. s3cr3t) already exists.").as_deref(),
            Some("Key (key) already exists.")
        );
        assert_eq!(detail_of("Schlüssel »(key)=(s3cr3t)« existiert bereits."), None);
    }

    #[test]
    fn the_key_of_a_missing_parent_is_named_without_its_value() {
        let detail = "Key (consumer_id, ws_id)=(a, b) is not present in table \"consumers\".";
        assert_eq!(
            safe_detail(&fields("23503", "", Some(detail), None)).as_deref(),
            Some("Key (consumer_id, ws_id) is not present in table \"consumers\".")
        );
    }

    #[test]
    fn rows_are_never_shown() {
        let detail = "Failing row contains (1, s3cr3t).";
        assert_eq!(safe_detail(&fields("23502", "", Some(detail), None)), None);
        assert_eq!(safe_detail(&fields("23514", "", Some(detail), None)), None);
        assert_eq!(safe_detail(&fields("22P02", "", Some("Token \"s3cr3t\" is invalid."), None)), None);
        assert_eq!(safe_detail(&fields("P0001", "", Some("s3cr3t"), None)), None);
    }

    #[test]
    fn details_about_locks_and_limits_are_shown() {
        let detail = "Process 1 waits for ShareLock on transaction 2; blocked by process 3.";
        assert_eq!(safe_detail(&fields("40P01", "", Some(detail), None)).as_deref(), Some(detail));
    }

    #[test]
    fn messages_about_values_lose_them_in_every_language() {
        let message_of = |message| safe_message(&fields("22P02", message, None, None));
        assert_eq!(
            message_of("invalid input syntax for type uuid: \"s3cr3t\""),
            "invalid input syntax for type uuid: …"
        );
        assert_eq!(message_of("value \"s3cr3t\" is out of range"), "value \"…\" is out of range");
        assert_eq!(message_of("value \"s3c\"r3t\" is out of range"), "value \"…\" is out of range");
        assert!(!message_of("Wert »s3cr3t« ist außerhalb des Bereichs").contains("s3cr3t"));
        assert!(!message_of("invalid byte sequence for encoding \"UTF8\": 0x73 0x33").contains("0x73"));
    }

    #[test]
    fn other_messages_stay_whole() {
        let message = "duplicate key value violates unique constraint \"keyauth_credentials_key_key\"";
        assert_eq!(safe_message(&fields("23505", message, None, None)), message);
    }

    #[test]
    fn the_context_of_copy_ends_before_the_value() {
        let context = "COPY basicauth_credentials, line 3, column password: \"s3cr3t\"\nSQL statement \"insert s3cr3t\"\n\
                       PL/pgSQL function sync_tags() line 3 at SQL statement";
        assert_eq!(
            safe_context(&fields("22P02", "", None, Some(context))),
            [
                "COPY basicauth_credentials, line 3, column password",
                "PL/pgSQL function sync_tags() line 3 at SQL statement"
            ]
        );
    }

    #[test]
    fn a_missing_right_is_a_refusal_and_a_lost_server_a_connection_error() {
        assert_eq!(kind("42501"), Kind::Refused);
        assert_eq!(kind("57P01"), Kind::Connection);
        assert_eq!(kind("08006"), Kind::Connection);
        assert_eq!(kind("23505"), Kind::Server);
    }
}
