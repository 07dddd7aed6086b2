//! The HTTP client of all providers (and of the cutover's gates and hooks): rustls over ring, the system's
//! certificate authorities or those of a file, no redirects, since a redirect would carry credentials elsewhere.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::{DnsError, DnsErrorKind};
use crate::error::{Error, Result};

/// Long enough for a slow API, short enough for somebody who waits for a rollback.
pub const TIMEOUT: Duration = Duration::from_secs(20);

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A client whose requests, answers included, may take `timeout` each; otherwise as [`builder`] says.
pub fn client(ca_file: Option<&Path>, timeout: Duration) -> Result<reqwest::Client> {
    let built = builder(ca_file)?.timeout(timeout).build();
    built.map_err(|e| Error::usage("the HTTP client cannot be set up").source(e))
}

/// Where TLS certificates are checked against `ca_file` alone, or without one against the system's authorities.
pub fn builder(ca_file: Option<&Path>) -> Result<reqwest::ClientBuilder> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let cannot = || Error::usage("the HTTP client cannot be set up");
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| cannot().source(e))?
        .with_root_certificates(roots(ca_file)?)
        .with_no_client_auth();
    Ok(reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .user_agent(concat!("kongferry/", env!("CARGO_PKG_VERSION"))))
}

fn roots(ca_file: Option<&Path>) -> Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    let Some(file) = ca_file else {
        store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return Ok(store);
    };
    let unreadable = || {
        Error::usage(format!("cannot read certificate authorities from {}", file.display()))
            .remedy("The file must exist, be readable, and hold PEM text (-----BEGIN …).")
    };
    let found = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>)
        .map_err(|e| unreadable().source(e))?;
    for certificate in found {
        store.add(certificate).map_err(|e| unreadable().source(e))?;
    }
    if store.is_empty() { Err(unreadable()) } else { Ok(store) }
}

/// What a request without an answer means: whether the server may have carried it out. The URL is cut off the
/// message, since people put credentials there.
pub(super) fn no_answer(provider: &'static str, writes: bool, error: reqwest::Error) -> DnsError {
    // Nothing was sent when there was no connection.
    let may_have_landed = writes && !error.is_connect() && !error.is_builder();
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
    DnsError::new(provider, DnsErrorKind::Transient { may_have_landed }, message)
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
