//! A model of the brokers: one log of outputs, transactional ids with epochs, one group with one partition, and
//! requests in flight.
//!
//! Requests that the client waits for and may repeat (initialise, begin, offsets, abort) are one step. The two that can
//! be harmful if they are late, the records and the end of a transaction, are put on `wire` and arrive at any later
//! step, even if their sender is dead.

/// The number of a client.
pub type ClientId = usize;

/// An entry of the log of outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Entry<R> {
    /// A record of an open transaction of this transactional id.
    Open(usize, R),
    /// A visible record.
    Committed(R),
    /// A record of an aborted transaction. It is invisible, but uses an offset.
    Aborted,
}

/// A transactional id.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Id {
    /// The epoch of the client that initialised last.
    pub epoch: u8,
    /// `true` if a transaction is open.
    pub open: bool,
    /// The consumed offset that it will commit.
    pub offset: Option<usize>,
}

/// A consumer group over a topic of one partition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Group {
    /// The generation, which increases with every change of members.
    pub generation: u8,
    /// The owner of the partition.
    pub owner: Option<ClientId>,
    /// The committed offset.
    pub committed: usize,
}

/// A request in flight.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Request<R> {
    /// The client that waits for the answer; `None` if the sender gave up or died.
    pub by: Option<ClientId>,
    pub id: usize,
    pub epoch: u8,
    pub operation: Operation<R>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation<R> {
    /// Appends records to the open transaction.
    Records(Vec<R>),
    /// Commits the open transaction.
    Commit,
}

/// The reason for which a request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Another client holds the transactional id, or the brokers timed the transaction out.
    Fenced,
    /// The generation has ended, so the sender is not a member.
    Stale,
    /// No transaction is open.
    Invalid,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Kafka<R> {
    pub log: Vec<Entry<R>>,
    pub ids: Vec<Id>,
    pub group: Group,
    pub wire: Vec<Request<R>>,
    /// `true` if old epochs are refused, which is a safeguard.
    pub fencing: bool,
}

impl<R: Clone> Kafka<R> {
    pub fn new(ids: usize, fencing: bool) -> Self {
        let (log, ids, group, wire) = (vec![], vec![Id::default(); ids], Group::default(), vec![]);
        Self { log, ids, group, wire, fencing }
    }

    /// Takes over a transactional id, and aborts the open transaction of its last holder.
    pub fn initialise(&mut self, id: usize) -> u8 {
        self.end(id, false);
        self.ids[id].epoch += 1;
        self.ids[id].epoch
    }

    /// Opens a transaction.
    pub fn begin(&mut self, id: usize, epoch: u8) -> Result<(), Refused> {
        self.admit(id, epoch)?;
        self.ids[id].open = true;
        Ok(())
    }

    /// Adds a consumed offset to the open transaction. An empty proof of membership is not checked.
    pub fn offsets(&mut self, id: usize, epoch: u8, next: usize, proof: Option<u8>) -> Result<(), Refused> {
        self.admit(id, epoch)?;
        if proof.is_some_and(|generation| generation != self.group.generation) {
            return Err(Refused::Stale);
        }
        if !self.ids[id].open {
            return Err(Refused::Invalid);
        }
        self.ids[id].offset = Some(next);
        Ok(())
    }

    /// Aborts the open transaction for the client.
    pub fn abort(&mut self, id: usize, epoch: u8) -> Result<(), Refused> {
        self.admit(id, epoch)?;
        self.end(id, false);
        Ok(())
    }

    /// Aborts a transaction that took too long, and fences its producer.
    pub fn time_out(&mut self, id: usize) {
        self.end(id, false);
        self.ids[id].epoch += 1;
    }

    /// Delivers a request. It has no effect if its transaction is not open.
    pub fn arrive(&mut self, at: usize) -> (Option<ClientId>, Result<(), Refused>) {
        let Request { by, id, epoch, operation } = self.wire.remove(at);
        let answer = self.admit(id, epoch).and_then(|()| match operation {
            _ if !self.ids[id].open => Err(Refused::Invalid),
            Operation::Records(records) => {
                self.log.extend(records.into_iter().map(|record| Entry::Open(id, record)));
                Ok(())
            }
            Operation::Commit => {
                self.end(id, true);
                Ok(())
            }
        });
        (by, answer)
    }

    /// Makes the client stop waiting for its requests, which may still arrive.
    pub fn forget(&mut self, who: ClientId) {
        self.wire.iter_mut().filter(|request| request.by == Some(who)).for_each(|request| request.by = None);
    }

    /// Assigns the partition to this member. Returns the offset to start from.
    pub fn join(&mut self, who: ClientId) -> usize {
        self.group.generation += 1;
        self.group.owner = Some(who);
        self.group.committed
    }

    /// Removes the owner, which left or whose session ended. The owner may not have noticed.
    pub fn evict(&mut self) {
        self.group.generation += 1;
        self.group.owner = None;
    }

    /// Renumbers epochs and generations in their order, and drops requests that can have no effect, so that states
    /// that differ only in these are equal. `epochs` and `proofs` are those that clients hold.
    pub fn normalise(&mut self, epochs: Vec<(usize, &mut u8)>, proofs: Vec<&mut u8>) {
        if self.fencing {
            let ids = &self.ids;
            self.wire.retain(|request| request.by.is_some() || request.epoch == ids[request.id].epoch);
        }
        let mut held = epochs;
        held.extend(self.wire.iter_mut().map(|request| (request.id, &mut request.epoch)));
        for (number, id) in self.ids.iter_mut().enumerate() {
            let of = held.iter_mut().filter(|(id, _)| *id == number).map(|(_, epoch)| &mut **epoch);
            rank(of.chain([&mut id.epoch]).collect());
        }
        rank(proofs.into_iter().chain([&mut self.group.generation]).collect());
    }

    /// Returns `true` if no open transaction may change the committed offset. A client that fetches it waits for this.
    pub fn is_stable(&self) -> bool {
        self.ids.iter().all(|id| id.offset.is_none())
    }

    /// The visible outputs, in order.
    pub fn committed(&self) -> impl Iterator<Item = &R> {
        self.log.iter().filter_map(|entry| match entry {
            Entry::Committed(record) => Some(record),
            _ => None,
        })
    }

    /// The end of the log for a reader of committed records: the first open record.
    pub fn last_stable(&self) -> usize {
        self.log.iter().position(|entry| matches!(entry, Entry::Open(..))).unwrap_or(self.log.len())
    }

    fn admit(&self, id: usize, epoch: u8) -> Result<(), Refused> {
        if self.fencing && self.ids[id].epoch != epoch { Err(Refused::Fenced) } else { Ok(()) }
    }

    fn end(&mut self, id: usize, commit: bool) {
        for entry in &mut self.log {
            if let Entry::Open(of, record) = entry
                && *of == id
            {
                *entry = if commit { Entry::Committed(record.clone()) } else { Entry::Aborted };
            }
        }
        let offset = self.ids[id].offset.take();
        self.ids[id].open = false;
        if commit && let Some(next) = offset {
            self.group.committed = next;
        }
    }
}

/// Replaces each number by its rank among them.
fn rank(mut numbers: Vec<&mut u8>) {
    numbers.sort_unstable();
    let (mut last, mut place) = (None, 0);
    for number in numbers {
        place += u8::from(last.is_some_and(|last| last != *number));
        last = Some(*number);
        *number = place;
    }
}
