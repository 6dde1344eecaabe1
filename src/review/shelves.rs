//! The events of the queue, ordered for the questions that are asked of them, within fixed bounds.

use std::collections::{BTreeMap, HashMap};

use super::entry::{Entry, Lane, Place, Status};
use crate::core::decision::ReviewReason;
use crate::core::event::Millis;
use crate::core::ledger::RoundId;

/// The position of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shelf {
    /// Its request is open.
    Open(Lane, Place, ReviewReason),
    /// It has a reference answer.
    Gold(Place),
    /// It is closed, or has no request. The number orders these events by their last change.
    Idle(u64),
}

/// The requests of one policy.
#[derive(Debug, Default)]
pub struct PolicyShelves {
    /// The open requests of each lane, the oldest first.
    pub lanes: BTreeMap<Lane, BTreeMap<Place, RoundId>>,
    /// The requests with a reference answer.
    pub gold: BTreeMap<Place, RoundId>,
}

/// An event that was dropped because the queue was full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    /// An open request.
    Open(Lane),
    /// A request with a reference answer.
    Gold,
    /// A closed request, or labels without a request.
    Idle,
}

/// All events.
#[derive(Debug, Default)]
pub struct Shelves {
    events: HashMap<RoundId, (Entry, Option<Shelf>)>,
    policies: BTreeMap<String, PolicyShelves>,
    idle: BTreeMap<u64, RoundId>,
    changes: u64,
    open: BTreeMap<&'static str, usize>,
    open_lanes: BTreeMap<Lane, usize>,
    gold: usize,
}

impl Shelves {
    /// Returns an event.
    pub fn get(&self, id: &RoundId) -> Option<&Entry> {
        self.events.get(id).map(|(entry, _)| entry)
    }

    /// Returns an event, which is created if it is not known. The caller calls [`Self::put`] afterwards.
    pub fn entry(&mut self, id: &RoundId) -> &mut Entry {
        &mut self.events.entry(id.clone()).or_default().0
    }

    /// Returns the requests of a policy.
    pub fn policy(&self, name: &str) -> Option<&PolicyShelves> {
        self.policies.get(name)
    }

    /// The ids of all events.
    pub fn ids(&self) -> Vec<RoundId> {
        self.events.keys().cloned().collect()
    }

    /// Moves an event to the shelf of its status.
    pub fn put(&mut self, id: &RoundId, status: Status) {
        self.take(id);
        let Some((entry, _)) = self.events.get(id) else { return };
        let request = entry.request.as_deref().zip(entry.place).zip(entry.lane());
        let shelf = match (status, request) {
            (Status::Open { .. }, Some(((request, place), lane))) => {
                let reason = request.reasons.first().copied().unwrap_or(ReviewReason::NearThreshold);
                let policy = self.policies.entry(id.policy.clone()).or_default();
                policy.lanes.entry(lane).or_default().insert(place, id.clone());
                *self.open.entry(reason.word()).or_default() += 1;
                *self.open_lanes.entry(lane).or_default() += 1;
                Shelf::Open(lane, place, reason)
            }
            (Status::Gold, Some(((_, place), _))) => {
                self.policies.entry(id.policy.clone()).or_default().gold.insert(place, id.clone());
                self.gold += 1;
                Shelf::Gold(place)
            }
            _ => {
                self.changes += 1;
                self.idle.insert(self.changes, id.clone());
                Shelf::Idle(self.changes)
            }
        };
        if let Some((_, held)) = self.events.get_mut(id) {
            *held = Some(shelf);
        }
    }

    /// Takes an event from its shelf. The event itself stays.
    fn take(&mut self, id: &RoundId) {
        let Some(shelf) = self.events.get_mut(id).and_then(|(_, shelf)| shelf.take()) else { return };
        match shelf {
            Shelf::Open(lane, place, reason) => {
                if let Some(lane) =
                    self.policies.get_mut(&id.policy).and_then(|policy| policy.lanes.get_mut(&lane))
                {
                    lane.remove(&place);
                }
                decrement(self.open.get_mut(reason.word()));
                decrement(self.open_lanes.get_mut(&lane));
            }
            Shelf::Gold(place) => {
                if let Some(policy) = self.policies.get_mut(&id.policy) {
                    policy.gold.remove(&place);
                }
                self.gold -= 1;
            }
            Shelf::Idle(number) => {
                self.idle.remove(&number);
            }
        }
    }

    /// Drops events while there are more than `bound` that are open, with a reference answer, or idle. Of open ones, the
    /// oldest of the lane [`Lane::Uncertain`] are dropped first, and audits last.
    pub fn drop_excess(&mut self, bound: usize) -> Vec<Dropped> {
        let mut dropped = Vec::new();
        while self.open_total() > bound {
            let Some((lane, id)) = self.oldest_droppable() else { break };
            self.remove(&id);
            dropped.push(Dropped::Open(lane));
        }
        while self.gold > bound {
            let oldest = self.policies.values().filter_map(|policy| policy.gold.first_key_value()).min();
            let Some(id) = oldest.map(|(_, id)| id.clone()) else { break };
            self.remove(&id);
            dropped.push(Dropped::Gold);
        }
        while self.idle.len() > bound {
            let Some(id) = self.idle.first_key_value().map(|(_, id)| id.clone()) else { break };
            self.remove(&id);
            dropped.push(Dropped::Idle);
        }
        dropped
    }

    fn oldest_droppable(&self) -> Option<(Lane, RoundId)> {
        [Lane::Uncertain, Lane::Held, Lane::Audit].into_iter().find_map(|lane| {
            let of_policy =
                self.policies.values().filter_map(|policy| policy.lanes.get(&lane)?.first_key_value());
            of_policy.min().map(|(_, id)| (lane, id.clone()))
        })
    }

    fn remove(&mut self, id: &RoundId) {
        self.take(id);
        self.events.remove(id);
    }

    /// The number of open requests.
    pub fn open_total(&self) -> usize {
        self.open_lanes.values().sum()
    }

    /// The number of open requests by their first reason.
    pub fn open_by_reason(&self) -> impl Iterator<Item = (&'static str, usize)> {
        ReviewReason::ALL
            .into_iter()
            .map(|reason| (reason.word(), self.open.get(reason.word()).copied().unwrap_or(0)))
    }

    /// The number of requests with a reference answer.
    pub fn gold_total(&self) -> usize {
        self.gold
    }

    /// The time of the oldest open request.
    pub fn oldest(&self) -> Option<Millis> {
        let lanes = self.policies.values().flat_map(|policy| policy.lanes.values());
        lanes.filter_map(|lane| lane.first_key_value()).map(|(place, _)| place.time).min()
    }
}

fn decrement(count: Option<&mut usize>) {
    if let Some(count) = count {
        *count = count.saturating_sub(1);
    }
}
