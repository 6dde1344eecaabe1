//! The state as JSON, for the pages.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;

use super::experts::{Counts, Newest};
use super::recent::{Filter, Recent, categories};
use super::{now, why};
use crate::codec::{Received, Schemas, hex};
use crate::console::api::ApiError;
use crate::console::{App, Session};
use crate::core::policy::Action;
use crate::core::vote::Abstention;
use crate::kafka::Lookup;
use crate::registry::Registry;

/// The time within which a decision is fetched from the brokers.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

/// Returns the routes of the data.
pub fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/api/overview", get(overview))
        .route("/api/experts", get(experts))
        .route("/api/decisions", get(decisions))
        .route("/api/decisions/{partition}/{offset}", get(decision))
        .route("/api/dead-letters", get(letters))
}

/// The counts by action as an object.
fn by_action<T: Copy + serde::Serialize>(counts: [T; 3]) -> Value {
    let pairs = Action::ALL.iter().zip(counts);
    pairs
        .map(|(action, count)| (action.word().to_owned(), json!(count)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

async fn overview(_session: Session, State(app): State<Arc<App>>) -> Json<Value> {
    let state = app.feed.state();
    let now = now();
    let (series, total) = (state.minutes.series(now), state.minutes.total(now));
    let points = |of: fn(&super::minutes::Minute) -> u64| series.points.iter().map(of).collect::<Vec<u64>>();
    let lags = state.lags.as_ref();
    let learning: Vec<Value> = state.predictors.policies().map(|policy| learning(&state, policy)).collect();
    let delay = state.rounds.delay();
    Json(json!({
        "now": now,
        "started": state.started,
        "broker": state.broker,
        "hours": app.config.console.history_hours,
        "rates": by_action(state.minutes.rates(now)),
        "totals": by_action(total.actions),
        "labels": total.labels,
        "dead_letters": state.letters.reasons(),
        "dead_letters_total": total.letters,
        "lag": lags.map(|lags| &lags.groups),
        "oldest_millis": lags.and_then(|lags| lags.oldest).map(|oldest| now.saturating_sub(oldest).max(0)),
        "label_delay": delay.map(|(median, p90, labels)| json!({ "median": median, "p90": p90, "labels": labels })),
        "learning": learning,
        "has_metrics": !state.gauges.is_empty(),
        "estimates": estimates(&app, &state),
        "unreadable": state.unreadable,
        "chart": {
            "from": series.from,
            "step": series.step,
            "allow": points(|minute| minute.actions[0]),
            "block": points(|minute| minute.actions[1]),
            "review": points(|minute| minute.actions[2]),
            "dead_letters": points(|minute| minute.letters),
            "labels": points(|minute| minute.labels),
        },
    }))
}

/// The newest predictor of a policy, and its regret.
fn learning(state: &super::State, policy: &str) -> Value {
    let newest = state.predictors.newest(policy);
    let gauge = |name: &str| state.gauges.get(name, &[("policy", policy)]);
    json!({
        "policy": policy,
        "learner": newest.map(|version| version.published.learner.name.to_string()),
        "rounds": newest.map(|version| version.published.rounds),
        "published": newest.and_then(|version| version.time),
        "regret": gauge("aegis_policy_regret"),
        "bound": gauge("aegis_policy_regret_bound"),
    })
}

/// The report's estimates of each policy, from its gauges. Policies without one are left out.
fn estimates(app: &App, state: &super::State) -> Vec<Value> {
    let policies = app.policies.now();
    let of = |policy: &String| {
        let figures: Vec<Value> = ["recall", "precision", "prevalence"]
            .into_iter()
            .filter_map(|figure| estimate(state, policy, figure))
            .collect();
        let alarms: Vec<&str> =
            state.gauges.with("aegis_report_alarm", "policy", policy, "watched").collect();
        let target = state.gauges.get("aegis_report_recall_target", &[("policy", policy)]);
        (!figures.is_empty() || !alarms.is_empty()).then(
            || json!({ "policy": policy, "figures": figures, "recall_target": target, "alarms": alarms }),
        )
    };
    policies.policies.keys().filter_map(of).collect()
}

/// One figure of the report with its interval.
fn estimate(state: &super::State, policy: &str, figure: &str) -> Option<Value> {
    let gauge = |bound: &str| {
        let labels = [("policy", policy), ("figure", figure), ("bound", bound)];
        state.gauges.get("aegis_report_estimate", &labels)
    };
    Some(json!({ "figure": figure, "value": gauge("value")?, "low": gauge("low"), "high": gauge("high") }))
}

/// A policy, or all of them.
#[derive(Deserialize, Default)]
#[serde(default)]
struct OfPolicy {
    policy: String,
}

async fn experts(
    _session: Session,
    State(app): State<Arc<App>>,
    Query(asked): Query<OfPolicy>,
) -> Json<Value> {
    let state = app.feed.state();
    let policies: Vec<String> = state.experts.policies().cloned().collect();
    let policy =
        if policies.contains(&asked.policy) { Some(asked.policy) } else { policies.first().cloned() };
    let Some(policy) = policy else {
        return Json(json!({ "policies": [], "experts": [], "members": [] }));
    };
    let agreement = state.rounds.agreement(Some(&policy));
    let newest = state.experts.newest(&policy).cloned().unwrap_or_default();
    let rows: Vec<Value> = newest
        .iter()
        .map(|(id, newest)| {
            let mut row = expert(&state, &policy, id, newest);
            row["agreement"] = json!(agreement.get(&Some(id.clone())));
            row
        })
        .collect();
    let members: Vec<Value> = state
        .predictors
        .newest(&policy)
        .map(|version| &version.published.masses)
        .into_iter()
        .flatten()
        .filter(|mass| !newest.contains_key(&mass.member))
        .map(|mass| json!({ "member": mass.member, "weight": mass.mass }))
        .collect();
    Json(json!({
        "policies": policies,
        "policy": policy,
        "experts": rows,
        "members": members,
        "ensemble": agreement.get(&None),
        "learning": learning(&state, &policy),
    }))
}

/// A row of the list of experts, without the agreement with people.
fn expert(state: &super::State, policy: &str, id: &str, newest: &Newest) -> Value {
    let (all, recent) = state.experts.counts(policy, id);
    let pairs = Abstention::ALL.iter().zip(all.abstained).filter(|(_, count)| *count > 0);
    let reasons: Vec<Value> =
        pairs.map(|(reason, count)| json!({ "reason": reason.word(), "count": count })).collect();
    json!({
        "expert": id,
        "shadow": newest.shadow,
        "weight": newest.weight,
        "health": health(state, id, &recent),
        "votes": all.votes,
        "flagged": all.flagged,
        "abstentions": reasons,
    })
}

/// The health of an expert by its gauges and its recent counts.
fn health(state: &super::State, expert: &str, recent: &Counts) -> &'static str {
    let is_down = ["aegis_expert_down", "aegis_expert_disabled"]
        .iter()
        .any(|name| state.gauges.get(name, &[("expert", expert)]) == Some(1.0));
    let asked = recent.votes + recent.failures();
    match (is_down, recent.failures()) {
        (true, _) => "down",
        (false, 0) => "ok",
        (false, failures) if failures * 2 > asked => "failing",
        (false, _) => "partly failing",
    }
}

/// A row of the list of decisions.
fn row(recent: &Recent) -> Value {
    let decision = &recent.decision;
    let greatest = categories(decision).max_by(|a, b| a.1.total_cmp(&b.1));
    json!({
        "partition": recent.partition,
        "offset": recent.offset,
        "time": recent.time,
        "event": decision.id.event,
        "tenant": decision.id.tenant,
        "policy": decision.id.policy,
        "action": decision.action.word(),
        "probability": decision.probability,
        "threshold": decision.threshold,
        "language": decision.language.code(),
        "category": greatest.map(|(category, _)| category),
        "reasons": decision.reasons.iter().map(|reason| reason.word()).collect::<Vec<_>>(),
        "degraded": decision.degraded,
    })
}

async fn decisions(
    _session: Session,
    State(app): State<Arc<App>>,
    Query(filter): Query<Filter>,
) -> Json<Value> {
    let state = app.feed.state();
    let found = state.decisions.newest(&filter);
    Json(json!({
        "decisions": found.iter().map(|recent| row(recent)).collect::<Vec<_>>(),
        "policies": state.experts.policies().collect::<Vec<_>>(),
        "categories": state.decisions.categories(),
        "actions": Action::ALL.map(Action::word),
        "languages": state.decisions.languages(),
    }))
}

async fn decision(
    _session: Session,
    State(app): State<Arc<App>>,
    Path((partition, offset)): Path<(i32, i64)>,
) -> Result<Json<Value>, ApiError> {
    let known = app.feed.state().decisions.at(partition, offset);
    let stopping = |_| ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "the console is stopping");
    let permit = match known {
        Some(_) => None,
        None => Arc::clone(&app.feed.fetches).acquire_owned().await.ok(),
    };
    let work = move || {
        // The permit belongs to the work, which goes on if the browser has left.
        let _permit = permit;
        let recent = match known {
            Some(known) => known,
            None => Arc::new(fetch(&app, partition, offset)?),
        };
        let hash = recent.decision.predictor.state_hash;
        let version = app.feed.state().predictors.find(&recent.decision.id.policy, &hash).cloned();
        let published = version.as_ref().map(|version| &*version.published);
        let explained = why::recompute(&recent.decision, published, &app.policies.now());
        let mut json = why::as_json(&recent, explained.as_ref(), &app.config.topics.decisions);
        if let (Value::Object(fields), Some(version)) = (&mut json, &version) {
            let newest =
                app.feed.state().predictors.newest(&recent.decision.id.policy).map(|newest| newest.offset);
            fields.insert("newest".into(), json!(newest == Some(version.offset)));
            fields.insert("state".into(), json!(hex(&hash)));
        }
        Ok(Json(json))
    };
    tokio::task::spawn_blocking(work).await.map_err(stopping)?
}

/// Fetches a decision that is no longer in memory.
fn fetch(app: &App, partition: i32, offset: i64) -> Result<Recent, ApiError> {
    let away =
        |error: crate::kafka::SourceError| ApiError::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string());
    let topic = &app.config.topics.decisions;
    let missing = || {
        let reason = format!("{topic} has no decision at {partition}:{offset} (any more)");
        ApiError::new(StatusCode::NOT_FOUND, reason)
    };
    if partition < 0 || offset < 0 {
        return Err(missing());
    }
    let mut lookup = Lookup::open(&app.connection, topic, FETCH_TIMEOUT).map_err(away)?;
    let found = lookup.fetch(&[(partition, offset)], FETCH_TIMEOUT).map_err(away)?;
    let record = found.into_iter().flatten().next().ok_or_else(missing)?;
    let unreadable = |reason: String| ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, reason);
    let registry =
        Registry::from_config(&app.config.registry).map_err(|error| unreadable(error.to_string()))?;
    let never = || false;
    let waiting = registry.as_ref().map(|registry| registry.waiting(&never));
    let schemas = waiting.as_ref().map(|waiting| waiting as &dyn Schemas);
    let decoded = Received::new(record.payload.as_deref(), &record.headers, schemas).decision();
    let decision = decoded.map_err(|error| unreadable(format!("the record is no decision: {error}")))?;
    Ok(Recent { partition, offset, time: record.timestamp, decision })
}

async fn letters(_session: Session, State(app): State<Arc<App>>) -> Json<Value> {
    let state = app.feed.state();
    Json(json!({
        "topic": app.config.topics.dlq,
        "reasons": state.letters.reasons(),
        "newest": state.letters.newest().collect::<Vec<_>>(),
    }))
}
