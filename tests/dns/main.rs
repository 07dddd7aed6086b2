//! The DNS providers against real servers: PowerDNS, BIND, the user's program, and Route 53's wire format.
//!
//! Needs PowerDNS, BIND and Python; the harness installs them where it may and names the command where not.

mod bind;
mod exec;
mod fake_route53;
mod moto;
mod powerdns;
mod route53;
mod support;
