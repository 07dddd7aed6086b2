//! A CQL proxy: requests are forwarded to a real Cassandra, but some requests for rows are answered
//! with an error instead, as an overloaded node answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use kongferry_harness::cassandra::Endpoint;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;

/// The request that reads rows with a prepared statement.
const EXECUTE: u8 = 0x0a;

/// Errors of a node in trouble: the code, and what follows the message.
pub const TROUBLE: &[(u32, &[u8])] = &[
    // Overloaded.
    (0x1001, &[]),
    // It is bootstrapping.
    (0x1002, &[]),
    // A server error, as a failing disk gives.
    (0x0000, &[]),
    // Read timeout at ALL: of 1 replica 0 answered, without data.
    (0x1200, &[0, 5, 0, 0, 0, 0, 0, 0, 0, 1, 0]),
];

/// How many requests for rows fail from now on, and how many have failed.
#[derive(Debug, Default)]
pub struct Faults {
    to_come: AtomicU32,
    failed: AtomicU32,
}

impl Faults {
    /// How many of the next requests for rows fail.
    pub fn next(&self, requests: u32) {
        self.to_come.store(requests, Ordering::SeqCst);
    }

    /// How many have failed so far.
    pub fn failed(&self) -> u32 {
        self.failed.load(Ordering::SeqCst)
    }

    /// The error that answers this request, if it is to fail.
    fn answer(&self, header: &[u8; 9]) -> Option<Vec<u8>> {
        let take = |left: u32| left.checked_sub(1);
        if header[4] != EXECUTE
            || self.to_come.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_err()
        {
            return None;
        }
        let number = self.failed.fetch_add(1, Ordering::SeqCst) as usize;
        let (code, more) = TROUBLE[number % TROUBLE.len()];
        let message = b"trouble made by a test";
        let mut body = code.to_be_bytes().to_vec();
        body.extend((message.len() as u16).to_be_bytes());
        body.extend(message);
        body.extend(more);
        let mut frame = vec![header[0] | 0x80, 0, header[2], header[3], 0];
        frame.extend((body.len() as u32).to_be_bytes());
        frame.extend(body);
        Some(frame)
    }
}

/// Listens before this Cassandra as long as the runtime of the test lives. The driver takes the port of the address that
/// it is given for that of every node, so all of it comes this way.
pub async fn before(cassandra: &Endpoint) -> (Endpoint, Arc<Faults>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address").to_string();
    let (target, faults) = (cassandra.contact_point.clone(), Arc::new(Faults::default()));
    let shared = faults.clone();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (target, faults) = (target.clone(), shared.clone());
            tokio::spawn(async move {
                let Ok(server) = TcpStream::connect(target).await else { return };
                let (from_client, to_client) = client.into_split();
                let (mut from_server, to_server) = server.into_split();
                let to_client = Arc::new(Mutex::new(to_client));
                let answers = to_client.clone();
                tokio::spawn(async move { while frame(&mut from_server, &answers).await.is_ok() {} });
                let _ = requests(from_client, to_server, &to_client, &faults).await;
            });
        }
    });
    (Endpoint::open(address), faults)
}

/// One frame of the server's goes on whole, so that an injected error never comes in the middle of it.
async fn frame(from: &mut OwnedReadHalf, to: &Mutex<OwnedWriteHalf>) -> std::io::Result<()> {
    let (header, body) = read(from).await?;
    let mut to = to.lock().await;
    to.write_all(&header).await?;
    to.write_all(&body).await
}

async fn requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    answers: &Mutex<OwnedWriteHalf>,
    faults: &Faults,
) -> std::io::Result<()> {
    loop {
        let (header, body) = read(&mut from).await?;
        match faults.answer(&header) {
            Some(error) => answers.lock().await.write_all(&error).await?,
            None => {
                to.write_all(&header).await?;
                to.write_all(&body).await?;
            }
        }
    }
}

async fn read(from: &mut OwnedReadHalf) -> std::io::Result<([u8; 9], Vec<u8>)> {
    let mut header = [0; 9];
    from.read_exact(&mut header).await?;
    let length = u32::from_be_bytes([header[5], header[6], header[7], header[8]]);
    let mut body = vec![0; length as usize];
    from.read_exact(&mut body).await?;
    Ok((header, body))
}
