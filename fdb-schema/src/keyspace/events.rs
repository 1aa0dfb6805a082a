//! Keys of events that wait for their targets, or were given up, and of what counts them.

use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3;

use super::{DIVIDER, Key, Space};
use crate::record::EventPlace;

/// Events of a target are in so many queues, each of which is delivered in order and for itself.
pub const EVENT_STRIPES: u8 = 8;

/// The queue of an object's events.
pub fn event_stripe(bucket: &str, key: &str) -> u8 {
    let mut hash = Xxh3::new();
    hash.update(bucket.as_bytes());
    hash.update(&[DIVIDER]);
    hash.update(key.as_bytes());
    // Less than the number of stripes.
    (hash.digest() % u64::from(EVENT_STRIPES)) as u8
}

/// All that waits for a target.
pub fn events(target: &str) -> Bytes {
    Key::of(Space::Event).bucket(target).done()
}

/// What waits in one queue of a target.
pub fn event_queue(target: &str, stripe: u8) -> Bytes {
    Key::of(Space::Event).bucket(target).byte(stripe).done()
}

pub fn event(target: &str, place: EventPlace) -> Bytes {
    Key::of(Space::Event).bucket(target).raw(&place.0).done()
}

/// What stands in the key of a new event before the stamp of its commit, and after it.
pub fn new_event(target: &str, stripe: u8, era: u32, number: u16) -> (Bytes, Bytes) {
    let before = Key::of(Space::Event).bucket(target).byte(stripe).raw(&era.to_be_bytes()).done();
    (before, Bytes::copy_from_slice(&number.to_be_bytes()))
}

/// All that a target was not told, in one queue.
pub fn dead_event_queue(target: &str, stripe: u8) -> Bytes {
    Key::of(Space::DeadEvent).bucket(target).byte(stripe).done()
}

pub fn dead_events(target: &str) -> Bytes {
    Key::of(Space::DeadEvent).bucket(target).done()
}

pub fn dead_event(target: &str, place: EventPlace) -> Bytes {
    Key::of(Space::DeadEvent).bucket(target).raw(&place.0).done()
}

/// The target and the place of an event's key, of one that waits or is dead.
pub fn split_event(key: &[u8]) -> Option<(&str, EventPlace)> {
    let rest = key.get(1..)?;
    let (target, place) = rest.split_at_checked(rest.len().checked_sub(EventPlace::BYTES)?)?;
    let target = std::str::from_utf8(target.strip_suffix(&[DIVIDER])?).ok()?;
    Some((target, EventPlace(place.try_into().ok()?)))
}

/// What a counter of events counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EventField {
    /// Of a bucket.
    BucketWaiting = 1,
    BucketLost = 2,
    /// Of a target.
    Waiting = 3,
    Dead = 4,
    Lost = 5,
}

impl EventField {
    const ALL: [Self; 5] = [Self::BucketWaiting, Self::BucketLost, Self::Waiting, Self::Dead, Self::Lost];
}

/// `name`: of a bucket or a target.
pub fn event_count(field: EventField, name: &str) -> Bytes {
    Key::of(Space::EventCount).byte(field as u8).raw(name.as_bytes()).done()
}

/// All counters of a kind.
pub fn event_counts(field: EventField) -> Bytes {
    event_count(field, "")
}

pub fn split_event_count(key: &[u8]) -> Option<(EventField, &str)> {
    let field = EventField::ALL.into_iter().find(|field| key.get(1) == Some(&(*field as u8)))?;
    Some((field, std::str::from_utf8(key.get(2..)?).ok()?))
}

pub fn event_era() -> Bytes {
    Key::of(Space::EventEra).done()
}
