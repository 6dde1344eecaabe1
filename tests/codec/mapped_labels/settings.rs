//! The settings of `[label_fields]`: the tables of words, and settings that are refused.

use aegis::config::LabelFields;
use aegis::core::label::{Finding, Source};

use super::{fields, read};

#[test]
fn half_of_a_section_is_refused() {
    let check = |lines: &str| toml::from_str::<LabelFields>(lines).unwrap().check();
    assert_eq!(check(""), Ok(()));
    assert!(check("verdict = \"/v\"").unwrap_err().contains("label_fields.event_id"));
    assert!(check("event_id = \"/e\"").unwrap_err().contains("label_fields.verdict"));
    assert_eq!(check("event_id = \"/e\"\nseverity = \"/s\""), Ok(()));
}

/// Returns the verdict that a section gives.
fn verdict(lines: &str, value: &str) -> Result<Option<Finding>, String> {
    let defaults = fields(&format!("event_id = \"/e\"\nverdict = \"/v\"\n{lines}"));
    let read = read(&format!(r#"{{"e":"e1","v":{value}}}"#), &defaults);
    read.map(|label| label.verdict).map_err(|error| error.to_string())
}

#[test]
fn the_table_of_verdicts_holds_for_booleans_and_numbers_as_for_texts() {
    let is_safe = r#"verdicts = { true = "safe", false = "unsafe" }"#;
    for (value, expected) in [
        ("true", Finding::Safe),
        ("false", Finding::Unsafe),
        (r#""true""#, Finding::Safe),
        (r#""false""#, Finding::Unsafe),
        ("[true]", Finding::Safe),
        (r#""unsafe""#, Finding::Unsafe),
    ] {
        assert_eq!(verdict(is_safe, value), Ok(Some(expected)), "{value}");
    }
    // Python's spelling.
    assert_eq!(verdict(r#"verdicts = { True = "safe", False = "unsafe" }"#, "true"), Ok(Some(Finding::Safe)));
    // Values that are not in the table have their default meaning.
    assert_eq!(verdict(r#"verdicts = { no = "safe" }"#, "true"), Ok(Some(Finding::Unsafe)));
    let numbers = r#"verdicts = { 0 = "safe", 1 = "unsafe", "2.5" = "needs_caution" }"#;
    for (value, expected) in [
        ("0", Finding::Safe),
        ("1", Finding::Unsafe),
        ("1.0", Finding::Unsafe),
        ("1e0", Finding::Unsafe),
        (r#""1""#, Finding::Unsafe),
        ("2.50", Finding::NeedsCaution),
    ] {
        assert_eq!(verdict(numbers, value), Ok(Some(expected)), "{value}");
    }
    for other in ["2", "-1", "NaN", r#""1.0""#] {
        assert!(verdict(numbers, other).unwrap_err().contains("label_fields.verdicts"), "{other}");
    }
    let gold = fields(
        "event_id = \"/e\"\nverdict = \"/v\"\nsource = \"/g\"\nsources = { true = \"gold\", false = \"review\" }",
    );
    assert_eq!(read(r#"{"e":1,"v":"safe","g":true}"#, &gold).unwrap().source, Source::Gold);
}

#[test]
fn settings_without_effect_are_refused() {
    let check =
        |lines: &str| toml::from_str::<LabelFields>(&format!("event_id = \"/e\"\n{lines}")).unwrap().check();
    for (lines, named) in [
        ("severity = \"/s\"\nverdicts = { bad = \"unsafe\" }", "label_fields.verdicts has no effect"),
        ("verdict = \"/v\"\nsources = { bad = \"report\" }", "label_fields.sources has no effect"),
        ("verdict = \"/v\"\ntime_zone = \"UTC\"", "label_fields.time_zone has no effect"),
        (
            "verdict = \"/v\"\nverdicts = { 1 = \"safe\", \"1.0\" = \"unsafe\" }",
            "label_fields.verdicts has the number",
        ),
        ("verdict = \"/v\"\nverdicts = { true = \"safe\" }", "both mean the same: add false"),
        ("verdict = \"/v\"\nverdicts = { False = \"unsafe\" }", "both mean the same: add true"),
        ("verdict = \"/v\"\nskip_if = { \"\" = 1 }", "label_fields.skip_if has an empty pointer"),
        ("verdict = \"/v\"\nskip_if = { \"/a\" = [] }", "label_fields.skip_if.\"/a\" has no values"),
        ("verdict = \"/a/*/v\"", "label_fields.annotations is not set"),
        ("annotations = \"/a\"\nverdict = \"/v\"", "neither verdict nor severity leads into it"),
        ("annotations = \"/a\"\nverdict = \"/a/*/v\"", "could not be told apart"),
        ("verdict = \"/v\"\nskip_if = { \"/a/*/cut\" = true }", "skip_if has * in \"/a/*/cut\""),
        ("verdict = \"/v\"\nskip_if = { \"/a/*\" = true }", "skip_if has * in \"/a/*\""),
        ("verdict = \"/v/*\"", "label_fields.verdict has * in \"/v/*\""),
        ("annotations = \"/a/*\"\nverdict = \"/v\"", "label_fields.annotations has *"),
        (
            "annotations = \"/as\"\nverdict = \"/as/*/v\"\nid = \"/as/*/id\"\nskip_if = { \"/a/*/cut\" = true }",
            "write * only in \"/as/*/\"",
        ),
        ("annotations = \"/a\"\nverdict = \"/a/*/v/*\"\nid = \"/a/*/id\"", "write * only in \"/a/*/\""),
        (
            "annotations = \"/a\"\nverdict = \"/a/*/v\"\nannotator = \"/a/*/by\"\nid = \"/id\"",
            "label_fields.id does not lead into",
        ),
        (
            "annotations = \"/a\"\nverdict = \"/a/*/v\"\nannotator = \"/a/*/by\"\ntenant = \"/a/*/org\"",
            "label_fields.tenant leads into",
        ),
    ] {
        let refused = check(lines).unwrap_err();
        assert!(refused.contains(named), "{refused}");
    }
    assert_eq!(toml::from_str::<LabelFields>("time_unit = \"milliseconds\"").unwrap().check(), Ok(()));
}
