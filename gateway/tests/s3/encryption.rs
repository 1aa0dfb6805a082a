//! Encryption at rest, as clients see it and as it lies on the disks.

use base64::{Engine, engine::general_purpose::STANDARD};
use cairn_gateway::{Gateway, GatewayOptions, KeyFile, Keyring};
use s3s::crypto::{Checksum, Md5};

use crate::{
    multipart::{Upload, over_tls},
    request::{Request, bytes, md5_hex},
    wire::{Answer, DEADLINE},
    world::{ACCESS_KEY, SECRET_KEY, World},
};

pub(crate) const METHOD: &str = "x-amz-server-side-encryption";
pub(crate) const KEY_ID: &str = "x-amz-server-side-encryption-aws-kms-key-id";
const BUCKET_KEY: &str = "x-amz-server-side-encryption-bucket-key-enabled";
const CUSTOMER: &str = "x-amz-server-side-encryption-customer";
const SOURCE_CUSTOMER: &str = "x-amz-copy-source-server-side-encryption-customer";
const MIB: usize = 1 << 20;

pub(crate) fn keyring(text: &str) -> Keyring {
    Keyring::of_file(KeyFile::parse(text).unwrap())
}

/// `a` and `b`, with a first version each.
fn key_file() -> String {
    format!("a/1 {}\nb/1 {}\n", "11".repeat(32), "22".repeat(32))
}

/// A gateway with keys, which takes customers' over plain HTTP, and a bucket.
pub(crate) async fn world() -> World {
    let world = World::start_with(|options| {
        options.keyring = Some(keyring(&key_file()));
        options.customer_keys_over_http = true;
    })
    .await;
    world.ok(Request::put("/enc")).await;
    world
}

/// With a key that the client keeps.
fn with_customer(request: Request, prefix: &str, key: &[u8; 32]) -> Request {
    request
        .header(&format!("{prefix}-algorithm"), "AES256")
        .header(&format!("{prefix}-key"), &STANDARD.encode(key))
        .header(&format!("{prefix}-key-md5"), &STANDARD.encode(Md5::checksum(key)))
}

fn etag(answer: &Answer) -> String {
    answer.header("etag").unwrap_or_default().trim_matches('"').to_owned()
}

/// Whether these bytes lie on any of the world's disks.
fn lies_on_disk(world: &World, needle: &[u8]) -> bool {
    fn search(folder: &std::path::Path, needle: &[u8]) -> bool {
        std::fs::read_dir(folder).unwrap().any(|entry| {
            let path = entry.unwrap().path();
            if path.is_dir() {
                return search(&path, needle);
            }
            std::fs::read(&path).is_ok_and(|bytes| bytes.windows(needle.len()).any(|window| window == needle))
        })
    }
    search(world.folder(), needle)
}

