//! Rows that name attempts, so that one whose commit is unknown finds what it came to.
//!
//! Every try reads the row and writes it: of two tries of one attempt, at most one commits, even if the first commits
//! after the second began. Looking at the result instead would not do: between two tries another may have made it and
//! unmade it, and what the second try did again would undo what was acknowledged. The rows are forgotten after a while.

use crate::{
    error::Result,
    ids::AttemptId,
    keyspace,
    kv::RangeQuery,
    record::rows::AttemptRow,
    verbs::{
        Meta, Verb,
        tx::{Outcome, Tx, transact},
    },
};

impl Meta {
    /// Forgets attempts of before a time; true if there are more. Call it now and then, with a time that no retry can
    /// outlive: ages are told by the clocks of those who made the attempts.
    pub fn expire_attempts(&self, before_ms: u64) -> Verb<'_, bool> {
        Box::pin(async move { transact!(self, "expire_attempts", |tx| expire(tx, before_ms)) })
    }

    /// Forgets uploads that were completed before a time, at most `limit` in one call; how many there were. A Complete
    /// repeated after this finds no upload.
    pub fn expire_completed(&self, before_ms: u64, limit: usize) -> Verb<'_, usize> {
        Box::pin(async move { transact!(self, "expire_completed", |tx| expire_completed(tx, before_ms, limit)) })
    }
}

pub(crate) async fn earlier(tx: &mut Tx, attempt: AttemptId) -> Outcome<Option<AttemptRow>> {
    tx.get(&keyspace::attempt(attempt)).await
}

/// For verbs that answer nothing: whether an earlier try of this attempt did what was asked.
pub(crate) async fn done_before(tx: &mut Tx, attempt: AttemptId) -> Outcome<bool> {
    Ok(earlier(tx, attempt).await?.is_some())
}

pub(crate) fn remember(tx: &mut Tx, attempt: AttemptId, outcome: &AttemptRow) {
    tx.set(keyspace::attempt(attempt), outcome);
}

/// By range, however many there are; a few minutes' at once, because an embedded store keeps a row for each.
async fn expire(tx: &mut Tx, before_ms: u64) -> Outcome<bool> {
    const MINUTES_AT_ONCE: u32 = 5;
    let before = u32::try_from(before_ms / 60_000).unwrap_or(u32::MAX);
    let mut more = false;
    for shard in 0..keyspace::ATTEMPT_SHARDS {
        let (begin, end) = keyspace::attempts_before(shard, before);
        let page = tx.range(RangeQuery::new(begin.clone(), end.clone(), 1).snapshot()).await?;
        let Some(oldest) = page.rows.first().and_then(|(key, _)| keyspace::attempt_minute(key)) else { continue };
        let until = oldest.saturating_add(MINUTES_AT_ONCE).min(before);
        let (_, cleared) = keyspace::attempts_before(shard, until);
        more |= !tx.range(RangeQuery::new(cleared.clone(), end, 1).snapshot()).await?.rows.is_empty();
        tx.clear_range(begin, cleared);
    }
    Ok(more)
}

async fn expire_completed(tx: &mut Tx, before_ms: u64, limit: usize) -> Outcome<usize> {
    let mut left = limit;
    for shard in 0..keyspace::ATTEMPT_SHARDS {
        let (begin, end) = keyspace::completed_before(shard, before_ms);
        for (key, _) in tx.range(RangeQuery::new(begin, end, left).snapshot()).await?.rows {
            if let Some(upload) = keyspace::completed_time_upload(&key) {
                tx.clear(keyspace::completed(upload));
            }
            tx.clear(key);
            left -= 1;
        }
    }
    Ok(limit - left)
}
