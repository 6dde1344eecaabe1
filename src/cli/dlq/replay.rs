//! `aegis dlq replay`: dead letters go back where they came from, each at most once.
//!
//! Each reason has a group of its own on the dead-letter topic, and a letter has one reason. What is put back and
//! the letters' offsets in their reason's group are one transaction: a run that dies, or is repeated, or is run
//! beside another, goes on where the last commit ended. Offsets say "up to here": a letter that is passed over
//! by a selection is not offered again once a later one of its reason and partition has been put back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use clap::Args;
use serde::Serialize;

use crate::cli::print::{self, Output, printable};
use crate::cli::scan::{ANSWER, scan};
use crate::cli::verify::time;
use crate::cli::{ConfigArgs, Failure, run};
use crate::codec::time::format_millis;
use crate::config::Config;
use crate::core::event::Millis;
use crate::dead_letter::{Headers, original};
use crate::kafka::topics::partitions;
use crate::kafka::{
    CommitError, Connection, Consumed, Offsets, Outbox, Polled, Produced, Source, Start, committed,
};
use crate::ops::Exit;
use crate::ops::stdout::outln;

/// Letters of one transaction.
const UNIT: usize = 500;
/// How long leaving the group may take.
const LEAVE: Duration = Duration::from_secs(5);

#[derive(Args)]
pub struct ReplayArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Only letters for this reason; can be repeated [default: every reason]
    #[arg(long = "reason", value_name = "REASON")]
    reasons: Vec<String>,
    /// Only in this partition of the dead-letter topic; can be repeated [default: all]
    #[arg(long = "partition", value_name = "NUMBER")]
    partitions: Vec<i32>,
    /// Only originals from then on: RFC 3339, or milliseconds since 1970
    #[arg(long, value_name = "TIME", value_parser = time)]
    from: Option<Millis>,
    /// Only originals from before then
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<Millis>,
    /// Leaves what has been put back so often already: it would only come back again
    #[arg(long, value_name = "TIMES", default_value_t = 3)]
    most: u32,
    /// Says what would be put back, and writes nothing
    #[arg(long)]
    dry_run: bool,
    /// For people or for machines
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// What becomes of a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    Goes,
    /// Its offset lies before what its reason's group has committed.
    Done,
    /// Not selected.
    Other,
    Stays(&'static str),
}

/// A letter in its place.
struct Letter {
    place: (i32, i64),
    fate: Fate,
    time: Option<Millis>,
}

/// What a run does about one reason.
#[derive(Debug, Default, Serialize)]
struct Summary {
    reason: String,
    /// Letters put back, or that would be.
    replayed: u64,
    /// Letters that an earlier run put back or passed over.
    done: u64,
    /// Letters that are passed over for good: later ones of their partition go.
    passed_over: u64,
    /// Letters that cannot be put back, by why.
    left: BTreeMap<&'static str, u64>,
    /// Time of the oldest original that goes.
    oldest: Option<String>,
    /// Time of the newest.
    newest: Option<String>,
}

pub fn replay(args: &ReplayArgs) -> Result<(), Failure> {
    let config = args.config.load()?.config;
    let connection = run::brokers(&config)?;
    let mut summaries = Vec::new();
    for (reason, letters) in judged(args, &config, &connection)? {
        let mut summary = summary(&reason, &letters);
        let goes = letters.iter().filter(|letter| letter.fate == Fate::Goes).map(|letter| letter.place);
        let goes: BTreeSet<_> = goes.collect();
        if !args.dry_run && !goes.is_empty() {
            let refused = put_back(&config, &connection, &group(&config, &reason), goes)?;
            if refused > 0 {
                summary.replayed = summary.replayed.saturating_sub(refused);
                summary.left.insert("is larger than its topic accepts: raise its max.message.bytes", refused);
            }
        }
        summaries.push(summary);
    }
    match args.output {
        Output::Json => print::json(&summaries),
        Output::Text => {
            text(&summaries, args.dry_run);
            Ok(())
        }
    }
}

/// The group that a reason's letters are counted in.
fn group(config: &Config, reason: &str) -> String {
    format!("{}-replay-{reason}", config.topics.dlq)
}

