//! Shares as text, on the page and in the terminal.

/// A share in percent: with two places if it is below one percent.
#[must_use]
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent.abs() < 0.995 && share != 0.0 { format!("{percent:.2} %") } else { format!("{percent:.1} %") }
}

/// An interval in percent, with the unit once.
#[must_use]
pub fn interval(low: f64, high: f64) -> String {
    format!("{} to {}", percent(low).trim_end_matches(" %"), percent(high))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_shares_have_two_places() {
        assert_eq!([0.0, 0.0042, 0.00996, 0.5].map(percent), ["0.0 %", "0.42 %", "1.0 %", "50.0 %"]);
        assert_eq!(interval(0.0042, 0.02), "0.42 to 2.0 %");
    }
}
