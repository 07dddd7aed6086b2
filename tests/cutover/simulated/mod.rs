//! The engine in simulated time: days pass in milliseconds, and always in the same order.

mod drained;
mod faults;
mod gates;
mod kills;
mod operators;
mod way;
