//! Finds a budget for each encoder and classifier for which the common one is not the best. Each is measured alone, because
//! the cost of its batches does not depend on other experts.

use super::speeds::{BETTER, Bench, Speeds};
use crate::experts::{ModelInfo, PanelConfig, PanelError, Precision, precisions};

/// The number of measurements that distinguish a difference from chance.
const MIN_ROUNDS: u32 = 3;
/// The greatest number of times that a budget is doubled or halved.
const MAX_STEPS: usize = 3;

/// The measurements of an encoder or classifier.
pub struct BudgetTrials {
    pub id: String,
    /// The budgets with their speeds, starting with the common one.
    pub tried: Vec<(usize, Speeds)>,
    /// The index of the best.
    pub best: usize,
    /// Its share of the time of the whole panel.
    pub share: f64,
}

impl BudgetTrials {
    /// Returns its own budget, if one is better than the common one.
    pub fn budget(&self) -> Option<usize> {
        self.tried.get(self.best).filter(|_| self.best > 0).map(|(tokens, _)| *tokens)
    }
}

/// Measures all models. Those that have no budget in `config` are also measured with other budgets.
pub fn find(
    bench: &Bench,
    config: &PanelConfig,
    window: usize,
    models: &[ModelInfo],
) -> Result<Vec<BudgetTrials>, PanelError> {
    let with_int8 = precisions(config)?;
    let measure = |model: &ModelInfo, tokens: usize| {
        let speeds = bench.measure(alone(config, model, &with_int8, tokens), window)?;
        eprintln!("{} alone, {tokens} tokens: {:.1} texts/s", model.id, speeds.median());
        Ok(speeds)
    };
    let mut usual = Vec::new();
    for model in models {
        let tokens = budget(config, model);
        usual.push((model, tokens, measure(model, tokens)?));
    }
    if bench.rounds < MIN_ROUNDS {
        eprintln!(
            "fewer than {MIN_ROUNDS} rounds do not distinguish a better budget from chance: no other is tried"
        );
    }
    let shares = shares(usual.iter().map(|(_, _, speeds)| speeds.median()));
    let mut found = Vec::new();
    for ((model, tokens, speeds), share) in usual.into_iter().zip(shares) {
        let first = (tokens, speeds);
        let choice = bench.rounds >= MIN_ROUNDS && has_choice(config, model, models.len(), share);
        let (tried, best) =
            if choice { climb(first, |tokens| measure(model, tokens))? } else { (vec![first], 0) };
        found.push(BudgetTrials { id: model.id.clone(), tried, best, share });
    }
    Ok(found)
}

/// Returns the budget in that configuration.
fn budget(config: &PanelConfig, model: &ModelInfo) -> usize {
    let common = if model.fixed { config.fixed_batch.tokens } else { config.batch.tokens };
    config.budgets.get(&model.id).copied().unwrap_or(common)
}

/// Returns the panel of one encoder with its heads, or of one classifier. A panel without any of the encoders `with_int8`
/// has no int8 graph, and would be refused in that precision.
fn alone(config: &PanelConfig, model: &ModelInfo, with_int8: &[String], tokens: usize) -> PanelConfig {
    let ids = if model.experts.is_empty() { vec![model.id.clone()] } else { model.experts.clone() };
    let precision = if with_int8.contains(&model.id) { config.precision } else { Precision::Float32 };
    let mut config = PanelConfig { only: Some(ids), precision, ..config.clone() };
    config.budgets.insert(model.id.clone(), tokens);
    config
}

/// Returns `true` if another budget could be better: none is configured, batches are formed, the common budget was not chosen
/// by this model alone, and its share of the time is large enough.
fn has_choice(config: &PanelConfig, model: &ModelInfo, models: usize, share: f64) -> bool {
    let chosen = models == 1 && !model.fixed;
    !config.budgets.contains_key(&model.id) && !model.alone && !chosen && share > 1.0 - 1.0 / BETTER
}

/// Returns the share of each in the total time, from their texts per second.
fn shares(speeds: impl Iterator<Item = f64>) -> Vec<f64> {
    let times: Vec<f64> = speeds.map(|speed| 1.0 / speed).collect();
    let all: f64 = times.iter().sum();
    times.into_iter().map(|time| time / all).collect()
}

