//! The tables of a guard's manifest: its model or the guard whose model it shares, its prompt, and its adapter.

use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::raw::RawManifest;
use super::validate::Validator;
use super::{GraphFiles, HashedFile, Kind, is_plain_file};
use crate::experts::error::PanelError;
use crate::guards::GuardSpec;

/// The end of the name of a spec that is a file of the expert's folder.
const SPEC_FILE: &str = ".toml";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPrompt {
    spec: String,
    policy: Option<String>,
}

/// The prompt of a guard, here or behind an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::experts) struct Prompt {
    /// The name of a bundled spec, or of a file of the expert's folder.
    pub(in crate::experts) spec: String,
    /// The file of the expert's folder with the policy text, in place of the spec's own.
    pub(in crate::experts) policy: Option<String>,
}

impl Prompt {
    /// Returns `true` if the spec is a file of the expert's folder.
    pub(in crate::experts) fn is_file(&self) -> bool {
        self.spec.ends_with(SPEC_FILE)
    }
}

/// The files of a causal language model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::experts) struct GuardModel {
    /// The id of the guard whose folder holds the files.
    pub(in crate::experts) id: String,
    pub(in crate::experts) graph: GraphFiles,
    pub(in crate::experts) tokenizer: HashedFile,
    /// The greatest number of tokens of a prompt.
    pub(in crate::experts) max_tokens: usize,
}

/// A guard. The loader fills in what is in other files before anything else reads it.
#[derive(Debug, Clone)]
pub(in crate::experts) struct Guard {
    /// The guard whose model this one shares; its own id if it has a model.
    pub(in crate::experts) base: String,
    /// `None` until the base is known.
    pub(in crate::experts) model: Option<GuardModel>,
    pub(in crate::experts) prompt: Prompt,
    /// `None` until its file is read.
    pub(in crate::experts) spec: Option<Arc<GuardSpec>>,
    pub(in crate::experts) adapter: Option<HashedFile>,
    /// The categories of flagged texts are decoded.
    pub(in crate::experts) categories: bool,
}

impl PartialEq for Guard {
    fn eq(&self, other: &Self) -> bool {
        let version = |guard: &Self| guard.spec.as_ref().map(|spec| spec.version());
        (&self.base, &self.model, &self.prompt) == (&other.base, &other.model, &other.prompt)
            && (&self.adapter, self.categories) == (&other.adapter, other.categories)
            && version(self) == version(other)
    }
}

impl Guard {
    /// The model.
    ///
    /// # Panics
    /// Panics before the loader has filled it in.
    pub(in crate::experts) fn model(&self) -> &GuardModel {
        self.model.as_ref().expect("the loader fills in the model of every guard")
    }

    /// The spec.
    ///
    /// # Panics
    /// Panics before the loader has filled it in.
    pub(in crate::experts) fn spec(&self) -> &Arc<GuardSpec> {
        self.spec.as_ref().expect("the loader fills in the spec of every guard")
    }

    /// The hash that identifies the guard in votes: over its files, its spec and its policy text.
    pub(in crate::experts) fn sha256(&self) -> [u8; 32] {
        let (model, version) = (self.model(), self.spec().version());
        let mut hash = Sha256::new();
        hash.update(b"aegis guard 1\n");
        hash.update(model.graph.sha256());
        hash.update(model.tokenizer.sha256);
        hash.update(self.adapter.as_ref().map_or([0; 32], |adapter| adapter.sha256));
        hash.update((model.max_tokens as u64).to_le_bytes());
        hash.update(version);
        hash.finalize().into()
    }
}

impl Validator<'_> {
    /// The prompt of a guard.
    pub(super) fn prompt(&self, raw: Option<RawPrompt>, kind: Kind) -> Result<Prompt, PanelError> {
        let RawPrompt { spec, policy } = self.require(raw, "prompt.spec", kind)?;
        let files = [("prompt.spec", Some(&spec)), ("prompt.policy", policy.as_ref())];
        for (field, file) in files {
            if file.is_some_and(|file| !is_plain_file(file)) {
                let remedy = "name a bundled spec, or put the file in this folder";
                return Err(self.error(field, "is not a plain file name", remedy));
            }
        }
        Ok(Prompt { spec, policy })
    }

    /// The tables of a guard.
    pub(super) fn guard(&self, raw: &mut RawManifest) -> Result<Guard, PanelError> {
        let kind = Kind::Guard;
        let prompt = self.prompt(raw.prompt.take(), kind)?;
        let adapter = match raw.adapter.take() {
            Some(file) => Some(self.hashed_file(&file.file, &file.sha256, "adapter")?),
            None => None,
        };
        let (base, model) = match raw.base.take() {
            Some(base) => {
                for (field, present) in
                    [("model", raw.model.is_some()), ("tokenizer", raw.tokenizer.is_some())]
                {
                    if present {
                        return Err(self.error(field, "means nothing beside base", "remove one of the two"));
                    }
                }
                (base, None)
            }
            None => (raw.id.clone(), Some(self.guard_model(raw)?)),
        };
        Ok(Guard { base, model, prompt, spec: None, adapter, categories: raw.categories })
    }

    fn guard_model(&self, raw: &mut RawManifest) -> Result<GuardModel, PanelError> {
        let kind = Kind::Guard;
        let graph = self.graph(raw.model.take(), kind)?;
        let tokenizer = self.require(raw.tokenizer.take(), "tokenizer", kind)?;
        self.forbid(tokenizer.windows != 1, "tokenizer.windows", kind)?;
        self.forbid(!tokenizer.drop_ids.is_empty(), "tokenizer.drop_ids", kind)?;
        self.forbid(tokenizer.pad != super::Padding::default(), "tokenizer.pad", kind)?;
        self.check_range("tokenizer.max_tokens", tokenizer.max_tokens, super::validate::MAX_TOKENS)?;
        Ok(GuardModel {
            id: raw.id.clone(),
            graph,
            tokenizer: self.hashed_file(&tokenizer.file, &tokenizer.sha256, "tokenizer")?,
            max_tokens: tokenizer.max_tokens,
        })
    }
}

/// The folder of the expert with this manifest.
pub(in crate::experts) fn folder(manifest: &Path) -> &Path {
    manifest.parent().unwrap_or(Path::new(""))
}
