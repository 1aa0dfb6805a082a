#![allow(clippy::unwrap_used)]

use std::{collections::HashMap, sync::Arc};

use cairn_fragment::geometry::needed_fragments;
use proptest::prelude::*;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::SliceRandom};

use super::{
    super::{DiskLoad, DiskView, Liveness, PolicyView, Told, redundancy::Singles},
    *,
};

fn disk_id(number: usize) -> DiskId {
    DiskId([number as u8 + 1; 16])
}

fn blob_id(number: u8) -> BlobId {
    BlobId([number; 16])
}

/// A disk on a node of its own, two nodes in a rack, two racks in a zone.
fn disk(number: usize) -> Disk {
    Disk {
        id: disk_id(number),
        node: format!("n{number}").parse().unwrap(),
        rack: format!("r{}", number / 2),
        zone: format!("z{}", number / 4),
        capacity_bytes: 1 << 30,
        state: DiskState::Up,
        since_ms: 0,
    }
}

fn rows(disks: usize) -> Rows {
    Rows { disks: (0..disks).map(|number| (disk_id(number), disk(number))).collect(), ..Rows::default() }
}

fn group(rows: &mut Rows, id: u32, scheme: &str, members: &[usize]) -> Group {
    let members = members.iter().map(|number| disk_id(*number)).collect();
    let group = Group { id: GroupId(id), scheme: scheme.parse().unwrap(), members, epoch: 3, state: GroupState::Open };
    rows.groups.insert(group.id, Arc::new(group.clone()));
    group
}

/// One stripe of one blob, and what it lacks in truth.
#[derive(Debug)]
struct Stripe {
    group: Group,
    lacks: Vec<u8>,
}

/// A small cluster, as the rows have it, and as it is.
#[derive(Debug)]
struct Model {
    rows: Rows,
    stripes: BTreeMap<GroupId, u64>,
    repairs: Vec<GroupRepair>,
    ledger: Vec<LedgerEntry>,
    presence: HashMap<DiskId, Presence>,
    truth: Vec<Stripe>,
    /// What the rows say leaves no doubt.
    plain: bool,
}

const MOST_DISKS: usize = 8;

impl Model {
    fn random(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let disks = rng.random_range(3..=MOST_DISKS);
        let doubt = rng.random_bool(0.5);
        let mut model = Self {
            rows: rows(disks),
            stripes: BTreeMap::new(),
            repairs: Vec::new(),
            ledger: Vec::new(),
            presence: HashMap::new(),
            truth: Vec::new(),
            plain: !doubt,
        };
        for number in 0..disks {
            let presence = match rng.random_range(0..12) {
                0 | 1 => Presence::Away,
                2 if doubt => Presence::Unknown,
                _ => Presence::There,
            };
            model.presence.insert(disk_id(number), presence);
        }
        for id in 1..=rng.random_range(1..=3) {
            model.add_group(id, disks, doubt, &mut rng);
        }
        model
    }

    fn add_group(&mut self, id: u32, disks: usize, doubt: bool, rng: &mut StdRng) {
        let schemes = [("replicated(2)", 2), ("replicated(3)", 3), ("2+1", 3), ("2+2", 4), ("4+2", 6)];
        let fitting: Vec<_> = schemes.iter().filter(|(_, width)| *width <= disks).collect();
        let (scheme, width) = fitting[rng.random_range(0..fitting.len())];
        let mut members: Vec<usize> = (0..disks).collect();
        members.shuffle(rng);
        let group = group(&mut self.rows, id, scheme, &members[..*width]);
        let mut blobs: Vec<u8> = (0..6).collect();
        blobs.shuffle(rng);
        blobs.truncate(rng.random_range(0..=5));
        let repair = rng.random_bool(0.5).then(|| random_repair(&group, doubt, rng));
        // Of stripes with rows of their own in a group under repair it is not known what else they lack.
        let singles = doubt || repair.is_none();
        let mut missing = BTreeMap::new();
        for blob in &blobs {
            let epoch = rng.random_range(0..=3);
            let mut lacks = Vec::new();
            for position in 0..*width as u8 {
                let of_repair = |repair: &GroupRepair| {
                    let covers =
                        |p: &PositionRepair| p.position == position && p.covers(repair.cursor, blob_id(*blob), epoch);
                    repair.positions.iter().any(covers)
                };
                let covered = repair.as_ref().is_some_and(of_repair);
                let listed = singles && rng.random_bool(0.15);
                if covered {
                    *missing.entry(position).or_insert(0u64) += 1;
                }
                if listed {
                    let fragment = FragmentName { group: group.id, blob: blob_id(*blob), stripe: 0, position };
                    self.ledger.push(LedgerEntry { fragment, cause: MissingCause::NotFound, since_ms: 0 });
                }
                if covered || listed {
                    lacks.push(position);
                }
            }
            self.truth.push(Stripe { group: group.clone(), lacks });
        }
        self.stripes.insert(group.id, blobs.len() as u64);
        if let Some(mut repair) = repair {
            repair.positions.iter_mut().for_each(|p| p.missing = missing.get(&p.position).copied().unwrap_or(0));
            repair.positions.retain(|position| position.missing > 0);
            self.repairs.extend((!repair.positions.is_empty()).then_some(repair));
        }
    }

