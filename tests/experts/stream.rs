//! The panel as a stream: every text is answered once, as soon as it is complete, and a text that hangs delays no other
//! text.

use crate::experts_support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aegis::core::vote::Abstention;
use aegis::experts::{Asked, Panel, PanelConfig, PanelCosts, PanelError, Stream, UnderLoad};
use experts_support::asked::{Said, config, outcome};
use experts_support::{Folder, faulty_classifier, faulty_encoder, head, stuck_classifier};

const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

fn panel(folder: &Folder, change: impl FnOnce(&mut PanelConfig)) -> Arc<Panel> {
    let mut config = config(folder);
    change(&mut config);
    Arc::new(Panel::open(config).unwrap())
}

type Outcomes = Vec<Said>;

/// Returns the keys in the order of their answers, and the outcomes by key.
fn drain(stream: &mut Stream) -> (Vec<u64>, BTreeMap<u64, Outcomes>) {
    let (mut order, mut found) = (Vec::new(), BTreeMap::new());
    while stream.inside() > 0 {
        let (key, answer) = stream.next(ANSWER_TIMEOUT).expect("every text is answered");
        order.push(key);
        assert!(found.insert(key, answer.votes.iter().map(outcome).collect()).is_none(), "{key} twice");
    }
    (order, found)
}

fn mixed() -> Folder {
    let folder = Folder::new();
    folder.encoder("encoder", &faulty_encoder()).head("plain", &head());
    folder.classifier("faulty", &faulty_classifier());
    folder.rules("rules", "base = 0.125\n[[terms]]\ncategory = \"c\"\nseverity = 0.875\nwords = [\"bad\"]\n");
    folder
}

/// The number of tokenizer threads does not matter.
#[test]
fn every_text_is_answered_once_with_its_own_votes() {
    for threads in [None, Some(3)] {
        // With a cache, good answers would come from it, and eight batches in a row with only failures would open the
        // breaker.
        let panel = panel(&mixed(), |config| (config.tokenize_threads, config.cache) = (threads, 0));
        let mut stream = panel.stream(512, Duration::from_millis(2)).unwrap();
        let words = ["fine", "bad", "", "nan", "poison"];
        for key in 0..500_u64 {
            stream.submit(key, words[usize::try_from(key).unwrap() % words.len()]).unwrap();
        }
        let (_, found) = drain(&mut stream);
        assert_eq!(found.len(), 500);
        let expected = [
            vec![Ok(0.25), Ok(0.25), Ok(0.125)],
            vec![Ok(0.75), Ok(0.75), Ok(0.875)],
            vec![Err(Abstention::EmptyText); 3],
            vec![Err(Abstention::NotFinite), Err(Abstention::NotFinite), Ok(0.125)],
            vec![Err(Abstention::Failed), Err(Abstention::Failed), Ok(0.125)],
        ];
        for (key, votes) in found {
            assert_eq!(votes, expected[usize::try_from(key).unwrap() % words.len()], "{key}");
        }
    }
}

#[test]
fn a_stream_takes_no_more_than_it_has_room_for() {
    let panel = panel(&mixed(), |_| {});
    let mut stream = panel.stream(3, Duration::ZERO).unwrap();
    for key in 0..3 {
        stream.submit(key, "fine").unwrap();
    }
    assert_eq!((stream.room(), stream.inside()), (0, 3));
    assert!(matches!(stream.submit(3, "fine"), Err(PanelError::Refused)));
    assert!(stream.next(ANSWER_TIMEOUT).is_some());
    stream.submit(3, "fine").unwrap();
    let (mut order, _) = drain(&mut stream);
    order.sort_unstable();
    assert_eq!(order.len(), 3);
}

#[test]
fn a_text_that_hangs_holds_up_no_other_and_times_out() {
    let folder = Folder::new();
    folder.classifier("faulty", &faulty_classifier());
    let timeout = Duration::from_secs(2);
    // With one row per batch, the text that hangs affects no other text.
    let panel = panel(&folder, |config| {
        config.timeout = timeout;
        config.batch.rows = 1;
    });
    let mut stream = panel.stream(64, Duration::ZERO).unwrap();
    stream.submit(0, "hang").unwrap();
    for key in 1..40 {
        stream.submit(key, ["fine", "bad"][usize::try_from(key).unwrap() % 2]).unwrap();
    }
    let (order, found) = drain(&mut stream);
    assert_eq!(order.last(), Some(&0), "the others did not wait for it");
    assert_eq!(found[&0], [Err(Abstention::TimedOut)]);
    assert!(found.iter().skip(1).all(|(key, votes)| votes == &[Ok(if key % 2 == 0 { 0.25 } else { 0.75 })]));
}

