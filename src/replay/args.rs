//! The flags of `aegis replay`, and its surroundings.

use std::path::PathBuf;

use clap::Args;

use super::ReplayError;
use super::sampling::LabelSampling;
use super::write::Policy;
use crate::codec::Defaults;
use crate::core::learners::tally::Costs;
use crate::core::learners::{LearnerSpec, Name};
use crate::core::ledger::Record;
use crate::core::policy;
use crate::experts::PanelConfig;

/// Folds label streams offline and tells what the learner makes of them.
#[derive(Debug, Clone, Default, Args)]
pub struct ReplayArgs {
    /// Files of JSON lines (docs/replay-format.md), .gz or .zst; Avro container files (.avro) of labelled rounds; `-`; `topic:NAME` on the brokers of the configuration
    #[arg(value_name = "STREAM")]
    pub streams: Vec<PathBuf>,
    /// The learner, or `all` for one table of all of them [default: what the file's header names, else default]
    #[arg(long, value_name = "NAME|all")]
    pub learner: Option<String>,
    /// Step of hedge, fpl, fixed-share; of weighted-majority 1 - beta
    #[arg(long)]
    pub eta: Option<f64>,
    /// Factor of weighted-majority
    #[arg(long)]
    pub beta: Option<f64>,
    /// Share that fixed-share passes round
    #[arg(long)]
    pub alpha: Option<f64>,
    /// Memory of stacking and reading
    #[arg(long)]
    pub gamma: Option<f64>,
    /// Noise of fpl
    #[arg(long, value_name = "exponential|gumbel")]
    pub noise: Option<String>,
    /// Secret of the keyed draws
    #[arg(long)]
    pub seed: Option<String>,
    /// Costs of a miss and of a false alarm: a threshold and a cost-weighted error of their own
    #[arg(long, value_name = "FN:FP")]
    pub costs: Option<String>,
    /// Hide the labels that this sampling would not have asked for: audit=P, random=P, margin=DISTANCE, slope=WIDTH
    #[arg(long, value_name = "SAMPLING", conflicts_with_all = ["resume", "trace", "report"])]
    pub labels: Option<String>,
    /// Write the figures as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write p, target, mistakes and weights round by round
    #[arg(long, value_name = "FILE.csv")]
    pub trace: Option<PathBuf>,
    /// Write a page to look at
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<PathBuf>,
    /// Write a savepoint: the ledger and the state, to go on from
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,
    /// Write the learned predictor of each policy, for `aegis score --weights`
    #[arg(long, value_name = "FILE")]
    pub predictor: Option<PathBuf>,
    /// Write a decision for each round, for `aegis report`
    #[arg(long, value_name = "FILE")]
    pub decisions: Option<PathBuf>,
    /// Write the labels of these rounds, for --labels of `aegis report`
    #[arg(long, value_name = "FILE.jsonl", requires = "decisions")]
    pub labels_out: Option<PathBuf>,
    /// Go on from a savepoint
    #[arg(long, value_name = "FILE")]
    pub resume: Option<PathBuf>,
    /// Read the text of lines without features with the bundled encoders
    #[arg(long)]
    pub embed: bool,
    /// Write the rounds with their features, to be read without --embed
    #[arg(long, value_name = "FILE", requires = "embed")]
    pub write: Option<PathBuf>,
    /// Stop at the first malformed line (exit code 65)
    #[arg(long)]
    pub strict: bool,
    /// Configuration: policies, where labels have their fields, and the brokers of `topic:NAME` [default with `topic:NAME`:
    /// aegis.toml, then config/aegis.toml, in the working folder]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Reads a ledger topic to its end and passes each record on. The error is a text for the operator.
pub type Topic<'a> = dyn FnMut(&str, &mut dyn FnMut(Record)) -> Result<(), String> + 'a;

/// The surroundings of a run: the access to topics, the configuration and the experts.
#[derive(Default)]
pub struct ReplayContext<'a> {
    /// Reads the ledger topic of a `topic:NAME` stream.
    pub topic: Option<&'a mut Topic<'a>>,
    /// The configured policies, which headers must not contradict.
    pub policies: Vec<Policy>,
    /// The configured tenant and policy of lines that name none, and the pointers by which labels are read.
    pub defaults: Option<Defaults>,
    /// Returns the policy of that name, which decides on the rounds of `--decisions`.
    pub rules: Option<&'a dyn Fn(&str) -> policy::Policy>,
    /// The bundled experts, for `--embed`. `None` for those in the folder `models`.
    pub panel: Option<PanelConfig>,
    /// Called with the number of texts read and the number of all texts.
    pub progress: Option<&'a mut dyn FnMut(usize, usize)>,
}

