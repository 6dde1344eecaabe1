//! Runs guards: causal language models whose next token after a prompt is the verdict.
//!
//! A request is the number of a prefix and of the judged role, followed by the token ids behind that prefix. The prefix holds the policy, and is
//! the same for all prompts of a spec in which the same role is judged. Its keys and values are computed once when the
//! model is loaded, and are the past of every row.
//!
//! Several guards may share a [`CausalModel`]: each has its own prompts or its own adapter, and a run has the adapter of
//! one guard. Experts whose prompts and adapters are equal share the run as well.
//!
//! | file | content |
//! |---|---|
//! | `layout` | inputs and outputs of a graph, by their names |
//! | `causal` | rows in, logits out |
//! | `probe` | the way in which a graph can run |
//! | `prefix` | prefixes with their keys and values |
//! | `verdict` | P(unsafe) from logits |
//! | `decode` | the text of an answer, for its categories |

mod causal;
mod decode;
mod layout;
mod prefix;
mod probe;
mod verdict;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

pub(crate) use causal::{CausalModel, GuardOptions};
use causal::{Rows, StepOptions};
pub(crate) use decode::AnswerReader;
use decode::mark_undecoded;
pub(crate) use prefix::{PrefixIds, Prefixes};
use probe::HALF_TOLERANCE;
use verdict::Verdict;
pub(crate) use verdict::VerdictIds;

use crate::core::vote::Abstention;
use crate::experts::backend::result::{ErrorLog, RunError, RunTimes, TextResult};
use crate::experts::backend::run::{Cancel, InFlightRun};
use crate::experts::backend::{Backend, Profile, TOLERANCE, Wanted};
use crate::experts::scores::ExpertScore;

/// The bits of a request's first number that hold the prefix. Those above hold the role.
const PREFIX_BITS: u32 = 8;

/// The first number of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PromptHead {
    /// The number of the prefix.
    pub(crate) prefix: usize,
    /// The number of the judged role, which only the reader of answers needs.
    pub(crate) role: usize,
}

impl PromptHead {
    /// The number of a request.
    ///
    /// # Panics
    /// Panics if the prefix has a number of more than [`PREFIX_BITS`]. There are no more prefixes than roles.
    pub(crate) fn id(self) -> u32 {
        assert!(self.prefix < 1 << PREFIX_BITS && self.role < 1 << PREFIX_BITS, "there are few roles");
        u32::try_from(self.role << PREFIX_BITS | self.prefix).expect("both are small")
    }

    /// Splits a request.
    fn split(request: &[u32]) -> Option<(Self, &[u32])> {
        let (&id, row) = request.split_first()?;
        let part = |bits: u32| usize::try_from(bits).ok();
        let head = Self { prefix: part(id & ((1 << PREFIX_BITS) - 1))?, role: part(id >> PREFIX_BITS)? };
        Some((head, row))
    }
}

/// An expert of a guard.
#[derive(Clone)]
pub(crate) struct GuardExpert {
    pub(crate) expert_index: usize,
    pub(crate) verdict: VerdictIds,
    /// The greatest probability of other words than the verdict's. Above it the expert abstains.
    pub(crate) outside_limit: f64,
    /// Reads the categories of flagged texts; `None` if they are not wanted.
    pub(crate) answer: Option<Arc<dyn AnswerReader>>,
}

/// A session of a guard. Its clones for other workers differ in the model's session.
pub(crate) struct Guard {
    pub(crate) id: String,
    pub(crate) profile: Profile,
    /// The session, which the guards of one base share. Only one worker uses it.
    pub(crate) model: Arc<Mutex<CausalModel>>,
    pub(crate) options: GuardOptions,
    pub(crate) prefixes: Arc<Prefixes>,
    pub(crate) experts: Vec<GuardExpert>,
    pub(crate) errors: ErrorLog,
}

/// The logits of a text's next token.
type Logits = Result<Vec<f32>, Abstention>;

/// A run of a batch, with what its steps need.
struct GuardRun<'a> {
    model: MutexGuard<'a, CausalModel>,
    prefixes: &'a Prefixes,
    options: StepOptions<'a>,
    run: &'a InFlightRun,
    id: &'a str,
    errors: &'a mut ErrorLog,
}

impl Backend for Guard {
    type Text = [u32];

    fn profile(&self) -> Profile {
        self.profile
    }

    /// The probe accepts the batches of a graph of 16 bits within this difference.
    fn tolerance(&self) -> f64 {
        let model = self.model.lock().unwrap_or_else(PoisonError::into_inner);
        if model.layout.half { HALF_TOLERANCE } else { TOLERANCE }
    }

