//! Guards: verdicts from the next token of a causal language model.

use crate::experts_support;

use std::time::Duration;

use aegis::core::event::{Conversation, Role, Turn};
use aegis::core::vote::{Abstention, Outcome};
use aegis::experts::{Panel, PanelConfig, PanelCosts, TOLERANCE};
use experts_support::Folder;
use experts_support::adapter::adapter;
use experts_support::asked::{Said, config, outcome, outcomes, wait_until};
use experts_support::causal::{Export, PLAIN, SPEC, Weights, lora};
use experts_support::causal_graph::causal;

const TEXTS: [&str; 4] = ["fine", "bad bad very bad day", "very nice day fine again again", "word"];

/// Returns the scores of the only expert, asked about all texts together.
fn scores(panel: &Panel, texts: &[&str]) -> Vec<f64> {
    outcomes(panel, texts).into_iter().map(|votes| votes[0].unwrap()).collect()
}

/// Returns the panel of one guard.
fn guard(export: &Export) -> Panel {
    let folder = Folder::new();
    folder.guard("guard", "", &causal(export));
    Panel::open(PanelConfig { cache: 0, require_all: true, ..config(&folder) }).unwrap()
}

fn assert_near(found: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() <= tolerance, "{what}: {found} instead of {expected}");
    }
}

#[test]
fn a_verdict_does_not_depend_on_the_batch_or_the_cache() {
    let expected = scores(&guard(&Export { past: false, ..PLAIN }), &TEXTS);
    assert!(expected.iter().all(|p| (0.01..0.99).contains(p)), "{expected:?}");
    let least = expected.iter().copied().fold(1.0, f64::min);
    let greatest = expected.iter().copied().fold(0.0, f64::max);
    assert!(greatest - least > 0.05, "the model reads its text: {expected:?}");
    let exports = [
        ("plain", PLAIN),
        ("no past", Export { past: false, ..PLAIN }),
        ("shared past", Export { shares: true, ..PLAIN }),
        ("merged", Export { merged: true, ..PLAIN }),
        ("last column", Export { last_only: true, ..PLAIN }),
        ("fused", Export { fused: true, ..PLAIN }),
        ("counted positions", Export { counts_positions: true, ..PLAIN }),
        ("counted positions, last column", Export { counts_positions: true, last_only: true, ..PLAIN }),
        ("16 bits", Export { half: true, ..PLAIN }),
    ];
    for (name, export) in exports {
        let panel = guard(&export);
        let tolerance = if export.half { 2e-3 } else { 1e-5 };
        assert_near(&scores(&panel, &TEXTS), &expected, tolerance, &format!("{name}, together"));
        let alone: Vec<f64> = TEXTS.iter().map(|text| scores(&panel, &[text])[0]).collect();
        assert_near(&alone, &expected, tolerance, &format!("{name}, alone"));
    }
}

/// Weights of four bits give the scores of the same numbers in float32, with plain and with fused attention.
#[test]
fn a_guard_with_weights_of_four_bits_has_the_scores_of_its_numbers() {
    let of = |weights, fused| scores(&guard(&Export { weights, fused, ..PLAIN }), &TEXTS);
    for fused in [false, true] {
        let (found, expected) = (of(Weights::FourBits, fused), of(Weights::Rounded, fused));
        assert_near(&found, &expected, 1e-5, "four bits");
        let differs = |(a, b): (&f64, &f64)| (a - b).abs() > 1e-3;
        assert!(
            found.iter().zip(&of(Weights::Float, fused)).any(differs),
            "rounding changes the scores: {found:?}"
        );
    }
}

#[test]
fn a_graph_that_takes_one_row_behind_a_past_runs_alone() {
    let is_alone = |export: &Export| guard(export).model_infos()[0].alone;
    assert!(is_alone(&Export { fused: true, ..PLAIN }));
    for export in [PLAIN, Export { shares: true, ..PLAIN }, Export { counts_positions: true, ..PLAIN }] {
        assert!(!is_alone(&export), "{export:?}");
    }
}

