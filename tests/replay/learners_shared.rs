//! Pinned figures on the shared stream of eight LLM judges, from votes only.
//!
//! `make test-shared` runs them, with AEGIS_SHARED_DATA, the folder that contains `streams/`.

/// `cargo test shared` runs these tests.
pub(super) mod shared {
    use aegis::core::learners::{LearnerSpec, RoundInput, Tally};
    use std::sync::OnceLock;

    struct Stream {
        experts: Vec<String>,
        rounds: Vec<(String, Vec<f64>, f64)>,
    }

    fn stream() -> &'static Stream {
        static STREAM: OnceLock<Stream> = OnceLock::new();
        STREAM.get_or_init(|| {
            let folder = std::env::var("AEGIS_SHARED_DATA")
                .expect("set AEGIS_SHARED_DATA to the folder of the shared data (it holds streams/)");
            let path = format!("{folder}/streams/hatexplain_eight_llm_judges.jsonl");
            let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
            let lines: Vec<serde_json::Value> =
                text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            let mut experts: Vec<String> = lines[0]["votes"].as_object().unwrap().keys().cloned().collect();
            experts.sort();
            let rounds = lines.iter().map(|line| {
                let votes = experts.iter().map(|id| line["votes"][id].as_f64().unwrap_or(f64::NAN)).collect();
                let target = f64::from(u8::from(line["unsafe"].as_bool().unwrap()));
                (line["event_id"].as_str().unwrap().to_owned(), votes, target)
            });
            Stream { rounds: rounds.collect(), experts }
        })
    }

    /// The p of a learner on each round, from the rounds before, with the target.
    pub(in super::super) fn predictions(spec: &str) -> Vec<(f64, f64)> {
        let stream = stream();
        let ids: Vec<&str> = stream.experts.iter().map(String::as_str).collect();
        let mut learner = spec.parse::<LearnerSpec>().unwrap().build(&ids, "policy").unwrap();
        let step = |(event, votes, target): &(String, Vec<f64>, f64)| {
            (learner.step(&RoundInput { votes, features: None, event }, *target), *target)
        };
        stream.rounds.iter().map(step).collect()
    }

    fn run(spec: &str) -> Tally {
        let stream = stream();
        let ids: Vec<&str> = stream.experts.iter().map(String::as_str).collect();
        let mut learner = spec.parse::<LearnerSpec>().unwrap().build(&ids, "policy").unwrap();
        let mut tally = Tally::new(ids.len(), learner.loss_kind(), None);
        let mut weights = vec![0.0; ids.len()];
        for (event, votes, target) in &stream.rounds {
            let round = RoundInput { votes, features: None, event };
            let played = learner.weights(&round, &mut weights);
            let p = learner.step(&round, *target);
            tally.add(votes, played.then_some(&weights[..]), p, *target);
        }
        let certificate = tally.certificate(learner.as_ref()).unwrap();
        let best = tally.best_expert().unwrap();
        println!(
            "{spec:32} loss {:.9} brier {:.4} mistakes {} calibration {:.4} regret {:.4} bound {:?} against {}",
            tally.loss,
            tally.brier(),
            tally.mistakes,
            tally.calibration_error(),
            certificate.regret,
            certificate.bound,
            ids[certificate.expert],
        );
        if let Some(bound) = certificate.bound {
            assert!(
                certificate.regret <= bound + 1e-6,
                "{spec}: regret {} above {bound}",
                certificate.regret
            );
        }
        assert_eq!((tally.rounds, tally.majority_mistakes), (10_999, 3_946));
        assert_eq!((ids[best], tally.experts[best].mistakes), ("flan-t5-xxl", 2_953));
        tally
    }

    #[test]
    #[ignore = "needs AEGIS_SHARED_DATA: make test-shared"]
    fn losses_are_the_pinned_ones() {
        for (spec, loss, mistakes) in [
            ("hedge eta=0.5", 2_959.104_632_59, 2_956),
            ("hedge eta=1", 2_957.480_994_242, 2_957),
            ("hedge eta=0.26", 2_962.758_122_833, 2_956),
            ("fixed-share eta=1 alpha=0.01", 3_326.676_227_627, 3_103),
            ("fixed-share eta=0.3 alpha=0.001", 3_011.686_845_456, 2_956),
        ] {
            let tally = run(spec);
            assert!((tally.loss - loss).abs() < 1e-7, "{spec}: loss {} for {loss}", tally.loss);
            assert_eq!(tally.mistakes, mistakes, "{spec}");
        }
    }

    #[test]
    #[ignore = "needs AEGIS_SHARED_DATA: make test-shared"]
    fn majorities_are_exact() {
        assert_eq!(run("majority").mistakes, 3_946);
        assert_eq!(run("weighted-majority beta=0.5").mistakes, 3_867);
    }

    #[test]
    #[ignore = "needs AEGIS_SHARED_DATA: make test-shared"]
    fn stackings_make_the_pinned_mistakes() {
        for (spec, mistakes) in
            [("stacking gamma=1", 2_717), ("stacking gamma=0.9995", 2_678), ("stacking gamma=0.998", 2_715)]
        {
            assert_eq!(run(spec).mistakes, mistakes, "{spec}");
        }
    }

    #[test]
    #[ignore = "needs AEGIS_SHARED_DATA: make test-shared"]
    fn the_default_makes_the_pinned_mistakes() {
        let tally = run("default");
        assert!(tally.mistakes.abs_diff(2_689) <= 5, "{} mistakes", tally.mistakes);
        assert!((tally.brier() - 0.1668).abs() < 5e-5, "Brier {}", tally.brier());
        assert!(
            (tally.calibration_error() - 0.026).abs() < 1e-3,
            "calibration {}",
            tally.calibration_error()
        );
    }

    #[test]
    #[ignore = "needs AEGIS_SHARED_DATA: make test-shared"]
    fn the_rest_run_within_their_bounds() {
        for spec in [
            "hedge",
            "fpl",
            "adahedge",
            "squint",
            "adanormalhedge",
            "fixed-share-grid",
            "log-loss",
            "brier",
            "reading",
        ] {
            run(spec);
        }
    }
}
