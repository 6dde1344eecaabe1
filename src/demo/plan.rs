//! The plan of the demo's stream: the texts in their order, their labels, and the labels' delays. The same seed gives the
//! same plan.

use std::collections::{BTreeMap, HashMap};

use fastrand::Rng;

use super::texts::{Sample, Texts};
use crate::core::event::{Event, Millis, Role, Turn};
use crate::core::label::{Label, Source};
use crate::core::policy::{Action, Policy};
use crate::core::sampling::ReviewDraws;

/// Tenant of all demo traffic.
pub const TENANT: &str = "demo";
/// Policy of all demo traffic.
pub const POLICY: &str = "default";
/// The share of events that are reviewed without a request.
const REVIEWED: f64 = 0.4;
/// The median of the delay between an event and its label, in events.
const DELAY_MEDIAN: f64 = 200.0;
/// The standard deviation of the delay's logarithm: a quarter of the labels is later than 1,000 events.
const DELAY_SPREAD: f64 = 2.386;
/// The time between two events, in milliseconds, so that round times differ.
const EVENT_INTERVAL: Millis = 40;

/// An item of the plan.
pub enum Sent {
    /// A good event.
    Event(Box<Event>),
    /// A record on the events topic that is not an event.
    Malformed(Vec<u8>),
    /// A label.
    Label(Box<Label>),
    /// A label without a finding.
    BadLabel(Vec<u8>),
}

/// The whole stream.
pub struct Plan {
    /// The items in order.
    pub sent: Vec<Sent>,
    /// Good events among it.
    pub events: usize,
    /// Records on the events topic that are not events.
    pub malformed: usize,
    /// Labels among it, with repeated ones and bad ones.
    pub labels: usize,
    /// Labels without a finding.
    pub bad_labels: usize,
    /// By event, the mean opinion of its reviewers, whether they are asked or not.
    pub opinions: HashMap<String, f64>,
}

/// The audits that a policy draws, which the labeller answers. They follow from the ids of events, so that the labeller need
/// not wait for decisions. If rates differ by action, it answers what the highest of them draws.
pub struct AuditDraws<'a> {
    policy: Option<&'a Policy>,
    rate: f64,
    /// The text before each event's id.
    prefix: &'a str,
}

impl<'a> AuditDraws<'a> {
    /// The audits of events whose ids are `prefix` and those of the plan.
    #[must_use]
    pub fn new(policy: Option<&'a Policy>, prefix: &'a str) -> Self {
        let rates =
            policy.into_iter().flat_map(|policy| Action::ALL.map(|action| policy.audit_rates.of(action)));
        Self { policy, rate: rates.fold(0.0, f64::max), prefix }
    }

    fn draws(&self, event: &str) -> bool {
        let id = format!("{}{event}", self.prefix);
        self.policy.is_some_and(|policy| ReviewDraws::of(policy, TENANT, &id).audit < self.rate)
    }
}

/// A part of the stream, with the weights by which the sets are drawn from.
struct Phase {
    weights: [f64; 4],
}

/// Everyday traffic, an injection campaign, harmful answers, then a mixture.
const PHASES: [Phase; 4] = [
    Phase { weights: [0.4, 0.05, 0.05, 0.5] },
    Phase { weights: [0.75, 0.0, 0.1, 0.15] },
    Phase { weights: [0.1, 0.55, 0.05, 0.3] },
    Phase { weights: [0.45, 0.2, 0.1, 0.25] },
];

