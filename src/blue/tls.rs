//! Encryption towards blue: files and roots turned into what the driver's connections use.
//!
//! The driver knows nodes by their IP address only, so the name check is ours: a certificate is good if it is for
//! the node's address or for one of the host names that the user wrote into the address of blue.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use super::config::{BlueConfig, ClientCertificate, Tls, TlsMode};
use crate::error::{Error, Result};

/// The driver's TLS settings, or none where connections are not encrypted. Reads files, opens no connection.
pub(super) fn client_config(config: &BlueConfig) -> Result<Option<Arc<ClientConfig>>> {
    let provider = Arc::new(ring::default_provider());
    let (chain, names) = match config.tls.mode {
        TlsMode::Off => return Ok(None),
        TlsMode::Require => (None, None),
        TlsMode::VerifyCa => (Some(chain(config, provider.clone())?), None),
        TlsMode::Verify => (Some(chain(config, provider.clone())?), Some(host_names(config))),
    };
    let client = config.tls.client.as_ref();
    build(Verifier { provider, chain, names }, client).map(|config| Some(Arc::new(config)))
}

/// Settings that accept any certificate, to find out whether a server speaks TLS at all.
pub(super) fn probe_config() -> Option<Arc<ClientConfig>> {
    let verifier = Verifier { provider: Arc::new(ring::default_provider()), chain: None, names: None };
    build(verifier, None).ok().map(Arc::new)
}

fn build(verifier: Verifier, client: Option<&ClientCertificate>) -> Result<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(verifier.provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::usage("TLS cannot be set up").source(e))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let Some(client) = client else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = certificates(&client.certificate, "tls_cert")?;
    let key = PrivateKeyDer::from_pem_file(&client.key)
        .map_err(|e| unreadable(&client.key, "tls_key", "private key").source(e))?;
    builder
        .with_client_auth_cert(chain, key)
        .map_err(|e| Error::usage("tls_cert and tls_key are not a certificate and its key").source(e))
}

fn host_names(config: &BlueConfig) -> Vec<ServerName<'static>> {
    config.contact_points.iter().filter_map(|point| ServerName::try_from(point.host.clone()).ok()).collect()
}

fn chain(config: &BlueConfig, provider: Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>> {
    let roots = Arc::new(roots(&config.tls)?);
    WebPkiServerVerifier::builder_with_provider(roots, provider).build().map_err(|e| {
        Error::usage("no certificate authority is trusted to verify blue's certificate")
            .source(e)
            .remedy("Give its file with tls_ca=FILE, or install the package ca-certificates.")
    })
}

fn roots(tls: &Tls) -> Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    for file in &tls.ca_files {
        for certificate in certificates(file, "tls_ca")? {
            store.add(certificate).map_err(|e| unreadable(file, "tls_ca", "certificate").source(e))?;
        }
    }
    if tls.ca_files.is_empty() || tls.system_roots {
        store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    Ok(store)
}

fn certificates(file: &Path, option: &str) -> Result<Vec<CertificateDer<'static>>> {
    let found = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>)
        .map_err(|e| unreadable(file, option, "certificate").source(e))?;
    if found.is_empty() {
        return Err(unreadable(file, option, "certificate"));
    }
    Ok(found)
}

fn unreadable(file: &Path, option: &str, content: &str) -> Error {
    Error::usage(format!("cannot read a {content} from {} ({option})", file.display()))
        .remedy("Give a readable file with PEM text (-----BEGIN …).")
}

/// Verifies certificates as the TLS mode says.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    /// Checks the issuer; `None` accepts any certificate.
    chain: Option<Arc<WebPkiServerVerifier>>,
    /// Names of which the certificate must have one, unless it has the node's address; `None` accepts any name.
    names: Option<Vec<ServerName<'static>>>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(chain) = &self.chain else { return Ok(ServerCertVerified::assertion()) };
        let check = |name: &ServerName<'_>| {
            chain.verify_server_cert(end_entity, intermediates, name, ocsp_response, now)
        };
        // The chain is checked before the name, so this error means that everything else is right.
        match (check(server_name), &self.names) {
            (Err(error), None) if is_wrong_name(&error) => Ok(ServerCertVerified::assertion()),
            (Err(error), Some(names)) if is_wrong_name(&error) => {
                names.iter().find_map(|name| check(name).ok()).ok_or(error)
            }
            (result, _) => result,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Whether the certificate is good but for another host.
pub(super) fn is_wrong_name(error: &rustls::Error) -> bool {
    use CertificateError::{NotValidForName, NotValidForNameContext};
    matches!(error, rustls::Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. }))
}
