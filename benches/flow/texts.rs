//! Texts of real words with random lengths.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use tokenizers::Tokenizer;

/// The lengths of texts, in tokens of the bundled encoder, including its two special tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mix {
    /// Log-normal lengths as those of chat messages, cut at 256: median 18, mean 51, p95 243.
    Chat,
    /// Lengths from 150 to 256.
    Long,
    /// A length of 60 for all texts.
    One,
}

impl Mix {
    /// Returns the name of the mix, which is also its argument on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Long => "long",
            Self::One => "one-length",
        }
    }

    fn draw(self, random: &mut fastrand::Rng) -> usize {
        match self {
            Self::Chat => {
                // ln 18, and (ln 243 - ln 18) / 1.645.
                let normal =
                    (-2.0 * (1.0 - random.f64()).ln()).sqrt() * (random.f64() * std::f64::consts::TAU).cos();
                let length = (2.89 + 1.58 * normal).exp();
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
                let length = length.clamp(3.0, 256.0) as usize;
                length
            }
            Self::Long => random.usize(150..=256),
            Self::One => 60,
        }
    }
}

/// Returns the bundled encoder's tokenizer, which cuts at 256 tokens and does not pad.
pub fn tokenizer(models: &Path) -> Tokenizer {
    let mut tokenizer = Tokenizer::from_file(models.join("minilm/tokenizer.json")).expect("a tokenizer");
    tokenizer.with_padding(None);
    let cut = tokenizers::TruncationParams { max_length: 256, ..Default::default() };
    tokenizer.with_truncation(Some(cut)).expect("a length");
    tokenizer
}

/// Returns `count` texts of the mix, which are the same for the same seed. They use the words of the demo's texts in
/// their order, so that no two texts are equal.
pub fn texts(models: &Path, mix: Mix, count: usize, seed: u64) -> Vec<String> {
    let tokenizer = tokenizer(models);
    let mut corpus = String::new();
    for name in ["everyday", "injection", "jailbreaks", "answers"] {
        let lines =
            fs::read_to_string(models.join(format!("demo/{name}.jsonl"))).expect("make setup makes it");
        for line in lines.lines() {
            let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
            corpus.push_str(line["text"].as_str().unwrap_or_default());
            corpus.push(' ');
        }
    }
    let mut known: HashMap<&str, usize> = HashMap::new();
    let mut words = corpus.split_whitespace().cycle();
    let mut random = fastrand::Rng::with_seed(seed);
    let mut text = || {
        let wanted = mix.draw(&mut random).saturating_sub(2);
        let (mut text, mut tokens) = (String::new(), 0);
        while tokens < wanted {
            let word = words.next().expect("words without end");
            let length =
                *known.entry(word).or_insert_with(|| tokenizer.encode(word, false).expect("tokens").len());
            text.push_str(word);
            text.push(' ');
            tokens += length;
        }
        text
    };
    (0..count).map(|_| text()).collect()
}