#[tokio::test]
async fn what_is_encrypted_by_the_clusters_key_reads_as_if_it_were_not() {
    let world = world().await;
    // Around blocks, stripes of 15 blocks (4+2 of 256 KiB) and small objects (3 copies).
    for size in [0, 1, 65_535, 65_536, 65_537, 131_071, 15 * 65_536, 15 * 65_536 + 1, 3 * MIB + 11] {
        let body = bytes(size, size as u64 + 1);
        let put = world.ok(Request::put("/enc/k").body(body.clone()).header(METHOD, "AES256")).await;
        assert_eq!((put.header(METHOD), etag(&put)), (Some("AES256"), md5_hex(&body)), "{size}");
        let head = world.ok(Request::head("/enc/k")).await;
        assert_eq!(head.header("content-length"), Some(size.to_string().as_str()));
        assert_eq!((head.header(METHOD), head.header(KEY_ID)), (Some("AES256"), None));
        let got = world.ok(Request::get("/enc/k").header("x-amz-checksum-mode", "ENABLED")).await;
        assert!(got.body == body, "{size}");
        assert_eq!(got.header(METHOD), Some("AES256"));
        assert!(got.header("x-amz-checksum-crc64nvme").is_some(), "of what the client sent");
        assert_eq!(put.header("x-amz-checksum-crc64nvme"), got.header("x-amz-checksum-crc64nvme"));
        for (from, to) in [(0, 0), (65_535, 65_536), (1, 200_000), (15 * 65_536 - 1, 15 * 65_536), (70_000, MIB)] {
            if to >= size {
                continue;
            }
            let range = Request::get("/enc/k").header("range", &format!("bytes={from}-{to}"));
            let got = world.ok(range).await;
            assert!(got.status == 206 && got.body == body[from..=to], "{size}: {from}-{to}");
        }
        let listed = world.ok(Request::get("/enc").query("list-type", "2")).await;
        assert_eq!(listed.xml("Size"), size.to_string());
        if size > 64 {
            world.ok(Request::put("/enc/open").body(body.clone())).await;
            // A fragment that was late comes by repair.
            let deadline = std::time::Instant::now() + DEADLINE;
            while !lies_on_disk(&world, &body[..64]) {
                assert!(std::time::Instant::now() < deadline, "{size}: it is looked for where it is");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
            world.ok(Request::delete("/enc/open")).await;
        }
    }
    let secret = bytes(300_000, 77);
    for path in ["/enc/secret", "/enc/small"] {
        let body = if path == "/enc/small" { &secret[..1000] } else { &secret };
        world.ok(Request::put(path).body(body).header(METHOD, "AES256")).await;
    }
    for at in [0, 500, 65_536, 200_000] {
        assert!(!lies_on_disk(&world, &secret[at..at + 32]), "{at}");
    }
    // Without a header, and so in the clear.
    let open = world.ok(Request::put("/enc/open").body("open")).await;
    assert_eq!(open.header(METHOD), None);
    assert_eq!(world.ok(Request::head("/enc/open")).await.header(METHOD), None);
    world.stop().await;
}

/// After a restart with a key file that has a new version; and without keys, which is told.
#[tokio::test]
async fn keys_outlive_the_process_and_their_versions_each_other() {
    let world = world().await;
    let body = bytes(200_000, 5);
    world.ok(Request::put("/enc/k").body(body.clone()).header(METHOD, "AES256")).await;
    let start = async |keys: Option<Keyring>| {
        let mut options = GatewayOptions::new("127.0.0.1:0".parse().unwrap(), ACCESS_KEY, SECRET_KEY);
        options.keyring = keys;
        Gateway::start(world.node.store(), options).await.unwrap()
    };
    let newer = start(Some(keyring(&format!("{}a/2 {}\n", key_file(), "33".repeat(32))))).await;
    let send = async |gateway: &Gateway, request: Request| request.send(gateway.local_addr(), &world.signer()).await;
    assert!(send(&newer, Request::get("/enc/k")).await.body == body);
    send(&newer, Request::put("/enc/new").body("by the new version").header(METHOD, "AES256")).await;
    // Who lacks what it needs says so, and serves nothing.
    let lost = world.send(Request::get("/enc/new")).await;
    assert_eq!((lost.status, lost.code().as_str()), (503, "ServiceUnavailable"), "{}", lost.text());
    let none = start(None).await;
    let refused = send(&none, Request::get("/enc/k")).await;
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.text().contains("a key that this node does not have"));
    assert_eq!(send(&none, Request::head("/enc/k")).await.status, 200);
    // What the bucket has encrypted is not stored in the clear by who cannot encrypt it.
    world.ok(configuration("<SSEAlgorithm>AES256</SSEAlgorithm>", "")).await;
    let refused = send(&none, Request::put("/enc/default").body("x")).await;
    assert_eq!((refused.status, refused.code().as_str()), (503, "ServiceUnavailable"), "{}", refused.text());
    assert_eq!(world.send(Request::head("/enc/default")).await.status, 404);
    let other = start(Some(keyring(&format!("a/1 {}", "44".repeat(32))))).await;
    assert_eq!(send(&other, Request::get("/enc/k")).await.status, 500);
    for gateway in [newer, none, other] {
        gateway.stop(DEADLINE).await;
    }
    world.stop().await;
}

