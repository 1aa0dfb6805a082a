//! What a bucket's events are told to, and what becomes of those that wait.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::{
    codec::Stored,
    error::{MetaError, Result},
    ids::AttemptId,
    keyspace::{self, EVENT_STRIPES, EventField},
    kv::{RangeQuery, counter, key_after, prefix_end},
    record::{
        Bucket, BucketDocument, BucketEvents, DeadEvent, Event, EventCounts, EventKind, EventPlace, EventRule, Origin,
        QueuedEvent, document, rows::AttemptRow,
    },
    verbs::{
        Meta, Verb, attempts, documents, outbox,
        tx::{Outcome, Tx, transact},
    },
};

/// Of the rules of a bucket, which every change in it reads with its row.
pub const MAX_RULE_BYTES: usize = 32 << 10;
/// Dead events of a target that are kept.
pub const MAX_DEAD_EVENTS: u64 = 10_000;
/// Events that one call delivers, gives up or takes up again.
pub const MAX_EVENTS_AT_ONCE: usize = 500;
/// Targets and buckets that are told of.
const MAX_COUNTED: usize = 1000;
const MAX_TARGET_BYTES: usize = 64;
/// What is kept of the reason for which an event was given up.
const MAX_WHY_CHARS: usize = 300;

impl Meta {
    /// Replaces what is told of a bucket: the document as it was put, and the rules that it means. With `test` every
    /// target that the rules name is sent an event that says so. None and no rules end it; what waits is still told.
    ///
    /// # Errors
    /// Invalid for rules that overlap, TooLarge for more than [`MAX_RULE_BYTES`] of them.
    pub fn set_notifications<'a>(
        &'a self,
        bucket: &'a str,
        document: Option<Vec<u8>>,
        rules: Vec<EventRule>,
        test: Option<Origin>,
    ) -> Verb<'a, ()> {
        Box::pin(async move {
            check_rules(&rules)?;
            let rows = document.map(|body| document::rows(&body)).transpose()?.unwrap_or_default();
            let attempt = AttemptId::random();
            transact!(self, "set_notifications", |tx| set(tx, attempt, bucket, &rows, &rules, test.as_ref()))
        })
    }

    /// The first events that wait in one queue of a target, in order.
    pub fn queued_events<'a>(&'a self, target: &'a str, stripe: u8, limit: usize) -> Verb<'a, Vec<QueuedEvent>> {
        Box::pin(async move { transact!(self, "queued_events", |tx| queued(tx, target, stripe, limit)) })
    }

    /// Forgets events that were delivered, at most [`MAX_EVENTS_AT_ONCE`]. Some may be gone already.
    pub fn events_delivered<'a>(&'a self, target: &'a str, places: &'a [EventPlace]) -> Verb<'a, ()> {
        Box::pin(async move {
            check_count(places)?;
            transact!(self, "events_delivered", |tx| async {
                take(tx, target, places).await?;
                Ok(())
            })
        })
    }

    /// Gives events up, at most [`MAX_EVENTS_AT_ONCE`]: they are kept until somebody takes them up again, but no more
    /// than [`MAX_DEAD_EVENTS`] of a target. Those that are dropped for others are counted as lost.
    pub fn bury_events<'a>(&'a self, target: &'a str, places: &'a [EventPlace], why: &'a str) -> Verb<'a, ()> {
        Box::pin(async move {
            check_count(places)?;
            let why: String = why.chars().take(MAX_WHY_CHARS).collect();
            transact!(self, "bury_events", |tx| bury(tx, target, places, &why))
        })
    }

    /// What was given up of a target, in the order of their places; `after` is the last one that is known.
    pub fn dead_events<'a>(
        &'a self,
        target: &'a str,
        after: Option<EventPlace>,
        limit: usize,
    ) -> Verb<'a, Vec<(EventPlace, DeadEvent)>> {
        Box::pin(async move { transact!(self, "dead_events", |tx| dead(tx, target, after, limit)) })
    }

    /// Lets dead events wait again, where they stood; at most [`MAX_EVENTS_AT_ONCE`]. Those of their keys that came
    /// later may have been told before.
    pub fn redeliver_events<'a>(&'a self, target: &'a str, places: &'a [EventPlace]) -> Verb<'a, ()> {
        Box::pin(async move {
            check_count(places)?;
            transact!(self, "redeliver_events", |tx| redeliver(tx, target, places))
        })
    }

    /// Forgets dead events, at most [`MAX_EVENTS_AT_ONCE`].
    pub fn discard_events<'a>(&'a self, target: &'a str, places: &'a [EventPlace]) -> Verb<'a, ()> {
        Box::pin(async move {
            check_count(places)?;
            transact!(self, "discard_events", |tx| async {
                exhume(tx, target, places).await?;
                Ok(())
            })
        })
    }

    /// What there is for each target that there ever was something for, by name.
    pub fn event_counts(&self) -> Verb<'_, Vec<EventCounts>> {
        Box::pin(async move { transact!(self, "event_counts", |tx| counts(tx)) })
    }

    /// Buckets that have events waiting or lost some, by name; at most 1000.
    pub fn bucket_events(&self) -> Verb<'_, Vec<BucketEvents>> {
        Box::pin(async move { transact!(self, "bucket_events", |tx| of_buckets(tx)) })
    }
}

