//! What edits, refusals and publishing leave, and what is shown of annotators.

use super::*;

#[test]
fn edits_leave_a_world_where_it_never_was() {
    let settings = settings("hedge eta=0.5");
    let all = world(5, 200);
    let (edits, plain): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|record| matches!(record, Record::Edit(_)));
    let never: Vec<Record> = plain
        .iter()
        .filter(|record| match record {
            Record::Round(judged) => {
                judged.subject.as_deref() != Some("subject-1") || judged.id.tenant != "beta"
            }
            Record::Label(filed) => match filed.label.annotator.as_deref() {
                Some("annotator-4") => false,
                Some("annotator-3") => filed.label.tenant != "acme",
                _ => true,
            },
            Record::Edit(_) => true,
        })
        .cloned()
        .collect();
    let expected = arrive(&never, &settings, 1, 0);
    assert_eq!(arrive(&[edits.clone(), plain.clone()].concat(), &settings, 2, 0), expected);
    assert_ne!(arrive(&plain, &settings, 3, 0), expected);
    // Whether they come first, last or in between.
    for order in [[edits.clone(), plain.clone()].concat(), [plain, edits].concat()] {
        let mut desk = Desk::new(settings.clone());
        for record in &order {
            desk.take(record);
            desk.fold.advance(&desk.book, 3).unwrap();
        }
        assert_eq!(desk.hash(), expected);
    }
}

#[test]
fn what_is_not_finite_stays_outside() {
    let mut desk = Desk::new(settings("hedge eta=1"));
    let mut dice = Dice(1);
    let good = judged(&mut dice, 1, 0);
    desk.take(&Record::Round(good.clone()));
    for score in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1e-9, 1.5] {
        let mut bad = good.clone();
        bad.round_time -= 1;
        bad.votes[0].score = Some(score);
        let refused = desk.book.apply(&Record::Round(bad), &mut Vec::new());
        assert_eq!(refused, Err(LedgerError::Score));
        let mut label = label(&mut dice, 1, 0);
        label.severity = Some(score);
        let filed = LabelRecord { label, received: 0, standing: LabelStatus::Accepted };
        let refused = desk.book.apply(&Record::Label(filed), &mut Vec::new());
        assert_eq!(refused, Err(LedgerError::Severity));
    }
    let (rounds, row) = desk.book.row(&good.id).unwrap();
    assert_eq!(rounds.judged(row), Some(good));
    assert!(rounds.labels(row).is_empty());
}

#[test]
fn a_published_state_predicts_what_the_fold_predicts() {
    let settings = settings("default");
    let mut desk = Desk::new(settings);
    world(8, 120).iter().for_each(|record| {
        desk.take(record);
    });
    let hash = desk.hash();
    let published = desk.fold.published(&desk.book, 17).unwrap();
    assert_eq!(published.state_hash, hash);
    assert_eq!(published.experts, desk.fold.experts());
    assert!((published.masses.iter().map(|mass| mass.mass).sum::<f64>() - 1.0).abs() < 1e-9);
    Predictor::published(&published).unwrap();
}

/// What the figures say that reading members add is the difference to the same learner, each time with those
/// members asleep that read; a learner without such members adds nothing.
#[test]
fn what_reading_adds_is_what_a_twin_would_have_lost_without_it() {
    for (learner, reads) in [("default", true), ("hedge eta=0.5", false)] {
        let mut desk = Desk::new(settings(learner));
        world(19, 600).iter().for_each(|record| {
            desk.take(record);
        });
        desk.hash();
        let names: Vec<&str> = desk.fold.experts().iter().map(String::as_str).collect();
        let spec = &desk.fold.settings().learner;
        let mut twin = spec.build(&names, POLICY).unwrap();
        let (mut rounds, mut lost) = (0_u64, 0.0);
        let mut compare = |round: &Walked<'_>, _: &dyn Learner| {
            if round.sight.features.is_some() {
                let unread = twin.predict(&RoundInput { features: None, ..round.sight });
                rounds += 1;
                lost += (unread - round.target).powi(2) - (round.p - round.target).powi(2);
            }
            twin.step(&round.sight, round.target);
        };
        desk.fold.walk(&desk.book, spec, &mut compare).unwrap();
        let read = desk.fold.tally().unwrap().read;
        assert!(rounds > 40, "{rounds}");
        if reads {
            assert_eq!(read.rounds, rounds);
            assert!(lost != 0.0 && (read.gain() - lost / rounds as f64).abs() < 1e-12, "{read:?}, {lost}");
        } else {
            assert_eq!((read.rounds, read.gain(), lost), (0, 0.0, 0.0));
        }
    }
}

#[test]
fn reliability_is_agreement() {
    let mut desk = Desk::new(settings("hedge eta=1"));
    let mut dice = Dice(1);
    let says = |event: usize, annotator: &str, verdict, source| {
        let base = label(&mut Dice(0), event, 0);
        let label = Label {
            id: format!("by-{annotator}"),
            annotator: Some(annotator.to_owned()),
            verdict: Some(verdict),
            source,
            corrects: None,
            retracts: None,
            ..base
        };
        Record::Label(LabelRecord { label, received: 0, standing: LabelStatus::Accepted })
    };
    for event in 0..10 {
        desk.take(&Record::Round(judged(&mut dice, event, 0)));
        desk.take(&says(event, "ann", Finding::Unsafe, Source::Review));
        desk.take(&says(
            event,
            "bob",
            if event < 5 { Finding::Safe } else { Finding::Unsafe },
            Source::Review,
        ));
        desk.take(&says(event, "gold", Finding::Unsafe, Source::Gold));
    }
    let rounds = desk.book.rounds(desk.book.find(POLICY).unwrap()).unwrap();
    let found = rounds.reliability(&Mapping::default(), desk.book.edits());
    assert_eq!((found["ann"].labels, found["ann"].compared, found["ann"].agreed), (10, 20, 15));
    assert_eq!((found["bob"].gold, found["bob"].gold_agreed), (10, 5));
    assert_eq!((found["gold"].gold, found["gold"].compared), (0, 20));
}
