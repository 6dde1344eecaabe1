//! The differences between a topic and its specification. Each is a sentence that says what to do.

use rdkafka::admin::ConfigResource;

use super::spec::{TopicSpec, in_sync};

pub(super) fn wrong_partitions(spec: &TopicSpec, partitions: i32) -> Vec<String> {
    let TopicSpec { name, partitions: wanted, exactly, .. } = spec;
    if *exactly && partitions != *wanted {
        let fix = if partitions < *wanted { "add them with --create" } else { "create it again" };
        vec![format!("{name} has {partitions} partitions and must have {wanted}: {fix}")]
    } else {
        Vec::new()
    }
}

pub(super) fn wrong_settings(spec: &TopicSpec, config: &ConfigResource) -> Vec<String> {
    let name = &spec.name;
    let value = |key: &str| config.get(key).and_then(|entry| entry.value.clone()).unwrap_or_default();
    let mut wrong = Vec::new();
    if let Some(cleanup) = spec.cleanup {
        let (is, must) = (value("cleanup.policy"), cleanup.word());
        if is != must {
            wrong.push(format!(
                "{name} has cleanup.policy={is} and must have {must}: kafka-configs.sh --alter --topic {name} --add-config cleanup.policy={must}"
            ));
        }
    }
    if let Some(clock) = spec.clock
        && value("message.timestamp.type") != clock.word()
    {
        let (difference, must) = (clock.difference(), clock.word());
        wrong.push(format!(
            "{name} {difference}: kafka-configs.sh --alter --topic {name} --add-config message.timestamp.type={must}"
        ));
    }
    if let Some(keeps) = spec.keeps {
        let must = keeps.as_millis();
        // A value of -1 means no limit.
        let is = value("retention.ms").parse::<i128>().unwrap_or_default();
        if is >= 0 && is < i128::try_from(must).unwrap_or(i128::MAX) {
            wrong.push(format!(
                "{name} keeps records for {is} ms and must for {must}: kafka-configs.sh --alter --topic {name} --add-config retention.ms={must}"
            ));
        }
    }
    wrong
}

pub(super) fn wrong_replicas(spec: &TopicSpec, replicas: usize, config: &ConfigResource) -> Option<String> {
    let in_sync = config.get("min.insync.replicas").and_then(|entry| entry.value.as_deref());
    in_sync
        .filter(|_| spec.safe)
        .and_then(|in_sync| unsafe_with(&spec.name, replicas, in_sync.parse().unwrap_or(0)))
}

/// Returns the difference of a topic with `replicas` of which `is` must be in sync, if that is unsafe.
fn unsafe_with(name: &str, replicas: usize, is: usize) -> Option<String> {
    let must = in_sync(replicas);
    let why = match () {
        () if is < must => "what it acknowledges can be lost with one broker",
        () if is > replicas => "it takes no records",
        () => return None,
    };
    Some(format!(
        "{name} has min.insync.replicas={is} with {replicas} replicas, so {why}: kafka-configs.sh --alter --topic {name} --add-config min.insync.replicas={must}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledged_records_are_on_two_replicas_if_there_are_two() {
        let must = |replicas, is| {
            let difference = unsafe_with("t", replicas, is)?;
            difference.rsplit_once('=').map(|(_, must)| must.to_owned())
        };
        assert_eq!([must(1, 1), must(2, 2), must(3, 2), must(3, 3)], [None, None, None, None]);
        assert_eq!(must(1, 2).as_deref(), Some("1"));
        assert_eq!([must(2, 1), must(3, 1), must(2, 3)], ["2", "2", "2"].map(|must| Some(must.to_owned())));
    }
}
