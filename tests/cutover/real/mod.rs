//! The real binary over real servers: PowerDNS, BIND, Prometheus. Bakes of a second or two.

mod databases;
mod gates;
mod init;
mod kills;
mod people;
mod providers;
mod rollback;
mod site;
mod way;
