//! An expert that hangs affects only its own votes. A head that hangs affects none of the other heads of its encoder.

use crate::experts_support;

use std::sync::mpsc;
use std::time::Duration;

use aegis::core::vote::Abstention;
use aegis::experts::{Panel, PanelConfig, PanelCosts};
use experts_support::asked::{Said, config, outcome, outcomes, wait_until};
use experts_support::{
    FLOAT, Folder, Graph, INT64, faulty_classifier, faulty_encoder, hanging_head, head, plain_classifier,
    shaky_head, stuck_classifier, stuck_head,
};

const HUNG: Said = Err(Abstention::TimedOut);

#[test]
fn a_hung_expert_times_out_and_the_panel_goes_on() {
    let folder = Folder::new();
    folder.classifier("faulty", &faulty_classifier());
    folder.rules("rules", "base = 0.125\n");
    let timeout = Duration::from_millis(400);
    let pause = Duration::ZERO;
    let panel = Panel::open(PanelConfig { sessions: Some(1), timeout, pause, ..config(&folder) }).unwrap();
    let answers = panel.ask(&["hang", ""]);
    assert_eq!(answers[0].votes.iter().map(outcome).collect::<Vec<_>>(), [HUNG, Ok(0.125)]);
    assert!(answers[0].ran[0].is_some(), "its run was stopped before the answer's deadline");
    assert_eq!(outcome(&answers[1].votes[0]), Err(Abstention::EmptyText));
    assert_eq!(panel.down(), [Some(Abstention::TimedOut), None]);
    // The run is stopped, and the only worker is free again. A trial of the expert succeeds.
    assert_eq!(outcomes(&panel, &["fine"]), [[Ok(0.25), Ok(0.125)]]);
    assert_eq!(panel.down(), [None, None]);
}

#[test]
fn an_expert_that_hangs_is_left_alone_and_the_others_vote() {
    let folder = Folder::new();
    folder.classifier("faulty", &faulty_classifier());
    folder.encoder("encoder", &faulty_encoder()).head("plain", &head());
    let (timeout, pause) = (Duration::from_secs(2), Duration::from_secs(600));
    let panel = Panel::open(PanelConfig { timeout, pause, ..config(&folder) }).unwrap();
    assert_eq!(outcomes(&panel, &["hang"]), [[HUNG; 2]]);
    let answer = panel.ask(&["fine"]).remove(0);
    assert_eq!(answer.votes.iter().map(outcome).collect::<Vec<_>>(), [HUNG; 2]);
    assert_eq!((answer.began, answer.ran), (None, vec![None; 2]), "nothing runs while both are down");
    assert_eq!(panel.down(), [Some(Abstention::TimedOut); 2]);
}

/// The position of the head among the others does not matter.
#[test]
fn a_head_that_hangs_costs_its_own_vote() {
    let folder = Folder::new();
    folder.encoder("encoder", &faulty_encoder()).head("hangs", &hanging_head());
    folder.head("before", &head()).head("later", &head());
    let (timeout, pause) = (Duration::from_secs(2), Duration::from_secs(600));
    let panel = Panel::open(PanelConfig { timeout, pause, sessions: Some(1), ..config(&folder) }).unwrap();
    assert_eq!(outcomes(&panel, &["fine"]), [[Ok(0.25); 3]]);
    let answers = panel.ask(&["bad", "end"]);
    // One text of a batch is enough, because it is not known which text caused it.
    for (answer, score) in answers.iter().zip([0.75, 0.5]) {
        assert_eq!(answer.votes.iter().map(outcome).collect::<Vec<_>>(), [Ok(score), HUNG, Ok(score)]);
        assert!(answer.reading.is_some());
    }
    assert_eq!(panel.down(), [None, Some(Abstention::TimedOut), None]);
    // It does not run again.
    let mut costs = PanelCosts::default();
    let answers = panel.ask_with_costs(&["poison", "bad"], &mut costs);
    assert_eq!(answers[1].votes.iter().map(outcome).collect::<Vec<_>>(), [Ok(0.75), HUNG, Ok(0.75)]);
    let ran: Vec<bool> = costs.experts.iter().map(|time| !time.is_zero()).collect();
    assert_eq!(ran, [true, false, true]);
}

#[test]
fn a_head_that_hung_comes_back() {
    let folder = Folder::new();
    folder.encoder("encoder", &faulty_encoder()).head("hangs", &hanging_head()).head("plain", &head());
    let (timeout, pause) = (Duration::from_secs(2), Duration::ZERO);
    let panel = Panel::open(PanelConfig { timeout, pause, ..config(&folder) }).unwrap();
    assert_eq!(outcomes(&panel, &["bad"]), [[HUNG, Ok(0.75)]]);
    assert_eq!(panel.down(), [Some(Abstention::TimedOut), None]);
    assert_eq!(outcomes(&panel, &["fine"]), [[Ok(0.25), Ok(0.25)]]);
    assert_eq!(panel.down(), [None, None]);
}

