//! Real servers and real rows for tests and demo.
