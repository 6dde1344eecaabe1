//! `aegis tune`: measures on this machine what the panel works best with, and writes it down beside the
//! configuration.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use clap::Args;

use super::run::panel_config;
use super::{ConfigArgs, Failure};
use crate::config::{Loaded, TUNED};
use crate::experts::{Panel, PanelConfig, TOLERANCE};
use crate::ops::Exit;
use crate::say::{self, note, say};

/// Texts that are asked about alone and together to see it.
const COMPARED: usize = 48;
/// A setting must be this much better than what stands before it to be preferred.
const BETTER: f64 = 1.03;
/// Words of which the texts are made.
const WORDS: [&str; 16] = [
    "time", "people", "way", "day", "world", "school", "state", "family", "group", "country", "problem",
    "hand", "part", "place", "case", "week",
];

#[derive(Args)]
pub struct TuneArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Texts of each measurement; they are made up, with the lengths of a chat
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(50..=100_000))]
    texts: u32,
    /// Measurements of each setting; the median counts
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: u32,
}

/// What is tuned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Setting {
    sessions: usize,
    threads: usize,
    tokens: usize,
    window: usize,
}

/// What has been measured.
struct Bench<'a> {
    base: PanelConfig,
    delay: Duration,
    texts: &'a [String],
    rounds: u32,
    /// Settings with their texts a second.
    table: Vec<(Setting, f64)>,
}

pub fn tune(args: &TuneArgs) -> Result<Exit, Failure> {
    let Loaded { config, .. } = args.config.load()?;
    let base = PanelConfig { cache: 0, require_all: true, ..panel_config(&config.experts) };
    let texts = texts(args.texts as usize);
    compare(&base, &texts)?;
    let card = base.provider.is_card();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let sessions = if card { base.workers() } else { cores };
    let start = Setting { sessions, threads: 1, tokens: base.batch.tokens, window: config.score.window };
    let delay = config.experts.batch_delay();
    let mut bench = Bench { base, delay, texts: &texts, rounds: args.rounds, table: Vec::new() };
    let mut best = start;
    bench.measure(best)?;
    // A session on a card leaves the cores idle; on the processor they are shared out among sessions.
    let shares: Vec<(usize, usize)> = if card {
        vec![(1, 1), (4, 1), (8, 1)]
    } else {
        let threads = (1..).map(|power| 1_usize << power).take_while(|threads| *threads <= cores);
        threads.map(|threads| (cores / threads, threads)).collect()
    };
    for (sessions, threads) in shares {
        best = bench.better(best, Setting { sessions, threads, ..best })?;
    }
    // A card wants many texts at once: first as many as it may hold, then how many it is given in a batch.
    for window in if card { [1_024, 4_096, 16_384] } else { [64, 128, 512] } {
        best = bench.better(best, Setting { window, ..best })?;
    }
    for tokens in if card { [4_096, 65_536, 262_144] } else { [128, 512, 1_024] } {
        best = bench.better(best, Setting { tokens, ..best })?;
    }
    let text = document(&bench, best);
    let path = args.config.config.parent().unwrap_or(Path::new("")).join(TUNED);
    std::fs::write(&path, &text)
        .with_context(|| format!("{} cannot be written", path.display()))
        .map_err(|error| Failure { exit: Exit::Unavailable, error })?;
    say::text(&text);
    say!("written to {}; `aegis run` reads it, under what the configuration says itself", path.display());
    Ok(Exit::Success)
}

/// Whether scores depend on the other texts of a batch.
fn compare(base: &PanelConfig, texts: &[String]) -> Result<(), Failure> {
    let panel = Panel::open(base.clone()).map_err(|error| Failure::new(Exit::Config, error))?;
    let texts: Vec<&str> = texts.iter().take(COMPARED).map(String::as_str).collect();
    let together = panel.ask(&texts);
    let mut greatest = vec![0.0_f64; panel.experts().len()];
    for (text, together) in texts.iter().zip(&together) {
        let alone = panel.ask(&[text]);
        let votes = alone.iter().flat_map(|answer| &answer.votes).zip(&together.votes);
        for ((alone, together), most) in votes.zip(&mut greatest) {
            if let (Some(a), Some(b)) = (alone.score(), together.score()) {
                *most = most.max((a - b).abs());
            }
        }
    }
    for (expert, most) in panel.experts().iter().zip(greatest) {
        say!("{}: its score depends on the other texts of a batch by at most {most:.1e}", expert.id);
        if most >= TOLERANCE {
            let error = anyhow!(
                "{} gives a text another score in other company, by {most:.1e}: the same event would not get the \
                 same decision. Use a graph that is not quantised dynamically, or leave the expert out",
                expert.id
            );
            return Err(Failure { exit: Exit::Config, error });
        }
    }
    Ok(())
}

