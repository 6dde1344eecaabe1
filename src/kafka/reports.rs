//! Delivery reports: where each record of the unit at hand went, or why it did not.

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

/// How long is waited where no report has come. The client's own waiting spins through its last millisecond.
const NAP: Duration = Duration::from_micros(200);

/// A record's partition and offset.
pub type RecordPosition = (i32, i64);

/// What became of a record; none while it is on its way.
pub(super) type Report = Option<Result<RecordPosition, RDKafkaErrorCode>>;

/// Which record of which sending: reports of an earlier one come late and count no more.
pub(super) struct Slot {
    pub(super) sending: u64,
    pub(super) index: usize,
}

#[derive(Default)]
struct Sending {
    number: u64,
    reports: Vec<Report>,
    /// Topics that the client's log says may not be written.
    refused: BTreeSet<String>,
}

/// Callbacks of a producer.
#[derive(Default)]
pub(super) struct Reports {
    sending: Mutex<Sending>,
}

impl Reports {
    /// Expects `count` reports; returns the number of the sending.
    pub(super) fn expect(&self, count: usize) -> u64 {
        let mut sending = lock(&self.sending);
        sending.number += 1;
        sending.reports = vec![None; count];
        sending.refused.clear();
        sending.number
    }

    /// The reports of the present sending.
    pub(super) fn take(&self) -> Vec<Report> {
        std::mem::take(&mut lock(&self.sending).reports)
    }

    /// The topics of the present sending that may not be written, where the client's log names them.
    pub(super) fn refused(&self) -> BTreeSet<String> {
        lock(&self.sending).refused.clone()
    }

    fn note(&self, slot: &Slot, result: Result<RecordPosition, RDKafkaErrorCode>) {
        let mut sending = lock(&self.sending);
        if sending.number == slot.sending
            && let Some(report) = sending.reports.get_mut(slot.index)
        {
            *report = Some(result);
        }
    }
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        if let Some(topic) = refused_topic(facility, text) {
            lock(&self.sending).refused.insert(topic.to_owned());
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

/// Hands a record over to the client, waiting while its queue is full.
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

/// Waits until every record is acknowledged or given up. Without this the flush inside the commit waits in
/// slices of 100 ms.
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
            std::thread::sleep(NAP);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_reports_of_an_earlier_sending_do_not_count() {
        let reports = Reports::default();
        let first = reports.expect(1);
        let second = reports.expect(2);
        reports.note(&Slot { sending: first, index: 0 }, Ok((9, 9)));
        reports.note(&Slot { sending: second, index: 1 }, Ok((0, 4)));
        reports.note(&Slot { sending: second, index: 7 }, Ok((0, 5)));
        assert_eq!(reports.take(), [None, Some(Ok((0, 4)))]);
    }
}
