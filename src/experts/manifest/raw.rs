//! The TOML tables of a manifest, before they are validated.

use serde::Deserialize;

use super::features::RawJoint;
use super::guard::RawPrompt;
use super::remote::{RawEndpoint, RawRequest};
use super::{Activation, Ask, Calibration, Kind, Label, Padding};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawFile {
    pub(super) file: String,
    pub(super) sha256: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawModel {
    pub(super) file: String,
    pub(super) sha256: String,
    #[serde(default)]
    pub(super) external_data: Vec<RawFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTokenizer {
    pub(super) file: String,
    pub(super) sha256: String,
    pub(super) max_tokens: usize,
    #[serde(default = "one")]
    pub(super) windows: usize,
    #[serde(default)]
    pub(super) drop_ids: Vec<u32>,
    #[serde(default)]
    pub(super) pad: Padding,
}

fn one() -> usize {
    1
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawText {
    pub(super) max_chars: usize,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawInputs {
    pub(super) ids: Option<String>,
    pub(super) mask: Option<String>,
    pub(super) types: Option<String>,
    pub(super) text: Option<String>,
    pub(super) embedding: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawOutputs {
    pub(super) embedding: Option<String>,
    pub(super) features: Option<String>,
    pub(super) features_rank: Option<u32>,
    pub(super) features_part: Option<String>,
    pub(super) scores: Option<String>,
    pub(super) activation: Option<Activation>,
    pub(super) read: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawManifest {
    pub(super) id: String,
    pub(super) kind: Kind,
    pub(super) description: String,
    pub(super) licence: String,
    pub(super) source: String,
    pub(super) encoder: Option<String>,
    #[serde(default)]
    pub(super) alone: bool,
    pub(super) view: Option<String>,
    pub(super) roles: Option<Vec<String>>,
    pub(super) languages: Option<Vec<String>>,
    pub(super) ask: Option<Ask>,
    #[serde(default)]
    pub(super) shadow: bool,
    pub(super) model: Option<RawModel>,
    pub(super) int8: Option<RawModel>,
    pub(super) rules: Option<RawFile>,
    pub(super) endpoint: Option<RawEndpoint>,
    pub(super) request: Option<RawRequest>,
    pub(super) base: Option<String>,
    pub(super) prompt: Option<RawPrompt>,
    pub(super) adapter: Option<RawFile>,
    #[serde(default)]
    pub(super) categories: bool,
    pub(super) tokenizer: Option<RawTokenizer>,
    pub(super) text: Option<RawText>,
    pub(super) inputs: Option<RawInputs>,
    pub(super) outputs: Option<RawOutputs>,
    pub(super) joint: Option<RawJoint>,
    #[serde(default)]
    pub(super) labels: Vec<Label>,
    pub(super) calibration: Option<Calibration>,
    #[serde(default)]
    pub(super) quality: toml::Table,
}
