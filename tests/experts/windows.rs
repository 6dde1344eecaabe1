//! Texts that are longer than a graph's input and are read in windows, as their manifest says.

use crate::experts_support;

use std::fs;

use aegis::core::vote::{Abstention, Outcome, Vote};
use aegis::experts::{Panel, PanelConfig};
use experts_support::{Folder, faulty_classifier, faulty_encoder, head, models};

/// Opens a panel that reads at most four windows of one word, with a cache.
fn panel(folder: &Folder, id: &str) -> Panel {
    let manifest = folder.path().join(id).join("manifest.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(manifest, text.replace("max_tokens = 1\n", "max_tokens = 1\nwindows = 4\n")).unwrap();
    let runtime = models().join("runtime/libonnxruntime.so");
    let config = PanelConfig { runtime, sessions: Some(2), ..PanelConfig::new(folder.path()) };
    Panel::open(config).unwrap()
}

fn classifier() -> Panel {
    let folder = Folder::new();
    folder.classifier("faulty", &faulty_classifier());
    panel(&folder, "faulty")
}

fn vote(panel: &Panel, text: &str) -> Vote {
    panel.ask(&[text]).remove(0).votes.remove(0)
}

#[test]
fn the_greatest_of_all_windows_counts() {
    let panel = classifier();
    let ask = |text: &str| {
        let vote = vote(&panel, text);
        let Outcome::Voted { score, categories } = &vote.outcome else { panic!("{text}: {vote:?}") };
        assert_eq!(categories[0].score, *score, "{text}");
        (*score, vote.windows, vote.truncated)
    };
    assert_eq!(ask("fine"), (0.25, 1, false));
    assert_eq!(ask("fine bad fine"), (0.75, 3, false));
    assert_eq!(ask("fine fine fine bad"), (0.75, 4, false));
    // A text that continues after the last window is marked.
    assert_eq!(ask("fine fine fine fine bad"), (0.25, 4, true));
    // So is one with a window that gave no vote.
    assert_eq!(ask("fine poison bad"), (0.75, 2, true));
    assert_eq!(ask("nan bad"), (0.75, 1, true));
    assert_eq!(panel.ask(&["fine bad fine"])[0].tokens, 3);
    assert_eq!(panel.examine("fine bad fine")[0].tokens, Some(3));
}

#[test]
fn a_window_of_unknown_words_does_not_vote() {
    let panel = classifier();
    // The graph would give 0.5 for an unknown word.
    let mixed = vote(&panel, "what fine");
    assert_eq!((mixed.score(), mixed.windows, mixed.truncated), (Some(0.25), 1, true));
    let Outcome::Abstained(reason) = vote(&panel, "what is this").outcome else { panic!("it voted") };
    assert_eq!(reason, Abstention::NothingRead);
    let folder = Folder::new();
    folder.encoder("encoder", &faulty_encoder()).head("plain", &head());
    let panel = self::panel(&folder, "encoder");
    // The features are those of the first window that was read.
    assert_eq!(panel.read(&["what fine"], |_| {}), panel.read(&["fine"], |_| {}));
    assert_eq!(panel.read(&["what"], |_| {}), [None]);
}

#[test]
fn an_expert_abstains_if_no_window_gave_a_vote() {
    let Outcome::Abstained(reason) = vote(&classifier(), "nan nan").outcome else { panic!("it voted") };
    assert_eq!(reason, Abstention::NotFinite);
}

#[test]
fn a_vote_is_cached_if_those_on_all_windows_are() {
    let panel = classifier();
    assert!(!vote(&panel, "bad").cached);
    assert!(!vote(&panel, "fine bad").cached);
    assert!(vote(&panel, "bad fine").cached && vote(&panel, "fine").cached);
}

#[test]
fn heads_vote_on_all_windows_and_features_are_the_firsts() {
    let folder = Folder::new();
    folder.encoder("encoder", &faulty_encoder()).head("plain", &head());
    let panel = panel(&folder, "encoder");
    let long = panel.ask(&["fine bad"]).remove(0);
    assert_eq!((long.votes[0].score(), long.votes[0].windows), (Some(0.75), 2));
    let first = panel.ask(&["fine"]).remove(0);
    assert!(long.reading.is_some() && long.reading == first.reading);
    // The reverse order as well, because the order of the answers must not matter.
    let (long, first) = (panel.ask(&["bad fine"]).remove(0), panel.ask(&["bad"]).remove(0));
    assert!(long.reading.is_some() && long.reading == first.reading);
    assert_eq!(panel.read(&["fine bad"], |_| {}), panel.read(&["fine"], |_| {}));
}
