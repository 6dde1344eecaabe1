//! TLS with certificates of the registry and of the client.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::thread;

use aegis::config;
use aegis::registry::{Registry, RegistryError};
use openssl::error::ErrorStack;
use openssl::ssl::{SslAcceptor, SslMethod, SslVerifyMode};

use super::{EVENT, ask, settings};
use crate::support::identity::{Identity, identity};

/// Starts a registry with one schema that requires certificates of `authority` from its clients.
fn serve(server: &Identity, authority: &Identity) -> String {
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
    acceptor.set_certificate(&server.certificate).unwrap();
    acceptor.set_private_key(&server.key).unwrap();
    acceptor.cert_store_mut().add_cert(authority.certificate.clone()).unwrap();
    acceptor.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
    let acceptor = acceptor.build();
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for connection in listener.incoming() {
            let Ok(mut stream) = acceptor.accept(connection.unwrap()) else { continue };
            if stream.read(&mut [0; 4096]).is_err() {
                continue;
            }
            let body = serde_json::json!({ "schema": EVENT }).to_string();
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(&[head.as_bytes(), body.as_bytes()].concat());
            let _ = stream.shutdown();
        }
    });
    url
}

fn put(folder: &Path, name: &str, pem: Result<Vec<u8>, ErrorStack>) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, pem.unwrap()).unwrap();
    path
}

#[test]
fn both_sides_verify_certificates() {
    let folder = tempfile::tempdir().unwrap();
    let ours = identity("test authority", 1, None);
    let stranger = identity("another authority", 2, None);
    let server = identity("registry", 3, Some(&ours));
    let client = identity("aegis", 4, Some(&ours));
    let impostor = identity("aegis", 5, Some(&stranger));
    let url = serve(&server, &ours);
    let put = |name: &str, pem| put(folder.path(), name, pem);
    let authorities = put("authorities.pem", ours.certificate.to_pem());
    let strangers = put("strangers.pem", stranger.certificate.to_pem());
    let certificate = put("certificate.pem", client.certificate.to_pem());
    let key = put("key.pem", client.key.private_key_to_pem_pkcs8());
    let old_key = put("old.pem", client.key.rsa().unwrap().private_key_to_pem());
    let false_certificate = put("false.pem", impostor.certificate.to_pem());
    let false_key = put("false-key.pem", impostor.key.private_key_to_pem_pkcs8());

    let with = |authorities: Option<&PathBuf>, identity: Option<(&PathBuf, &PathBuf)>| config::Registry {
        authorities: authorities.cloned().unwrap_or_default(),
        certificate: identity.map(|(certificate, _)| certificate.clone()).unwrap_or_default(),
        key: identity.map(|(_, key)| key.clone()).unwrap_or_default(),
        ..settings(&url)
    };
    let said = |settings: config::Registry| {
        let known = ask(&Registry::open(&settings).unwrap(), 1);
        known.map_or_else(|error| error.name(), |()| "known")
    };
    let (us, impostors) = (Some((&certificate, &key)), Some((&false_certificate, &false_key)));
    assert_eq!(said(with(Some(&authorities), us)), "known");
    // The system's authorities and another authority did not sign the registry's certificate.
    assert_eq!(said(with(None, us)), "RegistryUnavailable");
    assert_eq!(said(with(Some(&strangers), us)), "RegistryUnavailable");
    // The registry does not accept the client.
    assert_eq!(said(with(Some(&authorities), None)), "RegistryUnavailable");
    assert_eq!(said(with(Some(&authorities), impostors)), "RegistryUnavailable");
    let error = Registry::open(&with(Some(&authorities), Some((&certificate, &old_key)))).err().unwrap();
    assert!(matches!(error, RegistryError::Settings { key: "key", .. }), "{error}");
}
