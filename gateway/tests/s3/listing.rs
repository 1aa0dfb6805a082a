//! ListObjects in both versions.

use crate::{request::Request, world::World};

async fn filled() -> World {
    let world = World::with_bucket("list").await;
    for key in ["a", "b/1", "b/2", "b/c/3", "d", "e%20f", "g%2Bh"] {
        world.ok(Request::put(&format!("/list/{key}")).body("x")).await;
    }
    world
}

fn v2() -> Request {
    Request::get("/list").query("list-type", "2")
}

#[tokio::test]
async fn con_1_prefixes_and_delimiters_fold_keys() {
    let world = filled().await;
    let all = world.ok(v2()).await;
    assert_eq!(all.xml_all("Key"), ["a", "b/1", "b/2", "b/c/3", "d", "e f", "g+h"]);
    assert_eq!((all.xml("KeyCount"), all.xml("IsTruncated")), ("7".into(), "false".into()));
    let folded = world.ok(v2().query("delimiter", "/")).await;
    assert_eq!(folded.xml_all("Key"), ["a", "d", "e f", "g+h"]);
    assert!(folded.text().contains("<CommonPrefixes><Prefix>b/</Prefix></CommonPrefixes>"), "{}", folded.text());
    let inside = world.ok(v2().query("delimiter", "/").query("prefix", "b/")).await;
    assert_eq!(inside.xml_all("Key"), ["b/1", "b/2"]);
    assert!(inside.text().contains("<Prefix>b/c/</Prefix>"));
    let after = world.ok(v2().query("start-after", "b/2")).await;
    assert_eq!(after.xml_all("Key"), ["b/c/3", "d", "e f", "g+h"]);
    let encoded = world.ok(v2().query("encoding-type", "url").query("start-after", "d")).await;
    assert_eq!(encoded.xml_all("Key"), ["e%20f", "g%2Bh"]);
    assert_eq!(encoded.xml("EncodingType"), "url");
    assert!(world.ok(v2().query("fetch-owner", "true")).await.xml_all("Owner").len() == 7);
    world.stop().await;
}

#[tokio::test]
async fn pages_join_to_the_whole_list_in_both_versions() {
    let world = filled().await;
    for delimiter in ["", "/"] {
        let entries = |answer: &crate::wire::Answer| {
            let mut entries = answer.xml_all("Key");
            entries.extend(answer.xml_all("CommonPrefixes"));
            entries.sort();
            entries
        };
        let whole = entries(&world.ok(v2().query("delimiter", delimiter)).await);
        for size in 1..=3 {
            let size = size.to_string();
            let (mut found, mut token) = (Vec::new(), String::new());
            loop {
                let mut request = v2().query("delimiter", delimiter).query("max-keys", &size);
                if !token.is_empty() {
                    request = request.query("continuation-token", &token);
                }
                let page = world.ok(request).await;
                found.extend(entries(&page));
                token = page.xml("NextContinuationToken");
                if page.xml("IsTruncated") == "false" {
                    break;
                }
            }
            found.sort();
            assert_eq!(found, whole, "version 2, pages of {size}, delimiter {delimiter:?}");
            let (mut found, mut marker) = (Vec::new(), String::new());
            loop {
                let request = Request::get("/list").query("delimiter", delimiter).query("max-keys", &size);
                let page = world.ok(request.query("marker", &marker)).await;
                found.extend(entries(&page));
                marker = page.xml("NextMarker");
                if page.xml("IsTruncated") == "false" {
                    break;
                }
            }
            found.sort();
            assert_eq!(found, whole, "version 1, pages of {size}, delimiter {delimiter:?}");
        }
    }
    world.stop().await;
}

#[tokio::test]
async fn bad_parameters_are_refused() {
    let world = filled().await;
    world.refused(v2().query("max-keys", "-1"), 400, "InvalidArgument").await;
    world.refused(v2().query("continuation-token", "???"), 400, "InvalidArgument").await;
    // An empty one is that of the first page.
    let first = world.ok(v2().query("continuation-token", "").query("start-after", "a")).await;
    assert!(first.text().contains("<ContinuationToken></ContinuationToken>"), "{}", first.text());
    assert_eq!(first.xml_all("Key"), world.ok(v2().query("start-after", "a")).await.xml_all("Key"));
    world.refused(v2().query("encoding-type", "base64"), 400, "InvalidArgument").await;
    world.refused(Request::get("/no-such-bucket").query("list-type", "2"), 404, "NoSuchBucket").await;
    let none = world.ok(v2().query("max-keys", "0")).await;
    assert_eq!((none.xml("IsTruncated"), none.xml("KeyCount")), ("false".into(), "0".into()));
    world.stop().await;
}
