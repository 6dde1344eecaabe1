//! The predictors of one policy: the newest, the one that a person has pinned, and the prior; and which of them is in use.

use crate::config::Policies;
use crate::core::event::Millis;
use crate::core::features::EncoderId;
use crate::core::hash::hex;
use crate::core::policy::{Policy, Release};
use crate::core::predictor::{Predictor, PredictorError, Published};

/// A record of the predictors' topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecordRef {
    pub(super) offset: i64,
    /// The broker timestamp, in milliseconds since the Unix epoch.
    pub(super) timestamp: Option<Millis>,
}

/// The reason for which a predictor cannot be used.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rejection {
    /// The error's name, which is a metric label.
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// The experts of the panel, and the encoder that makes its features.
#[derive(Debug, Clone, Default)]
pub struct PanelIdentity {
    /// The ids of the experts, sorted by their UTF-8 bytes.
    pub experts: Vec<String>,
    /// The encoder, if there is one.
    pub encoder: Option<EncoderId>,
    /// `true` if the group is changing to this encoder. A predictor that is not pinned may then read another one's features.
    pub changes_encoder: bool,
}

/// The newest predictor of a policy.
struct Newest {
    /// `None` if none is published, or none of those published can be used.
    predictor: Option<(Predictor, RecordRef)>,
    /// The number of rounds of the newest one, also if it cannot be used.
    rounds: u64,
    /// The reason for which the newest one cannot be used.
    rejection: Option<Rejection>,
}

/// The predictor that a person has pinned.
struct Pinned {
    predictor: Predictor,
    at: RecordRef,
    /// The time at which the predictor was published, before it was pinned.
    published: Option<Millis>,
}

/// The predictors of one policy.
pub(super) struct PolicyPredictor {
    /// The secret seed of keyed draws, which is never published.
    seed: Option<Vec<u8>>,
    release: Release,
    prior: Predictor,
    newest: Newest,
    pinned: Option<Pinned>,
    /// The last pin, also if it cannot be used, with the time at which its predictor was published. `None` if it cannot be
    /// read. A reload may change what can be used.
    last_pin: Option<(RecordRef, Published, Option<Millis>)>,
    /// The reason for which the pinned predictor cannot be used. Meanwhile the predictor that was in use before stays in
    /// use: an older pin in `pinned`, or the predictor that `newest` had in `held`.
    pin_rejection: Option<Rejection>,
    /// The newest predictor at the time of the rejection, if there is another one by now; `None` in it for the prior.
    held: Option<Option<(Predictor, RecordRef)>>,
}

/// The figures of the predictor in use.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Use {
    /// The offset of its record, or of the record of its pin; `None` for the prior.
    pub(super) offset: Option<i64>,
    /// The time at which it was published.
    pub(super) published: Option<Millis>,
    /// The time since which it is pinned. `None` if it is not pinned.
    pub(super) pinned_since: Option<Millis>,
    /// `true` if it is pinned.
    pub(super) pinned: bool,
    /// The number of rounds that the newest predictor has beyond it.
    pub(super) rounds_behind: u64,
}

impl PolicyPredictor {
    /// Begins with the prior of the policy.
    ///
    /// # Errors
    /// Returns an error if the policy's learner does not accept the experts.
    pub(super) fn new(policy: &Policy, experts: &[String]) -> Result<Self, PredictorError> {
        Ok(Self {
            seed: policy.learner.seed.clone(),
            release: policy.release,
            prior: Predictor::prior(&policy.learner, &policy.name, experts)?,
            newest: Newest { predictor: None, rounds: 0, rejection: None },
            pinned: None,
            last_pin: None,
            pin_rejection: None,
            held: None,
        })
    }

    /// Takes a policy and the experts of the panel after either has changed. Predictors stay as they are: a new expert has
    /// no weight in them. The pinned one is built again if the seed has changed, or if it could not be used.
    ///
    /// # Errors
    /// Returns an error if the policy's learner does not accept the experts.
    pub(super) fn on_reload(&mut self, policy: &Policy, experts: &[String]) -> Result<(), PredictorError> {
        let is_retried = self.pin_rejection.is_some() || self.seed != policy.learner.seed;
        self.seed.clone_from(&policy.learner.seed);
        self.release = policy.release;
        self.prior = Predictor::prior(&policy.learner, &policy.name, experts)?;
        if is_retried && let Some((at, pinned, published)) = self.last_pin.clone() {
            // Readiness names a rejection.
            let _ = self.on_pin(at, Ok((pinned, published)));
        }
        Ok(())
    }

