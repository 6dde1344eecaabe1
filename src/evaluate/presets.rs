//! The layouts of published sets, and the mapping of their categories to the taxonomy. docs/evaluating.md describes them.

use std::collections::BTreeMap;

use serde_json::Value;

use super::labels::{Meaning, Votes};
use super::layout::{CategoriesAt, Field, KindAt, LabelAt, Layout, Part, RoleAt, TextAt};
use crate::codec::Speaker;
use crate::core::event::Role;

/// Names of categories in a set, with their slugs.
pub(super) type CategoryNames = &'static [(&'static str, &'static str)];

/// A target, which is `None` without a vote, and the categories that a label names.
pub(super) type TargetAndCategories = (Option<f64>, Vec<String>);

/// The layout of a published set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Preset {
    /// Aegis-AI-Content-Safety-Dataset-1.0: up to five annotators, each with a list of categories
    #[value(name = "aegis-1")]
    Aegis1,
    /// Aegis-AI-Content-Safety-Dataset-2.0: prompts and responses, and their violated categories
    #[value(name = "aegis-2")]
    Aegis2,
    /// ToxicChat: prompts, and whether they try a jailbreak
    #[value(name = "toxicchat")]
    ToxicChat,
    /// WildGuardMix: prompts and responses, vanilla or adversarial
    #[value(name = "wildguardmix")]
    WildGuardMix,
    /// BeaverTails: responses to prompts, with 14 harms
    #[value(name = "beavertails")]
    BeaverTails,
    /// The OpenAI moderation evaluation set: texts with eight harms
    #[value(name = "openai-moderation")]
    OpenAiModeration,
    /// Jigsaw's toxic comments: comments with six harms
    #[value(name = "jigsaw")]
    Jigsaw,
    /// HateCheck, and Multilingual HateCheck: test cases by function
    #[value(name = "hatecheck")]
    HateCheck,
}

/// The categories of Aegis 1.0 and 2.0.
const AEGIS: CategoryNames = &[
    ("Hate/Identity Hate", "hate"),
    ("Sexual", "sexual"),
    ("Violence", "violence"),
    ("Suicide and Self Harm", "self-harm"),
    ("Threat", "threat"),
    ("Sexual Minor", "sexual-minor"),
    ("Sexual (minor)", "sexual-minor"),
    ("Guns and Illegal Weapons", "weapons"),
    ("Guns/Illegal Weapons", "weapons"),
    ("Controlled/Regulated Substances", "controlled-substances"),
    ("Controlled/Regulated substances", "controlled-substances"),
    ("Criminal Planning/Confessions", "criminal-planning"),
    ("PII/Privacy", "pii"),
    ("PII", "pii"),
    ("Harassment", "harassment"),
    ("Profanity", "profanity"),
    ("Other", "other"),
    ("Needs Caution", "needs-caution"),
    ("Illegal Activity", "illegal-activity"),
    ("Immoral/Unethical", "immoral"),
    ("Unauthorized Advice", "unauthorized-advice"),
    ("Political/Misinformation/Conspiracy", "misinformation"),
    ("Fraud/Deception", "fraud"),
    ("Copyright/Trademark/Plagiarism", "copyright"),
    ("High Risk Gov Decision Making", "high-risk-government"),
    ("High Risk Gov. Decision Making", "high-risk-government"),
    ("Malware", "malware"),
    ("Manipulation", "manipulation"),
];

const WILDGUARD: CategoryNames = &[
    ("violence_and_physical_harm", "violence"),
    ("sexual_content", "sexual"),
    ("toxic_language_hate_speech", "hate"),
    ("social_stereotypes_and_unfair_discrimination", "hate"),
    ("private_information_individual", "pii"),
    ("sensitive_information_organization_government", "pii"),
    ("cyberattack", "malware"),
    ("fraud_assisting_illegal_activities", "fraud"),
    ("defamation_encouraging_unethical_or_unsafe_actions", "immoral"),
    ("mental_health_over-reliance_crisis", "self-harm"),
    ("disseminating_false_information", "misinformation"),
    ("causing_material_harm_by_disseminating_misinformation", "misinformation"),
    ("copyright_violations", "copyright"),
    ("others", "other"),
    ("benign", ""),
];

