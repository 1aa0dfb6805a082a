//! Documents that clients send: any spelling of one means the same, and what is not understood is refused.

use crate::{
    multipart::Upload,
    request::{Payload, Request, bytes, md5_hex},
    wire::Answer,
    world::World,
};

const S3: &str = "http://s3.amazonaws.com/doc/2006-03-01/";

fn delete(document: impl Into<Vec<u8>>) -> Request {
    Request::post("/docs").query("delete", "").body(document).content_md5()
}

fn of_keys(keys: &str) -> String {
    format!("<Delete>{keys}</Delete>")
}

async fn with_keys(keys: &[&str]) -> World {
    let world = World::with_bucket("docs").await;
    for key in keys {
        world.ok(Request::put(&format!("/docs/{}", crate::sign::encode(key))).body("x")).await;
    }
    world
}

#[tokio::test]
async fn every_spelling_of_a_key_deletes_that_key_and_no_other() {
    let world = with_keys(&[]).await;
    let others = ["xy", "x", "x<", "plain"];
    for key in others {
        world.ok(Request::put(&format!("/docs/{}", crate::sign::encode(key))).body("x")).await;
    }
    let prefixed = format!("<s:Delete xmlns:s=\"{S3}\"><s:Object><s:Key>x&lt;&amp;&gt;y</s:Key></s:Object></s:Delete>");
    for (key, document) in [
        ("x<&>y", of_keys("<Object><Key>x<![CDATA[<&>]]>y</Key></Object>")),
        ("x<&>y", of_keys("<Object><Key>x&lt;<!-- c -->&#38;<?p?>&#x3E;y</Key></Object>")),
        ("x<&>y", prefixed),
        ("x<&>y", format!("<Delete xmlns=\"{S3}\"><Object><Key>x&lt;&amp;&gt;y</Key></Object></Delete>")),
        ("\u{1f389}.txt", of_keys("<Object><Key>&#127881;.txt</Key></Object>")),
        ("\u{1f389}.txt", of_keys("<Object><Key>&#x1F389;.txt</Key></Object>")),
        (
            "\u{1f389}.txt",
            format!(
                "\u{feff}<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{}",
                of_keys("<Object>\n<Key>\u{1f389}.txt</Key>\n</Object>")
            ),
        ),
        ("a\u{8}b\rc\nd", of_keys("<Object><Key>a&#x8;b&#13;c&#10;d</Key></Object>")),
        (" spaces ", of_keys("<Object><Key> spaces </Key></Object>")),
    ] {
        world.ok(Request::put(&format!("/docs/{}", crate::sign::encode(key))).body("x")).await;
        let answer = world.ok(delete(document.clone())).await;
        assert_eq!(answer.xml_all("Deleted").len(), 1, "{document}: {}", answer.text());
        let mut left = world.keys("docs").await;
        left.sort();
        assert_eq!(left, ["plain", "x", "x&lt;", "xy"], "{document}");
    }
    world.stop().await;
}

#[tokio::test]
async fn a_document_that_is_not_understood_changes_nothing() {
    let world = with_keys(&["k"]).await;
    for document in [
        "<Delete><Object><Key>k</Key></Object>",
        "<Delete><Object><Key>k</Key><Kye>x</Kye></Object></Delete>",
        "<Delete><Object><Key>k</Key><Key>other</Key></Object></Delete>",
        "<Delete><Object><Key>k</Key></Object><Unless>true</Unless></Delete>",
        "<Delete><Object><Key>k<b/></Key></Object></Delete>",
        "<Delete>k<Object><Key>k</Key></Object></Delete>",
        "<Delete><Quiet>maybe</Quiet><Object><Key>k</Key></Object></Delete>",
        "<Remove><Object><Key>k</Key></Object></Remove>",
        "<Delete xmlns='urn:other'><Object><Key>k</Key></Object></Delete>",
        "<Delete if='tuesday'><Object><Key>k</Key></Object></Delete>",
        "<!DOCTYPE d [<!ENTITY e 'k'>]><Delete><Object><Key>&e;</Key></Object></Delete>",
        "<!DOCTYPE d><Delete><Object><Key>k</Key></Object></Delete>",
        "<Delete><Object><Key>&k;</Key></Object></Delete>",
        "<Delete><Object><Key>k</Key></Object></Delete><Delete/>",
        "<?xml version='1.0' encoding='UTF-16'?><Delete><Object><Key>k</Key></Object></Delete>",
        "<Delete></Delete>",
        "k",
    ] {
        let answer = world.refused(delete(document), 400, "MalformedXML").await;
        assert!(answer.text().contains("The XML you provided was not well-formed"), "{}", answer.text());
    }
    world.refused(delete(""), 400, "MissingRequestBodyError").await;
    world.refused(delete(b"<Delete><Object><Key>\xff</Key></Object></Delete>"), 400, "MalformedXML").await;
    assert_eq!(world.keys("docs").await, ["k"]);
    world.stop().await;
}

