//! The settings of containers as Aegis loads them, and values of the chart that are refused.

use std::fs;

use aegis::config;
use serde_json::Value;

use super::{checked, manifests, pods, rendered, texts};

/// The secret that servers and scorers share.
const RECORD_KEY: &str = "hunter2 of servers and scorers, which is long enough";

fn environment(pod: &Value) -> Vec<(String, String)> {
    let variables = pod["containers"][0]["env"].as_array().unwrap().iter();
    variables
        .map(|one| (one["name"].as_str().unwrap().to_owned(), one["value"].as_str().unwrap().to_owned()))
        .collect()
}

/// The ConfigMap and the environment of each container are a configuration without an unknown key, and the values of
/// secrets come from mounted files alone.
#[test]
fn every_container_has_a_valid_configuration() {
    for full in [false, true] {
        let all = manifests(full);
        let folder = tempfile::tempdir().unwrap();
        let data = &all["ConfigMap moderation-aegis"]["data"];
        for file in ["aegis.toml", "policies.toml"] {
            fs::write(folder.path().join(file), data[file].as_str().unwrap()).unwrap();
        }
        let secrets = folder.path().join("secrets");
        for (file, secret) in [
            ("kafka-ca/ca.crt", "hunter2"),
            ("sasl-oauthbearer-client-secret/secret", "hunter2"),
            ("registry/password", "hunter2"),
            ("console/users", "hunter2"),
            ("record-key/record-key", RECORD_KEY),
        ] {
            fs::create_dir_all(secrets.join(file).parent().unwrap()).unwrap();
            fs::write(secrets.join(file), format!("{secret}\n")).unwrap();
        }
        for (name, pod) in pods(all) {
            let environment = environment(pod).into_iter().map(|(variable, value)| {
                (variable, value.replace("/etc/aegis-secrets", secrets.to_str().unwrap()))
            });
            let loaded = config::load(&folder.path().join("aegis.toml"), environment, &[]);
            let config::Loaded { config, policies } =
                loaded.unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(config.http.listen.port(), 9464, "{name}");
            assert!(policies.get("default").is_some());
            if full {
                assert_eq!(config.kafka.settings["sasl.oauthbearer.client.secret"], "hunter2", "{name}");
                assert_eq!(config.kafka.settings["sasl.oauthbearer.method"], "oidc", "{name}");
                assert!(config.kafka.settings["ssl.ca.location"].ends_with("kafka-ca/ca.crt"), "{name}");
                assert_eq!(config.registry.password.expose(), "hunter2", "{name}");
            }
            if name.ends_with("-console") {
                let metrics = &config.console.metrics;
                assert_eq!(metrics[1], "http://moderation-aegis-learn-0.moderation-aegis-learn:9464/metrics");
                assert_eq!(metrics.len(), 3);
            }
            if name.ends_with("-score") {
                assert_eq!(config.experts.sessions, if full { 4 } else { 2 });
            }
            // Servers and scorers have the same secret, and no others have it.
            let moderation = &config.http.moderation;
            let has_record_key = full && (name.ends_with("-score") || name.ends_with("-serve"));
            assert_eq!(
                moderation.record_key.expose(),
                if has_record_key { RECORD_KEY } else { "" },
                "{name}"
            );
            if name.ends_with("-serve") {
                assert_eq!(moderation.address(), Ok(Some(([0, 0, 0, 0], 9466).into())));
                assert_eq!(moderation.keys, secrets.join("api-keys/api-keys"));
                assert_eq!(moderation.check_records(), Ok(()));
                assert!(moderation.durable && config.experts.sessions == 3);
            } else {
                assert_eq!(moderation.address(), Ok(None), "{name}");
            }
        }
    }
}

/// Helm reads numbers as floats, and librdkafka refuses `1e+07`.
#[test]
fn numbers_of_kafka_settings_are_written_in_full() {
    let settings = r#"kafka.settings={"message.max.bytes": 10000000, "socket.keepalive.enable": true, "client.id": "7"}"#;
    for (name, pod) in pods(&checked(false, &["--set-json", settings])) {
        let environment = environment(pod);
        for (setting, expected) in
            [("MESSAGE_MAX_BYTES", "10000000"), ("SOCKET_KEEPALIVE_ENABLE", "true"), ("CLIENT_ID", "7")]
        {
            let variable = (format!("AEGIS__KAFKA__SETTINGS__{setting}"), expected.to_owned());
            assert!(environment.contains(&variable), "{name}: {environment:?}");
        }
    }
}

#[test]
fn values_that_would_fail_later_are_refused() {
    for (values, reason) in [
        ("kafka.settings.sasl\\.password=hunter2", "put it into a Secret"),
        ("kafka.settings.ssl\\.key\\.pem=hunter2", "put it into a Secret"),
        ("kafka.settings.ssl_key_pem=hunter2", "put it into a Secret"),
        (
            "kafka.settings.sasl\\.oauthbearer\\.assertion\\.private\\.key\\.passphrase=hunter2",
            "put it into a Secret",
        ),
        ("config=[kafka.settings]\n\"sasl.oauthbearer.client.secret\" = \"hunter2\"", "put it into a Secret"),
        ("config=[registry]\npassword = \"hunter2\"", "name a Secret instead"),
        ("config=[registry", "config is not TOML"),
        ("score.autoscaling.kind=keda,score.autoscaling.maxReplicas=7", "more than topics.partitions"),
        ("score.autoscaling.kind=keda,score.autoscaling.minReplicas=0", "less than 1"),
        ("score.autoscaling.kind=vpa", "is not keda, hpa or none"),
        ("console.enabled=true", "console.credentialsSecret is missing"),
        ("serve.enabled=true", "serve.keysSecret is missing"),
        (
            "serve.enabled=true,serve.keysSecret.name=s,serve.keysSecret.key=k",
            "serve.recordKeySecret is missing",
        ),
        (
            "serve.enabled=true,serve.keysSecret.name=s,serve.keysSecret.key=k,serve.recordKeySecret.name=s",
            "serve.recordKeySecret is missing",
        ),
        (
            "serve.enabled=true,serve.keysSecret.name=s,serve.keysSecret.key=k,serve.recordKeySecret.name=s,\
             serve.recordKeySecret.key=r,serve.autoscaling.kind=keda",
            "serve.autoscaling.kind is not hpa or none",
        ),
        // A misspelt value would have no effect.
        ("serve.enable=true", "'enable' not allowed"),
        ("serve.service.port=http", "got string, want integer"),
        ("servers.enabled=true", "'servers' not allowed"),
        // A dot without a backslash begins another object.
        ("kafka.settings.sasl.mechanism=PLAIN", "got object, want"),
    ] {
        let flag = if values.starts_with("config=") { "--set-string" } else { "--set" };
        let output = rendered(false, &[flag, values]);
        let text = texts(&output);
        assert!(!output.status.success() && text.contains(reason), "{values}: {text}");
        assert!(!text.contains("hunter2"), "{values}: {text}");
    }
}
