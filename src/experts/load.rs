//! Loads what a folder of experts holds, checks it, and makes stations of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::error::PanelError;
use super::files::{encoder_info, manifests, verified};
use super::fit::{classifier, encoder, misfit};
use super::info::{EncoderInfo, ExpertInfo, State};
use super::manifest::{Artefact, Body, Intake, Manifest, Padding, Reading, Scores};
use super::onnx::{Graph, environment};
use super::panel::PanelConfig;
use super::rules::Rules;
use super::station::Station;
use super::tokenize::{Reader, Tokenizing};
use super::worker::Spare;

/// A way for text to the station of the same number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lane {
    /// Number of the reader; lanes of one reader share its tokens.
    pub(super) reader: usize,
    pub(super) padding: Padding,
    /// The experts that vote at its end.
    pub(super) slots: Vec<usize>,
    /// It gives the features.
    pub(super) features: bool,
    /// It is asked under load as well.
    pub(super) cheap: bool,
}

/// What a worker runs batches on, by lane.
pub(super) type Stations = Vec<Station>;

/// All that a panel is made of.
pub(super) struct Loaded {
    pub(super) experts: Vec<ExpertInfo>,
    pub(super) encoder: Option<EncoderInfo>,
    pub(super) readers: Vec<Reader>,
    pub(super) lanes: Vec<Lane>,
    pub(super) rules: Vec<(usize, Arc<Rules>)>,
    /// By worker, then by lane.
    pub(super) stations: Vec<Stations>,
}

/// The graphs of one expert, one for each worker, or why there are none.
type Graphs = Result<Vec<Graph>, String>;

/// Loads every graph once for each worker, in as many threads.
fn load_graphs(config: &PanelConfig, manifests: &[Manifest]) -> Result<BTreeMap<String, Graphs>, PanelError> {
    let mut bytes = Vec::new();
    for manifest in manifests {
        let (Body::Encoder { graph, .. } | Body::Head { graph, .. } | Body::Classifier { graph, .. }) =
            &manifest.body
        else {
            continue;
        };
        bytes.push((manifest.id.clone(), verified(graph)?));
    }
    if bytes.is_empty() {
        return Ok(BTreeMap::new());
    }
    let environment = environment(&config.runtime)?;
    let all = |_: usize| {
        let (provider, threads) = (&config.provider, config.threads);
        let load = |(_, bytes): &(String, Vec<u8>)| Graph::load(&environment, provider, threads, bytes);
        bytes.iter().map(load).collect::<Result<Vec<_>, PanelError>>()
    };
    let by_worker: Vec<Result<Vec<_>, PanelError>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..config.workers()).map(|worker| scope.spawn(move || all(worker))).collect();
        let crashed = || PanelError::Threads { reason: "loading crashed".to_owned() };
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err(crashed()))).collect()
    });
    let mut graphs: BTreeMap<String, Graphs> =
        bytes.iter().map(|(id, _)| (id.clone(), Ok(Vec::new()))).collect();
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

/// What makes readers different.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum ReaderKey {
    Tokens { tokenizer: [u8; 32], max_tokens: usize, drop_ids: Vec<u32> },
    Text { max_chars: usize },
}

/// A panel in the making.
struct Making<'a> {
    config: &'a PanelConfig,
    graphs: BTreeMap<String, Graphs>,
    loaded: Loaded,
    readers: BTreeMap<ReaderKey, usize>,
}

