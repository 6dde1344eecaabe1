//! Random records of all kinds.

use aegis_core::features::DIMENSIONS;
use aegis_core::label::{DecisionRef, Finding, Label, Source};
use aegis_core::ledger::{
    Edit, EditAction, LabelRecord, LabelStatus, Record, RoundId, RoundRecord, RoundVote, TextFeatures,
};

/// The random number generator SplitMix64.
#[derive(Clone)]
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

pub const POLICY: &str = "house";

pub fn id(event: usize) -> RoundId {
    let tenant = if event.is_multiple_of(5) { "acme" } else { "beta" };
    RoundId { tenant: tenant.to_owned(), policy: POLICY.to_owned(), event: format!("event-{event}") }
}

pub fn round_record(dice: &mut Dice, event: usize, offset: i64) -> RoundRecord {
    let mut votes: Vec<RoundVote> = ["guard", "rules", "toxicity"]
        .iter()
        .map(|expert| RoundVote {
            expert: (*expert).to_owned(),
            score: (!dice.chance(15)).then(|| dice.unit()),
            shadow: false,
            decisive: false,
        })
        .collect();
    if dice.chance(10) {
        let expert = "trial".to_owned();
        votes.push(RoundVote { expert, score: Some(dice.unit()), shadow: dice.chance(70), decisive: false });
    }
    if dice.chance(2) {
        votes.iter_mut().for_each(|vote| vote.score = None);
    }
    let features = dice.chance(60).then(|| {
        let mut features = Box::new([0i8; DIMENSIONS]);
        features.iter_mut().for_each(|byte| *byte = dice.next() as i8);
        TextFeatures { encoder: [u8::from(dice.chance(30)); 32], features }
    });
    RoundRecord {
        id: id(event),
        subject: dice.chance(60).then(|| format!("subject-{}", dice.below(6))),
        round_time: 1_000 + dice.below(50) as i64,
        decision: DecisionRef { partition: dice.below(3) as i32, offset },
        votes,
        features,
    }
}

pub fn label(dice: &mut Dice, event: usize, number: usize) -> Label {
    let RoundId { tenant, policy, event } = id(event);
    let other = |dice: &mut Dice| format!("label-{}", dice.below(4));
    Label {
        id: format!("label-{number}"),
        tenant,
        policy,
        event,
        annotator: dice.chance(80).then(|| format!("annotator-{}", dice.below(5))),
        verdict: dice.chance(80).then(|| Finding::ALL[dice.below(3)]),
        severity: dice.chance(50).then(|| dice.unit()),
        categories: if dice.chance(20) { vec!["hate".to_owned(), "self-harm".to_owned()] } else { vec![] },
        time: dice.below(4) as i64,
        source: Source::ALL[[0, 0, 0, 1, 2, 3][dice.below(6)]],
        inclusion_probability: dice.chance(20).then_some(0.25),
        decision: dice.chance(20).then_some(DecisionRef { partition: 1, offset: 7 }),
        corrects: dice.chance(10).then(|| other(dice)),
        retracts: dice.chance(10).then(|| other(dice)),
    }
}

/// Records of all kinds: events decided twice, waiting and late labels, corrections, retractions, edits, and labels
/// for events without a decision.
pub fn world(seed: u64, events: usize) -> Vec<Record> {
    let mut dice = Dice(seed);
    let mut records = Vec::new();
    for event in 0..events {
        let decisions = if dice.chance(10) { 2 } else { usize::from(!dice.chance(5)) };
        for again in 0..decisions {
            records.push(Record::Round(round_record(&mut dice, event, (event * 2 + again) as i64)));
        }
        let labels = [0, 1, 1, 1, 1, 2, 4][dice.below(7)];
        for number in 0..labels {
            let label = label(&mut dice, event, number);
            let received = dice.below(100) as i64;
            let mut push =
                |status| records.push(Record::Label(LabelRecord { label: label.clone(), received, status }));
            match dice.below(10) {
                0 => {
                    push(LabelStatus::Waiting);
                    push(LabelStatus::ALL[1 + dice.below(2)]);
                }
                1 => push(LabelStatus::Waiting),
                2 => push(LabelStatus::Expired),
                _ => push(LabelStatus::Accepted),
            }
            if dice.chance(5) {
                // The same id again, with other content, and possibly of another annotator.
                let label = self::label(&mut dice, event, number);
                records.push(Record::Label(LabelRecord { label, received, status: LabelStatus::Accepted }));
            }
        }
    }
    for (number, action) in [
        EditAction::Quarantine { tenant: String::new(), annotator: "annotator-4".to_owned() },
        EditAction::Quarantine { tenant: "acme".to_owned(), annotator: "annotator-3".to_owned() },
        EditAction::Erase { tenant: "beta".to_owned(), subject: "subject-1".to_owned() },
    ]
    .into_iter()
    .enumerate()
    {
        records.push(Record::Edit(Edit { id: format!("edit-{number}"), action }));
    }
    records
}
