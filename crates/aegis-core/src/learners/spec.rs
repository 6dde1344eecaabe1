//! The choice of a learner with its parameters: parsed, checked, built, and written for the state hash.

use super::{Learner, Name, Noise, Parameter, SpecError, Value};
use super::{adahedge, adanormalhedge, brier, default, fixed_share, fpl, grid, hedge, log_loss};
use super::{majority, reading, squint, stacking, weighted_majority};
use crate::draw::Draws;
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;

/// The greatest number of experts of one learner. Stacking's matrix grows with its square.
pub(super) const MAX_EXPERTS: usize = 256;

/// A learner's name and the parameters given for it. The others have defaults:
///
/// | learner | default |
/// |---|---|
/// | weighted-majority | β = .5, the paper's η = .5 |
/// | hedge | no η: the anytime step 2√(ln N / t), which has no parameter |
/// | fpl | η = .26, the paper's; Gumbel noise; empty seed |
/// | fixed-share | η = .3, α = .001 |
/// | stacking | γ = .9995: a memory of some 2,000 labels |
/// | reading | p0 = 1, γ = 1 |
#[derive(Debug, Clone, PartialEq)]
pub struct LearnerSpec {
    /// The learner.
    pub name: Name,
    /// The step η.
    pub eta: Option<f64>,
    /// The factor β, which is 1 - η.
    pub beta: Option<f64>,
    /// The share α.
    pub alpha: Option<f64>,
    /// The memory γ.
    pub gamma: Option<f64>,
    /// The prior variance p0.
    pub variance: Option<f64>,
    /// The noise of FPL.
    pub noise: Option<Noise>,
    /// The secret of the keyed draws: those of exploration, and those of a learner that draws. It is never displayed;
    /// [`parameters`](Self::parameters) of a learner that draws holds its fingerprint.
    pub seed: Option<Vec<u8>>,
    /// The prior masses by expert id, which sum to one.
    pub prior: Option<Vec<(String, f64)>>,
}

impl LearnerSpec {
    /// A learner with all defaults.
    #[must_use]
    pub fn new(name: Name) -> Self {
        let (eta, beta, alpha, gamma, variance) = (None, None, None, None, None);
        Self { name, eta, beta, alpha, gamma, variance, noise: None, seed: None, prior: None }
    }

    /// Checks that this learner takes the given parameters, and that they are in range. Each learner takes a seed, because it
    /// also keys the draws of exploration.
    ///
    /// # Errors
    /// Returns the first violation.
    pub fn check(&self) -> Result<(), SpecError> {
        let numbers = [
            (Parameter::Eta, self.eta),
            (Parameter::Beta, self.beta),
            (Parameter::Alpha, self.alpha),
            (Parameter::Gamma, self.gamma),
            (Parameter::Variance, self.variance),
        ];
        let others = [(Parameter::Noise, self.noise.is_some()), (Parameter::Prior, self.prior.is_some())];
        let given = numbers.iter().map(|(parameter, value)| (*parameter, value.is_some())).chain(others);
        if let Some((parameter, _)) =
            given.into_iter().find(|(p, given)| *given && !self.name.takes().contains(p))
        {
            return Err(SpecError::NotTaken { name: self.name, parameter });
        }
        for (parameter, value) in numbers {
            if let Some(value) = value.filter(|value| !parameter.admits(*value)) {
                return Err(SpecError::OutOfRange { parameter, value });
            }
        }
        if self.name == Name::WeightedMajority {
            if let Some(value) = self.eta.filter(|eta| *eta >= 1.0) {
                return Err(SpecError::OutOfRange { parameter: Parameter::Eta, value });
            }
            // In doubles 1 - .9 is not .1, so the comparison has a tolerance.
            if let (Some(eta), Some(beta)) = (self.eta, self.beta)
                && (1.0 - eta - beta).abs() > 1e-9
            {
                return Err(SpecError::EtaAgainstBeta);
            }
        }
        if let Some(prior) = &self.prior {
            let sum: f64 = prior.iter().map(|(_, mass)| mass).sum();
            if prior.iter().any(|(_, mass)| mass.is_nan() || *mass <= 0.0) || (sum - 1.0).abs() > 1e-9 {
                return Err(SpecError::Prior);
            }
        }
        Ok(())
    }

