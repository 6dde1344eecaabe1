//! Certificates from files, for whoever speaks TLS over HTTP.

use std::fs;
use std::path::Path;

use ureq::tls::{Certificate, PemItem, parse_pem};

/// All certificates of a PEM file.
///
/// # Errors
/// In words that name the file, where it cannot be read or holds none.
pub fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>, String> {
    let pem = fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let found: Vec<_> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if found.is_empty() { Err(format!("{} holds no certificate in PEM", path.display())) } else { Ok(found) }
}
