//! One head on the bundled encoder under a steady load: from produce to visible decision, at four shares of what
//! Aegis does at most, beside the sorted Python consumer at half of it.

use std::path::Path;
use std::time::Duration;

use crate::broker::{follow, kafka, send};
use crate::inference::{HEAD, Runner, peers, records};
use crate::latency::{Quantiles, numbered, open_loop};
use crate::spread;
use crate::texts::{Mix, texts};

/// How long each load lasts.
const SENDING: Duration = Duration::from_secs(25);
/// Shares of the greatest rate, in percent.
const SHARES: [u32; 4] = [25, 50, 75, 90];
/// Events that are decided before the load begins: a consumer is there, its model warm.
const WARM: usize = 20;

/// Runs all loads on the chat mix.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rates")]
pub fn run(rounds: usize, count: usize, interval: u32) {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let python = peers("requirements.txt");
    let runner = Runner { models: &models, mix: Mix::Chat, python: &python, card: false };
    let texts = texts(&models, Mix::Chat, 2 * count, 3);
    let head = format!("\"{HEAD}\"");
    let most: Vec<f64> =
        (0..rounds).map(|round| runner.ours("most", round, &texts[..count / 2], &head).rate).collect();
    let (_, most, _) = spread(most);
    println!(
        "\nLoad: chat mix, {} s each, commits each {interval} ms, {rounds} rounds, interleaved; at most {most:.0} texts/s",
        SENDING.as_secs()
    );
    let setting = format!("score.commit_interval_ms={interval}");
    let names = SHARES.map(|share| (format!("aegis at {share} %"), share, false));
    let runs: Vec<_> = names.into_iter().chain([("peer: sorted at 50 %".to_owned(), 50, true)]).collect();
    let mut found: Vec<Quantiles> = runs.iter().map(|_| Quantiles::default()).collect();
    for round in 0..rounds {
        for ((name, share, peer), quantiles) in runs.iter().zip(&mut found) {
            let rate = most * f64::from(*share) / 100.0;
            let site = runner.empty(&format!("load.{round}.{}", name.replace([' ', ':', '%'], "")), &head);
            let process = if *peer {
                runner.start_peer("sorted", &site)
            } else {
                site.start_with("score", &[&setting])
            };
            let events = ((rate * SENDING.as_secs_f64()) as usize).min(texts.len() - WARM);
            let all: Vec<_> = records(&site, &texts[..WARM + events]).collect();
            let (warm, load) = all.split_at(WARM);
            send(&kafka().connection(), warm.iter().cloned());
            let topic = site.topic("decisions");
            let mut seen = 0;
            follow(&topic, |_| {
                seen += 1;
                seen == WARM
            });
            quantiles.add(open_loop(load, &topic, rate, |key| numbered(key).checked_sub(WARM)));
            if *peer { process.kill() } else { process.stop() }
        }
    }
    for ((name, ..), quantiles) in runs.iter().zip(&found) {
        println!("{name:<22} {}", quantiles.line());
    }
}
