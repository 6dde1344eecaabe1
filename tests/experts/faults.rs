//! A failure of an expert affects its own votes and no others.

use crate::experts_support;

use std::time::Duration;

use aegis::core::vote::Abstention;
use aegis::experts::{Panel, PanelConfig, PanelError, State};
use experts_support::asked::{config, outcome, outcomes, wait_until};
use experts_support::{
    FLOAT, Folder, Graph, SCORES, STRING, faulty_classifier, faulty_encoder, head, shaky_head,
};

#[test]
fn a_text_that_breaks_a_classifier_costs_only_its_own_vote() {
    let folder = Folder::new();
    folder.classifier("faulty", &faulty_classifier());
    folder.rules("rules", "base = 0.125\n[[terms]]\ncategory = \"c\"\nseverity = 0.875\nwords = [\"bad\"]\n");
    let panel = Panel::open(config(&folder)).unwrap();
    let found = outcomes(&panel, &["fine", "poison", "bad", "nan", "", "fine", " \t\n", "bad"]);
    let (none, nothing) = (Err(Abstention::EmptyText), vec![Err(Abstention::EmptyText); 2]);
    assert_eq!(none, nothing[0]);
    assert_eq!(
        found,
        [
            vec![Ok(0.25), Ok(0.125)],
            vec![Err(Abstention::Failed), Ok(0.125)],
            vec![Ok(0.75), Ok(0.875)],
            vec![Err(Abstention::NotFinite), Ok(0.125)],
            nothing.clone(),
            vec![Ok(0.25), Ok(0.125)],
            nothing,
            vec![Ok(0.75), Ok(0.875)],
        ]
    );
}

#[test]
fn a_wrong_shape_is_reported() {
    let folder = Folder::new();
    folder.classifier("faulty", &faulty_classifier());
    let panel = Panel::open(PanelConfig { sessions: Some(1), ..config(&folder) }).unwrap();
    assert_eq!(outcomes(&panel, &["wide"]), [[Err(Abstention::WrongShape)]]);
    assert_eq!(outcomes(&panel, &["fine"]), [[Ok(0.25)]]);
}

#[test]
fn an_encoder_that_fails_on_a_text_takes_its_heads_along_and_no_other_text() {
    let folder = Folder::new();
    folder.encoder("encoder", &faulty_encoder()).head("plain", &head()).head("shaky", &shaky_head());
    let panel = Panel::open(config(&folder)).unwrap();
    let answers = panel.ask(&["fine", "poison", "bad", "nan"]);
    let found: Vec<Vec<_>> =
        answers.iter().map(|answer| answer.votes.iter().map(outcome).collect()).collect();
    assert_eq!(found[0], [Ok(0.25), Err(Abstention::NotFinite)]);
    assert_eq!(found[1], [Err(Abstention::Failed), Err(Abstention::Failed)]);
    assert_eq!(found[2][0], Ok(0.75));
    assert!((found[2][1].unwrap() - 0.25).abs() < 1e-6);
    assert_eq!(found[3], [Err(Abstention::NotFinite), Err(Abstention::NotFinite)]);
    // Only texts with a finite embedding have features.
    let firsts: Vec<Option<i8>> = answers.iter().map(|a| a.reading.as_ref().map(|r| r.features[0])).collect();
    assert_eq!(firsts, [Some(25), None, Some(75), None]);
    assert!(answers[0].reading.as_ref().is_some_and(|reading| Some(reading.encoder) == panel.encoder()));
    let read = panel.read(&["bad", "", "poison", "fine"], |_| {});
    assert_eq!(
        read.iter().map(|r| r.as_ref().map(|r| r.features[383])).collect::<Vec<_>>(),
        [Some(75), None, None, Some(25)]
    );
}

