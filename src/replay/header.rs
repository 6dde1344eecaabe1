//! Parses headers, and the line of a savepoint that describes it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::batch::Savepoint;
use super::fields::Fields;
use super::value::Scalar;
use super::write::{FORMAT, Policy};
use crate::core::hash::unhex;
use crate::core::label::Source;
use crate::core::learners::{LearnerSpec, Name, Parameter};

/// One policy of a header.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct HeaderPolicy {
    pub(super) settings: Policy,
    /// The fingerprint of the learner's seed.
    pub(super) seed: Option<String>,
}

impl From<Policy> for HeaderPolicy {
    fn from(settings: Policy) -> Self {
        Self { settings, seed: None }
    }
}

impl HeaderPolicy {
    /// Returns `true` if both give the same fold.
    pub(super) fn same_fold(&self, other: &Self) -> bool {
        let (a, b) = (&self.settings, &other.settings);
        a.learner.canonical() == b.learner.canonical()
            && a.mapping == b.mapping
            && a.encoder == b.encoder
            && (self.seed == other.seed || self.seed.is_none() || other.seed.is_none())
    }

    /// Sets the learner's seed, if it takes one.
    ///
    /// # Errors
    /// Returns an error if the header has the fingerprint of another seed.
    pub(super) fn set_seed(&mut self, seed: Option<&[u8]>) -> Result<(), String> {
        let learner = &mut self.settings.learner;
        if !learner.name.takes().contains(&Parameter::Seed) {
            return Ok(());
        }
        if let Some(seed) = seed {
            learner.seed = Some(seed.to_vec());
        }
        let own = learner.parameters().into_iter().find(|(name, _)| *name == Parameter::Seed.as_str());
        let own = own.map(|(_, value)| value.to_string());
        if self.seed.is_some() && self.seed != own {
            return Err("the learner's draws were keyed with another seed: give it with --seed".to_owned());
        }
        Ok(())
    }
}

fn policies<'a>(fields: &'a Fields<'_>) -> Result<&'a Map<String, Value>, String> {
    if fields.format != Scalar::Whole(FORMAT.into()) {
        return Err(format!("format: not {FORMAT}, the one that this program reads"));
    }
    fields.policies.as_ref().and_then(Value::as_object).ok_or_else(|| "policies: not an object".to_owned())
}

/// Reads the policies of a header.
pub(super) fn read(fields: &Fields<'_>) -> Result<BTreeMap<String, HeaderPolicy>, String> {
    policies(fields)?.iter().map(|(name, given)| Ok((name.clone(), policy(name, given)?))).collect()
}

fn policy(name: &str, given: &Value) -> Result<HeaderPolicy, String> {
    let given = given.as_object().ok_or("policies: not an object of objects")?;
    let mut settings = Policy { learner: learner(given)?, ..Policy::unknown(name) };
    if let Some(share) = given.get("needs_caution") {
        let share = share.as_f64().filter(|share| (0.0..=1.0).contains(share));
        settings.mapping.needs_caution = share.ok_or("needs_caution: not a number from 0 to 1")?;
    }
    if let Some(teaches) = given.get("teaches") {
        let source =
            |name: &Value| Source::ALL.into_iter().find(|source| name.as_str() == Some(source.word()));
        let sources =
            teaches.as_array().and_then(|list| list.iter().map(source).collect::<Option<BTreeSet<_>>>());
        let sources = sources.ok_or("teaches: not a list of sources")?;
        if sources.contains(&Source::Calibration) {
            return Err(
                "teaches: labels of the source calibration measure a reviewer, and never teach".to_owned()
            );
        }
        settings.mapping.teaches = sources;
    }
    if let Some(share) = given.get("max_annotator_share") {
        let share = share.as_f64().filter(|share| *share > 0.0 && *share <= 1.0);
        settings.mapping.max_annotator_share =
            share.ok_or("max_annotator_share: not a number above 0 and up to 1")?;
    }
    if let Some(encoder) = given.get("encoder") {
        let encoder = encoder.as_str().and_then(unhex);
        settings.encoder = Some(encoder.ok_or("encoder: not 64 hexadecimal digits")?);
    }
    let seed = given.get("parameters").and_then(|parameters| parameters.get("seed"));
    Ok(HeaderPolicy { settings, seed: seed.and_then(Value::as_str).map(str::to_owned) })
}

fn learner(given: &Map<String, Value>) -> Result<LearnerSpec, String> {
    let name = match given.get("learner") {
        None => Name::Default,
        Some(name) => name.as_str().and_then(|name| name.parse().ok()).ok_or("learner: no such learner")?,
    };
    let mut words = name.to_string();
    let none = Map::new();
    let parameters = match given.get("parameters") {
        None => &none,
        Some(parameters) => parameters.as_object().ok_or("parameters: not an object")?,
    };
    for (key, value) in parameters.iter().filter(|(key, _)| *key != "seed") {
        let value = match value {
            Value::Number(number) => number.to_string(),
            Value::String(text) if !text.contains(char::is_whitespace) => text.clone(),
            _ => return Err("parameters: not an object of numbers and words".to_owned()),
        };
        words.push_str(&format!(" {key}={value}"));
    }
    let mut spec: LearnerSpec = words.parse().map_err(|error| format!("parameters: {error}"))?;
    if let Some(prior) = given.get("prior") {
        let mass = |(id, mass): (&String, &Value)| Some((id.clone(), mass.as_f64()?));
        let masses = prior.as_object().and_then(|prior| prior.iter().map(mass).collect());
        spec.prior = Some(masses.ok_or("prior: not an object of numbers")?);
        spec.check().map_err(|error| format!("prior: {error}"))?;
    }
    Ok(spec)
}

/// Reads the line that describes a savepoint.
pub(super) fn savepoint(fields: &Fields<'_>) -> Result<Savepoint, String> {
    let policies = policies(fields)?;
    let wrong = || "policies: not what a savepoint holds".to_owned();
    let own = policies.get("").and_then(Value::as_object).ok_or_else(wrong)?;
    let state = |(name, hash): (&String, &Value)| Some((name.clone(), hash.as_str()?.to_owned()));
    let states = own.get("states").and_then(Value::as_object);
    let learner = own.get("learner").map(|_| policy("", &Value::Object(own.clone()))).transpose()?;
    Ok(Savepoint {
        learner,
        timed: own.get("timed").and_then(Value::as_bool),
        position: own.get("position").and_then(Value::as_i64).ok_or_else(wrong)?,
        states: states.and_then(|states| states.iter().map(state).collect()).ok_or_else(wrong)?,
    })
}
