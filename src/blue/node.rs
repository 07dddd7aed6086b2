//! The nodes of blue's cluster.

use std::fmt;

/// A node of blue as the driver sees it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    pub address: String,
    /// Datacenter, where the node says so.
    pub datacenter: Option<String>,
    /// Rack, where the node says so.
    pub rack: Option<String>,
    /// Whether we have a connection to it. A node that only its peers cannot reach counts as up.
    pub up: bool,
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.datacenter {
            Some(datacenter) => write!(f, "{} (datacenter {datacenter})", self.address),
            None => f.write_str(&self.address),
        }
    }
}
