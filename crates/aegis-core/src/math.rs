//! exp, ln and related functions with the same bits on every machine.
//!
//! The platform's libm differs between systems and versions, so the learners use these functions. They consist
//! of additions, multiplications, divisions and bit operations, which IEEE 754 defines to the last bit, and
//! Rust never contracts them to fused multiply-adds. The hot ones have no branches, so that the compiler
//! vectorises loops over a slice, even for the oldest 64-bit machine.

const ROUND: f64 = 6_755_399_441_055_744.0; // 1.5 * 2^52: adding it leaves the nearest integer in the low bits
const LN_2_HIGH: f64 = 6.931_471_803_691_238e-1; // 32 bits, so that its product with an exponent is exact
const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;
const FRACTION: u64 = 0x000f_ffff_ffff_ffff;

/// The least exponent. Its k is -1023, for which the exponent bits are all zero: [`exp`] is 0 below about -708.7.
const LEAST: f64 = -709.0;
/// The greatest exponent. Above it [`exp`] stays at e^709, so that no learner gets an infinity.
const GREATEST: f64 = 709.0;

/// Returns e^x to about one unit in the last place; 0 below x = -708.8, e^709 above x = 709, NaN for NaN.
#[inline(always)]
#[must_use]
pub fn exp(x: f64) -> f64 {
    let y = if x < LEAST { LEAST } else { x };
    let y = if y > GREATEST { GREATEST } else { y };
    // x = k ln 2 + r with |r| <= ln 2 / 2.
    let shifted = y * std::f64::consts::LOG2_E + ROUND;
    let k = shifted - ROUND;
    let r = (y - k * LN_2_HIGH) - k * LN_2_LOW;
    // (e^r - 1 - r) / r^2, interpolated at Chebyshev's points, with an error of at most 1.3e-17.
    let r2 = r * r;
    let r4 = r2 * r2;
    let low = (0.500_000_000_000_000_1 + 0.166_666_666_666_666_69 * r)
        + (4.166_666_666_662_416e-2 + 8.333_333_333_330_063e-3 * r) * r2;
    let high = (1.388_888_891_719_986_3e-3 + 1.984_126_983_906_303e-4 * r)
        + (2.480_152_131_748_408_3e-5 + 2.755_726_847_655_369_5e-6 * r) * r2;
    let top = 2.762_068_020_780_639_4e-7 + 2.510_037_761_960_637e-8 * r;
    let q = low + r4 * (high + r4 * top);
    let power = 1.0 + (r + r2 * q);
    // 2^k by its exponent bits; k is in the low bits of `shifted`.
    let scale = f64::from_bits((shifted.to_bits() << 52).wrapping_add(1.0f64.to_bits()));
    power * scale
}

/// Returns ln x for a positive, finite, normal x, to less than one unit in the last place. The result for
/// another x is not specified.
///
/// The reduction and the polynomial are fdlibm's (Sun Microsystems 1993).
#[inline(always)]
#[must_use]
pub fn ln_normal(x: f64) -> f64 {
    const ROOT_HALF: u64 = 0x3fe6_a09e_667f_3bcd;
    let shifted = x.to_bits().wrapping_add(1.0f64.to_bits().wrapping_sub(ROOT_HALF));
    let m = f64::from_bits((shifted & FRACTION).wrapping_add(ROOT_HALF));
    // The exponent as a float. Machines before AVX-512 cannot convert 64-bit integers by lanes.
    let k = f64::from_bits((shifted >> 52) | 0x4330_0000_0000_0000) - (4_503_599_627_370_496.0 + 1023.0);
    let f = m - 1.0;
    let s = f / (2.0 + f);
    let z = s * s;
    let w = z * z;
    let even =
        w * (3.999_999_999_940_942e-1 + w * (2.222_219_843_214_978_4e-1 + w * 1.531_383_769_920_937_3e-1));
    let odd = z
        * (6.666_666_666_666_735e-1
            + w * (2.857_142_874_366_239e-1
                + w * (1.818_357_216_161_805e-1 + w * 1.479_819_860_511_658_6e-1)));
    let half_square = 0.5 * f * f;
    s * (half_square + (odd + even)) + k * LN_2_LOW - half_square + f + k * LN_2_HIGH
}

/// Returns ln x for any x: minus infinity at 0, NaN below.
#[must_use]
pub fn ln(x: f64) -> f64 {
    if x.is_nan() || x < 0.0 {
        f64::NAN
    } else if x == 0.0 {
        f64::NEG_INFINITY
    } else if x == f64::INFINITY {
        x
    } else if x < f64::MIN_POSITIVE {
        ln_normal(x * 18_014_398_509_481_984.0) - 54.0 * std::f64::consts::LN_2
    } else {
        ln_normal(x)
    }
}

/// Returns 1 / (1 + e^-x), the probability with the log-odds x.
#[inline(always)]
#[must_use]
pub fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + exp(-x))
}

/// Returns ln(p / (1 - p)), the log-odds of p in (0,1).
#[must_use]
pub fn logit(p: f64) -> f64 {
    ln(p) - ln(1.0 - p)
}

/// Returns the greatest of the numbers; minus infinity if there are none.
#[inline(always)]
#[must_use]
pub fn greatest(xs: &[f64]) -> f64 {
    // Four lanes, because one chain of comparisons would cost as much as the exponentials that follow.
    let (chunks, rest) = xs.as_chunks::<4>();
    let mut lanes = [f64::NEG_INFINITY; 4];
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane = if *x > *lane { *x } else { *lane };
        }
    }
    rest.iter().chain(&lanes).fold(f64::NEG_INFINITY, |top, x| if *x > top { *x } else { top })
}

