//! The cap on the share of one annotator, in headers.

use super::*;
use aegis::config::Policies;

#[test]
fn a_header_caps_annotators_and_is_written_again() {
    let room = Folder::new();
    let lines: Vec<String> = (0..400)
        .map(|event| {
            let annotator = if event % 4 == 0 { "one" } else { "other" };
            json!({"event_id": event, "votes": {"a": 1, "b": 0}, "unsafe": event % 3 == 0, "annotator": annotator})
                .to_string()
        })
        .collect();
    let run_with = |share: Option<f64>| {
        let header =
            json!({"aegis": "header", "format": 1, "policies": {"default": {"max_annotator_share": share}}});
        let head = share.map(|_| header.to_string());
        let saved = room.path("saved.jsonl");
        let lines: Vec<String> = head.into_iter().chain(lines.clone()).collect();
        let ran = replay(&ReplayArgs { save: Some(saved.clone()), ..args(&[&room.file("s.jsonl", &lines)]) });
        let resumed = replay(&ReplayArgs { resume: Some(saved), ..ReplayArgs::default() });
        assert_eq!(resumed.hash(), ran.hash());
        let shown = ran.out.contains("above the cap");
        let figures = &ran.summary().policies["default"];
        assert_eq!(shown, figures.capped > 0);
        assert_eq!(figures.rounds + figures.capped, 400, "no round is missing");
        (figures.rounds, ran.hash().to_owned())
    };
    let (all, uncapped) = run_with(None);
    assert_eq!((all, run_with(Some(1.0)).1), (400, uncapped.clone()), "1 is no cap");
    // `other` has three of four labels. Half of the labels may be its own: as many as those of `one`, and the free ones.
    let (rounds, capped) = run_with(Some(0.5));
    assert!((200..=220).contains(&rounds), "{rounds}");
    assert_ne!(capped, uncapped);
    for wrong in [json!(0), json!(1.5), json!("half")] {
        let header =
            json!({"aegis": "header", "format": 1, "policies": {"default": {"max_annotator_share": wrong}}});
        let ran = replay(&args(&[&room.file("s.jsonl", &[header.to_string(), lines[0].clone()])]));
        assert!(ran.notes.contains("max_annotator_share: not a number above 0 and up to 1"), "{}", ran.notes);
    }
}

#[test]
fn a_policy_caps_annotators() {
    let room = Folder::new();
    let read = |share: &str| {
        let lines = ["[policies.house]".to_owned(), format!("max_annotator_share = {share}")];
        Policies::read(&room.file("policies.toml", &lines)).map_err(|error| error.to_string())
    };
    assert_eq!(read("0.2").unwrap().policies["house"].mapping.max_annotator_share, 0.2);
    assert!(!read("1").unwrap().policies["house"].mapping.caps());
    for wrong in ["0", "-0.1", "1.1", "nan"] {
        let error = read(wrong).unwrap_err();
        let expected = "max_annotator_share is above 0 and at most 1: write for example 0.2, or 1 for no cap";
        assert!(error.contains(expected), "{wrong}: {error}");
    }
}
