//! The engine in simulated time: days pass in milliseconds, and always in the same order.

mod complete_run;
mod faults;
mod finish;
mod gates;
mod kills;
mod operators;
