//! What comes before a request: certificates by name, and balancers who say whom they speak for.

use std::{sync::Arc, time::Duration};

use cairn_gateway::{AuditLog, NamedCertificate};
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::{
    access::allow,
    request::Request,
    wire::{Wire, WireError},
    world::World,
};

/// A certificate of its own for a name, in PEM.
struct Made {
    pem: (String, String),
    der: Vec<u8>,
}

fn make(names: &[&str]) -> Made {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    Made { pem: (made.cert.pem(), made.signing_key.serialize_pem()), der: made.cert.der().to_vec() }
}

/// A connection over TLS that asks for `name` and believes these certificates, over what has come this far.
async fn over_tls(stream: TcpStream, name: &str, believed: &[&Made]) -> (Wire, Vec<u8>) {
    let mut roots = rustls::RootCertStore::empty();
    for made in believed {
        roots.add(made.der.clone().into()).unwrap();
    }
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    let shown = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
    (Wire::over(stream), shown)
}

#[tokio::test]
async fn each_name_is_shown_its_certificate_and_all_are_renewed() {
    let default = make(&["127.0.0.1", "else.example"]);
    let exact = make(&["s3.example"]);
    let wild = make(&["*.s3.example"]);
    let named = |name: &str, made: &Made| NamedCertificate { names: vec![name.into()], pem: made.pem.clone() };
    let world = World::start_with(|options| {
        options.tls = Some(default.pem.clone());
        options.certificates = vec![named("s3.example", &exact), named("*.s3.example", &wild)];
    })
    .await;
    let all = [&default, &exact, &wild];
    let shown = async |name: &str, believed: &[&Made]| {
        let stream = TcpStream::connect(world.address()).await.unwrap();
        let (mut wire, shown) = over_tls(stream, name, believed).await;
        wire.send(Request::get("/").encode(name, &world.signer())).await;
        assert_eq!(wire.answer(true).await.unwrap().status, 200, "{name}");
        shown
    };
    for (name, made) in [
        ("127.0.0.1", &default),
        ("else.example", &default),
        ("s3.example", &exact),
        ("S3.Example", &exact),
        ("bucket.s3.example", &wild),
    ] {
        assert!(shown(name, &all).await == made.der, "{name}");
    }
    let certificates = world.gateway.certificates();
    assert_eq!(certificates.len(), 3);
    let renewed = make(&["*.s3.example"]);
    certificates[2].renew(&renewed.pem.0, &renewed.pem.1).unwrap();
    let all = [&default, &exact, &renewed];
    assert!(shown("bucket.s3.example", &all).await == renewed.der);
    assert!(shown("s3.example", &all).await == exact.der);
    world.stop().await;
}

/// Of version 2, for a client of IPv4.
fn version_2(client: [u8; 4]) -> Vec<u8> {
    let head = [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[0x21, 0x11, 0, 12]].concat();
    [&head[..], &client, &[127, 0, 0, 1], &[0xd4, 0x31, 0, 80]].concat()
}