impl Bench<'_> {
    /// The better of two, `known` where they are much alike.
    fn better(&mut self, known: Setting, other: Setting) -> Result<Setting, Failure> {
        if known == other {
            return Ok(known);
        }
        let found = self.measure(other)?;
        let before =
            self.table.iter().find(|(setting, _)| *setting == known).map_or(0.0, |(_, speed)| *speed);
        Ok(if found > before * BETTER { other } else { known })
    }

    /// Texts a second.
    fn measure(&mut self, setting: Setting) -> Result<f64, Failure> {
        let refuse = |error| Failure::new(Exit::Config, error);
        let mut config = PanelConfig {
            sessions: Some(setting.sessions.max(1)),
            threads: setting.threads,
            ..self.base.clone()
        };
        config.batch.tokens = setting.tokens;
        let panel = Arc::new(Panel::open(config).map_err(refuse)?);
        let mut speeds = Vec::new();
        for _ in 0..self.rounds {
            let mut stream = panel.stream(setting.window, self.delay).map_err(refuse)?;
            let (started, mut answered) = (Instant::now(), 0);
            for (key, text) in (0..).zip(self.texts) {
                while stream.room() == 0 {
                    answered += usize::from(stream.next(Duration::from_secs(1)).is_some());
                }
                stream.submit(key, text).map_err(refuse)?;
            }
            while answered < self.texts.len() {
                answered += usize::from(stream.next(Duration::from_secs(1)).is_some());
            }
            #[expect(clippy::cast_precision_loss, reason = "few texts")]
            speeds.push(answered as f64 / started.elapsed().as_secs_f64());
        }
        speeds.sort_by(f64::total_cmp);
        let speed = speeds.get(speeds.len() / 2).copied().unwrap_or_default();
        let Setting { sessions, threads, tokens, window } = setting;
        note!(
            "{sessions} sessions x {threads} threads, {tokens} tokens, window {window}: {speed:.1} texts/s"
        );
        self.table.push((setting, speed));
        Ok(speed)
    }
}

fn document(bench: &Bench, best: Setting) -> String {
    let mut text = format!(
        "# Written by `aegis tune`: {} texts with the lengths of a chat, median of {} rounds, provider {}.\n\
         # It lies under what the configuration says itself. Delete it, or write it anew, after a change of\n\
         # machine, limits or experts.\n#\n# sessions  threads  batch_tokens  window  texts/s\n",
        bench.texts.len(),
        bench.rounds,
        bench.base.provider.word(),
    );
    for (setting, speed) in &bench.table {
        let Setting { sessions, threads, tokens, window } = setting;
        let mark = if *setting == best { "  chosen" } else { "" };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "# {sessions:8}  {threads:7}  {tokens:12}  {window:6}  {speed:7.1}{mark}");
    }
    let Setting { sessions, threads, tokens, window } = best;
    let budget = if bench.base.provider.is_card() { "card_batch_tokens" } else { "batch_tokens" };
    let _ = write!(
        text,
        "\n[experts]\nsessions = {sessions}\nthreads = {threads}\n{budget} = {tokens}\n\n[score]\nwindow = {window}\n"
    );
    text
}

/// Made-up texts with the lengths of a chat: the median 16 words, the longest past what encoders read.
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
    fn what_is_written_can_be_read() {
        let base = PanelConfig::new("models");
        let best = Setting { sessions: 2, threads: 1, tokens: 256, window: 128 };
        let table = vec![(Setting { tokens: 128, ..best }, 10.0), (best, 20.0)];
        let bench = Bench { base, delay: Duration::ZERO, texts: &texts(50), rounds: 3, table };
        let text = document(&bench, best);
        let read: toml::Table = text.parse().unwrap();
        let expected = "[experts]\nsessions = 2\nthreads = 1\nbatch_tokens = 256\n[score]\nwindow = 128";
        assert_eq!(read, expected.parse().unwrap());
        assert_eq!(text.lines().filter(|line| line.ends_with("chosen")).count(), 1, "{text}");
    }

    #[test]
    fn texts_have_the_lengths_of_a_chat() {
        let mut words: Vec<usize> = texts(1_000).iter().map(|text| text.split(' ').count()).collect();
        words.sort_unstable();
        assert!((12..=20).contains(&words[500]) && words[999] == 300 && words[0] >= 3, "{words:?}");
    }
}
