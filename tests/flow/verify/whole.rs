//! Runs without violations, with records that retention has deleted and in either framing.

use super::*;

#[test]
fn a_run_that_is_whole_is_found_whole_and_its_dead_letters_are_shown() {
    let world = World::new("whole", None, &whole);
    let (code, text, json) = world.verify(&[]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("43 events: 36 decisions, 4 dead letters, 3 open"), "{text}");
    assert!(text.contains("holds   every decision that asks for a review has its request"), "{text}");
    let (asking, requests) = (&json["review"]["asking"], &json["review"]["requests"]);
    assert!(asking.as_u64().unwrap() > 8 && asking == requests, "{text}");
    assert!(text.contains("holds   policy default: the ledger up to offset"), "{text}");
    assert_eq!((&json["holds"], json["predictors"].as_array().unwrap().len()), (&true.into(), 1));

    // With a start time only the second batch is verified, and then nothing.
    let records = read_all(&world.connection, &world.topic("events"));
    let of = |number: usize| {
        let id = format!("e{number:05}");
        let is = |record: &&Consumed| {
            let event = codec::decode_event(record.payload.as_deref().unwrap(), &Defaults::default());
            event.is_ok_and(|event| event.id == id)
        };
        records.iter().find(is).unwrap().timestamp.unwrap()
    };
    let (code, text, json) = world.verify(&["--from", &of(21).min(of(22)).to_string()]);
    assert_eq!((code, &json["counts"]["events"]), (0, &23.into()), "{text}");
    let (code, _, json) = world.verify(&["--from", "2999-01-01T00:00:00Z"]);
    assert_eq!((code, &json["counts"]["events"]), (0, &0.into()));
    assert_eq!(world.aegis(&["verify", "--from", "yesterday"]).status.code(), Some(64));

    dead_letters(&world);
}

fn dead_letters(world: &World) {
    let list = |arguments: &[&str]| {
        let output = world.aegis(&[&["dlq", "list", "--output", "json"], arguments].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        json.as_array().unwrap().clone()
    };
    let all = list(&[]);
    assert_eq!(all.len(), 4);
    assert!(all.iter().all(|line| line["reason"] == "NotAvro" && line["stage"] == "score"), "{all:?}");
    assert_eq!((list(&["--limit", "3"]), list(&["--reason", "Empty"]).len()), (all[1..].to_vec(), 0));
    let text = world.aegis(&["dlq", "list"]).stdout;
    assert!(!String::from_utf8(text).unwrap().contains("poison"));

    let last = &all[3];
    let at = format!("{}:{}", last["partition"], last["offset"]);
    let shown = String::from_utf8(world.aegis(&["dlq", "show", &at]).stdout).unwrap();
    let original =
        format!("whole.events partition {} offset {}", last["origin_partition"], last["origin_offset"]);
    assert!(shown.contains(&original) && shown.contains("__connect.errors.stage: score"), "{shown}");
    assert!(!shown.contains("poison"), "{shown}");
    let payload = world.aegis(&["dlq", "show", &at, "--payload", "-"]).stdout;
    assert!([&b"poison 20"[..], b"poison 30"].contains(&&*payload), "{payload:?}");
    let file = world.folder.path().join("payload");
    assert!(world.aegis(&["dlq", "show", &at, "--payload", file.to_str().unwrap()]).status.success());
    assert_eq!(fs::read(file).unwrap(), payload);
    assert_eq!(world.aegis(&["dlq", "show", "0:99999"]).status.code(), Some(65));
    assert_eq!(world.aegis(&["dlq", "show", "7"]).status.code(), Some(64));
}

#[test]
fn requests_that_retention_took_are_not_missed() {
    let world = World::asking("shorter", &whole);
    world.delete("review", 1, 2);
    let (code, text, json) = world.verify(&[]);
    assert_eq!((code, &json["review"]["not_kept"]), (0, &2.into()), "{text}");
    assert!(text.contains("2 decisions ask for a review"), "{text}");
    let (code, text, json) = world.verify(&["--from", "2020-01-01T00:00:00Z"]);
    assert_eq!((code, &json["faults"]["request_gap"]["count"]), (65, &2.into()), "{text}");
}

#[test]
fn records_in_a_registrys_framing_are_read() {
    let server = Server::start(|request| match request.line.as_str() {
        "GET /schemas/ids/13" => schema(SCHEMAS[2].1),
        "GET /schemas/ids/15" => schema(SCHEMAS[5].1),
        _ => unknown(),
    });
    let encodings = Encodings { decisions: Encoding::Confluent(13), review: Encoding::Confluent(15) };
    let more = format!("[registry]\nurl = \"{}\"\n", server.url);
    let world = World::written_in(encodings, &more, "framed", None, [&whole, &whole]);
    let (code, text, json) = world.verify(&[]);
    assert_eq!((code, &json["counts"]["decisions"]), (0, &36.into()), "{text}");
    assert_eq!(json["review"]["asking"], json["review"]["requests"], "{text}");
    // Without the registry the records cannot be verified.
    server.die();
    let output = world.aegis(&["verify", "--set", "registry.outage_wait_ms=300"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(69), "{text}");
    assert!(text.contains("the schema registry is unavailable"), "{text}");
}

#[test]
fn outcomes_that_retention_took_are_not_missed() {
    let world = World::new("old", None, &whole);
    let counts = |more: &[&str]| {
        let (code, text, json) = world.verify(more);
        let count = |name: &str| json["counts"][name].as_u64().unwrap();
        let gaps = json["faults"]["gap"]["count"].as_u64();
        (code, count("decisions"), count("not_kept"), gaps, text)
    };
    world.delete("decisions", 1, 5);
    let (code, decisions, not_kept, gaps, text) = counts(&[]);
    assert_eq!((code, decisions, not_kept, gaps), (0, 36 - 5, 5, None), "{text}");
    // With a start time the caller states that the outcomes since then are kept.
    let (code, _, _, gaps, text) = counts(&["--from", "2020-01-01T00:00:00Z"]);
    assert_eq!((code, gaps), (65, Some(5)), "{text}");
    // A deleted dead letter may have been the outcome of any event before it.
    for partition in 0..PARTITIONS {
        world.delete("dlq", partition, -1);
    }
    let (code, _, not_kept, gaps, text) = counts(&[]);
    assert_eq!((code, not_kept, gaps), (0, 5 + 4 + 3, None), "{text}");
}
