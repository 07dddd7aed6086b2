//! Ports on loopback for servers that want to be told theirs.
//!
//! Between the moment a port is found free and the one its server listens, another process may take it: then a test talks
//! to a stranger. So no port is given twice by one process, and all are below those from which Linux serves whoever asks
//! for any port (32768 and up).

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};

use kongferry::error::{Error, Kind, Result};

const FIRST: u32 = 12_000;
const COUNT: u32 = 20_000;

/// Processes begin so far from each other: few need more ports than that.
const APART: u32 = 613;

static GIVEN: AtomicU32 = AtomicU32::new(0);

/// A port on which nothing listens, for TCP and for UDP.
pub fn free() -> Result<u16> {
    let begin = std::process::id().wrapping_mul(APART);
    for _ in 0..COUNT {
        let nth = begin.wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(FIRST + nth % COUNT).unwrap_or(u16::MAX);
        let address = (Ipv4Addr::LOCALHOST, port);
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            return Ok(port);
        }
    }
    Err(Error::new(Kind::Io, "no port is free on 127.0.0.1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_free_and_never_returned_twice() {
        let given: Vec<u16> = (0..200).map(|_| free().unwrap()).collect();
        let mut distinct = given.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), given.len());
        let next = free().unwrap() + 1;
        let _taken = TcpListener::bind((Ipv4Addr::LOCALHOST, next));
        assert_ne!(free().unwrap(), next);
    }
}