    fn beta_or_default(&self) -> f64 {
        self.beta.unwrap_or_else(|| self.eta.map_or(0.5, |eta| 1.0 - eta))
    }

    fn eta_or(&self, default: f64) -> f64 {
        self.eta.unwrap_or(default)
    }

    /// The parameters that this learner uses, including defaults, in a fixed order.
    #[must_use]
    pub fn parameters(&self) -> Vec<(&'static str, Value)> {
        let number = |parameter: Parameter, x| (parameter.as_str(), Value::Number(x));
        let text = |parameter: Parameter, text: &str| (parameter.as_str(), Value::Text(text.to_owned()));
        let mut list = match self.name {
            Name::WeightedMajority => vec![number(Parameter::Beta, self.beta_or_default())],
            Name::Hedge => vec![match self.eta {
                Some(eta) => number(Parameter::Eta, eta),
                None => text(Parameter::Eta, "anytime"),
            }],
            Name::Fpl => vec![
                number(Parameter::Eta, self.eta_or(DEFAULT_FPL_ETA)),
                text(Parameter::Noise, self.noise.unwrap_or_default().as_str()),
                text(Parameter::Seed, &self.fingerprint()),
            ],
            Name::FixedShare => vec![
                number(Parameter::Eta, self.eta_or(DEFAULT_SHARE_ETA)),
                number(Parameter::Alpha, self.alpha.unwrap_or(DEFAULT_ALPHA)),
            ],
            Name::Stacking => vec![number(Parameter::Gamma, self.gamma.unwrap_or(DEFAULT_GAMMA))],
            Name::Reading => vec![
                number(Parameter::Variance, self.variance.unwrap_or(1.0)),
                number(Parameter::Gamma, self.gamma.unwrap_or(1.0)),
            ],
            _ => Vec::new(),
        };
        if let Some(prior) = &self.prior {
            let mut prior = prior.clone();
            prior.sort_by(|a, b| a.0.cmp(&b.0));
            let masses: Vec<String> = prior.iter().map(|(id, mass)| format!("{id:?}:{mass}")).collect();
            list.push(text(Parameter::Prior, &masses.join(",")));
        }
        list
    }

    /// The learner and its parameters in one line for the state hash. Equal learners have equal lines, and
    /// different learners have different lines.
    #[must_use]
    pub fn canonical(&self) -> String {
        let parameters = self.parameters();
        let pairs = parameters.iter().map(|(name, value)| format!(" {name}={value}"));
        std::iter::once(self.name.as_str().to_owned()).chain(pairs).collect()
    }

    /// Sixteen hexadecimal digits that distinguish seeds without disclosing them.
    fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(b"aegis seed 1");
        hash.update(self.seed.as_deref().unwrap_or_default());
        hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    /// The prior masses in the order of `experts`, uniform by default.
    fn prior(&self, experts: &[&str]) -> Result<Vec<f64>, SpecError> {
        let Some(prior) = &self.prior else {
            return Ok(vec![1.0 / experts.len() as f64; experts.len()]);
        };
        if prior.len() != experts.len() {
            return Err(SpecError::Prior);
        }
        let mass = |id: &&str| prior.iter().find(|(name, _)| name == id).map(|(_, mass)| *mass);
        experts.iter().map(mass).collect::<Option<_>>().ok_or(SpecError::Prior)
    }