/// The batches of a graph of 16 bits are accepted within a greater difference, also where they are checked later.
#[test]
fn a_guard_has_the_tolerance_of_its_numbers() {
    assert_eq!(guard(&PLAIN).tolerance(0), TOLERANCE);
    let half = guard(&Export { half: true, ..PLAIN }).tolerance(0);
    assert!(half > TOLERANCE && half <= 2e-3, "{half}");
}

/// Two guards read one verdict by other rules.
#[test]
fn guards_with_one_prompt_share_a_run() {
    let folder = Folder::new();
    folder.guard("strict", "", &causal(&PLAIN));
    let words = |harmful: &str| {
        SPEC.replace(
            "[verdict]",
            &format!("[verdict]\ncontroversial = [\" very\"]\ncontroversial_counts = \"{harmful}\""),
        )
    };
    folder.guard_on("loose", "strict", &words("safe"), "");
    folder.guard_on("other", "strict", &SPEC.replace("never harm anyone", "never"), "");
    folder.guard("strict", "", &causal(&PLAIN));
    folder.file("strict", "spec.toml", words("unsafe").as_bytes());
    let panel = Panel::open(PanelConfig { cache: 0, require_all: true, ..config(&folder) }).unwrap();
    let models: Vec<Vec<String>> = panel.model_infos().into_iter().map(|model| model.experts).collect();
    assert_eq!(models, [vec!["loose".to_owned(), "strict".to_owned()], vec!["other".to_owned()]]);
    let mut costs = PanelCosts::default();
    let answer = panel.ask_with_costs(&["bad day"], &mut costs).remove(0);
    assert_eq!(costs.batches, 2);
    let found: Vec<f64> = answer.votes.iter().map(|vote| outcome(vote).unwrap()).collect();
    assert!(found[0] < found[1] && found[2] != found[1], "{found:?}");
    let hashes: Vec<_> = answer.votes.iter().map(|vote| vote.model.unwrap()).collect();
    assert!(hashes[0] != hashes[1] && hashes[1] != hashes[2] && hashes[0] != hashes[2]);
}

/// Returns the file of the adapter that [`Export::adapter`] makes part of a graph.
fn adapter_file(seed: u64) -> Vec<u8> {
    let tensors = lora(seed);
    let tensors: Vec<(&str, &[i64], &[f32])> =
        tensors.iter().map(|(name, shape, numbers)| (*name, shape.as_slice(), numbers.as_slice())).collect();
    adapter(&tensors)
}

#[test]
fn adapters_share_a_base_and_have_the_scores_of_merged_graphs() {
    let (base, first, second) =
        [None, Some(11), Some(21)].map(|adapter| scores(&guard(&Export { adapter, ..PLAIN }), &TEXTS)).into();
    assert_ne!(base, first);
    let folder = Folder::new();
    folder.guard("base", "", &causal(&PLAIN));
    for (id, seed) in [("first", 11), ("second", 21)] {
        let file = folder.file(id, "lora.onnx_adapter", &adapter_file(seed));
        folder.guard_on(id, "base", SPEC, &format!("[adapter]\n{file}"));
    }
    let config = PanelConfig { cache: 0, require_all: true, sessions: Some(1), ..config(&folder) };
    let panel = Panel::open(config).unwrap();
    // One worker runs the base and both adapters in turn.
    for _ in 0..3 {
        let found = outcomes(&panel, &TEXTS);
        for (expert, expected) in [&base, &first, &second].into_iter().enumerate() {
            let found: Vec<f64> = found.iter().map(|votes| votes[expert].unwrap()).collect();
            assert_near(&found, expected, 1e-6, &format!("expert {expert}"));
        }
    }
}

