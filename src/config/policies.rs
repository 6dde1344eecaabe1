//! The policies file: each policy, and the taxonomy as data.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::overlay;
use crate::core::label::{Mapping, Source};
use crate::core::learners::{LearnerSpec, Name, Noise};
use crate::core::policy::{Action, CategoryRule, Policy};

/// Why the policies cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The file cannot be read.
    #[error("cannot read the policies in {path}: {reason}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's words.
        reason: std::io::Error,
    },
    /// Not TOML, an unknown key or a value of another type.
    #[error("{path}: {reason}")]
    Toml {
        /// The file.
        path: PathBuf,
        /// Which key, and what is wrong with it.
        reason: String,
    },
    /// A value that cannot be.
    #[error("{path}: policy {policy}: {field} {reason}")]
    Value {
        /// The file.
        path: PathBuf,
        /// The policy.
        policy: String,
        /// The key.
        field: &'static str,
        /// What it must be.
        reason: String,
    },
}

/// A category of the taxonomy.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Category {
    /// Its slug in votes, labels and rules.
    pub slug: String,
    /// Its name for people.
    pub name: String,
    /// The codes that guards give it.
    #[serde(default)]
    pub codes: Vec<String>,
}

/// All policies by name, and the taxonomy that they speak of.
#[derive(Debug, Clone, PartialEq)]
pub struct Policies {
    /// The policies.
    pub policies: BTreeMap<String, Policy>,
    /// The taxonomy; empty where the file has none.
    pub taxonomy: Vec<Category>,
}

impl Default for Policies {
    /// One policy named `default`, with every default.
    fn default() -> Self {
        let policy =
            Written::default().policy("default").unwrap_or_else(|_| unreachable!("the defaults are valid"));
        Self { policies: BTreeMap::from([(policy.name.clone(), policy)]), taxonomy: Vec::new() }
    }
}

/// The policies file.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    /// The policies by name; `default` judges every event that names no other.
    policies: BTreeMap<String, Written>,
    /// The taxonomy that categories are named by.
    #[serde(default)]
    taxonomy: Vec<Category>,
}

/// A policy as the file has it.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Written {
    /// Stands in every decision; to be changed with the policy.
    version: String,
    /// Any name of docs/learning.md.
    learner: String,
    /// The learner's parameters.
    parameters: Parameters,
    /// Cost of letting something unsafe pass; flagged is p >= cost_false_positive / (cost_false_positive +
    /// cost_false_negative).
    cost_false_negative: f64,
    /// Cost of flagging something safe.
    cost_false_positive: f64,
    /// What is done about what is flagged: `block`, `review` or `allow`.
    flagged: String,
    /// With fewer experts awake than this the action is review, never allow.
    min_awake: usize,
    /// With p this close to the threshold a person is asked as well.
    review_margin: f64,
    /// What is done about an event with nothing to judge, such as a tool call or an image without text: `allow`, `block`
    /// or `review`. A person is asked only for `review`.
    nothing_to_judge: String,
    /// Whether decisions carry the judged text's features, for the members that read.
    features: bool,
    /// Whether fewer experts may be asked under load; false: all of them, at any load.
    sheds: bool,
    /// Experts asked even under load, beside the rules; empty: those of `experts.cheap`.
    cheap: Vec<String>,
    /// What Needs Caution counts as, from 0 (safe) to 1 (unsafe).
    needs_caution: f64,
    /// Label sources that teach: `review`, `report`, `appeal`, `gold`.
    teaches: Vec<String>,
    /// Rules of their own for single categories, by slug; the strictest that holds is done.
    categories: BTreeMap<String, Rule>,
}

/// A learner's parameters; what is left out has the learner's own default.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Parameters {
    /// Step size.
    eta: Option<f64>,
    /// Factor of a mistake.
    beta: Option<f64>,
    /// Share that is spread over all.
    alpha: Option<f64>,
    /// Memory of a stacking.
    gamma: Option<f64>,
    /// Prior variance.
    variance: Option<f64>,
    /// Noise of follow-the-perturbed-leader.
    noise: Option<String>,
    /// Secret of keyed draws.
    #[serde(skip_serializing)]
    seed: Option<String>,
}

/// A rule for one category.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Rule {
    /// The rule holds from this score on, from 0 to 1.
    threshold: f64,
    /// What it asks for: `block`, `review` or `allow`.
    action: String,
}

