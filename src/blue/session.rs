//! One session to blue, and the errors of opening it.
//!
//! Blue is only read: nothing in this file, and nothing that uses it, sends a write. Statements name their table with
//! [`Blue::table`]; the session has no current keyspace.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use scylla::client::SelfIdentity;
use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::{Session, TlsContext};
use scylla::client::session_builder::SessionBuilder;
use scylla::policies::load_balancing::{DefaultPolicy, LoadBalancingPolicy};
use secrecy::ExposeSecret;

use super::config::BlueConfig;
use super::explain;
use super::failure::ReadFailure;
use super::node::Node;
use super::throttle::Throttle;
use super::tls;
use super::token;
use crate::error::{Error, Kind, Result};

pub struct Blue {
    session: Session,
    config: BlueConfig,
    cluster_name: String,
    release_version: String,
    load_balancing: Arc<dyn LoadBalancingPolicy>,
    throttle: Throttle,
}

impl fmt::Debug for Blue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blue")
            .field("config", &self.config)
            .field("cluster_name", &self.cluster_name)
            .finish()
    }
}

impl Blue {
    /// Opens the session and checks that the keyspace and the datacenter exist. Does not look into the keyspace.
    pub async fn connect(config: &BlueConfig) -> Result<Blue> {
        let tls = tls::client_config(config)?;
        let load_balancing = load_balancing(config);
        let session = Box::pin(open(config, load_balancing.clone(), tls)).await?;
        let state = session.get_cluster_state();
        let mut blue = Blue {
            session,
            config: config.clone(),
            cluster_name: state.cluster_name().to_owned(),
            release_version: String::new(),
            load_balancing,
            throttle: Throttle::new(parallel_requests(state.get_nodes_info().len())),
        };
        blue.check_nodes()?;
        let local = "SELECT release_version, partitioner FROM system.local";
        let mut rows: Vec<(String, String)> = blue.rows(local, (), "cannot read blue's version").await?;
        let (version, partitioner) = rows.pop().unwrap_or_default();
        check_partitioner(&partitioner)?;
        blue.release_version = version;
        blue.check_datacenter()?;
        blue.check_keyspace().await?;
        Ok(blue)
    }

    /// The driver's session. Its default profile has the consistency, datacenter and time-out of the configuration.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Which node a request goes to, unless it says otherwise.
    pub(super) fn load_balancing(&self) -> Arc<dyn LoadBalancingPolicy> {
        self.load_balancing.clone()
    }

    /// What holds back requests for pages when blue cannot keep up.
    pub(super) fn throttle(&self) -> &Throttle {
        &self.throttle
    }

    /// How many pages may be asked for at the same time, by our cores and blue's nodes.
    pub fn parallel(&self) -> usize {
        self.throttle.most()
    }

    /// What the session was opened with.
    pub fn config(&self) -> &BlueConfig {
        &self.config
    }

    /// Kong's keyspace, unquoted.
    pub fn keyspace(&self) -> &str {
        &self.config.keyspace
    }

    /// A table of the keyspace as CQL text, quoted: `"kong"."routes"`.
    pub fn table(&self, table: &str) -> String {
        format!("{}.{}", quote(&self.config.keyspace), quote(table))
    }

    /// The cluster's name as its nodes report it.
    pub fn cluster_name(&self) -> &str {
        &self.cluster_name
    }

    /// The version of the node that answered; others may run another one during an upgrade.
    pub fn release_version(&self) -> &str {
        &self.release_version
    }

    /// All nodes of the cluster, sorted by address.
    pub fn nodes(&self) -> Vec<Node> {
        let state = self.session.get_cluster_state();
        let mut nodes: Vec<Node> = state
            .get_nodes_info()
            .iter()
            .map(|node| Node {
                address: std::net::SocketAddr::new(node.address.ip(), node.address.port()).to_string(),
                datacenter: node.datacenter.clone(),
                rack: node.rack.clone(),
                up: node.is_connected(),
            })
            .collect();
        nodes.sort_by(|a, b| a.address.cmp(&b.address));
        nodes
    }

    /// Turns the driver's error about a request into ours. `action` is the beginning of the message, such as
    /// `cannot read table "routes"`.
    pub fn explain(&self, error: impl Into<ReadFailure>, action: &str) -> Error {
        explain::request(error.into(), &self.config, &self.nodes(), action)
    }

    /// The driver needs one contact point to learn where the nodes are; then it needs a node.
    fn check_nodes(&self) -> Result<()> {
        let nodes = self.nodes();
        if nodes.iter().any(|node| node.up) {
            return Ok(());
        }
        let message =
            format!("blue answers at {}, but none of its nodes can be reached", self.config.hosts());
        let error = nodes.iter().fold(Error::new(Kind::Connection, message), |error, node| {
            error.detail(format!("advertised address: {node}"))
        });
        Err(error.remedy(
            "Run kongferry where these addresses are reachable (a port forward or tunnel is not enough), or set \
             broadcast_rpc_address in cassandra.yaml to reachable addresses.",
        ))
    }

    fn check_datacenter(&self) -> Result<()> {
        let mut known: Vec<String> = self.nodes().into_iter().filter_map(|node| node.datacenter).collect();
        known.sort();
        known.dedup();
        match &self.config.datacenter {
            Some(datacenter) if !known.contains(datacenter) => {
                Err(Error::usage(format!("blue has no datacenter \"{datacenter}\""))
                    .remedy(format!("Set dc to one of {}; names are case-sensitive.", list(&known))))
            }
            None if self.config.consistency.is_local() && known.len() > 1 => Err(Error::usage(format!(
                "consistency {} requires a datacenter, and blue has {} of them",
                self.config.consistency,
                known.len()
            ))
            .remedy(format!("Set dc=… {}, to one of {}.", explain::WHERE, list(&known)))),
            _ => Ok(()),
        }
    }

