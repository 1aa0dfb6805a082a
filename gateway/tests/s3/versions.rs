//! Versioned buckets.

use crate::{request::Request, world::World};

pub(crate) async fn enable(world: &World, bucket: &str, status: &str) {
    let body = format!("<VersioningConfiguration><Status>{status}</Status></VersioningConfiguration>");
    world.ok(Request::put(&format!("/{bucket}")).query("versioning", "").body(body).content_md5()).await;
}

fn inner(text: &str, name: &str) -> String {
    let (_, tail) = text.split_once(&format!("<{name}>")).unwrap();
    tail.split_once('<').unwrap().0.to_owned()
}

#[tokio::test]
async fn every_put_is_a_version_and_a_delete_leaves_a_marker() {
    let world = World::with_bucket("ver").await;
    let status = world.ok(Request::get("/ver").query("versioning", "")).await;
    assert_eq!(status.xml("Status"), "");
    enable(&world, "ver", "Enabled").await;
    assert_eq!(world.ok(Request::get("/ver").query("versioning", "")).await.xml("Status"), "Enabled");
    let mut ids = Vec::new();
    for body in ["one", "two"] {
        let put = world.ok(Request::put("/ver/k").body(body)).await;
        ids.push(put.header("x-amz-version-id").unwrap().to_owned());
    }
    let by_id = |id: &str| Request::get("/ver/k").query("versionId", id);
    assert_eq!(world.ok(by_id(&ids[0])).await.text(), "one");
    assert_eq!(world.ok(Request::get("/ver/k")).await.text(), "two");
    let deleted = world.ok(Request::delete("/ver/k")).await;
    assert_eq!(deleted.header("x-amz-delete-marker"), Some("true"));
    let marker = deleted.header("x-amz-version-id").unwrap().to_owned();
    world.refused(Request::get("/ver/k"), 404, "NoSuchKey").await;
    let named = world.refused(by_id(&marker), 405, "MethodNotAllowed").await;
    assert_eq!(named.header("x-amz-delete-marker"), Some("true"));
    let listed = world.ok(Request::get("/ver").query("versions", "")).await;
    let versions: Vec<String> = listed.xml_all("Version").iter().map(|version| inner(version, "VersionId")).collect();
    assert_eq!(versions, [ids[1].clone(), ids[0].clone()]);
    assert_eq!(inner(&listed.xml("DeleteMarker"), "VersionId"), marker);
    assert_eq!(listed.xml_all("IsLatest").iter().filter(|latest| *latest == "true").count(), 1);
    // Removing the marker brings the object back; removing versions takes them away for good.
    world.ok(Request::delete("/ver/k").query("versionId", &marker)).await;
    assert_eq!(world.ok(Request::get("/ver/k")).await.text(), "two");
    world.ok(Request::delete("/ver/k").query("versionId", &ids[1])).await;
    assert_eq!(world.ok(Request::get("/ver/k")).await.text(), "one");
    world.refused(by_id(&ids[1]), 404, "NoSuchVersion").await;
    world.refused(by_id("nonsense"), 400, "InvalidArgument").await;
    world.stop().await;
}

#[tokio::test]
async fn a_suspended_bucket_writes_the_null_version() {
    let world = World::with_bucket("sus").await;
    enable(&world, "sus", "Enabled").await;
    world.ok(Request::put("/sus/k").body("kept")).await;
    enable(&world, "sus", "Suspended").await;
    world.ok(Request::put("/sus/k").body("null")).await;
    world.ok(Request::put("/sus/k").body("null again")).await;
    let listed = world.ok(Request::get("/sus").query("versions", "")).await;
    assert_eq!(listed.xml_all("VersionId").len(), 2);
    let null = world.ok(Request::get("/sus/k").query("versionId", "null")).await;
    assert_eq!(null.text(), "null again");
    world.stop().await;
}