#[tokio::test]
async fn uploads_in_parts_are_encrypted_part_by_part() {
    let world = world().await;
    let upload = Upload::create(&world, "/enc/mp", &[(METHOD, "AES256")]).await;
    let parts = [bytes(5 * MIB + 3, 1), bytes(100_000, 2)];
    let mut etags = Vec::new();
    for (number, part) in (1..).zip(&parts) {
        let put = world.ok(upload.part(number, part)).await;
        assert_eq!((put.header(METHOD), etag(&put)), (Some("AES256"), md5_hex(part)));
        etags.push(etag(&put));
    }
    let done = upload.complete(&world, &[(1, &etags[0]), (2, &etags[1])]).await;
    assert_eq!(done.header(METHOD), Some("AES256"));
    let whole = parts.concat();
    let got = world.ok(Request::get("/enc/mp")).await;
    assert!(got.body == whole && got.header(METHOD) == Some("AES256"));
    let border = 5 * MIB + 3;
    let range = Request::get("/enc/mp").header("range", &format!("bytes={}-{}", border - 70_000, border + 70_000));
    assert!(world.ok(range).await.body == whole[border - 70_000..=border + 70_000]);
    let second = world.ok(Request::get("/enc/mp").query("partNumber", "2")).await;
    assert!(second.body == parts[1]);
    assert!(!lies_on_disk(&world, &parts[0][..32]) && !lies_on_disk(&world, &parts[1][..32]));
    // Parts copied from what is encrypted, and into it.
    for (headers, from) in [(&[][..], "enc/mp"), (&[(METHOD, "AES256")], "enc/plain")] {
        let path = if headers.is_empty() { "/enc/plain" } else { "/enc/again" };
        let upload = Upload::create(&world, path, headers).await;
        let copy = upload.part(1, b"").header("x-amz-copy-source", from);
        let copied = world.ok(copy.header("x-amz-copy-source-range", "bytes=0-5300000")).await;
        assert_eq!(copied.header(METHOD), headers.first().map(|_| "AES256"));
        let tag = copied.xml("ETag").replace("&quot;", "").replace('"', "");
        upload.complete(&world, &[(1, &tag)]).await;
        let got = world.ok(Request::get(path)).await;
        assert!(got.body == whole[..5_300_001], "{path}");
    }
    world.stop().await;
}

#[tokio::test]
async fn copies_are_encrypted_as_they_are_asked_to_be() {
    let world = world().await;
    let body = bytes(400_000, 9);
    let customer = [7; 32];
    world.ok(Request::put("/enc/open").body(body.clone())).await;
    world.ok(Request::put("/enc/s3").body(body.clone()).header(METHOD, "AES256")).await;
    world.ok(Request::put("/enc/kms").body(body.clone()).header(METHOD, "aws:kms").header(KEY_ID, "b")).await;
    world.ok(with_customer(Request::put("/enc/c").body(body.clone()), CUSTOMER, &customer)).await;
    let copy = |from: &str| {
        let request = Request::put("/enc/copy").header("x-amz-copy-source", &format!("enc/{from}"));
        if from == "c" { with_customer(request, SOURCE_CUSTOMER, &customer) } else { request }
    };
    for from in ["open", "s3", "kms", "c"] {
        for (method, key) in
            [(None, None), (Some("AES256"), None), (Some("aws:kms"), Some("a")), (Some("aws:kms"), Some("b"))]
        {
            let mut request = copy(from);
            for (name, value) in [(METHOD, method), (KEY_ID, key)] {
                request = value.into_iter().fold(request, |request, value| request.header(name, value));
            }
            let copied = world.ok(request).await;
            // What nobody asks for is as the source's: a customer's key becomes the cluster's.
            let inherited = match from {
                "open" => (None, None),
                "kms" => (Some("aws:kms"), Some("b")),
                _ => (Some("AES256"), None),
            };
            let wanted = if method.is_some() { (method, key) } else { inherited };
            assert_eq!((copied.header(METHOD), copied.header(KEY_ID)), wanted, "{from} {method:?}");
            let got = world.ok(Request::get("/enc/copy")).await;
            assert!(got.body == body, "{from} {method:?} {key:?}");
            assert_eq!((got.header(METHOD), got.header(KEY_ID)), wanted);
        }
        let target = [9; 32];
        world.ok(with_customer(copy(from), CUSTOMER, &target)).await;
        let got = world.ok(with_customer(Request::get("/enc/copy"), CUSTOMER, &target)).await;
        assert!(got.body == body, "{from}");
    }
    // A source of a customer's is not copied without its key, and not by another one.
    let bare = Request::put("/enc/copy").header("x-amz-copy-source", "enc/c");
    world.refused(bare.clone(), 400, "InvalidRequest").await;
    world.refused(with_customer(bare, SOURCE_CUSTOMER, &[8; 32]), 403, "AccessDenied").await;
    let needless = Request::put("/enc/copy").header("x-amz-copy-source", "enc/open");
    world.refused(with_customer(needless, SOURCE_CUSTOMER, &customer), 400, "InvalidRequest").await;
    // Onto itself, to be encrypted otherwise.
    let itself = Request::put("/enc/open").header("x-amz-copy-source", "enc/open");
    world.refused(itself.clone(), 400, "InvalidRequest").await;
    world.ok(itself.header(METHOD, "AES256")).await;
    let got = world.ok(Request::get("/enc/open")).await;
    assert!(got.body == body && got.header(METHOD) == Some("AES256"));
    // The source may go: a copy that shares its bytes has its key.
    world.ok(Request::put("/enc/shared").header("x-amz-copy-source", "enc/s3").header(METHOD, "AES256")).await;
    world.ok(Request::delete("/enc/s3")).await;
    assert!(world.ok(Request::get("/enc/shared")).await.body == body);
    world.stop().await;
}

