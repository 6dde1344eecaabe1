//! `aegis tune`: measures the best settings for the panel on this machine, and writes them to `tuned.toml`.

mod budgets;
mod document;
mod precision;
mod speeds;

use std::path::Path;

use anyhow::{Context, anyhow};
use clap::Args;

use self::document::{Measured, document};
use self::speeds::{BETTER, Bench, Speeds};
use super::run::panel_config;
use super::{ConfigArgs, Failure};
use crate::config::TUNED;
use crate::experts::{ModelInfo, Panel, PanelConfig, PanelError};
use crate::ops::Exit;
use crate::ops::stdout::{self, errln, outln};

/// The number of texts that are scored alone and in batches.
const COMPARED_TEXTS: usize = 48;
/// The words of the generated texts.
const WORDS: [&str; 16] = [
    "time", "people", "way", "day", "world", "school", "state", "family", "group", "country", "problem",
    "hand", "part", "place", "case", "week",
];

#[derive(Args)]
pub struct TuneArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The number of generated texts of each measurement, with lengths as in a chat
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(50..=100_000))]
    texts: u32,
    /// The number of measurements of each setting; the median is used
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: u32,
}

/// The settings that are tuned for the whole panel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Setting {
    sessions: usize,
    threads: usize,
    tokens: usize,
    window: usize,
}

/// The comparison of settings of the whole panel.
struct Trials<'a> {
    bench: &'a Bench<'a>,
    base: PanelConfig,
    /// The measurements.
    table: Vec<(Setting, Speeds)>,
}

pub fn tune(args: &TuneArgs) -> Result<Exit, Failure> {
    // The results of an earlier tuning are ignored, or they would be the start of this one.
    let config = args.config.untuned()?;
    // Thousands of requests to a server say nothing about this machine.
    let base = PanelConfig { cache: 0, require_all: true, remote: false, ..panel_config(&config.experts) };
    let texts = texts(args.texts as usize);
    let models = check_batch_invariance(&base, &texts)?;
    let bench = Bench { delay: config.experts.batch_delay(), texts: &texts, rounds: args.rounds };
    let refuse = |error| Failure::new(Exit::Config, error);
    let mut trials = Trials { bench: &bench, base, table: Vec::new() };
    let best = trials.best(config.score.window).map_err(refuse)?;
    let chosen = panel(&trials.base, best);
    let budgets = budgets::find(&bench, &chosen, best.window, &models).map_err(refuse)?;
    let precisions = precision::compare(&bench, &chosen, best.window).map_err(refuse)?;
    let (provider, table) = (&chosen.provider, trials.table.as_slice());
    let precisions = precisions.as_ref();
    let text = document(&Measured { bench: &bench, provider, table, best, budgets: &budgets, precisions });
    let path = args.config.file()?.parent().unwrap_or(Path::new("")).join(TUNED);
    std::fs::write(&path, &text)
        .with_context(|| format!("{} cannot be written", path.display()))
        .map_err(|error| Failure { exit: Exit::Unavailable, error })?;
    stdout::print(&text);
    outln!("written to {}; `aegis run` reads it, and the configuration overrides it", path.display());
    Ok(Exit::Success)
}

/// Returns the panel's settings under a setting.
fn panel(base: &PanelConfig, setting: Setting) -> PanelConfig {
    let mut config =
        PanelConfig { sessions: Some(setting.sessions.max(1)), threads: setting.threads, ..base.clone() };
    config.batch.tokens = setting.tokens;
    if config.provider.is_card() {
        config.fixed_batch.tokens = setting.tokens;
    }
    config
}

/// Returns an error if scores depend on the other texts of a batch. Returns the models that form batches.
fn check_batch_invariance(base: &PanelConfig, texts: &[String]) -> Result<Vec<ModelInfo>, Failure> {
    let panel = Panel::open(base.clone()).map_err(|error| Failure::new(Exit::Config, error))?;
    let texts: Vec<&str> = texts.iter().take(COMPARED_TEXTS).map(String::as_str).collect();
    let together = panel.ask(&texts);
    let mut greatest = vec![0.0_f64; panel.experts().len()];
    for (text, together) in texts.iter().zip(&together) {
        let alone = panel.ask(&[*text]);
        let votes = alone.iter().flat_map(|answer| &answer.votes).zip(&together.votes);
        for ((alone, together), greatest_difference) in votes.zip(&mut greatest) {
            if let (Some(a), Some(b)) = (alone.score(), together.score()) {
                *greatest_difference = greatest_difference.max((a - b).abs());
            }
        }
    }
    for (index, (expert, difference)) in panel.experts().iter().zip(greatest).enumerate() {
        outln!("{}: its score depends on the other texts of a batch by at most {difference:.1e}", expert.id);
        check_difference(&expert.id, difference, panel.tolerance(index))
            .map_err(|error| Failure { exit: Exit::Config, error })?;
    }
    Ok(panel.model_infos())
}

