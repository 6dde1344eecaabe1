//! What goes with a run: until when it may take, how far it is, and what stops it. The watch looks at it from another
//! thread.
//!
//! Heads are graphs of their own that run one after the other on what their encoder gave. So it is known which of
//! them hangs: it alone is stopped, and the run goes on with the others.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ort::session::RunOptions;

use crate::core::vote::Abstention;
use crate::experts::backend::onnx::RowResult;
use crate::experts::backend::onnx::session::Fault;
use crate::experts::scores::Judgement;

/// How long a run that was told to stop may take to come back. Then its worker is lost.
pub(crate) const GRACE: Duration = Duration::from_secs(1);

/// A head that is being asked.
struct Asked {
    slot: usize,
    since: Instant,
}

/// How far a run is.
struct Progress {
    /// It is stopped then.
    deadline: Instant,
    stopped: bool,
    head: Option<Asked>,
    /// Heads that were told to stop, by slot; the last of them may be at it still.
    hung: Vec<usize>,
    /// Whether the graph that runs was told to stop, and no more than it.
    interrupted: bool,
    /// What is known of the texts, once an encoder has run.
    rows: Vec<RowResult>,
    /// All is known, and on its way to the desk.
    done: bool,
}

/// What is to be done about a run that has had its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Late {
    /// Wait: it has been given more.
    Wait,
    /// The head of that slot hangs, and has been told to stop.
    Head(usize),
    /// Stop it.
    Run,
    /// A head was told to stop and does not: stop the run, and its worker is lost.
    Stuck,
    /// It was stopped and does not come back: its worker is lost.
    Lost,
}

/// What goes with a run.
pub(crate) struct Call {
    /// Lets the watch stop it; none where no graph is asked.
    options: Option<RunOptions>,
    /// What a head may take past the run's time, and what it may take to stop.
    patience: Duration,
    progress: Mutex<Progress>,
}

