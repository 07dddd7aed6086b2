//! Blue: a real Cassandra, open and with logins, rights and TLS.

use std::time::Duration;

use kongferry::blue::config::BlueConfig;
use kongferry::blue::session::Blue;
use kongferry::error::{Error, Kind};
use kongferry_harness::cassandra::{Cassandra, Endpoint, Options, Tls};
use kongferry_harness::certs::Certificates;
use kongferry_harness::lab;

use crate::{assert_tells, closed_port, file, loopback_proxy, text};

async fn connect(address: &str) -> Result<Blue, Error> {
    Blue::connect(&BlueConfig::parse(address).expect("an address")).await
}

async fn refused(address: &str) -> Error {
    connect(address).await.expect_err("should not connect")
}

async fn open() -> &'static Endpoint {
    lab().cassandra().await.expect("a Cassandra")
}

/// A keyspace of this name on the open server, replicated as said.
async fn keyspace(name: &str, replicas: u32) -> &'static Endpoint {
    let endpoint = open().await;
    let session = endpoint.session().await.expect("a session");
    let cql = format!(
        "CREATE KEYSPACE IF NOT EXISTS \"{name}\" WITH replication = \
         {{'class': 'SimpleStrategy', 'replication_factor': {replicas}}}"
    );
    session.query_unpaged(cql, ()).await.expect("a keyspace");
    endpoint
}

#[tokio::test]
async fn a_session_knows_its_cluster_and_nodes() {
    let endpoint = keyspace("Mixed_Case", 1).await;
    let blue = connect(&endpoint.url("Mixed_Case")).await.expect("connected");
    assert_eq!(blue.keyspace(), "Mixed_Case");
    assert_eq!(blue.table("routes"), "\"Mixed_Case\".\"routes\"");
    assert!(!blue.cluster_name().is_empty());
    assert!(blue.release_version().starts_with('5'), "{}", blue.release_version());
    let nodes = blue.nodes();
    assert_eq!(nodes.len(), 1);
    assert!(nodes.iter().all(|node| node.up && node.address == endpoint.contact_point), "{nodes:?}");
}

#[tokio::test]
async fn nothing_listens_at_a_wrong_port() {
    let error = refused(&format!("cassandra://127.0.0.1:{}/kong", closed_port())).await;
    assert_eq!(error.kind(), Kind::Connection);
    assert_tells(&error, &["cannot reach blue at 127.0.0.1:", "connection refused", "Check the port"]);
}

#[tokio::test]
async fn one_good_contact_point_among_bad_ones_is_enough() {
    let endpoint = keyspace("enough", 1).await;
    let address = format!(
        "cassandra://127.0.0.1:{},no-such-host.invalid,{}/enough",
        closed_port(),
        endpoint.contact_point
    );
    assert!(connect(&address).await.is_ok());
}

#[tokio::test]
async fn an_unresolvable_host_name_is_reported() {
    let error = refused("cassandra://no-such-host.invalid/kong").await;
    assert_eq!(error.kind(), Kind::Connection);
    assert_tells(&error, &["no host name of blue can be resolved", "no-such-host.invalid", "spelling"]);
}

#[tokio::test]
async fn a_missing_keyspace_is_reported_with_the_existing_ones() {
    let endpoint = keyspace("there", 1).await;
    let error = refused(&endpoint.url("elsewhere")).await;
    assert_eq!(error.kind(), Kind::Connection);
    assert_tells(&error, &["blue has no keyspace \"elsewhere\"", "\"there\"", "cassandra_keyspace"]);
    assert!(!text(&error).contains("system_schema"));
}

#[tokio::test]
async fn a_keyspace_in_the_wrong_case_is_reported() {
    let endpoint = keyspace("Case_Of_Kong", 1).await;
    let error = refused(&endpoint.url("case_of_kong")).await;
    assert_tells(&error, &["no keyspace \"case_of_kong\"", "Use \"Case_Of_Kong\""]);
}

#[tokio::test]
async fn an_unknown_datacenter_is_a_usage_error_with_the_known_ones() {
    let endpoint = keyspace("there", 1).await;
    let error = refused(&format!("{}?dc=nowhere", endpoint.url("there"))).await;
    assert_eq!(error.kind(), Kind::Usage);
    assert_tells(&error, &["blue has no datacenter \"nowhere\"", "Set dc to one of \"d"]);
}

