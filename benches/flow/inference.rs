//! Measures one head on the bundled encoder with a real Apache Kafka: Aegis, exactly once, compared with the limit and
//! with consumers that a Python user would write (`benches/peers`), interleaved in one run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use aegis::codec::{self, Encoding};
use aegis::kafka::Produced;

use crate::broker::{Site, event, kafka, record_of, send};
use crate::limit;
use crate::process::Process;
use crate::shown;
use crate::texts::{Mix, texts};
use crate::throughput::{Passage, measure};

/// The single head.
pub const HEAD: &str = "moderation";
pub const HEADS: &str = "\"abuse\", \"harmful-request\", \"hate\", \"injection\", \"moderation\", \"sexism\"";

/// Runs all mixes, or only those in `words`. With `short` among them, the chat mix has the variants of the others.
pub fn run(rounds: usize, count: usize, words: &[String]) {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let python = peers("requirements.txt");
    let mixes = [Mix::Chat, Mix::Long, Mix::One];
    let named = |mix: &Mix| words.iter().any(|word| word == mix.word());
    let all = !mixes.iter().any(named);
    for mix in mixes.into_iter().filter(|mix| all || named(mix)) {
        let count = if mix == Mix::Chat { count } else { count / 2 };
        println!("\nInference: {} mix, {count} texts, {rounds} rounds, interleaved", mix.word());
        let texts = texts(&models, mix, count, 1);
        let mut all: Vec<(&str, Vec<Passage>)> = Vec::new();
        let mut note = |name, passage: Passage| match all.iter_mut().find(|(known, _)| *known == name) {
            Some((_, passages)) => passages.push(passage),
            None => all.push((name, vec![passage])),
        };
        let runner = Runner { models: &models, mix, python: &python, card: false };
        let repeated: Vec<String> = repeat(&texts);
        let threads = runner.threads(&texts);
        // The JVM of the broker compiles its hot code first, and uses the processors of the experts for it.
        runner.ours("warm", 0, &texts, &format!("\"{HEAD}\""));
        let is_short = words.iter().any(|word| word == "short");
        for round in 0..rounds {
            note("limit", runner.limit(&texts, threads));
            note("aegis", runner.ours("one", round, &texts, &format!("\"{HEAD}\"")));
            note("peer: sorted", runner.peer("sorted", round, &texts));
            if mix == Mix::Chat && !is_short {
                note("aegis, six heads", runner.ours("six", round, &texts, HEADS));
                note(
                    "aegis, 30 % repeated",
                    runner.ours("repeated", round, &repeated, &format!("\"{HEAD}\"")),
                );
                note("peer: plain", runner.peer("plain", round, &texts[..count / 5]));
                note("peer: queue", runner.peer("queue", round, &texts[..count / 2]));
            }
        }
        let rates = |of: &[Passage]| of.iter().map(|passage| passage.rate).collect::<Vec<_>>();
        let Some((_, ours)) = all.iter().find(|(name, _)| *name == "aegis") else { return };
        for (name, passages) in &all {
            let ratio = rates(ours).iter().zip(rates(passages)).map(|(a, b)| a / b).collect();
            let cpu = passages.iter().map(|passage| passage.micros / 1e3).collect();
            let broker = passages.iter().map(|passage| passage.broker / 1e3).collect();
            let beside = passages.iter().map(|passage| passage.beside * 100.0).collect();
            println!(
                "{name:<22} {} texts/s, {} CPU-s per 1,000, the broker {}, beside it {} % of the cores; aegis to it: {}",
                shown(rates(passages), 1),
                shown(cpu, 2),
                shown(broker, 2),
                shown(beside, 0),
                shown(ratio, 2)
            );
        }
    }
}

/// Replaces three in ten texts with an earlier text.
fn repeat(texts: &[String]) -> Vec<String> {
    let mut random = fastrand::Rng::with_seed(2);
    let mut out: Vec<String> = Vec::with_capacity(texts.len());
    for text in texts {
        let earlier = (!out.is_empty() && random.f64() < 0.3).then(|| out[random.usize(..out.len())].clone());
        out.push(earlier.unwrap_or_else(|| text.clone()));
    }
    out
}

/// Runs texts with Aegis, a peer, or the bare loop.
pub struct Runner<'a> {
    pub models: &'a Path,
    pub mix: Mix,
    pub python: &'a Path,
    /// `true` if the peers' graphs run on a GPU.
    pub card: bool,
}