/// Every letter of the reasons asked for, by reason, with what becomes of it.
fn judged(
    args: &ReplayArgs,
    config: &Config,
    connection: &Connection,
) -> Result<BTreeMap<String, Vec<Letter>>, Failure> {
    let mut found: BTreeMap<String, Vec<Letter>> = BTreeMap::new();
    let mut counts = BTreeMap::new();
    for topic in [&config.topics.events, &config.topics.labels] {
        let count = partitions(connection, topic, ANSWER);
        counts.insert(topic.as_str(), count.map_err(|error| Failure::new(Exit::Unavailable, error))?);
    }
    scan(connection, &config.topics.dlq, &mut |record| {
        let reason = Headers::of(&record.headers).map_or_else(|| "Unknown".into(), |of| of.reason);
        if args.reasons.is_empty() || args.reasons.contains(&reason) {
            let (place, time) = ((record.partition, record.offset), record.timestamp);
            let fate = fate(args, &counts, &reason, record);
            found.entry(reason).or_default().push(Letter { place, fate, time });
        }
        Ok(())
    })?;
    for (reason, letters) in &mut found {
        if !letters.iter().any(|letter| letter.fate == Fate::Goes) {
            continue;
        }
        let done = committed(connection, &group(config, reason), &config.topics.dlq, ANSWER)
            .map_err(|error| Failure::new(Exit::Unavailable, error))?;
        for letter in letters {
            let (partition, offset) = letter.place;
            if done.get(&partition).is_some_and(|next| offset < *next) {
                letter.fate = Fate::Done;
            }
        }
    }
    Ok(found)
}

