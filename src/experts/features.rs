//! The features of a text: from one encoder, or from two encoders together.

use crate::core::features::{DIMENSIONS, Features};

/// The steps of a [`Part`] within one of a feature's.
const STEPS: i32 = 32;

/// An encoder's part of the features that two encoders give together.
pub(super) type Part = [i16; DIMENSIONS];

/// What one encoder knows about a text's features.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct EncoderFeatures {
    /// The features as far as this encoder can tell alone. `None` for the partner of another encoder.
    pub(crate) alone: Option<Box<Features>>,
    /// Its part of the features that it gives together with another encoder.
    pub(crate) part: Option<Box<Part>>,
}

impl EncoderFeatures {
    /// The bytes that it holds.
    pub(super) fn size(&self) -> usize {
        self.alone.as_deref().map_or(0, size_of_val) + self.part.as_deref().map_or(0, size_of_val)
    }
}

/// The features of a text, while its encoders are outstanding.
#[derive(Debug, Default)]
pub(super) struct PartialFeatures {
    leader: EncoderFeatures,
    partner: Option<Box<Part>>,
}

impl PartialFeatures {
    /// Adds what one of the encoders knows.
    pub(super) fn add(&mut self, found: &EncoderFeatures) {
        if found.alone.is_some() {
            self.leader.clone_from(found);
        } else {
            self.partner.clone_from(&found.part);
        }
    }

    /// The features: the sum of both parts, or what the leader can tell alone. `None` without the leader.
    pub(super) fn finish(self) -> Option<Box<Features>> {
        match (self.leader.part, self.partner) {
            (Some(leader), Some(partner)) => Some(Box::new(sum(&leader, &partner))),
            _ => self.leader.alone,
        }
    }
}

/// The sum of two parts in the steps of features, rounded half away from zero.
fn sum(leader: &Part, partner: &Part) -> Features {
    std::array::from_fn(|place| {
        let sum = i32::from(leader[place]) + i32::from(partner[place]);
        let rounded = (sum + sum.signum() * STEPS / 2) / STEPS;
        let most = i32::from(i8::MAX);
        i8::try_from(rounded.clamp(-most, most)).expect("it is clamped to a signed byte")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leader() -> EncoderFeatures {
        EncoderFeatures { alone: Some(Box::new([7; DIMENSIONS])), part: Some(Box::new([320; DIMENSIONS])) }
    }

    fn partner(part: i16) -> EncoderFeatures {
        EncoderFeatures { alone: None, part: Some(Box::new([part; DIMENSIONS])) }
    }

    fn found(encoders: &[EncoderFeatures]) -> Option<i8> {
        let mut features = PartialFeatures::default();
        encoders.iter().for_each(|encoder| features.add(encoder));
        let features = features.finish()?;
        assert!(features.iter().all(|feature| *feature == features[0]));
        Some(features[0])
    }

    #[test]
    fn both_parts_are_summed_in_any_order() {
        assert_eq!(found(&[leader(), partner(32)]), Some(11));
        assert_eq!(found(&[partner(32), leader()]), Some(11));
        assert_eq!(
            found(&[leader(), leader(), partner(32), partner(32)]),
            Some(11),
            "a result may come twice"
        );
    }

    #[test]
    fn the_leader_tells_alone_what_it_can() {
        assert_eq!(found(&[leader()]), Some(7));
        let without_part = EncoderFeatures { part: None, ..leader() };
        assert_eq!(found(&[without_part]), Some(7));
        assert_eq!(found(&[partner(32)]), None, "a part means nothing alone");
        assert_eq!(found(&[]), None);
    }

    #[test]
    fn a_sum_is_rounded_and_kept_within_a_byte() {
        let summed = |part| found(&[leader(), partner(part)]).unwrap();
        assert_eq!([summed(15), summed(16), summed(17)], [10, 11, 11]);
        assert_eq!([summed(-320 - 15), summed(-320 - 16), summed(-320)], [0, -1, 0]);
        assert_eq!([summed(i16::MAX), summed(i16::MIN)], [127, -127]);
    }

    #[test]
    fn the_size_counts_what_is_there() {
        assert_eq!(leader().size(), 3 * DIMENSIONS);
        assert_eq!(partner(0).size(), 2 * DIMENSIONS);
        assert_eq!(EncoderFeatures::default().size(), 0);
    }
}
