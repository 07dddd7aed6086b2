//! The real binary with real servers: PowerDNS, BIND, Prometheus. Bake times are a second or two.

mod complete_run;
mod databases;
mod gates;
mod init;
mod kills;
mod manual_rollback;
mod notifications;
mod operators;
mod providers;
mod rollback_time;
mod site;
mod unproven;
