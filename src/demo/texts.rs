//! The real texts that the demo streams, read from the folder that `make setup` fills.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::core::event::{Role, Turn};

/// A text with the opinions of its reviewers.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The conversation, whose last turn is judged.
    pub turns: Vec<Turn>,
    /// P(unsafe) by each reviewer, in the set's order.
    pub opinions: Vec<f64>,
}

/// The demo's sets, each in a fixed order.
pub struct Texts {
    /// Prompts, some of them injection attempts.
    pub injection: Vec<Sample>,
    /// Prompts with their answers, some harmful, with one to three reviewers' scores.
    pub answers: Vec<Sample>,
    /// Jailbreaks and requests for harm.
    pub jailbreaks: Vec<Sample>,
    /// Everyday traffic.
    pub everyday: Vec<Sample>,
}

/// The reason why the texts cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TextsError {
    /// A file is missing.
    #[error("cannot read {path}: {reason}. `make setup` makes it")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        reason: std::io::Error,
    },
    /// A line does not have the format that `make setup` writes.
    #[error("{path}:{line}: not a demo text. Delete the folder and run `make setup` again")]
    Line {
        /// The file.
        path: PathBuf,
        /// The line's number, from 1.
        line: usize,
    },
}

#[derive(Deserialize)]
struct Written {
    text: Option<String>,
    turns: Option<Vec<WrittenTurn>>,
    scores: Option<Vec<f64>>,
    #[serde(rename = "unsafe")]
    is_unsafe: bool,
}

#[derive(Deserialize)]
struct WrittenTurn {
    role: String,
    text: String,
}

impl Texts {
    /// Reads all sets from the experts' folder.
    ///
    /// # Errors
    /// Returns an error if a file is missing or has another format.
    pub fn read(models: &Path) -> Result<Self, TextsError> {
        let set = |name: &str| read(&models.join("demo").join(format!("{name}.jsonl")));
        Ok(Self {
            injection: set("injection")?,
            answers: set("answers")?,
            jailbreaks: set("jailbreaks")?,
            everyday: set("everyday")?,
        })
    }
}

fn read(path: &Path) -> Result<Vec<Sample>, TextsError> {
    let text = fs::read_to_string(path).map_err(|reason| TextsError::Read { path: path.into(), reason })?;
    text.lines()
        .enumerate()
        .map(|(at, line)| sample(line).ok_or_else(|| TextsError::Line { path: path.into(), line: at + 1 }))
        .collect()
}

fn sample(line: &str) -> Option<Sample> {
    let Written { text, turns, scores, is_unsafe } = serde_json::from_str(line).ok()?;
    let turns: Vec<Turn> = match (turns, text) {
        (Some(turns), _) => turns
            .into_iter()
            .map(|turn| {
                let role = Role::ALL.into_iter().find(|role| role.word() == turn.role)?;
                Some(Turn { role, text: turn.text })
            })
            .collect::<Option<_>>()?,
        (None, Some(text)) => vec![Turn { role: Role::User, text }],
        (None, None) => return None,
    };
    let opinions = match scores {
        Some(scores) if !scores.is_empty() => scores,
        _ => vec![f64::from(u8::from(is_unsafe))],
    };
    opinions.iter().all(|score| (0.0..=1.0).contains(score)).then_some(Sample { turns, opinions })
}
