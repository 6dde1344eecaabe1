//! The policies file as it is written, and its conversion to policies.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Category;
use super::values::{InvalidValue, annotator_share, audit_share, cost, one_of, share, teaching};
use crate::core::label::Mapping;
use crate::core::learners::{LearnerSpec, Name, Noise};
use crate::core::policy::{Action, CategoryRule, Policy, Release};
use crate::core::sampling::AuditRates;

/// The rate of audits of a policy that names none.
const AUDIT_RATE: f64 = 0.01;

/// The policies file.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct File {
    /// The policies by name. `default` applies to every event that names no other.
    pub(super) policies: BTreeMap<String, Written>,
    /// The categories with their names and codes.
    #[serde(default)]
    pub(super) taxonomy: Vec<Category>,
}

/// A policy as written in the file.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Written {
    /// The version of the policy, which every decision states. Change it whenever you change the policy.
    version: String,
    /// The name of the learner, from docs/learning.md.
    learner: String,
    /// The parameters of the learner.
    parameters: Parameters,
    /// The cost of letting something unsafe pass. An event is flagged if p >= cost_false_positive / (cost_false_positive +
    /// cost_false_negative).
    cost_false_negative: f64,
    /// The cost of flagging something safe.
    cost_false_positive: f64,
    /// The action on flagged events: `block`, `review` or `allow`.
    flagged: String,
    /// The least number of experts that vote. With fewer, the action is review instead of allow.
    min_awake: usize,
    /// A review request is also sent if p is this close to the threshold.
    review_margin: f64,
    /// The width beyond review_margin over which the probability of a review request falls from 1 to 0.
    review_slope: f64,
    /// The probability with which any event is sent to review as an audit: a number from 0 to 1, or one for each action, as
    /// `{ allow = 0.01, block = 0.05, review = 1.0 }`.
    audit_rate: AuditRate,
    /// The review requests an hour above which those near the threshold are drawn with a lower probability. 0 for no limit.
    /// Audits and requests for certain reasons are never drawn less often.
    review_budget: u32,
    /// The least recall that you aim at, from 0 to 1, for the alert `AegisRecall`. 0 for none.
    pub(super) recall_target: f64,
    /// The action on events with nothing to judge, such as a tool call or an image without text: `allow`, `block` or
    /// `review`. A review request is sent only for `review`.
    nothing_to_judge: String,
    /// If true, decisions carry the judged text's features, for the members that read text.
    features: bool,
    /// If true, fewer experts may be asked under load. If false, all of them are asked at any load.
    sheds: bool,
    /// The experts that, besides the rules, are asked even under load. If empty, they are those of `experts.cheap`.
    cheap: Vec<String>,
    /// The value of the verdict Needs Caution, from 0 (safe) to 1 (unsafe).
    needs_caution: f64,
    /// The label sources that the learner learns from: `review`, `report`, `appeal`, `gold`.
    teaches: Vec<String>,
    /// The predictors in use: the newest one (`automatic`), or only one that a person has released with
    /// `aegis weights release` (`manual`).
    release: String,
    /// A note that reviewers of this policy see beside every conversation. It changes no decision, and can be changed
    /// without another version.
    pub(super) reviewer_note: String,
    /// The cap s on the labels of one annotator that teach, above 0 and up to 1: at most 10 plus s/(1-s) times the labels of
    /// all others, whether these teach or not. Two names that label much lift each other's limit. With 1, no annotator is
    /// capped. Gold labels always teach.
    max_annotator_share: f64,
    /// Rules for single categories, by slug. The strictest rule that applies determines the action.
    categories: BTreeMap<String, Rule>,
}

/// The rate of audits: one for all events, or one for each action.
#[derive(Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a number, or a table with a number for each of allow, block and review")]
enum AuditRate {
    /// The rate of all events.
    Flat(f64),
    /// The rate of each action.
    ByAction(ActionRates),
}

/// The rates of audits by action. Those left out are .01.
#[derive(Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct ActionRates {
    /// The rate of events that pass.
    allow: f64,
    /// The rate of events that are blocked.
    block: f64,
    /// The rate of events that are sent to review in any case.
    review: f64,
}

impl Default for ActionRates {
    fn default() -> Self {
        Self { allow: AUDIT_RATE, block: AUDIT_RATE, review: AUDIT_RATE }
    }
}

impl AuditRate {
    fn rates(self) -> Result<AuditRates, InvalidValue> {
        match self {
            Self::Flat(rate) => Ok(AuditRates::flat(audit_share("audit_rate", rate)?)),
            Self::ByAction(rates) => Ok(AuditRates {
                allow: audit_share("audit_rate.allow", rates.allow)?,
                block: audit_share("audit_rate.block", rates.block)?,
                review: audit_share("audit_rate.review", rates.review)?,
            }),
        }
    }
}

