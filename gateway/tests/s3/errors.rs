//! Error documents: the codes, sentences and fields that S3 has, which clients look into.

use crate::{
    multipart::Upload,
    request::{Payload, Request, bytes, md5_hex},
    sign::Signer,
    versions::enable,
    wire::Answer,
    world::{ACCESS_KEY, World},
};

/// The fields of an error document besides those that every one has.
fn fields(answer: &Answer) -> Vec<(String, String)> {
    let text = answer.xml("Error");
    let mut rest = text.as_str();
    let mut found = Vec::new();
    while let Some((name, tail)) = rest.strip_prefix('<').and_then(|rest| rest.split_once('>')) {
        let (value, tail) = tail.split_once(&format!("</{name}>")).unwrap();
        if !["Code", "Message", "Resource", "RequestId", "HostId"].contains(&name) {
            found.push((name.to_owned(), value.to_owned()));
        }
        rest = tail;
    }
    assert_eq!(rest, "", "{text}");
    found
}

async fn check(world: &World, request: Request, status: u16, code: &str, message: &str, wanted: &[(&str, &str)]) {
    let what = request.to_string();
    let answer = world.refused(request, status, code).await;
    assert_eq!(answer.xml("Message"), message, "{what}");
    let wanted: Vec<_> = wanted.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    assert_eq!(fields(&answer), wanted, "{what}: {}", answer.text());
    assert_eq!(answer.header("x-amz-request-id"), Some(answer.xml("RequestId").as_str()), "{what}");
    assert_eq!(answer.header("x-amz-id-2"), Some(answer.xml("HostId").as_str()), "{what}");
    assert!(answer.xml("Resource").starts_with('/'), "{what}");
}

#[tokio::test]
async fn names_that_do_not_exist_are_told() {
    let world = World::with_bucket("errs").await;
    enable(&world, "errs", "Enabled").await;
    let no_key = "The specified key does not exist.";
    check(&world, Request::get("/errs/a%26b"), 404, "NoSuchKey", no_key, &[("Key", "a&amp;b")]).await;
    let no_bucket = "The specified bucket does not exist";
    for request in
        [Request::get("/none"), Request::get("/none/k"), Request::put("/none/k").body("x"), Request::delete("/none")]
    {
        check(&world, request, 404, "NoSuchBucket", no_bucket, &[("BucketName", "none")]).await;
    }
    let copy = Request::put("/errs/k").header("x-amz-copy-source", "/none/k");
    check(&world, copy, 404, "NoSuchBucket", no_bucket, &[("BucketName", "none")]).await;
    let version = "0".repeat(32);
    let read = Request::get("/errs/k").query("versionId", &version);
    let wanted = [("Key", "k"), ("VersionId", version.as_str())];
    check(&world, read, 404, "NoSuchVersion", "The specified version does not exist.", &wanted).await;
    let read = Request::get("/errs/k").query("versionId", "no id");
    let wanted = [("ArgumentName", "versionId"), ("ArgumentValue", "no id")];
    check(&world, read, 400, "InvalidArgument", "Invalid version id specified", &wanted).await;
    let no_upload = "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed.";
    for id in ["nonsense", "0123456789abcdef0123456789abcdef"] {
        let part = Request::put("/errs/k").query("partNumber", "1").query("uploadId", id).body("x");
        check(&world, part, 404, "NoSuchUpload", no_upload, &[("UploadId", id)]).await;
    }
    world.stop().await;
}

#[tokio::test]
async fn names_that_are_taken_or_not_allowed_are_told() {
    let world = World::start_with(|options| options.region = "eu-west-1".into()).await;
    world.ok(Request::put("/errs")).await;
    let owned = "Your previous request to create the named bucket succeeded and you already own it.";
    check(&world, Request::put("/errs"), 409, "BucketAlreadyOwnedByYou", owned, &[("BucketName", "errs")]).await;
    world.ok(Request::put("/errs/k").body("x")).await;
    let full = "The bucket you tried to delete is not empty";
    check(&world, Request::delete("/errs"), 409, "BucketNotEmpty", full, &[("BucketName", "errs")]).await;
    let invalid = "The specified bucket is not valid.";
    for request in [Request::put("/Bad_Name"), Request::get("/Bad_Name/k")] {
        check(&world, request, 400, "InvalidBucketName", invalid, &[("BucketName", "Bad_Name")]).await;
    }
    let long = Request::get(&format!("/errs/{}", "k".repeat(1025)));
    let wanted = [("Size", "1025"), ("MaxSizeAllowed", "1024")];
    check(&world, long, 400, "KeyTooLongError", "Your key is too long", &wanted).await;
    world.stop().await;
}

