//! The JSON Schema of the settings and docs/configuration.md, both generated from the types and their comments.

use std::fmt::Write as _;

use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::policies::File;
use super::{Config, overlay};

/// Returns the JSON Schema (2020-12) of the configuration file.
#[must_use]
pub fn schema() -> Value {
    generate::<Config>()
}

/// Returns the JSON Schema (2020-12) of the policies file.
#[must_use]
pub fn policies_schema() -> Value {
    generate::<File>()
}

fn generate<T: schemars::JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<T>().to_value()
}

/// Returns the text of docs/configuration.md.
#[must_use]
pub fn document() -> String {
    let mut page = String::from(
        "# Configuration\n\n\
         The configuration is one TOML file: the one that `--config FILE` or `AEGIS_CONFIG` names, or else\n\
         `aegis.toml` in the working folder, or else `config/aegis.toml` there. The environment (`AEGIS__SECTION__KEY`)\n\
         overrides it, and `--set section.key=value` overrides both. An unknown key is an error that names the nearest\n\
         known one. `aegis config show` prints the values in effect and their sources, and `aegis config schema` prints\n\
         the JSON Schema of this page, which is generated from the code. Paths are relative to the file's folder.\n\n\
         `aegis replay`, `report`, `labels stats` and `evaluate` read files without any configuration unless one is named, so\n\
         that their results do not depend on the folder in which they run.\n\n\
         Most files set only `kafka.brokers`, `policies`, `experts.folder`, `learn.store`, and perhaps the names in `[topics]`\n\
         and `score.encoding`; [quick-start.md](quick-start.md) has an example. The sections below are in alphabetical order.\n",
    );
    let schema = schema();
    let (sections, keys): (Vec<_>, Vec<_>) =
        properties(&schema).into_iter().partition(|(_, one)| one.get("properties").is_some());
    let top: Vec<_> = keys.into_iter().map(|(name, schema)| (name.clone(), schema)).collect();
    table(&mut page, "Outside of all sections", "", &top, true);
    for (name, section) in sections {
        let (inner, keys): (Vec<_>, Vec<_>) =
            properties(section).into_iter().partition(|(_, one)| one.get("properties").is_some());
        for (name, section) in std::iter::once((name.clone(), keys))
            .chain(inner.into_iter().map(|(inner, section)| (format!("{name}.{inner}"), properties(section))))
        {
            let keys: Vec<_> = section.into_iter().map(|(key, one)| (key.clone(), one)).collect();
            table(&mut page, &format!("`[{name}]`"), &name, &keys, true);
        }
    }
    page.push_str(
        "\n# Policies\n\n\
         The file that `policies` names. `aegis run` reads it again when it changes: see operating.md.\n",
    );
    let schema = policies_schema();
    let of = |schema: &Value, name: &str| schema.pointer(name).expect("the schema has this part").clone();
    let policy = of(&schema, "/properties/policies/additionalProperties");
    for (title, part) in [
        ("`[policies.NAME]`", policy.clone()),
        ("`[policies.NAME.parameters]`", of(&policy, "/properties/parameters")),
        ("`[policies.NAME.categories.SLUG]`", of(&policy, "/properties/categories/additionalProperties")),
        ("`[[taxonomy]]`", of(&schema, "/properties/taxonomy/items")),
    ] {
        let keys = properties(&part);
        let keys: Vec<_> = keys
            .into_iter()
            .filter(|(name, _)| !["parameters", "categories"].contains(&name.as_str()))
            .map(|(name, schema)| (name.clone(), schema))
            .collect();
        table(&mut page, title, "", &keys, false);
    }
    page
}

fn properties(schema: &Value) -> Vec<(&String, &Value)> {
    schema.get("properties").and_then(Value::as_object).into_iter().flatten().collect()
}

fn table(page: &mut String, title: &str, section: &str, keys: &[(String, &Value)], environment: bool) {
    // Writing to a String cannot fail.
    let _ = write!(page, "\n## {title}\n\n| Key | Type | Default |");
    page.push_str(if environment { " Environment |" } else { "" });
    page.push_str(" Meaning |\n|---|---|---|");
    page.push_str(if environment { "---|---|\n" } else { "---|\n" });
    for (name, schema) in keys {
        let default = match schema.get("default") {
            None | Some(Value::Null) => "–".to_owned(),
            Some(value) => format!("`{value}`"),
        };
        let _ = write!(page, "| `{name}` | {} | {default} |", type_name(schema));
        if environment {
            let key = if section.is_empty() { name.clone() } else { format!("{section}.{name}") };
            let _ = write!(page, " `{}` |", overlay::variable(&key));
        }
        let _ = writeln!(page, " {} |", description(schema));
    }
}

/// Returns the type of a value, or the words that it accepts.
fn type_name(schema: &Value) -> String {
    let choices = choices(schema);
    if !choices.is_empty() {
        let words: Vec<_> = choices.iter().map(|(word, _)| format!("`{word}`")).collect();
        return words.join(", ");
    }
    if let Some(any) = schema.get("anyOf").and_then(Value::as_array) {
        return any.iter().map(type_name).collect::<Vec<_>>().join(" or ");
    }
    let name = match schema.get("type") {
        Some(Value::String(name)) => name.as_str(),
        Some(Value::Array(names)) => names.first().and_then(Value::as_str).unwrap_or("any"),
        _ => "any",
    };
    let items = || schema.get("items").and_then(|items| items.get("type")).and_then(Value::as_str);
    match (name, items()) {
        ("array", Some(items)) => format!("list of {items}s"),
        ("object", _) => "table".into(),
        _ => name.into(),
    }
}

/// Returns the words of an enum with their descriptions.
fn choices(schema: &Value) -> Vec<(&str, &str)> {
    let each = schema.get("oneOf").and_then(Value::as_array).into_iter().flatten();
    each.filter_map(|one| {
        let word = one.get("const").and_then(Value::as_str)?;
        Some((word, one.get("description").and_then(Value::as_str).unwrap_or_default()))
    })
    .collect()
}

/// Returns the description of a setting, followed by those of an enum's words.
fn description(schema: &Value) -> String {
    let text = schema.get("description").and_then(Value::as_str).unwrap_or_default();
    let mut text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for (word, description) in choices(schema) {
        let _ = write!(text, " `{word}`: {}", description.split_whitespace().collect::<Vec<_>>().join(" "));
    }
    text.replace("\\[", "[").replace("\\]", "]").replace('|', "\\|")
}
