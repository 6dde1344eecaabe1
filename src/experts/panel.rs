//! The panel: a window of texts in, votes and readings out.

pub(crate) mod ask;
pub(crate) mod stream;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::backend::onnx::session::{Arena, Provider};
use super::batcher::Limits;
use super::cache::Cache;
use super::error::PanelError;
use super::info::{EncoderInfo, ExpertInfo, LaneInfo};
use super::load::{Lane, Want, load, remake, spare};
use super::panel::ask::{Terms, UnderLoad};
use super::pending::{Asker, Marks, Row, RunSpan};
use super::scheduler::{Desk, Facts};
use super::scores::Judgement;
use super::tokenize::Reader;
use super::worker::Workers;
use crate::core::features::{EncoderId, Features};
use crate::core::ledger::TextFeatures;
use crate::core::text::reveal;
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
    /// The experts that a stream still asks when it is [shrunk](super::Stream::shrink), by id. Heads that share
    /// an encoder with one of them are asked too: they cost next to nothing. So are rules.
    pub cheap: Vec<String>,
    /// Worker threads, each with its own session of every graph; `None`: as many as there are cores, as the
    /// container allows, by the threads of a session; on a card two, of which one fills while the other runs.
    pub sessions: Option<usize>,
    /// Threads of each session.
    pub threads: usize,
    /// Threads of a stream that tokenise; `None`: one, which feeds as many cores as do graphs. A card may outrun it,
    /// and gets half the cores, at most eight.
    pub tokenize_threads: Option<usize>,
    /// What batches of texts padded to their longest may hold.
    pub batch: Limits,
    /// What batches of texts padded to one length may hold.
    pub fixed_batch: Limits,
    /// Padded tokens of a batch for an encoder or classifier, by id, instead of those.
    pub budgets: BTreeMap<String, usize>,
    /// Length in tokens of the longest text after which a session keeps the memory of its run for the next; after a
    /// longer one it gives back what it does not use.
    pub arena_tokens: usize,
    /// Bytes that the process may have resident: beyond them the run is stopped during which it grew, and its expert
    /// abstains. `None`: no bound.
    pub memory: Option<usize>,
    /// Bytes for answers to texts that were asked before; 0: each text is run.
    pub cache: usize,
    /// How long a run may take; it is stopped then, and its texts have timed out. A question takes twice as
    /// long at most, its waiting included.
    pub timeout: Duration,
    /// An expert that hangs or keeps failing is left alone this long; then for twice as long each time that it
    /// still does, up to a minute.
    pub pause: Duration,
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
            cheap: Vec::new(),
            sessions: None,
            threads: 1,
            tokenize_threads: None,
            batch: Limits { tokens: 256, rows: 32, overhead: 8 },
            fixed_batch: Limits { tokens: 3_200, rows: 16, overhead: 0 },
            budgets: BTreeMap::new(),
            arena_tokens: 512,
            memory: None,
            cache: 32 << 20,
            timeout: Duration::from_secs(60),
            pause: Duration::from_secs(1),
            require_all: false,
        }
    }

    /// Worker threads, as told or as fits the provider.
    pub(crate) fn workers(&self) -> usize {
        let usual = || if self.provider.is_card() { 2 } else { cores() / self.threads.max(1) };
        self.sessions.unwrap_or_else(usual).max(1)
    }

    fn tokenize_threads(&self) -> usize {
        let usual = || if self.provider.is_card() { (cores() / 2).min(8) } else { 1 };
        self.tokenize_threads.unwrap_or_else(usual).max(1)
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// What the panel says about one text.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Each expert's vote, in the order of the ids' UTF-8 bytes.
    pub votes: Vec<Vote>,
    /// The text's features; none where it is empty, or where there is no encoder or it failed.
    pub reading: Option<TextFeatures>,
    /// Tokens read: the most that any tokenizer gave.
    pub tokens: usize,
    /// When the first of its runs began; none where nothing was run.
    pub began: Option<Instant>,
    /// By vote, the run that it came of; none where none was needed, or none came back in time.
    pub ran: Vec<Option<RunSpan>>,
}

/// What a batch cost; for rules only `experts`, and no tokens where the graph reads text itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunCost {
    /// Texts in it.
    pub texts: usize,
    /// Tokens that they had.
    pub real_tokens: usize,
    /// Tokens with their padding.
    pub padded_tokens: usize,
    /// Time in the encoder, heads apart.
    pub encoder: Duration,
    /// Time by the expert's place in [`Panel::experts`].
    pub experts: Vec<(usize, Duration)>,
}

/// What questions cost.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PanelCosts {
    /// Texts asked about.
    pub texts: usize,
    /// Batches run.
    pub batches: usize,
    /// Tokens that texts in batches had; a text that was asked about twice at a time runs once.
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

