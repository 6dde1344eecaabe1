//! Runs the rules experts, all of them on each text, which is folded once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::core::vote::Abstention;
use crate::experts::backend::result::{RunTimes, TextResult, catch_panic};
use crate::experts::backend::run::InFlightRun;
use crate::experts::backend::{Backend, Form, Profile, Wanted};
use crate::experts::rules::Rules;
use crate::experts::text_folding::fold;

/// The rules experts of a panel, each with its index there.
#[derive(Clone)]
pub(crate) struct RulesBackend(Arc<[(usize, Arc<Rules>)]>);

impl RulesBackend {
    pub(crate) fn new(rules: Vec<(usize, Arc<Rules>)>) -> Self {
        Self(rules.into())
    }

    fn judge(&self, text: &str, run: &InFlightRun, experts: &mut [(usize, Duration)]) -> TextResult {
        let folded = catch_panic(|| Ok(fold(text)));
        let mut result = TextResult {
            truncated: folded.as_ref().is_ok_and(|folded| folded.truncated),
            ..TextResult::default()
        };
        for ((expert_index, rules), (_, time)) in self.0.iter().zip(experts) {
            let started = Instant::now();
            let judged = match &folded {
                Ok(folded) => catch_panic(|| Ok(rules.score(folded))).map_err(|error| error.reason),
                Err(error) => Err(error.reason),
            };
            let judged = if run.is_over() { Err(Abstention::TimedOut) } else { judged };
            let judged = judged.and_then(|judged| judged.ok_or(Abstention::NothingRead));
            result.outcomes.push((*expert_index, judged.map(|judged| (judged.score, judged.categories))));
            *time += started.elapsed();
        }
        result
    }
}

impl Backend for RulesBackend {
    type Text = str;

    fn profile(&self) -> Profile {
        Profile { reads: Form::Text, padded_to: None, prefix: 0, max_in_flight: None }
    }

    fn run(
        &mut self,
        texts: &[&str],
        _: Wanted<'_>,
        run: &InFlightRun,
        times: &mut RunTimes,
    ) -> Vec<TextResult> {
        times.experts = self.0.iter().map(|(expert_index, _)| (*expert_index, Duration::ZERO)).collect();
        texts.iter().map(|text| self.judge(text, run, &mut times.experts)).collect()
    }
}
