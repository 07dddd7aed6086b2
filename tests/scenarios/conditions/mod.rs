//! Every condition of docs/kong-data-model.md, 4, written to a real Cassandra and migrated: the outcome is that of
//! "What happens to which row" in docs/architecture.md. The numbers in the tests' comments are those of section 4.

mod composite_keys;
mod duplicates;
mod incomplete_rows;
mod index_size;
mod json;
mod prefixes;
mod references;
mod tables;
mod text;
mod times;
mod workspaces;
