//! Figures: by policy, by learner, by annotator, round by round.

use super::*;

#[test]
fn annotators_are_shown_with_their_agreement() {
    let room = Folder::new();
    let lines = [
        r#"{"event_id":"1","votes":{"a":1},"unsafe":true,"annotator":"x"}"#,
        r#"{"event_id":"1","unsafe":true,"annotator":"y"}"#,
        r#"{"event_id":"1","unsafe":false,"annotator":"z","source":"gold"}"#,
        r#"{"event_id":"2","votes":{"a":0},"unsafe":false,"annotator":"x"}"#,
    ];
    let ran = replay(&args(&[&room.file("s.jsonl", &lines.map(str::to_owned))]));
    let annotators = &ran.summary().policies["default"].annotators;
    let x = &annotators["x"];
    assert_eq!((x.labels, x.compared, x.agreement), (2, 2, Some(0.5)));
    assert_eq!((x.gold, x.gold_agreement, annotators["z"].gold_agreement), (1, Some(0.0), None));
    assert!(ran.out.contains("annotator"), "{}", ran.out);
}

#[test]
fn several_policies_have_figures_each() {
    let room = Folder::new();
    let mut lines = Vec::new();
    for event in 0..50 {
        for policy in ["strict", "mild"] {
            lines.push(json!({"event_id": event, "policy": policy, "votes": {"a": 1, policy: 0}, "verdict": "needs_caution"}).to_string());
        }
    }
    let mild = Policy {
        learner: "hedge eta=0.5".parse().unwrap(),
        mapping: Mapping { needs_caution: 0.0, ..Mapping::default() },
        ..Policy::unknown("mild")
    };
    lines.push(header(std::slice::from_ref(&mild)));
    let file = room.file("s.jsonl", &lines);
    let json = room.path("out.json");
    let ran = replay(&ReplayArgs { json: Some(json.clone()), ..args(&[&file]) });
    let figures: Value = serde_json::from_str(&fs::read_to_string(json).unwrap()).unwrap();
    assert_eq!(ran.summary().rounds(), 100);
    assert_eq!(figures["policies"]["mild"]["learner"]["name"], "hedge");
    assert_eq!(figures["policies"]["mild"]["experts"]["a"]["mistakes"], 50);
    assert_eq!(figures["policies"]["strict"]["learner"]["name"], "default");
    assert_eq!(figures["policies"]["strict"]["experts"]["a"]["mistakes"], 0);
    assert!(figures["policies"]["strict"]["experts"]["mild"].is_null());
    // Flags override headers. Two headers must not contradict each other.
    let ran = replay(&ReplayArgs { learner: Some("brier".to_owned()), ..args(&[&file]) });
    assert!(ran.summary().policies.values().all(|figures| figures.learner.name == "brier"));
    lines.push(header(&[Policy { learner: "squint".parse().unwrap(), ..mild }]));
    assert_eq!(replay(&args(&[&room.file("s.jsonl", &lines)])).code(), 65);
}

#[test]
fn flags_that_cannot_be_are_refused() {
    let room = Folder::new();
    let file = room.file("s.jsonl", &stream(5, false));
    let flags = |learner: Option<&str>, eta: Option<f64>, costs: Option<&str>| {
        let args = args(&[&file]);
        let (learner, costs) = (learner.map(str::to_owned), costs.map(str::to_owned));
        replay(&ReplayArgs { learner, eta, costs, ..args }).code()
    };
    assert_eq!(flags(Some("hedge"), Some(0.5), Some("1:2")), 0);
    assert_eq!(flags(Some("wisdom"), None, None), 64);
    assert_eq!(flags(Some("squint"), Some(0.5), None), 64);
    assert_eq!(flags(Some("hedge"), Some(-1.0), None), 64);
    assert_eq!(flags(Some("all"), Some(0.5), None), 64);
    assert_eq!(flags(None, Some(0.5), None), 64);
    for costs in ["1", "0:1", "a:b", "1:inf", "NaN:1"] {
        assert_eq!(flags(None, None, Some(costs)), 64, "{costs}");
    }
    assert_eq!(replay(&args(&[])).code(), 64);
    assert_eq!(replay(&args(&[&room.path("missing")])).code(), 69);
    assert_eq!(replay(&args(&[Path::new("topic:aegis.rounds")])).code(), 64);
}

#[test]
fn all_learners_stand_side_by_side() {
    let room = Folder::new();
    let file = room.file("s.jsonl", &stream(200, false));
    let json = room.path("out.json");
    let ran =
        replay(&ReplayArgs { learner: Some("all".to_owned()), json: Some(json.clone()), ..args(&[&file]) });
    let figures: Value = serde_json::from_str(&fs::read_to_string(json).unwrap()).unwrap();
    for name in aegis::core::learners::Name::ALL {
        assert!(ran.out.contains(name.as_str()), "{name}\n{}", ran.out);
        let alone = replay(&ReplayArgs { learner: Some(name.to_string()), ..args(&[&file]) });
        assert_eq!(figures["learners"][name.as_str()]["state_hash"], alone.hash());
        assert_eq!(
            figures["learners"][name.as_str()]["mistakes"],
            alone.summary().policies["default"].mistakes
        );
    }
    assert!(ran.out.contains("best sequence, 5 shifts"));
}

/// Collects each write as a text of its own.
#[derive(Default)]
struct Writes(Vec<String>);

impl std::io::Write for Writes {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.push(String::from_utf8_lossy(bytes).into_owned());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn the_table_of_a_policy_is_written_before_the_next_one_is_computed() {
    let room = Folder::new();
    let lines: Vec<String> = ["mild", "strict"]
        .iter()
        .map(|policy| json!({"event_id": "e", "policy": policy, "votes": {"a": 1}, "verdict": "unsafe"}))
        .map(|line| line.to_string())
        .collect();
    let file = room.file("s.jsonl", &lines);
    for learner in [None, Some("all".to_owned())] {
        let mut out = Writes::default();
        let args = ReplayArgs { learner, ..args(&[&file]) };
        run(&args, &mut ReplayContext::default(), &mut out, &mut Vec::new()).unwrap();
        assert!(out.0[0].starts_with("mild: ") && !out.0[0].contains("strict: "), "{:?}", out.0);
        assert!(out.0[1].starts_with("strict: "), "{:?}", out.0);
    }
}

#[test]
fn a_trace_tells_every_round() {
    let room = Folder::new();
    let file = room.file("s.jsonl", &stream(100, false));
    let trace = room.path("trace.csv");
    for learner in ["hedge", "default"] {
        let ran = replay(&ReplayArgs {
            learner: Some(learner.to_owned()),
            trace: Some(trace.clone()),
            ..args(&[&file])
        });
        let figures = &ran.summary().policies["default"];
        let text = fs::read_to_string(&trace).unwrap();
        let mut lines = text.lines();
        let columns = lines.next().unwrap().split(',').count();
        assert_eq!(columns, 7 + 2 * figures.experts.len());
        let rows: Vec<Vec<&str>> = lines.map(|line| line.split(',').collect()).collect();
        assert_eq!(rows.len() as u64, figures.rounds);
        assert!(rows.iter().all(|row| row.len() == columns));
        assert_eq!(rows.last().unwrap()[6].parse::<u64>().unwrap(), figures.mistakes);
    }
}
