//! TLS both ways: who the registry is, and who we are.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::thread;

use aegis::registry::{Registry, RegistryError, Settings};
use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::ssl::{SslAcceptor, SslMethod, SslVerifyMode};
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509NameBuilder};

use crate::{EVENT, ask, settings};

struct Identity {
    certificate: X509,
    key: PKey<Private>,
}

/// A certificate of `name` for the loopback address; its own issuer where there is none.
fn identity(name: &str, serial: u32, issuer: Option<&Identity>) -> Identity {
    let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
    let mut subject = X509NameBuilder::new().unwrap();
    subject.append_entry_by_text("CN", name).unwrap();
    let subject = subject.build();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder.set_serial_number(&BigNum::from_u32(serial).unwrap().to_asn1_integer().unwrap()).unwrap();
    builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::days_from_now(2).unwrap()).unwrap();
    builder.set_subject_name(&subject).unwrap();
    builder.set_issuer_name(issuer.map_or(&subject, |issuer| issuer.certificate.subject_name())).unwrap();
    builder.set_pubkey(&key).unwrap();
    if issuer.is_none() {
        builder.append_extension(BasicConstraints::new().critical().ca().build().unwrap()).unwrap();
    }
    let names = SubjectAlternativeName::new().ip("127.0.0.1").build(&builder.x509v3_context(None, None));
    builder.append_extension(names.unwrap()).unwrap();
    builder.sign(issuer.map_or(&key, |issuer| &issuer.key), MessageDigest::sha256()).unwrap();
    Identity { certificate: builder.build(), key }
}

/// A registry with one schema, that asks its clients for a certificate of `authority`.
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
fn the_registry_and_we_are_who_we_say() {
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

    let with = |authorities: Option<&PathBuf>, identity: Option<(&PathBuf, &PathBuf)>| Settings {
        authorities: authorities.cloned(),
        identity: identity.map(|(certificate, key)| (certificate.clone(), key.clone())),
        ..settings(url.clone())
    };
    let said = |settings: Settings| {
        let known = ask(&Registry::open(settings).unwrap(), 1);
        known.map_or_else(|error| error.name(), |()| "known")
    };
    let (us, impostors) = (Some((&certificate, &key)), Some((&false_certificate, &false_key)));
    assert_eq!(said(with(Some(&authorities), us)), "known");
    // The system's authorities, and a stranger, do not vouch for this registry.
    assert_eq!(said(with(None, us)), "RegistryUnavailable");
    assert_eq!(said(with(Some(&strangers), us)), "RegistryUnavailable");
    // The registry does not know us.
    assert_eq!(said(with(Some(&authorities), None)), "RegistryUnavailable");
    assert_eq!(said(with(Some(&authorities), impostors)), "RegistryUnavailable");
    let error = Registry::open(with(Some(&authorities), Some((&certificate, &old_key)))).err().unwrap();
    assert!(matches!(error, RegistryError::Settings { key: "key", .. }), "{error}");
}
