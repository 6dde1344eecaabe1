//! Ids that are numbers, and times in the forms that tools write.

use aegis::codec::Received;

use super::{fields, read};

#[test]
fn ids_may_be_numbers_and_times_seconds() {
    let id = |value: &str| {
        read(format!(r#"{{"n":{value},"t":""}}"#), &fields("id = \"/n\"\ntext = \"/t\""))
            .map(|event| event.id)
    };
    assert_eq!(id("18446744073709551615").unwrap(), "18446744073709551615");
    assert_eq!(id("-7").unwrap(), "-7");
    let exact = "340282366920938463463374607431768211455";
    assert_eq!(id(exact).unwrap(), exact);
    for odd in ["1.0", "1e3", "340282366920938463463374607431768211456", "-0", "true", "NaN"] {
        assert!(id(odd).is_err(), "{odd}");
    }
    let time = |unit: &str, value: &str| {
        let lines = format!("text = \"/t\"\ntime = \"/at\"\ntime_unit = \"{unit}\"");
        read(format!(r#"{{"t":"","at":{value}}}"#), &fields(&lines)).map(|event| event.time)
    };
    assert_eq!(time("milliseconds", "1772353800250").unwrap(), Some(1_772_353_800_250));
    assert_eq!(time("seconds", "1772353800").unwrap(), Some(1_772_353_800_000));
    assert_eq!(time("seconds", "1772353800.25").unwrap(), Some(1_772_353_800_250));
    assert_eq!(time("seconds", r#""2026-03-01T08:30:00.25Z""#).unwrap(), Some(1_772_353_800_250));
    assert_eq!(time("seconds", "null").unwrap(), None);
    for bad in ["9223372036854775807", "1e300", "true", r#""soon""#, "-1e17"] {
        assert!(time("seconds", bad).is_err(), "{bad}");
    }
}

#[test]
fn times_are_read_as_tools_write_them() {
    let with = |lines: &str, value: &str| {
        let lines = format!("text = \"/t\"\ntime = \"/at\"\n{lines}");
        Received::plain(format!(r#"{{"t":"","at":{value}}}"#).as_bytes())
            .at("chats", 0, 0)
            .event(&fields(&lines))
            .map(|event| event.time)
    };
    let noon = Ok(Some(1_772_366_400_000));
    for value in [
        r#""2026-03-01T12:00:00+0000""#,
        r#""2026-03-01 12:00:00 UTC""#,
        r#""2026-03-01T13:00:00.000+01:00[Europe/Berlin]""#,
        "1772366400",
        "1772366400.0",
        "1772366400000",
        "1772366400000000",
        "1772366400000000000",
        r#""1772366400000""#,
    ] {
        assert_eq!(with("", value), noon, "{value}");
    }
    for (unit, value) in [
        ("seconds", r#""1772366400""#),
        ("milliseconds", "1772366400000"),
        ("microseconds", "1772366400000000"),
        ("nanoseconds", "1772366400000000000"),
    ] {
        assert_eq!(with(&format!("time_unit = \"{unit}\""), value), noon, "{unit}");
    }
    // A unit that is set applies to a number of any size.
    assert_eq!(with("time_unit = \"milliseconds\"", "1772366400"), Ok(Some(1_772_366_400)));
    for zone in ["UTC", "+00:00", "Africa/Abidjan"] {
        assert_eq!(with(&format!("time_zone = \"{zone}\""), r#""2026-03-01 12:00:00""#), noon, "{zone}");
    }
    for (lines, value, why) in [
        ("", r#""2026-03-01 12:00:00""#, "time_zone in the same section is not set"),
        ("time_zone = \"Europe/Berlin\"", r#""2026-10-25 02:30:00""#, "only an offset says which is meant"),
        ("", r#""2026030112""#, "a number as time_unit says"),
        ("", r#""yesterday""#, "a number as time_unit says"),
        ("", "NaN", "a number as time_unit says"),
    ] {
        let error = with(lines, value).unwrap_err();
        let said = error.to_string();
        assert!(said.contains("/at, where event_fields.time points") && said.contains(why), "{said}");
        assert!(!said.contains("02:30") && !said.contains("yesterday"), "{said}");
    }
}
