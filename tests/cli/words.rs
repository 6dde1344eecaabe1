//! The texts of `--help` and of errors, stored word by word in words/, so that their changes are visible in a diff.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::experts_support::{FLOAT, Folder, Graph, INT64, models};
use crate::support::flow::experts;

/// Every command with a help text.
const COMMANDS: &[&str] = &[
    "",
    "run",
    "console",
    "console user",
    "console user add",
    "console user list",
    "console user remove",
    "check",
    "demo",
    "replay",
    "report",
    "topics",
    "experts",
    "experts list",
    "experts test",
    "evaluate",
    "score",
    "serve",
    "serve key",
    "serve key add",
    "serve key list",
    "serve key remove",
    "tune",
    "verify",
    "explain",
    "weights",
    "weights show",
    "weights history",
    "weights export",
    "weights diff",
    "weights pin",
    "weights unpin",
    "config",
    "config show",
    "config schema",
    "dlq",
    "dlq list",
    "dlq show",
    "dlq replay",
    "ledger",
    "ledger quarantine",
    "ledger erase",
    "ledger restore",
    "ledger adopt",
    "labels",
    "labels import",
    "labels stats",
    "labels appeal",
    "review",
    "review export",
    "erase",
    "completions",
];

/// Refusals that need no broker: name, exit code, arguments, and the lines of the file `FILE`.
const REFUSALS: &[(&str, i32, &str, &str)] = &[
    ("report-without-input", 78, "report", ""),
    ("report-of-labels", 65, "report FILE", "{\"event_id\": \"e\", \"verdict\": \"safe\"}\n"),
    ("no-command", 64, "", ""),
    ("unknown-command", 64, "explian e1", ""),
    ("no-config", 78, "weights show", ""),
    ("no-such-file", 78, "check --config nowhere.toml", ""),
    ("not-toml", 78, "check --config FILE", "[topics\n"),
    ("unknown-key", 78, "check --config FILE", "[score]\nwindwo = 3\n"),
    ("unknown-section", 78, "check --config FILE", "[scroe]\nwindow = 3\n"),
    ("wrong-type", 78, "check --config FILE", "[score]\nwindow = \"wide\"\n"),
    ("set-without-value", 78, "check --config FILE --set score.window", ""),
    ("refused-setting", 78, "weights show --config FILE", "[kafka.settings]\nacks = \"0\"\n"),
    ("dead-letter-share", 78, "check --config FILE", "[learn]\nmax_dead_letter_share = 50.0\n"),
    ("no-connections", 78, "check --config FILE", "[http]\nmax_connections = 0\n"),
    ("no-idle-time", 78, "check --config FILE", "[http]\nidle_timeout_ms = 0\n"),
    ("wrong-time", 64, "dlq replay --config FILE --from yesterday", ""),
    ("wrong-place", 64, "dlq show 7 --config FILE", ""),
    ("wrong-output", 64, "explain e1 --config FILE --output yaml", ""),
    ("no-subject", 64, "erase --config FILE", ""),
    ("no-policies", 78, "check --config FILE", "policies = \"gone.toml\"\n"),
    ("pointer-without-slash", 78, "check --config FILE", "[event_fields]\nturns = \"messages\"\n"),
    ("pointer-escape", 78, "check --config FILE", "[event_fields.metadata]\nchannel = \"/a~b\"\n"),
    (
        "pointer-of-a-note",
        78,
        "run --config FILE",
        "[event_fields]\ntext = \"/a\"\nmetadata = { channel = \"\" }\n",
    ),
    (
        "unknown-role",
        78,
        "check --config FILE",
        "[event_fields]\ntext = \"/a\"\nroles = { human = \"person\" }\n",
    ),
    (
        "unknown-zone",
        78,
        "check --config FILE",
        "[event_fields]\ntext = \"/a\"\ntime = \"/t\"\ntime_zone = \"CET+1\"\n",
    ),
    (
        "roles-without-effect",
        78,
        "check --config FILE",
        "[event_fields]\ntext = \"/a\"\nroles = { human = \"user\" }\n",
    ),
    (
        "verdicts-without-effect",
        78,
        "check --config FILE",
        "[label_fields]\nevent_id = \"/a\"\nseverity = \"/s\"\nverdicts = { true = \"safe\" }\n",
    ),
    (
        "annotations-of-nobody",
        78,
        "check --config FILE",
        "[label_fields]\nevent_id = \"/e\"\nannotations = \"/a\"\nverdict = \"/a/*/v\"\n",
    ),
    ("fields-without-text", 78, "check --config FILE", "[event_fields]\nid = \"/request/uuid\"\n"),
    ("labels-without-event", 78, "check --config FILE", "[label_fields]\nverdict = \"/verdict\"\n"),
    ("labels-without-verdict", 78, "check --config FILE", "[label_fields]\nevent_id = \"/event\"\n"),
    (
        "unknown-verdict",
        78,
        "check --config FILE",
        "[label_fields]\nevent_id = \"/a\"\nverdict = \"/b\"\nverdicts = { bad = \"evil\" }\n",
    ),
    (
        "no-label",
        65,
        "check --config FILE --label FILE",
        "[label_fields]\nevent_id = \"/event\"\nverdict = \"/verdict\"\n",
    ),
    (
        "no-event",
        65,
        "check --config FILE --event FILE",
        "[event_fields]\nturns = \"/messages\"\nid = \"/id\"\n",
    ),
];