/// Plans `count` good events, the first of them at `start` by the producers' clock. Events that `audits` draws are
/// reviewed besides the others.
#[must_use]
pub fn plan(texts: &Texts, count: usize, seed: u64, start: Millis, audits: &AuditDraws<'_>) -> Plan {
    let mut rng = Rng::with_seed(seed);
    // A rate of audits does not change the rest of the plan.
    let mut audit_rng = Rng::with_seed(seed ^ u64::MAX);
    let mut sets = [&texts.injection, &texts.answers, &texts.jailbreaks, &texts.everyday].map(|set| {
        let mut order: Vec<&Sample> = set.iter().collect();
        rng.shuffle(&mut order);
        order.into_iter().cycle()
    });
    let mut due: BTreeMap<usize, Vec<Label>> = BTreeMap::new();
    let mut plan = Plan {
        sent: Vec::new(),
        events: 0,
        malformed: 0,
        labels: 0,
        bad_labels: 0,
        opinions: HashMap::new(),
    };
    let odd = odd_texts();
    let every = (count / 12).max(1);
    for number in 0..count {
        for label in due.remove(&number).unwrap_or_default() {
            plan.label(label);
        }
        if number % every == every / 2 {
            plan.malformed(malformed(number / every, number));
        }
        let time = start + EVENT_INTERVAL * number as Millis;
        // A few events have odd texts, but none near the end.
        let strange = odd.get(number / every).filter(|_| number % every == every / 3);
        let (turns, opinions) = match strange {
            Some(text) => (vec![Turn { role: Role::User, text: (*text).to_owned() }], Vec::new()),
            None => {
                let phase = number * PHASES.len() / count;
                let Some(sample) = draw(&mut rng, phase, &mut sets) else { continue };
                (sample.turns.clone(), sample.opinions.clone())
            }
        };
        let event = event(number, turns, time, strange.is_some());
        plan.opinion(&event.id, &opinions);
        // The draws are independent: an event is reviewed if either comes up.
        let inclusion = REVIEWED + (1.0 - REVIEWED) * audits.rate;
        let answers = if rng.f64() < REVIEWED {
            labels(&mut rng, &event.id, &opinions, time, inclusion)
        } else if audits.draws(&event.id) {
            labels(&mut audit_rng, &event.id, &opinions, time, inclusion)
        } else {
            Vec::new()
        };
        for (after, label) in answers {
            due.entry(number + 1 + after).or_default().push(label);
        }
        plan.events += 1;
        plan.sent.push(Sent::Event(Box::new(event)));
    }
    for label in due.into_values().flatten() {
        plan.label(label);
    }
    plan
}

impl Plan {
    /// Keeps the mean opinion about an event, if there is any.
    fn opinion(&mut self, event: &str, opinions: &[f64]) {
        if !opinions.is_empty() {
            let mean = opinions.iter().sum::<f64>() / opinions.len() as f64;
            self.opinions.insert(event.to_owned(), mean);
        }
    }

    fn label(&mut self, label: Label) {
        self.labels += 1;
        if label.verdict.is_none() && label.severity.is_none() && label.retracts.is_none() {
            self.bad_labels += 1;
            let Label { id, event, .. } = label;
            let payload = format!(r#"{{"id":"{id}","event_id":"{event}","tenant":"{TENANT}"}}"#);
            self.sent.push(Sent::BadLabel(payload.into_bytes()));
        } else {
            self.sent.push(Sent::Label(Box::new(label)));
        }
    }

    fn malformed(&mut self, payload: Vec<u8>) {
        self.malformed += 1;
        self.sent.push(Sent::Malformed(payload));
    }
}

fn draw<'a>(
    rng: &mut Rng,
    phase: usize,
    sets: &mut [impl Iterator<Item = &'a Sample>; 4],
) -> Option<&'a Sample> {
    let weights = PHASES.get(phase)?.weights;
    let mut left = rng.f64() * weights.iter().sum::<f64>();
    for (weight, set) in weights.iter().zip(sets.iter_mut()) {
        left -= weight;
        if left < 0.0 {
            return set.next();
        }
    }
    sets.last_mut()?.next()
}

fn event(number: usize, turns: Vec<Turn>, time: Millis, odd: bool) -> Event {
    const YEAR_2090: Millis = 3_786_912_000_000;
    Event {
        id: format!("e{number:06}"),
        conversation: format!("c{:05}", number / 3),
        tenant: TENANT.into(),
        policy: POLICY.into(),
        subject: Some(format!("u{:04}", number % 997)),
        // Odd events come from a producer whose clock is decades ahead.
        time: Some(if odd { YEAR_2090 } else { time }),
        judged: turns.len().saturating_sub(1),
        turns,
        metadata: BTreeMap::new(),
    }
}

