//! The panel: conversations in, votes and features out.

pub(crate) mod ask;
mod requests;
pub(crate) mod stream;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ask::{Asked, Question, Terms, UnderLoad};

use super::backend::remote::RemoteExpert;
use super::backend::rules::RulesBackend;
use super::backend::{Profile, TOLERANCE};
use super::cache::ResultCache;
use super::config::PanelConfig;
use super::cost::PanelCosts;
use super::error::PanelError;
use super::features::PartialFeatures;
use super::info::{EncoderInfo, ExpertInfo, ModelInfo};
use super::loader::{Model, PanelParts, load, model_loader, worker_loader};
use super::pending::outcome::VoteFlags;
use super::pending::{AnswerSink, PartialAnswer, RunSpan};
use super::prompts::GuardPrompts;
use super::scheduler::{ModelSpec, Scheduler};
use super::scores::ExpertScore;
use super::tokenizer::ModelTokenizer;
use super::worker::Workers;
use crate::core::event::{ConversationRef, Role};
use crate::core::features::EncoderId;
use crate::core::language::Language;
use crate::core::ledger::TextFeatures;
use crate::core::text::reveal;
use crate::core::vote::{Abstention, Vote};

/// Texts that [`Panel::read`] sorts together. More of them pad less, and report progress less often.
const READ_WINDOW: usize = 256;
/// The time that a run of [`Panel::read`] may take. No decision waits for it, so a slow machine must not leave texts
/// without features.
const READ_TIMEOUT: Duration = Duration::from_secs(600);

/// The panel's answer about one conversation.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The vote of each expert, in the order of the ids' UTF-8 bytes.
    pub votes: Vec<Vote>,
    /// The features of the judged text. `None` if it is empty, if the panel has no encoder that reads its language,
    /// or if an encoder that they need failed.
    pub reading: Option<TextFeatures>,
    /// The language of the judged text, with what was hidden in it.
    pub language: Language,
    /// The greatest number of tokens that any tokenizer gave.
    pub tokens: usize,
    /// When the first of its runs began; `None` if nothing ran.
    pub began: Option<Instant>,
    /// By vote: the run that gave it. `None` if no run was needed, or none ended in time.
    pub ran: Vec<Option<RunSpan>>,
}

/// The vote of one expert with its cost.
#[derive(Debug, Clone, PartialEq)]
pub struct Examined {
    /// The vote.
    pub vote: Vote,
    /// The number of tokens that the expert read; `None` for rules, for graphs that read text themselves, and for remote
    /// experts.
    pub tokens: Option<usize>,
    /// The expert's own time; for a head without that of its encoder.
    pub time: Duration,
}

/// The experts of a deployment. Any thread may ask them.
pub struct Panel {
    experts: Vec<ExpertInfo>,
    encoder: Option<EncoderInfo>,
    tokenizers: Vec<ModelTokenizer>,
    models: Vec<Model>,
    /// By model; `None` for those that have a tokenizer.
    prompts: Vec<Option<Arc<GuardPrompts>>>,
    /// By model.
    profiles: Vec<Profile>,
    /// The greatest accepted differences between a text's score alone and in a batch, by model.
    tolerances: Vec<f64>,
    /// The remote experts, by model.
    remotes: BTreeMap<usize, Arc<RemoteExpert>>,
    scheduler: Arc<Scheduler>,
    timeout: Duration,
    /// The greatest number of turns before the judged one that any expert reads.
    history_turns: usize,
    /// Threads of each stream.
    tokenize_threads: usize,
    sessions: usize,
    /// Ends the threads when the panel is dropped.
    _workers: Workers,
}

/// Logs the experts, and those that could not be loaded.
fn log_loaded(experts: &[ExpertInfo]) {
    for expert in experts {
        let (kind, provider) = (expert.kind.word(), &expert.provider);
        tracing::info!(expert = expert.id, kind, provider, "expert");
    }
    for expert in experts {
        if let Some(reason) = expert.state.reason() {
            tracing::warn!(
                expert = expert.id,
                reason,
                "could not be loaded; it abstains, and is tried again"
            );
        }
    }
}

