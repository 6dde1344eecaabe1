//! The numbers of JSON. Integers are exact.

/// A number of a JSON text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Number {
    /// An integer, written without fraction and exponent.
    Whole(i128),
    /// An integer above `i128::MAX`.
    Wide(u128),
    /// Any other number. NaN stands for a bare word that is not JSON, such as `NaN` or `Infinity`.
    Real(f64),
}

impl Number {
    /// Parses a bare word of a JSON text.
    pub(super) fn parse(token: &str) -> Self {
        let digits = token.strip_prefix('-').unwrap_or(token);
        let (whole, rest) = digits.split_at(digits.bytes().take_while(u8::is_ascii_digit).count());
        if whole.is_empty() || whole.len() > 1 && whole.starts_with('0') {
            return Self::Real(f64::NAN);
        }
        if rest.is_empty() && token != "-0" {
            let wide = || token.parse().map(Self::Wide).ok();
            let exact = token.parse().map(Self::Whole).ok().or_else(wide);
            return exact.unwrap_or_else(|| Self::real(token));
        }
        // Rust parses more than JSON allows, such as `1.` and `inf`.
        let fraction = rest.strip_prefix('.');
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let (fraction, power) = fraction.map_or((1, rest), |rest| (digits(rest), &rest[digits(rest)..]));
        let power =
            power.strip_prefix(['e', 'E']).map(|power| power.strip_prefix(['+', '-']).unwrap_or(power));
        let power_fits = power.is_none_or(|power| !power.is_empty() && digits(power) == power.len());
        if fraction == 0 || !power_fits {
            return Self::Real(f64::NAN);
        }
        Self::real(token)
    }

    fn real(token: &str) -> Self {
        Self::Real(token.parse().unwrap_or(f64::NAN))
    }
}

/// The greatest number up to which all integers are exact in `f64`.
const EXACT: i128 = 1 << 53;

impl Number {
    /// Returns the number if `f64` represents it without a loss.
    #[expect(clippy::cast_precision_loss, reason = "within EXACT")]
    pub(super) fn exact(self) -> Option<f64> {
        match self {
            Self::Real(value) if value.is_finite() => Some(value),
            Self::Whole(value) if (-EXACT..=EXACT).contains(&value) => Some(value as f64),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_json() {
        for (token, expected) in [
            ("0", Number::Whole(0)),
            ("-7", Number::Whole(-7)),
            ("18446744073709551616", Number::Whole(18_446_744_073_709_551_616)),
            ("340282366920938463463374607431768211455", Number::Wide(u128::MAX)),
            (
                "340282366920938463463374607431768211456",
                Number::Real(340_282_366_920_938_463_463_374_607_431_768_211_456.0),
            ),
            ("-0", Number::Real(-0.0)),
            ("1.50", Number::Real(1.5)),
            ("1e3", Number::Real(1_000.0)),
            ("1E-3", Number::Real(0.001)),
            ("-2.5e+2", Number::Real(-250.0)),
            ("1e999", Number::Real(f64::INFINITY)),
        ] {
            assert_eq!(Number::parse(token), expected, "{token}");
        }
        for token in [
            "NaN",
            "Infinity",
            "-Infinity",
            "inf",
            "01",
            "1.",
            ".5",
            "+1",
            "-",
            "1e",
            "1e+",
            "1.e3",
            "0x1",
            "1-2",
            "None",
        ] {
            assert!(matches!(Number::parse(token), Number::Real(value) if value.is_nan()), "{token}");
        }
    }
}
