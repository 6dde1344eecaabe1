//! Measures the speed of a panel, and compares speeds beyond chance.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::experts::{Panel, PanelConfig, PanelError};

/// The factor by which a setting must be faster to be preferred.
pub const BETTER: f64 = 1.03;

/// The parameters of measurements.
pub struct Bench<'a> {
    /// The time that a text waits for others.
    pub delay: Duration,
    pub texts: &'a [String],
    pub rounds: u32,
}

/// Speeds in texts per second, in ascending order.
#[derive(Debug, Clone, PartialEq)]
pub struct Speeds(Vec<f64>);

impl Speeds {
    pub fn new(mut speeds: Vec<f64>) -> Self {
        speeds.sort_by(f64::total_cmp);
        Self(speeds)
    }

    pub fn median(&self) -> f64 {
        *self.0.get(self.0.len() / 2).expect("there is at least one measurement")
    }

    /// Returns `true` if the median is faster by [`BETTER`], and the slowest round faster than the fastest of the other.
    pub fn beat(&self, other: &Self) -> bool {
        let apart = self.0.first().zip(other.0.last()).is_some_and(|(least, most)| least > most);
        apart && self.median() > other.median() * BETTER
    }
}

impl Bench<'_> {
    /// Measures a panel with up to `window` texts at a time.
    pub fn measure(&self, config: PanelConfig, window: usize) -> Result<Speeds, PanelError> {
        let panel = Arc::new(Panel::open(config)?);
        let mut speeds = Vec::new();
        for _ in 0..self.rounds {
            let mut stream = panel.stream(window, self.delay)?;
            let (started, mut answered) = (Instant::now(), 0);
            for (key, text) in (0..).zip(self.texts) {
                while stream.room() == 0 {
                    answered += usize::from(stream.next(Duration::from_secs(1)).is_some());
                }
                stream.submit(key, text)?;
            }
            while answered < self.texts.len() {
                answered += usize::from(stream.next(Duration::from_secs(1)).is_some());
            }
            #[expect(clippy::cast_precision_loss, reason = "few texts")]
            speeds.push(answered as f64 / started.elapsed().as_secs_f64());
        }
        Ok(Speeds::new(speeds))
    }
}
