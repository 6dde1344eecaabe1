//! `aegis tune` on tiny experts: its measurements, and that its file is read.

use std::fs;
use std::process::Command;

use aegis::config;

use crate::experts_support::{Folder, faulty_classifier, faulty_encoder, head, models};

#[test]
fn each_encoder_and_classifier_is_measured_alone() {
    let experts = Folder::new();
    experts.encoder_with_int8("encoder", &faulty_encoder(), &faulty_encoder()).head("plain", &head());
    experts.classifier("mine", &faulty_classifier()).classifier("other", &faulty_classifier());
    experts.rules("rules", "base = 0.125\n");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("aegis.toml");
    let runtime = models().join("runtime/libonnxruntime.so");
    let text = format!(
        "[experts]\nfolder = \"{}\"\nruntime = \"{}\"\nbudgets = {{ mine = 3 }}\n",
        experts.path().display(),
        runtime.display()
    );
    fs::write(&path, text).unwrap();
    // The result of an earlier tuning is ignored, and an unreadable one is replaced.
    let other = "[experts]\nbatch_tokens = 64\nbudgets = { other = 9 }\n[score]\nwindow = 64\n";
    for earlier in [None, Some(other), Some("[")] {
        if let Some(earlier) = earlier {
            fs::write(folder.path().join(config::TUNED), earlier).unwrap();
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_aegis"));
        command.args(["tune", "--texts", "50", "--rounds", "3", "--config"]).arg(&path);
        let output = command.env_remove("AEGIS_CONFIG").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = fs::read_to_string(folder.path().join(config::TUNED)).unwrap();
        let budgets = |id: &str| -> Vec<&str> {
            let rows = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
            rows.filter(|row| row.get(1) == Some(&id) && row.get(3) == Some(&"%")).map(|row| row[4]).collect()
        };
        let begins = text.lines().any(|line| line.split_whitespace().skip(3).take(2).eq(["256", "256"]));
        assert!(begins, "{text}");
        assert_eq!(budgets("mine"), ["3"], "it has one already\n{text}");
        // Other budgets are tried only for graphs that take more than 3 % of the time. On a busy machine that may not
        // be both of them.
        let share = |id: &str| -> f64 {
            let mut rows = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
            rows.find(|row| row.get(1) == Some(&id) && row.get(3) == Some(&"%")).unwrap()[2].parse().unwrap()
        };
        for id in ["encoder", "other"] {
            assert!(budgets(id).len() > 1 || share(id) <= 3.0, "{text}");
            assert_eq!(budgets(id)[0], budgets("encoder")[0], "{text}");
        }
        assert!(["plain", "rules"].iter().all(|id| budgets(id).is_empty()), "{text}");
        let read = config::load(&path, [], &[]).unwrap().config;
        let taken = read.tuned.unwrap().taken;
        assert!(taken.contains(&"experts.batch_tokens".to_owned()), "{taken:?}");
        assert_eq!(read.experts.budgets["mine"], 3);
        let compared = text.lines().any(|line| line.starts_with("# encoder: int8 runs "));
        assert!(compared && text.contains("\n# float32 ") && text.contains("\n# int8 "), "{text}");
        assert_eq!(read.experts.encoder, config::EncoderPrecision::Float32, "it never changes by itself");
    }
}
