//! A gate that sends a request to green, judged by status, headers, body and time.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::measurement::Measurement;
use crate::duration::compact;
use crate::error::{Error, Kind, Result};
use crate::http;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpProbe {
    /// As clients use it.
    pub url: String,
    pub method: Option<String>,
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Green's `ADDRESS:PORT`, instead of the address from DNS.
    pub connect_to: Option<String>,
    /// Status codes that pass; by default 200 to 399.
    #[serde(default)]
    pub status: Vec<u16>,
    /// A regular expression for each header of the answer.
    #[serde(default)]
    pub expect_headers: BTreeMap<String, String>,
    /// A regular expression that the body must match.
    pub body_match: Option<String>,
    /// The limit for the complete answer.
    #[serde(default, with = "humantime_serde")]
    pub max_latency: Option<Duration>,
    #[serde(default, with = "humantime_serde")]
    pub timeout: Option<Duration>,
}

impl HttpProbe {
    pub(super) fn check(&self, place: &str) -> Result<()> {
        let address = url::Url::parse(&self.url).ok();
        if address.is_none_or(|address| !matches!(address.scheme(), "http" | "https")) {
            return Err(Error::usage(format!("{place}: url must begin with http:// or https://")));
        }
        for text in self.expect_headers.values().chain(&self.body_match) {
            regex::Regex::new(text)
                .map_err(|_| Error::usage(format!("{place}: \"{text}\" is not a regular expression")))?;
        }
        if let Some(address) = &self.connect_to {
            address.parse::<SocketAddr>().map_err(|_| {
                Error::usage(format!("{place}: connect_to = \"{address}\" is not ADDRESS:PORT"))
            })?;
        }
        Ok(())
    }
}

/// The default for `timeout`.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The part of a body that is read, in bytes.
const BODY_LIMIT: usize = 1 << 20;

/// Sends the request. No answer is a failure: clients would get none either.
pub async fn judge(probe: &HttpProbe) -> Measurement {
    let client = match client(probe) {
        Ok(client) => client,
        Err(error) => return Measurement::inconclusive(error.one_line()),
    };
    let method = probe.method.as_deref().unwrap_or("GET").parse::<reqwest::Method>();
    let Ok(method) = method else { return Measurement::inconclusive("method is no HTTP method") };
    let began = Instant::now();
    let limit = probe.timeout.unwrap_or(TIMEOUT);
    let mut request = client.request(method, &probe.url).timeout(limit);
    for (name, value) in &probe.headers {
        request = request.header(name, value);
    }
    match answer(request).await {
        Ok(answer) => answer.judge(probe, began.elapsed()),
        Err(error) => {
            let cause = Error::new(Kind::Connection, "no answer").source(error.without_url()).one_line();
            Measurement { why: cause, ..Measurement::judged(false, "no answer", "an answer") }
        }
    }
}

fn client(probe: &HttpProbe) -> Result<reqwest::Client> {
    let mut builder = http::builder(None)?;
    if let Some(address) = probe.connect_to.as_ref().and_then(|text| text.parse::<SocketAddr>().ok()) {
        let host = url::Url::parse(&probe.url).ok().and_then(|url| url.host_str().map(str::to_owned));
        builder = builder.resolve(&host.unwrap_or_default(), address);
    }
    builder.build().map_err(|e| Error::new(Kind::Io, "cannot make an HTTP client").source(e))
}

struct ProbeResponse {
    status: u16,
    headers: reqwest::header::HeaderMap,
    body: String,
}

async fn answer(request: reqwest::RequestBuilder) -> std::result::Result<ProbeResponse, reqwest::Error> {
    let mut response = request.send().await?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await? {
        body.extend_from_slice(&part);
        if body.len() > BODY_LIMIT {
            break;
        }
    }
    Ok(ProbeResponse { status, headers, body: String::from_utf8_lossy(&body).into_owned() })
}