    fn redundancy(&self, may_get: bool) -> Redundancy {
        let mut singles = Singles::default();
        let mut ledger = self.ledger.clone();
        ledger.sort_by_key(|entry| entry.fragment);
        for stripe in ledger.chunk_by(|a, b| (a.fragment.group, a.fragment.blob) == (b.fragment.group, b.fragment.blob))
        {
            let group = stripe[0].fragment.group;
            singles.take(self.repairs.iter().find(|repair| repair.group == group), stripe);
        }
        Redundancy::of(&self.rows, Some(&self.stripes), &self.repairs, &singles, |_| may_get)
    }

    fn presence(&self, disk: DiskId) -> Presence {
        self.presence[&disk]
    }

    /// Fragments more than needed that a stripe has.
    fn left(&self, stripe: &Stripe, stopped: &HashSet<DiskId>, at_most: Presence) -> i32 {
        let there = |(position, disk): (u8, &DiskId)| {
            self.presence(*disk) <= at_most && !stopped.contains(disk) && !stripe.lacks.contains(&position)
        };
        let fragments = (0u8..).zip(&stripe.group.members).filter(|member| there(*member)).count();
        fragments as i32 - needed_fragments(stripe.group.scheme) as i32
    }

    /// Of the stripe that has fewest.
    fn least(&self, stopped: &HashSet<DiskId>, at_most: Presence) -> Option<i32> {
        self.truth.iter().map(|stripe| self.left(stripe, stopped, at_most)).min()
    }
}

fn random_repair(group: &Group, doubt: bool, rng: &mut StdRng) -> GroupRepair {
    let place = |rng: &mut StdRng| rng.random_bool(0.5).then(|| blob_id(rng.random_range(0..6)));
    let cursor = place(rng);
    let (mut start, mut wrapped) = (place(rng), rng.random_bool(0.3));
    let mut positions: Vec<u8> = (0..group.members.len() as u8).collect();
    positions.shuffle(rng);
    positions.truncate(rng.random_range(1..=2));
    let mut position = |position: u8| {
        if doubt {
            (start, wrapped) = (place(rng), rng.random_bool(0.3));
        }
        let epoch = rng.random_range(1..=3);
        let (cause, since_ms, from) = (MissingCause::DiskLost, 0, disk_id(200));
        PositionRepair { position, epoch, cause, since_ms, from, start, wrapped, missing: 0 }
    };
    let mut positions: Vec<PositionRepair> = positions.into_iter().map(&mut position).collect();
    positions.sort_by_key(|position| position.position);
    GroupRepair { group: group.id, cursor, positions }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Over all choices of disks of a small cluster: of what is allowed the model finds every stripe readable, and what
    /// is refused has a witness.
    #[test]
    fn dur_1_what_is_allowed_leaves_every_stripe_readable(seed: u64) {
        let model = Model::random(seed);
        let (redundancy, careful) = (model.redundancy(false), model.redundancy(true));
        let disks = model.rows.disks.len();
        for choice in 0u32..1 << disks {
            let stopped: HashSet<DiskId> = (0..disks).filter(|d| choice & 1 << d != 0).map(disk_id).collect();
            let told = reads(&model.rows, &redundancy, |disk| model.presence(disk), &stopped);
            let worst = model.least(&stopped, Presence::There);
            let best = model.least(&stopped, Presence::Unknown);
            match told.answer {
                Answer::Yes => prop_assert!(worst.is_none_or(|least| least >= 0), "{stopped:?} {told:?} {model:?}"),
                Answer::No => prop_assert!(best.is_some_and(|least| least < 0), "{stopped:?} {told:?} {model:?}"),
                Answer::Unknown => prop_assert!(!model.plain, "{stopped:?} {told:?} {model:?}"),
            }
            // Never more than there is; and just that where nothing is in doubt.
            prop_assert!(told.least_after.is_some() == worst.is_some() && told.least_after <= worst, "{told:?} {model:?}");
            if model.plain {
                prop_assert_eq!(told.least_after, worst, "{:?} {:?}", stopped, &model);
                prop_assert_eq!(told.least_before, model.least(&HashSet::new(), Presence::There));
                let lost = model.truth.iter().filter(|stripe| model.left(stripe, &stopped, Presence::There) < 0);
                prop_assert_eq!(told.unreadable_stripes, Some(lost.count() as u64), "{:?} {:?}", stopped, &model);
            }
            prop_assert_eq!(told.examples.is_empty(), told.answer == Answer::Yes);
            // A group that may be given a stripe at any moment never makes it safer.
            let careful = reads(&model.rows, &careful, |disk| model.presence(disk), &stopped);
            prop_assert!(careful.answer != Answer::Yes || told.answer == Answer::Yes);
        }
    }
}

