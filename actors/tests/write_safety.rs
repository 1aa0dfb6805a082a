//! What an acknowledged write survives at the moment of its acknowledgement, before anything that is still under way
//! arrives.
#![allow(clippy::unwrap_used)]

mod twin;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use cairn_actors::{StoreError, placement::Liveness};
use cairn_schema::{ids::*, verbs::*};
use futures::future::join_all;
use twin::*;

const NEEDED: usize = 4;

fn slow(millis: u64) -> Fault {
    Fault { write_delay: Duration::from_millis(millis), ..Fault::default() }
}

/// Racks whose loss would now leave too few fragments of some stripe of the key: their number is a disk id's first
/// byte.
async fn fatal_racks(twin: &Twin, key: &str) -> BTreeSet<u8> {
    let stored = twin.fragments.all();
    let located = twin.store.locate(BUCKET, key, VersionSelector::Current, RangeRequest::All).await.unwrap();
    let blob = &located.parts[0].slices[0].blob;
    let stripes = blob.runs.iter().map(|run| run.stripes).sum::<u32>();
    let mut fatal = BTreeSet::new();
    for stripe in 0..stripes {
        // A stripe may lie in two groups for a moment: what the metadata does not name is nothing.
        let mut first = 0;
        let group = blob.runs.iter().find_map(|run| {
            first += run.stripes;
            (stripe < first).then_some(run.group)
        });
        let mut by_rack: BTreeMap<u8, usize> = BTreeMap::new();
        let of_stripe =
            |name: &FragmentName| name.blob == blob.id && name.stripe == stripe && Some(name.group) == group;
        stored
            .iter()
            .filter(|(_, name)| of_stripe(name))
            .for_each(|(disk, _)| *by_rack.entry(disk.0[0]).or_default() += 1);
        let all: usize = by_rack.values().sum();
        fatal.extend((0..4).filter(|rack| all - by_rack.get(rack).unwrap_or(&0) < NEEDED));
    }
    fatal
}

/// Four racks of two disks, 4+2, as README's example: three slow disks are in every group, and any rack may be lost the
/// moment after the answer.
#[tokio::test]
async fn dur_1_with_slow_disks_in_the_others_any_of_four_racks_may_be_lost_at_once() {
    let twin = twin(Shape { racks: 4, disks_per_node: 2, ..Shape::default() }).await;
    [0, 3, 5].iter().for_each(|disk| twin.fault(*disk, slow(700)));
    let keys: Vec<String> = (0..12).map(|number| format!("key{number}")).collect();
    let put = |(key, seed)| {
        let twin = &twin;
        async move {
            let bytes = random_bytes(11_000, seed);
            twin.put(key, &bytes).await.unwrap();
            (key, fatal_racks(twin, key).await)
        }
    };
    let acknowledged = join_all(keys.iter().map(String::as_str).zip(0..).map(put)).await;
    let fatal: Vec<_> = acknowledged.into_iter().filter(|(_, racks)| !racks.is_empty()).collect();
    assert!(fatal.is_empty(), "lost with a rack: {fatal:?}");
}

/// A disk that refuses leaves five of six fragments in three racks, of which two racks hold two each: enough by number,
/// and refused, because the loss of one of those would leave three.
#[tokio::test]
async fn dur_1_enough_fragments_in_too_few_racks_are_refused_and_nothing_stays() {
    let twin = twin(Shape { racks: 3, disks_per_node: 2, ..Shape::default() }).await;
    twin.fault(5, OFF);
    let error = twin.put("key", &random_bytes(3_000, 1)).await.unwrap_err();
    assert!(matches!(error, StoreError::TooCrowded { .. } | StoreError::NoPlacement { .. }), "{error}");
    twin.fragments.heal_all();
    assert_eq!(twin.settled().await, []);
}

/// Once it is known to be gone there is nothing to wait for: what is left takes writes, and the ledger knows.
#[tokio::test]
async fn a_disk_that_is_known_to_be_gone_does_not_stop_writes() {
    let twin = twin(Shape { racks: 3, nodes_per_rack: 2, ..Shape::default() }).await;
    twin.fault(5, OFF);
    twin.placement.set_liveness([(node_id(2, 1), Liveness::Dead)]);
    let bytes = random_bytes(3_000, 1);
    twin.put("key", &bytes).await.unwrap();
    assert_eq!(twin.ledger().await.len(), 1);
    assert_eq!(twin.get_all("key").await.unwrap(), bytes);
}
