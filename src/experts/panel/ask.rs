//! Submits conversations to the scheduler: decides which models are asked about each. Their requests are made in
//! `requests`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Panel;
use super::requests::{QuestionRequests, log_unprepared};
use crate::core::event::{Conversation, Role};
use crate::core::text::{is_blank, reveal};
use crate::core::vote::Abstention;
use crate::experts::backend::result::catch_panic;
use crate::experts::backend::rules::RulesText;
use crate::experts::error::PanelError;
use crate::experts::loader::Model;
use crate::experts::manifest::{Joint, Kind};
use crate::experts::pending::{AnswerSink, PartialAnswer, PendingAnswer};
use crate::experts::scheduler::work::Submission;
use crate::language::{Detection, detect};

/// The experts that are asked about a text even while the stream is shrunk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum UnderLoad {
    /// The panel's cheap experts.
    #[default]
    Cheap,
    /// All experts: the text is never shed.
    All,
    /// The models that are `true`, by their number.
    Models(Arc<[bool]>),
}

impl UnderLoad {
    /// Returns `true` if the model is asked while the stream is shrunk.
    fn keeps(&self, number: usize, model: &Model) -> bool {
        match self {
            Self::Cheap => model.cheap,
            Self::All => true,
            Self::Models(models) => models.get(number).is_some_and(|asked| *asked),
        }
    }
}

/// The experts that are asked about a conversation, by their index in the panel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Asked {
    /// All experts.
    #[default]
    All,
    /// All experts but these.
    Without(Arc<[usize]>),
    /// These experts, about a conversation that the others were asked about before. There are no features.
    Only(Arc<[usize]>),
}

impl Asked {
    fn asks(&self, expert_index: usize) -> bool {
        match self {
            Self::All => true,
            Self::Without(experts) => !experts.contains(&expert_index),
            Self::Only(experts) => experts.contains(&expert_index),
        }
    }
}

/// A conversation that the panel is asked about.
pub(super) struct Question {
    /// The key of the answer.
    pub(super) key: u64,
    /// The conversation, without the turns that no expert reads.
    pub(super) conversation: Conversation,
    /// The experts that are asked under load.
    pub(super) under_load: UnderLoad,
    /// The experts that are asked; the others abstain as not needed.
    pub(super) asked: Asked,
}

/// The options of a submission.
#[derive(Clone, Copy)]
pub(super) struct Terms {
    /// If `true`, votes are wanted; otherwise only features.
    pub(super) votes: bool,
    /// If `true`, only the experts of the text's [`UnderLoad`] are asked.
    pub(super) shrunk: bool,
    /// The time that a run may take.
    pub(super) timeout: Duration,
}

impl Panel {
    /// Submits conversations to the scheduler. Returns the time that it took to tokenise them.
    pub(super) fn submit(
        &self,
        sink: &Arc<AnswerSink>,
        questions: impl Iterator<Item = Question>,
        terms: Terms,
        due: impl FnOnce() -> Instant,
    ) -> Duration {
        let started = Instant::now();
        let submission = |question: Question| {
            // A conversation that cannot be prepared costs its own votes.
            catch_panic(|| Ok(self.submission(sink, &question, terms))).unwrap_or_else(|error| {
                log_unprepared("all", &error);
                let answer = PartialAnswer::new(self.experts.len(), Abstention::Failed);
                Submission::without_requests(PendingAnswer::new(sink, question.key, terms.timeout, answer, 0))
            })
        };
        let submissions = questions.map(submission).collect();
        let took = started.elapsed();
        self.scheduler.submit(submissions, due());
        took
    }

    /// Returns the choice of these experts and those that share an encoder with one of them. Rules are always asked.
    ///
    /// # Errors
    /// Returns [`PanelError::UnknownExpert`] if the panel has no expert of an id.
    pub fn under_load(&self, ids: &[String]) -> Result<UnderLoad, PanelError> {
        let index = |id: &String| self.experts.iter().position(|expert| expert.id == *id);
        if let Some(id) = ids.iter().find(|id| index(id).is_none()) {
            let known = self.experts.iter().map(|expert| expert.id.clone()).collect();
            return Err(PanelError::UnknownExpert { id: id.clone(), known });
        }
        let experts: Vec<usize> = ids.iter().filter_map(index).collect();
        let asked = |model: &Model| model.experts.iter().any(|expert| experts.contains(expert));
        Ok(UnderLoad::Models(self.models.iter().map(asked).collect()))
    }

