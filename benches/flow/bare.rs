//! Measures the cost of a consume-produce-commit loop without any processing: no decoding, no experts, no decision; the
//! received bytes are sent unchanged. It uses the same client and settings as Aegis.

use std::thread;
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

/// The argument that makes this program the loop: `bare BROKERS EVENTS OUT GROUP`.
pub const WORD: &str = "bare";

/// The maximum number of records of a transaction.
const MOST: usize = 500;
const INTERVAL: Duration = Duration::from_millis(100);
const ANSWER: Duration = Duration::from_secs(10);

/// Copies records until the process is killed.
pub fn run(words: &[String]) {
    let [_, brokers, events, out, group, ..] = words else { panic!("bare BROKERS EVENTS OUT GROUP") };
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("isolation.level", "read_committed")
        .set("auto.offset.reset", "earliest")
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("session.timeout.ms", "6000")
        .set("heartbeat.interval.ms", "2000")
        .set("queued.max.messages.kbytes", "16384")
        .set("queued.min.messages", "10000")
        .set("fetch.queue.backoff.ms", "10")
        .set("fetch.wait.max.ms", "100")
        .create()
        .expect("a consumer");
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("transactional.id", group)
        .set("transaction.timeout.ms", "3000")
        .set("message.timeout.ms", "3000")
        .set("compression.type", "lz4")
        .set("linger.ms", "1")
        .set("retry.backoff.ms", "5")
        .create()
        .expect("a producer");
    producer.init_transactions(ANSWER).expect("transactions");
    consumer.subscribe(&[events]).expect("a subscription");
    loop {
        let mut read = Vec::with_capacity(MOST);
        let mut began = None;
        while read.len() < MOST && began.is_none_or(|at: Instant| at.elapsed() < INTERVAL) {
            if let Some(message) = consumer.poll(Duration::from_millis(10)) {
                began.get_or_insert_with(Instant::now);
                read.push(message.expect("a record").detach());
            }
        }
        producer.begin_transaction().expect("a transaction");
        let mut offsets = TopicPartitionList::new();
        for message in &read {
            let mut record = BaseRecord::to(out)
                .partition(message.partition())
                .key(message.key().unwrap_or_default())
                .payload(message.payload().unwrap_or_default());
            while let Err((_, again)) = producer.send(record) {
                producer.poll(Duration::from_millis(1));
                record = again;
            }
            let (topic, partition) = (message.topic(), message.partition());
            if let Some(mut place) = offsets.find_partition(topic, partition) {
                place.set_offset(Offset::Offset(message.offset() + 1)).expect("an offset");
            } else {
                offsets
                    .add_partition_offset(topic, partition, Offset::Offset(message.offset() + 1))
                    .expect("an offset");
            }
        }
        let member = consumer.group_metadata().expect("a member");
        producer.send_offsets_to_transaction(&offsets, &member, ANSWER).expect("offsets");
        // The loop waits as Aegis does, because the client's own wait spins.
        while let before @ 1.. = producer.in_flight_count() {
            producer.poll(Duration::ZERO);
            if producer.in_flight_count() == before {
                thread::sleep(Duration::from_micros(200));
            }
        }
        producer.commit_transaction(ANSWER).expect("a commit");
    }
}
