//! A station runs batches on one graph, or on an encoder and the heads that share its run.
//!
//! Whatever goes wrong costs votes, not the worker: a batch that fails is run again text by text, so
//! that one text costs only its own votes.

pub(crate) mod input;
pub(crate) mod session;

use std::borrow::Cow;
use std::ops::Range;
use std::time::{Duration, Instant};

use ort::value::{Tensor, TensorRef};

use crate::core::features::{DIMENSIONS, Features};
use crate::core::vote::Abstention;
use crate::experts::backend::onnx::input::TextPort;
use crate::experts::backend::onnx::session::{
    Fault, Graph, Inputs, Port, guarded, matrix, shared_matrix, whole_numbers,
};
use crate::experts::backend::run::Call;
use crate::experts::manifest::{Padding, Scores, Side};
use crate::experts::scores::Judgement;

/// What a station makes of one text.
#[derive(Debug, Clone, Default)]
pub(crate) struct RowResult {
    /// By the expert's slot.
    pub(crate) outcomes: Vec<(usize, Result<Judgement, Abstention>)>,
    pub(crate) features: Option<Box<Features>>,
}

/// The heads that are asked of an encoder's run: all but those that are left alone, for a reason.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heads<'a> {
    pub(crate) without: &'a [(usize, Abstention)],
}

/// Time that a batch took.
#[derive(Debug, Default)]
pub(crate) struct Spent {
    pub(crate) encoder: Duration,
    /// By the expert's slot.
    pub(crate) experts: Vec<(usize, Duration)>,
}

/// How a graph is given text.
pub(crate) struct TextPorts {
    pub(crate) ids: Port,
    pub(crate) mask: Option<Port>,
    pub(crate) types: Option<Port>,
    pub(crate) padding: Padding,
}

impl TextPorts {
    /// Length that a text of so many tokens is run at, alone.
    pub(crate) fn width(padding: &Padding, tokens: usize) -> usize {
        padding.to.unwrap_or(tokens.max(1))
    }

    pub(crate) fn fill(&self, rows: &[&[u32]]) -> Result<Inputs<'_>, Fault> {
        let longest = rows.iter().map(|row| row.len()).max().unwrap_or(0);
        let width = Self::width(&self.padding, longest);
        let mut ids = Vec::with_capacity(rows.len() * width);
        let mut mask = Vec::with_capacity(rows.len() * width);
        for row in rows {
            let pad = width.saturating_sub(row.len());
            let padding = || std::iter::repeat_n((i64::from(self.padding.id), 0_i64), pad);
            let tokens = row.iter().map(|&id| (i64::from(id), 1));
            let cells: Box<dyn Iterator<Item = (i64, i64)>> = match self.padding.side {
                Side::Left => Box::new(padding().chain(tokens)),
                Side::Right => Box::new(tokens.chain(padding())),
            };
            for (id, real) in cells {
                ids.push(id);
                mask.push(real);
            }
        }
        let shape = [rows.len(), width];
        let mut inputs = vec![(Cow::from(&self.ids.name), whole_numbers(self.ids.kind, shape, &ids)?)];
        if let Some(port) = &self.mask {
            inputs.push((Cow::from(&port.name), whole_numbers(port.kind, shape, &mask)?));
        }
        if let Some(port) = &self.types {
            inputs.push((Cow::from(&port.name), whole_numbers(port.kind, shape, &vec![0; ids.len()])?));
        }
        Ok(inputs)
    }
}

/// How a classifier's graph is given text.
pub(crate) enum Feed {
    Tokens(TextPorts),
    Text(TextPort),
}

impl Feed {
    pub(crate) fn fill(&self, rows: &[&[u32]]) -> Result<Inputs<'_>, Fault> {
        match self {
            Self::Tokens(ports) => ports.fill(rows),
            Self::Text(port) => port.fill(rows),
        }
    }
}

/// Says what went wrong: the first time, the second, the fourth, the eighth …
#[derive(Default)]
pub(crate) struct Complaints(u64);

impl Complaints {
    fn note(&mut self, expert: &str, fault: &Fault) {
        self.0 += 1;
        if self.0.is_power_of_two() {
            let (reason, detail, times) = (fault.reason.word(), fault.detail.as_str(), self.0);
            tracing::warn!(expert, reason, detail, times, "an expert could not judge; it abstains");
        }
    }
}

/// A graph that scores texts: of an embedding, or of tokens.
pub(crate) struct Scorer {
    pub(crate) id: String,
    pub(crate) slot: usize,
    pub(crate) graph: Graph,
    pub(crate) scores: Scores,
    pub(crate) complaints: Complaints,
}

