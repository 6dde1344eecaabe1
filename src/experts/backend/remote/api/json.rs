//! Any API of JSON: a template makes the request, and labels are JSON pointers into the response.

use minijinja::value::Value as TemplateValue;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, context};
use serde_json::Value;

use super::{Judgement, parse, score};
use crate::core::event::{Conversation, Role, Turn};
use crate::experts::backend::result::RunError;
use crate::experts::error::Misfit;
use crate::experts::manifest::Scores;

/// The name of the template. Its ending makes the engine write values as JSON.
const TEMPLATE: &str = "request.body.json";
/// The greatest number of the engine's instructions for one request.
const FUEL: u64 = 1_000_000;
/// A text that is no JSON by itself, with which a template is tried.
const TRICKY: &str = "a \"quoted\" \\ text, with\nlines, \u{1}, </script> and 'apostrophes' {{ 1 }}";

/// The protocol with its template.
pub(in crate::experts::backend::remote) struct JsonApi {
    engine: Environment<'static>,
    model: String,
    scores: Scores,
}

/// Returns `true` if a text is among the strings of a value.
fn contains(value: &Value, text: &str) -> bool {
    match value {
        Value::String(found) => found.contains(text),
        Value::Array(values) => values.iter().any(|value| contains(value, text)),
        Value::Object(values) => values.values().any(|value| contains(value, text)),
        _ => false,
    }
}

impl JsonApi {
    /// Compiles the template and tries it.
    pub(super) fn new(model: String, body: &str, scores: Scores) -> Result<Self, Misfit> {
        const FIELD: &str = "request.body";
        let mut engine = Environment::new();
        engine.set_undefined_behavior(UndefinedBehavior::Strict);
        engine.set_auto_escape_callback(|_| AutoEscape::Json);
        engine.set_fuel(Some(FUEL));
        engine.add_template_owned(TEMPLATE, body.to_owned()).map_err(|error| {
            Misfit::new(FIELD, format!("is not a template: {error}"), "docs/remote-experts.md has examples")
        })?;
        let api = Self { engine, model, scores };
        let judged = Turn { role: Role::Assistant, text: TRICKY.to_owned() };
        let turns = vec![Turn { role: Role::User, text: "before".to_owned() }, judged];
        let request = api.request(&Conversation { turns, judged: 1 }).map_err(|error| {
            let remedy = "write values without quotes around them, such as {\"input\": {{ text }}}";
            Misfit::new(FIELD, error.detail, remedy)
        })?;
        let sent: Value = serde_json::from_slice(&request).unwrap_or_default();
        if !contains(&sent, TRICKY) {
            return Err(Misfit::new(FIELD, "leaves the judged text out", "use {{ text }} or {{ turns }}"));
        }
        Ok(api)
    }

    /// The body of a request. The template has `text` and `role` of the judged turn, `turns` up to it, and `model`.
    pub(super) fn request(&self, conversation: &Conversation) -> Result<Vec<u8>, RunError> {
        let turn = |turn: &Turn| context! { role => turn.role.word(), content => turn.text.as_str() };
        let turns: Vec<TemplateValue> = conversation.turns[..=conversation.judged].iter().map(turn).collect();
        let judged = conversation.judged_turn();
        let template = self.engine.get_template(TEMPLATE).map_err(RunError::failed)?;
        // The message of an engine's error may hold a value. Its kind does not.
        let body = template
            .render(context! { text => judged.text.as_str(), role => judged.role.word(), turns, model => self.model.as_str() })
            .map_err(|error| RunError::failed(format!("the template does not render: {}", error.kind())))?;
        // The template's own text may depend on the conversation.
        match serde_json::from_str::<serde::de::IgnoredAny>(&body) {
            Ok(_) => Ok(body.into_bytes()),
            Err(error) => {
                let (line, column) = (error.line(), error.column());
                Err(RunError::failed(format!("renders no JSON, line {line} column {column}")))
            }
        }
    }

