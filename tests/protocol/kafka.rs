//! What the brokers promise: one log of outputs, transactional ids with epochs, one group with one
//! partition, and requests that are still on their way.
//!
//! Requests that the client waits for and may repeat (initialise, begin, offsets, abort) are one step; the
//! two that can be late and do harm, the records and the end of a transaction, travel on `wire`, and arrive
//! at any later step, also when their sender is dead.

/// A client, by number.
pub type Who = usize;

/// A place in the log of outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Entry<R> {
    /// Written in a transaction that is open yet, of this transactional id.
    Open(usize, R),
    /// Visible.
    Committed(R),
    /// Of an aborted transaction: invisible, but its offset is used up.
    Aborted,
}

/// A transactional id.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Id {
    /// Who initialised last has this epoch.
    pub epoch: u8,
    /// Whether a transaction is open.
    pub open: bool,
    /// The consumed offset that it will commit.
    pub offset: Option<usize>,
}

/// A consumer group over a topic of one partition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Group {
    /// Rises with every change of members.
    pub generation: u8,
    /// Whose partition it is.
    pub owner: Option<Who>,
    /// The committed offset.
    pub committed: usize,
}

/// What is on its way to the brokers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Request<R> {
    /// Who waits for the answer; nobody where the sender gave up or died.
    pub by: Option<Who>,
    pub id: usize,
    pub epoch: u8,
    pub what: What<R>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum What<R> {
    /// Append these to the open transaction.
    Records(Vec<R>),
    /// Commit the open transaction.
    Commit,
}

/// Why a request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Another holds the transactional id, or the brokers gave the transaction up.
    Fenced,
    /// The generation is over: this is no member.
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
    /// Whether an old epoch is refused: a safeguard.
    pub fencing: bool,
}

impl<R: Clone> Kafka<R> {
    pub fn new(ids: usize, fencing: bool) -> Self {
        let (log, ids, group, wire) = (vec![], vec![Id::default(); ids], Group::default(), vec![]);
        Self { log, ids, group, wire, fencing }
    }

    /// Takes a transactional id over: ends what its last holder left open.
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

    /// Adds a consumed offset to the open transaction. An empty proof of membership is taken as it is.
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

    /// Aborts at the client's wish.
    pub fn abort(&mut self, id: usize, epoch: u8) -> Result<(), Refused> {
        self.admit(id, epoch)?;
        self.end(id, false);
        Ok(())
    }

    /// Gives a transaction up that took too long: its producer must not go on with it.
    pub fn time_out(&mut self, id: usize) {
        self.end(id, false);
        self.ids[id].epoch += 1;
    }

    /// Lets a request arrive. One without a transaction to belong to changes nothing.
    pub fn arrive(&mut self, at: usize) -> (Option<Who>, Result<(), Refused>) {
        let Request { by, id, epoch, what } = self.wire.remove(at);
        let answer = self.admit(id, epoch).and_then(|()| match what {
            _ if !self.ids[id].open => Err(Refused::Invalid),
            What::Records(records) => {
                self.log.extend(records.into_iter().map(|record| Entry::Open(id, record)));
                Ok(())
            }
            What::Commit => {
                self.end(id, true);
                Ok(())
            }
        });
        (by, answer)
    }

    /// Nobody waits for this client's requests any more; they arrive all the same.
    pub fn forget(&mut self, who: Who) {
        self.wire.iter_mut().filter(|request| request.by == Some(who)).for_each(|request| request.by = None);
    }

    /// The partition goes to this member; where it starts.
    pub fn join(&mut self, who: Who) -> usize {
        self.group.generation += 1;
        self.group.owner = Some(who);
        self.group.committed
    }

    /// The owner has left, or its session is over, whether it knows or not.
    pub fn evict(&mut self) {
        self.group.generation += 1;
        self.group.owner = None;
    }

    /// Counts epochs and generations anew, keeping their order, and lets go of requests that can do nothing
    /// any more: states that differ in nothing else are one. `epochs` and `proofs` are what clients hold.
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

    /// Whether no open transaction is about to change the committed offset: who asks for it waits for that.
    pub fn is_stable(&self) -> bool {
        self.ids.iter().all(|id| id.offset.is_none())
    }

    /// Visible outputs, in order.
    pub fn committed(&self) -> impl Iterator<Item = &R> {
        self.log.iter().filter_map(|entry| match entry {
            Entry::Committed(record) => Some(record),
            _ => None,
        })
    }

    /// How far a reader of committed records gets: up to the first open one.
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

/// Replaces each number by its place among them.
fn rank(mut numbers: Vec<&mut u8>) {
    numbers.sort_unstable();
    let (mut last, mut place) = (None, 0);
    for number in numbers {
        place += u8::from(last.is_some_and(|last| last != *number));
        last = Some(*number);
        *number = place;
    }
}
