//! What replaced members of a group lack is counted exactly at every moment, by one row.
#![allow(clippy::unwrap_used)]

mod common;
use std::collections::{BTreeMap, BTreeSet};

use cairn_schema::{Meta, MetaError, ids::*, keyspace, kv::SharedKv, record::*, verbs::*};
use common::*;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

const WIDTH: u8 = 3;

async fn disk(meta: &Meta) -> DiskId {
    let id = DiskId::random();
    let node = format!("n{}", hex::encode(&id.0[..4])).parse().unwrap();
    let (rack, zone) = ("r".to_owned(), "z".to_owned());
    let disk = Disk { id, node, rack, zone, capacity_bytes: 1 << 40, state: DiskState::Up, since_ms: 0 };
    meta.register_disk(disk).await.unwrap().id
}

/// The group with a new disk in each of `positions`.
async fn replace(meta: &Meta, group: &Group, positions: &[u8]) -> Group {
    let mut members = group.members.clone();
    for position in positions {
        members[usize::from(*position)] = disk(meta).await;
    }
    meta.replace_members(group.id, group.epoch, members, MissingCause::DiskLost).await.unwrap()
}

async fn new_object(meta: &Meta, group: &Group, key: &str, stripes: u32, missing: &[u8]) -> BlobId {
    let mut request = put(group, "b", key, 10);
    let new = request.blob.as_mut().unwrap();
    new.blob.runs = vec![StripeRun { group: group.id, stripes }];
    let name = |position: &u8| FragmentName { group: group.id, blob: new.blob.id, stripe: 0, position: *position };
    new.missing = missing.iter().map(name).collect();
    let id = new.blob.id;
    meta.commit_object(request).await.unwrap();
    id
}

/// The next step over `limit` blobs that leaves nothing, and the fragments that it makes.
async fn next_step(meta: &Meta, group: &Group, limit: usize) -> (GroupRepairStep, BTreeSet<FragmentName>) {
    let repair = meta.group_repair(group.id).await.unwrap().unwrap();
    let page = meta.placed_blobs(group.id, repair.cursor, limit).await.unwrap();
    let mut made = BTreeSet::new();
    for PlacedBlob { blob, epoch } in &page {
        let covered = repair.positions.iter().filter(|position| position.covers(repair.cursor, blob.id, *epoch));
        for PositionRepair { position, .. } in covered {
            let stripes = 0..blob.stripes_by_group()[&group.id] as u32;
            let name = |stripe| FragmentName { group: group.id, blob: blob.id, stripe, position: *position };
            made.extend(stripes.map(name));
        }
    }
    let to = page.last().map(|placed| placed.blob.id);
    (GroupRepairStep { group: group.id, epoch: group.epoch, from: repair.cursor, to }, made)
}

#[tokio::test]
async fn red_1_a_lost_disk_is_one_row_that_counts_what_it_held() {
    let (kvs, _directory) = every_kv();
    for (name, kv) in kvs {
        a_lost_disk_is_one_row(name, kv).await;
    }
}

