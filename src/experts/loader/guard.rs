//! Adds guards to a panel. Guards of one base share its sessions, and those with the same prompts and adapter their runs.

use std::sync::{Arc, Mutex, PoisonError};

use ort::session::Adapter;

use super::build::PanelBuilder;
use super::files::read_verified;
use super::parts::{LoadError, MissingParts, Model};
use crate::core::vote::Abstention;
use crate::experts::backend::guard::{AnswerReader, CausalModel, Guard, GuardExpert, GuardOptions, Prefixes};
use crate::experts::backend::result::ErrorLog;
use crate::experts::backend::{ModelBackend, Profile};
use crate::experts::error::{Misfit, PanelError};
use crate::experts::manifest::features::FeatureOutputs;
use crate::experts::manifest::guard::Guard as GuardManifest;
use crate::experts::manifest::{Body, Manifest, Padding};
use crate::experts::prompts::GuardPrompts;
use crate::guards::{PromptError, SpecError};

/// A session of a base for each worker.
pub(super) type Sessions = Vec<Arc<Mutex<CausalModel>>>;

/// The tables of a guard.
///
/// # Panics
/// Panics if the manifest is of another kind.
fn tables(manifest: &Manifest) -> &GuardManifest {
    match &manifest.body {
        Body::Guard(guard) => guard,
        _ => unreachable!("only guards are grouped"),
    }
}

/// Groups guards that share their runs, in the order of the first guard of each group.
pub(super) fn groups<'a>(manifests: &[&'a Manifest]) -> Vec<Vec<&'a Manifest>> {
    let mut groups: Vec<Vec<&Manifest>> = Vec::new();
    for &manifest in manifests.iter().filter(|manifest| matches!(manifest.body, Body::Guard(_))) {
        let known = groups.iter_mut().find(|group| group[0].shares_runs(manifest));
        match known {
            Some(group) => group.push(manifest),
            None => groups.push(vec![manifest]),
        }
    }
    groups
}

/// The error of a spec that disagrees with the rest of an expert.
fn refused(id: &str, error: SpecError) -> PanelError {
    let (problem, remedy) = match error {
        SpecError::Unknown { .. } => (error.to_string(), "name a bundled spec".to_owned()),
        SpecError::Invalid { spec, field, problem, remedy } => {
            (format!("{spec}: {field}: {problem}"), remedy)
        }
    };
    PanelError::Misfit { id: id.to_owned(), field: "prompt.spec".to_owned(), problem, remedy }
}

/// Makes the prompts of a guard from the bytes of its tokenizer.
fn prompts(manifest: &Manifest, tokenizer: &[u8]) -> Result<Arc<GuardPrompts>, PanelError> {
    let (id, guard) = (manifest.id.as_str(), tables(manifest));
    let max_tokens = guard.model().max_tokens;
    let spec = guard.spec().as_ref().clone();
    let prompts = GuardPrompts::new(spec, tokenizer, max_tokens, manifest.view);
    let prompts = prompts.map_err(|error| refused(id, error))?;
    prompts.check_room().map_err(|error| {
        let problem = match error {
            PromptError::NoRoom { fixed, budget, .. } => {
                format!("is {budget}, and the prompt without the judged turn takes {fixed}")
            }
            error => error.to_string(),
        };
        Misfit::new("tokenizer.max_tokens", problem, "raise it, or shorten the policy text").of(id)
    })?;
    Ok(Arc::new(prompts))
}

