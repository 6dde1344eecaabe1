//! The bundled specs.

/// Names with the text of `experts/guards/<name>.toml`.
macro_rules! specs {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../experts/guards/", $name, ".toml")))),*]
    };
}

/// The bundled specs, each with its name and its TOML.
const SPECS: &[(&str, &str)] = specs![
    "llama-guard-1",
    "llama-guard-2",
    "llama-guard-3",
    "llama-guard-3-1b",
    "llama-guard-4",
    "aegis-defensive",
    "aegis-permissive",
    "nemotron-safety-guard",
    "wildguard",
    "polyguard",
    "md-judge",
    "qwen3guard-strict",
    "qwen3guard-loose",
    "shieldgemma",
    "shieldgemma-harassment",
    "shieldgemma-hate-speech",
    "shieldgemma-sexual",
    "granite-guardian",
    "aegis-small",
];

/// The names of the bundled specs.
pub const NAMES: &[&str] = &{
    let mut names = [""; SPECS.len()];
    let mut index = 0;
    while index < SPECS.len() {
        names[index] = SPECS[index].0;
        index += 1;
    }
    names
};

/// The TOML of the bundled spec of this name.
pub(super) fn source(name: &str) -> Option<&'static str> {
    SPECS.iter().find(|(known, _)| *known == name).map(|(_, source)| *source)
}