pub(crate) async fn a_lost_disk_is_one_row(name: &str, kv: SharedKv) {
    let meta = Meta::new(kv);
    meta.cluster(policy()).await.unwrap();
    meta.create_bucket(bucket("b", Versioning::Off)).await.unwrap();
    let group = group(&meta).await;
    for object in 0..10 {
        new_object(&meta, &group, &format!("k{object}"), 1 + object % 3, &[]).await;
    }
    let absent = new_object(&meta, &group, "absent", 1, &[0, 1]).await;
    let stripes = meta.group_stripes().await.unwrap().unwrap()[&group.id];
    let moved = replace(&meta, &group, &[1]).await;
    assert_eq!(moved.epoch, group.epoch + 1, "{name}");
    let rows = meta.ledger(None, 100).await.unwrap();
    assert_eq!(rows.len(), 1, "{name}: the absentee of another position stays: {rows:?}");
    assert_eq!((rows[0].fragment.blob, rows[0].fragment.position), (absent, 0), "{name}");
    assert_eq!(meta.ledger_len().await.unwrap(), stripes + 1, "{name}");
    audited(&meta, name).await;

    // A commit under the epoch before is refused; what comes now lacks nothing.
    let late = meta.commit_object(put(&group, "b", "late", 10)).await;
    assert_eq!(late.unwrap_err(), MetaError::GroupChanged(group.id), "{name}");
    new_object(&meta, &moved, "new", 5, &[]).await;
    assert_eq!(meta.ledger_len().await.unwrap(), stripes + 1, "{name}");
    // A read that finds one of the fragments missing says nothing new.
    let known = FragmentName { group: group.id, blob: absent, stripe: 0, position: 1 };
    let entry = LedgerEntry { fragment: known, cause: MissingCause::NotFound, since_ms: 1 };
    meta.ledger_add(&[entry]).await.unwrap();
    assert_eq!(meta.ledger_len().await.unwrap(), stripes + 1, "{name}");

    let (half, _) = next_step(&meta, &moved, 6).await;
    let stale = GroupRepairStep { epoch: group.epoch, ..half };
    let refused = meta.advance_group_repair(stale).await;
    assert_eq!(refused.unwrap_err(), MetaError::Stale("group epoch"), "{name}");
    assert!(meta.advance_group_repair(half).await.unwrap().is_some(), "{name}");
    let again = meta.advance_group_repair(half).await;
    assert_eq!(again.unwrap_err(), MetaError::Stale("place of a group's repair"), "{name}");
    audited(&meta, name).await;
    let (rest, made) = next_step(&meta, &moved, 100).await;
    assert_eq!(meta.ledger_len().await.unwrap(), made.len() as u64 + 1, "{name}");
    let left = *made.first().unwrap();
    let entry = LedgerEntry { fragment: left, cause: MissingCause::DiskLost, since_ms: 1 };
    meta.leave_behind(&[entry]).await.unwrap();
    assert_eq!(meta.ledger_len().await.unwrap(), made.len() as u64 + 2, "{name}: too many for a moment, not too few");
    assert_eq!(meta.advance_group_repair(rest).await.unwrap(), None, "{name}: nothing is left to walk for");
    assert!(meta.group_repairs(None, 10).await.unwrap().is_empty(), "{name}");
    let rows: BTreeSet<_> = meta.ledger(None, 10).await.unwrap().into_iter().map(|row| row.fragment).collect();
    assert_eq!(rows, BTreeSet::from([left, FragmentName { position: 0, ..known }]), "{name}: absent, and left");
    assert_eq!(meta.ledger_len().await.unwrap(), 2, "{name}");
    audited(&meta, name).await;
}

#[tokio::test]
async fn the_groups_with_rows_of_single_fragments_are_found_without_reading_all_of_these() {
    let (kvs, _directory) = every_kv();
    for (name, kv) in kvs {
        first_rows_of_groups(name, kv).await;
    }
}

