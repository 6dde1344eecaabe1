//! `aegis labels stats`: figures about annotators, and the commands that would put some of them into quarantine.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::{connect, scan_ledger};
use crate::cli::print::{self, Output, printable, row};
use crate::cli::{ConfigArgs, Failure};
use crate::config::Loaded;
use crate::core::event::Millis;
use crate::core::label::Mapping;
use crate::core::ledger::Record;
use crate::core::ledger_state::LedgerState;
use crate::labels::annotators::{Annotator, Group, Report, Settings, measure};
use crate::ops::Exit;
use crate::ops::stdout::{Stderr, errln, outln};
use crate::replay::{ReplayError, read_ledger};

/// The number of pairs of annotators that are shown as text.
const SHOWN_PAIRS: usize = 10;

#[derive(Args)]
pub struct StatsArgs {
    /// The configuration file, whose ledger topic is read without files [default without files: aegis.toml, then
    /// config/aegis.toml, in the working folder]
    #[arg(long, value_name = "FILE", env = "AEGIS_CONFIG")]
    config: Option<PathBuf>,
    /// Overrides the file and AEGIS__SECTION__KEY from the environment; can be repeated
    #[arg(long = "set", value_name = "section.key=value")]
    sets: Vec<String>,
    /// Savepoints or files of `aegis replay` that are read instead of the ledger topic
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Measures only this policy
    #[arg(long)]
    policy: Option<String>,
    /// Measures only this tenant
    #[arg(long)]
    tenant: Option<String>,
    /// The gold accuracy below which an annotator is proposed for quarantine, if the whole interval is below it
    #[arg(long, value_name = "SHARE", default_value_t = 0.8, value_parser = share)]
    floor: f64,
    /// A longer interval between two labels is a break and does not count, in minutes
    #[arg(long, value_name = "MINUTES", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_440))]
    longest_gap: u32,
    /// The format of the output
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "write a number from 0 to 1".to_owned())
}

/// A proposal to put an annotator into quarantine.
#[derive(Serialize)]
struct Proposal {
    annotator: String,
    /// The command that does it.
    command: String,
}

pub fn stats(args: &StatsArgs) -> Result<Exit, Failure> {
    let (ledger, loaded) = read(args)?;
    let mapping = |policy: &str| {
        let known = loaded.as_ref().and_then(|loaded| loaded.policies.get(policy));
        known.map_or_else(Mapping::default, |policy| policy.mapping.clone())
    };
    let settings = Settings {
        policy: args.policy.as_deref(),
        tenant: args.tenant.as_deref(),
        longest_gap: Millis::from(args.longest_gap) * 60_000,
        floor: args.floor,
        mapping: &mapping,
    };
    let report = measure(&ledger, &settings);
    let proposals: Vec<_> = report.all.annotators.iter().filter_map(|one| proposal(args, one)).collect();
    match args.output {
        Output::Text => text(args, &report, &proposals),
        Output::Json => {
            #[derive(Serialize)]
            struct Shown<'a> {
                floor: f64,
                #[serde(flatten)]
                report: &'a Report,
                proposals: &'a [Proposal],
            }
            print::json(&Shown { floor: args.floor, report: &report, proposals: &proposals })?;
        }
    }
    Ok(Exit::Success)
}

/// Reads the ledger: of the files, or the labels and edits of the topic.
fn read(args: &StatsArgs) -> Result<(LedgerState, Option<Loaded>), Failure> {
    let config = ConfigArgs { config: args.config.clone(), sets: args.sets.clone() };
    if !args.files.is_empty() {
        let loaded = args.config.as_ref().map(|_| config.load()).transpose()?;
        let defaults = loaded.as_ref().map(|loaded| loaded.config.record_defaults());
        let (ledger, malformed) = read_ledger(&args.files, defaults, &mut Stderr).map_err(replay_failure)?;
        if malformed > 0 {
            errln!("aegis: {malformed} malformed lines are not counted");
        }
        return Ok((ledger, loaded));
    }
    let (loaded, connection) = connect(&config)?;
    let mut ledger = LedgerState::new();
    scan_ledger(&loaded.config, &connection, &mut |record| {
        // Votes and features are not needed, and take most of the memory.
        if matches!(record, Record::Round(_)) {
            return Ok(());
        }
        let applied = ledger.apply(&record, &mut Vec::new());
        applied.map(|_| ()).map_err(|error| Failure::new(Exit::Data, error))
    })?;
    Ok((ledger, Some(loaded)))
}

fn replay_failure(error: ReplayError) -> Failure {
    let exit = match error {
        ReplayError::Usage(_) => Exit::Usage,
        ReplayError::Data(_) => Exit::Data,
        ReplayError::Unavailable(_) => Exit::Unavailable,
        ReplayError::Internal(_) => Exit::Internal,
    };
    Failure::new(exit, error)
}

