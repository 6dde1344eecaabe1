//! `aegis evaluate`: measures the experts and the learner on labelled text.

use super::{Failure, run};
use crate::config;
use crate::evaluate::{EvaluateArgs, EvaluateContext, EvaluateError, run as evaluate_with};
use crate::ops::Exit;

pub fn evaluate(args: &EvaluateArgs) -> Result<Exit, Failure> {
    let mut context = EvaluateContext::default();
    if let Some(path) = &args.config {
        let experts = config::load(path, std::env::vars(), &[])?.config.experts;
        context = EvaluateContext {
            panel: Some(run::panel_config(&experts)),
            is_shadow: Box::new(move |expert| experts.is_shadow(&expert.id, expert.shadow)),
        };
    }
    let failed = |error: EvaluateError| {
        let exit = match &error {
            EvaluateError::Usage(_) => Exit::Usage,
            EvaluateError::Unavailable(_) => Exit::Unavailable,
            EvaluateError::Data(_) | EvaluateError::Gate(_) => Exit::Data,
        };
        Failure::new(exit, error)
    };
    evaluate_with(args, context).map_err(failed).map(|()| Exit::Success)
}
