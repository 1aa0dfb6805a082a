//! CopyObject and UploadPartCopy.

use crate::{
    multipart::Upload,
    request::{Request, bytes, md5_hex},
    world::World,
};

#[tokio::test]
async fn a_copy_has_the_bytes_and_what_the_directives_say() {
    let world = World::with_bucket("copies").await;
    let body = bytes(200_000, 1);
    let put = Request::put("/copies/from").body(body.clone()).header("content-type", "text/plain");
    world.ok(put.header("x-amz-meta-a", "1").header("x-amz-tagging", "t=1")).await;
    let copy = |to: &str| Request::put(&format!("/copies/{to}")).header("x-amz-copy-source", "/copies/from");
    let copied = world.ok(copy("kept")).await;
    assert!(copied.xml("ETag").contains(&md5_hex(&body)), "{}", copied.text());
    let kept = world.ok(Request::get("/copies/kept")).await;
    assert!(kept.body == body);
    assert_eq!((kept.header("content-type"), kept.header("x-amz-meta-a")), (Some("text/plain"), Some("1")));
    assert_eq!(kept.header("x-amz-tagging-count"), Some("1"));
    let replaced = copy("replaced").header("x-amz-metadata-directive", "REPLACE").header("x-amz-meta-b", "2");
    world.ok(replaced).await;
    let replaced = world.ok(Request::head("/copies/replaced")).await;
    assert_eq!((replaced.header("x-amz-meta-a"), replaced.header("x-amz-meta-b")), (None, Some("2")));
    // The copy outlives its source (GC-1).
    world.ok(Request::delete("/copies/from")).await;
    assert!(world.ok(Request::get("/copies/kept")).await.body == body);
    world.stop().await;
}

#[tokio::test]
async fn copies_obey_conditions_and_name_what_is_missing() {
    let world = World::with_bucket("cond").await;
    world.ok(Request::put("/cond/from").body("x")).await;
    let copy = |source: &str| Request::put("/cond/to").header("x-amz-copy-source", source);
    world.refused(copy("/cond/missing"), 404, "NoSuchKey").await;
    world.refused(copy("/no-such-bucket/k"), 404, "NoSuchBucket").await;
    let etag = format!("\"{}\"", md5_hex(b"x"));
    let failing = copy("/cond/from").header("x-amz-copy-source-if-none-match", &etag);
    world.refused(failing, 412, "PreconditionFailed").await;
    let listed = copy("/cond/from").header("x-amz-copy-source-if-none-match", &format!("\"x\", W/{etag}"));
    world.refused(listed, 412, "PreconditionFailed").await;
    for date in ["Tue, 9 Aug 2022 01:01:01 GMT", "Tuesday, 09-Aug-22 01:01:01 GMT", "Tue Aug  9 01:01:01 2022"] {
        let stale = copy("/cond/from").header("x-amz-copy-source-if-unmodified-since", date);
        world.refused(stale, 412, "PreconditionFailed").await;
    }
    world.ok(copy("/cond/from").header("x-amz-copy-source-if-unmodified-since", "0")).await;
    world.refused(copy("/cond/from").header("if-none-match", "*"), 412, "PreconditionFailed").await;
    world.ok(Request::delete("/cond/to")).await;
    let stale = copy("/cond/from").header("x-amz-copy-source-if-unmodified-since", "Wed, 21 Oct 2015 07:28:00 GMT");
    world.refused(stale, 412, "PreconditionFailed").await;
    world.ok(copy("/cond/from").header("x-amz-copy-source-if-match", &etag)).await;
    let itself = Request::put("/cond/from").header("x-amz-copy-source", "/cond/from");
    world.refused(itself, 400, "InvalidRequest").await;
    world.stop().await;
}

#[tokio::test]
async fn a_part_can_be_copied_from_a_range_of_an_object() {
    let world = World::with_bucket("parts").await;
    let body = bytes(6 << 20, 5);
    world.ok(Request::put("/parts/from").body(body.clone())).await;
    let upload = Upload::create(&world, "/parts/to", &[]).await;
    let copy = |number: &str, range: &str| {
        let request = Request::put("/parts/to").query("partNumber", number).query("uploadId", &upload.id);
        request.header("x-amz-copy-source", "/parts/from").header("x-amz-copy-source-range", range)
    };
    world.refused(copy("1", "bytes=0-"), 400, "InvalidArgument").await;
    world.refused(copy("1", "bytes=0-99999999"), 400, "InvalidArgument").await;
    let first = world.ok(copy("1", "bytes=0-5242879")).await.xml("ETag");
    let second = world.ok(copy("2", "bytes=100-199")).await.xml("ETag");
    upload.complete(&world, &[(1, first.trim_matches('"')), (2, second.trim_matches('"'))]).await;
    let got = world.ok(Request::get("/parts/to")).await;
    assert!(got.body == [&body[..5_242_880], &body[100..200]].concat());
    world.stop().await;
}

