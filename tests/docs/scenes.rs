//! Readers who type what the pages show: one starts from a clone, one has a topic already, one looks after what a demo
//! has left.

use std::time::Instant;

use rdkafka::consumer::{BaseConsumer, Consumer};

use crate::command::{Command, commands};
use crate::listed::{LISTED, listed};
use crate::local::{Leash, clone, free_ports};
use crate::page::{Page, names, root};
use crate::shell::{Replaced, Shell};
use crate::shown::{compare, compare_words};
use crate::support::flow::{read_until, send};
use crate::support::site::poll;
use crate::support::{WAIT, free_port, kafka, record};

/// Pages of a reader who starts with a clone, in the order in which they build on one another. The first stops the
/// Apache Kafka that it had started; the second starts it again, with all topics.
const FROM_A_CLONE: &[&str] = &[
    "docs/quick-start.md",
    "docs/registry.md",
    "docs/adding-a-policy.md",
    "docs/scaling.md",
    "docs/tuning.md",
    "docs/coming-from.md",
    "README.md",
];

/// Pages of one who has a topic already.
const OWN_TOPIC: &[&str] = &["docs/your-own-topic.md"];

/// Pages of one who has run the demo. What they show is another run's: only its words must come.
const AFTER_A_DEMO: &[&str] = &["docs/cli.md", "docs/operating.md", "docs/replay.md"];

/// Pages of one who has files, and no broker.
const WITH_FILES: &[&str] = &["docs/evaluating.md", "docs/labels.md", "docs/report.md"];

/// Commands that read what others write: what is shown may come a moment later.
const READ: &[&str] = &["aegis explain", "aegis weights", "aegis verify", "aegis dlq list", "curl"];

/// The topics, under the names that the pages call them by.
const TOPICS: [(&str, &str); 8] = [
    ("moderation", "events"),
    ("moderation", "decisions"),
    ("moderation", "review"),
    ("moderation", "labels"),
    ("moderation", "dlq"),
    ("aegis", "rounds"),
    ("aegis", "weights"),
    ("aegis", "election"),
];

/// A stream of labelled votes, for commands that name one.
fn votes(first: usize, count: usize) -> String {
    let line = |number: usize| {
        let unsafe_ = number.is_multiple_of(3);
        let text = if unsafe_ { "you are a total idiot" } else { "what a lovely day" };
        let (good, bad) = if unsafe_ { (0.9, 0.2) } else { (0.1, 0.4) };
        format!(
            "{{\"event_id\": {number}, \"votes\": {{\"a\": {good}, \"b\": {bad}}}, \"unsafe\": {unsafe_}, \"text\": \
             \"{text}\"}}\n"
        )
    };
    (first..first + count).map(line).collect()
}

/// Types a page's commands.
fn read(shell: &mut Shell, name: &str, exact: bool) {
    for command in commands(&Page::read(name)) {
        if listed(name, &command).is_some() {
            continue;
        }
        let started = Instant::now();
        // No event announces that what a command reads has changed.
        poll(|| {
            let (exit, text) = shell.run(&command.text);
            let Err(why) = judge(&command, exit, &text, exact) else { return Ok(()) };
            let wrong = format!("{name}:{}: $ {}\n{why}\nall of it:\n{text}", command.line, command.text);
            assert!(READ.iter().any(|read| command.text.starts_with(read)), "{wrong}");
            Err(wrong)
        });
        eprintln!("{name}:{}: {:.1} s", command.line, started.elapsed().as_secs_f64());
    }
    shell.stop();
}

fn judge(command: &Command, exit: i32, text: &str, exact: bool) -> Result<(), String> {
    if exit != command.exit {
        return Err(format!("ends with {exit} and not with {}", command.exit));
    }
    let lines: Vec<_> = text.lines().collect();
    match &command.shown {
        Some(shown) if exact => compare(shown, &lines),
        Some(shown) => compare_words(shown, &lines),
        None => Ok(()),
    }
}

/// The pages' brokers, with these in their place.
fn at(brokers: &str) -> Vec<Replaced> {
    ["127.0.0.1:19092", "localhost:9092"].map(|shown| (shown.to_owned(), brokers.to_owned())).into()
}

/// Has `make kafka` start its Apache Kafka on this port, and its registry on one that is free.
fn local_kafka(port: u16) -> String {
    format!("export KAFKA_PORT={port} REGISTRY_PORT={}", free_port())
}

#[test]
fn a_reader_with_a_clone_sees_what_the_pages_show() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_ports();
    let brokers = format!("127.0.0.1:{port}");
    clone(folder.path(), &brokers);
    let _leash = Leash::on(folder.path());
    let mut shell = Shell::open(folder.path(), at(&brokers));
    shell.run(&local_kafka(port));
    shell.file("votes.jsonl", &votes(0, 60));
    for name in FROM_A_CLONE {
        read(&mut shell, name, true);
    }
}

#[test]
fn a_reader_with_a_topic_sees_what_the_page_shows() {
    let brokers = kafka().bootstrap();
    let folder = tempfile::tempdir().unwrap();
    clone(folder.path(), &brokers);
    let mut shell = Shell::open(folder.path(), vec![("localhost:9092".to_owned(), brokers)]);
    for name in OWN_TOPIC {
        read(&mut shell, name, true);
    }
}