#[test]
fn an_expert_that_keeps_failing_is_left_alone() {
    let folder = Folder::new();
    folder.classifier("faulty", &faulty_classifier());
    let pause = Duration::from_secs(600);
    let panel = Panel::open(PanelConfig { pause, ..config(&folder) }).unwrap();
    for _ in 0..7 {
        assert_eq!(outcomes(&panel, &["poison"]), [[Err(Abstention::Failed)]]);
    }
    assert_eq!(outcomes(&panel, &["fine"]), [[Ok(0.25)]]);
    for _ in 0..4 {
        // NaN counts as a failure as well: one text may cause it, but not eight in a row.
        assert_eq!(outcomes(&panel, &["nan"]), [[Err(Abstention::NotFinite)]]);
        assert_eq!(outcomes(&panel, &["poison"]), [[Err(Abstention::Failed)]]);
    }
    assert_eq!(panel.down(), [Some(Abstention::Failed)]);
    assert_eq!(outcomes(&panel, &["bad"]), [[Err(Abstention::Failed)]]);
    // Cached answers are still returned.
    assert_eq!(outcomes(&panel, &["fine"]), [[Ok(0.25)]]);
}

/// The other heads of the encoder continue, and the failing head is enabled again.
#[test]
fn a_head_that_keeps_failing_is_left_alone_by_itself() {
    let folder = Folder::new();
    folder.encoder("encoder", &faulty_encoder()).head("plain", &head()).head("shaky", &shaky_head());
    let nan = Err(Abstention::NotFinite);
    for pause in [Duration::from_secs(600), Duration::from_millis(1)] {
        let panel = Panel::open(PanelConfig { pause, ..config(&folder) }).unwrap();
        for _ in 0..8 {
            assert_eq!(panel.down(), [None, None]);
            assert_eq!(outcomes(&panel, &["fine"]), [[Ok(0.25), nan]]);
        }
        assert_eq!(panel.down(), [None, nan.err()]);
        if pause > Duration::from_secs(1) {
            assert_eq!(outcomes(&panel, &["bad"]), [[Ok(0.75), nan]]);
            assert!(panel.ask(&["bad"])[0].reading.is_some());
            continue;
        }
        wait_until("the head votes again", || outcomes(&panel, &["bad"])[0][1].is_ok());
        assert_eq!(panel.down(), [None, None]);
    }
}

#[test]
fn many_may_ask_at_once() {
    let folder = Folder::new();
    folder.classifier("faulty", &faulty_classifier());
    let panel = Panel::open(config(&folder)).unwrap();
    std::thread::scope(|scope| {
        for asker in 0..4 {
            let panel = &panel;
            scope.spawn(move || {
                let (word, score) = if asker % 2 == 0 { ("fine", 0.25) } else { ("bad", 0.75) };
                for _ in 0..20 {
                    assert_eq!(outcomes(panel, &[word; 70]), vec![vec![Ok(score)]; 70]);
                }
            });
        }
    });
}

#[test]
fn a_graph_that_does_not_load_abstains_unless_all_are_required() {
    let folder = Folder::new();
    folder.encoder("encoder", b"this is no graph").head("plain", &head());
    folder.classifier("faulty", &faulty_classifier());
    let panel = Panel::open(config(&folder)).unwrap();
    assert_eq!(outcomes(&panel, &["bad"]), [[Ok(0.75), Err(Abstention::NotLoaded)]]);
    let plain = &panel.experts()[1];
    assert!(
        matches!(&plain.state, State::NotLoaded { reason } if reason.starts_with("its encoder encoder: "))
    );
    assert_eq!(panel.ask(&["bad"])[0].votes[1].model, None);
    assert!(matches!(&panel.encoder_info().unwrap().state, State::NotLoaded { .. }));
    assert!(panel.read(&["bad"], |_| {})[0].is_none());

    let error = Panel::open(PanelConfig { require_all: true, ..config(&folder) }).err().unwrap();
    assert!(matches!(&error, PanelError::NotLoaded { id, .. } if id == "encoder"), "{error}");
}

/// Returns a graph that reads text itself, and gives 1 for one text and 0 for others.
fn knows_one_text(shape: &[i64], text: &str) -> Vec<u8> {
    Graph::default()
        .input("text", STRING, shape)
        .words("known", &[text])
        .node("Equal", &["text", "known"], "same")
        .node_with("Cast", &["same"], "value", &[("to", FLOAT)])
        .ints("column", &[2], &[-1, 1])
        .node("Reshape", &["value", "column"], "scores")
        .output("scores", FLOAT, &[-1, 1])
        .model()
}

