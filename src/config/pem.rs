//! Certificates of the PEM files that the configuration names.

use std::fs;
use std::path::Path;

use ureq::tls::{Certificate, PemItem, parse_pem};

/// Returns all certificates of a PEM file.
///
/// # Errors
/// Returns a message that names the file if it cannot be read or holds no certificate.
pub fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>, String> {
    let pem = fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let certificates: Vec<_> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        return Err(format!("{} holds no certificate in PEM", path.display()));
    }
    Ok(certificates)
}
