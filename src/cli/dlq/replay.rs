//! `aegis dlq replay`: writes dead letters back to their source topics, each at most once.
//!
//! Each reason has a consumer group of its own on the dead-letter topic. The records put back and the letters' offsets in
//! the group of their reason are one transaction, so that a run that crashes, is repeated, or runs beside another continues
//! after the last commit. Because a committed offset covers all earlier ones, a letter that a selection skips is not offered
//! again once a later one of its reason and partition has been put back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use clap::Args;
use serde::Serialize;

use crate::cli::print::{self, Output, printable};
use crate::cli::scan::{ANSWER_TIMEOUT, scan};
use crate::cli::verify::time;
use crate::cli::{ConfigArgs, Failure, run};
use crate::codec::time::format_millis;
use crate::config::Config;
use crate::core::event::Millis;
use crate::dead_letter::{Headers, original};
use crate::kafka::topics::partitions;
use crate::kafka::{
    CommitError, Connection, Consumed, Offsets, Outbox, Polled, Produced, Source, SourceError, Start,
    committed,
};
use crate::ops::Exit;
use crate::ops::stdout::outln;

/// The number of letters in one transaction.
const TRANSACTION_RECORDS: usize = 500;
/// The timeout of leaving the group.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Args)]
pub struct ReplayArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Replays only letters with this reason; can be repeated [default: every reason]
    #[arg(long = "reason", value_name = "REASON")]
    reasons: Vec<String>,
    /// Replays only letters in this partition of the dead-letter topic; can be repeated [default: all]
    #[arg(long = "partition", value_name = "NUMBER")]
    partitions: Vec<i32>,
    /// Replays only originals at or after this time: RFC 3339, or milliseconds since 1970
    #[arg(long, value_name = "TIME", value_parser = time)]
    from: Option<Millis>,
    /// Replays only originals before this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<Millis>,
    /// Leaves letters that have been put back this often already
    #[arg(long, value_name = "TIMES", default_value_t = 3)]
    most: u32,
    /// Prints what would be put back, and writes nothing
    #[arg(long)]
    dry_run: bool,
    /// The format of the output
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// The treatment of a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    /// It is put back.
    Replay,
    /// Its offset lies before the committed offset of its reason's group.
    Done,
    /// It is not selected.
    NotSelected,
    /// It cannot be put back, for this reason.
    Refused(&'static str),
}

/// A letter with its position.
struct Letter {
    position: (i32, i64),
    fate: Fate,
    time: Option<Millis>,
}

/// The result for one reason.
#[derive(Debug, Default, Serialize)]
struct Summary {
    reason: String,
    /// The letters put back, or that would be put back.
    replayed: u64,
    /// The letters that an earlier run put back or skipped.
    done: u64,
    /// The letters that are skipped for good, because later ones of their partition are put back.
    passed_over: u64,
    /// The letters that cannot be put back, by reason.
    left: BTreeMap<&'static str, u64>,
    /// The time of the oldest original that is put back.
    oldest: Option<String>,
    /// The time of the newest original that is put back.
    newest: Option<String>,
}

