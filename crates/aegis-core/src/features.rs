//! Features: the embedding of the judged text by one encoder of the panel, or by two together, in signed bytes.

/// The number of coordinates of a text's features.
pub const DIMENSIONS: usize = 384;

/// The whitened coordinates of the judged text, as stored. The learner reads exactly these bytes, live and in
/// replay, because the float encoders that compute them are not bit-stable.
pub type Features = [i8; DIMENSIONS];

/// SHA-256 over the graphs, tokenizers and preprocessing rules of the encoders that compute the features. Features with
/// different ids cannot be compared.
pub type EncoderId = [u8; 32];
