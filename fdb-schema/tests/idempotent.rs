//! Every verb that writes, after every unknown commit: it happens once, and what others did meanwhile stands.
#![allow(clippy::unwrap_used)]

mod common;
use std::{collections::BTreeSet, path::Path, sync::Arc};

use cairn_schema::{
    Meta, MetaError,
    ids::*,
    keyspace::{EVENT_STRIPES, RECLAIM_BUCKETS},
    kv::{
        SharedKv,
        inject::{Fault, Injecting},
    },
    record::*,
    verbs::*,
};
use common::*;

/// Verbs that write nothing.
const READS: [&str; 51] = [
    "access_key",
    "access_policies",
    "access_policy",
    "blobs",
    "bucket",
    "bucket_document",
    "bucket_events",
    "dead_events",
    "disks",
    "event_counts",
    "existing_cluster",
    "expect_room",
    "grant",
    "granted",
    "group",
    "group_blobs",
    "group_members",
    "group_move",
    "group_moves",
    "group_repair",
    "group_repairs",
    "group_stripes",
    "groups",
    "jobs",
    "ledger",
    "ledger_groups",
    "ledger_len",
    "ledger_of",
    "list_buckets",
    "list_objects",
    "list_parts",
    "list_uploads",
    "list_versions",
    "locate",
    "maintenance",
    "move_tail",
    "named_policies",
    "nodes",
    "object_parts",
    "ping",
    "placed_blobs",
    "placement_revision",
    "policy",
    "queued_events",
    "rates",
    "stripes_are_counted",
    "upload",
    "usage",
    "user",
    "user_group",
    "user_groups",
    "users",
];

/// The names that the verbs give their transactions.
fn named_in_sources() -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/verbs");
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let source = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for call in ["transact!(", ".attempts("] {
            for rest in source.split(call).skip(1) {
                let arguments = rest.split([')', '|', '\n']).next().unwrap_or_default();
                names.extend(arguments.split('"').nth(1).map(str::to_owned));
            }
        }
    }
    names
}

/// A store, and the verbs that were tried on it.
struct Tried {
    kv: SharedKv,
    faults: [Fault; 2],
    verbs: BTreeSet<&'static str>,
}

impl Tried {
    /// For one call of a verb.
    fn faulty(&mut self, verb: &'static str) -> Meta {
        self.verbs.insert(verb);
        Meta::new(Arc::new(Injecting::script(self.kv.clone(), self.faults)))
    }
}

/// Every verb about users, which ends with none.
async fn users(plain: &Meta, tried: &mut Tried, case: &str) {
    let attached = |text: Option<&str>| AttachedPolicy { name: "p".into(), text: text.map(Into::into) };
    tried.faulty("put_access_policy").put_access_policy("p", "{}").await.expect(case);
    tried.faulty("create_user").create_user(User::new("u", 1)).await.expect(case);
    tried.faulty("create_user_group").create_user_group("g").await.expect(case);
    tried.faulty("change_user").change_user("u", UserChange::Join("g".into())).await.expect(case);
    plain.change_user("u", UserChange::Attach(attached(None))).await.unwrap();
    let attach = UserGroupChange::Attach(attached(Some("own")));
    tried.faulty("change_user_group").change_user_group("g", attach).await.expect(case);
    tried.faulty("create_access_key").create_access_key(access_key("old", "u"), None).await.expect(case);
    let replaced = Some(ReplacedKey { access_key: "old".into(), expires_ms: 9 });
    tried.faulty("create_access_key").create_access_key(access_key("new", "u"), replaced).await.expect(case);
    let disable = AccessKeyChange::Enable(false);
    tried.faulty("change_access_key").change_access_key("new", disable).await.expect(case);
    let granted = plain.grant("new").await.unwrap().unwrap();
    assert_eq!((granted.key.enabled, granted.user.access_keys), (false, vec!["old".into(), "new".into()]), "{case}");
    let texts: Vec<_> = granted.policies.iter().map(|policy| policy.text.as_str()).collect();
    assert_eq!(texts, ["{}", "own"], "{case}");
    assert_eq!(plain.access_key("old").await.unwrap().unwrap().expires_ms, Some(9), "{case}");
    audited(plain, case).await;
    for key in ["old", "new"] {
        tried.faulty("delete_access_key").delete_access_key(key).await.expect(case);
    }
    tried.faulty("delete_user").delete_user("u").await.expect(case);
    tried.faulty("delete_user_group").delete_user_group("g").await.expect(case);
    tried.faulty("delete_access_policy").delete_access_policy("p").await.expect(case);
    assert_eq!(plain.users(None, 10).await.unwrap(), [], "{case}");
    audited(plain, case).await;
}

