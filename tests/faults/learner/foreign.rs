//! Ledger records of another learner. It may have indexed fewer decisions, so that its records are compared with the
//! index before they are written to the store.

use aegis::codec::{self, Encoding};
use aegis::core::decision::Decision;
use aegis::core::label::DecisionRef;
use aegis::core::ledger::{LabelRecord, LabelStatus, Record, RoundRecord};
use aegis::core::vote::Outcome;
use aegis::kafka::Produced;

use super::support::flow::{raw, send};
use super::{Site, about, decide, events, learned, send_labels};

/// Returns a decision about the same event with other votes, in a lower partition than the first one, so that it
/// counts.
fn lower(site: &Site, decision: &Decision) -> Produced {
    let mut decision = decision.clone();
    for weighed in &mut decision.votes {
        weighed.vote.outcome = Outcome::Voted { score: 0.75, categories: Vec::new() };
    }
    let payload = codec::encode_decision(&decision, Encoding::Avro).unwrap();
    Produced { partition: Some(0), ..raw(&site.topic("decisions"), &decision.conversation, payload) }
}

/// Writes the records of a learner that has indexed only this decision: the round and its label.
fn write_foreign(site: &Site, number: usize, round: RoundRecord) {
    let label = about(number);
    assert_eq!(label.event, round.id.event);
    let received = round.round_time;
    let records =
        [Record::Round(round), Record::Label(LabelRecord { label, received, status: LabelStatus::Accepted })];
    let produced = records.map(|record| Produced {
        key: Some(codec::encode_key(&record.key())),
        ..raw(&site.topic("rounds"), "", codec::encode_record(&record, Encoding::Avro).unwrap())
    });
    send(&site.connection, &produced);
}

/// Returns the partition of the decision that gave a round its votes, and the score of the first vote.
fn votes(site: &Site, event: &str) -> (i32, Option<f64>) {
    let found = site.ledger().into_values().find_map(|record| match record {
        Record::Round(round) if round.id.event == event => Some(round),
        _ => None,
    });
    let round = found.unwrap();
    (round.decision.partition, round.votes[0].score)
}

#[test]
fn what_another_learner_wrote_is_compared_with_the_index() {
    let site = Site::with("foreign", &[("log.level", "info")]);
    let events = events(60);
    let made = decide(&site, &events[..30]);
    // Three events whose decisions are not in partition 0 get one there.
    let mut others = made.iter().filter(|(record, _)| record.partition > 0);
    let twice: [_; 3] = std::array::from_fn(|_| others.next().unwrap());
    send(&site.connection, &twice.map(|(_, decision)| lower(&site, decision)));
    let then = decide(&site, &events[30..]);
    let number = |decision: &Decision| decision.id.event[1..].parse::<usize>().unwrap();
    let foreign = |(record, decision): &(aegis::kafka::Consumed, Decision)| {
        let at = DecisionRef { partition: record.partition, offset: record.offset };
        write_foreign(&site, number(decision), decision.clone().into_round_record(at));
    };
    let compared = |decision: &Decision| {
        assert_eq!(votes(&site, &decision.id.event), (0, Some(0.75)), "{}", decision.id.event);
    };

    // The last decision of each partition is joined, so that the store has indexed all decisions.
    let lasts =
        (0..3).map(|partition| then.iter().rfind(|(record, _)| record.partition == partition).unwrap());
    let lasts: Vec<_> = lasts.map(|(_, decision)| about(number(decision))).collect();
    assert!(twice.iter().all(|(_, decision)| lasts.iter().all(|label| label.event != decision.id.event)));
    let mut learn = site.start_with("learn", &[], &[]);
    send_labels(&site, lasts);
    learned(&site, 3);

    // Another learner writes while this one is running.
    foreign(twice[0]);
    learn.says("another learner writes to the ledger");
    learned(&site, 4);
    compared(&twice[0].1);
    learn.stop();

    // Another learner writes while this one is stopped; then this one is killed before it has compared the records.
    foreign(twice[1]);
    let mut learn = site.start_with("learn", &[], &[("AEGIS_CRASH_AT", "learn.restored")]);
    let status = learn.end();
    learn.died_at(status, "learn.restored");
    foreign(twice[2]);
    let learn = site.start_with("learn", &[], &[]);
    learned(&site, 6);
    compared(&twice[1].1);
    compared(&twice[2].1);
    learn.stop();
}
