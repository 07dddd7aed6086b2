//! What an HTTP exchange means to a DNS provider.

use std::time::Duration;

use super::{DnsError, DnsErrorKind};
use crate::error::{Error, Result};

/// What a request without an answer means: whether the server may have carried it out. The URL is cut off the
/// message, since people put credentials there.
pub(super) fn no_answer(provider: &'static str, writes: bool, error: reqwest::Error) -> DnsError {
    // Nothing was sent when there was no connection.
    let may_be_applied = writes && !error.is_connect() && !error.is_builder();
    let (connect, timeout) = (error.is_connect(), error.is_timeout());
    let error = error.without_url();
    let mut message = match (connect, timeout) {
        (true, _) => "it cannot be reached".to_owned(),
        (_, true) => "it did not answer in time".to_owned(),
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

/// `Retry-After` in seconds, if the server sent one.
pub(super) fn retry_after(headers: &reqwest::header::HeaderMap) -> Option<Duration> {
    let value = headers.get(reqwest::header::RETRY_AFTER)?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_secs)
}

/// Joins a base address from the configuration and a path of ours.
pub(super) fn join(base: &str, path: &str) -> String {
    format!("{}{path}", base.trim_end_matches('/'))
}

/// Checks an address from the configuration: http or https, a host, no credentials in it.
pub(super) fn check_base(key: &str, base: &str) -> Result<()> {
    let wrong = |why: &str| Err(Error::usage(format!("the provider's {key} is not usable: {why}")));
    let Ok(url) = url::Url::parse(base) else { return wrong("it is no address such as https://host:8081") };
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return wrong("it must begin with http:// or https:// and name a host");
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
        return wrong("credentials and parameters do not belong there");
    }
    Ok(())
}