/// Returns an error if an expert's scores in a batch differ by more than its tolerance from those alone.
fn check_difference(id: &str, difference: f64, tolerance: f64) -> anyhow::Result<()> {
    if difference <= tolerance {
        return Ok(());
    }
    Err(anyhow!(
        "{id} gives a text another score in another batch, by {difference:.1e} where {tolerance:.0e} is accepted: the same \
         event would not get the same decision. Set alone = true in its manifest or that of its encoder, use a graph whose rows \
         do not influence each other, or leave the expert out"
    ))
}

impl Trials<'_> {
    /// Tries the settings that suit the provider, one after the other, starting with this window.
    fn best(&mut self, window: usize) -> Result<Setting, PanelError> {
        let card = self.base.provider.is_card();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let sessions = if card { self.base.workers() } else { cores };
        let mut best = Setting { sessions, threads: 1, tokens: self.base.batch.tokens, window };
        self.measure(best)?;
        // A session on a GPU leaves the cores idle. On the CPU, sessions share the cores.
        let shares: Vec<(usize, usize)> = if card {
            vec![(1, 1), (4, 1), (8, 1)]
        } else {
            let threads = (1..).map(|power| 1_usize << power).take_while(|threads| *threads <= cores);
            threads.map(|threads| (cores / threads, threads)).collect()
        };
        for (sessions, threads) in shares {
            best = self.better(best, Setting { sessions, threads, ..best })?;
        }
        // A GPU needs many texts at once: first the window is tuned, then the batch.
        for window in if card { [1_024, 4_096, 16_384] } else { [64, 128, 512] } {
            best = self.better(best, Setting { window, ..best })?;
        }
        for tokens in if card { [4_096, 65_536, 262_144] } else { [128, 512, 1_024] } {
            best = self.better(best, Setting { tokens, ..best })?;
        }
        Ok(best)
    }

    /// Returns the better of two settings, or `known` if they are similar.
    fn better(&mut self, known: Setting, other: Setting) -> Result<Setting, PanelError> {
        if known == other {
            return Ok(known);
        }
        let found = self.measure(other)?;
        let before = self.table.iter().find(|(setting, _)| *setting == known);
        let (_, before) = before.expect("the known setting has been measured");
        Ok(if found > before.median() * BETTER { other } else { known })
    }

    /// Measures a setting. Returns texts per second.
    fn measure(&mut self, setting: Setting) -> Result<f64, PanelError> {
        let speeds = self.bench.measure(panel(&self.base, setting), setting.window)?;
        let speed = speeds.median();
        let Setting { sessions, threads, tokens, window } = setting;
        errln!(
            "{sessions} sessions x {threads} threads, {tokens} tokens, window {window}: {speed:.1} texts/s"
        );
        self.table.push((setting, speeds));
        Ok(speed)
    }
}

/// Generates texts with lengths as in a chat: the median is 16 words, and the longest exceed what encoders read.
fn texts(count: usize) -> Vec<String> {
    let mut rng = fastrand::Rng::with_seed(1);
    let text = |_| {
        let normal = (0..12).map(|_| rng.f64()).sum::<f64>() - 6.0;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 3 and 300")]
        let words = (16.0 * (1.58 * normal).exp()).clamp(3.0, 300.0) as usize;
        (0..words).filter_map(|_| WORDS.get(rng.usize(..WORDS.len()))).copied().collect::<Vec<_>>().join(" ")
    };
    (0..count).map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_have_lengths_as_in_a_chat() {
        let mut words: Vec<usize> = texts(1_000).iter().map(|text| text.split(' ').count()).collect();
        words.sort_unstable();
        assert!((12..=20).contains(&words[500]) && words[999] == 300 && words[0] >= 3, "{words:?}");
    }

    /// A guard of 16 bits serves with differences that are too great for a graph of 32.
    #[test]
    fn each_expert_has_its_own_tolerance() {
        assert!(check_difference("guard", 1.5e-3, 2e-3).is_ok());
        let error = check_difference("encoder", 1.5e-3, 1e-4).unwrap_err().to_string();
        assert!(error.starts_with("encoder gives"), "{error}");
        assert!(error.contains("by 1.5e-3 where 1e-4 is accepted"), "{error}");
        assert!(error.contains("alone = true"), "{error}");
    }
}
