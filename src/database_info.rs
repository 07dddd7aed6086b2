//! Name and version of a database, as reports print them.

use serde::Serialize;

use crate::blue::session::Blue;
use crate::green::session::Green;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct DatabaseInfo {
    pub server: String,
    pub version: String,
    pub name: String,
}

impl From<&Blue> for DatabaseInfo {
    fn from(blue: &Blue) -> DatabaseInfo {
        DatabaseInfo {
            server: format!("{} ({})", blue.cluster_name(), blue.config().hosts()),
            version: format!("Cassandra {}", blue.release_version()),
            name: blue.keyspace().to_owned(),
        }
    }
}

impl From<&Green> for DatabaseInfo {
    fn from(green: &Green) -> DatabaseInfo {
        DatabaseInfo {
            server: green.config().address(),
            version: format!("PostgreSQL {}", green.server_version()),
            name: green.config().database().to_owned(),
        }
    }
}