fn check_count(places: &[EventPlace]) -> Result<()> {
    let (actual, limit) = (places.len() as u64, MAX_EVENTS_AT_ONCE as u64);
    if actual > limit { Err(MetaError::TooLarge { what: "events at once", actual, limit }) } else { Ok(()) }
}

fn check_rules(rules: &[EventRule]) -> Result<()> {
    let invalid = |why: String| Err(MetaError::Invalid { what: "notification rules", why });
    for (place, rule) in rules.iter().enumerate() {
        let target = &rule.target;
        if target.is_empty() || target.len() > MAX_TARGET_BYTES || target.contains('\0') {
            return invalid(format!("a target has a name of 1 to {MAX_TARGET_BYTES} bytes"));
        }
        if let Some(other) = rules[..place].iter().find(|other| other.overlaps(rule)) {
            return invalid(format!("{} and {} overlap", other.id, rule.id));
        }
    }
    let texts = |rule: &EventRule| rule.id.len() + rule.target.len() + rule.prefix.len() + rule.suffix.len();
    // What a rule takes besides its texts is at most this, whatever its kinds.
    let bytes: usize = rules.iter().map(|rule| texts(rule) + 64 + 24 * rule.kinds.len()).sum();
    if bytes > MAX_RULE_BYTES {
        let (actual, limit) = (bytes as u64, MAX_RULE_BYTES as u64);
        return Err(MetaError::TooLarge { what: "notification rules", actual, limit });
    }
    Ok(())
}

async fn set(
    tx: &mut Tx,
    attempt: AttemptId,
    name: &str,
    rows: &[Bytes],
    rules: &[EventRule],
    test: Option<&Origin>,
) -> Outcome<()> {
    tx.prefetch(&[keyspace::attempt(attempt), keyspace::bucket(name)]).await?;
    if attempts::done_before(tx, attempt).await? {
        return Ok(());
    }
    let bucket = tx.bucket(name).await?;
    documents::replace(tx, name, BucketDocument::Notification, rows);
    let mut targets: Vec<&EventRule> = rules.iter().collect();
    targets.sort_by(|one, other| one.target.cmp(&other.target));
    targets.dedup_by(|one, other| one.target == other.target);
    for rule in test.map(|_| targets).unwrap_or_default() {
        let event = Event {
            kind: EventKind::Test,
            bucket: name.to_owned(),
            key: String::new(),
            version: None,
            object: None,
            at_ms: tx.now_ms,
            queued_ms: tx.now_ms,
            rule: rule.id.clone(),
            origin: test.cloned().unwrap_or_default(),
        };
        outbox::queue(tx, &rule.target, &event).await?;
    }
    tx.set(keyspace::bucket(name), &Bucket { event_rules: rules.to_vec(), ..bucket });
    attempts::remember(tx, attempt, &AttemptRow::Done);
    Ok(())
}

