//! The panel: a window of texts in, votes and readings out.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, unbounded};
use ort::session::RunOptions;

use super::batch::{Limits, form};
use super::error::PanelError;
use super::info::{EncoderInfo, ExpertInfo, State};
use super::load::{Lane, load};
use super::onnx::{Fault, Provider, guarded};
use super::rules::Rules;
use super::scores::Judgement;
use super::station::{Call, TextPorts};
use super::tokenize::{Reader, Tokens};
use super::worker::{Job, Reply, Work, Workers};
use crate::core::features::EncoderId;
use crate::core::ledger::Reading;
use crate::core::vote::{Abstention, Vote};

/// How a panel is made and how it works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PanelConfig {
    /// The folder whose folders are experts.
    pub folder: PathBuf,
    /// ONNX Runtime's library. Not read where no expert has a graph.
    pub runtime: PathBuf,
    /// What runs the graphs.
    pub provider: Provider,
    /// The experts asked, by id; `None`: all. Encoders come along where a head needs them; named
    /// themselves, they give features without any head.
    pub only: Option<Vec<String>>,
    /// Worker threads, each with its own session of every graph; `None`: one a core, as the container
    /// allows.
    pub sessions: Option<usize>,
    /// What batches of texts padded to their longest may hold.
    pub batch: Limits,
    /// What batches of texts padded to one length may hold.
    pub fixed_batch: Limits,
    /// How long a question may take. What is not answered then has timed out.
    pub timeout: Duration,
    /// Refuse the panel where an expert cannot be loaded, instead of letting it abstain.
    pub require_all: bool,
}

impl PanelConfig {
    /// A panel of all experts in `folder`, with the library that `make setup` puts beside them.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        let folder = folder.into();
        Self {
            runtime: folder.join("runtime/libonnxruntime.so"),
            folder,
            provider: Provider::Cpu,
            only: None,
            sessions: None,
            batch: Limits { tokens: 256, rows: 32, overhead: 8 },
            fixed_batch: Limits { tokens: 3_200, rows: 32, overhead: 0 },
            timeout: Duration::from_secs(60),
            require_all: false,
        }
    }

    pub(super) fn workers(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        self.sessions.unwrap_or_else(cores).max(1)
    }
}

/// What the panel says about one text.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Each expert's vote, in the order of the ids' UTF-8 bytes.
    pub votes: Vec<Vote>,
    /// The text's features; none where it is empty, or where there is no encoder or it failed.
    pub reading: Option<Reading>,
    /// Tokens read: the most that any tokenizer gave.
    pub tokens: usize,
}

/// What questions cost.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Texts asked about.
    pub texts: usize,
    /// Batches run.
    pub batches: usize,
    /// Tokens that texts had.
    pub real_tokens: usize,
    /// Tokens that batches held with their padding.
    pub padded_tokens: usize,
    /// Time to tokenise.
    pub tokenise: Duration,
    /// Worker time in encoders, heads apart.
    pub encoder: Duration,
    /// Worker time by expert, in the order of [`Panel::experts`].
    pub experts: Vec<Duration>,
    /// From question to answer.
    pub elapsed: Duration,
}

/// One expert's vote with what it cost.
#[derive(Debug, Clone, PartialEq)]
pub struct Examined {
    /// The vote.
    pub vote: Vote,
    /// Tokens that the expert read; `None` for rules.
    pub tokens: Option<usize>,
    /// Its own time; for a head without its encoder's.
    pub time: Duration,
}

/// The experts of a deployment, ready to be asked from any thread.
pub struct Panel {
    experts: Vec<ExpertInfo>,
    encoder: Option<EncoderInfo>,
    readers: Vec<Reader>,
    lanes: Vec<Lane>,
    rules: Vec<(usize, Arc<Rules>)>,
    workers: Workers,
    sessions: usize,
    batch: Limits,
    fixed_batch: Limits,
    timeout: Duration,
}

/// What is known so far about each text of a window.
struct Board {
    /// By text, then by the expert's slot.
    outcomes: Vec<Vec<Result<Judgement, Abstention>>>,
    truncated: Vec<Vec<bool>>,
    features: Vec<Option<Box<crate::core::features::Features>>>,
    tokens: Vec<usize>,
}

impl Board {
    fn put(&mut self, text: usize, slot: usize, outcome: Result<Judgement, Abstention>) {
        if let Some(place) = self.outcomes.get_mut(text).and_then(|row| row.get_mut(slot)) {
            *place = outcome;
        }
    }

    fn mark_truncated(&mut self, text: usize, slot: usize) {
        if let Some(place) = self.truncated.get_mut(text).and_then(|row| row.get_mut(slot)) {
            *place = true;
        }
    }
}

/// Texts that a rules job holds at most.
const RULES_TEXTS: usize = 32;

