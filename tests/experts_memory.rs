//! The memory that graphs take: it is freed after a burst, and a run that takes too much is stopped.
#![cfg(target_os = "linux")]

#[path = "experts/support/mod.rs"]
mod experts_support;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aegis::core::vote::Abstention;
use aegis::experts::{Panel, PanelConfig, State};
use experts_support::asked::{self, outcomes, wait_until};
use experts_support::{FLOAT, Folder, Graph, INT8, INT64, faulty_classifier, faulty_encoder, head};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The tests measure the memory of the process, so only one runs at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// A figure of this process in MiB, by its name in /proc/self/status.
fn status_mib(name: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() >> 10
}

/// MiB that this process has resident.
fn resident() -> usize {
    status_mib("VmRSS")
}

/// Adds an expert that takes 640 kB for each token of a text, about 380 MiB for 600 tokens, in `nodes` nodes after the
/// first.
fn greedy(folder: &Folder, nodes: usize) {
    let mut graph = Graph::default()
        .input("ids", INT64, &[-1, -1])
        .node("Shape", &["ids"], "shape")
        .ints("each", &[2], &[1, 160_000])
        .node("Mul", &["shape", "each"], "size")
        .floats("half", &[1, 1], &[0.5])
        .node("Expand", &["half", "size"], "many0");
    for node in 0..nodes {
        graph = graph.node("Sqrt", &[&format!("many{node}")], &format!("many{}", node + 1));
    }
    let graph = graph
        .ints("across", &[1], &[1])
        .node("ReduceMax", &[&format!("many{nodes}"), "across"], "scores")
        .output("scores", FLOAT, &[-1, 1]);
    folder.classifier("greedy", &graph.model());
    let manifest = folder.path().join("greedy/manifest.toml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(manifest, text.replace("max_tokens = 1\n", "max_tokens = 1024\n")).unwrap();
}

fn config(folder: &Folder) -> PanelConfig {
    PanelConfig { sessions: Some(1), cache: 0, ..asked::config(folder) }
}

#[test]
fn memory_of_a_burst_of_long_texts_is_freed() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = Folder::new();
    greedy(&folder, 0);
    let long = "fine ".repeat(600);
    for (arena_tokens, kept) in [(599, false), (600, true)] {
        let panel = Panel::open(PanelConfig { arena_tokens, ..config(&folder) }).unwrap();
        assert_eq!(outcomes(&panel, &["fine"])[0], [Ok(0.5)]);
        let before = resident();
        assert_eq!(outcomes(&panel, &[&long])[0], [Ok(0.5)]);
        let more = resident().saturating_sub(before);
        assert_eq!(more > 250, kept, "{more} MiB more");
    }
}

#[test]
fn an_expert_that_takes_too_much_memory_is_stopped_and_comes_back() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = Folder::new();
    greedy(&folder, 200);
    folder.classifier("frugal", &faulty_classifier());
    let most = resident() + 150;
    let pause = Duration::from_millis(1);
    let panel = Panel::open(PanelConfig { memory: Some(most << 20), pause, ..config(&folder) }).unwrap();
    let long = "bad ".repeat(600);
    // The other expert's vote counts.
    assert_eq!(outcomes(&panel, &[&long])[0], [Ok(0.75), Err(Abstention::OutOfMemory)]);
    assert_eq!(panel.down()[1], Some(Abstention::OutOfMemory));
    // A short text is the trial, which frees the memory of the long one.
    wait_until("the expert votes again", || outcomes(&panel, &["fine"])[0][1].is_ok());
    assert_eq!(panel.down(), [None, None]);
    assert!(resident() < most, "{} MiB", resident());
}

/// MiB that a large graph takes when it is loaded.
const GRAPH_MIB: i64 = 400;
/// MiB that [`MemoryLimit`] leaves.
const FREE_MIB: usize = 200;

/// Leaves too little memory to load a large graph, until it is dropped.
struct MemoryLimit(Rlimit);

