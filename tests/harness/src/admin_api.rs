//! One node of Kong as its Admin API shows it, over the tables of a real database.
//!
//! As in Kong 2.8 and 3.x the id of the default workspace is read when the node starts, and everything is listed by
//! it: a node that has run since before a migration lists nothing.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kongferry::error::Result;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::context::Context;
use crate::metrics::Line;
use crate::postgres::Database;

#[derive(Debug, Clone)]
struct Node {
    line: Line,
    workspace: String,
    loaded: Vec<String>,
    reachable: bool,
    /// Data planes; none where the node is no control plane.
    data_planes: Option<Vec<Value>>,
    /// A header `Kong-Admin-Token` without which nothing is answered.
    token: Option<String>,
}

/// A running node; it ends on drop.
#[derive(Debug)]
pub struct AdminApi {
    address: SocketAddr,
    database: Database,
    node: Arc<Mutex<Node>>,
    server: JoinHandle<()>,
}

impl AdminApi {
    /// A node of this line that starts now, with every plugin loaded that is in use.
    pub async fn start(line: Line, database: &Database) -> Result<AdminApi> {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context(|| "no port is free".to_owned())?;
        let address = listener.local_addr().context(|| "no port is free".to_owned())?;
        let node = Node {
            line,
            workspace: default_workspace(database).await?,
            loaded: Vec::new(),
            reachable: true,
            data_planes: None,
            token: None,
        };
        let node = Arc::new(Mutex::new(node));
        let (shared, tables) = (node.clone(), database.clone());
        let server = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (node, tables) = (lock(&shared).clone(), tables.clone());
                tokio::spawn(async move {
                    let mut request = vec![0; 8192];
                    let length = stream.read(&mut request).await.unwrap_or(0);
                    let request = String::from_utf8_lossy(&request[..length]).into_owned();
                    let (status, body) = node.answer(&request, &tables).await;
                    let body = body.to_string();
                    let head = format!(
                        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                        body.len()
                    );
                    let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
                });
            }
        });
        Ok(AdminApi { address, database: database.clone(), node, server })
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Starts the node anew: it learns which workspace is the default one, and loads what is in use.
    pub async fn restart(&self) -> Result<()> {
        let workspace = default_workspace(&self.database).await?;
        let used = names(&self.database, &workspace).await?;
        let mut node = lock(&self.node);
        (node.workspace, node.loaded) = (workspace, used);
        Ok(())
    }

    /// Leaves a plugin out of `plugins` in its kong.conf.
    pub fn unload(&self, plugin: &str) {
        lock(&self.node).loaded.retain(|name| name != plugin);
    }

    /// Cuts it off from its database, or joins it again.
    pub fn reach_database(&self, reachable: bool) {
        lock(&self.node).reachable = reachable;
    }

    /// Makes it a control plane with these data planes: host name, `config_hash`, `sync_status`, and how many seconds
    /// ago it was heard of.
    pub fn data_planes(&self, planes: &[(&str, Option<&str>, &str, i64)]) {
        let now = std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs().cast_signed());
        let planes = planes.iter().map(|(name, hash, status, ago)| {
            json!({
                "id": uuid::Uuid::new_v4(), "ip": "127.0.0.1", "hostname": name, "version": "3.3.1",
                "config_hash": hash, "sync_status": status, "last_seen": now - ago, "ttl": 1_209_600,
            })
        });
        lock(&self.node).data_planes = Some(planes.collect());
    }

    /// Refuses requests without this token, as Kong Enterprise with RBAC does.
    pub fn ask_for(&self, token: &str) {
        lock(&self.node).token = Some(token.to_owned());
    }
}

impl Drop for AdminApi {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Node {
    async fn answer(&self, request: &str, tables: &Database) -> (&'static str, Value) {
        let path = request.split_whitespace().nth(1).unwrap_or_default();
        let path = path.split('?').next().unwrap_or_default();
        let shown = |token: &String| {
            request
                .to_ascii_lowercase()
                .contains(&format!("kong-admin-token: {}", token.to_ascii_lowercase()))
        };
        if self.token.as_ref().is_some_and(|token| !shown(token)) {
            return ("401 Unauthorized", json!({ "message": "Invalid credentials" }));
        }
        match path {
            "/" => ("200 OK", self.root(tables).await),
            "/status" => (
                "200 OK",
                json!({ "database": { "reachable": self.reachable }, "server": { "total_requests": 12 } }),
            ),
            "/clustering/data-planes" => match &self.data_planes {
                Some(planes) => ("200 OK", json!({ "data": planes, "next": null })),
                None => (
                    "400 Bad Request",
                    json!({ "message": "this endpoint is only available when Kong is configured to run as Control Plane for the cluster" }),
                ),
            },
            "/services" | "/routes" | "/consumers" | "/upstreams" | "/certificates" | "/plugins" => {
                let sql = format!(
                    "select to_jsonb(t) from {} t where ws_id = '{}' order by id limit 100",
                    path.trim_start_matches('/'),
                    self.workspace
                );
                match tables.json(&sql).await {
                    Ok(rows) => ("200 OK", json!({ "data": rows, "next": null })),
                    Err(_) => {
                        ("500 Internal Server Error", json!({ "message": "An unexpected error occurred" }))
                    }
                }
            }
            _ => ("404 Not Found", json!({ "message": "Not found" })),
        }
    }

    async fn root(&self, tables: &Database) -> Value {
        let used = names(tables, &self.workspace).await.unwrap_or_default();
        let loaded = self.loaded.iter().map(|name| match self.line {
            Line::Two => (name.clone(), Value::Bool(true)),
            Line::Three => (name.clone(), json!({ "version": "3.3.1", "priority": 1000 })),
        });
        let version = match self.line {
            Line::Two => "2.8.5",
            Line::Three => "3.3.1",
        };
        json!({
            "version": version, "tagline": "Welcome to kong", "hostname": "green-1", "node_id": uuid::Uuid::nil(),
            "plugins": { "enabled_in_cluster": used, "available_on_server": loaded.collect::<Map<_, _>>() },
        })
    }
}

async fn default_workspace(database: &Database) -> Result<String> {
    let rows = database.json("select to_jsonb(id) from workspaces where name = 'default'").await?;
    Ok(rows.first().and_then(Value::as_str).unwrap_or_default().to_owned())
}

async fn names(database: &Database, workspace: &str) -> Result<Vec<String>> {
    let sql = format!("select distinct to_jsonb(name) from plugins where ws_id = '{workspace}'");
    Ok(database.json(&sql).await?.iter().filter_map(Value::as_str).map(str::to_owned).collect())
}

fn lock(node: &Mutex<Node>) -> MutexGuard<'_, Node> {
    node.lock().unwrap_or_else(PoisonError::into_inner)
}
