//! Features: what the panel's shared encoder makes of the judged text, in signed bytes.

/// Coordinates of one text's features.
pub const DIMENSIONS: usize = 384;

/// Whitened coordinates of the judged text, as stored. The learner reads exactly these bytes, live
/// and in replay, because the float encoder that made them is not bit-stable.
pub type Features = [i8; DIMENSIONS];

/// SHA-256 over the encoder's graph, tokenizer and reading rules: features of different encoders do
/// not compare.
pub type EncoderId = [u8; 32];
