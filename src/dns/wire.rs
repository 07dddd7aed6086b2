//! DNS queries and updates to one server, over UDP and TCP.

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
use hickory_proto::rr::{Name, RData, Record, RecordType, TSigner};

use super::{DomainName, Value};

/// The record types that route clients.
pub(super) const ROUTING_TYPES: [RecordType; 4] =
    [RecordType::A, RecordType::AAAA, RecordType::CNAME, RecordType::HTTPS];

/// A query or an update without a usable response.
#[derive(Debug)]
pub(super) enum QueryError {
    /// No connection; nothing was sent.
    Unreachable(String),
    /// The message was sent.
    NoAnswer(String),
    /// The response is not signed with the TSIG key.
    BadSignature(String),
}

impl QueryError {
    pub(super) fn text(&self) -> &str {
        match self {
            QueryError::Unreachable(text) | QueryError::NoAnswer(text) | QueryError::BadSignature(text) => {
                text
            }
        }
    }
}

/// A client for many queries to one server.
#[derive(Clone)]
pub(super) struct ServerClient {
    server: SocketAddr,
    timeout: Duration,
    udp: DnsExchange<TokioRuntimeProvider>,
}

impl ServerClient {
    /// Connects lazily. Must be called and used inside one runtime.
    pub(super) fn new(server: SocketAddr, source: Option<IpAddr>, timeout: Duration) -> Self {
        let udp = UdpClientStream::builder(server, TokioRuntimeProvider::new())
            .with_timeout(Some(timeout))
            .with_bind_addr(source.map(|address| SocketAddr::new(address, 0)))
            .exchange();
        ServerClient { server, timeout, udp }
    }

    /// Over UDP, and over TCP if the response is truncated. Recursion is desired, as by `dig`: authoritative servers
    /// ignore it, and some private zones are reachable through a resolver only.
    pub(super) async fn query(&self, name: &DomainName, rtype: RecordType) -> Result<Message, QueryError> {
        let query = Query::query(wire_name(name), rtype);
        let request = DnsRequest::from_query(query, DnsRequestOptions::default());
        let answer = first_answer(self.udp.send(request.clone())).await.map_err(|e| query_error(&e))?;
        if !answer.metadata.truncation {
            return Ok(answer);
        }
        over_tcp(self.server, self.timeout, None, request).await
    }
}

/// Over a connection of its own, signed if there is a key.
pub(super) async fn over_tcp(
    server: SocketAddr,
    timeout: Duration,
    signer: Option<TSigner>,
    request: DnsRequest,
) -> Result<Message, QueryError> {
    let provider = TokioRuntimeProvider::new();
    let (connecting, handle) = TcpClientStream::new(server, None, Some(timeout), provider.clone());
    let stream = connecting.await.map_err(|e| QueryError::Unreachable(e.to_string()))?;
    let mut multiplexer = DnsMultiplexer::new(stream, handle).with_timeout(timeout);
    if let Some(signer) = signer {
        multiplexer = multiplexer.with_signer(signer);
    }
    let (client, background) = Client::<TokioRuntimeProvider>::from_sender(multiplexer);
    provider.create_handle().spawn_bg(background);
    first_answer(client.send(request)).await.map_err(|e| query_error(&e))
}

async fn first_answer<S>(mut answers: S) -> Result<Message, NetError>
where
    S: futures::Stream<Item = Result<hickory_proto::op::DnsResponse, NetError>> + Unpin,
{
    match answers.next().await {
        Some(answer) => answer.map(hickory_proto::op::DnsResponse::into_message),
        None => Err(NetError::Timeout),
    }
}

fn query_error(error: &NetError) -> QueryError {
    let text = error.to_string();
    let lower = text.to_ascii_lowercase();
    // A server that rejects the key sends an unsigned response, which hickory reports as a short signature.
    if lower.contains("hmac") || lower.contains("tsig") || lower.contains("signature") {
        return QueryError::BadSignature(text);
    }
    match error {
        NetError::Io(e) if e.kind() == std::io::ErrorKind::ConnectionRefused => QueryError::Unreachable(text),
        _ => QueryError::NoAnswer(text),
    }
}

pub(super) fn wire_name(name: &DomainName) -> Name {
    // A DomainName is always valid for hickory.
    let mut parsed = Name::from_ascii(name.as_str()).unwrap_or_else(|_| Name::root());
    parsed.set_fqdn(true);
    parsed
}

pub(super) fn wire_type(rtype: super::RecordType) -> RecordType {
    match rtype {
        super::RecordType::A => RecordType::A,
        super::RecordType::Aaaa => RecordType::AAAA,
        super::RecordType::Cname => RecordType::CNAME,
    }
}

/// `None` for types that a target cannot have.
pub(super) fn value(data: &RData) -> Option<Value> {
    match data {
        RData::A(address) => Some(Value::V4(address.0)),
        RData::AAAA(address) => Some(Value::V6(address.0)),
        RData::CNAME(name) => name.0.to_ascii().parse().ok().map(Value::Name),
        _ => None,
    }
}

/// The records with this name and type, without those of a CNAME's target.
pub(super) fn records_of<'a>(message: &'a Message, name: &DomainName, rtype: RecordType) -> Vec<&'a Record> {
    let owner = wire_name(name);
    message.answers.iter().filter(|record| record.record_type() == rtype && record.name == owner).collect()
}

pub(super) fn soa_serial(message: &Message) -> Option<u32> {
    message.answers.iter().find_map(|record| match &record.data {
        RData::SOA(soa) => Some(soa.serial),
        _ => None,
    })
}
