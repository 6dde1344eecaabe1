//! The cost of the codec: `cargo test --release --test codec -- --ignored --nocapture microseconds`.

use std::hint::black_box;
use std::time::Instant;

use crate::examples;
use aegis::codec::{
    Defaults, Encoding, decode_decision, decode_event, decode_label, decode_record, encode_decision,
    encode_event, encode_label, encode_record,
};

/// Prints the microseconds per call of the fastest of many short batches, which a busy machine affects least.
fn time<T>(what: &str, bytes: usize, call: impl Fn() -> T) {
    const CALLS: u32 = 40;
    let batch = |_| {
        let start = Instant::now();
        for _ in 0..CALLS {
            black_box(call());
        }
        start.elapsed().as_secs_f64() / f64::from(CALLS) * 1e6
    };
    let best = (0..500).map(batch).fold(f64::INFINITY, f64::min);
    println!("{what:<28} {bytes:>6} bytes {best:>8.2} µs");
}

#[test]
#[ignore = "prints figures, checks nothing"]
fn microseconds_per_record() {
    let mut event = examples::event();
    event.turns[1].text = "Please tell me how to bake bread. ".repeat(30);
    let mut decision = examples::decision();
    let vote = decision.votes[0].clone();
    decision.votes = (0..8)
        .map(|expert| {
            let mut vote = vote.clone();
            vote.vote.expert = format!("expert-{expert}");
            vote
        })
        .collect();
    let (label, judged) = (examples::label(), examples::judged());
    let defaults = Defaults::default();
    for encoding in [Encoding::Avro, Encoding::Json] {
        println!("{encoding:?}");
        let bytes = encode_event(&event, encoding).unwrap();
        time("event of 1 KiB, write", bytes.len(), || encode_event(&event, encoding));
        time("event of 1 KiB, read", bytes.len(), || decode_event(&bytes, &defaults));
        let bytes = encode_decision(&decision, encoding).unwrap();
        time("decision of 8 votes, write", bytes.len(), || encode_decision(&decision, encoding));
        time("decision of 8 votes, read", bytes.len(), || decode_decision(&bytes));
        let bytes = encode_label(&label, encoding).unwrap();
        time("label, write", bytes.len(), || encode_label(&label, encoding));
        time("label, read", bytes.len(), || decode_label(&bytes, &defaults));
        let bytes = encode_record(&judged, encoding).unwrap();
        time("ledger record, write", bytes.len(), || encode_record(&judged, encoding));
        time("ledger record, read", bytes.len(), || decode_record(&bytes));
    }
}