#[test]
fn a_worker_that_does_not_come_back_is_replaced() {
    let folder = Folder::new();
    folder.classifier("stuck", &stuck_classifier());
    let timeout = Duration::from_secs(4);
    let panel = panel(&folder, |config| {
        config.timeout = timeout;
        config.sessions = Some(1);
        config.pause = Duration::ZERO;
    });
    // One node runs for a very long time, and a run stops only between nodes.
    let answer = panel.ask(&["hang"]).remove(0);
    assert_eq!(outcome(&answer.votes[0]), Err(Abstention::TimedOut));
    assert!(answer.ran[0].is_some(), "its run was given up before the answer's deadline");
    // The only worker is still in that node. Another one replaces it within the time of this question.
    assert_eq!(outcome(&panel.ask(&["fine"])[0].votes[0]), Ok(0.25));
}

#[test]
fn equal_texts_at_the_same_time_run_once() {
    let folder = Folder::new();
    folder.classifier("faulty", &faulty_classifier());
    let panel = panel(&folder, |config| config.sessions = Some(1));
    let mut stream = panel.stream(64, Duration::from_millis(200)).unwrap();
    for key in 0..30 {
        stream.submit(key, ["fine", "bad", "fine"][usize::try_from(key).unwrap() % 3]).unwrap();
    }
    let (_, found) = drain(&mut stream);
    assert_eq!(found.len(), 30);
    assert_eq!(stream.runs().iter().map(|run| run.texts).sum::<usize>(), 2);
}

/// Returns for each vote `true` if it was copied from an equal text.
fn cached(panel: &Panel, texts: &[&str]) -> Vec<bool> {
    let answers = panel.ask(texts);
    let votes = answers.iter().flat_map(|answer| &answer.votes);
    votes.filter(|vote| vote.expert != "rules").map(|vote| vote.cached).collect()
}

#[test]
fn an_answer_given_before_is_given_again_and_marked() {
    let cache = |bytes| panel(&mixed(), |config| config.cache = bytes);
    let kept = cache(1 << 20);
    assert_eq!(cached(&kept, &["fine"]), [false, false]);
    assert_eq!(cached(&kept, &["fine", "bad"]), [true, true, false, false]);
    let (one, two) = (kept.ask(&["bad"]), kept.ask(&["bad"]));
    assert!(one[0].reading.is_some() && one[0].votes == two[0].votes && one[0].reading == two[0].reading);
    // Failures are tried again.
    assert_eq!(cached(&kept, &["poison", "poison"]), [false; 4]);
    assert_eq!(cached(&kept, &["poison"]), [false; 2]);
    let none = cache(0);
    assert_eq!(cached(&none, &["fine"]), [false, false]);
    assert_eq!(cached(&none, &["fine", "fine"]), [false, false, true, true]);
}

#[test]
fn a_shrunk_stream_asks_the_cheap_experts_and_marks_the_others() {
    let panel = panel(&mixed(), |config| config.cheap = vec!["faulty".to_owned()]);
    let mut stream = panel.stream(8, Duration::ZERO).unwrap();
    let ask = |stream: &mut Stream| {
        stream.submit(1, "bad").unwrap();
        drain(stream).1.remove(&1).unwrap()
    };
    let all = [Ok(0.75), Ok(0.75), Ok(0.875)];
    assert_eq!(ask(&mut stream), all);
    stream.shrink(true);
    // In the order of their ids, the experts are faulty, plain (a head on the encoder), and rules.
    assert_eq!(ask(&mut stream), [Ok(0.75), Err(Abstention::Overload), Ok(0.875)]);
    stream.shrink(false);
    assert_eq!(ask(&mut stream), all);
}

#[test]
fn a_text_may_keep_other_experts_than_the_cheap_ones() {
    let panel = panel(&mixed(), |config| config.cheap = vec!["faulty".to_owned()]);
    let mut stream = panel.stream(8, Duration::ZERO).unwrap();
    let mut ask = |kept| {
        stream.shrink(true);
        stream.submit_to(1, "bad", kept).unwrap();
        drain(&mut stream).1.remove(&1).unwrap()
    };
    let shed = Err(Abstention::Overload);
    assert_eq!(ask(UnderLoad::Cheap), [Ok(0.75), shed, Ok(0.875)]);
    assert_eq!(ask(UnderLoad::All), [Ok(0.75), Ok(0.75), Ok(0.875)]);
    assert_eq!(ask(panel.under_load(&["plain".to_owned()]).unwrap()), [shed, Ok(0.75), Ok(0.875)]);
    assert_eq!(ask(panel.under_load(&["rules".to_owned()]).unwrap()), [shed, shed, Ok(0.875)]);
    let error = panel.under_load(&["none".to_owned()]).unwrap_err().to_string();
    assert!(error.contains("none") && error.contains("faulty, plain, rules"), "{error}");
}