/// Four racks of two nodes; 4+2 with two members in each of two racks.
#[test]
fn thin_groups_and_missing_fragments_count() {
    let mut rows = rows(8);
    group(&mut rows, 1, "4+2", &[0, 1, 2, 3, 4, 6]);
    let stripes = BTreeMap::from([(GroupId(1), 5)]);
    let there = |_: DiskId| Presence::There;
    let judged = |repairs: &[GroupRepair], ledger: &[LedgerEntry], stopped: &[usize]| {
        let mut singles = Singles::default();
        singles.take(repairs.first(), ledger);
        let redundancy = Redundancy::of(&rows, Some(&stripes), repairs, &singles, |_| false);
        let stopped = stopped.iter().map(|number| disk_id(*number)).collect();
        let told = reads(&rows, &redundancy, there, &stopped);
        (told.answer, told.least_before, told.least_after, told.unreadable_stripes)
    };
    let fragment = |position| FragmentName { group: GroupId(1), blob: blob_id(1), stripe: 0, position };
    let entry = |position| LedgerEntry { fragment: fragment(position), cause: MissingCause::NotFound, since_ms: 0 };
    assert_eq!(judged(&[], &[], &[0, 1]), (Answer::Yes, Some(2), Some(0), Some(0)));
    assert_eq!(judged(&[], &[], &[0, 1, 4]), (Answer::No, Some(2), Some(-1), Some(5)));
    // One fragment that a scrub found missing is enough, for the one stripe.
    assert_eq!(judged(&[], &[entry(4)], &[0, 1]), (Answer::No, Some(1), Some(-1), Some(1)));
    assert_eq!(judged(&[], &[entry(0)], &[0, 1]), (Answer::Yes, Some(1), Some(0), Some(0)));
    // So are members that are not filled yet.
    let position = |position, missing| PositionRepair {
        position,
        epoch: 2,
        cause: MissingCause::DiskLost,
        since_ms: 0,
        from: disk_id(9),
        start: None,
        wrapped: false,
        missing,
    };
    let repair = |positions| GroupRepair { group: GroupId(1), cursor: None, positions };
    assert_eq!(judged(&[repair(vec![position(5, 3)])], &[], &[0, 1]), (Answer::No, Some(1), Some(-1), Some(3)));
    assert_eq!(judged(&[repair(vec![position(5, 3)])], &[], &[6]), (Answer::Yes, Some(1), Some(1), Some(0)));
    // The stripe with a row of its own may be one of those that the walk is still to come to.
    let both = judged(&[repair(vec![position(5, 3)])], &[entry(4)], &[0]);
    assert_eq!(both, (Answer::Unknown, Some(0), Some(-1), None));
}