impl Making<'_> {
    fn slot(&self, id: &str) -> Option<usize> {
        self.loaded.experts.iter().position(|expert| expert.id == id)
    }

    fn is_cheap(&self, slots: &[usize]) -> bool {
        let ids = slots.iter().filter_map(|&slot| self.loaded.experts.get(slot));
        ids.into_iter().any(|expert| self.config.cheap.contains(&expert.id))
    }

    /// Marks an expert as not loaded, or refuses the panel where all are required.
    fn leave_out(&mut self, id: &str, reason: String) -> Result<(), PanelError> {
        if self.config.require_all {
            return Err(PanelError::NotLoaded { id: id.to_owned(), reason });
        }
        tracing::warn!(expert = id, reason, "could not be loaded; it abstains on every text");
        let state = State::NotLoaded { reason };
        if let Some(expert) = self.loaded.experts.iter_mut().find(|expert| expert.id == id) {
            expert.state = state;
        } else if let Some(encoder) = self.loaded.encoder.as_mut().filter(|encoder| encoder.id == id) {
            encoder.state = state;
        }
        Ok(())
    }

    /// The number of the reader, made where it is the first of its kind, with the greatest id that it gives.
    fn reader(&mut self, id: &str, reading: &Reading) -> Result<(usize, u32), PanelError> {
        let key = ReaderKey::Tokens {
            tokenizer: reading.tokenizer.sha256,
            max_tokens: reading.max_tokens,
            drop_ids: reading.drop_ids.clone(),
        };
        // The same bytes under another name are still to be there.
        let bytes = verified(&reading.tokenizer)?;
        let number = match self.readers.get(&key) {
            Some(&known) => known,
            None => {
                let made = Tokenizing::new(&bytes, reading).map_err(|why| misfit(id, why))?;
                self.add_reader(key, Reader::Tokens(Box::new(made)))
            }
        };
        let greatest = match self.loaded.readers.get(number) {
            Some(Reader::Tokens(tokenizing)) => tokenizing.greatest_id(),
            _ => 0,
        };
        Ok((number, greatest))
    }

    fn add_reader(&mut self, key: ReaderKey, reader: Reader) -> usize {
        self.loaded.readers.push(reader);
        let number = self.loaded.readers.len() - 1;
        self.readers.insert(key, number);
        number
    }

    /// The reader of a classifier, with the greatest token that it gives where it gives tokens.
    fn intake(&mut self, id: &str, intake: &Intake) -> Result<(usize, Option<u32>), PanelError> {
        match intake {
            Intake::Tokens(reading) => {
                self.reader(id, reading).map(|(number, greatest)| (number, Some(greatest)))
            }
            &Intake::Text { max_chars, .. } => {
                let key = ReaderKey::Text { max_chars };
                let known = self.readers.get(&key).copied();
                let number = known.unwrap_or_else(|| self.add_reader(key, Reader::Text { max_chars }));
                Ok((number, None))
            }
        }
    }

    fn graphs(&mut self, id: &str) -> Graphs {
        self.graphs.remove(id).unwrap_or_else(|| Err("it has no graph".to_owned()))
    }

    /// Adds a station for each worker, and the lane that leads to it.
    fn add(&mut self, stations: Vec<Station>, lane: Lane) {
        for (worker, station) in self.loaded.stations.iter_mut().zip(stations) {
            worker.push(station);
        }
        self.loaded.lanes.push(lane);
    }

    fn add_classifier(&mut self, id: &str, intake: &Intake, scores: &Scores) -> Result<(), PanelError> {
        let (reader, greatest) = self.intake(id, intake)?;
        let Some(slot) = self.slot(id) else {
            return Ok(());
        };
        let graphs = match self.graphs(id) {
            Ok(graphs) => graphs,
            Err(reason) => return self.leave_out(id, reason),
        };
        let mut stations = Vec::new();
        for graph in graphs {
            stations.push(classifier(id, slot, graph, intake, scores)?);
        }
        if let Some(first) = stations.first_mut()
            && let Some(reason) = first.probe(greatest)?
        {
            return self.leave_out(id, reason);
        }
        let cheap = self.is_cheap(&[slot]);
        let lane = Lane { reader, padding: intake.padding(), slots: vec![slot], features: false, cheap };
        self.add(stations.into_iter().map(Station::Classifier).collect(), lane);
        Ok(())
    }

    fn add_encoder(&mut self, manifest: &Manifest, heads: &[&Manifest]) -> Result<(), PanelError> {
        let Body::Encoder { reading, embedding, features, .. } = &manifest.body else {
            return Ok(());
        };
        let id = manifest.id.as_str();
        let (reader, greatest) = self.reader(id, reading)?;
        let mut stations = Vec::new();
        let mut failure = None;
        match self.graphs(id) {
            Ok(graphs) => {
                for graph in graphs {
                    stations.push(encoder(id, graph, reading, embedding, features.as_deref())?);
                }
            }
            Err(reason) => failure = Some(reason),
        }
        let mut probe = Vec::new();
        if let Some(first) = stations.first_mut() {
            match first.probe(greatest)? {
                Ok(embedding) => probe = embedding,
                Err(reason) => failure = Some(reason),
            }
        }
        if let Some(reason) = failure {
            self.leave_out(id, reason.clone())?;
            for head in heads {
                self.leave_out(&head.id, format!("its encoder {id}: {reason}"))?;
            }
            return Ok(());
        }
        let mut slots = Vec::new();
        for head in heads {
            let Body::Head { embedding, scores, .. } = &head.body else {
                continue;
            };
            let Some(slot) = self.slot(&head.id) else {
                continue;
            };
            match self.graphs(&head.id) {
                Ok(graphs) => {
                    let mut made = Vec::new();
                    for graph in graphs {
                        made.push(super::fit::head(&head.id, slot, graph, embedding, scores)?);
                    }
                    if let Some(first) = made.first_mut()
                        && let Some(reason) = first.probe(&probe)?
                    {
                        self.leave_out(&head.id, reason)?;
                        continue;
                    }
                    for (station, head) in stations.iter_mut().zip(made) {
                        station.heads.push(head);
                    }
                    slots.push(slot);
                }
                Err(reason) => self.leave_out(&head.id, reason)?,
            }
        }
        let features = features.is_some();
        let cheap = self.is_cheap(&slots);
        let lane = Lane { reader, padding: reading.padding, slots, features, cheap };
        self.add(stations.into_iter().map(Station::Encoder).collect(), lane);
        Ok(())
    }

    fn add_rules(&mut self, id: &str, file: &Artefact) -> Result<(), PanelError> {
        let text = String::from_utf8(verified(file)?)
            .map_err(|error| PanelError::Unreadable { path: file.path.clone(), reason: error.to_string() })?;
        let rules = Rules::parse(&file.path, &text)?;
        if let Some(slot) = self.slot(id) {
            self.loaded.rules.push((slot, Arc::new(rules)));
        }
        Ok(())
    }
}

