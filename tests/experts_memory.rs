//! Memory that graphs take: given back after a burst, and bounded where one eats it.
#![cfg(target_os = "linux")]

#[path = "experts/support/mod.rs"]
mod experts_support;

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use aegis::core::vote::Abstention;
use aegis::experts::{Panel, PanelConfig, State};
use experts_support::asked::{self, outcomes};
use experts_support::{FLOAT, Folder, Graph, INT8, INT64, faulty_classifier, faulty_encoder, head};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The process's memory is looked at: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// MiB of this process, by the system's name for them.
fn held(name: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() >> 10
}

/// MiB that this process holds.
fn resident() -> usize {
    held("VmRSS")
}

/// 640 kB for each token of a text, some 380 MiB for six hundred, held through so many further nodes.
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
fn memory_of_a_burst_of_long_texts_is_given_back() {
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
fn an_expert_that_eats_memory_is_stopped_and_left_alone_and_comes_back() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = Folder::new();
    greedy(&folder, 200);
    folder.classifier("frugal", &faulty_classifier());
    let most = resident() + 150;
    let pause = Duration::from_millis(1);
    let panel = Panel::open(PanelConfig { memory: Some(most << 20), pause, ..config(&folder) }).unwrap();
    let long = "bad ".repeat(600);
    // The other expert's vote stands.
    assert_eq!(outcomes(&panel, &[&long])[0], [Ok(0.75), Err(Abstention::OutOfMemory)]);
    assert_eq!(panel.down()[1], Some(Abstention::OutOfMemory));
    // One short text is tried, and what the long one took is given back.
    let patience = Instant::now() + Duration::from_secs(30);
    while outcomes(&panel, &["fine"])[0][1].is_err() {
        assert!(Instant::now() < patience);
    }
    assert_eq!(panel.down(), [None, None]);
    assert!(resident() < most, "{} MiB", resident());
}

/// MiB that a graph takes when it is loaded, and that the process may take more than it has before that.
const WEIGHT: i64 = 400;
const SPARE: usize = 200;

/// Too little memory to load what is weighty, until it is dropped.
struct Short(Rlimit);

impl Short {
    fn new() -> Self {
        let before = getrlimit(Resource::Data);
        let current = Some((held("VmData") + SPARE) as u64 * (1 << 20));
        setrlimit(Resource::Data, Rlimit { current, ..before }).unwrap();
        Self(before)
    }
}

impl Drop for Short {
    fn drop(&mut self) {
        setrlimit(Resource::Data, self.0).unwrap();
    }
}

/// Waits until the panel says of its experts what is expected.
fn wait_for(panel: &Panel, expected: &[Option<Abstention>]) {
    let patience = Instant::now() + Duration::from_secs(60);
    while panel.down() != expected {
        assert!(Instant::now() < patience, "{:?}", panel.down());
        std::thread::sleep(Duration::from_millis(5)); // the panel tells nobody
    }
}

/// Opens a panel while memory is short, looks at it, and waits until all experts are there once it is not.
fn open_short(folder: &Folder, look: impl FnOnce(&Panel)) -> Panel {
    let pause = Duration::from_millis(1);
    let short = Short::new();
    let panel = Panel::open(PanelConfig { pause, ..asked::config(folder) }).unwrap();
    look(&panel);
    drop(short);
    wait_for(&panel, &vec![None; panel.experts().len()]);
    panel
}

#[test]
fn what_could_not_be_loaded_is_loaded_later() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = Folder::new();
    let classifier = Graph::default()
        .input("ids", INT64, &[-1, 1])
        .floats("p", &[9], &[0.5, 0.125, 0.875, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5])
        .node("Gather", &["p", "ids"], "chosen")
        .weighty(WEIGHT << 20)
        .node("Add", &["chosen", "nothing"], "scores")
        .output("scores", FLOAT, &[-1, 1]);
    let late = Graph::default()
        .input("embedding", FLOAT, &[-1, 1])
        .weighty(WEIGHT << 20)
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
    // Every worker has it, whichever takes the text.
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
        .weighty(WEIGHT << 20)
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
