//! Policies that change while the roles run, and an expert in shadow.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use aegis::core::decision::Decision;
use aegis::core::label::Finding;

use crate::site::Site;
use crate::support::WAIT;
use crate::support::flow::{decisions, label, label_record, send};
use crate::support::site::poll;

/// Returns the page that a role serves on /metrics.
fn metrics(site: &Site, role: &str) -> String {
    let log = site.log(role);
    let line = log.lines().find(|line| line.contains("health and metrics")).unwrap_or_default();
    let Some(address) = line.split("address=").nth(1) else { return String::new() };
    let mut stream = TcpStream::connect(address.trim()).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    page
}

/// Waits until the metrics of a role have this line.
pub fn await_metric(site: &Site, role: &str, line: &str) {
    poll(|| {
        let page = metrics(site, role);
        let found = page.lines().any(|found| found == line);
        if found { Ok(()) } else { Err(format!("{line} is not in\n{page}\n{}", site.log(role))) }
    });
}

fn value(page: &str, name: &str) -> f64 {
    let line = page.lines().find(|line| line.starts_with(name));
    let line = line.unwrap_or_else(|| panic!("{name} is not in\n{page}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// Sends events until one is decided under this version of the policy. Returns that decision.
fn decided_under(site: &Site, version: &str, sent: &mut usize) -> Decision {
    let until = Instant::now() + WAIT;
    loop {
        site.send_events(*sent..*sent + 1);
        *sent += 1;
        let made = decisions(&site.await_records("decisions", *sent));
        if let Some(found) = made.into_iter().find(|decision| decision.policy_version == version) {
            return found;
        }
        assert!(Instant::now() < until, "no decision under version {version}\n{}", site.log("score"));
    }
}

#[test]
fn changed_policies_are_in_force_without_a_restart_and_faulty_ones_are_not() {
    let site = Site::new("reload", "");
    let write = |text: &str| fs::write(site.path("policies.toml"), text).unwrap();
    let (score, learn) = (site.start("score"), site.start("learn"));
    site.send_events(0..6);
    assert_eq!(decisions(&site.await_records("decisions", 6))[0].policy_version, "1");
    let labels: Vec<_> = (0..6)
        .map(|number| {
            let finding = if number == 0 { Finding::NeedsCaution } else { Finding::Safe };
            label_record(
                &site.topic("labels"),
                &label(&format!("l{number}"), &format!("e{number:05}"), finding),
            )
        })
        .collect();
    send(&site.connection, &labels);
    let first = site.published("six rounds", |published| published.rounds == 6);

    // Other costs change the threshold, and do not affect the learner.
    let mut sent = 6;
    write("[policies.default]\nversion = \"2\"\ncost_false_negative = 4.0\n");
    assert_eq!(decided_under(&site, "2", &mut sent).threshold, 0.2);
    await_metric(&site, "learn", "aegis_policy_reloads_total{outcome=\"taken\"} 1");
    let newest = site.json(&["weights", "show"]);
    assert_eq!(newest[0]["state_hash"], aegis::codec::hex(&first.state_hash).as_str());

    // Invalid policies are reported and counted, and the previous ones stay in use.
    for (number, (text, words)) in [
        ("[policies.default]\nversion = \"3\"\nmin_awkae = 2\n", "did you mean `min_awake`?"),
        ("[policies.default]\nversion = \"2\"\n", "give it another version"),
        ("[policies.other]\n", "policy default is gone"),
    ]
    .into_iter()
    .enumerate()
    {
        write(text);
        for role in ["score", "learn"] {
            let refused = format!("aegis_policy_reloads_total{{outcome=\"refused\"}} {}", number + 1);
            await_metric(&site, role, &refused);
            await_metric(&site, role, "aegis_policies_current 0");
            assert!(site.log(role).contains(words), "{}", site.log(role));
        }
    }
    site.send_events(sent..sent + 1);
    sent += 1;
    let made = decisions(&site.await_records("decisions", sent));
    let event = format!("e{:05}", sent - 1);
    let last = made.iter().find(|decision| decision.id.event == event).unwrap();
    assert_eq!((&*last.policy_version, last.threshold), ("2", 0.2));

    // SIGHUP applies them at once. Another mapping needs another learner, and a new policy decides from now on.
    write("[policies.default]\nversion = \"4\"\nneeds_caution = 0.0\n[policies.more]\nversion = \"m\"\n");
    score.signal("HUP");
    learn.signal("HUP");
    assert_eq!(decided_under(&site, "4", &mut sent).threshold, 0.5);
    let other = site.published("another mapping", |published| published.mapping != first.mapping);
    assert!(other.rounds == 6 && other.state_hash != first.state_hash);
    let json = site.path("replay.json");
    site.says(0, &["replay", &format!("topic:{}", site.topic("rounds")), "--json", json.to_str().unwrap()]);
    let replayed: serde_json::Value = serde_json::from_str(&fs::read_to_string(json).unwrap()).unwrap();
    assert_eq!(replayed["state_hash"], aegis::codec::hex(&other.state_hash).as_str());
    await_metric(&site, "score", "aegis_policies_current 1");
    site.says(0, &["verify"]);
}

#[test]
fn a_policy_says_who_is_asked_about_its_events_under_load() {
    let site = Site::new("keeps", "");
    let file = site.path("policies.toml");
    let check = |exit, text: &str, words: &str| {
        fs::write(&file, text).unwrap();
        let said = site.says(exit, &["check"]);
        assert!(said.contains(words), "{said}");
    };
    check(0, "[policies.default]\ncheap = [\"strict\"]\n", "policy default version 1");
    check(0, "[policies.default]\nsheds = false\n", "policy default version 1");
    check(
        78,
        "[policies.default]\ncheap = [\"strikt\"]\n",
        "cheap names strikt, which is no expert of the panel",
    );
    check(
        78,
        "[policies.default]\nsheds = false\ncheap = [\"strict\"]\n",
        "means nothing with sheds = false",
    );
}

#[test]
fn an_expert_in_shadow_votes_and_is_scored_and_weighs_nothing() {
    let site = Site::new("shadow", "shadow = [\"lenient\"]\n");
    let checked = site.says(0, &["check"]);
    let line = |id: &str| checked.lines().find(|line| line.starts_with(&format!("expert {id}:")));
    assert!(line("lenient").unwrap().ends_with(", in shadow"), "{checked}");
    assert!(!line("strict").unwrap().contains("shadow"), "{checked}");
    for (names, words) in
        [("lenint", "names lenint, which is no expert"), ("lenient\",\"strict", "the whole panel")]
    {
        let shadow = format!("experts.shadow=[\"{names}\"]");
        assert!(site.says(78, &["check", "--set", &shadow]).contains(words));
    }
    let _learn = site.start("learn");
    let score = site.start("score");
    site.send_events(0..6);
    let made = decisions(&site.await_records("decisions", 6));
    for decision in &made {
        let [lenient, strict] = &decision.votes[..] else { panic!("{decision:?}") };
        assert!(lenient.vote.shadow && lenient.vote.score().is_some() && !strict.vote.shadow);
        assert_eq!((lenient.weight, lenient.contribution), (0.0, 0.0));
        assert!(strict.weight > 0.0 && !decision.degraded);
    }
    // Every third event has the threat that only the strict expert detects.
    let side = |side: &str| {
        format!("aegis_shadow_votes_total{{policy=\"default\",expert=\"lenient\",side=\"{side}\"}}")
    };
    await_metric(&site, "score", &format!("{} 2", side("other")));
    await_metric(&site, "score", &format!("{} 4", side("same")));

    let labels: Vec<_> = (0..6_usize)
        .map(|number| {
            let finding = if number.is_multiple_of(3) { Finding::Unsafe } else { Finding::Safe };
            label_record(
                &site.topic("labels"),
                &label(&format!("l{number}"), &format!("e{number:05}"), finding),
            )
        })
        .collect();
    send(&site.connection, &labels);
    let published = site.published("six rounds", |published| published.rounds == 6);
    assert_eq!(published.experts, ["lenient", "strict"]);
    let expected = (2.0 * (0.2_f64 - 1.0).powi(2) + 4.0 * 0.1_f64.powi(2)) / 6.0;
    let page = metrics(&site, "learn");
    let brier = value(&page, "aegis_expert_brier{policy=\"default\",expert=\"lenient\"}");
    assert!((brier - expected).abs() < 1e-12, "{brier} {expected}");

    // After its promotion the expert has weight. Until then its weight in the learner has not changed a decision.
    drop(score);
    let text = fs::read_to_string(site.path("aegis.toml")).unwrap().replace("[\"lenient\"]", "[]");
    fs::write(site.path("aegis.toml"), text).unwrap();
    let _score = site.start("score");
    site.send_events(6..7);
    let made = decisions(&site.await_records("decisions", 7));
    let last = made.iter().find(|decision| decision.id.event == "e00006").unwrap();
    assert!(last.votes.iter().all(|weighed| !weighed.vote.shadow && weighed.weight > 0.0), "{last:?}");
}
