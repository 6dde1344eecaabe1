//! `aegis weights show|history|diff`: shows the published predictors.

use std::collections::BTreeMap;

use anyhow::anyhow;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::print::{self, Output, printable, row, short};
use super::scan::scan;
use super::{ConfigArgs, Failure, run};
use crate::codec::{self, Encoding, hex, time::format_millis};
use crate::config::Config;
use crate::core::predictor::Published;
use crate::kafka::Connection;
use crate::ops::Exit;
use crate::ops::stdout::{errln, outln};

#[derive(Args)]
pub struct WeightsArgs {
    #[command(subcommand)]
    command: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Shows the newest predictor of each policy: weights, rounds, ledger offset and state hash
    Show(Common),
    /// Lists the versions in the topic, oldest first
    History(Common),
    /// Prints the newest predictor of each policy with its state, one in a line, for `aegis score --weights`
    Export {
        #[command(flatten)]
        config: ConfigArgs,
        /// Prints only this policy
        #[arg(long)]
        policy: Option<String>,
    },
    /// Shows the changes between two versions of one policy's predictor
    Diff {
        #[command(flatten)]
        common: Common,
        /// The older version, by its offset or the first digits of its state hash [default: the one before TO]
        #[arg(value_name = "FROM")]
        from: Option<String>,
        /// The newer version, by its offset or the first digits of its state hash [default: the newest]
        #[arg(value_name = "TO")]
        to: Option<String>,
    },
}

#[derive(Args)]
struct Common {
    #[command(flatten)]
    config: ConfigArgs,
    /// Shows only this policy
    #[arg(long)]
    policy: Option<String>,
    /// The format of the output
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// One version of a policy's predictor on the topic.
pub struct Version {
    /// The offset.
    pub offset: i64,
    /// The time of the record, in milliseconds since 1970.
    pub time: Option<i64>,
    /// The policy.
    pub policy: String,
    /// The predictor, or `None` if the learner has withdrawn it.
    pub published: Option<Published>,
}

impl Version {
    fn hash(&self) -> String {
        self.published.as_ref().map_or_else(String::new, |published| hex(&published.state_hash))
    }

    fn json(&self) -> Value {
        let mut value = json!({
            "policy": self.policy,
            "offset": self.offset,
            "time": self.time.map(format_millis),
            "learned": self.published.is_some(),
        });
        if let (Some(published), Value::Object(fields)) = (&self.published, &mut value) {
            let weights: serde_json::Map<_, _> =
                published.masses.iter().map(|mass| (mass.member.clone(), json!(mass.mass))).collect();
            fields.insert("learner".into(), json!(published.learner.name.as_str()));
            fields.insert("mapping".into(), json!(published.mapping));
            fields.insert("experts".into(), json!(published.experts));
            fields.insert("encoder".into(), json!(published.encoder.map(|encoder| hex(&encoder))));
            fields.insert("rounds".into(), json!(published.rounds));
            fields.insert("ledger_offset".into(), json!(published.ledger_offset));
            fields.insert("state_hash".into(), json!(self.hash()));
            fields.insert("weights".into(), Value::Object(weights));
        }
        value
    }

