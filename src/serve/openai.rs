//! `POST /v1/moderations`, as OpenAI's API has it.
//!
//! The fields are those of the API reference, "Moderations" (platform.openai.com/docs/api-reference/moderations). A list of
//! strings has one result for each; a list of parts is one text with one result.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::content::{Part, join};
use super::decide::{Draft, answer};
use super::reason::category_threshold;
use super::refusal::Refusal;
use super::server::{App, Body};
use crate::core::decision::Decision;
use crate::core::event::{Role, Turn};
use crate::core::policy::Policy;
use crate::core::vote::CategoryScore;

/// A request.
#[derive(Deserialize, JsonSchema)]
pub struct ModerationRequest {
    /// The text to judge, a list of texts, or a list of parts.
    input: Input,
    /// Not used: the policy of the key judges.
    #[serde(default)]
    #[expect(dead_code, reason = "clients send it, and the document describes it")]
    model: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum Input {
    Text(String),
    Texts(Vec<String>),
    Parts(Vec<Part>),
}

/// An answer.
#[derive(Serialize, JsonSchema)]
pub struct ModerationResponse {
    /// The id of the request.
    id: String,
    /// `aegis-` and the policy that judged.
    model: String,
    /// A result for each text.
    results: Vec<ModerationResult>,
}

/// The result of a text.
#[derive(Serialize, JsonSchema)]
pub struct ModerationResult {
    /// The text must not pass.
    flagged: bool,
    /// The categories of a flagged text: those whose scores reach their thresholds.
    categories: Categories<bool>,
    /// The scores of the categories, from 0 to 1.
    category_scores: Categories<f64>,
    /// The kinds of input to which the score of a category applies: `text`, or nothing if no expert gives a score.
    category_applied_input_types: Categories<Vec<String>>,
    /// The decision of Aegis. Other servers of this API do not have this field.
    aegis: Decided,
}

/// The decision behind a result.
#[derive(Serialize, JsonSchema)]
pub struct Decided {
    /// The id of the event, by which labels, reports and `/v1/decisions` name this text.
    event_id: String,
    /// `allow`, `block` or `review`.
    action: String,
    /// P(unsafe), or null if no expert voted.
    probability: Option<f64>,
    /// The probability from which the policy flags.
    threshold: f64,
    /// An expert that should have voted did not.
    degraded: bool,
    /// The policy.
    policy: String,
    /// The version of the policy.
    policy_version: String,
}

/// A value for each category of the API.
#[derive(Serialize, JsonSchema)]
struct Categories<T> {
    harassment: T,
    #[serde(rename = "harassment/threatening")]
    harassment_threatening: T,
    hate: T,
    #[serde(rename = "hate/threatening")]
    hate_threatening: T,
    illicit: T,
    #[serde(rename = "illicit/violent")]
    illicit_violent: T,
    #[serde(rename = "self-harm")]
    self_harm: T,
    #[serde(rename = "self-harm/instructions")]
    self_harm_instructions: T,
    #[serde(rename = "self-harm/intent")]
    self_harm_intent: T,
    sexual: T,
    #[serde(rename = "sexual/minors")]
    sexual_minors: T,
    violence: T,
    #[serde(rename = "violence/graphic")]
    violence_graphic: T,
}

/// The taxonomy's slugs whose greatest score is that of a category. `and`: the score is at most the greatest of these.
struct Mapped {
    any: &'static [&'static str],
    and: &'static [&'static str],
}

impl<T> Categories<T> {
    /// Computes a value for each category of the categories of Aegis. docs/http.md has the table.
    fn map(mut of: impl FnMut(&Mapped) -> T) -> Self {
        let mut any = |any, and| of(&Mapped { any, and });
        let wrong = &["criminal-planning", "illegal-activity", "controlled-substances", "fraud", "malware"];
        Self {
            harassment: any(&["harassment", "threat"], &[]),
            harassment_threatening: any(&["threat"], &[]),
            hate: any(&["hate"], &[]),
            hate_threatening: any(&["hate"], &["threat", "violence"]),
            illicit: any(wrong, &[]),
            illicit_violent: any(wrong, &["weapons", "violence"]),
            self_harm: any(&["self-harm"], &[]),
            // No expert tells these apart.
            self_harm_instructions: any(&[], &[]),
            self_harm_intent: any(&[], &[]),
            sexual: any(&["sexual", "sexual-minor"], &[]),
            sexual_minors: any(&["sexual-minor"], &[]),
            violence: any(&["violence", "threat"], &[]),
            violence_graphic: any(&[], &[]),
        }
    }
}

