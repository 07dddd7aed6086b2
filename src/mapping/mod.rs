//! From both catalogs and the schema map to converters of bytes. Knows both sides, opens no connection.

mod by_value;
pub mod conversion;
pub mod digest;
pub mod exhibit;
mod fault;
pub mod json;
pub mod pg_binary;
pub mod prefix;
pub mod reason;
mod resolver;
pub mod schema_map;
pub mod schema_meta;
pub mod slips;
pub mod table_plan;
pub mod text;
pub mod transcode;
