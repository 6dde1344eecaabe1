//! The parsing, validation and canonical form of learner specs.

use super::streams::{IDS, spec};
use aegis_core::learners::{LearnerSpec, Name, SpecError};

#[test]
fn names_read_back() {
    let names = [
        "weighted-majority",
        "hedge",
        "fpl",
        "adahedge",
        "squint",
        "adanormalhedge",
        "fixed-share",
        "fixed-share-grid",
        "log-loss",
        "brier",
        "stacking",
        "reading",
        "default",
        "majority",
    ];
    assert_eq!(Name::ALL.map(Name::as_str), names);
    for name in Name::ALL {
        assert_eq!(name.as_str().parse::<Name>(), Ok(name));
        let line = spec(name).canonical();
        if name != Name::Fpl {
            assert_eq!(line.parse::<LearnerSpec>().unwrap().canonical(), line);
        }
    }
}

#[test]
fn invalid_parameters_and_experts_are_refused() {
    for (text, wanted) in [
        ("hedje", "no learner is called \"hedje\""),
        ("adahedge eta=1", "the learner adahedge takes no eta (it has no parameters)"),
        ("hedge alpha=0.1", "the learner hedge takes no alpha (it takes eta prior)"),
        ("hedge eta=0", "eta = 0 is out of range"),
        ("hedge eta=inf", "eta = inf is out of range"),
        ("hedge eta=NaN", "eta = NaN is out of range"),
        ("hedge eta=x", "eta cannot be \"x\""),
        ("weighted-majority eta=1", "eta = 1 is out of range"),
        ("weighted-majority beta=1", "beta = 1 is out of range"),
        ("weighted-majority eta=0.5 beta=0.4", "eta and beta contradict"),
        ("fixed-share alpha=1", "alpha = 1 is out of range"),
        ("stacking gamma=1.01", "gamma = 1.01 is out of range"),
        ("fpl noise=white", "noise cannot be \"white\": exponential or gumbel"),
        ("hedge eta", "\"eta\" is not a parameter"),
    ] {
        let error = text.parse::<LearnerSpec>().unwrap_err().to_string();
        assert!(error.contains(wanted), "{text}: {error}");
    }
    let build = |experts: &[&str]| spec(Name::Default).build(experts, "p").err();
    assert_eq!(build(&[]), Some(SpecError::NoExperts));
    assert_eq!(build(&["b", "a"]), Some(SpecError::ExpertOrder { at: "a".into() }));
    assert_eq!(build(&["a", "a"]), Some(SpecError::ExpertOrder { at: "a".into() }));
    let many: Vec<String> = (0..300).map(|at| format!("{at:03}")).collect();
    assert_eq!(
        build(&many.iter().map(String::as_str).collect::<Vec<_>>()),
        Some(SpecError::TooManyExperts(300))
    );
    let prior = |masses: &[(&str, f64)]| LearnerSpec {
        prior: Some(masses.iter().map(|(id, mass)| ((*id).to_owned(), *mass)).collect()),
        ..spec(Name::Brier)
    };
    for bad in [prior(&[("a", 0.5)]), prior(&[("a", 0.5), ("c", 0.5)]), prior(&[("a", 1.5), ("b", -0.5)])] {
        assert_eq!(bad.build(&IDS[..2], "p").err(), Some(SpecError::Prior));
    }
    // The bound of the anytime step is proven for a uniform prior only.
    let anytime = LearnerSpec { name: Name::Hedge, ..prior(&[("a", 0.5), ("b", 0.5)]) };
    assert!(anytime.build(&IDS[..2], "p").is_err());
}

#[test]
fn parameters_are_those_used() {
    let shown = |text: &str| text.parse::<LearnerSpec>().unwrap().canonical();
    assert_eq!(shown("weighted-majority eta=0.25"), "weighted-majority beta=0.75");
    assert_eq!(shown("weighted-majority"), "weighted-majority beta=0.5");
    assert_eq!(shown("hedge"), "hedge eta=anytime");
    assert_eq!(shown("hedge eta=0.26"), "hedge eta=0.26");
    assert_eq!(shown("fixed-share"), "fixed-share eta=0.3 alpha=0.001");
    assert_eq!(shown("stacking"), "stacking gamma=0.9995");
    assert_eq!(shown("reading"), "reading variance=1 gamma=1");
    assert_eq!(shown("default"), "default");
}

/// A seed also keys the draws of exploration, and does not change the state of a learner that draws nothing.
#[test]
fn each_learner_takes_a_seed() {
    for name in Name::ALL.into_iter().filter(|name| *name != Name::Fpl) {
        let with = format!("{name} seed=hunter2").parse::<LearnerSpec>().unwrap();
        assert_eq!(with.seed.as_deref(), Some(&b"hunter2"[..]));
        assert_eq!(with.canonical(), spec(name).canonical());
    }
}

#[test]
fn seeds_are_distinguished_and_never_displayed() {
    let one = "fpl seed=hunter2".parse::<LearnerSpec>().unwrap().canonical();
    let other = "fpl seed=hunter3".parse::<LearnerSpec>().unwrap().canonical();
    assert_ne!(one, other);
    assert!(!one.contains("hunter2") && one.starts_with("fpl eta=0.26 noise=gumbel seed="), "{one}");
}
