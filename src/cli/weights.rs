//! `aegis weights`: shows the published predictors, and holds a policy on one of them.

mod again;
mod compare;
mod diff;
mod pin;
mod topic;

use std::collections::BTreeMap;

use anyhow::anyhow;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::print::{self, Output, printable, row, short};
use super::{ConfigArgs, Failure, run};
use crate::codec::{self, Encoding, time::format_millis};
use crate::config::{Loaded, Policies};
use crate::core::policy::Release;
use crate::core::predictor::Published;
use crate::ops::Exit;
use crate::ops::stdout::{errln, outln};
use topic::{Entry, entries, keep};
pub use topic::{PinChange, Version, pins, versions};

#[derive(Args)]
pub struct WeightsArgs {
    #[command(subcommand)]
    command: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Shows the newest predictor of each policy: weights, rounds, ledger offset and state hash
    Show(Common),
    /// Lists the predictors on the topic and the pins, oldest first
    History(Common),
    /// Prints the newest predictor of each policy with its state, one in a line, for `aegis score --weights`
    Export {
        #[command(flatten)]
        config: ConfigArgs,
        /// Prints only this policy
        #[arg(long)]
        policy: Option<String>,
    },
    /// Shows the changes between two versions of one policy's predictor, and what they would change in decisions
    Diff(diff::DiffArgs),
    /// Holds a policy on a published predictor, while learning continues in the background; releases it if a person must
    #[command(visible_alias = "release")]
    Pin(pin::PinArgs),
    /// Ends the pin of a policy, which follows the newest predictor again
    Unpin(pin::UnpinArgs),
}

#[derive(Args)]
pub struct Common {
    #[command(flatten)]
    config: ConfigArgs,
    /// Shows only this policy
    #[arg(long)]
    policy: Option<String>,
    /// The format of the output
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// The records on the topic, without the states of the predictors.
pub struct Topic {
    /// All records, oldest first.
    entries: Vec<Entry>,
    /// The pins in force, by policy.
    pins: BTreeMap<String, PinChange>,
}

impl Topic {
    /// Reads the topic.
    fn read(common: &Common, loaded: &Loaded) -> Result<Self, Failure> {
        let config = &loaded.config;
        let connection = run::brokers(config)?;
        let (mut all, mut pins) = (Vec::new(), BTreeMap::new());
        let is_shown = |policy: &str| common.policy.as_ref().is_none_or(|only| only == policy);
        let drop_state = |version: &mut Version| {
            // States are large and are not needed here.
            if let Some(published) = &mut version.published {
                published.state = Vec::new();
            }
        };
        let broken = entries(&connection, config, &mut |_, mut entry| {
            match &mut entry {
                Entry::Version(version) => drop_state(version),
                Entry::Pin(change) => {
                    if let Some((pin, version)) = &mut change.pinned {
                        pin.predictor = Vec::new();
                        drop_state(version);
                    }
                    keep(&mut pins, change.as_ref().clone());
                }
            }
            let policy = match &entry {
                Entry::Version(version) => &version.policy,
                Entry::Pin(change) => &change.policy,
            };
            if is_shown(policy) {
                all.push(entry);
            }
        })?;
        pins.retain(|policy, _| is_shown(policy));
        if broken > 0 {
            errln!("aegis: {broken} records of {} are not of this version", config.topics.weights);
        }
        if let (true, Some(policy)) = (all.is_empty(), &common.policy) {
            let nothing = anyhow!("{} holds nothing for policy {}", config.topics.weights, printable(policy));
            return Err(Failure { exit: Exit::Data, error: nothing });
        }
        Ok(Self { entries: all, pins })
    }

    /// Returns the published predictors, oldest first.
    fn versions(&self) -> impl DoubleEndedIterator<Item = &Version> {
        self.entries.iter().filter_map(|entry| match entry {
            Entry::Version(version) => Some(version),
            Entry::Pin(_) => None,
        })
    }

