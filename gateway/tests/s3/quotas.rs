//! What buckets may hold, and how many requests a user or a bucket may have.

use std::time::{Duration, Instant};

use cairn_schema::{
    record::{Quota, RequestLimits},
    verbs::UserChange,
};

use crate::{
    overload::{begun, memory_of},
    request::{Request, bytes},
    sign::Signer,
    wire::{DEADLINE, Wire},
    world::World,
};

const MIB: usize = 1 << 20;

async fn bounded(bytes: u64, objects: u64) -> World {
    let world = World::with_bucket("small").await;
    world.meta.set_quota("small", Quota { bytes: Some(bytes), objects: Some(objects) }).await.unwrap();
    world
}

#[tokio::test]
async fn bnd_1_a_full_bucket_refuses_more_by_whatever_way_it_comes() {
    let world = bounded(1000, 3).await;
    world.ok(Request::put("/elsewhere")).await;
    world.ok(Request::put("/elsewhere/k").body(bytes(500, 1))).await;
    let full = "Bucket \"small\" holds 900 bytes and may hold 1000: 500 more do not fit.";
    world.ok(Request::put("/small/a").body(bytes(900, 1))).await;
    let refused = world.refused(Request::put("/small/b").body(bytes(500, 2)), 403, "QuotaExceeded").await;
    assert_eq!(refused.xml("Message").replace("&quot;", "\""), full);
    let copy = || Request::put("/small/b").header("x-amz-copy-source", "elsewhere/k");
    world.refused(copy(), 403, "QuotaExceeded").await;
    // What is in its place goes, so it need not fit beside that.
    world.ok(Request::put("/small/a").body(bytes(1000, 3))).await;
    world.refused(Request::post("/small/b").query("uploads", ""), 403, "QuotaExceeded").await;
    world.ok(Request::put("/small/a").body(bytes(100, 3))).await;
    let begun = world.ok(Request::post("/small/b").query("uploads", "")).await;
    let upload = begun.xml("UploadId");
    let part = |number: &str, length| {
        Request::put("/small/b").query("partNumber", number).query("uploadId", &upload).body(bytes(length, 4))
    };
    world.refused(part("1", 901), 403, "QuotaExceeded").await;
    world.ok(part("1", 900)).await;
    world.ok(copy()).await;
    // Nothing of what was refused is left.
    world.ok(Request::delete("/small/b").query("uploadId", &upload)).await;
    assert_eq!(world.keys("small").await, ["a", "b"]);
    assert_eq!(world.ok(Request::get("/small/a")).await.body, bytes(100, 3));
    // And by number.
    world.ok(Request::put("/small/c")).await;
    let refused = world.refused(Request::put("/small/d"), 403, "QuotaExceeded").await;
    assert_eq!(
        refused.xml("Message").replace("&quot;", "\""),
        "Bucket \"small\" holds 3 objects and may hold 3: 1 more do not fit."
    );
    world.ok(Request::delete("/small/c")).await;
    world.ok(Request::put("/small/d")).await;
    let audit = world.meta.audit().await.unwrap();
    assert_eq!(audit.problems, 0, "{:?}", audit.first_problems);
    world.stop().await;
}

#[tokio::test]
async fn what_can_never_fit_is_refused_before_it_is_sent() {
    let world = bounded(MIB as u64, 100).await;
    let mut wire = Wire::connect(world.address()).await;
    wire.send(begun(&world, &world.signer(), "/small/large", 64 * MIB, 0)).await;
    let answer = wire.answer(true).await.unwrap();
    assert_eq!((answer.status, answer.code().as_str()), (403, "QuotaExceeded"), "{}", answer.text());
    world.stop().await;
}

/// Sends until the answer is this, which it must be once what was known of a user or bucket is read again.
async fn soon(world: &World, signer: &Signer, request: impl Fn() -> Request, status: u16) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let answer = request().send(world.address(), signer).await;
        if answer.status == status {
            return;
        }
        assert!(Instant::now() < deadline, "still {}: {}", answer.status, answer.text());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn limit_user(world: &World, name: &str, limits: RequestLimits) {
    world.meta.change_user(name, UserChange::Limit(limits.into())).await.unwrap();
}

const ALL: &str = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"s3:*","Resource":"*"}}"#;

#[tokio::test]
async fn bnd_1_a_user_has_no_more_requests_under_way_than_allowed() {
    let world = World::with_bucket("busy").await;
    let (limited, other) = (world.user("limited", Some(ALL)).await, world.user("other", Some(ALL)).await);
    limit_user(&world, "limited", RequestLimits { per_second: None, concurrent: Some(2) }).await;
    let mut stalled = Vec::new();
    for number in 0..2 {
        let mut wire = Wire::connect(world.address()).await;
        wire.send(begun(&world, &limited, &format!("/busy/{number}"), MIB, 100_000)).await;
        stalled.push(wire);
    }
    // Both are under way.
    memory_of(&world, |bytes| bytes > 150_000).await;
    let get = || Request::get("/busy");
    soon(&world, &limited, get, 503).await;
    let refused = get().send(world.address(), &limited).await;
    assert_eq!((refused.code().as_str(), refused.header("retry-after")), ("SlowDown", Some("1")));
    assert_eq!(get().send(world.address(), &other).await.status, 200);
    // They go on, and make room.
    for wire in &mut stalled {
        wire.send(bytes(MIB - 100_000, 7)).await;
        assert_eq!(wire.answer(true).await.unwrap().status, 200);
    }
    soon(&world, &limited, get, 200).await;
    world.stop().await;
}

#[tokio::test]
async fn bnd_1_a_rate_of_requests_is_held_for_users_and_buckets_and_by_key_for_no_one_else() {
    let world = World::with_bucket("busy").await;
    world.ok(Request::put("/quiet")).await;
    let user = world.user("user", Some(ALL)).await;
    // None at all is the one rate whose test needs no clock.
    let none = RequestLimits { per_second: Some(0), concurrent: None };
    world.meta.set_request_limits("busy", none).await.unwrap();
    soon(&world, &user, || Request::get("/busy"), 503).await;
    assert_eq!(Request::get("/quiet").send(world.address(), &user).await.status, 200);
    assert_eq!(world.send(Request::get("/busy")).await.status, 503, "also for the root");
    world.meta.set_request_limits("busy", RequestLimits::default()).await.unwrap();
    limit_user(&world, "user", none).await;
    soon(&world, &user, || Request::get("/quiet"), 503).await;
    soon(&world, &world.signer(), || Request::get("/busy"), 200).await;
    limit_user(&world, "user", RequestLimits { per_second: Some(1_000_000), concurrent: None }).await;
    soon(&world, &user, || Request::get("/busy"), 200).await;
    // Who may not do something is told that first, whatever the limits.
    let nobody = world.user("nobody", None).await;
    limit_user(&world, "nobody", none).await;
    assert_eq!(Request::get("/busy").send(world.address(), &nobody).await.status, 403);
    world.stop().await;
}