/// GC-1: a copied part shares its source's blobs; the object outlives the source, whatever the copy was of.
#[tokio::test]
async fn copied_parts_outlive_their_sources_and_take_no_room() {
    let world = World::with_bucket("shared").await;
    let whole = bytes(5 << 20, 6);
    world.ok(Request::put("/shared/whole").body(whole.clone())).await;
    let pieces = [bytes(5 << 20, 7), bytes(6 << 20, 8), bytes(100, 9)];
    let from = Upload::create(&world, "/shared/pieces", &[]).await;
    let mut parts = Vec::new();
    for (number, piece) in (1u32..).zip(&pieces) {
        world.ok(from.part(number, piece)).await;
        parts.push((number, md5_hex(piece)));
    }
    let named: Vec<(u32, &str)> = parts.iter().map(|(number, etag)| (*number, etag.as_str())).collect();
    from.complete(&world, &named).await;
    let pieces = pieces.concat();

    let to = Upload::create(&world, "/shared/to", &[]).await;
    let copy = async |number: u32, source: &str, range: Option<(usize, usize)>, body: &[u8]| {
        let request = Request::put("/shared/to").query("partNumber", &number.to_string()).query("uploadId", &to.id);
        let mut request = request.header("x-amz-copy-source", source);
        if let Some((first, last)) = range {
            request = request.header("x-amz-copy-source-range", &format!("bytes={first}-{last}"));
        }
        let etag = world.ok(request).await.xml("ETag").trim_matches('"').to_owned();
        assert_eq!(etag, md5_hex(body), "part {number}");
        (number, etag)
    };
    let middle = (3 << 20, (9 << 20) - 1);
    let copied = [
        // Whole, one part of it, across its parts, and a few bytes.
        copy(1, "/shared/whole", None, &whole).await,
        copy(2, "/shared/pieces", Some((0, (5 << 20) - 1)), &pieces[..5 << 20]).await,
        copy(3, "/shared/pieces", Some(middle), &pieces[middle.0..=middle.1]).await,
        copy(4, "/shared/whole", Some((7, 1000)), &whole[7..=1000]).await,
    ];
    let wanted = [&whole[..], &pieces[..5 << 20], &pieces[middle.0..=middle.1], &whole[7..=1000]].concat();
    let named: Vec<(u32, &str)> = copied.iter().map(|(number, etag)| (*number, etag.as_str())).collect();
    to.complete(&world, &named).await;
    // Four blobs were put; only the last part's few bytes, of a blob of 5 MiB, were written again.
    let audit = world.meta.audit().await.unwrap();
    assert_eq!((audit.blobs, audit.problems), (5, 0), "{:?}", audit.first_problems);
    for source in ["/shared/whole", "/shared/pieces"] {
        world.ok(Request::delete(source)).await;
    }
    assert!(world.ok(Request::get("/shared/to")).await.body == wanted);
    let ranged = Request::get("/shared/to").header("range", "bytes=5242870-16777300");
    assert!(world.send(ranged).await.body == wanted[5_242_870..=16_777_300]);
    world.stop().await;
}

#[tokio::test]
async fn copy_sources_are_read_however_they_are_encoded() {
    let world = World::with_bucket("encoded").await;
    for key in ["a b", "a%2Bb", "%C3%A9", "sub/key", "query%3Fx%3D1"] {
        world.ok(Request::put(&format!("/encoded/{}", key.replace(' ', "%20"))).body(key)).await;
    }
    for (source, body) in [
        ("encoded/a b", "a b"),
        ("encoded/a+b", "a b"),
        ("encoded/a%20b", "a b"),
        ("/encoded/a%2Bb", "a%2Bb"),
        ("encoded/é", "%C3%A9"),
        ("encoded/%C3%A9", "%C3%A9"),
        ("encoded%2Fsub%2Fkey", "sub/key"),
        ("%2Fencoded%2Fsub/key", "sub/key"),
        ("encoded/query?x=1", "query%3Fx%3D1"),
        ("encoded/a b?versionId=null", "a b"),
        ("encoded/a b?versionId=", "a b"),
    ] {
        world.ok(Request::put("/encoded/to").header("x-amz-copy-source", source)).await;
        assert_eq!(world.ok(Request::get("/encoded/to")).await.text(), body, "{source}");
        let upload = Upload::create(&world, "/encoded/part", &[]).await;
        let part = Request::put("/encoded/part").query("partNumber", "1").query("uploadId", &upload.id);
        let copied = world.ok(part.header("x-amz-copy-source", source)).await;
        assert!(copied.xml("ETag").contains(&md5_hex(body.as_bytes())), "{source}");
    }
    for (source, status, code) in [
        ("encoded/%ZZ", 400, "InvalidArgument"),
        ("encoded", 400, "InvalidArgument"),
        ("encoded/", 400, "InvalidArgument"),
        ("UPPER/k", 400, "InvalidArgument"),
        ("encoded/a b?versionId=zz", 400, "InvalidArgument"),
        ("arn:aws:s3:us-east-1:123456789012:accesspoint/ap/object/k", 501, "NotImplemented"),
        ("encoded/missing", 404, "NoSuchKey"),
    ] {
        world.refused(Request::put("/encoded/to").header("x-amz-copy-source", source), status, code).await;
    }
    let get = Request::get("/encoded/a%20b").header("x-amz-copy-source", "encoded/a b");
    world.refused(get, 400, "InvalidArgument").await;
    world.stop().await;
}