/// Returns base^n for 0 <= base <= 1 by repeated squaring. The bits of the standard `powi` are not specified.
#[must_use]
pub fn power(base: f64, n: u64) -> f64 {
    let (mut base, mut n, mut product) = (base, n, 1.0);
    while n > 0 {
        if n & 1 == 1 {
            product *= base;
        }
        base *= base;
        n >>= 1;
    }
    product
}

/// Returns e^(x²)·erfc(x) for x >= 0, the scaled complementary error function, to about one unit in the last
/// place.
///
/// Chebyshev coefficients of Press et al., *Numerical Recipes*, third edition, section 6.2.2.
#[must_use]
pub fn erfcx(x: f64) -> f64 {
    const COEFFICIENTS: [f64; 28] = [
        -1.302_653_719_781_709_4,
        6.419_697_923_564_902e-1,
        1.947_647_320_418_583_6e-2,
        -9.561_514_786_808_63e-3,
        -9.465_953_444_820_36e-4,
        3.668_394_978_527_61e-4,
        4.252_332_480_690_7e-5,
        -2.027_857_811_253_4e-5,
        -1.624_290_004_647e-6,
        1.303_655_835_58e-6,
        1.562_644_172_2e-8,
        -8.523_809_591_5e-8,
        6.529_054_439e-9,
        5.059_343_495e-9,
        -9.913_641_56e-10,
        -2.273_651_22e-10,
        9.646_791_1e-11,
        2.394_038e-12,
        -6.886_027e-12,
        8.944_87e-13,
        3.130_92e-13,
        -1.127_08e-13,
        3.81e-16,
        7.106e-15,
        -1.523e-15,
        -9.4e-17,
        1.21e-16,
        -2.8e-17,
    ];
    let t = 2.0 / (2.0 + x);
    let y = 4.0 * t - 2.0;
    let (mut d, mut dd) = (0.0, 0.0);
    for c in COEFFICIENTS.iter().skip(1).rev() {
        (d, dd) = (y * d - dd + c, d);
    }
    t * exp(0.5 * (COEFFICIENTS[0] + y * d) - dd)
}

/// Returns ln Γ(x) for x > 0, to about 1e-13 relative or absolute.
///
/// Stirling's series (Abramowitz and Stegun 1964, 6.1.41) after shifting x to at least 10.
#[must_use]
pub fn ln_gamma(x: f64) -> f64 {
    let (mut x, mut product) = (x, 1.0);
    while x < 10.0 {
        product *= x;
        x += 1.0;
    }
    let (inverse, square) = (1.0 / x, 1.0 / (x * x));
    let series = inverse
        * (1.0 / 12.0
            - square * (1.0 / 360.0 - square * (1.0 / 1260.0 - square * (1.0 / 1680.0 - square / 1188.0))));
    (x - 0.5) * ln(x) - x + 0.918_938_533_204_672_8 + series - ln(product)
}

/// Returns ln B(a, b), the logarithm of the beta function, for positive a and b.
#[must_use]
pub fn ln_beta(a: f64, b: f64) -> f64 {
    ln_gamma(a) + ln_gamma(b) - ln_gamma(a + b)
}

/// Returns I_x(a, b), the distribution function of the beta distribution, for positive a and b.
///
/// The continued fraction of DiDonato and Morris (1992), equation 9 with the terms of Abramowitz and Stegun (1964),
/// 26.5.8, evaluated by Lentz's algorithm.
#[must_use]
pub fn beta_cdf(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if x >= 1.0 {
        return 1.0;
    }
    let front = exp(a * ln(x) + b * ln(1.0 - x) - ln_beta(a, b));
    // The fraction converges fast below the mean; above it, the complement is computed.
    if x < (a + 1.0) / (a + b + 2.0) {
        (front * beta_fraction(x, a, b) / a).clamp(0.0, 1.0)
    } else {
        (1.0 - front * beta_fraction(1.0 - x, b, a) / b).clamp(0.0, 1.0)
    }
}

/// The continued fraction of [`beta_cdf`]. It needs about the square root of the greater of a and b terms.
fn beta_fraction(x: f64, a: f64, b: f64) -> f64 {
    const TINY: f64 = 1e-300;
    const TERMS: u32 = 10_000;
    let away = |y: f64| if y.abs() < TINY { TINY } else { y };
    let mut c = 1.0;
    let mut d = 1.0 / away(1.0 - (a + b) * x / (a + 1.0));
    let mut fraction = d;
    for term in 1..=TERMS {
        let m = f64::from(term);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        d = 1.0 / away(1.0 + even * d);
        c = away(1.0 + even / c);
        fraction *= d * c;
        d = 1.0 / away(1.0 + odd * d);
        c = away(1.0 + odd / c);
        fraction *= d * c;
        if (d * c - 1.0).abs() < 1e-15 {
            break;
        }
    }
    fraction
}

/// Returns the x with I_x(a, b) = `level`, a quantile of the beta distribution, to about 1e-12, for positive a and b.
#[must_use]
pub fn beta_quantile(level: f64, a: f64, b: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    let mut x = a / (a + b);
    let ln_beta = ln_beta(a, b);
    for _ in 0..200 {
        let above = beta_cdf(x, a, b) - level;
        if above > 0.0 {
            high = x
        } else {
            low = x
        }
        // Newton's step on the distribution function, or half the interval where it leaves it.
        let density = exp((a - 1.0) * ln(x) + (b - 1.0) * ln(1.0 - x) - ln_beta);
        let step = x - above / density;
        let next = if step > low && step < high { step } else { f64::midpoint(low, high) };
        if (next - x).abs() <= 1e-12 * x {
            return next;
        }
        x = next;
    }
    x
}