    /// Returns the newest predictor of each policy.
    fn newest(&self) -> BTreeMap<&str, &Version> {
        self.versions().map(|version| (version.policy.as_str(), version)).collect()
    }

    /// Returns `true` if this predictor is the pinned one of its policy.
    fn is_pinned(&self, version: &Version) -> bool {
        let pinned = self.pins.get(&version.policy).and_then(|change| change.pinned.as_ref());
        version.published.is_some() && pinned.is_some_and(|(_, pinned)| pinned.hash() == version.hash())
    }
}

/// Prints the newest predictors as JSON records.
fn export(config: &ConfigArgs, policy: Option<&String>) -> Result<Exit, Failure> {
    let config = config.load()?.config;
    let connection = run::brokers(&config)?;
    let mut newest = BTreeMap::new();
    versions(&connection, &config, &mut |version| {
        if policy.is_none_or(|policy| *policy == version.policy) {
            newest.insert(version.policy.clone(), version.published);
        }
    })?;
    let learned: Vec<Published> = newest.into_values().flatten().collect();
    if learned.is_empty() {
        let error = anyhow!("{} holds no predictor: nothing is learned yet", config.topics.weights);
        return Err(Failure { exit: Exit::Data, error });
    }
    for published in learned {
        let json = codec::encode_published(&published, Encoding::Json)
            .map_err(|error| Failure::new(Exit::Internal, error))?;
        outln!("{}", String::from_utf8_lossy(&json));
    }
    Ok(Exit::Success)
}

pub fn weights(args: &WeightsArgs) -> Result<Exit, Failure> {
    match &args.command {
        Action::Export { config, policy } => return export(config, policy.as_ref()),
        Action::Pin(args) => return pin::pin(args),
        Action::Unpin(args) => return pin::unpin(args),
        Action::Diff(args) => return diff::diff(args),
        Action::Show(common) => show(&Topic::read(common, &common.config.load()?)?, common.output)?,
        Action::History(common) => {
            let loaded = common.config.load()?;
            history(&Topic::read(common, &loaded)?, &loaded.policies, common.output)?;
        }
    }
    Ok(Exit::Success)
}

fn show(topic: &Topic, output: Output) -> Result<(), Failure> {
    let newest = topic.newest();
    let pin_of = |version: &Version| topic.pins.get(&version.policy);
    if output == Output::Json {
        let with_pin = |version: &&Version| {
            let mut value = version.json();
            value["pin"] = pin_of(version).map_or(Value::Null, pin_json);
            value
        };
        return print::json(&newest.values().map(with_pin).collect::<Vec<_>>());
    }
    if newest.is_empty() {
        outln!("nothing is learned yet");
    }
    for version in newest.into_values() {
        outln!("policy {}: {}", printable(&version.policy), version.summary());
        if let Some(change) = pin_of(version) {
            outln!("  {}", pin_line(change));
        }
        let Some(published) = &version.published else { continue };
        let mut masses: Vec<_> = published.masses.iter().collect();
        masses.sort_by(|a, b| b.mass.total_cmp(&a.mass));
        let mut rows = vec![row(["member", "weight"])];
        rows.extend(masses.iter().map(|mass| vec![printable(&mass.member), format!("{:.4}", mass.mass)]));
        print::table(&rows, &[1]);
    }
    Ok(())
}

/// Describes a pin in one line.
pub fn pin_line(change: &PinChange) -> String {
    let (by, reason) = (printable(&change.by), printable(&change.reason));
    match &change.pinned {
        Some((pin, version)) => {
            let rounds = version.published.as_ref().map_or(0, |published| published.rounds);
            let (hash, since) = (version.hash(), format_millis(pin.time));
            format!("pinned to {} ({rounds} rounds) by {by} since {since}: {reason}", short(&hash))
        }
        None => change_text(change),
    }
}

/// Describes a change of a pin without its predictor.
fn change_text(change: &PinChange) -> String {
    let (by, reason) = (printable(&change.by), printable(&change.reason));
    match &change.unreadable {
        Some(why) => format!(
            "a pin that cannot be read: {why}; scorers wait: pin again with `aegis weights pin`, or end it with \
             `aegis weights unpin`"
        ),
        None if change.pinned.is_some() => format!("pinned by {by}: {reason}"),
        None => format!("unpinned by {by}: {reason}"),
    }
}

fn pin_json(change: &PinChange) -> Value {
    json!({
        "offset": change.offset,
        "time": change.time.map(format_millis),
        "by": change.by,
        "reason": change.reason,
        "unreadable": change.unreadable,
        "pinned_at": change.pinned.as_ref().map(|(pin, _)| format_millis(pin.time)),
        "predictor": change.pinned.as_ref().map(|(_, version)| version.json()),
    })
}

/// Returns the word for the use of a predictor.
fn status(
    version: &Version,
    topic: &Topic,
    newest: &BTreeMap<&str, &Version>,
    policies: &Policies,
) -> &'static str {
    let manual = policies.get(&version.policy).is_some_and(|policy| policy.release == Release::Manual);
    let newest = newest.get(version.policy.as_str()).is_some_and(|newest| newest.offset == version.offset);
    match (topic.is_pinned(version), newest, topic.pins.contains_key(&version.policy) || manual) {
        (true, ..) if manual => "released",
        (true, ..) => "pinned",
        (false, true, true) => "candidate",
        (false, true, false) => "newest",
        (false, false, _) => "replaced",
    }
}

