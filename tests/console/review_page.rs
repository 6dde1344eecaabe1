//! The page of reviews in a browser.

use std::collections::BTreeSet;

use aegis::config::Config;
use aegis::core::decision::ReviewReason;
use aegis::core::event::{Event, Role as Speaker, Turn};
use aegis::core::label::Finding;
use aegis::kafka::Produced;
use serde_json::json;

use crate::browser::{Browser, key};
use crate::review::{Room, labels, policies};
use crate::support::flow::{event, event_record, label, label_record, send};
use crate::world::World;

fn world(adjust: impl FnOnce(&mut Config)) -> World {
    World::with(policies(), |config| {
        config.console.show_text = true;
        adjust(config);
    })
}

/// Waits until the page shows the request of another event than `before`, and returns its event.
pub fn shown(browser: &Browser, before: &str) -> String {
    let script = format!(
        "const e = document.getElementById('event').textContent; \
         return !document.getElementById('desk').hidden && e !== '{before}' && document.getElementById('judged') && e"
    );
    browser.until("a request is shown", &script).as_str().unwrap().to_owned()
}

#[test]
fn a_label_given_by_keyboard_alone_reaches_the_ledger_and_moves_the_weights() {
    let (world, browser) = (world(|_| {}), Browser::start());
    let topics = &world.config.topics;
    let events: Vec<_> = (0..6)
        .map(|number| event_record(&topics.events, &event(number, "I will kill the process")))
        .collect();
    world.send(&events);
    browser.log_in(&world.address, &world.reviewer);
    browser.open_page(&format!("{}/review", world.address));
    let mut before = String::new();
    for number in 0..6 {
        before = shown(&browser, &before);
        let page = browser.text("main");
        assert!(
            page.contains("I will kill the process") && page.contains("Threats count as unsafe."),
            "{page}"
        );
        if number == 0 {
            assert!(!page.contains("threshold"), "the opinion is hidden: {page}");
        }
        browser.press(&["s", "1", key::ENTER]);
    }
    browser.until(
        "all are answered",
        "return document.getElementById('progress').textContent.includes('6 answered') && !document.getElementById('empty').hidden",
    );
    assert!(browser.text("#last").contains("threshold 0.500"), "the opinion is shown afterwards");
    // The last answer is corrected.
    browser.press(&["z"]);
    assert_eq!(shown(&browser, ""), before);
    browser.press(&["u", key::ENTER]);
    browser.until(
        "the correction is sent",
        "return document.getElementById('last-verdict').textContent.includes('unsafe')",
    );
    let labels = labels(&world.connection, &world.config);
    assert_eq!(labels.len(), 8, "six answers, a retraction and another answer");
    assert!(labels.iter().all(|label| label.annotator.as_deref() == Some("ann")));
    assert_eq!(labels.iter().filter(|label| label.categories == ["violence"]).count(), 6);
    // It is learned: `strict` was wrong five times of six.
    browser.open_page(&format!("{}/experts", world.address));
    browser.until(
        "the weights have moved",
        "const weight = (id) => Number(new RegExp(`recalibrated ${id}\\\\s+([0-9.]+)`).exec(document.querySelector('main').innerText)?.[1]); \
         return weight('lenient') > 2 * weight('strict') \
           && document.querySelector('main').innerText.includes('of 6 labelled events')",
    );
    browser.assert_silent("/review and /experts");
}

#[test]
fn hostile_conversations_are_harmless_on_every_screen() {
    let (world, browser) = (world(|_| {}), Browser::start());
    let user = |text: String| Turn { role: Speaker::User, text };
    let hostile = "<img src=x onerror='window.hacked=1'><script>window.hacked=1</script> kill";
    let turned = format!("kill \u{202e}{}\u{2066}gpj.exe\u{200b}", "\u{202e}".repeat(2_000));
    let long = format!("kill {}", "W\u{202e}".repeat(240_000));
    let mut many: Vec<_> = (0..9_999).map(|number| user(format!("{hostile} {number}"))).collect();
    many.insert(5_000, user("this kill is judged".into()));
    let conversations = [vec![user(hostile.into())], vec![user(turned)], vec![user(long)], many];
    let records: Vec<Produced> = conversations
        .into_iter()
        .enumerate()
        .map(|(number, turns)| {
            let judged = if turns.len() > 1 { 5_000 } else { 0 };
            let turns = turns.into_iter().take(10_000).collect();
            event_record(&world.config.topics.events, &Event { turns, judged, ..event(number, "") })
        })
        .collect();
    world.send(&records);
    browser.log_in(&world.address, &world.reviewer);
    browser.log();
    let mut before = String::new();
    let mut seen = BTreeSet::new();
    for _ in 0..4 {
        browser.set_look(false, 1280);
        browser.open_page(&format!("{}/review", world.address));
        before = shown(&browser, &before);
        assert!(seen.insert(before.clone()));
        for (dark, width) in [(false, 1280), (true, 390)] {
            browser.set_look(dark, width);
            browser.assert_fits(&before);
        }
        let facts = browser.run(
            "const j = document.getElementById('judged').getBoundingClientRect(); return [window.hacked ?? null, \
             document.querySelectorAll('#turns li').length <= 40, document.querySelectorAll('#turns img, #turns script').length, \
             document.querySelectorAll('#turns *').length < 2000, j.bottom > 0, location.search]",
        );
        assert_eq!(facts, json!([null, true, 0, true, true, ""]), "{before}");
        assert!(browser.text("#judged").contains("kill"));
        browser.assert_silent(&before);
        browser.press(&["u", key::ENTER]);
        browser.until(
            "it is sent",
            "return document.getElementById('progress').textContent.includes('1 answered')",
        );
    }
    browser.until("nothing is left", "return !document.getElementById('empty').hidden");
}

