//! Experts that are added to the panel in shadow, promoted, and moved to the shadow while events are scored.

use std::fs;
use std::time::Instant;

use aegis::core::decision::{Decision, WeighedVote};
use sha2::{Digest, Sha256};

use crate::reload::await_metric;
use crate::site::Site;
use crate::support::WAIT;
use crate::support::flow::decisions;

/// Writes an expert of rules into the site's folder. Its manifest has `hash`, or the hash of its file for `None`.
fn expert(site: &Site, id: &str, hash: Option<&str>) {
    expert_with(site, id, hash, "");
}

/// Writes an expert whose manifest has additional lines.
fn expert_with(site: &Site, id: &str, hash: Option<&str>, lines: &str) {
    let rules = "base = 0.1\n[[terms]]\ncategory = \"violence\"\nseverity = 0.9\nwords = [\"kill\"]\n";
    let own: String = Sha256::digest(rules).iter().map(|byte| format!("{byte:02x}")).collect();
    let hash = hash.unwrap_or(&own);
    let manifest = format!(
        "id = \"{id}\"\nkind = \"rules\"\ndescription = \"test\"\nlicence = \"MIT\"\nsource = \"test\"\n{lines}\
         [rules]\nfile = \"rules.toml\"\nsha256 = \"{hash}\"\n"
    );
    let folder = site.path("models").join(id);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("rules.toml"), rules).unwrap();
    fs::write(folder.join("manifest.toml"), manifest).unwrap();
}

/// Writes the configuration with these experts in shadow.
fn shadow(site: &Site, ids: &str) {
    set(site, "shadow", ids);
}

/// Writes the configuration with these experts in a list of `[experts]`.
fn set(site: &Site, list: &str, ids: &str) {
    let text = fs::read_to_string(site.path("aegis.toml")).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with(&format!("{list} = ")));
    let text: String = lines.map(|line| format!("{line}\n")).collect();
    fs::write(site.path("aegis.toml"), format!("{text}{list} = [{ids}]\n")).unwrap();
}

/// Sends events until `holds` accepts the decision about one. Returns that decision.
fn decided(site: &Site, sent: &mut usize, what: &str, holds: impl Fn(&Decision) -> bool) -> Decision {
    let until = Instant::now() + WAIT;
    loop {
        site.send_events(*sent..*sent + 1);
        let event = format!("e{sent:05}");
        *sent += 1;
        let made = decisions(&site.await_records("decisions", *sent));
        let found = made.into_iter().find(|decision| decision.id.event == event).unwrap();
        if holds(&found) {
            return found;
        }
        assert!(Instant::now() < until, "{what} did not come: {found:?}\n{}", site.log("score"));
    }
}

fn taken(site: &Site, count: usize) {
    await_metric(site, "score", &format!("aegis_panel_reloads_total{{outcome=\"taken\"}} {count}"));
    await_metric(site, "score", "aegis_panel_current 1");
}

fn refused(site: &Site, count: usize, words: &str) {
    await_metric(site, "score", &format!("aegis_panel_reloads_total{{outcome=\"refused\"}} {count}"));
    await_metric(site, "score", "aegis_panel_current 0");
    let log = site.log("score");
    assert!(log.contains(words), "{words}\n{log}");
}

/// Returns for each expert its id, `true` if it is in shadow, and its weight.
fn standing(decision: &Decision) -> Vec<(&str, bool, f64)> {
    let one = |weighed| {
        let WeighedVote { vote, weight, .. }: &WeighedVote = weighed;
        assert!(vote.score().is_some(), "{vote:?}");
        (vote.expert.as_str(), vote.shadow, *weight)
    };
    decision.votes.iter().map(one).collect()
}

