use super::*;
use crate::experts::manifest::{Body, Manifest};

const MODERATIONS: &str = r#"
id = "remote"
kind = "remote"
description = "d"
licence = "MIT"
source = "s"
[endpoint]
url = "https://example.org/v1/moderations"
protocol = "moderations"
model = "m"
key_file = "key"
"#;

fn parse(text: &str) -> Result<Remote, PanelError> {
    let manifest = Manifest::parse(Path::new("models/remote/manifest.toml"), text)?;
    match manifest.body {
        Body::Remote(remote) => Ok(*remote),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_categories_of_the_api_are_known() {
    let remote = parse(MODERATIONS).unwrap();
    assert_eq!(remote.endpoint.key_file.as_deref(), Some(Path::new("models/remote/key")));
    assert_eq!(remote.api.scores().unwrap().labels.len(), super::MODERATIONS.len());
}

#[test]
fn what_can_change_a_vote_changes_the_hash() {
    let hash = |from: &str, to: &str| parse(&MODERATIONS.replace(from, to)).unwrap().hash();
    let same = hash("\"m\"", "\"m\"\ndeadline_ms = 9");
    assert_eq!(hash("", ""), same);
    assert_ne!(hash("model = \"m\"", "model = \"n\""), same);
    assert_ne!(hash("example.org", "example.com"), same);
    assert_ne!(hash("\"key\"", "\"key\"\n[[labels]]\nname = \"hate\"\nunsafe = true"), same);
    assert_ne!(hash("\"key\"", "\"key\"\n[calibration]\na = 2.0\nb = 0.0"), same);
}

#[test]
fn a_contradiction_is_refused_with_its_field() {
    let json = "protocol = \"json\"";
    let body = "\"key\"\n[request]\nbody = \"{}\"";
    let pointer = "[[labels]]\nname = \"score\"\nunsafe = true";
    let cases = [
        ("https://example.org", "example.org", "endpoint.url"),
        ("https://example.org", "https://me:secret@example.org", "endpoint.url"),
        ("https://example.org", "https://exa mple.org", "endpoint.url"),
        ("\"m\"", "\"m\\n\"", "endpoint.model"),
        ("\"m\"", "\"m\"\nmax_in_flight = 0", "endpoint.max_in_flight"),
        ("\"m\"", "\"m\"\nrate = 0.0", "endpoint.rate"),
        ("\"m\"", "\"m\"\nrate = nan", "endpoint.rate"),
        ("\"m\"", "\"m\"\ndeadline_ms = 0", "endpoint.deadline_ms"),
        ("\"m\"", "\"m\"\nretries = 11", "endpoint.retries"),
        ("\"m\"", "\"m\"\nmax_chars = 0", "endpoint.max_chars"),
        ("\"m\"", "\"m\"\napi_key = \"secret\"", "line 11"),
        ("protocol = \"moderations\"", json, "labels"),
        ("\"key\"", body, "request"),
        ("[endpoint]", "[model]\nfile = \"m\"\nsha256 = \"\"\n[endpoint]", "model"),
        ("kind = \"remote\"", "kind = \"rules\"", "endpoint"),
    ];
    for (old, new, expected) in cases {
        assert!(MODERATIONS.contains(old), "{old}");
        match parse(&MODERATIONS.replacen(old, new, 1)) {
            Err(PanelError::Manifest { field, problem, remedy, .. }) => {
                assert_eq!(field, expected, "{new}");
                assert!(!problem.contains("secret") && !remedy.contains("secret"), "{problem}; {remedy}");
            }
            other => panic!("{new}: {other:?}"),
        }
    }
    let text = MODERATIONS.replace("protocol = \"moderations\"", json) + pointer;
    assert!(matches!(parse(&text), Err(PanelError::Manifest { field, .. }) if field == "request.body"));
    let text = text + "\n[request]\nbody = \"{}\"";
    assert!(matches!(parse(&text), Err(PanelError::Manifest { field, .. }) if field == "labels.name"));
    assert!(parse(&text.replace("\"score\"", "\"/score\"")).is_ok());
}
