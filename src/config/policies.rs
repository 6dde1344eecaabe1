//! The policies file: the policies, and the taxonomy of categories.

mod values;
mod written;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

use super::overlay;
use crate::core::policy::Policy;
use written::Written;

pub(super) use written::File;

/// Errors of reading the policies.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The file cannot be read.
    #[error("cannot read the policies in {path}: {reason}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        reason: std::io::Error,
    },
    /// The file is not TOML, has an unknown key, or a value of another type.
    #[error("{path}: {reason}")]
    Toml {
        /// The file.
        path: PathBuf,
        /// The key, and the error there.
        reason: String,
    },
    /// A value is out of range.
    #[error("{path}: policy {policy}: {field} {reason}")]
    Value {
        /// The file.
        path: PathBuf,
        /// The policy.
        policy: String,
        /// The key.
        field: &'static str,
        /// The values that it accepts.
        reason: String,
    },
}

/// A category of the taxonomy.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Category {
    /// The slug that votes, labels and rules use.
    pub slug: String,
    /// The name shown to people.
    pub name: String,
    /// Codes of guard models for the category, for people who read a guard's answer. The program does not read them: the
    /// spec of a guard maps its codes to categories.
    #[serde(default)]
    pub codes: Vec<String>,
}

/// All policies by name, and the taxonomy that they refer to.
#[derive(Debug, Clone, PartialEq)]
pub struct Policies {
    /// The policies.
    pub policies: BTreeMap<String, Policy>,
    /// The taxonomy. Empty if the file has none.
    pub taxonomy: Vec<Category>,
    /// The least recall that a policy aims at, for the policies that state one.
    pub recall_targets: BTreeMap<String, f64>,
    /// The notes for reviewers, by policy. A policy without one has no entry.
    pub reviewer_notes: BTreeMap<String, String>,
}

impl Default for Policies {
    /// Returns one policy named `default`, with every default.
    fn default() -> Self {
        let policy = Written::default().policy("default").expect("the defaults are valid");
        Self {
            policies: BTreeMap::from([(policy.name.clone(), policy)]),
            taxonomy: Vec::new(),
            recall_targets: BTreeMap::new(),
            reviewer_notes: BTreeMap::new(),
        }
    }
}

impl Policies {
    /// Reads a policies file.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or a policy is not valid.
    pub fn read(path: &Path) -> Result<Self, PolicyError> {
        let text = std::fs::read_to_string(path)
            .map_err(|reason| PolicyError::Read { path: path.into(), reason })?;
        let file: File = toml::from_str(&text)
            .map_err(|error| PolicyError::Toml { path: path.into(), reason: overlay::explain(&error) })?;
        let (mut policies, mut recall_targets) = (BTreeMap::new(), BTreeMap::new());
        let mut reviewer_notes = BTreeMap::new();
        for (name, mut written) in file.policies {
            let target = written.recall_target;
            let note = std::mem::take(&mut written.reviewer_note);
            if !note.is_empty() {
                reviewer_notes.insert(name.clone(), note);
            }
            let policy = written.policy(&name).map_err(|(field, reason)| PolicyError::Value {
                path: path.into(),
                policy: name.clone(),
                field,
                reason,
            })?;
            if target > 0.0 {
                recall_targets.insert(name.clone(), target);
            }
            policies.insert(name, policy);
        }
        Ok(Self { policies, taxonomy: file.taxonomy, recall_targets, reviewer_notes })
    }

    /// Returns the policy of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Policy> {
        self.policies.get(name)
    }

    /// Returns the policy of that name, or one with every default if there is none.
    #[must_use]
    pub fn get_or_default(&self, name: &str) -> Policy {
        let default = || {
            let defaults = Self::default();
            let policy = defaults.policies.into_values().next().expect("the defaults have one policy");
            Policy { name: name.to_owned(), ..policy }
        };
        self.get(name).cloned().unwrap_or_else(default)
    }
}
