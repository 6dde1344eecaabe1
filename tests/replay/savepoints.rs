//! Savepoints: after a cut at any position the hash is that of the whole stream.

use super::*;

#[test]
fn a_savepoint_in_any_cut_gives_the_hash_of_the_whole() {
    let room = Folder::new();
    for timed in [false, true] {
        let lines = stream(120, timed);
        let whole = replay(&args(&[&room.file("s.jsonl", &lines)]));
        for cut in (0..=lines.len()).step_by(7) {
            let (first, second) = lines.split_at(cut);
            let (a, b) = (room.file("a.jsonl", first), room.file("b.jsonl", second));
            let save = room.path(if cut % 2 == 0 { "save.jsonl" } else { "save.jsonl.zst" });
            let half = replay(&ReplayArgs { save: Some(save.clone()), ..args(&[&a]) });
            half.summary();
            let ran = replay(&ReplayArgs { resume: Some(save.clone()), ..args(&[&b]) });
            assert_eq!(ran.hash(), whole.hash(), "cut at {cut}, timed {timed}");
            assert_eq!(ran.summary().policies, whole.summary().policies);
        }
    }
}

#[test]
fn a_savepoint_keeps_what_flags_asked_for() {
    let room = Folder::new();
    let lines = stream(100, false);
    let (first, second) = lines.split_at(80);
    let (a, b) = (room.file("a.jsonl", first), room.file("b.jsonl", second));
    let save = room.path("save");
    let flags = |streams: &[&Path]| ReplayArgs {
        learner: Some("fpl".to_owned()),
        seed: Some("hidden".to_owned()),
        ..args(streams)
    };
    let whole = replay(&flags(&[&a, &b]));
    replay(&ReplayArgs { save: Some(save.clone()), ..flags(&[&a]) }).summary();
    assert!(!fs::read_to_string(&save).unwrap().contains("hidden"));
    let resumed = ReplayArgs { resume: Some(save.clone()), seed: Some("hidden".to_owned()), ..args(&[&b]) };
    assert_eq!(replay(&resumed).hash(), whole.hash());
    assert_eq!(replay(&ReplayArgs { seed: None, ..resumed.clone() }).code(), 64);
    // A damaged savepoint is reported.
    let text = fs::read_to_string(&save).unwrap();
    fs::write(&save, text.replacen("\"guard\":0.", "\"guard\":0.1", 40)).unwrap();
    assert_eq!(replay(&resumed).code(), 65);
    fs::write(&save, "").unwrap();
    assert_eq!(replay(&resumed).code(), 65);
}
