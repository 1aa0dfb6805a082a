//! Events: one for every change that was committed and asked for, in the order of the commits, none for any other.
#![allow(clippy::unwrap_used)]

mod common;
use std::{io::Cursor, sync::Arc};

use cairn_schema::{
    Meta, MetaError,
    ids::*,
    keyspace::EVENT_STRIPES,
    kv::{
        SharedKv,
        inject::{Fault, Injecting},
    },
    record::*,
    verbs::*,
};
use common::*;
use proptest::prelude::*;

fn rule(target: &str, kinds: &[EventKind], prefix: &str, suffix: &str) -> EventRule {
    EventRule {
        id: format!("{target} {prefix}*{suffix}"),
        target: target.into(),
        kinds: kinds.to_vec(),
        prefix: prefix.into(),
        suffix: suffix.into(),
    }
}

async fn told(meta: &Meta, bucket: &str, rules: Vec<EventRule>) {
    meta.set_notifications(bucket, Some(b"<x/>".to_vec()), rules, None).await.unwrap();
}

/// What waits for a target, in the order of the commits.
async fn waiting(meta: &Meta, target: &str) -> Vec<QueuedEvent> {
    let mut all = Vec::new();
    for stripe in 0..EVENT_STRIPES {
        let queue = meta.queued_events(target, stripe, 10_000).await.unwrap();
        assert!(queue.windows(2).all(|pair| pair[0].place < pair[1].place), "a queue is in order");
        assert!(queue.iter().all(|queued| queued.place.stripe() == stripe));
        all.extend(queue);
    }
    all.sort_by_key(|queued| queued.place.sequencer());
    all
}

async fn shown(meta: &Meta, target: &str) -> Vec<(EventKind, String)> {
    waiting(meta, target).await.into_iter().map(|queued| (queued.event.kind, queued.event.key)).collect()
}

fn origin(request: &str) -> Origin {
    Origin { principal: "p".into(), address: "192.0.2.1".into(), request: request.into() }
}

async fn count(meta: &Meta, target: &str) -> EventCounts {
    let counts = meta.event_counts().await.unwrap().into_iter().find(|counts| counts.target == target);
    counts.unwrap_or_default()
}

#[tokio::test]
async fn every_kind_of_change_is_told_once_and_says_what_it_was() {
    for versioning in [Versioning::Off, Versioning::Enabled] {
        let (kvs, _directory) = every_kv();
        for (name, kv) in kvs {
            every_kind_of_change(name, kv, versioning).await;
        }
    }
}