#[tokio::test]
async fn a_document_is_what_its_digests_say_or_is_refused() {
    let world = with_keys(&["k"]).await;
    let batch = of_keys("<Object><Key>k</Key></Object>");
    let unmarked = || Request::post("/docs").query("delete", "").body(batch.clone());
    world.refused(unmarked(), 400, "InvalidRequest").await;
    world.refused(unmarked().header("content-md5", "AAAAAAAAAAAAAAAAAAAAAA=="), 400, "BadDigest").await;
    world.refused(unmarked().header("x-amz-checksum-crc32", "AAAAAA=="), 400, "BadDigest").await;
    let forged = unmarked().content_md5().payload(Payload::SignedAs("00".repeat(32)));
    world.refused(forged, 400, "XAmzContentSHA256Mismatch").await;
    let versioning = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    let versioning =
        |digest: &str| Request::put("/docs").query("versioning", "").body(versioning).header("content-md5", digest);
    world.refused(versioning("AAAAAAAAAAAAAAAAAAAAAA=="), 400, "BadDigest").await;
    world.refused(versioning("nonsense"), 400, "InvalidDigest").await;
    assert_eq!(world.ok(Request::get("/docs").query("versioning", "")).await.xml("Status"), "");
    let upload = Upload::create(&world, "/docs/m", &[]).await;
    world.ok(upload.part(1, b"x")).await;
    let complete = upload.completion(&[(1, &md5_hex(b"x"))]).header("content-md5", "AAAAAAAAAAAAAAAAAAAAAA==");
    world.refused(complete, 400, "BadDigest").await;
    assert_eq!(world.keys("docs").await, ["k"]);
    world.stop().await;
}

/// A thousand keys as long as keys may be, each byte of them a character that must be written as a reference.
#[tokio::test]
async fn documents_at_the_limits_fit_and_beyond_them_are_refused() {
    let world = with_keys(&[]).await;
    let key = |number: usize| format!("{number:04}{}", "\"".repeat(1020));
    let last = format!("/docs/{}", crate::sign::encode(&key(999)));
    world.ok(Request::put(&last).body("x")).await;
    let batch = |count: usize| -> String {
        (0..count).map(|number| format!("<Object><Key>{}</Key></Object>", key(number).replace('"', "&quot;"))).collect()
    };
    let answer = world.ok(delete(of_keys(&batch(1000)))).await;
    assert_eq!(answer.xml_all("Deleted").len(), 1000);
    assert!(world.keys("docs").await.is_empty());
    world.refused(delete(of_keys(&batch(1001))), 400, "MalformedXML").await;
    let too_long = of_keys(&format!("<Object><Key>{}</Key></Object>", "k".repeat(9 << 20)));
    world.refused(delete(too_long), 400, "MaxMessageLengthExceeded").await;

    let upload = Upload::create(&world, "/docs/parts", &[]).await;
    let parts = |count: usize| -> String {
        let one = |number: usize| {
            format!(
                "<s:Part>\n  <s:ETag>&quot;{}&quot;</s:ETag>\n  <s:PartNumber>{number}</s:PartNumber>\n  \
                 <s:ChecksumSHA256>{}=</s:ChecksumSHA256>\n</s:Part>\n",
                "0".repeat(32),
                "A".repeat(43)
            )
        };
        let list: String = (1..=count).map(one).collect();
        format!("<s:CompleteMultipartUpload xmlns:s=\"{S3}\">{list}</s:CompleteMultipartUpload>")
    };
    let complete = |count| Request::post(&upload.path).query("uploadId", &upload.id).body(parts(count));
    // It was read: none of these parts exist.
    world.refused(complete(10_000), 400, "InvalidPart").await;
    world.refused(complete(10_001), 400, "MalformedXML").await;
    world.stop().await;
}

