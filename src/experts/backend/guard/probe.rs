//! Finds out how a graph can run: with a cached prefix or without, several rows or one at a time, padded left or right.
//!
//! Exporters differ in it, and a graph does not declare it. The fused attention of some graphs takes no second row behind
//! a past, or computes lengths as if padding were on the right. Therefore two short prompts run in each way, from the
//! fastest to the slowest, until one gives the verdicts that each prompt gives alone and without a cache.

use super::causal::{CausalModel, KeyValueCache, Rows, StepOptions};
use super::verdict::{Verdict, VerdictIds};
use crate::core::vote::Abstention;
use crate::experts::backend::result::RunError;
use crate::experts::manifest::Side;

/// The greatest difference of P(unsafe) between ways to run.
const TOLERANCE: f64 = 1e-5;
/// The same for graphs whose numbers or caches have 16 bits.
pub(super) const HALF_TOLERANCE: f64 = 2e-3;
/// The greatest difference of the log odds, in multiples of the tolerance. It shows differences near 0 and 1.
const LOG_ODDS_FACTOR: f64 = 1e3;
/// The tokens of the prefix with which the graph is probed. The whole prefix would take seconds.
const PROBED_PREFIX: usize = 24;
/// The lengths of the two prompts behind the prefix, so that one is padded.
const PROBED_ROWS: [usize; 2] = [9, 4];

/// A way to run a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RunMode {
    /// The cache of the prefix is the past of each row.
    pub(crate) cached: bool,
    /// The cache is repeated for each row, because the graph does not share it.
    pub(crate) repeat: bool,
    /// The side on which short rows are padded; `None` if rows run one by one.
    pub(crate) batch: Option<Side>,
}

impl RunMode {
    /// The ways, from the fastest to the slowest. The last one works with every graph that works at all.
    const ALL: [Self; 8] = {
        const fn mode(cached: bool, repeat: bool, batch: Option<Side>) -> RunMode {
            RunMode { cached, repeat, batch }
        }
        [
            mode(true, false, Some(Side::Left)),
            mode(true, false, Some(Side::Right)),
            mode(true, true, Some(Side::Left)),
            mode(true, true, Some(Side::Right)),
            mode(true, false, None),
            mode(false, false, Some(Side::Left)),
            mode(false, false, Some(Side::Right)),
            mode(false, false, None),
        ]
    };

    /// Describes what the graph cannot do; `None` if it can do everything.
    pub(crate) fn limits(self) -> Option<&'static str> {
        match (self.cached, self.repeat, self.batch) {
            (true, false, Some(_)) => None,
            (true, true, _) => Some("the graph shares no cache: the prefix is copied for each row"),
            (true, false, None) => Some("the graph takes one row behind a past: prompts run one by one"),
            (false, _, Some(_)) => Some("the graph cannot use a cached prefix: it is read with each prompt"),
            (false, _, None) => {
                Some("the graph takes neither a cached prefix nor several rows: whole prompts run one by one")
            }
        }
    }
}

/// Probes a graph.
pub(super) struct Probe<'a> {
    pub(super) model: &'a mut CausalModel,
    pub(super) options: StepOptions<'a>,
    pub(super) verdict: &'a VerdictIds,
    /// The prefix of the prompts.
    pub(super) prefix: &'a [u32],
}

impl Probe<'_> {
    /// Finds the fastest way in which the graph gives the right verdicts.
    ///
    /// # Errors
    /// Returns the error of running a whole prompt alone, because then the graph does not run at all.
    pub(super) fn run(mut self) -> Result<RunMode, RunError> {
        let prefix = &self.prefix[..self.prefix.len().min(PROBED_PREFIX)];
        let source: Vec<u32> =
            self.verdict.safe.iter().chain(&self.verdict.harmful).chain(prefix).copied().collect();
        let row = |length: usize| source.iter().rev().copied().cycle().take(length).collect::<Vec<u32>>();
        let rows = PROBED_ROWS.map(row);
        let whole = rows.clone().map(|row| [prefix, &row].concat());
        let mut expected = Vec::new();
        for prompt in &whole {
            expected.extend(self.verdicts(&Rows::alone(&[prompt], None))?);
        }
        let cache = self.cache(prefix);
        for mode in RunMode::ALL {
            let past = if mode.cached { cache.as_ref() } else { None };
            if mode.cached && past.is_none() {
                continue;
            }
            let prompts = if mode.cached { &rows } else { &whole };
            let found = self.run_in(mode, &[&prompts[0], &prompts[1]], past);
            if found.is_ok_and(|found| self.are_equal(&found, &expected)) {
                return Ok(mode);
            }
        }
        Err(RunError::failed("it gives another verdict for the same prompt in each run"))
    }

    fn cache(&mut self, prefix: &[u32]) -> Option<KeyValueCache> {
        if prefix.is_empty() || self.model.layout.past.is_empty() {
            return None;
        }
        let step = self.model.run(&Rows::alone(&[prefix], None), self.options, true);
        step.ok().and_then(|step| step.cache)
    }

    fn run_in(
        &mut self,
        mode: RunMode,
        prompts: &[&[u32]],
        past: Option<&KeyValueCache>,
    ) -> Result<Vec<Verdict>, RunError> {
        let Some(side) = mode.batch else {
            let mut verdicts = Vec::new();
            for prompt in prompts {
                verdicts.extend(self.verdicts(&Rows::alone(&[prompt], past))?);
            }
            return Ok(verdicts);
        };
        self.verdicts(&Rows { rows: prompts, past, repeat: mode.repeat, side })
    }

    fn verdicts(&mut self, rows: &Rows<'_>) -> Result<Vec<Verdict>, RunError> {
        let step = self.model.run(rows, self.options, false)?;
        let verdict = |logits: &Vec<f32>| {
            Verdict::of(logits, self.verdict).map_err(|reason| match reason {
                Abstention::WrongShape => RunError::shape(format!(
                    "the vocabulary has {} tokens, fewer than those of the verdict words",
                    logits.len()
                )),
                reason => RunError { reason, detail: "the logits are not finite".to_owned() },
            })
        };
        step.logits.iter().map(verdict).collect()
    }

    fn are_equal(&self, found: &[Verdict], expected: &[Verdict]) -> bool {
        let tolerance = if self.model.layout.half { HALF_TOLERANCE } else { TOLERANCE };
        let log_odds = |verdict: &Verdict| (verdict.p / (1.0 - verdict.p)).ln();
        found.len() == expected.len()
            && found.iter().zip(expected).all(|(found, expected)| {
                let odds = (log_odds(found) - log_odds(expected)).abs();
                (found.p - expected.p).abs() <= tolerance
                    && (found.outside - expected.outside).abs() <= tolerance
                    && (odds <= tolerance * LOG_ODDS_FACTOR || !odds.is_finite())
            })
    }
}
