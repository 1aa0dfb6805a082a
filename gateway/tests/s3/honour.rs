//! A request whose meaning is not honoured is refused, never answered 200.

use crate::{
    multipart::Upload,
    request::{Request, crc32_base64, md5_hex},
    versions::enable,
    world::World,
};

const NO_LISTS: (u16, &str) = (400, "AccessControlListNotSupported");

#[tokio::test]
async fn access_control_lists_are_refused_unless_they_change_nothing() {
    let world = World::with_bucket("lists").await;
    world.ok(Request::put("/lists/k").body("x")).await;
    let put = || Request::put("/lists/k").body("x");
    let copy = || Request::put("/lists/copy").header("x-amz-copy-source", "/lists/k");
    let create = || Request::put("/lists-2");
    let upload = || Request::post("/lists/m").query("uploads", "");
    let set = |path: &str| Request::put(path).query("acl", "");
    for request in [put(), copy(), upload(), create(), set("/lists"), set("/lists/k")] {
        for list in ["public-read", "public-read-write", "authenticated-read", "log-delivery-write"] {
            world.refused(request.clone().header("x-amz-acl", list), NO_LISTS.0, NO_LISTS.1).await;
        }
        let answer = world.refused(request.clone().header("x-amz-acl", "bogus"), 400, "InvalidArgument").await;
        assert_eq!((answer.xml("ArgumentName"), answer.xml("ArgumentValue")), ("x-amz-acl".into(), "bogus".into()));
        for grant in ["full-control", "read", "read-acp", "write", "write-acp"] {
            let granted = request.clone().header(&format!("x-amz-grant-{grant}"), "id=someone");
            world.refused(granted, NO_LISTS.0, NO_LISTS.1).await;
        }
    }
    world.refused(Request::head("/lists-2"), 404, "").await;
    for list in ["private", "bucket-owner-full-control"] {
        for request in [put(), copy(), upload(), create(), set("/lists"), set("/lists/k")] {
            world.ok(request.header("x-amz-acl", list)).await;
        }
    }
    // What a list reads as, it can be set to; nothing else.
    for path in ["/lists", "/lists/k"] {
        let read = world.ok(Request::get(path).query("acl", "")).await.text();
        world.ok(set(path).body(read.clone())).await;
        let other = read.replace("FULL_CONTROL", "READ");
        world.refused(set(path).body(other), NO_LISTS.0, NO_LISTS.1).await;
        let stranger = read.replace("<ID>root</ID>", "<ID>stranger</ID>");
        world.refused(set(path).body(stranger), NO_LISTS.0, NO_LISTS.1).await;
        world.refused(set(path), 400, "MissingRequestBodyError").await;
        world.refused(set(path).body("<AccessControlPolicy/>"), 400, "MalformedXML").await;
    }
    world.refused(set("/lists/none").header("x-amz-acl", "private"), 404, "NoSuchKey").await;
    world.refused(set("/none").header("x-amz-acl", "private"), 404, "NoSuchBucket").await;
    world.stop().await;
}

#[tokio::test]
async fn buckets_are_read_and_changed_only_for_those_who_know_their_owner() {
    let world = World::with_bucket("owned").await;
    world.ok(Request::put("/owned/k").body("x")).await;
    world.ok(Request::put("/elsewhere")).await;
    let (header, stranger) = ("x-amz-expected-bucket-owner", "000000000000");
    let upload = Upload::create(&world, "/owned/m", &[]).await;
    world.ok(upload.part(1, b"x")).await;
    let batch = "<Delete><Object><Key>k</Key></Object></Delete>";
    let versioning = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    for request in [
        Request::get("/owned/k"),
        Request::get("/owned"),
        Request::get("/owned").query("versions", ""),
        Request::get("/owned").query("location", ""),
        Request::put("/owned/k").body("y"),
        Request::put("/owned").query("versioning", "").body(versioning),
        Request::put("/owned/copy").header("x-amz-copy-source", "/owned/k"),
        Request::post("/owned").query("delete", "").body(batch).content_md5(),
        upload.part(2, b"y"),
        upload.completion(&[(1, &md5_hex(b"x"))]),
        Request::delete("/owned/m").query("uploadId", &upload.id),
        Request::delete("/owned/k"),
        Request::delete("/owned"),
    ] {
        world.refused(request.clone().header(header, stranger), 403, "AccessDenied").await;
    }
    let copy = || Request::put("/elsewhere/copy").header("x-amz-copy-source", "/owned/k");
    world.refused(copy().header("x-amz-source-expected-bucket-owner", stranger), 403, "AccessDenied").await;
    world.ok(copy().header("x-amz-source-expected-bucket-owner", "root").header(header, "root")).await;
    assert_eq!(world.ok(Request::get("/owned/k").header(header, "root")).await.text(), "x");
    world.refused(Request::get("/none/k").header(header, stranger), 404, "NoSuchBucket").await;
    world.stop().await;
}

