//! `aegis weights diff`: the changes between two versions of a predictor.

use std::collections::BTreeMap;

use anyhow::anyhow;
use clap::Args;
use serde_json::{Value, json};

use super::compare::{self, Limits};
use super::topic::{PinChange, Version};
use super::{Common, Topic};
use crate::cli::Failure;
use crate::cli::print::{self, Output, printable, row, short};
use crate::ops::Exit;
use crate::ops::stdout::outln;

#[derive(Args)]
pub struct DiffArgs {
    #[command(flatten)]
    common: Common,
    /// The older version: its offset, the first digits of its state hash, `pinned` or `newest` [default: the one before TO]
    #[arg(value_name = "FROM")]
    from: Option<String>,
    /// The newer version, in the same way [default: the newest]
    #[arg(value_name = "TO")]
    to: Option<String>,
    /// The number of the newest decisions of the policy that are made again with both versions; 0 for none
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(..=1_000_000))]
    decisions: u64,
    /// The number of the newest labelled rounds on which both versions are measured; 0 for none, which reads no ledger
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(..=10_000_000))]
    rounds: u64,
}

pub fn diff(args: &DiffArgs) -> Result<Exit, Failure> {
    let common = &args.common;
    let loaded = common.config.load()?;
    let topic = Topic::read(common, &loaded)?;
    let names = Names { versions: named_versions(&topic), pins: &topic.pins };
    let chosen = names.chosen(args.from.as_deref(), args.to.as_deref())?;
    let limits = Limits { decisions: args.decisions, rounds: args.rounds };
    let compared = compare::compare(chosen, &limits, &loaded)?;
    print(chosen.0, chosen.1, &compared, common.output)?;
    Ok(Exit::Success)
}

/// Returns the versions that can be named: those on the topic, and pinned ones whose own records have gone.
fn named_versions(topic: &Topic) -> Vec<&Version> {
    let mut versions: Vec<&Version> = topic.versions().collect();
    let pinned = topic.pins.values().filter_map(|change| Some(&change.pinned.as_ref()?.1));
    let gone: Vec<_> = pinned
        .filter(|pinned| {
            !versions.iter().any(|one| one.policy == pinned.policy && one.hash() == pinned.hash())
        })
        .collect();
    versions.extend(gone);
    versions.sort_by_key(|version| version.offset);
    versions
}

fn wrong(error: anyhow::Error) -> Failure {
    Failure { exit: Exit::Data, error }
}

/// The versions that can be named, in the order of their offsets, and the pins.
struct Names<'a> {
    versions: Vec<&'a Version>,
    pins: &'a BTreeMap<String, PinChange>,
}

impl<'a> Names<'a> {
    /// Returns the two versions to compare, of one policy, the older first. `newest` is of the policy of the other version.
    fn chosen(&self, from: Option<&str>, to: Option<&str>) -> Result<(&'a Version, &'a Version), Failure> {
        let to = match (from, to) {
            (Some(from), Some("newest")) if from != "newest" => self.newest_of(&self.named(from)?.policy)?,
            (_, Some(to)) => self.named(to)?,
            (Some(from), None) => self.newest_of(&self.named(from)?.policy)?,
            (None, None) => *self.versions.last().ok_or_else(|| wrong(anyhow!("nothing is learned yet")))?,
        };
        let from = match from {
            Some("newest") => self.newest_of(&to.policy)?,
            Some(from) => self.named(from)?,
            None => self.before(to)?,
        };
        if from.policy != to.policy {
            return Err(wrong(anyhow!(
                "offset {} is of policy {} and offset {} of {}: choose two of one policy",
                from.offset,
                printable(&from.policy),
                to.offset,
                printable(&to.policy)
            )));
        }
        Ok((from, to))
    }

    /// Returns the version with this offset, or the only one whose state hash begins with `name`.
    fn named(&self, name: &str) -> Result<&'a Version, Failure> {
        let offset: Option<i64> = name.parse().ok();
        let prefix = name.to_ascii_lowercase();
        let has_prefix = |version: &&&Version| name.len() >= 4 && version.hash().starts_with(&prefix);
        let all = &self.versions;
        let found = match name {
            "pinned" => return self.pinned(),
            "newest" => all.last(),
            _ => match all.iter().find(|version| offset == Some(version.offset)) {
                Some(version) => Some(version),
                None => all.iter().rev().find(has_prefix),
            },
        };
        let found = found.copied().ok_or_else(|| {
            let name = printable(name);
            wrong(anyhow!("no version {name} is in the topic (any more): `aegis weights history` lists them"))
        })?;
        let other = |version: &&&Version| (&version.policy, version.hash()) != (&found.policy, found.hash());
        let is_exact = matches!(name, "newest") || offset == Some(found.offset);
        if let Some(other) = all.iter().filter(has_prefix).find(other).filter(|_| !is_exact) {
            return Err(wrong(anyhow!(
                "{name} names {} of policy {} and {} of policy {}: give more digits, or --policy",
                short(&found.hash()),
                printable(&found.policy),
                short(&other.hash()),
                printable(&other.policy)
            )));
        }
        Ok(found)
    }

    fn pinned(&self) -> Result<&'a Version, Failure> {
        match (self.pins.len(), self.pins.values().next()) {
            (1, Some(PinChange { pinned: Some((_, version)), .. })) => Ok(version),
            (0, _) => Err(wrong(anyhow!("no predictor is pinned"))),
            (1, _) => Err(wrong(anyhow!("the pin cannot be read: `aegis weights history` says why"))),
            _ => Err(wrong(anyhow!("several policies have a pin: choose one with --policy"))),
        }
    }

    fn newest_of(&self, policy: &str) -> Result<&'a Version, Failure> {
        let newest = self.versions.iter().rev().find(|version| version.policy == policy);
        newest.copied().ok_or_else(|| wrong(anyhow!("nothing is learned for policy {}", printable(policy))))
    }

    /// Returns the newest version of the same policy that is older.
    fn before(&self, newer: &Version) -> Result<&'a Version, Failure> {
        let is_older = |version: &&&Version| version.policy == newer.policy && version.offset < newer.offset;
        let found = self.versions.iter().rev().find(is_older).copied();
        found.ok_or_else(|| {
            wrong(anyhow!("the topic holds one version only of policy {}", printable(&newer.policy)))
        })
    }
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

fn print(from: &Version, to: &Version, compared: &compare::Compared, output: Output) -> Result<(), Failure> {
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
        value["decisions"] = compared.decisions_json();
        value["rounds"] = compared.rounds_json();
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
    compared.lines().iter().for_each(|line| outln!("{line}"));
    Ok(())
}