    /// Describes the version in one line.
    fn summary(&self) -> String {
        let time = self.time.map_or_else(|| "-".into(), format_millis);
        match &self.published {
            None => format!("offset {}, {time}: nothing is learned", self.offset),
            Some(published) => format!(
                "offset {}, {time}: {}, {} rounds, ledger offset {}, state {}",
                self.offset,
                published.learner.name,
                published.rounds,
                published.ledger_offset,
                self.hash()
            ),
        }
    }
}

/// Passes every version in the topic of predictors to `take`, oldest first. Returns the number of those that cannot be
/// decoded.
pub fn versions(
    connection: &Connection,
    config: &Config,
    take: &mut dyn FnMut(Version),
) -> Result<usize, Failure> {
    let mut broken = 0;
    scan(connection, &config.topics.weights, &mut |record| {
        let published = record.payload.as_deref().map(codec::decode_published).transpose();
        match published {
            Ok(published) => {
                let policy = String::from_utf8_lossy(record.key.as_deref().unwrap_or_default()).into_owned();
                take(Version { offset: record.offset, time: record.timestamp, policy, published });
            }
            Err(_) => broken += 1,
        }
        Ok(())
    })?;
    Ok(broken)
}

/// Prints the newest predictors as JSON records.
fn export(config: &ConfigArgs, policy: Option<&String>) -> Result<Exit, Failure> {
    let config = config.load()?.config;
    let connection = run::brokers(&config)?;
    let mut newest = BTreeMap::new();
    versions(&connection, &config, &mut |version| {
        if policy.is_none_or(|policy| *policy == version.policy) {
            newest.insert(version.policy.clone(), version.published);
        }
    })?;
    let learned: Vec<Published> = newest.into_values().flatten().collect();
    if learned.is_empty() {
        let error = anyhow!("{} holds no predictor: nothing is learned yet", config.topics.weights);
        return Err(Failure { exit: Exit::Data, error });
    }
    for published in learned {
        let json = codec::encode_published(&published, Encoding::Json)
            .map_err(|error| Failure::new(Exit::Internal, error))?;
        outln!("{}", String::from_utf8_lossy(&json));
    }
    Ok(Exit::Success)
}

pub fn weights(args: &WeightsArgs) -> Result<Exit, Failure> {
    let common = match &args.command {
        Action::Export { config, policy } => return export(config, policy.as_ref()),
        Action::Show(common) | Action::History(common) | Action::Diff { common, .. } => common,
    };
    let config = common.config.load()?.config;
    let connection = run::brokers(&config)?;
    let mut all = Vec::new();
    let broken = versions(&connection, &config, &mut |mut version| {
        // States are large and are not needed here.
        if let Some(published) = &mut version.published {
            published.state = Vec::new();
        }
        if common.policy.as_ref().is_none_or(|policy| *policy == version.policy) {
            all.push(version);
        }
    })?;
    if broken > 0 {
        errln!("aegis: {broken} records of {} are not predictors of this version", config.topics.weights);
    }
    if let (true, Some(policy)) = (all.is_empty(), &common.policy) {
        let nothing = anyhow!("{} holds nothing for policy {policy}", config.topics.weights);
        return Err(Failure { exit: Exit::Data, error: nothing });
    }
    match &args.command {
        Action::Show(_) => show(&newest(all), common.output)?,
        Action::History(_) => history(&all, common.output)?,
        Action::Export { .. } => {}
        Action::Diff { from, to, .. } => {
            let (from, to) = chosen(&all, from.as_deref(), to.as_deref())?;
            diff(from, to, common.output)?;
        }
    }
    Ok(Exit::Success)
}

fn newest(all: Vec<Version>) -> Vec<Version> {
    let by_policy: BTreeMap<String, Version> =
        all.into_iter().map(|version| (version.policy.clone(), version)).collect();
    by_policy.into_values().collect()
}

fn show(newest: &[Version], output: Output) -> Result<(), Failure> {
    if output == Output::Json {
        return print::json(&newest.iter().map(Version::json).collect::<Vec<_>>());
    }
    if newest.is_empty() {
        outln!("nothing is learned yet");
    }
    for version in newest {
        outln!("policy {}: {}", printable(&version.policy), version.summary());
        let Some(published) = &version.published else { continue };
        let mut masses: Vec<_> = published.masses.iter().collect();
        masses.sort_by(|a, b| b.mass.total_cmp(&a.mass));
        let mut rows = vec![row(["member", "weight"])];
        rows.extend(masses.iter().map(|mass| vec![printable(&mass.member), format!("{:.4}", mass.mass)]));
        print::table(&rows, &[1]);
    }
    Ok(())
}

fn history(all: &[Version], output: Output) -> Result<(), Failure> {
    if output == Output::Json {
        return print::json(&all.iter().map(Version::json).collect::<Vec<_>>());
    }
    let mut rows =
        vec![row(["offset", "time", "policy", "rounds", "ledger offset", "state", "greatest weight"])];
    for version in all {
        let time = version.time.map_or_else(|| "-".into(), format_millis);
        let (mut rounds, mut ledger, mut most) =
            ("-".to_owned(), "-".to_owned(), "nothing is learned".to_owned());
        if let Some(published) = &version.published {
            (rounds, ledger) = (published.rounds.to_string(), published.ledger_offset.to_string());
            let greatest = published.masses.iter().max_by(|a, b| a.mass.total_cmp(&b.mass));
            most = greatest.map_or_else(String::new, |greatest| {
                format!("{} {:.4}", printable(&greatest.member), greatest.mass)
            });
        }
        let state = short(&version.hash()).to_owned();
        rows.push(vec![
            version.offset.to_string(),
            time,
            printable(&version.policy),
            rounds,
            ledger,
            state,
            most,
        ]);
    }
    print::table(&rows, &[0, 3, 4]);
    Ok(())
}

/// Returns the two versions to compare, of one policy, the older first.
fn chosen<'a>(
    all: &'a [Version],
    from: Option<&str>,
    to: Option<&str>,
) -> Result<(&'a Version, &'a Version), Failure> {
    let wrong = |error| Failure { exit: Exit::Data, error };
    let named = |name: &str| {
        let offset: Option<i64> = name.parse().ok();
        let is = |version: &&Version| {
            offset == Some(version.offset) || (name.len() >= 4 && version.hash().starts_with(name))
        };
        all.iter().rev().find(is).ok_or_else(|| {
            wrong(anyhow!("no version {name} is in the topic (any more): `aegis weights history` lists them"))
        })
    };
    let to = match to {
        Some(to) => named(to)?,
        None => match from.map(named).transpose()? {
            Some(from) => last_of(all, &from.policy)?,
            None => all.last().ok_or_else(|| wrong(anyhow!("nothing is learned yet")))?,
        },
    };
    let from = match from {
        Some(from) => named(from)?,
        None => {
            let before = |version: &&Version| version.policy == to.policy && version.offset < to.offset;
            all.iter()
                .rev()
                .find(before)
                .ok_or_else(|| wrong(anyhow!("the topic holds one version only of policy {}", to.policy)))?
        }
    };
    if from.policy != to.policy {
        return Err(wrong(anyhow!(
            "offset {} is of policy {} and offset {} of {}: choose two of one policy",
            from.offset,
            from.policy,
            to.offset,
            to.policy
        )));
    }
    Ok((from, to))
}

