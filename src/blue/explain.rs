//! Explains the driver's errors to the operator: the cause, and what to do.

use std::error::Error as StdError;
use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use scylla::errors::{
    ConnectionError, ConnectionPoolError, ConnectionSetupRequestErrorKind, DbError, MetadataError,
    NewSessionError, RequestAttemptError,
};

use super::config::{BlueConfig, ContactPoint, PASSWORD_VARIABLE, ReadConsistency, TlsMode};
use super::failure::{Cause, ReadFailure};
use super::node::Node;
use super::tls;
use crate::error::{Error, Kind};

/// Where an option can be set.
pub(super) const WHERE: &str = "in the address of blue or with --blue-options";

/// Explains why a request failed; `nodes` are those of the cluster as we see them now.
pub(super) fn request(failure: ReadFailure, config: &BlueConfig, nodes: &[Node], action: &str) -> Error {
    match failure.0 {
        Cause::Attempt(RequestAttemptError::DbError(error, text)) => server(error, &text, config, nodes, action),
        Cause::Attempt(RequestAttemptError::BrokenConnectionError(e)) => lost(action).source(e),
        Cause::Attempt(e) => Error::new(Kind::Server, action).source(e),
        Cause::Timeout(waited) => with_nodes(
            Error::new(Kind::Connection, format!("{action}: no answer within {} s", waited.as_secs_f64())),
            nodes,
        )
        .remedy(format!(
            "Set a longer request_timeout=… or a smaller page_size=… {WHERE}, and check the load of blue's nodes."
        )),
        Cause::NoConnection(e) => with_nodes(lost(action), nodes).source(e),
        Cause::Other(e) => Error::new(Kind::Server, action).source(e),
    }
}

fn lost(action: &str) -> Error {
    Error::new(Kind::Connection, format!("{action}: the connection to blue was lost"))
        .remedy("Check that blue's nodes are running, then run the command again.")
}

fn server(error: DbError, text: &str, config: &BlueConfig, nodes: &[Node], action: &str) -> Error {
    let level = config.consistency;
    match error {
        DbError::Unavailable { required, alive, .. } => {
            let message = format!(
                "{action}: {alive} of {required} replicas are up, consistency {level} needs {required}"
            );
            too_few(message, required, alive, config, nodes)
        }
        DbError::ReadTimeout { required, received, .. } => {
            let message = format!(
                "{action}: {received} of {required} replicas answered in time, consistency {level} needs {required}"
            );
            too_few(message, required, received, config, nodes)
        }
        DbError::ReadFailure { numfailures, .. } => Error::new(
            Kind::Server,
            format!("{action}: {numfailures} replica(s) failed while reading"),
        )
        .detail(text)
        .remedy(format!(
            "Read the system.log of blue's nodes; if it names tombstones, set a smaller page_size=… {WHERE}."
        )),
        DbError::Unauthorized => Error::refused(format!("{action}: the role lacks the SELECT permission"))
            .detail(text)
            .remedy(format!(
                "Ask an administrator for: GRANT SELECT ON KEYSPACE \"{}\" TO \"{}\".",
                config.keyspace,
                config.username.as_deref().unwrap_or("…")
            )),
        DbError::Overloaded => Error::new(Kind::Server, format!("{action}: blue is overloaded"))
            .detail(text)
            .remedy(format!("Wait until its load is lower, or set a smaller page_size=… {WHERE}.")),
        // The statement was valid when it was prepared: a table or column was dropped since, or has another type.
        DbError::Invalid => Error::refused(format!("{action}: its definition changed after the run began"))
            .detail(format!("Cassandra reports: {text}"))
            .remedy(
                "Do not run Kong's migrations or change the keyspace during a run; run the command again.",
            ),
        other => Error::new(Kind::Server, action).detail(format!("Cassandra reports: {text} ({other})")),
    }
}

/// The error for "not enough replicas": which nodes are down, and what the choices are.
fn too_few(message: String, required: i32, there: i32, config: &BlueConfig, nodes: &[Node]) -> Error {
    let error = with_nodes(Error::new(Kind::Connection, message), nodes);
    let start = "Restart the node and run the command again";
    match weaker(config.consistency, required, there) {
        Some(weaker) => error.remedy(format!(
            "{start}, or set consistency={} {WHERE}; its risk: {}",
            weaker.name(),
            weaker.risk()
        )),
        None => error.remedy(format!("{start}.")),
    }
}

