//! `tuned.toml`, which `aegis tune` writes to the configuration's folder: settings measured on this machine. The
//! configuration, the environment and `--set` override it.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::ConfigError;

/// The name of the file.
pub const TUNED: &str = "tuned.toml";

/// The settings that the file may contain.
const SETTINGS: [(&str, &str); 7] = [
    ("experts", "sessions"),
    ("experts", "threads"),
    ("experts", "batch_tokens"),
    ("experts", "card_batch_tokens"),
    ("experts", "budgets"),
    ("experts", "card_budgets"),
    ("score", "window"),
];

/// The settings that the file contains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tuned {
    /// The file.
    pub path: PathBuf,
    /// The settings that are used.
    pub taken: Vec<String>,
    /// The settings that the configuration overrides.
    pub left: Vec<String>,
}

/// Adds the settings of the file in `folder`, if there is one, to `table`. Existing values stay.
pub(super) fn merge_into(table: &mut Table, folder: &Path) -> Result<Option<Tuned>, ConfigError> {
    let path = folder.join(TUNED);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(reason) => return Err(ConfigError::Read { path, reason }),
    };
    let found: Table = match text.parse() {
        Ok(found) => found,
        Err(error) => {
            let error = toml::de::Error::to_string(&error);
            let reason = format!("{}\nRun `aegis tune` again, or delete the file", error.trim_end());
            return Err(ConfigError::Toml { path, reason });
        }
    };
    let mut tuned = Tuned { path, taken: Vec::new(), left: Vec::new() };
    for (section, settings) in found {
        let Value::Table(settings) = settings else {
            return Err(unknown(tuned.path, &section));
        };
        for (setting, value) in settings {
            let name = format!("{section}.{setting}");
            if !SETTINGS.contains(&(section.as_str(), setting.as_str())) {
                return Err(unknown(tuned.path, &name));
            }
            let place = table.entry(section.as_str()).or_insert_with(|| Value::Table(Table::new()));
            tuned.add(place, &name, &setting, value);
        }
    }
    Ok(Some(tuned))
}

impl Tuned {
    /// Adds a value if the key has none; of a table, each value for itself.
    fn add(&mut self, place: &mut Value, name: &str, key: &str, value: Value) {
        let Some(place) = place.as_table_mut() else {
            return self.left.push(name.to_owned());
        };
        if let Value::Table(values) = value {
            let inner = place.entry(key).or_insert_with(|| Value::Table(Table::new()));
            for (key, value) in values {
                self.add(inner, &format!("{name}.{key}"), &key, value);
            }
        } else if place.contains_key(key) {
            self.left.push(name.to_owned());
        } else {
            place.insert(key.to_owned(), value);
            self.taken.push(name.to_owned());
        }
    }
}

fn unknown(path: PathBuf, name: &str) -> ConfigError {
    let names: Vec<String> =
        SETTINGS.iter().map(|(section, setting)| format!("{section}.{setting}")).collect();
    let reason = format!(
        "{name} is not tuned; only {} are. Run `aegis tune` again, or delete the file",
        names.join(", ")
    );
    ConfigError::Value { path, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lay(tuned: &str, config: &str) -> (Table, Result<Option<Tuned>, ConfigError>) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(TUNED), tuned).unwrap();
        let mut table: Table = config.parse().unwrap();
        let found = merge_into(&mut table, folder.path());
        (table, found)
    }

    #[test]
    fn the_configuration_overrides_it() {
        let (table, found) = lay(
            "[experts]\nsessions = 4\nbatch_tokens = 512\n[score]\nwindow = 64",
            "[experts]\nsessions = 1\n[log]\nlevel = 'warn'",
        );
        let found = found.unwrap().unwrap();
        assert_eq!(found.left, ["experts.sessions"]);
        assert_eq!(found.taken, ["experts.batch_tokens", "score.window"]);
        let expected =
            "[experts]\nsessions = 1\nbatch_tokens = 512\n[log]\nlevel = 'warn'\n[score]\nwindow = 64";
        assert_eq!(table, expected.parse().unwrap());
    }

    #[test]
    fn budgets_are_merged_by_expert() {
        let (table, found) = lay(
            "[experts]\nbudgets = { a = 1, b-c = 2 }\ncard_budgets = { a = 3 }",
            "[experts]\nbudgets = { a = 9 }\ncard_budgets = 5",
        );
        let found = found.unwrap().unwrap();
        assert_eq!(found.taken, ["experts.budgets.b-c"]);
        assert_eq!(found.left, ["experts.budgets.a", "experts.card_budgets.a"]);
        let expected = "[experts]\nbudgets = { a = 9, b-c = 2 }\ncard_budgets = 5";
        assert_eq!(table, expected.parse().unwrap());
    }

    #[test]
    fn other_settings_are_refused() {
        for bad in ["[kafka]\nbrokers = 'x'", "[experts]\nfolder = 'x'", "sessions = 3"] {
            assert!(matches!(lay(bad, "").1, Err(ConfigError::Value { .. })), "{bad}");
        }
        let Err(ConfigError::Toml { reason, .. }) = lay("[", "").1 else { panic!("it is not TOML") };
        assert!(reason.ends_with("\nRun `aegis tune` again, or delete the file"), "{reason}");
        let none = tempfile::tempdir().unwrap();
        assert_eq!(merge_into(&mut Table::new(), none.path()).unwrap(), None);
    }
}