fn last_of<'a>(all: &'a [Version], policy: &str) -> Result<&'a Version, Failure> {
    let last = all.iter().rev().find(|version| version.policy == policy);
    last.ok_or_else(|| Failure { exit: Exit::Data, error: anyhow!("nothing is learned for policy {policy}") })
}

/// A member with its mass before and after, or `None` if a version does not have it.
type Moved<'a> = (&'a str, Option<f64>, Option<f64>);

/// Returns every member's mass in both versions, the greatest changes first.
fn moved<'a>(from: &'a Version, to: &'a Version) -> Vec<Moved<'a>> {
    let mut members: BTreeMap<&str, (Option<f64>, Option<f64>)> = BTreeMap::new();
    for mass in from.published.iter().flat_map(|published| &published.masses) {
        members.entry(&mass.member).or_default().0 = Some(mass.mass);
    }
    for mass in to.published.iter().flat_map(|published| &published.masses) {
        members.entry(&mass.member).or_default().1 = Some(mass.mass);
    }
    let mut moved: Vec<Moved<'_>> =
        members.into_iter().map(|(member, (old, new))| (member, old, new)).collect();
    let by = |moved: &Moved<'_>| change(moved).abs();
    moved.sort_by(|a, b| by(b).total_cmp(&by(a)));
    moved
}

fn change((_, old, new): &Moved<'_>) -> f64 {
    new.unwrap_or(0.0) - old.unwrap_or(0.0)
}

fn diff(from: &Version, to: &Version, output: Output) -> Result<(), Failure> {
    let moved = moved(from, to);
    if output == Output::Json {
        let members: Vec<_> = moved
            .iter()
            .map(|one| json!({"member": one.0, "from": one.1, "to": one.2, "change": change(one)}))
            .collect();
        let mut value = json!({"from": from.json(), "to": to.json(), "members": members});
        for side in ["from", "to"] {
            if let Some(Value::Object(fields)) = value.get_mut(side) {
                fields.remove("weights");
            }
        }
        return print::json(&value);
    }
    outln!("policy {}", printable(&to.policy));
    outln!("from    {}", from.summary());
    outln!("to      {}", to.summary());
    let mut rows = vec![row(["member", "from", "to", "change"])];
    let mass = |mass: Option<f64>| mass.map_or_else(|| "-".into(), |mass| format!("{mass:.4}"));
    rows.extend(
        moved
            .iter()
            .map(|one| vec![printable(one.0), mass(one.1), mass(one.2), format!("{:+.4}", change(one))]),
    );
    print::table(&rows, &[1, 2, 3]);
    Ok(())
}
