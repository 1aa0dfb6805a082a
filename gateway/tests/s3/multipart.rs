//! Multipart uploads.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use s3s::crypto::{Checksum, Crc32, Crc64Nvme, Md5, Sha256};

use crate::{
    request::{Request, bytes, crc32_base64, md5_hex},
    wire::{Answer, Wire},
    world::World,
};

const MIB: usize = 1 << 20;

pub(crate) struct Upload {
    pub path: String,
    pub id: String,
}

impl Upload {
    pub(crate) async fn create(world: &World, path: &str, headers: &[(&str, &str)]) -> Self {
        let mut request = Request::post(path).query("uploads", "");
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let id = world.ok(request).await.xml("UploadId");
        assert!(!id.is_empty());
        Self { path: path.into(), id }
    }

    pub(crate) fn part(&self, number: u32, body: &[u8]) -> Request {
        let request = Request::put(&self.path).query("partNumber", &number.to_string());
        request.query("uploadId", &self.id).body(body)
    }

    /// `parts` are numbers and ETags without quotes.
    pub(crate) fn completion(&self, parts: &[(u32, &str)]) -> Request {
        let list: String = parts
            .iter()
            .map(|(number, etag)| format!("<Part><PartNumber>{number}</PartNumber><ETag>\"{etag}\"</ETag></Part>"))
            .collect();
        let body = format!("<CompleteMultipartUpload>{list}</CompleteMultipartUpload>");
        Request::post(&self.path).query("uploadId", &self.id).body(body)
    }

    pub(crate) async fn complete(&self, world: &World, parts: &[(u32, &str)]) -> Answer {
        world.ok(self.completion(parts)).await
    }
}

#[tokio::test]
async fn dur_1_parts_out_of_order_and_twice_become_the_object_in_order() {
    let world = World::with_bucket("mpu").await;
    let upload = Upload::create(&world, "/mpu/k", &[("content-type", "text/x")]).await;
    let parts = [bytes(5 * MIB, 1), bytes(5 * MIB + 7, 2), bytes(100, 3)];
    world.ok(upload.part(9, &parts[2])).await;
    world.ok(upload.part(2, b"to be replaced")).await;
    let echoed = world.ok(upload.part(2, &parts[1])).await;
    // boto3 leaves out of Complete what it was not told here.
    assert!(echoed.header("x-amz-checksum-crc64nvme").is_some());
    world.ok(upload.part(1, &parts[0])).await;
    assert!(world.keys("mpu").await.is_empty(), "an upload under way is no object");
    let listed = world.ok(Request::get("/mpu/k").query("uploadId", &upload.id)).await;
    assert_eq!(listed.xml_all("PartNumber"), ["1", "2", "9"]);
    let etags: Vec<String> = parts.iter().map(|part| md5_hex(part)).collect();
    let done = upload.complete(&world, &[(1, &etags[0]), (2, &etags[1]), (9, &etags[2])]).await;
    let joined: Vec<u8> = parts.iter().flat_map(|part| Md5::checksum(part)).collect();
    let etag = format!("{}-3", md5_hex(&joined));
    assert!(done.xml("ETag").contains(&etag), "{}", done.text());
    let body = parts.concat();
    let got = world.ok(Request::get("/mpu/k").header("x-amz-checksum-mode", "ENABLED")).await;
    assert!(got.body == body);
    assert_eq!(got.header("content-type"), Some("text/x"));
    assert_eq!(got.header("etag"), Some(format!("\"{etag}\"").as_str()));
    assert_eq!(got.header("x-amz-checksum-crc64nvme"), Some(STANDARD.encode(Crc64Nvme::checksum(&body)).as_str()));
    // Across the parts' border, and one part alone.
    let border = Request::get("/mpu/k").header("range", "bytes=5242870-5242890");
    assert!(world.ok(border).await.body == body[5_242_870..5_242_891]);
    let second = world.ok(Request::get("/mpu/k").query("partNumber", "2")).await;
    assert!(second.status == 206 && second.body == parts[1]);
    assert_eq!(second.header("x-amz-mp-parts-count"), Some("3"));
    // A retried Complete answers the same; the upload is gone.
    upload.complete(&world, &[(1, &etags[0]), (2, &etags[1]), (9, &etags[2])]).await;
    let uploads = world.ok(Request::get("/mpu").query("uploads", "")).await;
    assert!(uploads.xml_all("UploadId").is_empty());
    world.stop().await;
}

/// Over TLS that trusts the gateway's own certificate.
pub(crate) async fn over_tls(world: &World, certificate: rustls::pki_types::CertificateDer<'static>) -> Wire {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tcp = tokio::net::TcpStream::connect(world.address()).await.unwrap();
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    Wire::over(tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap())
}

