//! The environment and `--set`, which override the file, and errors that name the nearest known key.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use toml::{Table, Value};

use super::ConfigError;

const PREFIX: &str = "AEGIS__";

/// Sets the values of `AEGIS__SECTION__KEY=value` in the table. Returns the keys that it sets.
pub fn environment(table: &mut Table, variables: impl IntoIterator<Item = (String, String)>) -> Vec<String> {
    let mut found: Vec<_> = variables
        .into_iter()
        .filter_map(|(name, value)| Some((name.strip_prefix(PREFIX)?.to_lowercase(), value)))
        .collect();
    found.sort();
    let mut keys = Vec::with_capacity(found.len());
    for (name, value) in found {
        let mut path: Vec<String> = name.split("__").map(str::to_owned).collect();
        if let [kafka, settings, name] = path.as_mut_slice()
            && kafka == "kafka"
            && (settings == "settings" || settings == "secrets")
        {
            // librdkafka's names contain dots, which shell variables cannot contain.
            *name = name.replace('_', ".");
        }
        if let [traces, secrets, name] = path.as_mut_slice()
            && traces == "traces"
            && secrets == "secrets"
        {
            // Header names contain hyphens, which shell variables cannot contain.
            *name = name.replace('_', "-");
        }
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        put(table, &path, &value);
        keys.push(path.join("."));
    }
    keys
}

/// Returns the environment variable of a key.
pub fn variable(key: &str) -> String {
    let (section, name) = ["kafka.settings.", "kafka.secrets.", "traces.secrets."]
        .iter()
        .find_map(|table| Some((*table, key.strip_prefix(table)?.replace(['.', '-'], "_"))))
        .unwrap_or(("", key.to_owned()));
    format!("{PREFIX}{}", format!("{section}{name}").to_uppercase().replace('.', "__"))
}

/// Sets the values of `section.key=value` arguments in the table. Returns the keys that they set.
pub fn sets(table: &mut Table, sets: &[String]) -> Result<Vec<String>, ConfigError> {
    let mut keys = Vec::with_capacity(sets.len());
    for given in sets {
        let refuse = || ConfigError::Set { given: given.split('=').next().unwrap_or_default().into() };
        let (key, value) = given.split_once('=').ok_or_else(refuse)?;
        // librdkafka's names contain dots: everything after kafka.settings. or kafka.secrets. is one key.
        let path: Vec<&str> = match key.splitn(3, '.').collect::<Vec<_>>().as_slice() {
            ["kafka", table @ ("settings" | "secrets"), name] => vec!["kafka", table, name],
            _ => key.split('.').collect(),
        };
        if path.iter().any(|part| part.is_empty()) {
            return Err(refuse());
        }
        put(table, &path, value);
        keys.push(key.to_owned());
    }
    Ok(keys)
}

fn put(table: &mut Table, path: &[&str], value: &str) {
    match path {
        [] => {}
        [key] => {
            table.insert((*key).to_owned(), parse_value(value));
        }
        [section, rest @ ..] => {
            let inner = table.entry((*section).to_owned()).or_insert_with(|| Value::Table(Table::new()));
            if !inner.is_table() {
                *inner = Value::Table(Table::new());
            }
            if let Value::Table(inner) = inner {
                put(inner, rest, value);
            }
        }
    }
}

/// Parses a TOML value. Anything else is a string, so that `--set topics.events=chats` needs no quotes.
fn parse_value(value: &str) -> Value {
    let parsed: Option<Table> = format!("value = {value}").parse().ok();
    parsed.and_then(|mut table| table.remove("value")).unwrap_or_else(|| Value::String(value.to_owned()))
}

/// Deserializes a map of strings whose values may also be written as numbers or booleans.
pub fn strings<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, String>, D::Error> {
    let values = BTreeMap::<String, Value>::deserialize(from)?;
    let text = |value| match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    Ok(values.into_iter().map(|(key, value)| (key, text(value))).collect())
}