#[test]
fn a_reader_with_files_sees_what_the_page_shows() {
    let folder = tempfile::tempdir().unwrap();
    // Nothing listens there, and nothing is asked.
    clone(folder.path(), "127.0.0.1:1");
    let mut shell = Shell::open(folder.path(), Vec::new());
    for name in WITH_FILES {
        read(&mut shell, name, true);
    }
}

/// Returns the prefix of the topics of the demo that has run on these brokers.
fn demo_prefix(brokers: &str) -> String {
    let client: BaseConsumer =
        rdkafka::ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap();
    let all = client.fetch_metadata(None, WAIT).unwrap();
    let events = all.topics().iter().map(|topic| topic.name()).find(|name| name.starts_with("aegis-demo-"));
    let (prefix, _) = events.expect("the demo has made topics").split_once('.').unwrap();
    format!("{prefix}.")
}

/// Returns the position of the dead letter that the pages show.
const LETTER: &str = "2:1234";

/// Has a scorer write a dead letter; where it lies.
fn dead_letter(shell: &mut Shell, prefix: &str) -> String {
    let connection = kafka().connection();
    send(&connection, &[record(&format!("{prefix}moderation.events"), 0, "no event")]);
    shell.run("export AEGIS_CONFIG=aegis.toml PATH=\"$PWD/target/release:$PATH\"");
    shell.run("aegis run --role score");
    let topic = format!("{prefix}moderation.dlq");
    let letters = read_until(&connection, &topic, "a dead letter", |letters| !letters.is_empty());
    shell.stop();
    format!("{}:{}", letters[0].partition, letters[0].offset)
}

#[test]
fn a_reader_with_a_demo_sees_the_words_of_the_pages() {
    let brokers = kafka().bootstrap();
    let folder = tempfile::tempdir().unwrap();
    clone(folder.path(), &brokers);
    let mut demo = Shell::open(folder.path(), Vec::new());
    let (exit, text) =
        demo.run(&format!("target/release/aegis demo --events 300 --broker {brokers} --out demo"));
    assert_eq!(exit, 0, "{text}");

    let prefix = demo_prefix(&brokers);
    let all: Vec<_> = TOPICS.iter().map(|(kind, name)| (*name, format!("{kind}.{name}"))).collect();
    let mut replaced: Vec<Replaced> = vec![("localhost:9092".to_owned(), brokers.clone())];
    replaced.extend(all.iter().map(|(_, topic)| (topic.clone(), format!("{prefix}{topic}"))));
    // Groups have names that are words of commands, too: they are only shown without the prefix.
    replaced.extend(["score", "learn"].map(|name| (format!("\"{name}\""), format!("\"{prefix}{name}\""))));
    let topics: String = all.iter().map(|(name, topic)| format!("{name} = \"{prefix}{topic}\"\n")).collect();
    let config = format!(
        "policies = \"policies.toml\"\n[kafka]\nbrokers = \"{brokers}\"\n[topics]\n{topics}[defaults]\ntenant = \"demo\"\n\
         [experts]\nfolder = \"models\"\n[score]\ngroup = \"{prefix}score\"\n[learn]\ngroup = \"{prefix}learn\"\n\
         horizon_days = 36500\n"
    );
    for place in ["", "config/"] {
        let folder = if place.is_empty() { "models" } else { "../models" };
        demo.file(&format!("{place}aegis.toml"), &config.replace("\"models\"", &format!("\"{folder}\"")));
        demo.file(&format!("{place}policies.toml"), "[policies.default]\n");
    }
    for (number, name) in ["votes.jsonl", "monday.jsonl", "tuesday.jsonl"].into_iter().enumerate() {
        demo.file(name, &votes(100 * number, 60));
    }
    replaced.push((LETTER.to_owned(), dead_letter(&mut demo, &prefix)));
    drop(demo);
    let _leash = Leash::on(folder.path());
    let mut shell = Shell::open(folder.path(), replaced);
    shell.run("export AEGIS_CONFIG=aegis.toml PATH=\"$PWD/target/release:$PATH\"");
    shell.run(&local_kafka(free_ports()));
    for name in AFTER_A_DEMO {
        read(&mut shell, name, false);
    }
}

#[test]
fn every_command_is_run_or_listed() {
    let mut wrong = Vec::new();
    let mut met = vec![false; LISTED.len()];
    for name in names() {
        for command in commands(&Page::read(&name)) {
            let entry = listed(&name, &command);
            for (met, one) in met.iter_mut().zip(LISTED) {
                *met |= entry.is_some_and(|entry| std::ptr::eq(entry, one));
            }
            if entry.is_none()
                && ![FROM_A_CLONE, OWN_TOPIC, AFTER_A_DEMO, WITH_FILES].concat().contains(&name.as_str())
            {
                wrong.push(format!(
                    "{name}:{}: no test runs this, and it is not listed: {}",
                    command.line, command.text
                ));
            }
        }
    }
    // A page that comes with another change is not missed.
    let gone = LISTED.iter().zip(met).filter(|((page, _, _), met)| !met && root().join(page).exists());
    for ((page, command, _), _) in gone {
        wrong.push(format!("{page} has no command {command} any more: take it out of the list"));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
