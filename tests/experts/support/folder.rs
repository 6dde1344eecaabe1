//! A folder of experts, with their manifests.

use std::fs;
use std::path::Path;

use super::{sha256, tokenizer};

/// The outputs and labels of a classifier or head with one label.
pub const SCORES: &str =
    "[outputs]\nscores = \"scores\"\n[[labels]]\nname = \"harm\"\ncategory = \"harm\"\nunsafe = true\n";

/// A folder for experts.
pub struct Folder(pub tempfile::TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    fn put(&self, id: &str, name: &str, bytes: &[u8]) -> String {
        let folder = self.path().join(id);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(name), bytes).unwrap();
        format!("file = \"{name}\"\nsha256 = \"{}\"\n", sha256(bytes))
    }

    /// Adds an expert with its graph. `rest` follows the section `[model]` of its manifest.
    pub fn add(&self, id: &str, kind: &str, top: &str, graph: &[u8], rest: &str) -> &Self {
        let file = self.put(id, "model.onnx", graph);
        self.manifest(
            id,
            &format!(
                "id = \"{id}\"\nkind = \"{kind}\"\ndescription = \"d\"\nlicence = \"MIT\"\nsource = \"s\"\n{top}\n[model]\n{file}{rest}"
            ),
        )
    }

    pub fn manifest(&self, id: &str, text: &str) -> &Self {
        fs::create_dir_all(self.path().join(id)).unwrap();
        fs::write(self.path().join(id).join("manifest.toml"), text).unwrap();
        self
    }

    /// Returns the manifest's lines for a tokenizer of one word.
    pub fn tokenizer(&self, id: &str) -> String {
        format!("[tokenizer]\n{}max_tokens = 1\n", self.put(id, "tokenizer.json", &tokenizer()))
    }

    pub fn classifier(&self, id: &str, graph: &[u8]) -> &Self {
        let rest = format!("{}[inputs]\nids = \"ids\"\n{SCORES}", self.tokenizer(id));
        self.add(id, "classifier", "", graph, &rest)
    }

    pub fn encoder(&self, id: &str, graph: &[u8]) -> &Self {
        let outputs =
            "[inputs]\nids = \"ids\"\n[outputs]\nembedding = \"embedding\"\nfeatures = \"features\"\n";
        let rest = format!("{}{outputs}", self.tokenizer(id));
        self.add(id, "encoder", "", graph, &rest)
    }

    /// Adds an encoder whose features are chosen before those of lesser rank, for texts in German.
    pub fn ranked_encoder(&self, id: &str, graph: &[u8], rank: u32) -> &Self {
        let outputs = format!(
            "[inputs]\nids = \"ids\"\n[outputs]\nembedding = \"embedding\"\nfeatures = \"features\"\nfeatures_rank = {rank}\n"
        );
        let rest = format!("{}{outputs}", self.tokenizer(id));
        self.add(id, "encoder", "languages = [\"de\"]", graph, &rest)
    }

    /// Adds an encoder with all outputs for features, which it gives together with another one to texts in English.
    pub fn leading_encoder(&self, id: &str, graph: &[u8], partner: &str) -> &Self {
        let outputs = "embedding = \"embedding\"\nfeatures = \"features\"\nfeatures_rank = 9\nfeatures_part = \"part\"\n";
        let joint = format!("[joint]\nencoder = \"{partner}\"\nlanguages = [\"en\"]\n");
        let rest = format!("{}[inputs]\nids = \"ids\"\n[outputs]\n{outputs}{joint}", self.tokenizer(id));
        self.add(id, "encoder", "", graph, &rest)
    }

    /// Adds an encoder that can give features together with another one.
    pub fn partner_encoder(&self, id: &str, graph: &[u8]) -> &Self {
        let outputs = "embedding = \"embedding\"\nfeatures = \"features\"\nfeatures_part = \"part\"\n";
        let rest = format!("{}[inputs]\nids = \"ids\"\n[outputs]\n{outputs}", self.tokenizer(id));
        self.add(id, "encoder", "", graph, &rest)
    }

    /// Adds an encoder with a graph in float32 and one in int8.
    pub fn encoder_with_int8(&self, id: &str, graph: &[u8], int8: &[u8]) -> &Self {
        let outputs =
            "[inputs]\nids = \"ids\"\n[outputs]\nembedding = \"embedding\"\nfeatures = \"features\"\n";
        let int8 = self.put(id, "model-int8.onnx", int8);
        let rest = format!("[int8]\n{int8}{}{outputs}", self.tokenizer(id));
        self.add(id, "encoder", "", graph, &rest)
    }

    pub fn head(&self, id: &str, graph: &[u8]) -> &Self {
        let rest = format!("[inputs]\nembedding = \"embedding\"\n{SCORES}");
        self.add(id, "head", "encoder = \"encoder\"", graph, &rest)
    }

    /// Writes a file of external data. Returns its lines of the manifest, which follow those of the model.
    pub fn external(&self, id: &str, name: &str, bytes: &[u8]) -> String {
        format!("[[model.external_data]]\n{}", self.put(id, name, bytes))
    }

    /// Adds a classifier whose manifest lists this external data.
    pub fn external_classifier(&self, id: &str, graph: &[u8], listed: &str) -> &Self {
        let rest = format!("{listed}{}[inputs]\nids = \"ids\"\n{SCORES}", self.tokenizer(id));
        self.add(id, "classifier", "", graph, &rest)
    }

    pub fn rules(&self, id: &str, rules: &str) -> &Self {
        let file = self.put(id, "rules.toml", rules.as_bytes());
        self.manifest(
            id,
            &format!(
                "id = \"{id}\"\nkind = \"rules\"\ndescription = \"d\"\nlicence = \"MIT\"\nsource = \"s\"\n[rules]\n{file}"
            ),
        )
    }
}
