//! `aegis evaluate`: measures the experts and the learner on labelled text.

use super::{Failure, run};
use crate::config::{self, Experts};
use crate::evaluate::{EvaluateArgs, EvaluateContext, EvaluateError, run as evaluate_with};
use crate::ops::Exit;
use crate::score::in_shadow;

pub fn evaluate(args: &EvaluateArgs) -> Result<Exit, Failure> {
    let (mut panel, mut experts) = (None, Experts::default());
    if let Some(path) = &args.config {
        experts = config::load(path, std::env::vars(), &[])?.config.experts;
        panel = Some(run::panel_config(&experts));
    }
    let shadow = move |panel: &_| {
        let valid = run::validate_shadow(panel, &experts);
        valid.map_err(|Failure { error, .. }| EvaluateError::Usage(error.to_string()))?;
        Ok(in_shadow(panel, &experts))
    };
    let failed = |error: EvaluateError| {
        let exit = match &error {
            EvaluateError::Usage(_) => Exit::Usage,
            EvaluateError::Unavailable(_) => Exit::Unavailable,
            EvaluateError::Data(_) | EvaluateError::Gate(_) => Exit::Data,
        };
        Failure::new(exit, error)
    };
    let context = EvaluateContext { panel, in_shadow: Box::new(shadow) };
    evaluate_with(args, context).map_err(failed).map(|()| Exit::Success)
}
