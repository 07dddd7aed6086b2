//! How to reach a Cassandra, ours or another.

use std::sync::Arc;
use std::time::Duration;

use kongferry::error::Result;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::statement::Consistency;

use crate::certs::Identity;
use crate::context::Context;

/// Address, login and TLS of a Cassandra. It can be shared between threads and runtimes, which a session can not:
/// the driver's connections belong to the runtime that opened them, and every `#[tokio::test]` has its own.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// `host:port`.
    pub contact_point: String,
    /// User and password, if it asks for them.
    pub login: Option<Login>,
    /// What the client needs for TLS, if the server wants TLS.
    pub tls: Option<ClientTls>,
}

#[derive(Debug, Clone)]
pub struct Login {
    pub user: String,
    pub password: String,
}

impl Login {
    /// The superuser that every new Cassandra has.
    pub fn superuser() -> Self {
        Login { user: "cassandra".to_owned(), password: "cassandra".to_owned() }
    }
}

/// The client's side of TLS. The server is always verified.
#[derive(Debug, Clone)]
pub struct ClientTls {
    /// The CA by which the client knows the server, PEM.
    pub ca: String,
    /// What the client shows, where the server demands it.
    pub identity: Option<Identity>,
}

impl Endpoint {
    /// A Cassandra without login and TLS.
    pub fn open(contact_point: impl Into<String>) -> Self {
        Endpoint { contact_point: contact_point.into(), login: None, tls: None }
    }

    /// The same server for another role.
    #[must_use]
    pub fn with_login(mut self, user: &str, password: &str) -> Self {
        self.login = Some(Login { user: user.to_owned(), password: password.to_owned() });
        self
    }

    /// A new session in the runtime of the caller. It writes and reads at ONE, as Kong does unless told otherwise,
    /// does not wait for schema agreement after each statement, and keeps no copy of the schema.
    pub async fn session(&self) -> Result<Session> {
        let profile = ExecutionProfile::builder()
            .consistency(Consistency::One)
            .request_timeout(Some(Duration::from_secs(120)))
            .build();
        let mut builder = SessionBuilder::new()
            .default_execution_profile_handle(profile.into_handle())
            .known_node(&self.contact_point)
            .fetch_schema_metadata(false)
            .auto_await_schema_agreement(false)
            .refresh_metadata_on_auto_schema_agreement(false)
            .connection_timeout(Duration::from_secs(10))
            .tcp_nodelay(true);
        if let Some(login) = &self.login {
            builder = builder.user(&login.user, &login.password);
        }
        if let Some(tls) = &self.tls {
            builder = builder.tls_context(Some(tls.client_config()?));
        }
        builder.build().await.context(|| format!("cannot connect to Cassandra at {}", self.contact_point))
    }

    /// `cassandra://HOST:PORT/KEYSPACE`, without login and TLS options.
    pub fn url(&self, keyspace: &str) -> String {
        format!("cassandra://{}/{keyspace}", self.contact_point)
    }
}

impl ClientTls {
    fn client_config(&self) -> Result<Arc<ClientConfig>> {
        let config = self.try_client_config();
        Ok(Arc::new(config.context(|| "the client's certificates cannot be used".to_owned())?))
    }

    fn try_client_config(
        &self,
    ) -> std::result::Result<ClientConfig, Box<dyn std::error::Error + Send + Sync>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.ca.as_bytes())?)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let Some(identity) = &self.identity else { return Ok(builder.with_no_client_auth()) };
        let certificate = CertificateDer::from_pem_slice(identity.certificate.as_bytes())?;
        let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes())?;
        Ok(builder.with_client_auth_cert(vec![certificate], key)?)
    }
}
