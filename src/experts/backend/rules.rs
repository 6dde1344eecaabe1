//! Runs the rules experts, all of them on each text, which is folded once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::core::vote::Abstention;
use crate::experts::backend::result::{RunTimes, TextResult, catch_panic};
use crate::experts::backend::run::InFlightRun;
use crate::experts::backend::{Backend, Form, Profile, Wanted};
use crate::experts::rules::Rules;
use crate::experts::text_folding::fold;
use crate::language::Detection;

/// A text for the rules experts.
pub(crate) struct RulesText {
    /// The text as it was written: folding shows what is hidden in it.
    pub(crate) text: Box<str>,
    pub(crate) detection: Detection,
}

/// The rules experts of a panel, each with its index there.
#[derive(Clone)]
pub(crate) struct RulesBackend(Arc<[(usize, Arc<Rules>)]>);

impl RulesBackend {
    pub(crate) fn new(rules: Vec<(usize, Arc<Rules>)>) -> Self {
        Self(rules.into())
    }

    fn judge(&self, text: &RulesText, run: &InFlightRun, experts: &mut [(usize, Duration)]) -> TextResult {
        let folded = catch_panic(|| Ok(fold(&text.text)));
        let mut result = TextResult {
            truncated: folded.as_ref().is_ok_and(|folded| folded.truncated),
            ..TextResult::default()
        };
        for ((expert_index, rules), (_, time)) in self.0.iter().zip(experts) {
            let started = Instant::now();
            let judged = match &folded {
                Ok(folded) => match catch_panic(|| Ok(rules.score(folded, text.detection))) {
                    Ok(judged) => judged,
                    Err(error) => Err(error.reason),
                },
                Err(error) => Err(error.reason),
            };
            let judged = if run.is_over() { Err(Abstention::TimedOut) } else { judged };
            result.outcomes.push((*expert_index, judged.map(|judged| (judged.score, judged.categories))));
            *time += started.elapsed();
        }
        result
    }
}

impl Backend for RulesBackend {
    type Text = RulesText;

    fn profile(&self) -> Profile {
        Profile { reads: Form::Text, padded_to: None, prefix: 0, max_in_flight: None }
    }

    fn run(
        &mut self,
        texts: &[&RulesText],
        _: Wanted<'_>,
        run: &InFlightRun,
        times: &mut RunTimes,
    ) -> Vec<TextResult> {
        times.experts = self.0.iter().map(|(expert_index, _)| (*expert_index, Duration::ZERO)).collect();
        texts.iter().map(|text| self.judge(text, run, &mut times.experts)).collect()
    }
}
