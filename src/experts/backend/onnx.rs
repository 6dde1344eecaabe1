//! Runs ONNX graphs: a classifier, or an encoder with the heads that share its run.
//!
//! A failure costs votes, not the worker: a batch that fails is run again text by text, so that one text costs only
//! its own votes.

pub(crate) mod environment;
pub(crate) mod input;
pub(crate) mod provider;
pub(crate) mod session;
pub(crate) mod tensors;

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use input::{ClassifierInput, TokenInputs};
use ort::session::{RunOptions, SessionOutputs};
use ort::value::{PrimitiveTensorElementType, Tensor, TensorRef};
use session::{Graph, Inputs};
use tensors::{matrix, shared_matrix};

use crate::core::features::DIMENSIONS;
use crate::core::vote::Abstention;
use crate::experts::backend::result::{ErrorLog, RunError, RunTimes, TextResult, catch_panic};
use crate::experts::backend::run::{Cancel, InFlightRun};
use crate::experts::backend::{Backend, Profile, Wanted};
use crate::experts::features::EncoderFeatures;
use crate::experts::manifest::Scores;
use crate::experts::manifest::features::FeatureOutputs;
use crate::experts::scores::ExpertScore;

impl Cancel for RunOptions {
    /// The graph stops before its next node.
    fn cancel(&self) {
        // Its only error is that the runtime has no such call.
        let _ = self.terminate();
    }

    fn reset(&self) {
        let _ = self.unterminate();
    }
}

/// The run options of a batch. They are registered with the run, so that it can be cancelled.
fn cancellable(
    graph: &Graph,
    profile: Profile,
    rows: &[&[u32]],
    run: &InFlightRun,
) -> Result<Arc<RunOptions>, RunError> {
    let longest = rows.iter().map(|row| row.len()).max().unwrap_or(0);
    // A trial frees the memory that the run before it kept, which had to be stopped.
    let options = graph.options(profile.cost(longest), run.is_trial()).map_err(RunError::failed)?;
    let options = Arc::new(options);
    run.on_cancel(Arc::clone(&options) as Arc<dyn Cancel>);
    Ok(options)
}

/// A graph that scores texts, given an embedding or tokens.
pub(crate) struct Scorer {
    pub(crate) id: String,
    pub(crate) expert_index: usize,
    pub(crate) graph: Graph,
    pub(crate) scores: Scores,
    pub(crate) errors: ErrorLog,
}

impl Scorer {
    /// Runs the graph on the inputs that `fill` makes for these rows. If that fails, each row runs alone.
    fn judge<'a>(
        &mut self,
        rows: Range<usize>,
        run: &InFlightRun,
        options: &RunOptions,
        fill: &dyn Fn(Range<usize>) -> Result<Inputs<'a>, RunError>,
    ) -> Vec<Result<ExpertScore, Abstention>> {
        let (graph, output) = (&mut self.graph, self.scores.output.as_str());
        let read = self.scores.read.as_deref();
        let outputs = catch_panic(|| {
            graph.run(fill(rows.clone())?, options, |outputs| {
                let read = read.map(|read| matrix::<f32>(outputs, read, rows.len())).transpose()?;
                Ok((matrix::<f32>(outputs, output, rows.len())?, read))
            })
        });
        match outputs {
            Ok(((numbers, width), None)) => {
                numbers.chunks(width).map(|row| self.scores.score_row(row)).collect()
            }
            Ok(((numbers, width), Some((read, parts)))) => {
                let judge = |(row, read): (&[f32], &[f32])| match read.iter().all(|read| *read == 0.0) {
                    true => Err(Abstention::NothingRead),
                    false => self.scores.score_row(row),
                };
                numbers.chunks(width).zip(read.chunks(parts)).map(judge).collect()
            }
            Err(_) if run.is_over() => vec![Err(Abstention::TimedOut); rows.len()],
            Err(error) if rows.len() > 1 && error.reason == Abstention::Failed => {
                rows.flat_map(|row| self.judge(row..row + 1, run, options, fill)).collect()
            }
            Err(error) => {
                self.errors.note(&self.id, &error);
                vec![Err(error.reason); rows.len()]
            }
        }
    }
}

/// A session of a classifier.
pub(crate) struct Classifier {
    pub(crate) profile: Profile,
    pub(crate) input: ClassifierInput,
    pub(crate) scorer: Scorer,
}

