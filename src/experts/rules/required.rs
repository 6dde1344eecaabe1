//! The literals that every match of a pattern contains.
//!
//! A rule file has dozens of patterns, and few texts match one. The literals of all patterns are found together with the
//! words, in one pass, so that only patterns are tried of which a text has the literals.

use regex_syntax::hir::{Class, Hir, HirKind};

/// The greatest number of literals in a set.
const MAX_LITERALS: usize = 200;
/// The greatest number of sets that are kept for a pattern.
const MAX_SETS: usize = 3;
/// The length in bytes from which a longer literal is not better: it is rare enough.
const RARE_LENGTH: usize = 6;

/// Literals of which every match contains one.
pub(super) type LiteralSet = Vec<Vec<u8>>;

/// Returns sets of literals of which every match contains one each. Returns no set if nothing is known of the pattern.
pub(super) fn required(regex: &str) -> Vec<LiteralSet> {
    let Ok(hir) = regex_syntax::parse(regex) else { return Vec::new() };
    let mut sets = match parts(&hir) {
        Some(parts) => parts.iter().filter_map(literals).collect(),
        None => Vec::from_iter(literals(&hir)),
    };
    sets.sort_by_key(|set| std::cmp::Reverse(quality(set)));
    sets.truncate(MAX_SETS);
    // A single letter occurs in almost every text.
    sets.retain(|set| set.iter().all(|literal| literal.len() > 1));
    sets
}

/// The parts of a concatenation, also of one in a group.
fn parts(hir: &Hir) -> Option<&[Hir]> {
    match hir.kind() {
        HirKind::Concat(parts) => Some(parts),
        HirKind::Capture(capture) => parts(&capture.sub),
        _ => None,
    }
}

/// The better of two sets has the longer shortest literal, then fewer literals.
fn quality(set: &LiteralSet) -> (usize, std::cmp::Reverse<usize>) {
    let shortest = set.iter().map(Vec::len).min().unwrap_or(0);
    (shortest.min(RARE_LENGTH), std::cmp::Reverse(set.len()))
}

/// The best set of literals of which every match of this part contains one.
fn literals(hir: &Hir) -> Option<LiteralSet> {
    let set = match hir.kind() {
        HirKind::Literal(literal) => vec![literal.0.to_vec()],
        HirKind::Class(class) => characters(class)?,
        HirKind::Capture(capture) => literals(&capture.sub)?,
        HirKind::Repetition(repetition) if repetition.min > 0 => literals(&repetition.sub)?,
        HirKind::Concat(parts) => parts.iter().filter_map(literals).max_by_key(quality)?,
        HirKind::Alternation(branches) => branches.iter().map(literals).collect::<Option<Vec<_>>>()?.concat(),
        HirKind::Repetition(_) | HirKind::Empty | HirKind::Look(_) => return None,
    };
    (!set.is_empty() && set.len() <= MAX_LITERALS).then_some(set)
}

/// The characters of a small class as literals.
fn characters(class: &Class) -> Option<LiteralSet> {
    let Class::Unicode(class) = class else { return None };
    let size: usize = class.iter().map(|range| range.len()).sum();
    let chars = class.iter().flat_map(|range| range.start()..=range.end());
    (size <= 16).then(|| chars.map(|c| c.to_string().into_bytes()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sets(regex: &str) -> Vec<Vec<String>> {
        let text = |literal| String::from_utf8(literal).unwrap();
        required(regex).into_iter().map(|set| set.into_iter().map(text).collect()).collect()
    }

    #[test]
    fn every_match_contains_a_literal_of_each_set() {
        assert_eq!(sets(r"\bshut\s+(?:the\s+)?up\b"), [["shut"], ["up"]]);
        assert_eq!(sets(r"\b(?:kys|(?:go\s+)?kill\s+yourself)\b"), [["kys", "yourself"]]);
        assert_eq!(sets(r"synthesi[sz]e\w*"), [vec!["synthesi"]]);
        assert_eq!(sets("[你妳]是?(?:猪|豬)"), [["你", "妳"], ["猪", "豬"]]);
        for unknown in [r"\d{3}-\d{2}", "a?b?", ".*", "(?:kill|)", "i|we"] {
            assert_eq!(sets(unknown), Vec::<Vec<String>>::new(), "{unknown}");
        }
    }
}
