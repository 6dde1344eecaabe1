//! A budget for each encoder and classifier, where another than the common one suits it better: each is measured
//! alone, for what its batches cost does not hang on who else is asked.

use super::speeds::{BETTER, Bench, Speeds};
use crate::experts::{ModelInfo, PanelConfig, PanelError};

/// Measurements of each that it takes to tell a difference from chance.
const ROUNDS: u32 = 3;
/// How often a budget is doubled, or halved, while that helps.
const STEPS: usize = 3;

/// What was found of an encoder or classifier.
pub struct Found {
    pub id: String,
    /// Budgets with how fast it was under them, from the one that it has without one of its own.
    pub tried: Vec<(usize, Speeds)>,
    /// The place of the best.
    pub best: usize,
    /// Its part of the time that the whole panel takes.
    pub share: f64,
}

impl Found {
    /// The budget of its own that it is worth.
    pub fn budget(&self) -> Option<usize> {
        self.tried.get(self.best).filter(|_| self.best > 0).map(|(tokens, _)| *tokens)
    }
}

/// Measures all that have no budget of their own in `config`, which has been tuned otherwise.
pub fn find(
    bench: &Bench,
    config: &PanelConfig,
    window: usize,
    lanes: &[ModelInfo],
) -> Result<Vec<Found>, PanelError> {
    let measure = |lane: &ModelInfo, tokens: usize| {
        let speeds = bench.measure(alone(config, lane, tokens), window)?;
        eprintln!("{} alone, {tokens} tokens: {:.1} texts/s", lane.id, speeds.median());
        Ok(speeds)
    };
    let mut usual = Vec::new();
    for lane in lanes {
        let tokens = budget(config, lane);
        usual.push((lane, tokens, measure(lane, tokens)?));
    }
    if bench.rounds < ROUNDS {
        eprintln!("fewer than {ROUNDS} rounds do not tell a better budget from chance: no other is tried");
    }
    let shares = shares(usual.iter().map(|(_, _, speeds)| speeds.median()));
    let mut found = Vec::new();
    for ((lane, tokens, speeds), share) in usual.into_iter().zip(shares) {
        let first = (tokens, speeds);
        let choice = bench.rounds >= ROUNDS && has_choice(config, lane, lanes.len(), share);
        let (tried, best) =
            if choice { climb(first, |tokens| measure(lane, tokens))? } else { (vec![first], 0) };
        found.push(Found { id: lane.id.clone(), tried, best, share });
    }
    Ok(found)
}

/// The budget that it has in that configuration.
fn budget(config: &PanelConfig, lane: &ModelInfo) -> usize {
    let common = if lane.fixed { config.fixed_batch.tokens } else { config.batch.tokens };
    config.budgets.get(&lane.id).copied().unwrap_or(common)
}

/// The panel of one encoder with its heads, or of one classifier.
fn alone(config: &PanelConfig, lane: &ModelInfo, tokens: usize) -> PanelConfig {
    let ids = if lane.experts.is_empty() { vec![lane.id.clone()] } else { lane.experts.clone() };
    let mut config = PanelConfig { only: Some(ids), ..config.clone() };
    config.budgets.insert(lane.id.clone(), tokens);
    config
}

/// Whether another budget could be worth it: none has been given, batches are formed, they are not what the common
/// budget was chosen by, and all of the time that it takes is more than what is not worth a setting.
fn has_choice(config: &PanelConfig, lane: &ModelInfo, lanes: usize, share: f64) -> bool {
    let chosen = lanes == 1 && !lane.fixed;
    !config.budgets.contains_key(&lane.id) && !lane.alone && !chosen && share > 1.0 - 1.0 / BETTER
}

/// The part of each in the time of all, from their texts a second.
fn shares(speeds: impl Iterator<Item = f64>) -> Vec<f64> {
    let times: Vec<f64> = speeds.map(|speed| 1.0 / speed).collect();
    let all: f64 = times.iter().sum();
    times.into_iter().map(|time| time / all).collect()
}