#[tokio::test]
async fn a_key_behind_a_delete_marker_is_told_from_one_that_never_was() {
    let world = World::with_bucket("mark").await;
    enable(&world, "mark", "Enabled").await;
    world.ok(Request::put("/mark/k").body("x")).await;
    let marker = world.ok(Request::delete("/mark/k")).await.header("x-amz-version-id").unwrap().to_owned();
    for request in [
        Request::get("/mark/k"),
        Request::get("/mark/k").query("tagging", ""),
        Request::get("/mark/k").query("acl", ""),
        Request::get("/mark/k").query("attributes", "").header("x-amz-object-attributes", "ETag"),
        Request::get("/mark/k").header("range", "bytes=0-0"),
    ] {
        let what = request.to_string();
        let answer = world.refused(request, 404, "NoSuchKey").await;
        assert_eq!(answer.header("x-amz-delete-marker"), Some("true"), "{what}");
        assert_eq!(answer.header("x-amz-version-id"), Some(marker.as_str()), "{what}");
        assert_eq!(answer.xml("Key"), "k", "{what}");
    }
    let head = world.send(Request::head("/mark/k")).await;
    assert_eq!((head.status, head.header("x-amz-delete-marker")), (404, Some("true")));
    assert_eq!(head.header("x-amz-version-id"), Some(marker.as_str()));
    let never = world.refused(Request::get("/mark/never"), 404, "NoSuchKey").await;
    assert_eq!((never.header("x-amz-delete-marker"), never.header("x-amz-version-id")), (None, None));
    // The marker itself can be deleted and nothing else.
    for method in ["GET", "HEAD"] {
        let named = world.send(Request::new(method, "/mark/k").query("versionId", &marker)).await;
        assert_eq!((named.status, named.header("allow")), (405, Some("DELETE")), "{method}");
        assert_eq!(named.header("x-amz-delete-marker"), Some("true"), "{method}");
        assert_eq!(named.header("x-amz-version-id"), Some(marker.as_str()), "{method}");
        assert!(named.header("last-modified").unwrap().ends_with(" GMT"), "{method}");
        if method == "GET" {
            assert_eq!(
                (named.code(), named.xml("Method"), named.xml("ResourceType")),
                ("MethodNotAllowed".into(), "GET".into(), "DeleteMarker".into())
            );
        }
    }
    // A null marker, as suspended buckets have it.
    enable(&world, "mark", "Suspended").await;
    world.ok(Request::delete("/mark/k")).await;
    let null = world.refused(Request::get("/mark/k"), 404, "NoSuchKey").await;
    assert_eq!(null.header("x-amz-version-id"), Some("null"));
    world.stop().await;
}

#[tokio::test]
async fn versions_and_markers_are_listed_among_each_other_by_key_newest_first() {
    let world = World::with_bucket("mix").await;
    enable(&world, "mix", "Enabled").await;
    let mut wanted = Vec::new();
    for key in ["a", "b"] {
        let mut newest_first = Vec::new();
        for step in ["put", "delete", "put", "delete"] {
            let request = if step == "put" {
                Request::put(&format!("/mix/{key}")).body("x")
            } else {
                Request::delete(&format!("/mix/{key}"))
            };
            let id = world.ok(request).await.header("x-amz-version-id").unwrap().to_owned();
            newest_first.insert(0, (if step == "put" { "Version" } else { "DeleteMarker" }, key, id));
        }
        wanted.extend(newest_first);
    }
    let entries = |text: &str| -> Vec<(String, String, String)> {
        let starts = text.match_indices("<Version>").chain(text.match_indices("<DeleteMarker>"));
        let mut starts: Vec<(usize, &str)> = starts.collect();
        starts.sort_unstable();
        let entry = |&(at, tag): &(usize, &str)| {
            let entry = &text[at..];
            (tag.trim_matches(['<', '>']).to_owned(), inner(entry, "Key"), inner(entry, "VersionId"))
        };
        starts.iter().map(entry).collect()
    };
    let wanted: Vec<_> = wanted.into_iter().map(|(kind, key, id)| (kind.to_owned(), key.to_owned(), id)).collect();
    let list = || Request::get("/mix").query("versions", "");
    assert_eq!(entries(&world.ok(list()).await.text()), wanted);
    // Page by page it is the same order.
    let (mut found, mut position) = (Vec::new(), None::<(String, String)>);
    loop {
        let mut request = list().query("max-keys", "3");
        if let Some((key, id)) = &position {
            request = request.query("key-marker", key).query("version-id-marker", id);
        }
        let page = world.ok(request).await;
        found.extend(entries(&page.text()));
        if page.xml("IsTruncated") == "false" {
            break;
        }
        position = Some((page.xml("NextKeyMarker"), page.xml("NextVersionIdMarker")));
    }
    assert_eq!(found, wanted);
    world.stop().await;
}