fn history(topic: &Topic, policies: &Policies, output: Output) -> Result<(), Failure> {
    let newest = topic.newest();
    if output == Output::Json {
        let entry = |entry: &Entry| match entry {
            Entry::Version(version) => {
                let mut value = version.json();
                value["kind"] = "predictor".into();
                value["status"] = status(version, topic, &newest, policies).into();
                value
            }
            Entry::Pin(change) => {
                let mut value = pin_json(change);
                value["policy"] = change.policy.as_str().into();
                value["kind"] = change.kind().into();
                value
            }
        };
        return print::json(&topic.entries.iter().map(entry).collect::<Vec<_>>());
    }
    let mut rows = vec![row([
        "offset",
        "time",
        "policy",
        "rounds",
        "ledger offset",
        "state",
        "greatest weight",
        "status",
    ])];
    for entry in &topic.entries {
        let (offset, time, policy, version, status) = match entry {
            Entry::Version(version) => {
                let status = status(version, topic, &newest, policies).to_owned();
                (version.offset, version.time, &version.policy, Some(version), status)
            }
            Entry::Pin(change) => {
                let status = change_text(change);
                let version = change.pinned.as_ref().map(|(_, version)| version);
                (change.offset, change.time, &change.policy, version, status)
            }
        };
        let [rounds, ledger, state, most] = figures(version);
        let time = time.map_or_else(|| "-".into(), format_millis);
        rows.push(vec![offset.to_string(), time, printable(policy), rounds, ledger, state, most, status]);
    }
    print::table(&rows, &[0, 3, 4]);
    Ok(())
}

/// Returns rounds, ledger offset, state and the greatest weight of a version; `None` is the end of a pin.
fn figures(version: Option<&Version>) -> [String; 4] {
    let nothing = |most: &str| ["-".to_owned(), "-".to_owned(), String::new(), most.to_owned()];
    let Some(version) = version else { return nothing("") };
    let Some(published) = &version.published else { return nothing("nothing is learned") };
    let greatest = published.masses.iter().max_by(|a, b| a.mass.total_cmp(&b.mass));
    let most = greatest
        .map_or_else(String::new, |greatest| format!("{} {:.4}", printable(&greatest.member), greatest.mass));
    [
        published.rounds.to_string(),
        published.ledger_offset.to_string(),
        short(&version.hash()).to_owned(),
        most,
    ]
}
