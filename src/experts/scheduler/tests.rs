use super::*;
use crate::core::vote::Abstention;
use crate::experts::backend::run::CANCEL_TIMEOUT;
use crate::experts::backend::{Form, Profile};
use crate::experts::batcher::Limits;
use crate::experts::loader::MissingParts;
use crate::experts::pending::{AnswerSink, PartialAnswer};

/// A worker that was added while the model was loaded would lack it forever.
#[test]
fn a_model_is_not_installed_in_fewer_workers_than_there_are() {
    let missing = MissingParts { experts: vec![0], whole_model: true };
    let spec = ModelSpec {
        limits: Limits { tokens: 256, rows: 32, overhead: 8 },
        profile: Profile { reads: Form::TokenIds, padded_to: None, prefix: 0, max_in_flight: None },
        experts: vec![(0, "late".to_owned())],
        pause: Duration::from_secs(1),
        missing: missing.clone(),
    };
    let scheduler = Scheduler::new([spec], false, ResultCache::new(0), None);
    assert!(scheduler.install(0, Vec::new(), missing.clone()), "no worker is left out");
    scheduler.add_worker(false);
    assert!(!scheduler.install(0, Vec::new(), MissingParts::default()));
    assert_eq!(scheduler.missing(), [missing]);
}

/// The model has one run at a time, and a head hangs in it. Its worker is lost, and another one may run the text that
/// waits.
#[test]
fn a_free_worker_takes_the_place_of_a_lost_one() {
    let limits = Limits { tokens: 256, rows: 32, overhead: 8 };
    let spec = ModelSpec {
        limits,
        profile: Profile { reads: Form::TokenIds, padded_to: None, prefix: 0, max_in_flight: Some(1) },
        experts: vec![(0, "stuck".to_owned()), (1, "well".to_owned())],
        pause: Duration::from_secs(1),
        missing: MissingParts::default(),
    };
    let scheduler = Arc::new(Scheduler::new([spec], false, ResultCache::new(0), None));
    let (lost, free) = (scheduler.add_worker(false), scheduler.add_worker(false));
    let (sink, _answers) = AnswerSink::new();
    let submit = |id: u32| {
        let answer = PartialAnswer::new(2, Abstention::TimedOut);
        let answer = Arc::new(PendingAnswer::new(&sink, 0, Duration::from_secs(60), answer, 1));
        let key = RequestKey { model: 0, ids: [id].into(), votes: true };
        let requests = vec![Request { key, cost: 1, span: Span::Turn, gives_features: true, remote: None }];
        let submission = Submission { answer, requests, rules_text: None };
        scheduler.submit(vec![submission], Instant::now());
    };
    submit(1);
    let hangs = scheduler.next_job(lost).unwrap();
    hangs.run.on_encoder_done(vec![TextResult::default()]);
    assert!(hangs.run.on_head_start(0));
    submit(2);
    std::thread::scope(|scope| {
        let (sender, receiver) = std::sync::mpsc::channel();
        let scheduler = &scheduler;
        scope.spawn(move || sender.send(scheduler.next_job(free).is_some()));
        // The worker waits: no other run may begin.
        assert!(receiver.recv_timeout(Duration::from_millis(100)).is_err());
        scheduler.state().running[lost].as_mut().unwrap().cancelled =
            Instant::now().checked_sub(CANCEL_TIMEOUT);
        assert_eq!(scheduler.watch(), Some(1));
        let taken = receiver.recv_timeout(Duration::from_secs(10));
        scheduler.close();
        assert_eq!(taken, Ok(true), "the waiting text runs");
    });
}
