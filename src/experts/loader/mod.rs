//! Loads the experts of a folder: all of them when a panel is opened, and later one worker's sessions or one model again.
//!
//! `files` reads manifests and the files that they name, and verifies their hashes; `external_data` finds the files of
//! a graph's weights; `validate` checks graphs against their manifests; `build` puts the [`parts`] of a panel together.

mod build;
pub mod external_data;
mod features;
mod files;
mod guard;
mod parts;
mod validate;

use std::collections::BTreeMap;

use self::build::PanelBuilder;
use self::external_data::read_graph;
pub use self::files::precisions;
use self::files::read_manifests;
pub(crate) use self::parts::{Backends, MissingParts, Model, PanelParts};
use self::parts::{Graphs, LoadError};
use super::backend::ModelBackend;
use super::backend::onnx::environment::environment;
use super::backend::onnx::session::{Graph, GraphBytes};
use super::config::PanelConfig;
use super::error::PanelError;
use super::info::{EncoderInfo, ExpertInfo, State};
use super::manifest::{Body, Manifest};

/// Loads the backends of one more worker. Its argument is the missing parts of each model: what is loaded by now must
/// load again.
pub(super) type WorkerLoader = Box<dyn Fn(&[MissingParts]) -> Result<Backends, PanelError> + Send + Sync>;

/// Loads the model with this index again, for this number of workers.
pub(super) type ModelLoader = Box<dyn Fn(usize, usize) -> Result<ReloadedModel, PanelError> + Send>;

/// A model that has been loaded again.
pub(super) struct ReloadedModel {
    /// One for each worker.
    pub(super) backends: Vec<ModelBackend>,
    pub(super) missing: MissingParts,
    /// The reason why parts are missing; empty if none are.
    pub(super) reason: String,
}

/// Loads every graph once for each worker, in one thread for each worker.
fn load_graphs(
    config: &PanelConfig,
    manifests: &[&Manifest],
) -> Result<BTreeMap<String, Graphs>, PanelError> {
    let (mut bytes, mut graphs) = (Vec::new(), BTreeMap::new());
    for manifest in manifests {
        let (Some(files), owner) = (manifest.graph(), manifest.graph_owner()) else {
            continue;
        };
        // Guards of one base share its graph.
        if graphs.contains_key(owner) {
            continue;
        }
        let loaded = match read_graph(files) {
            Ok(graph) => {
                bytes.push((owner, graph));
                Ok(Vec::new())
            }
            Err(LoadError::NotLoaded(reason)) => Err(reason),
            Err(LoadError::Refused(error)) => return Err(error),
        };
        graphs.insert(owner.to_owned(), loaded);
    }
    if bytes.is_empty() {
        return Ok(graphs);
    }
    let environment = environment(&config.runtime)?;
    let load_all = || {
        let (provider, threads) = (&config.provider, config.threads);
        let load = |(_, bytes): &(&str, GraphBytes)| {
            Graph::load(&environment, provider, threads, config.arena_tokens, bytes)
        };
        bytes.iter().map(load).collect::<Result<Vec<_>, PanelError>>()
    };
    let by_worker: Vec<Result<Vec<_>, PanelError>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..config.workers()).map(|_| scope.spawn(load_all)).collect();
        let crashed = || PanelError::Threads { reason: "loading crashed".to_owned() };
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err(crashed()))).collect()
    });
    for loaded in by_worker {
        for ((id, _), graph) in bytes.iter().zip(loaded?) {
            let of_expert = graphs.get_mut(*id).expect("every expert whose bytes were read has an entry");
            match (of_expert.as_mut(), graph) {
                (Ok(graphs), Ok(graph)) => graphs.push(graph),
                (Ok(_), Err(reason)) => *of_expert = Err(reason),
                (Err(_), _) => {}
            }
        }
    }
    Ok(graphs)
}

/// Loads and checks the configured experts of the folder.
///
/// # Errors
/// Returns an error if a manifest, file, graph, tokenizer or rule file is invalid, if the runtime cannot be used, or if
/// an expert cannot be loaded although all are required.
pub(super) fn load(config: &PanelConfig) -> Result<PanelParts, PanelError> {
    load_part(config, None)
}

