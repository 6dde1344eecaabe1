//! `aegis dlq replay`: each selected record is put back once, for every selection and any number of runs.

use std::sync::{Arc, LazyLock};
use std::time::{SystemTime, UNIX_EPOCH};

use aegis::dead_letter::{Reason, dead_letter};
use aegis::kafka::{Consumed, Produced};

use crate::site::Site;
use crate::support::flow::{event, event_record, raw, read_all, send};

/// Returns the time of event 0, which is the current time, because retention depends on it.
fn base() -> i64 {
    static BASE: LazyLock<i64> = LazyLock::new(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        i64::try_from(since.as_millis()).unwrap()
    });
    *BASE
}

/// Returns the dead letter of event `number`, as score writes it. `offset` is the offset of the original.
fn letter(site: &Site, number: usize, partition: i32, reason: &'static str) -> Produced {
    let Produced { key, payload, .. } = event_record(&site.topic("events"), &event(number, "hello"));
    let original = Consumed {
        topic: site.topic("events").into(),
        partition: 1,
        offset: i64::try_from(number).unwrap(),
        key,
        payload,
        headers: vec![("mine".into(), Some(b"kept".to_vec()))],
        timestamp: Some(base() + i64::try_from(number).unwrap()),
    };
    let topic: Arc<str> = site.topic("dlq").into();
    let reason = Reason { name: reason, message: String::new() };
    Produced { partition: Some(partition), ..dead_letter(&topic, "score", original, &reason) }
}

fn summary(site: &Site, arguments: &[&str], reason: &str) -> serde_json::Value {
    let all = site.json(&[&["dlq", "replay"], arguments].concat());
    let found = all.as_array().unwrap().iter().find(|one| one["reason"] == reason);
    found.unwrap_or_else(|| panic!("{reason} is not in {all}")).clone()
}

#[test]
fn dead_letters_are_put_back_once() {
    let site = Site::new("putback", "");
    let policy = |number| letter(&site, number, i32::from(number % 2 == 0), "UnknownPolicy");
    let mut letters: Vec<_> = (0..8).map(policy).collect();
    letters.push(letter(&site, 100, 0, "NotAvro"));
    // These letters must not be put back: one names an arbitrary topic, and one has no value.
    let mut strange = letter(&site, 101, 0, "UnknownPolicy");
    for (name, value) in &mut strange.headers {
        if name == "__connect.errors.topic" {
            *value = Some(b"elsewhere".to_vec());
        }
    }
    let mut huge = letter(&site, 102, 1, "UnknownPolicy");
    huge.headers.push(("__connect.errors.value.left.out.bytes".into(), Some(b"9".to_vec())));
    letters.extend([strange, huge, raw(&site.topic("dlq"), "k", "noise")]);
    // They are sent with and without transactions, because markers take offsets.
    send(&site.connection, &letters);
    let events = || read_all(&site.connection, &site.topic("events"));
    let number = |record: &Consumed| record.timestamp.unwrap();

    // A dry run writes nothing, and reports the records that would be put back.
    let until = (base() + 4).to_string();
    let dry = ["--reason", "UnknownPolicy", "--until", &until, "--dry-run"];
    let would = summary(&site, &dry, "UnknownPolicy");
    assert_eq!((&would["replayed"], &would["done"]), (&4.into(), &0.into()), "{would}");
    assert_eq!(would["left"]["comes from neither events nor labels"], 1);
    assert_eq!(would["left"]["its value was too large to be kept"], 1);
    assert_eq!(events().len(), 0);
    assert!(
        site.says(0, &["dlq", "replay", "--dry-run"]).contains("UnknownPolicy: 8 would be put back, from 20")
    );

    // The first four are put back, then all of them, each of them once.
    let first = summary(&site, &dry[..4], "UnknownPolicy");
    assert_eq!(first["replayed"], 4);
    let put = events();
    assert_eq!(put.len(), 4);
    for record in &put {
        assert_eq!(record.partition, 1, "where the original lay");
        let names: Vec<_> = record.headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["mine", "aegis.replays"]);
        assert_eq!(record.headers[1].1.as_deref(), Some(&b"1"[..]));
    }
    let rest = summary(&site, &["--reason", "UnknownPolicy"], "UnknownPolicy");
    assert_eq!((&rest["replayed"], &rest["done"]), (&4.into(), &4.into()), "{rest}");
    let again = site.json(&["dlq", "replay"]);
    let counts: Vec<_> = again
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["reason"].as_str().unwrap(), one["replayed"].as_u64().unwrap()))
        .collect();
    assert_eq!(counts, [("NotAvro", 1), ("Unknown", 0), ("UnknownPolicy", 0)]);
    let mut keys: Vec<_> = events().into_iter().map(|record| record.payload.unwrap()).collect();
    keys.sort();
    keys.dedup();
    assert_eq!((keys.len(), events().len()), (9, 9), "nothing is put back twice");
    assert!(events().iter().all(|record| number(record) > 0));

    // With two concurrent runs, each record is still put back once.
    send(
        &site.connection,
        &(20..60).map(|number| letter(&site, number, 0, "UnknownPolicy")).collect::<Vec<_>>(),
    );
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| site.aegis(&["dlq", "replay"]));
        }
    });
    site.json(&["dlq", "replay"]);
    assert_eq!(events().len(), 9 + 40);

    // Records that were passed over are reported, and records that were put back too often stay.
    let older = letter(&site, 70, 0, "UnknownPolicy");
    let mut tired = letter(&site, 72, 0, "UnknownPolicy");
    tired.headers.insert(0, ("aegis.replays".into(), Some(b"3".to_vec())));
    send(&site.connection, &[older, letter(&site, 71, 0, "UnknownPolicy"), tired]);
    let newer = summary(&site, &["--from", &(base() + 71).to_string()], "UnknownPolicy");
    assert_eq!((&newer["replayed"], &newer["passed_over"]), (&1.into(), &1.into()), "{newer}");
    assert_eq!(newer["left"]["was put back too often: raise --most"], 1, "{newer}");
    let after = summary(&site, &["--most", "4"], "UnknownPolicy");
    assert_eq!((&after["replayed"], &after["done"]), (&1.into(), &51.into()), "{after}");
}