#[tokio::test]
async fn conditions_that_do_not_hold_are_named() {
    let world = World::with_bucket("errs").await;
    world.ok(Request::put("/errs/k").body("x")).await;
    let message = "At least one of the pre-conditions you specified did not hold";
    let (wrong, right) = (format!("\"{}\"", md5_hex(b"y")), format!("\"{}\"", md5_hex(b"x")));
    let past = "Wed, 21 Oct 2015 07:28:00 GMT";
    let put = || Request::put("/errs/k").body("z");
    let copy = || Request::put("/errs/copy").header("x-amz-copy-source", "/errs/k");
    for (request, condition) in [
        (put().header("if-none-match", "*"), "If-None-Match"),
        (put().header("if-match", &wrong), "If-Match"),
        (Request::get("/errs/k").header("if-match", &wrong), "If-Match"),
        (Request::get("/errs/k").header("if-unmodified-since", past), "If-Unmodified-Since"),
        (Request::delete("/errs/k").header("if-match", &wrong), "If-Match"),
        (copy().header("x-amz-copy-source-if-match", &wrong), "x-amz-copy-source-If-Match"),
        (copy().header("x-amz-copy-source-if-none-match", &right), "x-amz-copy-source-If-None-Match"),
        (copy().header("x-amz-copy-source-if-unmodified-since", past), "x-amz-copy-source-If-Unmodified-Since"),
    ] {
        check(&world, request, 412, "PreconditionFailed", message, &[("Condition", condition)]).await;
    }
    let range = Request::get("/errs/k").header("range", "bytes=7-9");
    let wanted = [("RangeRequested", "bytes=7-9"), ("ActualObjectSize", "1")];
    check(&world, range, 416, "InvalidRange", "The requested range is not satisfiable", &wanted).await;
    world.stop().await;
}

#[tokio::test]
async fn sizes_and_parts_are_told() {
    let world = World::with_bucket("errs").await;
    let upload = Upload::create(&world, "/errs/k", &[]).await;
    let (small, last) = (bytes(100, 1), bytes(100, 2));
    world.ok(upload.part(1, &small)).await;
    world.ok(upload.part(2, &last)).await;
    let id = upload.id.as_str();
    let too_small = upload.completion(&[(1, &md5_hex(&small)), (2, &md5_hex(&last))]);
    let wanted = [("ProposedSize", "100"), ("MinSizeAllowed", "5242880"), ("PartNumber", "1"), ("UploadId", id)];
    let message = "Your proposed upload is smaller than the minimum allowed size";
    check(&world, too_small, 400, "EntityTooSmall", message, &wanted).await;
    let missing = upload.completion(&[(7, &md5_hex(&small))]);
    let message = "One or more of the specified parts could not be found.  The part may not have been uploaded, or the specified entity tag may not match the part's entity tag.";
    check(&world, missing, 400, "InvalidPart", message, &[("PartNumber", "7"), ("UploadId", id)]).await;
    let part = upload.part(10_001, b"x");
    let message = "Part number must be an integer between 1 and 10000, inclusive";
    let wanted = [("ArgumentName", "partNumber"), ("ArgumentValue", "10001")];
    check(&world, part, 400, "InvalidArgument", message, &wanted).await;
    let metadata = Request::put("/errs/k").header("x-amz-meta-a", &"v".repeat(2048));
    let message = "Your metadata headers exceed the maximum allowed metadata size";
    let wanted = [("Size", "2049"), ("MaxSizeAllowed", "2048")];
    check(&world, metadata, 400, "MetadataTooLarge", message, &wanted).await;
    world.stop().await;
}