fn tags(value: &str) -> Vec<(String, String)> {
    vec![("t".to_owned(), value.to_owned())]
}

/// Events of a bucket are told, given up and taken up again, each once.
async fn events(plain: &Meta, tried: &mut Tried, group: &Group, case: &str) {
    let kinds = vec![EventKind::CreatedByPut, EventKind::Test];
    let rule = EventRule { id: "r".into(), target: "t".into(), kinds, prefix: String::new(), suffix: String::new() };
    plain.create_bucket(bucket("told", Versioning::Off)).await.unwrap();
    let set = tried.faulty("set_notifications");
    let test = Some(Origin::default());
    set.set_notifications("told", Some(vec![1]), vec![rule.clone()], test).await.expect(case);
    assert_eq!(plain.bucket("told").await.unwrap().event_rules, [rule], "{case}");
    tried.faulty("commit_object").commit_object(put(group, "told", "k", 0)).await.expect(case);
    let waiting = async || {
        let mut places = Vec::new();
        for stripe in 0..EVENT_STRIPES {
            places.extend(plain.queued_events("t", stripe, 10).await.unwrap().into_iter().map(|queued| queued.place));
        }
        places
    };
    let places = waiting().await;
    assert_eq!(places.len(), 2, "{case}");
    tried.faulty("bury_events").bury_events("t", &places, "why").await.expect(case);
    audited(plain, case).await;
    tried.faulty("redeliver_events").redeliver_events("t", &places[..1]).await.expect(case);
    assert_eq!(waiting().await, places[..1], "{case}");
    tried.faulty("discard_events").discard_events("t", &places).await.expect(case);
    tried.faulty("events_delivered").events_delivered("t", &places).await.expect(case);
    let counts = plain.event_counts().await.unwrap().remove(0);
    assert_eq!((counts.waiting, counts.dead, counts.lost), (0, 0, 0), "{case}");
    audited(plain, case).await;
    plain.delete_object(delete("told", "k", VersionSelector::Current)).await.unwrap();
    plain.delete_bucket("told").await.unwrap();
}

/// A member of a group with one stripe is replaced, and its fragment made anew; then everything is as before.
async fn replaced_members(plain: &Meta, tried: &mut Tried, group: &Group, blob: BlobId, case: &str) {
    let stripes = plain.group_stripes().await.unwrap().unwrap()[&group.id];
    let spare = Disk { id: DiskId::random(), ..plain.disks().await.unwrap().remove(0) };
    plain.register_disk(Disk { state: DiskState::Up, ..spare.clone() }).await.unwrap();
    let members = [&[spare.id], &group.members[1..]].concat();
    tried.verbs.insert("absorb");
    let replace = tried.faulty("replace_members");
    let replaced = replace.replace_members(group.id, group.epoch, members, MissingCause::DiskLost).await.expect(case);
    assert_eq!((replaced.epoch, plain.ledger_len().await.unwrap()), (group.epoch + 1, stripes), "{case}");
    let behind = FragmentName { group: group.id, blob, stripe: 0, position: 0 };
    let entry = LedgerEntry { fragment: behind, cause: MissingCause::NotFound, since_ms: 1 };
    tried.faulty("leave_behind").leave_behind(&[entry]).await.expect(case);
    assert_eq!(plain.ledger_len().await.unwrap(), stripes + 1, "{case}");
    plain.ledger_clear(behind, replaced.epoch).await.unwrap();
    let last = plain.placed_blobs(group.id, None, 1000).await.unwrap().last().map(|placed| placed.blob.id);
    let all = GroupRepairStep { group: group.id, epoch: replaced.epoch, from: None, to: last };
    assert_eq!(tried.faulty("advance_group_repair").advance_group_repair(all).await.expect(case), None, "{case}");
    assert_eq!(plain.ledger_len().await.unwrap(), 0, "{case}");
    audited(plain, case).await;
}

