//! What was found, for people and for tools.

use std::fmt;

use serde::Serialize;

use super::outcomes::Counts;
use super::refold::PredictorCheck;
use super::requests::RequestCounts;
use super::violations::{ViolationKind, Violations};
use crate::core::event::Millis;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether everything holds.
    pub holds: bool,
    /// Records from then on were looked at; none: all that the topics keep.
    pub from: Option<Millis>,
    /// What was counted.
    pub counts: Counts,
    /// What was counted of review requests.
    pub review: RequestCounts,
    /// Ledger records read.
    pub ledger_records: u64,
    /// Each policy's predictor.
    pub predictors: Vec<PredictorCheck>,
    /// What is wrong.
    #[serde(rename = "faults")]
    pub violations: Violations,
}

/// What is checked of events, outcomes and review requests, and what is said where it holds.
const HOLDS: &[(ViolationKind, &str)] = &[
    (ViolationKind::Gap, "every committed event has an outcome"),
    (ViolationKind::Duplicate, "none has two"),
    (ViolationKind::Order, "decisions are in their events' order"),
    (ViolationKind::Orphan, "every outcome has its event or label"),
    (ViolationKind::RequestGap, "every decision that asks for a review has its request"),
    (ViolationKind::RequestDuplicate, "none has two requests"),
    (ViolationKind::RequestOrphan, "every request names its decision"),
    (ViolationKind::Unreadable, "every record can be read"),
];

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { events, decisions, event_dead_letters, label_dead_letters, open, not_kept, .. } =
            self.counts;
        writeln!(
            out,
            "{events} events: {decisions} decisions, {event_dead_letters} dead letters, {open} open"
        )?;
        let tombstones = self.counts.tombstones;
        if tombstones > 0 {
            writeln!(out, "{tombstones} of the events have a null value, which needs no outcome")?;
        }
        if not_kept > 0 {
            writeln!(
                out,
                "{not_kept} events have no outcome and may be older than the outcomes that are kept: name a --from \
                 TIME within their retention to have them looked for"
            )?;
        }
        if self.counts.deleted_or_markers > 0 {
            writeln!(
                out,
                "{} offsets before the first events kept have no outcome: markers of transactions, aborted records, \
                 or events that were deleted before they were decided",
                self.counts.deleted_or_markers
            )?;
        }
        let RequestCounts { requests, not_kept, .. } = self.review;
        writeln!(out, "{requests} review requests")?;
        if not_kept > 0 {
            writeln!(
                out,
                "{not_kept} decisions ask for a review, and their requests may be older than those that are kept"
            )?;
        }
        writeln!(out, "{label_dead_letters} dead letters of labels, {} ledger records", self.ledger_records)?;
        for (kind, promise) in HOLDS {
            // An event that is gone undecided is a committed one without an outcome.
            let besides =
                if *kind == ViolationKind::Gap { self.violations.count(ViolationKind::Deleted) } else { 0 };
            if self.violations.count(*kind) + besides == 0 {
                writeln!(out, "holds   {promise}")?;
            }
        }
        for PredictorCheck { policy, holds, ledger_offset, rounds, published, .. } in &self.predictors {
            if *holds {
                writeln!(
                    out,
                    "holds   policy {policy}: the ledger up to offset {ledger_offset} folds to {published}, {rounds} rounds"
                )?;
            }
        }
        if self.predictors.is_empty() {
            writeln!(out, "no predictor is published yet: no fold to compare")?;
        }
        for (kind, found) in &self.violations.0 {
            writeln!(out, "BROKEN  {} {}", found.count, kind.title())?;
            for fault in &found.shown {
                writeln!(out, "        {fault}")?;
            }
            let more = found.count.saturating_sub(found.shown.len() as u64);
            if more > 0 {
                writeln!(out, "        and {more} more")?;
            }
        }
        Ok(())
    }
}
