//! Calls of a provider's HTTP API: the base address from the configuration, one exchange, and what its failure means.

use std::time::Duration;

use reqwest::header::RETRY_AFTER;

use super::{DnsError, DnsErrorKind, DnsResult};
use crate::error::{Error, Result};

pub(super) struct HttpResponse {
    pub status: reqwest::StatusCode,
    /// `Retry-After` in seconds.
    pub retry_after: Option<Duration>,
    pub body: String,
}

/// Sends one request. `writes` decides whether a lost response may hide a write that was carried out.
pub(super) async fn exchange(
    provider: &'static str,
    writes: bool,
    request: reqwest::RequestBuilder,
) -> DnsResult<HttpResponse> {
    let response = request.send().await.map_err(|e| no_response(provider, writes, e))?;
    let status = response.status();
    let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let retry_after = retry_after.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
    let body = response.text().await.map_err(|e| no_response(provider, writes, e))?;
    Ok(HttpResponse { status, retry_after, body })
}

/// The URL is removed from the message, since it may hold credentials.
fn no_response(provider: &'static str, writes: bool, error: reqwest::Error) -> DnsError {
    // Without a connection nothing was sent.
    let may_be_applied = writes && !error.is_connect() && !error.is_builder();
    let (is_connect, is_timeout) = (error.is_connect(), error.is_timeout());
    let error = error.without_url();
    let mut message = match (is_connect, is_timeout) {
        (true, _) => "it cannot be reached".to_owned(),
        (_, true) => "it did not respond in time".to_owned(),
        _ => "the connection failed".to_owned(),
    };
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause {
        cause = inner.source();
        if cause.is_none() {
            message = format!("{message} ({inner})");
        }
    }
    DnsError::new(provider, DnsErrorKind::Transient { may_be_applied }, message)
}

/// The base address from the configuration, and a path behind it.
pub(super) fn join(base: &str, path: &str) -> String {
    format!("{}{path}", base.trim_end_matches('/'))
}

/// Checks a base address from the configuration: http or https, a host, no credentials in it.
pub(super) fn check_base(key: &str, base: &str) -> Result<()> {
    let unusable =
        |reason: &str| Err(Error::usage(format!("provider.{key} in cutover.toml is not usable: {reason}")));
    let Ok(url) = url::Url::parse(base) else {
        return unusable("it is not an address such as https://host:8081");
    };
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return unusable("it must begin with http:// or https:// and name a host");
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
        return unusable("it must not hold credentials or parameters");
    }
    Ok(())
}
