//! `aegis config`, `aegis completions`, and docs/configuration.md.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};

use aegis::config;

fn root(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn aegis(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aegis"));
    command.args(arguments).env_remove("AEGIS_CONFIG").env("AEGIS__SCORE__WINDOW", "7").output().unwrap()
}

#[test]
fn the_page_is_what_the_code_says() {
    let path = root("docs/configuration.md");
    if std::env::var_os("AEGIS_WRITE_DOCS").is_some() {
        std::fs::write(&path, config::document()).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == config::document(),
        "docs/configuration.md differs from the code: run AEGIS_WRITE_DOCS=1 cargo test --test cli the_page_is"
    );
}

/// Settings that are empty by default and in the example, and settings that are only comments there, because the file
/// would override tuned.toml.
const UNWRITTEN: &[&str] = &[
    "kafka.settings",
    "kafka.secrets",
    "traces.secrets",
    "experts.sessions",
    "experts.threads",
    "experts.batch_tokens",
    "experts.card_batch_tokens",
    "experts.budgets",
    "experts.card_budgets",
    "score.window",
];

/// config/aegis.toml states that it has every setting at its default.
#[test]
fn the_example_has_every_setting_at_its_default() {
    let example = root("config/aegis.toml");
    let written = config::shown(&example, [], &[]).unwrap();
    let unwritten: Vec<_> = written
        .iter()
        .filter(|shown| shown.from == config::Origin::Default && !UNWRITTEN.contains(&&*shown.key))
        .map(|shown| shown.key.as_str())
        .collect();
    assert!(unwritten.is_empty(), "config/aegis.toml lacks {unwritten:?}");
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("aegis.toml");
    std::fs::write(&empty, "").unwrap();
    let defaults = config::shown(&empty, [], &[]).unwrap();
    // The paths of files are specific to the example.
    let files = ["experts.folder", "experts.runtime", "learn.store", "policies"];
    let pairs = |all: &[config::Shown]| -> BTreeSet<(String, String)> {
        let kept = all.iter().filter(|shown| !files.contains(&shown.key.as_str()));
        kept.map(|shown| (shown.key.clone(), shown.value.to_string())).collect()
    };
    assert_eq!(pairs(&written), pairs(&defaults));
}

#[test]
fn secrets_come_from_files_and_are_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("aegis.toml");
    let text =
        "[kafka.settings]\n\"sasl.password\" = \"old\"\n[kafka.secrets]\n\"sasl.password\" = \"word\"\n";
    std::fs::write(&path, text).unwrap();
    std::fs::write(folder.path().join("word"), "hunter 2 \r\n").unwrap();
    std::fs::write(folder.path().join("phrase"), "hunter3").unwrap();
    // The environment overrides the file, and its path is relative to the same folder.
    let environment = [("AEGIS__KAFKA__SECRETS__SSL_KEY_PASSWORD".to_owned(), "phrase".to_owned())];
    let loaded = config::load(&path, environment.clone(), &[]).unwrap().config.kafka.settings;
    assert_eq!(loaded["sasl.password"], "hunter 2 ");
    assert_eq!(loaded["ssl.key.password"], "hunter3");
    let shown = config::shown(&path, environment.clone(), &[]).unwrap();
    assert!(!format!("{shown:?}").contains("hunter"), "{shown:?}");
    let from = |key: &str| shown.iter().find(|shown| shown.key == key).unwrap();
    assert_eq!(from("kafka.settings.ssl.key.password").from, config::Origin::Environment);
    assert_eq!(
        from("kafka.settings.ssl.key.password").environment,
        "AEGIS__KAFKA__SETTINGS__SSL_KEY_PASSWORD"
    );
    std::fs::write(folder.path().join("word"), "x".repeat(70_000)).unwrap();
    let refused = config::load(&path, environment, &[]).unwrap_err().to_string();
    assert!(refused.contains("more than 65536 bytes") && refused.contains("word"), "{refused}");
}

