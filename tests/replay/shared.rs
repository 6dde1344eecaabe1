//! Streams that are available only to the developers of Aegis.

use super::*;

fn judges() -> PathBuf {
    let folder = std::env::var("AEGIS_SHARED_DATA")
        .expect("AEGIS_SHARED_DATA must name the folder of the shared data");
    let file = Path::new(&folder).join("streams/hatexplain_eight_llm_judges.jsonl");
    assert!(file.is_file(), "{} is missing", file.display());
    file
}

fn figures(learner: &str) -> aegis::replay::Figures {
    let mut args = args(&[&judges()]);
    for (at, word) in learner.split(' ').enumerate() {
        let number = |text: &str| text.split_once('=').and_then(|(_, number)| number.parse().ok());
        match word.split('=').next().unwrap() {
            "eta" => args.eta = number(word),
            "beta" => args.beta = number(word),
            "alpha" => args.alpha = number(word),
            "gamma" => args.gamma = number(word),
            name if at == 0 => args.learner = Some(name.to_owned()),
            other => panic!("{other}"),
        }
    }
    replay(&args).summary().policies["default"].clone()
}

#[test]
#[ignore = "needs AEGIS_SHARED_DATA: make test-shared"]
fn shared_losses_are_pinned() {
    for (learner, loss, mistakes) in [
        ("hedge eta=0.5", 2_959.104_632_59, 2_956),
        ("hedge eta=1", 2_957.480_994_242, 2_957),
        ("hedge eta=0.26", 2_962.758_122_833, 2_956),
        ("fixed-share eta=1 alpha=0.01", 3_326.676_227_627, 3_103),
        ("fixed-share eta=0.3 alpha=0.001", 3_011.686_845_456, 2_956),
    ] {
        let found = figures(learner);
        assert!((found.loss - loss).abs() < 1e-8, "{learner}: {} for {loss}", found.loss);
        assert_eq!(
            (found.mistakes, found.majority_mistakes, found.rounds),
            (mistakes, 3_946, 10_999),
            "{learner}"
        );
    }
}

#[test]
#[ignore = "needs AEGIS_SHARED_DATA: make test-shared"]
fn shared_texts_make_fewer_mistakes() {
    let mut around = ReplayContext { panel: Some(panel()), ..ReplayContext::default() };
    let flags = ReplayArgs { embed: true, ..args(&[&judges()]) };
    let summary = run(&flags, &mut around, &mut Vec::new(), &mut Vec::new()).unwrap();
    let found = &summary.policies["default"];
    println!(
        "{} mistakes, Brier {}, calibration error {}",
        found.mistakes, found.brier, found.calibration_error
    );
    // By votes alone it is 2,689, with a Brier loss of .1668.
    assert!(found.mistakes <= 1_780, "{}", found.mistakes);
    assert!(found.brier <= 0.117, "{}", found.brier);
    assert!(found.calibration_error <= 0.03, "{}", found.calibration_error);
}

#[test]
#[ignore = "needs AEGIS_SHARED_DATA: make test-shared"]
fn shared_mistakes_are_pinned() {
    for (learner, mistakes, off) in [
        ("weighted-majority beta=0.5", 3_867, 0),
        ("stacking gamma=1", 2_717, 0),
        ("stacking gamma=0.9995", 2_678, 0),
        ("stacking gamma=0.998", 2_715, 0),
        ("default", 2_689, 5),
    ] {
        let found = figures(learner);
        assert!(found.mistakes.abs_diff(mistakes) <= off, "{learner}: {} for {mistakes}", found.mistakes);
    }
    let default = figures("default");
    assert!((default.brier - 0.1668).abs() < 5e-4, "{}", default.brier);
    assert!((default.calibration_error - 0.026).abs() < 2e-3, "{}", default.calibration_error);
    assert_eq!(default.best_expert.as_deref(), Some("flan-t5-xxl"));
}