impl Runner<'_> {
    /// Returns the number of threads of a session with which the limit is highest. It tries each power of two up to the
    /// number of cores.
    fn threads(&self, texts: &[String]) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let numbers = (0..).map(|power| 1_usize << power).take_while(|threads| *threads <= cores);
        let tried: Vec<(usize, f64)> =
            numbers.map(|threads| (threads, self.limit(texts, threads).rate)).collect();
        for (threads, rate) in &tried {
            println!("limit with {} sessions of {threads} threads: {rate:.1} texts/s", cores / threads);
        }
        tried.into_iter().max_by(|a, b| a.1.total_cmp(&b.1)).map_or(1, |(threads, _)| threads)
    }

    fn limit(&self, texts: &[String], threads: usize) -> Passage {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("texts");
        fs::write(&file, texts.join("\n")).expect("texts");
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.arg(limit::WORD).arg(&file).arg(self.models).arg(HEAD).arg(threads.to_string());
        let output = command.output().expect("the loop");
        let said = String::from_utf8_lossy(&output.stdout);
        let mut numbers = said.split_whitespace().filter_map(|word| word.parse().ok());
        let (rate, micros) = (numbers.next(), numbers.next());
        Passage {
            rate: rate.expect("a rate"),
            micros: micros.expect("processor time"),
            broker: 0.0,
            beside: 0.0,
        }
    }

    /// Creates a site and sends the texts to it.
    fn site(&self, word: &str, round: usize, texts: &[String], heads: &str) -> Site {
        let site = self.empty(&format!("{word}.{round}"), heads);
        send(&kafka().connection(), records(&site, texts));
        site
    }

    /// Creates a site without events.
    pub fn empty(&self, word: &str, heads: &str) -> Site {
        let prefix = format!("flow.{}.{word}", self.mix.word());
        let experts = format!("folder = \"{}\"\nonly = [{heads}]", self.models.display());
        Site::new(&prefix, &format!("{prefix}.events"), "exactly-once", &experts)
    }

    /// Returns the throughput of Aegis.
    pub fn ours(&self, word: &str, round: usize, texts: &[String], heads: &str) -> Passage {
        self.ours_with(word, round, texts, heads, &[])
    }

    /// Returns the throughput of Aegis with settings that override the configuration.
    pub fn ours_with(
        &self,
        word: &str,
        round: usize,
        texts: &[String],
        heads: &str,
        settings: &[&str],
    ) -> Passage {
        let site = self.site(word, round, texts, heads);
        let process = site.start_with("score", settings);
        let passage = measure(&process, &site.topic("decisions"), texts.len());
        process.stop();
        passage
    }

    /// Returns the throughput of a peer.
    pub fn peer(&self, rule: &str, round: usize, texts: &[String]) -> Passage {
        let word = if self.card { format!("card.{rule}") } else { rule.to_owned() };
        let site = self.site(&word, round, texts, "");
        let process = self.start_peer(rule, &site);
        let passage = measure(&process, &site.topic("decisions"), texts.len());
        process.kill();
        passage
    }

    /// Starts a peer on the topics of a site.
    pub fn start_peer(&self, rule: &str, site: &Site) -> Process {
        let mut command = Command::new(self.python);
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/peer.py"));
        let (events, decisions) = (site.topic("events"), site.topic("decisions"));
        command.args([rule, &kafka().bootstrap(), &events, &decisions, &format!("peer.{events}")]);
        command.arg(self.models).arg(HEAD).args(self.card.then_some("cuda"));
        Process::start(command)
    }
}

/// Returns the texts as events for the topic of a site, each in its own conversation.
pub fn records(site: &Site, texts: &[String]) -> impl Iterator<Item = Produced> {
    let source = site.topic("events");
    texts.iter().enumerate().map(move |(number, text)| {
        let mut event = event(number, text);
        event.conversation = number.to_string();
        record_of(&source, &event, codec::encode_event(&event, Encoding::Json).expect("an event"))
    })
}

/// Returns the peers' Python in the cache, with the packages of one of their lists.
pub fn peers(list: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = root.join(".cache").join(list.replace("requirements", "peers").replace(".txt", ""));
    let python = folder.join("bin/python");
    let done = |command: &mut Command| {
        let status = command.status().expect("Python 3 runs");
        assert!(status.success(), "the peers' packages cannot be installed: {status}");
    };
    if !python.exists() {
        done(Command::new("python3").args(["-m", "venv"]).arg(&folder));
    }
    let list = root.join("benches/peers").join(list);
    // Files that `make setup` and `make cuda` have fetched are not fetched again.
    let mut install = Command::new(&python);
    install.args(["-m", "pip", "install", "--quiet", "--find-links"]).arg(root.join(".cache/packages"));
    done(install.arg("-r").arg(list));
    python
}
