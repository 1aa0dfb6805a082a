//! The commit: the one moment at which a blob becomes visible, and the only place that decides whether its fragments
//! may be deleted.

use std::{
    collections::HashMap,
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use cairn_schema::{MetaError, ids::GroupId, record::*, verbs::POLICY};

use super::pending::PendingBlob;
use crate::{data_path::DataPath, error::StoreError};

/// Repetitions of a commit whose outcome is unknown, or whose groups keep changing.
const TRIES: u32 = 6;
/// How long after its first call a verb is still called again: each call takes as long as a verb may, and a client
/// waits.
const REPEATED_FOR: Duration = Duration::from_secs(15);

/// Calls the verb with the blob. It runs to its end even if the caller is dropped: a commit that is under way may
/// succeed, so whoever deletes the fragments must know how it ended.
///
/// `verb` must be idempotent (it carries one attempt id), because it is repeated when its outcome is unknown. Fragments
/// are deleted only when it is certain that nothing refers to them.
pub(super) async fn commit<T, F, V>(data: &Arc<DataPath>, blob: Option<PendingBlob>, verb: V) -> Result<T, StoreError>
where
    T: Send + 'static,
    F: Future<Output = Result<T, MetaError>> + Send,
    V: Fn(Option<NewBlob>) -> F + Send + Sync + 'static,
{
    let data = data.clone();
    let task = tokio::spawn(async move {
        match blob {
            Some(blob) => commit_blob(&data, blob, verb).await,
            None => until_known(&verb, None, Instant::now()).await.map_err(|failure| failure.error.into()),
        }
    });
    let lost = |_| StoreError::Meta(MetaError::CommitUnknown("the commit's task ended early".into()));
    task.await.unwrap_or_else(|error| Err(lost(error)))
}

async fn commit_blob<T, F, V>(data: &Arc<DataPath>, mut pending: PendingBlob, verb: V) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, MetaError>> + Send,
    V: Fn(Option<NewBlob>) -> F + Send + Sync,
{
    let (id, scheme) = pending.identity().ok_or(StoreError::ShuttingDown)?;
    let mut now = HashMap::new();
    // While nothing has been sent, dropping `pending` deletes: that is right for every early return of this loop's
    // first turn.
    reread(data, &pending.groups_of_two_minds(), &mut now).await?;
    let mut to_commit = pending.to_commit(id, scheme, &now, &data.placement)?;
    // From here a panic or a lost runtime must not delete: only a certain failure does.
    let remains = pending.disarm();
    let mut unsure = false;
    let mut tries = 0;
    let begun = Instant::now();
    let result = loop {
        tries += 1;
        let absent = to_commit.missing.len();
        let failure = match until_known(&verb, Some(to_commit), begun).await {
            Ok(done) => {
                data.metrics.fragments_absent.inc_by(absent as u64);
                return Ok(done);
            }
            Err(failure) => failure,
        };
        unsure |= failure.unsure;
        match failure.error {
            MetaError::GroupChanged(group) if tries < TRIES && begun.elapsed() < REPEATED_FOR => {
                tracing::debug!(blob = %id, %group, "a group changed under a write");
                if let Err(error) = reread(data, &pending.groups(), &mut now).await {
                    break Err(error);
                }
                match pending.to_commit(id, scheme, &now, &data.placement) {
                    Ok(again) => to_commit = again,
                    Err(error) => break Err(error),
                }
            }
            MetaError::Stale(POLICY) if tries < TRIES && begun.elapsed() < REPEATED_FOR => {
                tracing::info!(blob = %id, "the cluster's policy changed under a write, which is judged by the new one");
                let judged = match data.placement.refresh().await {
                    Ok(_) => pending.to_commit(id, scheme, &now, &data.placement),
                    Err(error) => Err(error.into()),
                };
                match judged {
                    Ok(again) => to_commit = again,
                    Err(error) => break Err(error),
                }
            }
            MetaError::Stale(POLICY) => break Err(StoreError::Busy("the cluster's policy keeps changing")),
            MetaError::GroupChanged(_) => break Err(StoreError::Busy("the groups of the write keep changing")),
            error => break Err(error.into()),
        }
    };
    if let (false, Some(remains)) = (unsure, remains) {
        data.cleaner.clean(remains);
    }
    result
}

async fn reread(data: &DataPath, groups: &[GroupId], now: &mut HashMap<GroupId, Arc<Group>>) -> Result<(), StoreError> {
    for id in groups {
        match data.placement.refresh_group(*id).await? {
            Some(group) => now.insert(*id, group),
            None => return Err(StoreError::Meta(MetaError::GroupChanged(*id))),
        };
    }
    Ok(())
}

#[derive(Debug)]
struct Failure {
    error: MetaError,
    /// Some try's outcome was never learned: what it would refer to must stay.
    unsure: bool,
}

/// Repeats the verb while its outcome is unknown, if there is time; `begun` is when it was called first.
async fn until_known<T, F, V>(verb: &V, blob: Option<NewBlob>, begun: Instant) -> Result<T, Failure>
where
    F: Future<Output = Result<T, MetaError>> + Send,
    V: Fn(Option<NewBlob>) -> F,
{
    let mut unsure = false;
    let mut pause = Duration::from_millis(20);
    let mut tries = 0;
    loop {
        tries += 1;
        let error = match verb(blob.clone()).await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        let MetaError::CommitUnknown(why) = &error else { return Err(Failure { error, unsure }) };
        unsure = true;
        if tries >= TRIES || begun.elapsed() >= REPEATED_FOR {
            return Err(Failure { error, unsure });
        }
        tracing::info!(why, "it is not known whether a change was committed; the store is asked again");
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// Answers `first` to the first calls, then `last`; how often it was called.
    async fn called(first: u32, last: Result<u8, MetaError>, begun: Instant) -> (Result<u8, Failure>, u32) {
        let calls = AtomicU32::new(0);
        let verb = |_| {
            let call = calls.fetch_add(1, Ordering::Relaxed);
            let answer = if call < first { Err(MetaError::CommitUnknown("test".into())) } else { last.clone() };
            async move { answer }
        };
        let result = until_known(&verb, None, begun).await;
        (result, calls.into_inner())
    }

    #[tokio::test]
    async fn an_unknown_commit_is_asked_about_again_and_never_taken_for_undone() {
        let (known, calls) = called(2, Ok(7), Instant::now()).await;
        assert_eq!((known.map_err(|failure| failure.error).unwrap(), calls), (7, 3));
        // GC-1: whatever came after, the first try may have done it.
        let (failed, calls) = called(1, Err(MetaError::Unavailable("test".into())), Instant::now()).await;
        let failure = failed.unwrap_err();
        assert!(failure.unsure && calls == 2, "{:?}", failure.error);
        let (failed, calls) = called(0, Err(MetaError::Unavailable("test".into())), Instant::now()).await;
        assert!(!failed.unwrap_err().unsure && calls == 1);
    }

    /// BND-1: by number and by time.
    #[tokio::test]
    async fn asking_again_ends() {
        let (failed, calls) = called(u32::MAX, Ok(7), Instant::now()).await;
        assert!(failed.unwrap_err().unsure && calls == TRIES);
        let long_ago = Instant::now().checked_sub(REPEATED_FOR).unwrap();
        let (failed, calls) = called(u32::MAX, Ok(7), long_ago).await;
        assert!(failed.unwrap_err().unsure && calls == 1);
    }
}