/// A group is moved to another disk by a job, which drains the one that it was on; then that is taken out.
async fn moved_members(plain: &Meta, tried: &mut Tried, case: &str) {
    let group = plain.groups().await.unwrap().remove(0);
    let old = plain.disks().await.unwrap().into_iter().find(|disk| disk.id == group.members[2]).unwrap();
    plain.set_disk_states(vec![(old.id, DiskState::Down, DiskState::Up)]).await.unwrap();
    let spare = Disk { id: DiskId::random(), state: DiskState::Up, node: "spare".parse().unwrap(), ..old.clone() };
    let to = plain.register_disk(spare).await.unwrap().id;
    let target = JobTarget { level: FailureDomain::Disk, name: old.id.to_string() };
    let (attempt, planned) = (AttemptId::random(), Moved::default());
    let new = NewJob { attempt, kind: JobKind::Drain, targets: vec![target], by: "n".into(), planned };
    let job = tried.faulty("start_job").start_job(new).await.expect(case);
    assert_eq!(plain.jobs().await.unwrap(), std::slice::from_ref(&job), "{case}");
    let up = vec![(old.id, DiskState::Up)];
    let draining = tried.faulty("drain_disks").drain_disks(up).await.expect(case);
    assert!(draining.iter().all(|disk| disk.id == old.id && disk.state == DiskState::Draining), "{case}");
    tried.faulty("note_job").note_job(job.id, Some("why".into())).await.expect(case);
    assert_eq!(plain.jobs().await.unwrap()[0].blocked.as_deref(), Some("why"), "{case}");
    let begin = || std::collections::BTreeMap::from([(2, to)]);
    let begun = tried.faulty("begin_move").begin_move(group.id, group.epoch, job.id, begin()).await.expect(case);
    assert!(tried.faulty("end_move").end_move(group.id, group.epoch).await.expect(case), "{case}");
    assert_eq!(plain.group_moves().await.unwrap(), [], "{case}");
    let ended = begun.id;
    let begun = plain.begin_move(group.id, group.epoch, job.id, begin()).await.unwrap();
    let late = plain.commit_object(put(&group, "b", "late", 5)).await.unwrap();
    let last = plain.placed_blobs(group.id, None, 1000).await.unwrap().last().map(|placed| placed.blob.id);
    let step = MoveStep { group: group.id, id: begun.id, epoch: group.epoch, from: None, to: last, bytes: 7 };
    assert_eq!(plain.advance_move(MoveStep { id: ended, ..step }).await.unwrap(), None, "{case}: of the one before");
    let walked = tried.faulty("advance_move").advance_move(step).await.expect(case).unwrap();
    assert_eq!((walked.cursor, walked.bytes, begun.cursor), (last, 7, None), "{case}");
    plain.advance_move(MoveStep { from: last, to: None, ..step }).await.unwrap();
    let tail: Vec<_> = plain.move_tail(group.id, 10).await.unwrap().into_iter().map(|(id, _)| id).collect();
    assert_eq!(tail.len(), 1, "{case}");
    tried.faulty("clear_move_tail").clear_move_tail(group.id, begun.id, &tail).await.expect(case);
    let end = tried.faulty("finish_move").finish_move(group.id, group.epoch).await.expect(case);
    let now = plain.group(group.id).await.unwrap().unwrap();
    assert_eq!((end, now.members[2], now.epoch), (MoveEnd::Done, to, group.epoch + 1), "{case}");
    let done = tried.faulty("set_job_state").set_job_state(job.id, JobState::Done).await.expect(case);
    assert_eq!((done.state, done.moved.positions, done.moved.bytes), (JobState::Done, 1, 14), "{case}");
    // Other groups of this test have it, too.
    for other in plain.groups().await.unwrap().into_iter().filter(|group| group.members.contains(&old.id)) {
        let members = other.members.iter().map(|disk| if *disk == old.id { to } else { *disk }).collect();
        plain.update_group(other.id, other.epoch, members, GroupState::Open).await.unwrap();
    }
    let removed = tried.faulty("remove_disks").remove_disks(&[old.id]).await.expect(case);
    assert_eq!(removed[0].state, DiskState::Removed, "{case}");
    let id = VersionSelector::Id(late.version.id);
    plain.delete_object(delete("b", "late", id)).await.unwrap();
    audited(plain, case).await;
}

