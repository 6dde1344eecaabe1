//! Makes stations and lanes of what was loaded, and checks that all fits together. What could not be loaded has its
//! lane all the same, without anything at its end.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::backend::onnx::Encoder;
use super::backend::{Form, ModelBackend, NotLoaded, Profile};
use super::batch_invariance::check_batch_invariance;
use super::config::PanelConfig;
use super::error::PanelError;
use super::files::verified;
use super::fit::{classifier, encoder, head, misfit};
use super::info::State;
use super::load::{Graphs, Lane, Loaded, Want};
use super::manifest::{Artefact, Body, Intake, Manifest, Reading, Scores};
use super::rules::Rules;
use super::tokenize::{Reader, Tokenizing};

/// What makes readers different.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum ReaderKey {
    Tokens { tokenizer: [u8; 32], max_tokens: usize, windows: usize, drop_ids: Vec<u32> },
    Text { max_chars: usize },
}

/// A panel in the making.
pub(super) struct Making<'a> {
    config: &'a PanelConfig,
    graphs: BTreeMap<String, Graphs>,
    pub(super) loaded: Loaded,
    readers: BTreeMap<ReaderKey, usize>,
}

impl<'a> Making<'a> {
    /// What has been loaded so far, and the graphs to go on with.
    pub(super) fn new(config: &'a PanelConfig, graphs: BTreeMap<String, Graphs>, loaded: Loaded) -> Self {
        Self { config, graphs, loaded, readers: BTreeMap::new() }
    }

    fn slot(&self, id: &str) -> Option<usize> {
        self.loaded.experts.iter().position(|expert| expert.id == id)
    }

    fn is_cheap(&self, slots: &[usize]) -> bool {
        let ids = slots.iter().filter_map(|&slot| self.loaded.experts.get(slot));
        ids.into_iter().any(|expert| self.config.cheap.contains(&expert.id))
    }

