//! Memory that graphs take: given back after a burst, and bounded where one eats it.
#![cfg(target_os = "linux")]

mod experts_support;

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use aegis::core::vote::Abstention;
use aegis::experts::{Panel, PanelConfig};
use experts_support::asked::{self, outcomes};
use experts_support::{FLOAT, Folder, Graph, INT64, faulty_classifier};

/// The process's memory is looked at: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// MiB that this process holds.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() >> 10
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
