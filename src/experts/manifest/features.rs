//! The features of an encoder: which outputs of its graph hold them, and with which other encoder it gives them together.

use serde::Deserialize;

use super::raw::RawOutputs;
use super::validate::Validator;
use super::{Kind, Languages};
use crate::experts::error::PanelError;

/// The outputs of an encoder's graph that hold features.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct FeatureOutputs {
    /// The features computed by this encoder alone.
    pub(crate) alone: Option<String>,
    /// Its part in features that two encoders compute together.
    pub(crate) part: Option<String>,
}

impl FeatureOutputs {
    /// Returns `true` if there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.alone.is_none() && self.part.is_none()
    }

    /// The outputs' names.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.alone.iter().chain(&self.part).map(String::as_str).collect()
    }
}

/// The encoder with which another one computes the features together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joint {
    /// The partner's id.
    pub encoder: String,
    /// The languages that the partner reads, of those that the leader reads.
    pub languages: Languages,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawJoint {
    encoder: String,
    languages: Vec<String>,
}

impl Validator<'_> {
    /// The feature outputs of an encoder with its rank and its partner.
    pub(super) fn features(
        &self,
        outputs: &mut RawOutputs,
        joint: Option<RawJoint>,
    ) -> Result<(FeatureOutputs, u32, Option<Joint>), PanelError> {
        let found = FeatureOutputs { alone: outputs.features.take(), part: outputs.features_part.take() };
        if outputs.features_rank.is_some() && found.alone.is_none() {
            let problem = "means nothing without outputs.features";
            return Err(self.error("outputs.features_rank", problem, "name that output, or remove it"));
        }
        let joint = joint.map(|joint| self.joint(joint, &found)).transpose()?;
        Ok((found, outputs.features_rank.unwrap_or(0), joint))
    }

    fn joint(&self, raw: RawJoint, outputs: &FeatureOutputs) -> Result<Joint, PanelError> {
        if outputs.alone.is_none() || outputs.part.is_none() {
            let problem = "means nothing without outputs.features and outputs.features_part";
            return Err(self.error("joint", problem, "name both outputs, or remove it"));
        }
        Ok(Joint {
            encoder: raw.encoder,
            languages: self.language_codes("joint.languages", &raw.languages, "remove the table")?,
        })
    }

    /// Refuses the outputs of features in the manifest of an expert that votes.
    pub(super) fn forbid_features(&self, outputs: &RawOutputs, kind: Kind) -> Result<(), PanelError> {
        self.forbid(outputs.features.is_some(), "outputs.features", kind)?;
        self.forbid(outputs.features_rank.is_some(), "outputs.features_rank", kind)?;
        self.forbid(outputs.features_part.is_some(), "outputs.features_part", kind)
    }
}