/// The experts that are left out abstain, and can be asked afterwards, alone.
#[test]
fn some_experts_are_asked_before_others() {
    let panel = panel(&mixed(), |config| config.cheap = vec!["plain".to_owned()]);
    let mut stream = panel.stream(8, Duration::ZERO).unwrap();
    let mut ask = |text, asked| {
        stream.submit_asking(1, text, UnderLoad::Cheap, asked).unwrap();
        let (_, answer) = stream.next(ANSWER_TIMEOUT).unwrap();
        (answer.votes.iter().map(outcome).collect::<Vec<_>>(), answer.reading.is_some())
    };
    // In the order of their ids, the experts are faulty, plain (a head on the encoder), and rules.
    let out = Err(Abstention::NotNeeded);
    let without = |experts: &[usize]| Asked::Without(experts.into());
    let only = |experts: &[usize]| Asked::Only(experts.into());
    assert_eq!(ask("bad", without(&[0])), (vec![out, Ok(0.75), Ok(0.875)], true));
    assert_eq!(ask("bad", without(&[1, 2])), (vec![Ok(0.75), out, out], true));
    assert_eq!(ask("bad", only(&[0])), (vec![Ok(0.75), out, out], false));
    assert_eq!(ask("bad", only(&[1])).0, [out, Ok(0.75), out]);
    assert_eq!(ask("bad", only(&[2])), (vec![out, out, Ok(0.875)], false));
    // There is nothing to judge, whoever is asked.
    assert_eq!(ask("", without(&[0])).0, [Err(Abstention::EmptyText); 3]);
    stream.shrink(true);
    stream.submit_asking(2, "bad", UnderLoad::Cheap, only(&[0])).unwrap();
    assert_eq!(drain(&mut stream).1.remove(&2).unwrap(), [Err(Abstention::Overload), out, out]);
}

#[test]
fn a_failure_is_shared_by_equal_texts() {
    let folder = Folder::new();
    folder.classifier("faulty", &faulty_classifier());
    let panel = panel(&folder, |_| {});
    let mut stream = panel.stream(64, Duration::from_millis(200)).unwrap();
    for key in 0..6 {
        stream.submit(key, ["poison", "fine"][usize::try_from(key).unwrap() % 2]).unwrap();
    }
    let (_, found) = drain(&mut stream);
    let expected = [vec![Err(Abstention::Failed)], vec![Ok(0.25)]];
    assert!(found.iter().all(|(key, votes)| *votes == expected[usize::try_from(*key).unwrap() % 2]));
}

#[test]
fn a_stream_and_many_callers_share_the_workers() {
    let panel = panel(&mixed(), |_| {});
    std::thread::scope(|scope| {
        for asker in 0..3 {
            let panel = &panel;
            scope.spawn(move || {
                for _ in 0..20 {
                    let word = ["fine", "bad", "nan"][asker];
                    let score = [Ok(0.25), Ok(0.75), Err(Abstention::NotFinite)][asker];
                    let answers = panel.ask(&[word; 40]);
                    assert!(answers.iter().all(|answer| outcome(&answer.votes[0]) == score));
                }
            });
        }
        let mut stream = panel.stream(16, Duration::from_millis(1)).unwrap();
        let mut answered = 0;
        for key in 0..400 {
            while stream.room() == 0 {
                let (_, answer) = stream.next(ANSWER_TIMEOUT).unwrap();
                assert_eq!(outcome(&answer.votes[1]), Ok(0.75));
                answered += 1;
            }
            stream.submit(key, "bad").unwrap();
        }
        assert_eq!(answered + drain(&mut stream).0.len(), 400);
    });
}

#[test]
fn an_expert_may_have_a_budget_of_its_own() {
    let folder = Folder::new();
    folder.classifier("faulty", &faulty_classifier());
    let batches = |tokens: Option<usize>| {
        let panel = panel(&folder, |config| {
            config.sessions = Some(1);
            config.budgets.extend(tokens.map(|tokens| ("faulty".to_owned(), tokens)));
        });
        let mut tally = PanelCosts::default();
        assert_eq!(panel.ask_with_costs(&["fine", "bad", "end", "nan"], &mut tally).len(), 4);
        tally.batches
    };
    assert_eq!([None, Some(2), Some(1)].map(batches), [1, 2, 4]);
}
