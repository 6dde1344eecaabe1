//! Text for graphs that read it themselves: its characters go where others' tokens do, to the desk, the cache and
//! the batch, and are put together again for the graph.

use std::borrow::Cow;

use ort::session::SessionInputValue;
use ort::value::Tensor;

use crate::experts::backend::onnx::session::{Fault, Inputs};
use crate::experts::tokenize::Tokens;

/// The text's first characters, and whether it went on.
pub(crate) fn characters(text: &str, max_chars: usize) -> Tokens {
    let mut rest = text.chars();
    // The runtime takes strings that end at their first NUL, and refuses a whole batch for one.
    let plain = |c: char| u32::from(if c == '\0' { ' ' } else { c });
    let ids = rest.by_ref().take(max_chars).map(plain).collect();
    Tokens { windows: vec![ids], unknown: vec![0], truncated: !rest.as_str().trim().is_empty() }
}

/// A graph's input for strings.
#[derive(Debug, Clone)]
pub(crate) struct TextPort {
    pub(crate) name: String,
    /// It wants `[batch, 1]`, not `[batch]`.
    pub(crate) column: bool,
}

impl TextPort {
    pub(crate) fn fill(&self, rows: &[&[u32]]) -> Result<Inputs<'_>, Fault> {
        let string = |row: &&[u32]| row.iter().filter_map(|&id| char::from_u32(id)).collect::<String>();
        let texts: Vec<String> = rows.iter().map(string).collect();
        let shape = if self.column { vec![texts.len(), 1] } else { vec![texts.len()] };
        let tensor = Tensor::from_string_array((shape, texts.as_slice())).map_err(Fault::failed)?;
        Ok(vec![(Cow::from(&self.name), SessionInputValue::from(tensor))])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, max_chars: usize) -> (String, bool) {
        let Tokens { windows, truncated, .. } = characters(text, max_chars);
        (windows[0].iter().filter_map(|&id| char::from_u32(id)).collect(), truncated)
    }

    #[test]
    fn characters_are_those_of_the_text() {
        assert_eq!(read("häß 💥", 9), ("häß 💥".to_owned(), false));
        assert_eq!(read("häß 💥", 5), ("häß 💥".to_owned(), false));
        assert_eq!(read("häß 💥", 4), ("häß ".to_owned(), true));
        assert_eq!(read("a\0b", 9), ("a b".to_owned(), false));
    }

    #[test]
    fn white_space_that_is_left_out_is_nothing_left_out() {
        assert_eq!(read("ab   ", 2), ("ab".to_owned(), false));
        assert_eq!(read("ab  c", 2), ("ab".to_owned(), true));
    }
}
