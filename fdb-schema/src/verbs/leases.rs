//! Leases: the right to do something alone, for a while.
//!
//! No clock is compared with another: whoever wants a lease that another holds watches its row, and takes it over after
//! it has seen it unchanged for the lease's whole time, on its own clock that never goes back. A holder counts its time
//! from before it asked, so the two never work at once as long as their clocks run at one speed; a holder that was
//! stopped (a frozen machine) may go on for a moment afterwards. Leases therefore only spare work. What must not be
//! done twice is guarded by what the work writes: a group's epoch, a row that must still be there. The term tells
//! holders apart: it grows with each change of holder, and is never used again.
//!
//! The scheme is that of C. Gray and D. Cheriton, "Leases: an efficient fault-tolerant mechanism for distributed file
//! cache consistency" (SOSP 1989), with the wait of the observer in place of clocks that agree.

use crate::{
    error::Result,
    ids::AttemptId,
    keyspace,
    record::{Lease, rows::AttemptRow},
    verbs::{
        Meta, Verb, attempts,
        tx::{Outcome, Tx, transact},
        watched::Watched,
    },
};

impl Meta {
    /// Takes or renews; None when another holds it. One that its holder does not renew is had by asking again, once it
    /// has been seen unchanged for its whole time.
    pub fn lease<'a>(&'a self, name: &'a str, holder: &'a str, ttl_ms: u64) -> Verb<'a, Option<Lease>> {
        Box::pin(async move {
            let lease = transact!(self, "lease", |tx| take(tx, &self.watched, name, holder, ttl_ms))?;
            if lease.is_some() {
                self.watched.forget(name);
            }
            Ok(lease)
        })
    }

    /// Gives it back before its time; nothing happens if another has it by now.
    pub fn release<'a>(&'a self, lease: &'a Lease) -> Verb<'a, ()> {
        Box::pin(async move {
            let attempt = AttemptId::random();
            transact!(self, "release", |tx| release(tx, attempt, lease))
        })
    }
}

async fn take(tx: &mut Tx, watched: &Watched, name: &str, holder: &str, ttl_ms: u64) -> Outcome<Option<Lease>> {
    let key = keyspace::lease(name);
    let (term, renewal) = match &tx.get::<Lease>(&key).await? {
        None => (1, 0),
        Some(held) if held.holder == holder => (held.term, held.renewal.wrapping_add(1)),
        Some(held) if held.ttl_ms == 0 || watched.is_over(held) => (held.term + 1, 0),
        Some(_) => return Ok(None),
    };
    let lease = Lease { name: name.to_owned(), holder: holder.to_owned(), ttl_ms, term, renewal };
    tx.set(key, &lease);
    Ok(Some(lease))
}

async fn release(tx: &mut Tx, attempt: AttemptId, lease: &Lease) -> Outcome<()> {
    let key = keyspace::lease(&lease.name);
    tx.prefetch(&[keyspace::attempt(attempt), key.clone()]).await?;
    if attempts::done_before(tx, attempt).await? {
        return Ok(());
    }
    if let Some(held) = tx.get::<Lease>(&key).await?
        && held.holder == lease.holder
        && held.term == lease.term
    {
        // The row stays, given back: its term must not start again.
        tx.set(key, &Lease { ttl_ms: 0, ..held });
        attempts::remember(tx, attempt, &AttemptRow::Done);
    }
    Ok(())
}