/// The safest consistency that can be had with the replicas that are there.
fn weaker(consistency: ReadConsistency, required: i32, there: i32) -> Option<ReadConsistency> {
    let quorum = required / 2 + 1;
    match consistency {
        _ if there < 1 => None,
        // What ALL requires is the number of replicas; of two, most are both.
        ReadConsistency::All if quorum < required && there >= quorum => Some(ReadConsistency::Quorum),
        ReadConsistency::LocalQuorum => Some(ReadConsistency::LocalOne),
        ReadConsistency::LocalOne | ReadConsistency::One => None,
        _ => Some(ReadConsistency::One),
    }
}

fn with_nodes(error: Error, nodes: &[Node]) -> Error {
    let down: Vec<&Node> = nodes.iter().filter(|node| !node.up).collect();
    if nodes.is_empty() {
        return error;
    }
    if down.is_empty() {
        return error.detail(
            "kongferry is connected to every node: one is slow, or other nodes consider it down (see nodetool status)",
        );
    }
    down.into_iter().fold(error, |error, node| error.detail(format!("down: {node}")))
}

/// Explains why no session could be opened. May open one more connection, to recognise a server that requires TLS.
pub(super) async fn connect(error: &NewSessionError, config: &BlueConfig) -> Error {
    if let NewSessionError::FailedToResolveAnyHostname(_) = error {
        return Error::new(
            Kind::Connection,
            format!("no host name of blue can be resolved: {}", config.hosts()),
        )
        .remedy("Check the spelling, or give an IP address.");
    }
    match connection_error(error) {
        Some(cause) => connection(cause, config).await,
        None => other(error, config).await,
    }
}

/// The error of the last connection that was tried, if that is what stopped the session.
fn connection_error(error: &NewSessionError) -> Option<&ConnectionError> {
    match error {
        NewSessionError::MetadataError(MetadataError::ConnectionPoolError(ConnectionPoolError::Broken {
            last_connection_error,
            ..
        })) => Some(last_connection_error),
        _ => None,
    }
}

async fn connection(error: &ConnectionError, config: &BlueConfig) -> Error {
    if let Some(explained) = tls_error(error, config) {
        return explained;
    }
    match error {
        ConnectionError::ConnectTimeout => {
            let seconds = config.connect_timeout.as_secs_f64();
            unreachable_host(config, &format!("no answer within {seconds} s")).remedy(format!(
                "Check address, port and firewall, or set a longer connect_timeout=… {WHERE}."
            ))
        }
        ConnectionError::IoError(e) if e.kind() == ErrorKind::ConnectionRefused => {
            unreachable_host(config, "connection refused")
                .remedy("Check the port, and start_native_transport and rpc_address in cassandra.yaml.")
        }
        ConnectionError::ConnectionSetupRequestError(setup) => match setup.get_error() {
            ConnectionSetupRequestErrorKind::DbError(DbError::AuthenticationError, text) => {
                login(config, text)
            }
            ConnectionSetupRequestErrorKind::MissingAuthentication => missing_password(config),
            ConnectionSetupRequestErrorKind::DbError(_, text) => {
                Error::new(Kind::Connection, format!("blue at {} refuses the connection", config.hosts()))
                    .detail(format!("Cassandra reports: {text}"))
            }
            _ => other(error, config).await,
        },
        _ => other(error, config).await,
    }
}

fn unreachable_host(config: &BlueConfig, reason: &str) -> Error {
    Error::new(Kind::Connection, format!("cannot reach blue at {}: {reason}", config.hosts()))
}

fn login(config: &BlueConfig, text: &str) -> Error {
    let user = config.username.as_deref().unwrap_or_default();
    Error::new(Kind::Connection, format!("blue refuses the login of \"{user}\""))
        .detail(format!("Cassandra reports: {text}"))
        .remedy(format!("Check the user in the address of blue and the password in {PASSWORD_VARIABLE}."))
}

fn missing_password(config: &BlueConfig) -> Error {
    let (message, user) = match &config.username {
        Some(user) => (format!("blue requires a password for \"{user}\", and none is given"), ""),
        None => (
            "blue requires a user and a password, and none is given".to_owned(),
            "Give the user before the host (cassandra://user@host/…). ",
        ),
    };
    Error::new(Kind::Connection, message)
        .remedy(format!("{user}Set {PASSWORD_VARIABLE}, or pass --blue-password-file."))
}