    /// Builds the learner over `experts`, which are in the order of their UTF-8 bytes. `policy` keys the draws.
    ///
    /// # Errors
    /// Returns an error if a parameter, the prior or the experts are invalid.
    pub fn build(&self, experts: &[&str], policy: &str) -> Result<Box<dyn Learner>, SpecError> {
        self.check()?;
        if experts.is_empty() {
            return Err(SpecError::NoExperts);
        }
        if experts.len() > MAX_EXPERTS {
            return Err(SpecError::TooManyExperts(experts.len()));
        }
        if let Some([_, at]) =
            experts.array_windows().find(|[before, after]| before.as_bytes() >= after.as_bytes())
        {
            return Err(SpecError::ExpertOrder { at: (*at).to_owned() });
        }
        let prior = self.prior(experts)?;
        let n = experts.len();
        Ok(match self.name {
            Name::WeightedMajority => {
                Box::new(weighted_majority::WeightedMajority::new(experts, self.beta_or_default()))
            }
            Name::Hedge => Box::new(match self.eta {
                Some(eta) => hedge::Hedge::fixed(experts, &prior, eta),
                None if self.prior.is_some() => {
                    return Err(SpecError::NotTaken { name: self.name, parameter: Parameter::Prior });
                }
                None => hedge::Hedge::anytime(experts, &prior),
            }),
            Name::Fpl => {
                let draws = Draws::new(self.seed.as_deref().unwrap_or_default(), policy);
                let noise = self.noise.unwrap_or_default();
                Box::new(fpl::Fpl::new(experts, &prior, self.eta_or(DEFAULT_FPL_ETA), noise, draws))
            }
            Name::AdaHedge => Box::new(adahedge::AdaHedge::new(experts)),
            Name::Squint => Box::new(squint::Squint::new(experts, &prior)),
            Name::AdaNormalHedge => Box::new(adanormalhedge::AdaNormalHedge::new(experts, &prior)),
            Name::FixedShare => {
                let (eta, alpha) = (self.eta_or(DEFAULT_SHARE_ETA), self.alpha.unwrap_or(DEFAULT_ALPHA));
                Box::new(fixed_share::FixedShare::new(experts, &prior, eta, alpha))
            }
            Name::FixedShareGrid => Box::new(grid::FixedShareGrid::new(experts)),
            Name::LogLoss => Box::new(log_loss::LogLoss::new(experts, &prior)),
            Name::Brier => Box::new(brier::Brier::new(experts, &prior)),
            Name::Stacking => Box::new(stacking::Stacking::new(n, self.gamma.unwrap_or(DEFAULT_GAMMA))),
            Name::Reading => {
                let (variance, gamma) = (self.variance.unwrap_or(1.0), self.gamma.unwrap_or(1.0));
                Box::new(reading::Reading::new(n, variance, gamma))
            }
            Name::Default => Box::new(default::Default::new(experts)),
            Name::Majority => Box::new(majority::Majority::new(experts)),
        })
    }
}

const DEFAULT_FPL_ETA: f64 = 0.26;
const DEFAULT_SHARE_ETA: f64 = 0.3;
const DEFAULT_ALPHA: f64 = 0.001;
const DEFAULT_GAMMA: f64 = 0.9995;

impl fmt::Display for LearnerSpec {
    /// Writes `name key=value ...` with the defaults, which [`FromStr`] parses except for seed and prior.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.canonical())
    }
}

impl FromStr for LearnerSpec {
    type Err = SpecError;

    /// Parses `name` or `name key=value ...`, with the keys of the command line. A prior has no key.
    fn from_str(text: &str) -> Result<Self, SpecError> {
        let mut words = text.split_ascii_whitespace();
        let mut spec = Self::new(words.next().unwrap_or_default().parse()?);
        for word in words {
            let (key, value) = word.split_once('=').ok_or_else(|| SpecError::Syntax(word.to_owned()))?;
            let number = |parameter| {
                value.parse::<f64>().map_err(|_| SpecError::Unreadable { parameter, found: value.to_owned() })
            };
            match key {
                "eta" if value == "anytime" && spec.name == Name::Hedge => spec.eta = None,
                "eta" => spec.eta = Some(number(Parameter::Eta)?),
                "beta" => spec.beta = Some(number(Parameter::Beta)?),
                "alpha" => spec.alpha = Some(number(Parameter::Alpha)?),
                "gamma" => spec.gamma = Some(number(Parameter::Gamma)?),
                "variance" => spec.variance = Some(number(Parameter::Variance)?),
                "noise" => spec.noise = Some(value.parse()?),
                "seed" => spec.seed = Some(value.as_bytes().to_vec()),
                _ => return Err(SpecError::Syntax(word.to_owned())),
            }
        }
        spec.check()?;
        Ok(spec)
    }
}