impl Panel {
    /// Opens the folder: reads and checks every manifest and file, loads the graphs, and runs each once.
    ///
    /// # Errors
    /// Where a manifest, hash, graph, tokenizer or rule file is not as it must be, or the runtime or its
    /// provider cannot be used. A graph that does not load or run is an error with `require_all` only;
    /// otherwise its expert abstains.
    pub fn open(config: PanelConfig) -> Result<Self, PanelError> {
        let loaded = load(&config)?;
        for expert in &loaded.experts {
            tracing::info!(expert = expert.id, kind = expert.kind.word(), provider = expert.provider, "expert");
        }
        Ok(Self {
            experts: loaded.experts,
            encoder: loaded.encoder,
            readers: loaded.readers,
            lanes: loaded.lanes,
            rules: loaded.rules,
            sessions: config.workers(),
            workers: Workers::start(loaded.stations)?,
            batch: config.batch,
            fixed_batch: config.fixed_batch,
            timeout: config.timeout,
        })
    }

    /// The experts, in the order of their ids' UTF-8 bytes, those that could not be loaded among them.
    #[must_use]
    pub fn experts(&self) -> &[ExpertInfo] {
        &self.experts
    }

    /// The encoder that makes the features.
    #[must_use]
    pub fn encoder_info(&self) -> Option<&EncoderInfo> {
        self.encoder.as_ref()
    }

    /// What the features are stored under.
    #[must_use]
    pub fn encoder(&self) -> Option<EncoderId> {
        self.encoder.as_ref().map(|encoder| encoder.encoder)
    }

    /// Worker threads.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.sessions
    }

    /// Asks every expert about every text. Answers come in the texts' order.
    #[must_use]
    pub fn ask(&self, texts: &[&str]) -> Vec<Answer> {
        self.ask_tallied(texts, &mut Tally::default())
    }

    /// As [`Panel::ask`]; adds what it cost to the tally.
    #[must_use]
    pub fn ask_tallied(&self, texts: &[&str], tally: &mut Tally) -> Vec<Answer> {
        let board = self.question(texts, true, tally);
        let rows = board.outcomes.into_iter().zip(board.truncated).zip(board.features).zip(board.tokens);
        rows.map(|(((outcomes, truncated), features), tokens)| Answer {
            votes: self
                .experts
                .iter()
                .zip(outcomes.into_iter().zip(truncated))
                .map(|(expert, (outcome, truncated))| vote(expert, outcome, truncated))
                .collect(),
            reading: self.reading(features),
            tokens,
        })
        .collect()
    }

    /// Reads texts with the encoder alone: their features, in the texts' order. `progress` is told how
    /// many are done.
    pub fn read(&self, texts: &[&str], mut progress: impl FnMut(usize)) -> Vec<Option<Reading>> {
        /// Texts sorted together: more makes less padding, and progress coarser.
        const WINDOW: usize = 512;
        let mut readings = Vec::with_capacity(texts.len());
        for window in texts.chunks(WINDOW) {
            let board = self.question(window, false, &mut Tally::default());
            readings.extend(board.features.into_iter().map(|features| self.reading(features)));
            progress(readings.len());
        }
        readings
    }

    /// Asks every expert about one text, with time and tokens.
    #[must_use]
    pub fn examine(&self, text: &str) -> Vec<Examined> {
        let mut tally = Tally::default();
        let answers = self.ask_tallied(&[text], &mut tally);
        let votes = answers.into_iter().flat_map(|answer| answer.votes);
        let tokens = |slot: usize| {
            let lane = self.lanes.iter().find(|lane| lane.slots.contains(&slot))?;
            let tokens = self.readers.get(lane.reader)?.read(text).ok()?;
            Some(tokens.ids.len())
        };
        votes
            .zip(tally.experts)
            .enumerate()
            .map(|(slot, (vote, time))| Examined { vote, tokens: tokens(slot), time })
            .collect()
    }

    fn reading(&self, features: Option<Box<crate::core::features::Features>>) -> Option<Reading> {
        Some(Reading { encoder: self.encoder()?, features: features? })
    }

    fn question(&self, texts: &[&str], heads: bool, tally: &mut Tally) -> Board {
        let started = Instant::now();
        tally.texts += texts.len();
        tally.experts.resize(self.experts.len(), Duration::ZERO);
        let mut board = self.board(texts);
        // Only where a graph is asked: without one the runtime may not be there.
        let options = if self.lanes.is_empty() { None } else { RunOptions::new().ok() };
        let call = Arc::new(Call { deadline: started + self.timeout, options });
        let (reply, replies) = unbounded();
        let asked: Vec<(usize, &str)> =
            texts.iter().copied().enumerate().filter(|(_, text)| !text.trim().is_empty()).collect();
        let mut expected = 0;
        if heads {
            expected += self.send_rules(&asked, &call, &reply);
        }
        let mut read: Vec<Option<Vec<ReadText>>> = self.readers.iter().map(|_| None).collect();
        for lane in self.lanes.iter().filter(|lane| heads || lane.features) {
            let (Some(reader), Some(place)) = (self.readers.get(lane.reader), read.get_mut(lane.reader)) else { continue };
            let tokens = place.get_or_insert_with(|| {
                let started = Instant::now();
                let tokens = tokenise(reader, &asked);
                tally.tokenise += started.elapsed();
                tokens
            });
            expected += self.send_lane(lane, tokens, heads, &call, &reply, &mut board, tally);
        }
        drop(reply);
        for _ in 0..expected {
            let Ok(reply) = replies.recv_deadline(call.deadline) else {
                // Late runs stop at their next node, and the workers are free again.
                if let Some(options) = &call.options {
                    let _ = options.terminate();
                }
                break;
            };
            take(reply, &mut board, tally);
        }
        tally.elapsed += started.elapsed();
        board
    }

    fn board(&self, texts: &[&str]) -> Board {
        let outcome = |text: &str, expert: &ExpertInfo| match expert.state {
            _ if text.trim().is_empty() => Abstention::EmptyText,
            State::NotLoaded { .. } => Abstention::NotLoaded,
            State::Loaded => Abstention::TimedOut,
        };
        let row = |text: &&str| self.experts.iter().map(|expert| Err(outcome(text, expert))).collect();
        Board {
            outcomes: texts.iter().map(row).collect(),
            truncated: vec![vec![false; self.experts.len()]; texts.len()],
            features: vec![None; texts.len()],
            tokens: vec![0; texts.len()],
        }
    }

    /// Hands the texts to the rules experts; gives the number of jobs.
    fn send_rules(&self, asked: &[(usize, &str)], call: &Arc<Call>, reply: &Sender<Reply>) -> usize {
        if self.rules.is_empty() {
            return 0;
        }
        let owned: Vec<(usize, Arc<str>)> = asked.iter().map(|&(place, text)| (place, Arc::from(text))).collect();
        let mut sent = 0;
        for (slot, rules) in &self.rules {
            for texts in owned.chunks(RULES_TEXTS) {
                let work = Work::Rules { slot: *slot, rules: Arc::clone(rules), texts: texts.to_vec() };
                sent += usize::from(self.workers.send(Job { work, call: Arc::clone(call), reply: reply.clone() }));
            }
        }
        sent
    }

    /// Forms batches of one lane's texts and hands them over; gives their number.
    #[allow(clippy::too_many_arguments)]
    fn send_lane(
        &self,
        lane: &Lane,
        texts: &[ReadText],
        heads: bool,
        call: &Arc<Call>,
        reply: &Sender<Reply>,
        board: &mut Board,
        tally: &mut Tally,
    ) -> usize {
        let mut rows: Vec<(usize, Arc<Tokens>)> = Vec::with_capacity(texts.len());
        for (place, tokens) in texts {
            let Some(tokens) = tokens else {
                lane.slots.iter().for_each(|&slot| board.put(*place, slot, Err(Abstention::Failed)));
                continue;
            };
            if let Some(most) = board.tokens.get_mut(*place) {
                *most = tokens.ids.len().max(*most);
            }
            if tokens.truncated {
                lane.slots.iter().for_each(|&slot| board.mark_truncated(*place, slot));
            }
            tally.real_tokens += tokens.ids.len();
            rows.push((*place, Arc::clone(tokens)));
        }
        let lengths: Vec<usize> =
            rows.iter().map(|(_, tokens)| TextPorts::width(&lane.padding, tokens.ids.len())).collect();
        let limits = if lane.padding.to.is_some() { &self.fixed_batch } else { &self.batch };
        let mut sent = 0;
        for batch in form(&lengths, limits) {
            tally.batches += 1;
            tally.padded_tokens += batch.padded();
            let rows = batch.texts.iter().filter_map(|&text| rows.get(text).cloned()).collect();
            let work = Work::Batch { station: lane.station, rows, heads };
            sent += usize::from(self.workers.send(Job { work, call: Arc::clone(call), reply: reply.clone() }));
        }
        sent
    }
}

