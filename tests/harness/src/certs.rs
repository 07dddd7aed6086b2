//! A certificate authority of its own for each test run, and what it signs.

use kongferry::error::Result;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use crate::context::Context;

/// A CA, a server certificate for `localhost` and 127.0.0.1, and a client certificate, all PEM. The client's common
/// name is `kongferry`. None of it is fit for anything but tests.
#[derive(Debug, Clone)]
pub struct Certificates {
    pub ca: String,
    pub server: Identity,
    pub client: Identity,
}

/// A certificate and its key, PEM.
#[derive(Debug, Clone)]
pub struct Identity {
    pub certificate: String,
    /// The key, PKCS#8.
    pub key: String,
}

impl Certificates {
    /// Makes a new set; two sets do not trust each other.
    pub fn generate() -> Result<Self> {
        generate().context(|| "cannot generate certificates".to_owned())
    }
}

fn generate() -> std::result::Result<Certificates, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "kongferry test CA");
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate()?;
    let ca = params.self_signed(&key)?.pem();
    let issuer = Issuer::new(params, key);
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    Ok(Certificates {
        ca,
        server: sign("localhost", names, ExtendedKeyUsagePurpose::ServerAuth, &issuer)?,
        client: sign("kongferry", Vec::new(), ExtendedKeyUsagePurpose::ClientAuth, &issuer)?,
    })
}

fn sign(
    common_name: &str,
    names: Vec<String>,
    usage: ExtendedKeyUsagePurpose,
    issuer: &Issuer<'_, KeyPair>,
) -> std::result::Result<Identity, rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, issuer)?.pem();
    Ok(Identity { certificate, key: key.serialize_pem() })
}