/// Doubles the budget while that is faster, or else halves it. Returns all measurements, and the index of the best.
fn climb<E>(
    first: (usize, Speeds),
    mut measure: impl FnMut(usize) -> Result<Speeds, E>,
) -> Result<(Vec<(usize, Speeds)>, usize), E> {
    let (usual, mut best) = (first.0, (0, first.clone()));
    let mut tried = vec![first];
    for doubles in [true, false] {
        let step = |tokens: usize| if doubles { tokens * 2 } else { tokens / 2 };
        let budgets = std::iter::successors(Some(step(usual)), |tokens| Some(step(*tokens)));
        for tokens in budgets.take(MAX_STEPS).take_while(|tokens| *tokens > 0) {
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

    /// Returns the chosen budget of a panel with these speeds, and the budgets that were tried.
    fn climbed(fast: &[(usize, f64)]) -> (usize, Vec<usize>) {
        let fast = |tokens| fast.iter().find(|(of, _)| *of == tokens).map(|(_, speed)| speeds(*speed));
        let first = (256, fast(256).unwrap());
        let (tried, best) = climb(first, |tokens| fast(tokens).ok_or(tokens)).unwrap();
        (tried[best].0, tried.iter().map(|(tokens, _)| *tokens).collect())
    }

    #[test]
    fn a_budget_grows_while_that_is_faster_or_else_shrinks() {
        assert_eq!(climbed(&[(256, 100.0), (512, 120.0), (1_024, 119.0)]), (512, vec![256, 512, 1_024]));
        assert_eq!(climbed(&[(256, 100.0), (512, 90.0), (128, 99.0)]), (256, vec![256, 512, 128]));
        let shrinks = [(256, 100.0), (512, 90.0), (128, 110.0), (64, 120.0), (32, 140.0)];
        assert_eq!(climbed(&shrinks), (32, vec![256, 512, 128, 64, 32]));
        let grows = [(256, 100.0), (512, 120.0), (1_024, 140.0), (2_048, 160.0), (4_096, 200.0)];
        assert_eq!(climbed(&grows), (2_048, vec![256, 512, 1_024, 2_048]));
    }

    #[test]
    fn differences_within_chance_are_not_better() {
        let usual = Speeds::new(vec![100.0, 104.0, 96.0]);
        // Better by the median, and slower once than the usual was once.
        assert!(!Speeds::new(vec![103.0, 112.0, 110.0]).beat(&usual));
        // Faster each time, and not worth a setting.
        assert!(!Speeds::new(vec![101.0, 102.0, 102.5]).beat(&Speeds::new(vec![100.0, 100.5, 100.0])));
        assert!(Speeds::new(vec![105.0, 112.0, 110.0]).beat(&usual));
    }

    #[test]
    fn only_models_with_a_choice_are_tried() {
        let model = ModelInfo { id: "a".into(), experts: vec!["x".into()], fixed: false, alone: false };
        let config = PanelConfig::new("models");
        assert!(has_choice(&config, &model, 2, 0.5));
        assert!(!has_choice(&config, &model, 2, 0.02), "it takes too little of the time");
        assert!(!has_choice(&config, &model, 1, 1.0), "the common one was chosen by it");
        assert!(has_choice(&config, &ModelInfo { fixed: true, ..model.clone() }, 1, 1.0));
        assert!(!has_choice(&config, &ModelInfo { alone: true, ..model.clone() }, 2, 0.5));
        let config = PanelConfig { budgets: [("a".to_owned(), 9)].into(), ..config };
        assert!(!has_choice(&config, &model, 2, 0.5), "it has been given one");
        let one = alone(&config, &model, &[], 7);
        assert_eq!(
            (budget(&config, &model), one.budgets["a"], one.only.unwrap()),
            (9, 7, vec!["x".to_owned()])
        );
        assert_eq!(shares([100.0, 300.0].into_iter()), [0.75, 0.25]);
    }

    /// A panel without an int8 graph is refused in that precision.
    #[test]
    fn only_an_encoder_with_an_int8_graph_is_measured_in_it() {
        let model = |id: &str| ModelInfo { id: id.into(), experts: Vec::new(), fixed: false, alone: false };
        let config = PanelConfig { precision: Precision::Int8, ..PanelConfig::new("models") };
        let of = |id| alone(&config, &model(id), &["minilm".to_owned()], 7).precision;
        assert_eq!((of("minilm"), of("tox-block")), (Precision::Int8, Precision::Float32));
    }
}
