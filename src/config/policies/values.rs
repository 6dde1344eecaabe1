//! Checks of single values in a policy: each returns the value, or the values that its key accepts.

use std::collections::BTreeSet;

use crate::core::label::Source;

/// The least rate of audits. With a lower one, the weight of a label would not be a useful number.
const LEAST_AUDIT_RATE: f64 = 1e-9;

/// A key with a refused value, and the values that it accepts.
pub(super) type InvalidValue = (&'static str, String);

/// Returns the one of `all` whose name is `given`.
pub(super) fn one_of<T: Copy>(
    field: &'static str,
    given: &str,
    all: &[T],
    word: impl Fn(T) -> &'static str,
) -> Result<T, InvalidValue> {
    all.iter().copied().find(|one| word(*one) == given).ok_or_else(|| {
        let words: Vec<_> = all.iter().map(|one| word(*one)).collect();
        (field, format!("is one of {}", words.join(", ")))
    })
}

/// Checks a number from 0 to 1.
pub(super) fn share(field: &'static str, given: f64) -> Result<f64, InvalidValue> {
    if (0.0..=1.0).contains(&given) { Ok(given) } else { Err((field, "lies between 0 and 1".into())) }
}

/// Checks a rate of audits.
pub(super) fn audit_share(field: &'static str, given: f64) -> Result<f64, InvalidValue> {
    if given > 0.0 && given < LEAST_AUDIT_RATE {
        let reason = format!(
            "is below {LEAST_AUDIT_RATE}, so that no event would be audited: write 0, or a greater rate"
        );
        return Err((field, reason));
    }
    share(field, given)
}

/// Returns the sources that teach. Calibration labels never do: they repeat the gold labels of their events.
pub(super) fn teaching(given: &[String]) -> Result<BTreeSet<Source>, InvalidValue> {
    let taught = [Source::Review, Source::Report, Source::Appeal, Source::Gold];
    if given.iter().any(|name| name == Source::Calibration.word()) {
        let reason = "contains calibration: these labels measure reviewers and never teach; remove it".into();
        return Err(("teaches", reason));
    }
    given.iter().map(|name| one_of("teaches", name, &taught, Source::word)).collect()
}

/// Checks the cap on the labels of one annotator.
pub(super) fn annotator_share(given: f64) -> Result<f64, InvalidValue> {
    if given > 0.0 && given <= 1.0 {
        return Ok(given);
    }
    Err(("max_annotator_share", "is above 0 and at most 1: write for example 0.2, or 1 for no cap".into()))
}

/// Checks a cost, which is above 0.
pub(super) fn cost(field: &'static str, given: f64) -> Result<f64, InvalidValue> {
    if given.is_finite() && given > 0.0 { Ok(given) } else { Err((field, "is a number above 0".into())) }
}