#[tokio::test]
async fn customers_keys_are_asked_for_and_never_kept() {
    let world = world().await;
    let body = bytes(150_000, 3);
    let (key, other) = ([5; 32], [6; 32]);
    let put = world.ok(with_customer(Request::put("/enc/c").body(body.clone()), CUSTOMER, &key)).await;
    let md5 = STANDARD.encode(Md5::checksum(&key));
    let md5_header = format!("{CUSTOMER}-key-md5");
    assert_eq!(put.header(&format!("{CUSTOMER}-algorithm")), Some("AES256"));
    assert_eq!(put.header(&md5_header), Some(md5.as_str()));
    assert_eq!(put.header(&format!("{CUSTOMER}-key")), None);
    let tag = etag(&put);
    assert!(tag.len() == 32 && tag != md5_hex(&body), "{tag}");
    let got = world.ok(with_customer(Request::get("/enc/c"), CUSTOMER, &key)).await;
    assert!(got.body == body && got.header(&md5_header) == Some(md5.as_str()) && etag(&got) == tag);
    let range = with_customer(Request::get("/enc/c"), CUSTOMER, &key).header("range", "bytes=65000-66000");
    assert!(world.ok(range).await.body == body[65_000..=66_000]);
    let head = world.ok(with_customer(Request::head("/enc/c"), CUSTOMER, &key)).await;
    assert_eq!(head.header("content-length"), Some("150000"));
    let attributes = Request::get("/enc/c").query("attributes", "").header("x-amz-object-attributes", "ObjectSize");
    let told = world.ok(with_customer(attributes.clone(), CUSTOMER, &key)).await;
    assert_eq!(told.xml("ObjectSize"), "150000");
    for request in [Request::get("/enc/c"), attributes] {
        world.refused(request.clone(), 400, "InvalidRequest").await;
        world.refused(with_customer(request, CUSTOMER, &other), 403, "AccessDenied").await;
    }
    assert_eq!(world.send(Request::head("/enc/c")).await.status, 400);
    assert_eq!(world.send(with_customer(Request::head("/enc/c"), CUSTOMER, &other)).await.status, 403);
    world.ok(Request::put("/enc/open").body("x")).await;
    world.refused(with_customer(Request::get("/enc/open"), CUSTOMER, &key), 400, "InvalidRequest").await;
    // Half of what is needed.
    let half = Request::put("/enc/h").header(&format!("{CUSTOMER}-algorithm"), "AES256");
    world.refused(half, 400, "InvalidArgument").await;
    assert!(!lies_on_disk(&world, &body[..32]) && !lies_on_disk(&world, &key));
    // In parts: each with the key that the upload was begun with.
    let create = with_customer(Request::post("/enc/mp").query("uploads", ""), CUSTOMER, &key);
    let upload = Upload { path: "/enc/mp".into(), id: world.ok(create).await.xml("UploadId") };
    world.refused(upload.part(1, &body), 400, "InvalidRequest").await;
    world.refused(with_customer(upload.part(1, &body), CUSTOMER, &other), 400, "InvalidRequest").await;
    let part = world.ok(with_customer(upload.part(1, &body), CUSTOMER, &key)).await;
    assert_ne!(etag(&part), md5_hex(&body));
    upload.complete(&world, &[(1, &etag(&part))]).await;
    assert!(world.ok(with_customer(Request::get("/enc/mp"), CUSTOMER, &key)).await.body == body);
    let plain = Upload::create(&world, "/enc/mp2", &[]).await;
    world.refused(with_customer(plain.part(1, &body), CUSTOMER, &key), 400, "InvalidRequest").await;
    world.stop().await;
}