impl PanelBuilder<'_> {
    /// The sessions of a base, one for each worker.
    fn sessions(&mut self, id: &str, base: &str) -> Result<Sessions, LoadError> {
        if let Some(known) = self.sessions.get(base) {
            return known.clone().map_err(LoadError::NotLoaded);
        }
        let made = self.graphs.remove(base).expect("every base of a guard has an entry");
        let made = match made {
            Ok(graphs) => {
                let make = |graph| Ok(Arc::new(Mutex::new(CausalModel::new(graph)?)));
                let made: Result<Sessions, Misfit> = graphs.into_iter().map(make).collect();
                Ok(made.map_err(|misfit| misfit.of(id))?)
            }
            Err(reason) => Err(reason),
        };
        self.sessions.insert(base.to_owned(), made.clone());
        made.map_err(LoadError::NotLoaded)
    }

    /// Adds guards that share their runs.
    pub(super) fn add_guards(&mut self, group: &[&Manifest]) -> Result<(), PanelError> {
        let (first, guard) = (group[0], tables(group[0]));
        let bytes = read_verified(&guard.model().tokenizer)?;
        let prompts =
            group.iter().map(|manifest| prompts(manifest, &bytes)).collect::<Result<Vec<_>, _>>()?;
        let experts: Vec<usize> = group.iter().map(|manifest| self.expert_index(&manifest.id)).collect();
        let model = Model {
            id: first.id.clone(),
            tokenizer: None,
            padding: Padding::default(),
            cheap: self.is_cheap(&experts),
            experts,
            views: Vec::new(),
            features: FeatureOutputs::default(),
            // An answer is decoded token by token, so that texts of one run would take each other's time.
            alone: group.iter().any(|manifest| manifest.alone || tables(manifest).categories),
            hashes: group.iter().filter_map(|manifest| manifest.model()).collect(),
            manifest: first.sha256,
        };
        let experts = group.iter().zip(&prompts).zip(&model.experts);
        let experts = experts.map(|((manifest, prompts), &expert_index)| GuardExpert {
            expert_index,
            verdict: prompts.verdict(),
            outside_limit: tables(manifest).spec().off_template_limit(),
            answer: tables(manifest).categories.then(|| Arc::clone(prompts) as Arc<dyn AnswerReader>),
        });
        let loaded = self.guards(first, guard, &prompts[0], &experts.collect::<Vec<_>>());
        match loaded {
            Ok((backends, alone)) => {
                let model = Model { alone: alone || model.alone, ..model };
                self.add(model, backends, MissingParts::default());
            }
            Err(LoadError::Refused(error)) => return Err(error),
            Err(LoadError::NotLoaded(reason)) => {
                for manifest in group {
                    self.mark_not_loaded(manifest, reason.clone())?;
                }
                self.add_not_loaded(model, Profile::of_tokens(Padding::default()));
            }
        }
        // The experts of a group read the same prompts.
        if let Some(place) = self.parts.prompts.last_mut() {
            *place = Some(Arc::clone(&prompts[0]));
        }
        Ok(())
    }

    /// The backends of guards that share their runs, one for each worker, and whether rows must run one by one.
    fn guards(
        &mut self,
        manifest: &Manifest,
        guard: &GuardManifest,
        prompts: &GuardPrompts,
        experts: &[GuardExpert],
    ) -> Result<(Vec<ModelBackend>, bool), LoadError> {
        let id = manifest.id.as_str();
        let sessions = self.sessions(id, &guard.base)?;
        let adapter = match &guard.adapter {
            Some(file) => Some(load_adapter(id, &read_verified(file)?)?),
            None => None,
        };
        let options = |session: &Arc<Mutex<CausalModel>>| {
            let Some(adapter) = &adapter else { return Ok(GuardOptions::Base) };
            let model = session.lock().unwrap_or_else(PoisonError::into_inner);
            GuardOptions::with_adapter(&model, adapter).map_err(|error| LoadError::NotLoaded(error.detail))
        };
        let options = sessions.iter().map(options).collect::<Result<Vec<_>, _>>()?;
        let prefixes = {
            let session = sessions.first().expect("a panel has at least one worker");
            let mut model = session.lock().unwrap_or_else(PoisonError::into_inner);
            first_run(id, &mut model, &options[0], prompts)?
        };
        if let Some(limits) = prefixes.mode().limits() {
            tracing::info!(expert = id, limits, "a guard runs slower than it could");
        }
        let (alone, prefixes) = (prefixes.mode().batch.is_none(), Arc::new(prefixes));
        let profile = Profile { prefix: prefixes.read_again(), ..Profile::of_tokens(Padding::default()) };
        let backends = sessions.into_iter().zip(options).map(|(model, options)| {
            let guard = Guard {
                id: id.to_owned(),
                profile,
                model,
                options,
                prefixes: Arc::clone(&prefixes),
                experts: experts.to_vec(),
                errors: ErrorLog::default(),
            };
            Box::new(guard) as ModelBackend
        });
        Ok((backends.collect(), alone))
    }
}

fn load_adapter(id: &str, bytes: &[u8]) -> Result<Adapter, PanelError> {
    Adapter::from_memory(bytes, None).map_err(|error| {
        let remedy = "give an adapter file as ONNX Runtime's AdapterFormat writes it";
        Misfit::new("adapter.file", error.to_string().trim(), remedy).of(id)
    })
}

/// Runs a guard for the first time, and reads its prefixes.
///
/// # Errors
/// Returns `Refused` if the graph has another vocabulary or other adapter inputs, and `NotLoaded` if it does not run.
fn first_run(
    id: &str,
    model: &mut CausalModel,
    options: &GuardOptions,
    prompts: &GuardPrompts,
) -> Result<Prefixes, LoadError> {
    if let Err(error) = model.try_token(options, prompts.greatest_id()) {
        let misfit = if options.has_adapter()
            && model.try_token(&GuardOptions::Base, 0).is_ok()
            && model.try_token(options, 0).is_err()
        {
            let problem = format!("the graph does not take it: {}", error.detail);
            Misfit::new("adapter.file", problem, "give an adapter that was made for this graph")
        } else if model.try_token(options, 0).is_ok() {
            let greatest = prompts.greatest_id();
            let problem = format!("it gives tokens up to {greatest}, and the graph does not take that one");
            Misfit::new("tokenizer.file", problem, "give the tokenizer that the model was trained with")
        } else {
            return Err(LoadError::NotLoaded(error.detail));
        };
        return Err(misfit.of(id).into());
    }
    Prefixes::read(model, prompts.prefixes(), options, &prompts.verdict()).map_err(|error| {
        match error.reason {
            Abstention::WrongShape => {
                let remedy =
                    "give the graph and the tokenizer of one model, with logits for the whole vocabulary";
                LoadError::Refused(Misfit::new("model.file", error.detail, remedy).of(id))
            }
            _ => LoadError::NotLoaded(error.detail),
        }
    })
}