/// The score of a category in a decision.
struct Found {
    score: f64,
    /// `true` if the score of one of its slugs reaches the threshold of that slug.
    is_reached: bool,
}

impl Mapped {
    /// Returns the score of the category in a decision, or `None` if no expert gives it.
    fn found(&self, decision: &Decision, policy: Option<&Policy>) -> Option<Found> {
        let of = |slugs: &'static [&str]| {
            decision.categories.iter().filter(move |found| slugs.contains(&found.category.as_str()))
        };
        let greatest = |slugs| of(slugs).map(|found| found.score).max_by(f64::total_cmp);
        let limit = if self.and.is_empty() { f64::INFINITY } else { greatest(self.and)? };
        let is_reached = |found: &CategoryScore| {
            found.score.min(limit) >= category_threshold(decision, policy, &found.category)
        };
        Some(Found { score: greatest(self.any)?.min(limit), is_reached: of(self.any).any(is_reached) })
    }
}

/// Answers a request.
pub async fn moderations(
    State(app): State<Arc<App>>,
    Body { head, bytes }: Body,
) -> Result<Response, Refusal> {
    let request: ModerationRequest =
        serde_json::from_slice(&bytes).map_err(|error| Refusal::shape(&error))?;
    let texts = match request.input {
        Input::Text(text) => vec![text],
        Input::Texts(texts) => texts,
        Input::Parts(parts) => vec![join(parts).map_err(|refusal| refusal.of("input"))?],
    };
    let draft = |text| Draft { turns: vec![Turn { role: Role::User, text }], ..Draft::default() };
    let decisions = app.decide(&head, texts.into_iter().map(draft).collect()).await?;
    let id = decisions.first().map(|decision| format!("modr-{}", decision.id.event)).unwrap_or_default();
    let model = decisions.first().map(|decision| format!("aegis-{}", decision.id.policy)).unwrap_or_default();
    let results = decisions.iter().map(|decision| app.result(decision)).collect();
    Ok(answer(&decisions, ModerationResponse { id, model, results }))
}

impl App {
    fn result(&self, decision: &Decision) -> ModerationResult {
        let policies = self.policies.now();
        let policy = policies.get(&decision.id.policy);
        let found = |mapped: &Mapped| mapped.found(decision, policy);
        let flagged = self.blocks(decision);
        ModerationResult {
            flagged,
            // One expert may be sure of a category, and all together not: a text that passes has none.
            categories: Categories::map(|mapped| {
                flagged && found(mapped).is_some_and(|found| found.is_reached)
            }),
            category_scores: Categories::map(|mapped| found(mapped).map_or(0.0, |found| found.score)),
            category_applied_input_types: Categories::map(|mapped| {
                found(mapped).map(|_| "text".to_owned()).into_iter().collect()
            }),
            aegis: Decided {
                event_id: decision.id.event.clone(),
                action: decision.action.word().to_owned(),
                probability: decision.probability,
                threshold: decision.threshold,
                degraded: decision.degraded,
                policy: decision.id.policy.clone(),
                policy_version: decision.policy_version.clone(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ledger::RoundId;
    use crate::core::policy::{Action, CategoryRule};

    #[test]
    fn a_category_is_found_if_one_of_its_slugs_reaches_its_own_threshold() {
        let id = RoundId { tenant: "t".into(), policy: "default".into(), event: "e1".into() };
        let score = |category: &str, score| CategoryScore { category: category.into(), score };
        let categories = vec![score("violence", 0.8), score("threat", 0.7), score("hate", 0.75)];
        let decision = Decision { threshold: 0.5, categories, ..Decision::example(id, 5) };
        let mut policy = Policy::example("default");
        for (category, threshold) in [("violence", 0.95), ("threat", 0.6), ("hate", 0.78)] {
            policy.categories.insert(category.into(), CategoryRule { threshold, action: Action::Block });
        }
        let of = |any, and, policy| {
            let found = Mapped { any, and }.found(&decision, policy)?;
            Some((found.score, found.is_reached))
        };
        assert_eq!(of(&["violence", "threat"], &[], Some(&policy)), Some((0.8, true)), "by the threat");
        assert_eq!(of(&["violence"], &[], Some(&policy)), Some((0.8, false)));
        assert_eq!(of(&["hate"], &["threat"], None), Some((0.7, true)), "at most the threat's score");
        assert_eq!(of(&["hate"], &["threat"], Some(&policy)), Some((0.7, false)));
        assert_eq!(of(&["hate"], &["weapons"], None), None);
        assert_eq!(of(&["sexual"], &[], None), None);
    }
}
