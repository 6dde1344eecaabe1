//! Builds the parts of a panel from manifests and loaded graphs. A model that could not be loaded has a backend as well,
//! on which all of its experts abstain.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::files::read_verified;
use super::guard::Sessions;
use super::parts::{Graphs, LoadError, MissingParts, Model, PanelParts};
use super::validate::{classifier, encoder, head};
use crate::experts::backend::onnx::session::Graph;
use crate::experts::backend::onnx::{Classifier, Encoder};
use crate::experts::backend::remote::RemoteExpert;
use crate::experts::backend::{Form, ModelBackend, NotLoaded, Profile};
use crate::experts::batch_invariance::check_batch_invariance;
use crate::experts::config::PanelConfig;
use crate::experts::error::{Misfit, PanelError};
use crate::experts::info::State;
use crate::experts::manifest::features::FeatureOutputs;
use crate::experts::manifest::remote::Remote;
use crate::experts::manifest::{Body, HashedFile, Manifest, Padding, Scores, TextInput, TokenizerSpec, View};
use crate::experts::rules::Rules;
use crate::experts::tokenizer::{ModelTokenizer, WindowTokenizer};

/// The properties in which tokenizers differ. Models with equal ones share a tokenizer.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum TokenizerKey {
    Tokens { sha256: [u8; 32], max_tokens: usize, windows: usize, drop_ids: Vec<u32> },
    Characters { max_chars: usize },
}

/// Builds a panel, expert by expert.
pub(super) struct PanelBuilder<'a> {
    config: &'a PanelConfig,
    /// The graphs that are not used yet, by the expert's id.
    pub(super) graphs: BTreeMap<String, Graphs>,
    /// The sessions of guards by their base, or the reason why it could not be loaded.
    pub(super) sessions: BTreeMap<String, Result<Sessions, String>>,
    pub(super) parts: PanelParts,
    tokenizers: BTreeMap<TokenizerKey, usize>,
}

impl<'a> PanelBuilder<'a> {
    pub(super) fn new(config: &'a PanelConfig, graphs: BTreeMap<String, Graphs>, parts: PanelParts) -> Self {
        Self { config, graphs, sessions: BTreeMap::new(), parts, tokenizers: BTreeMap::new() }
    }

    /// The index of an expert that votes.
    pub(super) fn expert_index(&self, id: &str) -> usize {
        let index = self.parts.experts.iter().position(|expert| expert.id == id);
        index.expect("the panel lists every expert that votes")
    }

    pub(super) fn is_cheap(&self, experts: &[usize]) -> bool {
        experts.iter().any(|&index| self.config.cheap.contains(&self.parts.experts[index].id))
    }

    /// The experts of a model that read more than the judged turn, by view.
    fn views(&self, experts: &[usize]) -> Vec<(View, Arc<[usize]>)> {
        let mut views = BTreeMap::<View, Vec<usize>>::new();
        for &index in experts {
            let view = self.parts.experts[index].view;
            if view.history_turns() > 0 {
                views.entry(view).or_default().push(index);
            }
        }
        views.into_iter().map(|(view, experts)| (view, experts.into())).collect()
    }

    /// Marks an expert as not loaded.
    ///
    /// # Errors
    /// Returns `NotLoaded` if the configuration requires all experts.
    pub(super) fn mark_not_loaded(&mut self, manifest: &Manifest, reason: String) -> Result<(), PanelError> {
        let id = manifest.id.as_str();
        if self.config.require_all {
            let path = manifest.graph().map(|graph| graph.file.path.clone());
            let path = path.unwrap_or_else(|| self.config.folder.join(id).join("manifest.toml"));
            return Err(PanelError::NotLoaded { id: id.to_owned(), path, reason });
        }
        let state = State::NotLoaded { reason };
        if let Some(expert) = self.parts.experts.iter_mut().find(|expert| expert.id == id) {
            expert.state = state;
        } else if let Some(encoder) = self.parts.encoder.as_mut().filter(|encoder| encoder.id == id) {
            encoder.state = state;
        }
        Ok(())
    }

