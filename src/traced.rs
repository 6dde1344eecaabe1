//! Where spans go, as the configuration says it.

use crate::config::Config;
use crate::ops::traces::Settings;

/// The settings of the scorers' spans; a learner's differ in the group only.
#[must_use]
pub fn settings(config: &Config) -> Settings {
    let traces = &config.traces;
    let headers = traces.headers.iter().map(|(name, value)| (name.clone(), value.expose().to_owned()));
    Settings {
        endpoint: traces.endpoint.clone(),
        service: traces.service.clone(),
        instance: config.score.member.clone(),
        group: config.score.group.clone(),
        sample: traces.sample,
        authorities: Some(traces.authorities.clone()).filter(|path| !path.as_os_str().is_empty()),
        headers: headers.collect(),
    }
}
