//! The inputs that a graph takes for text: token ids, or strings that the graph tokenises itself.

use std::borrow::Cow;

use ort::session::SessionInputValue;
use ort::value::Tensor;

use super::session::{GraphInput, Inputs};
use super::tensors::whole_numbers;
use crate::experts::backend::result::RunError;
use crate::experts::manifest::{Padding, Side};

/// The inputs for token ids, the attention mask and token types.
pub(crate) struct TokenInputs {
    pub(crate) ids: GraphInput,
    pub(crate) mask: Option<GraphInput>,
    pub(crate) types: Option<GraphInput>,
    pub(crate) padding: Padding,
}

impl TokenInputs {
    /// The input tensors of a batch, each of shape `[rows, width]`, padded to the longest row or to the fixed length.
    pub(crate) fn fill(&self, rows: &[&[u32]]) -> Result<Inputs<'_>, RunError> {
        let longest = rows.iter().map(|row| row.len()).max().unwrap_or(0);
        let width = self.padding.to.unwrap_or(longest.max(1));
        let mut ids = Vec::with_capacity(rows.len() * width);
        let mut mask = Vec::with_capacity(rows.len() * width);
        for row in rows {
            let pad = width.saturating_sub(row.len());
            let padding = || std::iter::repeat_n((i64::from(self.padding.id), 0_i64), pad);
            let tokens = row.iter().map(|&id| (i64::from(id), 1));
            let cells: Box<dyn Iterator<Item = (i64, i64)>> = match self.padding.side {
                Side::Left => Box::new(padding().chain(tokens)),
                Side::Right => Box::new(tokens.chain(padding())),
            };
            for (id, real) in cells {
                ids.push(id);
                mask.push(real);
            }
        }
        let shape = [rows.len(), width];
        let mut inputs = vec![(Cow::from(&self.ids.name), whole_numbers(self.ids.kind, shape, &ids)?)];
        if let Some(input) = &self.mask {
            inputs.push((Cow::from(&input.name), whole_numbers(input.kind, shape, &mask)?));
        }
        if let Some(input) = &self.types {
            inputs.push((Cow::from(&input.name), whole_numbers(input.kind, shape, &vec![0; ids.len()])?));
        }
        Ok(inputs)
    }
}

/// A graph's input for strings. The characters of a text take the way of token ids through the scheduler, the cache
/// and the batch, and are put together again here.
#[derive(Debug, Clone)]
pub(crate) struct StringInput {
    pub(crate) name: String,
    /// The graph takes the shape `[batch, 1]`, not `[batch]`.
    pub(crate) column: bool,
}

impl StringInput {
    /// The input tensor of a batch of texts, given as their characters.
    pub(crate) fn fill(&self, rows: &[&[u32]]) -> Result<Inputs<'_>, RunError> {
        let string = |row: &&[u32]| row.iter().filter_map(|&id| char::from_u32(id)).collect::<String>();
        let texts: Vec<String> = rows.iter().map(string).collect();
        let shape = if self.column { vec![texts.len(), 1] } else { vec![texts.len()] };
        let tensor = Tensor::from_string_array((shape, texts.as_slice())).map_err(RunError::failed)?;
        Ok(vec![(Cow::from(&self.name), SessionInputValue::from(tensor))])
    }
}

/// The form in which a classifier's graph takes text.
pub(crate) enum ClassifierInput {
    Tokens(TokenInputs),
    Text(StringInput),
}

impl ClassifierInput {
    pub(crate) fn fill(&self, rows: &[&[u32]]) -> Result<Inputs<'_>, RunError> {
        match self {
            Self::Tokens(inputs) => inputs.fill(rows),
            Self::Text(input) => input.fill(rows),
        }
    }
}
