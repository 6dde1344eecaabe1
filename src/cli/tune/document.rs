//! The contents of `tuned.toml`: the settings, and the measurements that they were chosen from as comments.

use std::fmt::Write as _;

use super::Setting;
use super::budgets::BudgetTrials;
use super::precision::Precisions;
use super::speeds::{Bench, Speeds};
use crate::experts::Provider;

/// All measurements.
pub struct Measured<'a> {
    pub bench: &'a Bench<'a>,
    pub provider: &'a Provider,
    /// The settings with the speeds of the panel.
    pub table: &'a [(Setting, Speeds)],
    pub best: Setting,
    pub budgets: &'a [BudgetTrials],
    /// The encoder in both precisions, if it has both.
    pub precisions: Option<&'a Precisions>,
}

/// Returns the text of the file.
pub fn document(measured: &Measured) -> String {
    let Measured { bench, provider, table, best, budgets, precisions } = measured;
    let mut text = format!(
        "# Written by `aegis tune`: {} texts with lengths as in a chat, median of {} rounds, provider {}.\n\
         # The configuration overrides these settings. Delete this file or write it again after a change of\n\
         # machine, limits or experts.\n#\n# sessions  threads  batch_tokens  window  texts/s\n",
        bench.texts.len(),
        bench.rounds,
        provider.word(),
    );
    // Writing to a String cannot fail.
    for (setting, speeds) in *table {
        let Setting { sessions, threads, tokens, window } = setting;
        let (speed, mark) = (speeds.median(), if setting == best { "  chosen" } else { "" });
        let _ = writeln!(text, "# {sessions:8}  {threads:7}  {tokens:12}  {window:6}  {speed:7.1}{mark}");
    }
    text.push_str(
        "#\n# Each encoder with its heads, and each classifier, alone: its share of the panel's time, its budget.\n\
         #\n# id                                        part  tokens  texts/s\n",
    );
    for BudgetTrials { id, tried, best, share } in *budgets {
        for (place, (tokens, speeds)) in tried.iter().enumerate() {
            let (speed, part) = (speeds.median(), share * 100.0);
            let mark = if place == *best { "  chosen" } else { "" };
            let _ = writeln!(text, "# {id:40}  {part:3.0} %  {tokens:6}  {speed:7.1}{mark}");
        }
    }
    if let Some(precisions) = precisions {
        text += &precisions.comment();
    }
    let Setting { sessions, threads, tokens, window } = best;
    let card = if provider.is_card() { "card_" } else { "" };
    let _ = write!(
        text,
        "\n[experts]\nsessions = {sessions}\nthreads = {threads}\n{card}batch_tokens = {tokens}\n"
    );
    let own = |found: &BudgetTrials| Some(format!("{} = {}", found.id, found.budget()?));
    let own: Vec<String> = budgets.iter().filter_map(own).collect();
    if !own.is_empty() {
        let _ = writeln!(text, "{card}budgets = {{ {} }}", own.join(", "));
    }
    let _ = write!(text, "\n[score]\nwindow = {window}\n");
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::experts::Precision;

    fn written(provider: &Provider, best: usize) -> String {
        let (texts, best_setting) = ([], Setting { sessions: 2, threads: 1, tokens: 256, window: 128 });
        let bench = Bench { delay: Duration::ZERO, texts: &texts, rounds: 3 };
        let speeds = |speed| Speeds::new(vec![speed]);
        let table = [(Setting { tokens: 128, ..best_setting }, speeds(10.0)), (best_setting, speeds(20.0))];
        let tried = |tokens: usize| vec![(tokens, speeds(30.0)), (2 * tokens, speeds(40.0))];
        let found =
            |id: &str, tokens, best| BudgetTrials { id: id.into(), tried: tried(tokens), best, share: 0.5 };
        let budgets = [found("minilm", 256, best), found("tox-block", 3_200, 0), found("b-c", 300, best)];
        let table = table.as_slice();
        let precisions =
            Precisions::new("minilm", Precision::Float32, [vec![100.0, 99.0], vec![210.0, 220.0]]);
        let (best, budgets, precisions) = (best_setting, budgets.as_slice(), Some(&precisions));
        document(&Measured { bench: &bench, provider, table, best, budgets, precisions })
    }

    #[test]
    fn the_file_can_be_parsed() {
        let card = Provider::Cuda { device: 0, memory_limit: None };
        for (provider, card) in [(Provider::Cpu, ""), (card, "card_")] {
            for best in [0, 1] {
                let text = written(&provider, best);
                let read: toml::Table = text.parse().unwrap();
                let budgets = if best == 1 {
                    format!("{card}budgets = {{ minilm = 512, b-c = 600 }}")
                } else {
                    String::new()
                };
                let expected = format!(
                    "[experts]\nsessions = 2\nthreads = 1\n{card}batch_tokens = 256\n{budgets}\n[score]\nwindow = 128"
                );
                assert_eq!(read, expected.parse().unwrap(), "{text}");
                // Of the common settings one, and one for each encoder and classifier.
                assert_eq!(text.lines().filter(|line| line.ends_with("chosen")).count(), 4, "{text}");
            }
        }
    }
}