/// Two heads hang in one run, and one fails beside them.
#[test]
fn each_head_that_hangs_is_reported() {
    let folder = Folder::new();
    folder.encoder("encoder", &faulty_encoder()).head("a", &hanging_head()).head("b", &shaky_head());
    folder.head("c", &hanging_head()).head("d", &head());
    let (timeout, pause) = (Duration::from_secs(4), Duration::from_secs(600));
    let panel = Panel::open(PanelConfig { timeout, pause, ..config(&folder) }).unwrap();
    let found = outcomes(&panel, &["bad"]).remove(0);
    assert_eq!((found[0], found[2], found[3]), (HUNG, HUNG, Ok(0.75)));
    assert!((found[1].unwrap() - 0.25).abs() < 1e-6);
    let down = Some(Abstention::TimedOut);
    assert_eq!(panel.down(), [down, None, down, None]);
}

/// The votes of the heads before it count, and its worker is replaced.
#[test]
fn a_head_that_does_not_stop_costs_what_comes_after_it_once() {
    let folder = Folder::new();
    folder.encoder("encoder", &faulty_encoder()).head("a", &head()).head("b", &stuck_head());
    folder.head("c", &head());
    let (timeout, pause) = (Duration::from_secs(4), Duration::from_secs(600));
    let panel = Panel::open(PanelConfig { timeout, pause, sessions: Some(1), ..config(&folder) }).unwrap();
    let answers = panel.ask(&["bad"]);
    assert_eq!(answers[0].votes.iter().map(outcome).collect::<Vec<_>>(), [Ok(0.75), HUNG, HUNG]);
    assert!(answers[0].reading.is_some());
    assert_eq!(panel.down(), [None, Some(Abstention::TimedOut), None]);
    assert_eq!(outcomes(&panel, &["fine"]), [[Ok(0.25), HUNG, Ok(0.25)]]);
}

/// Dropping a panel does not wait for it either.
#[test]
fn a_panel_ends_in_the_middle_of_a_head_that_hangs() {
    let folder = Folder::new();
    folder.encoder("encoder", &faulty_encoder()).head("hangs", &hanging_head()).head("plain", &head());
    let mut config = PanelConfig { timeout: Duration::from_secs(600), ..config(&folder) };
    // With one row per batch, the text that hangs affects no other text.
    config.batch.rows = 1;
    let panel = std::sync::Arc::new(Panel::open(config).unwrap());
    let mut stream = panel.stream(4, Duration::ZERO).unwrap();
    stream.submit(0, "bad").unwrap();
    stream.submit(1, "fine").unwrap();
    // One worker has answered, so the other one is in the run that hangs.
    assert!(stream.next(Duration::from_secs(60)).is_some());
    let (dropped, is_dropped) = mpsc::channel();
    let end = std::thread::spawn(move || {
        drop((stream, panel));
        dropped.send(()).unwrap();
    });
    is_dropped.recv_timeout(Duration::from_secs(60)).expect("it ends before the run's timeout");
    end.join().unwrap();
}

/// A model that was exchanged meanwhile does not vote under the hash of the previous one. Without a worker that has the
/// previous model, the panel is dead and reports it at once. When the folder is restored, the panel continues.
#[test]
fn a_worker_is_not_replaced_by_one_with_other_models() {
    let folder = Folder::new();
    folder.classifier("stuck", &stuck_classifier()).classifier("well", &plain_classifier());
    let (timeout, pause) = (Duration::from_secs(1), Duration::from_millis(10));
    let panel = Panel::open(PanelConfig { timeout, pause, sessions: Some(1), ..config(&folder) }).unwrap();
    assert_eq!(outcomes(&panel, &["fine"]), [[Ok(0.25), Ok(0.25)]]);
    let other = Graph::default()
        .input("ids", INT64, &[-1, 1])
        .floats("p", &[9], &[0.875; 9])
        .node("Gather", &["p", "ids"], "scores")
        .output("scores", FLOAT, &[-1, 1]);
    folder.classifier("well", &other.model());
    assert_eq!(outcomes(&panel, &["hang"])[0][0], HUNG);
    wait_until("the panel is dead", || panel.is_dead());
    assert_eq!(panel.disabled(), [false; 2], "without a worker no expert is to blame");
    assert_eq!(panel.down(), [Some(Abstention::TimedOut); 2]);
    let answer = &panel.ask(&["bad"])[0];
    assert_eq!(answer.votes.iter().map(outcome).collect::<Vec<_>>(), [HUNG; 2]);
    assert_eq!(answer.ran, [None; 2], "nothing runs");
    folder.classifier("well", &plain_classifier());
    wait_until("the panel goes on", || !panel.is_dead());
    assert_eq!(outcomes(&panel, &["bad"])[0][1], Ok(0.75));
}
