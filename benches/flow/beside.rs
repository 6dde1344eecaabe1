//! Measures the latency of scoring beside a learner that restores: in its own process or in that of score, with its
//! ledger from the topic or from sled. The cases alternate in each round. The work of a learner must never delay
//! scoring.

use std::fs;
use std::path::Path;

use crate::broker::{Site, padded, record};
use crate::latency::{Quantiles, SENDING, numbered, open_loop};
use crate::process::Process;
use crate::restart::fill;
use crate::shown;

/// The work of a learner while events arrive.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Learner {
    None,
    /// The learner reads the ledger from its topic.
    Topic,
    /// The learner reads the ledger from sled, then folds it.
    Sled,
}

/// The name of each case, its learner, and `true` if the learner is in the process of score.
const CASES: [(&str, Learner, bool); 5] = [
    ("score alone", Learner::None, false),
    ("beside a learner on its topic", Learner::Topic, false),
    ("beside a learner on its sled", Learner::Sled, false),
    ("one process, on its topic", Learner::Topic, true),
    ("one process, on its sled", Learner::Sled, true),
];

/// The line of a learner that is active and has not restored its ledger yet.
const RESTORES: &str = "[-] learn: ledger restored";
const ASSIGNED: &str = "[+] score: partitions assigned";

/// The ledger that all learners restore, and the store of a learner that has restored it.
struct Ledger {
    site: Site,
    folder: tempfile::TempDir,
}

impl Ledger {
    fn write(rounds: usize) -> Self {
        let site = Site::without_models("flow.beside", "flow.beside.events", "exactly-once");
        fill(&site, rounds);
        let ledger = Self { site, folder: tempfile::tempdir().expect("a folder") };
        let kept = format!("learn.store={}", ledger.kept().display());
        let mut process = ledger.site.start_with("learn", &[&kept]);
        process.ready("learn: decisions indexed");
        process.stop();
        ledger
    }

    fn kept(&self) -> std::path::PathBuf {
        self.folder.path().join("kept")
    }

    /// Returns the settings of a new learner with its own store.
    fn settings(&self, name: &str, learner: Learner) -> Vec<String> {
        let store = self.folder.path().join(name);
        if learner == Learner::Sled {
            copy(&self.kept(), &store);
        }
        let rounds = self.site.topic("rounds");
        vec![
            format!("learn.group=flow.beside.{name}"),
            format!("learn.store={}", store.display()),
            format!("topics.rounds={rounds}"),
        ]
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(&from, &to).expect("a copy");
        }
    }
}

fn start(site: &Site, role: &str, settings: &[String]) -> Process {
    site.start_with(role, &settings.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Measures one case. Returns its latencies, the cores that the learner's process used meanwhile, and `true` if the
/// learner was restoring until the end.
fn measure(ledger: &Ledger, name: &str, rate: f64, learner: Learner, one: bool) -> (Vec<f64>, f64, bool) {
    let source = format!("flow.beside.{name}.events");
    let site = Site::without_models(&format!("flow.beside.{name}.score"), &source, "exactly-once");
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rates")]
    let events = (rate * SENDING.as_secs_f64()) as usize;
    let records: Vec<_> = (0..events).map(|number| record(&source, &padded(number))).collect();
    let restores = |page: &str| page.contains(RESTORES);

    let (mut score, mut beside) = (None, None);
    if !one {
        let process = score.insert(site.start("score"));
        process.tells(|page| page.contains(ASSIGNED));
    }
    if learner != Learner::None {
        let settings = ledger.settings(name, learner);
        let (at, role) = if one { (&site, "both") } else { (&ledger.site, "learn") };
        let process = beside.insert(start(at, role, &settings));
        process.tells(|page| restores(page) && (!one || page.contains(ASSIGNED)));
    }
    let took = |process: &Option<Process>| process.as_ref().map_or(0.0, Process::cpu);
    let before = took(&beside);
    let (_, latencies) = open_loop(&records, &site.topic("decisions"), rate, |key| Some(numbered(key)));
    let cores = (took(&beside) - before) / SENDING.as_secs_f64();
    let still = beside.as_ref().is_some_and(|process| restores(&process.readiness()));
    beside.into_iter().for_each(Process::kill);
    score.into_iter().for_each(Process::stop);
    (latencies, cores, still)
}

/// Runs all cases, interleaved, at `rate` messages per second.
pub fn run(rounds: usize, rate: f64, ledger: usize) {
    println!(
        "\nLatency at {rate:.0} events of 1 KiB a second for {} s, beside a learner that restores {ledger} rounds; {rounds} rounds, interleaved",
        SENDING.as_secs()
    );
    let ledger = Ledger::write(ledger);
    let mut found: Vec<_> = CASES.iter().map(|_| (Quantiles::default(), Vec::new(), 0)).collect();
    // The first round warms up the broker and the disk, and does not count.
    for round in 0..=rounds {
        for (case, ((_, learner, one), found)) in CASES.iter().zip(&mut found).enumerate() {
            let name = format!("{round}.{case}");
            let (latencies, cores, still) = measure(&ledger, &name, rate, *learner, *one);
            if round > 0 {
                found.0.add(latencies);
                found.1.push(cores);
                found.2 += usize::from(still);
            }
        }
    }
    let alone = found[0].0.p99().to_vec();
    for ((name, learner, one), (quantiles, cores, still)) in CASES.iter().zip(found) {
        println!("{name:<30} {}", quantiles.line());
        if *learner == Learner::None {
            continue;
        }
        let ratios: Vec<_> =
            quantiles.p99().iter().zip(&alone).map(|(beside, alone)| beside / alone).collect();
        let whose = if *one { "both roles" } else { "the learner" };
        println!(
            "{:<30} p99 to score alone {}; {whose} took {} cores; restored until after the last event in {still} of {rounds}",
            "",
            shown(ratios, 2),
            shown(cores, 2)
        );
    }
}
