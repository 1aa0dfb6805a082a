//! Clients that stall or flood: they pay for it, and the others do not.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::{
    request::{Request, bytes},
    sign::Signer,
    wire::{Answer, Wire},
    world::World,
};

const MIB: usize = 1 << 20;
/// Another address than that of the others.
const ELSEWHERE: &str = "127.0.0.2";

/// The head of a request to store so many bytes, and its first bytes.
pub(crate) fn begun(world: &World, signer: &Signer, path: &str, length: usize, sent: usize) -> Vec<u8> {
    let host = world.address();
    let headers = [
        ("host".to_owned(), host.to_string()),
        ("x-amz-content-sha256".to_owned(), "UNSIGNED-PAYLOAD".to_owned()),
        ("x-amz-date".to_owned(), signer.amz_date.clone()),
    ];
    let signature = signer.signature("PUT", path, &[], &headers, "UNSIGNED-PAYLOAD");
    let authorization = signer.authorization(&headers, &signature);
    let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head =
        format!("PUT {path} HTTP/1.1\r\n{lines}authorization: {authorization}\r\ncontent-length: {length}\r\n\r\n");
    [head.into_bytes(), vec![7; sent]].concat()
}

async fn user(world: &World, name: &str) -> Signer {
    let policy = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"s3:*","Resource":"*"}}"#;
    world.user(name, Some(policy)).await
}

