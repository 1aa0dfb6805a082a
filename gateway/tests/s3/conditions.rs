//! Conditional reads and writes.

use crate::{
    request::{Request, md5_hex},
    world::World,
};

#[tokio::test]
async fn reads_obey_their_conditions() {
    let world = World::with_bucket("reads").await;
    world.ok(Request::put("/reads/k").body("hello")).await;
    let right = format!("\"{}\"", md5_hex(b"hello"));
    let wrong = format!("\"{}\"", md5_hex(b"other"));
    let past = "Wed, 21 Oct 2015 07:28:00 GMT";
    let future = "Wed, 21 Oct 2099 07:28:00 GMT";
    for (name, value, status) in [
        ("if-match", right.as_str(), 200),
        ("if-match", "*", 200),
        ("if-match", &wrong, 412),
        ("if-none-match", &wrong, 200),
        ("if-none-match", &right, 304),
        ("if-modified-since", past, 200),
        ("if-modified-since", future, 304),
        ("if-unmodified-since", future, 200),
        ("if-unmodified-since", past, 412),
        // Dates of every form, and what is none.
        ("if-modified-since", "Tue, 9 Aug 2022 01:01:01 GMT", 200),
        ("if-modified-since", "Tuesday, 09-Aug-22 01:01:01 GMT", 200),
        ("if-modified-since", "Tue Aug  9 01:01:01 2022", 200),
        ("if-modified-since", "0", 200),
        ("if-modified-since", "2099-10-21T07:28:00Z", 200),
        ("if-unmodified-since", "Tue, 9 Aug 2022 01:01:01 GMT", 412),
        ("if-unmodified-since", "Tuesday, 09-Aug-22 01:01:01 GMT", 412),
        ("if-unmodified-since", "Tue Aug  9 01:01:01 2022", 412),
        ("if-unmodified-since", "0", 200),
        // Lists, weak tags, and tags without quotes.
        ("if-match", &format!("{wrong}, {right}"), 200),
        ("if-match", right.trim_matches('"'), 200),
        ("if-match", &format!("W/{right}"), 412),
        ("if-none-match", &format!("{wrong},{right}"), 304),
        ("if-none-match", right.trim_matches('"'), 304),
        ("if-none-match", &format!("W/{right}"), 304),
        ("if-none-match", "*", 304),
    ] {
        for method in ["GET", "HEAD"] {
            let answer = world.send(Request::new(method, "/reads/k").header(name, value)).await;
            assert_eq!(answer.status, status, "{method} {name}: {value}");
            if status == 304 {
                assert_eq!(answer.header("etag"), Some(right.as_str()));
                assert!(answer.body.is_empty());
            }
        }
    }
    // The condition comes before the range.
    let request = Request::get("/reads/k").header("if-match", &wrong).header("range", "bytes=99-");
    world.refused(request, 412, "PreconditionFailed").await;
    world.stop().await;
}

#[tokio::test]
async fn con_1_writes_and_deletes_obey_their_conditions() {
    let world = World::with_bucket("writes").await;
    let right = format!("\"{}\"", md5_hex(b"one"));
    let wrong = format!("\"{}\"", md5_hex(b"other"));
    let put = |body: &str| Request::put("/writes/k").body(body);
    world.refused(put("zero").header("if-match", &right), 404, "NoSuchKey").await;
    world.ok(put("one").header("if-none-match", "*")).await;
    world.refused(put("two").header("if-none-match", "*"), 412, "PreconditionFailed").await;
    world.refused(put("two").header("if-match", &wrong), 412, "PreconditionFailed").await;
    // A write replaces one state: as in S3, a list of them matches none, and weak tags match nothing.
    for tags in [format!("{wrong}, {right}"), format!("W/{right}")] {
        world.refused(put("two").header("if-match", &tags), 412, "PreconditionFailed").await;
    }
    // What would not be honoured is refused.
    for (name, value) in [("if-none-match", right.as_str()), ("if-unmodified-since", "Wed, 21 Oct 2015 07:28:00 GMT")] {
        world.refused(put("two").header(name, value), 501, "NotImplemented").await;
        world.refused(Request::delete("/writes/k").header(name, value), 501, "NotImplemented").await;
    }
    let both = put("two").header("if-match", &right).header("if-none-match", "*");
    world.refused(both, 501, "NotImplemented").await;
    world.ok(put("one").header("if-modified-since", "Wed, 21 Oct 2099 07:28:00 GMT")).await;
    assert_eq!(world.ok(Request::get("/writes/k")).await.text(), "one");
    world.refused(Request::delete("/writes/k").header("if-match", &wrong), 412, "PreconditionFailed").await;
    world.ok(put("two").header("if-match", &right)).await;
    assert_eq!(world.ok(Request::get("/writes/k")).await.text(), "two");
    world.ok(Request::delete("/writes/k").header("if-match", &format!("\"{}\"", md5_hex(b"two")))).await;
    assert!(world.keys("writes").await.is_empty());
    world.stop().await;
}

#[tokio::test]
async fn con_1_of_many_that_create_one_key_just_one_succeeds() {
    let world = World::with_bucket("race").await;
    let attempts = (0..12).map(|number| {
        let request = Request::put("/race/k").body(format!("writer {number}")).header("if-none-match", "*");
        world.send(request)
    });
    let answers = futures::future::join_all(attempts).await;
    let created: Vec<usize> = (0..12).filter(|&number| answers[number].status == 200).collect();
    assert_eq!(created.len(), 1, "{answers:?}");
    assert_eq!(world.ok(Request::get("/race/k")).await.text(), format!("writer {}", created[0]));
    world.stop().await;
}
