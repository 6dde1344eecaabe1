//! The bundled specs.

/// The bundled specs, each with its name and its TOML.
const SPECS: &[(&str, &str)] = &[("aegis-small", include_str!("../../experts/guards/aegis-small.toml"))];

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
