//! `aegis weights pin` and `unpin`: holds a policy on a published predictor, and lets it follow the newest again.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::anyhow;
use clap::Args;

use super::topic::{Entry, PinChange, entries, keep, pins};
use crate::cli::print::{printable, short};
use crate::cli::{ConfigArgs, Failure, run};
use crate::codec::{self, Encoding, PIN_BY_HEADER, PIN_REASON_HEADER, hex, time::format_millis};
use crate::config::{Config, Loaded, Policies};
use crate::core::event::{MAX_ID, Millis};
use crate::core::policy::Release;
use crate::core::predictor::{MAX_PIN_REASON, Pin, Predictor, Published, StateHash};
use crate::kafka::{Connection, Delivery, Outbox, Produced};
use crate::ops::Exit;
use crate::ops::stdout::outln;

/// The least number of digits of a hash, so that a slip of the hand names no predictor.
const LEAST_DIGITS: usize = 4;

/// The person and the reason, for the record.
#[derive(Args)]
pub struct Audit {
    /// The reason, which `aegis weights history` shows
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    reason: String,
    /// The person [default: the name of this user]
    #[arg(long, value_name = "NAME", value_parser = person)]
    by: Option<String>,
}

#[derive(Args)]
pub struct PinArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The state hash of the predictor, or its first digits, at least 4
    #[arg(value_name = "HASH")]
    hash: String,
    /// The policy, if more than one has a predictor of this hash
    #[arg(long)]
    policy: Option<String>,
    #[command(flatten)]
    audit: Audit,
}

#[derive(Args)]
pub struct UnpinArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The policy [default: the only one with a pin]
    #[arg(long)]
    policy: Option<String>,
    #[command(flatten)]
    audit: Audit,
    /// Ends the pin also if the policy has release = "manual", so that its prior decides
    #[arg(long)]
    to_prior: bool,
}

fn reason(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("give a reason".to_owned()),
        text if text.len() > MAX_PIN_REASON => Err(format!("give at most {MAX_PIN_REASON} bytes")),
        text => Ok(text.to_owned()),
    }
}

fn person(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("give a name".to_owned()),
        text if text.len() > MAX_ID => Err(format!("give at most {MAX_ID} bytes")),
        text => Ok(text.to_owned()),
    }
}

impl Audit {
    /// Returns the name of the person.
    fn by(&self) -> Result<String, Failure> {
        let user = || ["USER", "LOGNAME"].iter().find_map(|name| person(&std::env::var(name).ok()?).ok());
        self.by.clone().or_else(user).ok_or_else(|| {
            let error = anyhow!("the user has no name in USER or LOGNAME: give one with --by");
            Failure { exit: Exit::Usage, error }
        })
    }
}

fn data(error: anyhow::Error) -> Failure {
    Failure { exit: Exit::Data, error }
}

fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis::try_from(since.as_millis()).unwrap_or(Millis::MAX)
}

/// A predictor that can be pinned: its record, byte for byte, and its place on the topic.
struct Candidate {
    payload: Vec<u8>,
    offset: i64,
    time: Option<Millis>,
    published: Published,
}

/// The predictors of one hash prefix, by policy and hash, and the pins in force.
#[derive(Default)]
struct Found {
    candidates: BTreeMap<(String, StateHash), Candidate>,
    pins: BTreeMap<String, PinChange>,
}

/// Reads the predictors on the topic whose hash begins with `prefix`, and the pins. A pinned predictor can be pinned again
/// after the record that it was published in has gone.
fn find(
    prefix: &str,
    policy: Option<&str>,
    config: &Config,
    connection: &Connection,
) -> Result<Found, Failure> {
    let mut found = Found::default();
    entries(connection, config, &mut |record, entry| {
        let version = match &entry {
            Entry::Version(version) => Some(version),
            Entry::Pin(change) => change.pinned.as_ref().map(|(_, version)| version),
        };
        let named = |published: &&Published| {
            hex(&published.state_hash).starts_with(prefix)
                && policy.is_none_or(|policy| policy == published.policy)
        };
        if let Some(published) = version.and_then(|version| version.published.as_ref()).filter(named) {
            let key = (published.policy.clone(), published.state_hash);
            let published = published.clone();
            match (&entry, &record.payload) {
                (Entry::Version(_), Some(payload)) => {
                    let (payload, offset, time) = (payload.clone(), record.offset, record.timestamp);
                    found.candidates.insert(key, Candidate { payload, offset, time, published });
                }
                (Entry::Pin(change), _) => {
                    if let Some((pin, _)) = &change.pinned {
                        let (payload, offset, time) = (pin.predictor.clone(), pin.offset, pin.published);
                        let candidate = Candidate { payload, offset, time, published };
                        found.candidates.entry(key).or_insert(candidate);
                    }
                }
                (Entry::Version(_), None) => {}
            }
        }
        if let Entry::Pin(change) = entry {
            keep(&mut found.pins, *change);
        }
    })?;
    Ok(found)
}