/// Commands that need no broker, with text and JSON output: name and arguments.
const SHOWN: &[(&str, &str)] = &[
    ("topics", "topics --dry-run --config FILE"),
    ("check", "check --config FILE --event EVENT"),
    ("experts", "experts list --config FILE"),
];

fn words(arguments: &str, file: &Path) -> (Option<i32>, String) {
    let arguments = arguments.split_whitespace().map(|word| match word {
        "FILE" => file.to_str().unwrap().to_owned(),
        word => word.to_owned(),
    });
    // A folder without a configuration: the one of the clone would be found.
    let empty = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_aegis"));
    command.args(arguments).current_dir(empty.path()).env_remove("AEGIS_CONFIG").env_remove("AEGIS_MODELS");
    let output = command.output().unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    let text = text.replace(empty.path().to_str().unwrap(), "EMPTY");
    let text = text.replace(file.to_str().unwrap(), "FILE");
    let text = text.replace(file.parent().unwrap().to_str().unwrap(), "FOLDER");
    (output.status.code(), text)
}

/// Compares a text with its file, or writes the file.
fn compare(name: &str, text: &str, wrong: &mut Vec<String>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/cli/words/{name}.txt"));
    if std::env::var_os("AEGIS_WRITE_DOCS").is_some() {
        fs::write(&path, text).unwrap();
    }
    if fs::read_to_string(&path).unwrap_or_default() != text {
        wrong.push(format!("{name}:\n{text}"));
    }
}

#[test]
fn help_and_refusals_are_as_kept() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("aegis.toml");
    let mut wrong = Vec::new();
    let mut kept = BTreeSet::new();
    for command in COMMANDS {
        let (code, text) = words(&format!("{command} --help"), &file);
        assert_eq!(code, Some(0), "{command}");
        let name = format!("help {command}").trim().replace(' ', "-");
        compare(&name, &text, &mut wrong);
        kept.insert(format!("{name}.txt"));
        // Every command that another command lists is compared, too.
        let list = text.lines().skip_while(|line| *line != "Commands:").skip(1);
        for line in list.take_while(|line| line.starts_with("  ")) {
            // Long descriptions continue on further lines.
            let Some(inner) = line.trim_end().strip_prefix("  ").filter(|line| !line.starts_with(' ')) else {
                continue;
            };
            let inner = format!("{command} {}", inner.split_whitespace().next().unwrap_or_default());
            assert!(inner.ends_with(" help") || COMMANDS.contains(&inner.trim()), "{inner} is not looked at");
        }
    }
    for (name, exit, arguments, lines) in REFUSALS {
        fs::write(&file, lines).unwrap();
        let (code, text) = words(arguments, &file);
        assert_eq!(code, Some(*exit), "{name}: {text}");
        compare(name, &text, &mut wrong);
        kept.insert(format!("{name}.txt"));
    }
    experts(&folder.path().join("models"));
    let manifest = folder.path().join("models/lenient/manifest.toml");
    let of_users = fs::read_to_string(&manifest).unwrap().replace("[rules]", "roles = [\"user\"]\n[rules]");
    fs::write(manifest, of_users).unwrap();
    fs::write(&file, "[experts]\nfolder = \"models\"\nshadow = [\"lenient\"]\n").unwrap();
    let event = folder.path().join("event.json");
    fs::write(&event, r#"{"id": "e1", "conversation": "c1", "turns": [{"text": "hello"}]}"#).unwrap();
    for (name, arguments) in SHOWN {
        for output in ["text", "json"] {
            let arguments = arguments.replace("EVENT", event.to_str().unwrap());
            let (code, text) = words(&format!("{arguments} --output {output}"), &file);
            assert_eq!(code, Some(0), "{name}: {text}");
            if output == "json" {
                serde_json::from_str::<serde_json::Value>(&text).unwrap();
            }
            let name = format!("shown-{name}-{output}");
            compare(&name, &text, &mut wrong);
            kept.insert(format!("{name}.txt"));
        }
    }
    assert!(
        wrong.is_empty(),
        "other words than in tests/cli/words: run AEGIS_WRITE_DOCS=1 cargo test --test cli and look at the \
         difference\n{}",
        wrong.join("\n")
    );
    let found = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/words")).unwrap();
    let found: BTreeSet<_> = found.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(found, kept);
}

/// `run` starts without an expert that ONNX Runtime does not load, and tries to load it again. `check` reports the
/// error.
#[test]
fn check_refuses_an_expert_that_does_not_load() {
    let panel = Folder::new();
    panel.rules("rules", "base = 0.125\n");
    let graph = Graph::default()
        .input("ids", INT64, &[-1, 1])
        .node("NoSuchOperator", &["ids"], "scores")
        .output("scores", FLOAT, &[-1, 1]);
    panel.classifier("broken", &graph.model());
    let file = panel.path().join("aegis.toml");
    let runtime = models().join("runtime/libonnxruntime.so");
    fs::write(&file, format!("[experts]\nfolder = \".\"\nruntime = {runtime:?}\n")).unwrap();
    let (code, text) = words("check --config FILE", &file);
    assert_eq!(code, Some(78), "{text}");
    assert!(
        text.contains("expert broken could not be loaded: model.file FOLDER/./broken/model.onnx"),
        "{text}"
    );
    assert!(text.contains("NoSuchOperator") && text.contains("experts.only"), "{text}");
    let (code, text) = words("experts list --config FILE", &file);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("not loaded"), "{text}");
}
