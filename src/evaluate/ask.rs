//! The panel's votes on texts, cached between runs because inference is slow.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::EvaluateError;
use crate::core::event::{Conversation, ConversationRef, Role};
use crate::core::features::{DIMENSIONS, Features};
use crate::core::hash::hex;
use crate::core::vote::{Abstention, Outcome, Vote};
use crate::experts::{ExpertInfo, Panel};
use crate::ops::Progress;

/// Texts given to the panel at once.
const CHUNK: usize = 128;

/// The panel's votes on one conversation.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Votes {
    /// P(unsafe) in the experts' order; NaN for an abstention.
    pub(super) votes: Vec<f64>,
    pub(super) features: Option<Box<Features>>,
}

/// The votes by the hash of the exact conversation.
#[derive(Debug, Default)]
pub(super) struct Answers(HashMap<[u8; 32], Votes>);

/// Returns the hash of the exact conversation up to the judged turn. That of one turn by the user is the hash of its text.
fn exact(conversation: ConversationRef<'_>) -> [u8; 32] {
    let ConversationRef { history, role, text } = conversation;
    if history.is_empty() && role == Role::User {
        return Sha256::digest(text.as_bytes()).into();
    }
    let mut hash = Sha256::new();
    hash.update("conversation\n");
    let turns = history.iter().map(|turn| (turn.role, turn.text.as_str()));
    for (role, text) in turns.chain([(role, text)]) {
        hash.update(format!("{} {}\n", role.word(), text.len()));
        hash.update(text);
    }
    hash.finalize().into()
}

impl Answers {
    /// Returns the votes on a conversation. `None` if the panel was not asked about it.
    pub(super) fn get<'c>(&self, conversation: impl Into<ConversationRef<'c>>) -> Option<&Votes> {
        self.0.get(&exact(conversation.into()))
    }
}

/// Returns `true` if the votes would be the same again: no expert failed, or was too slow.
fn is_final(votes: &[Vote]) -> bool {
    votes.iter().all(|vote| match vote.outcome {
        Outcome::Voted { .. } => true,
        Outcome::Abstained(reason) => matches!(
            reason,
            Abstention::EmptyText
                | Abstention::NothingRead
                | Abstention::NotFinite
                | Abstention::WrongShape
                | Abstention::WrongRole
                | Abstention::Language
                | Abstention::OffTemplate
        ),
    })
}

/// Returns the panel's cache file, whose name depends on everything that the votes depend on: the experts' manifests, their
/// models and encoders, and the encoder of the features.
fn file(cache: &Path, panel: &Panel) -> PathBuf {
    let mut digest = Sha256::new();
    for (place, expert) in panel.experts().iter().enumerate() {
        digest_expert(expert, panel.model_hashes(place), &mut digest);
    }
    digest.update(panel.encoder().unwrap_or_default());
    digest.update(crate::language::DETECTORS);
    cache.join(format!("evaluate-{:.16}.votes", hex(&digest.finalize().into())))
}

/// Adds an expert to the hash. `model`: the hashes of the model whose output it votes on.
fn digest_expert(expert: &ExpertInfo, model: Option<[[u8; 32]; 2]>, digest: &mut Sha256) {
    digest.update(format!("{}\n", expert.id));
    digest.update(expert.manifest);
    digest.update(expert.model);
    digest.update(model.unwrap_or_default().concat());
}

/// Appends a record of the cache file: the text's hash, the votes, 1 if there are features, and the features.
fn record(hash: &[u8; 32], votes: &Votes, out: &mut Vec<u8>) {
    out.extend(hash);
    votes.votes.iter().for_each(|vote| out.extend(vote.to_le_bytes()));
    out.push(u8::from(votes.features.is_some()));
    match &votes.features {
        Some(features) => out.extend(features.iter().map(|q| q.to_le_bytes()[0])),
        None => out.extend([0; DIMENSIONS]),
    }
}

fn parse(record: &[u8], experts: usize) -> Option<([u8; 32], Votes)> {
    let (hash, rest) = record.split_first_chunk::<32>()?;
    let (votes, rest) = rest.split_at_checked(8 * experts)?;
    let (has, features) = rest.split_first()?;
    let votes = votes.as_chunks::<8>().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect();
    let features: Features = features.first_chunk::<DIMENSIONS>()?.map(|byte| i8::from_le_bytes([byte]));
    Some((*hash, Votes { votes, features: (*has == 1).then(|| Box::new(features)) }))
}

