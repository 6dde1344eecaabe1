//! The pages of the data in a real browser.

use std::sync::Arc;

use aegis::config::{Config, Policies, topic_specs};
use aegis::console::Console;
use aegis::core::label::Finding;
use aegis::kafka::Connection;
use aegis::kafka::embedded::Embedded;
use serde_json::json;

use crate::browser::{Browser, key};
use crate::support::flow::{event, event_record, label, label_record, poison};
use crate::world::World;

const PAGES: [(&str, &str); 5] = [
    ("/", "Overview"),
    ("/experts", "Experts"),
    ("/decisions", "Decisions"),
    ("/dead-letters", "Dead letters"),
    ("/review", "Review"),
];

/// Sends events, bad records and labels, and waits until the console has seen their outcomes.
fn busy(world: &World, browser: &Browser) {
    let topics = &world.config.topics;
    let text = |number: usize| if number.is_multiple_of(3) { "I will kill the process" } else { "hello" };
    let events = (0..60).map(|number| event_record(&topics.events, &event(number, text(number))));
    let bad = poison(&topics.events).into_iter().map(|(_, record)| record);
    world.send(&events.chain(bad).collect::<Vec<_>>());
    let labels = (0..30).map(|number: u32| {
        let finding = if number.is_multiple_of(3) { Finding::Unsafe } else { Finding::Safe };
        label_record(&topics.labels, &label(&format!("l{number}"), &format!("e{number:05}"), finding))
    });
    world.send(&labels.collect::<Vec<_>>());
    browser.log_in(&world.address, &world.viewer);
    let seen = "return fetch('/api/overview').then(r => r.json()).then(d => d.totals.allow + d.totals.block === 60 \
                && d.labels === 30 && d.dead_letters.length >= 5 && d.learning.length === 1)";
    browser.until("everything is seen", seen);
}

#[test]
fn every_page_renders_in_light_and_dark_and_on_a_phone() {
    let (world, browser) = (World::start(), Browser::start());
    busy(&world, &browser);
    browser.log();
    for (path, title) in PAGES {
        let mut colours = Vec::new();
        for (dark, width) in [(false, 1280), (true, 1280), (false, 390), (true, 390)] {
            let page = format!("{path} dark {dark} width {width}");
            browser.set_look(dark, width);
            browser.open_page(&format!("{}{path}", world.address));
            browser.assert_silent(&page);
            browser.assert_fits(&page);
            assert!(browser.text("h1").starts_with(title), "{page}");
            browser.until("it is live", "return document.getElementById('live').textContent === 'live'");
            colours.push(browser.run("return getComputedStyle(document.body).backgroundColor"));
        }
        assert!(colours[0] != colours[1] && colours[0] == colours[2], "{path}: {colours:?}");
    }
    browser.set_look(false, 390);
    browser.open_page(&format!("{}/login", world.address));
    browser.assert_silent("/login");
    browser.assert_fits("/login");
}

#[test]
fn the_pages_show_what_was_decided_and_learned() {
    let (world, browser) = (World::start(), Browser::start());
    busy(&world, &browser);
    browser.open_page(&format!("{}/", world.address));
    let overview = browser.text("main");
    for wanted in ["60 in 6 h", "Oldest undecided event", "default", "NotAvro", "Label delay"] {
        assert!(overview.contains(wanted), "{wanted} is not in {overview}");
    }
    assert_eq!(browser.run("return document.querySelectorAll('svg.chart').length"), 2);
    browser.open_page(&format!("{}/experts", world.address));
    let experts = browser.text("main");
    for wanted in ["strict", "lenient", "100.0 %", "agree with people", "ok"] {
        assert!(experts.contains(wanted), "{wanted} is not in {experts}");
    }
    browser.open_page(&format!("{}/dead-letters", world.address));
    let letters = browser.text("main");
    assert!(letters.contains("UnknownPolicy") && letters.contains("moderation.events"), "{letters}");
    for page in [overview, experts, letters] {
        assert!(!page.contains("kill") && !page.contains("hello"), "{page}");
    }
}

