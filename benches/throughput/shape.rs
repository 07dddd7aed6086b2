//! Which rows are moved: the shapes that databases of Kong have.

use std::fmt;

use kongferry::error::{Error, Result};
use kongferry_harness::keyspace::Keyspace;
use kongferry_harness::{fill, shapes};
use uuid::Uuid;

/// Kind and number of the rows.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    kind: Kind,
    n: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Consumers,
    Plugins,
    Routes,
    Tokens,
    Enterprise,
}

impl Shape {
    pub fn new(name: &str, n: u64) -> Result<Shape> {
        let kind = match name {
            "consumers" => Kind::Consumers,
            "plugins" => Kind::Plugins,
            "routes" => Kind::Routes,
            "tokens" => Kind::Tokens,
            "enterprise" => Kind::Enterprise,
            _ => {
                return Err(Error::usage(format!(
                    "SHAPE is consumers, plugins, routes, tokens or enterprise, not {name}"
                )));
            }
        };
        Ok(Shape { kind, n: n.max(100) })
    }

    /// The number of rows of a shape by default.
    pub fn usual(name: &str) -> u64 {
        match name {
            "plugins" => 20_000,
            "routes" => 100_000,
            "tokens" => 1_000_000,
            "enterprise" => 150_000,
            _ => 250_000,
        }
    }

    /// The line of Kong versions whose tables are used.
    pub fn line(&self) -> &'static str {
        match self.kind {
            Kind::Enterprise => "enterprise-3.3",
            Kind::Consumers | Kind::Plugins | Kind::Routes | Kind::Tokens => "3.3",
        }
    }

    /// The tables with the many rows.
    pub fn tables(&self) -> &'static [&'static str] {
        match self.kind {
            Kind::Consumers => &["consumers", "basicauth_credentials", "keyauth_credentials", "acls"],
            Kind::Plugins => &["consumers", "plugins"],
            Kind::Routes => &["services", "routes"],
            Kind::Tokens => &["consumers", "oauth2_credentials", "oauth2_tokens"],
            Kind::Enterprise => shapes::ENTERPRISE_TABLES,
        }
    }

    pub async fn fill(&self, keyspace: &Keyspace, workspace: Uuid) -> Result<()> {
        match self.kind {
            Kind::Consumers => fill::fill(keyspace, workspace, self.n).await,
            Kind::Plugins => shapes::plugins(keyspace, workspace, self.n).await,
            Kind::Routes => shapes::routes(keyspace, workspace, self.n).await,
            Kind::Tokens => shapes::tokens(keyspace, workspace, self.n).await,
            Kind::Enterprise => shapes::enterprise(keyspace, workspace, self.n).await,
        }
    }

    /// Changes one row in a hundred, others in each round.
    pub async fn change(&self, keyspace: &Keyspace, workspace: Uuid, round: u32) -> Result<()> {
        let numbers = (u64::from(round % 100)..self.n).step_by(100);
        match self.kind {
            Kind::Consumers => fill::change(keyspace, workspace, numbers, round).await,
            Kind::Plugins => shapes::change_plugins(keyspace, numbers, round).await,
            Kind::Routes => shapes::change_routes(keyspace, numbers, round).await,
            Kind::Tokens => shapes::change_tokens(keyspace, numbers, round).await,
            Kind::Enterprise => shapes::change_enterprise(keyspace, workspace, numbers, round).await,
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.n;
        match self.kind {
            Kind::Consumers => write!(f, "{n} consumers, each with basic-auth, key-auth and an acl"),
            Kind::Plugins => write!(f, "{n} plugins with 20 KB of configuration each"),
            Kind::Routes => write!(f, "{n} routes, which are one partition"),
            Kind::Tokens => write!(f, "{n} oauth2 tokens that expire"),
            Kind::Enterprise => write!(
                f,
                "{n} consumers with a key, and {n} RBAC users with a role, its endpoint and its entity, of Enterprise"
            ),
        }
    }
}