#[test]
fn a_guard_abstains_on_what_it_cannot_judge() {
    let folder = Folder::new();
    folder.guard("guard", "", &causal(&PLAIN));
    let panel = Panel::open(PanelConfig { require_all: true, ..config(&folder) }).unwrap();
    let found = outcomes(&panel, &["nan", "fine", "poison", "off", "bad", ""]);
    let reasons: Vec<Option<Abstention>> = found.iter().map(|votes| votes[0].err()).collect();
    let (nan, off) = (Some(Abstention::NotFinite), Some(Abstention::OffTemplate));
    assert_eq!(reasons, [nan, None, Some(Abstention::Failed), off, None, Some(Abstention::EmptyText)]);
    let turn = |role, text: &str| Turn { role, text: text.to_owned() };
    let tool = Conversation { turns: vec![turn(Role::User, "bad"), turn(Role::Tool, "fine")], judged: 1 };
    assert_eq!(outcome(&panel.ask(&[tool])[0].votes[0]), Err(Abstention::WrongRole));
}

#[test]
fn a_guard_reads_as_much_of_the_conversation_as_its_view() {
    let folder = Folder::new();
    folder.guard("all", "view = \"conversation\"", &causal(&PLAIN));
    folder.guard_on("turn", "all", SPEC, "");
    let panel = Panel::open(PanelConfig { require_all: true, ..config(&folder) }).unwrap();
    let turn = |role, text: &str| Turn { role, text: text.to_owned() };
    let ask = |turns: &[Turn]| {
        let conversation = Conversation { turns: turns.to_vec(), judged: turns.len() - 1 };
        panel.ask(&[conversation])[0].votes.iter().map(|vote| outcome(vote).unwrap()).collect::<Vec<_>>()
    };
    let judged = turn(Role::Assistant, "nice day");
    let alone = ask(std::slice::from_ref(&judged));
    let after = ask(&[turn(Role::User, "bad bad bad"), judged.clone()]);
    assert_eq!(alone[0], alone[1]);
    assert!((alone[0] - after[0]).abs() > 1e-3 && alone[1] == after[1], "{alone:?} {after:?}");
    // The judged role is part of the prompt.
    assert_ne!(ask(&[turn(Role::User, "nice day")]), alone);
    // A long history is cut, and the vote says so.
    let long = vec![turn(Role::User, "bad again word"); 200];
    let conversation = Conversation { turns: [long, vec![judged]].concat(), judged: 200 };
    let answer = panel.ask(&[conversation]).remove(0);
    assert!(outcome(&answer.votes[0]).is_ok() && answer.votes[0].truncated && !answer.votes[1].truncated);
    assert!(answer.tokens <= 150, "{}", answer.tokens);
}

#[test]
fn the_categories_of_flagged_texts_are_decoded() {
    let folder = Folder::new();
    folder.guard("guard", "categories = true", &causal(&PLAIN));
    let without_past = Folder::new();
    without_past.guard("guard", "categories = true", &causal(&Export { past: false, ..PLAIN }));
    for folder in [&folder, &without_past] {
        let panel = Panel::open(PanelConfig { require_all: true, ..config(folder) }).unwrap();
        assert_eq!(panel.experts()[0].categories, ["violence"]);
        let mut flagged = 0;
        for text in ["fine", "bad", "bad bad", "very nice day", "word again", "nice nice", "day", "again"] {
            let answer = panel.ask(&[text]).remove(0);
            let Outcome::Voted { score, categories } = &answer.votes[0].outcome else { panic!() };
            let found: Vec<(&str, f64)> = categories.iter().map(|c| (c.category.as_str(), c.score)).collect();
            flagged += usize::from(*score >= 0.5);
            assert_eq!(found, if *score >= 0.5 { vec![("violence", *score)] } else { Vec::new() }, "{text}");
            assert!(!answer.votes[0].truncated);
        }
        // No text takes the time of another one's answer.
        assert!(panel.model_infos()[0].alone);
        assert!((1..8).contains(&flagged), "{flagged} of 8 texts are flagged");
    }
}

