//! The report of a verification, as text and as JSON.

use std::fmt;

use serde::Serialize;

use super::outcomes::Counts;
use super::refold::PredictorCheck;
use super::requests::RequestCounts;
use super::violations::{ViolationKind, Violations};
use crate::core::event::Millis;

/// The report of a verification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// `true` if there are no violations.
    pub holds: bool,
    /// The time from which on records were verified; `None` for all that the topics have.
    pub from: Option<Millis>,
    /// The counts of events and outcomes.
    pub counts: Counts,
    /// The counts of review requests.
    pub review: RequestCounts,
    /// The number of ledger records read.
    pub ledger_records: u64,
    /// The outcome for each policy's predictor.
    pub predictors: Vec<PredictorCheck>,
    /// The violations.
    #[serde(rename = "faults")]
    pub violations: Violations,
}

/// The guarantees about events, outcomes and review requests, and the kinds of their violations.
const GUARANTEES: &[(ViolationKind, &str)] = &[
    (ViolationKind::Gap, "every committed event has an outcome"),
    (ViolationKind::Duplicate, "none has two"),
    (ViolationKind::Order, "decisions are in their events' order"),
    (ViolationKind::Orphan, "every outcome has its event or label"),
    (ViolationKind::RequestGap, "every decision that asks for a review has its request"),
    (ViolationKind::RequestDuplicate, "none has two requests"),
    (ViolationKind::RequestOrphan, "every request names its decision"),
    (ViolationKind::Unreadable, "every record can be read"),
];

impl Report {
    fn write_counts(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { events, decisions, event_dead_letters, label_dead_letters, open, .. } = self.counts;
        writeln!(
            out,
            "{events} events: {decisions} decisions, {event_dead_letters} dead letters, {open} open"
        )?;
        let Counts { tombstones, not_kept, deleted_or_markers, .. } = self.counts;
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
        if deleted_or_markers > 0 {
            writeln!(
                out,
                "{deleted_or_markers} offsets before the first events kept have no outcome: markers of transactions, \
                 aborted records, or events that were deleted before they were decided"
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
        writeln!(out, "{label_dead_letters} dead letters of labels, {} ledger records", self.ledger_records)
    }

    fn write_guarantees(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (kind, guarantee) in GUARANTEES {
            // An event that was deleted undecided is a committed event without an outcome as well.
            let deleted =
                if *kind == ViolationKind::Gap { self.violations.count(ViolationKind::Deleted) } else { 0 };
            if self.violations.count(*kind) + deleted == 0 {
                writeln!(out, "holds   {guarantee}")?;
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
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_counts(out)?;
        self.write_guarantees(out)?;
        for (kind, found) in &self.violations.0 {
            writeln!(out, "BROKEN  {} {}", found.count, kind.title())?;
            for violation in &found.shown {
                writeln!(out, "        {violation}")?;
            }
            let more = found.count.saturating_sub(found.shown.len() as u64);
            if more > 0 {
                writeln!(out, "        and {more} more")?;
            }
        }
        Ok(())
    }
}
