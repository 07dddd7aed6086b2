//! Requests to a provider's HTTP API.

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

/// `writes`: a lost response may hide a write that was carried out.
pub(super) async fn exchange(
    provider: &'static str,
    writes: bool,
    request: reqwest::RequestBuilder,
) -> DnsResult<HttpResponse> {
    let response = request.send().await.map_err(|e| transport_error(provider, writes, e))?;
    let status = response.status();
    let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let retry_after = retry_after.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
    let body = response.text().await.map_err(|e| transport_error(provider, writes, e))?;
    Ok(HttpResponse { status, retry_after, body })
}

/// The URL is removed from the message: it may contain credentials.
fn transport_error(provider: &'static str, writes: bool, error: reqwest::Error) -> DnsError {
    // Nothing was sent without a connection.
    let may_be_applied = writes && !error.is_connect() && !error.is_builder();
    let (is_connect, is_timeout) = (error.is_connect(), error.is_timeout());
    let error = error.without_url();
    let mut message = match (is_connect, is_timeout) {
        (true, _) => "the API cannot be reached".to_owned(),
        (_, true) => "the API did not respond in time".to_owned(),
        _ => "the connection to the API failed".to_owned(),
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

/// Appends a path to the base address of the configuration.
pub(super) fn join(base: &str, path: &str) -> String {
    format!("{}{path}", base.trim_end_matches('/'))
}

/// Accepts http and https addresses with a host and without credentials and parameters.
pub(super) fn check_base(key: &str, base: &str) -> Result<()> {
    let invalid = |reason: &str| {
        Err(Error::usage(format!("provider.{key} in cutover.toml {reason}"))
            .remedy(format!("Set {key} to the address of the API, such as https://host:8081.")))
    };
    let Ok(url) = url::Url::parse(base) else {
        return invalid("is not a URL");
    };
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return invalid("must begin with http:// or https:// and name a host");
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
        return invalid("must not contain credentials or parameters");
    }
    Ok(())
}