impl ProbeResponse {
    fn judge(&self, probe: &HttpProbe, took: Duration) -> Measurement {
        let value = format!("HTTP {} in {} ms", self.status, took.as_millis());
        let mut limits = vec![status_limit(&probe.status)];
        limits.extend(probe.max_latency.map(|latency| format!("within {}", compact(latency))));
        let mismatch = self.mismatch(probe, took);
        let measured = Measurement::judged(mismatch.is_none(), value, limits.join(", "));
        Measurement { why: mismatch.unwrap_or_default(), ..measured }
    }

    fn mismatch(&self, probe: &HttpProbe, took: Duration) -> Option<String> {
        let status_passes = if probe.status.is_empty() {
            (200..400).contains(&self.status)
        } else {
            probe.status.contains(&self.status)
        };
        if !status_passes {
            return Some(format!("status {}", self.status));
        }
        let matches =
            |pattern: &str, text: &str| regex::Regex::new(pattern).is_ok_and(|regex| regex.is_match(text));
        for (name, pattern) in &probe.expect_headers {
            let value = self.headers.get(name).and_then(|value| value.to_str().ok());
            match value {
                Some(value) if matches(pattern, value) => {}
                Some(_) => return Some(format!("the header {name} does not match {pattern}")),
                None => return Some(format!("the header {name} is missing")),
            }
        }
        if let Some(pattern) = probe.body_match.as_deref().filter(|pattern| !matches(pattern, &self.body)) {
            return Some(format!("the body does not match {pattern}"));
        }
        probe
            .max_latency
            .filter(|limit| took > *limit)
            .map(|limit| format!("the answer took longer than {}", compact(limit)))
    }
}

fn status_limit(status: &[u16]) -> String {
    if status.is_empty() {
        return "HTTP 2xx or 3xx".to_owned();
    }
    let codes: Vec<String> = status.iter().map(u16::to_string).collect();
    format!("HTTP {}", codes.join(" or "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cutover::gates::measurement::GateVerdict;

    fn verdict(probe: &str, took_ms: u64) -> (GateVerdict, String) {
        let probe: HttpProbe = toml::from_str(&format!("url = \"http://127.0.0.1/\"\n{probe}")).unwrap();
        let headers = [(reqwest::header::SERVER, "kong/3.3.1".parse().unwrap())].into_iter().collect();
        let answer = ProbeResponse { status: 404, headers, body: "no Route matched".to_owned() };
        let judged = answer.judge(&probe, Duration::from_millis(took_ms));
        (judged.verdict, judged.why)
    }

    #[test]
    fn status_headers_body_and_time_must_all_pass() {
        assert_eq!(verdict("", 1), (GateVerdict::Fail, "status 404".to_owned()));
        assert_eq!(verdict("status = [401, 404]", 1).0, GateVerdict::Pass);
        assert_eq!(
            verdict("status = [404]\nexpect_headers = { server = \"^kong/3\" }", 1).0,
            GateVerdict::Pass
        );
        assert_eq!(
            verdict("status = [404]\nexpect_headers = { server = \"^kong/2\" }", 1).0,
            GateVerdict::Fail
        );
        assert_eq!(
            verdict("status = [404]\nexpect_headers = { via = \".\" }", 1).1,
            "the header via is missing"
        );
        assert_eq!(verdict("status = [404]\nbody_match = \"Route\"", 1).0, GateVerdict::Pass);
        assert_eq!(verdict("status = [404]\nbody_match = \"hello\"", 1).0, GateVerdict::Fail);
        assert_eq!(verdict("status = [404]\nmax_latency = \"50ms\"", 51).0, GateVerdict::Fail);
    }

    #[tokio::test]
    async fn no_answer_fails() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let probe = HttpProbe { url: format!("http://{closed}/"), ..HttpProbe::default() };
        assert_eq!(judge(&probe).await.verdict, GateVerdict::Fail);
    }
}
