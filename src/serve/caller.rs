//! The client of a request: its key, with the tenant and policy that it may use.

use std::time::Instant;

use axum::http::{HeaderMap, StatusCode, header};

use super::keys::MAX_KEY;
use super::refusal::Refusal;
use super::server::App;
use crate::access::is_to_this_machine;

/// The client of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The name of the key, or `local`.
    pub name: String,
    /// The only tenant of its requests, or `None` if they may name any.
    pub tenant: Option<String>,
    /// The only policy of its requests, or `None` if they may name any.
    pub policy: Option<String>,
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Returns the key that a client sends: as a bearer token, or in the header that gateways use.
fn sent(headers: &HeaderMap) -> Option<&str> {
    let bearer = text(headers, header::AUTHORIZATION.as_str()).and_then(|value| {
        let (scheme, key) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
    });
    bearer.or_else(|| text(headers, "x-api-key")).filter(|key| key.len() <= MAX_KEY)
}

/// Finds the client of a request, and checks its limit.
///
/// # Errors
/// Returns 401 without a valid key, 403 for a request of another site's page, and 429 above the limit.
pub fn admit(app: &App, headers: &HeaderMap) -> Result<Caller, Refusal> {
    let caller = identify(app, headers)?;
    let taken = app.rates().take(&caller.name, Instant::now());
    taken.map_err(|wait| {
        let message =
            "this key has sent more requests than http.moderation.requests_per_minute allows: slow down";
        let refusal = Refusal::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_exceeded", message);
        refusal.retry_after(wait.as_secs() + 1)
    })?;
    Ok(caller)
}

fn identify(app: &App, headers: &HeaderMap) -> Result<Caller, Refusal> {
    let Some(store) = &app.keys else {
        // A page of another site could make a browser on this machine send requests.
        if !is_to_this_machine(headers) || headers.contains_key(header::ORIGIN) {
            let message = "without keys only programs on this machine are answered: set http.moderation.keys";
            return Err(Refusal::new(StatusCode::FORBIDDEN, "forbidden", message));
        }
        let (tenant, policy) = (None, None);
        return Ok(Caller { name: "local".into(), tenant, policy });
    };
    let keys = store.now(Instant::now());
    let Some(key) = sent(headers).and_then(|sent| keys.find(sent)) else {
        let message = "the API key is missing or not valid: send it as a bearer token, or in x-api-key";
        return Err(Refusal::new(StatusCode::UNAUTHORIZED, "invalid_api_key", message));
    };
    Ok(Caller { name: key.name.clone(), tenant: key.tenant.clone(), policy: key.policy.clone() })
}

impl Caller {
    /// Returns the tenant of an event that names none. `default` is that of the configuration.
    pub fn tenant(&self, default: &str) -> String {
        self.tenant.as_deref().unwrap_or(default).to_owned()
    }

    /// Returns the policy of an event that names none. `default` is that of the configuration.
    pub fn policy(&self, default: &str) -> String {
        self.policy.as_deref().unwrap_or(default).to_owned()
    }

    /// Checks that the key allows an event of this tenant and policy.
    ///
    /// # Errors
    /// Returns 403 if it does not.
    pub fn check(&self, tenant: &str, policy: &str) -> Result<(), Refusal> {
        for (what, only, named) in [("tenant", &self.tenant, tenant), ("policy", &self.policy, policy)] {
            if only.as_deref().is_some_and(|only| only != named) {
                let message =
                    format!("this key is for another {what}: leave the field out, or use another key");
                return Err(Refusal::new(StatusCode::FORBIDDEN, "forbidden", message).of(what));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_from_both_headers() {
        let of = |pairs: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            pairs.iter().for_each(|(name, value)| drop(headers.insert(*name, value.parse().unwrap())));
            sent(&headers).map(str::to_owned)
        };
        assert_eq!(of(&[("authorization", "Bearer abc")]).as_deref(), Some("abc"));
        assert_eq!(of(&[("authorization", "bearer  abc ")]).as_deref(), Some("abc"));
        assert_eq!(of(&[("x-api-key", "abc")]).as_deref(), Some("abc"));
        assert_eq!(of(&[("authorization", "Basic abc"), ("x-api-key", "k")]).as_deref(), Some("k"));
        assert_eq!(of(&[("x-api-key", &"k".repeat(MAX_KEY + 1))]), None);
    }

    #[test]
    fn a_key_for_one_tenant_serves_no_other() {
        let bound = Caller { name: "k".into(), tenant: Some("a".into()), policy: None };
        assert_eq!((&*bound.tenant("d"), &*bound.policy("d")), ("a", "d"));
        assert!(bound.check("a", "p").is_ok());
        assert!(bound.check("b", "p").is_err());
        assert!(Caller { policy: Some("q".into()), ..bound }.check("a", "p").is_err());
    }
}
