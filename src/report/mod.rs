//! The report: how many events are unsafe, and how many of these are caught, estimated from reviews.
//!
//! [`Collector`] takes labels and decisions, from topics or from files, and makes a [`Report`] of them. Labels count if they
//! answer a review request, with the probability with which the request was made; labels without a request have no known
//! probability, and are only counted. The estimators are core's.

mod collect;
mod estimates;
mod experts;
mod figures;
mod files;
mod groups;
mod headline;
mod keys;
mod labels;
mod page;
mod positions;
mod preview;
mod shares;
mod tally;
#[cfg(test)]
mod tests;
mod watch;

pub use collect::{Collector, Settings};
pub use figures::{
    Change, Changed, Counts, ExpertPeriod, ExpertReport, FORMAT, Figure, Figures, Group, Outside, Point,
    PolicyReport, PreviewReport, Report, share,
};
pub use files::{FileError, add_decisions, add_labels};
pub use groups::Dimension;
pub use page::page;
pub use positions::beginning;
pub use preview::Changes;
pub use shares::{interval, percent};
pub use watch::Watch;
