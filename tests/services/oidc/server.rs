//! A token server: the grant of client credentials over TLS, and JWTs signed with RS256.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::sign::Signer;
use openssl::ssl::{SslAcceptor, SslMethod};
use serde_json::json;

use crate::support::identity::identity;

/// The secret of every client.
pub const SECRET: &str = "Client-4be07d15-secret";
/// The user whose tokens are signed with a key that the broker does not trust.
pub const FORGED: &str = "aegis-forged";
/// The user whose tokens are for another service.
pub const ELSEWHERE: &str = "aegis-elsewhere";
/// The service that the other users' tokens are for, and who grants them.
pub const AUDIENCE: &str = "kafka";
pub const ISSUER: &str = "https://login.test";
/// The lifetime of a token. Clients fetch the next one after most of it.
const LIFETIME: Duration = Duration::from_secs(20);

/// The keys that tokens are signed with.
struct Keys {
    /// The key whose public half is in `jwks.json`.
    trusted: PKey<Private>,
    /// The key of [`FORGED`].
    other: PKey<Private>,
}

/// A running token server. It ends with the test binary.
pub struct TokenServer {
    pub url: String,
    granted: Arc<AtomicUsize>,
}

impl TokenServer {
    /// Starts a server. `authority.pem` and `jwks.json` in the folder are what its clients and the broker trust.
    pub fn start(folder: &Path) -> Self {
        let authority = identity("tokens", 1, None);
        std::fs::write(folder.join("authority.pem"), authority.certificate.to_pem().unwrap()).unwrap();
        let mut acceptor = SslAcceptor::mozilla_intermediate(SslMethod::tls()).unwrap();
        acceptor.set_certificate(&authority.certificate).unwrap();
        acceptor.set_private_key(&authority.key).unwrap();
        let acceptor = Arc::new(acceptor.build());
        let key = Rsa::generate(2048).unwrap();
        let base64 = |bytes: Vec<u8>| URL_SAFE_NO_PAD.encode(bytes);
        let public = json!({"keys": [{
            "kty": "RSA", "kid": "one", "use": "sig", "alg": "RS256",
            "n": base64(key.n().to_vec()), "e": base64(key.e().to_vec()),
        }]});
        std::fs::write(folder.join("jwks.json"), public.to_string()).unwrap();
        let other = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
        let keys = Arc::new(Keys { trusted: PKey::from_rsa(key).unwrap(), other });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{}/token", listener.local_addr().unwrap());
        let granted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&granted);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (acceptor, keys, count) = (Arc::clone(&acceptor), Arc::clone(&keys), Arc::clone(&count));
                thread::spawn(move || {
                    if let Ok(mut stream) = acceptor.accept(stream.unwrap()) {
                        let _ = answer(&mut stream, &keys, &count);
                        let _ = stream.shutdown();
                    }
                });
            }
        });
        Self { url, granted }
    }

    /// Returns the number of tokens that were granted.
    pub fn granted(&self) -> usize {
        self.granted.load(Ordering::SeqCst)
    }
}

/// Reads one request and writes its response.
fn answer(stream: &mut (impl Read + Write), keys: &Keys, granted: &AtomicUsize) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut chunk = [0; 1_024];
    while !request.windows(4).any(|four| four == b"\r\n\r\n") {
        match stream.read(&mut chunk)? {
            0 => return Ok(()),
            read => request.extend_from_slice(&chunk[..read]),
        }
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    let header = request.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("authorization").then(|| value.trim().to_owned())
    });
    let user = header.and_then(|value| {
        let bytes = STANDARD.decode(value.strip_prefix("Basic ")?).ok()?;
        String::from_utf8(bytes).ok()?.strip_suffix(&format!(":{SECRET}")).map(str::to_owned)
    });
    let (status, body) = match user {
        Some(user) if request.starts_with("POST /token ") => {
            granted.fetch_add(1, Ordering::SeqCst);
            let token = token(&user, keys);
            (
                "200 OK",
                json!({"access_token": token, "token_type": "Bearer", "expires_in": LIFETIME.as_secs()}),
            )
        }
        _ => ("401 Unauthorized", json!({"error": "invalid_client"})),
    };
    let body = body.to_string();
    write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// Returns a token of a user.
fn token(user: &str, keys: &Keys) -> String {
    let audience = if user == ELSEWHERE { "other" } else { AUDIENCE };
    let key = if user == FORGED { &keys.other } else { &keys.trusted };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({
        "iss": ISSUER, "aud": audience, "sub": user, "scope": "moderation",
        "iat": now, "exp": now + LIFETIME.as_secs(),
    });
    let head = json!({"alg": "RS256", "typ": "JWT", "kid": "one"});
    let signed = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(head.to_string()),
        URL_SAFE_NO_PAD.encode(claims.to_string())
    );
    let mut signer = Signer::new(MessageDigest::sha256(), key).unwrap();
    signer.update(signed.as_bytes()).unwrap();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signer.sign_to_vec().unwrap()))
}
