//! Questions and updates on the wire, to one server at a time: hickory's messages over UDP and TCP.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures::StreamExt;
use hickory_net::NetError;
use hickory_net::client::Client;
use hickory_net::runtime::{RuntimeProvider, Spawn, TokioRuntimeProvider};
use hickory_net::tcp::TcpClientStream;
use hickory_net::udp::UdpClientStream;
use hickory_net::xfer::{DnsExchange, DnsHandle, DnsMultiplexer};
use hickory_proto::op::{DnsRequest, DnsRequestOptions, Message, Query};
use hickory_proto::rr::{Name, RData, RecordType, TSigner};

use super::{DomainName, Value};

/// Why there was no answer.
#[derive(Debug)]
pub(super) enum NoAnswer {
    /// There was no connection; nothing was sent.
    Unreachable(String),
    /// It was sent, and nothing that can be used came back.
    Silent(String),
    /// What came back is not signed by the key.
    BadSignature(String),
}

impl NoAnswer {
    pub(super) fn text(&self) -> &str {
        match self {
            NoAnswer::Unreachable(text) | NoAnswer::Silent(text) | NoAnswer::BadSignature(text) => text,
        }
    }
}

/// A server that is asked many questions.
#[derive(Clone)]
pub(super) struct Asker {
    server: SocketAddr,
    timeout: Duration,
    udp: DnsExchange<TokioRuntimeProvider>,
}

impl Asker {
    /// Opens nothing yet. Must be called, and used, inside one runtime.
    pub(super) fn new(server: SocketAddr, source: Option<IpAddr>, timeout: Duration) -> Self {
        let udp = UdpClientStream::builder(server, TokioRuntimeProvider::new())
            .with_timeout(Some(timeout))
            .with_bind_addr(source.map(|address| SocketAddr::new(address, 0)))
            .exchange();
        Asker { server, timeout, udp }
    }

    /// Asks over UDP, and over TCP when the answer does not fit. Recursion is asked for, as by `dig`: authoritative
    /// servers do not mind, and a private zone may be reached through a resolver only.
    pub(super) async fn ask(&self, name: &DomainName, rtype: RecordType) -> Result<Message, NoAnswer> {
        let query = Query::query(wire_name(name), rtype);
        let request = DnsRequest::from_query(query, DnsRequestOptions::default());
        let answer = first(self.udp.send(request.clone())).await.map_err(|e| silent(&e))?;
        if !answer.metadata.truncation {
            return Ok(answer);
        }
        over_tcp(self.server, self.timeout, None, request).await
    }
}

/// Sends one message over a TCP connection of its own, signed if there is a key.
pub(super) async fn over_tcp(
    server: SocketAddr,
    timeout: Duration,
    signer: Option<TSigner>,
    request: DnsRequest,
) -> Result<Message, NoAnswer> {
    let provider = TokioRuntimeProvider::new();
    let (connecting, handle) = TcpClientStream::new(server, None, Some(timeout), provider.clone());
    let stream = connecting.await.map_err(|e| NoAnswer::Unreachable(e.to_string()))?;
    let mut multiplexer = DnsMultiplexer::new(stream, handle).with_timeout(timeout);
    if let Some(signer) = signer {
        multiplexer = multiplexer.with_signer(signer);
    }
    let (client, background) = Client::<TokioRuntimeProvider>::from_sender(multiplexer);
    provider.create_handle().spawn_bg(background);
    first(client.send(request)).await.map_err(|e| silent(&e))
}

async fn first<S>(mut answers: S) -> Result<Message, NetError>
where
    S: futures::Stream<Item = Result<hickory_proto::op::DnsResponse, NetError>> + Unpin,
{
    match answers.next().await {
        Some(answer) => answer.map(hickory_proto::op::DnsResponse::into_message),
        None => Err(NetError::Timeout),
    }
}

fn silent(error: &NetError) -> NoAnswer {
    let text = error.to_string();
    let lower = text.to_ascii_lowercase();
    // A server that does not accept the key answers without a signature, which hickory takes for a short one.
    if lower.contains("hmac") || lower.contains("tsig") || lower.contains("signature") {
        return NoAnswer::BadSignature(text);
    }
    match error {
        NetError::Io(e) if e.kind() == std::io::ErrorKind::ConnectionRefused => NoAnswer::Unreachable(text),
        _ => NoAnswer::Silent(text),
    }
}

/// A name that was checked before is a name for hickory too.
pub(super) fn wire_name(name: &DomainName) -> Name {
    let mut parsed = Name::from_ascii(name.as_str()).unwrap_or_else(|_| Name::root());
    parsed.set_fqdn(true);
    parsed
}

/// hickory's type of one of ours.
pub(super) fn wire_type(rtype: super::RecordType) -> RecordType {
    match rtype {
        super::RecordType::A => RecordType::A,
        super::RecordType::Aaaa => RecordType::AAAA,
        super::RecordType::Cname => RecordType::CNAME,
    }
}

/// The value in an answer's record, if it is one that a target can have.
pub(super) fn value(data: &RData) -> Option<Value> {
    match data {
        RData::A(address) => Some(Value::V4(address.0)),
        RData::AAAA(address) => Some(Value::V6(address.0)),
        RData::CNAME(name) => name.0.to_ascii().parse().ok().map(Value::Name),
        _ => None,
    }
}