/// An answer that cannot be read leaves the vote without categories. The vote says so, and is not kept.
#[test]
fn a_flagged_text_without_categories_is_marked_and_not_cached() {
    let folder = Folder::new();
    folder.guard("base", "", &causal(&PLAIN));
    let unreadable = SPEC.replace("grammar = \"lines\"", "grammar = \"json\"");
    folder.guard("guard", "categories = true", &causal(&PLAIN));
    folder.file("guard", "spec.toml", unreadable.as_bytes());
    let panel = Panel::open(PanelConfig { require_all: true, ..config(&folder) }).unwrap();
    let at = panel.experts().iter().position(|expert| expert.id == "guard").unwrap();
    let mut flagged = 0;
    for text in ["fine", "bad", "bad bad", "very nice day", "word again", "nice nice", "day", "again"] {
        let votes = [(); 2].map(|()| panel.ask(&[text]).remove(0).votes.swap_remove(at));
        let score = outcome(&votes[0]).unwrap();
        assert_eq!(outcome(&votes[1]), Ok(score));
        let lacks = score >= 0.5;
        flagged += usize::from(lacks);
        assert_eq!(votes.each_ref().map(|vote| vote.truncated), [lacks; 2], "{text}");
        assert_eq!((votes[0].cached, votes[1].cached), (false, !lacks), "{text}");
    }
    assert!((1..8).contains(&flagged), "{flagged} of 8 texts are flagged");
}

/// A prefix that is read with each prompt counts as part of it, in budgets and in costs.
#[test]
fn a_prefix_that_is_not_cached_counts() {
    let tokens = |export: &Export| {
        let mut costs = PanelCosts::default();
        assert!(outcome(&guard(export).ask_with_costs(&["bad day"], &mut costs)[0].votes[0]).is_ok());
        assert_eq!(costs.real_tokens, costs.padded_tokens);
        costs.real_tokens
    };
    let (cached, read) = (tokens(&PLAIN), tokens(&Export { past: false, ..PLAIN }));
    // The policy has 14 words.
    assert!(read >= cached + 14, "{cached} tokens behind a cached prefix, {read} with it");
}

const HUNG: Said = Err(Abstention::TimedOut);

/// The run is stopped, with an adapter as well, and the only worker is free again.
#[test]
fn a_guard_that_hangs_times_out_and_comes_back() {
    let folder = Folder::new();
    folder.guard("base", "", &causal(&PLAIN));
    let file = folder.file("adapted", "lora.onnx_adapter", &adapter_file(11));
    folder.guard_on("adapted", "base", SPEC, &format!("[adapter]\n{file}"));
    let (timeout, pause) = (Duration::from_millis(700), Duration::ZERO);
    let config = PanelConfig { sessions: Some(1), timeout, pause, require_all: true, ..config(&folder) };
    let panel = Panel::open(config).unwrap();
    let before = outcomes(&panel, &["fine"]);
    // An earlier answer is cached, so each trial needs another text.
    for trial in ["fine day", "nice day"] {
        assert_eq!(outcomes(&panel, &["hang"]), [[HUNG; 2]]);
        // The second run may be stopped after the answer's deadline.
        wait_until("both runs are stopped", || panel.down() == [Some(Abstention::TimedOut); 2]);
        assert!(outcomes(&panel, &[trial])[0].iter().all(Result::is_ok));
        assert_eq!(panel.down(), [None; 2]);
        assert_eq!(outcomes(&panel, &["fine"]), before);
        assert_eq!(panel.disabled(), [false; 2]);
    }
}

/// The new worker reads the prefix again, and finds out again that the graph takes one row at a time.
#[test]
fn a_worker_that_is_lost_in_a_guard_is_replaced() {
    let folder = Folder::new();
    folder.guard("guard", "", &causal(&Export { fused: true, stuck: true, ..PLAIN }));
    let (timeout, pause) = (Duration::from_secs(1), Duration::from_millis(10));
    let config = PanelConfig { sessions: Some(1), timeout, pause, require_all: true, ..config(&folder) };
    let panel = Panel::open(config).unwrap();
    let before = scores(&panel, &["fine"]);
    assert_eq!(outcomes(&panel, &["hang"]), [[HUNG]]);
    // The answer to `fine` is cached.
    let texts = std::cell::Cell::new(0);
    wait_until("a new worker votes", || {
        texts.set(texts.get() + 1);
        outcomes(&panel, &[&"word ".repeat(texts.get())])[0][0].is_ok()
    });
    assert!(!panel.is_dead() && scores(&panel, &["fine"]) == before);
}
