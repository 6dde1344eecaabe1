//! Checks that the fields of a spec agree with each other.

use super::error::SpecError;
use super::raw::{Grammar, History};
use super::spec::GuardSpec;
use super::template::{PLACEHOLDER, PROMPT, Piece};
use crate::core::event::Role;

/// The greatest number of categories.
const MAX_CATEGORIES: usize = 256;
/// The greatest number of tokens of an answer that a spec may allow.
const MAX_ANSWER_TOKENS: usize = 4_096;
/// The greatest length of a name.
const MAX_NAME: usize = 64;

/// Checks that the fields are in their ranges and agree with each other.
///
/// # Errors
/// Returns `Invalid` for the first field that is not.
pub(super) fn validate(spec: &GuardSpec) -> Result<(), SpecError> {
    let raw = &spec.raw;
    let invalid =
        |field: &str, problem: &str, remedy: &str| Err(SpecError::invalid(&raw.name, field, problem, remedy));
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if raw.name.is_empty() || raw.name.len() > MAX_NAME || !raw.name.bytes().all(plain) {
        return invalid("name", "is not 1 to 64 letters, digits, -, _ or .", "choose such a name");
    }
    if !(raw.off_template_limit > 0.0 && raw.off_template_limit <= 1.0) {
        return invalid("off_template_limit", "is not in (0, 1]", "0.5 is usual; 1 turns the check off");
    }
    if !(1..=MAX_ANSWER_TOKENS).contains(&raw.answer.max_tokens) {
        return invalid("answer.max_tokens", "is not 1 to 4096", "30 is enough for a verdict and codes");
    }
    if raw.context <= raw.answer.max_tokens {
        return invalid("context", "is not more than answer.max_tokens", "give the model's context size");
    }
    if serde_json::to_string(raw).unwrap_or_default().contains(PLACEHOLDER) {
        return invalid("the file", "contains U+F0000 or U+F0001", "remove these characters");
    }
    validate_verdict(spec)?;
    validate_answer(spec)?;
    validate_categories(spec)?;
    validate_control(spec)?;
    validate_roles(spec)
}

fn validate_verdict(spec: &GuardSpec) -> Result<(), SpecError> {
    let invalid = |field: &str, problem: String, remedy: &str| {
        Err(SpecError::invalid(spec.name(), field, problem, remedy))
    };
    let (harmful, safe) = (spec.harmful_strings(), spec.safe_strings());
    for (field, words) in [("verdict.unsafe", harmful), ("verdict.safe", safe)] {
        if words.is_empty() || words.iter().any(String::is_empty) {
            return invalid(field, "is empty".to_owned(), "name the text that follows the prompt");
        }
    }
    if let Some(both) = harmful.iter().find(|word| safe.contains(word)) {
        return invalid(
            "verdict.safe",
            format!("{both:?} is also in verdict.unsafe"),
            "keep it in one of them",
        );
    }
    Ok(())
}

fn validate_answer(spec: &GuardSpec) -> Result<(), SpecError> {
    let answer = spec.answer();
    if matches!(spec.grammar(), Grammar::Lines | Grammar::Json | Grammar::Tag) {
        for role in spec.judged_roles() {
            if answer.harmful.as_ref().and_then(|keys| keys.of(*role)).is_none() {
                let problem = format!("has no key for {}", role.word());
                let remedy = "name the key or tag of the verdict for each judged role";
                return Err(SpecError::invalid(spec.name(), "answer.harmful", problem, remedy));
            }
        }
    }
    Ok(())
}

fn validate_categories(spec: &GuardSpec) -> Result<(), SpecError> {
    let invalid =
        |problem: String, remedy: &str| Err(SpecError::invalid(spec.name(), "categories", problem, remedy));
    let categories = &spec.raw.categories;
    if categories.len() > MAX_CATEGORIES {
        return invalid(format!("has more than {MAX_CATEGORIES} entries"), "remove some");
    }
    for (index, category) in categories.iter().enumerate() {
        let code = category.code.trim();
        if code.is_empty() || category.category.is_empty() || code.contains([',', '\n']) {
            return invalid(format!("entry {index} has no code or no category, or a comma"), "complete it");
        }
        if categories[..index].iter().any(|other| other.code.eq_ignore_ascii_case(code)) {
            return invalid(format!("{code} is there twice"), "remove one of them");
        }
    }
    Ok(())
}

