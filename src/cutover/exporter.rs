//! The cutover's own metrics for Prometheus.

use std::net::SocketAddr;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::status::{StatusSnapshot, exposition};
use crate::error::{Error, Kind, Result};

/// Answers `GET /metrics` until it is dropped.
#[derive(Debug)]
pub struct Exporter {
    address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl Exporter {
    pub async fn listen(address: &str, status: watch::Receiver<Option<StatusSnapshot>>) -> Result<Exporter> {
        let cannot = |e| {
            Error::new(Kind::Io, format!("cannot listen on {address} for Prometheus metrics"))
                .source(e)
                .remedy("Pass a free local address as --metrics-listen ADDRESS:PORT.")
        };
        let listener = TcpListener::bind(address).await.map_err(cannot)?;
        let address = listener.local_addr().map_err(cannot)?;
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, status.clone()));
            }
        });
        Ok(Exporter { address, task })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(stream: TcpStream, status: watch::Receiver<Option<StatusSnapshot>>) {
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader).lines();
    let Ok(Some(request)) = lines.next_line().await else { return };
    while lines.next_line().await.is_ok_and(|line| line.is_some_and(|line| !line.is_empty())) {}
    let snapshot = status.borrow().clone();
    let mut words = request.split_ascii_whitespace();
    let method = words.next().unwrap_or_default();
    let path = words.next().unwrap_or_default().split('?').next().unwrap_or_default();
    let (status, body) = match (method, path, snapshot) {
        ("GET" | "HEAD", "/metrics", Some(snapshot)) => ("200 OK", exposition(&snapshot)),
        ("GET" | "HEAD", "/metrics", None) => ("503 Service Unavailable", String::new()),
        ("GET" | "HEAD", ..) => ("404 Not Found", "Metrics are served at /metrics.\n".to_owned()),
        _ => ("405 Method Not Allowed", "Only GET and HEAD are supported.\n".to_owned()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let body = if method == "HEAD" { "" } else { &body };
    // The client may have disconnected.
    let _ = writer.write_all(format!("{head}{body}").as_bytes()).await;
}