impl Call {
    pub(crate) fn new(deadline: Instant, options: Option<RunOptions>) -> Self {
        // Whoever asks waits for twice the run's time.
        let patience = GRACE.min(deadline.saturating_duration_since(Instant::now()) / 2);
        let progress = Progress {
            deadline,
            stopped: false,
            head: None,
            hung: Vec::new(),
            interrupted: false,
            rows: Vec::new(),
            done: false,
        };
        Self { options, patience, progress: Mutex::new(progress) }
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn options(&self) -> Result<&RunOptions, Fault> {
        self.options.as_ref().ok_or_else(|| Fault::failed("no run options"))
    }

    fn terminate(&self) {
        if let Some(options) = &self.options {
            let _ = options.terminate();
        }
    }

    /// Stops the run at its graph's next node.
    pub(crate) fn stop(&self) {
        let mut progress = self.progress();
        progress.stopped = true;
        self.terminate();
    }

    /// Whether it has had its time, or was stopped: what fails then is no fault of the expert's.
    pub(crate) fn over(&self) -> bool {
        let progress = self.progress();
        progress.stopped || progress.interrupted || Instant::now() >= progress.deadline
    }

    /// The slot of the head that is being asked, if one is.
    pub(crate) fn head(&self) -> Option<usize> {
        self.progress().head.as_ref().map(|asked| asked.slot)
    }

    /// When the watch is to look at it.
    pub(crate) fn deadline(&self) -> Instant {
        self.progress().deadline
    }

    /// The deadline has passed.
    pub(crate) fn late(&self, now: Instant) -> Late {
        let mut progress = self.progress();
        if progress.done {
            progress.deadline = now + self.patience;
            return Late::Wait;
        }
        let Some(Asked { slot, since }) = progress.head else {
            return Late::Run;
        };
        if progress.interrupted {
            return Late::Stuck;
        }
        let patient = since + self.patience;
        if now < patient {
            // Its encoder took the time.
            progress.deadline = patient;
            return Late::Wait;
        }
        progress.hung.push(slot);
        progress.interrupted = true;
        progress.deadline = now + self.patience;
        self.terminate();
        Late::Head(slot)
    }

    /// What is known of the texts, for good: nothing that comes later counts.
    pub(crate) fn known(&self) -> Vec<RowResult> {
        std::mem::take(&mut self.progress().rows)
    }

    /// The next graph may run where only the last one was told to stop.
    fn go_on(&self, progress: &mut Progress) {
        progress.head = None;
        if std::mem::take(&mut progress.interrupted)
            && !progress.stopped
            && let Some(options) = &self.options
        {
            let _ = options.unterminate();
        }
    }

    /// An encoder runs, for the first time or for one of its texts.
    pub(crate) fn encode(&self) {
        let mut progress = self.progress();
        self.go_on(&mut progress);
        progress.rows.clear();
        progress.done = false;
    }

    /// It has run: what is known before its heads are asked.
    pub(crate) fn encoded(&self, rows: Vec<RowResult>) {
        self.progress().rows = rows;
    }

    /// A head is to run; false where it hung before.
    pub(crate) fn ask(&self, slot: usize) -> bool {
        let mut progress = self.progress();
        self.go_on(&mut progress);
        let asked = !progress.hung.contains(&slot);
        progress.head = asked.then(|| Asked { slot, since: Instant::now() });
        asked
    }

    /// What a head says of each text.
    pub(crate) fn hear(&self, slot: usize, outcomes: Vec<Result<Judgement, Abstention>>) {
        for (row, outcome) in self.progress().rows.iter_mut().zip(outcomes) {
            row.outcomes.push((slot, outcome));
        }
    }

    /// All heads have been asked: what they say of the texts.
    pub(crate) fn end(&self) -> Vec<RowResult> {
        let mut progress = self.progress();
        self.go_on(&mut progress);
        progress.done = true;
        std::mem::take(&mut progress.rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn call(start: Instant) -> Call {
        Call::new(start + 60 * SECOND, None)
    }

    #[test]
    fn a_run_without_heads_is_stopped_as_a_whole() {
        let start = Instant::now();
        let call = call(start);
        call.encode();
        assert!(!call.over());
        assert_eq!((call.late(start + 60 * SECOND), call.known().len()), (Late::Run, 0));
        call.stop();
        assert!(call.over());
    }

    #[test]
    fn a_head_that_hangs_is_stopped_alone() {
        let start = Instant::now();
        let (call, end) = (call(start), start + 60 * SECOND);
        call.encode();
        call.encoded(vec![RowResult::default(); 2]);
        assert!(call.ask(3));
        assert_eq!(call.late(end), Late::Head(3));
        assert!(call.over() && call.deadline() == end + SECOND);
        call.hear(3, vec![Err(Abstention::TimedOut); 2]);
        // The next one is not blamed for it, and has its own time.
        assert!(call.ask(4) && !call.over());
        assert_eq!((call.late(Instant::now()), call.deadline() > Instant::now()), (Late::Wait, true));
        call.hear(4, vec![Err(Abstention::Failed); 2]);
        assert!(!call.ask(3), "it is not asked again");
        let slots: Vec<usize> = call.end()[1].outcomes.iter().map(|(slot, _)| *slot).collect();
        assert_eq!(slots, [3, 4]);
        assert_eq!(call.late(end + 9 * SECOND), Late::Wait, "it is on its way");
    }

    #[test]
    fn one_that_does_not_stop_costs_what_comes_after_it() {
        let start = Instant::now();
        let (call, end) = (call(start), start + 60 * SECOND);
        call.encode();
        call.encoded(vec![RowResult::default()]);
        assert!(call.ask(1));
        call.hear(1, vec![Err(Abstention::NotFinite)]);
        assert!(call.ask(2));
        assert_eq!((call.late(end), call.late(end + SECOND)), (Late::Head(2), Late::Stuck));
        assert_eq!(call.known()[0].outcomes, [(1, Err(Abstention::NotFinite))]);
        assert!(call.end().is_empty());
    }

    #[test]
    fn what_is_stopped_does_not_go_on() {
        let start = Instant::now();
        let call = call(start);
        call.encode();
        call.encoded(vec![RowResult::default()]);
        assert!(call.ask(1));
        assert_eq!(call.late(start + 60 * SECOND), Late::Head(1));
        call.stop();
        assert!(call.ask(2) && call.over());
    }
}