#[tokio::test]
async fn the_location_of_an_upload_names_the_scheme_and_the_host_that_the_client_uses() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let pems = (made.cert.pem(), made.signing_key.serialize_pem());
    for tls in [false, true] {
        let world = World::start_with(|options| options.tls = Some(pems.clone()).filter(|_| tls)).await;
        let exchange = async |request: Request| {
            let mut wire = match tls {
                false => Wire::connect(world.address()).await,
                true => over_tls(&world, made.cert.der().clone()).await,
            };
            wire.send(request.encode("s3.example.com:9000", &world.signer())).await;
            let answer = wire.answer(true).await.unwrap();
            assert_eq!(answer.status, 200, "{}", answer.text());
            answer
        };
        exchange(Request::put("/place")).await;
        let id = exchange(Request::post("/place/a%20b/c").query("uploads", "")).await.xml("UploadId");
        let upload = Upload { path: "/place/a%20b/c".into(), id };
        exchange(upload.part(1, b"x")).await;
        // Nobody is believed who says how others came to us.
        let etag = md5_hex(b"x");
        let complete = upload.completion(&[(1, &etag)]).header("x-forwarded-proto", "gopher");
        let done = exchange(complete.header("x-forwarded-host", "elsewhere")).await;
        let scheme = if tls { "https" } else { "http" };
        assert_eq!(done.xml("Location"), format!("{scheme}://s3.example.com:9000/place/a%20b/c"));
        world.stop().await;
    }
}

#[tokio::test]
async fn the_attributes_of_an_object_name_its_parts() {
    let world = World::with_bucket("attrs").await;
    let parts = [bytes(5 * MIB, 6), bytes(5 * MIB, 7), bytes(9, 8)];
    let upload = Upload::create(&world, "/attrs/k", &[("x-amz-checksum-algorithm", "SHA256")]).await;
    let mut list = Vec::new();
    for (number, part) in [1, 4, 9].into_iter().zip(&parts) {
        world.ok(upload.part(number, part)).await;
        list.push((number, md5_hex(part)));
    }
    let list: Vec<(u32, &str)> = list.iter().map(|(number, etag)| (*number, etag.as_str())).collect();
    upload.complete(&world, &list).await;
    let ask = |headers: &[(&str, &str)]| {
        let mut request = Request::get("/attrs/k").query("attributes", "");
        for (name, value) in headers {
            request = request.header(name, value);
        }
        request
    };
    let digest = |part: &[u8]| STANDARD.encode(Sha256::checksum(part));
    let all = world.ok(ask(&[("x-amz-object-attributes", "ObjectParts, ObjectSize")])).await;
    assert_eq!((all.xml("PartsCount"), all.xml("IsTruncated")), ("3".into(), "false".into()));
    assert_eq!(all.xml_all("PartNumber"), ["1", "2", "3"], "as partNumber counts them");
    assert_eq!(all.xml_all("Size"), [(5 * MIB).to_string(), (5 * MIB).to_string(), "9".into()]);
    assert_eq!(all.xml_all("ChecksumSHA256"), parts.iter().map(|part| digest(part)).collect::<Vec<_>>());
    let page = [("x-amz-object-attributes", "ObjectParts"), ("x-amz-max-parts", "2")];
    let first = world.ok(ask(&page)).await;
    assert_eq!((first.xml("IsTruncated"), first.xml("MaxParts")), ("true".into(), "2".into()));
    assert_eq!((first.xml("NextPartNumberMarker"), first.xml_all("PartNumber").len()), ("2".into(), 2));
    let second = world.ok(ask(&[page[0], page[1], ("x-amz-part-number-marker", "2")])).await;
    assert_eq!((second.xml_all("PartNumber"), second.xml("IsTruncated")), (vec!["3".to_owned()], "false".into()));
    assert_eq!((second.xml("PartNumberMarker"), second.xml("PartsCount")), ("2".into(), "3".into()));
    world.refused(ask(&[("x-amz-object-attributes", "Colour")]), 400, "InvalidArgument").await;
    world.refused(ask(&[page[0], ("x-amz-max-parts", "-1")]), 400, "InvalidArgument").await;
    // An object that was put whole has none.
    world.ok(Request::put("/attrs/k").body("whole")).await;
    let whole = world.ok(ask(&[("x-amz-object-attributes", "ObjectParts,ObjectSize")])).await;
    assert_eq!((whole.xml("ObjectSize"), whole.xml("PartsCount")), ("5".into(), String::new()));
    world.stop().await;
}

