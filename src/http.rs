//! The HTTP client of DNS providers, gates and hooks: rustls over ring, the system's
//! certificate authorities or those of a file, no redirects, since a redirect would carry credentials elsewhere.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

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