    /// The index of the tokenizer for a model's input. The first model that needs it adds it.
    fn tokenizer(&mut self, id: &str, input: &TextInput) -> Result<usize, PanelError> {
        match input {
            TextInput::Tokens(spec) => self.window_tokenizer(id, spec),
            &TextInput::Text { max_chars, .. } => {
                let key = TokenizerKey::Characters { max_chars };
                let known = self.tokenizers.get(&key).copied();
                Ok(known.unwrap_or_else(|| self.add_tokenizer(key, ModelTokenizer::Characters { max_chars })))
            }
        }
    }

    fn window_tokenizer(&mut self, id: &str, spec: &TokenizerSpec) -> Result<usize, PanelError> {
        let key = TokenizerKey::Tokens {
            sha256: spec.file.sha256,
            max_tokens: spec.max_tokens,
            windows: spec.windows,
            drop_ids: spec.drop_ids.clone(),
        };
        // The file of every expert is verified, even if the bytes are known already.
        let bytes = read_verified(&spec.file)?;
        if let Some(&known) = self.tokenizers.get(&key) {
            return Ok(known);
        }
        let tokenizer = WindowTokenizer::new(&bytes, spec).map_err(|misfit| misfit.of(id))?;
        Ok(self.add_tokenizer(key, ModelTokenizer::Tokens(Box::new(tokenizer))))
    }

    fn add_tokenizer(&mut self, key: TokenizerKey, tokenizer: ModelTokenizer) -> usize {
        let index = self.parts.tokenizers.len();
        self.parts.tokenizers.push(tokenizer);
        self.tokenizers.insert(key, index);
        index
    }

    /// Makes the backends of an expert from its graphs, one for each worker.
    fn backends<T>(
        &mut self,
        id: &str,
        make: impl Fn(Graph) -> Result<T, Misfit>,
    ) -> Result<Vec<T>, LoadError> {
        let graphs = self.graphs.remove(id).expect("every expert but rules has an entry");
        let graphs = graphs.map_err(LoadError::NotLoaded)?;
        let backends = graphs.into_iter().map(make).collect::<Result<Vec<_>, _>>();
        Ok(backends.map_err(|misfit| misfit.of(id))?)
    }

    /// Adds a model with a backend for each worker.
    pub(super) fn add(&mut self, model: Model, backends: Vec<ModelBackend>, missing: MissingParts) {
        for (worker, backend) in self.parts.backends.iter_mut().zip(backends) {
            worker.push(backend);
        }
        self.parts.models.push(model);
        self.parts.prompts.push(None);
        self.parts.missing.push(missing);
    }

    /// Adds a model that could not be loaded. `profile`: the profile that it has once it is loaded.
    pub(super) fn add_not_loaded(&mut self, model: Model, profile: Profile) {
        let experts = model.experts.clone();
        let backend = || Box::new(NotLoaded { experts: experts.clone(), profile }) as ModelBackend;
        let backends = self.parts.backends.iter().map(|_| backend()).collect();
        self.add(model, backends, MissingParts { experts, whole_model: true });
    }

