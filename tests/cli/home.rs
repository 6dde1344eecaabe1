//! The places in which commands find their configuration.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn aegis(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aegis"));
    command
        .args(arguments)
        .current_dir(folder)
        .env_remove("AEGIS_CONFIG")
        .env_remove("AEGIS_MODELS")
        .output()
        .unwrap()
}

/// Returns the value of `defaults.tenant` in a folder, and the exit code.
fn tenant(folder: &Path, more: &[&str]) -> (Option<i32>, String) {
    let output = aegis(folder, &[&["config", "show", "--output", "json"], more].concat());
    let all: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let found = all.as_array().and_then(|all| all.iter().find(|one| one["key"] == "defaults.tenant"));
    (output.status.code(), found.map_or_else(String::new, |one| one["value"].as_str().unwrap().to_owned()))
}

#[test]
fn settings_have_a_home() {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &str, tenant: &str| {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("[defaults]\ntenant = \"{tenant}\"\n")).unwrap();
    };
    assert_eq!(tenant(folder.path(), &[]), (Some(78), String::new()));
    write("config/aegis.toml", "second");
    assert_eq!(tenant(folder.path(), &[]), (Some(0), "second".into()));
    write("aegis.toml", "first");
    assert_eq!(tenant(folder.path(), &[]), (Some(0), "first".into()));
    write("other.toml", "named");
    assert_eq!(tenant(folder.path(), &["--config", "other.toml"]), (Some(0), "named".into()));
    // A broken file in the first place is reported, and the second place is not read instead.
    fs::write(folder.path().join("aegis.toml"), "[defaults\n").unwrap();
    assert_eq!(tenant(folder.path(), &[]).0, Some(78));
}

/// Every command that needs a configuration names the places in which it has looked.
#[test]
fn without_a_file_every_command_names_the_places() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [
        "run",
        "check",
        "topics",
        "experts list",
        "experts test hello",
        "score events.jsonl",
        "tune",
        "verify",
        "explain e-1",
        "weights show",
        "weights export",
        "config show",
        "console",
        "console user list",
        "dlq list",
        "dlq replay --dry-run",
        "labels stats",
        "report",
        "review export",
        "replay topic:aegis.rounds",
        "erase --subject u",
    ] {
        let words: Vec<_> = arguments.split(' ').collect();
        let output = aegis(folder.path(), &words);
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert_eq!(output.status.code(), Some(78), "{arguments}: {text}");
        for place in ["aegis.toml and ", "config/aegis.toml;", "--config FILE or AEGIS_CONFIG"] {
            assert!(text.contains(place), "{arguments}: {text}");
        }
    }
}

/// A clone has config/aegis.toml, and `make setup` puts the experts where it says.
#[test]
fn experts_are_found_in_a_clone_without_an_argument() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    assert!(root.join("models/.stamp").exists(), "models/ is missing: make setup");
    let listed = aegis(root, &["experts", "list", "--set", "experts.only=['rules', 'tox-block']"]);
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    assert!(text.contains("rules") && text.contains("tox-block"), "{text}");
    let tested = aegis(root, &["experts", "test", "I will kill you", "--set", "experts.only=['rules']"]);
    assert!(tested.status.success(), "{}", String::from_utf8_lossy(&tested.stderr));
    assert!(String::from_utf8_lossy(&tested.stdout).contains("rules"));
}
