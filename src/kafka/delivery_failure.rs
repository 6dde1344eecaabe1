//! The cause of a failed send: the record that failed first, and the client's log lines about the transaction.

use std::collections::BTreeSet;

use rdkafka::error::RDKafkaErrorCode as Code;

use super::record::Produced;
use super::reports::Report;

/// Returns `true` if a record failed only because its transaction had already failed.
pub(super) fn is_consequence(code: Code) -> bool {
    matches!(code, Code::PurgeQueue | Code::PurgeInflight | Code::State)
}

/// Returns the record that is the cause of a failed send, and its error. Records that were only purged because another
/// had failed come last; of a batch that was too large, the largest record is returned.
pub(super) fn delivery_failure(records: &[Produced], reports: &[Report]) -> (usize, Code) {
    let weight = |(index, code): &(usize, Code)| match code {
        code if is_consequence(*code) => (0, 0),
        Code::MessageSizeTooLarge => (2, records.get(*index).map_or(0, Produced::size)),
        _ => (1, 0),
    };
    let failed = reports.iter().enumerate().filter_map(|(index, report)| match report {
        Some(Ok(_)) => None,
        Some(Err(code)) => Some((index, *code)),
        None => Some((index, Code::Fail)),
    });
    failed.max_by_key(weight).unwrap_or((0, Code::Fail))
}

/// Returns the topic that a line of the client's log reports as not writable. A client that may describe a topic and not
/// write to it is refused when the topic is added to the transaction; the client's error does not name the topic.
pub(super) fn refused_topic<'a>(facility: &str, text: &'a str) -> Option<&'a str> {
    let (_, rest) = text.split_once("Failed to add partition \"").filter(|_| facility == "ADDPARTS")?;
    let (topic, why) = rest.split_once('"')?;
    why.contains("Topic authorization failed").then_some(topic)
}

/// Returns the missing right to write: on the topics `named` in the log, or else on one of the topics of the records.
pub(super) fn missing_right(named: &BTreeSet<String>, records: &[Produced]) -> String {
    let all: BTreeSet<&str> = match named.is_empty() {
        true => records.iter().map(|record| &*record.topic).collect(),
        false => named.iter().map(String::as_str).collect(),
    };
    let or = if named.is_empty() { " or " } else { ", " };
    let topics = all.into_iter().collect::<Vec<_>>().join(or);
    format!("Write on topic {topics} is missing")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(topic: &str, size: usize) -> Produced {
        Produced {
            topic: topic.into(),
            partition: None,
            key: None,
            payload: Some(vec![0; size]),
            headers: Vec::new(),
            timestamp: None,
        }
    }

    #[test]
    fn the_record_that_caused_the_failure_is_named() {
        let records = [1, 5, 9, 3].map(|size| to("t", size));
        let purged = Some(Err(Code::PurgeQueue));
        let large = Some(Err(Code::MessageSizeTooLarge));
        let named = |reports: &[Report]| delivery_failure(&records, reports);
        assert_eq!(named(&[purged, large, large, None]), (2, Code::MessageSizeTooLarge));
        assert_eq!(
            named(&[purged, Some(Ok((0, 0))), Some(Err(Code::UnknownTopic)), purged]),
            (2, Code::UnknownTopic)
        );
        assert_eq!(named(&[Some(Ok((0, 0))), purged]), (1, Code::PurgeQueue));
        assert_eq!(named(&[Some(Err(Code::UnknownTopic)), Some(Err(Code::State))]), (0, Code::UnknownTopic));
    }

    #[test]
    fn the_topic_that_may_not_be_written_is_read_from_the_clients_log() {
        let line = |topic: &str, why: &str| {
            format!(
                "[thrd:main]: 127.0.0.1:9092/1: Failed to add partition \"{topic}\" [0] to transaction: Broker: {why}"
            )
        };
        let refused = line("aegis.rounds", "Topic authorization failed");
        assert_eq!(refused_topic("ADDPARTS", &refused), Some("aegis.rounds"));
        assert_eq!(refused_topic("TXNERR", &refused), None);
        assert_eq!(refused_topic("ADDPARTS", &line("moderation.dlq", "Operation not attempted")), None);
    }

    #[test]
    fn without_a_named_topic_all_topics_written_to_are_listed() {
        let records = ["b", "a", "b"].map(|topic| to(topic, 1));
        let named = |topics: &[&str]| topics.iter().map(|topic| (*topic).to_owned()).collect();
        assert_eq!(missing_right(&named(&[]), &records), "Write on topic a or b is missing");
        assert_eq!(missing_right(&named(&["b"]), &records), "Write on topic b is missing");
    }
}
