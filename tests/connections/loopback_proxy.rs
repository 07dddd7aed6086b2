//! The same server under another address: 127.0.0.2, which no certificate names.

use tokio::net::{TcpListener, TcpStream};

/// Forwards connections from 127.0.0.2 as long as the runtime of the test lives: from the port of the target, or from
/// any. Returns the port.
pub async fn forward_from_loopback_alias(target: String, same_port: bool) -> u16 {
    let target_port = target.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    let wanted: u16 = if same_port { target_port } else { 0 };
    let listener = TcpListener::bind(("127.0.0.2", wanted)).await.expect("a port");
    let port = listener.local_addr().expect("its address").port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let target = target.clone();
            tokio::spawn(async move {
                if let Ok(mut server) = TcpStream::connect(target).await {
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                }
            });
        }
    });
    port
}
