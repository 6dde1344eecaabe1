//! Descriptions of a panel's experts.

use sha2::{Digest, Sha256};

use super::manifest::{Ask, Body, Joint, Kind, Languages, Manifest, Precision, TokenizerSpec, View};
use crate::core::event::Role;
use crate::core::features::EncoderId;

/// The outcome of loading an expert when the panel was opened. An expert that could not be loaded is tried again;
/// [`Panel::down`] has its present state.
///
/// [`Panel::down`]: super::Panel::down
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// The expert was loaded.
    Loaded,
    /// The expert could not be loaded, and abstains until it can be.
    NotLoaded {
        /// The reason.
        reason: String,
    },
}

impl State {
    /// The state's name, for display.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Loaded => "loaded",
            Self::NotLoaded { .. } => "not loaded",
        }
    }

    /// The reason why the expert could not be loaded; `None` if it was.
    pub(super) fn reason(&self) -> Option<&str> {
        match self {
            Self::Loaded => None,
            Self::NotLoaded { reason } => Some(reason),
        }
    }
}

/// An expert of the panel.
#[derive(Debug, Clone, PartialEq)]
pub struct ExpertInfo {
    /// Its id, the name of its folder.
    pub id: String,
    /// Its kind.
    pub kind: Kind,
    /// The SHA-256 of its graph or rule file; of a head on an int8 encoder, one over both graphs; of a graph with external data, one over all its files; of a remote expert,
    /// one over the settings that can change its votes.
    pub model: [u8; 32],
    /// The SHA-256 of its manifest.
    pub manifest: [u8; 32],
    /// The model and the prompt's version of a remote expert, which its votes name instead of `model`.
    pub revision: Option<String>,
    /// A description of one line, for display.
    pub description: String,
    /// The model's licence.
    pub licence: String,
    /// The model's origin.
    pub source: String,
    /// The slugs of the categories that it scores, sorted; empty for rules, whose file lists them.
    pub categories: Vec<String>,
    /// The id of the encoder on whose embedding a head votes.
    pub encoder: Option<String>,
    /// The precision of that encoder's graph; float32 for other experts.
    pub precision: Precision,
    /// The part of a conversation that it reads.
    pub view: View,
    /// The speakers of judged turns on which it votes.
    pub roles: Vec<Role>,
    /// The languages of judged texts on which it votes.
    pub languages: Languages,
    /// When it is asked.
    pub ask: Ask,
    /// Its manifest puts it in shadow mode. The configuration can say otherwise.
    pub begins_in_shadow: bool,
    /// The AUC on the data set that its manifest names, if it names one.
    pub auc: Option<f64>,
    /// The execution provider that runs it: `cpu`, `cuda:0`, or `-` for rules and remote experts.
    pub provider: String,
    /// The outcome of loading it when the panel was opened.
    pub state: State,
}

impl ExpertInfo {
    /// An expert for tests, which is asked only if its vote matters.
    #[cfg(test)]
    pub(crate) fn example(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            kind: Kind::Head,
            model: [1; 32],
            manifest: [2; 32],
            revision: None,
            description: String::new(),
            licence: String::new(),
            source: String::new(),
            categories: Vec::new(),
            encoder: Some("encoder".to_owned()),
            precision: Precision::Float32,
            view: View::Turn,
            roles: Role::ALL.to_vec(),
            languages: Languages::All,
            ask: Ask::WhenDecisive,
            begins_in_shadow: false,
            auc: None,
            provider: "cpu".to_owned(),
            state: State::Loaded,
        }
    }

    /// The description in a manifest; `None` for encoders, which do not vote.
    pub(super) fn of(manifest: &Manifest, provider: &str) -> Option<Self> {
        let (model, encoder, provider) = match &manifest.body {
            Body::Encoder { .. } => return None,
            Body::Head { graph, encoder, .. } => (graph.sha256(), Some(encoder.clone()), provider),
            Body::Classifier { graph, .. } => (graph.sha256(), None, provider),
            Body::Rules { file } => (file.sha256, None, "-"),
            Body::Remote(remote) => (remote.hash(), None, "-"),
            Body::Guard(guard) => (guard.sha256(), None, provider),
        };
        let mut categories: Vec<String> = match &manifest.body {
            Body::Head { scores, .. } | Body::Classifier { scores, .. } => {
                scores.labels.iter().filter_map(|label| label.category.clone()).collect()
            }
            Body::Remote(remote) => remote.categories(),
            Body::Guard(guard) if guard.categories => guard.spec().reported_categories(),
            Body::Encoder { .. } | Body::Rules { .. } | Body::Guard(_) => Vec::new(),
        };
        categories.sort_unstable();
        categories.dedup();
        Some(Self {
            id: manifest.id.clone(),
            kind: manifest.kind,
            model,
            manifest: manifest.sha256,
            revision: None,
            description: manifest.description.clone(),
            licence: manifest.licence.clone(),
            source: manifest.source.clone(),
            categories,
            encoder,
            precision: Precision::Float32,
            view: manifest.view,
            roles: manifest.roles.clone(),
            languages: manifest.languages.clone(),
            ask: manifest.ask,
            begins_in_shadow: manifest.shadow,
            auc: manifest.quality.get("auc").and_then(toml::Value::as_float),
            provider: provider.to_owned(),
            state: State::Loaded,
        })
    }

    /// Takes the precision of a head's encoder. The votes of a head on an int8 encoder name another model than its votes
    /// on the encoder in float32: a hash over the head and the encoder's graph.
    pub(super) fn on_encoder(&mut self, encoder: &Manifest) {
        self.precision = encoder.precision();
        if self.precision == Precision::Int8 {
            let mut hash = Sha256::new();
            hash.update(b"aegis head on int8 1\n");
            hash.update(self.model);
            hash.update(encoder.model().expect("an encoder has a graph"));
            self.model = hash.finalize().into();
        }
    }
}

