//! What the servers say about their own tables. Data only: [`blue`](crate::blue) and [`green`](crate::green) read it,
//! [`mapping`](crate::mapping) combines both.

pub mod blue;
pub mod green;