const BEAVERTAILS: CategoryNames = &[
    ("animal_abuse", "immoral"),
    ("child_abuse", "sexual-minor"),
    ("controversial_topics,politics", "misinformation"),
    ("discrimination,stereotype,injustice", "hate"),
    ("drug_abuse,weapons,banned_substance", "controlled-substances"),
    ("financial_crime,property_crime,theft", "criminal-planning"),
    ("hate_speech,offensive_language", "hate"),
    ("misinformation_regarding_ethics,laws_and_safety", "misinformation"),
    ("non_violent_unethical_behavior", "immoral"),
    ("privacy_violation", "pii"),
    ("self_harm", "self-harm"),
    ("sexually_explicit,adult_content", "sexual"),
    ("terrorism,organized_crime", "criminal-planning"),
    ("violence,aiding_and_abetting,incitement", "violence"),
];

/// The harms of the OpenAI moderation set: sexual, hate, violence, harassment, self-harm, and three graver forms.
const OPENAI: CategoryNames = &[
    ("S", "sexual"),
    ("H", "hate"),
    ("V", "violence"),
    ("HR", "harassment"),
    ("SH", "self-harm"),
    ("S3", "sexual-minor"),
    ("H2", "threat"),
    ("V2", "violence"),
];

const JIGSAW: CategoryNames = &[
    ("toxic", "harassment"),
    ("severe_toxic", "harassment"),
    ("obscene", "profanity"),
    ("threat", "threat"),
    ("insult", "harassment"),
    ("identity_hate", "hate"),
];

fn part(text: &str, role: Role, label: LabelAt) -> Part {
    Part {
        suffix: "",
        text: TextAt::Text { field: text.into(), role: RoleAt::Always(role), context: None },
        label,
        categories: CategoriesAt::Nowhere,
        language: None,
        kind: KindAt::Nowhere,
        redacted: None,
    }
}

/// A response after the prompt of its row.
fn response(label: LabelAt) -> Part {
    let text = TextAt::Text {
        field: "response".into(),
        role: RoleAt::Always(Role::Assistant),
        context: Some("prompt".into()),
    };
    Part { text, ..part("response", Role::Assistant, label) }
}

fn votes(field: &str) -> LabelAt {
    LabelAt::Votes(vec![field.into()])
}

fn harms(names: CategoryNames) -> LabelAt {
    LabelAt::Harms(names.iter().map(|(name, slug)| (Field::from(*name), *slug)).collect())
}

fn named(field: &str, split: bool, names: CategoryNames) -> CategoriesAt {
    CategoriesAt::Field { field: field.into(), split, names }
}

impl Preset {
    /// Returns the layout. `caution` is the target of Needs Caution.
    pub(super) fn layout(self, caution: f64) -> Layout {
        let meaning = Meaning { caution, ..Meaning::default() };
        let layout = |id: Option<&str>, parts: Vec<Part>| Layout { id: id.map(Field::from), parts, meaning };
        match self {
            Self::Aegis1 => {
                let labels = (0..5).map(|at| Field(format!("labels_{at}"))).collect();
                let text = TextAt::Text {
                    field: "text".into(),
                    role: RoleAt::Field("text_type".into()),
                    context: None,
                };
                let label = LabelAt::CategoryVotes(labels);
                let part = Part { text, categories: CategoriesAt::Label, ..part("text", Role::User, label) };
                layout(Some("id"), vec![part])
            }
            Self::Aegis2 => {
                let categories = || named("violated_categories", true, AEGIS);
                let prompt = part("prompt", Role::User, votes("prompt_label"));
                let redacted = Some("REDACTED");
                let prompt = Part { suffix: "/prompt", categories: categories(), redacted, ..prompt };
                let answer = response(votes("response_label"));
                let answer = Part { suffix: "/response", categories: categories(), ..answer };
                layout(Some("id"), vec![prompt, answer])
            }
            Self::ToxicChat => {
                let kind =
                    KindAt::Flag { field: "jailbreaking".into(), yes: "jailbreak", no: "no jailbreak" };
                let part = Part { kind, ..part("user_input", Role::User, votes("toxicity")) };
                layout(Some("conv_id"), vec![part])
            }
            Self::WildGuardMix => {
                let kind = || KindAt::Flag { field: "adversarial".into(), yes: "adversarial", no: "vanilla" };
                let categories = || named("subcategory", false, WILDGUARD);
                let prompt = part("prompt", Role::User, votes("prompt_harm_label"));
                let prompt = Part { suffix: "/prompt", categories: categories(), kind: kind(), ..prompt };
                let answer = response(votes("response_harm_label"));
                let answer = Part { suffix: "/response", categories: categories(), kind: kind(), ..answer };
                layout(None, vec![prompt, answer])
            }
            Self::BeaverTails => {
                let words = |words: [&str; 3]| words.map(str::to_owned).to_vec();
                let answer = response(votes("is_safe"));
                let answer = Part { categories: named("category", false, BEAVERTAILS), ..answer };
                let mut layout = layout(None, vec![answer]);
                layout.meaning.unsafe_words = words(["false", "0", "0.0"]);
                layout.meaning.safe_words = words(["true", "1", "1.0"]);
                layout
            }
            Self::OpenAiModeration => {
                let part = part("prompt", Role::User, harms(OPENAI));
                layout(None, vec![Part { categories: CategoriesAt::Label, ..part }])
            }
            Self::Jigsaw => {
                let part = part("comment_text", Role::User, harms(JIGSAW));
                layout(Some("id"), vec![Part { categories: CategoriesAt::Label, ..part }])
            }
            Self::HateCheck => {
                let part = part("test_case", Role::User, votes("label_gold"));
                let kind = KindAt::Field("functionality".into());
                let categories = named("target_ident", false, &[]);
                layout(None, vec![Part { categories, kind, language: Some("language".into()), ..part }])
            }
        }
    }
}

