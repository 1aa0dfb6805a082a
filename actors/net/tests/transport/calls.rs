use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use cairn_fragment::{
    BlobRange, Bounded, DiskError, Fragments, NameDigest, NewFragment, PARTS, Priority, Probes, TransportError,
};
use cairn_net::{
    tls::Identity,
    transport::{
        meta::{MetaCalls, MetaService, QuicMeta},
        quic::{Endpoint, QuicOptions},
    },
    wire::message::MAX_NAMES,
};
use cairn_schema::ids::{DiskId, GroupId, NodeId};

use crate::support::*;

async fn two() -> (Node, Node) {
    let ca = ca();
    let (a, b) = (Node::start(&ca, "a", 1).await, Node::start(&ca, "b", 2).await);
    a.knows(&[&a, &b]);
    b.knows(&[&a, &b]);
    (a, b)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fragments_cross_between_two_nodes() {
    let (a, b) = two().await;
    let payload = bytes(1, 1 << 20);
    for (node, disk) in [(&a, a.disk.id), (&a, b.disk.id), (&b, a.disk.id)] {
        node.router.put(disk, fragment(7, payload.clone()), soon()).await.unwrap();
        assert_eq!(node.router.get(disk, name(7), 0..1 << 20, soon()).await.unwrap(), payload);
        let part = node.router.get(disk, name(7), 65_530..200_001, soon()).await.unwrap();
        assert_eq!(part, payload.slice(65_530..200_001));
        assert!(node.router.get(disk, name(7), 5..5, soon()).await.unwrap().is_empty());
        let info = node.router.info(disk, name(7), soon()).await.unwrap();
        assert_eq!((info.name, info.length), (name(7), 1 << 20));
        assert_eq!(node.router.verify(disk, name(7), soon()).await.unwrap(), info);
        assert_eq!(node.router.disk_status(disk, soon()).await.unwrap().read_us, 7);
    }
    assert_eq!(b.disk.fragments.lock()[&name(7)], payload);
    assert!(a.router.is_local(a.disk.id) && !a.router.is_local(b.disk.id));
    assert!(a.metric("cairn_transport_requests_total", &[("side", "client"), ("outcome", "ok")]) >= 6.0);
    assert_eq!(b.metric("cairn_transport_connections", &[("side", "server")]), 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn empty_fragments_and_odd_lengths_cross() {
    let (a, b) = two().await;
    for (stripe, len) in [0usize, 1, 65_535, 65_536, 65_537, 3_000_001].into_iter().enumerate() {
        let payload = bytes(len as u64, len);
        a.router.put(b.disk.id, fragment(stripe as u32, payload.clone()), soon()).await.unwrap();
        assert_eq!(a.router.get(b.disk.id, name(stripe as u32), 0..len as u32, soon()).await.unwrap(), payload);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disks_errors_cross_as_they_are() {
    let (a, b) = two().await;
    let missing = a.router.get(b.disk.id, name(1), 0..10, soon()).await;
    assert!(matches!(missing, Err(TransportError::Disk(DiskError::NotFound(n))) if n == name(1)), "{missing:?}");
    a.router.put(b.disk.id, fragment(1, bytes(1, 10)), soon()).await.unwrap();
    let outside = a.router.get(b.disk.id, name(1), 5..20, soon()).await;
    let Err(TransportError::Disk(DiskError::OutOfRange { start: 5, end: 20, length: 10, .. })) = outside else {
        panic!("{outside:?}")
    };
    let unknown = a.router.info(DiskId([9; 16]), name(1), soon()).await;
    assert!(matches!(unknown, Err(TransportError::UnknownDisk(_))), "{unknown:?}");
    // A disk that the peer no longer has, though the topology still says so.
    a.known.set(vec![(DiskId([9; 16]), b.id.clone())], vec![(b.id.clone(), b.endpoint.local_addr())]);
    let gone = a.router.info(DiskId([9; 16]), name(1), soon()).await;
    assert!(matches!(gone, Err(TransportError::UnknownDisk(_))), "{gone:?}");
    a.known.set(vec![(DiskId([9; 16]), a.id.clone())], vec![]);
    let closed = a.router.info(DiskId([9; 16]), name(1), soon()).await;
    assert!(matches!(closed, Err(TransportError::Disk(DiskError::Gone(_)))), "{closed:?}");
}

/// INT-1: bytes that changed after their checksums were made are stored nowhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn int_1_a_fragment_that_does_not_match_its_checksums_is_not_stored() {
    let (a, b) = two().await;
    let good = fragment(1, bytes(1, 200_000));
    let mut flipped = good.payload.to_vec();
    flipped[150_000] ^= 1;
    let bad = NewFragment { payload: flipped.into(), ..good };
    let refused = a.router.put(b.disk.id, bad, soon()).await;
    assert!(matches!(refused, Err(TransportError::Disk(DiskError::BadChecksum))), "{refused:?}");
    assert!(b.disk.fragments.lock().is_empty());
    let too_few = NewFragment { name: name(1), payload: bytes(1, 200_000), block_checksums: vec![1] };
    let refused = a.router.put(b.disk.id, too_few, soon()).await;
    assert!(matches!(refused, Err(TransportError::Protocol(..))), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_disk_is_told_what_yields_to_clients_wherever_it_is() {
    let (a, b) = two().await;
    let deadline: Instant = soon();
    for disk in [&a.disk, &b.disk] {
        let clients = Bounded::new(Arc::new(a.router.clone()));
        let background = clients.with_priority(Priority::Background);
        background.put(disk.id, fragment(1, bytes(1, 10)), deadline).await.unwrap();
        clients.get(disk.id, name(1), 0..10, deadline).await.unwrap();
        background.verify(disk.id, name(1), deadline).await.unwrap();
        let turns = std::mem::take(&mut *disk.turns.lock());
        assert_eq!(turns, [Priority::Background, Priority::Client, Priority::Background]);
    }
}

/// More of it than memory and windows would hold waits, and a client's fragment passes it by.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bnd_1_what_waits_for_its_turn_at_a_disk_keeps_no_client_waiting() {
    const LARGE: usize = 1 << 20;
    let ca = ca();
    let options = QuicOptions { max_served_bytes: 2 << 20, ..QuicOptions::default() };
    let (a, b) = (Node::start(&ca, "a", 1).await, Node::start_at(&ca, "b", 2, loopback(), options).await);
    a.knows(&[&a, &b]);
    b.disk.turns_held.store(true, Ordering::SeqCst);
    let clients = Bounded::new(Arc::new(a.router.clone()));
    let background = clients.with_priority(Priority::Background);
    let deadline: Instant = after_ms(60_000);
    let waiting: Vec<_> = (0..40)
        .map(|stripe| {
            let (background, disk) = (background.clone(), b.disk.id);
            tokio::spawn(async move { background.put(disk, fragment(stripe, bytes(1, LARGE)), deadline).await })
        })
        .collect();
    eventually("some wait", || !b.disk.turns.lock().is_empty()).await;
    for stripe in 100..120 {
        clients.put(b.disk.id, fragment(stripe, bytes(1, LARGE)), soon()).await.unwrap();
    }
    assert_eq!(b.disk.fragments.lock().len(), 20);
    b.disk.turns_held.store(false, Ordering::SeqCst);
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_and_deletes_of_more_than_one_frame() {
    let (a, b) = two().await;
    let count = MAX_NAMES as u32 + 500;
    b.disk.fragments.lock().extend((0..count).map(|stripe| (name(stripe), Bytes::from_static(b"x"))));
    let (disk, group) = (b.disk.id, Some(GroupId(3)));
    let mut listed = a.router.list(disk, group, None, usize::MAX, soon()).await.unwrap();
    assert_eq!(listed.len(), MAX_NAMES);
    let after = Some(listed[listed.len() - 1].name);
    listed.extend(a.router.list(disk, group, after, usize::MAX, soon()).await.unwrap());
    let names: Vec<_> = listed.iter().map(|info| info.name).collect();
    assert_eq!(names, (0..count).map(name).collect::<Vec<_>>());
    assert!(a.router.list(disk, Some(GroupId(4)), None, 10, soon()).await.unwrap().is_empty());
    assert_eq!(a.router.list(disk, None, None, 3, soon()).await.unwrap().len(), 3);
    for range in [BlobRange::ALL, BlobRange::ALL.part(BlobRange::ALL.part_of(name(0).blob)).unwrap()] {
        let mut wanted = vec![NameDigest::default(); PARTS];
        names.iter().for_each(|name| wanted[range.part_of(name.blob)].add(name.blob, name.stripe));
        let digests = a.router.digests(disk, name(0).group, name(0).position, range, soon()).await.unwrap();
        assert_eq!(digests, wanted);
    }
    assert_eq!(a.router.delete(disk, names, soon()).await.unwrap(), u64::from(count));
    assert!(b.disk.fragments.lock().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probes_ask_directly_and_through_another() {
    let ca = ca();
    let (a, b) = (Node::start(&ca, "a", 1).await, Node::start(&ca, "b", 2).await);
    let c = Node::start(&ca, "c", 3).await;
    a.knows(&[&b, &c]);
    b.knows(&[&c]);
    assert!(a.router.probe(&c.id, soon()).await.is_ok());
    assert!(a.router.probe(&a.id, soon()).await.is_ok());
    assert!(a.router.probe_through(&b.id, &c.id, soon()).await.unwrap());
    assert!(a.router.probe_through(&a.id, &c.id, soon()).await.unwrap());
    c.endpoint.close(Duration::ZERO).await;
    assert!(!a.router.probe_through(&b.id, &c.id, after_ms(700)).await.unwrap());
    assert!(a.router.probe(&c.id, after_ms(500)).await.is_err());
    // b does not know a node by that name.
    assert!(!a.router.probe_through(&b.id, &node("z"), soon()).await.unwrap());
    assert!(matches!(a.router.probe(&node("z"), soon()).await, Err(TransportError::Unreachable(..))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deadlines_end_calls_to_disks_that_never_answer() {
    let (a, b) = two().await;
    a.router.put(b.disk.id, fragment(1, bytes(1, 100)), soon()).await.unwrap();
    b.disk.stalled.store(true, Ordering::SeqCst);
    let started = Instant::now();
    let late = a.router.get(b.disk.id, name(1), 0..10, after_ms(200)).await;
    assert!(matches!(late, Err(TransportError::Deadline(_))), "{late:?}");
    assert!(started.elapsed() < Duration::from_secs(5));
    // The connection lives: what does not touch the disk still works on it.
    a.router.probe(&b.id, soon()).await.unwrap();
    b.disk.stalled.store(false, Ordering::SeqCst);
    assert_eq!(a.router.get(b.disk.id, name(1), 0..10, soon()).await.unwrap().len(), 10);
    // A local disk is held to deadlines too.
    a.disk.stalled.store(true, Ordering::SeqCst);
    let late = a.router.get(a.disk.id, name(1), 0..10, after_ms(50)).await;
    assert!(matches!(late, Err(TransportError::Deadline(_))), "{late:?}");
    assert_eq!(a.metric("cairn_transport_dials_total", &[("outcome", "connected")]), 1.0);
}

/// BND-1: a burst larger than every bound is carried, within the bounds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bnd_1_a_burst_waits_its_turn() {
    let ca = ca();
    let options = QuicOptions { max_requests: 8, max_bytes: 3 << 20, ..QuicOptions::default() };
    let a = Node::start_at(&ca, "a", 1, loopback(), options.clone()).await;
    let b = Node::start_at(&ca, "b", 2, loopback(), options).await;
    a.knows(&[&b]);
    let payload = bytes(1, 1 << 20);
    let puts = (0..40).map(|i| a.router.put(b.disk.id, fragment(i, payload.clone()), soon()));
    for done in futures::future::join_all(puts).await {
        done.unwrap();
    }
    assert_eq!(b.disk.fragments.lock().len(), 40);
    let most = b.disk.most_at_once.load(Ordering::SeqCst);
    assert!(most <= 3, "{most} fragments of 1 MiB at once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bnd_1_a_full_queue_is_busy_not_endless() {
    let ca = ca();
    let options = QuicOptions { max_requests: 2, ..QuicOptions::default() };
    let a = Node::start_at(&ca, "a", 1, loopback(), options).await;
    let b = Node::start(&ca, "b", 2).await;
    a.knows(&[&b]);
    b.disk.fragments.lock().insert(name(1), bytes(1, 10));
    b.disk.stalled.store(true, Ordering::SeqCst);
    let stuck: Vec<_> = (0..2)
        .map(|_| {
            let (router, disk) = (a.router.clone(), b.disk.id);
            tokio::spawn(async move { router.get(disk, name(1), 0..10, soon()).await })
        })
        .collect();
    eventually("both reach the disk", || b.disk.most_at_once.load(Ordering::SeqCst) == 2).await;
    let busy = a.router.get(b.disk.id, name(1), 0..10, after_ms(100)).await;
    assert!(matches!(busy, Err(TransportError::Busy(_))), "{busy:?}");
    stuck.iter().for_each(|task| task.abort());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_call_gives_its_place_back() {
    let ca = ca();
    let options = QuicOptions { max_requests: 1, ..QuicOptions::default() };
    let a = Node::start_at(&ca, "a", 1, loopback(), options).await;
    let b = Node::start(&ca, "b", 2).await;
    a.knows(&[&b]);
    a.router.put(b.disk.id, fragment(1, bytes(1, 10)), soon()).await.unwrap();
    b.disk.stalled.store(true, Ordering::SeqCst);
    for _ in 0..5 {
        let cancelled =
            tokio::time::timeout(Duration::from_millis(30), a.router.get(b.disk.id, name(1), 0..10, soon()));
        assert!(cancelled.await.is_err());
    }
    b.disk.stalled.store(false, Ordering::SeqCst);
    assert_eq!(a.router.get(b.disk.id, name(1), 0..10, soon()).await.unwrap().len(), 10);
}

/// A process that dies says nothing to its peers; one that comes back at the same address is found at once.
#[test]
fn a_peer_that_dies_and_returns_is_found_again() {
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let ca = ca();
    let identity = Identity::issue(&ca, &node("b"), &[]).unwrap();
    let (ours, theirs) = (runtime(), runtime());
    let a = ours.block_on(Node::start(&ca, "a", 1));
    let b = theirs.block_on(Node::with_identity(&identity, 2, loopback(), QuicOptions::default()));
    let address = b.endpoint.local_addr();
    a.knows(&[&b]);
    ours.block_on(a.router.probe(&b.id, soon())).unwrap();
    // No goodbye: its tasks stop where they are, and its sockets close.
    theirs.shutdown_background();
    drop(b);

    let dead = ours.block_on(a.router.probe(&node("b"), after_ms(300)));
    assert!(matches!(dead, Err(TransportError::Deadline(_) | TransportError::Unreachable(..))), "{dead:?}");
    let theirs = runtime();
    let b = loop {
        // The dead process's socket may take a moment to close.
        let options = QuicOptions::default();
        if let Ok(endpoint) = theirs.block_on(Endpoint::bind(address, &identity, options.clone())) {
            theirs.block_on(endpoint.close(Duration::ZERO));
            drop(endpoint);
            std::thread::sleep(Duration::from_millis(20));
            break theirs.block_on(Node::with_identity(&identity, 2, address, options));
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let started = Instant::now();
    ours.block_on(async {
        while let Err(error) = a.router.probe(&node("b"), after_ms(1_000)).await {
            assert!(started.elapsed() < Duration::from_secs(15), "{error}");
        }
        a.router.put(b.disk.id, fragment(1, bytes(1, 100)), soon()).await.unwrap();
    });
    println!("found again after {:?}", started.elapsed());
    assert!(started.elapsed() < Duration::from_secs(5), "the idle timeout had to pass first");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreachable_peer_fails_fast_and_is_tried_again() {
    let ca = ca();
    let options = QuicOptions {
        setup_timeout: Duration::from_millis(200),
        backoff: Duration::from_millis(400),
        ..QuicOptions::default()
    };
    let a = Node::start_at(&ca, "a", 1, loopback(), options).await;
    let nowhere = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let disk = DiskId([2; 16]);
    a.known.set(vec![(disk, node("b"))], vec![(node("b"), nowhere.local_addr().unwrap())]);
    let first = a.router.info(disk, name(1), soon()).await;
    assert!(matches!(&first, Err(TransportError::Unreachable(_, why)) if why == "no answer"), "{first:?}");
    let started = Instant::now();
    let second = a.router.info(disk, name(1), soon()).await;
    assert!(matches!(second, Err(TransportError::Unreachable(..))), "{second:?}");
    assert!(started.elapsed() < Duration::from_millis(150), "no second dial yet: {:?}", started.elapsed());
    let b = Node::start(&ca, "b", 2).await;
    a.knows(&[&b]);
    a.router.put(disk, fragment(1, bytes(1, 10)), soon()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_lets_requests_in_hand_finish() {
    let (a, b) = two().await;
    let payload = bytes(4, 8 << 20);
    a.router.put(b.disk.id, fragment(1, payload.clone()), soon()).await.unwrap();
    let reading = tokio::spawn({
        let (router, disk) = (a.router.clone(), b.disk.id);
        async move { router.get(disk, name(1), 0..8 << 20, soon()).await }
    });
    let before = b.disk.most_at_once.load(Ordering::SeqCst);
    eventually("the read reaches the disk", || {
        b.disk.most_at_once.load(Ordering::SeqCst) > before
            || b.metric("cairn_transport_requests_total", &[("kind", "get")]) > 0.0
            || reading.is_finished()
    })
    .await;
    b.endpoint.close(Duration::from_secs(10)).await;
    assert_eq!(reading.await.unwrap().unwrap(), payload);
    let closed = a.router.info(b.disk.id, name(1), after_ms(500)).await;
    assert!(closed.is_err());
}

struct Echo;

#[async_trait::async_trait]
impl MetaCalls for Echo {
    async fn call(&self, peer: &NodeId, request: Bytes) -> Result<Bytes, String> {
        if request.is_empty() {
            Err("nothing asked".into())
        } else {
            Ok([peer.as_str().as_bytes(), &request].concat().into())
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metadata_calls_reach_the_one_that_serves_them() {
    let ca = ca();
    let identity = Identity::issue(&ca, &node("meta"), &[]).unwrap();
    let server = Endpoint::bind(loopback(), &identity, QuicOptions::default()).await.unwrap();
    server.serve(std::sync::Arc::new(MetaService::new(Echo)));
    let a = Node::start(&ca, "a", 1).await;
    let meta = QuicMeta::new(a.endpoint.client(), node("meta"), server.local_addr());
    let request = bytes(1, 5_000_000);
    let reply = meta.call_until(request.clone(), soon()).await.unwrap();
    assert_eq!(reply, [b"a", &request[..]].concat());
    let refused = meta.call_until(Bytes::new(), soon()).await.unwrap_err();
    assert!(matches!(refused.error, TransportError::Protocol(..)) && refused.sent, "{refused:?}");
    let too_large = meta.call_until(Bytes::from(vec![0; 40 << 20]), soon()).await.unwrap_err();
    assert!(matches!(too_large.error, TransportError::Protocol(..)) && !too_large.sent, "{too_large:?}");
    // A fragment node serves none, and the metadata node no fragments.
    let wrong = QuicMeta::new(server.client(), node("a"), a.endpoint.local_addr());
    let unserved = wrong.call_until(request, soon()).await.unwrap_err();
    assert!(matches!(unserved.error, TransportError::Protocol(..)), "{unserved:?}");
    a.known.set(vec![(DiskId([7; 16]), node("meta"))], vec![(node("meta"), server.local_addr())]);
    assert!(matches!(a.router.info(DiskId([7; 16]), name(1), soon()).await, Err(TransportError::Protocol(..))));
    a.router.probe(&node("meta"), soon()).await.unwrap();
    // Nobody there: the call certainly did not happen.
    server.close(Duration::ZERO).await;
    let nobody = meta.call_until(bytes(1, 10), after_ms(300)).await.unwrap_err();
    assert!(!nobody.sent, "{nobody:?}");
}