/// The choice of `--learner` and its parameters.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum LearnerChoice {
    /// The learners of the headers.
    Headers,
    /// One learner for all policies.
    One(LearnerSpec),
    /// All learners, compared.
    All,
}

impl ReplayArgs {
    pub(super) fn learner(&self) -> Result<LearnerChoice, ReplayError> {
        let usage = |error: &dyn std::fmt::Display| ReplayError::Usage(error.to_string());
        let given = self.eta.is_some() || self.beta.is_some() || self.alpha.is_some() || self.gamma.is_some();
        let Some(name) = self.learner.as_deref() else {
            if given || self.noise.is_some() {
                return Err(ReplayError::Usage(
                    "parameters without --learner: name the learner that takes them".to_owned(),
                ));
            }
            return Ok(LearnerChoice::Headers);
        };
        if name == "all" {
            if self.labels.is_some() {
                return Err(ReplayError::Usage(
                    "--learner all shows every label to each learner: name one learner beside --labels"
                        .to_owned(),
                ));
            }
            if given || self.noise.is_some() {
                return Err(ReplayError::Usage(
                    "--learner all takes no parameters: each plays with its own".to_owned(),
                ));
            }
            return Ok(LearnerChoice::All);
        }
        let name: Name = name.parse().map_err(|error| usage(&error))?;
        let seed =
            self.seed.as_ref().filter(|_| name.takes().contains(&crate::core::learners::Parameter::Seed));
        let spec = LearnerSpec {
            eta: self.eta,
            beta: self.beta,
            alpha: self.alpha,
            gamma: self.gamma,
            noise: self.noise.as_deref().map(str::parse).transpose().map_err(|error| usage(&error))?,
            seed: seed.map(|seed| seed.as_bytes().to_vec()),
            ..LearnerSpec::new(name)
        };
        spec.check().map_err(|error| usage(&error))?;
        Ok(LearnerChoice::One(spec))
    }

    /// Refuses to write decisions and labels to one file.
    pub(super) fn check_outputs(&self) -> Result<(), ReplayError> {
        if self.decisions.is_some() && self.decisions == self.labels_out {
            let reason = "--decisions and --labels-out are the same file: name two files";
            return Err(ReplayError::Usage(reason.to_owned()));
        }
        Ok(())
    }

    pub(super) fn labels(&self) -> Result<Option<LabelSampling>, ReplayError> {
        let sampling = self.labels.as_deref().map(str::parse).transpose();
        sampling.map_err(|reason: String| ReplayError::Usage(format!("--labels: {reason}")))
    }

    pub(super) fn costs(&self) -> Result<Option<Costs>, ReplayError> {
        let Some(text) = &self.costs else { return Ok(None) };
        let number = |part: &str| part.parse().ok().filter(|cost: &f64| cost.is_finite() && *cost > 0.0);
        let costs = text
            .split_once(':')
            .and_then(|(miss, alarm)| Some(Costs { miss: number(miss)?, false_alarm: number(alarm)? }));
        let wrong = || ReplayError::Usage("--costs: two numbers above 0, FN:FP, such as 10:1".to_owned());
        costs.ok_or_else(wrong).map(Some)
    }
}
