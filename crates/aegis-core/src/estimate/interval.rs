//! Confidence intervals that hold at small counts.
