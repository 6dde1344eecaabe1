//! The report page, and texts that are read by an encoder.

use super::*;

#[test]
fn the_report_is_one_page_with_everything_in_it() {
    let room = Folder::new();
    // The best expert changes in the middle; one expert has a hostile name.
    let mut dice = Dice(9);
    let hostile = "<script>alert('x')</script>";
    let lines: Vec<String> = (0..1_200)
        .map(|event| {
            let truth = dice.below(2);
            let mut vote = |wrong: u64| if dice.below(100) < wrong { 1 - truth } else { truth };
            let (first, second) = if event < 600 { (5, 45) } else { (45, 5) };
            let votes = json!({"early": vote(first), "late": vote(second), hostile: vote(40)});
            json!({"event_id": event, "votes": votes, "unsafe": truth == 1}).to_string()
        })
        .collect();
    let file = room.file("s.jsonl", &lines);
    let report = room.path("report.html");
    for learner in ["default", "hedge", "stacking", "majority"] {
        let learner = Some(learner.to_owned());
        replay(&ReplayArgs { report: Some(report.clone()), learner, ..args(&[&file]) }).summary();
        let page = fs::read_to_string(&report).unwrap();
        assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
        for part in [
            "Error of every expert",
            "Recovery",
            "Weights over time",
            "Regret",
            "believed",
            "paper",
            "numbers",
        ] {
            assert!(page.contains(part), "{part}");
        }
        assert!(page.contains("changes after 600 rounds from early to late ("));
        for foreign in ["<script", "http:", "https:", "url(", "@import", "NaN", "inf"] {
            assert!(!page.contains(foreign), "{foreign}");
        }
        assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
        assert_eq!(page.matches("<section>").count(), page.matches("</section>").count());
        assert!(page.len() < 1_000_000, "{}", page.len());
    }
    // An empty report, and one of a single round.
    for lines in [vec![], vec![lines[0].clone()]] {
        let file = room.file("few.jsonl", &lines);
        replay(&ReplayArgs { report: Some(report.clone()), ..args(&[&file]) }).summary();
        let page = fs::read_to_string(&report).unwrap();
        assert!(page.ends_with("</html>\n") && !page.contains("NaN"));
    }
}

/// Uses the bundled experts, which `make setup` installs.
#[test]
fn texts_are_read_and_kept() {
    let room = Folder::new();
    let lines: Vec<String> = (0..40)
        .map(|event| {
            let mut line = json!({"event_id": event, "votes": {"a": event % 2, "b": 0.5}, "unsafe": event % 3 == 0});
            match event % 4 {
                0 => line["text"] = json!(format!("A text about the number {}.", event % 8)),
                1 => line["turns"] = json!([{"role": "user", "text": "Hello?"}, {"role": "assistant", "text": "Good day."}]),
                2 => line["text"] = json!("   "),
                _ => {}
            }
            line.to_string()
        })
        .collect();
    let file = room.file("s.jsonl", &lines);
    let kept = room.path("kept.jsonl.zst");
    let mut told = (0, 0);
    let mut progress = |done, total| told = (done, total);
    let mut around =
        ReplayContext { panel: Some(panel()), progress: Some(&mut progress), ..ReplayContext::default() };
    let flags = ReplayArgs { embed: true, write: Some(kept.clone()), ..args(&[&file]) };
    let read = run(&flags, &mut around, &mut Vec::new(), &mut Vec::new()).unwrap();
    assert_eq!(told, (30, 30));
    let text = String::from_utf8(zstd::decode_all(fs::File::open(&kept).unwrap()).unwrap()).unwrap();
    assert_eq!(text.lines().filter(|line| line.contains("\"features\":")).count(), 20);
    assert!(!text.contains("A text about"));
    // The written rounds need no encoder.
    let again = replay(&args(&[&kept]));
    assert_eq!(again.hash(), read.policies["default"].state_hash);
    assert_ne!(again.hash(), replay(&args(&[&file])).hash());
    let none = ReplayContext {
        panel: Some(aegis::experts::PanelConfig::new(room.path("none"))),
        ..ReplayContext::default()
    };
    let error = run(&flags, &mut { none }, &mut Vec::new(), &mut Vec::new()).unwrap_err();
    assert_eq!(error.exit_code(), 69);
}