pub(crate) async fn every_kind_of_change(name: &str, kv: SharedKv, versioning: Versioning) {
    let meta = Meta::new(kv);
    let group = group(&meta).await;
    meta.create_bucket(bucket("b", versioning)).await.unwrap();
    told(&meta, "b", vec![rule("t", &EventKind::ALL, "", "")]).await;
    let made = CommitObject { cause: Cause::new(EventKind::CreatedByPost, origin("put")), ..put(&group, "b", "k", 5) };
    let made = meta.commit_object(made).await.unwrap().version;
    meta.copy_object(copy(("b", "k"), ("b", "copy"))).await.unwrap();
    let tagged = Cause::new(EventKind::TagsDeleted, Origin::default());
    meta.set_tags("b", "k", VersionSelector::Current, Vec::new(), tagged).await.unwrap();
    let begun = upload("b", "parts");
    meta.create_upload(begun.clone()).await.unwrap();
    let part = meta.put_part(put_part(&group, &begun, 1, 9)).await.unwrap();
    meta.complete_upload(complete(&begun, std::slice::from_ref(&part))).await.unwrap();
    meta.complete_upload(complete(&begun, &[part])).await.unwrap();
    meta.delete_object(delete("b", "k", VersionSelector::Current)).await.unwrap();
    meta.delete_object(delete("b", "none", VersionSelector::Id(VersionId::NULL))).await.unwrap();
    let copied = meta.locate("b", "copy", VersionSelector::Current, RangeRequest::Nothing).await.unwrap().version;
    let (attempt, ending) = (AttemptId::random(), Ending::Current);
    let end = EndVersion { attempt, bucket: "b".into(), key: "copy".into(), version: copied.clone(), ending };
    assert!(meta.end_version(end).await.unwrap());
    let versioned = versioning == Versioning::Enabled;
    let (deleted, expired) = match versioned {
        true => (EventKind::Marked, EventKind::ExpiredByMarker),
        false => (EventKind::Removed, EventKind::Expired),
    };
    let mut expected = vec![
        (EventKind::CreatedByPost, "k".to_owned()),
        (EventKind::CreatedByCopy, "copy".to_owned()),
        (EventKind::TagsDeleted, "k".to_owned()),
        (EventKind::CreatedByUpload, "parts".to_owned()),
        (deleted, "k".to_owned()),
        (expired, "copy".to_owned()),
    ];
    if versioned {
        meta.delete_object(delete("b", "k", VersionSelector::Id(made.id))).await.unwrap();
        let noncurrent = EndVersion {
            attempt: AttemptId::random(),
            bucket: "b".into(),
            key: "copy".into(),
            version: copied,
            ending: Ending::Noncurrent,
        };
        assert!(meta.end_version(noncurrent).await.unwrap());
        expected.extend([(EventKind::Removed, "k".to_owned()), (EventKind::Expired, "copy".to_owned())]);
    }
    assert_eq!(shown(&meta, "t").await, expected);
    let first = &waiting(&meta, "t").await[0].event;
    let object = EventObject { etag: made.etag, size: 5 };
    assert_eq!((first.object, first.version), (Some(object), versioned.then_some(made.id)));
    assert_eq!((&first.origin, first.rule.as_str()), (&origin("put"), "t *"));
    audited(&meta, name).await;
}

#[tokio::test]
async fn events_of_a_key_are_in_the_order_of_its_versions_on_every_store() {
    let (kvs, _directory) = every_kv();
    for (name, kv) in kvs {
        events_are_in_order(name, kv).await;
    }
}

pub(crate) async fn events_are_in_order(name: &str, kv: SharedKv) {
    let meta = Meta::new(kv);
    let group = group(&meta).await;
    meta.create_bucket(bucket("b", Versioning::Enabled)).await.unwrap();
    told(&meta, "b", vec![rule("t", &[EventKind::CreatedByPut, EventKind::Marked], "", "")]).await;
    let puts = (1..=24u64).map(|size| meta.commit_object(put(&group, "b", "k", size)));
    for committed in futures::future::join_all(puts).await {
        committed.unwrap();
    }
    // Many of one transaction have the same stamp.
    let deletes = (0..40).map(|_| delete("b", "k", VersionSelector::Current)).collect();
    assert!(meta.delete_objects(deletes).await.iter().all(Result::is_ok), "{name}");
    let query = ListVersionsQuery { bucket: "b".into(), limit: 1000, ..Default::default() };
    let versions = meta.list_versions(&query).await.unwrap().entries.into_iter().rev().map(|entry| match entry {
        ListVersionsEntry::Version { version, .. } => Some(version.id),
        ListVersionsEntry::CommonPrefix(_) => None,
    });
    let events = waiting(&meta, "t").await;
    assert_eq!(events.len(), 64, "{name}");
    assert!(events.iter().map(|queued| queued.event.version).eq(versions), "{name}");
    audited(&meta, name).await;
}

#[tokio::test]
async fn there_is_one_event_for_every_committed_change_whatever_becomes_of_its_commit() {
    use Fault::{Conflict, None, UnknownAfterNext, UnknownApplied, UnknownBeforeNext, UnknownNotApplied};
    let faults = [None, Conflict, UnknownApplied, UnknownNotApplied, UnknownBeforeNext, UnknownAfterNext];
    for first in faults {
        for second in faults {
            one_event_for_each_change(mem_kv(), [first, second], &format!("{first:?}, {second:?}")).await;
        }
    }
}