#[test]
fn headers_of_traces_come_from_files_and_are_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("aegis.toml");
    let text = "[traces]\nendpoint = \"https://me:hunter2@c/v1/traces\"\n[traces.secrets]\nauthorization = \"word\"\n";
    std::fs::write(&path, text).unwrap();
    std::fs::write(folder.path().join("word"), "Bearer hunter2\n").unwrap();
    let environment = [("AEGIS__TRACES__SECRETS__X_SCOPE_ORGID".to_owned(), "word".to_owned())];
    let traces = config::load(&path, environment.clone(), &[]).unwrap().config.traces;
    let names: Vec<_> = traces.headers.iter().map(|(name, value)| (name.as_str(), value.expose())).collect();
    assert_eq!(names, [("authorization", "Bearer hunter2"), ("x-scope-orgid", "Bearer hunter2")]);
    let shown = config::shown(&path, environment, &[]).unwrap();
    assert!(!format!("{shown:?} {:?}", traces.headers).contains("hunter2"), "{shown:?}");
    let from = shown.iter().find(|shown| shown.key == "traces.secrets.x-scope-orgid").unwrap();
    assert_eq!(from.environment, "AEGIS__TRACES__SECRETS__X_SCOPE_ORGID");
    assert_eq!(from.from, config::Origin::Environment);
    for sample in ["-0.1", "1.5", "nan"] {
        let refused = config::load(&path, [], &[format!("traces.sample={sample}")]).unwrap_err().to_string();
        assert!(refused.contains("from 0 to 1"), "{refused}");
    }
}

#[test]
fn what_is_in_effect_is_shown_with_where_it_comes_from() {
    let example = root("config/aegis.toml");
    let example = example.to_str().unwrap();
    let show = ["config", "show", "--config", example, "--set", "kafka.settings.sasl.password=hunter2"];
    let text = String::from_utf8(aegis(&show).stdout).unwrap();
    let line = |key: &str| {
        let found = text.lines().find(|line| line.split_whitespace().next() == Some(key));
        found
            .unwrap_or_else(|| panic!("{key} is not in\n{text}"))
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(line("score.window"), "score.window environment 7");
    assert_eq!(line("topics.events"), "topics.events file \"moderation.events\"");
    assert_eq!(line("kafka.settings.sasl.password"), "kafka.settings.sasl.password --set \"***\"");
    assert!(!text.contains("hunter2"));
    let output = aegis(&[&show[..], &["--changed", "--output", "json"]].concat());
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let window = json.as_array().unwrap().iter().find(|one| one["key"] == "score.window").unwrap();
    assert_eq!((&window["from"], &window["value"]), (&"environment".into(), &7.into()));
}

#[test]
fn schemas_and_completions_are_printed() {
    let schema: serde_json::Value = serde_json::from_slice(&aegis(&["config", "schema"]).stdout).unwrap();
    let window = &schema["properties"]["score"]["properties"]["window"];
    assert_eq!((&window["type"], &window["default"]), (&"integer".into(), &256.into()));
    assert_eq!(schema["additionalProperties"], false);
    let policies = aegis(&["config", "schema", "--policies"]).stdout;
    let policies: serde_json::Value = serde_json::from_slice(&policies).unwrap();
    let policy = &policies["properties"]["policies"]["additionalProperties"]["properties"];
    assert_eq!(policy["flagged"]["default"], "block");
    for shell in ["bash", "zsh", "fish"] {
        let script = String::from_utf8(aegis(&["completions", shell]).stdout).unwrap();
        assert!(script.contains("explain") && script.contains("weights"), "{shell}");
    }
}

/// Labels of a topic in JSON of another layout, saved to a file.
#[test]
fn labels_of_another_shape_are_replayed_by_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(
        path("aegis.toml"),
        "[defaults]\ntenant = \"acme\"\n[label_fields]\nevent_id = \"/task/id\"\nverdict = \"/bad\"\n",
    )
    .unwrap();
    std::fs::write(path("labels.jsonl"), "{\"task\": {\"id\": 7}, \"bad\": true}\n").unwrap();
    let (labels, config, save) = (path("labels.jsonl"), path("aegis.toml"), path("save"));
    let ran = aegis(&["replay", &labels, "--config", &config, "--save", &save]);
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let saved = std::fs::read_to_string(save).unwrap();
    let label = saved.lines().find(|line| line.contains("\"aegis\":\"label\"")).unwrap();
    let label: serde_json::Value = serde_json::from_str(label).unwrap();
    assert_eq!(
        (&label["tenant"], &label["event_id"], &label["verdict"]),
        (&"acme".into(), &"7".into(), &"unsafe".into())
    );
    // Without the configuration the line cannot be read.
    assert_eq!(aegis(&["replay", &labels]).status.code(), Some(65));
}