#[tokio::test]
async fn encryption_and_locks_are_never_ignored() {
    let world = World::with_bucket("secret").await;
    world.ok(Request::put("/secret/k").body("x")).await;
    let upload = Upload::create(&world, "/secret/m", &[]).await;
    let writes = [
        Request::put("/secret/k").body("y"),
        Request::put("/secret/copy").header("x-amz-copy-source", "/secret/k"),
        Request::post("/secret/m").query("uploads", ""),
        upload.part(1, b"x"),
    ];
    for (name, value) in [
        ("x-amz-server-side-encryption", "AES256"),
        ("x-amz-server-side-encryption", "aws:kms"),
        ("x-amz-server-side-encryption-aws-kms-key-id", "key"),
        ("x-amz-server-side-encryption-context", "e30="),
        ("x-amz-server-side-encryption-bucket-key-enabled", "true"),
        ("x-amz-server-side-encryption-customer-algorithm", "AES256"),
        ("x-amz-server-side-encryption-customer-key", "a2V5"),
    ] {
        // Without keys of the cluster's, and over plain HTTP.
        let code = if name.contains("customer") { "InvalidRequest" } else { "InvalidArgument" };
        for request in &writes[..3] {
            let request = request.clone().header(name, value);
            if name != "x-amz-server-side-encryption" {
                world.refused(request, 400, code).await;
                continue;
            }
            let answer = world.refused(request, 501, "NotImplemented").await;
            assert_eq!(answer.xml("Header"), name);
            assert_eq!(answer.xml("Message"), "A header you provided implies functionality that is not implemented");
        }
        world.refused(writes[3].clone().header(name, value), 400, code).await;
        let elsewhere = Request::delete("/secret/k").header(name, value);
        world.refused(elsewhere, 501, "NotImplemented").await;
        for request in [Request::get("/secret/k"), Request::get("/secret/k").query("attributes", "")] {
            world.refused(request.header(name, value), 400, code).await;
        }
        let head = world.send(Request::head("/secret/k").header(name, value)).await;
        assert_eq!(head.status, 400);
    }
    let (mode, until) =
        (("x-amz-object-lock-mode", "COMPLIANCE"), ("x-amz-object-lock-retain-until-date", "2099-01-01T00:00:00Z"));
    let hold = ("x-amz-object-lock-legal-hold", "ON");
    for (headers, code) in [
        (&[mode][..], "InvalidArgument"),
        (&[until], "InvalidArgument"),
        (&[mode, until], "InvalidRequest"),
        (&[hold], "InvalidRequest"),
    ] {
        let with = |request: &Request| {
            headers.iter().fold(request.clone(), |request, (name, value)| request.header(name, value))
        };
        for request in &writes[..3] {
            world.refused(with(request), 400, code).await;
        }
        // Where they would be passed over they are refused.
        for request in [&writes[3], &Request::get("/secret/k"), &Request::delete("/secret/k")] {
            world.refused(with(request), 400, "InvalidArgument").await;
        }
    }
    let create = || Request::put("/locked");
    world.refused(create().header("x-amz-bucket-object-lock-enabled", "yes"), 400, "InvalidArgument").await;
    let enabled = Request::put("/secret/k").body("y").header("x-amz-bucket-object-lock-enabled", "true");
    world.refused(enabled, 400, "InvalidArgument").await;
    world.refused(create().header("x-amz-object-ownership", "ObjectWriter"), 501, "NotImplemented").await;
    world.refused(create().header("x-amz-object-ownership", "Nobody"), 400, "InvalidArgument").await;
    world.refused(Request::get("/locked"), 404, "NoSuchBucket").await;
    world
        .ok(create()
            .header("x-amz-bucket-object-lock-enabled", "false")
            .header("x-amz-object-ownership", "BucketOwnerEnforced"))
        .await;
    world.refused(Request::get("/secret/k").header("x-amz-security-token", "token"), 400, "InvalidToken").await;
    world.ok(Request::get("/secret/k").header("x-amz-request-payer", "requester")).await;
    world.refused(Request::get("/secret/k").header("x-amz-request-payer", "you"), 400, "InvalidArgument").await;
    let redirect = |to: &str| Request::put("/secret/k").body("z").header("x-amz-website-redirect-location", to);
    world.refused(redirect("elsewhere"), 400, "InvalidRedirectLocation").await;
    world.ok(redirect("https://example.com/")).await;
    assert_eq!(world.keys("secret").await, ["k"]);
    world.stop().await;
}