pub(crate) async fn one_event_for_each_change(kv: SharedKv, faults: [Fault; 2], case: &str) {
    let plain = Meta::new(kv.clone());
    let group = group(&plain).await;
    plain.create_bucket(bucket("b", Versioning::Off)).await.unwrap();
    told(&plain, "b", vec![rule("t", &EventKind::ALL, "", "")]).await;
    let faulty = || Meta::new(Arc::new(Injecting::script(kv.clone(), faults)));
    faulty().commit_object(put(&group, "b", "k", 5)).await.expect(case);
    faulty().delete_object(delete("b", "k", VersionSelector::Current)).await.expect(case);
    let refused = CommitObject {
        precondition: Precondition { if_match: Some(EtagMatch::Any), if_none_match: Option::None },
        ..put(&group, "b", "k", 6)
    };
    faulty().commit_object(refused).await.expect_err(case);
    let kinds = [(EventKind::CreatedByPut, "k".to_owned()), (EventKind::Removed, "k".to_owned())];
    assert_eq!(shown(&plain, "t").await, kinds, "{case}");
    audited(&plain, case).await;
}

#[tokio::test]
async fn bnd_1_events_past_the_bound_are_counted_and_the_change_is_made() {
    let (kvs, _directory) = every_kv();
    for (name, kv) in kvs {
        events_are_bounded(name, kv).await;
    }
}

pub(crate) async fn events_are_bounded(name: &str, kv: SharedKv) {
    let meta = Meta::new(kv).with_event_limits(2, 3);
    let group = group(&meta).await;
    for name in ["a", "b"] {
        meta.create_bucket(bucket(name, Versioning::Off)).await.unwrap();
        told(&meta, name, vec![rule("t", &[EventKind::CreatedByPut], "", "")]).await;
        for key in ["1", "2", "3"] {
            meta.commit_object(put(&group, name, key, 5)).await.unwrap();
        }
        assert_eq!(keys(&meta, name).await.len(), 3);
    }
    // Two of the first bucket; one of the second, for the target has its bound, too.
    let counts = count(&meta, "t").await;
    assert_eq!((counts.waiting, counts.lost, counts.dead), (3, 3, 0));
    let of_buckets = meta.bucket_events().await.unwrap();
    let told: Vec<_> = of_buckets.iter().map(|of| (of.bucket.as_str(), of.waiting, of.lost)).collect();
    assert_eq!(told, [("a", 2, 1), ("b", 1, 2)]);
    // What was delivered makes room.
    let places: Vec<_> = waiting(&meta, "t").await.iter().map(|queued| queued.place).collect();
    meta.events_delivered("t", &places).await.unwrap();
    meta.events_delivered("t", &places).await.unwrap();
    meta.commit_object(put(&group, "a", "4", 5)).await.unwrap();
    assert_eq!(shown(&meta, "t").await, [(EventKind::CreatedByPut, "4".to_owned())]);
    audited(&meta, name).await;
}

#[tokio::test]
async fn dead_events_are_kept_and_taken_up_again_where_they_stood() {
    let (kvs, _directory) = every_kv();
    for (name, kv) in kvs {
        dead_events_are_kept(name, kv).await;
    }
}

