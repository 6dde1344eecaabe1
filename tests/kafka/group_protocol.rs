//! Brokers without the consumer protocol of groups, and settings that belong to them under that protocol.

use std::time::{Duration, Instant};

use aegis::kafka::{GroupProtocol, Polled, Source, SourceError, Start, check_auth};

use crate::support;
use support::{Kafka, WAIT, kafka, make};

fn refused(error: &SourceError) {
    assert!(matches!(error, SourceError::GroupProtocol { .. }) && !error.is_retryable(), "{error:?}");
    let shown = error.to_string();
    assert!(shown.contains("Kafka 4") && shown.contains("kafka.group_protocol = \"classic\""), "{shown}");
}

/// The feature of the cluster is off: the first heartbeat is refused.
#[test]
fn a_cluster_without_the_feature_is_reported_and_serves_the_classic_protocol() {
    let broker = Kafka::with_features(&["group.version=0"]);
    let connection = broker.connection_in(GroupProtocol::Consumer);
    make(&connection, &[("feature", 1, &[])]);
    let started = check_auth(&connection, &|| false);
    let mut source = Source::subscribe(&connection, "feature", &["feature"], Start::Earliest).unwrap();
    let until = Instant::now() + WAIT;
    let error = loop {
        assert!(Instant::now() < until, "the start said {started:?}, and no poll failed");
        if let Err(error) = source.poll(Duration::from_millis(100)) {
            break error;
        }
    };
    refused(&error);
    drop(source);
    let mut source =
        Source::subscribe(&broker.connection(), "feature", &["feature"], Start::Earliest).unwrap();
    while !matches!(source.poll(Duration::from_millis(100)).unwrap(), Polled::Assigned(_)) {
        assert!(Instant::now() < until + WAIT, "the classic protocol assigns nothing");
    }
}

#[test]
fn a_broker_with_the_protocol_is_accepted() {
    assert_eq!(check_auth(&kafka().connection_in(GroupProtocol::Consumer), &|| false), Ok(Some(1)));
}