pub(crate) async fn first_rows_of_groups(name: &str, kv: SharedKv) {
    let meta = Meta::new(kv);
    meta.cluster(policy()).await.unwrap();
    meta.create_bucket(bucket("b", Versioning::Off)).await.unwrap();
    assert_eq!(meta.ledger_groups(None, 10, 10).await.unwrap(), [], "{name}");
    let first = group(&meta).await;
    for rows in [4, 0, 1, 7, 2] {
        let group = meta.create_group(first.scheme, first.members.clone()).await.unwrap();
        for row in 0..rows {
            new_object(&meta, &group, &format!("{}-{row}", group.id), 1, &[(row % 3) as u8]).await;
        }
    }
    let all = meta.ledger(None, 1000).await.unwrap();
    let mut of_groups: BTreeMap<GroupId, Vec<LedgerEntry>> = BTreeMap::new();
    all.into_iter().for_each(|entry| of_groups.entry(entry.fragment.group).or_default().push(entry));
    assert_eq!(of_groups.values().map(Vec::len).collect::<Vec<_>>(), [4, 1, 7, 2], "{name}");
    for (limit, rows) in [(1, 1), (2, 3), (3, 4), (100, 100)] {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = meta.ledger_groups(after, limit, rows).await.unwrap();
            assert!(page.len() <= limit, "{name}");
            let Some(last) = page.last() else { break };
            after = Some(last.group);
            found.extend(page);
        }
        let expected = of_groups.iter().map(|(group, all)| {
            let entries = all.iter().take(rows).cloned().collect();
            GroupLedger { group: *group, entries, more: all.len() > rows }
        });
        assert_eq!(found, expected.collect::<Vec<_>>(), "{name}: {rows} rows of each, {limit} groups at a time");
    }
    for (group, all) in of_groups {
        let page = meta.ledger_of(group, None, 3).await.unwrap();
        assert_eq!(page, all[..all.len().min(3)], "{name}");
        let after = page.last().map(|entry| entry.fragment);
        assert_eq!(meta.ledger_of(group, after, 100).await.unwrap(), all[page.len()..], "{name}");
    }
}

struct World {
    meta: Meta,
    group: Group,
    rng: StdRng,
    keys: Vec<(String, BlobId)>,
    next_key: u32,
    /// Every fragment that is not where it should be.
    missing: BTreeSet<FragmentName>,
    /// What has a row of its own.
    rows: BTreeSet<FragmentName>,
    /// What the row of the group's repair stands for.
    covered: BTreeSet<FragmentName>,
}

impl World {
    async fn object(&mut self) {
        let key = format!("k{}", self.next_key);
        self.next_key += 1;
        let stripes = self.rng.random_range(1..4);
        let absent: Vec<u8> = if self.rng.random_ratio(1, 3) { vec![self.rng.random_range(0..WIDTH)] } else { vec![] };
        let id = new_object(&self.meta, &self.group, &key, stripes, &absent).await;
        let group = self.group.id;
        let name = |position: &u8| FragmentName { group, blob: id, stripe: 0, position: *position };
        self.missing.extend(absent.iter().map(name));
        self.rows.extend(absent.iter().map(name));
        self.keys.push((key, id));
    }

    async fn delete(&mut self) {
        if self.keys.is_empty() {
            return;
        }
        let (key, id) = self.keys.swap_remove(self.rng.random_range(0..self.keys.len()));
        self.meta.delete_object(delete("b", &key, VersionSelector::Current)).await.unwrap();
        reclaim_all(&self.meta).await;
        for names in [&mut self.missing, &mut self.rows, &mut self.covered] {
            names.retain(|name| name.blob != id);
        }
    }

    async fn replace(&mut self) {
        let positions: Vec<u8> = (0..WIDTH).filter(|_| self.rng.random_ratio(1, 2)).collect();
        if positions.is_empty() {
            return;
        }
        self.group = replace(&self.meta, &self.group, &positions).await;
        for blob in self.meta.group_blobs(self.group.id, None, 10_000).await.unwrap() {
            for stripe in 0..blob.stripes_by_group()[&self.group.id] as u32 {
                let name =
                    |position: &u8| FragmentName { group: self.group.id, blob: blob.id, stripe, position: *position };
                self.missing.extend(positions.iter().map(name));
                self.covered.extend(positions.iter().map(name));
            }
        }
        self.rows.retain(|name| !self.covered.contains(name));
    }

    /// A read or a scrub finds something.
    async fn find(&mut self) {
        let Some((_, blob)) = self.keys.choose(&mut self.rng) else { return };
        let fragment =
            FragmentName { group: self.group.id, blob: *blob, stripe: 0, position: self.rng.random_range(0..WIDTH) };
        let entry = LedgerEntry { fragment, cause: MissingCause::Corrupt, since_ms: 1 };
        self.meta.ledger_add(&[entry]).await.unwrap();
        self.missing.insert(fragment);
        if !self.covered.contains(&fragment) {
            self.rows.insert(fragment);
        }
    }