fn stored(path: &Path, experts: usize) -> Result<(File, HashMap<[u8; 32], Votes>), std::io::Error> {
    let mut file = OpenOptions::new().create(true).read(true).append(true).open(path)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let width = 32 + 8 * experts + 1 + DIMENSIONS;
    // An interrupted run may have left an incomplete record.
    file.set_len((bytes.len() - bytes.len() % width) as u64)?;
    Ok((file, bytes.chunks_exact(width).filter_map(|bytes| parse(bytes, experts)).collect()))
}

/// Asks the panel for its votes on every conversation that is not in the cache. Votes of experts that failed are not
/// stored.
///
/// # Errors
/// Returns an error if the cache cannot be read or written.
pub(super) fn ask<'a>(
    panel: &Panel,
    conversations: impl Iterator<Item = ConversationRef<'a>>,
    cache: &Path,
) -> Result<Answers, EvaluateError> {
    let path = file(cache, panel);
    let failed = |error| EvaluateError::Unavailable(format!("{}: {error}", path.display()));
    std::fs::create_dir_all(cache).map_err(failed)?;
    let (mut file, mut known) = stored(&path, panel.experts().len()).map_err(failed)?;
    let mut open: Vec<([u8; 32], ConversationRef<'_>)> =
        conversations.map(|one| (exact(one), one)).filter(|(hash, _)| !known.contains_key(hash)).collect();
    open.sort_unstable_by_key(|(hash, one)| (one.text.len(), one.text, *hash));
    open.dedup_by_key(|(hash, _)| *hash);
    let progress = (!open.is_empty()).then(|| Progress::start("asking the panel", Some(open.len())));
    let mut done = 0;
    for slice in open.chunks(CHUNK) {
        let asked: Vec<Conversation> =
            slice.iter().map(|(_, conversation)| conversation.to_conversation(usize::MAX)).collect();
        let mut bytes = Vec::new();
        for ((hash, _), answer) in slice.iter().zip(panel.ask(&asked)) {
            let cast = answer.votes.iter().map(|vote| vote.awake().unwrap_or(f64::NAN)).collect();
            let votes = Votes { votes: cast, features: answer.reading.map(|reading| reading.features) };
            if is_final(&answer.votes) {
                record(hash, &votes, &mut bytes);
            }
            known.insert(*hash, votes);
        }
        file.write_all(&bytes).map_err(failed)?;
        done += slice.len();
        progress.iter().for_each(|progress| progress.set(done));
    }
    if let Some(progress) = progress {
        progress.finish();
    }
    Ok(Answers(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversation_is_known_by_all_its_turns() {
        let text = Conversation::of_text("hello");
        assert_eq!(exact((&text).into()), exact("hello".into()));
        let mut answer = Conversation::of_text("hello");
        answer.turns[0].role = Role::Assistant;
        let mut later = text.clone();
        later.turns.insert(0, answer.turns[0].clone());
        later.judged = 1;
        assert_ne!(exact((&answer).into()), exact("hello".into()));
        assert_ne!(exact((&later).into()), exact("hello".into()));
        let mut other = later.clone();
        other.turns[0].text = "another".to_owned();
        assert_ne!(exact((&later).into()), exact((&other).into()));
        // Turns after the judged one are not read.
        let mut earlier = text.clone();
        earlier.turns.push(answer.turns[0].clone());
        assert_eq!(exact((&earlier).into()), exact("hello".into()));
    }

    #[test]
    fn an_expert_of_another_manifest_or_model_has_other_votes() {
        let hash = |expert: &ExpertInfo, model| {
            let mut digest = Sha256::new();
            digest_expert(expert, model, &mut digest);
            digest.finalize()
        };
        let (expert, model) = (ExpertInfo::example("a"), Some([[2; 32], [3; 32]]));
        let changed = [
            (ExpertInfo { manifest: [9; 32], ..expert.clone() }, model),
            (ExpertInfo { model: [9; 32], ..expert.clone() }, model),
            (ExpertInfo::example("b"), model),
            (expert.clone(), Some([[9; 32], [3; 32]])),
            (expert.clone(), Some([[2; 32], [9; 32]])),
        ];
        for (other, other_model) in changed {
            assert_ne!(hash(&expert, model), hash(&other, other_model), "{other:?}");
        }
    }

    #[test]
    fn records_come_back() {
        let mut features = [0; DIMENSIONS];
        features[..2].copy_from_slice(&[-127, 5]);
        let with = Votes { votes: vec![0.25, 1.0], features: Some(Box::new(features)) };
        let without = Votes { features: None, ..with.clone() };
        for votes in [with, without] {
            let mut bytes = Vec::new();
            record(&[7; 32], &votes, &mut bytes);
            assert_eq!(parse(&bytes, 2), Some(([7; 32], votes)));
            assert_eq!(parse(&bytes[1..], 2), None);
        }
    }
}
