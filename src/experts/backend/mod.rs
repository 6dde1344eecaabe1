//! What runs experts.

pub(crate) mod onnx;
pub(crate) mod run;