/// An encoder with its heads, or a classifier. Texts for it run in batches of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelInfo {
    /// The encoder's or classifier's id.
    pub id: String,
    /// The ids of the experts that vote by its output.
    pub experts: Vec<String>,
    /// All texts are padded to one fixed length.
    pub fixed: bool,
    /// Texts run one by one.
    pub alone: bool,
}

/// The encoder that makes the features, alone or with a partner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncoderInfo {
    /// Its id, the name of its folder.
    pub id: String,
    /// The id under which its features are stored.
    pub encoder: EncoderId,
    /// The languages of judged texts to which it gives features.
    pub languages: Languages,
    /// The encoder that computes the features together with this one, of texts in some languages.
    pub partner: Option<Joint>,
    /// The precision of its graph.
    pub precision: Precision,
    /// The ids of the panel's other encoders whose int8 graphs run, sorted. They are part of [`EncoderInfo::encoder`], because
    /// the votes on them, and a partner's part, differ: the scorers of a group must be the same.
    pub int8: Vec<String>,
    /// One line that describes how text becomes features. It is part of [`EncoderInfo::encoder`].
    pub reading: String,
    /// A description of one line, for display.
    pub description: String,
    /// The model's licence.
    pub licence: String,
    /// The model's origin.
    pub source: String,
    /// The execution provider that runs it.
    pub provider: String,
    /// The outcome of loading it when the panel was opened.
    pub state: State,
}

impl EncoderInfo {
    /// The description in a manifest; `None` if the expert gives no features.
    pub(super) fn of(manifest: &Manifest, provider: &str) -> Option<Self> {
        let Body::Encoder { graph, tokenizer, features, .. } = &manifest.body else { return None };
        features.alone.as_ref()?;
        let reading = reading_line(tokenizer);
        let mut hash = Sha256::new();
        hash.update(b"aegis encoder 1\n");
        hash.update(graph.sha256());
        hash.update(tokenizer.file.sha256);
        hash.update(reading.as_bytes());
        Some(Self {
            id: manifest.id.clone(),
            encoder: hash.finalize().into(),
            languages: manifest.languages.clone(),
            partner: None,
            precision: manifest.precision(),
            int8: Vec::new(),
            reading,
            description: manifest.description.clone(),
            licence: manifest.licence.clone(),
            source: manifest.source.clone(),
            provider: provider.to_owned(),
            state: State::Loaded,
        })
    }

    /// Takes the encoder of the panel that gives the features together with this one, if there is one.
    pub(super) fn together(mut self, manifests: &[Manifest]) -> Self {
        let find = |id: &str| manifests.iter().find(|manifest| manifest.id == id);
        let Some(joint) = find(&self.id).and_then(Manifest::joint) else { return self };
        let Some(Body::Encoder { graph, tokenizer, .. }) =
            find(&joint.encoder).map(|manifest| &manifest.body)
        else {
            return self;
        };
        let mut hash = Sha256::new();
        hash.update(b"aegis encoder together 1\n");
        hash.update(self.encoder);
        hash.update(graph.sha256());
        hash.update(tokenizer.file.sha256);
        hash.update(reading_line(tokenizer).as_bytes());
        hash.update(joint.languages.to_string().as_bytes());
        self.encoder = hash.finalize().into();
        self.partner = Some(joint.clone());
        self
    }

    /// Takes the precision of the panel's other encoders. Where all of them run in float32, the id stays as it is.
    pub(super) fn beside(mut self, manifests: &[Manifest]) -> Self {
        let is_other =
            |manifest: &&Manifest| manifest.precision() == Precision::Int8 && manifest.id != self.id;
        let others: Vec<_> = manifests.iter().filter(is_other).collect();
        if others.is_empty() {
            return self;
        }
        let mut hash = Sha256::new();
        hash.update(b"aegis encoder beside int8 1\n");
        hash.update(self.encoder);
        for other in &others {
            hash.update(other.model().expect("an encoder has a graph"));
        }
        self.encoder = hash.finalize().into();
        self.int8 = others.iter().map(|other| other.id.clone()).collect();
        self
    }
}

/// One line that describes how text becomes features. A change here changes the encoder's id.
fn reading_line(tokenizer: &TokenizerSpec) -> String {
    let mut line = format!("judged turn; {} tokens; mean; whitened int8 v1", tokenizer.max_tokens);
    if !tokenizer.drop_ids.is_empty() {
        line += &format!("; without tokens {:?}", tokenizer.drop_ids);
    }
    line
}
