//! The samplings of `--labels`: the labels for which people would have been asked.

use std::collections::HashSet;
use std::str::FromStr;

use crate::core::draw::Draws;

/// The form of a sampling, for errors.
const FORM: &str = "write for example audit=0.01,margin=0.1, margin=0.05,slope=0.1, or random=0.05";

/// A sampling of labels.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct LabelSampling {
    /// The probability of the audit draw.
    pub(super) audit: f64,
    /// The probability of a second flat draw, which is independent of the first.
    pub(super) random: f64,
    /// The distance of p from the threshold below which a label is certain to be asked for.
    pub(super) margin: f64,
    /// The width beyond the margin over which the probability falls from 1 to 0, linearly.
    pub(super) slope: f64,
}

impl FromStr for LabelSampling {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut sampling = Self::default();
        let mut given = HashSet::new();
        for part in text.split(',') {
            let Some((name, number)) = part.split_once('=') else {
                return Err(format!("{part:?} has no number: {FORM}"));
            };
            let name = name.trim();
            let field = match name {
                "audit" => &mut sampling.audit,
                "random" => &mut sampling.random,
                "margin" => &mut sampling.margin,
                "slope" => &mut sampling.slope,
                _ => {
                    let known = "audit, random, margin and slope";
                    return Err(format!("there is no sampling {name:?}, only {known}: {FORM}"));
                }
            };
            if !given.insert(name) {
                return Err(format!("{name} is there twice: write it once"));
            }
            let number = number.trim().parse().ok().filter(|number| (0.0..=1.0).contains(number));
            *field = number.ok_or_else(|| format!("{part:?} is not a number from 0 to 1: {FORM}"))?;
        }
        if sampling == Self::default() {
            return Err(format!("nothing would be asked for, because all numbers are 0: {FORM}"));
        }
        Ok(sampling)
    }
}

/// The outcome of the draws for one event.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) audit: bool,
    pub(super) random: bool,
    pub(super) margin: bool,
    /// The probability that one of the flat draws comes up.
    pub(super) flat: f64,
    /// The probability of the draw near the threshold.
    pub(super) uncertainty: f64,
    /// The probability with which a label of such an event is asked for.
    pub(super) inclusion: f64,
}

impl Asked {
    /// A label was asked for whatever the event is.
    pub(super) const ALWAYS: Self =
        Self { audit: true, random: false, margin: false, flat: 1.0, uncertainty: 0.0, inclusion: 1.0 };
    /// No label could be asked for.
    pub(super) const NEVER: Self =
        Self { audit: false, random: false, margin: false, flat: 0.0, uncertainty: 0.0, inclusion: 0.0 };

    pub(super) fn any(self) -> bool {
        self.audit || self.random || self.margin
    }
}

impl LabelSampling {
    /// The probability of the draw near the threshold, as score computes it.
    fn uncertainty(&self, distance: f64) -> f64 {
        if distance < self.margin {
            return 1.0;
        }
        if self.slope > 0.0 { (1.0 - (distance - self.margin) / self.slope).clamp(0.0, 1.0) } else { 0.0 }
    }

    /// Draws for an event whose p is this far from the threshold. `None` if there is no p.
    pub(super) fn draw(&self, draws: &Draws, tenant: &str, event: &str, distance: Option<f64>) -> Asked {
        // The keys of audit and uncertainty are those of score.
        let drawn = |probability: f64, purpose: &str| {
            probability > 0.0 && draws.uniform(event, "", &format!("{purpose} {tenant}")) < probability
        };
        let uncertainty = distance.map_or(0.0, |distance| self.uncertainty(distance));
        let either = |one: f64, other: f64| one + other - one * other;
        let flat = either(self.audit, self.random);
        Asked {
            audit: drawn(self.audit, "audit"),
            random: drawn(self.random, "random"),
            margin: drawn(uncertainty, "uncertainty"),
            flat,
            uncertainty,
            inclusion: either(flat, uncertainty).min(1.0),
        }
    }
}
