//! From both catalogs and the schema map to converters of bytes. Knows both sides, opens no connection.

mod canonical_json;
pub mod conversion;
pub mod digest;
#[cfg(feature = "test-hooks")]
pub(crate) mod fault_injection;
pub mod json;
pub mod pg_binary;
mod planner;
pub mod prefix;
pub mod reason;
mod resolver;
pub mod row_json;
pub mod schema_map;
pub mod schema_meta;
pub mod table_plan;
pub mod text;
pub mod transcode;
pub mod validate_names;
