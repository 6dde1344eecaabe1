//! Nothing depends on the processor: neither the code, nor the packages of the set-up.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::root;

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Words by which code asks for a processor.
const WORDS: &[&str] =
    &["target_arch", "core::arch", "std::arch", "feature_detected", "x86_64", "aarch64", "avx"];

#[test]
fn no_code_asks_for_a_processor() {
    let mut all = Vec::new();
    files(&root().join("src"), &mut all);
    files(&root().join("crates"), &mut all);
    assert!(all.len() > 200, "{} files", all.len());
    for path in all {
        let text = fs::read_to_string(&path).unwrap();
        for (number, line) in text.lines().enumerate() {
            let word = WORDS.iter().find(|word| line.contains(**word));
            assert_eq!(word, None, "{}:{}: {line}", path.display(), number + 1);
        }
    }
}

/// Packages of which only data is used, so that one processor's file serves all.
const DATA: &[&str] = &["jailguard"];

#[test]
fn the_set_up_has_a_runtime_for_each_processor() {
    let text = fs::read_to_string(root().join("experts/packages.json")).unwrap();
    let packages: Value = serde_json::from_str(&text).unwrap();
    let packages = packages.as_object().unwrap();
    for (name, package) in packages {
        match package.get("by_platform") {
            Some(variants) => {
                for machine in ["linux-x86_64", "linux-aarch64"] {
                    assert!(variants.get(machine).is_some(), "{name} has no file for {machine}");
                }
            }
            None => {
                let file = package["file"].as_str().unwrap();
                let is_for_one = ["x86_64", "aarch64", "arm64", "win"].iter().any(|word| file.contains(word));
                assert!(!is_for_one || DATA.contains(&name.as_str()), "{name}: {file} is for one processor");
            }
        }
    }
    assert!(packages["onnxruntime"].get("by_platform").is_some());
}

/// Checks the pure crate for arm64 if its standard library is installed. The whole program would need a C compiler for
/// arm64, and minutes for the libraries in C.
#[test]
fn the_core_is_checked_for_arm64() {
    const TARGET: &str = "aarch64-unknown-linux-gnu";
    let sysroot = Command::new("rustc").args(["--print", "sysroot"]).current_dir(root()).output().unwrap();
    let sysroot = PathBuf::from(String::from_utf8(sysroot.stdout).unwrap().trim());
    if !sysroot.join("lib/rustlib").join(TARGET).join("lib").exists() {
        println!("SKIPPED: the standard library of {TARGET} is not installed: rustup target add {TARGET}");
        return;
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("arm64");
    let output = Command::new(env!("CARGO"))
        .args(["check", "--locked", "--package", "aegis-core", "--target", TARGET, "--target-dir"])
        .arg(folder)
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