    /// Takes a published predictor. It does not come into use while a pinned one cannot be used.
    ///
    /// # Errors
    /// Returns the rejection if it cannot be used.
    pub(super) fn on_published(&mut self, at: RecordRef, published: Published) -> Result<(), Rejection> {
        self.newest.rounds = published.rounds;
        let predictor = self.build(published)?;
        self.replace_newest(Some((predictor, at)));
        self.newest.rejection = None;
        Ok(())
    }

    /// Keeps the reason for which the newest predictor cannot be used. An older one stays in use. Returns `true` if the
    /// reason is another than before.
    pub(super) fn on_rejected(&mut self, rejection: &Rejection) -> bool {
        let is_new = self.newest.rejection.as_ref() != Some(rejection);
        self.newest.rejection = Some(rejection.clone());
        is_new
    }

    /// Withdraws the published predictors: nothing is learned, or nothing any more. A pinned one stays in use.
    pub(super) fn on_withdrawn(&mut self) {
        self.replace_newest(None);
        (self.newest.rounds, self.newest.rejection) = (0, None);
    }

    fn replace_newest(&mut self, predictor: Option<(Predictor, RecordRef)>) {
        let before = std::mem::replace(&mut self.newest.predictor, predictor);
        if self.pin_rejection.is_some() && self.held.is_none() {
            self.held = Some(before);
        }
    }

    /// Takes a pinned predictor with the time at which it was published. It is in use from now on.
    ///
    /// # Errors
    /// Returns the rejection if it cannot be used. The predictor in use stays in use until there is another pin or none.
    pub(super) fn on_pin(
        &mut self,
        at: RecordRef,
        pinned: Result<(Published, Option<Millis>), Rejection>,
    ) -> Result<(), Rejection> {
        self.last_pin = pinned.as_ref().ok().map(|(pinned, published)| (at, pinned.clone(), *published));
        let built = pinned.and_then(|(pinned, published)| Ok((self.build(pinned)?.pinned(), published)));
        match built {
            Ok((predictor, published)) => {
                self.pinned = Some(Pinned { predictor, at, published });
                (self.pin_rejection, self.held) = (None, None);
                Ok(())
            }
            Err(rejection) => {
                self.pin_rejection = Some(rejection.clone());
                Err(rejection)
            }
        }
    }

    /// Ends the pin: the newest predictor is in use, or the prior if a person must release predictors.
    pub(super) fn on_unpinned(&mut self) {
        (self.pinned, self.pin_rejection, self.last_pin, self.held) = (None, None, None, None);
    }

    fn build(&self, mut published: Published) -> Result<Predictor, Rejection> {
        // The secret of keyed draws is never published: both roles have it in their policies.
        published.learner.seed.clone_from(&self.seed);
        Predictor::published(&published).map_err(|error| {
            let fix = match error {
                PredictorError::Format { .. } => "",
                _ => "; run score and learn with the same version and policies",
            };
            Rejection { reason: error.name(), message: format!("{error}{fix}") }
        })
    }

    /// Returns the predictor in use.
    pub(super) fn get_mut(&mut self) -> &mut Predictor {
        let newest = self.held.as_mut().unwrap_or(&mut self.newest.predictor);
        match (&mut self.pinned, self.release, newest) {
            (Some(pinned), ..) => &mut pinned.predictor,
            (None, Release::Automatic, Some((newest, _))) => newest,
            (None, ..) => &mut self.prior,
        }
    }

    /// Returns the figures of the predictor in use.
    pub(super) fn in_use(&self) -> Use {
        let behind = |rounds: u64| self.newest.rounds.saturating_sub(rounds);
        let newest = self.held.as_ref().unwrap_or(&self.newest.predictor);
        match (&self.pinned, self.release, newest) {
            (Some(pinned), ..) => Use {
                offset: Some(pinned.at.offset),
                published: pinned.published,
                pinned_since: pinned.at.timestamp,
                pinned: true,
                rounds_behind: behind(pinned.predictor.reference().rounds),
            },
            (None, Release::Automatic, Some((_, at))) => Use {
                offset: Some(at.offset),
                published: at.timestamp,
                pinned_since: None,
                pinned: false,
                rounds_behind: 0,
            },
            (None, release, _) => Use {
                offset: None,
                published: None,
                pinned_since: None,
                pinned: false,
                rounds_behind: if release == Release::Manual { behind(0) } else { 0 },
            },
        }
    }

    /// Returns `true` if the predictor in use fits the panel, and there is no pinned predictor that cannot be used.
    pub(super) fn is_in_use_usable(&self, panel: &PanelIdentity) -> bool {
        self.pin_rejection.is_none() && self.misfit(panel).is_none()
    }