    fn run(
        &mut self,
        texts: &[&[u32]],
        wanted: Wanted<'_>,
        run: &InFlightRun,
        times: &mut RunTimes,
    ) -> Vec<TextResult> {
        let Wanted::Votes { except } = wanted else {
            return vec![TextResult::default(); texts.len()];
        };
        let started = Instant::now();
        // A run that panicked left nothing in the model that the next one could read.
        let model = self.model.lock().unwrap_or_else(PoisonError::into_inner);
        let longest = self.profile.cost(texts.iter().map(|text| text.len()).max().unwrap_or(0));
        let options = match self.options.of_run(&model, longest, run.is_trial()) {
            Ok(options) => options,
            Err(error) => {
                self.errors.note(&self.id, &error);
                let experts = self.experts.iter().map(|expert| expert.expert_index);
                return vec![TextResult::abstained(experts, error.reason); texts.len()];
            }
        };
        run.on_cancel(Arc::clone(&options) as Arc<dyn Cancel>);
        let mut steps = GuardRun {
            model,
            prefixes: &self.prefixes,
            options: StepOptions { run: &options, has_adapter: self.options.has_adapter() },
            run,
            id: &self.id,
            errors: &mut self.errors,
        };
        run.on_encoder_start();
        let logits = steps.read(texts);
        let mut results: Vec<TextResult> =
            logits.iter().map(|logits| self.experts.judge(logits, except)).collect();
        // If a decoding does not end in time, the votes stand without categories, and are marked.
        mark_undecoded(&self.experts, &mut results);
        run.on_encoder_done(results.clone());
        steps.add_categories(texts, &logits, &self.experts, &mut results);
        let share = started.elapsed() / u32::try_from(self.experts.len().max(1)).unwrap_or(1);
        times.experts.extend(self.experts.iter().map(|expert| (expert.expert_index, share)));
        results
    }
}

/// Votes on logits.
trait Judge {
    fn judge(&self, logits: &Logits, except: &[(usize, Abstention)]) -> TextResult;
}

impl Judge for Vec<GuardExpert> {
    fn judge(&self, logits: &Logits, except: &[(usize, Abstention)]) -> TextResult {
        let outcome = |expert: &GuardExpert| {
            let refused = except.iter().find(|(index, _)| *index == expert.expert_index);
            let outcome = match (refused, logits) {
                (Some((_, reason)), _) | (None, Err(reason)) => Err(*reason),
                (None, Ok(logits)) => expert.judge(logits),
            };
            (expert.expert_index, outcome)
        };
        TextResult { outcomes: self.iter().map(outcome).collect(), ..TextResult::default() }
    }
}

impl GuardExpert {
    fn judge(&self, logits: &[f32]) -> Result<ExpertScore, Abstention> {
        let Verdict { p, outside } = Verdict::of(logits, &self.verdict)?;
        if outside > self.outside_limit {
            return Err(Abstention::OffTemplate);
        }
        Ok((p, Vec::new()))
    }
}

impl GuardRun<'_> {
    /// Reads texts behind their prefixes. Rows of different prefixes run one after the other.
    fn read(&mut self, texts: &[&[u32]]) -> Vec<Logits> {
        let mut logits: Vec<Logits> = vec![Err(Abstention::Failed); texts.len()];
        for number in 0..self.prefixes.count() {
            let split = texts.iter().enumerate().filter_map(|(place, text)| {
                let (head, row) = PromptHead::split(text)?;
                (head.prefix == number).then_some((place, row))
            });
            let (places, rows): (Vec<usize>, Vec<&[u32]>) = split.unzip();
            let read = if rows.is_empty() { Vec::new() } else { self.read_rows(number, &rows) };
            for (place, row) in places.into_iter().zip(read) {
                logits[place] = row;
            }
        }
        logits
    }

    /// Reads rows behind one prefix. If that fails, each row runs alone.
    fn read_rows(&mut self, prefix: usize, rows: &[&[u32]]) -> Vec<Logits> {
        if rows.len() > 1 && self.prefixes.mode().batch.is_none() {
            return rows.iter().flat_map(|row| self.read_rows(prefix, &[row])).collect();
        }
        match self.step(prefix, rows) {
            Ok(logits) => logits.into_iter().map(Ok).collect(),
            Err(_) if self.run.is_over() => vec![Err(Abstention::TimedOut); rows.len()],
            Err(error) if rows.len() > 1 && error.reason == Abstention::Failed => {
                rows.iter().flat_map(|row| self.read_rows(prefix, &[row])).collect()
            }
            Err(error) => {
                self.errors.note(self.id, &error);
                vec![Err(error.reason); rows.len()]
            }
        }
    }

    fn step(&mut self, prefix: usize, rows: &[&[u32]]) -> Result<Vec<Vec<f32>>, RunError> {
        let mode = self.prefixes.mode();
        let side = mode.batch.unwrap_or_default();
        let whole: Vec<Vec<u32>>;
        let mut prompts: Vec<&[u32]> = rows.to_vec();
        let past = self.prefixes.cache(prefix);
        if past.is_none() {
            whole = rows.iter().map(|row| [self.prefixes.ids(prefix), row].concat()).collect();
            prompts = whole.iter().map(Vec::as_slice).collect();
        }
        let rows = Rows { rows: &prompts, past, repeat: mode.repeat, side };
        Ok(self.model.run(&rows, self.options, false)?.logits)
    }
}
