//! Commands of pages that no test of this room runs, each with the reason and what covers it otherwise.

use crate::command::Command;

/// A page, a command, or its beginning with `…` behind it, and why it is not run here.
pub type Listed = (&'static str, &'static str, &'static str);

/// The commands.
pub static LISTED: &[Listed] = &[
    (
        "README.md",
        "make demo",
        "streams 4,000 events from a release build; tests/flow/embedded.rs is its flow",
    ),
    ("README.md", "make test", "runs this test"),
    (
        "docs/quick-start.md",
        "make setup build",
        "what came of it is what is run: `make test` sets up and builds",
    ),
    (
        "docs/operating.md",
        "make demo BROKER=kafka",
        "the demo runs on the test's own broker before these pages",
    ),
    (
        "docs/operating.md",
        "aegis ledger restore …",
        "needs a ledger topic that was created again: tests/faults/learner/topics.rs",
    ),
    (
        "docs/operating.md",
        "aegis ledger adopt …",
        "needs a ledger topic that was created again: tests/faults/learner/topics.rs",
    ),
    ("docs/http.md", "openssl …", "makes a secret: tests/http uses one of its own"),
    (
        "docs/http.md",
        "aegis serve …",
        "runs until it is stopped, or writes a file of keys: tests/http, tests/cli",
    ),
    ("docs/http.md", "curl …", "needs a server and a key: tests/http/endpoints.rs sends these requests"),
    ("docs/console.md", "aegis console --config …", "runs until it is stopped: tests/console"),
    ("docs/console.md", "aegis run --config …", "runs until it is stopped: tests/console"),
    ("docs/console.md", "aegis console user …", "writes a file of users: tests/console/access.rs"),
    ("docs/console.md", "curl …", "needs a console and a token: tests/console/access.rs sends the request"),
    (
        "docs/releasing-predictors.md",
        "aegis weights …",
        "needs a predictor whose hash is known before: tests/cli/pin.rs",
    ),
    ("docs/experts.md", "make setup", "`make test` runs it first"),
    (
        "docs/experts.md",
        "python3 -m venv .venv …",
        "trains again: needs public sets that are not in the repository",
    ),
    (
        "docs/experts.md",
        ".venv/bin/python …",
        "trains again: needs public sets that are not in the repository",
    ),
    (
        "docs/languages.md",
        ".venv/bin/python …",
        "measures and trains again: needs public sets that are not in the repository",
    ),
    (
        "docs/language-model.md",
        ".venv/bin/python …",
        "measures again: needs public sets that are not in the repository",
    ),
    ("docs/experts.md", "make evaluate", "minutes; tests/experts/quality.rs holds what came of it"),
    (
        "docs/labels.md",
        "aegis labels appeal …",
        "needs both roles and labels: tests/cli/labels/disputes.rs runs it",
    ),
    ("docs/learning.md", "aegis replay ../shared/…", "needs developers' streams: `make test-shared`"),
    ("docs/kubernetes.md", "docker build …", "needs an engine: tests/stack builds the parts of the image"),
    ("docs/kubernetes.md", "kubectl …", "needs a cluster"),
    (
        "docs/kubernetes.md",
        "helm install …",
        "needs a cluster: tests/services/kubernetes.rs renders the chart",
    ),
    ("docs/kubernetes.md", "aegis console user …", "writes a file of users: tests/console/access.rs"),
    ("docs/kubernetes.md", "openssl …", "makes a secret: tests/http uses one of its own"),
    ("docs/kubernetes.md", "aegis serve key …", "writes a file of API keys: src/serve/keys.rs"),
    (
        "docs/learning.md",
        "aegis evaluate --texts …",
        "minutes, and needs public sets that are not in the repository",
    ),
    (
        "docs/learning.md",
        "cargo bench -p aegis-core --bench labels …",
        "minutes, on the streams of the lines before",
    ),
    ("docs/learning.md", "python3 -m venv .cache/streams …", "for the comparison below it"),
    ("docs/learning.md", ".cache/streams/bin/python …", "minutes, on the streams of the line before"),
    (
        "docs/registry.md",
        "tests/registry/registry.sh …",
        "runs until its input ends; `make kafka` before it runs this script",
    ),
    (
        "docs/security.md",
        "kafka-acls …",
        "tests/services/secure lays these very lines on a broker that denies all else",
    ),
    (
        "docs/stack.md",
        "docker compose up …",
        "needs an engine: `make stack-test` brings the file up with three scorers",
    ),
    ("docs/stack.md", "docker compose up", "needs an engine: `make stack-test`"),
    ("docs/stack.md", "COMPOSE_PROFILES=gpu docker compose up", "needs an NVIDIA GPU: was never run"),
    ("docs/stack.md", "docker compose run --rm topics verify", "needs an engine: `make stack-test` runs it"),
    (
        "docs/stack.md",
        "docker compose run --rm topics dlq list",
        "needs an engine; the same word as `aegis dlq list`",
    ),
    ("docs/stack.md", "docker compose down", "needs an engine: `make stack-test` ends so"),
    ("docs/stack.md", "make stack-test", "needs an engine; minutes"),
];

/// The entry for a page's command, if there is one.
pub fn listed(page: &str, command: &Command) -> Option<&'static Listed> {
    LISTED.iter().find(|(name, listed, _)| {
        let fits = match listed.strip_suffix('…') {
            Some(beginning) => command.text.starts_with(beginning),
            None => command.text == *listed,
        };
        *name == page && fits
    })
}