#[tokio::test]
async fn a_copy_never_has_another_checksum_than_was_asked_for() {
    let world = World::with_bucket("sums").await;
    world.ok(Request::put("/sums/k").body("x").header("x-amz-checksum-crc32", &crc32_base64(b"x"))).await;
    let copy = |algorithm: &str| {
        Request::put("/sums/copy").header("x-amz-copy-source", "/sums/k").header("x-amz-checksum-algorithm", algorithm)
    };
    world.refused(copy("SHA256"), 501, "NotImplemented").await;
    world.refused(copy("CRC1"), 400, "InvalidRequest").await;
    assert_eq!(world.keys("sums").await, ["k"]);
    assert_eq!(world.ok(copy("CRC32")).await.xml("ChecksumCRC32"), crc32_base64(b"x"));
    let directive = copy("CRC32").header("x-amz-metadata-directive", "MIX");
    let answer = world.refused(directive, 400, "InvalidArgument").await;
    assert_eq!(
        (answer.xml("ArgumentName"), answer.xml("ArgumentValue")),
        ("x-amz-metadata-directive".into(), "MIX".into())
    );
    world.stop().await;
}

/// A parameter that names another operation than the one that would be done.
#[tokio::test]
async fn con_1_nothing_is_deleted_or_put_that_was_not_meant() {
    let world = World::with_bucket("meant").await;
    enable(&world, "meant", "Enabled").await;
    world.ok(Request::put("/meant/k").body("x")).await;
    for parameter in ["acl", "attributes", "legal-hold", "retention", "torrent", "uploads", "versions", "restore"] {
        world.refused(Request::delete("/meant/k").query(parameter, ""), 405, "MethodNotAllowed").await;
    }
    for parameter in ["versions", "uploads", "location", "acl", "versioning", "delete", "list-type"] {
        world.refused(Request::delete("/meant").query(parameter, ""), 405, "MethodNotAllowed").await;
    }
    for parameter in ["attributes", "torrent", "uploads", "versions", "delete"] {
        world.refused(Request::put("/meant/k").query(parameter, "").body("y"), 405, "MethodNotAllowed").await;
    }
    for parameter in ["location", "uploads", "versions"] {
        world.refused(Request::put("/other").query(parameter, ""), 405, "MethodNotAllowed").await;
    }
    for (name, value) in [("partNumber", "1"), ("uploadId", "x"), ("versionId", "null")] {
        world.refused(Request::put("/meant/k").query(name, value).body("y"), 400, "InvalidArgument").await;
    }
    let both = Request::get("/meant/k").query("acl", "").query("tagging", "");
    let answer = world.refused(both, 400, "InvalidArgument").await;
    assert_eq!(answer.xml("Message"), "Conflicting query string parameters: acl, tagging");
    world.refused(Request::get("/other"), 404, "NoSuchBucket").await;
    assert_eq!(world.ok(Request::get("/meant/k")).await.text(), "x");
    let versions = world.ok(Request::get("/meant").query("versions", "")).await;
    assert_eq!((versions.xml_all("Version").len(), versions.xml_all("DeleteMarker").len()), (1, 0));
    world.stop().await;
}
