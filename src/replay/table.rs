//! Figures as text tables: of one learner, or of all learners side by side.

use std::fmt::Write as _;

use super::figures::{Figures, LearnerName};

/// Returns one policy's figures.
pub(super) fn one(policy: Option<&str>, figures: &Figures) -> String {
    let mut text = String::new();
    let named = policy.map(|policy| format!("{policy}: ")).unwrap_or_default();
    // Writing to a String cannot fail, here and below.
    let _ = writeln!(text, "{named}{} rounds, {}", figures.rounds, learner(&figures.learner));
    mistakes(figures, &mut text);
    losses(figures, &mut text);
    experts(figures, &mut text);
    annotators(figures, &mut text);
    let _ = writeln!(text, "  state {}", figures.state_hash);
    text
}

/// Writes the mistakes, the labels that were used, and the rounds that were left out.
fn mistakes(figures: &Figures, text: &mut String) {
    let best = figures.best_expert.as_ref().and_then(|name| Some((name, figures.experts.get(name)?)));
    let _ = writeln!(
        text,
        "  mistakes           {:>10}   plain majority {}{}",
        figures.mistakes,
        figures.majority_mistakes,
        best.map(|(name, best)| {
            let alone = best.mistakes + (figures.rounds - best.awake);
            format!(", best expert {alone} ({name})")
        })
        .unwrap_or_default(),
    );
    if figures.capped > 0 {
        let _ = writeln!(
            text,
            "  above the cap      {:>10}   rounds whose labels are all above max_annotator_share: left out",
            figures.capped
        );
    }
    if let Some(labels) = &figures.labels {
        let _ = writeln!(
            text,
            "  labels used        {:>10}   {:.1} % of the rounds; drawn: audit {}, random {}, near the threshold {}",
            labels.used,
            100.0 * labels.share,
            labels.audit,
            labels.random,
            labels.margin,
        );
        let _ = writeln!(
            text,
            "  when decided       {:>10}   mistakes of the p that was known before later labels came",
            labels.mistakes_when_decided
        );
    }
}

/// Writes the losses, the cost of an error and the regret.
fn losses(figures: &Figures, text: &mut String) {
    let _ = writeln!(text, "  loss               {:>14.3}", figures.loss);
    let _ = writeln!(text, "  Brier              {:>16.5}", figures.brier);
    let _ = writeln!(text, "  calibration error  {:>16.5}", figures.calibration_error);
    if let (Some(threshold), Some(error)) = (figures.threshold, figures.cost_weighted_error) {
        let _ = writeln!(
            text,
            "  cost of an error   {error:>16.5}   a round, flagged from p = {threshold:.4} on"
        );
    }
    if let (Some(regret), Some(against)) = (figures.regret, &figures.regret_against) {
        let bound = figures
            .regret_bound
            .map_or("nothing is proven".to_owned(), |bound| format!("at most {bound:.3} is proven"));
        let _ = writeln!(
            text,
            "  regret             {regret:>14.3}   in {} loss against {against}; {bound}",
            figures.regret_loss
        );
    }
}

/// Returns a learner's name with its parameters in parentheses.
fn learner(learner: &LearnerName) -> String {
    let parameters = learner.parameters.iter().map(|(name, value)| {
        format!("{name} {}", value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    });
    let parameters = parameters.collect::<Vec<_>>().join(", ");
    if parameters.is_empty() { learner.name.to_owned() } else { format!("{} ({parameters})", learner.name) }
}

fn experts(figures: &Figures, text: &mut String) {
    let width = figures.experts.keys().map(|name| name.chars().count()).max().unwrap_or(0).max(6);
    let _ = writeln!(
        text,
        "  {:<width$}  {:>9}  {:>9}  {:>12}  {:>7}",
        "expert", "awake", "mistakes", "loss", "weight"
    );
    for (name, expert) in &figures.experts {
        let weight = expert.weight.map_or("-".to_owned(), |weight| format!("{weight:.4}"));
        let _ = writeln!(
            text,
            "  {name:<width$}  {:>9}  {:>9}  {:>12.3}  {weight:>7}",
            expert.awake, expert.mistakes, expert.loss
        );
    }
}

/// Adds the annotators who agree least with the others, at most a screenful.
fn annotators(figures: &Figures, text: &mut String) {
    const MAX_ROWS: usize = 20;
    let mut found: Vec<_> =
        figures.annotators.iter().filter_map(|(name, found)| Some((name, found, found.agreement?))).collect();
    if found.is_empty() {
        return;
    }
    found.sort_by(|left, right| left.2.total_cmp(&right.2).then(left.0.cmp(right.0)));
    let shown: Vec<&str> = found.iter().take(MAX_ROWS).map(|(name, ..)| name.as_str()).collect();
    let width = shown.iter().map(|name| name.chars().count()).max().unwrap_or(0).max(9);
    let _ = writeln!(
        text,
        "  {:<width$}  {:>9}  {:>9}  {:>9}  {:>9}",
        "annotator", "labels", "compared", "agree", "with gold"
    );
    for (name, found, agreement) in found.iter().take(MAX_ROWS) {
        let gold = found.gold_agreement.map_or("-".to_owned(), |share| format!("{:.1} %", 100.0 * share));
        let agree = format!("{:.1} %", 100.0 * agreement);
        let name = if name.is_empty() { "nameless" } else { name.as_str() };
        let _ = writeln!(
            text,
            "  {name:<width$}  {:>9}  {:>9}  {agree:>9}  {gold:>9}",
            found.labels, found.compared
        );
    }
    if found.len() > MAX_ROWS {
        let _ = writeln!(
            text,
            "  and {} annotators who agree more, all of them in --json",
            found.len() - MAX_ROWS
        );
    }
}

/// Returns the figures of all learners on one policy's rounds.
pub(super) fn all(policy: Option<&str>, learners: &[Figures], shifts: &[u64]) -> String {
    let mut text = String::new();
    let Some(first) = learners.first() else { return text };
    let named = policy.map(|policy| format!("{policy}: ")).unwrap_or_default();
    let _ = writeln!(text, "{named}{} rounds, {} experts", first.rounds, first.experts.len());
    let _ = writeln!(
        text,
        "  {:<26}  {:>9}  {:>7}  {:>12}  {:>8}  {:>11}  {:>10}  {:>10}  in",
        "", "mistakes", "error", "loss", "Brier", "calibration", "regret", "proven"
    );
    let rate = |mistakes: u64| format!("{:.2} %", 100.0 * mistakes as f64 / first.rounds.max(1) as f64);
    for figures in learners {
        let number = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.2}"));
        let _ = writeln!(
            text,
            "  {:<26}  {:>9}  {:>7}  {:>12.3}  {:>8.4}  {:>11.4}  {:>10}  {:>10}  {}",
            figures.learner.name,
            figures.mistakes,
            rate(figures.mistakes),
            figures.loss,
            figures.brier,
            figures.calibration_error,
            number(figures.regret),
            number(figures.regret_bound),
            figures.regret_loss,
        );
    }
    let mut row = |name: &str, mistakes: u64| {
        let _ = writeln!(text, "  {name:<26}  {mistakes:>9}  {:>7}", rate(mistakes));
    };
    row("plain majority (no learner)", first.majority_mistakes);
    for (m, mistakes) in shifts.iter().enumerate() {
        match m {
            0 => row("best expert", *mistakes),
            1 => row("best two, one shift", *mistakes),
            _ => row(&format!("best sequence, {m} shifts"), *mistakes),
        }
    }
    text
}
