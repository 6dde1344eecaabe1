//! SASL/OAUTHBEARER with OIDC: librdkafka fetches tokens of a small token server, and an Apache Kafka checks them.

/// Without the feature, the settings are refused with the reason before anything connects.
#[cfg(not(feature = "oidc"))]
#[test]
fn a_build_without_oidc_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("aegis.toml");
    std::fs::write(&file, "[kafka.settings]\n\"sasl.oauthbearer.client.id\" = \"hunter2\"\n").unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_aegis"));
    let output = command.args(["run", "--config", file.to_str().unwrap()]).output().unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert_eq!(output.status.code(), Some(78), "{text}");
    assert!(text.contains("--features oidc") && !text.contains("hunter2"), "{text}");
}

#[cfg(feature = "oidc")]
mod server;
#[cfg(feature = "oidc")]
mod with_kafka;