#[test]
fn an_expert_comes_onto_the_panel_in_shadow_and_out_of_it_without_a_restart() {
    let site = Site::new("reseat", "shadow = []\n");
    let score = site.start("score");
    let mut sent = 0;
    let first = decided(&site, &mut sent, "a decision", |_| true);
    assert!(matches!(standing(&first)[..], [("lenient", false, _), ("strict", false, _)]), "{first:?}");

    // The expert is added in shadow: it votes and has no weight.
    expert(&site, "newcomer", None);
    shadow(&site, "\"newcomer\"");
    let three = |decision: &Decision| decision.votes.len() == 3;
    let made = decided(&site, &mut sent, "its vote", three);
    let [(_, false, lenient), ("newcomer", true, 0.0), (_, false, strict)] = standing(&made)[..] else {
        panic!("{made:?}")
    };
    assert!(lenient > 0.0 && strict > 0.0);
    taken(&site, 1);
    assert!(site.log("score").contains("on the panel from now on, in shadow"), "{}", site.log("score"));

    // The expert leaves the shadow and gets weight. Nothing is loaded for that.
    shadow(&site, "");
    let weighs = |decision: &Decision| decision.votes.iter().all(|vote| !vote.vote.shadow);
    let made = decided(&site, &mut sent, "its weight", weighs);
    assert!(standing(&made).iter().all(|(_, _, weight)| *weight > 0.0), "{made:?}");
    taken(&site, 2);

    // An expert with weight is moved to the shadow.
    shadow(&site, "\"strict\"");
    let asleep = |decision: &Decision| standing(decision)[2] == ("strict", true, 0.0);
    decided(&site, &mut sent, "the shadow", asleep);
    taken(&site, 3);

    // An invalid panel is refused, and the current panel stays in use.
    expert(&site, "forged", Some(&"0".repeat(64)));
    shadow(&site, "\"strict\", \"forged\"");
    refused(&site, 1, "forged");
    shadow(&site, "\"strict\", \"nobody\"");
    refused(&site, 2, "forged");
    fs::remove_dir_all(site.path("models").join("forged")).unwrap();
    score.signal("HUP");
    refused(&site, 3, "experts.shadow names nobody, which is no expert of the panel");
    // An expert that is not listed in experts.shadow would have weight.
    expert(&site, "later", None);
    expert(&site, "stranger", None);
    shadow(&site, "\"strict\", \"later\"");
    refused(&site, 4, "expert stranger is new and not in shadow");
    let made = decided(&site, &mut sent, "a decision", |_| true);
    assert_eq!(made.votes.len(), 3);
    assert!(asleep(&made), "{made:?}");

    // The current panel is configured again, then the refused one with all its experts listed.
    shadow(&site, "\"strict\"");
    await_metric(&site, "score", "aegis_panel_current 1");
    shadow(&site, "\"stranger\", \"later\"");
    let five = |decision: &Decision| decision.votes.len() == 5;
    let made = decided(&site, &mut sent, "five votes", five);
    let [("later", true, 0.0), .., ("stranger", true, 0.0), ("strict", false, strict)] = standing(&made)[..]
    else {
        panic!("{made:?}")
    };
    assert!(strict > 0.0);
    taken(&site, 4);
    site.says(0, &["verify"]);
}

#[test]
fn an_expert_that_weighs_is_not_exchanged_or_taken_off_while_events_are_scored() {
    let site = Site::new("exchange", "only = [\"lenient\", \"strict\"]\nshadow = []\n");
    let _score = site.start("score");
    let mut sent = 0;
    decided(&site, &mut sent, "a decision", |_| true);
    let rewrite = |from: &str, to: &str| {
        let text = fs::read_to_string(site.path("aegis.toml")).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(site.path("aegis.toml"), text.replace(from, to)).unwrap();
    };
    rewrite("only = [\"lenient\", \"strict\"]", "only = [\"strict\"]");
    refused(&site, 1, "expert lenient cannot be removed from a running panel");
    // The file of `strict` changes, and another expert is added at the same time.
    expert(&site, "strict", None);
    let rules = site.path("models").join("strict/rules.toml");
    let other = fs::read_to_string(&rules).unwrap().replace("0.9", "0.8");
    let hash: String = Sha256::digest(&other).iter().map(|byte| format!("{byte:02x}")).collect();
    expert(&site, "strict", Some(&hash));
    fs::write(rules, other).unwrap();
    expert(&site, "newcomer", None);
    rewrite(
        "only = [\"strict\"]\nshadow = []",
        "only = [\"lenient\", \"newcomer\", \"strict\"]\nshadow = [\"newcomer\"]",
    );
    refused(&site, 2, "expert strict has another model than on the running panel");
    let made = decided(&site, &mut sent, "a decision", |_| true);
    assert_eq!(made.votes.len(), 2);
}