#[tokio::test]
async fn who_stands_behind_a_balancer_is_who_asks() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let log = AuditLog::open(&path, true, &prometheus::Registry::new()).unwrap();
    let shared = log.clone();
    let world = World::start_with(|options| {
        options.audit = Some(shared);
        options.balancers = vec!["127.0.0.2".parse().unwrap()];
    })
    .await;
    world.ok(Request::put("/bkt")).await;
    world.ok(Request::put("/bkt/k").body("x")).await;
    let policy = allow("GetObject", &["bkt/*"]);
    let condition = r#""Condition":{"IpAddress":{"aws:SourceIp":["192.0.2.0/24","fd00::/8"]}},"Action""#;
    let alice = world.user("alice", Some(&policy.replace("\"Action\"", condition))).await;
    let get = Request::get("/bkt/k").encode(&world.address().to_string(), &alice);
    let via = async |header: &[u8]| {
        let mut wire = Wire::connect_from("127.0.0.2", world.address()).await;
        wire.send([header, &get].concat()).await;
        wire.answer(true).await.map(|answer| answer.status)
    };
    for (header, status) in [
        (b"PROXY TCP4 192.0.2.7 127.0.0.1 54321 9000\r\n".to_vec(), 200),
        (b"PROXY TCP4 198.51.100.7 127.0.0.1 54321 9000\r\n".to_vec(), 403),
        (b"PROXY TCP6 fd00::7 ::1 54321 9000\r\n".to_vec(), 200),
        (version_2([192, 0, 2, 8]), 200),
        (version_2([198, 51, 100, 8]), 403),
        // For itself.
        (b"PROXY UNKNOWN\r\n".to_vec(), 403),
    ] {
        assert_eq!(via(&header).await.unwrap(), status, "{:?}", String::from_utf8_lossy(&header));
    }
    // In as many pieces as it likes.
    let mut wire = Wire::connect_from("127.0.0.2", world.address()).await;
    for byte in version_2([192, 0, 2, 9]) {
        wire.send([byte]).await;
    }
    wire.send(&get).await;
    assert_eq!(wire.answer(true).await.unwrap().status, 200);
    // Whoever says nothing, or something else, is not served.
    for header in [&b""[..], b"PROXY TCP4 nobody\r\n", b"PROXY TCP4 192.0.2.7 127.0.0.1 54321 9000 1\r\n"] {
        assert!(matches!(via(header).await, Err(WireError::Closed)), "{:?}", String::from_utf8_lossy(header));
    }
    // And whoever is no balancer says so in vain: it is no request.
    let direct = async |header: &[u8]| {
        let mut wire = Wire::connect(world.address()).await;
        let _ = wire.try_send([header, &get].concat()).await;
        match wire.answer(true).await {
            Ok(answer) => Some(answer.status),
            Err(_) => None,
        }
    };
    assert_eq!(direct(b"").await, Some(403));
    for header in
        [&b"PROXY TCP4 192.0.2.7 127.0.0.1 54321 9000\r\n"[..], b"PROXY UNKNOWN\r\n", &version_2([192, 0, 2, 8])]
    {
        let answered = direct(header).await;
        assert!(answered.is_none_or(|status| status == 400), "{answered:?} {:?}", String::from_utf8_lossy(header));
    }
    world.stop().await;
    log.close();
    let lines = std::fs::read_to_string(&path).unwrap();
    let sources: Vec<String> = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|line| line["operation"] == "GetObject" && line["status"] == 200)
        .map(|line| line["source"].as_str().unwrap().to_owned())
        .collect();
    for client in ["192.0.2.7", "fd00::7", "192.0.2.8", "192.0.2.9"] {
        assert!(sources.iter().any(|source| source == client), "{client} in {sources:?}");
    }
}

#[tokio::test]
async fn a_balancer_speaks_before_tls_and_not_for_ever() {
    let made = make(&["localhost"]);
    let world = World::start_with(|options| {
        options.tls = Some(made.pem.clone());
        options.balancers = vec!["127.0.0.0/30".parse().unwrap()];
        options.limits.header_timeout = Duration::from_secs(1);
    })
    .await;
    let mut stream = TcpStream::connect(world.address()).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stream, &version_2([192, 0, 2, 8])).await.unwrap();
    let (mut wire, _) = over_tls(stream, "localhost", &[&made]).await;
    wire.send(Request::get("/").encode("localhost", &world.signer())).await;
    assert_eq!(wire.answer(true).await.unwrap().status, 200);
    let mut silent = Wire::connect(world.address()).await;
    assert!(silent.closes().await, "cut off without a word");
    let mut half = Wire::connect(world.address()).await;
    half.send("PROXY TCP4 192.0").await;
    assert!(half.closes().await);
    world.stop().await;
}