#[tokio::test]
async fn customers_keys_do_not_come_over_plain_http() {
    let world = World::with_bucket("enc").await;
    let put = with_customer(Request::put("/enc/c").body("x"), CUSTOMER, &[5; 32]);
    let refused = world.refused(put, 400, "InvalidRequest").await;
    assert!(refused.text().contains("secure connection"), "{}", refused.text());
    // And without keys of the cluster's nothing else is promised.
    world.refused(Request::put("/enc/c").body("x").header(METHOD, "AES256"), 501, "NotImplemented").await;
    world.refused(Request::put("/enc/c").body("x").header(METHOD, "aws:kms"), 501, "NotImplemented").await;
    let default = configuration("<SSEAlgorithm>AES256</SSEAlgorithm>", "");
    world.refused(default, 501, "NotImplemented").await;
    world.stop().await;
}

/// Over TLS they do, without any keys of the cluster's.
#[tokio::test]
async fn customers_keys_come_over_tls() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let pems = (made.cert.pem(), made.signing_key.serialize_pem());
    let world = World::start_with(|options| options.tls = Some(pems)).await;
    let exchange = async |request: Request| {
        let mut wire = over_tls(&world, made.cert.der().clone()).await;
        wire.send(request.encode("localhost", &world.signer())).await;
        wire.answer(true).await.unwrap()
    };
    assert_eq!(exchange(Request::put("/tls")).await.status, 200);
    let put = exchange(with_customer(Request::put("/tls/k").body("over TLS"), CUSTOMER, &[5; 32])).await;
    assert_eq!(put.status, 200, "{}", put.text());
    assert_eq!(exchange(with_customer(Request::get("/tls/k"), CUSTOMER, &[5; 32])).await.text(), "over TLS");
    assert_eq!(exchange(with_customer(Request::get("/tls/k"), CUSTOMER, &[6; 32])).await.status, 403);
    world.stop().await;
}

fn configuration(default: &str, rest: &str) -> Request {
    let body = format!(
        "<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault>{default}</ApplyServerSideEncryptionByDefault>{rest}</Rule></ServerSideEncryptionConfiguration>"
    );
    Request::put("/enc").query("encryption", "").body(body)
}