#[test]
fn an_expert_whose_manifest_puts_it_in_shadow_votes_when_the_configuration_says_so() {
    let site = Site::new("shy", "");
    expert_with(&site, "shy", None, "shadow = true\n");
    let checked = site.says(0, &["check"]);
    assert!(checked.lines().any(|line| line.starts_with("expert shy:") && line.ends_with(", in shadow")));
    let refused_with = |setting: &str, words: &str| {
        let said = site.says(78, &["check", "--set", setting]);
        assert!(said.contains(words), "{said}");
    };
    refused_with("experts.voting=[\"shi\"]", "experts.voting names shi, which is no expert of the panel");
    refused_with("experts.shadow=[\"lenient\",\"strict\"]", "the whole panel is in shadow");

    let _score = site.start("score");
    let mut sent = 0;
    let rests = |decision: &Decision| standing(decision)[1] == ("shy", true, 0.0);
    assert!(rests(&decided(&site, &mut sent, "a decision", |_| true)));

    set(&site, "voting", "\"shy\"");
    let votes = |decision: &Decision| matches!(standing(decision)[1], ("shy", false, weight) if weight > 0.0);
    decided(&site, &mut sent, "its weight", votes);
    taken(&site, 1);

    // The two lists contradict each other: nothing changes.
    shadow(&site, "\"shy\"");
    refused(&site, 1, "experts.shadow and experts.voting both name shy");
    assert!(votes(&decided(&site, &mut sent, "a decision", |_| true)));

    shadow(&site, "");
    set(&site, "voting", "");
    decided(&site, &mut sent, "the shadow", rests);
}

#[test]
fn a_new_expert_whose_manifest_puts_it_in_shadow_is_taken_in_shadow_only() {
    let site = Site::new("shyer", "");
    let score = site.start("score");
    let mut sent = 0;
    decided(&site, &mut sent, "a decision", |_| true);

    expert_with(&site, "shy", None, "shadow = true\n");
    set(&site, "voting", "\"shy\"");
    refused(&site, 1, "expert shy is new, and a new expert begins in shadow");
    // One change of the file, so that no state between the two lists is read.
    let text = fs::read_to_string(site.path("aegis.toml")).unwrap();
    fs::write(site.path("aegis.toml"), text.replace("voting = ", "shadow = ")).unwrap();
    let rests =
        |decision: &Decision| decision.votes.len() == 3 && standing(decision)[1] == ("shy", true, 0.0);
    decided(&site, &mut sent, "its vote", rests);
    let text = fs::read_to_string(site.path("aegis.toml")).unwrap();
    fs::write(site.path("aegis.toml"), text.replace("shadow = ", "voting = ")).unwrap();
    let votes = |decision: &Decision| matches!(standing(decision)[1], ("shy", false, weight) if weight > 0.0);
    decided(&site, &mut sent, "its weight", votes);

    // An edited manifest gives no expert weight, and takes none.
    expert(&site, "shy", None);
    expert(&site, "later", None);
    shadow(&site, "\"later\"");
    refused(&site, 2, "the manifest of expert shy has another `shadow` than on the running panel");
    expert_with(&site, "shy", None, "shadow = true\n");
    score.signal("HUP");
    let four =
        |decision: &Decision| decision.votes.len() == 4 && standing(decision)[0] == ("later", true, 0.0);
    decided(&site, &mut sent, "another vote", four);
}