/// Loads all experts, or those of one model. The experts' indexes are the same in both cases.
fn load_part(config: &PanelConfig, model: Option<&str>) -> Result<PanelParts, PanelError> {
    let manifests = read_manifests(config)?;
    let provider = config.provider.word();
    let mut experts: Vec<_> =
        manifests.iter().filter_map(|manifest| ExpertInfo::of(manifest, &provider)).collect();
    for expert in &mut experts {
        if let Some(encoder) = manifests.iter().find(|manifest| expert.encoder.as_ref() == Some(&manifest.id))
        {
            expert.on_encoder(encoder);
        }
    }
    let encoder = manifests.iter().find_map(|manifest| EncoderInfo::of(manifest, &provider));
    let parts = PanelParts {
        experts,
        encoder: encoder.map(|encoder| encoder.together(&manifests).beside(&manifests)),
        tokenizers: Vec::new(),
        models: Vec::new(),
        prompts: Vec::new(),
        missing: Vec::new(),
        rules: Vec::new(),
        remotes: BTreeMap::new(),
        backends: (0..config.workers()).map(|_| Vec::new()).collect(),
    };
    let shares_runs = |manifest: &Manifest, id: &str| {
        manifests.iter().any(|other| other.id == id && manifest.shares_runs(other))
    };
    let belongs_to = |manifest: &Manifest, id: &str| {
        manifest.id == id || manifest.is_head_of(id) || shares_runs(manifest, id)
    };
    let chosen: Vec<&Manifest> =
        manifests.iter().filter(|manifest| model.is_none_or(|id| belongs_to(manifest, id))).collect();
    let mut builder = PanelBuilder::new(config, load_graphs(config, &chosen)?, parts);
    for manifest in &chosen {
        match &manifest.body {
            Body::Encoder { tokenizer, embedding, features, .. } => {
                let heads: Vec<_> =
                    chosen.iter().filter(|head| head.is_head_of(&manifest.id)).copied().collect();
                builder.add_encoder(manifest, tokenizer, (embedding, features), &heads)?;
            }
            // Its encoder adds it, or its group.
            Body::Head { .. } | Body::Guard(_) => {}
            Body::Classifier { input, scores, .. } => builder.add_classifier(manifest, input, scores)?,
            Body::Rules { file } => builder.add_rules(&manifest.id, file)?,
            Body::Remote(remote) => builder.add_remote(manifest, remote)?,
        }
    }
    for group in guard::groups(&chosen) {
        builder.add_guards(&group)?;
    }
    Ok(builder.parts)
}

fn changed() -> PanelError {
    PanelError::Changed { reason: "the experts' folder holds other models than at the start" }
}

/// Returns a loader for the backends of one more worker of a panel with these models.
pub(super) fn worker_loader(config: &PanelConfig, models: &[Model]) -> WorkerLoader {
    let (config, models) = (PanelConfig { sessions: Some(1), ..config.clone() }, models.to_vec());
    Box::new(move |known_missing| {
        let parts = load(&config)?;
        // Everything that is loaded by now must load here as well.
        let is_same = parts.models.len() == models.len()
            && parts.models.iter().zip(&models).all(|(found, known)| found.is_same(known))
            && parts.missing.iter().zip(known_missing).all(|(missing, known)| missing.is_subset(known));
        parts.backends.into_iter().next().filter(|_| is_same).ok_or_else(changed)
    })
}

/// Returns a loader for single models of a panel with these models.
pub(super) fn model_loader(config: &PanelConfig, models: &[Model]) -> ModelLoader {
    let (config, models) = (config.clone(), models.to_vec());
    Box::new(move |model, workers| {
        let known = models.get(model).ok_or_else(changed)?;
        let config = PanelConfig { sessions: Some(workers), require_all: false, ..config.clone() };
        let parts = load_part(&config, Some(&known.id))?;
        let ([found], [missing]) = (parts.models.as_slice(), parts.missing.as_slice()) else {
            return Err(changed());
        };
        // Its tokenizer is the only one here, whatever its index in the panel.
        if !(Model { tokenizer: known.tokenizer, ..found.clone() }).is_same(known) {
            return Err(changed());
        }
        let encoder = parts.encoder.as_ref().filter(|encoder| encoder.id == known.id);
        let states = parts.experts.iter().map(|expert| &expert.state).chain(encoder.map(|e| &e.state));
        let reason = states.filter_map(State::reason).next().unwrap_or_default().to_owned();
        let missing = missing.clone();
        Ok(ReloadedModel { backends: parts.backends.into_iter().flatten().collect(), missing, reason })
    })
}