#[tokio::test]
async fn declared_checksums_are_verified_per_part_and_combined() {
    let world = World::with_bucket("sums").await;
    let parts = [bytes(5 * MIB, 4), bytes(11, 5)];
    let crcs = [crc32_base64(&parts[0]), crc32_base64(&parts[1])];
    let declare = [("x-amz-checksum-algorithm", "CRC32")];
    let upload = Upload::create(&world, "/sums/composite", &declare).await;
    let wrong = upload.part(1, &parts[0]).header("x-amz-checksum-crc32", &crcs[1]);
    world.refused(wrong, 400, "BadDigest").await;
    let other = upload.part(1, &parts[0]).header("x-amz-checksum-sha1", &STANDARD.encode([0; 20]));
    world.refused(other, 400, "InvalidRequest").await;
    world.ok(upload.part(1, &parts[0]).header("x-amz-checksum-crc32", &crcs[0])).await;
    // Undeclared on the part, computed as declared for the upload.
    let silent = world.ok(upload.part(2, &parts[1])).await;
    assert_eq!(silent.header("x-amz-checksum-crc32"), Some(crcs[1].as_str()));
    let etags = [md5_hex(&parts[0]), md5_hex(&parts[1])];
    let done = upload.complete(&world, &[(1, &etags[0]), (2, &etags[1])]).await;
    let digests: Vec<u8> = parts.iter().flat_map(|part| Crc32::checksum(part)).collect();
    let composite = format!("{}-2", crc32_base64(&digests));
    assert_eq!((done.xml("ChecksumCRC32"), done.xml("ChecksumType")), (composite, "COMPOSITE".into()));
    // One part of it has its own checksum, which says of what kind the object's is.
    for method in ["GET", "HEAD"] {
        let part = Request::new(method, "/sums/composite").query("partNumber", "2");
        let part = world.ok(part.header("x-amz-checksum-mode", "ENABLED")).await;
        assert_eq!(part.header("x-amz-checksum-crc32"), Some(crcs[1].as_str()), "{method}");
        assert_eq!(part.header("x-amz-checksum-type"), Some("COMPOSITE"), "{method}");
    }

    let full = [("x-amz-checksum-algorithm", "CRC32"), ("x-amz-checksum-type", "FULL_OBJECT")];
    let upload = Upload::create(&world, "/sums/full", &full).await;
    for (number, part) in parts.iter().enumerate() {
        world.ok(upload.part(number as u32 + 1, part)).await;
    }
    let list = [(1, etags[0].as_str()), (2, etags[1].as_str())];
    let wrong = upload.completion(&list).header("x-amz-checksum-crc32", "AAAAAA==");
    world.refused(wrong, 400, "BadDigest").await;
    let whole = crc32_base64(&parts.concat());
    let done = world.ok(upload.completion(&list).header("x-amz-checksum-crc32", &whole)).await;
    assert_eq!(done.xml("ChecksumCRC32"), whole);
    world.stop().await;
}

#[tokio::test]
async fn completions_that_do_not_fit_are_refused_and_change_nothing() {
    let world = World::with_bucket("bad").await;
    let upload = Upload::create(&world, "/bad/k", &[]).await;
    let (small, last) = (bytes(100, 1), bytes(5 * MIB, 2));
    world.ok(upload.part(1, &small)).await;
    world.ok(upload.part(2, &last)).await;
    let (first, second) = (md5_hex(&small), md5_hex(&last));
    let refused = async |parts: &[(u32, &str)], code: &str| {
        world.refused(upload.completion(parts), 400, code).await;
    };
    world.refused(Request::post("/bad/k").query("uploadId", &upload.id), 400, "MalformedXML").await;
    refused(&[(1, &first), (2, &second)], "EntityTooSmall").await;
    refused(&[(2, &second), (1, &first)], "InvalidPartOrder").await;
    refused(&[(1, &second)], "InvalidPart").await;
    refused(&[(3, &first)], "InvalidPart").await;
    refused(&[], "MalformedXML").await;
    let garbage = Request::post("/bad/k").query("uploadId", &upload.id).body("<not xml");
    world.refused(garbage, 400, "MalformedXML").await;
    assert!(world.keys("bad").await.is_empty());
    upload.complete(&world, &[(2, &second)]).await;
    assert_eq!(world.keys("bad").await, ["k"]);
    world.stop().await;
}

#[tokio::test]
async fn aborted_and_unknown_uploads_are_no_uploads() {
    let world = World::with_bucket("abort").await;
    let upload = Upload::create(&world, "/abort/k", &[]).await;
    world.ok(upload.part(1, b"x")).await;
    let listed = world.ok(Request::get("/abort").query("uploads", "")).await;
    assert_eq!(listed.xml_all("UploadId"), [upload.id.as_str()]);
    assert_eq!(world.ok(Request::delete("/abort/k").query("uploadId", &upload.id)).await.status, 204);
    world.refused(upload.part(2, b"y"), 404, "NoSuchUpload").await;
    let unknown = Request::put("/abort/k").query("partNumber", "1").query("uploadId", "nonsense").body("x");
    world.refused(unknown, 404, "NoSuchUpload").await;
    for number in [0, 10_001] {
        world.refused(upload.part(number, b"x"), 400, "InvalidArgument").await;
    }
    world.stop().await;
}