/// Returns texts that are hard to process: empty, only spaces, NUL bytes, emoji, right to left.
fn odd_texts() -> Vec<&'static str> {
    vec![
        "",
        "   \n\t ",
        "a NUL \0 in the middle",
        "🙂🙃 👩‍👩‍👧‍👦 🏳️‍🌈",
        "שלום, מה שלומך היום?",
        "\u{202e}override\u{202c}",
    ]
}

/// Returns a record that is not an event, in one of several ways.
fn malformed(kind: usize, number: usize) -> Vec<u8> {
    match kind % 6 {
        0 => b"neither Avro nor JSON".to_vec(),
        1 => [0xC3, 0x01, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0].to_vec(),
        2 => format!(r#"{{"id":"x{number}","policy":"no-such-policy","text":"hello"}}"#).into_bytes(),
        3 => format!(r#"{{"id":"x{number}","text":"{}"}}"#, "long ".repeat(220_000)).into_bytes(),
        4 => br#"{"id":"cut off in the mid"#.to_vec(),
        _ => br#"{"text":"an event without an id"}"#.to_vec(),
    }
}

/// Draws a delay in events from a log-normal distribution, by the Box-Muller transform.
fn delay(rng: &mut Rng) -> usize {
    let (a, b) = (1.0 - rng.f64(), rng.f64());
    let normal = (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a positive count, bounded below"
    )]
    let events = (DELAY_MEDIAN * (DELAY_SPREAD * normal).exp()).min(1e9) as usize;
    events
}

/// Returns the labels of one event, each with its delay in events.
fn labels(rng: &mut Rng, event: &str, opinions: &[f64], time: Millis, inclusion: f64) -> Vec<(usize, Label)> {
    let mut out = Vec::new();
    for (reviewer, opinion) in opinions.iter().enumerate() {
        let after = delay(rng);
        let mut label = Label {
            id: format!("{event}-{reviewer}"),
            tenant: TENANT.into(),
            policy: POLICY.into(),
            event: event.to_owned(),
            annotator: Some(format!("reviewer-{}", (rng.usize(..4) + reviewer * 4) % 12)),
            verdict: None,
            severity: Some(*opinion),
            categories: Vec::new(),
            time: time + EVENT_INTERVAL * Millis::try_from(after).unwrap_or(Millis::MAX / EVENT_INTERVAL / 2),
            source: Source::Review,
            inclusion_probability: Some(inclusion),
            decision: None,
            corrects: None,
            retracts: None,
        };
        let follow_up = |label: &Label, kind: &str| Label {
            id: format!("{}-{kind}", label.id),
            time: label.time + EVENT_INTERVAL,
            ..label.clone()
        };
        match rng.usize(..100) {
            // Sent twice.
            0..4 => out.push((after + delay(rng), label.clone())),
            // Wrong at first, then corrected.
            4..9 => {
                let right = Label { corrects: Some(label.id.clone()), ..follow_up(&label, "corrected") };
                label.severity = Some(1.0 - opinion);
                out.push((after + 1 + delay(rng) / 4, right));
            }
            // Retracted, sometimes before it comes.
            9..11 => {
                let back = Label {
                    retracts: Some(label.id.clone()),
                    severity: None,
                    ..follow_up(&label, "retracted")
                };
                out.push((after / 2 + delay(rng), back));
            }
            // A label without a finding.
            11 => out.push((after, Label { severity: None, ..follow_up(&label, "empty") })),
            // A label of an event that does not exist.
            12 => out.push((after, Label { event: format!("{event}-unseen"), ..follow_up(&label, "stray") })),
            _ => {}
        }
        out.push((after, label));
    }
    out
}
