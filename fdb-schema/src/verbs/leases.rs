//! Leases: the right to do something alone, for a while.
//!
//! Clocks: a lease ends by the clock of whoever asks for it. If clocks differ by at most `d`, a holder that stops `d`
//! before the end (by its own clock) never works beside the next one; one that does not may, for `d`. Leases therefore
//! only spare work. What must not be done twice is guarded by what the work writes: a group's epoch, a row that must
//! still be there. The term tells holders apart: it grows with each change of holder, and is never used again.

use crate::{
    error::Result,
    ids::AttemptId,
    keyspace,
    record::{Lease, rows::AttemptRow},
    verbs::{
        Meta, Verb, attempts,
        tx::{Outcome, Tx, transact},
    },
};

impl Meta {
    /// Takes or renews; None when another holds it.
    pub fn lease<'a>(&'a self, name: &'a str, holder: &'a str, ttl_ms: u64) -> Verb<'a, Option<Lease>> {
        Box::pin(async move { transact!(self, "lease", |tx| take(tx, name, holder, ttl_ms)) })
    }

    /// Gives it back before its time; nothing happens if another has it by now.
    pub fn release<'a>(&'a self, lease: &'a Lease) -> Verb<'a, ()> {
        Box::pin(async move {
            let attempt = AttemptId::random();
            transact!(self, "release", |tx| release(tx, attempt, lease))
        })
    }
}

async fn take(tx: &mut Tx, name: &str, holder: &str, ttl_ms: u64) -> Outcome<Option<Lease>> {
    let key = keyspace::lease(name);
    let held = tx.get::<Lease>(&key).await?;
    let term = match &held {
        None => 1,
        Some(held) if held.holder == holder => held.term,
        Some(held) if held.expires_ms > tx.now_ms => return Ok(None),
        Some(held) => held.term + 1,
    };
    let lease =
        Lease { name: name.to_owned(), holder: holder.to_owned(), expires_ms: tx.now_ms.saturating_add(ttl_ms), term };
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
        // The row stays, expired: its term must not start again.
        tx.set(key, &Lease { expires_ms: 0, ..held });
        attempts::remember(tx, attempt, &AttemptRow::Done);
    }
    Ok(())
}
