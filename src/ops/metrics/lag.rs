//! The lag of one role's partitions in this process.

use std::collections::BTreeSet;
use std::time::Duration;

use super::list::{LAG, LAG_SECONDS};
use super::signed;

/// Reports the lag of a group in this process's partitions. A partition that has moved to another process is set to 0 here,
/// or its last value would stay forever.
#[derive(Debug)]
pub struct Lag {
    group: String,
    reported: BTreeSet<(String, i32)>,
}

impl Lag {
    /// Creates the lag of this group.
    #[must_use]
    pub fn new(group: &str) -> Self {
        Self { group: group.to_owned(), reported: BTreeSet::new() }
    }

    /// Reports each partition: topic, number, messages not yet read, and the age of the oldest record without a committed
    /// outcome, or `None` if that record has not been read yet.
    pub fn report<'a>(&mut self, lags: impl IntoIterator<Item = (&'a str, i32, i64, Option<Duration>)>) {
        let mut seen = BTreeSet::new();
        for (topic, partition, messages, age) in lags {
            let number = partition.to_string();
            LAG.with([&self.group, topic, &number]).set(signed(messages));
            if let Some(age) = age {
                LAG_SECONDS.with([&self.group, topic, &number]).set(age.as_secs_f64());
            }
            seen.insert((topic.to_owned(), partition));
        }
        for (topic, partition) in self.reported.difference(&seen) {
            let number = partition.to_string();
            LAG.with([&self.group, topic, &number]).set(0.0);
            LAG_SECONDS.with([&self.group, topic, &number]).set(0.0);
        }
        self.reported = seen;
    }
}

impl Drop for Lag {
    /// Reports that this process has no partitions any more.
    fn drop(&mut self) {
        self.report([]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::metrics;

    #[test]
    fn a_partition_that_has_moved_is_set_to_zero() {
        let recorder = metrics::builder().unwrap().build_recorder();
        let mut lag = Lag::new("g");
        ::metrics::with_local_recorder(&recorder, || {
            lag.report([("t", 0, 7, Some(Duration::from_secs(3))), ("t", 1, 5, None)]);
            lag.report([("t", 1, 6, None)]);
        });
        let page = recorder.handle().render();
        for line in [
            r#"kafka_consumergroup_lag{consumergroup="g",topic="t",partition="0"} 0"#,
            r#"kafka_consumergroup_lag_seconds{consumergroup="g",topic="t",partition="0"} 0"#,
            r#"kafka_consumergroup_lag{consumergroup="g",topic="t",partition="1"} 6"#,
        ] {
            assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
        }
        assert!(!page.contains(r#"lag_seconds{consumergroup="g",topic="t",partition="1"}"#), "{page}");
        ::metrics::with_local_recorder(&recorder, || drop(lag));
        let page = recorder.handle().render();
        let line = r#"kafka_consumergroup_lag{consumergroup="g",topic="t",partition="1"} 0"#;
        assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
    }
}