impl Backend for Classifier {
    type Text = [u32];

    fn profile(&self) -> Profile {
        self.profile
    }

    fn run(
        &mut self,
        rows: &[&[u32]],
        _: Wanted<'_>,
        run: &InFlightRun,
        times: &mut RunTimes,
    ) -> Vec<TextResult> {
        let (started, expert_index) = (Instant::now(), self.scorer.expert_index);
        let outcomes = match cancellable(&self.scorer.graph, self.profile(), rows, run) {
            Ok(options) => {
                let input = &self.input;
                self.scorer.judge(0..rows.len(), run, &options, &|range| input.fill(&rows[range]))
            }
            Err(error) => {
                self.scorer.errors.note(&self.scorer.id, &error);
                vec![Err(error.reason); rows.len()]
            }
        };
        times.experts.push((expert_index, started.elapsed()));
        let result =
            |outcome| TextResult { outcomes: vec![(expert_index, outcome)], ..TextResult::default() };
        outcomes.into_iter().map(result).collect()
    }
}

/// A head: its graph, and the name of the input that takes the embedding.
pub(crate) struct Head {
    pub(crate) embedding: String,
    pub(crate) scorer: Scorer,
}

/// A session of an encoder, with the heads that share its run.
pub(crate) struct Encoder {
    pub(crate) id: String,
    pub(crate) graph: Graph,
    pub(crate) input: TokenInputs,
    /// The name of the output that holds the embedding.
    pub(crate) embedding: String,
    /// The outputs that hold features.
    pub(crate) features: FeatureOutputs,
    pub(crate) heads: Vec<Head>,
    /// The experts whose heads could not be loaded.
    pub(crate) absent: Vec<usize>,
    pub(crate) errors: ErrorLog,
}

/// The output of an encoder for a batch.
pub(crate) struct Encoded {
    /// The embeddings, row by row.
    pub(crate) embedding: Vec<f32>,
    /// The same numbers where the heads run, so that a card does not receive them again for each head.
    shared: Tensor<f32>,
    /// Numbers in a row.
    width: usize,
    /// By row; `None` where the embedding is not finite, or without an output for features.
    features: Vec<Option<EncoderFeatures>>,
}

/// Takes the features of a batch, row by row; `None` if the graph gives none.
fn features_of(
    outputs: &SessionOutputs<'_>,
    names: &FeatureOutputs,
    rows: usize,
) -> Result<Vec<Option<EncoderFeatures>>, RunError> {
    let alone = names.alone.as_ref().map(|name| by_row::<i8>(outputs, name, rows)).transpose()?;
    let parts = names.part.as_ref().map(|name| by_row::<i16>(outputs, name, rows)).transpose()?;
    Ok(match (alone, parts) {
        (Some(alone), Some(parts)) => {
            let both = alone.into_iter().zip(parts);
            both.map(|(alone, part)| Some(EncoderFeatures::Leader { alone, part: Some(part) })).collect()
        }
        (Some(alone), None) => {
            alone.into_iter().map(|alone| Some(EncoderFeatures::Leader { alone, part: None })).collect()
        }
        (None, Some(parts)) => parts.into_iter().map(|part| Some(EncoderFeatures::Partner(part))).collect(),
        (None, None) => vec![None; rows],
    })
}

/// Takes an output with the numbers of features, row by row.
fn by_row<T: PrimitiveTensorElementType + Copy>(
    outputs: &SessionOutputs<'_>,
    name: &str,
    rows: usize,
) -> Result<Vec<Box<[T; DIMENSIONS]>>, RunError> {
    let (numbers, width) = matrix::<T>(outputs, name, rows)?;
    let wrong = |_| RunError::shape(format!("{name} has not {DIMENSIONS} numbers a text"));
    numbers.chunks(width).map(|row| row.try_into().map(Box::new).map_err(wrong)).collect()
}

impl Encoder {
    /// Runs the encoder alone.
    pub(crate) fn encode(&mut self, rows: &[&[u32]], options: &RunOptions) -> Result<Encoded, RunError> {
        let (graph, input, name) = (&mut self.graph, &self.input, self.embedding.as_str());
        let features = &self.features;
        catch_panic(|| {
            graph.run_bound(input.fill(rows)?, options, (name, &features.names()), |mut outputs| {
                let (shared, embedding, width) = shared_matrix(&mut outputs, name, rows.len())?;
                let mut by_row = features_of(&outputs, features, rows.len())?;
                for (features, floats) in by_row.iter_mut().zip(embedding.chunks(width)) {
                    // A cast of NaN gives numbers that mean nothing.
                    features.take_if(|_| floats.iter().any(|x| !x.is_finite()));
                }
                Ok(Encoded { embedding, shared, width, features: by_row })
            })
        })
    }