pub(crate) async fn dead_events_are_kept(name: &str, kv: SharedKv) {
    let meta = Meta::new(kv);
    let group = group(&meta).await;
    meta.create_bucket(bucket("b", Versioning::Off)).await.unwrap();
    told(&meta, "b", vec![rule("t", &[EventKind::CreatedByPut], "", "")]).await;
    for size in 1..=3 {
        meta.commit_object(put(&group, "b", "k", size)).await.unwrap();
    }
    let before = waiting(&meta, "t").await;
    let places: Vec<_> = before.iter().map(|queued| queued.place).collect();
    meta.bury_events("t", &places[..2], "why").await.unwrap();
    let dead = meta.dead_events("t", None, 10).await.unwrap();
    assert_eq!(dead.iter().map(|(place, _)| *place).collect::<Vec<_>>(), places[..2]);
    assert_eq!((dead[0].1.why.as_str(), &dead[0].1.event), ("why", &before[0].event));
    assert_eq!(meta.dead_events("t", Some(places[0]), 10).await.unwrap().len(), 1);
    let counts = count(&meta, "t").await;
    assert_eq!((counts.waiting, counts.dead, counts.lost), (1, 2, 0));
    meta.redeliver_events("t", &places[1..2]).await.unwrap();
    meta.redeliver_events("t", &places[1..2]).await.unwrap();
    assert_eq!(waiting(&meta, "t").await.iter().map(|queued| queued.place).collect::<Vec<_>>(), places[1..]);
    audited(&meta, name).await;
    meta.discard_events("t", &places).await.unwrap();
    assert_eq!(meta.dead_events("t", None, 10).await.unwrap(), []);
    // What a bucket has waiting outlives it, and its counter does not.
    meta.delete_object(delete("b", "k", VersionSelector::Current)).await.unwrap();
    meta.delete_bucket("b").await.unwrap();
    assert_eq!(meta.bucket_events().await.unwrap()[0].waiting, 2);
    meta.events_delivered("t", &places).await.unwrap();
    assert_eq!(meta.bucket_events().await.unwrap(), []);
    audited(&meta, name).await;
}

#[tokio::test]
async fn what_waits_goes_along_with_an_export_and_what_comes_later_comes_after() {
    let (kvs, _directory) = every_kv();
    for (name, kv) in kvs {
        what_waits_is_exported(name, kv).await;
    }
}

pub(crate) async fn what_waits_is_exported(name: &str, kv: SharedKv) {
    let meta = Meta::new(kv);
    let group = group(&meta).await;
    meta.cluster(policy()).await.unwrap();
    meta.create_bucket(bucket("b", Versioning::Off)).await.unwrap();
    told(&meta, "b", vec![rule("t", &[EventKind::CreatedByPut], "", "")]).await;
    // The new store's stamps are smaller than these.
    for size in 1..=50 {
        meta.commit_object(put(&group, "b", "k", size)).await.unwrap();
    }
    let before = waiting(&meta, "t").await;
    let mut export = Vec::new();
    meta.export(&mut export).await.unwrap();
    let moved = Meta::in_memory();
    moved.import(&mut Cursor::new(export)).await.unwrap();
    assert_eq!(waiting(&moved, "t").await, before);
    moved.commit_object(put(&group, "b", "k", 51)).await.unwrap();
    let after = waiting(&moved, "t").await;
    assert_eq!((after.len(), &after[..50]), (51, &before[..]));
    assert_eq!(after[50].event.object.unwrap().size, 51);
    audited(&moved, name).await;
}

#[tokio::test]
async fn a_configuration_is_set_whole_or_not_at_all_and_its_targets_are_tested() {
    let (kvs, _directory) = every_kv();
    for (name, kv) in kvs {
        a_configuration_is_set_whole(name, kv).await;
    }
}