impl PanelCosts {
    fn add(&mut self, run: &RunCost) {
        self.batches += usize::from(run.texts > 0);
        self.real_tokens += run.real_tokens;
        self.padded_tokens += run.padded_tokens;
        self.encoder += run.encoder;
        for (slot, time) in &run.experts {
            if let Some(total) = self.experts.get_mut(*slot) {
                *total += *time;
            }
        }
    }
}

/// One expert's vote with what it cost.
#[derive(Debug, Clone, PartialEq)]
pub struct Examined {
    /// The vote.
    pub vote: Vote,
    /// Tokens that the expert read; `None` for rules and graphs that read text themselves.
    pub tokens: Option<usize>,
    /// Its own time; for a head without its encoder's.
    pub time: Duration,
}

/// The experts of a deployment, ready to be asked from any thread.
pub struct Panel {
    pub(super) experts: Vec<ExpertInfo>,
    encoder: Option<EncoderInfo>,
    pub(super) readers: Vec<Reader>,
    pub(super) lanes: Vec<Lane>,
    pub(super) desk: Arc<Desk>,
    pub(super) timeout: Duration,
    /// Of each stream.
    pub(super) tokenize_threads: usize,
    sessions: usize,
    /// Ends the threads when the panel goes.
    _workers: Workers,
}

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
            tracing::info!(
                expert = expert.id,
                kind = expert.kind.word(),
                provider = expert.provider,
                "expert"
            );
        }
        let named = |slot: &usize| Some((*slot, loaded.experts.get(*slot)?.id.clone()));
        for expert in &loaded.experts {
            if let Some(reason) = expert.state.reason() {
                tracing::warn!(
                    expert = expert.id,
                    reason,
                    "could not be loaded; it abstains, and is tried again"
                );
            }
        }
        let facts = |(lane, want): (&Lane, &Want)| Facts {
            limits: lane.limits(&config),
            experts: lane.slots.iter().filter_map(named).collect(),
            pause: config.pause,
            want: want.clone(),
        };
        let cache = Cache::new(config.cache);
        let arena = Arena { tokens: config.arena_tokens, devices: config.provider.devices() };
        let lanes = loaded.lanes.iter().zip(&loaded.wants);
        let desk =
            Arc::new(Desk::new(lanes.map(facts), !loaded.rules.is_empty(), cache, arena, config.memory));
        let (sessions, timeout, pause) = (config.workers(), config.timeout, config.pause);
        let tokenize_threads = config.tokenize_threads();
        let (spare, remake) = (spare(&config, &loaded.lanes), remake(&config, &loaded.lanes));
        let (stations, rules) = (loaded.stations, loaded.rules.into());
        let workers = Workers::start(Arc::clone(&desk), stations, rules, spare, pause, remake)?;
        Ok(Self {
            experts: loaded.experts,
            encoder: loaded.encoder,
            readers: loaded.readers,
            lanes: loaded.lanes,
            desk,
            timeout,
            tokenize_threads,
            sessions,
            _workers: workers,
        })
    }

    /// The experts, in the order of their ids' UTF-8 bytes, those that could not be loaded among them.
    #[must_use]
    pub fn experts(&self) -> &[ExpertInfo] {
        &self.experts
    }

    /// The encoders and classifiers, each with the experts that vote on what it gives.
    #[must_use]
    pub fn lane_infos(&self) -> Vec<LaneInfo> {
        let id = |slot: &usize| self.experts.get(*slot).map(|expert| expert.id.clone());
        let info = |lane: &Lane| LaneInfo {
            id: lane.id.clone(),
            experts: lane.slots.iter().filter_map(id).collect(),
            fixed: lane.padding.to.is_some(),
            alone: lane.alone,
        };
        self.lanes.iter().map(info).collect()
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

    /// Why an expert is left alone for now, where it is, or that it has not been loaded yet; in the order of
    /// [`Panel::experts`].
    #[must_use]
    pub fn down(&self) -> Vec<Option<Abstention>> {
        let dead = self.desk.is_dead().then_some(Abstention::TimedOut);
        let mut down = vec![dead; self.experts.len()];
        for (slot, reason) in self.desk.down() {
            if let Some(place) = down.get_mut(slot) {
                *place = Some(reason);
            }
        }
        down
    }

    /// Returns `true` if no worker is left, so that every expert abstains.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.desk.is_dead()
    }

    /// Returns `true` for each expert that abstains for as long as this panel lives, because its runs hang and cannot be
    /// stopped; in the order of [`Panel::experts`].
    #[must_use]
    pub fn disabled(&self) -> Vec<bool> {
        let mut disabled = vec![false; self.experts.len()];
        for slot in self.desk.disabled() {
            if let Some(place) = disabled.get_mut(slot) {
                *place = true;
            }
        }
        disabled
    }

    /// Asks every expert about every text. Answers come in the texts' order.
    #[must_use]
    pub fn ask(&self, texts: &[&str]) -> Vec<Answer> {
        self.ask_with_costs(texts, &mut PanelCosts::default())
    }

    /// As [`Panel::ask`]; adds what it cost to the tally.
    #[must_use]
    pub fn ask_with_costs(&self, texts: &[&str], tally: &mut PanelCosts) -> Vec<Answer> {
        let terms = Terms { heads: true, shrunk: false, timeout: self.timeout };
        self.rows(texts, terms, tally).into_iter().map(|row| self.answer(row)).collect()
    }

    /// Brings texts to the desk together, and waits for what is made of them.
    fn rows(&self, texts: &[&str], terms: Terms, tally: &mut PanelCosts) -> Vec<Row> {
        let started = Instant::now();
        tally.texts += texts.len();
        tally.experts.resize(self.experts.len(), Duration::ZERO);
        let (asker, answers) = Asker::new();
        let numbered = (0..).zip(texts).map(|(key, text)| (key, *text, UnderLoad::All));
        // Nothing more is coming: all of it is due.
        tally.tokenise += self.bring(&asker, numbered, terms, Instant::now);
        // The watch sees to it that each is answered, with what is known by its deadline.
        let mut rows: Vec<(u64, Row)> = answers.iter().take(texts.len()).collect();
        rows.sort_unstable_by_key(|(place, _)| *place);
        asker.runs().iter().for_each(|run| tally.add(run));
        tally.elapsed += started.elapsed();
        rows.into_iter().map(|(_, row)| row).collect()
    }

    pub(super) fn answer(&self, row: Row) -> Answer {
        let Row { said, silent, features, tokens, began, .. } = row;
        let ran = said.iter().map(|said| said.ran).collect();
        let votes = self.experts.iter().zip(said).map(|(expert, said)| match said.end(silent) {
            (Ok(judged), Marks { truncated, cached, windows }) => {
                Vote { truncated, cached, windows, ..vote(expert, Ok(judged)) }
            }
            (outcome, _) => vote(expert, outcome),
        });
        Answer { votes: votes.collect(), reading: self.reading(features), tokens, began, ran }
    }

    /// Reads texts with the encoder alone: their features, in the texts' order. `progress` is told how
    /// many are done.
    pub fn read(&self, texts: &[&str], mut progress: impl FnMut(usize)) -> Vec<Option<TextFeatures>> {
        /// Texts sorted together: more makes less padding, and progress coarser.
        const WINDOW: usize = 256;
        /// Nobody waits for a decision here: a slow machine must not leave texts without their reading.
        const PATIENCE: Duration = Duration::from_secs(600);
        let mut readings = Vec::with_capacity(texts.len());
        for window in texts.chunks(WINDOW) {
            let mut tally = PanelCosts::default();
            let rows =
                self.rows(window, Terms { heads: false, shrunk: false, timeout: PATIENCE }, &mut tally);
            readings.extend(rows.into_iter().map(|row| self.reading(row.features)));
            progress(readings.len());
        }
        readings
    }

    /// Asks every expert about one text, with time and tokens.
    #[must_use]
    pub fn examine(&self, text: &str) -> Vec<Examined> {
        let mut tally = PanelCosts::default();
        let answers = self.ask_with_costs(&[text], &mut tally);
        let shown = reveal(text);
        let votes = answers.into_iter().flat_map(|answer| answer.votes);
        let tokens = |slot: usize| {
            let lane = self.lanes.iter().find(|lane| lane.slots.contains(&slot))?;
            let reader = self.readers.get(lane.reader)?;
            reader.count(&reader.read(&shown.text).ok()?)
        };
        votes
            .zip(tally.experts)
            .enumerate()
            .map(|(slot, (vote, time))| Examined { vote, tokens: tokens(slot), time })
            .collect()
    }

    fn reading(&self, features: Option<Box<Features>>) -> Option<TextFeatures> {
        Some(TextFeatures { encoder: self.encoder()?, features: features? })
    }
}

fn vote(expert: &ExpertInfo, outcome: Result<Judgement, Abstention>) -> Vote {
    match outcome {
        Ok((score, categories)) => Vote::scored(&expert.id, expert.model, score, categories),
        Err(reason) => {
            let model = (reason != Abstention::NotLoaded).then_some(expert.model);
            Vote::abstained(&expert.id, model, reason)
        }
    }
}