/// Explains a failure of the encryption itself.
fn tls_error(error: &ConnectionError, config: &BlueConfig) -> Option<Error> {
    if config.tls.mode == TlsMode::Off {
        return None;
    }
    let cause = match error {
        ConnectionError::IoError(e) => e.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()),
        _ => None,
    };
    match cause {
        Some(rustls::Error::InvalidCertificate(_)) => cause.map(|cause| certificate(cause, config)),
        Some(rustls::Error::InvalidMessage(_)) => Some(plain_server(config)),
        // With TLS 1.3 a server says only after the handshake that it misses our certificate; by then the driver
        // has wrapped it so often that nothing but the text is left.
        _ if error.to_string().contains("received fatal alert") => Some(alert(error, config)),
        Some(other) => Some(
            Error::new(Kind::Connection, format!("TLS to blue at {} failed", config.hosts()))
                .source(other.clone())
                .remedy("Check the tls options in the address of blue and client_encryption_options in cassandra.yaml."),
        ),
        // The plain server of a test or of another kind hangs up on the first byte it does not understand.
        None => {
            matches!(error, ConnectionError::IoError(e) if hung_up(e.kind())).then(|| plain_server(config))
        }
    }
}

fn hung_up(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}

fn certificate(cause: &rustls::Error, config: &BlueConfig) -> Error {
    let error =
        Error::new(Kind::Connection, format!("the certificate of blue at {} is not trusted", config.hosts()))
            .source(cause.clone());
    if tls::is_wrong_name(cause) {
        return error.remedy(
            "Give a host name that the certificate contains (as subject alternative name), or use tls=verify-ca, \
             which checks the issuer only, as Kong does.",
        );
    }
    error.remedy(
        "Give the file of the certificate authority (tls_ca=FILE), or use tls=require, which encrypts without checking the \
         certificate.",
    )
}

fn plain_server(config: &BlueConfig) -> Error {
    Error::new(Kind::Connection, format!("blue at {} does not support TLS", config.hosts())).remedy(
        "Use tls=off, or the port for encrypted clients (native_transport_port_ssl in cassandra.yaml).",
    )
}

fn alert(error: &ConnectionError, config: &BlueConfig) -> Error {
    let message = format!("blue at {} aborts the TLS handshake", config.hosts());
    let error = Error::new(Kind::Connection, message).source(error.clone());
    match config.tls.client {
        None => error.remedy(
            "It probably requires a client certificate (require_client_auth): add tls_cert=… and tls_key=….",
        ),
        Some(_) => {
            error.remedy("Check that blue trusts the issuer of tls_cert, and which TLS versions it allows.")
        }
    }
}

