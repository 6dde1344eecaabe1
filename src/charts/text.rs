//! Text and numbers in charts and pages.

/// Returns the text as it may stand in HTML and SVG: escaped, without control characters and without characters that
/// hide text or change its direction.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other
                if other.is_control()
                    || matches!(other, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}') => {}
            other => out.push(other),
        }
    }
    out
}

/// Returns a name cut to the room beside a chart.
pub(super) fn short(name: &str) -> String {
    const MAX_CHARS: usize = 26;
    if name.chars().count() <= MAX_CHARS {
        name.to_owned()
    } else {
        name.chars().take(MAX_CHARS - 1).chain(['…']).collect()
    }
}

/// Returns a number with a comma between thousands.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Returns a share in percent, with a decimal if it is not a whole number.
pub(super) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if (percent - percent.round()).abs() < 1e-6 {
        format!("{percent:.0} %")
    } else {
        format!("{percent:.1} %")
    }
}

/// Returns a number with as many digits as a reader of a chart needs.
pub(super) fn number(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude >= 1_000.0 {
        let sign = if value < 0.0 { "−" } else { "" };
        format!("{sign}{}", grouped(magnitude.round() as u64))
    } else if (value - value.round()).abs() < 1e-9 {
        format!("{value:.0}").replace('-', "−")
    } else {
        let digits = if magnitude < 0.1 { 3 } else { 2 };
        format!("{value:.digits$}").trim_end_matches('0').replace('-', "−")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!(number(10_000.0), "10,000");
        assert_eq!(number(-1_118.4), "−1,118");
        assert_eq!(number(0.5), "0.5");
        assert_eq!(percent(0.25), "25 %");
        assert_eq!(percent(0.2512), "25.1 %");
    }

    #[test]
    fn markup_is_escaped_and_hidden_characters_are_dropped() {
        assert_eq!(escape("<a href='x'>&\u{202e}\"\n"), "&lt;a href=&#39;x&#39;&gt;&amp;&quot;");
    }
}
