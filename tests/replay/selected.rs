//! `--labels`: labels that a sampling would not have asked for are hidden.

use super::*;
use aegis::replay::Figures;

fn sampled(file: &Path, sampling: &str) -> Ran {
    replay(&ReplayArgs { labels: Some(sampling.to_owned()), ..args(&[file]) })
}

fn figures(ran: &Ran) -> &Figures {
    &ran.summary().policies["default"]
}

/// Two experts, one always right and one always wrong, and a label of each event that comes `delay` after it.
fn opposed(events: u64, delay: u64) -> Vec<String> {
    let line = |event: u64| {
        let right = event * event % 7 < 3;
        let (good, bad) = (u8::from(right), u8::from(!right));
        json!({
            "event_id": event, "event_time": 10 + event, "votes": {"good": good, "bad": bad},
            "unsafe": right, "label_time": 10 + event + delay,
        })
        .to_string()
    };
    (0..events).map(line).collect()
}

#[test]
fn nothing_changes_if_nothing_is_hidden() {
    let room = Folder::new();
    for timed in [false, true] {
        let file = room.file("s.jsonl", &stream(300, timed));
        let plain = replay(&args(&[&file]));
        for sampling in ["audit=1", "random=1", "margin=1", "audit=0.5,margin=1,random=0.1"] {
            let ran = sampled(&file, sampling);
            assert_eq!(ran.hash(), plain.hash(), "{sampling}");
            let mut found = figures(&ran).clone();
            let labels = found.labels.take().unwrap();
            assert_eq!((labels.used, labels.share), (found.rounds, 1.0));
            assert_eq!(&found, figures(&plain), "{sampling}");
        }
    }
}

#[test]
fn the_state_is_that_of_a_ledger_without_the_hidden_labels() {
    let room = Folder::new();
    let file = room.file("s.jsonl", &stream(300, true));
    let saved = room.path("saved.jsonl");
    let sampling =
        ReplayArgs { labels: Some("random=0.3".to_owned()), save: Some(saved.clone()), ..args(&[&file]) };
    let ran = replay(&sampling);
    let found = figures(&ran);
    let labels = found.labels.unwrap();
    assert_eq!(found.rounds, figures(&replay(&args(&[&file]))).rounds, "mistakes are counted on all rounds");
    assert!(labels.share > 0.15 && labels.share < 0.45, "{labels:?}");
    assert_eq!((labels.used, labels.audit, labels.margin), (labels.random, 0, 0));
    assert!(ran.out.contains("labels used"), "{}", ran.out);
    let resumed = replay(&ReplayArgs { resume: Some(saved.clone()), ..ReplayArgs::default() });
    assert_eq!(resumed.hash(), ran.hash());
    assert_eq!(figures(&resumed).rounds, labels.used);
    assert_eq!(sampled(&file, "random=0.3").hash(), ran.hash(), "the draws are keyed");
    let other = ReplayArgs { seed: Some("another".to_owned()), save: None, ..sampling };
    assert_ne!(replay(&other).hash(), ran.hash());
    // Each label that is left has the probability with which it was asked for.
    let lines = fs::read_to_string(saved).unwrap();
    let probabilities: BTreeSet<String> = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|line| line["aegis"] == "label")
        .map(|line| line["inclusion_probability"].to_string())
        .collect();
    assert!(probabilities.contains("0.3") && probabilities.len() <= 2, "{probabilities:?}");
}

#[test]
fn the_margin_is_of_the_p_that_was_known_when_the_event_was_decided() {
    let room = Folder::new();
    let hedge = |file: PathBuf| {
        let args = ReplayArgs {
            learner: Some("hedge".to_owned()),
            eta: Some(1.0),
            labels: Some("margin=0.2".to_owned()),
            ..args(&[&file])
        };
        let ran = replay(&args);
        (figures(&ran).labels.unwrap(), figures(&ran).mistakes)
    };
    // One label takes the even p of the first event out of the margin.
    let (prompt, mistakes) = hedge(room.file("s.jsonl", &opposed(200, 0)));
    assert_eq!((prompt.used, prompt.margin, prompt.mistakes_when_decided), (1, 1, mistakes));
    // If labels come after 50 events, all events until then look even.
    let (late, _) = hedge(room.file("s.jsonl", &opposed(200, 50)));
    assert_eq!((late.used, late.margin), (50, 50));
    let safe = (0..50).filter(|event| event * event % 7 >= 3).count() as u64;
    assert_eq!(late.mistakes_when_decided, safe, "a p of .5 is flagged");
    // All of these p are .5, so a slope of 1 asks for each of them, and for few of the others.
    let args = ReplayArgs {
        learner: Some("hedge".to_owned()),
        eta: Some(1.0),
        labels: Some("slope=1".to_owned()),
        ..args(&[&room.file("s.jsonl", &opposed(200, 50))])
    };
    let sloping = figures(&replay(&args)).labels.unwrap();
    assert!(sloping.used > 50 + 50 && sloping.used < 50 + 100, "half of the others: {sloping:?}");
}

#[test]
fn labels_that_no_sampling_asks_for_are_never_hidden() {
    let room = Folder::new();
    let mut lines = opposed(200, 0);
    for event in [3, 30, 190] {
        let gold =
            json!({"event_id": event, "label_id": "g", "source": "gold", "annotator": "g", "unsafe": true});
        lines.push(gold.to_string());
    }
    let ran = sampled(&room.file("s.jsonl", &lines), "audit=0.000001");
    assert_eq!((figures(&ran).labels.unwrap().used, figures(&ran).labels.unwrap().audit), (3, 0));
    assert!(figures(&ran).regret_bound.is_none(), "the bound is on the rounds that were learned");
}

#[test]
fn a_sampling_that_cannot_be_is_refused_with_one_that_can() {
    let room = Folder::new();
    let file = room.file("s.jsonl", &stream(5, false));
    for wrong in
        ["", "audit", "audit=", "audit=1.1", "margin=-0.1", "random=NaN", "flat=0.1", "audit=0,margin=0"]
    {
        let error = sampled(&file, wrong).result.unwrap_err();
        assert_eq!(error.exit_code(), 64, "{wrong}");
        assert!(error.to_string().contains("write for example audit=0.01,margin=0.1"), "{wrong}: {error}");
    }
    let error = sampled(&file, "audit=0.1,audit=0.2").result.unwrap_err();
    assert_eq!(error.to_string(), "--labels: audit is there twice: write it once");
    let all = ReplayArgs {
        labels: Some("audit=0.1".to_owned()),
        learner: Some("all".to_owned()),
        ..args(&[&file])
    };
    assert_eq!(replay(&all).code(), 64);
}
