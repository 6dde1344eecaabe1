//! Compares the size limits of the topics that are read with those of the topics that are written.

use std::collections::BTreeMap;

use crate::codec::MAX_LABEL;
use crate::config::Topics;

/// An upper bound on the size of a ledger record without its label, in bytes.
const LEDGER_OVERHEAD: usize = 16_384;

/// Returns a note for each output topic that accepts less than its input records may need. `limits` are the known
/// `max.message.bytes` of the topics, and `client` is the largest record that the producers of this configuration send.
pub fn narrow(topics: &Topics, limits: &BTreeMap<String, usize>, client: usize) -> Vec<(String, String)> {
    let limit = |topic: &String| limits.get(topic).copied();
    let mut notes = Vec::new();
    let mut compare = |output: &String, input: &String, most: usize, loses: &str| {
        let (Some(accepts), Some(comes)) = (limit(output), limit(input)) else { return };
        let comes = comes.min(most);
        if accepts < comes {
            notes.push((
                output.clone(),
                format!(
                    "{output} accepts {accepts} bytes, and {input} sends up to {comes}: {loses}; to avoid this: \
                     kafka-configs.sh --alter --topic {output} --add-config max.message.bytes={comes}"
                ),
            ));
        }
    };
    let all = usize::MAX;
    let letters = "dead letters of larger records go without their value, and cannot be put back";
    compare(&topics.dlq, &topics.events, all, letters);
    compare(&topics.dlq, &topics.labels, all, letters);
    let decisions = "decisions go without the largest headers of their events, and become dead letters if they do \
                     not fit even so";
    compare(&topics.decisions, &topics.events, all, decisions);
    let requests = "decisions whose review request does not fit become dead letters";
    compare(&topics.review, &topics.decisions, all, requests);
    let ledger = "labels whose ledger record does not fit become dead letters";
    compare(&topics.rounds, &topics.labels, MAX_LABEL + LEDGER_OVERHEAD, ledger);
    for input in [&topics.events, &topics.labels] {
        if let Some(comes) = limit(input).filter(|comes| client < *comes) {
            let dlq = topics.dlq.clone();
            let note = format!(
                "kafka.settings has message.max.bytes={client}, and {input} accepts {comes}: {letters}; to avoid \
                 this raise the setting to {comes} at least"
            );
            notes.push((dlq, note));
        }
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notes(changes: &[(&str, usize)], client: usize) -> Vec<(String, String)> {
        let topics = Topics::default();
        let Topics { events, decisions, review, labels, dlq, rounds, .. } = topics.clone();
        let names = [events, decisions, review, labels, dlq, rounds];
        let mut limits: BTreeMap<_, _> = names.into_iter().map(|name| (name, 1_048_588)).collect();
        limits.extend(changes.iter().map(|(name, limit)| ((*name).to_owned(), *limit)));
        narrow(&topics, &limits, client)
    }

    #[test]
    fn equal_limits_need_no_note() {
        assert_eq!(notes(&[], 8 << 20), []);
        assert_eq!(narrow(&Topics::default(), &BTreeMap::new(), 1), [], "nothing is known");
    }

    #[test]
    fn each_output_topic_that_accepts_less_gets_a_note() {
        let of = |changes: &[(&str, usize)]| {
            let notes = notes(changes, 8 << 20);
            notes.into_iter().map(|(topic, _)| topic).collect::<Vec<_>>()
        };
        assert_eq!(of(&[("moderation.dlq", 1_000_000)]), ["moderation.dlq", "moderation.dlq"]);
        assert_eq!(of(&[("moderation.labels", 2_000_000)]), ["moderation.dlq"]);
        assert_eq!(of(&[("moderation.events", 2_000_000)]), ["moderation.dlq", "moderation.decisions"]);
        assert_eq!(of(&[("moderation.review", 1_000)]), ["moderation.review"]);
        // No label is larger than 64 KiB.
        assert_eq!(of(&[("aegis.rounds", 100_000)]), [""; 0]);
        assert_eq!(of(&[("aegis.rounds", 50_000)]), ["aegis.rounds"]);
        let (_, note) = notes(&[("moderation.review", 1_000)], 8 << 20).remove(0);
        assert!(note.ends_with("--topic moderation.review --add-config max.message.bytes=1048588"), "{note}");
    }

    #[test]
    fn a_producer_that_sends_less_gets_a_note() {
        let notes = notes(&[], 500_000);
        assert_eq!(notes.len(), 2);
        assert!(
            notes[0].1.contains("message.max.bytes=500000, and moderation.events accepts 1048588"),
            "{notes:?}"
        );
    }
}