/// The scheduler of the models that were loaded.
fn scheduler(config: &PanelConfig, loaded: &PanelParts, profiles: &[Profile]) -> Scheduler {
    let expert = |index: &usize| (*index, loaded.experts[*index].id.clone());
    let models = loaded.models.iter().zip(&loaded.missing).zip(profiles);
    let specs = models.map(|((model, missing), profile)| ModelSpec {
        limits: model.limits(config),
        profile: *profile,
        experts: model.experts.iter().map(expert).collect(),
        pause: config.pause,
        missing: missing.clone(),
    });
    let cache = ResultCache::new(config.cache);
    Scheduler::new(specs, !loaded.rules.is_empty(), cache, config.memory).with_remotes(loaded.remotes.clone())
}

impl Panel {
    /// Opens the folder: reads and checks every manifest and file, loads the graphs, and runs each of them once.
    ///
    /// # Errors
    /// Returns an error if a manifest, hash, graph, tokenizer or rule file is wrong, or if the runtime or its provider
    /// cannot be used. A graph that does not load or run is an error only with
    /// [`require_all`](PanelConfig::require_all); otherwise its expert abstains.
    pub fn open(config: PanelConfig) -> Result<Self, PanelError> {
        let loaded = load(&config)?;
        log_loaded(&loaded.experts);
        // All workers have sessions of the same models.
        let backends = loaded.backends.first().into_iter().flatten();
        let (profiles, tolerances): (Vec<Profile>, Vec<f64>) =
            backends.map(|backend| (backend.profile(), backend.tolerance())).unzip();
        let scheduler = Arc::new(scheduler(&config, &loaded, &profiles));
        let (sessions, timeout, pause) = (config.workers(), config.timeout, config.pause);
        let tokenize_threads = config.tokenize_workers();
        let (load_worker, load_model) =
            (worker_loader(&config, &loaded.models), model_loader(&config, &loaded.models));
        let (backends, rules) = (loaded.backends, RulesBackend::new(loaded.rules));
        let history_turns = loaded.experts.iter().map(|expert| expert.view.history_turns()).max();
        let history_turns = history_turns.unwrap_or(0);
        let workers =
            Workers::start(Arc::clone(&scheduler), backends, rules, load_worker, pause, load_model)?;
        Ok(Self {
            experts: loaded.experts,
            encoder: loaded.encoder,
            tokenizers: loaded.tokenizers,
            models: loaded.models,
            prompts: loaded.prompts,
            profiles,
            tolerances,
            remotes: loaded.remotes,
            scheduler,
            timeout,
            history_turns,
            tokenize_threads,
            sessions,
            _workers: workers,
        })
    }

    /// The tokenizer of a model that has one, with its index.
    ///
    /// # Panics
    /// Panics for guards and remote experts.
    fn tokenizer(&self, model: &Model) -> (usize, &ModelTokenizer) {
        let index = model.tokenizer.expect("only guards and remote experts have no tokenizer");
        (index, &self.tokenizers[index])
    }

    /// The experts, in the order of the ids' UTF-8 bytes, including those that could not be loaded.
    #[must_use]
    pub fn experts(&self) -> &[ExpertInfo] {
        &self.experts
    }

    /// The encoders and classifiers, each with the experts that vote by its output.
    #[must_use]
    pub fn model_infos(&self) -> Vec<ModelInfo> {
        let info = |model: &Model| ModelInfo {
            id: model.id.clone(),
            experts: model.experts.iter().map(|index| self.experts[*index].id.clone()).collect(),
            fixed: model.padding.to.is_some(),
            alone: model.alone,
        };
        self.models.iter().map(info).collect()
    }

    /// The encoder that makes the features, with its partner.
    #[must_use]
    pub fn encoder_info(&self) -> Option<&EncoderInfo> {
        self.encoder.as_ref()
    }

    /// The id under which the features are stored.
    #[must_use]
    pub fn encoder(&self) -> Option<EncoderId> {
        self.encoder.as_ref().map(|encoder| encoder.encoder)
    }

