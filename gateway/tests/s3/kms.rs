//! SSE-KMS by a key management on the wire: whom it is asked by, how often, and what happens while it is away.

use std::time::{Duration, Instant};

use base64::{Engine, engine::general_purpose::STANDARD};

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
