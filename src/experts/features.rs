//! The features of a text: computed by one encoder, or by two encoders together.
//!
//! Of two encoders, the *leader* reads more languages. For a text that its *partner* reads too, the features are the sum of
//! both parts. For any other text they are the leader's alone. Which of the two holds depends on the text only, so a partner
//! that fails leaves a text without features.

use crate::core::features::{DIMENSIONS, Features};

/// The number of steps of a part in one step of a feature.
const STEPS: i32 = 32;

/// The part of one encoder in the features that two encoders compute together.
pub(super) type Part = [i16; DIMENSIONS];

/// The features that one encoder computed for a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EncoderFeatures {
    /// Those of the leader, or of the only encoder.
    Leader {
        /// The features if no partner reads the text.
        alone: Box<Features>,
        /// The part, if there is a partner.
        part: Option<Box<Part>>,
    },
    /// The part of the partner.
    Partner(Box<Part>),
}

impl EncoderFeatures {
    /// Their size in bytes.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Leader { alone, part } => {
                size_of_val(alone.as_ref()) + part.as_deref().map_or(0, size_of_val)
            }
            Self::Partner(part) => size_of_val(part.as_ref()),
        }
    }
}

/// The features of a text, while its encoders are outstanding.
#[derive(Debug, Default)]
pub(super) struct PartialFeatures {
    /// The partner reads the text.
    is_joint: bool,
    alone: Option<Box<Features>>,
    parts: [Option<Box<Part>>; 2],
}

impl PartialFeatures {
    /// The partner reads the text, so that the features need its part.
    pub(super) fn expect_partner(&mut self) {
        self.is_joint = true;
    }

    /// Adds the result of one of the encoders.
    pub(super) fn add(&mut self, found: &EncoderFeatures) {
        match found.clone() {
            EncoderFeatures::Leader { alone, part } => {
                (self.alone, self.parts[0]) = (Some(alone), part);
            }
            EncoderFeatures::Partner(part) => self.parts[1] = Some(part),
        }
    }

    /// Returns the features; `None` if an encoder that they need gave no result.
    pub(super) fn finish(self) -> Option<Box<Features>> {
        if !self.is_joint {
            return self.alone;
        }
        let [leader, partner] = self.parts;
        Some(Box::new(sum(&*leader?, &*partner?)))
    }
}

/// Returns the sum of two parts as features, rounded half away from zero.
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
        let part = Some(Box::new([320; DIMENSIONS]));
        EncoderFeatures::Leader { alone: Box::new([7; DIMENSIONS]), part }
    }

    fn partner(part: i16) -> EncoderFeatures {
        EncoderFeatures::Partner(Box::new([part; DIMENSIONS]))
    }

    fn found(is_joint: bool, encoders: &[EncoderFeatures]) -> Option<i8> {
        let mut features = PartialFeatures::default();
        if is_joint {
            features.expect_partner();
        }
        encoders.iter().for_each(|encoder| features.add(encoder));
        let features = features.finish()?;
        assert!(features.iter().all(|feature| *feature == features[0]));
        Some(features[0])
    }

    #[test]
    fn both_parts_are_summed_in_any_order() {
        assert_eq!(found(true, &[leader(), partner(32)]), Some(11));
        assert_eq!(found(true, &[partner(32), leader()]), Some(11));
        let twice = [leader(), leader(), partner(32), partner(32)];
        assert_eq!(found(true, &twice), Some(11), "a result may come twice");
    }

    #[test]
    fn a_text_that_the_partner_does_not_read_has_the_leaders_features() {
        assert_eq!(found(false, &[leader()]), Some(7));
        let single = EncoderFeatures::Leader { alone: Box::new([7; DIMENSIONS]), part: None };
        assert_eq!(found(false, &[single]), Some(7));
    }

    #[test]
    fn a_missing_encoder_leaves_no_features() {
        assert_eq!(found(true, &[leader()]), None);
        assert_eq!(found(true, &[partner(32)]), None);
        assert_eq!(found(true, &[]), None);
        assert_eq!(found(false, &[]), None);
    }

    #[test]
    fn a_sum_is_rounded_and_kept_within_a_byte() {
        let summed = |part| found(true, &[leader(), partner(part)]).unwrap();
        assert_eq!([summed(15), summed(16), summed(17)], [10, 11, 11]);
        assert_eq!([summed(-320 - 15), summed(-320 - 16), summed(-320)], [0, -1, 0]);
        assert_eq!([summed(i16::MAX), summed(i16::MIN)], [127, -127]);
    }

    #[test]
    fn the_size_is_that_of_the_numbers() {
        assert_eq!(leader().size(), 3 * DIMENSIONS);
        assert_eq!(partner(0).size(), 2 * DIMENSIONS);
    }
}
