//! Loads what a folder of experts holds: all of it, or one lane of it again.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::backend::ModelBackend;
use super::backend::onnx::session::{Graph, environment};
use super::batcher::Limits;
use super::config::PanelConfig;
use super::error::PanelError;
use super::external::{self, Bytes};
use super::files::{encoder_info, manifests};
use super::info::{EncoderInfo, ExpertInfo, State};
use super::making::Making;
use super::manifest::{Body, Manifest, Padding};
use super::rules::Rules;
use super::tokenize::Reader;

/// A way for text to the station of the same number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lane {
    /// The encoder or classifier.
    pub(super) id: String,
    /// Number of the reader; lanes of one reader share its tokens.
    pub(super) reader: usize,
    pub(super) padding: Padding,
    /// The experts that vote at its end.
    pub(super) slots: Vec<usize>,
    /// It gives the features.
    pub(super) features: bool,
    /// It is asked under load as well.
    pub(super) cheap: bool,
    /// Its texts run one by one.
    pub(super) alone: bool,
    /// Hashes of its graphs, its encoder's or classifier's first: what is loaded later has to be the same.
    pub(super) models: Vec<[u8; 32]>,
}

impl Lane {
    /// What its batches may hold.
    pub(super) fn limits(&self, config: &PanelConfig) -> Limits {
        let usual = if self.padding.to.is_some() { config.fixed_batch } else { config.batch };
        let tokens = config.budgets.get(&self.id).copied().unwrap_or(usual.tokens);
        Limits { tokens, rows: if self.alone { 1 } else { usual.rows }, ..usual }
    }
}

/// What a lane lacks, because it could not be loaded.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Want {
    /// The experts that abstain for it.
    pub(super) slots: Vec<usize>,
    /// All of the lane, its encoder or classifier.
    pub(super) whole: bool,
}

impl Want {
    /// Whether nothing is lacking.
    pub(super) fn is_none(&self) -> bool {
        self.slots.is_empty() && !self.whole
    }

    /// Whether this lacks nothing that the other has.
    pub(super) fn is_within(&self, other: &Self) -> bool {
        self.whole <= other.whole && self.slots.iter().all(|slot| other.slots.contains(slot))
    }
}

/// What a worker runs batches on, by lane.
pub(super) type Stations = Vec<ModelBackend>;

/// Loads the backends of one more worker. It is given the parts of each model that are not loaded now.
pub(super) type Spare = Box<dyn Fn(&[Want]) -> Result<Stations, PanelError> + Send + Sync>;

/// A lane that has been loaded again.
pub(super) struct Remade {
    /// One for each worker.
    pub(super) stations: Vec<ModelBackend>,
    /// The parts that it still lacks.
    pub(super) want: Want,
    /// The reason why it lacks them.
    pub(super) reason: String,
}

/// Loads the lane of this number again, for this number of workers.
pub(super) type Remake = Box<dyn Fn(usize, usize) -> Result<Remade, PanelError> + Send>;

/// All that a panel is made of.
pub(super) struct Loaded {
    pub(super) experts: Vec<ExpertInfo>,
    pub(super) encoder: Option<EncoderInfo>,
    pub(super) readers: Vec<Reader>,
    pub(super) lanes: Vec<Lane>,
    /// By lane.
    pub(super) wants: Vec<Want>,
    pub(super) rules: Vec<(usize, Arc<Rules>)>,
    /// By worker, then by lane.
    pub(super) stations: Vec<Stations>,
}

/// The graphs of one expert, one for each worker, or why there are none.
pub(super) type Graphs = Result<Vec<Graph>, String>;

/// Loads every graph once for each worker, in as many threads.
fn load_graphs(
    config: &PanelConfig,
    manifests: &[&Manifest],
) -> Result<BTreeMap<String, Graphs>, PanelError> {
    let (mut bytes, mut graphs) = (Vec::new(), BTreeMap::new());
    for manifest in manifests {
        let Some(graph) = manifest.graph() else {
            continue;
        };
        let graph = external::read(graph)?;
        graphs.insert(manifest.id.clone(), graph.as_ref().map(|_| Vec::new()).map_err(Clone::clone));
        bytes.extend(graph.ok().map(|bytes| (manifest.id.clone(), bytes)));
    }
    if bytes.is_empty() {
        return Ok(graphs);
    }
    let environment = environment(&config.runtime)?;
    let all = |_: usize| {
        let (provider, threads) = (&config.provider, config.threads);
        let load = |(_, bytes): &(String, Bytes)| {
            Graph::load(&environment, provider, threads, config.arena_tokens, bytes)
        };
        bytes.iter().map(load).collect::<Result<Vec<_>, PanelError>>()
    };
    let by_worker: Vec<Result<Vec<_>, PanelError>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..config.workers()).map(|worker| scope.spawn(move || all(worker))).collect();
        let crashed = || PanelError::Threads { reason: "loading crashed".to_owned() };
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err(crashed()))).collect()
    });
    for loaded in by_worker {
        for ((id, _), graph) in bytes.iter().zip(loaded?) {
            let Some(place) = graphs.get_mut(id) else {
                continue;
            };
            match (place.as_mut(), graph) {
                (Ok(graphs), Ok(graph)) => graphs.push(graph),
                (Ok(_), Err(reason)) => *place = Err(reason),
                (Err(_), _) => {}
            }
        }
    }
    Ok(graphs)
}