    /// Returns `true` if the newest predictor, or the pinned one, is as it should be: no rejection holds.
    pub(super) fn is_current(&self, panel: &PanelIdentity) -> bool {
        self.newest.rejection.is_none() && self.pin_rejection.is_none() && self.misfit(panel).is_none()
    }

    /// Returns the reason for which the predictor in use does not fit the panel.
    fn misfit(&self, panel: &PanelIdentity) -> Option<String> {
        self.pinned_misfit(panel).or_else(|| self.newest_misfit(panel))
    }

    /// Returns the reason for which the newest predictor does not fit the panel: it reads the features of another encoder,
    /// as do the other scorers of the group, or this group is changing its encoder. A panel without features is a choice.
    fn newest_misfit(&self, panel: &PanelIdentity) -> Option<String> {
        let newest = self.held.as_ref().unwrap_or(&self.newest.predictor);
        let (None, Release::Automatic, Some((newest, _))) = (&self.pinned, self.release, newest) else {
            return None;
        };
        let (read, own) = (newest.encoder()?, panel.encoder?);
        (read != own && !panel.changes_encoder).then(|| {
            format!(
                "it reads the features of encoder {}, and this panel has encoder {}; give all scorers the same models and \
                 experts.encoder, or set experts.change_encoder on all of them to change to another encoder",
                short(&read),
                short(&own)
            )
        })
    }

    /// Returns the reason for which the pinned predictor would not do on this panel what it was pinned for.
    fn pinned_misfit(&self, panel: &PanelIdentity) -> Option<String> {
        let pinned = &self.pinned.as_ref()?.predictor;
        if !pinned.experts().iter().any(|expert| panel.experts.contains(expert)) {
            return Some("none of its experts is on the panel".to_owned());
        }
        let other = pinned.encoder().is_some() && pinned.encoder() != panel.encoder;
        other.then(|| "it reads the features of an encoder that the panel does not have".to_owned())
    }

    /// Describes the state for readiness: whether a predictor that should be in use can be, and the remarks.
    pub(super) fn describe(&self, policy: &str, panel: &PanelIdentity) -> (bool, Vec<String>) {
        let mut notes = Vec::new();
        let mut usable = true;
        let choose = "pin another with `aegis weights pin`, or end the pin with `aegis weights unpin`";
        if let Some(Rejection { reason, message }) = &self.pin_rejection {
            usable = false;
            notes.push(format!(
                "policy {policy}: the pinned predictor cannot be used: {reason}: {message}; {choose}"
            ));
        }
        if let Some(why) = self.newest_misfit(panel) {
            usable = false;
            notes.push(format!("policy {policy}: the predictor in use does not fit the panel: {why}"));
        }
        if let Some(why) = self.pinned_misfit(panel) {
            usable = false;
            notes.push(format!(
                "policy {policy}: the pinned predictor does not fit the panel: {why}; {choose}"
            ));
        } else if let Some(pinned) = &self.pinned {
            let behind = self.in_use().rounds_behind;
            let known = pinned.predictor.experts();
            let unknown: Vec<_> = panel.experts.iter().filter(|expert| !known.contains(expert)).collect();
            let unknown = match unknown.len() {
                0 => String::new(),
                1 => "; 1 expert of the panel has no weight in it".to_owned(),
                count => format!("; {count} experts of the panel have no weight in it"),
            };
            notes.push(format!("policy {policy}: pinned, {behind} rounds behind the newest{unknown}"));
        } else if self.release == Release::Manual {
            notes.push(format!("policy {policy}: no predictor is released, and the prior decides"));
        }
        if let Some(Rejection { reason, message }) = &self.newest.rejection {
            let in_use = self.newest.predictor.is_some();
            usable &= in_use || self.pinned.is_some() || self.release == Release::Manual;
            let older = if in_use { ", and an older one is in use" } else { "" };
            notes.push(format!("policy {policy}: {reason}: {message}{older}"));
        }
        (usable, notes)
    }
}

/// Returns the first digits of an encoder's id, which `aegis experts list` prints too.
fn short(encoder: &EncoderId) -> String {
    hex(encoder)[..8].to_owned()
}

/// Returns the predictors of all policies, each at its prior.
///
/// # Errors
/// Returns an error if a policy's learner does not accept the experts.
pub(super) fn priors(
    policies: &Policies,
    experts: &[String],
) -> Result<std::collections::BTreeMap<String, PolicyPredictor>, PredictorError> {
    let prior = |policy: &Policy| Ok((policy.name.clone(), PolicyPredictor::new(policy, experts)?));
    policies.policies.values().map(prior).collect()
}

#[cfg(test)]
pub(super) mod tests;
