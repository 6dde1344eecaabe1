//! The edits of the ledger: quarantined annotators and erased subjects.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::ledger::{Edit, EditAction};

/// All edits of the ledger. They also apply to records that are added later.
#[derive(Debug, Default)]
pub struct Edits {
    /// The actions by id. An id should name one edit. If a topic holds two edits under one id, both apply, so
    /// that their order does not matter.
    by_id: BTreeMap<String, BTreeSet<EditKey>>,
    quarantined: Marks,
    erased: Marks,
}

/// The action of an edit, ordered.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct EditKey {
    erases: bool,
    tenant: String,
    name: String,
}

/// Names by tenant. A name under the empty tenant applies to all tenants.
#[derive(Debug, Default)]
struct Marks(HashMap<String, HashSet<String>>);

impl Marks {
    fn has(&self, tenant: &str, name: &str) -> bool {
        !self.0.is_empty()
            && ["", tenant].iter().any(|of| self.0.get(*of).is_some_and(|names| names.contains(name)))
    }
}

impl Edits {
    /// Returns `true` if the annotator's labels do not count in this tenant.
    #[must_use]
    pub fn quarantines(&self, tenant: &str, annotator: &str) -> bool {
        self.quarantined.has(tenant, annotator)
    }

    /// Returns `true` if the subject's rounds do not count in this tenant.
    #[must_use]
    pub fn erases(&self, tenant: &str, subject: &str) -> bool {
        self.erased.has(tenant, subject)
    }

    /// Returns `true` if any annotator is quarantined.
    pub(super) fn has_quarantines(&self) -> bool {
        !self.quarantined.0.is_empty()
    }

    /// Returns `true` if there is an edit with this id.
    #[must_use]
    pub fn contains(&self, id: &str) -> bool {
        self.by_id.contains_key(id)
    }

    /// The number of edit ids.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Returns `true` if there is no edit.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// All edits, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = Edit> {
        self.by_id.iter().flat_map(|(id, actions)| {
            actions.iter().map(move |key| {
                let EditKey { erases, tenant, name } = key.clone();
                let action = if erases {
                    EditAction::Erase { tenant, subject: name }
                } else {
                    EditAction::Quarantine { tenant, annotator: name }
                };
                Edit { id: id.clone(), action }
            })
        })
    }

    pub(super) fn has(&self, edit: &Edit) -> bool {
        self.by_id.get(&edit.id).is_some_and(|actions| actions.contains(&key(&edit.action)))
    }

    /// Adds an edit. Returns `false` if it was there already.
    pub(super) fn add(&mut self, edit: &Edit) -> bool {
        if self.has(edit) {
            return false;
        }
        let key = key(&edit.action);
        let marks = if key.erases { &mut self.erased } else { &mut self.quarantined };
        marks.0.entry(key.tenant.clone()).or_default().insert(key.name.clone());
        self.by_id.entry(edit.id.clone()).or_default().insert(key);
        true
    }
}

fn key(action: &EditAction) -> EditKey {
    let (erases, tenant, name) = match action {
        EditAction::Quarantine { tenant, annotator } => (false, tenant, annotator),
        EditAction::Erase { tenant, subject } => (true, tenant, subject),
    };
    EditKey { erases, tenant: tenant.clone(), name: name.clone() }
}
