//! The client with a real registry (Apicurio, by its Confluent API). Without Maven or Java the test fails with a
//! message of what to install.

use std::fs;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use aegis::codec::{SCHEMAS, SchemaId, Schemas};
use aegis::config;
use aegis::http::{Client, tls};
use aegis::registry::{Registry, RegistryError};

use super::{EVENT, FOREIGN, FOREIGN_DATUM, ask, event, framed, settings};
use crate::support::flow;

/// The registry. It ends when its pipe to this process closes.
struct Real {
    url: String,
    log: String,
    leash: Option<ChildStdin>,
    child: Child,
}

impl Real {
    fn start() -> Self {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/registry");
        let log = format!("{}/schema-registry-{}.log", env!("CARGO_TARGET_TMPDIR"), std::process::id());
        let mut child = Command::new("bash")
            .arg(format!("{folder}/registry.sh"))
            .args(["0", &log])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("bash starts the registry");
        let leash = child.stdin.take();
        let until = Instant::now() + Duration::from_secs(180);
        loop {
            let said = fs::read_to_string(&log).unwrap_or_default();
            if let Some(status) = child.try_wait().unwrap() {
                panic!("no schema registry ({status}): see above for what to install\n{said}");
            }
            assert!(Instant::now() < until, "the schema registry does not start: {log}");
            if let Some((_, rest)) = said.split_once("Listening on: http://")
                && let Some((address, _)) = rest.split_once(". ")
            {
                let url = format!("http://{address}/apis/ccompat/v7");
                return Self { url, log, leash, child };
            }
            // A growing file sends no event.
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn stop(&mut self) {
        self.leash = None;
        let _ = self.child.wait();
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        self.stop();
        let _ = fs::remove_file(&self.log);
    }
}

#[test]
fn a_real_registry_takes_our_schemas_and_gives_others() {
    let mut real = Real::start();
    let settings = config::Registry {
        // Its first answers are slow.
        request_timeout_ms: 20_000,
        ..settings(&real.url)
    };
    let registry = Registry::open(&settings).unwrap();
    let register = |subject: &str, schema: &str, add| registry.register(subject, schema, add, &|| false);
    let body = r#"{"compatibility":"FULL_TRANSITIVE"}"#;
    let timeout = Duration::from_secs(60);
    let client = Client::new(tls::connector(Vec::new(), None).unwrap(), timeout).unwrap();
    let set = hyper::Request::put(format!("{}/config", real.url)).header("Content-Type", "application/json");
    let set = client.send_blocking(set.body(body.into()).unwrap(), 1 << 20, timeout);
    assert!(set.unwrap().status().is_success());

    // Every schema is FULL_TRANSITIVE compatible with its committed earlier versions, and has one id.
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/records");
    let mut versions: Vec<_> = fs::read_dir(fixtures).unwrap().map(|entry| entry.unwrap().path()).collect();
    versions.sort();
    for (name, schema) in SCHEMAS {
        let file = match name {
            "LedgerRecord" => "ledger".to_owned(),
            "ReviewRequest" => "review".to_owned(),
            _ => name.to_lowercase(),
        };
        let subject = format!("full.{file}-value");
        // The folder of a version has the schemas that it changed.
        let earlier = versions.iter().map(|version| version.join(format!("{file}.avsc")));
        let earlier: Vec<_> = earlier.filter(|path| path.exists()).collect();
        assert!(!earlier.is_empty(), "{name} has no committed version");
        for path in earlier {
            register(&subject, &fs::read_to_string(path).unwrap(), true).unwrap();
        }
        let id = register(&subject, schema, true).unwrap();
        assert_eq!(register(&subject, schema, true), Ok(id), "{name}");
        assert_eq!(register(&subject, schema, false), Ok(id), "{name}");
        ask(&registry, id).unwrap();
    }

    // An incompatible schema is refused with the registry's reason.
    let error = register("full.event-value", FOREIGN, true).unwrap_err();
    assert!(matches!(error, RegistryError::Conflict { .. }), "{error}");
    assert!(error.to_string().contains("Incompatible"), "{error}");
    let error = register("absent-value", EVENT, false).unwrap_err();
    assert!(matches!(error, RegistryError::NotRegistered { .. }), "{error}");

    // Records of our schema and of another writer's.
    let ours = register("full.event-value", EVENT, true).unwrap();
    let theirs = register("com.example.Chat", FOREIGN, true).unwrap();
    let sent = flow::event(1, "hello");
    let waiting = registry.waiting(&|| false);
    let payload = aegis::codec::encode_event(&sent, aegis::codec::Encoding::Confluent(ours)).unwrap();
    assert_eq!(event(&waiting, &payload), Ok(sent.clone()));
    assert_eq!(event(&waiting, &framed(theirs, FOREIGN_DATUM)).unwrap().id, "e-1");
    assert_eq!(ask(&registry, 99_999).unwrap_err().name(), "UnknownSchemaId");
    let guid = waiting.writer(SchemaId::Guid([7; 16])).err().unwrap();
    assert_eq!(guid.name(), "UnknownSchemaId");

    // After the registry has stopped, known schemas are still used.
    real.stop();
    assert_eq!(event(&waiting, &payload), Ok(sent));
    assert_eq!(ask(&registry, 88_888).unwrap_err().name(), "RegistryUnavailable");
}
