//! Values that are replaced while the process runs, such as the policies.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use super::policies::{Policies, PolicyError};

/// The value in force. Clones share it.
#[derive(Debug)]
pub struct Live<T = Policies>(Arc<RwLock<Arc<T>>>);

impl<T> Clone for Live<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> From<Arc<T>> for Live<T> {
    fn from(first: Arc<T>) -> Self {
        Self(Arc::new(RwLock::new(first)))
    }
}

impl<T> Live<T> {
    /// Returns the value in force.
    #[must_use]
    pub fn now(&self) -> Arc<T> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts a value in force.
    pub fn set(&self, newer: Arc<T>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = newer;
    }

    /// Sets `held` to the value in force. Returns the previous value of `held` if it was another.
    pub fn renew(&self, held: &mut Arc<T>) -> Option<Arc<T>> {
        let now = self.now();
        (!Arc::ptr_eq(&now, held)).then(|| std::mem::replace(held, now))
    }
}

/// Reasons to refuse changed policies.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The file cannot be read or is not valid.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// A policy is missing. Events in flight name it, and later ones may name it too.
    #[error("policy {policy} is gone from the file: a running process cannot drop one; restart to do that")]
    Removed {
        /// The policy.
        policy: String,
    },
    /// A policy has changed without a new version: decisions could not state which of the two was used.
    #[error("policy {policy} has changed and its version is still {version}: give it another version")]
    SameVersion {
        /// The policy.
        policy: String,
        /// Its version.
        version: String,
    },
}

/// Reads the policies again. Returns `None` if they have not changed.
///
/// # Errors
/// Returns an error if the new policies must not be put in force.
pub fn reload(held: &Policies, path: &Path) -> Result<Option<Policies>, ReloadError> {
    let read = Policies::read(path)?;
    if read == *held {
        return Ok(None);
    }
    for (name, old) in &held.policies {
        let Some(new) = read.policies.get(name) else {
            return Err(ReloadError::Removed { policy: name.clone() });
        };
        if new != old && new.version == old.version {
            let version = old.version.clone();
            return Err(ReloadError::SameVersion { policy: name.clone(), version });
        }
    }
    Ok(Some(read))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, held: &Policies) -> Result<Option<Policies>, ReloadError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policies.toml");
        std::fs::write(&path, text).unwrap();
        reload(held, &path)
    }

    #[test]
    fn a_changed_policy_needs_another_version() {
        let held = Policies::default();
        assert!(read("[policies.default]", &held).unwrap().is_none());
        let newer = read("[policies.default]\nversion = '2'\nmin_awake = 2\n[policies.more]", &held);
        let newer = newer.unwrap().unwrap();
        assert_eq!((newer.policies.len(), newer.policies["default"].min_awake), (2, 2));
        let refused = |text: &str| read(text, &held).unwrap_err().to_string();
        assert!(refused("[policies.default]\nmin_awake = 2").contains("give it another version"));
        assert!(refused("[policies.more]").contains("policy default is gone"));
        assert!(refused("[policies.default]\nmin_awkae = 2").contains("did you mean `min_awake`?"));
    }

    #[test]
    fn renew_returns_the_previous_value_once() {
        let live = Live::from(Arc::new(Policies::default()));
        let mut held = live.now();
        assert!(live.renew(&mut held).is_none());
        let newer = Policies { taxonomy: Vec::new(), ..Policies::default() };
        live.set(Arc::new(newer));
        assert!(live.renew(&mut held).is_some() && live.renew(&mut held).is_none());
    }
}