/// Checks the control tokens, and that BOS is written or added, never both.
fn validate_control(spec: &GuardSpec) -> Result<(), SpecError> {
    let invalid = |field: &str, problem: String, remedy: &str| {
        Err(SpecError::invalid(spec.name(), field, problem, remedy))
    };
    let template = &spec.raw.template;
    if template.control.iter().any(String::is_empty) {
        return invalid("template.control", "has an empty entry".to_owned(), "remove it");
    }
    if let Some(token) = template.control.iter().find(|token| spec.raw.policy.contains(token.as_str())) {
        return invalid("policy", format!("contains the control token {token}"), "remove it from the text");
    }
    if template.bos_written.is_some() && template.bos_added.is_some() {
        let remedy = "keep one: the token is written by the template, or put before it";
        return invalid("template.bos_added", "stands beside bos_written".to_owned(), remedy);
    }
    let Some((token, written)) = spec.bos() else { return Ok(()) };
    for role in spec.judged_roles() {
        let pieces = probe(spec, &[*role])?;
        let is_bos = |piece: &Piece| matches!(piece, Piece::Control(at) if template.control[*at] == token);
        let count = pieces.iter().filter(|piece| is_bos(piece)).count();
        if written && (count != 1 || !pieces.first().is_some_and(is_bos)) {
            let remedy = "begin the template with it, once, and list it in template.control";
            return invalid(
                "template.bos_written",
                format!("the template does not begin with {token}"),
                remedy,
            );
        }
        let begins = matches!(pieces.first(), Some(Piece::Words(words)) if words.starts_with(token));
        if !written && (count > 0 || begins) {
            let remedy = "remove it from the template, or use bos_written";
            return invalid("template.bos_added", format!("the template writes {token} as well"), remedy);
        }
    }
    Ok(())
}

/// Renders probes: each judged role alone, and behind a turn of every role that has a word.
fn validate_roles(spec: &GuardSpec) -> Result<(), SpecError> {
    let invalid = |field: &str, problem: String, remedy: &str| {
        Err(SpecError::invalid(spec.name(), field, problem, remedy))
    };
    if spec.judged_roles().is_empty() {
        return invalid("roles.judged", "is empty".to_owned(), "name the roles of which turns are judged");
    }
    if let Some(role) = spec.next_token_roles().iter().find(|role| !spec.judges(**role)) {
        let problem = format!("{} is not in roles.judged", role.word());
        return invalid("verdict.next_token", problem, "add it there, or remove it here");
    }
    for &judged in spec.judged_roles() {
        if spec.role_word(judged).is_none() {
            let remedy = "give the template's word for it";
            return invalid(&format!("roles.{}", judged.word()), "is missing, but judged".to_owned(), remedy);
        }
        let before: Vec<Role> = match spec.history() {
            History::All => Role::ALL.into_iter().filter(|role| spec.role_word(*role).is_some()).collect(),
            History::Question if judged == Role::Assistant => vec![Role::User],
            History::Question => Vec::new(),
        };
        let shown: Vec<Role> = before.into_iter().chain([judged]).collect();
        for shown in [&shown[shown.len() - 1..], &shown[..]] {
            let pieces = probe(spec, shown)?;
            for (index, role) in shown.iter().enumerate() {
                let count = pieces.iter().filter(|piece| **piece == Piece::Text(index)).count();
                if count != 1 {
                    let kind = if index + 1 == shown.len() { "judged" } else { "earlier" };
                    let problem = format!("shows the {kind} turn of the {} {count} times", role.word());
                    let remedy = "insert the text of each turn once; docs/guards.md lists the values";
                    return invalid(PROMPT, problem, remedy);
                }
            }
        }
    }
    Ok(())
}

fn probe(spec: &GuardSpec, shown: &[Role]) -> Result<Vec<Piece>, SpecError> {
    spec.pieces(shown).map_err(|(field, problem)| {
        SpecError::invalid(
            spec.name(),
            &field,
            problem,
            "correct the template; docs/guards.md lists the values",
        )
    })
}

/// Checks that the template shows the policy text.
///
/// # Errors
/// Returns `Invalid` if it does not, or if the text is blank.
pub(super) fn validate_own_policy(spec: &GuardSpec) -> Result<(), SpecError> {
    let policy = spec.raw.policy.as_str();
    if policy.trim().is_empty() {
        return Err(SpecError::invalid(spec.name(), "policy", "is blank", "write the categories' text"));
    }
    for role in spec.judged_roles() {
        let shown = |piece: &Piece| matches!(piece, Piece::Words(words) if words.contains(policy));
        if !probe(spec, &[*role])?.iter().any(shown) {
            let remedy = "use {{ policy }} in the template, or another spec";
            return Err(SpecError::invalid(spec.name(), "policy", "is not shown by the template", remedy));
        }
    }
    Ok(())
}
