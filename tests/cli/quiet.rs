//! The program sends nothing about itself to the makers of its libraries.

use std::fs;
use std::process::Command;

use crate::experts_support::models;

/// ONNX Runtime's packages keep an identifier of the machine and the events that they send in the user's cache folder.
#[test]
fn the_runtime_writes_nothing_into_the_users_home() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    fs::create_dir(&home).unwrap();
    let settings = format!("[experts]\nfolder = {:?}\nonly = [\"tox-block\"]\n", models());
    fs::write(folder.path().join("aegis.toml"), settings).unwrap();
    // The variables of a CI service would silence it too.
    let output = Command::new(env!("CARGO_BIN_EXE_aegis"))
        .args(["experts", "test", "what a lovely day"])
        .current_dir(folder.path())
        .env_clear()
        .env("HOME", &home)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(fs::read_dir(&home).unwrap().count(), 0, "{:?}", fs::read_dir(&home).unwrap().next());
}