#[tokio::test]
async fn a_local_consistency_and_the_datacenter_work_together() {
    let endpoint = keyspace("there", 1).await;
    let blue = connect(&endpoint.url("there")).await.expect("connected");
    let datacenter = blue.nodes().into_iter().find_map(|node| node.datacenter).expect("a datacenter");
    let address = format!("{}?consistency=local_quorum&dc={datacenter}", endpoint.url("there"));
    assert!(connect(&address).await.is_ok());
}

#[tokio::test]
async fn too_few_replicas_are_reported_and_a_lower_consistency_works() {
    let endpoint = keyspace("replicated", 2).await;
    let address = endpoint.url("replicated");
    let session = endpoint.session().await.expect("a session");
    let cql = "CREATE TABLE IF NOT EXISTS replicated.t (id int PRIMARY KEY)";
    session.query_unpaged(cql, ()).await.expect("a table");
    let read = |blue: Blue| async move {
        let cql = format!("SELECT id FROM {}", blue.table("t"));
        let result = blue.session().query_unpaged(cql, ()).await;
        result.map(|_| ()).map_err(|e| blue.explain(e, "cannot read table \"t\""))
    };
    let error = read(connect(&address).await.expect("connected")).await.expect_err("one node, two replicas");
    assert_eq!(error.kind(), Kind::Connection);
    assert_tells(
        &error,
        &[
            "cannot read table \"t\": 1 of 2 replicas are up, consistency ALL needs 2",
            "consistency=one",
            "A row is missed",
        ],
    );
    let blue = connect(&format!("{address}?consistency=one")).await.expect("connected");
    read(blue).await.expect("one replica is enough for ONE");
}

#[tokio::test]
async fn tls_required_of_a_plain_server_is_reported() {
    let endpoint = keyspace("there", 1).await;
    for tls in ["require", "verify-ca", "verify"] {
        let error = refused(&format!("{}?tls={tls}", endpoint.url("there"))).await;
        assert_eq!(error.kind(), Kind::Connection);
        assert_tells(&error, &["does not support TLS", "tls=off"]);
    }
}

#[tokio::test]
async fn nodes_with_an_unreachable_broadcast_address_are_reported() {
    // As through a port forward: the driver learns the node's own address and finds nothing there.
    let endpoint = keyspace("there", 1).await;
    let port = loopback_proxy::forward_from_loopback_alias(endpoint.contact_point.clone(), false).await;
    let error = refused(&format!("cassandra://127.0.0.2:{port}/there")).await;
    assert_eq!(error.kind(), Kind::Connection);
    let address = format!("127.0.0.1:{port}");
    assert_tells(&error, &["none of its nodes can be reached", &address, "broadcast_rpc_address"]);
}

#[tokio::test]
async fn a_postgresql_port_given_for_cassandra_is_reported() {
    let postgres = lab().postgres().await.expect("a PostgreSQL");
    let database = postgres.database("postgres");
    let options = database.options();
    let error =
        refused(&format!("cassandra://127.0.0.1:{}/kong?connect_timeout=1s", options.get_port())).await;
    assert_eq!(error.kind(), Kind::Connection);
    assert_tells(&error, &["does not speak the CQL protocol", "9042"]);
}

#[tokio::test]
async fn a_server_that_never_answers_times_out() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let error = refused(&format!("cassandra://127.0.0.1:{port}/kong?connect_timeout=200ms")).await;
    assert_eq!(error.kind(), Kind::Connection);
    assert_tells(&error, &["accepts the connection, but does not answer", "native_transport_port"]);
}

async fn secured() -> (&'static Endpoint, &'static Certificates) {
    let endpoint = lab().secured_cassandra().await.expect("a secured Cassandra");
    (endpoint, lab().certificates().await.expect("its certificates"))
}

/// The address of the secured server with these options, for `user`.
fn at(endpoint: &Endpoint, user: &str, options: &str) -> BlueConfig {
    let address = format!("cassandra://{user}@{}/system_auth?{options}", endpoint.contact_point);
    BlueConfig::parse(&address).expect("an address")
}

/// The keyspace is `system_auth`, which is there but not counted: a session that gets so far is refused for it.
async fn gets_in(config: BlueConfig) -> Result<(), Error> {
    match Blue::connect(&config).await {
        Err(error) if error.message().contains("blue has no keyspace \"system_auth\"") => Ok(()),
        other => other.map(|_| ()),
    }
}