pub fn replay(args: &ReplayArgs) -> Result<(), Failure> {
    let config = args.config.load()?.config;
    let connection = run::brokers(&config)?;
    let mut summaries = Vec::new();
    for (reason, letters) in classify(args, &config, &connection)? {
        let mut summary = summary(&reason, &letters);
        let goes = letters.iter().filter(|letter| letter.fate == Fate::Replay).map(|letter| letter.position);
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

/// Returns the consumer group of a reason.
fn group(config: &Config, reason: &str) -> String {
    format!("{}-replay-{reason}", config.topics.dlq)
}

/// Returns every letter of the selected reasons, by reason, with its treatment.
fn classify(
    args: &ReplayArgs,
    config: &Config,
    connection: &Connection,
) -> Result<BTreeMap<String, Vec<Letter>>, Failure> {
    let mut found: BTreeMap<String, Vec<Letter>> = BTreeMap::new();
    let mut counts = BTreeMap::new();
    for topic in [&config.topics.events, &config.topics.labels] {
        let count = partitions(connection, topic, ANSWER_TIMEOUT);
        counts.insert(topic.as_str(), count.map_err(|error| Failure::new(Exit::Unavailable, error))?);
    }
    scan(connection, &config.topics.dlq, &mut |record| {
        let reason = Headers::of(&record.headers).map_or_else(|| "Unknown".into(), |of| of.reason);
        if args.reasons.is_empty() || args.reasons.contains(&reason) {
            let (position, time) = ((record.partition, record.offset), record.timestamp);
            let fate = fate(args, &counts, &reason, record);
            found.entry(reason).or_default().push(Letter { position, fate, time });
        }
        Ok(())
    })?;
    for (reason, letters) in &mut found {
        if !letters.iter().any(|letter| letter.fate == Fate::Replay) {
            continue;
        }
        let done = committed(connection, &group(config, reason), &config.topics.dlq, ANSWER_TIMEOUT)
            .map_err(|error| Failure::new(Exit::Unavailable, error))?;
        for letter in letters {
            let (partition, offset) = letter.position;
            if done.get(&partition).is_some_and(|next| offset < *next) {
                letter.fate = Fate::Done;
            }
        }
    }
    Ok(found)
}

/// Returns the treatment of a letter. `partitions` are the numbers of partitions of the source topics.
fn fate(args: &ReplayArgs, partitions: &BTreeMap<&str, i32>, reason: &str, record: Consumed) -> Fate {
    // The reason is part of a group's name, and writers of the topic must not choose arbitrary names.
    let plain = |reason: &str| {
        (1..=64).contains(&reason.len()) && reason.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    if !plain(reason) {
        return Fate::Refused("has no known reason");
    }
    let (partition, time) = (record.partition, record.timestamp);
    let ours = |back: &Produced| {
        let count = partitions.get(&*back.topic);
        count.zip(back.partition).is_some_and(|(count, partition)| partition < *count)
    };
    match original(record) {
        Err(stays) => Fate::Refused(stays.why()),
        Ok((back, _)) if !ours(&back) => Fate::Refused("comes from neither events nor labels"),
        Ok((_, count)) if count > args.most => Fate::Refused("was put back too often: raise --most"),
        Ok(_) => {
            let within = args.from.is_none_or(|from| time.is_some_and(|time| time >= from))
                && args.until.is_none_or(|until| time.is_some_and(|time| time < until))
                && (args.partitions.is_empty() || args.partitions.contains(&partition));
            if within { Fate::Replay } else { Fate::NotSelected }
        }
    }
}

fn summary(reason: &str, letters: &[Letter]) -> Summary {
    let mut summary = Summary { reason: reason.to_owned(), ..Summary::default() };
    let replayed = || letters.iter().filter(|letter| letter.fate == Fate::Replay);
    let mut last: BTreeMap<i32, i64> = BTreeMap::new();
    for Letter { position: (partition, offset), .. } in replayed() {
        let greatest = last.entry(*partition).or_insert(*offset);
        *greatest = (*offset).max(*greatest);
    }
    for letter in letters {
        let (partition, offset) = letter.position;
        match letter.fate {
            Fate::Replay => summary.replayed += 1,
            Fate::Done => summary.done += 1,
            Fate::Refused(why) => *summary.left.entry(why).or_default() += 1,
            Fate::NotSelected if last.get(&partition).is_some_and(|last| offset < *last) => {
                summary.passed_over += 1
            }
            Fate::NotSelected => {}
        }
    }
    summary.oldest = replayed().filter_map(|letter| letter.time).min().map(format_millis);
    summary.newest = replayed().filter_map(|letter| letter.time).max().map(format_millis);
    summary
}

/// The advice after an error: a replay can be repeated.
const REPEAT: &str = "run it again: what has been put back is not put back twice";

/// Puts the letters at these positions back, with their offsets in the group, one transaction after the other. Returns the
/// number of letters that were left because their topic refuses their size.
fn put_back(
    config: &Config,
    connection: &Connection,
    group: &str,
    mut pending: BTreeSet<(i32, i64)>,
) -> Result<u64, Failure> {
    let unavailable = |error| Failure { exit: Exit::Unavailable, error };
    let failed = |error: SourceError| Failure::new(Exit::Unavailable, error);
    // Taking over the transactional id ends another run of this command.
    let mut outbox = Outbox::open(connection, run::delivery(config, connection, group))
        .map_err(|error| Failure::new(Exit::Unavailable, error))?;
    let mut source =
        Source::subscribe(connection, group, &[&config.topics.dlq], Start::Earliest).map_err(failed)?;
    let (mut batch, mut offsets) = (Vec::new(), Offsets::default());
    let mut last_record = Instant::now();
    let mut refused = 0;
    loop {
        if batch.len() >= TRANSACTION_RECORDS || (pending.is_empty() && !batch.is_empty()) {
            refused += commit(&mut outbox, &source, &mut batch, &mut offsets)
                .map_err(|error| unavailable(anyhow!("{error}; {REPEAT}")))?;
        }
        if pending.is_empty() {
            break;
        }
        match source.poll(Duration::from_millis(100)).map_err(failed)? {
            Polled::Record(record) => {
                last_record = Instant::now();
                let (position, topic) = ((record.partition, record.offset), Arc::clone(&record.topic));
                if pending.remove(&position)
                    && let Ok((back, _)) = original(record)
                {
                    batch.push(back);
                    offsets.advance((topic, position.0), position.1 + 1);
                }
            }
            // Another run may have committed these offsets since the topic was read.
            Polled::Assigned(_) => {
                let committed = source.committed(ANSWER_TIMEOUT).map_err(failed)?;
                let next: BTreeMap<i32, i64> = committed
                    .into_iter()
                    .filter_map(|((_, partition), next)| Some((partition, next?)))
                    .collect();
                pending.retain(|(partition, offset)| next.get(partition).is_none_or(|next| offset >= next));
            }
            Polled::Revoked { .. } => {
                return Err(unavailable(anyhow!("another replay works on the same letters; {REPEAT}")));
            }
            Polled::Idle if last_record.elapsed() < ANSWER_TIMEOUT => {}
            Polled::Idle => {
                let (topic, left) = (&config.topics.dlq, pending.len());
                let silent = anyhow!("{topic} has been silent for half a minute, {left} letters short");
                return Err(unavailable(silent.context(REPEAT)));
            }
        }
    }
    source.close(LEAVE_TIMEOUT);
    Ok(refused)
}

/// Commits a batch. Returns the number of records that were left out because their topic refuses their size.
fn commit(
    outbox: &mut Outbox,
    source: &Source,
    batch: &mut Vec<Produced>,
    offsets: &mut Offsets,
) -> Result<u64, CommitError> {
    let mut refused = 0;
    loop {
        match outbox.commit(batch, Some((source.membership(), offsets))) {
            // The batch may be too large rather than the record: each is sent in a batch of its own.
            Err(CommitError::TooLarge { .. }) if outbox.batch_size() > 1 => outbox.limit_batch_size(1),
            Err(CommitError::TooLarge { index, .. }) if index < batch.len() => {
                batch.remove(index);
                refused += 1;
            }
            done => {
                done?;
                break;
            }
        }
    }
    batch.clear();
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
            outln!("  {} {will} passed over for good: older than one that is put back", summary.passed_over);
        }
        for (why, count) in &summary.left {
            outln!("  {count} stay: {why}");
        }
    }
    if summaries.is_empty() {
        outln!("no dead letters");
    }
}
