//! Predictors that a scorer cannot use: of a learner of another version, or broken.

use aegis::codec::{self, Encoding};
use aegis::core::predictor::{FORMAT, Published};
use aegis::kafka::Produced;

use super::support::flow::{event, event_record, raw, read_all, send};
use super::support::site::{Process, Site, wait};
use super::{about, decide, decisions, events, send_labels};

const INFO: [(&str, &str); 1] = [("log.level", "info")];

fn publish(site: &Site, payload: Option<Vec<u8>>) {
    let record = raw(&site.topic("weights"), "default", payload.clone().unwrap_or_default());
    send(&site.connection, &[Produced { partition: Some(0), payload, ..record }]);
}

fn written(published: &Published) -> Option<Vec<u8>> {
    Some(codec::encode_published(published, Encoding::Avro).unwrap())
}

/// Returns the value of a metric of the policy.
fn value(process: &Process, name: &str) -> f64 {
    let page = process.get("/metrics").1;
    let line =
        page.lines().find(|line| line.starts_with(&format!("{name}{{policy=\"default\""))).unwrap_or("0");
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// Returns `true` if `count` predictors were rejected for this reason.
fn rejected(process: &Process, reason: &str, count: usize) -> bool {
    let line = format!("aegis_predictor_rejected_total{{policy=\"default\",reason=\"{reason}\"}} {count}");
    process.get("/metrics").1.lines().any(|found| found == line)
}

/// Sends an event. Returns the number of rounds of the predictor that decides about it.
fn rounds(site: &Site, number: usize) -> u64 {
    let event = event(number, "hello");
    send(&site.connection, &[event_record(&site.topic("events"), &event)]);
    let mut found = None;
    wait("a decision", || {
        let made = decisions(&read_all(&site.connection, &site.topic("decisions")));
        found = made.into_iter().find(|decision| decision.id.event == event.id);
        found.is_some()
    });
    found.unwrap().predictor.rounds
}

#[test]
fn a_predictor_that_cannot_be_used_is_counted_and_named() {
    let site = Site::with("skew", &INFO);
    decide(&site, &events(12));
    let learn = site.start_with("learn", &[], &[]);
    send_labels(&site, (0..12).map(about));
    let usable = site.published(12, 0);
    learn.stop();
    let newer = Published { format: FORMAT + 1, ..usable.clone() };
    let unfit = Published { state: vec![0.5], ..usable.clone() };

    // On topics without a usable predictor a scorer decides, but is not ready.
    let fresh = Site::with("skewed", &INFO);
    publish(&fresh, written(&newer));
    let mut score = fresh.start_with("score", &[], &[]);
    score.says("partitions assigned");
    let (_, page) = score.get("/readyz");
    let note = format!(
        "[-] score: predictors usable: policy default: Format: the predictor has format {}, this program reads {FORMAT}: \
         run one version of score and learn\n",
        FORMAT + 1
    );
    assert!(page.starts_with("HTTP/1.0 503") && page.contains(&note), "{page}");
    assert_eq!(
        (value(&score, "aegis_predictor_offset"), value(&score, "aegis_predictor_current")),
        (-1.0, 0.0)
    );
    assert_eq!(rounds(&fresh, 0), 0, "it decides without a predictor");

    // A usable predictor stays in use when unusable ones follow.
    publish(&fresh, written(&usable));
    wait("readiness", || score.get("/readyz").0 == 200);
    let offset = value(&score, "aegis_predictor_offset");
    assert!(offset > 0.0 && value(&score, "aegis_predictor_current") == 1.0);
    assert_eq!(rounds(&fresh, 1), 12);
    publish(&fresh, Some(b"\xc3\x01 from another world".to_vec()));
    wait("the broken one", || rejected(&score, "WrongSchema", 1));
    publish(&fresh, written(&unfit));
    wait("the one that does not fit", || rejected(&score, "State", 1));
    wait("the metric", || value(&score, "aegis_predictor_current") == 0.0);
    assert_eq!(value(&score, "aegis_predictor_offset"), offset);
    assert_eq!(rounds(&fresh, 2), 12, "the older one decides");
    let (status, page) = score.get("/readyz?verbose");
    assert!(
        status == 200 && page.contains("[+] score: predictors usable: policy default: State: "),
        "{page}"
    );
    // The same predictor again is counted and not logged.
    publish(&fresh, written(&unfit));
    wait("the same again", || rejected(&score, "State", 2));
    assert_eq!(score.log().matches("a predictor cannot be used").count(), 3, "{}", score.log());

    // The predictor is replaced with a tombstone.
    publish(&fresh, None);
    wait("the tombstone", || value(&score, "aegis_predictor_offset") == -1.0);
    assert_eq!((value(&score, "aegis_predictor_current"), score.get("/readyz").0), (1.0, 200));
    assert!(value(&score, "aegis_predictor_age_seconds") == 0.0);
    score.stop();
}
