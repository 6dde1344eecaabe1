//! The page of reviews in a browser.

use std::collections::BTreeSet;

use aegis::config::Config;
use aegis::core::event::{Event, Role as Speaker, Turn};
use aegis::kafka::Produced;
use serde_json::json;

use crate::browser::{Browser, key};
use crate::review::{labels, policies};
use crate::support::flow::{event, event_record};
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
