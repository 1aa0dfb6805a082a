//! Documents that clients are answered: whatever a key contains, there is one, and nothing is refused after it was
//! done.

use crate::{
    multipart::Upload,
    request::{Request, bytes, md5_hex},
    sign::encode,
    world::World,
};

/// A key with everything that makes XML difficult, and how S3 writes it.
const KEY: &str = "a\u{8}b\u{1f}<&>\"\r\t\u{7f}\u{fffe}\u{1f389}";
const WRITTEN: &str = "a&#x8;b&#x1f;&lt;&amp;&gt;&quot;&#xd;\t&#x7f;&#xfffe;\u{1f389}";

fn path(bucket: &str) -> String {
    format!("/{bucket}/{}", encode(KEY))
}

#[tokio::test]
async fn every_listing_shows_keys_with_control_characters() {
    let world = World::with_bucket("odd").await;
    world.ok(Request::put(&path("odd")).body("x")).await;
    let list = || Request::get("/odd");
    for (request, name) in [
        (list(), "V1"),
        (list().query("list-type", "2"), "V2"),
        (list().query("versions", ""), "versions"),
        (list().query("list-type", "2").query("prefix", "a\u{8}"), "prefix"),
        (list().query("marker", "a\u{1}"), "marker"),
        (list().query("list-type", "2").query("start-after", "a\u{1}"), "start-after"),
        (list().query("versions", "").query("key-marker", "a\u{1}"), "key-marker"),
    ] {
        let answer = world.ok(request).await;
        assert_eq!(answer.header("content-type"), Some("application/xml"), "{name}");
        assert_eq!(answer.xml_all("Key"), [WRITTEN], "{name}: {}", answer.text());
    }
    let folded = world.ok(list().query("list-type", "2").query("delimiter", "\u{1f}")).await;
    assert!(
        folded.text().contains("<CommonPrefixes><Prefix>a&#x8;b&#x1f;</Prefix></CommonPrefixes>"),
        "{}",
        folded.text()
    );
    assert_eq!(folded.xml("Delimiter"), "&#x1f;");
    let encoded = world.ok(list().query("encoding-type", "url").query("marker", "a\u{1}")).await;
    assert_eq!((encoded.xml("Key"), encoded.xml("Marker")), (encode(KEY), "a%01".into()));
    world.stop().await;
}

#[tokio::test]
async fn every_step_of_an_upload_is_answered_whatever_its_key() {
    let world = World::with_bucket("odd").await;
    let upload = Upload::create(&world, &path("odd"), &[]).await;
    let part = bytes(1000, 1);
    world.ok(upload.part(1, &part)).await;
    let uploads = world.ok(Request::get("/odd").query("uploads", "").query("key-marker", "a\u{1}")).await;
    assert_eq!((uploads.xml("Key"), uploads.xml("KeyMarker")), (WRITTEN.into(), "a&#x1;".into()));
    let parts = world.ok(Request::get(&path("odd")).query("uploadId", &upload.id)).await;
    assert_eq!(
        (parts.xml("Key"), parts.xml("UploadId"), parts.xml("PartNumber")),
        (WRITTEN.into(), upload.id.clone(), "1".into())
    );
    assert_eq!((parts.xml("Size"), parts.xml("NextPartNumberMarker")), ("1000".into(), "1".into()));
    let done = upload.complete(&world, &[(1, &md5_hex(&part))]).await;
    assert_eq!(done.xml("Key"), WRITTEN);
    assert!(world.ok(Request::get(&path("odd"))).await.body == part);
    world.stop().await;
}

#[tokio::test]
async fn batches_tell_of_every_key() {
    let world = World::with_bucket("odd").await;
    world.ok(Request::put("/odd/a%08b").body("x")).await;
    let batch = "<Delete><Object><Key>a&#8;b</Key></Object><Object><Key>c&#1;</Key><VersionId>no&#9;id</VersionId></Object></Delete>";
    let answer = world.ok(Request::post("/odd").query("delete", "").body(batch).content_md5()).await;
    assert_eq!(answer.xml("Deleted"), "<Key>a&#x8;b</Key>");
    let error = answer.xml("Error");
    assert!(error.starts_with("<Key>c&#x1;</Key><VersionId>no\tid</VersionId><Code>"), "{error}");
    assert!(world.keys("odd").await.is_empty());
    world.stop().await;
}

#[tokio::test]
async fn errors_name_every_key() {
    let world = World::with_bucket("odd").await;
    let missing = world.refused(Request::get(&path("odd")), 404, "NoSuchKey").await;
    assert!(!missing.text().contains("u{"), "{}", missing.text());
    assert_eq!(missing.header("content-type"), Some("application/xml"));
    // Parameters that the library repeats in a message of its own, which it then cannot write.
    for (path, name) in [("/odd/k", "partNumber"), ("/odd", "max-keys")] {
        world.refused(Request::get(path).query(name, "\u{8}"), 400, "InvalidRequest").await;
    }
    // It decides nothing, whatever it says.
    world.ok(Request::get("/odd").query("x-id", "\u{8}")).await;
    world.stop().await;
}

#[tokio::test]
async fn the_documents_have_the_elements_and_the_order_of_s3() {
    let world = World::with_bucket("order").await;
    world.ok(Request::put("/order/k").body("x")).await;
    let elements = |text: &str| -> Vec<String> {
        text.split('<')
            .skip(2)
            .filter(|tag| !tag.starts_with(['/', '?']))
            .map(|tag| tag.split([' ', '>']).next().unwrap().to_owned())
            .collect()
    };
    let v1 = world.ok(Request::get("/order")).await.text();
    assert!(v1.starts_with("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"), "{v1}");
    let object = ["Contents", "Key", "LastModified", "ETag", "ChecksumAlgorithm", "ChecksumType", "Size"];
    let head = ["ListBucketResult", "Name", "Prefix", "Marker", "MaxKeys", "IsTruncated"];
    let owner = ["Owner", "ID", "DisplayName"];
    assert_eq!(elements(&v1), [head.as_slice(), &object, &owner, &["StorageClass"]].concat());
    let v2 = world.ok(Request::get("/order").query("list-type", "2")).await.text();
    let head = ["ListBucketResult", "Name", "Prefix", "KeyCount", "MaxKeys", "IsTruncated"];
    assert_eq!(elements(&v2), [head.as_slice(), &object, &["StorageClass"]].concat());
    let etag = format!("<ETag>&quot;{}&quot;</ETag>", md5_hex(b"x"));
    assert!(v2.contains(&etag), "{v2}");
    let buckets = world.ok(Request::get("/")).await.text();
    let all = [
        "ListAllMyBucketsResult",
        "Owner",
        "ID",
        "DisplayName",
        "Buckets",
        "Bucket",
        "Name",
        "CreationDate",
        "BucketRegion",
    ];
    assert_eq!(elements(&buckets), all);
    world.stop().await;
}
