//! Digits and signs that stand for letters.

use super::is_plain;

/// The letter for which a digit or sign stands inside a word.
fn leet_letter(c: char) -> Option<char> {
    Some(match c {
        '0' => 'o',
        '1' | '!' => 'i',
        '3' => 'e',
        '4' | '@' => 'a',
        '5' | '$' => 's',
        '7' => 't',
        _ => return None,
    })
}

/// Names of formats and models that begin with two letters.
const DESIGNATIONS: [&str; 7] = ["mp3", "mp4", "ps1", "ps2", "ps3", "ps4", "ps5"];

/// Returns `true` if a run of letters, digits and signs names a model, a road or a format, or an amount of money, and is no
/// disguised word. It does if it is one letter, a number and possibly an `s` or `x` (`a55`, `a5s`), a currency of up to
/// three letters, `$` and a number (`a$5`), or one of a list. Two letters and digits can be a word (`sh17`), and so can a
/// letter and a zero (`h03`).
fn is_designation(run: &str) -> bool {
    if DESIGNATIONS.contains(&run) {
        return true;
    }
    let letters = run.bytes().take_while(u8::is_ascii_lowercase).count();
    let rest = &run[letters..];
    if let Some(amount) = rest.strip_prefix('$') {
        let is_number = !amount.is_empty() && amount.bytes().all(|byte| byte.is_ascii_digit());
        return (1..=3).contains(&letters) && is_number;
    }
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let end = &rest[digits..];
    letters == 1 && digits > 0 && !rest.starts_with('0') && matches!(end, "" | "s" | "x")
}

/// Appends a token to `out`. If it has letters, digits and signs that stand for letters are replaced. An address (`@`
/// and a dot) stays as it is, and so does a final `!`.
pub(super) fn append_word(token: &str, out: &mut String) {
    if is_plain(token)
        || !token.chars().any(char::is_alphabetic)
        || (token.contains('@') && token.contains('.'))
    {
        out.push_str(token);
        return;
    }
    let body = token.trim_end_matches('!');
    let in_word = |c: char| c.is_alphanumeric() || leet_letter(c).is_some();
    let mut rest = body;
    while !rest.is_empty() {
        let (run, after) = rest.split_at(rest.find(|c| !in_word(c)).unwrap_or(rest.len()));
        if run.contains(char::is_alphabetic) && !is_designation(run) {
            out.extend(run.chars().map(|c| leet_letter(c).unwrap_or(c)));
        } else {
            out.push_str(run);
        }
        let (between, after) = after.split_at(after.find(in_word).unwrap_or(after.len()));
        out.push_str(between);
        rest = after;
    }
    out.push_str(&token[body.len()..]);
}
