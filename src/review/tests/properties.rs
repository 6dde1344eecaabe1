//! The queue under arbitrary orders of requests, labels, reviewers and time.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Request(usize, Lane),
    Label(usize, bool),
    Next(usize),
    Answer(usize, bool),
    Late(usize),
    Skip(usize),
    Undo(usize),
    Touch(usize),
    Wait(Millis),
    Expire(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let (number, who) = (0_usize..12, 0_usize..4);
    prop_oneof![
        4 => (number.clone(), prop::sample::select(&Lane::ALL[..])).prop_map(|(one, lane)| Step::Request(one, lane)),
        1 => (number.clone(), any::<bool>()).prop_map(|(one, safe)| Step::Label(one, safe)),
        6 => who.clone().prop_map(Step::Next),
        4 => (who.clone(), any::<bool>()).prop_map(|(who, safe)| Step::Answer(who, safe)),
        1 => who.clone().prop_map(Step::Late),
        1 => who.clone().prop_map(Step::Skip),
        1 => who.clone().prop_map(Step::Undo),
        1 => who.prop_map(Step::Touch),
        2 => (0..CLAIM).prop_map(Step::Wait),
        1 => number.prop_map(Step::Expire),
    ]
}

/// The reviewers of a run, with the claim that each one's browser shows, and the first one it ever had.
struct Team {
    queue: Queue,
    now: Millis,
    shown: [Option<Served>; 4],
    first: [Option<Served>; 4],
    /// The last request that each one got.
    last: [Option<Served>; 4],
}

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

impl Team {
    /// Checks what must hold for a request that a reviewer just got.
    fn check(&self, who: usize, one: &Served) -> Result<(), TestCaseError> {
        let holders = (0..4).filter(|other| {
            let shown = self.shown[*other].as_ref().filter(|shown| shown.request.id == one.request.id);
            *other != who
                && shown.is_some_and(|shown| {
                    self.queue.request(NAMES[*other], &shown.token).is_ok() && shown.expires > self.now
                })
        });
        match self.queue.status(&one.request.id) {
            Status::Open { missing } => prop_assert!(holders.count() < missing, "{one:?}"),
            other => prop_assert!(false, "{other:?} was served"),
        }
        prop_assert!(one.expires > self.now);
        Ok(())
    }

    fn take(&mut self, who: usize, served: Option<Served>) -> Result<(), TestCaseError> {
        if let Some(one) = &served {
            // A label of another tool can close what a reviewer already has. A new or revived claim is never one too many.
            let held = |last: &Served| last.token == one.token && last.expires > self.now;
            if !self.last[who].as_ref().is_some_and(held) {
                self.check(who, one)?;
            }
            self.last[who] = Some(one.clone());
            self.first[who].get_or_insert_with(|| one.clone());
        }
        self.shown[who] = served;
        Ok(())
    }

    fn run(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match *step {
            Step::Request(number, lane) => add(&mut self.queue, number, lane),
            Step::Label(number, safe) => {
                let verdict = if safe { Finding::Safe } else { Finding::Unsafe };
                self.queue.on_label(&label(number, "tool", Source::Review, verdict));
            }
            Step::Next(who) => {
                let next = served(&mut self.queue, NAMES[who], self.now);
                self.take(who, next)?;
            }
            Step::Answer(who, safe) => {
                let Some(one) = self.shown[who].take() else { return Ok(()) };
                let verdict = if safe { Finding::Safe } else { Finding::Unsafe };
                let before = self.queue.status(&one.request.id);
                let result = answer(&mut self.queue, NAMES[who], &one.token, self.now, verdict);
                if result.is_ok() {
                    prop_assert!(matches!(before, Status::Open { .. }), "{before:?} was answered");
                    // Two who differ are followed by a third, but never by one of them.
                    let again = self.queue.touch(NAMES[who], &one.token, self.now);
                    prop_assert_eq!(again, Err(Refusal::NotClaimed));
                }
            }
            // A browser that slept sends the answer of its first request.
            Step::Late(who) => {
                let Some(one) = self.first[who].clone() else { return Ok(()) };
                let before = self.queue.open_of(POLICY);
                let _ = answer(&mut self.queue, NAMES[who], &one.token, self.now, Finding::Safe);
                self.shown[who].take_if(|shown| shown.token == one.token);
                prop_assert!(self.queue.open_of(POLICY) <= before);
            }
            Step::Skip(who) => {
                if let Some(one) = self.shown[who].take() {
                    let _ = self.queue.skip(NAMES[who], &one.token);
                }
            }
            Step::Undo(who) => {
                let back = undo(&mut self.queue, NAMES[who], self.now);
                self.take(who, back)?;
            }
            Step::Touch(who) => {
                if let Some(one) = self.shown[who].take()
                    && let Ok(held) = self.queue.touch(NAMES[who], &one.token, self.now)
                {
                    self.take(who, Some(held))?;
                }
            }
            Step::Wait(millis) => self.now += millis,
            Step::Expire(number) => self.queue.on_expired(&id(number)),
        }
        Ok(())
    }
}

proptest! {
    #[test]
    fn no_request_is_claimed_by_more_than_it_needs_and_none_is_lost(
        steps in prop::collection::vec(step(), 0..120),
        opinions in prop::sample::select(&[0.0, 0.5, 1.0][..]),
    ) {
        let queue = queue(Settings { second_opinions: opinions, ..settings() });
        let mut team = Team { queue, now: 0, shown: Default::default(), first: Default::default(), last: Default::default() };
        for step in &steps {
            team.run(step)?;
        }
        // Once all claims have expired, new reviewers get every open request, each as often as answers are missing.
        team.now += 2 * CLAIM;
        let open: BTreeSet<_> = (0..12).filter(|one| matches!(team.queue.status(&id(*one)), Status::Open { .. })).collect();
        prop_assert_eq!(open.len(), team.queue.open_of(POLICY));
        prop_assert_eq!(open.len(), team.queue.shelves().open_by_reason().map(|(_, count)| count).sum::<usize>());
        let mut got = BTreeSet::new();
        for fresh in ["x", "y", "z"] {
            while let Some(one) = served(&mut team.queue, fresh, team.now) {
                got.insert(event(&one).trim_start_matches('e').parse().unwrap());
                answer(&mut team.queue, fresh, &one.token, team.now, Finding::Safe).unwrap();
            }
        }
        prop_assert_eq!(got, open);
        prop_assert_eq!(team.queue.open_of(POLICY), 0);
    }
}
