//! TLS of the HTTP client: trusted authorities and client certificates of PEM files.

use std::fs;
use std::path::Path;

use native_tls::{Certificate, Identity, TlsConnector};

/// The first line of a private key in PKCS#8, the only format that native-tls passes to OpenSSL.
const PKCS8_HEADER: &[u8] = b"-----BEGIN PRIVATE KEY-----";

/// Returns all certificates of a PEM file.
///
/// # Errors
/// Returns a message that names the file if it cannot be read or holds no certificate.
pub fn certificates(path: &Path) -> Result<Vec<Certificate>, String> {
    let pem = fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    Certificate::stack_from_pem(&pem)
        .ok()
        .filter(|certificates| !certificates.is_empty())
        .ok_or_else(|| format!("{} holds no certificate in PEM", path.display()))
}

/// Returns the client certificate of two PEM files.
///
/// # Errors
/// Returns a message that names the file if one cannot be read, or does not hold what it should.
pub fn identity(chain: &Path, key: &Path) -> Result<Identity, String> {
    certificates(chain)?;
    let read =
        |path: &Path| fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()));
    let (chain, pem) = (read(chain)?, read(key)?);
    // The other formats begin with "BEGIN RSA PRIVATE KEY", "BEGIN EC PRIVATE KEY", ...
    let is_pkcs8 = pem.windows(PKCS8_HEADER.len()).any(|part| part == PKCS8_HEADER);
    Identity::from_pkcs8(&chain, &pem).ok().filter(|_| is_pkcs8).ok_or_else(|| {
        let fix = "openssl pkcs8 -topk8 -nocrypt makes one";
        format!("{} holds no key in PKCS#8 PEM without a pass phrase: {fix}", key.display())
    })
}

/// Returns a connector that trusts these authorities, or the system's if there are none, and has this client certificate.
///
/// # Errors
/// Returns OpenSSL's message if it refuses them.
pub fn connector(authorities: Vec<Certificate>, identity: Option<Identity>) -> Result<TlsConnector, String> {
    let mut builder = TlsConnector::builder();
    builder.disable_built_in_roots(!authorities.is_empty());
    for authority in authorities {
        builder.add_root_certificate(authority);
    }
    if let Some(identity) = identity {
        builder.identity(identity);
    }
    builder.build().map_err(|error| format!("TLS cannot be set up: {error}"))
}
