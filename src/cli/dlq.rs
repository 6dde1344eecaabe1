//! `aegis dlq list|show|replay`: shows and replays dead letters. Their text is shown only on request.

mod replay;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::{Args, Subcommand};
use serde::Serialize;

use super::print::{self, Output, printable};
use super::scan::{ANSWER_TIMEOUT, scan};
use super::{ConfigArgs, Failure, run};
use crate::codec::time::format_millis;
use crate::dead_letter::{Headers, NotReplayable, not_replayable, replays};
use crate::kafka::{Connection, Consumed, Lookup};
use crate::ops::Exit;
use crate::ops::stdout::{Stdout, outln};

#[derive(Args)]
pub struct DlqArgs {
    #[command(subcommand)]
    command: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Lists the newest dead letters: reason, and the original's position, time and size
    List {
        #[command(flatten)]
        config: ConfigArgs,
        /// Lists only dead letters with this reason, e.g. NotAvro
        #[arg(long)]
        reason: Option<String>,
        /// The greatest number of dead letters, the newest by their originals' times
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        limit: u32,
        /// The format of the output
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Prints the headers of one dead letter, and the position of its original
    Show {
        #[command(flatten)]
        config: ConfigArgs,
        /// The position in the dead-letter topic
        #[arg(value_name = "PARTITION:OFFSET", value_parser = place)]
        at: (i32, i64),
        /// Writes only the value, which may contain text of users, to this file; `-` is standard output
        #[arg(long, value_name = "FILE")]
        payload: Option<PathBuf>,
        /// The format of the output
        #[arg(long, value_enum, default_value_t = Output::Text, conflicts_with = "payload")]
        output: Output,
    },
    /// Writes dead letters back to their source topics, each at most once
    Replay(replay::ReplayArgs),
}

fn place(text: &str) -> Result<(i32, i64), String> {
    let place = text.split_once(':').and_then(|(partition, offset)| {
        let place = (partition.parse::<i32>().ok()?, offset.parse::<i64>().ok()?);
        (place.0 >= 0 && place.1 >= 0).then_some(place)
    });
    place.ok_or_else(|| "write it like 2:1234, as `aegis dlq list` does".to_owned())
}

/// A dead letter in a list.
#[derive(Debug, Serialize)]
struct Line {
    partition: i32,
    offset: i64,
    reason: String,
    stage: String,
    origin_topic: String,
    origin_partition: i32,
    origin_offset: i64,
    /// The time of the original, in milliseconds since 1970.
    time: Option<i64>,
    /// The size of key and value, in bytes.
    bytes: usize,
    message: String,
    /// The number of times that the original has been replayed.
    replays: u32,
    /// The reason why it cannot be replayed, if any.
    stays: Option<&'static str>,
}

impl Line {
    fn of(record: &Consumed) -> Self {
        let of = Headers::of(&record.headers).unwrap_or(Headers {
            topic: String::new(),
            partition: -1,
            offset: -1,
            stage: String::new(),
            reason: "Unknown".into(),
            message: "it has no headers that name its original: another program wrote it".into(),
        });
        let size = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
        Self {
            partition: record.partition,
            offset: record.offset,
            reason: of.reason,
            stage: of.stage,
            origin_topic: of.topic,
            origin_partition: of.partition,
            origin_offset: of.offset,
            time: record.timestamp,
            bytes: size(&record.key) + size(&record.payload),
            message: of.message,
            replays: replays(&record.headers),
            stays: not_replayable(&record.headers).map(NotReplayable::why),
        }
    }
}

pub fn dlq(args: &DlqArgs) -> Result<Exit, Failure> {
    match &args.command {
        Action::List { config, reason, limit, output } => {
            let config = config.load()?.config;
            let connection = run::brokers(&config)?;
            let (count, lines) = list(&connection, &config.topics.dlq, reason.as_deref(), *limit as usize)?;
            match output {
                Output::Json => print::json(&lines)?,
                Output::Text => print_lines(&lines, count),
            }
        }
        Action::Show { config, at, payload, output } => {
            let config = config.load()?.config;
            let record = fetch(&run::brokers(&config)?, &config.topics.dlq, *at)?;
            match payload {
                Some(path) => write_payload(path, record.payload.as_deref().unwrap_or_default())?,
                None if *output == Output::Json => print::json(&Shown::of(&record))?,
                None => show(&record),
            }
        }
        Action::Replay(args) => replay::replay(args)?,
    }
    Ok(Exit::Success)
}

/// Returns the number of dead letters, and the newest of them, oldest first.
fn list(
    connection: &Connection,
    topic: &str,
    reason: Option<&str>,
    limit: usize,
) -> Result<(u64, Vec<Line>), Failure> {
    // Partitions are read in any order.
    let mut newest = BTreeMap::new();
    let mut count = 0;
    scan(connection, topic, &mut |record| {
        let line = Line::of(&record);
        if reason.is_none_or(|reason| reason == line.reason) {
            count += 1;
            newest.insert((line.time, line.partition, line.offset), line);
            if newest.len() > limit {
                newest.pop_first();
            }
        }
        Ok(())
    })?;
    Ok((count, newest.into_values().collect()))
}

fn print_lines(lines: &[Line], count: u64) {
    let original = |line: &Line| {
        let Line { origin_topic, origin_partition, origin_offset, .. } = line;
        printable(&format!("{origin_topic} {origin_partition}:{origin_offset}"))
    };
    let wide = lines.iter().map(|line| original(line).chars().count()).max().unwrap_or(0).max(8);
    outln!(
        "{:<10} {:<20} {:<6} {:<wide$} {:<24} {:>8}",
        "at",
        "reason",
        "stage",
        "original",
        "time",
        "bytes"
    );
    for line in lines {
        let at = format!("{}:{}", line.partition, line.offset);
        let time = line.time.map_or_else(|| "-".into(), format_millis);
        let (reason, stage) = (printable(&line.reason), printable(&line.stage));
        let stays = line.stays.map(|why| format!("  stays: {why}")).unwrap_or_default();
        outln!(
            "{at:<10} {reason:<20} {stage:<6} {:<wide$} {time:<24} {:>8}{stays}",
            original(line),
            line.bytes
        );
    }
    outln!("{} of {count} dead letters; `aegis dlq show PARTITION:OFFSET` shows one", lines.len());
}

fn fetch(connection: &Connection, topic: &str, at: (i32, i64)) -> Result<Consumed, Failure> {
    let unavailable = |error| Failure::of(connection, error);
    let mut lookup = Lookup::open(connection, topic, ANSWER_TIMEOUT).map_err(unavailable)?;
    let found = lookup.fetch(&[at], ANSWER_TIMEOUT).map_err(unavailable)?;
    found.into_iter().next().flatten().ok_or_else(|| {
        let (partition, offset) = at;
        Failure::new(Exit::Data, anyhow!("{topic} has no record at {partition}:{offset} (any more)"))
    })
}

/// A dead letter as JSON, without the value of its original.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    line: Line,
    key_bytes: Option<usize>,
    value_bytes: Option<usize>,
    headers: Vec<Header>,
}

