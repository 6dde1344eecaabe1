//! Texts in several languages through score on the embedded broker, with bundled experts of which all read English only: a text
//! that none of them reads goes to a person, and is never allowed.

use crate::support;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use aegis::config::{Config, Policies, topic_specs};
use aegis::core::decision::{Decision, ReviewReason};
use aegis::core::policy::Action;
use aegis::core::vote::{Abstention, Outcome};
use aegis::experts::{Panel, PanelConfig};
use aegis::kafka::embedded::Embedded;
use aegis::kafka::{Connection, Delivery};
use aegis::ops::{Health, Shutdown, StopReason};
use aegis::score::{PanelHandle, Score};
use support::flow::{decisions, event, event_record, read_until, reviews, send};

/// The bundled experts of the panel, besides the encoder of the heads.
const EXPERTS: [&str; 3] = ["hate", "injection", "toxic-bilstm"];
const TEXTS: [(&str, &str); 5] = [
    ("What is the weather like in Lisbon in spring?", "en"),
    ("Wie ist das Wetter im Frühling in Lissabon?", "de"),
    ("อากาศที่ลิสบอนในฤดูใบไม้ผลิเป็นอย่างไร 123", "th"),
    ("Ты полный идиот, убирайся отсюда немедленно", "ru"),
    ("ok thanks", "unknown"),
];

/// Links the bundled experts into `folder`, with manifests that say that they read English.
fn english_experts(folder: &Path) {
    let models = crate::experts_support::models();
    for id in EXPERTS.into_iter().chain(["minilm", "runtime"]) {
        let (from, to) = (models.join(id), folder.join(id));
        fs::create_dir_all(&to).unwrap();
        for file in fs::read_dir(&from).unwrap() {
            let name = file.unwrap().file_name();
            if name != "manifest.toml" {
                symlink(from.join(&name), to.join(&name)).unwrap();
            }
        }
        let Ok(manifest) = fs::read_to_string(from.join("manifest.toml")) else { continue };
        let lines = manifest.lines().filter(|line| !line.starts_with("languages"));
        let with_languages = |line: &str| match line.starts_with("id = ") && id != "minilm" {
            true => format!("{line}\nlanguages = [\"en\"]\n"),
            false => format!("{line}\n"),
        };
        fs::write(to.join("manifest.toml"), lines.map(with_languages).collect::<String>()).unwrap();
    }
}

/// Returns the decision about each text, and the number of requests.
fn decided() -> (Vec<Decision>, usize) {
    let folder = tempfile::tempdir().unwrap();
    english_experts(folder.path());
    let panel = Panel::open(PanelConfig { require_all: true, ..PanelConfig::new(folder.path()) }).unwrap();
    let config = Arc::new(Config::default());
    let specs = topic_specs(&config, 1);
    let names: Vec<_> = specs.iter().map(|spec| (spec.name.as_str(), spec.partitions)).collect();
    let broker = Embedded::start(&names).unwrap();
    let connection = Connection::new(broker.bootstrap());
    let shutdown = Shutdown::new();
    let score = Score {
        config: Arc::clone(&config),
        policies: Arc::new(Policies::default()).into(),
        panel: PanelHandle::in_force(Arc::new(panel), &aegis::config::Experts::default()),
        connection: connection.clone(),
        delivery: Delivery::AtLeastOnce,
        health: Health::default(),
        shutdown: shutdown.clone(),
    };
    let role = thread::spawn(move || score.run().unwrap());
    let records: Vec<_> = TEXTS
        .iter()
        .enumerate()
        .map(|(number, (text, _))| event_record(&config.topics.events, &event(number, text)))
        .collect();
    send(&connection, &records);
    let found = read_until(&connection, &config.topics.decisions, "a decision for each text", |records| {
        records.len() >= TEXTS.len()
    });
    let asked = read_until(&connection, &config.topics.review, "a request for each unread text", |records| {
        reviews(records).iter().filter(|one| one.reasons == [ReviewReason::TooFewAwake]).count() >= 3
    });
    shutdown.request(StopReason::Program);
    role.join().unwrap();
    let mut decided = decisions(&found);
    decided.sort_by(|a, b| a.id.event.cmp(&b.id.event));
    let unread = reviews(&asked).iter().filter(|one| one.reasons == [ReviewReason::TooFewAwake]).count();
    (decided, unread)
}

#[test]
fn a_text_that_no_expert_reads_is_never_allowed() {
    let (decided, unread) = decided();
    for (decision, (text, language)) in decided.iter().zip(TEXTS) {
        assert_eq!(decision.language.code(), language, "{text}");
        let is_read = matches!(language, "en" | "unknown");
        let votes = decision.votes.iter().map(|weighed| &weighed.vote.outcome);
        for outcome in votes {
            let refused = *outcome == Outcome::Abstained(Abstention::Language);
            assert_eq!(refused, !is_read, "{text}: {outcome:?}");
        }
        assert!(!decision.degraded, "{text}");
        if is_read {
            assert_ne!(decision.review(), Some(ReviewReason::TooFewAwake), "{text}");
        } else {
            assert_eq!((decision.action, decision.probability), (Action::Review, None), "{text}");
            assert_eq!(decision.reasons, [ReviewReason::TooFewAwake], "{text}");
        }
    }
    assert_eq!((decided.len(), unread), (TEXTS.len(), 3));
}