/// Loads and checks the folder's experts.
pub(super) fn load(config: &PanelConfig) -> Result<Loaded, PanelError> {
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
        rules: Vec::new(),
        stations: (0..config.workers()).map(|_| Vec::new()).collect(),
    };
    let graphs = load_graphs(config, &manifests)?;
    let mut making = Making { config, graphs, loaded, readers: BTreeMap::new() };
    for manifest in &manifests {
        match &manifest.body {
            Body::Encoder { .. } => {
                let of_this = |head: &&Manifest| matches!(&head.body, Body::Head { encoder, .. } if *encoder == manifest.id);
                making.add_encoder(manifest, &manifests.iter().filter(of_this).collect::<Vec<_>>())?;
            }
            Body::Head { .. } => {}
            Body::Classifier { intake, scores, .. } => {
                making.add_classifier(&manifest.id, intake, scores)?
            }
            Body::Rules { file } => making.add_rules(&manifest.id, file)?,
        }
    }
    Ok(making.loaded)
}

/// Loads the stations of one more worker for a panel with those lanes.
pub(super) fn spare(config: PanelConfig, lanes: &[Lane]) -> Spare {
    let lanes = lanes.to_vec();
    Box::new(move || {
        let loaded = load(&PanelConfig { sessions: Some(1), ..config.clone() })?;
        let same = loaded.lanes == lanes;
        let changed = PanelError::Changed { reason: "the experts load otherwise than at the start" };
        loaded.stations.into_iter().next().filter(|_| same).ok_or(changed)
    })
}
