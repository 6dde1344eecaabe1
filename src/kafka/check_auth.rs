//! The first request to the brokers, which checks that they accept this client.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use super::connection::Connection;
use super::context::{client_error, lock, log};
use super::failure::SourceError;
use super::group_protocol::{GroupProtocol, Support};

/// The time for which a refusal is not final: a broker that has just started may not know a user yet.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(8);
/// The time-out for any answer of the brokers.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The time-out of the first request. Each later time-out is twice as long, because an answer after the time-out is lost.
const FIRST_TIMEOUT: Duration = Duration::from_millis(250);
/// The longest time-out of a request, which lets a second signal end the process within two seconds.
const MAX_TIMEOUT: Duration = Duration::from_millis(1_500);
// docs/security.md: a client that is refused ends within 30 seconds.
const _: () = assert!(ANSWER_TIMEOUT.as_secs() + REFUSAL_TIMEOUT.as_secs() + 2 <= 20);

/// The longest wait for the list of requests in the client's log.
const LIST_TIMEOUT: Duration = Duration::from_secs(2);
/// The facility of the log lines with the requests that a broker has.
const API_FACILITY: &str = "APIVERSION";

/// Keeps the time and the message of the first refusal, and whether the brokers have the consumer protocol.
#[derive(Default)]
struct AuthContext {
    refusal: Mutex<Option<(Instant, String)>>,
    support: Mutex<Support>,
}

impl ClientContext for AuthContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        if facility == API_FACILITY {
            lock(&self.support).read(text);
        } else {
            log(level, facility, text);
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        client_error(&error, reason);
        // A broker that refuses the client's certificate reports a failed transport after the handshake.
        let tls = reason.contains("SSL") && reason.contains("certificate");
        let mut refusal = lock(&self.refusal);
        match error.rdkafka_error_code() {
            Some(Code::BrokerTransportFailure | Code::Resolve) if !tls => *refusal = None,
            Some(Code::Authentication | Code::SaslAuthenticationFailed) => {
                refusal.get_or_insert_with(|| (Instant::now(), reason.to_owned()));
            }
            // Brokers that shut down also break handshakes off, so only messages about a certificate count.
            Some(_) if tls => {
                refusal.get_or_insert_with(|| (Instant::now(), reason.to_owned()));
            }
            _ => {}
        }
    }
}

impl ConsumerContext for AuthContext {}

/// Waits until a broker has accepted this client, or until `stop` returns `true`, and measures the round trip, which the
/// connection's time-outs follow from then on. Returns the number of brokers, or `None` if no broker has answered:
/// unreachable brokers are no error here.
///
/// # Errors
/// Returns [`SourceError::Denied`] within twenty seconds if either side refuses the password or certificate. The error
/// names the broker and the mechanism, in the client's words, which contain no secret. Returns
/// [`SourceError::GroupProtocol`] if the brokers do not have the configured protocol of groups.
pub fn check_auth(connection: &Connection, stop: &dyn Fn() -> bool) -> Result<Option<usize>, SourceError> {
    connection.check()?;
    let mut config = connection.metadata_consumer();
    if connection.group_protocol == GroupProtocol::Consumer {
        let debug = config.get("debug").map(|own| format!("{own},")).unwrap_or_default();
        config.set("debug", format!("{debug}feature")).set_log_level(RDKafkaLogLevel::Debug);
    }
    let client: BaseConsumer<AuthContext> = config
        .create_with_context(AuthContext::default())
        .map_err(|error| SourceError::of(&error, "connect", ""))?;
    let began = Instant::now();
    let mut timeout = FIRST_TIMEOUT;
    while !stop() {
        // The topic need not exist: only the answer counts.
        if let Ok(metadata) = client.fetch_metadata(Some("aegis"), timeout) {
            let answered = || client.fetch_metadata(Some("aegis"), MAX_TIMEOUT).is_ok();
            connection.round_trip.measure(|| !stop() && answered());
            check_protocol(connection.group_protocol, &client)?;
            return Ok(Some(metadata.brokers().len()));
        }
        timeout = (timeout * 2).min(MAX_TIMEOUT);
        // The client reports its errors in polls.
        let _ = client.poll(Duration::from_millis(50));
        match lock(&client.context().refusal).clone() {
            Some((since, reason)) if since.elapsed() > REFUSAL_TIMEOUT => {
                let mechanism =
                    connection.settings.get("sasl.mechanism").or(connection.settings.get("sasl.mechanisms"));
                let by = mechanism.map(|mechanism| format!(" (mechanism {mechanism})")).unwrap_or_default();
                return Err(SourceError::Denied { doing: "in", reason: format!("{reason}{by}") });
            }
            None if began.elapsed() > ANSWER_TIMEOUT => break,
            _ => {}
        }
    }
    Ok(None)
}

/// Checks that the brokers have the configured protocol of groups, as far as their list of requests says. The client has
/// logged the list before it has answered a request.
fn check_protocol(protocol: GroupProtocol, client: &BaseConsumer<AuthContext>) -> Result<(), SourceError> {
    if protocol == GroupProtocol::Classic {
        return Ok(());
    }
    // Log lines arrive in polls. If there is no list, the first heartbeat fails instead.
    let until = Instant::now() + LIST_TIMEOUT;
    loop {
        match *lock(&client.context().support) {
            Support::Missing => return Err(SourceError::GroupProtocol { protocol: protocol.name() }),
            Support::Unknown if Instant::now() < until => {}
            Support::Present | Support::Unknown => return Ok(()),
        }
        let _ = client.poll(Duration::from_millis(10));
    }
}
