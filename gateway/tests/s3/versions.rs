//! Versioned buckets.

use crate::{request::Request, world::World};

async fn enable(world: &World, bucket: &str, status: &str) {
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
