//! Servers that kongferry starts itself: a child process and its directory, both gone when we are gone.
//!
//! Knows nothing of PostgreSQL or Cassandra; [`crate::green::local`] and the test harness build on it.

mod child;
mod workdir;

pub use child::BoundChild;
pub use workdir::WorkDir;
pub(crate) use workdir::reachable_by_others;