/// A text of the window with its tokens, where it could be read.
type ReadText = (usize, Option<Arc<Tokens>>);

/// Reads texts once. A tokenizer that fails, or panics, costs only that text's votes.
fn tokenise(reader: &Reader, asked: &[(usize, &str)]) -> Vec<ReadText> {
    let read = |text| guarded(|| reader.read(text).map_err(Fault::failed)).ok().map(Arc::new);
    asked.iter().map(|&(place, text)| (place, read(text))).collect()
}

fn take(reply: Reply, board: &mut Board, tally: &mut Tally) {
    tally.encoder += reply.spent.encoder;
    for (slot, time) in reply.spent.experts {
        if let Some(total) = tally.experts.get_mut(slot) {
            *total += time;
        }
    }
    for (text, row) in reply.rows {
        for (slot, outcome) in row.outcomes {
            if reply.truncated.contains(&text) {
                board.mark_truncated(text, slot);
            }
            board.put(text, slot, outcome);
        }
        if let Some(place) = board.features.get_mut(text)
            && row.features.is_some()
        {
            *place = row.features;
        }
    }
}

fn vote(expert: &ExpertInfo, outcome: Result<Judgement, Abstention>, truncated: bool) -> Vote {
    match outcome {
        Ok((score, categories)) => {
            Vote { truncated, ..Vote::scored(&expert.id, expert.model, score, categories) }
        }
        Err(reason) => {
            let model = (reason != Abstention::NotLoaded).then_some(expert.model);
            Vote::abstained(&expert.id, model, reason)
        }
    }
}
