//! From both catalogs and the schema map to converters of bytes. Knows both sides, opens no connection.

pub mod schema_map;