impl Scorer {
    /// Runs the graph on `rows` inputs that `fill` makes for all, or for one alone.
    fn judge<'a>(
        &mut self,
        rows: Range<usize>,
        call: &Call,
        fill: &dyn Fn(Range<usize>) -> Result<Inputs<'a>, Fault>,
    ) -> Vec<Result<Judgement, Abstention>> {
        let (graph, output) = (&mut self.graph, self.scores.output.as_str());
        let read = self.scores.read.as_deref();
        let ran = guarded(|| {
            graph.run(fill(rows.clone())?, call.options()?, |outputs| {
                let read = read.map(|read| matrix::<f32>(outputs, read, rows.len())).transpose()?;
                Ok((matrix::<f32>(outputs, output, rows.len())?, read))
            })
        });
        match ran {
            Ok(((numbers, width), None)) => numbers.chunks(width).map(|row| self.scores.judge(row)).collect(),
            Ok(((numbers, width), Some((read, parts)))) => {
                let nothing = |read: &[f32]| read.iter().all(|read| *read == 0.0);
                let rows = numbers.chunks(width).zip(read.chunks(parts));
                rows.map(
                    |(row, read)| {
                        if nothing(read) { Err(Abstention::NothingRead) } else { self.scores.judge(row) }
                    },
                )
                .collect()
            }
            Err(_) if call.over() => vec![Err(Abstention::TimedOut); rows.len()],
            Err(fault) if rows.len() > 1 && fault.reason == Abstention::Failed => {
                rows.flat_map(|row| self.judge(row..row + 1, call, fill)).collect()
            }
            Err(fault) => {
                self.complaints.note(&self.id, &fault);
                vec![Err(fault.reason); rows.len()]
            }
        }
    }
}

/// A classifier's graph.
pub(crate) struct Classifier {
    pub(crate) text: Feed,
    pub(crate) scorer: Scorer,
}

impl Classifier {
    pub(crate) fn run(&mut self, rows: &[&[u32]], call: &Call, spent: &mut Spent) -> Vec<RowResult> {
        let started = Instant::now();
        let text = &self.text;
        let outcomes =
            self.scorer.judge(0..rows.len(), call, &|range| text.fill(rows.get(range).unwrap_or_default()));
        let slot = self.scorer.slot;
        spent.experts.push((slot, started.elapsed()));
        let one = |outcome| RowResult { outcomes: vec![(slot, outcome)], features: None };
        outcomes.into_iter().map(one).collect()
    }
}

/// A head: its graph, and the input that takes the embedding.
pub(crate) struct Head {
    pub(crate) embedding: String,
    pub(crate) scorer: Scorer,
}

/// An encoder's graph with the heads that share its run.
pub(crate) struct Encoder {
    pub(crate) id: String,
    pub(crate) graph: Graph,
    pub(crate) text: TextPorts,
    pub(crate) embedding: String,
    pub(crate) features: Option<String>,
    pub(crate) heads: Vec<Head>,
    /// Slots of heads that could not be loaded.
    pub(crate) absent: Vec<usize>,
    pub(crate) complaints: Complaints,
}

/// What an encoder made of a batch, row by row.
pub(crate) struct Encoded {
    pub(crate) embedding: Vec<f32>,
    /// The same where the heads run: on a card it is not sent there again for each of them.
    shared: Tensor<f32>,
    pub(crate) width: usize,
    features: Vec<Option<Box<Features>>>,
}

impl Encoder {
    /// Runs the encoder alone.
    pub(crate) fn encode(&mut self, rows: &[&[u32]], call: &Call) -> Result<Encoded, Fault> {
        let (graph, text, name) = (&mut self.graph, &self.text, self.embedding.as_str());
        let features = self.features.as_deref();
        guarded(|| {
            graph.run_bound(text.fill(rows)?, call.options()?, (name, features), |mut outputs| {
                let (shared, embedding, width) = shared_matrix(&mut outputs, name, rows.len())?;
                let mut made = vec![None; rows.len()];
                if let Some(features) = features {
                    let (bytes, bytes_wide) = matrix::<i8>(&outputs, features, rows.len())?;
                    for ((place, bytes), floats) in
                        made.iter_mut().zip(bytes.chunks(bytes_wide)).zip(embedding.chunks(width))
                    {
                        let bytes = Features::try_from(bytes).map_err(|_| {
                            Fault::shape(format!("{features} has not {DIMENSIONS} numbers a text"))
                        })?;
                        // Whatever a cast makes of NaN is no reading.
                        *place = floats.iter().all(|x| x.is_finite()).then(|| Box::new(bytes));
                    }
                }
                Ok(Encoded { embedding, shared, width, features: made })
            })
        })
    }