#[test]
fn a_graph_may_read_text_itself() {
    let folder = Folder::new();
    let rest = format!("[text]\nmax_chars = 6\n[inputs]\ntext = \"text\"\n{SCORES}");
    folder.add("column", "classifier", "", &knows_one_text(&[-1, 1], "böse 💥"), &rest);
    folder.add("row", "classifier", "", &knows_one_text(&[-1], "böse 💥"), &rest);
    let panel = Panel::open(config(&folder)).unwrap();
    // A NUL would end the string for the runtime, and fail the batch. A text that is cut is marked.
    let texts = ["böse 💥", "fine", "böse\0💥", "böse 💥 und mehr", "böse 💥  ", "", "\0"];
    let (yes, no, none) = (Ok(1.0), Ok(0.0), Err(Abstention::EmptyText));
    let found = outcomes(&panel, &texts);
    assert_eq!(found, [[yes; 2], [no; 2], [yes; 2], [yes; 2], [yes; 2], [none; 2], [none; 2]]);
    let answers = panel.ask(&texts);
    let truncated: Vec<bool> = answers.iter().map(|answer| answer.votes[1].truncated).collect();
    assert_eq!(truncated, [false, false, false, true, false, false, false]);
    // Characters do not count as tokens.
    assert!(answers.iter().all(|answer| answer.tokens == 0));
    assert!(panel.examine("fine").iter().all(|examined| examined.tokens.is_none()));
}

/// Returns a graph that scores one half, and reports only for one text that it has read something.
fn reads_one_text(text: &str) -> Graph {
    Graph::default()
        .input("text", STRING, &[-1])
        .words("known", &[text])
        .node("Equal", &["text", "known"], "same")
        .node_with("Cast", &["same"], "value", &[("to", FLOAT)])
        .ints("column", &[2], &[-1, 1])
        .node("Reshape", &["value", "column"], "read")
        .floats("half", &[1], &[0.5])
        .floats("zero", &[1], &[0.0])
        .node("Mul", &["read", "zero"], "nothing")
        .node("Add", &["nothing", "half"], "scores")
        .output("scores", FLOAT, &[-1, 1])
        .output("read", FLOAT, &[-1, 1])
}

#[test]
fn a_graph_that_reports_that_it_read_nothing_does_not_vote() {
    let folder = Folder::new();
    let rest = format!("[text]\nmax_chars = 9\n[inputs]\ntext = \"text\"\n{SCORES}");
    let reads = rest.replace("[outputs]\n", "[outputs]\nread = \"read\"\n");
    assert_ne!(rest, reads);
    folder.add("says", "classifier", "", &reads_one_text("known").model(), &reads);
    folder.add("silent", "classifier", "", &reads_one_text("known").model(), &rest);
    let panel = Panel::open(config(&folder)).unwrap();
    let (half, none) = (Ok(0.5), Err(Abstention::NothingRead));
    let texts = ["known", "other", "known", "more"];
    assert_eq!(outcomes(&panel, &texts), [[half; 2], [none, half], [half; 2], [none, half]]);
    assert_eq!(panel.down(), [None, None], "it has not failed");
    let other = reads.replace("\"read\"", "\"written\"");
    folder.add("says", "classifier", "", &reads_one_text("known").model(), &other);
    let Err(PanelError::Misfit { field, .. }) = Panel::open(config(&folder)) else { panic!("it fits") };
    assert_eq!(field, "outputs.read");
    // A graph with two numbers for each text is refused, because the number to use is ambiguous.
    let two = reads_one_text("known").node_with("Concat", &["read", "read"], "twice", &[("axis", 1)]);
    let two = two.output("twice", FLOAT, &[-1, 2]).model();
    folder.add("says", "classifier", "", &two, &reads.replace("\"read\"", "\"twice\""));
    let Err(error @ PanelError::Misfit { .. }) = Panel::open(config(&folder)) else { panic!("it fits") };
    assert!(error.to_string().contains("\"twice\" has 2 numbers a text"), "{error}");
}

