//! Buckets: life and names.

use crate::{multipart::Upload, request::Request, world::World};

#[tokio::test]
async fn buckets_are_made_listed_located_and_deleted() {
    let world = World::start().await;
    let made = world.ok(Request::put("/alpha")).await;
    assert_eq!(made.header("location"), Some("/alpha"));
    // rclone makes the bucket before every upload.
    world.ok(Request::put("/alpha")).await;
    world.ok(Request::put("/beta")).await;
    let listed = world.ok(Request::get("/")).await;
    assert_eq!(listed.xml_all("Name"), ["alpha", "beta"]);
    let head = world.ok(Request::head("/alpha")).await;
    assert_eq!(head.header("x-amz-bucket-region"), Some("us-east-1"));
    let location = world.ok(Request::get("/alpha").query("location", "")).await;
    assert!(location.text().contains("LocationConstraint"), "{}", location.text());
    assert_eq!(world.ok(Request::delete("/alpha")).await.status, 204);
    assert_eq!(world.send(Request::head("/alpha")).await.status, 404);
    world.refused(Request::delete("/alpha"), 404, "NoSuchBucket").await;
    world.stop().await;
}

#[tokio::test]
async fn a_bucket_with_an_object_is_not_deleted() {
    let world = World::with_bucket("full").await;
    world.ok(Request::put("/full/k").body("x")).await;
    world.refused(Request::delete("/full"), 409, "BucketNotEmpty").await;
    world.ok(Request::delete("/full/k")).await;
    world.ok(Request::delete("/full")).await;
    world.stop().await;
}

#[tokio::test]
async fn a_bucket_without_objects_is_deleted_and_its_uploads_aborted() {
    let world = World::with_bucket("started").await;
    let upload = Upload::create(&world, "/started/k", &[]).await;
    world.ok(upload.part(1, b"part")).await;
    Upload::create(&world, "/started/other", &[]).await;
    world.ok(Request::put("/started/object").body("x")).await;
    world.refused(Request::delete("/started"), 409, "BucketNotEmpty").await;
    world.ok(upload.part(2, b"goes on")).await;
    world.ok(Request::delete("/started/object")).await;
    assert_eq!(world.ok(Request::delete("/started")).await.status, 204);
    world.refused(upload.part(3, b"x"), 404, "NoSuchBucket").await;
    world.ok(Request::put("/started")).await;
    world.refused(upload.part(3, b"x"), 404, "NoSuchUpload").await;
    assert!(world.ok(Request::get("/started").query("uploads", "")).await.xml_all("UploadId").is_empty());
    world.stop().await;
}

#[tokio::test]
async fn new_buckets_have_names_that_s3_allows() {
    let world = World::start().await;
    for name in ["192.168.5.4", "999.1.1.1", "a..b", "sthree-x", "amzn-s3-demo-x", "x-s3alias", "x--ol-s3", "x.mrap"] {
        world.refused(Request::put(&format!("/{name}")), 400, "InvalidBucketName").await;
    }
    world.ok(Request::put("/my.bucket-1")).await;
    world.stop().await;
}

#[tokio::test]
async fn long_lists_of_buckets_come_in_pages() {
    let world = World::start().await;
    for number in 0..5 {
        world.ok(Request::put(&format!("/bucket-{number}"))).await;
    }
    let first = world.ok(Request::get("/").query("max-buckets", "3")).await;
    assert_eq!(first.xml_all("Name").len(), 3);
    let token = first.xml("ContinuationToken");
    let second = world.ok(Request::get("/").query("max-buckets", "3").query("continuation-token", &token)).await;
    assert_eq!(second.xml_all("Name"), ["bucket-3", "bucket-4"]);
    assert_eq!(second.xml("ContinuationToken"), "");
    world.stop().await;
}

#[tokio::test]
async fn access_control_lists_give_the_owner_full_control() {
    let world = World::with_bucket("acls").await;
    world.ok(Request::put("/acls/k").body("x")).await;
    for path in ["/acls", "/acls/k"] {
        let acl = world.ok(Request::get(path).query("acl", "")).await;
        assert_eq!(acl.xml("Permission"), "FULL_CONTROL");
    }
    world.stop().await;
}
