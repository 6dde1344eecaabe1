//! The decoders, each as a function from bytes to its outcome.

use super::{records, rows, texts};

/// A decoder.
pub struct Target {
    pub name: &'static str,
    /// The names of the codec's fixtures in its corpus.
    pub fixtures: &'static [&'static str],
    /// The name of its folder in the corpus.
    pub folder: &'static str,
    /// Decodes the input and checks the result. Returns a number for the outcome; equal outcomes have equal numbers.
    pub run: fn(&[u8]) -> u64,
}

/// All decoders.
pub const TARGETS: &[Target] = &[
    Target { name: "event", fixtures: &["event.avro", "event.json"], folder: "event", run: records::event },
    // Events with the headers of a CloudEvent. The first byte selects them.
    Target {
        name: "cloud-event",
        fixtures: &["event.avro", "event.json"],
        folder: "cloud-event",
        run: records::cloud_event,
    },
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
    Target { name: "pin", fixtures: &["pin.avro", "pin.json"], folder: "pin", run: records::pin },
    // Events in other layouts. The first byte selects the pointers.
    Target { name: "mapped", fixtures: &["event.json"], folder: "mapped", run: records::mapped },
    // Labels in other layouts.
    Target {
        name: "mapped-label",
        fixtures: &["label.json"],
        folder: "mapped-label",
        run: records::mapped_label,
    },
    // Confluent's framing. The first bytes select the writer and the header; the rest is as above.
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
    // The same from files: Avro's containers, and compressed files.
    Target { name: "replay-avro", fixtures: &[], folder: "avro", run: texts::replay_avro },
    Target { name: "replay-gz", fixtures: &[], folder: "gz", run: texts::replay_gz },
    Target { name: "replay-zst", fixtures: &[], folder: "zst", run: texts::replay_zst },
    // Files that users evaluate and score.
    Target { name: "rows-json", fixtures: &[], folder: "rows", run: rows::json },
    Target { name: "rows-csv", fixtures: &[], folder: "rows", run: rows::csv },
    Target { name: "rows-avro", fixtures: &[], folder: "avro", run: rows::avro },
    Target { name: "config", fixtures: &[], folder: "config", run: texts::config },
    Target { name: "overlay", fixtures: &[], folder: "overlay", run: texts::overlay },
    Target { name: "policies", fixtures: &[], folder: "policies", run: texts::policies },
    Target { name: "manifest", fixtures: &[], folder: "manifest", run: texts::manifest },
    // The external weights of an ONNX graph.
    Target { name: "graph", fixtures: &[], folder: "graph", run: texts::graph },
    Target { name: "rules", fixtures: &[], folder: "rules", run: texts::rules },
];