fn place_of(key: &[u8]) -> Result<EventPlace> {
    let place = keyspace::split_event(key).map(|(_, place)| place);
    place.ok_or_else(|| MetaError::Corrupt { what: "event row", why: format!("key {}", hex::encode(key)) })
}

async fn queued(tx: &mut Tx, target: &str, stripe: u8, limit: usize) -> Outcome<Vec<QueuedEvent>> {
    let page = tx.range(RangeQuery::prefix(keyspace::event_queue(target, stripe), limit).snapshot()).await?;
    let read =
        |(key, value): &(Bytes, Bytes)| Ok(QueuedEvent { place: place_of(key)?, event: Event::read(key, value)? });
    Ok(page.rows.iter().map(read).collect::<Result<_>>()?)
}

/// Takes waiting events away, of which some may be gone; those that were there.
async fn take(tx: &mut Tx, target: &str, places: &[EventPlace]) -> Outcome<Vec<QueuedEvent>> {
    let keys: Vec<Bytes> = places.iter().map(|place| keyspace::event(target, *place)).collect();
    let events = tx.get_many::<Event>(&keys).await?;
    let mut taken = Vec::with_capacity(places.len());
    let mut of_buckets = BTreeMap::<String, i64>::new();
    for ((key, place), event) in keys.into_iter().zip(places).zip(events) {
        let Some(event) = event else { continue };
        tx.clear(key);
        *of_buckets.entry(event.bucket.clone()).or_default() += 1;
        taken.push(QueuedEvent { place: *place, event });
    }
    for (bucket, events) in of_buckets {
        count_taken(tx, &bucket, events).await?;
    }
    tx.add(keyspace::event_count(EventField::Waiting, target), -signed(taken.len()));
    Ok(taken)
}

/// The counter of a bucket that is no more goes with its last event.
async fn count_taken(tx: &mut Tx, bucket: &str, events: i64) -> Outcome<()> {
    let key = keyspace::event_count(EventField::BucketWaiting, bucket);
    let is_last =
        tx.raw(&keyspace::bucket(bucket)).await?.is_none() && counter(tx.raw(&key).await?.as_deref()) <= events;
    if is_last {
        tx.clear(key);
        tx.clear(keyspace::event_count(EventField::BucketLost, bucket));
    } else {
        tx.add(key, -events);
    }
    Ok(())
}