    /// The requests of a conversation, and the abstentions of the experts that are not asked.
    fn submission(&self, sink: &Arc<AnswerSink>, question: &Question, terms: Terms) -> Submission {
        let judged = question.conversation.judged_turn();
        let revealed = reveal(&judged.text);
        let is_nothing = is_blank(&revealed.text);
        let default = match is_nothing {
            true if is_blank(&judged.text) => Abstention::EmptyText,
            // The hidden text in it cannot be read.
            true => Abstention::NothingRead,
            false => Abstention::TimedOut,
        };
        let mut answer = PartialAnswer::new(self.experts.len(), default);
        if is_nothing {
            let answer = PendingAnswer::new(sink, question.key, terms.timeout, answer, 0);
            return Submission::without_requests(answer);
        }
        self.refuse_other_roles(judged.role, &mut answer);
        let detection = detect(&revealed.text);
        answer.language = detection.language;
        self.refuse_other_languages(&detection, &mut answer);
        self.leave_out(&question.asked, &mut answer);
        let wants_features = !matches!(question.asked, Asked::Only(_));
        let text = revealed.text.as_ref();
        let mut requests = QuestionRequests::new(self, &question.conversation, text, terms);
        for (number, model) in self.models.iter().enumerate() {
            let is_asked = model.experts.iter().any(|expert| answer.is_asked(*expert));
            // An encoder is asked for its features, even if none of its heads is asked.
            let gives_features = wants_features && self.gives_features(model, &detection);
            let is_needed = gives_features || (terms.votes && is_asked);
            if !is_needed {
                continue;
            }
            if terms.shrunk && !question.under_load.keeps(number, model) {
                if gives_features && model.is_partner() {
                    answer.features.expect_partner();
                }
                answer.abstain(&model.experts, Abstention::Overload);
                continue;
            }
            requests.add_model(number, gives_features, &mut answer);
        }
        let requests = requests.requests;
        let asks_rules = terms.votes && self.scheduler.has_rules() && self.asks_rules(&answer);
        let parts = requests.len() + usize::from(asks_rules);
        let rules_text = RulesText { text: judged.text.as_str().into(), detection };
        let answer = Arc::new(PendingAnswer::new(sink, question.key, terms.timeout, answer, parts));
        Submission { answer, requests, rules_text: asks_rules.then_some(rules_text) }
    }

    /// Returns `true` if the model is an encoder that gives features to texts of the language, alone or with another one.
    fn gives_features(&self, model: &Model, detection: &Detection) -> bool {
        let Some(encoder) = self.encoder.as_ref().filter(|_| !model.features.is_empty()) else {
            return false;
        };
        let is_joint = |partner: &Joint| partner.encoder == model.id && partner.languages.include(detection);
        encoder.languages.include(detection)
            && (encoder.id == model.id || encoder.partner.as_ref().is_some_and(is_joint))
    }

    /// The experts that are not asked abstain, unless they have another reason.
    fn leave_out(&self, asked: &Asked, answer: &mut PartialAnswer) {
        for expert_index in (0..self.experts.len()).filter(|expert_index| !asked.asks(*expert_index)) {
            answer.abstain(&[expert_index], Abstention::NotNeeded);
        }
    }

    /// Returns `true` if one of the rules experts may still vote. All of them read a text in one job.
    fn asks_rules(&self, answer: &PartialAnswer) -> bool {
        let mut experts = self.experts.iter().enumerate();
        experts.any(|(expert_index, expert)| expert.kind == Kind::Rules && answer.is_asked(expert_index))
    }

    /// The experts that do not vote on turns of this role abstain.
    fn refuse_other_roles(&self, role: Role, answer: &mut PartialAnswer) {
        for (expert_index, expert) in self.experts.iter().enumerate() {
            if !expert.roles.contains(&role) {
                answer.abstain(&[expert_index], Abstention::WrongRole);
            }
        }
    }

    /// The experts that do not read the language of the text abstain.
    fn refuse_other_languages(&self, detection: &Detection, answer: &mut PartialAnswer) {
        for (expert_index, expert) in self.experts.iter().enumerate() {
            if !expert.languages.include(detection) {
                answer.abstain(&[expert_index], Abstention::Language);
            }
        }
    }
}