/// Loads and checks the folder's experts.
pub(super) fn load(config: &PanelConfig) -> Result<Loaded, PanelError> {
    load_part(config, None)
}

/// Loads the experts, or those of one lane alone; the places of experts are the same.
fn load_part(config: &PanelConfig, lane: Option<&str>) -> Result<Loaded, PanelError> {
    let manifests = manifests(config)?;
    let provider = config.provider.word();
    let encoder = manifests.iter().find_map(|manifest| match &manifest.body {
        Body::Encoder { graph, reading, features: Some(_), .. } => {
            Some(encoder_info(manifest, graph, reading, &provider))
        }
        _ => None,
    });
    let loaded = Loaded {
        experts: manifests.iter().filter_map(|manifest| ExpertInfo::of(manifest, &provider)).collect(),
        encoder,
        readers: Vec::new(),
        lanes: Vec::new(),
        wants: Vec::new(),
        rules: Vec::new(),
        stations: (0..config.workers()).map(|_| Vec::new()).collect(),
    };
    let leads_to = |manifest: &Manifest, id: &str| {
        manifest.id == id || matches!(&manifest.body, Body::Head { encoder, .. } if encoder == id)
    };
    let chosen: Vec<&Manifest> =
        manifests.iter().filter(|manifest| lane.is_none_or(|lane| leads_to(manifest, lane))).collect();
    let graphs = load_graphs(config, &chosen)?;
    let mut making = Making::new(config, graphs, loaded);
    for manifest in &chosen {
        match &manifest.body {
            Body::Encoder { .. } => {
                let of_this = |head: &&&Manifest| matches!(&head.body, Body::Head { encoder, .. } if *encoder == manifest.id);
                making.add_encoder(manifest, &chosen.iter().filter(of_this).copied().collect::<Vec<_>>())?;
            }
            Body::Head { .. } => {}
            Body::Classifier { intake, scores, .. } => making.add_classifier(manifest, intake, scores)?,
            Body::Rules { file } => making.add_rules(&manifest.id, file)?,
        }
    }
    Ok(making.loaded)
}

/// Loads the stations of one more worker for a panel with those lanes.
pub(super) fn spare(config: &PanelConfig, lanes: &[Lane]) -> Spare {
    let (config, lanes) = (PanelConfig { sessions: Some(1), ..config.clone() }, lanes.to_vec());
    Box::new(move |missing| {
        let loaded = load(&config)?;
        // What has been loaded by now, it must have as well.
        let same = loaded.lanes == lanes
            && loaded.wants.iter().zip(missing).all(|(want, known)| want.is_within(known));
        let changed =
            PanelError::Changed { reason: "the experts' folder holds other models than at the start" };
        loaded.stations.into_iter().next().filter(|_| same).ok_or(changed)
    })
}

/// Loads a lane again for so many workers.
pub(super) fn remake(config: &PanelConfig, lanes: &[Lane]) -> Remake {
    let (config, lanes) = (config.clone(), lanes.to_vec());
    Box::new(move |lane, workers| {
        let changed =
            || PanelError::Changed { reason: "the experts' folder holds other models than at the start" };
        let known = lanes.get(lane).ok_or_else(changed)?;
        let config = PanelConfig { sessions: Some(workers), require_all: false, ..config.clone() };
        let loaded = load_part(&config, Some(&known.id))?;
        let ([found], [want]) = (loaded.lanes.as_slice(), loaded.wants.as_slice()) else {
            return Err(changed());
        };
        // Its reader is the first here, whatever its number is in the panel.
        if *found != (Lane { reader: found.reader, ..known.clone() }) {
            return Err(changed());
        }
        let encoder = loaded.encoder.as_ref().filter(|encoder| encoder.id == known.id).map(|e| &e.state);
        let states = loaded.experts.iter().map(|expert| &expert.state).chain(encoder);
        let reason = states.filter_map(State::reason).next().unwrap_or_default().to_owned();
        let want = want.clone();
        Ok(Remade { stations: loaded.stations.into_iter().flatten().collect(), want, reason })
    })
}