/// `partitions`: of the topics that letters may go back to.
fn fate(args: &ReplayArgs, partitions: &BTreeMap<&str, i32>, reason: &str, record: Consumed) -> Fate {
    // The reason names a group: whoever writes to the topic must not choose any name.
    let plain = |reason: &str| {
        (1..=64).contains(&reason.len()) && reason.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    if !plain(reason) {
        return Fate::Stays("names no reason of ours");
    }
    let (partition, time) = (record.partition, record.timestamp);
    let ours = |back: &Produced| {
        let count = partitions.get(&*back.topic);
        count.zip(back.partition).is_some_and(|(count, partition)| partition < *count)
    };
    match original(record) {
        Err(stays) => Fate::Stays(stays.why()),
        Ok((back, _)) if !ours(&back) => Fate::Stays("comes from neither events nor labels"),
        Ok((_, count)) if count > args.most => Fate::Stays("was put back too often: raise --most"),
        Ok(_) => {
            let within = args.from.is_none_or(|from| time.is_some_and(|time| time >= from))
                && args.until.is_none_or(|until| time.is_some_and(|time| time < until))
                && (args.partitions.is_empty() || args.partitions.contains(&partition));
            if within { Fate::Goes } else { Fate::Other }
        }
    }
}

fn summary(reason: &str, letters: &[Letter]) -> Summary {
    let mut summary = Summary { reason: reason.to_owned(), ..Summary::default() };
    let goes = || letters.iter().filter(|letter| letter.fate == Fate::Goes);
    let mut last: BTreeMap<i32, i64> = BTreeMap::new();
    for Letter { place: (partition, offset), .. } in goes() {
        let greatest = last.entry(*partition).or_insert(*offset);
        *greatest = (*offset).max(*greatest);
    }
    for letter in letters {
        let (partition, offset) = letter.place;
        match letter.fate {
            Fate::Goes => summary.replayed += 1,
            Fate::Done => summary.done += 1,
            Fate::Stays(why) => *summary.left.entry(why).or_default() += 1,
            Fate::Other if last.get(&partition).is_some_and(|last| offset < *last) => {
                summary.passed_over += 1
            }
            Fate::Other => {}
        }
    }
    summary.oldest = goes().filter_map(|letter| letter.time).min().map(format_millis);
    summary.newest = goes().filter_map(|letter| letter.time).max().map(format_millis);
    summary
}

/// Puts the letters at these places back, with their offsets in the group, unit by unit. Returns how many were left
/// because their topic refuses them for their size.
fn put_back(
    config: &Config,
    connection: &Connection,
    group: &str,
    mut goes: BTreeSet<(i32, i64)>,
) -> Result<u64, Failure> {
    let unavailable = |error| Failure { exit: Exit::Unavailable, error };
    let again = "run it again: what has been put back is not put back twice";
    // Taking the transactional id over ends another run under way.
    let mut outbox = Outbox::open(connection, run::delivery(config, connection, group))
        .map_err(|error| Failure::new(Exit::Unavailable, error))?;
    let mut source = Source::subscribe(connection, group, &[&config.topics.dlq], Start::Earliest)
        .map_err(|error| Failure::new(Exit::Unavailable, error))?;
    let (mut unit, mut offsets) = (Vec::new(), Offsets::default());
    let mut heard = Instant::now();
    let mut refused = 0;
    loop {
        if unit.len() >= UNIT || (goes.is_empty() && !unit.is_empty()) {
            refused += commit(&mut outbox, &source, &mut unit, &mut offsets)
                .map_err(|error| unavailable(anyhow!("{error}; {again}")))?;
        }
        if goes.is_empty() {
            break;
        }
        let polled = source
            .poll(Duration::from_millis(100))
            .map_err(|error| Failure::new(Exit::Unavailable, error))?;
        match polled {
            Polled::Record(record) => {
                heard = Instant::now();
                let (place, topic) = ((record.partition, record.offset), Arc::clone(&record.topic));
                if goes.remove(&place)
                    && let Ok((back, _)) = original(record)
                {
                    unit.push(back);
                    offsets.advance((topic, place.0), place.1 + 1);
                }
            }
            // Another run may have come this far since the topic was read.
            Polled::Assigned(_) => {
                let done =
                    source.committed(ANSWER).map_err(|error| Failure::new(Exit::Unavailable, error))?;
                let next: BTreeMap<i32, i64> =
                    done.into_iter().filter_map(|((_, partition), next)| Some((partition, next?))).collect();
                goes.retain(|(partition, offset)| next.get(partition).is_none_or(|next| offset >= next));
            }
            Polled::Revoked { .. } => {
                return Err(unavailable(anyhow!("another replay is at work on the same letters; {again}")));
            }
            Polled::Idle if heard.elapsed() < ANSWER => {}
            Polled::Idle => {
                let topic = &config.topics.dlq;
                let silent =
                    anyhow!("{topic} has been silent for half a minute, {} letters short", goes.len());
                return Err(unavailable(silent.context(again)));
            }
        }
    }
    source.close(LEAVE);
    Ok(refused)
}

/// Commits a unit. Returns how many of its records were left out because their topic refuses them for their size.
fn commit(
    outbox: &mut Outbox,
    source: &Source,
    unit: &mut Vec<Produced>,
    offsets: &mut Offsets,
) -> Result<u64, CommitError> {
    let mut refused = 0;
    loop {
        match outbox.commit(unit, Some((source.membership(), offsets))) {
            // The batch may be too large rather than the record: each is sent in a batch of its own.
            Err(CommitError::TooLarge { .. }) if outbox.batch() > 1 => outbox.narrow(1),
            Err(CommitError::TooLarge { index, .. }) if index < unit.len() => {
                unit.remove(index);
                refused += 1;
            }
            done => {
                done?;
                break;
            }
        }
    }
    unit.clear();
    *offsets = Offsets::default();
    Ok(refused)
}

fn text(summaries: &[Summary], dry_run: bool) {
    let put = if dry_run { "would be put back" } else { "put back" };
    for summary in summaries {
        let times = match (&summary.oldest, &summary.newest) {
            (Some(oldest), Some(newest)) => format!(", from {oldest} to {newest}"),
            _ => String::new(),
        };
        outln!("{}: {} {put}{times}", printable(&summary.reason), summary.replayed);
        if summary.done > 0 {
            outln!("  {} are behind an earlier run", summary.done);
        }
        if summary.passed_over > 0 {
            let will = if dry_run { "would be" } else { "are" };
            outln!("  {} {will} passed over for good: older than one that goes", summary.passed_over);
        }
        for (why, count) in &summary.left {
            outln!("  {count} stay: {why}");
        }
    }
    if summaries.is_empty() {
        outln!("no dead letters");
    }
}