#[tokio::test]
async fn buckets_have_what_is_written_to_them_encrypted() {
    let world = world().await;
    let get = || Request::get("/enc").query("encryption", "");
    world.refused(get(), 404, "ServerSideEncryptionConfigurationNotFoundError").await;
    world.ok(configuration("<SSEAlgorithm>AES256</SSEAlgorithm>", "")).await;
    assert_eq!(world.ok(get()).await.xml("SSEAlgorithm"), "AES256");
    let put = world.ok(Request::put("/enc/k").body("by default")).await;
    assert_eq!(put.header(METHOD), Some("AES256"));
    assert_eq!(world.ok(Request::get("/enc/k")).await.text(), "by default");
    // More is asked for than the bucket has.
    let put = world.ok(Request::put("/enc/k").body("x").header(METHOD, "aws:kms").header(KEY_ID, "b")).await;
    assert_eq!((put.header(METHOD), put.header(KEY_ID), put.header(BUCKET_KEY)), (Some("aws:kms"), Some("b"), None));
    let kms = "<SSEAlgorithm>aws:kms</SSEAlgorithm><KMSMasterKeyID>alias/b</KMSMasterKeyID>";
    world.ok(configuration(kms, "<BucketKeyEnabled>true</BucketKeyEnabled>")).await;
    let put = world.ok(Request::put("/enc/k").body("x")).await;
    let told = (put.header(METHOD), put.header(KEY_ID), put.header(BUCKET_KEY));
    assert_eq!(told, (Some("aws:kms"), Some("b"), Some("true")));
    assert_ne!(etag(&put), md5_hex(b"x"));
    let upload = Upload::create(&world, "/enc/mp", &[]).await;
    assert_eq!(world.ok(upload.part(1, b"part")).await.header(METHOD), Some("aws:kms"));
    let copied = world.ok(Request::put("/enc/copy").header("x-amz-copy-source", "enc/k")).await;
    assert_eq!(copied.header(KEY_ID), Some("b"));
    assert_eq!(world.ok(Request::get("/enc/copy")).await.text(), "x");
    // Without keys of customers.
    let blocked = "<BlockedEncryptionTypes><EncryptionType>SSE-C</EncryptionType></BlockedEncryptionTypes>";
    world.ok(configuration("<SSEAlgorithm>AES256</SSEAlgorithm>", blocked)).await;
    let put = with_customer(Request::put("/enc/c").body("x"), CUSTOMER, &[5; 32]);
    world.refused(put.clone(), 403, "AccessDenied").await;
    world.ok(Request::delete("/enc").query("encryption", "")).await;
    world.refused(get(), 404, "ServerSideEncryptionConfigurationNotFoundError").await;
    world.ok(put).await;
    assert_eq!(world.ok(Request::put("/enc/k").body("x")).await.header(METHOD), None);
    // A key that is not there: what it should have encrypted is not stored.
    let missing = "<SSEAlgorithm>aws:kms</SSEAlgorithm><KMSMasterKeyID>nobody</KMSMasterKeyID>";
    world.ok(configuration(missing, "")).await;
    world.refused(Request::put("/enc/lost").body("x"), 400, "KMS.NotFoundException").await;
    assert_eq!(world.send(Request::head("/enc/lost")).await.status, 404);
    world.stop().await;
}

#[tokio::test]
async fn policies_ask_for_encryption() {
    let world = world().await;
    let policy = r#"{"Version":"2012-10-17","Statement":[
        {"Effect":"Allow","Action":"s3:*","Resource":["arn:aws:s3:::enc","arn:aws:s3:::enc/*"]},
        {"Effect":"Deny","Action":"s3:PutObject","Resource":"arn:aws:s3:::enc/*","Condition":{"Null":{"s3:x-amz-server-side-encryption":"true"}}},
        {"Effect":"Deny","Action":"s3:PutObject","Resource":"arn:aws:s3:::enc/*","Condition":{"StringEquals":{"s3:x-amz-server-side-encryption-aws-kms-key-id":"b"}}}
    ]}"#;
    let user = world.user("u", Some(policy)).await;
    let put = async |headers: &[(&str, &str)]| {
        let request = headers.iter().fold(Request::put("/enc/k").body("x"), |r, (name, value)| r.header(name, value));
        request.send(world.address(), &user).await.status
    };
    assert_eq!(put(&[]).await, 403);
    assert_eq!(put(&[(METHOD, "AES256")]).await, 200);
    assert_eq!(put(&[(METHOD, "aws:kms"), (KEY_ID, "a")]).await, 200);
    assert_eq!(put(&[(METHOD, "aws:kms"), (KEY_ID, "b")]).await, 403);
    world.stop().await;
}

#[tokio::test]
async fn headers_in_the_query_encrypt_as_others_do() {
    let world = world().await;
    let host = world.address().to_string();
    let query = world.signer().presign("PUT", "/enc/k", &host, 60, &[(METHOD, "AES256")]);
    let put = Request::put(&format!("/enc/k?{query}")).body("presigned").send_unsigned(world.address()).await;
    assert_eq!((put.status, put.header(METHOD)), (200, Some("AES256")), "{}", put.text());
    assert_eq!(world.ok(Request::get("/enc/k")).await.header(METHOD), Some("AES256"));
    world.stop().await;
}
