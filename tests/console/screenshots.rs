//! The pictures of docs/console.md: the real pages with the bundled experts and the demo's texts. They are taken again only
//! with `AEGIS_WRITE_DOCS=1`, because fonts and figures differ between machines.

use std::fs;
use std::path::{Path, PathBuf};

use aegis::core::label::Finding;
use aegis::kafka::Produced;
use serde_json::Value;

use crate::browser::Browser;
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

#[test]
fn the_pictures_of_the_page_are_taken_on_demand() {
    if std::env::var_os("AEGIS_WRITE_DOCS").is_none() {
        for name in ["console-overview.png", "console-why.png"] {
            let picture = fs::read(root("docs").join(name)).unwrap();
            assert!(picture.starts_with(b"\x89PNG") && picture.len() < 400_000, "{name}");
        }
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
