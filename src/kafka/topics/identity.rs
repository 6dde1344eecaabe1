//! The id of a topic, for which the client has no safe call.
//!
//! `docs/decisions/0011` gives the reason for the `unsafe` code. Every native object is owned by an [`Owned`], which destroys
//! it once. What librdkafka lends out of an event is copied before the event is destroyed.

#![expect(unsafe_code, reason = "rdkafka 0.39 wraps neither DescribeTopics nor the ids of topics")]

use std::ffi::{CStr, CString};
use std::ptr;
use std::time::{Duration, Instant};

use rdkafka::bindings as native;
use rdkafka::client::{Client, ClientContext};
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::MetadataBroker;

use super::calls::metadata_consumer;
use crate::kafka::connection::Connection;
use crate::kafka::failure::{SourceError, left};

const DOING: &str = "ask for the topic's id";

/// Returns the id that the brokers gave the topic when it was created. A topic that is deleted and created again has another
/// id. Returns `None` if the brokers have no ids (before Apache Kafka 2.8).
///
/// # Errors
/// Returns [`SourceError::MissingTopic`] if there is no such topic, and another error if the brokers do not answer or deny
/// access.
pub fn id(connection: &Connection, topic: &str, timeout: Duration) -> Result<Option<[u8; 16]>, SourceError> {
    let failed = |code| SourceError::of(&KafkaError::Global(code), DOING, topic);
    let name = CString::new(topic).map_err(|_| failed(RDKafkaErrorCode::InvalidTopic))?;
    let consumer = metadata_consumer(connection)?;
    let until = Instant::now() + timeout;
    // Any broker can answer. By default the request goes to the controller, which the embedded broker does not name.
    let metadata = consumer.client().fetch_metadata(Some(topic), timeout);
    let metadata = metadata.map_err(|error| SourceError::of(&error, DOING, topic))?;
    let broker = metadata.brokers().first().map(MetadataBroker::id);
    let broker = broker.ok_or_else(|| failed(RDKafkaErrorCode::AllBrokersDown))?;
    match described(consumer.client(), &name, broker, left(until)) {
        Ok(id) => Ok(Some(id).filter(|id| *id != [0; 16])),
        Err(RDKafkaErrorCode::UnsupportedFeature | RDKafkaErrorCode::UnsupportedVersion) => Ok(None),
        Err(code) => Err(failed(code)),
    }
}

/// A native object, and the function that destroys it.
struct Owned<T> {
    object: *mut T,
    destroy: unsafe extern "C" fn(*mut T),
}

impl<T> Owned<T> {
    /// Returns `None` if librdkafka created no object.
    fn new(object: *mut T, destroy: unsafe extern "C" fn(*mut T)) -> Option<Self> {
        (!object.is_null()).then_some(Self { object, destroy })
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: `object` is not null, came from the constructor that belongs to `destroy`, and is destroyed only here.
        unsafe { (self.destroy)(self.object) }
    }
}

fn described<C: ClientContext>(
    client: &Client<C>,
    topic: &CStr,
    broker: i32,
    timeout: Duration,
) -> Result<[u8; 16], RDKafkaErrorCode> {
    let millis = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    let handle = client.native_ptr();
    let mut names = [topic.as_ptr()];
    let none = RDKafkaErrorCode::Fail;
    // SAFETY: `handle` lives as long as `client`; `names` holds one string that ends in a zero; both outlive the calls,
    // and librdkafka copies the names. A time-out that is refused leaves the client's default.
    let (_queue, event) = unsafe {
        let queue = native::rd_kafka_queue_new(handle);
        let queue = Owned::new(queue, native::rd_kafka_queue_destroy).ok_or(none)?;
        let operation = native::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
        let options = native::rd_kafka_AdminOptions_new(handle, operation);
        let options = Owned::new(options, native::rd_kafka_AdminOptions_destroy).ok_or(none)?;
        native::rd_kafka_AdminOptions_set_request_timeout(options.object, millis, ptr::null_mut(), 0);
        checked(native::rd_kafka_AdminOptions_set_broker(options.object, broker, ptr::null_mut(), 0))?;
        let topics = native::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
        let topics = Owned::new(topics, native::rd_kafka_TopicCollection_destroy).ok_or(none)?;
        native::rd_kafka_DescribeTopics(handle, topics.object, options.object, queue.object);
        // The request times out first.
        let event = native::rd_kafka_queue_poll(queue.object, millis.saturating_add(1_000));
        let event = Owned::new(event, native::rd_kafka_event_destroy);
        (queue, event.ok_or(RDKafkaErrorCode::OperationTimedOut)?)
    };
    // SAFETY: the event lives until the end of this function; what is read from it lives as long. Pointers that may be
    // null are checked first.
    unsafe {
        checked(native::rd_kafka_event_error(event.object))?;
        let result = native::rd_kafka_event_DescribeTopics_result(event.object);
        if result.is_null() {
            return Err(none);
        }
        let mut count = 0;
        let all = native::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        if all.is_null() || count == 0 {
            return Err(RDKafkaErrorCode::UnknownTopicOrPartition);
        }
        let topic = *all;
        checked(native::rd_kafka_error_code(native::rd_kafka_TopicDescription_error(topic)))?;
        let id = native::rd_kafka_TopicDescription_topic_id(topic);
        if id.is_null() {
            return Ok([0; 16]);
        }
        let most = native::rd_kafka_Uuid_most_significant_bits(id);
        let least = native::rd_kafka_Uuid_least_significant_bits(id);
        Ok(u128::from(most.cast_unsigned())
            .wrapping_shl(64)
            .wrapping_add(least.cast_unsigned().into())
            .to_be_bytes())
    }
}

fn checked(code: native::rd_kafka_resp_err_t) -> Result<(), RDKafkaErrorCode> {
    match RDKafkaErrorCode::from(code) {
        RDKafkaErrorCode::NoError => Ok(()),
        code => Err(code),
    }
}