#[test]
fn what_was_not_read_and_what_may_come_is_not_taken_for_whole() {
    let mut rows = rows(4);
    group(&mut rows, 1, "2+1", &[0, 1, 2]);
    let there = |_: DiskId| Presence::There;
    let one = HashSet::from([disk_id(0)]);
    let two = HashSet::from([disk_id(0), disk_id(1)]);
    let of = |stripes: Option<u64>, singles: &Singles, may_get| {
        let stripes = stripes.map(|count| BTreeMap::from([(GroupId(1), count)]));
        Redundancy::of(&rows, stripes.as_ref(), &[], singles, move |_| may_get)
    };
    let mut unread = Singles::default();
    unread.leave_unread(GroupId(1));
    let told = reads(&rows, &of(Some(4), &unread, false), there, &one);
    assert_eq!((told.answer, told.doubtful_groups, told.unreadable_stripes), (Answer::Unknown, 1, None));
    assert!(told.examples[0].unread);
    // What cannot be read by what is known already, cannot whatever else there is.
    assert_eq!(reads(&rows, &of(Some(4), &unread, false), there, &two).answer, Answer::No);
    let known = Singles::default();
    // No stripes yet; but there may be one in a moment.
    let told = reads(&rows, &of(Some(0), &known, false), there, &two);
    assert_eq!((told.answer, told.least_after), (Answer::Yes, None));
    assert_eq!(reads(&rows, &of(Some(0), &known, true), there, &two).answer, Answer::Unknown);
    assert_eq!(reads(&rows, &of(Some(0), &known, true), there, &one).answer, Answer::Yes);
    // A store that does not count may have some anywhere.
    assert_eq!(reads(&rows, &of(None, &known, false), there, &two).answer, Answer::Unknown);
    // A member of which there is no row.
    let silent = |disk: DiskId| if disk == disk_id(2) { Presence::Unknown } else { Presence::There };
    assert_eq!(reads(&rows, &of(Some(4), &known, false), silent, &one).answer, Answer::Unknown);
    assert_eq!(reads(&rows, &of(Some(4), &known, false), silent, &HashSet::new()).answer, Answer::Yes);
}

#[test]
fn names_find_their_disks_or_a_reason() {
    let mut rows = rows(8);
    let found = |rows: &Rows, kind, names: &[&str]| {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        disks_of(rows, kind, &names).map(|disks| {
            let mut numbers: Vec<u8> = disks.iter().map(|disk| disk.0[0] - 1).collect();
            numbers.sort_unstable();
            numbers
        })
    };
    assert_eq!(found(&rows, Named::Node, &["n1", "n5"]), Ok(vec![1, 5]));
    assert_eq!(found(&rows, Named::Rack, &["z0/r1"]), Ok(vec![2, 3]));
    assert_eq!(found(&rows, Named::Rack, &["r1"]), Ok(vec![2, 3]));
    assert_eq!(found(&rows, Named::Zone, &["z1"]), Ok(vec![4, 5, 6, 7]));
    assert_eq!(found(&rows, Named::Disk, &[&disk_id(3).to_string()]), Ok(vec![3]));
    assert_eq!(found(&rows, Named::Node, &["n1", "n9"]), Err(UnknownName::Nothing(Named::Node, "n9".into())));
    assert_eq!(found(&rows, Named::Disk, &[]), Err(UnknownName::None(Named::Disk)));
    rows.disks.get_mut(&disk_id(4)).unwrap().rack = "r1".into();
    let several = UnknownName::Several { name: "r1".into(), zones: vec!["z0".into(), "z1".into()] };
    assert!(several.to_string().ends_with("write one as z0/r1 or z1/r1"), "{several}");
    assert_eq!(found(&rows, Named::Rack, &["r1"]), Err(several));
    assert_eq!(found(&rows, Named::Rack, &["z1/r1"]), Ok(vec![4]));
    rows.disks.get_mut(&disk_id(1)).unwrap().state = DiskState::Removed;
    assert!(found(&rows, Named::Node, &["n1"]).is_err());
}

/// A picture in which every disk takes writes but those that somebody works on.
fn picture(rows: &Rows, policy: Policy, maintained: &[usize]) -> Topology {
    let load = DiskLoad { free_bytes: 1 << 30, used_bytes: 0, writable: true, read_us: 1, write_us: 1 };
    let view = |disk: &Disk| DiskView {
        disk: disk.clone(),
        liveness: Liveness::Alive,
        load: Some(load),
        shunned_reads: 0,
        shunned_writes: 0,
        maintained: maintained.iter().any(|number| disk_id(*number) == disk.id),
        sending: Arc::default(),
    };
    let disks = rows.disks.values().map(|disk| (disk.id, view(disk))).collect();
    let policy = Arc::new(PolicyView::new(&Told::from(policy), None));
    Topology::new(1, Arc::new(rows.clone()), HashMap::new(), disks, policy)
}

