//! Checks that the tables of a manifest agree with each other and with its kind.

use std::path::Path;

use super::raw::{RawFile, RawInputs, RawManifest, RawModel, RawOutputs, RawText, RawTokenizer};
use super::{
    Ask, Body, Calibration, GraphFiles, HashedFile, Kind, Label, Languages, Precision, Scores, TextInput,
    TokenizerSpec, View, is_plain_file,
};
use crate::core::event::Role;
use crate::core::language::Language;
use crate::experts::error::PanelError;

/// The greatest number of labels of one expert.
const MAX_LABELS: usize = 256;
/// The greatest number of files of external data.
const MAX_EXTERNAL_FILES: usize = 1_024;
/// The greatest `max_tokens`.
pub(super) const MAX_TOKENS: usize = 8_192;
/// The greatest `windows`.
const MAX_WINDOWS: usize = 64;
/// The greatest `max_chars`.
const MAX_CHARS: usize = 65_536;

/// Validates the manifest at `path`.
pub(super) struct Validator<'a> {
    pub(super) path: &'a Path,
}

impl Validator<'_> {
    pub(super) fn error(
        &self,
        field: &str,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> PanelError {
        PanelError::Manifest {
            path: self.path.to_owned(),
            field: field.to_owned(),
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }

    pub(super) fn check_range(&self, field: &str, value: usize, greatest: usize) -> Result<(), PanelError> {
        if (1..=greatest).contains(&value) {
            return Ok(());
        }
        Err(self.error(field, "is out of range", format!("give 1 to {greatest}")))
    }

    /// Returns the value of a field that this kind requires.
    pub(super) fn require<T>(&self, value: Option<T>, field: &str, kind: Kind) -> Result<T, PanelError> {
        value.ok_or_else(|| self.error(field, "is missing", format!("kind = \"{}\" needs it", kind.word())))
    }

    /// Refuses a field that has no meaning for this kind.
    pub(super) fn forbid(&self, present: bool, field: &str, kind: Kind) -> Result<(), PanelError> {
        if present {
            let problem = format!("means nothing for kind = \"{}\"", kind.word());
            return Err(self.error(field, problem, "remove it"));
        }
        Ok(())
    }

    pub(super) fn hashed_file(
        &self,
        file: &str,
        sha256: &str,
        table: &'static str,
    ) -> Result<HashedFile, PanelError> {
        if !is_plain_file(file) {
            let field = format!("{table}.file");
            return Err(self.error(&field, "is not a plain file name", "put the file in this folder"));
        }
        let Some(sha256) = parse_hex(sha256) else {
            let (field, problem) = (format!("{table}.sha256"), "is not a SHA-256 in 64 hexadecimal digits");
            return Err(self.error(&field, problem, "give the output of sha256sum"));
        };
        Ok(HashedFile { path: self.path.with_file_name(file), sha256, table })
    }

    pub(super) fn graph(&self, model: Option<RawModel>, kind: Kind) -> Result<GraphFiles, PanelError> {
        self.graph_files(self.require(model, "model", kind)?, "model")
    }

    /// The graph that a table describes, which is `model` or `int8`.
    fn graph_files(&self, model: RawModel, table: &'static str) -> Result<GraphFiles, PanelError> {
        if model.external_data.len() > MAX_EXTERNAL_FILES {
            let remedy = format!("save the graph with its weights in at most {MAX_EXTERNAL_FILES} files");
            return Err(self.error("model.external_data", "lists too many files", remedy));
        }
        let mut external: Vec<HashedFile> = Vec::new();
        for RawFile { file, sha256 } in &model.external_data {
            let file = self.hashed_file(file, sha256, "model.external_data")?;
            if external.iter().any(|known| known.path == file.path) {
                let field = "model.external_data.file";
                return Err(self.error(field, "is listed twice", "remove one of the two"));
            }
            external.push(file);
        }
        Ok(GraphFiles { file: self.hashed_file(&model.file, &model.sha256, table)?, external })
    }

    /// The graph of an encoder with integer arithmetic, if there is one. Its weights are in the file itself.
    fn int8(&self, model: Option<RawModel>) -> Result<Option<GraphFiles>, PanelError> {
        let Some(model) = model else { return Ok(None) };
        if !model.external_data.is_empty() {
            let remedy = "save the graph with its weights in one file";
            return Err(self.error("int8.external_data", "means nothing there", remedy));
        }
        self.graph_files(model, "int8").map(Some)
    }

    fn tokenizer(
        &self,
        raw: Option<RawTokenizer>,
        inputs: RawInputs,
        kind: Kind,
    ) -> Result<TokenizerSpec, PanelError> {
        let raw = self.require(raw, "tokenizer", kind)?;
        self.forbid(inputs.embedding.is_some(), "inputs.embedding", kind)?;
        self.forbid(inputs.text.is_some(), "inputs.text", kind)?;
        self.check_range("tokenizer.max_tokens", raw.max_tokens, MAX_TOKENS)?;
        self.check_range("tokenizer.windows", raw.windows, MAX_WINDOWS)?;
        if let Some(to) = raw.pad.to
            && !(raw.max_tokens..=MAX_TOKENS).contains(&to)
        {
            let problem = "is shorter than max_tokens, or out of range";
            let remedy = format!("give {} to {MAX_TOKENS}, or lower max_tokens", raw.max_tokens);
            return Err(self.error("tokenizer.pad.to", problem, remedy));
        }
        Ok(TokenizerSpec {
            file: self.hashed_file(&raw.file, &raw.sha256, "tokenizer")?,
            max_tokens: raw.max_tokens,
            windows: raw.windows,
            drop_ids: raw.drop_ids,
            padding: raw.pad,
            ids: self.require(inputs.ids, "inputs.ids", kind)?,
            mask: inputs.mask,
            types: inputs.types,
        })
    }

    /// A classifier's input: strings if the manifest names an input for them, else token ids.
    fn text_input(
        &self,
        tokenizer: Option<RawTokenizer>,
        text: Option<RawText>,
        inputs: RawInputs,
    ) -> Result<TextInput, PanelError> {
        let kind = Kind::Classifier;
        let Some(input) = inputs.text else {
            if text.is_some() {
                let remedy = "name that input as inputs.text, or remove it";
                return Err(self.error("text", "is for graphs that read strings", remedy));
            }
            return Ok(TextInput::Tokens(self.tokenizer(tokenizer, inputs, kind)?));
        };
        let RawInputs { ids, mask, types, embedding, .. } = inputs;
        self.forbid(embedding.is_some(), "inputs.embedding", kind)?;
        let others = [("tokenizer", tokenizer.is_some()), ("inputs.ids", ids.is_some())];
        let masks = [("inputs.mask", mask.is_some()), ("inputs.types", types.is_some())];
        if let Some((field, _)) = others.into_iter().chain(masks).find(|(_, present)| *present) {
            return Err(self.error(field, "means nothing beside inputs.text", "remove one of the two"));
        }
        let max_chars = self.require(text, "text.max_chars", kind)?.max_chars;
        self.check_range("text.max_chars", max_chars, MAX_CHARS)?;
        Ok(TextInput::Text { input, max_chars })
    }

    fn scores(
        &self,
        outputs: RawOutputs,
        labels: Vec<Label>,
        calibration: Option<Calibration>,
        kind: Kind,
    ) -> Result<Scores, PanelError> {
        self.forbid(outputs.embedding.is_some(), "outputs.embedding", kind)?;
        self.forbid_features(&outputs, kind)?;
        let output = self.require(outputs.scores, "outputs.scores", kind)?;
        let scores = self.labels(labels, calibration, &output)?;
        Ok(Scores { activation: outputs.activation, read: outputs.read, ..scores })
    }

    /// The meaning of an output with these labels.
    pub(super) fn labels(
        &self,
        labels: Vec<Label>,
        calibration: Option<Calibration>,
        output: &str,
    ) -> Result<Scores, PanelError> {
        if labels.is_empty() || labels.len() > MAX_LABELS {
            let remedy = format!("give 1 to {MAX_LABELS}");
            return Err(self.error("labels", "there are none or too many", remedy));
        }
        if !labels.iter().any(|label| label.harmful) {
            return Err(self.error("labels", "none has unsafe = true", "mark those whose score is a harm's"));
        }
        if calibration.is_some_and(|c| !c.a.is_finite() || !c.b.is_finite() || c.a <= 0.0) {
            let remedy = "give a finite b and a finite a above 0";
            return Err(self.error("calibration", "a or b is not usable", remedy));
        }
        Ok(Scores { output: output.to_owned(), activation: None, read: None, labels, calibration })
    }

    /// The part of a conversation that the expert reads.
    pub(super) fn view(&self, raw: &RawManifest) -> Result<View, PanelError> {
        let reads_history = matches!(raw.kind, Kind::Head | Kind::Classifier | Kind::Guard | Kind::Remote);
        self.forbid(!reads_history && raw.view.is_some(), "view", raw.kind)?;
        let remedy = "give \"turn\", \"conversation\" or \"last:N\" with N of 1 or more";
        let parse = |view: &String| view.parse().map_err(|problem| self.error("view", problem, remedy));
        Ok(raw.view.as_ref().map(parse).transpose()?.unwrap_or(View::Turn))
    }

    /// The speakers of judged turns on which the expert votes.
    pub(super) fn roles(&self, raw: &RawManifest) -> Result<Vec<Role>, PanelError> {
        self.forbid(raw.kind == Kind::Encoder && raw.roles.is_some(), "roles", raw.kind)?;
        let Some(names) = &raw.roles else {
            return Ok(Role::ALL.to_vec());
        };
        let is_named = |role: &Role| names.iter().any(|name| name == role.word());
        let roles: Vec<Role> = Role::ALL.into_iter().filter(is_named).collect();
        if roles.is_empty() || roles.len() != names.len() {
            let known = Role::ALL.map(|role| format!("\"{}\"", role.word())).join(", ");
            let problem = "is empty, names a role twice, or names an unknown one";
            return Err(self.error("roles", problem, format!("give some of {known}, or remove it")));
        }
        Ok(roles)
    }

    /// The languages of judged texts on which the expert votes, or to which an encoder gives features. An encoder does not
    /// vote; its heads name theirs.
    pub(super) fn languages(&self, raw: &RawManifest) -> Result<Languages, PanelError> {
        let Some(codes) = &raw.languages else {
            return Ok(Languages::All);
        };
        let has_features = raw.outputs.as_ref().is_some_and(|outputs| outputs.features.is_some());
        if raw.kind == Kind::Encoder && !has_features {
            let problem = "is for the features of an encoder, and it gives none";
            return Err(self.error("languages", problem, "remove it here; heads name their own languages"));
        }
        self.language_codes("languages", codes, "remove it")
    }

    /// Parses the codes of a field. `otherwise` is what can be done instead of giving some.
    pub(super) fn language_codes(
        &self,
        field: &str,
        codes: &[String],
        otherwise: &str,
    ) -> Result<Languages, PanelError> {
        Languages::of_codes(codes).ok_or_else(|| {
            let known: Vec<_> = Language::KNOWN.iter().map(|known| format!("\"{known}\"")).collect();
            let problem = "is empty, names a language twice, or names an unknown one";
            self.error(field, problem, format!("give some of {}, or {otherwise}", known.join(", ")))
        })
    }

    /// When the expert is asked. An encoder does not vote, and all rules read a text together.
    pub(super) fn ask(&self, raw: &RawManifest) -> Result<Ask, PanelError> {
        let is_alone = !matches!(raw.kind, Kind::Encoder | Kind::Rules);
        self.forbid(!is_alone && raw.ask == Some(Ask::WhenDecisive), "ask", raw.kind)?;
        Ok(raw.ask.unwrap_or(Ask::default_of(raw.kind)))
    }

    /// Returns `true` if the expert begins in shadow mode.
    ///
    /// # Errors
    /// Returns an error if an encoder says so, because it does not vote.
    pub(super) fn shadow(&self, raw: &RawManifest) -> Result<bool, PanelError> {
        self.forbid(raw.kind == Kind::Encoder && raw.shadow, "shadow", raw.kind)?;
        Ok(raw.shadow)
    }

    /// Builds the part of a manifest that depends on its kind.
    pub(super) fn body(&self, raw: &mut RawManifest) -> Result<Body, PanelError> {
        let kind = raw.kind;
        self.forbid_tables(raw)?;
        let inputs = raw.inputs.take().unwrap_or_default();
        let outputs = raw.outputs.take().unwrap_or_default();
        let labels = std::mem::take(&mut raw.labels);
        self.forbid(kind != Kind::Classifier && outputs.read.is_some(), "outputs.read", kind)?;
        Ok(match kind {
            Kind::Encoder => {
                self.forbid(outputs.scores.is_some(), "outputs.scores", kind)?;
                self.forbid(outputs.activation.is_some(), "outputs.activation", kind)?;
                let mut outputs = outputs;
                let (features, features_rank, joint) = self.features(&mut outputs, raw.joint.take())?;
                Body::Encoder {
                    graph: self.graph(raw.model.take(), kind)?,
                    int8: self.int8(raw.int8.take())?,
                    precision: Precision::Float32,
                    tokenizer: self.tokenizer(raw.tokenizer.take(), inputs, kind)?,
                    embedding: self.require(outputs.embedding, "outputs.embedding", kind)?,
                    features,
                    features_rank,
                    joint,
                }
            }
            Kind::Head => {
                self.forbid(raw.tokenizer.is_some(), "tokenizer", kind)?;
                self.forbid(inputs.ids.is_some(), "inputs.ids", kind)?;
                self.forbid(inputs.mask.is_some(), "inputs.mask", kind)?;
                self.forbid(inputs.types.is_some(), "inputs.types", kind)?;
                self.forbid(inputs.text.is_some(), "inputs.text", kind)?;
                Body::Head {
                    graph: self.graph(raw.model.take(), kind)?,
                    encoder: self.require(raw.encoder.take(), "encoder", kind)?,
                    embedding: self.require(inputs.embedding, "inputs.embedding", kind)?,
                    scores: self.scores(outputs, labels, raw.calibration, kind)?,
                }
            }
            Kind::Classifier => Body::Classifier {
                graph: self.graph(raw.model.take(), kind)?,
                input: self.text_input(raw.tokenizer.take(), raw.text.take(), inputs)?,
                scores: self.scores(outputs, labels, raw.calibration, kind)?,
            },
            Kind::Rules => {
                let file = self.require(raw.rules.take(), "rules", kind)?;
                Body::Rules { file: self.hashed_file(&file.file, &file.sha256, "rules")? }
            }
            Kind::Remote => Body::Remote(Box::new(self.remote(raw, labels)?)),
            Kind::Guard => Body::Guard(Box::new(self.guard(raw)?)),
        })
    }

    /// Refuses tables and keys that have no meaning for the manifest's kind.
    fn forbid_tables(&self, raw: &RawManifest) -> Result<(), PanelError> {
        let kind = raw.kind;
        let has_scores = matches!(kind, Kind::Head | Kind::Classifier | Kind::Remote);
        self.forbid(!has_scores && !raw.labels.is_empty(), "labels", kind)?;
        self.forbid(!has_scores && raw.calibration.is_some(), "calibration", kind)?;
        self.forbid(kind != Kind::Head && raw.encoder.is_some(), "encoder", kind)?;
        self.forbid(
            !matches!(kind, Kind::Encoder | Kind::Classifier | Kind::Guard) && raw.alone,
            "alone",
            kind,
        )?;
        self.forbid(kind != Kind::Classifier && raw.text.is_some(), "text", kind)?;
        self.forbid(kind != Kind::Encoder && raw.int8.is_some(), "int8", kind)?;
        self.forbid(kind != Kind::Encoder && raw.joint.is_some(), "joint", kind)?;
        self.forbid(kind != Kind::Rules && raw.rules.is_some(), "rules", kind)?;
        self.forbid(kind != Kind::Remote && raw.endpoint.is_some(), "endpoint", kind)?;
        self.forbid(kind != Kind::Remote && raw.request.is_some(), "request", kind)?;
        self.forbid(kind != Kind::Guard && raw.base.is_some(), "base", kind)?;
        let has_prompt = matches!(kind, Kind::Guard | Kind::Remote);
        self.forbid(!has_prompt && raw.prompt.is_some(), "prompt", kind)?;
        self.forbid(kind != Kind::Guard && raw.adapter.is_some(), "adapter", kind)?;
        self.forbid(!has_prompt && raw.categories, "categories", kind)?;
        if kind == Kind::Guard {
            self.forbid(raw.inputs.is_some(), "inputs", kind)?;
            self.forbid(raw.outputs.is_some(), "outputs", kind)?;
        }
        if matches!(kind, Kind::Rules | Kind::Remote) {
            self.forbid(raw.model.is_some(), "model", kind)?;
            self.forbid(raw.tokenizer.is_some(), "tokenizer", kind)?;
            self.forbid(raw.inputs.is_some(), "inputs", kind)?;
            self.forbid(raw.outputs.is_some(), "outputs", kind)?;
        }
        Ok(())
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