pub(crate) async fn a_configuration_is_set_whole(name: &str, kv: SharedKv) {
    let meta = Meta::new(kv);
    meta.create_bucket(bucket("b", Versioning::Off)).await.unwrap();
    let put = [EventKind::CreatedByPut];
    let rules = vec![rule("t", &put, "a/", ""), rule("u", &put, "b/", ""), rule("t", &put, "c/", "")];
    let set = meta.set_notifications("b", Some(b"<doc/>".to_vec()), rules.clone(), Some(origin("set")));
    set.await.unwrap();
    for target in ["t", "u"] {
        assert_eq!(shown(&meta, target).await, [(EventKind::Test, String::new())], "{target}");
    }
    let document = BucketDocument::Notification;
    assert_eq!(meta.bucket_document("b", document).await.unwrap().as_deref(), Some(&b"<doc/>"[..]));
    assert_eq!(meta.bucket("b").await.unwrap().event_rules, rules);
    let overlapping = vec![rule("t", &put, "a", ""), rule("u", &put, "a/b", ".x")];
    let long = vec![rule("t", &put, &"a".repeat(MAX_RULE_BYTES), "")];
    for wrong in [overlapping, long, vec![rule("", &put, "", "")]] {
        meta.set_notifications("b", None, wrong, None).await.unwrap_err();
    }
    assert_eq!(meta.bucket("b").await.unwrap().event_rules, rules);
    let nowhere = meta.set_notifications("none", None, Vec::new(), None).await;
    assert_eq!(nowhere, Err(MetaError::NoSuchBucket("none".into())));
    meta.set_notifications("b", None, Vec::new(), None).await.unwrap();
    assert_eq!(meta.bucket_document("b", document).await.unwrap(), None);
    audited(&meta, name).await;
}

fn kinds() -> impl Strategy<Value = Vec<EventKind>> {
    prop::collection::btree_set(0..4usize, 1..4).prop_map(|set| set.into_iter().map(|at| SOME[at]).collect())
}

const SOME: [EventKind; 4] =
    [EventKind::CreatedByPut, EventKind::CreatedByCopy, EventKind::Removed, EventKind::TagsPut];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Against a plain model: what of a list of changes is told to which of two targets.
    #[test]
    fn rules_choose_what_is_told_by_kind_prefix_and_suffix(
        drawn in prop::collection::vec((kinds(), "[ab]{0,2}", "[xy]{0,2}", 0..2usize), 0..5),
        changes in prop::collection::vec((0..4usize, "[ab]{1,2}[xy]{1,2}"), 1..30),
    ) {
        let targets = ["t", "u"];
        let mut rules: Vec<EventRule> = Vec::new();
        for (kinds, prefix, suffix, target) in drawn {
            let new = rule(targets[target], &kinds, &prefix, &suffix);
            if rules.iter().all(|other| !other.overlaps(&new)) {
                rules.push(new);
            }
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let meta = Meta::in_memory();
            let group = group(&meta).await;
            meta.create_bucket(bucket("b", Versioning::Off)).await.unwrap();
            meta.commit_object(put(&group, "b", "source", 1)).await.unwrap();
            told(&meta, "b", rules.clone()).await;
            let mut there = std::collections::BTreeSet::new();
            let mut expected = [Vec::new(), Vec::new()];
            for (change, key) in changes {
                let happened = match SOME[change] {
                    EventKind::CreatedByPut => {
                        meta.commit_object(put(&group, "b", &key, 5)).await.unwrap();
                        there.insert(key.clone());
                        true
                    }
                    EventKind::CreatedByCopy => {
                        meta.copy_object(copy(("b", "source"), ("b", &key))).await.unwrap();
                        there.insert(key.clone());
                        true
                    }
                    EventKind::Removed => {
                        meta.delete_object(delete("b", &key, VersionSelector::Current)).await.unwrap();
                        there.remove(&key)
                    }
                    kind => {
                        let cause = Cause::new(kind, Origin::default());
                        let tagged = meta.set_tags("b", &key, VersionSelector::Current, Vec::new(), cause).await;
                        assert_eq!(tagged.is_ok(), there.contains(&key));
                        tagged.is_ok()
                    }
                };
                for (target, expected) in targets.iter().zip(&mut expected) {
                    let means = |rule: &&EventRule| {
                        rule.target == *target
                            && rule.kinds.contains(&SOME[change])
                            && key.starts_with(&rule.prefix)
                            && key.ends_with(&rule.suffix)
                    };
                    if happened && rules.iter().filter(means).count() > 0 {
                        expected.push((SOME[change], key.clone()));
                    }
                }
            }
            for (target, expected) in targets.iter().zip(expected) {
                assert_eq!(shown(&meta, target).await, expected);
            }
            audited(&meta, "drawn").await;
        });
    }
}
