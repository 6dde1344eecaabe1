//! Measures one head on the bundled encoder under a steady load, from produce to visible decision, at four shares of
//! the maximum throughput of Aegis, and of the sorted Python consumer at half of that maximum.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aegis::config::Config;

use crate::broker::{follow, kafka, send};
use crate::inference::{HEAD, Runner, peers, records};
use crate::latency::{Quantiles, numbered, open_loop};
use crate::process::machine_cpu;
use crate::stages::{self, Spans, Told};
use crate::texts::{Mix, texts};
use crate::{shown, spread};

/// The duration of each load.
const SENDING: Duration = Duration::from_secs(25);
/// The shares of the maximum throughput, in percent.
const SHARES: [u32; 4] = [25, 50, 75, 90];
/// The number of events that are decided before the load begins, so that the consumer is ready and its model warm.
const WARM: usize = 20;

/// A load and its results by round.
struct Load {
    name: String,
    share: u32,
    peer: bool,
    quantiles: Quantiles,
    told: Told,
    /// The cores that the consumer used, and those that the whole machine used.
    cores: Vec<[f64; 2]>,
}

impl Load {
    fn new(name: String, share: u32, peer: bool) -> Self {
        Self { name, share, peer, quantiles: Quantiles::default(), told: Told::default(), cores: Vec::new() }
    }

    /// Prints the results. For Aegis they include the times that a text must wait for: the delay cap, a batch that runs
    /// when it arrives, and half of another one.
    fn tell(&mut self) {
        println!("{:<22} {}", self.name, self.quantiles.line());
        let of = |place: usize| shown(self.cores.iter().map(|cores| cores[place]).collect(), 2);
        println!("{:<22} it took {} cores, the machine {}", "", of(0), of(1));
        if self.peer {
            return;
        }
        let cap = Config::default().experts.batch_delay().as_secs_f64() * 1e3;
        let ratios = self.quantiles.p99().iter().zip(&self.told.longest);
        let ratios = ratios.map(|(p99, longest)| p99 / (cap + 1.5 * longest)).collect();
        println!(
            "{:<22} longest batch {} ms; p99 to delay cap ({cap:.0} ms) + 1.5 x longest batch: {}",
            "",
            shown(self.told.longest.clone(), 0),
            shown(ratios, 2)
        );
        self.told.tell();
    }
}

/// Runs all loads on the chat mix, or only Aegis at the share `at` if it is not 0.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rates")]
pub fn run(rounds: usize, count: usize, interval: u64, at: u32) {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let mut loads: Vec<Load> = Vec::new();
    for share in if at > 0 { vec![at] } else { SHARES.to_vec() } {
        loads.push(Load::new(format!("aegis at {share} %"), share, false));
    }
    let mut python = PathBuf::new();
    if at == 0 {
        python = peers("requirements.txt");
        loads.push(Load::new("peer: sorted at 50 %".to_owned(), 50, true));
    }
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
    let spans = Spans::collect();
    let settings = [format!("score.commit_interval_ms={interval}"), spans.setting()];
    let settings = settings.each_ref().map(String::as_str);
    for round in 0..rounds {
        for load in &mut loads {
            let rate = most * f64::from(load.share) / 100.0;
            let site =
                runner.empty(&format!("load.{round}.{}", load.name.replace([' ', ':', '%'], "")), &head);
            let process = if load.peer {
                runner.start_peer("sorted", &site)
            } else {
                site.start_with("score", &settings)
            };
            let events = ((rate * SENDING.as_secs_f64()) as usize).min(texts.len() - WARM);
            let mut all: Vec<_> = records(&site, &texts[..WARM + events]).collect();
            let (warm, sent) = all.split_at_mut(WARM);
            sent.iter_mut().enumerate().for_each(|(number, record)| stages::number(record, number));
            send(&kafka().connection(), warm.iter().cloned());
            let topic = site.topic("decisions");
            let mut seen = 0;
            follow(&topic, |_| {
                seen += 1;
                seen == WARM
            });
            let before = (process.cpu(), machine_cpu(), Instant::now());
            let (start, latencies) = open_loop(sent, &topic, rate, |key| numbered(key).checked_sub(WARM));
            let (own, took) = (process.cpu() - before.0, before.2.elapsed().as_secs_f64());
            load.cores.push([own / took, (machine_cpu() - before.1) / took]);
            if load.peer {
                process.kill();
            } else {
                process.stop();
                load.told.add(spans.take(), start, rate, &latencies);
            }
            load.quantiles.add(latencies);
        }
    }
    loads.iter_mut().for_each(Load::tell);
}
