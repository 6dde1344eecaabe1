//! The routes of reviews on requests with a known answer: nothing tells a reviewer which these are.

use aegis::core::decision::ReviewReason;
use aegis::core::label::{Finding, Label, Source};
use serde_json::{Value, json};

use crate::review::Room;
use crate::support::flow::{label, label_record, send};

#[test]
fn a_request_with_a_known_answer_looks_like_another_and_its_label_calibrates() {
    let room = Room::start(|config| config.console.gold_rate = 1.0);
    (0..3).for_each(|number| room.request(number, &["hello"], ReviewReason::Flagged));
    room.ann.await_open(3);
    let gold = Label { source: Source::Gold, ..label("gold", "e00001", Finding::Unsafe) };
    send(&room.connection, &[label_record(&room.config.topics.labels, &gold)]);
    room.vic.await_open(2);
    let (known, other) = (room.ann.next(), room.bob.next());
    assert_eq!(
        (&known["event"], &other["event"]),
        (&json!("e00001"), &json!("e00001")),
        "each reviewer gets it"
    );
    let sent = room.ann.answer(&known["claim"], "safe");
    let plain = room.ann.next();
    let sent_plain = room.ann.answer(&plain["claim"], "safe");
    let fields = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!((fields(&known), fields(&sent)), (fields(&plain), fields(&sent_plain)));
    // The count falls with each answer and rises with undo, and so does that of the page before a request.
    let undone = room.ann.post("/undo", json!({ "claim": plain["claim"] }));
    let counts = [&known, &sent, &plain, &sent_plain, &undone].map(|answer| answer["open"].clone());
    assert_eq!(counts, [3, 2, 2, 1, 2].map(|count| json!(count)));
    room.ann.await_open(2);
    room.ann.answer(&undone["claim"], "safe");
    let sources: Vec<_> = room.labels().iter().map(|label| label.source).collect();
    let review = [Source::Review; 3]; // an answer, its retraction and another answer
    assert_eq!(sources, [&[Source::Gold, Source::Calibration][..], &review].concat());
}
