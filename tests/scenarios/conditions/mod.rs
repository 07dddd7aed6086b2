//! Every condition of section 4 of the facts, put into a real Cassandra and migrated: the outcome is that of the
//! design's table "What happens to which row". The numbers in the tests' comments are those of section 4.

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