#[test]
fn decisions_are_filtered_and_explained_by_keyboard() {
    let (world, browser) = (World::start(), Browser::start());
    busy(&world, &browser);
    browser.open_page(&format!("{}/decisions", world.address));
    assert_eq!(browser.run("return document.querySelectorAll('#list tbody tr').length"), 60);
    // Tab reaches the filters, and letters choose.
    let focus = "return document.activeElement.id";
    for _ in 0..20 {
        if browser.run(focus) == "filter-action" {
            break;
        }
        browser.press(&[key::TAB]);
    }
    assert_eq!(browser.run(focus), "filter-action");
    browser.press(&["b"]);
    browser.until(
        "only blocked ones are listed",
        "return document.querySelectorAll('#list tbody tr').length === 20",
    );
    assert!(browser.run("return location.search").as_str().unwrap().contains("action=block"));
    for _ in 0..20 {
        if browser.run("return document.activeElement.dataset.at ?? null") != json!(null) {
            break;
        }
        browser.press(&[key::TAB]);
    }
    browser.press(&[key::ENTER]);
    browser.until("the reasons are shown", "return document.getElementById('flip')?.textContent");
    let why = browser.text("#why");
    for wanted in
        ["Why", "is at or above the threshold", "strict", "lenient", "violence", "moderation.decisions"]
    {
        assert!(why.contains(wanted), "{wanted} is not in {why}");
    }
    assert!(why.contains("It would flip if") || why.contains("No single vote"), "{why}");
    assert_eq!(browser.run(focus), "why", "the reader continues there");
    browser.press(&[key::ESCAPE]);
    browser.until("it is closed", "return document.getElementById('why').hidden");
    assert!(
        browser.run("return document.activeElement.dataset.at ?? null") != json!(null),
        "the focus is back"
    );
    // A link to a decision opens it.
    browser.press(&[key::ENTER]);
    browser.until("it is open again", "return document.getElementById('flip')?.textContent");
    let address = browser.run("return location.href");
    browser.open_page(address.as_str().unwrap());
    browser.until("the link opens it", "return document.getElementById('flip')?.textContent");
    browser.assert_silent("/decisions");
}

/// Names come from producers, and error texts from any program that writes to the topic of dead letters.
#[test]
fn hostile_names_are_shown_and_do_nothing() {
    let (world, browser) = (World::start(), Browser::start());
    let topics = &world.config.topics;
    let script = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">";
    let turned = "safe\u{202e}drowssap";
    let mut events = Vec::new();
    for (number, id) in [script, turned, "\"'><svg onload=alert(1)>"].into_iter().enumerate() {
        let mut hostile = event(number, "I will kill the process");
        hostile.id = id.into();
        hostile.tenant = script.into();
        events.push(event_record(&topics.events, &hostile));
    }
    let mut letter = events[0].clone();
    letter.topic = topics.dlq.as_str().into();
    for (name, value) in [
        ("topic", script),
        ("partition", "0"),
        ("offset", "1"),
        ("stage", turned),
        ("exception.class.name", script),
        ("exception.message", turned),
    ] {
        letter.headers.push((format!("__connect.errors.{name}"), Some(value.as_bytes().to_vec())));
    }
    events.push(letter);
    world.send(&events);
    browser.log_in(&world.address, &world.viewer);
    let seen = "return fetch('/api/overview').then(r => r.json()).then(d => d.totals.block === 3 && d.dead_letters.length === 1)";
    browser.until("everything is seen", seen);
    for (path, title) in PAGES {
        browser.open_page(&format!("{}{path}", world.address));
        if path == "/decisions" {
            for at in 0..3 {
                browser.run(&format!("document.getElementById('flip')?.remove(); document.querySelectorAll('[data-at]')[{at}].click()"));
                browser.until("the reasons are shown", "return document.getElementById('flip')?.textContent");
            }
            let list = browser.text("#list");
            assert!(list.contains("<script>document.title") && list.contains("\\u{202e}"), "{list}");
        }
        assert_eq!(browser.run("return document.title"), format!("{title} – Aegis"));
        let foreign =
            "return document.querySelectorAll('main script, main img, main svg[onload], [onerror]').length";
        assert_eq!(browser.run(foreign), 0, "{path}");
        let hidden = "return document.body.textContent.includes('\\u202e')";
        assert_eq!(browser.run(hidden), false, "{path}: a direction override would turn names around");
        browser.assert_silent(path);
        browser.assert_fits(path);
    }
}

#[test]
fn a_page_says_that_the_brokers_are_away_and_recovers() {
    let config = Config::default();
    let specs = topic_specs(&config, 1);
    let names: Vec<_> = specs.iter().map(|spec| (spec.name.as_str(), spec.partitions)).collect();
    let broker = Embedded::start(&names).unwrap();
    let (connection, local) = (Connection::new(broker.bootstrap()), ([127, 0, 0, 1], 0).into());
    let policies = Arc::new(Policies::default());
    let console = Console::start(Arc::new(config), policies.into(), connection, local, None).unwrap();
    let browser = Browser::start();
    browser.open_page(&format!("http://{}/", console.address()));
    let live = |word: &str| format!("return document.getElementById('live').textContent === '{word}'");
    browser.until("the brokers answer", &live("live"));
    broker.set_up(false).unwrap();
    browser.until("the page says that they do not", &live("brokers away"));
    assert!(browser.text("#broker").contains("This page recovers by itself"));
    broker.set_up(true).unwrap();
    browser.until("the page has recovered", &live("live"));
    assert_eq!(browser.run("return document.getElementById('broker')"), json!(null));
}
