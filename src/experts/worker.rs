//! Worker threads: each owns its stations and answers over channels, so that one that hangs holds up
//! nobody who asks.

use std::sync::Arc;
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::error::PanelError;
use super::onnx::guarded;
use super::rules::Rules;
use super::station::{Call, RowResult, Spent, Station};
use super::tokenize::Tokens;
use crate::core::vote::Abstention;

/// What a worker is to do.
pub(super) enum Work {
    /// A batch of texts for the station of that number.
    Batch {
        station: usize,
        /// Each with its place in the window.
        rows: Vec<(usize, Arc<Tokens>)>,
        /// Whether an encoder's heads are asked as well.
        heads: bool,
    },
    /// Texts for a rules expert.
    Rules { slot: usize, rules: Arc<Rules>, texts: Vec<(usize, Arc<str>)> },
}

/// Work with whom to answer.
pub(super) struct Job {
    pub(super) work: Work,
    pub(super) call: Arc<Call>,
    pub(super) reply: Sender<Reply>,
}

/// What came of a job.
pub(super) struct Reply {
    /// Each with its place in the window.
    pub(super) rows: Vec<(usize, RowResult)>,
    /// Places of texts of which a rules expert read only the beginning.
    pub(super) truncated: Vec<usize>,
    pub(super) spent: Spent,
}

/// Jobs that may wait; who asks waits beyond that.
const WAITING: usize = 1_024;

/// The threads.
pub(super) struct Workers {
    jobs: Option<Sender<Job>>,
    /// Disconnected when the last worker has ended.
    ended: Receiver<()>,
}

impl Workers {
    /// Starts one thread for each set of stations.
    pub(super) fn start(stations: Vec<Vec<Option<Station>>>) -> Result<Self, PanelError> {
        let (jobs, waiting) = bounded::<Job>(WAITING);
        let (alive, ended) = bounded::<()>(0);
        for (number, mut stations) in stations.into_iter().enumerate() {
            let (waiting, alive) = (waiting.clone(), alive.clone());
            let run = move || {
                let _alive = alive;
                for job in &waiting {
                    serve(&mut stations, job);
                }
            };
            thread::Builder::new()
                .name(format!("expert-{number}"))
                .spawn(run)
                .map_err(|error| PanelError::Threads { reason: error.to_string() })?;
        }
        Ok(Self { jobs: Some(jobs), ended })
    }

    /// Hands a job over; false where no worker took it before the call's deadline.
    pub(super) fn send(&self, job: Job) -> bool {
        let deadline = job.call.deadline;
        self.jobs.as_ref().is_some_and(|jobs| jobs.send_deadline(job, deadline).is_ok())
    }
}

impl Drop for Workers {
    /// Ends the threads. One that hangs in a run is left behind after two seconds.
    fn drop(&mut self) {
        self.jobs = None;
        let _ = self.ended.recv_timeout(std::time::Duration::from_secs(2));
    }
}

fn serve(stations: &mut [Option<Station>], job: Job) {
    let Job { work, call, reply } = job;
    if call.over() {
        return;
    }
    let mut spent = Spent::default();
    let mut truncated = Vec::new();
    let rows = match work {
        Work::Batch { station, rows, heads } => {
            let Some(Some(station)) = stations.get_mut(station) else {
                return;
            };
            let tokens: Vec<&Tokens> = rows.iter().map(|(_, tokens)| tokens.as_ref()).collect();
            let results = station.run(&tokens, heads, &call, &mut spent);
            rows.iter().map(|&(place, _)| place).zip(results).collect()
        }
        Work::Rules { slot, rules, texts } => {
            let started = std::time::Instant::now();
            let mut judged = Vec::with_capacity(texts.len());
            for (place, text) in texts {
                let outcome = match guarded(|| Ok(rules.judge(&text))) {
                    _ if call.over() => Err(Abstention::TimedOut),
                    Ok(found) => {
                        if found.truncated {
                            truncated.push(place);
                        }
                        Ok((found.score, found.categories))
                    }
                    Err(fault) => Err(fault.reason),
                };
                judged.push((place, RowResult { outcomes: vec![(slot, outcome)], features: None }));
            }
            spent.experts.push((slot, started.elapsed()));
            judged
        }
    };
    // Whoever asked may have given up.
    let _ = reply.send(Reply { rows, truncated, spent });
}
