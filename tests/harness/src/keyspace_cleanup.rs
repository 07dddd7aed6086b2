//! Keyspaces of tests that have ended go while others still run: a Cassandra with a small heap bears some fifty of
//! them, each with Kong's tables.

use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, Sender, channel};

use scylla::client::session::Session;

use crate::cassandra::Endpoint;
use crate::catalog::quote;

/// Drops a keyspace soon, on a thread of its own: whoever lets go of it may be about to end its runtime.
pub(crate) fn drop_keyspace(endpoint: Endpoint, keyspace: String) {
    static REAPER: OnceLock<Sender<(Endpoint, String)>> = OnceLock::new();
    let reaper = REAPER.get_or_init(|| {
        let (sender, receiver) = channel();
        std::thread::spawn(move || reap(&receiver));
        sender
    });
    // Without the thread the keyspace stays, and goes with its server.
    let _ = reaper.send((endpoint, keyspace));
}

fn reap(receiver: &Receiver<(Endpoint, String)>) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
    let mut last: Option<(String, Session)> = None;
    while let Ok((endpoint, keyspace)) = receiver.recv() {
        runtime.block_on(async {
            if last.as_ref().is_none_or(|(at, _)| *at != endpoint.contact_point) {
                last = endpoint.session().await.ok().map(|session| (endpoint.contact_point.clone(), session));
            }
            if let Some((_, session)) = &last {
                let cql = format!("DROP KEYSPACE IF EXISTS {}", quote(&keyspace));
                // A server that has gone took the keyspace along.
                let _ = session.query_unpaged(cql, ()).await;
            }
        });
    }
}