impl Default for Written {
    fn default() -> Self {
        Self {
            version: "1".into(),
            learner: "default".into(),
            parameters: Parameters::default(),
            cost_false_negative: 1.0,
            cost_false_positive: 1.0,
            flagged: "block".into(),
            min_awake: 1,
            review_margin: 0.05,
            nothing_to_judge: "allow".into(),
            features: true,
            sheds: true,
            cheap: Vec::new(),
            needs_caution: 1.0,
            teaches: vec!["review".into(), "gold".into()],
            categories: BTreeMap::new(),
        }
    }
}

/// A key and what its value must be.
type Wrong = (&'static str, String);

fn one_of<T: Copy>(
    field: &'static str,
    given: &str,
    all: &[T],
    word: impl Fn(T) -> &'static str,
) -> Result<T, Wrong> {
    all.iter().copied().find(|one| word(*one) == given).ok_or_else(|| {
        let words: Vec<_> = all.iter().map(|one| word(*one)).collect();
        (field, format!("is one of {}", words.join(", ")))
    })
}

fn share(field: &'static str, given: f64) -> Result<f64, Wrong> {
    if (0.0..=1.0).contains(&given) { Ok(given) } else { Err((field, "lies between 0 and 1".into())) }
}

fn cost(field: &'static str, given: f64) -> Result<f64, Wrong> {
    if given.is_finite() && given > 0.0 { Ok(given) } else { Err((field, "is a number above 0".into())) }
}

impl Written {
    fn policy(self, name: &str) -> Result<Policy, Wrong> {
        let action = |field, given: &str| one_of(field, given, &Action::ALL, Action::word);
        let mut categories = BTreeMap::new();
        for (slug, rule) in self.categories {
            let threshold = share("categories.threshold", rule.threshold)?;
            categories
                .insert(slug, CategoryRule { threshold, action: action("categories.action", &rule.action)? });
        }
        if !self.sheds && !self.cheap.is_empty() {
            return Err(("cheap", "means nothing with sheds = false: remove one of the two".into()));
        }
        let teaches: Result<BTreeSet<_>, _> =
            self.teaches.iter().map(|given| one_of("teaches", given, &Source::ALL, Source::word)).collect();
        Ok(Policy {
            name: name.to_owned(),
            version: self.version,
            cost_false_negative: cost("cost_false_negative", self.cost_false_negative)?,
            cost_false_positive: cost("cost_false_positive", self.cost_false_positive)?,
            flagged: action("flagged", &self.flagged)?,
            min_awake: self.min_awake,
            review_margin: share("review_margin", self.review_margin)?,
            nothing_to_judge: action("nothing_to_judge", &self.nothing_to_judge)?,
            categories,
            features: self.features,
            sheds: self.sheds,
            cheap: self.cheap,
            mapping: Mapping {
                needs_caution: share("needs_caution", self.needs_caution)?,
                teaches: teaches?,
            },
            learner: self.parameters.learner(&self.learner)?,
        })
    }
}

impl Parameters {
    fn learner(self, name: &str) -> Result<LearnerSpec, Wrong> {
        let name = name.parse::<Name>().map_err(|error| ("learner", error.to_string()))?;
        let noise = self.noise.map(|noise| noise.parse::<Noise>()).transpose();
        let spec = LearnerSpec {
            eta: self.eta,
            beta: self.beta,
            alpha: self.alpha,
            gamma: self.gamma,
            variance: self.variance,
            noise: noise.map_err(|error| ("parameters.noise", error.to_string()))?,
            seed: self.seed.map(String::into_bytes),
            ..LearnerSpec::new(name)
        };
        spec.check().map_err(|error| ("parameters", error.to_string()))?;
        Ok(spec)
    }
}

impl Policies {
    /// Reads a policies file.
    ///
    /// # Errors
    /// Where the file cannot be read or a policy cannot be meant.
    pub fn read(path: &Path) -> Result<Self, PolicyError> {
        let text = std::fs::read_to_string(path)
            .map_err(|reason| PolicyError::Read { path: path.into(), reason })?;
        let file: File = toml::from_str(&text)
            .map_err(|error| PolicyError::Toml { path: path.into(), reason: overlay::explain(&error) })?;
        let mut policies = BTreeMap::new();
        for (name, written) in file.policies {
            let policy = written.policy(&name).map_err(|(field, reason)| PolicyError::Value {
                path: path.into(),
                policy: name.clone(),
                field,
                reason,
            })?;
            policies.insert(name, policy);
        }
        Ok(Self { policies, taxonomy: file.taxonomy })
    }

    /// The policy of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Policy> {
        self.policies.get(name)
    }
}
