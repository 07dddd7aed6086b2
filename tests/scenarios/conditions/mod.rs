//! Every condition of section 4 of the facts, put into a real Cassandra and migrated: the outcome is that of the
//! design's table "What happens to which row". The numbers in the tests' comments are those of section 4.

mod duplicates;
mod half_rows;
mod index_size;
mod json;
mod keys_and_notes;
mod prefixes;
mod references;
mod tables;
mod text;
mod times;
mod workspaces;