#[tokio::test]
async fn arguments_and_digests_are_shown_as_they_were_sent() {
    let world = World::with_bucket("errs").await;
    for (name, value, message) in [
        ("max-keys", "-1", "Argument max-keys must be an integer between 0 and 2147483647"),
        ("max-keys", "many", "Provided max-keys not an integer or within integer range"),
        ("encoding-type", "base64", "Invalid Encoding Method specified in Request"),
        ("continuation-token", "?\"?", "The continuation token provided is incorrect"),
    ] {
        let written = value.replace('"', "&quot;");
        let wanted = [("ArgumentName", name), ("ArgumentValue", written.as_str())];
        let list = Request::get("/errs").query("list-type", "2").query(name, value);
        check(&world, list, 400, "InvalidArgument", message, &wanted).await;
    }
    let put = || Request::put("/errs/k").body("x");
    let message = "The Content-MD5 you specified did not match what we received.";
    let wanted = [("ExpectedDigest", "AAAAAAAAAAAAAAAAAAAAAA=="), ("CalculatedDigest", "ndTkYSaMgDT1yFZOFVxnpg==")];
    check(&world, put().header("content-md5", wanted[0].1), 400, "BadDigest", message, &wanted).await;
    let invalid = "The Content-MD5 you specified was invalid.";
    check(
        &world,
        put().header("content-md5", "no\"ne"),
        400,
        "InvalidDigest",
        invalid,
        &[("Content-MD5", "no&quot;ne")],
    )
    .await;
    let zeros = "00".repeat(32);
    let message = "The provided 'x-amz-content-sha256' header does not match what was computed.";
    let wanted = [("ClientComputedContentSHA256", zeros.as_str())];
    let forged = put().payload(Payload::SignedAs(zeros.clone()));
    check(&world, forged, 400, "XAmzContentSHA256Mismatch", message, &wanted).await;
    let class = put().header("x-amz-storage-class", "COLD");
    let message = "The storage class you specified is not valid";
    check(&world, class, 400, "InvalidStorageClass", message, &[("StorageClassRequested", "COLD")]).await;
    world.stop().await;
}

#[tokio::test]
async fn a_wrong_signature_is_answered_with_what_was_signed() {
    let world = World::with_bucket("errs").await;
    let forger = Signer::now(ACCESS_KEY, "not the secret");
    let answer = Request::get("/errs/a%20b").query("versionId", "x y").send(world.address(), &forger).await;
    assert_eq!((answer.status, answer.code().as_str()), (403, "SignatureDoesNotMatch"));
    assert!(answer.xml("Message").starts_with("The request signature we calculated does not match"));
    assert_eq!(answer.xml("AWSAccessKeyId"), ACCESS_KEY);
    let canonical = answer.xml("CanonicalRequest");
    let host = world.address();
    let empty = crate::sign::EMPTY_SHA256;
    let wanted = format!(
        "GET\n/errs/a%20b\nversionId=x%20y\nhost:{host}\nx-amz-content-sha256:{empty}\nx-amz-date:{date}\n\n\
         host;x-amz-content-sha256;x-amz-date\n{empty}",
        date = forger.amz_date
    );
    assert_eq!(canonical, wanted.replace('&', "&amp;"));
    assert!(answer.xml("StringToSign").starts_with(&format!(
        "AWS4-HMAC-SHA256\n{}\n{}\n",
        forger.amz_date,
        forger.scope()
    )));
    assert!(answer.xml("CanonicalRequestBytes").starts_with("47 45 54 0a "));
    assert_eq!(answer.xml("SignatureProvided").len(), 64);

    let query = forger.presign("GET", "/errs/k", &host.to_string(), 60, &[]);
    let mut wire = crate::wire::Wire::connect(host).await;
    wire.send(format!("GET /errs/k?{query} HTTP/1.1\r\nhost: {host}\r\n\r\n")).await;
    let answer = wire.answer(true).await.unwrap();
    assert_eq!((answer.status, answer.code().as_str()), (403, "SignatureDoesNotMatch"));
    assert!(
        answer.xml("CanonicalRequest").ends_with(&format!("host:{host}\n\nhost\nUNSIGNED-PAYLOAD")),
        "{}",
        answer.text()
    );

    let stranger = Signer::now("NOBODY", "x");
    let answer = Request::get("/errs").send(world.address(), &stranger).await;
    assert_eq!((answer.status, answer.code().as_str()), (403, "InvalidAccessKeyId"));
    assert_eq!(fields(&answer), [("AWSAccessKeyId".to_owned(), "NOBODY".to_owned())]);
    let late = Signer::at(ACCESS_KEY, "x", time::OffsetDateTime::now_utc() - time::Duration::hours(1));
    let answer = Request::get("/errs").send(world.address(), &late).await;
    assert_eq!((answer.status, answer.code().as_str()), (403, "RequestTimeTooSkewed"));
    assert_eq!(answer.xml("RequestTime"), late.amz_date);
    assert_eq!(answer.xml("MaxAllowedSkewMilliseconds"), "900000");
    world.stop().await;
}

#[tokio::test]
async fn what_is_no_operation_is_not_allowed() {
    let world = World::with_bucket("errs").await;
    let message = "The specified method is not allowed against this resource.";
    for (method, path, kind) in [
        ("PATCH", "/errs/k", "OBJECT"),
        ("POST", "/errs/k", "OBJECT"),
        ("POST", "/errs", "BUCKET"),
        ("PUT", "/", "SERVICE"),
    ] {
        let wanted = [("Method", method), ("ResourceType", kind)];
        check(&world, Request::new(method, path), 405, "MethodNotAllowed", message, &wanted).await;
    }
    world.stop().await;
}