    async fn check_keyspace(&self) -> Result<()> {
        let keyspace = self.keyspace();
        let cql = "SELECT keyspace_name FROM system_schema.keyspaces";
        let rows: Vec<(String,)> = self.rows(cql, (), "cannot list blue's keyspaces").await?;
        let mut found: Vec<String> =
            rows.into_iter().map(|(name,)| name).filter(|name| !is_system(name)).collect();
        found.sort();
        if found.iter().any(|name| name == keyspace) {
            return Ok(());
        }
        let error = Error::new(Kind::Connection, format!("blue has no keyspace \"{keyspace}\""));
        Err(match found.iter().find(|name| name.eq_ignore_ascii_case(keyspace)) {
            Some(other) => error.remedy(format!("Use \"{other}\": names are case-sensitive.")),
            None if found.is_empty() => error.remedy(
                "Check that the address is that of Kong's cluster: this one has only system keyspaces.",
            ),
            None => error.remedy(format!(
                "Use cassandra_keyspace of Kong's configuration; the keyspaces are {}.",
                list(&found)
            )),
        })
    }
}

/// A name as CQL takes it literally.
pub fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn list(names: &[String]) -> String {
    names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
}

/// Two requests for each of our cores and for each node keep both busy; more would only wait there.
fn parallel_requests(nodes: usize) -> usize {
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    (2 * cores.max(nodes)).clamp(4, 32)
}

async fn open(
    config: &BlueConfig,
    load_balancing: Arc<dyn LoadBalancingPolicy>,
    tls: Option<Arc<rustls::ClientConfig>>,
) -> Result<Session> {
    // The driver's own time-out covers the TCP connection only; a server of another kind may accept it and then say
    // nothing for ever.
    let points = u32::try_from(config.contact_points.len()).unwrap_or(u32::MAX);
    let patience = config.connect_timeout.saturating_mul(points.saturating_add(2)) + Duration::from_secs(10);
    match tokio::time::timeout(patience, builder(config, load_balancing, tls).build()).await {
        Ok(Ok(session)) => Ok(session),
        Ok(Err(error)) => Err(explain::connect(&error, config).await),
        Err(_) => Err(explain::silent(config, patience).await),
    }
}

fn builder(
    config: &BlueConfig,
    load_balancing: Arc<dyn LoadBalancingPolicy>,
    tls: Option<Arc<rustls::ClientConfig>>,
) -> SessionBuilder {
    let identity = SelfIdentity::new()
        .with_application_name("kongferry")
        .with_application_version(env!("CARGO_PKG_VERSION"));
    let mut builder = SessionBuilder::new()
        .known_nodes(config.contact_points.iter().map(ToString::to_string))
        .connection_timeout(config.connect_timeout)
        .default_execution_profile_handle(profile(config, load_balancing).into_handle())
        // Routing needs this keyspace's replication only; a shared cluster may have thousands of tables.
        .keyspaces_to_fetch([config.keyspace.clone()])
        .custom_identity(identity)
        .driver_config_reporting(false)
        .tls_context(tls.map(TlsContext::from));
    // Kong does the same: a user without a password means that the server asks for none.
    if let (Some(user), Some(password)) = (&config.username, &config.password) {
        builder = builder.user(user, password.expose_secret());
    }
    builder
}

fn profile(config: &BlueConfig, load_balancing: Arc<dyn LoadBalancingPolicy>) -> ExecutionProfile {
    ExecutionProfile::builder()
        .consistency(config.consistency.level())
        .request_timeout(Some(config.request_timeout))
        .load_balancing_policy(load_balancing)
        .build()
}

fn load_balancing(config: &BlueConfig) -> Arc<dyn LoadBalancingPolicy> {
    let policy = DefaultPolicy::builder().token_aware(true);
    match &config.datacenter {
        // A LOCAL_ level is counted in the coordinator's datacenter: going over to another one would silently mean
        // something else.
        Some(datacenter) => policy
            .prefer_datacenter(datacenter.clone())
            .permit_dc_failover(!config.consistency.is_local())
            .build(),
        None => policy.build(),
    }
}

/// Tables are read by ranges of Murmur3's tokens, which another partitioner does not have.
fn check_partitioner(partitioner: &str) -> Result<()> {
    if partitioner == token::PARTITIONER {
        return Ok(());
    }
    let short = partitioner.rsplit('.').next().unwrap_or(partitioner);
    Err(Error::refused(format!("blue's partitioner is {short}, and kongferry supports only Murmur3Partitioner"))
        .detail("Nothing was read and nothing was written.")
        .remedy(
            "Copy Kong's keyspace to a cluster with Murmur3Partitioner, Cassandra's default, and migrate from there (DSBulk \
             keeps TTLs); a cluster cannot change its partitioner.",
        ))
}

fn is_system(keyspace: &str) -> bool {
    keyspace == "system" || keyspace.starts_with("system_") || keyspace.starts_with("dse_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_so_that_case_and_quotes_survive() {
        assert_eq!(quote("Kong"), "\"Kong\"");
        assert_eq!(quote("a\"b"), "\"a\"\"b\"");
    }

    #[test]
    fn only_cassandras_own_keyspaces_are_system() {
        assert!(is_system("system"));
        assert!(is_system("system_auth"));
        assert!(!is_system("systemic"));
        assert!(!is_system("kong"));
    }
}
