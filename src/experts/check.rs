//! Reads a manifest's TOML and refuses what does not hold together, with the field and the mend.

use std::path::Path;

use serde::Deserialize;

use super::error::PanelError;
use super::manifest::{
    Activation, Artefact, Body, Calibration, Intake, Kind, Label, Manifest, Padding, Reading, Scores,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    file: String,
    sha256: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTokenizer {
    file: String,
    sha256: String,
    max_tokens: usize,
    #[serde(default = "one")]
    windows: usize,
    #[serde(default)]
    drop_ids: Vec<u32>,
    #[serde(default)]
    pad: Padding,
}

fn one() -> usize {
    1
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawText {
    max_chars: usize,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawInputs {
    ids: Option<String>,
    mask: Option<String>,
    types: Option<String>,
    text: Option<String>,
    embedding: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawOutputs {
    embedding: Option<String>,
    features: Option<String>,
    scores: Option<String>,
    activation: Option<Activation>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    id: String,
    kind: Kind,
    description: String,
    licence: String,
    source: String,
    encoder: Option<String>,
    #[serde(default)]
    alone: bool,
    model: Option<RawFile>,
    rules: Option<RawFile>,
    tokenizer: Option<RawTokenizer>,
    text: Option<RawText>,
    inputs: Option<RawInputs>,
    outputs: Option<RawOutputs>,
    #[serde(default)]
    labels: Vec<Label>,
    calibration: Option<Calibration>,
    #[serde(default)]
    quality: toml::Table,
}

/// Greatest number of labels of one expert.
const MAX_LABELS: usize = 256;
/// Greatest `max_tokens`.
const MAX_TOKENS: usize = 8_192;
/// Greatest `windows`.
const MAX_WINDOWS: usize = 64;
/// Greatest `max_chars`.
const MAX_CHARS: usize = 65_536;
/// Greatest size of an id.
const MAX_ID: usize = 40;

/// Where a complaint belongs.
struct Place<'a> {
    path: &'a Path,
}

impl Place<'_> {
    fn refuse(&self, field: &str, problem: impl Into<String>, mend: impl Into<String>) -> PanelError {
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
        if file.is_empty() || file.contains(['/', '\\', '\0']) || file == ".." {
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

    fn graph(&self, model: Option<RawFile>, kind: Kind) -> Result<Artefact, PanelError> {
        let model = self.need(model, "model", kind)?;
        self.artefact(&model.file, &model.sha256, "model")
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
        Ok(Scores { output, activation: outputs.activation, labels, calibration })
    }

    fn body(&self, raw: Raw) -> Result<Body, PanelError> {
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

fn plain_id(id: &str) -> bool {
    (1..=MAX_ID).contains(&id.len())
        && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

impl Manifest {
    /// Parses the manifest at `path` (`…/<id>/manifest.toml`).
    pub(super) fn parse(path: &Path, text: &str) -> Result<Self, PanelError> {
        let place = Place { path };
        let mut raw: Raw = toml::from_str(text).map_err(|error| {
            let line =
                error.span().map_or(1, |span| 1 + text.get(..span.start).unwrap_or("").matches('\n').count());
            place.refuse(&format!("line {line}"), error.message(), "docs/adding-an-expert.md lists every key")
        })?;
        if !plain_id(&raw.id) {
            return Err(place.refuse("id", "is not 1 to 40 of a-z, 0-9 and -", "choose such a name"));
        }
        let folder = path.parent().and_then(Path::file_name);
        if folder.is_none_or(|name| name.to_str() != Some(&raw.id)) {
            return Err(place.refuse("id", "is not the folder's name", "rename one of the two"));
        }
        Ok(Self {
            id: raw.id.clone(),
            kind: raw.kind,
            description: std::mem::take(&mut raw.description),
            licence: std::mem::take(&mut raw.licence),
            source: std::mem::take(&mut raw.source),
            quality: std::mem::take(&mut raw.quality),
            alone: raw.alone,
            body: place.body(raw)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::manifest::Side;
    use super::*;

    const ZEROS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

    fn head() -> String {
        format!(
            "id = \"injection\"\nkind = \"head\"\ndescription = \"d\"\nlicence = \"MIT\"\nsource = \"s\"\n\
             encoder = \"minilm\"\n[model]\nfile = \"model.onnx\"\nsha256 = \"{ZEROS}\"\n\
             [inputs]\nembedding = \"embedding\"\n[outputs]\nscores = \"scores\"\n\
             [[labels]]\nname = \"injection\"\ncategory = \"manipulation\"\nunsafe = true\n\
             [quality]\nauc = 0.9\nanything = \"for people\"\n"
        )
    }

    fn parse(text: &str) -> Result<Manifest, PanelError> {
        Manifest::parse(Path::new("models/injection/manifest.toml"), text)
    }

    fn field(text: &str) -> String {
        match parse(text) {
            Err(PanelError::Manifest { field, mend, .. }) if !mend.is_empty() => field,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_head_is_read() {
        let manifest = parse(&head()).unwrap();
        let Body::Head { encoder, graph, scores, .. } = manifest.body else { panic!() };
        assert_eq!(
            (encoder.as_str(), graph.path.as_path()),
            ("minilm", Path::new("models/injection/model.onnx"))
        );
        assert!(scores.labels[0].harmful && scores.calibration.is_none());
    }

    #[test]
    fn what_does_not_hold_together_is_refused_with_its_field() {
        let head = head();
        let cases = [
            ("id = \"injection\"", "id = \"other\"", "id"),
            ("id = \"injection\"", "id = \"../x\"", "id"),
            ("encoder = \"minilm\"\n", "", "encoder"),
            ("\"model.onnx\"", "\"../model.onnx\"", "model.file"),
            (ZEROS, "00", "model.sha256"),
            ("embedding = \"embedding\"", "ids = \"x\"", "inputs.ids"),
            ("scores = \"scores\"", "", "outputs.scores"),
            ("unsafe = true", "unsafe = false", "labels"),
            ("[quality]", "[calibration]\na = 0.0\nb = 1.0\n[quality]", "calibration"),
            ("kind = \"head\"", "kind = \"encoder\"", "labels"),
            ("kind = \"head\"", "kind = \"judge\"", "line 2"),
            ("licence", "license", "line 4"),
            ("unsafe = true", "unsave = true", "line 17"),
        ];
        for (old, new, expected) in cases {
            assert!(head.contains(old), "{old}");
            assert_eq!(field(&head.replace(old, new)), expected, "{old} -> {new}");
        }
    }

    #[test]
    fn a_classifiers_reading_is_checked() {
        let text = format!(
            "id = \"injection\"\nkind = \"classifier\"\ndescription = \"d\"\nlicence = \"MIT\"\nsource = \"s\"\n\
             [model]\nfile = \"m\"\nsha256 = \"{ZEROS}\"\n\
             [tokenizer]\nfile = \"t\"\nsha256 = \"{ZEROS}\"\nmax_tokens = 100\ndrop_ids = [1]\n\
             pad = {{ side = \"left\", to = 100, id = 0 }}\n\
             [inputs]\nids = \"ids\"\n[outputs]\nscores = \"s\"\n[[labels]]\nname = \"x\"\nunsafe = true\n"
        );
        let Body::Classifier { intake: Intake::Tokens(reading), .. } = parse(&text).unwrap().body else {
            panic!()
        };
        assert_eq!(reading.padding, Padding { side: Side::Left, to: Some(100), id: 0 });
        assert_eq!(field(&text.replace("to = 100", "to = 99")), "tokenizer.pad.to");
        assert_eq!(field(&text.replace("max_tokens = 100", "max_tokens = 0")), "tokenizer.max_tokens");
        assert_eq!(field(&text.replace("ids = \"ids\"", "")), "inputs.ids");
    }

    #[test]
    fn a_classifier_may_read_strings_itself() {
        let text = format!(
            "id = \"injection\"\nkind = \"classifier\"\ndescription = \"d\"\nlicence = \"MIT\"\nsource = \"s\"\n\
             [model]\nfile = \"m\"\nsha256 = \"{ZEROS}\"\n[text]\nmax_chars = 4000\n\
             [inputs]\ntext = \"text\"\n[outputs]\nscores = \"s\"\n[[labels]]\nname = \"x\"\nunsafe = true\n"
        );
        let Body::Classifier { intake, .. } = parse(&text).unwrap().body else { panic!() };
        assert_eq!(intake, Intake::Text { input: "text".to_owned(), max_chars: 4_000 });
        let tokenizer =
            format!("[tokenizer]\nfile = \"t\"\nsha256 = \"{ZEROS}\"\nmax_tokens = 100\n[outputs]");
        let cases = [
            ("max_chars = 4000", "max_chars = 0", "text.max_chars"),
            ("max_chars = 4000", "max_chars = 70000", "text.max_chars"),
            ("[text]\nmax_chars = 4000\n", "", "text.max_chars"),
            ("text = \"text\"", "ids = \"ids\"", "text"),
            ("text = \"text\"", "text = \"text\"\nmask = \"m\"", "inputs.mask"),
            ("text = \"text\"", "text = \"text\"\nembedding = \"m\"", "inputs.embedding"),
            ("[outputs]", tokenizer.as_str(), "tokenizer"),
        ];
        for (old, new, expected) in cases {
            assert!(text.contains(old), "{old}");
            assert_eq!(field(&text.replace(old, new)), expected, "{old} -> {new}");
        }
        assert_eq!(field(&head().replace("embedding = \"embedding\"", "text = \"t\"")), "inputs.text");
        assert_eq!(field(&format!("{}[text]\nmax_chars = 9\n", head())), "text");
    }
}