#[tokio::test]
async fn every_document_is_read_strictly() {
    let world = with_keys(&["k"]).await;
    let put = |path: &str, parameter: &str, document: &str| Request::put(path).query(parameter, "").body(document);
    let tagging = |inner: &str| put("/docs/k", "tagging", &format!("<t:Tagging xmlns:t='{S3}'>{inner}</t:Tagging>"));
    let tag = "<t:TagSet><t:Tag><t:Key><![CDATA[a&b]]></t:Key><t:Value>&#127881;</t:Value></t:Tag></t:TagSet>";
    world.refused(tagging(""), 400, "MalformedXML").await;
    world.refused(tagging("<t:TagSet><t:Tag><t:Key>a</t:Key></t:Tag></t:TagSet>"), 400, "MalformedXML").await;
    world.refused(tagging(&format!("{tag}<t:More/>")), 400, "MalformedXML").await;
    world.ok(tagging(&tag.replace("a&b", "a b").replace("&#127881;", "\u{e9}"))).await;
    let tags: Answer = world.ok(Request::get("/docs/k").query("tagging", "")).await;
    assert_eq!((tags.xml("Key"), tags.xml("Value")), ("a b".into(), "\u{e9}".into()));

    let versioning = |inner: &str| {
        put("/docs", "versioning", &format!("<VersioningConfiguration>{inner}</VersioningConfiguration>"))
    };
    for inner in
        ["<Status>On</Status>", "<Status>Enabled</Status><Status>Suspended</Status>", "<Status>Enabled</Status>x"]
    {
        world.refused(versioning(inner), 400, "MalformedXML").await;
    }
    world.ok(versioning(" <Status> <![CDATA[Enabled]]> </Status><MfaDelete>Disabled</MfaDelete>")).await;
    assert_eq!(world.ok(Request::get("/docs").query("versioning", "")).await.xml("Status"), "Enabled");

    let create = |name: &str, document: &str| Request::put(&format!("/{name}")).body(document);
    let constraint =
        "<c:LocationConstraint xmlns:c='http://s3.amazonaws.com/doc/2006-03-01/'>eu-west-1</c:LocationConstraint>";
    let configuration =
        |inner: &str| format!("<CreateBucketConfiguration xmlns='{S3}'>{inner}</CreateBucketConfiguration>");
    world.refused(create("made", &configuration("<Color>red</Color>")), 400, "MalformedXML").await;
    world.refused(create("made", &configuration("<Tags><Tag/></Tags>")), 501, "NotImplemented").await;
    world.refused(Request::get("/made").query("location", ""), 404, "NoSuchBucket").await;
    world.ok(create("made", &configuration(constraint))).await;
    let location = world.ok(Request::get("/made").query("location", "")).await;
    assert!(location.text().contains(">eu-west-1<"), "{}", location.text());
    world.stop().await;
}

#[tokio::test]
async fn parts_are_named_in_any_spelling() {
    let world = with_keys(&[]).await;
    let upload = Upload::create(&world, "/docs/m", &[]).await;
    let body = bytes(1000, 8);
    world.ok(upload.part(3, &body)).await;
    let complete = |document: String| Request::post(&upload.path).query("uploadId", &upload.id).body(document);
    let etag = md5_hex(&body);
    for number in ["3x", "+3", "3.0", ""] {
        let part = format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>");
        let document = format!("<CompleteMultipartUpload>{part}</CompleteMultipartUpload>");
        world.refused(complete(document), 400, "MalformedXML").await;
    }
    let document = format!(
        "<u:CompleteMultipartUpload xmlns:u='{S3}'><u:Part><u:ETag><![CDATA[\"{etag}\"]]></u:ETag>\
         <u:PartNumber>&#51;</u:PartNumber></u:Part></u:CompleteMultipartUpload>"
    );
    world.ok(complete(document)).await;
    assert!(world.ok(Request::get("/docs/m")).await.body == body);
    world.stop().await;
}