#[derive(Serialize)]
struct Header {
    name: String,
    /// `None` if there is no value or it is not text.
    value: Option<String>,
    bytes: Option<usize>,
}

impl Shown {
    fn of(record: &Consumed) -> Self {
        let size = |bytes: &Option<Vec<u8>>| bytes.as_ref().map(Vec::len);
        let header = |(name, value): &(String, Option<Vec<u8>>)| Header {
            name: name.clone(),
            value: value.as_deref().and_then(|bytes| std::str::from_utf8(bytes).ok()).map(str::to_owned),
            bytes: size(value),
        };
        Self {
            line: Line::of(record),
            key_bytes: size(&record.key),
            value_bytes: size(&record.payload),
            headers: record.headers.iter().map(header).collect(),
        }
    }
}

fn show(record: &Consumed) {
    let line = Line::of(record);
    let time = line.time.map_or_else(|| "unknown".into(), format_millis);
    let size = |bytes: &Option<Vec<u8>>| {
        bytes.as_ref().map_or_else(|| "none".into(), |it| format!("{} bytes", it.len()))
    };
    outln!("reason     {}, in {}", printable(&line.reason), printable(&line.stage));
    outln!("message    {}", printable(&line.message));
    outln!(
        "original   {} partition {} offset {}",
        printable(&line.origin_topic),
        line.origin_partition,
        line.origin_offset
    );
    outln!("time       {time}");
    if let Some(why) = line.stays {
        outln!("replay     cannot be put back: {why}");
    }
    outln!("key        {}", size(&record.key));
    outln!("value      {}; --payload FILE writes it to a file", size(&record.payload));
    for (name, value) in &record.headers {
        let value = match value.as_deref().map(|bytes| (std::str::from_utf8(bytes), bytes.len())) {
            None => "(none)".to_owned(),
            Some((Ok(text), _)) => printable(text),
            Some((Err(_), bytes)) => format!("({bytes} bytes, not text)"),
        };
        outln!("header     {}: {value}", printable(name));
    }
}

fn write_payload(path: &Path, payload: &[u8]) -> Result<(), Failure> {
    let written =
        if path == Path::new("-") { Stdout.write_all(payload) } else { std::fs::write(path, payload) };
    written.map_err(|error| Failure::new(Exit::Unavailable, anyhow!("{}: {error}", path.display())))
}
