//! A tiny causal language model with attention over all earlier tokens, in the layouts of exporters, and its guard spec.

use super::{Folder, sha256};

/// The vocabulary. The words from `nan` on select a fault.
pub const WORDS: [&str; 30] = [
    "[UNK]",
    "<policy>",
    "<turn>",
    "<end>",
    "Answer:",
    "unsafe",
    "safe",
    "⏎",
    "S1",
    "user",
    "assistant",
    "never",
    "harm",
    "anyone",
    "or",
    "anything",
    "at",
    "all",
    "fine",
    "bad",
    "very",
    "nice",
    "day",
    "nan",
    "poison",
    "off",
    "hang",
    "word",
    "again",
    "Codes:",
];
pub const WIDTH: usize = 16;
pub const HEADS: i64 = 2;
pub const HEAD: i64 = 8;
pub const POSITIONS: usize = 256;
/// The rank of the adapters in tests.
pub const RANK: usize = 2;

/// The form of the weights of queries, keys and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weights {
    /// Any float32.
    Float,
    /// The float32 of the numbers of `FourBits`.
    Rounded,
    /// Four bits each, which `MatMulNBits` reads.
    FourBits,
}

/// The properties in which exports differ.
#[derive(Debug, Clone, Copy)]
pub struct Export {
    /// The graph takes a past.
    pub past: bool,
    /// All rows share a past of one row.
    pub shares: bool,
    /// The fused attention, which takes no second row behind a past.
    pub fused: bool,
    /// Pasts and logits have 16 bits.
    pub half: bool,
    /// The graph counts positions itself, as if padding were on the right.
    pub counts_positions: bool,
    /// It has the input `use_cache_branch`.
    pub merged: bool,
    /// Only the last column's logits are computed.
    pub last_only: bool,
    /// The word `hang` keeps the graph for minutes in one node, instead of in a loop that can be stopped.
    pub stuck: bool,
    /// The form of the weights of queries, keys and values.
    pub weights: Weights,
    /// The numbers of the adapter that is part of the graph; `None` is the plain base.
    pub adapter: Option<u64>,
}

pub const PLAIN: Export = Export {
    past: true,
    shares: false,
    fused: false,
    half: false,
    counts_positions: false,
    merged: false,
    last_only: false,
    stuck: false,
    weights: Weights::Float,
    adapter: None,
};

/// Returns numbers around zero, always the same for a seed.
pub fn numbers(seed: u64, count: usize, scale: f32) -> Vec<f32> {
    let mut rng = fastrand::Rng::with_seed(seed);
    (0..count).map(|_| (rng.f32() - 0.5) * 2.0 * scale).collect()
}

/// Returns the id of a word.
pub fn id(word: &str) -> usize {
    WORDS.iter().position(|known| *known == word).unwrap()
}

/// Returns the two matrices of an adapter.
pub fn lora(seed: u64) -> [(&'static str, [i64; 2], Vec<f32>); 2] {
    let (width, rank) = (WIDTH as i64, RANK as i64);
    [
        ("lora.a", [width, rank], numbers(seed, WIDTH * RANK, 0.5)),
        ("lora.b", [rank, width], numbers(seed + 1, WIDTH * RANK, 0.5)),
    ]
}

/// Returns the tokenizer: words are separated by white space.
pub fn tokenizer() -> Vec<u8> {
    let words: Vec<String> = WORDS.iter().enumerate().map(|(id, word)| format!("\"{word}\":{id}")).collect();
    let control = ["<policy>", "<turn>", "<end>"].map(|word| {
        format!(
            "{{\"id\":{},\"content\":\"{word}\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false,\"special\":true}}",
            id(word)
        )
    });
    format!(
        "{{\"version\":\"1.0\",\"added_tokens\":[{}],\"normalizer\":null,\"pre_tokenizer\":{{\"type\":\"WhitespaceSplit\"}},\
         \"post_processor\":null,\"decoder\":{{\"type\":\"Replace\",\"pattern\":{{\"String\":\"⏎\"}},\"content\":\"\\n\"}},\
         \"model\":{{\"type\":\"WordLevel\",\"vocab\":{{{}}},\"unk_token\":\"[UNK]\"}}}}",
        control.join(","),
        words.join(",")
    )
    .into_bytes()
}

/// The guard spec of the model.
pub const SPEC: &str = r#"
name = "tiny"
version = "1"
licence = "MIT"
context = 200
off_template_limit = 0.5
policy = "never harm anyone or anything at all never harm anyone or anything at all"
[template]
control = ["<policy>", "<turn>", "<end>"]
text = "<policy>{{ policy }}{% for turn in turns %}<turn>{{ turn.role }} {{ turn.text }}{% endfor %}<end>"
[roles]
user = "user"
assistant = "assistant"
judged = ["user", "assistant"]
[verdict]
force = "Answer:"
unsafe = [" unsafe"]
safe = [" safe"]
[answer]
grammar = "lines"
harmful = { user = "Answer", assistant = "Answer" }
categories = "Codes"
max_tokens = 6
[[categories]]
code = "S1"
category = "violence"
"#;

/// The lines of a manifest for the spec in the expert's folder.
pub const PROMPT: &str = "[prompt]\nspec = \"spec.toml\"\n";

impl Folder {
    /// Writes a file of an expert. Returns its lines of the manifest.
    pub fn file(&self, id: &str, name: &str, bytes: &[u8]) -> String {
        std::fs::create_dir_all(self.path().join(id)).unwrap();
        std::fs::write(self.path().join(id).join(name), bytes).unwrap();
        format!("file = \"{name}\"\nsha256 = \"{}\"\n", sha256(bytes))
    }

    /// Adds a guard with a model. `top` are keys of its manifest.
    pub fn guard(&self, id: &str, top: &str, graph: &[u8]) -> &Self {
        self.file(id, "spec.toml", SPEC.as_bytes());
        let tokenizer = self.file(id, "tokenizer.json", &tokenizer());
        self.add(id, "guard", top, graph, &format!("[tokenizer]\n{tokenizer}max_tokens = 150\n{PROMPT}"))
    }

    /// Adds a guard on the model of another one. `rest` follows the spec in its manifest.
    pub fn guard_on(&self, id: &str, base: &str, spec: &str, rest: &str) -> &Self {
        self.file(id, "spec.toml", spec.as_bytes());
        self.manifest(
            id,
            &format!(
                "id = \"{id}\"\nkind = \"guard\"\ndescription = \"d\"\nlicence = \"MIT\"\nsource = \"s\"\nbase = \"{base}\"\n{PROMPT}{rest}"
            ),
        )
    }
}
