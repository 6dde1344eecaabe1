//! A run that is in flight: its deadline, its progress, and the means to cancel it. The worker that runs it reports
//! progress; the watchdog looks at it from another thread.
//!
//! Heads are graphs of their own that run one after the other on the output of their encoder. Therefore the head that
//! hangs is known: it alone is cancelled, and the run goes on with the others.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::result::TextResult;
use crate::core::vote::Abstention;
use crate::experts::scores::ExpertScore;

/// The time that a cancelled run has to return. After it the run's worker is lost.
pub(crate) const CANCEL_TIMEOUT: Duration = Duration::from_secs(1);

/// Stops the step of a run that is being executed, from another thread.
pub(crate) trait Cancel: Send + Sync {
    /// Makes the step return early. Later steps return at once, until [`Cancel::reset`].
    fn cancel(&self);
    /// Lets the next step run after one was cancelled.
    fn reset(&self);
}

/// A head that is running.
struct CurrentHead {
    expert_index: usize,
    since: Instant,
}

/// The progress of a run.
struct Progress {
    deadline: Instant,
    /// The whole run was cancelled.
    cancelled: bool,
    cancel: Option<Arc<dyn Cancel>>,
    head: Option<CurrentHead>,
    /// The heads that were cancelled, by expert. The last of them may still be running.
    hung: Vec<usize>,
    /// The graph that runs was cancelled, and not the whole run.
    interrupted: bool,
    /// The results so far, once an encoder has run.
    results: Vec<TextResult>,
    /// All results are complete and on their way to the scheduler.
    done: bool,
}

/// The measure to take for a run whose deadline has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overrun {
    /// Wait: the deadline was extended.
    Wait,
    /// The head of this expert hangs and was cancelled.
    Head(usize),
    /// Cancel the run.
    Run,
    /// A cancelled head does not return: cancel the run. Its worker is lost.
    Stuck,
    /// The cancelled run does not return: its worker is lost.
    Lost,
}

/// A run in flight.
pub(crate) struct InFlightRun {
    /// The time that a head may take after the run's deadline, and the time that it has to stop.
    head_timeout: Duration,
    trial: bool,
    progress: Mutex<Progress>,
}

impl InFlightRun {
    /// `trial`: the model is down, and this run tries it again.
    pub(crate) fn new(deadline: Instant, trial: bool) -> Self {
        // The caller waits for twice the run's time.
        let left = deadline.saturating_duration_since(Instant::now());
        let progress = Progress {
            deadline,
            cancelled: false,
            cancel: None,
            head: None,
            hung: Vec::new(),
            interrupted: false,
            results: Vec::new(),
            done: false,
        };
        Self { head_timeout: CANCEL_TIMEOUT.min(left / 2), trial, progress: Mutex::new(progress) }
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns `true` if the model is down and this run tries it again.
    pub(crate) fn is_trial(&self) -> bool {
        self.trial
    }

    /// Registers the means to cancel the run. A run that is cancelled already is cancelled again by it.
    pub(crate) fn on_cancel(&self, cancel: Arc<dyn Cancel>) {
        let mut progress = self.progress();
        if progress.cancelled {
            cancel.cancel();
        }
        progress.cancel = Some(cancel);
    }

    /// Cancels the whole run.
    pub(crate) fn cancel(&self) {
        let mut progress = self.progress();
        progress.cancelled = true;
        progress.cancel_step();
    }

    /// Returns `true` if the run was cancelled or its deadline has passed. A failure after that is not the expert's.
    pub(crate) fn is_over(&self) -> bool {
        let progress = self.progress();
        progress.cancelled || progress.interrupted || Instant::now() >= progress.deadline
    }

    /// The expert of the head that is running, if one is.
    pub(crate) fn current_head(&self) -> Option<usize> {
        self.progress().head.as_ref().map(|head| head.expert_index)
    }

    /// The time at which the watchdog must look at the run.
    pub(crate) fn deadline(&self) -> Instant {
        self.progress().deadline
    }

    /// Decides what happens to a run whose deadline has passed. A head that hangs is cancelled here.
    pub(crate) fn on_deadline(&self, now: Instant) -> Overrun {
        let mut progress = self.progress();
        if progress.done {
            progress.deadline = now + self.head_timeout;
            return Overrun::Wait;
        }
        let Some(CurrentHead { expert_index, since }) = progress.head else {
            return Overrun::Run;
        };
        if progress.interrupted {
            return Overrun::Stuck;
        }
        let head_deadline = since + self.head_timeout;
        if now < head_deadline {
            // The encoder took the run's time.
            progress.deadline = head_deadline;
            return Overrun::Wait;
        }
        progress.hung.push(expert_index);
        progress.interrupted = true;
        progress.deadline = now + self.head_timeout;
        progress.cancel_step();
        Overrun::Head(expert_index)
    }

    /// Takes the results so far. Results that come later are dropped.
    pub(crate) fn take_results(&self) -> Vec<TextResult> {
        std::mem::take(&mut self.progress().results)
    }

    /// The encoder begins, with the whole batch or with one of its texts.
    pub(crate) fn on_encoder_start(&self) {
        let mut progress = self.progress();
        progress.next_step();
        progress.results.clear();
        progress.done = false;
    }

    /// The encoder is done. `results` is what is known before its heads run.
    pub(crate) fn on_encoder_done(&self, results: Vec<TextResult>) {
        self.progress().results = results;
    }

    /// A head begins. Returns `false` if it hung before and must not run again.
    pub(crate) fn on_head_start(&self, expert_index: usize) -> bool {
        let mut progress = self.progress();
        progress.next_step();
        let runs = !progress.hung.contains(&expert_index);
        progress.head = runs.then(|| CurrentHead { expert_index, since: Instant::now() });
        runs
    }

    /// A head is done, with one outcome for each text.
    pub(crate) fn on_head_done(&self, expert_index: usize, outcomes: Vec<Result<ExpertScore, Abstention>>) {
        for (result, outcome) in self.progress().results.iter_mut().zip(outcomes) {
            result.outcomes.push((expert_index, outcome));
        }
    }

    /// All heads are done. Returns the results.
    pub(crate) fn finish(&self) -> Vec<TextResult> {
        let mut progress = self.progress();
        progress.next_step();
        progress.done = true;
        std::mem::take(&mut progress.results)
    }
}

impl Progress {
    fn cancel_step(&self) {
        if let Some(cancel) = &self.cancel {
            cancel.cancel();
        }
    }

