//! The clients that users have: OpenAI's for Python and JavaScript, of which only the base URL changes; and the validators
//! of the OpenAPI document. `tests/http/fetch.sh` installs them.

use std::path::Path;
use std::process::Command;

use aegis::serve::keys::{ANY, ApiKeys};

use crate::world::World;

/// Returns the Python and the folder of node_modules.
fn installed() -> (String, String) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new("bash").arg(root.join("tests/http/fetch.sh")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let (python, modules) = text.trim().split_once('\n').unwrap();
    (python.to_owned(), modules.to_owned())
}

/// Runs a script of `tests/http/clients`, and returns what it prints.
fn run(program: &str, script: &str, arguments: &[&str]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/http/clients").join(script);
    let output = Command::new(program).arg(script).args(arguments).output().unwrap();
    let (said, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}{error}");
    said.into_owned()
}

#[test]
fn openais_clients_only_change_their_base_url() {
    let (python, modules) = installed();
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys");
    let key = ApiKeys::add(&keys, "client", ANY, ANY).unwrap();
    let world = World::with(|config| config.http.moderation.keys = keys.clone());
    let base = format!("http://{}/v1", world.address);
    assert!(run(&python, "moderate.py", &[&base, &key]).starts_with("python 3."));
    assert!(run("node", "moderate.mjs", &[&modules, &base, &key]).starts_with("javascript OpenAI"));
}

#[test]
fn real_answers_are_those_of_the_openapi_document() {
    let (python, _) = installed();
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys");
    let key = ApiKeys::add(&keys, "client", ANY, ANY).unwrap();
    let world = World::with(|config| config.http.moderation.keys = keys.clone());
    let base = format!("http://{}", world.address);
    assert!(run(&python, "openapi.py", &[&base, &key]).starts_with("openapi 3.1"));
}