/// Describes an error in one line, with the key. For an unknown key it names the nearest known one.
pub fn explain(error: &toml::de::Error) -> String {
    let message = error.message();
    let mut names = message.split('`').skip(1).step_by(2);
    let nearest = message.starts_with("unknown field").then(|| {
        let wrong = names.next()?;
        names.min_by_key(|name| distance(wrong, name))
    });
    let shown = error.to_string();
    let key = shown.lines().find_map(|line| line.strip_prefix("in `")?.strip_suffix('`'));
    let key = key.map_or_else(String::new, |key| format!("{key}: "));
    match nearest.flatten() {
        Some(name) => {
            let what = message.split(", expected").next().unwrap_or(message);
            format!("{key}{what}; did you mean `{name}`?")
        }
        None => format!("{key}{}", plain(message)),
    }
}

/// Replaces the names of Rust's number types.
fn plain(message: &str) -> String {
    let (what, kind) = message.rsplit_once("expected ").unwrap_or((message, ""));
    match kind {
        "usize" | "u64" | "u32" => format!("{what}expected a whole number"),
        "f64" => format!("{what}expected a number"),
        _ => message.to_owned(),
    }
}

/// Returns the edit distance (Levenshtein).
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (line, a) in from.chars().enumerate() {
        let mut diagonal = line;
        let mut left = line + 1;
        for (cell, b) in row.iter_mut().skip(1).zip(&to) {
            let above = *cell;
            let replaced = diagonal + usize::from(a != *b);
            *cell = replaced.min(above + 1).min(left + 1);
            left = *cell;
            diagonal = above;
        }
        if let Some(first) = row.first_mut() {
            *first = line + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn table(text: &str) -> Table {
        text.parse().unwrap()
    }

    #[test]
    fn environment_and_sets_override_the_file() {
        let mut table = table("[topics]\nevents = 'a'\ndecisions = 'a'\nlabels = 'a'");
        environment(
            &mut table,
            [("AEGIS__TOPICS__DECISIONS".into(), "b".into()), ("AEGIS__TOPICS__LABELS".into(), "b".into())],
        );
        sets(&mut table, &["topics.labels=c".into(), "kafka.settings.sasl.password=1234".into()]).unwrap();
        sets(&mut table, &["score.window=7".into()]).unwrap();
        environment(&mut table, [("AEGIS__KAFKA__SETTINGS__SSL_KEY_PASSWORD".into(), "k".into())]);
        let Config { topics, score, kafka, .. } = table.try_into().unwrap();
        assert_eq!(kafka.settings.get("sasl.password").map(String::as_str), Some("1234"));
        assert_eq!(kafka.settings.get("ssl.key.password").map(String::as_str), Some("k"));
        assert_eq!((&*topics.events, &*topics.decisions, &*topics.labels), ("a", "b", "c"));
        assert_eq!(score.window, 7);
    }

    #[test]
    fn an_unknown_key_is_refused_and_the_nearest_named() {
        let error = table("[score]\nwindwo = 3").try_into::<Config>().unwrap_err();
        assert_eq!(explain(&error), "score: unknown field `windwo`; did you mean `window`?");
    }

    #[test]
    fn a_wrong_value_is_named_with_its_key() {
        let error = table("[score]\nwindow = 'wide'").try_into::<Config>().unwrap_err();
        assert_eq!(explain(&error), "score.window: invalid type: string \"wide\", expected a whole number");
    }

    #[test]
    fn a_set_without_a_value_is_refused_without_repeating_it() {
        for bad in ["topics.events", "=3", "a..b=3"] {
            assert!(sets(&mut Table::new(), &[bad.into()]).is_err(), "{bad}");
        }
    }

    #[test]
    fn edit_distance() {
        assert_eq!(
            (distance("windwo", "window"), distance("", "ab"), distance("kitten", "sitting")),
            (2, 2, 3)
        );
    }
}
