//! Estimates from sampled labels on real texts: those of the demo, with the p of the default learner over the bundled experts,
//! always of the labels before.

use crate::decisive::{ANSWERED, Sample, TEXTS, row};
use crate::support::flow::event;

use aegis::core::learners::{LearnerSpec, Name, RoundInput};
use aegis::experts::Answer;

#[path = "../../crates/aegis-core/tests/estimates/sampling.rs"]
mod sampling;

use sampling::{Stream, simulate};

/// The number of times that each text is in the stream. A hundredth of 360 texts would be four audits.
const REPEATED: usize = 56;

/// Returns p and the label of each text that the learner meets after the first [`TEXTS`].
fn predictions() -> Vec<(f64, f64)> {
    let ids: Vec<&str> = ANSWERED[0].1.votes.iter().map(|vote| vote.expert.as_str()).collect();
    let mut learner = LearnerSpec::new(Name::Default).build(&ids, "default").unwrap();
    let step = |(number, (sample, answer)): (usize, &(Sample, Answer))| {
        let (votes, id) = (row(&answer.votes), event(number, "").id);
        let features = answer.reading.as_ref().map(|reading| &*reading.features);
        let target = f64::from(u8::from(sample.is_unsafe));
        let p = learner.step(&RoundInput { votes: &votes, features, event: &id }, target);
        (p, target)
    };
    let all: Vec<_> = ANSWERED.iter().enumerate().map(step).collect();
    all[TEXTS..].to_vec()
}

#[test]
fn real_texts_are_estimated_without_bias() {
    let stream = Stream {
        threshold: 0.5,
        rows: predictions().repeat(REPEATED),
        uncertainty: |distance| if distance < 0.05 { 1.0 } else { 0.0 },
        response: |_| 1.0,
    };
    simulate(&stream, 7);
}
