//! What another learner wrote: it may have known fewer decisions, so that it is compared with the index before
//! sled keeps it.

use aegis::codec::{self, Encoding};
use aegis::core::decision::Decision;
use aegis::core::label::DecisionRef;
use aegis::core::ledger::{LabelRecord, LabelStatus, Record, RoundRecord};
use aegis::core::vote::Outcome;
use aegis::kafka::Produced;

use super::support::flow::{raw, send};
use super::{Site, about, decide, events, learned, send_labels};

/// The same event, decided with other votes, in a partition before its first decision's: the one that counts.
fn lower(site: &Site, decision: &Decision) -> Produced {
    let mut decision = decision.clone();
    for weighed in &mut decision.votes {
        weighed.vote.outcome = Outcome::Voted { score: 0.75, categories: Vec::new() };
    }
    let payload = codec::encode_decision(&decision, Encoding::Avro).unwrap();
    Produced { partition: Some(0), ..raw(&site.topic("decisions"), &decision.conversation, payload) }
}

/// What a learner writes that knows only this decision: the round and its label.
fn writes(site: &Site, number: usize, judged: RoundRecord) {
    let label = about(number);
    assert_eq!(label.event, judged.id.event);
    let received = judged.round_time;
    let records = [
        Record::Round(judged),
        Record::Label(LabelRecord { label, received, standing: LabelStatus::Accepted }),
    ];
    let produced = records.map(|record| Produced {
        key: Some(codec::encode_key(&record.key())),
        ..raw(&site.topic("rounds"), "", codec::encode_record(&record, Encoding::Avro).unwrap())
    });
    send(&site.connection, &produced);
}

/// The partition of the decision that gave a round its votes, and the first of them.
fn judged(site: &Site, event: &str) -> (i32, Option<f64>) {
    let found = site.ledger().into_values().find_map(|record| match record {
        Record::Round(judged) if judged.id.event == event => Some(judged),
        _ => None,
    });
    let judged = found.unwrap();
    (judged.decision.partition, judged.votes[0].score)
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
        writes(&site, number(decision), decision.clone().judged(at));
    };
    let compared = |decision: &Decision| {
        assert_eq!(judged(&site, &decision.id.event), (0, Some(0.75)), "{}", decision.id.event);
    };

    // Its sled knows all decisions: the last of each partition has been joined.
    let lasts =
        (0..3).map(|partition| then.iter().rfind(|(record, _)| record.partition == partition).unwrap());
    let lasts: Vec<_> = lasts.map(|(_, decision)| about(number(decision))).collect();
    assert!(twice.iter().all(|(_, decision)| lasts.iter().all(|label| label.event != decision.id.event)));
    let mut learn = site.start_with("learn", &[], &[]);
    send_labels(&site, lasts);
    learned(&site, 3);

    // While it is at work another writes.
    foreign(twice[0]);
    learn.says("another learner writes to the ledger");
    learned(&site, 4);
    compared(&twice[0].1);
    learn.stop();

    // While it is away; and it dies before it has compared what it restored.
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