    pub(super) fn add_classifier(
        &mut self,
        manifest: &Manifest,
        input: &TextInput,
        scores: &Scores,
    ) -> Result<(), PanelError> {
        let id = manifest.id.as_str();
        let tokenizer = self.tokenizer(id, input)?;
        let expert = self.expert_index(id);
        let model = Model {
            id: id.to_owned(),
            tokenizer: Some(tokenizer),
            padding: input.padding(),
            experts: vec![expert],
            views: self.views(&[expert]),
            features: FeatureOutputs::default(),
            cheap: self.is_cheap(&[expert]),
            alone: manifest.alone,
            hashes: manifest.model().into_iter().collect(),
            manifest: manifest.sha256,
        };
        let greatest_id = self.parts.tokenizers[tokenizer].greatest_id();
        let loaded = self.backends(id, |graph| classifier(id, expert, graph, input, scores));
        let loaded = loaded.and_then(|mut classifiers: Vec<Classifier>| {
            first(&mut classifiers).first_run(greatest_id)?;
            Ok(classifiers)
        });
        let classifiers = match loaded {
            Ok(classifiers) => classifiers,
            Err(LoadError::Refused(error)) => return Err(error),
            Err(LoadError::NotLoaded(reason)) => {
                self.mark_not_loaded(manifest, reason)?;
                self.add_not_loaded(model, Profile::of_input(input));
                return Ok(());
            }
        };
        let mut backends: Vec<_> =
            classifiers.into_iter().map(|classifier| Box::new(classifier) as ModelBackend).collect();
        if !manifest.alone {
            check_batch_invariance(id, greatest_id, input.max_length(), first(&mut backends).as_mut())?;
        }
        self.add(model, backends, MissingParts::default());
        Ok(())
    }

    /// Adds an encoder with its heads.
    pub(super) fn add_encoder(
        &mut self,
        manifest: &Manifest,
        spec: &TokenizerSpec,
        (embedding, features): (&str, &FeatureOutputs),
        heads: &[&Manifest],
    ) -> Result<(), PanelError> {
        let id = manifest.id.as_str();
        let tokenizer = self.window_tokenizer(id, spec)?;
        let experts: Vec<usize> = heads.iter().map(|head| self.expert_index(&head.id)).collect();
        let model = Model {
            id: id.to_owned(),
            tokenizer: Some(tokenizer),
            padding: spec.padding,
            cheap: self.is_cheap(&experts),
            views: self.views(&experts),
            experts,
            features: features.clone(),
            alone: manifest.alone,
            hashes: [manifest].iter().chain(heads).filter_map(|manifest| manifest.model()).collect(),
            manifest: manifest.sha256,
        };
        let greatest_id = self.parts.tokenizers[tokenizer].greatest_id();
        let greatest_id = greatest_id.expect("a window tokenizer gives token ids");
        let loaded = self.backends(id, |graph| encoder(id, graph, spec, embedding, features));
        let loaded = loaded.and_then(|mut encoders| {
            let embedding = first(&mut encoders).first_run(greatest_id)?;
            Ok((encoders, embedding))
        });
        let (mut encoders, embedding) = match loaded {
            Ok(loaded) => loaded,
            Err(LoadError::Refused(error)) => return Err(error),
            Err(LoadError::NotLoaded(reason)) => {
                self.mark_not_loaded(manifest, reason.clone())?;
                for head in heads {
                    self.mark_not_loaded(head, format!("its encoder {id}: {reason}"))?;
                }
                self.add_not_loaded(model, Profile::of_tokens(spec.padding));
                return Ok(());
            }
        };
        let missing = self.add_heads(heads, &embedding, &mut encoders)?;
        let mut backends: Vec<_> =
            encoders.into_iter().map(|encoder| Box::new(encoder) as ModelBackend).collect();
        if !manifest.alone {
            let backend = first(&mut backends).as_mut();
            check_batch_invariance(id, Some(greatest_id), spec.max_tokens, backend)?;
        }
        self.add(model, backends, missing);
        Ok(())
    }

    /// Adds heads to the encoder of each worker. Returns the heads that could not be loaded.
    fn add_heads(
        &mut self,
        heads: &[&Manifest],
        embedding: &[f32],
        encoders: &mut [Encoder],
    ) -> Result<MissingParts, PanelError> {
        let mut missing = MissingParts::default();
        for manifest in heads {
            let id = manifest.id.as_str();
            let Body::Head { embedding: input, scores, .. } = &manifest.body else {
                unreachable!("only heads name an encoder");
            };
            let expert = self.expert_index(id);
            let loaded = self.backends(id, |graph| head(id, expert, graph, input, scores));
            let loaded = loaded.and_then(|mut heads| {
                first(&mut heads).first_run(embedding)?;
                Ok(heads)
            });
            match loaded {
                Ok(heads) => {
                    encoders.iter_mut().zip(heads).for_each(|(encoder, head)| encoder.heads.push(head))
                }
                Err(LoadError::Refused(error)) => return Err(error),
                Err(LoadError::NotLoaded(reason)) => {
                    self.mark_not_loaded(manifest, reason)?;
                    encoders.iter_mut().for_each(|encoder| encoder.absent.push(expert));
                    missing.experts.push(expert);
                }
            }
        }
        Ok(missing)
    }