/// Waits until the node holds as much memory as is wanted.
pub(crate) async fn memory_of(world: &World, enough: impl Fn(u64) -> bool) -> u64 {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let (in_use, _) = world.node.store().memory();
        if enough(in_use) {
            return in_use;
        }
        assert!(Instant::now() < deadline, "{in_use} bytes are held");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Each of these must be answered, and none with 503.
async fn others_are_served(world: &World, signer: &Signer) {
    let large = bytes(5 * MIB, 3);
    for round in 0..5 {
        for (key, body) in [("small", &large[..10]), ("medium", &large[..300_000]), ("large", &large[..])] {
            let path = format!("/busy/{key}-{round}");
            let put = Request::put(&path).body(body).send(world.address(), signer).await;
            assert_eq!(put.status, 200, "PUT {path}: {}", put.text());
            let got = Request::get(&path).send(world.address(), signer).await;
            assert!(got.status == 200 && got.body == body, "GET {path}: {}", got.status);
        }
    }
}

#[tokio::test]
async fn bnd_1_stalled_uploads_hold_what_has_come_of_them_and_others_are_served() {
    let world = World::with_bucket("busy").await;
    let other = user(&world, "other").await;
    let mut stalled = Vec::new();
    for number in 0..150 {
        let mut wire = Wire::connect_from(ELSEWHERE, world.address()).await;
        wire.send(begun(&world, &world.signer(), &format!("/busy/stalled-{number}"), 64 * MIB, 100_000)).await;
        stalled.push(wire);
    }
    let held = memory_of(&world, |bytes| bytes >= 149 * 100_000).await;
    assert!(held <= 160 * 100_000, "150 uploads of which 100 kB have come hold {held} bytes");
    others_are_served(&world, &other).await;
    // Also for the one whose uploads they are.
    others_are_served(&world, &world.signer()).await;
    drop(stalled);
    memory_of(&world, |bytes| bytes == 0).await;
    world.stop().await;
}

/// More has come of these than what is gathered, and less than a stripe, or just a stripe.
#[tokio::test]
async fn bnd_1_uploads_that_stall_within_a_stripe_or_after_one_keep_no_more_than_has_come() {
    const STALLED: usize = 24;
    let world = World::with_bucket("busy").await;
    let other = user(&world, "other").await;
    let mut stalled = Vec::new();
    for (number, sent) in [300_000, MIB, MIB + 10, 2 * MIB].into_iter().cycle().take(STALLED).enumerate() {
        let key = format!("/busy/stalled-{number}");
        let mut wire = Wire::connect_from(ELSEWHERE, world.address()).await;
        wire.send(begun(&world, &world.signer(), &key, 3 * MIB, sent)).await;
        stalled.push((wire, sent));
    }
    // Stripes that came whole have been written; what is held is the rest, with a little more for each.
    let rest: usize = stalled.iter().map(|(_, sent)| sent % MIB).sum();
    memory_of(&world, |bytes| bytes as usize > rest + STALLED * 2048).await;
    memory_of(&world, |bytes| bytes as usize <= rest + STALLED * 2048).await;
    others_are_served(&world, &other).await;
    // They go on as soon as their clients do.
    let mut going_on = JoinSet::new();
    for (mut wire, sent) in stalled {
        going_on.spawn(async move {
            wire.send(vec![7; 3 * MIB - sent]).await;
            wire.answer(true).await.unwrap()
        });
    }
    let answers: Vec<Answer> = going_on.join_all().await;
    for answer in &answers {
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert_eq!(answers.len(), STALLED);
    let got = world.ok(Request::get("/busy/stalled-0")).await;
    assert!(got.body == vec![7; 3 * MIB]);
    memory_of(&world, |bytes| bytes == 0).await;
    world.stop().await;
}

/// Each of these clients reads a little of an answer, not the same, and then nothing: together they could have all of
/// the memory.
#[tokio::test]
async fn bnd_1_answers_that_are_not_read_leave_memory_for_others() {
    const STALLED: usize = 200;
    let world = World::with_bucket("busy").await;
    let other = user(&world, "other").await;
    let body = bytes(4 * MIB + 12_345, 5);
    world.ok(Request::put("/busy/object").body(&body[..])).await;
    let host = world.address().to_string();
    let get = Request::get("/busy/object").encode(&host, &world.signer());
    let mut stalled = Vec::new();
    for number in 0..STALLED {
        let mut wire = Wire::connect_from(ELSEWHERE, world.address()).await;
        wire.send(&get).await;
        wire.read_at_least(number * 4099 + 1).await;
        stalled.push(wire);
    }
    others_are_served(&world, &other).await;
    // Also for the one whose downloads they are.
    others_are_served(&world, &world.signer()).await;
    // They go on as soon as their clients do, where they were.
    let going_on = stalled.iter_mut().step_by(9);
    let answers = futures::future::join_all(going_on.map(|wire| wire.answer(true))).await;
    for answer in answers {
        let answer = answer.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(answer.body == body, "{} bytes, and not those of the object", answer.body.len());
    }
    drop(stalled);
    memory_of(&world, |bytes| bytes == 0).await;
    world.stop().await;
}

/// As many uploads at once as one client can have under way, each of them moving.
#[tokio::test]
async fn bnd_1_a_flood_by_one_credential_leaves_memory_for_another() {
    let world = World::with_bucket("busy").await;
    let (flood, other) = (user(&world, "flood").await, user(&world, "other").await);
    let (_, capacity) = world.node.store().memory();
    let mut flooding = JoinSet::new();
    for number in 0..400 {
        let (address, begun) =
            (world.address(), begun(&world, &flood, &format!("/busy/flood-{number}"), 64 * MIB, 900_000));
        flooding.spawn(async move {
            let mut wire = Wire::connect_from(ELSEWHERE, address).await;
            let _ = wire.try_send(begun).await;
            wire
        });
    }
    // More than the flood may have wants to be had.
    memory_of(&world, |bytes| bytes > capacity / 2).await;
    others_are_served(&world, &other).await;
    let (in_use, _) = world.node.store().memory();
    assert!(in_use < capacity, "{in_use} of {capacity}");
    let mut uploads = flooding.join_all().await;
    // Those who have waited long enough for their share are told to come again.
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut refused = None;
    while refused.is_none() {
        assert!(Instant::now() < deadline, "the memory sufficed for all");
        for wire in &mut uploads {
            if wire.has_answer(Duration::from_millis(1)).await {
                refused = Some(wire.answer(true).await.unwrap());
                break;
            }
        }
    }
    let refused = refused.unwrap();
    assert_eq!((refused.status, refused.code().as_str()), (503, "SlowDown"));
    assert!(refused.header("retry-after").is_some());
    drop(uploads);
    memory_of(&world, |bytes| bytes == 0).await;
    world.stop().await;
}