/// The parameters of a learner. Those left out have the learner's own defaults.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Parameters {
    /// The step size.
    eta: Option<f64>,
    /// The factor that a mistake multiplies a weight by.
    beta: Option<f64>,
    /// The share of the weight that is spread over all experts.
    alpha: Option<f64>,
    /// The memory of a stacking learner.
    gamma: Option<f64>,
    /// The prior variance.
    variance: Option<f64>,
    /// The noise of follow-the-perturbed-leader.
    noise: Option<String>,
    /// The secret of keyed draws: those of audits and uncertain reviews, of exploration, and of `fpl`.
    #[serde(skip_serializing)]
    seed: Option<String>,
}

/// A rule for one category.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Rule {
    /// The score from which the rule applies, from 0 to 1.
    threshold: f64,
    /// The action: `block`, `review` or `allow`.
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
            review_slope: 0.0,
            audit_rate: AuditRate::Flat(AUDIT_RATE),
            review_budget: 0,
            recall_target: 0.0,
            nothing_to_judge: "allow".into(),
            features: true,
            sheds: true,
            cheap: Vec::new(),
            needs_caution: 1.0,
            teaches: vec!["review".into(), "gold".into()],
            release: Release::default().word().into(),
            reviewer_note: String::new(),
            max_annotator_share: 1.0,
            categories: BTreeMap::new(),
        }
    }
}

impl Written {
    /// Returns the policy of this name.
    ///
    /// # Errors
    /// Returns the first key whose value is refused.
    pub(super) fn policy(self, name: &str) -> Result<Policy, InvalidValue> {
        let action = |field, given: &str| one_of(field, given, &Action::ALL, Action::word);
        share("recall_target", self.recall_target)?;
        let mut categories = BTreeMap::new();
        for (slug, rule) in self.categories {
            let threshold = share("categories.threshold", rule.threshold)?;
            categories
                .insert(slug, CategoryRule { threshold, action: action("categories.action", &rule.action)? });
        }
        if !self.sheds && !self.cheap.is_empty() {
            return Err(("cheap", "means nothing with sheds = false: remove one of the two".into()));
        }
        Ok(Policy {
            name: name.to_owned(),
            version: self.version,
            cost_false_negative: cost("cost_false_negative", self.cost_false_negative)?,
            cost_false_positive: cost("cost_false_positive", self.cost_false_positive)?,
            flagged: action("flagged", &self.flagged)?,
            min_awake: self.min_awake,
            review_margin: share("review_margin", self.review_margin)?,
            review_slope: share("review_slope", self.review_slope)?,
            audit_rates: self.audit_rate.rates()?,
            review_budget: NonZeroU32::new(self.review_budget),
            nothing_to_judge: action("nothing_to_judge", &self.nothing_to_judge)?,
            categories,
            features: self.features,
            sheds: self.sheds,
            cheap: self.cheap,
            mapping: Mapping {
                needs_caution: share("needs_caution", self.needs_caution)?,
                teaches: teaching(&self.teaches)?,
                max_annotator_share: annotator_share(self.max_annotator_share)?,
            },
            learner: self.parameters.learner(&self.learner)?,
            release: one_of("release", &self.release, &Release::ALL, Release::word)?,
        })
    }
}

impl Parameters {
    fn learner(self, name: &str) -> Result<LearnerSpec, InvalidValue> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> Option<String> {
        let written: Written = toml::from_str(text).unwrap();
        written.policy("p").err().map(|(field, reason)| format!("{field} {reason}"))
    }

    #[test]
    fn rates_that_audit_nothing_and_calibrations_that_teach_are_refused() {
        for text in ["audit_rate = 0.0", "audit_rate = 1e-9", "teaches = [\"report\", \"gold\"]"] {
            assert_eq!(refusal(text), None, "{text}");
        }
        for (text, expected) in [
            ("audit_rate = 1e-10", "audit_rate is below 0.000000001"),
            ("audit_rate = { block = 1e-200 }", "audit_rate.block is below 0.000000001"),
            ("audit_rate = -1.0", "audit_rate lies between 0 and 1"),
            ("teaches = [\"review\", \"calibration\"]", "teaches contains calibration"),
            ("teaches = [\"guess\"]", "teaches is one of review, report, appeal, gold"),
        ] {
            let found = refusal(text).unwrap_or_default();
            assert!(found.starts_with(expected), "{text}: {found}");
        }
    }
}
