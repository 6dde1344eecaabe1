//! Alarms on generated streams. The seeds are fixed.

use aegis_core::alarm::Watch;
use fastrand::Rng;

/// A draw of a binary value.
fn binary(random: &mut Rng, rate: f64) -> f64 {
    f64::from(u8::from(random.f64() < rate))
}

/// The number of runs, out of 100, in which a watch on 10^5 values raises an alarm.
fn false_alarms(reference: u64, value: impl Fn(&mut Rng) -> f64) -> usize {
    let alarm = |seed| {
        let mut random = Rng::with_seed(seed);
        let mut watch = Watch::new(reference);
        (0..100_000).any(|_| watch.observe(value(&mut random)).is_some())
    };
    (0..100).filter(|seed| alarm(*seed)).count()
}

/// The median number of values, over 51 runs, from a change at `at` to the alarm. An alarm before the change counts as
/// one that is never raised.
fn delay(reference: u64, at: u64, before: impl Fn(&mut Rng) -> f64, after: impl Fn(&mut Rng) -> f64) -> u64 {
    let mut delays: Vec<u64> = (0..51)
        .map(|seed| {
            let mut random = Rng::with_seed(seed);
            let mut watch = Watch::new(reference);
            for number in 0..at + 20_000 {
                let value = if number < at { before(&mut random) } else { after(&mut random) };
                if watch.observe(value).is_some() {
                    return number.checked_sub(at).map_or(u64::MAX, |delay| delay + 1);
                }
            }
            u64::MAX
        })
        .collect();
    delays.sort_unstable();
    delays[25]
}

#[test]
fn stationary_streams_raise_at_most_five_alarms_in_a_hundred() {
    for (rate, reference) in [(0.05, 10_000), (0.05, 500), (0.5, 1_000), (0.002, 1_000)] {
        let alarms = false_alarms(reference, |random| binary(random, rate));
        println!("rate {rate}, reference {reference}: {alarms} of 100");
        assert!(alarms <= 5, "{alarms} of 100 at the rate {rate}");
    }
    // The mean p of an ensemble, and the error of an expert at a prevalence that changes the distribution, not the mean.
    assert!(false_alarms(1_000, |random| random.f64().powi(3)) <= 5);
}

#[test]
fn dependent_values_with_a_constant_conditional_mean_raise_no_more() {
    // The size of a value depends on the one before, its expectation does not.
    let mut alarms = 0;
    for seed in 0..100 {
        let mut random = Rng::with_seed(seed);
        let mut watch = Watch::new(1_000);
        let mut last = 0.5;
        for _ in 0..20_000 {
            let spread = if last > 0.6 { 0.5 } else { 0.05 };
            last = 0.5 + spread * (2.0 * random.f64() - 1.0);
            watch.observe(last);
        }
        alarms += u32::from(watch.alarm().is_some());
    }
    assert!(alarms <= 5, "{alarms}");
}

#[test]
fn a_block_rate_that_rises_from_5_to_8_percent_is_found_within_3000_events() {
    for (reference, at) in [(10_000, 10_000), (5_000, 5_000), (10_000, 33_333), (2_000, 100_000)] {
        let found = delay(reference, at, |random| binary(random, 0.05), |random| binary(random, 0.08));
        println!("reference {reference}, change after {at}: found after {found} events in the median");
        assert!(found <= 3_000, "{found} events after {at}");
    }
}

#[test]
fn a_rate_that_falls_is_found() {
    let found = delay(10_000, 30_000, |random| binary(random, 0.08), |random| binary(random, 0.05));
    assert!(found <= 3_000, "{found}");
}

#[test]
fn an_alarm_names_the_change_and_is_raised_once() {
    let mut random = Rng::with_seed(7);
    let mut watch = Watch::new(2_000);
    let alarms: Vec<_> = (0..30_000)
        .filter_map(|number| watch.observe(binary(&mut random, if number < 20_000 { 0.1 } else { 0.3 })))
        .collect();
    let [alarm] = alarms[..] else { panic!("{alarms:?}") };
    assert_eq!(watch.alarm(), Some(&alarm));
    assert!((alarm.before - 0.1).abs() < 0.01 && (alarm.after - 0.3).abs() < 0.1, "{alarm:?}");
    let begin = alarm.values - alarm.since;
    assert!((19_000..=20_200).contains(&begin), "{alarm:?}");
}

#[test]
fn weights_keep_the_error_of_all_events_when_other_actions_are_audited_more() {
    // An expert errs on 2 % of the allowed and 40 % of the blocked events. Blocked ones are audited five times as often,
    // in the second half all that is audited is paced differently, so that their share among the audits changes.
    let alarms = |weighted: bool| {
        (0..20)
            .filter(|seed| {
                let mut random = Rng::with_seed(*seed);
                let mut watch = Watch::new(1_000);
                for number in 0..20_000 {
                    let rates = if number < 10_000 { [0.2, 1.0] } else { [0.5, 0.5] };
                    let blocked = random.f64() < 0.1;
                    let rate = rates[usize::from(blocked)];
                    if random.f64() >= rate {
                        continue;
                    }
                    let error = binary(&mut random, if blocked { 0.4 } else { 0.02 });
                    watch.observe_weighted(error, if weighted { 0.2 / rate } else { 1.0 });
                }
                watch.alarm().is_some()
            })
            .count()
    };
    assert!(alarms(true) <= 1, "{}", alarms(true));
    assert!(alarms(false) >= 15, "{}", alarms(false));
}

#[test]
#[should_panic(expected = "is not in [0,1]")]
fn a_value_outside_the_unit_interval_is_refused() {
    Watch::new(1).observe(f64::NAN);
}