    /// Lets the next graph run if only the last one was cancelled.
    fn next_step(&mut self) {
        self.head = None;
        if std::mem::take(&mut self.interrupted)
            && !self.cancelled
            && let Some(cancel) = &self.cancel
        {
            cancel.reset();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Is `true` while steps return early.
    #[derive(Default)]
    struct Flag(AtomicBool);

    impl Cancel for Flag {
        fn cancel(&self) {
            self.0.store(true, Ordering::Relaxed);
        }

        fn reset(&self) {
            self.0.store(false, Ordering::Relaxed);
        }
    }

    fn run(start: Instant) -> (InFlightRun, Arc<Flag>) {
        let (run, flag) = (InFlightRun::new(start + 60 * SECOND, false), Arc::new(Flag::default()));
        run.on_cancel(Arc::clone(&flag) as Arc<dyn Cancel>);
        (run, flag)
    }

    fn is_cancelled(flag: &Flag) -> bool {
        flag.0.load(Ordering::Relaxed)
    }

    #[test]
    fn a_run_without_heads_is_cancelled_as_a_whole() {
        let start = Instant::now();
        let (run, flag) = run(start);
        run.on_encoder_start();
        assert!(!run.is_over());
        assert_eq!((run.on_deadline(start + 60 * SECOND), run.take_results().len()), (Overrun::Run, 0));
        run.cancel();
        assert!(run.is_over() && is_cancelled(&flag));
    }

    #[test]
    fn a_run_that_is_cancelled_before_it_begins_does_not_run() {
        let run = InFlightRun::new(Instant::now() + 60 * SECOND, false);
        run.cancel();
        let flag = Arc::new(Flag::default());
        run.on_cancel(Arc::clone(&flag) as Arc<dyn Cancel>);
        assert!(is_cancelled(&flag));
    }

    #[test]
    fn a_head_that_hangs_is_cancelled_alone() {
        let start = Instant::now();
        let ((run, flag), end) = (run(start), start + 60 * SECOND);
        run.on_encoder_start();
        run.on_encoder_done(vec![TextResult::default(); 2]);
        assert!(run.on_head_start(3));
        assert_eq!(run.on_deadline(end), Overrun::Head(3));
        assert!(run.is_over() && is_cancelled(&flag) && run.deadline() == end + SECOND);
        run.on_head_done(3, vec![Err(Abstention::TimedOut); 2]);
        // The next head is not blamed for it, and has time of its own.
        assert!(run.on_head_start(4) && !run.is_over() && !is_cancelled(&flag));
        assert_eq!((run.on_deadline(Instant::now()), run.deadline() > Instant::now()), (Overrun::Wait, true));
        run.on_head_done(4, vec![Err(Abstention::Failed); 2]);
        assert!(!run.on_head_start(3), "it does not run again");
        let experts: Vec<usize> = run.finish()[1].outcomes.iter().map(|(expert, _)| *expert).collect();
        assert_eq!(experts, [3, 4]);
        assert_eq!(run.on_deadline(end + 9 * SECOND), Overrun::Wait, "the results are on their way");
    }

    #[test]
    fn a_head_that_does_not_stop_costs_the_heads_after_it() {
        let start = Instant::now();
        let ((run, _), end) = (run(start), start + 60 * SECOND);
        run.on_encoder_start();
        run.on_encoder_done(vec![TextResult::default()]);
        assert!(run.on_head_start(1));
        run.on_head_done(1, vec![Err(Abstention::NotFinite)]);
        assert!(run.on_head_start(2));
        assert_eq!((run.on_deadline(end), run.on_deadline(end + SECOND)), (Overrun::Head(2), Overrun::Stuck));
        assert_eq!(run.take_results()[0].outcomes, [(1, Err(Abstention::NotFinite))]);
        assert!(run.finish().is_empty());
    }

    #[test]
    fn a_cancelled_run_does_not_go_on() {
        let start = Instant::now();
        let (run, flag) = run(start);
        run.on_encoder_start();
        run.on_encoder_done(vec![TextResult::default()]);
        assert!(run.on_head_start(1));
        assert_eq!(run.on_deadline(start + 60 * SECOND), Overrun::Head(1));
        run.cancel();
        assert!(run.on_head_start(2) && run.is_over() && is_cancelled(&flag));
    }
}
