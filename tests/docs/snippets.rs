//! The TOML and JSON that pages show is accepted by the program.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use aegis::codec::{Defaults, decode_event, decode_label};
use aegis::config::{Policies, load};
use aegis::experts::rules::Rules;
use aegis::experts::{Panel, PanelConfig};
use aegis::guards::GuardSpec;
use serde_json::Value;

use crate::page::{Page, names, root};
use crate::support::identity::identity;

/// Loads a configuration; the secrets that it names are files here.
fn configuration(folder: &Path, mut table: toml::Table) -> Result<(), String> {
    let mut secret = |value: &mut toml::Value| {
        let name = value.as_str().unwrap_or_default().replace('/', "-");
        fs::write(folder.join(&name), "secret").unwrap();
        *value = name.into();
    };
    let secrets = table.get_mut("kafka").and_then(|kafka| kafka.get_mut("secrets"));
    secrets.into_iter().filter_map(toml::Value::as_table_mut).flatten().for_each(|(_, file)| secret(file));
    for (section, key) in [("registry", "password_file"), ("console", "proxy_secret_file")] {
        table.get_mut(section).and_then(|section| section.get_mut(key)).map(&mut secret);
    }
    let moderation = table.get_mut("http").and_then(|http| http.get_mut("moderation"));
    if let Some(file) = moderation.and_then(|moderation| moderation.get_mut("record_key_file")) {
        fs::write(folder.join("record-key"), "k".repeat(32)).unwrap();
        *file = "record-key".into();
    }
    // Pages name these files without showing them.
    fs::copy(root().join("config/policies.toml"), folder.join("policies.toml")).unwrap();
    let file = folder.join("aegis.toml");
    fs::write(&file, table.to_string()).unwrap();
    let loaded = load(&file, BTreeMap::new(), &[]).map_err(|error| error.to_string())?;
    let checked = aegis::kafka::Connection {
        settings: loaded.config.kafka.settings,
        ..aegis::kafka::Connection::new(loaded.config.kafka.brokers)
    }
    .check();
    match checked {
        // A build without the feature knows these settings, and refuses them: tests/services/oidc.
        Ok(()) | Err(aegis::kafka::RefusedSetting::NoOidc { .. }) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// Writes the secrets and certificates that a remote expert's manifest names.
fn remote_files(folder: &Path, endpoint: &mut toml::Value) {
    let put = |file: &mut toml::Value, name: &str, content: &[u8]| {
        fs::write(folder.join(name), content).unwrap();
        *file = name.into();
    };
    if let Some(file) = endpoint.get_mut("authorities") {
        let authority = identity("authority", 1, None);
        put(file, "authorities.pem", &authority.certificate.to_pem().unwrap());
    }
    let headers = endpoint.get_mut("headers").and_then(toml::Value::as_table_mut);
    headers.into_iter().flatten().for_each(|(name, file)| put(file, name, b"secret"));
    if let Some(file) = endpoint.get_mut("key_file") {
        put(file, "key", b"secret");
    }
}

/// Reads an expert's manifest to where the graph is asked for, which no page can show.
fn manifest(folder: &Path, mut table: toml::Table) -> Result<(), String> {
    // A page leaves hashes out.
    let hash = |section: &mut toml::Value| {
        if let Some(hash) = section.get_mut("sha256") {
            *hash = "0".repeat(64).into();
        }
    };
    for (_, section) in &mut table {
        hash(section);
        let listed = section.get_mut("external_data").and_then(toml::Value::as_array_mut);
        listed.into_iter().flatten().for_each(hash);
    }
    let id = table["id"].as_str().ok_or("an expert without an id")?.to_owned();
    fs::create_dir_all(folder.join(&id)).unwrap();
    if let Some(endpoint) = table.get_mut("endpoint") {
        remote_files(&folder.join(&id), endpoint);
    }
    fs::write(folder.join(&id).join("manifest.toml"), table.to_string()).unwrap();
    match Panel::open(PanelConfig::new(folder)) {
        Ok(_) => Ok(()),
        Err(error) if error.to_string().contains("model.onnx") => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

fn toml_loads(text: &str) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| error.to_string())?;
    let has = |key: &str| table.contains_key(key);
    if has("kind") {
        return manifest(folder.path(), table);
    }
    if has("extends") {
        return GuardSpec::parse(text).map(drop).map_err(|error| error.to_string());
    }
    if has("terms") || has("patterns") {
        return Rules::parse(Path::new("rules.toml"), text).map(drop).map_err(|error| error.to_string());
    }
    if has("taxonomy") || table.get("policies").is_some_and(toml::Value::is_table) {
        let file = folder.path().join("policies.toml");
        fs::write(&file, text).unwrap();
        return Policies::read(&file).map(drop).map_err(|error| error.to_string());
    }
    configuration(folder.path(), table)
}

/// An event or a label by its fields; a replay's line, a decision and anybody else's must only be JSON.
fn json_is_taken(text: &str) -> Result<(), String> {
    let values: Vec<Value> = serde_json::Deserializer::from_str(text)
        .into_iter()
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())?;
    if values.is_empty() {
        return Err("nothing".to_owned());
    }
    let defaults =
        Defaults { tenant: "default".to_owned(), policy: "default".to_owned(), ..Defaults::default() };
    for value in values {
        let bytes = value.to_string().into_bytes();
        let has = |field: &str| value.get(field).is_some();
        let taken = match () {
            () if has("votes") || has("aegis") || has("action") => Ok(()),
            () if has("event_id") => decode_label(&bytes, &defaults).map(drop),
            () if has("id") && (has("text") || has("turns")) => decode_event(&bytes, &defaults).map(drop),
            () => Ok(()),
        };
        taken.map_err(|error| error.to_string())?;
    }
    Ok(())
}

#[test]
fn every_snippet_is_taken() {
    let mut wrong = Vec::new();
    let (mut toml, mut json) = (0, 0);
    for name in names() {
        for block in Page::read(&name).blocks {
            let taken = match block.language.as_str() {
                "toml" => {
                    toml += 1;
                    toml_loads(&block.text())
                }
                "json" => {
                    json += 1;
                    json_is_taken(&block.text())
                }
                _ => Ok(()),
            };
            wrong.extend(taken.err().map(|why| format!("{name}:{}: {why}", block.line)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(toml > 5 && json > 3, "only {toml} snippets of TOML and {json} of JSON are found");
}

#[test]
fn a_wrong_snippet_is_told() {
    for wrong in [
        "[score]\nwindwo = 1",
        "[policies.default]\nmin_awkae = 2",
        "[kafka.settings]\nacks = \"0\"",
        "[[terms]]\ncategory = \"hate\"",
        "id = \"x\"\nkind = \"classifier\"\nnothing = 1",
        "a = ",
    ] {
        assert!(toml_loads(wrong).is_err(), "{wrong}");
    }
    for wrong in ["{\"event_id\": \"e\"}", "{\"id\": \"e\", \"text\": 1}", "{", ""] {
        assert!(json_is_taken(wrong).is_err(), "{wrong}");
    }
}

/// The names that a bundled expert gives scores to.
fn categories(expert: &str) -> Vec<String> {
    let folder = root().join("models").join(expert);
    let files = ["manifest.toml", "rules.toml"].map(|name| fs::read_to_string(folder.join(name)));
    let text: String = files.into_iter().flatten().collect();
    let named = text.lines().filter_map(|line| line.strip_prefix("category = "));
    named.map(|name| name.trim_matches('"').to_owned()).collect()
}

#[test]
fn categories_are_mapped_to_what_there_is() {
    let taxonomy = Policies::read(&root().join("config/policies.toml")).unwrap().taxonomy;
    let code = regex::Regex::new("`([^`]+)`").unwrap();
    let codes =
        |cell: &str| -> Vec<String> { code.captures_iter(cell).map(|found| found[1].to_owned()).collect() };
    let mut rows = 0;
    for (line, text) in Page::read("docs/coming-from.md").prose {
        let cells: Vec<_> = text.split('|').map(str::trim).collect();
        let [_, _, slugs, experts, _] = cells[..] else { continue };
        for slug in codes(slugs) {
            assert!(taxonomy.iter().any(|category| category.slug == slug), "line {line}: no category {slug}");
            for expert in codes(experts) {
                assert!(categories(&expert).contains(&slug), "line {line}: {expert} gives no {slug}");
                rows += 1;
            }
        }
    }
    assert!(rows > 30, "only {rows} are found");
}
