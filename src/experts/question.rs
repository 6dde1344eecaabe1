//! One question: a window of texts on its way through tokenizers, batches and workers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use ort::session::RunOptions;

use super::batch::form;
use super::info::{ExpertInfo, State};
use super::load::Lane;
use super::onnx::{Fault, guarded};
use super::panel::{Panel, Tally};
use super::scores::Judgement;
use super::station::{Call, TextPorts};
use super::tokenize::{Reader, Tokens};
use super::worker::{Job, Reply, Work};
use crate::core::features::Features;
use crate::core::vote::Abstention;

/// Texts that a rules job holds at most.
const RULES_TEXTS: usize = 32;

/// What is known so far about each text of a window.
pub(super) struct Board {
    /// By text, then by the expert's slot.
    pub(super) outcomes: Vec<Vec<Result<Judgement, Abstention>>>,
    /// By text, then by the expert's slot: it read only the beginning.
    pub(super) truncated: Vec<Vec<bool>>,
    /// By text.
    pub(super) features: Vec<Option<Box<Features>>>,
    /// By text: the most that any tokenizer gave.
    pub(super) tokens: Vec<usize>,
}

impl Board {
    /// Nothing known yet: what no answer comes for has timed out.
    fn new(experts: &[ExpertInfo], texts: &[&str]) -> Self {
        let outcome = |text: &str, expert: &ExpertInfo| match expert.state {
            _ if blank(text) => Abstention::EmptyText,
            State::NotLoaded { .. } => Abstention::NotLoaded,
            State::Loaded => Abstention::TimedOut,
        };
        Self {
            outcomes: texts
                .iter()
                .map(|text| experts.iter().map(|e| Err(outcome(text, e))).collect())
                .collect(),
            truncated: vec![vec![false; experts.len()]; texts.len()],
            features: vec![None; texts.len()],
            tokens: vec![0; texts.len()],
        }
    }

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

/// Whether there is nothing to judge.
fn blank(text: &str) -> bool {
    text.trim().is_empty()
}

/// A text of the window with its tokens, where it could be read.
type ReadText = (usize, Option<Arc<Tokens>>);

/// Reads texts once. A tokenizer that fails, or panics, costs only that text's votes.
fn tokenise(reader: &Reader, asked: &[(usize, &str)]) -> Vec<ReadText> {
    let read = |text| guarded(|| reader.read(text).map_err(Fault::failed)).ok().map(Arc::new);
    asked.iter().map(|&(place, text)| (place, read(text))).collect()
}

/// A window of texts being asked about.
pub(super) struct Question<'a> {
    panel: &'a Panel,
    /// The texts that are not blank, each with its place.
    asked: Vec<(usize, &'a str)>,
    /// Whether experts are asked, or only features read.
    heads: bool,
    call: Arc<Call>,
    reply: Sender<Reply>,
    replies: Receiver<Reply>,
    /// Jobs handed over.
    sent: usize,
    board: Board,
    tally: &'a mut Tally,
}

impl<'a> Question<'a> {
    pub(super) fn new(
        panel: &'a Panel,
        texts: &[&'a str],
        heads: bool,
        timeout: Duration,
        tally: &'a mut Tally,
    ) -> Self {
        tally.texts += texts.len();
        tally.experts.resize(panel.experts.len(), Duration::ZERO);
        // Only where a graph is asked: without one the runtime may not be there.
        let options = if panel.lanes.is_empty() { None } else { RunOptions::new().ok() };
        let (reply, replies) = unbounded();
        Self {
            panel,
            asked: texts.iter().copied().enumerate().filter(|(_, text)| !blank(text)).collect(),
            heads,
            call: Arc::new(Call { deadline: Instant::now() + timeout, options }),
            reply,
            replies,
            sent: 0,
            board: Board::new(&panel.experts, texts),
            tally,
        }
    }

    /// Asks, and waits for the answers until the deadline.
    pub(super) fn answer(mut self) -> Board {
        let started = Instant::now();
        if self.heads {
            self.send_rules();
        }
        let (panel, heads) = (self.panel, self.heads);
        let mut read: Vec<Option<Vec<ReadText>>> = panel.readers.iter().map(|_| None).collect();
        for lane in panel.lanes.iter().filter(|lane| heads || lane.features) {
            let reader = panel.readers.get(lane.reader);
            let (Some(reader), Some(place)) = (reader, read.get_mut(lane.reader)) else {
                continue;
            };
            let texts = place.get_or_insert_with(|| {
                let started = Instant::now();
                let texts = tokenise(reader, &self.asked);
                self.tally.tokenise += started.elapsed();
                texts
            });
            self.send_lane(lane, texts);
        }
        for _ in 0..self.sent {
            let Ok(reply) = self.replies.recv_deadline(self.call.deadline) else {
                // Late runs stop at their next node, and their workers are free again.
                if let Some(options) = &self.call.options {
                    let _ = options.terminate();
                }
                break;
            };
            self.take(reply);
        }
        self.tally.elapsed += started.elapsed();
        self.board
    }

    fn send(&mut self, work: Work) {
        let job = Job { work, call: Arc::clone(&self.call), reply: self.reply.clone() };
        self.sent += usize::from(self.panel.workers.send(job));
    }

    fn send_rules(&mut self) {
        if self.panel.rules.is_empty() {
            return;
        }
        let owned: Vec<(usize, Arc<str>)> =
            self.asked.iter().map(|&(place, text)| (place, Arc::from(text))).collect();
        for (slot, rules) in &self.panel.rules {
            for texts in owned.chunks(RULES_TEXTS) {
                self.send(Work::Rules { slot: *slot, rules: Arc::clone(rules), texts: texts.to_vec() });
            }
        }
    }

    /// Forms batches of one lane's texts and hands them over.
    fn send_lane(&mut self, lane: &Lane, texts: &[ReadText]) {
        let mut rows: Vec<(usize, Arc<Tokens>)> = Vec::with_capacity(texts.len());
        for (place, tokens) in texts {
            let Some(tokens) = tokens else {
                lane.slots.iter().for_each(|&slot| self.board.put(*place, slot, Err(Abstention::Failed)));
                continue;
            };
            if let Some(most) = self.board.tokens.get_mut(*place) {
                *most = tokens.ids.len().max(*most);
            }
            if tokens.truncated {
                lane.slots.iter().for_each(|&slot| self.board.mark_truncated(*place, slot));
            }
            self.tally.real_tokens += tokens.ids.len();
            rows.push((*place, Arc::clone(tokens)));
        }
        let length = |tokens: &Tokens| TextPorts::width(&lane.padding, tokens.ids.len());
        let lengths: Vec<usize> = rows.iter().map(|(_, tokens)| length(tokens)).collect();
        let limits = if lane.padding.to.is_some() { &self.panel.fixed_batch } else { &self.panel.batch };
        for batch in form(&lengths, limits) {
            self.tally.batches += 1;
            self.tally.padded_tokens += batch.padded();
            let rows = batch.texts.iter().filter_map(|&text| rows.get(text).cloned()).collect();
            self.send(Work::Batch { station: lane.station, rows, heads: self.heads });
        }
    }

    fn take(&mut self, reply: Reply) {
        self.tally.encoder += reply.spent.encoder;
        for (slot, time) in reply.spent.experts {
            if let Some(total) = self.tally.experts.get_mut(slot) {
                *total += time;
            }
        }
        for (text, row) in reply.rows {
            for (slot, outcome) in row.outcomes {
                if reply.truncated.contains(&text) {
                    self.board.mark_truncated(text, slot);
                }
                self.board.put(text, slot, outcome);
            }
            if let Some(place) = self.board.features.get_mut(text)
                && row.features.is_some()
            {
                *place = row.features;
            }
        }
    }
}