/// Those of a bucket that goes, but for what counts events that wait still: that goes with the last of them.
pub(crate) async fn forget_counters(tx: &mut Tx, bucket: &str) -> Outcome<()> {
    let key = keyspace::event_count(EventField::BucketWaiting, bucket);
    if counter(tx.raw(&key).await?.as_deref()) == 0 {
        tx.clear(key);
    }
    tx.clear(keyspace::event_count(EventField::BucketLost, bucket));
    Ok(())
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

async fn bury(tx: &mut Tx, target: &str, places: &[EventPlace], why: &str) -> Outcome<()> {
    let died_ms = tx.now_ms;
    let taken = take(tx, target, places).await?;
    let count_key = keyspace::event_count(EventField::Dead, target);
    let before = counter(tx.raw(&count_key).await?.as_deref());
    let after = before.saturating_add(signed(taken.len()));
    let dropped = usize::try_from(after.saturating_sub(signed(MAX_DEAD_EVENTS as usize))).unwrap_or(0);
    let mut dropped_now = 0;
    if dropped > 0 {
        let page = tx.range(RangeQuery::prefix(keyspace::dead_events(target), dropped)).await?;
        for (key, value) in page.rows {
            let dead = DeadEvent::read(&key, &value)?;
            tx.add(keyspace::event_count(EventField::BucketLost, &dead.event.bucket), 1);
            tx.clear(key);
            dropped_now += 1;
        }
        tx.add(keyspace::event_count(EventField::Lost, target), dropped_now);
    }
    tx.add(count_key, signed(taken.len()) - dropped_now);
    for QueuedEvent { place, event } in taken {
        tx.set(keyspace::dead_event(target, place), &DeadEvent { event, died_ms, why: why.to_owned() });
    }
    Ok(())
}

async fn dead(
    tx: &mut Tx,
    target: &str,
    after: Option<EventPlace>,
    limit: usize,
) -> Outcome<Vec<(EventPlace, DeadEvent)>> {
    let all = keyspace::dead_events(target);
    let end = prefix_end(&all);
    let begin = after.map_or(all, |after| key_after(&keyspace::dead_event(target, after)));
    let page = tx.range(RangeQuery::new(begin, end, limit).snapshot()).await?;
    let read = |(key, value): &(Bytes, Bytes)| Ok((place_of(key)?, DeadEvent::read(key, value)?));
    Ok(page.rows.iter().map(read).collect::<Result<_>>()?)
}

/// Takes dead events away, of which some may be gone; those that were there.
async fn exhume(tx: &mut Tx, target: &str, places: &[EventPlace]) -> Outcome<Vec<(EventPlace, DeadEvent)>> {
    let keys: Vec<Bytes> = places.iter().map(|place| keyspace::dead_event(target, *place)).collect();
    let dead = tx.get_many::<DeadEvent>(&keys).await?;
    let mut found = Vec::with_capacity(places.len());
    for ((key, place), dead) in keys.into_iter().zip(places).zip(dead) {
        let Some(dead) = dead else { continue };
        tx.clear(key);
        found.push((*place, dead));
    }
    tx.add(keyspace::event_count(EventField::Dead, target), -signed(found.len()));
    Ok(found)
}

async fn redeliver(tx: &mut Tx, target: &str, places: &[EventPlace]) -> Outcome<()> {
    let queued_ms = tx.now_ms;
    let found = exhume(tx, target, places).await?;
    tx.add(keyspace::event_count(EventField::Waiting, target), signed(found.len()));
    for (place, DeadEvent { event, .. }) in found {
        tx.add(keyspace::event_count(EventField::BucketWaiting, &event.bucket), 1);
        tx.set(keyspace::event(target, place), &Event { queued_ms, ..event });
    }
    Ok(())
}

async fn counts(tx: &mut Tx) -> Outcome<Vec<EventCounts>> {
    let mut counts = BTreeMap::<String, EventCounts>::new();
    for field in [EventField::Waiting, EventField::Dead, EventField::Lost] {
        for (target, count) in counted(tx, field).await? {
            let named = counts.entry(target.clone()).or_insert(EventCounts { target, ..EventCounts::default() });
            match field {
                EventField::Waiting => named.waiting = count,
                EventField::Dead => named.dead = count,
                EventField::Lost | EventField::BucketLost | EventField::BucketWaiting => named.lost = count,
            }
        }
    }
    for named in counts.values_mut().filter(|named| named.waiting > 0) {
        for stripe in 0..EVENT_STRIPES {
            let first = queued(tx, &named.target, stripe, 1).await?;
            let queued_ms = first.first().map(|first| first.event.queued_ms);
            named.oldest_ms = named.oldest_ms.into_iter().chain(queued_ms).min();
        }
    }
    Ok(counts.into_values().collect())
}

async fn of_buckets(tx: &mut Tx) -> Outcome<Vec<BucketEvents>> {
    let mut buckets = BTreeMap::<String, BucketEvents>::new();
    for field in [EventField::BucketWaiting, EventField::BucketLost] {
        for (bucket, count) in counted(tx, field).await?.into_iter().filter(|(_, count)| *count > 0) {
            let new = BucketEvents { bucket: bucket.clone(), waiting: 0, lost: 0 };
            let named = buckets.entry(bucket).or_insert(new);
            if field == EventField::BucketWaiting {
                named.waiting = count;
            } else {
                named.lost = count;
            }
        }
    }
    Ok(buckets.into_values().collect())
}

/// The counters of a kind, by name.
async fn counted(tx: &mut Tx, field: EventField) -> Outcome<Vec<(String, u64)>> {
    let page = tx.range(RangeQuery::prefix(keyspace::event_counts(field), MAX_COUNTED).snapshot()).await?;
    let read = |(key, value): &(Bytes, Bytes)| {
        let (_, name) = keyspace::split_event_count(key)?;
        Some((name.to_owned(), u64::try_from(counter(Some(value))).unwrap_or_default()))
    };
    Ok(page.rows.iter().filter_map(read).collect())
}
