//! SSE-KMS by a key management on the wire: whom it is asked by, how often, and what happens while it is away.

use std::time::{Duration, Instant};

use base64::{Engine, engine::general_purpose::STANDARD};
use cairn_gateway::{KeyDesk, KeyDeskError, Keyring, RewrapStep};
use cairn_schema::verbs::{RangeRequest, VersionSelector};

use crate::{
    encryption::{KEY_ID, METHOD},
    request::{Request, bytes, md5_hex},
    vault::Vault,
    world::World,
};

const BUCKET_KEY: &str = "x-amz-server-side-encryption-bucket-key-enabled";
const LONG: Duration = Duration::from_secs(600);

async fn world(vault: &Vault, age: Duration) -> World {
    let keyring = vault.keyring(age);
    let world = World::start_with(|options| options.keyring = Some(keyring)).await;
    world.ok(Request::put("/kms")).await;
    world
}

fn put(key: &str, body: &[u8]) -> Request {
    Request::put(&format!("/kms/{key}")).body(body).header(METHOD, "aws:kms")
}

#[tokio::test]
async fn each_object_asks_the_key_management_unless_its_bucket_has_a_key() {
    let vault = Vault::start(&["cairn", "other"]).await;
    let world = world(&vault, LONG).await;
    let body = bytes(200_000, 1);
    let made = world.ok(put("k", &body).header(KEY_ID, "other")).await;
    assert_eq!((made.header(METHOD), made.header(KEY_ID)), (Some("aws:kms"), Some("other")));
    assert_ne!(made.header("etag").unwrap().trim_matches('"'), md5_hex(&body));
    for _ in 0..2 {
        assert!(world.ok(Request::get("/kms/k")).await.body == body);
    }
    assert_eq!((vault.asked("encrypt/other"), vault.asked("decrypt/other")), (1, 2));
    // HEAD needs no key.
    assert_eq!(world.ok(Request::head("/kms/k")).await.header(METHOD), Some("aws:kms"));
    assert_eq!(vault.asked("decrypt/other"), 2);
    for number in 0..5 {
        let made = world.ok(put(&format!("b{number}"), &body).header(BUCKET_KEY, "true")).await;
        assert_eq!((made.header(KEY_ID), made.header(BUCKET_KEY)), (Some("cairn"), Some("true")));
        assert!(world.ok(Request::get(&format!("/kms/b{number}"))).await.body == body);
    }
    assert_eq!((vault.asked("encrypt/cairn"), vault.asked("decrypt/cairn")), (1, 0));
    // The cluster's own key is of the key management, too.
    world.ok(Request::put("/kms/s3").body("x").header(METHOD, "AES256")).await;
    assert_eq!(world.ok(Request::get("/kms/s3")).await.text(), "x");
    assert_eq!((vault.asked("encrypt/cairn"), vault.asked("decrypt/cairn")), (2, 0));
    // A context is bound to what it was given with, and given to the key management.
    let context = STANDARD.encode(r#"{"a":"b"}"#);
    world.ok(put("c", b"x").header("x-amz-server-side-encryption-context", &context)).await;
    assert_eq!(world.ok(Request::get("/kms/c")).await.text(), "x");
    world.stop().await;
}

#[tokio::test]
async fn while_the_key_management_is_away_nothing_is_read_or_written_by_its_keys() {
    let vault = Vault::start(&["cairn"]).await;
    let world = world(&vault, Duration::from_millis(1500)).await;
    world.ok(put("single", b"single")).await;
    world.ok(put("shared", b"shared").header(BUCKET_KEY, "true")).await;
    world.ok(Request::put("/kms/open").body("open")).await;
    let away = |text: &str| assert!(text.contains("The key management does not answer"), "{text}");
    for (answers, is_away) in [(Some(503), false), (None, true)] {
        (vault.state.lock().answers, vault.state.lock().away) = (answers, is_away);
        let begun = Instant::now();
        away(&world.refused(put("new", b"x"), 503, "ServiceUnavailable").await.text());
        assert!(begun.elapsed() < Duration::from_secs(15), "an answer that does not come has its deadline");
        away(&world.refused(Request::get("/kms/single"), 503, "ServiceUnavailable").await.text());
        assert_eq!(world.send(Request::head("/kms/new")).await.status, 404, "nothing was stored");
        // What has nothing to do with it goes on.
        assert_eq!(world.ok(Request::get("/kms/open")).await.text(), "open");
        assert_eq!(world.ok(Request::head("/kms/single")).await.status, 200);
    }
    // A bucket's key is believed for its time and no longer.
    let deadline = Instant::now() + Duration::from_secs(30);
    vault.state.lock().answers = Some(503);
    vault.state.lock().away = false;
    while world.send(Request::get("/kms/shared")).await.status == 200 {
        assert!(Instant::now() < deadline, "it is still believed");
    }
    away(&world.send(Request::get("/kms/shared")).await.text());
    vault.state.lock().answers = None;
    assert_eq!(world.ok(Request::get("/kms/shared")).await.text(), "shared");
    assert_eq!(world.ok(Request::get("/kms/single")).await.text(), "single");
    world.stop().await;
}

#[tokio::test]
async fn refusals_of_the_key_management_are_told() {
    let vault = Vault::start(&["cairn"]).await;
    let world = world(&vault, LONG).await;
    world.refused(put("k", b"x").header(KEY_ID, "nobody"), 400, "KMS.NotFoundException").await;
    world.refused(put("k", b"x").header(KEY_ID, "../../sys/seal"), 400, "KMS.NotFoundException").await;
    world.ok(put("k", b"x")).await;
    std::fs::write(vault.token_file(), "another\n").unwrap();
    world.refused(put("k", b"x"), 403, "KMS.AccessDeniedException").await;
    world.refused(Request::get("/kms/k"), 403, "KMS.AccessDeniedException").await;
    // An agent renews the token, and nothing need be restarted.
    std::fs::write(vault.token_file(), crate::vault::TOKEN).unwrap();
    assert_eq!(world.ok(Request::get("/kms/k")).await.text(), "x");
    std::fs::remove_file(vault.token_file()).unwrap();
    world.refused(Request::get("/kms/k"), 503, "ServiceUnavailable").await;
    world.stop().await;
}

/// Walks over everything, as an operator has it done.
async fn rewrap(desk: &KeyDesk, bucket: Option<&str>) -> RewrapStep {
    let mut all = RewrapStep::default();
    let mut next = None;
    loop {
        let step = desk.rewrap(bucket, next).await.unwrap();
        all.looked_at += step.looked_at;
        all.rewrapped += step.rewrapped;
        all.failed += step.failed;
        next = step.next;
        if next.is_none() {
            return all;
        }
    }
}

/// Walks until something stops the walk.
async fn stopped(desk: &KeyDesk) -> KeyDeskError {
    let mut next = None;
    loop {
        match desk.rewrap(None, next).await {
            Ok(step) => next = Some(step.next.expect("the walk ended")),
            Err(error) => return error,
        }
    }
}

#[tokio::test]
async fn keys_of_objects_are_wrapped_again_and_no_data_is_touched() {
    let vault = Vault::start(&["cairn", "other"]).await;
    let keyring = vault.keyring(LONG);
    let shared = keyring.clone();
    let world = World::start_with(|options| options.keyring = Some(shared)).await;
    let desk = KeyDesk::new(world.meta.clone(), Some(keyring));
    for bucket in ["/kms", "/second"] {
        world.ok(Request::put(bucket)).await;
    }
    // More than a page of versions, two buckets, an upload, and what has nothing to do with it.
    for number in 0..120 {
        let put = put(&format!("k{number:03}"), format!("{number}").as_bytes());
        let put = if number % 2 == 0 { put.header(BUCKET_KEY, "true") } else { put };
        world.ok(if number % 5 == 0 { put.header(KEY_ID, "other") } else { put }).await;
    }
    world.ok(Request::put("/second/s3").body("s3").header(METHOD, "AES256")).await;
    world.ok(Request::put("/second/open").body("open")).await;
    let upload = crate::multipart::Upload::create(&world, "/second/mp", &[(METHOD, "aws:kms")]).await;
    let part = world.ok(upload.part(1, b"part")).await;
    assert_eq!(rewrap(&desk, None).await, RewrapStep { looked_at: 122, ..RewrapStep::default() });
    vault.state.lock().keys.insert("cairn".into(), 2);
    // Which version is the newest is believed for a while, so another desk asks.
    let desk = KeyDesk::new(world.meta.clone(), Some(vault.keyring(LONG)));
    let first = rewrap(&desk, Some("kms")).await;
    assert_eq!((first.looked_at, first.rewrapped, first.failed), (120, 96, 0));
    let all = rewrap(&desk, None).await;
    assert_eq!((all.looked_at, all.rewrapped, all.failed), (122, 2, 0));
    let again = rewrap(&desk, None).await;
    assert_eq!((again.looked_at, again.rewrapped), (122, 0));
    for number in [0, 1, 2, 119] {
        let key = format!("k{number:03}");
        let located = world.meta.locate("kms", &key, VersionSelector::Current, RangeRequest::All).await.unwrap();
        let version = located.version.encryption.unwrap().key_version;
        assert_eq!(version, if number % 5 == 0 { 1 } else { 2 }, "{key}");
        assert_eq!(world.ok(Request::get(&format!("/kms/{key}"))).await.text(), number.to_string());
    }
    let etag = part.header("etag").unwrap().trim_matches('"').to_owned();
    upload.complete(&world, &[(1, &etag)]).await;
    assert_eq!(world.ok(Request::get("/second/mp")).await.text(), "part");
    assert_eq!(world.ok(Request::get("/second/s3")).await.text(), "s3");
    // Away: the walk stops and says why, and can go on.
    vault.state.lock().answers = Some(503);
    let desk = KeyDesk::new(world.meta.clone(), Some(vault.keyring(LONG)));
    let stopped = stopped(&desk).await;
    assert!(stopped.to_string().contains("does not answer"), "{stopped}");
    let status = desk.status().await.unwrap();
    assert!(status.problem.is_some() && status.failed_ago.is_some(), "{status:?}");
    vault.state.lock().answers = None;
    let status = desk.status().await.unwrap();
    assert_eq!((status.problem, status.keys), (None, vec![("cairn".to_owned(), vec![1, 2], 2)]));
    assert!(desk.rewrap(Some("nowhere"), None).await.is_err());
    world.stop().await;
}

#[tokio::test]
async fn the_key_management_is_known_by_its_certificate() {
    let (vault, other) = (Vault::start_tls(&["cairn"]).await, Vault::start_tls(&["cairn"]).await);
    let world = world(&vault, LONG).await;
    world.ok(put("k", b"over TLS")).await;
    assert_eq!(world.ok(Request::get("/kms/k")).await.text(), "over TLS");
    world.stop().await;
    let mut options = vault.options(LONG);
    options.ca_pem = other.options(LONG).ca_pem;
    let keyring = Keyring::of_vault(options).unwrap();
    let world = World::start_with(|options| options.keyring = Some(keyring)).await;
    world.ok(Request::put("/kms")).await;
    let asked = vault.asked("encrypt/cairn");
    world.refused(put("k", b"x"), 503, "ServiceUnavailable").await;
    assert_eq!(vault.asked("encrypt/cairn"), asked, "nothing was told to a stranger");
    world.stop().await;
}