#[test]
fn writes_go_on_as_far_as_the_rest_can_take_them() {
    let mut rows = rows(8);
    let (scheme, copies) = ("2+1".parse().unwrap(), "replicated(3)".parse().unwrap());
    let policy = Policy { write_margin: 1, ..Policy::new(scheme, copies, FailureDomain::Rack) };
    group(&mut rows, 1, "2+1", &[0, 2, 4]);
    group(&mut rows, 2, "replicated(3)", &[0, 2, 4]);
    let told = |stopped: &[usize], maintained: &[usize]| -> Vec<(Writes, u64)> {
        let gone = stopped.iter().map(|number| disk_id(*number)).collect();
        let told = writes(&picture(&rows, policy, maintained).without(&gone));
        assert!(told.iter().all(|writes| writes.why.is_none() == (writes.writes == Writes::Whole)), "{told:?}");
        told.into_iter().map(|writes| (writes.writes, writes.groups_refusing)).collect()
    };
    assert_eq!(told(&[], &[]), [(Writes::Whole, 0), (Writes::Whole, 0)]);
    // The other racks take new groups; the old one of 2+1 takes nothing with a margin of one.
    assert_eq!(told(&[0, 1], &[]), [(Writes::Whole, 1), (Writes::Whole, 0)]);
    assert_eq!(told(&[], &[0, 1]), [(Writes::Whole, 1), (Writes::Whole, 0)], "somebody works there");
    // Two racks are left: they may have one fragment of 2+1 each, and two copies.
    assert_eq!(told(&[0, 1, 6, 7], &[]), [(Writes::Refused, 1), (Writes::Whole, 0)]);
    // Two disks are left, and two copies suffice.
    assert_eq!(told(&[0, 1, 3, 5, 6, 7], &[]), [(Writes::Refused, 1), (Writes::Degraded, 0)]);
    assert_eq!(told(&[0, 1, 2, 3, 6, 7], &[]), [(Writes::Refused, 1), (Writes::Refused, 1)]);
}

/// Whoever is asked a moment before the members change answers for the moment after, too.
#[test]
fn dur_1_a_disk_that_becomes_a_member_at_any_moment_counts_as_one_already() {
    let mut rows = rows(6);
    let group = group(&mut rows, 1, "2+1", &[0, 1, 2]);
    let stripes = BTreeMap::from([(group.id, 5)]);
    let moved = |epoch| GroupMove {
        group: group.id,
        id: AttemptId([0; 16]),
        job: JobId(1),
        epoch,
        since_ms: 0,
        was_open: true,
        positions: vec![PositionMove { position: 0, from: disk_id(0), to: disk_id(3), up_since_ms: 0 }],
        cursor: None,
        walked: false,
        bytes: 0,
    };
    let known = || Redundancy::of(&rows, Some(&stripes), &[], &Singles::default(), |_| false);
    let ask = |redundancy: &Redundancy, away: &[usize], stopped: &[usize]| {
        let away: Vec<DiskId> = away.iter().map(|number| disk_id(*number)).collect();
        let presence = |disk| if away.contains(&disk) { Presence::Away } else { Presence::There };
        reads(&rows, redundancy, presence, &stopped.iter().map(|number| disk_id(*number)).collect())
    };
    let (still, moving) = (known(), known().moving(&rows, &[moved(3)]));
    assert_eq!(ask(&still, &[1], &[3]).answer, Answer::Yes, "it is no member");
    let doubtful = ask(&moving, &[1], &[3]);
    assert_eq!((doubtful.answer, &doubtful.examples[0].coming), (Answer::Unknown, &vec![disk_id(3)]));
    assert_eq!(ask(&moving, &[3], &[1]).answer, Answer::Unknown);
    assert_eq!(ask(&moving, &[], &[3]).answer, Answer::Yes, "either way two are left");
    // The old one is a member still.
    assert_eq!(ask(&moving, &[1], &[0]).answer, Answer::No);
    // What was begun under an epoch that is over comes to nothing.
    assert_eq!(ask(&known().moving(&rows, &[moved(2)]), &[1], &[3]).answer, Answer::Yes);
}
