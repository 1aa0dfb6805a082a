//! The Range header, line by line through RFC 9110 and what S3 makes of it.

use crate::{
    request::{Request, bytes, md5_hex},
    world::World,
};

#[tokio::test]
async fn usable_ranges_are_given_and_all_others_mean_the_whole_object() {
    let world = World::with_bucket("ranges").await;
    let body = bytes(100, 1);
    world.ok(Request::put("/ranges/k").body(body.clone())).await;
    for (range, wanted) in [
        ("bytes=0-0", Some((0, 0))),
        ("bytes=00-01", Some((0, 1))),
        ("Bytes=1-99", Some((1, 99))),
        ("bytes=50-", Some((50, 99))),
        ("bytes=0-999999999999999999999999", Some((0, 99))),
        ("bytes=-1", Some((99, 99))),
        ("bytes=-100", Some((0, 99))),
        ("bytes=-101", Some((0, 99))),
        ("bytes=3-0", None),
        ("bytes=abc", None),
        ("bytes=1-3,5-8", None),
        ("items=0-3", None),
        ("bytes=", None),
        ("bytes=-", None),
        ("bytes=,", None),
        ("bytes= -1", None),
        ("bytes=0 -1", None),
        ("bytes=--1", None),
        ("bytes=100-x", None),
    ] {
        for method in ["GET", "HEAD"] {
            let answer = world.send(Request::new(method, "/ranges/k").header("range", range)).await;
            let (status, content_range, part) = match wanted {
                Some((first, last)) => (206, Some(format!("bytes {first}-{last}/100")), &body[first..=last]),
                None => (200, None, &body[..]),
            };
            assert_eq!(answer.status, status, "{method} {range}: {}", answer.text());
            assert_eq!(answer.header("content-range"), content_range.as_deref(), "{method} {range}");
            assert_eq!(answer.header("content-length"), Some(part.len().to_string().as_str()), "{method} {range}");
            assert!(method == "HEAD" || answer.body == part, "{range}");
        }
    }
    for range in ["bytes=100-", "bytes=100-110", "bytes=-0", "bytes=99999999999999999999999-"] {
        let refused = world.refused(Request::get("/ranges/k").header("range", range), 416, "InvalidRange").await;
        assert_eq!(refused.header("content-range"), Some("bytes */100"), "{range}");
    }
    world.stop().await;
}

#[tokio::test]
async fn an_object_without_bytes_has_an_end_but_no_first_byte() {
    let world = World::with_bucket("empty").await;
    world.ok(Request::put("/empty/k")).await;
    for range in ["bytes=-1", "bytes=-262144", "bytes=abc"] {
        for method in ["GET", "HEAD"] {
            let answer = world.send(Request::new(method, "/empty/k").header("range", range)).await;
            assert_eq!((answer.status, answer.header("content-length")), (200, Some("0")), "{method} {range}");
            assert_eq!(answer.header("content-range"), None);
        }
    }
    for range in ["bytes=0-", "bytes=0-0", "bytes=-0"] {
        world.refused(Request::get("/empty/k").header("range", range), 416, "InvalidRange").await;
    }
    world.stop().await;
}

#[tokio::test]
async fn if_range_gives_the_whole_of_an_object_that_is_another() {
    let world = World::with_bucket("ifrange").await;
    world.ok(Request::put("/ifrange/k").body("hello")).await;
    let etag = format!("\"{}\"", md5_hex(b"hello"));
    let modified = world.ok(Request::head("/ifrange/k")).await.header("last-modified").unwrap().to_owned();
    for (value, status) in [
        (etag.as_str(), 206),
        (&modified, 206),
        (&format!("W/{etag}"), 200),
        ("\"other\"", 200),
        ("*", 200),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 200),
        ("Wed, 21 Oct 2099 07:28:00 GMT", 200),
    ] {
        for method in ["GET", "HEAD"] {
            let request = Request::new(method, "/ifrange/k").header("range", "bytes=1-2").header("if-range", value);
            let answer = world.send(request).await;
            assert_eq!(answer.status, status, "{method} {value}");
            let length = if status == 206 { "2" } else { "5" };
            assert_eq!(answer.header("content-length"), Some(length), "{method} {value}");
        }
    }
    // It says nothing about a request without a range, nor saves one that fails its condition.
    assert_eq!(world.send(Request::get("/ifrange/k").header("if-range", "\"other\"")).await.status, 200);
    let request = Request::get("/ifrange/k").header("range", "bytes=9-").header("if-range", "\"other\"");
    assert_eq!(world.send(request).await.text(), "hello");
    let request = Request::get("/ifrange/k").header("range", "bytes=1-2").header("if-range", &etag);
    world.refused(request.header("if-match", "\"other\""), 412, "PreconditionFailed").await;
    world.stop().await;
}

#[tokio::test]
async fn a_range_and_a_part_number_exclude_each_other() {
    let world = World::with_bucket("both").await;
    world.ok(Request::put("/both/k").body("hello")).await;
    let part = |range: &str| Request::get("/both/k").query("partNumber", "1").header("range", range);
    world.refused(part("bytes=0-1"), 400, "InvalidRequest").await;
    // What is no range excludes nothing.
    let answer = world.ok(part("bytes=x")).await;
    assert_eq!((answer.status, answer.text().as_str()), (206, "hello"));
    world.stop().await;
}