    /// The hashes of the model that runs for an expert: that of its graph and that of its manifest. `expert` is the place
    /// in [`Panel::experts`]. `None` for rules.
    #[must_use]
    pub fn model_hashes(&self, expert: usize) -> Option<[[u8; 32]; 2]> {
        let model = self.models.iter().find(|model| model.experts.contains(&expert))?;
        Some([*model.hashes.first()?, model.manifest])
    }

    /// The greatest accepted difference between a text's score alone and in a batch. `expert` is the place in
    /// [`Panel::experts`].
    #[must_use]
    pub fn tolerance(&self, expert: usize) -> f64 {
        let model = self.models.iter().position(|model| model.experts.contains(&expert));
        model.map_or(TOLERANCE, |model| self.tolerances[model])
    }

    /// The number of worker threads.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.sessions
    }

    /// The reasons why experts are not asked now or are not loaded yet, in the order of [`Panel::experts`].
    #[must_use]
    pub fn down(&self) -> Vec<Option<Abstention>> {
        let dead = self.scheduler.is_dead().then_some(Abstention::TimedOut);
        let mut down = vec![dead; self.experts.len()];
        for (expert_index, reason) in self.scheduler.down() {
            down[expert_index] = Some(reason);
        }
        down
    }

    /// Returns `true` if no worker is left, so that every expert abstains.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.scheduler.is_dead()
    }

    /// Returns `true` for each expert that abstains for as long as this panel lives, because its runs hang and cannot
    /// be stopped; in the order of [`Panel::experts`].
    #[must_use]
    pub fn disabled(&self) -> Vec<bool> {
        let mut disabled = vec![false; self.experts.len()];
        for expert_index in self.scheduler.disabled() {
            disabled[expert_index] = true;
        }
        disabled
    }

    /// Asks every expert about every conversation. A text is a conversation of one turn by the user. The answers are in
    /// the order of the conversations.
    #[must_use]
    pub fn ask<'a, C>(&self, conversations: &'a [C]) -> Vec<Answer>
    where
        &'a C: Into<ConversationRef<'a>>,
    {
        self.ask_with_costs(conversations, &mut PanelCosts::default())
    }

    /// Like [`Panel::ask`], and adds the costs to `costs`.
    #[must_use]
    pub fn ask_with_costs<'a, C>(&self, conversations: &'a [C], costs: &mut PanelCosts) -> Vec<Answer>
    where
        &'a C: Into<ConversationRef<'a>>,
    {
        let terms = Terms { votes: true, shrunk: false, timeout: self.timeout };
        self.answers(conversations, terms, costs).into_iter().map(|answer| self.answer(answer)).collect()
    }

    /// Submits conversations together, and waits for their answers.
    fn answers<'a, C>(
        &self,
        conversations: &'a [C],
        terms: Terms,
        costs: &mut PanelCosts,
    ) -> Vec<PartialAnswer>
    where
        &'a C: Into<ConversationRef<'a>>,
    {
        let started = Instant::now();
        costs.texts += conversations.len();
        costs.experts.resize(self.experts.len(), Duration::ZERO);
        let (sink, received) = AnswerSink::new();
        let questions = (0..).zip(conversations).map(|(key, conversation)| {
            let conversation = conversation.into().to_conversation(self.history_turns);
            Question { key, conversation, under_load: UnderLoad::All, asked: Asked::All }
        });
        // No more conversations follow, so all of them are due.
        costs.tokenise += self.submit(&sink, questions, terms, Instant::now);
        // The watchdog sends every answer by its deadline, with what is known by then.
        let mut answers: Vec<(u64, PartialAnswer)> = received.iter().take(conversations.len()).collect();
        answers.sort_unstable_by_key(|(place, _)| *place);
        sink.take_costs().iter().for_each(|run| costs.add(run));
        costs.elapsed += started.elapsed();
        answers.into_iter().map(|(_, answer)| answer).collect()
    }

    fn answer(&self, answer: PartialAnswer) -> Answer {
        let PartialAnswer { experts, default, language, features, tokens, began, .. } = answer;
        let ran = experts.iter().map(|outcome| outcome.run).collect();
        let votes = self.experts.iter().zip(experts).map(|(expert, mut outcome)| {
            let revision = outcome.revision.take();
            let vote = match outcome.finish(default) {
                (Ok(judged), VoteFlags { truncated, cached, windows }) => {
                    Vote { truncated, cached, windows, ..vote(expert, Ok(judged)) }
                }
                (outcome, _) => vote(expert, outcome),
            };
            match revision.as_deref().or(expert.revision.as_deref()) {
                Some(revision) => Vote { model: None, revision: Some(revision.to_owned()), ..vote },
                None => vote,
            }
        });
        Answer { votes: votes.collect(), reading: self.text_features(features), language, tokens, began, ran }
    }

    /// Sends each remote expert's endpoint a request about a harmless text, one after the other, and returns the experts'
    /// ids, each with the reason why there is no vote, if there is none. Each takes at most the expert's deadline.
    #[must_use]
    pub fn probe_remotes(&self) -> Vec<(&str, Result<(), Abstention>)> {
        let probe = |remote: &Arc<RemoteExpert>| {
            let expert = &self.experts[remote.expert_index];
            // A role that it votes on.
            let role = expert.roles.first().copied().unwrap_or(Role::User);
            (expert.id.as_str(), remote.probe(role))
        };
        self.remotes.values().map(probe).collect()
    }

    /// Runs only the encoders of the features on texts, and returns their features in the texts' order. `progress` is called
    /// with the number of texts that are done.
    pub fn read(&self, texts: &[&str], mut progress: impl FnMut(usize)) -> Vec<Option<TextFeatures>> {
        let terms = Terms { votes: false, shrunk: false, timeout: READ_TIMEOUT };
        let mut features = Vec::with_capacity(texts.len());
        for window in texts.chunks(READ_WINDOW) {
            let answers = self.answers(window, terms, &mut PanelCosts::default());
            features.extend(answers.into_iter().map(|answer| self.text_features(answer.features)));
            progress(features.len());
        }
        features
    }

    /// Asks every expert about one conversation, and returns the votes with their time and the tokens of the judged turn.
    #[must_use]
    pub fn examine<'a>(&self, conversation: impl Into<ConversationRef<'a>>) -> Vec<Examined> {
        let conversation = conversation.into().to_conversation(self.history_turns);
        let mut costs = PanelCosts::default();
        let answers = self.ask_with_costs(std::slice::from_ref(&conversation), &mut costs);
        let revealed = reveal(conversation.judged_text());
        let votes = answers.into_iter().flat_map(|answer| answer.votes);
        let tokens = |expert_index: usize| {
            let number = self.models.iter().position(|model| model.experts.contains(&expert_index))?;
            if self.remotes.contains_key(&number) {
                return None;
            }
            let model = &self.models[number];
            if let Some(prompts) = &self.prompts[number] {
                return prompts.encode(&conversation).ok().map(|tokens| tokens.count);
            }
            let (_, tokenizer) = self.tokenizer(model);
            tokenizer.count(&tokenizer.tokenize(&revealed.text).ok()?)
        };
        votes
            .zip(costs.experts)
            .enumerate()
            .map(|(expert_index, (vote, time))| Examined { vote, tokens: tokens(expert_index), time })
            .collect()
    }

    fn text_features(&self, features: PartialFeatures) -> Option<TextFeatures> {
        Some(TextFeatures { encoder: self.encoder()?, features: features.finish()? })
    }
}

fn vote(expert: &ExpertInfo, outcome: Result<ExpertScore, Abstention>) -> Vote {
    match outcome {
        Ok((score, categories)) => Vote::scored(&expert.id, expert.model, score, categories),
        Err(reason) => {
            let model = (reason != Abstention::NotLoaded).then_some(expert.model);
            Vote::abstained(&expert.id, model, reason)
        }
    }
}