    /// Reads a response. A label is a number or a truth value.
    pub(super) fn read(&self, response: &[u8]) -> Result<Judgement, RunError> {
        let response: Value = parse(response)?;
        let number = |name: &str| match response.pointer(name) {
            // Like the output of a graph.
            #[expect(clippy::cast_possible_truncation)]
            Some(Value::Number(number)) => number.as_f64().map(|number| number as f32),
            Some(Value::Bool(is_harmful)) => Some(f32::from(u8::from(*is_harmful))),
            _ => None,
        };
        let row = self.scores.labels.iter().map(|label| {
            number(&label.name).ok_or_else(|| {
                RunError::shape(format!(
                    "the response has no number at {}, which labels.name says",
                    label.name
                ))
            })
        });
        let row = row.collect::<Result<Vec<f32>, RunError>>()?;
        let revision = response.get("system_fingerprint").or_else(|| response.get("model"));
        let revision = revision.and_then(Value::as_str).filter(|named| *named != self.model);
        Ok(Judgement { score: score(&self.scores, &row)?, revision: revision.map(str::to_owned) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::vote::Abstention;
    use crate::experts::manifest::Label;

    fn scores() -> Scores {
        let label = |name: &str, category: Option<&str>| Label {
            name: name.to_owned(),
            category: category.map(str::to_owned),
            harmful: true,
        };
        Scores {
            output: String::new(),
            activation: None,
            read: None,
            labels: vec![label("/score", None), label("/parts/0/p", Some("hate"))],
            calibration: None,
        }
    }

    fn api(body: &str) -> Result<JsonApi, Misfit> {
        JsonApi::new("m".to_owned(), body, scores())
    }

    #[test]
    fn values_are_written_as_json() {
        let api = api(r#"{"m": {{ model }}, "in": {{ text }}, "turns": {{ turns }}}"#).unwrap();
        let conversation = Conversation::of_text(TRICKY);
        let body: Value = serde_json::from_slice(&api.request(&conversation).unwrap()).unwrap();
        assert_eq!((body["in"].as_str(), body["m"].as_str()), (Some(TRICKY), Some("m")));
        assert_eq!(body["turns"][0]["role"].as_str(), Some("user"));
        assert_eq!(body["turns"][0]["content"].as_str(), Some(TRICKY));
    }

    #[test]
    fn a_template_that_cannot_be_used_is_refused() {
        let problem = |body: &str| api(body).err().map(|misfit| misfit.problem).unwrap_or_default();
        assert!(problem("{\"in\": {{ text }").contains("is not a template"));
        assert!(problem("{\"in\": \"{{ text }}\"}").contains("no JSON"));
        assert!(problem("{\"in\": {{ message }}}").contains("does not render"));
        assert!(problem("{\"in\": \"text\"}").contains("leaves the judged text out"));
        let endless =
            "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}{{ text }}";
        assert!(problem(endless).contains("does not render"));
    }

    #[test]
    fn pointers_find_numbers() {
        let api = api("[{{ text }}]").unwrap();
        let (p, categories) = api.read(br#"{"score": true, "parts": [{"p": 0.25}]}"#).unwrap().score;
        assert_eq!((p, categories[0].category.as_str(), categories[0].score), (1.0, "hate", 0.25));
        let reason = |text: &str| api.read(text.as_bytes()).unwrap_err().reason;
        for text in ["", "<html>", "{\"score\": NaN}", "{\"score\": \"1\", \"parts\": []}", "{}", "[1]"] {
            assert_eq!(reason(text), Abstention::WrongShape, "{text}");
        }
        assert_eq!(reason(r#"{"score": 1e39, "parts": [{"p": 0}]}"#), Abstention::NotFinite);
        assert_eq!(reason(r#"{"score": 7, "parts": [{"p": 0}]}"#), Abstention::Failed);
        assert_eq!(reason(&"[".repeat(100_000)), Abstention::WrongShape);
    }
}