/// Returns the only predictor that was found.
fn only(found: &mut Found, hash: &str, topic: &str) -> Result<Candidate, Failure> {
    let one = found.candidates.pop_first();
    match (one, found.candidates.is_empty()) {
        (Some((_, one)), true) => Ok(one),
        (None, _) => Err(data(anyhow!(
            "no predictor with the hash {hash} is on {topic}, or not any more: it is compacted, and an older predictor can be \
             pinned only until then; `aegis weights history` lists those that are there"
        ))),
        (Some((first, _)), false) => {
            let all = std::iter::once(&first).chain(found.candidates.keys());
            let all: Vec<_> = all
                .map(|(policy, state)| format!("{} of policy {}", short(&hex(state)), printable(policy)))
                .collect();
            Err(data(anyhow!("{hash} names {}: give more digits, or --policy", all.join(" and "))))
        }
    }
}

/// Checks that scorers of this version can use the predictor.
fn check_usable(published: &Published, policies: &Policies) -> Result<Release, Failure> {
    let mut published = published.clone();
    let name = &published.policy;
    let Some(policy) = policies.get(name) else {
        return Err(data(anyhow!(
            "the policies file has no policy {}, whose predictor this is",
            printable(name)
        )));
    };
    published.learner.seed.clone_from(&policy.learner.seed);
    Predictor::published(&published)
        .map_err(|error| data(anyhow!("scorers of this version cannot use the predictor: {error}")))?;
    Ok(policy.release)
}

/// Writes a record with the key of a policy's pin. Returns its offset, which all replicas in sync have acknowledged.
fn write(
    config: &Config,
    connection: &Connection,
    policy: &str,
    payload: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
) -> Result<i64, Failure> {
    let record = Produced {
        topic: config.topics.weights.as_str().into(),
        partition: Some(0),
        key: Some(codec::pin_key(policy)),
        payload,
        headers,
        timestamp: None,
    };
    // A producer of its own does not fence the active learner. It is idempotent, so that a retry writes no second record.
    let unavailable = |error| Failure::of(connection, error);
    let mut outbox = Outbox::open(connection, Delivery::AtLeastOnce).map_err(unavailable)?;
    let places = outbox.commit(&[record], None).map_err(unavailable)?;
    let (_, offset) = *places.first().expect("the commit of one record returns its position");
    Ok(offset)
}

pub fn pin(args: &PinArgs) -> Result<Exit, Failure> {
    let hash = args.hash.to_ascii_lowercase();
    if hash.len() < LEAST_DIGITS || !hash.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        let error =
            anyhow!("{} is no hash: give at least {LEAST_DIGITS} of its digits", printable(&args.hash));
        return Err(Failure { exit: Exit::Usage, error });
    }
    let by = args.audit.by()?;
    let Loaded { config, policies } = args.config.load()?;
    let connection = run::brokers(&config)?;
    let topic = &config.topics.weights;
    let mut found = find(&hash, args.policy.as_deref(), &config, &connection)?;
    let candidate = only(&mut found, &hash, topic)?;
    let release = check_usable(&candidate.published, &policies)?;
    let Published { policy, state_hash, rounds, .. } = &candidate.published;
    let shown = format!("policy {}: {} ({rounds} rounds)", printable(policy), short(&hex(state_hash)));
    let before = found.pins.get(policy).and_then(|change| Some((change, change.pinned.as_ref()?)));
    if let Some((change, (pin, version))) = before
        && version.published.as_ref().is_some_and(|published| {
            // A pin that scorers reject is written again.
            published.state_hash == *state_hash && check_usable(published, &policies).is_ok()
        })
    {
        let (by, since) = (printable(&change.by), format_millis(pin.time));
        outln!("{shown} is pinned already, by {by} since {since}: nothing is written");
        return Ok(Exit::Success);
    }
    let record = Pin {
        policy: policy.clone(),
        predictor: candidate.payload,
        offset: candidate.offset,
        published: candidate.time,
        by,
        reason: args.audit.reason.clone(),
        time: now(),
    };
    let payload =
        codec::encode_pin(&record, Encoding::Avro).map_err(|error| Failure::new(Exit::Data, error))?;
    let offset = write(&config, &connection, policy, Some(payload), Vec::new())?;
    let done = if release == Release::Manual { "released" } else { "pinned" };
    outln!(
        "{shown} is {done}, written to {topic} at offset {offset}; scorers use it from their next decision on"
    );
    Ok(Exit::Success)
}

