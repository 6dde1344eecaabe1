//! The decoders, each as a function of bytes that says how it ended.

use super::{records, texts};

/// A decoder.
pub struct Target {
    pub name: &'static str,
    /// Files of the codec's fixtures that it begins with.
    pub fixtures: &'static [&'static str],
    /// Its own folder in the corpus.
    pub folder: &'static str,
    /// Decodes, checks what must hold of what was read, and says how it ended: equal numbers, equal endings.
    pub run: fn(&[u8]) -> u64,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "event", fixtures: &["event.avro", "event.json"], folder: "event", run: records::event },
    Target { name: "label", fixtures: &["label.avro", "label.json"], folder: "label", run: records::label },
    Target {
        name: "decision",
        fixtures: &["decision.avro", "decision.json"],
        folder: "decision",
        run: records::decision,
    },
    Target {
        name: "review",
        fixtures: &["review.avro", "review.json"],
        folder: "review",
        run: records::review,
    },
    Target {
        name: "ledger",
        fixtures: &[
            "judged.avro",
            "judged.json",
            "filed.avro",
            "filed.json",
            "quarantine.avro",
            "quarantine.json",
            "erasure.avro",
            "erasure.json",
        ],
        folder: "ledger",
        run: records::ledger,
    },
    Target {
        name: "predictor",
        fixtures: &["predictor.avro", "predictor.json"],
        folder: "predictor",
        run: records::predictor,
    },
    // Events in another's shape: the first byte says by which pointers they are read.
    Target { name: "mapped", fixtures: &["event.json"], folder: "mapped", run: records::mapped },
    // Labels in another's shape.
    Target {
        name: "mapped-label",
        fixtures: &["label.json"],
        folder: "mapped-label",
        run: records::mapped_label,
    },
    // Confluent's framing: a first byte says who wrote it and with which header, the rest is as above.
    Target {
        name: "framed",
        fixtures: &["event.avro", "decision.avro", "label.avro", "event.json"],
        folder: "framed",
        run: records::framed,
    },
    Target {
        name: "schema",
        fixtures: &["event.avsc", "label.avsc", "decision.avsc"],
        folder: "registry",
        run: records::schema,
    },
    Target { name: "key", fixtures: &[], folder: "key", run: records::key },
    Target { name: "headers", fixtures: &[], folder: "headers", run: records::headers },
    Target { name: "time", fixtures: &[], folder: "time", run: texts::time },
    Target { name: "replay", fixtures: &[], folder: "replay", run: texts::replay },
    // The same from files: in Avro's container, and packed.
    Target { name: "replay-avro", fixtures: &[], folder: "avro", run: texts::replay_avro },
    Target { name: "replay-gz", fixtures: &[], folder: "gz", run: texts::replay_gz },
    Target { name: "replay-zst", fixtures: &[], folder: "zst", run: texts::replay_zst },
    Target { name: "config", fixtures: &[], folder: "config", run: texts::config },
    Target { name: "overlay", fixtures: &[], folder: "overlay", run: texts::overlay },
    Target { name: "policies", fixtures: &[], folder: "policies", run: texts::policies },
    Target { name: "manifest", fixtures: &[], folder: "manifest", run: texts::manifest },
    // Where an ONNX graph keeps weights outside of its file.
    Target { name: "graph", fixtures: &[], folder: "graph", run: texts::graph },
    Target { name: "rules", fixtures: &[], folder: "rules", run: texts::rules },
];