#[test]
fn the_page_of_reviews_renders_on_every_screen() {
    let (world, browser) = (world(|_| {}), Browser::start());
    world.send(&[event_record(&world.config.topics.events, &event(1, "I will kill the process"))]);
    browser.log_in(&world.address, &world.reviewer);
    browser.log();
    for (dark, width) in [(false, 1280), (true, 1280), (false, 390), (true, 390)] {
        browser.set_look(dark, width);
        browser.open_page(&format!("{}/review", world.address));
        shown(&browser, "");
        browser.assert_fits("/review");
        browser.assert_silent("/review");
    }
}

/// Opens the page of reviews of a room as `ann`.
fn open(room: &Room, browser: &Browser) {
    browser.log_in(&room.ann.address, &room.ann.bearer);
    browser.open_page(&format!("{}/review", room.ann.address));
}

#[test]
fn without_brokers_the_page_says_so_and_keeps_the_choice_which_is_sent_when_they_are_back() {
    let (room, browser) = (Room::start(|_| {}), Browser::start());
    room.request(0, &["hello"], ReviewReason::Flagged);
    room.ann.await_open(1);
    open(&room, &browser);
    let event = shown(&browser, "");
    room.broker.set_up(false).unwrap();
    browser.press(&["u", "1", key::ENTER]);
    browser.until(
        "the page says that the choice is kept",
        "return document.getElementById('send-error').textContent.includes('Your choice is kept')",
    );
    let kept = browser.run(
        "const form = new FormData(document.getElementById('answer')); return [form.get('verdict'), \
         form.getAll('category').join(), document.getElementById('event').textContent, document.getElementById('last').hidden]",
    );
    assert_eq!(kept, json!(["unsafe", "violence", event, true]));
    room.broker.set_up(true).unwrap();
    // The first attempts may still fail: the client connects again after a while.
    browser.until(
        "the same choice is sent",
        "if (document.getElementById('last-verdict').textContent.includes('unsafe')) return true; \
         if (!document.getElementById('send').disabled) document.getElementById('send').click(); return false",
    );
    let labels = room.labels();
    let ids: BTreeSet<_> = labels.iter().map(|label| label.id.as_str()).collect();
    assert_eq!(ids, BTreeSet::from(["console/ann/1"]));
    assert!(labels.iter().all(|label| label.categories == ["violence"]), "{labels:?}");
    assert!(labels.iter().all(|label| label.verdict == Some(Finding::Unsafe)), "{labels:?}");
}

#[test]
fn a_request_that_others_have_answered_is_said_to_be_closed_by_each_control_of_its_text() {
    let (room, browser) = (Room::start(|_| {}), Browser::start());
    let long = "a long turn ".repeat(2_000);
    let conversations = [&["hello"; 60][..], &[long.as_str()], &["hello"]];
    for (number, turns) in conversations.into_iter().enumerate() {
        room.request(number, turns, ReviewReason::Flagged);
    }
    room.vic.await_open(3);
    open(&room, &browser);
    let mut before = String::new();
    for (number, control) in ["#earlier", "#turns .more"].into_iter().enumerate() {
        before = shown(&browser, &before);
        let label = label("tool", &before, Finding::Safe);
        send(&room.connection, &[label_record(&room.config.topics.labels, &label)]);
        room.vic.await_open(2 - number);
        let press = format!("const c = document.querySelector('{control}'); c?.click(); return Boolean(c)");
        browser.until(control, &press);
        shown(&browser, &before);
        browser.until(
            "the page says what happened",
            "return document.getElementById('send-error').textContent.includes('Other people have answered')",
        );
    }
    let progress = browser.text("#progress");
    assert!(progress.contains("2 closed meanwhile"), "{progress}");
}
