//! The fifth stage: reports to health and metrics.

use std::time::{Duration, Instant};

use super::{COMMITTING, ScorePipeline};
use crate::ops::metrics;
use crate::score::{ROLE, now};

/// The interval of reports to health and metrics.
const REPORT_INTERVAL: Duration = Duration::from_millis(500);
/// The time for which the brokers count as reachable after they last answered, if they are near.
const BROKER_SEEN_TIMEOUT: Duration = Duration::from_secs(10);

impl ScorePipeline<'_> {
    /// Stage 5: reports the state of the stages to health and metrics, and shrinks the panel under too much load.
    pub(super) fn report(&mut self) {
        if self.reported_at.elapsed() <= REPORT_INTERVAL {
            return;
        }
        self.reported_at = Instant::now();
        self.scorer.report(self.health);
        self.share_budgets();
        if let Some(budgets) = self.scorer.decider.budgets() {
            budgets.report(self.reported_at);
        }
        let source = self.reader.source().health();
        let seen_for = self.score.connection.request_timeout(BROKER_SEEN_TIMEOUT);
        self.health.set_until("broker seen", source.seen.map(|at| at + seen_for));
        metrics::partitions(ROLE, self.reader.source().assigned().len());
        metrics::queue(self.batch.held());
        self.lag.report(source.lag.iter().map(|((topic, partition), messages)| {
            let age = match self.batch.oldest_timestamp(*partition) {
                Some(then) => u64::try_from(now().saturating_sub(then)).ok().map(Duration::from_millis),
                None => (*messages == 0).then_some(Duration::ZERO),
            };
            (&**topic, *partition, *messages, age)
        }));
        self.health.waits(COMMITTING, self.batch.waiting_since(&source.lag), self.stalled_after);
        let lag = source.lag.iter().fold(0_i64, |sum, (_, messages)| sum.saturating_add(*messages));
        let age = self.scorer.in_flight.oldest_timestamp().map_or(0, |then| now().saturating_sub(then));
        let age = Duration::from_millis(u64::try_from(age).unwrap_or(0));
        if let Some(shrunk) = self.load_shedder.update(lag, age, Instant::now()) {
            self.scorer.in_flight.shrink(shrunk);
            tracing::warn!(shrunk, lag, age_ms = age.as_millis(), "load: whether the panel is shrunk");
        }
    }
}
