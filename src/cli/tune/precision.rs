//! Compares the graphs of an encoder that has one in float32 and one in int8. The comparison is reported only: another graph
//! gives the features another encoder id, which all scorers of a group must share.

use std::fmt::Write as _;

use super::speeds::{Bench, Speeds};
use crate::experts::{PanelConfig, PanelError, Precision, precisions};

/// The two precisions, in the order of their speeds here.
const BOTH: [Precision; 2] = [Precision::Float32, Precision::Int8];

/// The speeds of an encoder alone in both precisions, measured in turn.
pub struct Precisions {
    encoder: String,
    /// The configured precision.
    used: Precision,
    /// In float32, and in int8.
    speeds: [Speeds; 2],
}

/// Measures the first encoder that has both graphs, without its heads. Returns `None` if none has, or if a card runs them.
///
/// # Errors
/// Returns an error if a panel cannot be opened.
pub fn compare(bench: &Bench, config: &PanelConfig, window: usize) -> Result<Option<Precisions>, PanelError> {
    if config.provider.is_card() {
        return Ok(None);
    }
    let Some(encoder) = precisions(config)?.into_iter().next() else {
        return Ok(None);
    };
    let once = Bench { rounds: 1, ..*bench };
    let mut speeds = [Vec::new(), Vec::new()];
    // A round of each in turn, so that other load on the machine reaches both.
    for _ in 0..bench.rounds {
        for (precision, speeds) in BOTH.into_iter().zip(&mut speeds) {
            let only = Some(vec![encoder.clone()]);
            let config = PanelConfig { precision, only, ..config.clone() };
            speeds.push(once.measure(config, window)?.median());
        }
    }
    let found = Precisions::new(&encoder, config.precision, speeds);
    eprintln!("{}", found.summary());
    Ok(Some(found))
}

impl Precisions {
    pub fn new(encoder: &str, used: Precision, speeds: [Vec<f64>; 2]) -> Self {
        Self { encoder: encoder.to_owned(), used, speeds: speeds.map(Speeds::new) }
    }

    /// Returns the result in one line.
    fn summary(&self) -> String {
        let [float32, int8] = &self.speeds;
        let faster = match (int8.beat(float32), float32.beat(int8)) {
            (true, _) => "int8 is faster here",
            (_, true) => "float32 is faster here",
            _ => "neither is faster here beyond chance",
        };
        let (encoder, used, ratio) = (&self.encoder, self.used.word(), int8.median() / float32.median());
        format!(
            "{encoder}: int8 runs {ratio:.2} times the texts of float32; {faster}; experts.encoder is {used}"
        )
    }

    /// Returns the table as comments of TOML.
    pub fn comment(&self) -> String {
        let mut text = format!("#\n# {}\n#\n# precision  texts/s\n", self.summary());
        for (precision, speeds) in BOTH.into_iter().zip(&self.speeds) {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "# {:<9}  {:7.1}", precision.word(), speeds.median());
        }
        text + "# This file never changes the graph: set experts.encoder for all scorers of a group (docs/tuning.md).\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(float32: &[f64], int8: &[f64]) -> String {
        Precisions::new("minilm", Precision::Float32, [float32.to_vec(), int8.to_vec()]).summary()
    }

    #[test]
    fn the_faster_graph_is_named_and_differences_within_chance_are_not() {
        assert_eq!(
            summary(&[100.0, 101.0, 99.0], &[250.0, 249.0, 260.0]),
            "minilm: int8 runs 2.50 times the texts of float32; int8 is faster here; experts.encoder is float32"
        );
        assert!(summary(&[100.0, 101.0, 99.0], &[50.0, 49.0, 51.0]).contains("; float32 is faster here;"));
        assert!(summary(&[100.0, 120.0, 90.0], &[110.0, 119.0, 91.0]).contains("; neither is faster here"));
    }

    #[test]
    fn the_comment_sets_nothing() {
        let found = Precisions::new("minilm", Precision::Int8, [vec![100.0], vec![250.0]]);
        let read: toml::Table = found.comment().parse().unwrap();
        assert!(read.is_empty() && found.comment().contains("# int8         250.0"), "{}", found.comment());
    }
}