impl MemoryLimit {
    fn new() -> Self {
        let before = getrlimit(Resource::Data);
        let current = Some((status_mib("VmData") + FREE_MIB) as u64 * (1 << 20));
        setrlimit(Resource::Data, Rlimit { current, ..before }).unwrap();
        Self(before)
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        setrlimit(Resource::Data, self.0).unwrap();
    }
}

/// Waits until these experts are down, for these reasons.
fn wait_for(panel: &Panel, expected: &[Option<Abstention>]) {
    wait_until("the experts are down or back as expected", || panel.down() == expected);
}

/// Opens a panel while memory is short, calls `check`, then frees memory and waits until all experts are loaded.
fn open_short(folder: &Folder, check: impl FnOnce(&Panel)) -> Panel {
    let pause = Duration::from_millis(1);
    let short = MemoryLimit::new();
    let panel = Panel::open(PanelConfig { pause, ..asked::config(folder) }).unwrap();
    check(&panel);
    drop(short);
    wait_for(&panel, &vec![None; panel.experts().len()]);
    panel
}

#[test]
fn experts_that_could_not_be_loaded_are_loaded_later() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = Folder::new();
    let classifier = Graph::default()
        .input("ids", INT64, &[-1, 1])
        .floats("p", &[9], &[0.5, 0.125, 0.875, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5])
        .node("Gather", &["p", "ids"], "chosen")
        .weighty(GRAPH_MIB << 20)
        .node("Add", &["chosen", "nothing"], "scores")
        .output("scores", FLOAT, &[-1, 1]);
    let late = Graph::default()
        .input("embedding", FLOAT, &[-1, 1])
        .weighty(GRAPH_MIB << 20)
        .node("Add", &["embedding", "nothing"], "scores")
        .output("scores", FLOAT, &[-1, 1]);
    folder.encoder("encoder", &faulty_encoder()).head("plain", &head()).head("weighed", &late.model());
    folder.classifier("late", &classifier.model());
    let (lost, texts) = (Err(Abstention::NotLoaded), ["bad", "fine"]);
    let panel = open_short(&folder, |panel| {
        let loaded: Vec<_> = panel
            .experts()
            .iter()
            .map(|expert| (expert.id.as_str(), expert.state == State::Loaded))
            .collect();
        assert_eq!(loaded, [("late", false), ("plain", true), ("weighed", false)]);
        assert_eq!(outcomes(panel, &texts), [[lost, Ok(0.75), lost], [lost, Ok(0.25), lost]]);
        wait_for(panel, &[lost.err(), None, lost.err()]);
    });
    // Every worker has it, so it does not matter which takes the text.
    for _ in 0..20 {
        assert_eq!(
            outcomes(&panel, &texts),
            [[Ok(0.875), Ok(0.75), Ok(0.75)], [Ok(0.125), Ok(0.25), Ok(0.25)]]
        );
    }
    assert!(panel.ask(&texts).iter().all(|answer| answer.votes.iter().all(|vote| vote.model.is_some())));
}

#[test]
fn an_encoder_that_loads_later_brings_its_heads_and_the_features() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = Folder::new();
    let graph = Graph::default()
        .input("ids", INT64, &[-1, 1])
        .floats("p", &[9], &[0.5; 9])
        .node("Gather", &["p", "ids"], "chosen")
        .weighty(GRAPH_MIB << 20)
        .node("Add", &["chosen", "nothing"], "embedding")
        .ints("across", &[2], &[1, 384])
        .node("Tile", &["embedding", "across"], "wide")
        .node_with("Cast", &["wide"], "features", &[("to", INT8)])
        .output("embedding", FLOAT, &[-1, -1])
        .output("features", INT8, &[-1, -1])
        .model();
    folder.encoder("encoder", &graph).head("plain", &head());
    let panel = open_short(&folder, |panel| {
        assert_eq!(outcomes(panel, &["bad"]), [[Err(Abstention::NotLoaded)]]);
        assert!(panel.ask(&["bad"])[0].reading.is_none());
    });
    assert_eq!(outcomes(&panel, &["bad"]), [[Ok(0.5)]]);
    assert!(panel.ask(&["bad"])[0].reading.is_some());
}