#[test]
fn an_expert_that_knows_no_token_of_a_text_does_not_vote() {
    let folder = Folder::new();
    folder
        .classifier("alone", &faulty_classifier())
        .encoder("encoder", &faulty_encoder())
        .head("plain", &head())
        .rules("rules", "base = 0.125\n[[terms]]\ncategory = \"c\"\nseverity = 0.875\nwords = [\"bad\"]\n");
    let panel = Panel::open(config(&folder)).unwrap();
    let none = Err(Abstention::NothingRead);
    // The texts are asked twice, because cached answers must be the same. The rules do not read words of a script in
    // which they have none.
    for _ in 0..2 {
        let texts = [
            "fine",
            "strange",
            "\u{1f642}",
            "bad \u{1f642}",
            "\u{e0066}\u{e0069}\u{e006e}\u{e0065}",
            "\u{fe01}\u{fe02}",
        ];
        let answers = panel.ask(&texts);
        let found: Vec<Vec<_>> =
            answers.iter().map(|answer| answer.votes.iter().map(outcome).collect()).collect();
        assert_eq!(
            found,
            [
                vec![Ok(0.25), Ok(0.25), Ok(0.125)],
                vec![none, none, Ok(0.125)],
                vec![none; 3],
                vec![Ok(0.75), Ok(0.75), Ok(0.875)],
                // Tag characters are read as the text that they encode.
                vec![Ok(0.25), Ok(0.25), Ok(0.125)],
                // Selectors that encode no text are hidden text as well.
                vec![none; 3],
            ]
        );
        let read: Vec<bool> = answers.iter().map(|answer| answer.reading.is_some()).collect();
        assert_eq!(read, [true, false, false, true, true, false]);
    }
    assert_eq!(panel.down(), [None, None, None], "nothing has failed");
}

#[test]
fn only_some_experts_can_be_asked() {
    let folder = Folder::new();
    folder
        .encoder("encoder", &faulty_encoder())
        .head("plain", &head())
        .classifier("faulty", &faulty_classifier());
    let ids = |only: &[&str]| {
        let only = Some(only.iter().map(|id| (*id).to_owned()).collect());
        let panel = Panel::open(PanelConfig { only, ..config(&folder) }).unwrap();
        let ids: Vec<String> = panel.experts().iter().map(|expert| expert.id.clone()).collect();
        (ids, panel.encoder().is_some())
    };
    assert_eq!(ids(&["plain"]), (vec!["plain".to_owned()], true));
    assert_eq!(ids(&["faulty"]), (vec!["faulty".to_owned()], false));
    assert_eq!(ids(&["faulty", "encoder"]), (vec!["faulty".to_owned()], true));
    let cheap = PanelConfig { cheap: vec!["x".to_owned()], ..config(&folder) };
    assert_eq!(Panel::open(cheap).err().unwrap().name(), "UnknownExpert");
    let budgets = PanelConfig { budgets: [("x".to_owned(), 1)].into(), ..config(&folder) };
    assert_eq!(Panel::open(budgets).err().unwrap().name(), "UnknownBudget");
    let unknown = PanelConfig { only: Some(vec!["x".to_owned()]), ..config(&folder) };
    assert_eq!(Panel::open(unknown).err().unwrap().name(), "UnknownExpert");
}

#[test]
fn rules_alone_need_no_runtime() {
    let folder = Folder::new();
    folder.rules("rules", "base = 0.125\n");
    let panel = Panel::open(PanelConfig { runtime: "/nowhere".into(), ..config(&folder) }).unwrap();
    assert_eq!(outcomes(&panel, &["hello"]), [[Ok(0.125)]]);
    assert_eq!(panel.encoder(), None);

    let empty = Folder::new();
    assert_eq!(Panel::open(config(&empty)).err().unwrap().name(), "NoExperts");
}
