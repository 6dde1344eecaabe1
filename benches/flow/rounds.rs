//! The ledger of benchmarks of restarts: rounds of eight votes without features, each with its label.

use aegis::core::label::{DecisionRef, Finding, Label};
use aegis::core::ledger::{LabelRecord, LabelStatus, Record, RoundId, RoundRecord, RoundVote};

/// Returns a round and its label.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_wrap, reason = "rounds are few")]
pub fn round(number: usize) -> [Record; 2] {
    let id = RoundId { tenant: "t".into(), policy: "default".into(), event: format!("e{number:07}") };
    let draw = |salt: usize| ((number * 2_654_435_761 + salt * 40_503) % 1_000) as f64 / 1_000.0;
    let vote = |expert: usize| RoundVote {
        expert: format!("expert-{expert}"),
        score: Some(draw(expert)),
        shadow: false,
        decisive: false,
    };
    let judged = RoundRecord {
        id,
        subject: None,
        round_time: 1_790_000_000_000 + number as i64,
        decision: DecisionRef { partition: 0, offset: number as i64 },
        votes: (0..8).map(vote).collect(),
        features: None,
    };
    let verdict = if draw(3) > 0.5 { Finding::Unsafe } else { Finding::Safe };
    let label =
        Label { time: judged.round_time + 60_000, ..Label::new(&judged.id, format!("l{number}"), verdict) };
    let filed = LabelRecord { received: label.time, label, status: LabelStatus::Accepted };
    [Record::Round(judged), Record::Label(filed)]
}