#[tokio::test]
async fn the_right_password_connects_in_every_tls_mode() {
    let (endpoint, certificates) = secured().await;
    let ca = file(&certificates.ca);
    let ca = ca.path().display();
    for options in
        [format!("tls=verify&tls_ca={ca}"), format!("tls=verify-ca&tls_ca={ca}"), "tls=require".to_owned()]
    {
        let config = at(endpoint, "cassandra", &options).with_password("cassandra".into());
        gets_in(config).await.unwrap_or_else(|error| panic!("{options}: {}", text(&error)));
    }
}

#[tokio::test]
async fn a_wrong_password_is_reported_without_showing_it() {
    let (endpoint, _) = secured().await;
    let config = at(endpoint, "cassandra", "tls=require").with_password("s3cr3t".into());
    let error = gets_in(config).await.expect_err("a wrong password");
    assert_eq!(error.kind(), Kind::Connection);
    assert_tells(&error, &["refuses the login of \"cassandra\"", "KONGFERRY_BLUE_PASSWORD"]);
    assert!(!format!("{error:?}{}", text(&error)).contains("s3cr3t"));
}

#[tokio::test]
async fn a_missing_password_or_user_is_reported() {
    let (endpoint, _) = secured().await;
    let error = gets_in(at(endpoint, "cassandra", "tls=require")).await.expect_err("no password");
    assert_eq!(error.kind(), Kind::Connection);
    assert_tells(&error, &["requires a password for \"cassandra\"", "KONGFERRY_BLUE_PASSWORD"]);
    let error = gets_in(at(endpoint, "", "tls=require")).await.expect_err("no user");
    assert_tells(&error, &["requires a user and a password", "user@host"]);
}

#[tokio::test]
async fn a_server_that_requires_tls_is_reported() {
    let (endpoint, _) = secured().await;
    let config = at(endpoint, "cassandra", "tls=off").with_password("cassandra".into());
    let error = gets_in(config).await.expect_err("plain");
    assert_eq!(error.kind(), Kind::Connection);
    assert_tells(&error, &["requires TLS, and TLS is off", "tls=verify", "tls=require"]);
}

#[tokio::test]
async fn a_certificate_of_another_ca_is_not_trusted() {
    let (endpoint, _) = secured().await;
    let other = file(&Certificates::generate().expect("others").ca);
    let by_file = format!("tls=verify&tls_ca={}", other.path().display());
    for options in [by_file.as_str(), "tls=verify"] {
        let config = at(endpoint, "cassandra", options).with_password("cassandra".into());
        let error = gets_in(config).await.expect_err("another CA");
        assert_eq!(error.kind(), Kind::Connection);
        assert_tells(&error, &["is not trusted", "tls_ca=", "tls=require"]);
    }
}

#[tokio::test]
async fn a_certificate_must_be_for_the_address_or_a_name_in_it() {
    let (endpoint, certificates) = secured().await;
    let ca = file(&certificates.ca);
    let port = loopback_proxy::forward_from_loopback_alias(endpoint.contact_point.clone(), true).await;
    let config = |hosts: &str, tls: &str| {
        let address =
            format!("cassandra://cassandra@{hosts}/system_auth?tls={tls}&tls_ca={}", ca.path().display());
        BlueConfig::parse(&address).expect("an address").with_password("cassandra".into())
    };
    let error =
        gets_in(config(&format!("127.0.0.2:{port}"), "verify")).await.expect_err("not in the certificate");
    assert_eq!(error.kind(), Kind::Connection);
    assert_tells(&error, &["is not trusted", "host name that the certificate contains", "tls=verify-ca"]);
    gets_in(config(&format!("127.0.0.2:{port}"), "verify-ca")).await.expect("the issuer is right");
    // The second host is never reached, but its name is what the certificate may be for.
    gets_in(config(&format!("127.0.0.2:{port},localhost:{}", closed_port()), "verify"))
        .await
        .expect("its name");
}

