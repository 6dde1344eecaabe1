//! The roles and commands with tokens, on a real Apache Kafka.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::server::{AUDIENCE, ELSEWHERE, FORGED, ISSUER, SECRET, TokenServer};
use crate::support::flow::{event, event_record, read_until, send};
use crate::support::site::{Process, Site, wait};
use crate::support::{Kafka, free_port};

/// A secret that the token server refuses.
const WRONG: &str = "Client-0c51e9aa-wrong";

/// A broker that accepts tokens, and the server that grants them.
struct Secured {
    kafka: Kafka,
    sasl: String,
    tokens: TokenServer,
    folder: PathBuf,
}

fn secured() -> &'static Secured {
    static SHARED: OnceLock<Secured> = OnceLock::new();
    SHARED.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("oidc-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let tokens = TokenServer::start(&folder);
        let keys = folder.join("jwks.json");
        let url = format!("file://{}", keys.display());
        let sasl = free_port();
        let options = format!(
            "-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={url}\n\
             -Dorg.apache.kafka.sasl.oauthbearer.allowed.files={}\n",
            keys.display()
        );
        let kafka =
            Kafka::with_options(|port, controller| settings(&url, port, controller, sasl), "", &options);
        Secured { kafka, sasl: format!("127.0.0.1:{sasl}"), tokens, folder }
    })
}

/// Returns the broker's further settings, which docs/security.md explains. Sessions end with their tokens, unless the client
/// authenticates again.
fn settings(keys: &str, port: u16, controller: u16, sasl: u16) -> String {
    let module = "org.apache.kafka.common.security.oauthbearer";
    let listener = "listener.name.sasl_plaintext.oauthbearer";
    format!(
        "listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller},SASL_PLAINTEXT://127.0.0.1:{sasl}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port},SASL_PLAINTEXT://127.0.0.1:{sasl}\n\
         listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT\n\
         sasl.enabled.mechanisms=OAUTHBEARER\n\
         {listener}.sasl.jaas.config={module}.OAuthBearerLoginModule required;\n\
         {listener}.sasl.server.callback.handler.class={module}.OAuthBearerValidatorCallbackHandler\n\
         {listener}.sasl.oauthbearer.jwks.endpoint.url={keys}\n\
         {listener}.sasl.oauthbearer.expected.issuer={ISSUER}\n\
         {listener}.sasl.oauthbearer.expected.audience={AUDIENCE}\n\
         {listener}.connections.max.reauth.ms=10000\n\
         sasl.oauthbearer.jwt.validator.class={module}.BrokerJwtValidator\n"
    )
}

/// Returns the settings of a client.
fn client(id: &str, secret_file: &str) -> Vec<(&'static str, String)> {
    let secured = secured();
    let file = |name: &str| secured.folder.join(name).display().to_string();
    std::fs::write(secured.folder.join("secret"), format!("{SECRET}\n")).unwrap();
    std::fs::write(secured.folder.join("wrong"), format!("{WRONG}\n")).unwrap();
    vec![
        ("kafka.brokers", secured.sasl.clone()),
        ("kafka.settings.security_protocol", "SASL_PLAINTEXT".into()),
        ("kafka.settings.sasl_mechanism", "OAUTHBEARER".into()),
        ("kafka.settings.sasl_oauthbearer_method", "oidc".into()),
        ("kafka.settings.sasl_oauthbearer_client_id", id.into()),
        ("kafka.settings.sasl_oauthbearer_scope", "moderation".into()),
        ("kafka.settings.sasl_oauthbearer_token_endpoint_url", secured.tokens.url.clone()),
        ("kafka.settings.https_ca_location", file("authority.pem")),
        ("kafka.secrets.sasl_oauthbearer_client_secret", file(secret_file)),
        ("log.level", "debug".into()),
    ]
}

/// Neither the client's secret nor a token is in any output.
fn holds_no_secret(text: &str) {
    for secret in [SECRET, WRONG, "eyJ"] {
        assert!(!text.contains(secret), "{secret} is in\n{text}");
    }
}

/// Prints the log of a process if the test fails.
struct LogOnFailure<'a>(&'a Process);

impl Drop for LogOnFailure<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", self.0.log());
        }
    }
}

/// A scorer decides across several tokens, each of which ends its sessions when it expires.
#[test]
fn a_scorer_works_with_tokens_that_expire() {
    let secured = secured();
    let sets = client("aegis-score", "secret");
    let sets: Vec<_> = sets.iter().map(|(key, value)| (*key, value.as_str())).collect();
    // The topics are created with tokens, too.
    let site = Site::on(&secured.kafka, "oidc", 2, &sets);
    let shown = site.aegis(&["config", "show"]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("sasl.oauthbearer.client.secret") && shown.contains("\"oidc\""), "{shown}");
    holds_no_secret(&shown);

    let mut score = site.start_with("score", &[], &[("AEGIS__SCORE__MEMBER", "one")]);
    score.ready();
    let (events, decisions) = (site.topic("events"), site.topic("decisions"));
    let records = |numbers: std::ops::Range<usize>| -> Vec<_> {
        numbers.map(|number| event_record(&events, &event(number, "hello"))).collect()
    };
    send(&site.connection, &records(0..20));
    read_until(&site.connection, &decisions, "20 decisions", |records| records.len() >= 20);
    let before = secured.tokens.granted();
    assert!(before > 0);
    // Each client of the process has fetched a second token by then.
    wait("further tokens", || secured.tokens.granted() >= before + 6);
    let shown = LogOnFailure(&score);
    send(&site.connection, &records(20..40));
    read_until(&site.connection, &decisions, "40 decisions", |records| records.len() >= 40);
    drop(shown);
    assert_eq!(score.get("/readyz").0, 200);
    let log = score.log();
    score.stop();
    holds_no_secret(&log);
}

/// Runs a command with the settings of a client, which stand in the environment. Returns its exit code and its output.
fn run(arguments: &[&str], id: &str, secret_file: &str) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    crate::support::flow::experts(&folder.path().join("models"));
    let config = folder.path().join("aegis.toml");
    std::fs::write(&config, "[experts]\nfolder = \"models\"\n[http]\nlisten = \"127.0.0.1:0\"\n").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_aegis"));
    command.args(arguments).arg("--config").arg(&config).env_remove("AEGIS_CONFIG");
    for (key, value) in client(id, secret_file) {
        command.env(format!("AEGIS__{}", key.to_uppercase().replace('.', "__")), value);
    }
    let output = command.output().unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    holds_no_secret(&text);
    (output.status.code(), text)
}

#[test]
fn a_client_that_the_token_server_refuses_ends_and_says_so() {
    for arguments in [&["run", "--role", "score"][..], &["topics"]] {
        let (code, text) = run(arguments, "aegis-score", "wrong");
        assert_eq!(code, Some(69), "{arguments:?}: {text}");
        assert!(text.contains("OAUTHBEARER") && text.contains("invalid_client"), "{arguments:?}: {text}");
    }
}

/// The token server grants these tokens, and the broker refuses them.
#[test]
fn tokens_of_an_unknown_key_or_for_another_service_are_refused() {
    for id in [FORGED, ELSEWHERE] {
        let (code, text) = run(&["topics"], id, "secret");
        assert_eq!(code, Some(69), "{id}: {text}");
        assert!(text.contains("OAUTHBEARER") && text.contains("invalid_token"), "{id}: {text}");
    }
}