pub fn unpin(args: &UnpinArgs) -> Result<Exit, Failure> {
    let by = args.audit.by()?;
    let Loaded { config, policies } = args.config.load()?;
    let connection = run::brokers(&config)?;
    let pins = pins(&connection, &config)?;
    let change = match &args.policy {
        Some(policy) => pins.get(policy).ok_or_else(|| {
            data(anyhow!("no predictor of policy {} is pinned: nothing is written", printable(policy)))
        })?,
        None => match (pins.len(), pins.values().next()) {
            (1, Some(only)) => only,
            (0, _) | (_, None) => return Err(data(anyhow!("no predictor is pinned: nothing is written"))),
            (count, _) => {
                let all: Vec<_> = pins.keys().map(|policy| printable(policy)).collect();
                let error =
                    anyhow!("{count} policies have a pin: name one of {} with --policy", all.join(", "));
                return Err(Failure { exit: Exit::Usage, error });
            }
        },
    };
    let policy = &change.policy;
    let manual = policies.get(policy).is_some_and(|policy| policy.release == Release::Manual);
    if manual && !args.to_prior {
        return Err(data(anyhow!(
            "policy {} has release = \"manual\": without a released predictor its prior decides; release another one with \
             `aegis weights release HASH`, or repeat this with --to-prior",
            printable(policy)
        )));
    }
    let headers = vec![
        (PIN_BY_HEADER.to_owned(), Some(by.into_bytes())),
        (PIN_REASON_HEADER.to_owned(), Some(args.audit.reason.clone().into_bytes())),
    ];
    let offset = write(&config, &connection, policy, None, headers)?;
    let then = if manual { "the prior decides" } else { "scorers follow the newest predictor" };
    let topic = &config.topics.weights;
    outln!("policy {}: no longer pinned, written to {topic} at offset {offset}; {then}", printable(policy));
    Ok(Exit::Success)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(all: &[(&str, u8)]) -> Found {
        let candidate = |(policy, state): &(&str, u8)| {
            let published = Published { state_hash: [*state; 32], ..Published::example(policy) };
            let key = (published.policy.clone(), published.state_hash);
            (key, Candidate { payload: Vec::new(), offset: 0, time: None, published })
        };
        Found { candidates: all.iter().map(candidate).collect(), ..Found::default() }
    }

    fn chosen(all: &[(&str, u8)]) -> Result<String, String> {
        let one = only(&mut found(all), "abab", "weights");
        one.map(|one| one.published.policy).map_err(|failure| failure.error.to_string())
    }

    #[test]
    fn a_prefix_names_one_predictor_or_none() {
        assert_eq!(chosen(&[("house", 0xAB)]).unwrap(), "house");
        assert!(chosen(&[]).unwrap_err().contains("`aegis weights history` lists those that are there"));
        let twice = chosen(&[("house", 0xAB), ("house", 0xAC), ("garden", 0xAB)]).unwrap_err();
        assert_eq!(
            twice,
            "abab names abababababab of policy garden and abababababab of policy house and acacacacacac of policy house: give \
             more digits, or --policy"
        );
    }

    #[test]
    fn a_reason_and_a_name_are_bounded() {
        assert_eq!(reason(" because \n").unwrap(), "because");
        assert!(reason(" ").is_err() && reason(&"x".repeat(MAX_PIN_REASON + 1)).is_err());
        assert!(person("").is_err() && person(&"x".repeat(MAX_ID + 1)).is_err());
        assert_eq!(person("ann").unwrap(), "ann");
    }
}