    /// Adds a remote expert. It is a model that no worker runs.
    pub(super) fn add_remote(&mut self, manifest: &Manifest, remote: &Remote) -> Result<(), PanelError> {
        let id = manifest.id.as_str();
        let expert = self.expert_index(id);
        let remote_expert = RemoteExpert::new(id, expert, manifest.view, remote)?;
        let model = Model {
            id: id.to_owned(),
            tokenizer: None,
            padding: Padding::default(),
            experts: vec![expert],
            views: Vec::new(),
            features: FeatureOutputs::default(),
            cheap: self.is_cheap(&[expert]),
            alone: false,
            hashes: vec![remote.hash()],
            manifest: manifest.sha256,
        };
        let profile = Profile { reads: Form::Text, padded_to: None, prefix: 0, max_in_flight: None };
        let backend = || Box::new(NotLoaded { experts: vec![expert], profile }) as ModelBackend;
        let backends = self.parts.backends.iter().map(|_| backend()).collect();
        self.parts.experts[expert].revision = Some(remote_expert.revision().to_string());
        self.parts.remotes.insert(self.parts.models.len(), Arc::new(remote_expert));
        self.add(model, backends, MissingParts::default());
        Ok(())
    }

    pub(super) fn add_rules(&mut self, id: &str, file: &HashedFile) -> Result<(), PanelError> {
        let text = String::from_utf8(read_verified(file)?)
            .map_err(|error| PanelError::Unreadable { path: file.path.clone(), reason: error.to_string() })?;
        let rules = Rules::parse(&file.path, &text)?;
        self.parts.rules.push((self.expert_index(id), Arc::new(rules)));
        Ok(())
    }
}

/// The first worker's backend. All workers' graphs are the same, so one of them is checked.
fn first<T>(backends: &mut [T]) -> &mut T {
    backends.first_mut().expect("a panel has at least one worker")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use sha2::{Digest, Sha256};

    use super::super::load;
    use super::*;
    use crate::core::hash::hex;

    /// Its texts are batched in the same way before and after it is loaded.
    #[test]
    fn a_model_that_is_not_loaded_has_the_profile_of_its_manifest() {
        let folder = tempfile::tempdir().unwrap();
        let expert = folder.path().join("expert");
        fs::create_dir(&expert).unwrap();
        let sha256 = hex(&<[u8; 32]>::from(Sha256::digest(NO_GRAPH)));
        fs::write(expert.join("model.onnx"), NO_GRAPH).unwrap();
        fs::write(expert.join("manifest.toml"), MANIFEST.replace("SHA256", &sha256)).unwrap();
        let parts = load(&PanelConfig { sessions: Some(1), ..PanelConfig::new(folder.path()) }).unwrap();
        assert!(parts.missing[0].whole_model);
        let input = TextInput::Text { input: "text".to_owned(), max_chars: 6 };
        assert_eq!(parts.backends[0][0].profile(), Profile::of_input(&input));
    }

    const NO_GRAPH: &[u8] = b"this is no graph";
    const MANIFEST: &str = r#"
        id = "expert"
        kind = "classifier"
        description = "d"
        licence = "MIT"
        source = "s"
        [model]
        file = "model.onnx"
        sha256 = "SHA256"
        [text]
        max_chars = 6
        [inputs]
        text = "text"
        [outputs]
        scores = "scores"
        [[labels]]
        name = "harm"
        category = "harm"
        unsafe = true
    "#;
}
