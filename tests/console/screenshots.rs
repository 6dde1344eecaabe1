//! The pictures of docs/console.md: the real pages with the bundled experts and the demo's texts. They are taken again only
//! with `AEGIS_WRITE_DOCS=1`, because fonts and figures differ between machines.

use std::fs;
use std::path::{Path, PathBuf};

use aegis::core::event::{Event, Role as Speaker, Turn};
use aegis::core::label::Finding;
use aegis::kafka::Produced;
use serde_json::Value;

use crate::browser::{Browser, key};
use crate::review::policies;
use crate::review_page::shown;
use crate::support::flow::{event, event_record, label, label_record};
use crate::world::World;

fn root(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Returns texts of the demo with their verdicts, half of them everyday traffic.
fn texts(count: usize) -> Vec<(String, bool)> {
    let read = |name: &str| {
        let text =
            fs::read_to_string(root("models/demo").join(name)).expect("`make setup` makes the demo's texts");
        let line = |line: &str| {
            let value: Value = serde_json::from_str(line).unwrap();
            Some((value["text"].as_str()?.to_owned(), value["unsafe"].as_bool()?))
        };
        text.lines().filter_map(line).take(count).collect::<Vec<_>>()
    };
    let (everyday, injection) = (read("everyday.jsonl"), read("injection.jsonl"));
    everyday.into_iter().zip(injection).flat_map(|(a, b)| [a, b]).take(count).collect()
}

/// Sends events and, for every second one, the label of a person.
fn busy(world: &World, from: usize, texts: &[(String, bool)]) {
    let topics = &world.config.topics;
    let events =
        texts.iter().enumerate().map(|(at, (text, _))| event_record(&topics.events, &event(from + at, text)));
    world.send(&events.collect::<Vec<_>>());
    let labels: Vec<Produced> = texts
        .iter()
        .enumerate()
        .filter(|(at, _)| at % 2 == 0)
        .map(|(at, (_, is_unsafe))| {
            let finding = if *is_unsafe { Finding::Unsafe } else { Finding::Safe };
            label_record(
                &topics.labels,
                &label(&format!("l{}", from + at), &format!("e{:05}", from + at), finding),
            )
        })
        .collect();
    world.send(&labels);
}

fn shoot(browser: &Browser, name: &str) {
    fs::write(root("docs").join(name), browser.picture()).unwrap();
}

/// Checks that a picture of the documentation is one, and not too large for a page.
fn check(name: &str) {
    let picture = fs::read(root("docs").join(name)).unwrap();
    assert!(picture.starts_with(b"\x89PNG") && picture.len() < 400_000, "{name}");
}

#[test]
fn the_pictures_of_the_page_are_taken_on_demand() {
    if std::env::var_os("AEGIS_WRITE_DOCS").is_none() {
        ["console-overview.png", "console-experts.png", "console-why.png"].into_iter().for_each(check);
        return;
    }
    let world = World::with(aegis::config::Policies::default(), |config| {
        config.experts.folder = root("models");
        config.experts.shadow = vec!["sexism".into()];
        config.experts.timeout_ms = 120_000;
        config.console.history_hours = 1;
    });
    let browser = Browser::start();
    browser.log_in(&world.address, &world.viewer);
    let texts = texts(400);
    for (part, texts) in texts.chunks(50).enumerate() {
        busy(&world, part * 50, texts);
        let seen = format!(
            "return fetch('/api/overview').then(r => r.json()).then(d => \
             d.totals.allow + d.totals.block + d.totals.review >= {})",
            part * 50 + texts.len()
        );
        browser.until("the events are decided", &seen);
    }
    let bad = crate::support::flow::poison(&world.config.topics.events);
    world.send(&bad.into_iter().map(|(_, record)| record).collect::<Vec<_>>());
    browser.until(
        "dead letters",
        "return fetch('/api/overview').then(r => r.json()).then(d => d.dead_letters.length >= 5)",
    );
    browser.set_look(false, 1280);
    browser.open_page(&format!("{}/", world.address));
    browser.until("it is live", "return document.getElementById('live').textContent === 'live'");
    shoot(&browser, "console-overview.png");
    browser.set_look(true, 1440);
    browser.open_page(&format!("{}/decisions?action=block", world.address));
    browser.run("document.querySelector('[data-at]').click()");
    browser.until("the reasons are shown", "return document.getElementById('flip')?.textContent");
    shoot(&browser, "console-why.png");
    browser.set_look(false, 1280);
    browser.open_page(&format!("{}/experts", world.address));
    shoot(&browser, "console-experts.png");
}

/// Conversations that were invented for this picture, each with its last turn judged.
const CONVERSATIONS: [&[(Speaker, &str)]; 3] = [
    &[
        (Speaker::User, "My build hangs again after the last update."),
        (Speaker::User, "Kill the process and start it with a clean cache, then it works."),
    ],
    &[
        (Speaker::User, "Good game, everyone! Thanks for the help with the map."),
        (Speaker::User, "You only won because your friend told you where we were."),
        (Speaker::User, "Nobody told me anything. You run through the same door every time."),
        (Speaker::User, "Shut up, you cheating clowns. Next round I will kill every single one of you."),
    ],
    &[(Speaker::User, "If that cat sits on my keyboard once more, I will kill it with kindness.")],
];

#[test]
fn the_picture_of_the_page_of_reviews_is_taken_on_demand() {
    let name = "console-review.png";
    if std::env::var_os("AEGIS_WRITE_DOCS").is_none() {
        check(name);
        return;
    }
    let mut policies = policies();
    let note = "Threats count as unsafe, also as a joke. Idioms such as killing a process do not.";
    policies.reviewer_notes.insert("default".into(), note.into());
    let world = World::with(policies, |config| config.console.show_text = true);
    let records = CONVERSATIONS.iter().enumerate().map(|(number, turns)| {
        let turns: Vec<Turn> =
            turns.iter().map(|(role, text)| Turn { role: *role, text: (*text).into() }).collect();
        let judged = turns.len() - 1;
        event_record(&world.config.topics.events, &Event { turns, judged, ..event(number, "") })
    });
    world.send(&records.collect::<Vec<_>>());
    let browser = Browser::start();
    browser.log_in(&world.address, &world.reviewer);
    browser.set_look(false, 1280);
    browser.open_page(&format!("{}/review", world.address));
    // Events of several partitions are requested in any order: the others are answered first.
    let mut before = String::new();
    loop {
        before = shown(&browser, &before);
        if browser.text("#judged").contains("clowns") {
            break;
        }
        browser.press(&["s", key::ENTER]);
    }
    browser.press(&["u", "1"]);
    browser.until(
        "the verdict is chosen",
        "return document.querySelector('[name=verdict]:checked')?.value === 'unsafe'",
    );
    browser.assert_fits(name);
    browser.run("window.scrollTo(0, 0)");
    shoot(&browser, name);
}