    /// Runs the encoder, and the heads on what it gives unless only features are wanted.
    pub(crate) fn run(
        &mut self,
        rows: &[&[u32]],
        heads: Option<Heads<'_>>,
        call: &Call,
        spent: &mut Spent,
    ) -> Vec<RowResult> {
        let started = Instant::now();
        call.encode();
        let encoded = self.encode(rows, call);
        spent.encoder += started.elapsed();
        match encoded {
            Ok(encoded) => match heads {
                Some(heads) => self.judge(encoded, rows.len(), heads, call, spent),
                None => {
                    let row = |features| RowResult { outcomes: Vec::new(), features };
                    encoded.features.into_iter().map(row).collect()
                }
            },
            Err(_) if call.over() => self.without(Abstention::TimedOut, rows.len()),
            Err(fault) if rows.len() > 1 && fault.reason == Abstention::Failed => {
                rows.iter().flat_map(|row| self.run(&[row], heads, call, spent)).collect()
            }
            Err(fault) => {
                self.complaints.note(&self.id, &fault);
                self.without(fault.reason, rows.len())
            }
        }
    }

    fn slots(&self) -> impl Iterator<Item = usize> + '_ {
        self.heads.iter().map(|head| head.scorer.slot).chain(self.absent.iter().copied())
    }

    fn without(&self, reason: Abstention, rows: usize) -> Vec<RowResult> {
        let one =
            || RowResult { outcomes: self.slots().map(|slot| (slot, Err(reason))).collect(), features: None };
        std::iter::repeat_with(one).take(rows).collect()
    }

    fn judge(
        &mut self,
        encoded: Encoded,
        rows: usize,
        Heads { without }: Heads<'_>,
        call: &Call,
        spent: &mut Spent,
    ) -> Vec<RowResult> {
        let Encoded { embedding, shared, width, features } = encoded;
        let left =
            without.iter().copied().chain(self.absent.iter().map(|&slot| (slot, Abstention::NotLoaded)));
        let row = |features| RowResult {
            outcomes: left.clone().map(|(slot, reason)| (slot, Err(reason))).collect(),
            features,
        };
        call.encoded(features.into_iter().map(row).collect());
        let asked = |head: &&mut Head| !without.iter().any(|(slot, _)| *slot == head.scorer.slot);
        for head in self.heads.iter_mut().filter(asked) {
            let (started, slot) = (Instant::now(), head.scorer.slot);
            if !call.ask(slot) {
                call.hear(slot, vec![Err(Abstention::TimedOut); rows]);
                continue;
            }
            let name = head.embedding.clone();
            let outcomes = head.scorer.judge(0..rows, call, &|range| {
                if range.len() == rows {
                    return Ok(vec![(Cow::from(name.clone()), (&shared).into())]);
                }
                let part = embedding.get(range.start * width..range.end * width).unwrap_or_default();
                let tensor =
                    TensorRef::from_array_view(([range.len(), width], part)).map_err(Fault::failed)?;
                Ok(vec![(Cow::from(name.clone()), tensor.into())])
            });
            spent.experts.push((slot, started.elapsed()));
            call.hear(slot, outcomes);
        }
        call.end()
    }
}

/// What a worker runs batches on.
pub(crate) enum Station {
    Encoder(Encoder),
    Classifier(Classifier),
    /// Nothing could be loaded; the experts that abstain for it.
    Absent(Vec<usize>),
}

impl Station {
    /// Whether texts come as tokens, and not as they are.
    pub(crate) fn counts_tokens(&self) -> bool {
        !matches!(self, Self::Classifier(Classifier { text: Feed::Text(_), .. }))
    }

    pub(crate) fn run(
        &mut self,
        rows: &[&[u32]],
        heads: Option<Heads<'_>>,
        call: &Call,
        spent: &mut Spent,
    ) -> Vec<RowResult> {
        match self {
            Self::Encoder(encoder) => encoder.run(rows, heads, call, spent),
            Self::Classifier(classifier) => classifier.run(rows, call, spent),
            Self::Absent(slots) => {
                let outcomes = slots.iter().map(|&slot| (slot, Err(Abstention::NotLoaded))).collect();
                vec![RowResult { outcomes, features: None }; rows.len()]
            }
        }
    }
}
