//! The contrast of the palette, by the formula of WCAG 2.2: 4.5 for text, 3 for controls and marks.

use std::collections::BTreeMap;

const STYLE: &str = include_str!("../../src/console/assets/console.css");

/// The text colours with the backgrounds on which they are used.
const TEXT: &[(&str, &[&str])] = &[
    ("text", &["page", "surface", "sunken"]),
    ("muted", &["page", "surface", "sunken"]),
    ("accent", &["page", "surface", "sunken"]),
    ("on-accent", &["accent"]),
    ("good", &["surface", "good-back"]),
    ("warn", &["surface", "warn-back"]),
    ("bad", &["page", "surface", "bad-back"]),
];
/// The colours of controls, focus and charts with the backgrounds that they must differ from.
const MARKS: &[(&str, &[&str])] = &[
    ("control", &["page", "surface"]),
    ("accent", &["page", "surface", "sunken"]),
    ("allow", &["surface"]),
    ("review", &["surface"]),
    ("block", &["surface"]),
    ("labels", &["surface"]),
    ("letters", &["surface"]),
    ("good", &["surface"]),
    ("bad", &["surface"]),
];

/// Returns the variables of the first `:root` block of a text.
fn palette(style: &str) -> BTreeMap<String, [f64; 3]> {
    let (_, rest) = style.split_once(":root {").unwrap();
    let (block, _) = rest.split_once('}').unwrap();
    let variable = |line: &str| {
        let (name, value) = line.trim().strip_prefix("--")?.split_once(": #")?;
        let number = u32::from_str_radix(value.trim_end_matches(';'), 16).unwrap();
        let channel = |shift: u32| f64::from((number >> shift) & 0xFF) / 255.0;
        Some((name.to_owned(), [channel(16), channel(8), channel(0)]))
    };
    block.lines().filter_map(variable).collect()
}

fn luminance(colour: [f64; 3]) -> f64 {
    let linear = |channel: f64| {
        if channel <= 0.04045 { channel / 12.92 } else { ((channel + 0.055) / 1.055).powf(2.4) }
    };
    let [red, green, blue] = colour.map(linear);
    0.2126 * red + 0.7152 * green + 0.0722 * blue
}

fn contrast(a: [f64; 3], b: [f64; 3]) -> f64 {
    let (a, b) = (luminance(a), luminance(b));
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

#[test]
fn the_palette_has_the_contrast_of_wcag_aa_in_both_schemes() {
    let (light, dark) = STYLE.split_once("prefers-color-scheme: dark").unwrap();
    let (light, dark) = (palette(light), palette(dark));
    assert_eq!(
        light.keys().collect::<Vec<_>>(),
        dark.keys().collect::<Vec<_>>(),
        "both schemes have all colours"
    );
    let mut wrong = Vec::new();
    for (scheme, palette) in [("light", &light), ("dark", &dark)] {
        for (pairs, least) in [(TEXT, 4.5), (MARKS, 3.0)] {
            for (front, backs) in pairs {
                for back in *backs {
                    let found = contrast(palette[*front], palette[*back]);
                    if found < least {
                        wrong.push(format!("{scheme}: {front} on {back} has {found:.2}, not {least}"));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!((contrast([0.0; 3], [1.0; 3]) - 21.0).abs() < 1e-9, "the formula");
}

/// A colour outside of the palette would not be checked.
#[test]
fn all_colours_are_variables() {
    let rest: Vec<&str> = STYLE
        .lines()
        .filter(|line| !line.trim_start().starts_with("--"))
        .filter(|line| line.contains('#') && !line.trim_start().starts_with('#') || line.contains("rgb"))
        .collect();
    assert!(rest.is_empty(), "{rest:?}");
}