/// A connection that was accepted and then broke, or an answer that is not Cassandra's.
async fn other(error: &(impl StdError + Clone + Send + Sync + 'static), config: &BlueConfig) -> Error {
    if let Some(error) = requires_tls(config).await {
        return error;
    }
    Error::new(
        Kind::Connection,
        format!("the server at {}, given as blue, does not speak the CQL protocol", config.hosts()),
    )
    .source(error.clone())
    .remedy("Check that this is Cassandra's port for clients (native_transport_port, 9042 by default).")
}

/// The error for a server that accepted the connection and sent nothing.
pub(super) async fn silent(config: &BlueConfig, waited: Duration) -> Error {
    if let Some(error) = requires_tls(config).await {
        return error;
    }
    unreachable_host(
        config,
        &format!("it accepts the connection, but does not answer within {} s", waited.as_secs()),
    )
    .remedy("Check that this is Cassandra's port for clients (native_transport_port, 9042 by default).")
}

async fn requires_tls(config: &BlueConfig) -> Option<Error> {
    if config.tls.mode != TlsMode::Off {
        return None;
    }
    for point in &config.contact_points {
        if speaks_tls(point.clone(), config.connect_timeout).await {
            return Some(
                Error::new(Kind::Connection, format!("blue at {point} requires TLS, and TLS is off")).remedy(
                    format!(
                        "Set tls=verify&tls_ca=FILE {WHERE}, or tls=require to encrypt without checking."
                    ),
                ),
            );
        }
    }
    None
}

/// Whether the server answers a TLS greeting with a TLS record. Sends nothing but the greeting.
async fn speaks_tls(point: ContactPoint, timeout: Duration) -> bool {
    let greeted = tokio::task::spawn_blocking(move || greet(&point, timeout)).await;
    // 22 begins a handshake record, 21 an alert: a server that dislikes the greeting speaks TLS all the same.
    matches!(greeted, Ok(Some(21 | 22)))
}

fn greet(point: &ContactPoint, timeout: Duration) -> Option<u8> {
    use std::net::{TcpStream, ToSocketAddrs};
    let address = (point.host.as_str(), point.port).to_socket_addrs().ok()?.next()?;
    let mut stream = TcpStream::connect_timeout(&address, timeout).ok()?;
    stream.set_read_timeout(Some(timeout)).ok()?;
    let name = rustls_pki_types::ServerName::IpAddress(address.ip().into());
    let mut tls = rustls::ClientConnection::new(tls::probe_config()?, name).ok()?;
    let mut greeting = Vec::new();
    tls.write_tls(&mut greeting).ok()?;
    stream.write_all(&greeting).ok()?;
    let mut first = [0_u8];
    stream.read_exact(&mut first).ok()?;
    first.first().copied()
}

#[cfg(test)]
mod tests {
    use scylla::errors::ExecutionError;

    use super::*;

    fn config() -> BlueConfig {
        BlueConfig::parse("cassandra://reader@db1/kong").expect("an address")
    }

    fn node(address: &str, up: bool) -> Node {
        Node { address: address.to_owned(), datacenter: Some("dc1".to_owned()), rack: None, up }
    }

    fn answered(error: DbError, config: &BlueConfig, nodes: &[Node]) -> Error {
        let failure = ReadFailure::from(RequestAttemptError::DbError(error, "the server's text".to_owned()));
        request(failure, config, nodes, "cannot read table \"routes\"")
    }

    fn unavailable(required: i32, alive: i32) -> DbError {
        DbError::Unavailable { consistency: scylla::statement::Consistency::All, required, alive }
    }

    #[test]
    fn a_replica_that_is_down_is_named_with_the_choices_and_their_risk() {
        let nodes = [node("10.0.0.1:9042", true), node("10.0.0.3:9042", false)];
        let error = answered(unavailable(3, 2), &config(), &nodes);
        assert_eq!(error.kind(), Kind::Connection);
        assert_eq!(
            error.message(),
            "cannot read table \"routes\": 2 of 3 replicas are up, consistency ALL needs 3"
        );
        assert_eq!(error.details(), ["down: 10.0.0.3:9042 (datacenter dc1)"]);
        let remedy = error.remedy_text().expect("a remedy");
        assert!(remedy.contains("Restart the node") && remedy.contains("consistency=quorum"), "{remedy}");
        assert!(remedy.contains(ReadConsistency::Quorum.risk()), "{remedy}");
    }

    #[test]
    fn only_a_consistency_that_can_be_had_is_offered() {
        assert_eq!(weaker(ReadConsistency::All, 3, 2), Some(ReadConsistency::Quorum));
        assert_eq!(weaker(ReadConsistency::All, 2, 1), Some(ReadConsistency::One));
        assert_eq!(weaker(ReadConsistency::All, 5, 2), Some(ReadConsistency::One));
        assert_eq!(weaker(ReadConsistency::All, 1, 0), None);
        assert_eq!(weaker(ReadConsistency::LocalQuorum, 2, 1), Some(ReadConsistency::LocalOne));
        assert_eq!(weaker(ReadConsistency::One, 1, 0), None);
    }

    #[test]
    fn a_node_that_only_its_peers_miss_is_a_matter_for_nodetool() {
        let error = answered(unavailable(3, 2), &config(), &[node("10.0.0.1:9042", true)]);
        assert!(error.details().iter().any(|line| line.contains("nodetool status")));
    }

    #[test]
    fn a_missing_right_is_refused_with_the_grant_to_ask_for() {
        let error = answered(DbError::Unauthorized, &config(), &[]);
        assert_eq!(error.kind(), Kind::Refused);
        assert!(
            error
                .remedy_text()
                .is_some_and(|text| text.contains("GRANT SELECT ON KEYSPACE \"kong\" TO \"reader\""))
        );
    }

    #[test]
    fn our_own_time_out_tells_which_option_to_change() {
        let failure = ReadFailure::from(ExecutionError::RequestTimeout(Duration::from_millis(1500)));
        let error = request(failure, &config(), &[], "cannot read");
        assert_eq!(error.message(), "cannot read: no answer within 1.5 s");
        assert!(error.remedy_text().is_some_and(|text| text.contains("request_timeout=")));
    }
}