/// Returns the target and the categories of lists of categories, one by each annotator. A harm makes a vote unsafe,
/// `Needs Caution` alone has its own value. A category counts if two annotators name it, or the only one.
pub(super) fn category_votes<'f>(
    fields: &'f [Field],
    caution: f64,
    row: &Value,
) -> Result<TargetAndCategories, (&'f Field, &'static str)> {
    let (mut votes, mut annotators) = (Votes::default(), 0);
    let mut named: BTreeMap<&'static str, usize> = BTreeMap::new();
    for field in fields {
        let Some(value) = field.get(row) else { continue };
        let text = value.as_str().ok_or((field, "is not a text"))?;
        if text.trim().is_empty() || text.trim().eq_ignore_ascii_case("none") {
            continue;
        }
        let (mut vote, mut own): (Option<f64>, Vec<&'static str>) = (None, Vec::new());
        for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let value = if name.eq_ignore_ascii_case("safe") {
                0.0
            } else {
                let known = AEGIS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
                let (_, slug) = known.ok_or((field, "names a category that Aegis 1.0 does not have"))?;
                own.push(slug);
                if *slug == "needs-caution" { caution } else { 1.0 }
            };
            vote = Some(vote.map_or(value, |known: f64| known.max(value)));
        }
        if let Some(vote) = vote {
            votes.add(vote, 1.0);
            annotators += 1;
            own.sort_unstable();
            own.dedup();
            own.into_iter().for_each(|slug| *named.entry(slug).or_default() += 1);
        }
    }
    let needed = annotators.min(2);
    let categories = named.into_iter().filter(|(_, count)| *count >= needed);
    Ok((votes.mean(), categories.map(|(slug, _)| slug.to_owned()).collect()))
}

/// Words of data sets for roles. The other words are those of chats.
const ROLES: [(&str, Speaker); 12] = [
    ("user", Speaker::User),
    ("human", Speaker::User),
    ("prompter", Speaker::User),
    ("user_message", Speaker::User),
    ("assistant", Speaker::Assistant),
    ("gpt", Speaker::Assistant),
    ("bot", Speaker::Assistant),
    ("model", Speaker::Assistant),
    ("llm_response", Speaker::Assistant),
    ("system", Speaker::System),
    ("tool", Speaker::Tool),
    ("function", Speaker::Tool),
];

/// Returns the role that a word of a data set stands for. A conversation in one text counts as the user's.
pub(super) fn role(word: &str) -> Option<Role> {
    let word = word.trim().to_lowercase();
    if matches!(word.as_str(), "multi_turn" | "combined" | "conversation") {
        return Some(Role::User);
    }
    ROLES.iter().find(|(known, _)| *known == word).map(|(_, speaker)| (*speaker).into())
}

/// Returns the words for roles in lists of turns.
pub(super) fn speakers() -> BTreeMap<String, Speaker> {
    ROLES.iter().map(|(word, speaker)| ((*word).to_owned(), *speaker)).collect()
}
