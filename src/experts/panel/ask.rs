//! From texts to questions at the desk: each text is tokenised once for each tokenizer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::core::text::{is_blank, reveal};
use crate::core::vote::Abstention;
use crate::experts::backend::onnx::TextPorts;
use crate::experts::backend::onnx::session::{Fault, guarded};
use crate::experts::error::PanelError;
use crate::experts::load::Lane;
use crate::experts::panel::Panel;
use crate::experts::pending::{Asker, Question, Row};
use crate::experts::scheduler::{Entry, Part, Same};
use crate::experts::tokenize::Tokens;

/// Who is asked about a text even while the panel is shrunk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum UnderLoad {
    /// The panel's cheap experts.
    #[default]
    Cheap,
    /// All: the text is never shed.
    All,
    /// These, by lane.
    Lanes(Arc<[bool]>),
}

/// What is asked about texts.
#[derive(Clone, Copy)]
pub(crate) struct Terms {
    /// Whether experts are asked, or only features read.
    pub(crate) heads: bool,
    /// Whether only those are asked who are kept.
    pub(crate) shrunk: bool,
    /// How long a run may take.
    pub(crate) timeout: Duration,
}

/// Logs that a text could not be prepared, at the first time and then at each power of two.
fn complain(expert: &str, fault: &Fault) {
    static TIMES: AtomicU64 = AtomicU64::new(0);
    let times = TIMES.fetch_add(1, Ordering::Relaxed) + 1;
    if times.is_power_of_two() {
        let detail = fault.detail.as_str();
        tracing::error!(expert, detail, times, "a text could not be prepared; its experts abstain");
    }
}

impl Panel {
    /// Makes questions of texts and brings them to the desk. Gives the time that it took to tokenise.
    pub(crate) fn bring<'a>(
        &self,
        asker: &Arc<Asker>,
        texts: impl Iterator<Item = (u64, &'a str, UnderLoad)>,
        terms: Terms,
        due: impl FnOnce() -> Instant,
    ) -> Duration {
        let started = Instant::now();
        let entry = |(key, text, kept): (u64, &str, UnderLoad)| {
            // A text that cannot be prepared costs its own votes.
            guarded(|| Ok(self.entry(asker, key, text, &kept, terms))).unwrap_or_else(|fault| {
                complain("all", &fault);
                let row = Row::silent(self.experts.len(), Abstention::Failed);
                Entry::unasked(Question::new(asker, key, terms.timeout, row, 0))
            })
        };
        let entries = texts.map(entry).collect();
        let took = started.elapsed();
        self.desk.enter(entries, due());
        took
    }

    /// These experts, with those that share an encoder with one of them, and the rules.
    ///
    /// # Errors
    /// Where the panel has no expert of a name.
    pub fn under_load(&self, ids: &[String]) -> Result<UnderLoad, PanelError> {
        let slot = |id: &String| self.experts.iter().position(|expert| expert.id == *id);
        if let Some(id) = ids.iter().find(|id| slot(id).is_none()) {
            let known = self.experts.iter().map(|expert| expert.id.clone()).collect();
            return Err(PanelError::UnknownExpert { id: id.clone(), known });
        }
        let slots: Vec<usize> = ids.iter().filter_map(slot).collect();
        let asked = |lane: &Lane| lane.slots.iter().any(|slot| slots.contains(slot));
        Ok(UnderLoad::Lanes(self.lanes.iter().map(asked).collect()))
    }

    fn entry(&self, asker: &Arc<Asker>, key: u64, text: &str, kept: &UnderLoad, terms: Terms) -> Entry {
        let shown = reveal(text);
        let nothing_shown = is_blank(&shown.text);
        let silent = match nothing_shown {
            true if is_blank(text) => Abstention::EmptyText,
            // What is hidden in it cannot be read.
            true => Abstention::NothingRead,
            false => Abstention::TimedOut,
        };
        let text = shown.text.as_ref();
        let mut row = Row::silent(self.experts.len(), silent);
        let mut parts = Vec::new();
        let heads = terms.heads;
        if nothing_shown {
            return Entry::unasked(Question::new(asker, key, terms.timeout, row, 0));
        }
        let mut read: Vec<Option<Option<Tokens>>> = vec![None; self.readers.len()];
        let lanes = self.lanes.iter().enumerate();
        for (number, lane) in lanes.filter(|(_, lane)| heads || lane.features) {
            let keeps = match kept {
                UnderLoad::Cheap => lane.cheap,
                UnderLoad::All => true,
                UnderLoad::Lanes(lanes) => lanes.get(number).is_some_and(|asked| *asked),
            };
            if terms.shrunk && !keeps {
                row.abstain(&lane.slots, Abstention::Overload);
                continue;
            }
            let (Some(reader), Some(place)) = (self.readers.get(lane.reader), read.get_mut(lane.reader))
            else {
                continue;
            };
            // A tokenizer that fails, or panics, costs only this text's votes.
            let tokens = place.get_or_insert_with(|| {
                let read = guarded(|| reader.read(text).map_err(Fault::failed));
                read.inspect_err(|fault| complain(&lane.id, fault)).ok()
            });
            let Some(tokens) = tokens else {
                row.abstain(&lane.slots, Abstention::Failed);
                continue;
            };
            row.tokens = row.tokens.max(reader.count(tokens).unwrap_or(0));
            row.expect(&lane.slots, tokens.windows.len(), tokens.truncated);
            // A window of which nothing was read would vote what the graph says of no text at all.
            let read = reader.read_windows(tokens);
            if read.is_empty() {
                row.abstain(&lane.slots, Abstention::NothingRead);
                continue;
            }
            for (place, ids) in read.into_iter().enumerate() {
                // Features are those of the first window.
                if place > 0 && !heads {
                    break;
                }
                let length = TextPorts::width(&lane.padding, ids.len());
                let run = Same { lane: number, ids: Arc::clone(ids), heads };
                parts.push(Part { run, length, further: place > 0 });
            }
        }
        let rules = heads && self.desk.rules();
        let question = Question::new(asker, key, terms.timeout, row, parts.len() + usize::from(rules));
        Entry { question: Arc::new(question), parts, text: rules.then(|| text.into()) }
    }
}
