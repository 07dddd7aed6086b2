//! A request to green itself, judged by status, headers, body and time.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::measurement::{GateVerdict, Measurement};
use crate::duration::compact;
use crate::error::{Error, Kind, Result};
use crate::http;

/// A request to green, and what its answer must be.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpProbe {
    /// The address, as clients would have it.
    pub url: String,
    pub method: Option<String>,
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Where to connect instead of what DNS says: green's `ADDRESS:PORT`.
    pub connect_to: Option<String>,
    /// Status codes that pass; 200 to 399 where none is given.
    #[serde(default)]
    pub status: Vec<u16>,
    /// Headers of the answer: a regular expression for each.
    #[serde(default)]
    pub expect_headers: BTreeMap<String, String>,
    /// A regular expression that the body must match.
    pub body_match: Option<String>,
    /// How long it may take to the end of the body.
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
            address.parse::<std::net::SocketAddr>().map_err(|_| {
                Error::usage(format!("{place}: connect_to = \"{address}\" is not ADDRESS:PORT"))
            })?;
        }
        Ok(())
    }
}

/// When a probe is given up where nothing is said.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How much of a body is looked at.
const BODY_LIMIT: usize = 1 << 20;

/// Sends the request. No answer is a failure: clients would have got none either.
pub async fn judge(probe: &HttpProbe) -> Measurement {
    let client = match client(probe) {
        Ok(client) => client,
        Err(error) => return Measurement::inconclusive(error.one_line()),
    };
    let method = probe.method.as_deref().unwrap_or("GET").parse::<reqwest::Method>();
    let Ok(method) = method else { return Measurement::inconclusive("method is not an HTTP method") };
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
        let wrong = self.wrong(probe, took);
        Measurement {
            why: wrong.clone().unwrap_or_default(),
            verdict: if wrong.is_some() { GateVerdict::Fail } else { GateVerdict::Pass },
            ..Measurement::judged(true, value, limits.join(", "))
        }
    }

    fn wrong(&self, probe: &HttpProbe, took: Duration) -> Option<String> {
        let fits = if probe.status.is_empty() {
            (200..400).contains(&self.status)
        } else {
            probe.status.contains(&self.status)
        };
        if !fits {
            return Some(format!("status {}", self.status));
        }
        let matches =
            |pattern: &str, text: &str| regex::Regex::new(pattern).is_ok_and(|regex| regex.is_match(text));
        for (name, pattern) in &probe.expect_headers {
            let value = self.headers.get(name).and_then(|value| value.to_str().ok());
            match value {
                Some(value) if matches(pattern, value) => {}
                Some(_) => return Some(format!("the header {name} does not match {pattern}")),
                None => return Some(format!("there is no header {name}")),
            }
        }
        if let Some(pattern) = probe.body_match.as_deref().filter(|pattern| !matches(pattern, &self.body)) {
            return Some(format!("the body does not match {pattern}"));
        }
        probe
            .max_latency
            .filter(|limit| took > *limit)
            .map(|limit| format!("it took longer than {}", compact(limit)))
    }
}

fn status_limit(wanted: &[u16]) -> String {
    if wanted.is_empty() {
        return "HTTP 2xx or 3xx".to_owned();
    }
    let codes: Vec<String> = wanted.iter().map(u16::to_string).collect();
    format!("HTTP {}", codes.join(" or "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(probe: &str, took_ms: u64) -> (GateVerdict, String) {
        let probe: HttpProbe = toml::from_str(&format!("url = \"http://127.0.0.1/\"\n{probe}")).unwrap();
        let headers = [(reqwest::header::SERVER, "kong/3.3.1".parse().unwrap())].into_iter().collect();
        let answer = ProbeResponse { status: 404, headers, body: "no Route matched".to_owned() };
        let judged = answer.judge(&probe, Duration::from_millis(took_ms));
        (judged.verdict, judged.why)
    }

    #[test]
    fn status_header_body_and_time_must_all_fit() {
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
            "there is no header via"
        );
        assert_eq!(verdict("status = [404]\nbody_match = \"Route\"", 1).0, GateVerdict::Pass);
        assert_eq!(verdict("status = [404]\nbody_match = \"hello\"", 1).0, GateVerdict::Fail);
        assert_eq!(verdict("status = [404]\nmax_latency = \"50ms\"", 51).0, GateVerdict::Fail);
    }

    #[tokio::test]
    async fn green_that_does_not_answer_fails() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let probe = HttpProbe { url: format!("http://{closed}/"), ..HttpProbe::default() };
        assert_eq!(judge(&probe).await.verdict, GateVerdict::Fail);
    }
}
