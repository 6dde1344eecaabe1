//! Features: the embedding of the judged text by the panel's shared encoder, in signed bytes.

/// The number of coordinates of a text's features.
pub const DIMENSIONS: usize = 384;

/// The whitened coordinates of the judged text, as stored. The learner reads exactly these bytes, live and in
/// replay, because the float encoder that computes them is not bit-stable.
pub type Features = [i8; DIMENSIONS];

/// SHA-256 over the encoder's graph, tokenizer and preprocessing rules. Features of different encoders cannot be
/// compared.
pub type EncoderId = [u8; 32];