/// Proposes an annotator whose answers to known cases are below the floor for certain.
fn proposal(args: &StatsArgs, annotator: &Annotator) -> Option<Proposal> {
    let name = annotator.annotator.as_ref().filter(|_| annotator.below_floor && !annotator.quarantined)?;
    let mut command = "aegis ledger quarantine".to_owned();
    let config =
        args.config.as_ref().map_or_else(|| "FILE".to_owned(), |path| quoted(&path.display().to_string()));
    command.push_str(&format!(" --config {config}"));
    for set in &args.sets {
        command.push_str(&format!(" --set {}", quoted(set)));
    }
    if let Some(tenant) = &args.tenant {
        command.push_str(&format!(" --tenant {}", quoted(tenant)));
    }
    // After `--`, a name that begins with a hyphen is no flag.
    command.push_str(&format!(" -- {}", quoted(name)));
    Some(Proposal { annotator: name.clone(), command })
}

/// Quotes a word for a shell. Control characters are escaped as bash and zsh read them.
fn quoted(word: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:@%+=,".contains(&byte);
    if !word.is_empty() && word.bytes().all(is_plain) {
        return word.to_owned();
    }
    if word.chars().any(char::is_control) {
        let escaped = word.chars().flat_map(|letter| match letter {
            '\'' | '\\' => vec!['\\', letter],
            _ if letter.is_control() => {
                let mut bytes = [0; 4];
                let bytes = letter.encode_utf8(&mut bytes).bytes();
                bytes.flat_map(|byte| format!("\\x{byte:02x}").chars().collect::<Vec<_>>()).collect()
            }
            _ => vec![letter],
        });
        return format!("$'{}'", escaped.collect::<String>());
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", share * 100.0))
}

fn measure_of(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"))
}

fn seconds(millis: Millis) -> String {
    format!("{:.1} s", millis as f64 / 1_000.0)
}

fn text(args: &StatsArgs, report: &Report, proposals: &[Proposal]) {
    if report.all.annotators.is_empty() {
        outln!("the ledger has no labels of this choice");
        return;
    }
    table(&report.all);
    if report.groups.len() > 1 {
        for group in &report.groups {
            let name = |name: &Option<String>| name.as_deref().map(printable).unwrap_or_default();
            outln!("\npolicy {}, tenant {}", name(&group.policy), name(&group.tenant));
            table(group);
        }
    }
    if report.all.annotators.iter().all(|annotator| annotator.gold.answers == 0) {
        outln!(
            "\nno answer is about an event with a gold label, so that no annotator is compared with the floor"
        );
        return;
    }
    for Proposal { annotator, command } in proposals {
        outln!(
            "\n{} is below the floor of {}, also at the upper bound. Nothing is changed. This command excludes the labels:",
            printable(annotator),
            percent(Some(args.floor))
        );
        outln!("  {command}");
    }
}

fn table(group: &Group) {
    let mut rows = vec![row([
        "annotator",
        "labels",
        "shared",
        "agreement",
        "kappa",
        "gold",
        "accuracy",
        "95 %",
        "corrected",
        "pace",
        "",
    ])];
    for one in &group.annotators {
        let interval = one.gold_interval.map_or_else(
            || "-".to_owned(),
            |interval| format!("{:.0} to {:.0} %", interval.low * 100.0, interval.high * 100.0),
        );
        let mark = match (one.quarantined, one.below_floor) {
            (true, _) => "in quarantine",
            (false, true) => "below the floor",
            (false, false) => "",
        };
        rows.push(vec![
            one.annotator.as_deref().map_or_else(|| "(nameless)".to_owned(), printable),
            one.labels.to_string(),
            one.shared.to_string(),
            percent(one.agreement),
            measure_of(one.kappa),
            one.gold.answers.to_string(),
            percent(one.gold_accuracy),
            interval,
            one.corrected.to_string(),
            one.pace.map_or_else(|| "-".to_owned(), |pace| seconds(pace.median_ms)),
            mark.to_owned(),
        ]);
    }
    print::table(&rows, &[1, 2, 3, 4, 5, 6, 7, 8, 9]);
    outln!(
        "Krippendorff's alpha {} over {} events with several answers",
        measure_of(group.alpha),
        group.shared_events
    );
    let further = group.pairs.len().saturating_sub(SHOWN_PAIRS);
    for pair in group.pairs.iter().take(SHOWN_PAIRS) {
        let [first, second] = &pair.annotators;
        let (agreement, kappa) = (percent(pair.agreement), measure_of(pair.kappa));
        outln!(
            "{} and {}: {} events, {agreement}, kappa {kappa}",
            printable(first),
            printable(second),
            pair.events
        );
    }
    if further > 0 {
        outln!("and {further} more pairs, in --output json");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_for_a_shell() {
        for (name, expected) in [
            ("ann@example.org", "ann@example.org"),
            ("", "''"),
            ("ann lee", "'ann lee'"),
            ("o'brien", "'o'\\''brien'"),
            ("$(reboot)", "'$(reboot)'"),
            ("a\nb'c", "$'a\\x0ab\\'c'"),
            ("ä", "'ä'"),
        ] {
            assert_eq!(quoted(name), expected, "{name:?}");
        }
    }
}
