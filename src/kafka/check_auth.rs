//! The first word with the brokers: whether they let this client in at all.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use super::connection::Connection;
use super::context::{client_error, lock, log};
use super::failure::SourceError;

/// A broker that has just started may not know a user yet: this long a refusal is not final.
const FIRM: Duration = Duration::from_secs(8);
/// How long the brokers may take to say anything.
const ANSWER: Duration = Duration::from_secs(10);
/// The time-out of the first request, and the longest of a later one. Each is twice as long as the one before it: an
/// answer that comes after its request was given up is lost. A second signal ends the process within two seconds.
const FIRST: Duration = Duration::from_millis(250);
const LATER: Duration = Duration::from_millis(1_500);

/// Keeps when a broker refused us first, and what it said.
#[derive(Default)]
struct Guest {
    refusal: Mutex<Option<(Instant, String)>>,
}

impl ClientContext for Guest {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        log(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        client_error(&error, reason);
        // A broker that does not take our certificate says so once the handshake is over, as a failed transport.
        let tls = reason.contains("SSL") && reason.contains("certificate");
        let mut refusal = lock(&self.refusal);
        match error.rdkafka_error_code() {
            Some(Code::BrokerTransportFailure | Code::Resolve) if !tls => *refusal = None,
            Some(Code::Authentication | Code::SaslAuthenticationFailed) => {
                refusal.get_or_insert_with(|| (Instant::now(), reason.to_owned()));
            }
            // Who goes down cuts handshakes off as well: only what is said of a certificate counts.
            Some(_) if tls => {
                refusal.get_or_insert_with(|| (Instant::now(), reason.to_owned()));
            }
            _ => {}
        }
    }
}

impl ConsumerContext for Guest {}

/// Waits until one of the brokers has let this client in, or `stop` says so, and measures the round trip, which the
/// connection's time-outs follow from then on. Brokers that are away are no error: whoever needs them waits for them.
/// Returns how many brokers there are; `None` if none has answered.
///
/// # Errors
/// [`SourceError::Denied`] within twenty seconds where password or certificate are refused, by either side; it
/// names the broker and the mechanism, in the client's words, which hold no secret.
pub fn check_auth(connection: &Connection, stop: &dyn Fn() -> bool) -> Result<Option<usize>, SourceError> {
    connection.check()?;
    let client: BaseConsumer<Guest> = connection
        .metadata_consumer()
        .create_with_context(Guest::default())
        .map_err(|error| SourceError::of(&error, "connect", ""))?;
    let began = Instant::now();
    let mut patience = FIRST;
    while !stop() {
        // A topic that need not be there: all that is asked is whether we are answered.
        if let Ok(metadata) = client.fetch_metadata(Some("aegis"), patience) {
            let answered = || client.fetch_metadata(Some("aegis"), LATER).is_ok();
            connection.round_trip.measure(|| !stop() && answered());
            return Ok(Some(metadata.brokers().len()));
        }
        patience = (patience * 2).min(LATER);
        // The client tells its errors here.
        let _ = client.poll(Duration::from_millis(50));
        match lock(&client.context().refusal).clone() {
            Some((since, reason)) if since.elapsed() > FIRM => {
                let mechanism =
                    connection.settings.get("sasl.mechanism").or(connection.settings.get("sasl.mechanisms"));
                let by = mechanism.map(|mechanism| format!(" (mechanism {mechanism})")).unwrap_or_default();
                return Err(SourceError::Denied { doing: "in", reason: format!("{reason}{by}") });
            }
            None if began.elapsed() > ANSWER => break,
            _ => {}
        }
    }
    Ok(None)
}
