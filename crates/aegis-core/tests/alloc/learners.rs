//! No learner allocates in a round, as counted by the allocator.

use aegis_core::features::Features;
use aegis_core::learners::{LearnerSpec, Name, RoundInput, Tally};

use super::COUNT;

#[test]
fn no_round_allocates() {
    let ids = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let features: Features = [17; 384];
    for name in Name::ALL {
        let mut learner = LearnerSpec::new(name).build(&ids, "policy").unwrap();
        let mut tally = Tally::new(8, learner.loss_kind(), None);
        let mut weights = [0.0; 8];
        let mut votes = [0.2, 0.9, 0.4, 0.6, 0.1, 0.8, 0.5, 0.3];
        let mut before = 0;
        for at in 0..1_000u32 {
            if at == 1 {
                before = COUNT.get(); // the first round warms up
            }
            votes[0] = if at % 3 == 0 { f64::NAN } else { 0.2 };
            let target = [0.0, 1.0, 0.25][at as usize % 3];
            let input =
                RoundInput { votes: &votes, features: (at % 2 == 0).then_some(&features), event: "event" };
            let played = learner.weights(&input, &mut weights);
            let predicted = learner.predict(&input);
            let p = learner.step(&input, target);
            assert_eq!(predicted.to_bits(), p.to_bits());
            tally.add(&votes, played.then_some(&weights[..]), p, target);
        }
        assert_eq!(COUNT.get() - before, 0, "{name} allocated in 999 rounds");
        assert_eq!(tally.rounds, 1_000);
    }
}