#[tokio::test]
async fn tls_files_are_read_before_anything_connects() {
    let config = BlueConfig::parse("cassandra://no-such-host.invalid/kong?tls=verify&tls_ca=/nowhere/ca.pem");
    let error = Blue::connect(&config.expect("an address")).await.expect_err("no file");
    assert_eq!(error.kind(), Kind::Usage);
    assert_tells(&error, &["/nowhere/ca.pem", "tls_ca", "PEM"]);
    let not_pem = file("nothing");
    let address = format!("cassandra://no-such-host.invalid/kong?tls_ca={}", not_pem.path().display());
    let error = refused(&address).await;
    assert_eq!(error.kind(), Kind::Usage);
}

#[tokio::test]
async fn a_role_without_the_right_to_read_is_refused_with_the_grant() {
    let (endpoint, _) = secured().await;
    let session = endpoint.session().await.expect("a session");
    for cql in [
        "CREATE KEYSPACE IF NOT EXISTS hidden WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}",
        "CREATE TABLE IF NOT EXISTS hidden.t (id int PRIMARY KEY)",
        "CREATE ROLE IF NOT EXISTS nobody WITH PASSWORD = 'nobody' AND LOGIN = true",
    ] {
        session.query_unpaged(cql, ()).await.expect(cql);
    }
    let address = format!("cassandra://nobody@{}/hidden?tls=require", endpoint.contact_point);
    let config = BlueConfig::parse(&address).expect("an address").with_password("nobody".into());
    let blue = Blue::connect(&config).await.expect("whoever can log in may connect");
    let cql = format!("SELECT id FROM {}", blue.table("t"));
    let result = blue.session().query_unpaged(cql, ()).await;
    let error = blue.explain(result.expect_err("no right"), "cannot read table \"t\"");
    assert_eq!(error.kind(), Kind::Refused);
    assert_tells(
        &error,
        &["lacks the SELECT permission", "GRANT SELECT ON KEYSPACE \"hidden\" TO \"nobody\""],
    );
}

#[tokio::test]
async fn a_server_that_requires_a_client_certificate_is_reported() {
    let certificates = Certificates::generate().expect("certificates");
    let tls = Some(Tls { certificates: certificates.clone(), client_certificate_required: true });
    let cassandra =
        Cassandra::start(Options { heap_mb: 512, tls, ..Options::default() }).await.expect("a Cassandra");
    let (ca, certificate) = (file(&certificates.ca), file(&certificates.client.certificate));
    let key = file(&certificates.client.key);
    let address = format!(
        "cassandra://{}/system?connect_timeout=30s&tls=verify&tls_ca={}",
        cassandra.endpoint().contact_point,
        ca.path().display()
    );
    let error = refused(&address).await;
    assert_eq!(error.kind(), Kind::Connection);
    assert_tells(&error, &["aborts the TLS handshake", "tls_cert=", "tls_key="]);
    let files = format!("&tls_cert={}&tls_key={}", certificate.path().display(), key.path().display());
    let error = refused(&format!("{address}{files}")).await;
    assert_tells(&error, &["blue has no keyspace \"system\""]);
}

#[tokio::test]
async fn a_ring_without_murmur3_is_refused() {
    let options = Options { heap_mb: 512, partitioner: "RandomPartitioner", ..Options::default() };
    let cassandra = Cassandra::start(options).await.expect("a Cassandra");
    let error = refused(&cassandra.endpoint().url("kong")).await;
    assert_eq!(error.kind(), Kind::Refused);
    assert_tells(
        &error,
        &["blue's partitioner is RandomPartitioner", "supports only Murmur3Partitioner", "DSBulk"],
    );
}

#[tokio::test]
async fn a_node_that_is_killed_is_named() {
    let cassandra =
        Cassandra::start(Options { heap_mb: 512, ..Options::default() }).await.expect("a Cassandra");
    let endpoint = cassandra.endpoint();
    let session = endpoint.session().await.expect("a session");
    let cql = "CREATE KEYSPACE kong WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}";
    session.query_unpaged(cql, ()).await.expect("a keyspace");
    let blue = connect(&format!("{}?request_timeout=5s", endpoint.url("kong"))).await.expect("connected");
    cassandra.kill().await.expect("killed");
    // The driver takes a moment to see its connections end.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let result = blue.session().query_unpaged("SELECT release_version FROM system.local", ()).await;
    let error = blue.explain(result.expect_err("no server"), "cannot read");
    assert_eq!(error.kind(), Kind::Connection);
    assert_tells(&error, &["the connection to blue was lost", &format!("down: {}", endpoint.contact_point)]);
}
