//! What the audit log has of requests, and the certificate that is renewed under them.

use std::path::Path;

use cairn_gateway::AuditLog;
use serde_json::Value;

use crate::{
    access::allow,
    multipart::over_tls,
    request::Request,
    sign::Signer,
    wire::Wire,
    world::{SECRET_KEY, World},
};

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn text<'a>(line: &'a Value, field: &str) -> Option<&'a str> {
    line.get(field).unwrap_or_else(|| panic!("no {field} in {line}")).as_str()
}

#[tokio::test]
async fn each_request_is_told_of_with_who_asked_for_what_and_how_it_ended() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let log = AuditLog::open(&path, true, &prometheus::Registry::new()).unwrap();
    let shared = log.clone();
    let world = World::start_with(|options| options.audit = Some(shared)).await;
    world.ok(Request::put("/aud")).await;
    let alice = world.user("alice", Some(&allow("GetObject", &["aud/*"]))).await;
    world.ok(Request::put("/aud/a%20b/%C3%BC").body("hello").header("user-agent", "tests/1")).await;
    let address = world.address();
    assert_eq!(Request::get("/aud/a%20b/%C3%BC").send(address, &alice).await.text(), "hello");
    assert_eq!(Request::delete("/aud/a%20b/%C3%BC").send(address, &alice).await.status, 403);
    world.refused(Request::get("/aud/none"), 404, "NoSuchKey").await;
    let liar = Signer { secret_key: "another".into(), ..alice.clone() };
    assert_eq!(Request::get("/aud/none").query("versionId", "x").send(address, &liar).await.status, 403);
    assert_eq!(Request::get("/aud/a%20b/%C3%BC").send_unsigned(address).await.status, 403);
    // Broken off half way.
    let half = Request::put("/aud/half").body(vec![7; 100_000]).encode("localhost", &world.signer());
    let mut wire = Wire::connect(address).await;
    wire.send(half[..half.len() - 50_000].to_vec()).await;
    crate::overload::memory_of(&world, |bytes| bytes > 0).await;
    drop(wire);
    crate::overload::memory_of(&world, |bytes| bytes == 0).await;
    world.stop().await;
    log.close();

    let root = Some("arn:aws:iam::000000000000:root");
    let user = Some("arn:aws:iam::000000000000:user/alice");
    let key = Some("a b/ü");
    let expected = [
        (root, "CreateBucket", None, 200, None),
        (root, "PutObject", key, 200, None),
        (user, "GetObject", key, 200, None),
        (user, "DeleteObject", key, 403, Some("AccessDenied")),
        (root, "GetObject", Some("none"), 404, Some("NoSuchKey")),
        (None, "Unknown", None, 403, Some("SignatureDoesNotMatch")),
        (Some("anonymous"), "GetObject", key, 403, Some("AccessDenied")),
    ];
    let all = lines(&path);
    assert_eq!(all.len(), expected.len() + 1, "{all:#?}");
    // An answer may have come before it is told of, so they are in no certain order.
    let find = |operation: &str, key: Option<&str>, caller: Option<&str>| {
        let is = |line: &&Value| {
            (text(line, "operation"), text(line, "key"), text(line, "caller")) == (Some(operation), key, caller)
        };
        all.iter().find(is).unwrap_or_else(|| panic!("nothing of {operation} {key:?} by {caller:?}: {all:#?}"))
    };
    for (caller, operation, key, status, code) in expected {
        let line = find(operation, key, caller);
        assert_eq!((text(line, "code"), text(line, "kind")), (code, Some("request")), "{line}");
        assert_eq!((line["status"].as_u64(), line["complete"].as_bool()), (Some(status), Some(true)), "{line}");
        assert_eq!(text(line, "source"), Some("127.0.0.1"));
        assert_eq!(text(line, "bucket"), Some("aud").filter(|_| caller.is_some()), "{line}");
        assert_eq!(text(line, "request_id").unwrap().len(), 16);
    }
    let put = find("PutObject", key, root);
    assert_eq!((text(put, "user_agent"), put["received_bytes"].as_u64()), (Some("tests/1"), Some(5)));
    let got = find("GetObject", key, user);
    assert_eq!((text(got, "access_key"), got["sent_bytes"].as_u64()), (Some(&*alice.access_key), Some(5)));
    let broken = find("PutObject", Some("half"), root);
    assert_eq!(
        (text(broken, "code"), broken["received_bytes"].as_u64()),
        (Some("IncompleteBody"), Some(50_000)),
        "{broken}"
    );
    // What lets others in is in no line.
    let all = std::fs::read_to_string(&path).unwrap();
    for secret in [&*alice.secret_key, SECRET_KEY, "Signature="] {
        assert!(!all.contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn changes_alone_are_told_where_requests_are_not_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let log = AuditLog::open(&path, false, &prometheus::Registry::new()).unwrap();
    let shared = log.clone();
    let world = World::start_with(|options| options.audit = Some(shared)).await;
    world.ok(Request::put("/aud")).await;
    world.stop().await;
    log.close();
    assert_eq!(lines(&path), Vec::<Value>::new());
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_to_who_comes_and_others_go_on() {
    let make = || rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let (first, second) = (make(), make());
    let world = World::start_with(|options| {
        options.tls = Some((first.cert.pem(), first.signing_key.serialize_pem()));
    })
    .await;
    let mut early = over_tls(&world, first.cert.der().clone()).await;
    let certificate = world.gateway.certificates().remove(0);
    certificate.renew(&second.cert.pem(), &first.signing_key.serialize_pem()).unwrap_err();
    certificate.renew(&second.cert.pem(), &second.signing_key.serialize_pem()).unwrap();
    let mut late = over_tls(&world, second.cert.der().clone()).await;
    for wire in [&mut early, &mut late] {
        wire.send(Request::put("/tls").encode("localhost", &world.signer())).await;
        assert_eq!(wire.answer(true).await.unwrap().status, 200);
    }
    world.stop().await;
}