/// Every verb that writes, in an order in which each has something to do.
pub(crate) async fn every_verb(kv: SharedKv, faults: [Fault; 2], case: &str) -> BTreeSet<&'static str> {
    let plain = Meta::new(kv.clone());
    let mut tried = Tried { kv, faults, verbs: BTreeSet::new() };
    let born = tried.faulty("cluster").cluster(policy()).await.expect(case);
    assert_eq!(plain.cluster(policy()).await.unwrap(), born, "{case}");
    tried.faulty("create_bucket").create_bucket(bucket("b", Versioning::Off)).await.expect(case);
    tried.faulty("set_versioning").set_versioning("b", Versioning::Enabled).await.expect(case);
    let document = tried.faulty("set_bucket_document");
    document.set_bucket_document("b", BucketDocument::Policy, Some(vec![1; 100_000])).await.expect(case);

    let node = Node {
        id: "n0".parse().unwrap(),
        rack: "r".into(),
        zone: "z".into(),
        address: "127.0.0.1:7000".parse().unwrap(),
    };
    tried.faulty("register_node").register_node(node).await.expect(case);
    let group = group(&plain).await;
    let disk = plain.disks().await.unwrap().remove(0);
    let larger = Disk { capacity_bytes: disk.capacity_bytes + 1, ..disk.clone() };
    tried.faulty("register_disk").register_disk(larger.clone()).await.expect(case);
    let narrow = Policy { scheme: "2+1".parse().unwrap(), ..policy() };
    let narrowed = tried.faulty("set_policy").set_policy(1, narrow).await.expect(case);
    assert_eq!(plain.policy().await.unwrap(), Some(narrowed), "{case}");
    assert_eq!(narrowed, ClusterPolicy { generation: 2, policy: narrow }, "{case}");
    let faster = RateOverrides { repair_bytes: Some(1 << 30), ..RateOverrides::default() };
    let set = tried.faulty("set_rates").set_rates(0, faster).await.expect(case);
    assert_eq!(plain.rates().await.unwrap(), set, "{case}");
    assert_eq!(set, ClusterRates { generation: 1, rates: faster }, "{case}");
    let windows = ClusterMaintenance::default().started("n0".parse().unwrap(), 60_000, 5);
    let set = tried.faulty("set_maintenance").set_maintenance(0, windows.windows.clone()).await.expect(case);
    assert_eq!((&plain.maintenance().await.unwrap(), &set), (&windows, &windows), "{case}");
    let second = tried.faulty("create_group").create_group(group.scheme, group.members.clone()).await.expect(case);
    let members: Vec<_> = group.members.iter().rev().copied().collect();
    let moved = tried.faulty("update_group").update_group(second.id, 1, members, GroupState::Open).await.expect(case);
    assert_eq!((plain.groups().await.unwrap().len(), moved.epoch), (2, 2), "{case}");
    let both = vec![(disk.id, DiskState::Up, DiskState::Draining)];
    let changed = tried.faulty("set_disk_states").set_disk_states(both).await.expect(case);
    assert_eq!((changed.len(), changed[0].state), (1, DiskState::Draining), "{case}");
    plain.set_disk_state(disk.id, DiskState::Draining, DiskState::Up).await.unwrap();
    let down = tried.faulty("set_disk_state").set_disk_state(disk.id, DiskState::Up, DiskState::Down).await;
    assert_eq!(down.expect(case).capacity_bytes, larger.capacity_bytes, "{case}");

    let request = put(&group, "b", "k", 5);
    let blob = request.blob.as_ref().unwrap().blob.id;
    let made = tried.faulty("commit_object").commit_object(request).await.expect(case);
    tried
        .faulty("set_tags")
        .set_tags("b", "k", VersionSelector::Current, tags("1"), Cause::default())
        .await
        .expect(case);
    let limits = RequestLimits { per_second: Some(9), concurrent: None };
    tried.faulty("set_request_limits").set_request_limits("b", limits).await.expect(case);
    assert_eq!(plain.bucket("b").await.unwrap().limits, limits, "{case}");
    let quota = Quota { bytes: Some(1 << 20), objects: None };
    tried.faulty("set_quota").set_quota("b", quota).await.expect(case);
    assert_eq!(plain.bucket("b").await.unwrap().quota, Some(BucketQuota { quota, shared: false }), "{case}");
    tried.faulty("copy_object").copy_object(copy(("b", "k"), ("b", "copy"))).await.expect(case);
    let (finished, given_up) = (upload("b", "mp"), upload("b", "mp"));
    tried.faulty("create_upload").create_upload(finished.clone()).await.expect(case);
    plain.create_upload(given_up.clone()).await.unwrap();
    let first = tried.faulty("put_part").put_part(put_part(&group, &finished, 1, 10)).await.expect(case);
    plain.put_part(put_part(&group, &given_up, 1, 10)).await.unwrap();
    let request = copy_part(&plain, ("b", "k"), RangeRequest::All, &finished, 2).await;
    let second = tried.faulty("copy_part").copy_part(request).await.expect(case);
    let request = complete(&finished, &[first, second]);
    let done = tried.faulty("complete_upload").complete_upload(request).await.expect(case);
    assert_eq!(done.version.size, 15, "{case}");
    tried.faulty("abort_upload").abort_upload("b", "mp", given_up.id).await.expect(case);
    assert_eq!(plain.usage("b").await.unwrap(), Usage { objects: 3, bytes: 25 }, "{case}");
    audited(&plain, case).await;

    let missing = FragmentName { group: group.id, blob, stripe: 0, position: 1 };
    let entry = LedgerEntry { fragment: missing, cause: MissingCause::NotFound, since_ms: 1 };
    tried.faulty("ledger_add").ledger_add(&[entry]).await.expect(case);
    assert_eq!(plain.ledger_len().await.unwrap(), 1, "{case}");
    tried.faulty("ledger_clear").ledger_clear(missing, 1).await.expect(case);
    assert_eq!(plain.ledger_len().await.unwrap(), 0, "{case}");
    replaced_members(&plain, &mut tried, &group, blob, case).await;
    moved_members(&plain, &mut tried, case).await;
    let group = plain.group(group.id).await.unwrap().unwrap();

    let lock = ObjectLock::default();
    tried.faulty("set_object_lock").set_object_lock("b", lock).await.expect(case);
    let retention = Retention { mode: RetentionMode::Governance, until_ms: u64::MAX };
    let by_id = VersionSelector::Id(made.version.id);
    let retained = tried.faulty("set_retention").set_retention("b", "k", by_id, Some(retention), false).await;
    let held = tried.faulty("set_legal_hold").set_legal_hold("b", "k", by_id, true).await;
    assert_eq!((retained.expect(case), held.expect(case)), (made.version.id, made.version.id), "{case}");
    let located = plain.locate("b", "k", by_id, RangeRequest::Nothing).await.unwrap();
    let locked = Lock { retention: Some(retention), legal_hold: Some(true) };
    assert_eq!(located.version.attributes.lock, locked, "{case}");
    assert_eq!(plain.bucket("b").await.unwrap().object_lock, Some(lock), "{case}");
    plain.set_legal_hold("b", "k", by_id, false).await.unwrap();
    plain.set_retention("b", "k", by_id, None, true).await.unwrap();

    plain.create_bucket(bucket("ends", Versioning::Off)).await.unwrap();
    let version = plain.commit_object(put(&group, "ends", "k", 0)).await.unwrap().version;
    let (attempt, ending) = (AttemptId::random(), Ending::Current);
    let end = EndVersion { attempt, bucket: "ends".into(), key: "k".into(), version, ending };
    assert!(tried.faulty("end_version").end_version(end).await.expect(case), "{case}");
    assert_eq!(plain.usage("ends").await.unwrap(), Usage::default(), "{case}");

    let mut secret = put(&group, "ends", "secret", 0);
    secret.version.encryption = Some(encryption(1));
    let version = plain.commit_object(secret).await.unwrap().version;
    let of = RewrapOf::Version(version.id);
    let (was, now) = (encryption(1), encryption(2));
    let again = Rewrap { bucket: "ends".into(), key: "secret".into(), of, was, now };
    assert!(tried.faulty("rewrap").rewrap(again).await.expect(case), "{case}");
    let located = plain.locate("ends", "secret", VersionSelector::Current, RangeRequest::All).await.unwrap();
    assert_eq!(located.version.encryption, Some(encryption(2)), "{case}");

    let marker = delete("b", "k", VersionSelector::Current);
    assert!(tried.faulty("delete_object").delete_object(marker).await.expect(case).delete_marker, "{case}");
    let deletes = ["k", "copy"].map(|key| delete("b", key, VersionSelector::Current)).to_vec();
    let deleted = tried.faulty("delete_objects").delete_objects(deletes).await;
    assert!(deleted.iter().all(Result::is_ok), "{case}: {deleted:?}");
    let query = ListVersionsQuery { bucket: "b".into(), limit: 100, ..Default::default() };
    // An object and its two markers, a copy and its marker, and what was completed.
    assert_eq!(plain.list_versions(&query).await.unwrap().entries.len(), 6, "{case}");
    plain.delete_object(delete("b", "k", VersionSelector::Id(made.version.id))).await.unwrap();
    audited(&plain, case).await;
    // Twice: what a list of parts releases may belong to a bucket before its own.
    for bucket in (0..RECLAIM_BUCKETS).chain(0..RECLAIM_BUCKETS) {
        tried.verbs.insert("reclaim_list");
        for reclaim in tried.faulty("reclaimable").reclaimable(bucket, u64::MAX, 10).await.expect(case) {
            tried.faulty("reclaimed").reclaimed(&[reclaim]).await.expect(case);
        }
    }
    audited(&plain, case).await;

    let lease = tried.faulty("lease").lease("l", "me", 100_000).await.expect(case).unwrap();
    assert_eq!(lease.term, 1, "{case}");
    tried.faulty("release").release(&lease).await.expect(case);
    assert_eq!(plain.lease("l", "you", 1).await.unwrap().unwrap().term, 2, "{case}");
    users(&plain, &mut tried, case).await;
    events(&plain, &mut tried, &group, case).await;
    plain.create_bucket(bucket("empty", Versioning::Off)).await.unwrap();
    plain.create_upload(upload("empty", "unfinished")).await.unwrap();
    tried.faulty("delete_bucket").delete_bucket("empty").await.expect(case);
    let late = BlobId::random();
    assert!(tried.faulty("condemn").condemn(late).await.expect(case), "{case}");
    assert_eq!(tried.faulty("forget_condemned").forget_condemned(u64::MAX, None, 10).await.expect(case), None);
    tried.faulty("prove").prove("me").await.expect(case);
    while tried.faulty("expire_attempts").expire_attempts(u64::MAX).await.expect(case) {}
    tried.faulty("expire_completed").expire_completed(u64::MAX, 1000).await.expect(case);
    audited(&plain, case).await;
    tried.verbs
}