    /// Marks an expert as not loaded, or refuses the panel where all are required.
    fn leave_out(&mut self, manifest: &Manifest, reason: String) -> Result<(), PanelError> {
        let id = manifest.id.as_str();
        if self.config.require_all {
            let path = manifest.graph().map(|graph| graph.file.path.clone()).unwrap_or_default();
            return Err(PanelError::NotLoaded { id: id.to_owned(), path, reason });
        }
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
            windows: reading.windows,
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
    fn add(&mut self, stations: Vec<ModelBackend>, lane: Lane, want: Want) {
        for (worker, station) in self.loaded.stations.iter_mut().zip(stations) {
            worker.push(station);
        }
        self.loaded.lanes.push(lane);
        self.loaded.wants.push(want);
    }

    /// Adds a lane at whose end nothing is.
    fn add_absent(&mut self, lane: Lane) {
        let slots = lane.slots.clone();
        let profile = Profile { reads: Form::TokenIds, padded_to: lane.padding.to, max_in_flight: None };
        let absent = || Box::new(NotLoaded { experts: slots.clone(), profile }) as ModelBackend;
        let stations = self.loaded.stations.iter().map(|_| absent()).collect();
        self.add(stations, lane, Want { slots, whole: true });
    }

    pub(super) fn add_classifier(
        &mut self,
        manifest: &Manifest,
        intake: &Intake,
        scores: &Scores,
    ) -> Result<(), PanelError> {
        let (id, alone) = (manifest.id.as_str(), manifest.alone);
        let (reader, greatest) = self.intake(id, intake)?;
        let Some(slot) = self.slot(id) else {
            return Ok(());
        };
        let (slots, padding, cheap) = (vec![slot], intake.padding(), self.is_cheap(&[slot]));
        let models = manifest.model().into_iter().collect();
        let lane = Lane { id: id.to_owned(), reader, padding, slots, features: false, cheap, alone, models };
        let mut stations = Vec::new();
        let mut failure = None;
        match self.graphs(id) {
            Ok(graphs) => {
                for graph in graphs {
                    stations.push(classifier(id, slot, graph, intake, scores)?);
                }
            }
            Err(reason) => failure = Some(reason),
        }
        if let Some(first) = stations.first_mut() {
            failure = first.probe(greatest)?;
        }
        if let Some(reason) = failure {
            self.leave_out(manifest, reason)?;
            self.add_absent(lane);
            return Ok(());
        }
        let mut stations: Vec<ModelBackend> =
            stations.into_iter().map(|classifier| Box::new(classifier) as ModelBackend).collect();
        if !alone {
            stations.first_mut().map_or(Ok(()), |station| {
                check_batch_invariance(id, greatest, intake.room(), station.as_mut())
            })?;
        }
        self.add(stations, lane, Want::default());
        Ok(())
    }

    pub(super) fn add_encoder(&mut self, manifest: &Manifest, heads: &[&Manifest]) -> Result<(), PanelError> {
        let Body::Encoder { reading, embedding, features, .. } = &manifest.body else {
            return Ok(());
        };
        let id = manifest.id.as_str();
        let (reader, greatest) = self.reader(id, reading)?;
        let slots: Vec<usize> = heads.iter().filter_map(|head| self.slot(&head.id)).collect();
        let (padding, cheap) = (reading.padding, self.is_cheap(&slots));
        let (alone, features) = (manifest.alone, features.as_deref());
        let models = [manifest].iter().chain(heads).filter_map(|one| one.model()).collect();
        let lane = Lane {
            id: id.to_owned(),
            reader,
            padding,
            slots,
            features: features.is_some(),
            cheap,
            alone,
            models,
        };
        let mut stations = Vec::new();
        let mut failure = None;
        match self.graphs(id) {
            Ok(graphs) => {
                for graph in graphs {
                    stations.push(encoder(id, graph, reading, embedding, features)?);
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
            self.leave_out(manifest, reason.clone())?;
            for head in heads {
                self.leave_out(head, format!("its encoder {id}: {reason}"))?;
            }
            self.add_absent(lane);
            return Ok(());
        }
        let mut want = Want::default();
        for head in heads {
            if let Some(slot) = self.add_head(head, &probe, &mut stations)? {
                want.slots.push(slot);
            }
        }
        let mut stations: Vec<ModelBackend> =
            stations.into_iter().map(|encoder| Box::new(encoder) as ModelBackend).collect();
        if !alone {
            stations.first_mut().map_or(Ok(()), |station| {
                check_batch_invariance(id, Some(greatest), reading.max_tokens, station.as_mut())
            })?;
        }
        self.add(stations, lane, want);
        Ok(())
    }

    /// Adds a head to the encoder of each worker; its slot where it could not be loaded.
    fn add_head(
        &mut self,
        manifest: &Manifest,
        probe: &[f32],
        encoders: &mut [Encoder],
    ) -> Result<Option<usize>, PanelError> {
        let id = manifest.id.as_str();
        let (Body::Head { embedding, scores, .. }, Some(slot)) = (&manifest.body, self.slot(id)) else {
            return Ok(None);
        };
        let mut made = Vec::new();
        let mut failure = None;
        match self.graphs(id) {
            Ok(graphs) => {
                for graph in graphs {
                    made.push(head(id, slot, graph, embedding, scores)?);
                }
            }
            Err(reason) => failure = Some(reason),
        }
        if let Some(first) = made.first_mut() {
            failure = first.probe(probe)?;
        }
        if let Some(reason) = failure {
            self.leave_out(manifest, reason)?;
            encoders.iter_mut().for_each(|encoder| encoder.absent.push(slot));
            return Ok(Some(slot));
        }
        encoders.iter_mut().zip(made).for_each(|(encoder, head)| encoder.heads.push(head));
        Ok(None)
    }

    pub(super) fn add_rules(&mut self, id: &str, file: &Artefact) -> Result<(), PanelError> {
        let text = String::from_utf8(verified(file)?)
            .map_err(|error| PanelError::Unreadable { path: file.path.clone(), reason: error.to_string() })?;
        let rules = Rules::parse(&file.path, &text)?;
        if let Some(slot) = self.slot(id) {
            self.loaded.rules.push((slot, Arc::new(rules)));
        }
        Ok(())
    }
}
