//! Checks that what a manifest says holds together, table by table.

use std::path::Path;

use super::is_plain_file;
use super::raw::{Raw, RawFile, RawInputs, RawModel, RawOutputs, RawText, RawTokenizer};
use crate::experts::error::PanelError;
use crate::experts::manifest::{
    Artefact, Body, Calibration, GraphFiles, Intake, Kind, Label, Reading, Scores,
};

/// Greatest number of labels of one expert.
const MAX_LABELS: usize = 256;
/// Greatest number of files of external data.
const MAX_EXTERNAL: usize = 1_024;
/// Greatest `max_tokens`.
const MAX_TOKENS: usize = 8_192;
/// Greatest `windows`.
const MAX_WINDOWS: usize = 64;
/// Greatest `max_chars`.
const MAX_CHARS: usize = 65_536;

/// Where a complaint belongs.
pub(super) struct Place<'a> {
    pub(super) path: &'a Path,
}

impl Place<'_> {
    pub(super) fn refuse(
        &self,
        field: &str,
        problem: impl Into<String>,
        mend: impl Into<String>,
    ) -> PanelError {
        PanelError::Manifest {
            path: self.path.to_owned(),
            field: field.to_owned(),
            problem: problem.into(),
            mend: mend.into(),
        }
    }

    fn need<T>(&self, value: Option<T>, field: &str, kind: Kind) -> Result<T, PanelError> {
        value.ok_or_else(|| self.refuse(field, "is missing", format!("kind = \"{}\" needs it", kind.word())))
    }

    fn without(&self, present: bool, field: &str, kind: Kind) -> Result<(), PanelError> {
        if present {
            return Err(self.refuse(
                field,
                format!("means nothing for kind = \"{}\"", kind.word()),
                "remove it",
            ));
        }
        Ok(())
    }

    fn artefact(&self, file: &str, sha256: &str, table: &'static str) -> Result<Artefact, PanelError> {
        if !is_plain_file(file) {
            return Err(self.refuse(
                &format!("{table}.file"),
                "is not a plain file name",
                "put the file in this folder",
            ));
        }
        let Some(sha256) = parse_hex(sha256) else {
            return Err(self.refuse(
                &format!("{table}.sha256"),
                "is not a SHA-256 in 64 hexadecimal digits",
                "give the output of sha256sum",
            ));
        };
        Ok(Artefact { path: self.path.with_file_name(file), sha256, table })
    }

    fn graph(&self, model: Option<RawModel>, kind: Kind) -> Result<GraphFiles, PanelError> {
        let model = self.need(model, "model", kind)?;
        if model.external_data.len() > MAX_EXTERNAL {
            return Err(self.refuse(
                "model.external_data",
                "lists too many files",
                format!("save the graph with its weights in at most {MAX_EXTERNAL} files"),
            ));
        }
        let mut external: Vec<Artefact> = Vec::new();
        for RawFile { file, sha256 } in &model.external_data {
            let artefact = self.artefact(file, sha256, "model.external_data")?;
            if external.iter().any(|known| known.path == artefact.path) {
                return Err(self.refuse(
                    "model.external_data.file",
                    "is listed twice",
                    "remove one of the two",
                ));
            }
            external.push(artefact);
        }
        Ok(GraphFiles { file: self.artefact(&model.file, &model.sha256, "model")?, external })
    }

    fn reading(
        &self,
        raw: Option<RawTokenizer>,
        inputs: RawInputs,
        kind: Kind,
    ) -> Result<Reading, PanelError> {
        let raw = self.need(raw, "tokenizer", kind)?;
        self.without(inputs.embedding.is_some(), "inputs.embedding", kind)?;
        self.without(inputs.text.is_some(), "inputs.text", kind)?;
        if !(1..=MAX_TOKENS).contains(&raw.max_tokens) {
            return Err(self.refuse(
                "tokenizer.max_tokens",
                "is out of range",
                format!("give 1 to {MAX_TOKENS}"),
            ));
        }
        if !(1..=MAX_WINDOWS).contains(&raw.windows) {
            return Err(self.refuse(
                "tokenizer.windows",
                "is out of range",
                format!("give 1 to {MAX_WINDOWS}"),
            ));
        }
        if let Some(to) = raw.pad.to
            && !(raw.max_tokens..=MAX_TOKENS).contains(&to)
        {
            return Err(self.refuse(
                "tokenizer.pad.to",
                "is shorter than max_tokens, or out of range",
                format!("give {} to {MAX_TOKENS}, or lower max_tokens", raw.max_tokens),
            ));
        }
        Ok(Reading {
            tokenizer: self.artefact(&raw.file, &raw.sha256, "tokenizer")?,
            max_tokens: raw.max_tokens,
            windows: raw.windows,
            drop_ids: raw.drop_ids,
            padding: raw.pad,
            ids: self.need(inputs.ids, "inputs.ids", kind)?,
            mask: inputs.mask,
            types: inputs.types,
        })
    }

    /// A classifier's input: strings where the manifest names one for them, token ids else.
    fn intake(
        &self,
        tokenizer: Option<RawTokenizer>,
        text: Option<RawText>,
        inputs: RawInputs,
    ) -> Result<Intake, PanelError> {
        let kind = Kind::Classifier;
        let Some(input) = inputs.text else {
            if text.is_some() {
                return Err(self.refuse(
                    "text",
                    "is for graphs that read strings",
                    "name that input as inputs.text, or remove it",
                ));
            }
            return Ok(Intake::Tokens(self.reading(tokenizer, inputs, kind)?));
        };
        let both = |field| self.refuse(field, "means nothing beside inputs.text", "remove one of the two");
        let RawInputs { ids, mask, types, embedding, .. } = inputs;
        self.without(embedding.is_some(), "inputs.embedding", kind)?;
        let others = [("tokenizer", tokenizer.is_some()), ("inputs.ids", ids.is_some())];
        let masks = [("inputs.mask", mask.is_some()), ("inputs.types", types.is_some())];
        if let Some((field, _)) = others.into_iter().chain(masks).find(|(_, present)| *present) {
            return Err(both(field));
        }
        let max_chars = self.need(text, "text.max_chars", kind)?.max_chars;
        if !(1..=MAX_CHARS).contains(&max_chars) {
            return Err(self.refuse("text.max_chars", "is out of range", format!("give 1 to {MAX_CHARS}")));
        }
        Ok(Intake::Text { input, max_chars })
    }

    fn scores(
        &self,
        outputs: RawOutputs,
        labels: Vec<Label>,
        calibration: Option<Calibration>,
        kind: Kind,
    ) -> Result<Scores, PanelError> {
        self.without(outputs.embedding.is_some(), "outputs.embedding", kind)?;
        self.without(outputs.features.is_some(), "outputs.features", kind)?;
        let output = self.need(outputs.scores, "outputs.scores", kind)?;
        if labels.is_empty() || labels.len() > MAX_LABELS {
            return Err(self.refuse(
                "labels",
                "there are none or too many",
                format!("give 1 to {MAX_LABELS}"),
            ));
        }
        if !labels.iter().any(|label| label.harmful) {
            return Err(self.refuse(
                "labels",
                "none has unsafe = true",
                "mark those whose score is a harm's",
            ));
        }
        if calibration.is_some_and(|c| !c.a.is_finite() || !c.b.is_finite() || c.a <= 0.0) {
            return Err(self.refuse(
                "calibration",
                "a or b is not usable",
                "give a finite b and a finite a above 0",
            ));
        }
        Ok(Scores { output, activation: outputs.activation, read: outputs.read, labels, calibration })
    }

    pub(super) fn body(&self, raw: Raw) -> Result<Body, PanelError> {
        let kind = raw.kind;
        let voteless = matches!(kind, Kind::Encoder | Kind::Rules);
        self.without(voteless && !raw.labels.is_empty(), "labels", kind)?;
        self.without(voteless && raw.calibration.is_some(), "calibration", kind)?;
        self.without(kind != Kind::Head && raw.encoder.is_some(), "encoder", kind)?;
        self.without(!matches!(kind, Kind::Encoder | Kind::Classifier) && raw.alone, "alone", kind)?;
        self.without(kind != Kind::Classifier && raw.text.is_some(), "text", kind)?;
        self.without(kind != Kind::Rules && raw.rules.is_some(), "rules", kind)?;
        if kind == Kind::Rules {
            self.without(raw.model.is_some(), "model", kind)?;
            self.without(raw.tokenizer.is_some(), "tokenizer", kind)?;
            self.without(raw.inputs.is_some(), "inputs", kind)?;
            self.without(raw.outputs.is_some(), "outputs", kind)?;
        }
        let inputs = raw.inputs.unwrap_or_default();
        let outputs = raw.outputs.unwrap_or_default();
        self.without(kind != Kind::Classifier && outputs.read.is_some(), "outputs.read", kind)?;
        Ok(match kind {
            Kind::Encoder => {
                self.without(outputs.scores.is_some(), "outputs.scores", kind)?;
                self.without(outputs.activation.is_some(), "outputs.activation", kind)?;
                Body::Encoder {
                    graph: self.graph(raw.model, kind)?,
                    reading: self.reading(raw.tokenizer, inputs, kind)?,
                    embedding: self.need(outputs.embedding, "outputs.embedding", kind)?,
                    features: outputs.features,
                }
            }
            Kind::Head => {
                self.without(raw.tokenizer.is_some(), "tokenizer", kind)?;
                self.without(inputs.ids.is_some(), "inputs.ids", kind)?;
                self.without(inputs.mask.is_some(), "inputs.mask", kind)?;
                self.without(inputs.types.is_some(), "inputs.types", kind)?;
                self.without(inputs.text.is_some(), "inputs.text", kind)?;
                Body::Head {
                    graph: self.graph(raw.model, kind)?,
                    encoder: self.need(raw.encoder, "encoder", kind)?,
                    embedding: self.need(inputs.embedding, "inputs.embedding", kind)?,
                    scores: self.scores(outputs, raw.labels, raw.calibration, kind)?,
                }
            }
            Kind::Classifier => Body::Classifier {
                graph: self.graph(raw.model, kind)?,
                intake: self.intake(raw.tokenizer, raw.text, inputs)?,
                scores: self.scores(outputs, raw.labels, raw.calibration, kind)?,
            },
            Kind::Rules => {
                let file = self.need(raw.rules, "rules", kind)?;
                Body::Rules { file: self.artefact(&file.file, &file.sha256, "rules")? }
            }
        })
    }
}

fn parse_hex(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(bytes)
}