/// Fails for a verb that is new and not tried here.
#[tokio::test]
async fn every_verb_that_writes_is_done_once_whatever_becomes_of_its_commits() {
    use Fault::{Conflict, None, Unavailable, UnknownAfterNext, UnknownApplied, UnknownBeforeNext, UnknownNotApplied};
    let faults = [None, Conflict, Unavailable, UnknownApplied, UnknownNotApplied, UnknownBeforeNext, UnknownAfterNext];
    let mut tried = BTreeSet::new();
    for first in faults {
        for second in faults {
            tried = every_verb(mem_kv(), [first, second], &format!("{first:?}, {second:?}")).await;
        }
    }
    let known: BTreeSet<String> = tried.iter().chain(&READS).map(|name| (*name).to_owned()).collect();
    assert_eq!(named_in_sources(), known, "every verb is tried here, or said to write nothing");
}

/// A client whose first commit has an unknown result, after which another does something before it tries again.
fn interrupted<F>(kv: &SharedKv, fault: Fault, other: impl FnOnce(Meta) -> F) -> Meta
where
    F: Future<Output = ()> + Send + 'static,
{
    let other = other(Meta::new(kv.clone()));
    Meta::new(Arc::new(Injecting::script(kv.clone(), [fault]).with_interlude(other)))
}

