//! Delivery reports: the position of each record that was sent, or its error.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};

use super::context::{client_error, lock, log};
use super::delivery_failure::refused_topic;
use super::record::Produced;

/// The wait while no report arrives. The client's own wait spins through its last millisecond.
const REPORT_POLL_INTERVAL: Duration = Duration::from_micros(200);

/// The partition and offset of a record.
pub type RecordPosition = (i32, i64);

/// The delivery report of a record, or `None` while there is none.
pub(super) type Report = Option<Result<RecordPosition, RDKafkaErrorCode>>;

/// Returns the positions of all `count` records of a send, in order, or `None` if one of them is not acknowledged.
pub(super) fn positions(reports: &[Report], count: usize) -> Option<Vec<RecordPosition>> {
    let positions: Vec<_> = reports.iter().filter_map(|report| report.and_then(Result::ok)).collect();
    (positions.len() == count).then_some(positions)
}

/// Identifies a record and its send. Late reports of an earlier send are ignored.
pub(super) struct Slot {
    pub(super) send: u64,
    pub(super) index: usize,
}

#[derive(Default)]
struct CurrentSend {
    number: u64,
    reports: Vec<Report>,
    /// The topics that the client's log reports as not writable.
    refused: BTreeSet<String>,
}

/// The callbacks of a producer.
#[derive(Default)]
pub(super) struct Reports {
    current: Mutex<CurrentSend>,
}

impl Reports {
    /// Begins a send of `count` records. Returns its number.
    pub(super) fn expect(&self, count: usize) -> u64 {
        let mut current = lock(&self.current);
        current.number += 1;
        current.reports = vec![None; count];
        current.refused.clear();
        current.number
    }

    /// Takes the reports of the current send.
    pub(super) fn take(&self) -> Vec<Report> {
        std::mem::take(&mut lock(&self.current).reports)
    }

    /// Returns the topics of the current send that the client's log reports as not writable.
    pub(super) fn refused(&self) -> BTreeSet<String> {
        lock(&self.current).refused.clone()
    }

    fn note(&self, slot: &Slot, result: Result<RecordPosition, RDKafkaErrorCode>) {
        let mut current = lock(&self.current);
        if current.number == slot.send
            && let Some(report) = current.reports.get_mut(slot.index)
        {
            *report = Some(result);
        }
    }
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        if let Some(topic) = refused_topic(facility, text) {
            lock(&self.current).refused.insert(topic.to_owned());
        }
        log(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        client_error(&error, reason);
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<Slot>;

    fn delivery(&self, result: &DeliveryResult<'_>, slot: Box<Slot>) {
        let result = match result {
            Ok(message) => Ok((message.partition(), message.offset())),
            Err((error, _)) => Err(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail)),
        };
        self.note(&slot, result);
    }
}

/// Passes a record to the client, waiting while its queue is full.
pub(super) fn enqueue(
    producer: &BaseProducer<Reports>,
    record: &Produced,
    slot: Slot,
    until: Instant,
) -> Result<(), RDKafkaErrorCode> {
    let mut waiting = BaseRecord {
        topic: &record.topic,
        partition: record.partition,
        payload: record.payload.as_ref(),
        key: record.key.as_ref(),
        timestamp: record.timestamp,
        headers: record.owned_headers(),
        delivery_opaque: Box::new(slot),
    };
    loop {
        match producer.send(waiting) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back))
                if Instant::now() < until =>
            {
                waiting = back;
                producer.poll(Duration::from_millis(1));
            }
            Err((error, _)) => {
                return Err(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail));
            }
        }
    }
}

/// Waits until every record is acknowledged or has failed. Returns `false` if that takes until after `until`. Without
/// this, the flush inside the commit waits in steps of 100 ms.
pub(super) fn drain(producer: &BaseProducer<Reports>, until: Instant) -> bool {
    loop {
        let before = producer.in_flight_count();
        if before == 0 {
            return true;
        }
        if Instant::now() > until {
            return false;
        }
        producer.poll(Duration::ZERO);
        if producer.in_flight_count() == before {
            std::thread::sleep(REPORT_POLL_INTERVAL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_reports_of_an_earlier_send_are_ignored() {
        let reports = Reports::default();
        let first = reports.expect(1);
        let second = reports.expect(2);
        reports.note(&Slot { send: first, index: 0 }, Ok((9, 9)));
        reports.note(&Slot { send: second, index: 1 }, Ok((0, 4)));
        reports.note(&Slot { send: second, index: 7 }, Ok((0, 5)));
        assert_eq!(reports.take(), [None, Some(Ok((0, 4)))]);
    }

    #[test]
    fn a_send_has_the_positions_of_all_its_records_or_none() {
        let [first, second] = [(0, 4), (1, 9)];
        assert_eq!(positions(&[Some(Ok(first)), Some(Ok(second))], 2), Some(vec![first, second]));
        assert_eq!(positions(&[Some(Ok(first)), None], 2), None);
        assert_eq!(positions(&[Some(Ok(first)), Some(Err(RDKafkaErrorCode::Fail))], 2), None);
        assert_eq!(positions(&[Some(Ok(first))], 2), None);
        assert_eq!(positions(&[], 1), None);
    }
}