    /// Runs the encoder on rows, and its heads on the embeddings. If the encoder fails, each row runs alone.
    fn run_rows(
        &mut self,
        rows: &[&[u32]],
        wanted: Wanted<'_>,
        run: &InFlightRun,
        options: &RunOptions,
        times: &mut RunTimes,
    ) -> Vec<TextResult> {
        let started = Instant::now();
        run.on_encoder_start();
        let encoded = self.encode(rows, options);
        times.encoder += started.elapsed();
        match (encoded, wanted) {
            (Ok(encoded), Wanted::Votes { except }) => {
                self.run_heads(encoded, rows.len(), except, run, options, times)
            }
            (Ok(encoded), Wanted::Features) => {
                let result = |features| TextResult { features, ..TextResult::default() };
                encoded.features.into_iter().map(result).collect()
            }
            (Err(_), _) if run.is_over() => self.abstained(Abstention::TimedOut, rows.len()),
            (Err(error), _) if rows.len() > 1 && error.reason == Abstention::Failed => {
                rows.iter().flat_map(|row| self.run_rows(&[row], wanted, run, options, times)).collect()
            }
            (Err(error), _) => {
                self.errors.note(&self.id, &error);
                self.abstained(error.reason, rows.len())
            }
        }
    }

    fn abstained(&self, reason: Abstention, rows: usize) -> Vec<TextResult> {
        let heads = self.heads.iter().map(|head| head.scorer.expert_index);
        vec![TextResult::abstained(heads.chain(self.absent.iter().copied()), reason); rows]
    }

    fn run_heads(
        &mut self,
        encoded: Encoded,
        rows: usize,
        except: &[(usize, Abstention)],
        run: &InFlightRun,
        options: &RunOptions,
        times: &mut RunTimes,
    ) -> Vec<TextResult> {
        let Encoded { embedding, shared, width, features } = encoded;
        let absent = self.absent.iter().map(|&expert| (expert, Abstention::NotLoaded));
        let abstentions: Vec<_> = except.iter().copied().chain(absent).collect();
        let result = |features| TextResult {
            outcomes: abstentions.iter().map(|&(expert, reason)| (expert, Err(reason))).collect(),
            features,
            ..TextResult::default()
        };
        run.on_encoder_done(features.into_iter().map(result).collect());
        let is_wanted =
            |head: &&mut Head| !except.iter().any(|(expert, _)| *expert == head.scorer.expert_index);
        for head in self.heads.iter_mut().filter(is_wanted) {
            let (started, expert_index) = (Instant::now(), head.scorer.expert_index);
            if !run.on_head_start(expert_index) {
                run.on_head_done(expert_index, vec![Err(Abstention::TimedOut); rows]);
                continue;
            }
            let name = head.embedding.as_str();
            let outcomes = head.scorer.judge(0..rows, run, options, &|range| {
                if range.len() == rows {
                    return Ok(vec![(Cow::from(name), (&shared).into())]);
                }
                let part = &embedding[range.start * width..range.end * width];
                let tensor =
                    TensorRef::from_array_view(([range.len(), width], part)).map_err(RunError::failed)?;
                Ok(vec![(Cow::from(name), tensor.into())])
            });
            times.experts.push((expert_index, started.elapsed()));
            run.on_head_done(expert_index, outcomes);
        }
        run.finish()
    }
}

impl Backend for Encoder {
    type Text = [u32];

    fn profile(&self) -> Profile {
        Profile::of_tokens(self.input.padding)
    }

    fn run(
        &mut self,
        rows: &[&[u32]],
        wanted: Wanted<'_>,
        run: &InFlightRun,
        times: &mut RunTimes,
    ) -> Vec<TextResult> {
        match cancellable(&self.graph, self.profile(), rows, run) {
            Ok(options) => self.run_rows(rows, wanted, run, &options, times),
            Err(error) => {
                self.errors.note(&self.id, &error);
                self.abstained(error.reason, rows.len())
            }
        }
    }
}