/// Doubles the budget as long as that helps, or else halves it. Gives all that was tried, and the place of the best.
fn climb<E>(
    first: (usize, Speeds),
    mut measure: impl FnMut(usize) -> Result<Speeds, E>,
) -> Result<(Vec<(usize, Speeds)>, usize), E> {
    let (usual, mut best) = (first.0, (0, first.clone()));
    let mut tried = vec![first];
    for doubles in [true, false] {
        let step = |tokens: usize| if doubles { tokens * 2 } else { tokens / 2 };
        let budgets = std::iter::successors(Some(step(usual)), |tokens| Some(step(*tokens)));
        for tokens in budgets.take(STEPS).take_while(|tokens| *tokens > 0) {
            let next = (tokens, measure(tokens)?);
            let better = next.1.beat(&best.1.1);
            tried.push(next.clone());
            if !better {
                break;
            }
            best = (tried.len() - 1, next);
        }
        if best.0 > 0 {
            break;
        }
    }
    Ok((tried, best.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn speeds(around: f64) -> Speeds {
        Speeds::new(vec![around, around - 0.5, around + 0.5])
    }

    /// What is chosen of a panel that is so fast with these budgets, and what was tried.
    fn climbed(fast: &[(usize, f64)]) -> (usize, Vec<usize>) {
        let fast = |tokens| fast.iter().find(|(of, _)| *of == tokens).map(|(_, speed)| speeds(*speed));
        let first = (256, fast(256).unwrap());
        let (tried, best) = climb(first, |tokens| fast(tokens).ok_or(tokens)).unwrap();
        (tried[best].0, tried.iter().map(|(tokens, _)| *tokens).collect())
    }

    #[test]
    fn a_budget_grows_while_that_helps_and_else_shrinks() {
        assert_eq!(climbed(&[(256, 100.0), (512, 120.0), (1_024, 119.0)]), (512, vec![256, 512, 1_024]));
        assert_eq!(climbed(&[(256, 100.0), (512, 90.0), (128, 99.0)]), (256, vec![256, 512, 128]));
        let shrinks = [(256, 100.0), (512, 90.0), (128, 110.0), (64, 120.0), (32, 140.0)];
        assert_eq!(climbed(&shrinks), (32, vec![256, 512, 128, 64, 32]));
        let grows = [(256, 100.0), (512, 120.0), (1_024, 140.0), (2_048, 160.0), (4_096, 200.0)];
        assert_eq!(climbed(&grows), (2_048, vec![256, 512, 1_024, 2_048]));
    }

    #[test]
    fn what_chance_could_have_made_is_not_better() {
        let usual = Speeds::new(vec![100.0, 104.0, 96.0]);
        // Better by the median, and slower once than the usual was once.
        assert!(!Speeds::new(vec![103.0, 112.0, 110.0]).beat(&usual));
        // Faster each time, and not worth a setting.
        assert!(!Speeds::new(vec![101.0, 102.0, 102.5]).beat(&Speeds::new(vec![100.0, 100.5, 100.0])));
        assert!(Speeds::new(vec![105.0, 112.0, 110.0]).beat(&usual));
    }

    #[test]
    fn only_those_with_a_choice_are_tried() {
        let lane = ModelInfo { id: "a".into(), experts: vec!["x".into()], fixed: false, alone: false };
        let config = PanelConfig::new("models");
        assert!(has_choice(&config, &lane, 2, 0.5));
        assert!(!has_choice(&config, &lane, 2, 0.02), "it takes too little of the time");
        assert!(!has_choice(&config, &lane, 1, 1.0), "the common one was chosen by it");
        assert!(has_choice(&config, &ModelInfo { fixed: true, ..lane.clone() }, 1, 1.0));
        assert!(!has_choice(&config, &ModelInfo { alone: true, ..lane.clone() }, 2, 0.5));
        let config = PanelConfig { budgets: [("a".to_owned(), 9)].into(), ..config };
        assert!(!has_choice(&config, &lane, 2, 0.5), "it has been given one");
        assert_eq!((budget(&config, &lane), alone(&config, &lane, 7).budgets["a"]), (9, 7));
        assert_eq!(alone(&config, &lane, 7).only.unwrap(), ["x"]);
        assert_eq!(shares([100.0, 300.0].into_iter()), [0.75, 0.25]);
    }
}