    async fn mend(&mut self) {
        let rows = self.meta.ledger(None, 100).await.unwrap();
        let Some(row) = rows.choose(&mut self.rng) else { return };
        self.meta.ledger_clear(row.fragment, self.group.epoch).await.unwrap();
        assert!(self.rows.remove(&row.fragment));
        self.missing.remove(&row.fragment);
    }

    async fn walk(&mut self) {
        if self.meta.group_repair(self.group.id).await.unwrap().is_none() {
            return;
        }
        let limit = self.rng.random_range(1..6);
        let (step, made) = next_step(&self.meta, &self.group, limit).await;
        let mut left = Vec::new();
        for fragment in &made {
            let fragment = *fragment;
            if self.rng.random_ratio(1, 10) {
                self.rows.insert(fragment);
                left.push(LedgerEntry { fragment, cause: MissingCause::DiskLost, since_ms: 1 });
            } else {
                self.missing.remove(&fragment);
            }
        }
        self.meta.leave_behind(&left).await.unwrap();
        // A walk may end here, and another begin where it began.
        if self.rng.random_ratio(9, 10) {
            self.meta.advance_group_repair(step).await.unwrap();
            assert!(made.iter().all(|fragment| self.covered.remove(fragment)), "made though nothing said so");
        }
    }

    async fn check(&self) {
        let length = self.meta.ledger_len().await.unwrap();
        assert_eq!(length, (self.rows.len() + self.covered.len()) as u64);
        // RED-1
        let known = |name: &FragmentName| self.rows.contains(name) || self.covered.contains(name);
        assert!(self.missing.iter().all(known));
    }
}

#[tokio::test]
async fn red_1_the_ledger_counts_exactly_what_is_missing_whatever_comes_between() {
    for round in 0..20 {
        random_work(mem_kv(), seed().wrapping_add(round), round % 2 == 0).await;
    }
}

/// `counted`: in a store whose counters of stripes are true; in others only the end of a walk tells that it is at its
/// end.
pub(crate) async fn random_work(kv: SharedKv, seed: u64, counted: bool) {
    println!("CAIRN_SEED={seed}");
    let meta = Meta::new(kv.clone());
    meta.cluster(policy()).await.unwrap();
    if !counted {
        let mut tx = kv.begin().await.unwrap();
        tx.clear(keyspace::stripes_are_counted());
        tx.commit().await.unwrap();
    }
    meta.create_bucket(bucket("b", Versioning::Off)).await.unwrap();
    let group = group(&meta).await;
    let rng = StdRng::seed_from_u64(seed);
    let none = BTreeSet::new;
    let mut world =
        World { meta, group, rng, keys: Vec::new(), next_key: 0, missing: none(), rows: none(), covered: none() };
    for _ in 0..120 {
        match world.rng.random_range(0..16) {
            0..6 => world.object().await,
            6..8 => world.delete().await,
            8 => world.replace().await,
            9..11 => world.find().await,
            11..13 => world.mend().await,
            _ => world.walk().await,
        }
        world.check().await;
    }
    audited(&world.meta, &format!("seed {seed}")).await;
    let mut steps = 0;
    while world.meta.group_repair(world.group.id).await.unwrap().is_some() {
        world.walk().await;
        steps += 1;
        assert!(steps < 10_000, "seed {seed}: the walk never ends");
    }
    assert_eq!(world.covered, none(), "seed {seed}");
    world.check().await;
    let rows: BTreeSet<_> =
        world.meta.ledger(None, 10_000).await.unwrap().into_iter().map(|row| row.fragment).collect();
    assert_eq!(rows, world.rows, "seed {seed}");
    audited(&world.meta, &format!("seed {seed}")).await;
}