/// What was done and then undone by another stays undone, though whoever did it tries again.
#[tokio::test]
async fn a_try_after_an_unknown_commit_does_not_undo_what_others_did() {
    let (kvs, _directory) = every_kv();
    for (name, kv) in kvs {
        what_others_did_stays(name, kv).await;
    }
}

pub(crate) async fn what_others_did_stays(name: &str, kv: SharedKv) {
    const UNKNOWN: Fault = Fault::UnknownApplied;
    let meta = Meta::new(kv.clone());
    let group = group(&meta).await;
    let disk = group.members[0];
    let new = bucket("b", Versioning::Off);

    let deleted = interrupted(&kv, UNKNOWN, |other| async move { other.delete_bucket("b").await.unwrap() });
    deleted.create_bucket(new.clone()).await.unwrap();
    assert_eq!(meta.bucket("b").await, Err(MetaError::NoSuchBucket("b".into())));
    meta.create_bucket(new.clone()).await.unwrap();
    let made = interrupted(&kv, UNKNOWN, |other| async move { other.create_bucket(new).await.unwrap() });
    made.delete_bucket("b").await.unwrap();
    meta.bucket("b").await.unwrap();

    let suspended = |other: Meta| async move { other.set_versioning("b", Versioning::Suspended).await.unwrap() };
    interrupted(&kv, UNKNOWN, suspended).set_versioning("b", Versioning::Enabled).await.unwrap();
    assert_eq!(meta.bucket("b").await.unwrap().versioning, Versioning::Suspended);
    let policy = |other: Meta| async move {
        other.set_bucket_document("b", BucketDocument::Policy, Some(vec![2])).await.unwrap();
    };
    let first = interrupted(&kv, UNKNOWN, policy);
    first.set_bucket_document("b", BucketDocument::Policy, Some(vec![1; 200_000])).await.unwrap();
    assert_eq!(meta.bucket_document("b", BucketDocument::Policy).await.unwrap(), Some(vec![2]));

    meta.commit_object(put(&group, "b", "k", 5)).await.unwrap();
    let tagged = |other: Meta| async move {
        other.set_tags("b", "k", VersionSelector::Current, tags("2"), Cause::default()).await.unwrap();
    };
    interrupted(&kv, UNKNOWN, tagged)
        .set_tags("b", "k", VersionSelector::Current, tags("1"), Cause::default())
        .await
        .unwrap();
    let located = meta.locate("b", "k", VersionSelector::Current, RangeRequest::Nothing).await.unwrap();
    assert_eq!(located.version.attributes.tags, tags("2"));

    meta.create_user(User::new("u", 1)).await.unwrap();
    let removed = |other: Meta| async move { other.delete_access_key("key").await.unwrap() };
    interrupted(&kv, UNKNOWN, removed).create_access_key(access_key("key", "u"), None).await.unwrap();
    assert_eq!(meta.access_key("key").await.unwrap(), None);
    meta.create_access_key(access_key("key", "u"), None).await.unwrap();
    let given = |other: Meta| async move { other.create_access_key(access_key("key", "u"), None).await.unwrap() };
    interrupted(&kv, UNKNOWN, given).delete_access_key("key").await.unwrap();
    assert_eq!(meta.access_key("key").await.unwrap(), Some(access_key("key", "u")));
    let enabled = |other: Meta| async move { other.change_user("u", UserChange::Enable(true)).await.unwrap() };
    interrupted(&kv, UNKNOWN, enabled).change_user("u", UserChange::Enable(false)).await.unwrap();
    assert!(meta.user("u").await.unwrap().unwrap().enabled);
    let allowed = |other: Meta| async move { other.put_access_policy("p", "2").await.unwrap() };
    interrupted(&kv, UNKNOWN, allowed).put_access_policy("p", "1").await.unwrap();
    assert_eq!(meta.access_policy("p").await.unwrap().unwrap().text, "2");

    let (begun, id) = (upload("b", "mp"), upload("b", "mp").id);
    let begun = Upload { id, ..begun };
    let aborted = move |other: Meta| async move { other.abort_upload("b", "mp", id).await.unwrap() };
    interrupted(&kv, UNKNOWN, aborted).create_upload(begun.clone()).await.unwrap();
    assert_eq!(meta.upload("b", "mp", id).await, Err(MetaError::NoSuchUpload(id)));
    // An abort that was not done, and an object that was: the abort does not say that it was.
    meta.create_upload(begun.clone()).await.unwrap();
    let part = meta.put_part(put_part(&group, &begun, 1, 10)).await.unwrap();
    let completed = |other: Meta| async move {
        other.complete_upload(complete(&begun, &[part])).await.unwrap();
    };
    let abort = interrupted(&kv, Fault::UnknownNotApplied, completed).abort_upload("b", "mp", id).await;
    assert_eq!(abort, Err(MetaError::NoSuchUpload(id)));

    let up = move |other: Meta| async move {
        other.set_disk_state(disk, DiskState::Down, DiskState::Up).await.unwrap();
    };
    interrupted(&kv, UNKNOWN, up).set_disk_state(disk, DiskState::Up, DiskState::Down).await.unwrap();
    let disks = meta.disks().await.unwrap();
    assert!(disks.iter().all(|disk| disk.state == DiskState::Up), "{disks:?}");
    let (id, members) = (group.id, group.members.clone());
    let open = |other: Meta| async move {
        other.update_group(id, 1, members, GroupState::Open).await.unwrap();
    };
    let sealed = interrupted(&kv, UNKNOWN, open);
    sealed.update_group(id, 1, group.members.clone(), GroupState::Sealed).await.unwrap();
    assert_eq!(meta.group(id).await.unwrap().unwrap().state, GroupState::Open);
    meta.cluster(common::policy()).await.unwrap();
    let changed = |fragment_bytes| Policy { scheme: "2+1".parse().unwrap(), fragment_bytes, ..common::policy() };
    let larger = changed(2 << 20);
    let by_other = move |other: Meta| async move {
        other.set_policy(2, larger).await.unwrap();
    };
    let told = interrupted(&kv, UNKNOWN, by_other).set_policy(1, changed(4 << 20)).await.unwrap();
    assert_eq!(told, ClusterPolicy { generation: 2, policy: changed(4 << 20) }, "what this call came to");
    assert_eq!(meta.policy().await.unwrap(), Some(ClusterPolicy { generation: 3, policy: larger }));
    let repair = |bytes| RateOverrides { repair_bytes: Some(bytes), ..RateOverrides::default() };
    let by_other = move |other: Meta| async move {
        other.set_rates(1, repair(2 << 20)).await.unwrap();
    };
    let told = interrupted(&kv, UNKNOWN, by_other).set_rates(0, repair(4 << 20)).await.unwrap();
    assert_eq!(told, ClusterRates { generation: 1, rates: repair(4 << 20) }, "what this call came to");
    assert_eq!(meta.rates().await.unwrap(), ClusterRates { generation: 2, rates: repair(2 << 20) });

    let node = |name: &str| -> NodeId { name.parse().unwrap() };
    for name in ["n0", "n1"] {
        let address = "127.0.0.1:7000".parse().unwrap();
        meta.register_node(Node { id: node(name), rack: "r".into(), zone: "z".into(), address }).await.unwrap();
    }
    let first = ClusterMaintenance::default().started(node("n0"), 60_000, 5);
    let both = first.started(node("n1"), 60_000, 6);
    let later = both.windows.clone();
    let by_other = move |other: Meta| async move {
        other.set_maintenance(1, later).await.unwrap();
    };
    let told = interrupted(&kv, UNKNOWN, by_other).set_maintenance(0, first.windows.clone()).await.unwrap();
    assert_eq!(told, first, "what this call came to");
    assert_eq!(meta.maintenance().await.unwrap(), both);
    // A job that somebody else resumed is not paused again by who paused it.
    let new = NewJob {
        attempt: AttemptId::random(),
        kind: JobKind::Rebalance,
        targets: Vec::new(),
        by: "n".into(),
        planned: Moved::default(),
    };
    let job = meta.start_job(new.clone()).await.unwrap().id;
    let resumed = move |other: Meta| async move {
        other.set_job_state(job, JobState::Running).await.unwrap();
    };
    interrupted(&kv, UNKNOWN, resumed).set_job_state(job, JobState::Paused).await.unwrap();
    assert_eq!(meta.jobs().await.unwrap()[0].state, JobState::Running);
    meta.set_job_state(job, JobState::Cancelled).await.unwrap();
    let new = NewJob { attempt: AttemptId::random(), ..new };
    let cancelled = move |other: Meta| async move {
        other.set_job_state(JobId(2), JobState::Cancelled).await.unwrap();
    };
    let begun = interrupted(&kv, UNKNOWN, cancelled).start_job(new).await.unwrap();
    assert_eq!((begun.id, meta.jobs().await.unwrap().len()), (JobId(2), 2), "it is begun once");

    let lease = meta.lease("l", "me", 100_000).await.unwrap().unwrap();
    let again = |other: Meta| async move { drop(other.lease("l", "me", 100_000).await.unwrap().unwrap()) };
    interrupted(&kv, UNKNOWN, again).release(&lease).await.unwrap();
    assert_eq!(meta.lease("l", "you", 1).await.unwrap(), None, "it was taken again");

    // RED-1: found missing again after it was repaired.
    let mut request = put(&group, "b", "absent", 5);
    let new = request.blob.as_mut().unwrap();
    let missing = FragmentName { group: group.id, blob: new.blob.id, stripe: 0, position: 1 };
    new.missing = vec![missing];
    meta.commit_object(request).await.unwrap();
    let interlude = move |other: Meta| async move {
        let entry = LedgerEntry { fragment: missing, cause: MissingCause::NotFound, since_ms: 1 };
        other.ledger_add(&[entry]).await.unwrap();
    };
    interrupted(&kv, UNKNOWN, interlude).ledger_clear(missing, 1).await.unwrap();
    assert_eq!(meta.ledger_len().await.unwrap(), 1);
    audited(&meta, name).await;
}
