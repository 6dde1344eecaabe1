//! `aegis serve key` and `aegis console user`: the same commands on two files of credentials.

use std::fs;
use std::path::Path;
use std::process::Command;

/// Runs a command in a folder. Returns its exit code and both streams.
fn aegis(folder: &Path, command: &str) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_aegis"))
        .args(command.split(' '))
        .current_dir(folder)
        .env_remove("AEGIS_CONFIG")
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// Returns a folder with a configuration of these lines.
fn folder(config: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("aegis.toml"), config).unwrap();
    folder
}

/// Checks that a command prints a secret alone on standard output, and these words on standard error.
fn adds(folder: &Path, command: &str, words: &str) {
    let (code, secret, told) = aegis(folder, command);
    assert_eq!((code, &*told), (0, words), "{command}");
    assert!(secret.starts_with("aegis_") && secret.trim().len() == 49, "{command}");
}

#[test]
fn keys_are_added_listed_and_removed() {
    let folder = folder("[http.moderation]\nkeys = \"api-keys\"\n");
    let path = folder.path();
    adds(path, "serve key add gateway --tenant shop", "the key gateway, which is not shown again:\n");
    adds(path, "serve key add b --policy default", "the key b, which is not shown again:\n");
    let table = "key      tenant  policy\ngateway  shop    *\nb        *       default\n";
    assert_eq!(aegis(path, "serve key list"), (0, table.into(), String::new()));
    assert_eq!(aegis(path, "serve key remove b"), (0, "b is removed\n".into(), String::new()));
    let table = "key      tenant  policy\ngateway  shop    *\n";
    assert_eq!(aegis(path, "serve key list"), (0, table.into(), String::new()));
}

#[test]
fn users_are_added_listed_and_removed() {
    let folder = folder("[console]\ncredentials = \"users\"\n");
    let path = folder.path();
    let told = "ann is a reviewer, with this token, which is not shown again:\n";
    adds(path, "console user add ann --role reviewer", told);
    let told = "bob is a viewer, with this password, which is not shown again:\n";
    adds(path, "console user add bob --kind password", told);
    let told = "eve is a viewer, if the proxy says so\n";
    assert_eq!(aegis(path, "console user add eve --kind proxy"), (0, String::new(), told.into()));
    let table =
        "user  role      proof\nann   reviewer  token\nbob   viewer    password\neve   viewer    proxy\n";
    assert_eq!(aegis(path, "console user list"), (0, table.into(), String::new()));
    let told = "bob is removed, and sessions of bob have ended\n";
    assert_eq!(aegis(path, "console user remove bob"), (0, told.into(), String::new()));
    let table = "user  role      proof\nann   reviewer  token\neve   viewer    proxy\n";
    assert_eq!(aegis(path, "console user list"), (0, table.into(), String::new()));
}

/// The exit code tells a missing setting, a missing file and a wrong entry apart.
#[test]
fn what_is_wrong_is_told_by_the_exit_code() {
    for (command, setting, example) in [
        ("serve key", "http.moderation.keys", "api-keys"),
        ("console user", "console.credentials", "console-users"),
    ] {
        let (section, key) = setting.rsplit_once('.').unwrap();
        let fails = |folder: &Path, words: &str, code: i32, reason: &str| {
            let (found, shown, told) = aegis(folder, &format!("{command} {words}"));
            assert!(
                (found, &*shown) == (code, "") && told.contains(reason),
                "{command} {words}: {found} {told}"
            );
        };
        let unset = folder("");
        let reason =
            format!("aegis: {setting} names no file: set it in the configuration, e.g. to \"{example}\"\n");
        for words in ["add a", "list", "remove a"] {
            fails(unset.path(), words, 78, &reason);
        }
        let folder = folder(&format!("[{section}]\n{key} = \"file\"\n"));
        fails(folder.path(), "list", 69, "creates the file");
        fails(folder.path(), "remove a", 69, "creates the file");
        fails(folder.path(), "add a+b", 65, "is not a name");
        assert_eq!(aegis(folder.path(), &format!("{command} add a")).0, 0);
        fails(folder.path(), "add a", 65, "is in file already");
        fails(folder.path(), "remove b", 65, &format!("`aegis {command} list` shows them"));
    }
}
