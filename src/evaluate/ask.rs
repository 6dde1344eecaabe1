//! The panel's votes on texts, cached between runs because inference is slow.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::EvaluateError;
use super::sets::Text;
use crate::core::features::{DIMENSIONS, Features};
use crate::core::hash::hex;
use crate::experts::Panel;
use crate::ops::stdout::{Stderr, errln};

/// Texts given to the panel at once.
const CHUNK: usize = 128;

/// The panel's votes on one text.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Votes {
    /// P(unsafe) in the experts' order; NaN for an abstention.
    pub(super) votes: Vec<f64>,
    pub(super) features: Option<Box<Features>>,
}

/// The votes by the SHA-256 of the exact text.
#[derive(Debug, Default)]
pub(super) struct Answers(HashMap<[u8; 32], Votes>);

/// Returns the hash of the exact text.
fn exact(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

impl Answers {
    /// Returns the votes on a text. `None` if the panel was not asked about it.
    pub(super) fn get(&self, text: &Text) -> Option<&Votes> {
        self.0.get(&exact(&text.text))
    }
}

/// Returns the panel's cache file, whose name depends on the experts' ids, their models and the encoder.
fn file(cache: &Path, panel: &Panel) -> PathBuf {
    let mut digest = Sha256::new();
    for expert in panel.experts() {
        digest.update(expert.id.as_bytes());
        digest.update(expert.model);
    }
    digest.update(panel.encoder().unwrap_or_default());
    cache.join(format!("evaluate-{:.16}.votes", hex(&digest.finalize().into())))
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

/// Asks the panel for its votes on every text that is not in the cache.
///
/// # Errors
/// Returns an error if the cache cannot be read or written.
pub(super) fn ask<'a>(
    panel: &Panel,
    texts: impl Iterator<Item = &'a Text>,
    cache: &Path,
) -> Result<Answers, EvaluateError> {
    let path = file(cache, panel);
    let failed = |error| EvaluateError::Unavailable(format!("{}: {error}", path.display()));
    std::fs::create_dir_all(cache).map_err(failed)?;
    let (mut file, mut known) = stored(&path, panel.experts().len()).map_err(failed)?;
    let mut open: Vec<&str> =
        texts.map(|text| text.text.as_str()).filter(|text| !known.contains_key(&exact(text))).collect();
    open.sort_unstable_by(|a, b| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
    open.dedup();
    let (total, mut done) = (open.len(), 0);
    for slice in open.chunks(CHUNK) {
        let mut bytes = Vec::new();
        for (text, answer) in slice.iter().zip(panel.ask(slice)) {
            let votes = answer.votes.iter().map(|vote| vote.awake().unwrap_or(f64::NAN)).collect();
            let votes = Votes { votes, features: answer.reading.map(|reading| reading.features) };
            let hash = exact(text);
            record(&hash, &votes, &mut bytes);
            known.insert(hash, votes);
        }
        file.write_all(&bytes).map_err(failed)?;
        done += slice.len();
        let _ = write!(Stderr, "\r{done} of {total} texts asked about");
    }
    if total > 0 {
        errln!();
    }
    Ok(Answers(known))
}

#[cfg(test)]
mod tests {
    use super::*;

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
