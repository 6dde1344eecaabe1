//! The API key reaches the server and nothing else, and no text reaches the log.

use std::fs;
use std::io::Write;
use std::sync::{Arc, Mutex};

use aegis::core::vote::Abstention;
use aegis::experts::{Panel, PanelConfig, PanelError};

use super::server::{Reply, Server};
use super::{PATIENT, folder, open, outcomes, votes};

const KEY: &str = "sk-hunter2";
const TEXT: &str = "a bad confession";

/// The log of this process.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn secrets_and_texts_reach_only_the_server() {
    let log = Log::default();
    let writer = log.clone();
    // Requests run on a thread of the HTTP client, so the log is that of the whole process.
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::set_global_default(subscriber).unwrap();
    // The server returns all that it got: in a refusal, as a wrong form, and as the name of its model.
    let server = Server::start(|request| {
        let all = format!("{} {:?}", request.body, request.headers);
        match request.body.contains("first") {
            true => Reply::Answer(403, "", all),
            false if request.body.contains("second") => Reply::ok(all),
            false => Reply::ok(
                serde_json::json!({ "results": [{ "category_scores": { "hate": all } }] }).to_string(),
            ),
        }
    });
    let folder = folder(
        &server,
        &format!("{PATIENT}retries = 0\nkey_file = \"key\"\n[endpoint.headers]\nx-team = \"team\"\n"),
    );
    fs::write(folder.path().join("remote/key"), format!("{KEY}\n")).unwrap();
    fs::write(folder.path().join("remote/team"), "blue-hunter2").unwrap();
    let panel = open(&folder, |_| {});
    for (turn, reason) in
        [("first", Abstention::Failed), ("second", Abstention::WrongShape), ("third", Abstention::WrongShape)]
    {
        assert_eq!(outcomes(&panel, &format!("{turn} {TEXT}")), (Err(reason), Ok(0.875)));
    }
    let request = server.requests().remove(0);
    assert!(request.headers.contains(&format!("authorization: Bearer {KEY}")), "{request:?}");
    assert!(request.headers.contains(&"x-team: blue-hunter2".to_owned()), "{request:?}");
    let shown = format!("{:?} {:?}", panel.experts(), votes(&panel, &format!("first {TEXT}")));
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("an expert could not judge") && log.contains("403"), "{log}");
    for all in [&shown, &log] {
        assert!(!all.contains("hunter2") && !all.contains("confession"), "{all}");
    }
}

/// Returns the error of opening a folder whose key file has this content.
fn refused(key: Option<&str>, settings: &str) -> String {
    let server = Server::start(|_| Reply::Silence);
    let folder = folder(&server, settings);
    if let Some(key) = key {
        fs::write(folder.path().join("remote/key"), key).unwrap();
    }
    let error = Panel::open(PanelConfig::new(folder.path())).err().expect("it is refused");
    assert!(matches!(error, PanelError::File { .. } | PanelError::Misfit { .. }), "{error:?}");
    error.to_string()
}

#[test]
fn a_secret_that_cannot_be_used_is_refused_without_showing_it() {
    let settings = "key_file = \"key\"\n";
    assert!(refused(None, settings).contains("endpoint.key_file"));
    assert!(refused(Some(" \n"), settings).contains("it is empty"));
    let error = refused(Some("hunter2\nhunter2"), settings);
    assert!(error.contains("endpoint.key_file") && !error.contains("hunter2"), "{error}");
    let error = refused(Some("hunter2"), "[endpoint.headers]\n\"x team\" = \"key\"\n");
    assert!(error.contains("x team") && !error.contains("hunter2"), "{error}");
}
