//! Peers with wrong certificates, and peers with good ones that send nonsense. Each costs what it touches and nothing
//! else.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use cairn_fragment::{Fragments, Priority, Probes, TransportError, block_checksums};
use cairn_net::{
    tls::{self, Identity, PemPair},
    transport::quic::QuicOptions,
    wire::{ALPN, Frame, PayloadHeader, Reply, ReplyHeader, Request, RequestHeader},
};
use quinn::{Connection, VarInt};

use crate::support::*;

/// A bare QUIC endpoint with a good certificate: for peers that break the rules above TLS.
fn bare(identity: &Identity, alpn: &[u8]) -> quinn::Endpoint {
    let tls = tls::configs(identity, alpn).unwrap();
    let server = quinn::crypto::rustls::QuicServerConfig::try_from(tls.server).unwrap();
    let client = quinn::crypto::rustls::QuicClientConfig::try_from(tls.client).unwrap();
    let server = quinn::ServerConfig::with_crypto(Arc::new(server));
    let mut endpoint = quinn::Endpoint::server(server, loopback()).unwrap();
    endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(client)));
    endpoint
}

fn bare_peer(ca: &PemPair, id: &str) -> quinn::Endpoint {
    bare(&Identity::issue(ca, &node(id), &[]).unwrap(), ALPN)
}

fn frame(request: Request, payload: PayloadHeader) -> Frame {
    Frame::encode(&RequestHeader { deadline_ms: 5_000, payload, request, priority: Priority::Client }, Bytes::new())
        .unwrap()
}

/// Sends `bytes` on a stream of its own and returns why the server gave it up.
async fn refusal(connection: &Connection, bytes: &[u8], finish: bool) -> VarInt {
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    let _ = send.write_all(bytes).await;
    if finish {
        let _ = send.finish();
    }
    match tokio::time::timeout(Duration::from_secs(10), recv.read_to_end(1 << 20)).await.expect("an answer") {
        Err(quinn::ReadToEndError::Read(quinn::ReadError::Reset(code))) => code,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_on_one_stream_hurts_no_other() {
    let ca = ca();
    let (a, b) = (Node::start(&ca, "a", 1).await, Node::start(&ca, "b", 2).await);
    a.knows(&[&b]);
    let evil = bare_peer(&ca, "evil");
    let connection = evil.connect(b.endpoint.local_addr(), "b").unwrap().await.unwrap();

    // A good stream is half-way on the same connection while the others are refused.
    let payload = bytes(5, 300_000);
    let put = Request::Put { disk: b.disk.id, name: name(1) };
    let described = PayloadHeader::describe(&payload).unwrap();
    let (mut good, mut answer) = connection.open_bi().await.unwrap();
    good.write_all(&frame(put.clone(), described.clone()).head).await.unwrap();
    good.write_all(&payload[..100_000]).await.unwrap();

    let (frame_code, version_code, large_code) = (VarInt::from_u32(2), VarInt::from_u32(3), VarInt::from_u32(4));
    let mut garbage = vec![1, 0, 0, 0, 200];
    garbage.extend_from_slice(&bytes(6, 200));
    assert_eq!(refusal(&connection, &garbage, true).await, frame_code);
    assert_eq!(refusal(&connection, b"GET / HTTP/1.1\r\n\r\n", true).await, version_code);
    assert_eq!(refusal(&connection, &[1, 0xff, 0xff, 0xff, 0xff], false).await, large_code);
    assert_eq!(refusal(&connection, &[1, 0, 0], true).await, frame_code);
    // A payload longer than its kind may have, fewer checksums than blocks, bytes behind the payload, one that ends
    // early.
    let huge = PayloadHeader { length: 1 << 30, checksums: vec![] };
    assert_eq!(refusal(&connection, &frame(put.clone(), huge).head, false).await, large_code);
    let unexpected = PayloadHeader { length: 1, checksums: vec![1] };
    assert_eq!(refusal(&connection, &frame(Request::Probe, unexpected).head, false).await, large_code);
    let unsummed = PayloadHeader { length: 300_000, checksums: vec![1] };
    assert_eq!(refusal(&connection, &frame(put.clone(), unsummed).head, false).await, frame_code);
    let long = [&frame(Request::Probe, PayloadHeader::default()).head[..], b"more"].concat();
    assert_eq!(refusal(&connection, &long, true).await, frame_code);
    let short = [&frame(put, described).head[..], b"less"].concat();
    assert_eq!(refusal(&connection, &short, true).await, frame_code);

    good.write_all(&payload[100_000..]).await.unwrap();
    good.finish().unwrap();
    let answer = answer.read_to_end(1 << 16).await.unwrap();
    let done = Frame::encode(&ReplyHeader { payload: PayloadHeader::default(), reply: Ok(Reply::Done) }, Bytes::new());
    assert_eq!(answer, done.unwrap().head);
    assert_eq!(a.router.get(b.disk.id, name(1), 0..300_000, soon()).await.unwrap(), payload);
    assert_eq!(b.metric("cairn_transport_refused_total", &[("what", "stream")]), 9.0);
    assert_eq!(b.metric("cairn_transport_refused_total", &[("reason", "version")]), 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_cancelled_half_way_is_not_stored() {
    let ca = ca();
    let b = Node::start(&ca, "b", 2).await;
    let evil = bare_peer(&ca, "evil");
    let connection = evil.connect(b.endpoint.local_addr(), "b").unwrap().await.unwrap();
    let payload = bytes(5, 300_000);
    let put = Request::Put { disk: b.disk.id, name: name(1) };
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    send.write_all(&frame(put, PayloadHeader::describe(&payload).unwrap()).head).await.unwrap();
    send.write_all(&payload[..299_999]).await.unwrap();
    send.reset(VarInt::from_u32(1)).unwrap();
    assert!(recv.read_to_end(100).await.is_err());
    assert!(b.disk.fragments.lock().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bnd_1_a_peer_that_dawdles_is_cut_off() {
    let ca = ca();
    let options = QuicOptions { setup_timeout: Duration::from_millis(150), ..QuicOptions::default() };
    let b = Node::start_at(&ca, "b", 2, loopback(), options).await;
    let evil = bare_peer(&ca, "evil");
    let connection = evil.connect(b.endpoint.local_addr(), "b").unwrap().await.unwrap();
    assert_eq!(refusal(&connection, &[1, 0], false).await, VarInt::from_u32(8));
    // A payload that never comes ends at the deadline its own header asked for.
    let described = PayloadHeader::describe(&bytes(1, 1000)).unwrap();
    let request = Request::Put { disk: b.disk.id, name: name(1) };
    let header = RequestHeader { deadline_ms: 100, payload: described, request, priority: Priority::Client };
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    send.write_all(&Frame::encode(&header, Bytes::new()).unwrap().head).await.unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(10), recv.read_to_end(1000)).await.unwrap().unwrap();
    let error = Err(cairn_net::wire::RemoteError::Deadline);
    let expected = Frame::encode(&ReplyHeader { payload: PayloadHeader::default(), reply: error }, Bytes::new());
    assert_eq!(answer, expected.unwrap().head);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_another_ca_is_refused_both_ways() {
    let (ours, theirs) = (ca(), ca());
    let options = QuicOptions { setup_timeout: Duration::from_secs(3), ..QuicOptions::default() };
    let a = Node::start_at(&ours, "a", 1, loopback(), options).await;
    let b = Node::start(&ours, "b", 2).await;
    let foreign = Node::start(&theirs, "b", 3).await;
    // We dial a foreign node: we refuse its certificate.
    a.knows(&[&foreign]);
    let refused = a.router.probe(&foreign.id, soon()).await;
    assert!(matches!(refused, Err(TransportError::Unreachable(..))), "{refused:?}");
    // A foreign node that trusts us too: our side refuses its certificate.
    let mixed = Identity { ca_pem: ours.cert_pem.clone(), ..Identity::issue(&theirs, &node("a"), &[]).unwrap() };
    assert!(cairn_net::tls::configs(&mixed, ALPN).is_err(), "such an identity is refused at start-up");
    let evil = evil_client(&ours.cert_pem, Some(&Identity::issue(&theirs, &node("a"), &[]).unwrap()), ALPN);
    assert!(first_exchange(&evil, &b).await.is_err());
    assert!(first_exchange(&evil_client(&ours.cert_pem, None, ALPN), &b).await.is_err(), "no certificate at all");
    // A good certificate, but another protocol.
    let good = Identity::issue(&ours, &node("a"), &[]).unwrap();
    assert!(first_exchange(&evil_client(&ours.cert_pem, Some(&good), b"cairn-fragments/9"), &b).await.is_err());
    assert!(first_exchange(&evil_client(&ours.cert_pem, Some(&good), ALPN), &b).await.is_ok());

    eventually("refusals are counted", || {
        b.metric("cairn_transport_refused_total", &[("what", "handshake"), ("reason", "failed")]) >= 3.0
    })
    .await;
    a.knows(&[&b]);
    a.router.probe(&b.id, soon()).await.unwrap();
    assert!(b.disk.fragments.lock().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_another_name_is_refused() {
    let ca = ca();
    let options = QuicOptions { setup_timeout: Duration::from_secs(3), ..QuicOptions::default() };
    let a = Node::start_at(&ca, "a", 1, loopback(), options).await;
    let c = Node::start(&ca, "c", 3).await;
    // The topology says that b is where in truth c listens.
    a.known.set(vec![(c.disk.id, node("b"))], vec![(node("b"), c.endpoint.local_addr())]);
    let refused = a.router.get(c.disk.id, name(1), 0..1, soon()).await;
    assert!(matches!(&refused, Err(TransportError::Unreachable(n, _)) if *n == node("b")), "{refused:?}");
    println!("{}", refused.unwrap_err());
    eventually("the refusal is counted", || c.metric("cairn_transport_refused_total", &[("what", "handshake")]) >= 1.0)
        .await;
}

/// A client that trusts our CA and shows whatever certificate it likes.
fn evil_client(trusted_ca: &str, shown: Option<&Identity>, alpn: &[u8]) -> quinn::Endpoint {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusted_ca.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match shown {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let chain = vec![CertificateDer::from_pem_slice(identity.cert_pem.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    let config = quinn::crypto::rustls::QuicClientConfig::try_from(config).unwrap();
    let mut endpoint = quinn::Endpoint::client(loopback()).unwrap();
    endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(config)));
    endpoint
}

/// With TLS 1.3 a client may think itself connected before the server has refused it: only an answer counts.
async fn first_exchange(client: &quinn::Endpoint, server: &Node) -> Result<Vec<u8>, String> {
    let exchange = async {
        let connecting = client.connect(server.endpoint.local_addr(), server.id.as_str()).unwrap();
        let connection = connecting.await.map_err(|error| error.to_string())?;
        let (mut send, mut recv) = connection.open_bi().await.map_err(|error| error.to_string())?;
        let probe = frame(Request::Probe, PayloadHeader::default());
        send.write_all(&probe.head).await.map_err(|error| error.to_string())?;
        send.finish().map_err(|error| error.to_string())?;
        recv.read_to_end(1000).await.map_err(|error| error.to_string())
    };
    tokio::time::timeout(Duration::from_secs(10), exchange).await.expect("an end")
}

/// A server with a good certificate that answers every request with `answer`, or never.
fn rogue(identity: &Identity, answer: Option<Vec<Bytes>>) -> std::net::SocketAddr {
    let endpoint = bare(identity, ALPN);
    let address = endpoint.local_addr().unwrap();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Some(incoming) = endpoint.accept().await {
            let Ok(connection) = incoming.await else { continue };
            while let Ok((mut send, mut recv)) = connection.accept_bi().await {
                let Some(answer) = &answer else {
                    kept.push((send, recv));
                    continue;
                };
                let _ = recv.read_to_end(1 << 20).await;
                for part in answer {
                    let _ = send.write_all(part).await;
                }
                let _ = send.finish();
                let _ = send.stopped().await;
            }
        }
    });
    address
}

async fn ask_rogue(answer: Option<Vec<Bytes>>, deadline_ms: u64) -> (Result<Bytes, TransportError>, Duration) {
    let ca = ca();
    let a = Node::start(&ca, "a", 1).await;
    let identity = Identity::issue(&ca, &node("b"), &[]).unwrap();
    let disk = cairn_schema::ids::DiskId([2; 16]);
    a.known.set(vec![(disk, node("b"))], vec![(node("b"), rogue(&identity, answer))]);
    let started = Instant::now();
    let got = a.router.get(disk, name(1), 0..200_000, after_ms(deadline_ms)).await;
    (got, started.elapsed())
}

fn answer_of(payload: &Bytes, checksums: Vec<u64>) -> Bytes {
    let header =
        ReplyHeader { payload: PayloadHeader { length: payload.len() as u32, checksums }, reply: Ok(Reply::Bytes) };
    Frame::encode(&header, Bytes::new()).unwrap().head
}

/// INT-1: a byte that changed on the way is noticed, wherever it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn int_1_a_flipped_byte_is_never_passed_on() {
    let payload = bytes(8, 200_000);
    let checksums = block_checksums(&payload);
    let good = vec![answer_of(&payload, checksums.clone()), payload.clone()];
    assert_eq!(ask_rogue(Some(good), 10_000).await.0.unwrap(), payload);
    for position in [0, 65_535, 65_536, 131_072, 199_999] {
        let mut flipped = payload.to_vec();
        flipped[position] ^= 0x10;
        let answer = vec![answer_of(&payload, checksums.clone()), flipped.into()];
        let got = ask_rogue(Some(answer), 10_000).await.0;
        assert!(matches!(&got, Err(TransportError::BadChecksum(n)) if *n == node("b")), "byte {position}: {got:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_make_no_sense_are_typed_errors() {
    let payload = bytes(8, 200_000);
    let checksums = block_checksums(&payload);
    let whole = answer_of(&payload, checksums.clone());
    let answers: Vec<(&str, Vec<Bytes>)> = vec![
        ("nothing", vec![]),
        ("garbage", vec![bytes(1, 5000)]),
        ("another version", vec![Bytes::from_static(&[9, 0, 0, 0, 1, 0])]),
        ("too short", vec![whole.clone(), payload.slice(..100_000)]),
        ("too long", vec![whole, payload.clone(), Bytes::from_static(b"!")]),
        (
            "fewer bytes than asked",
            vec![answer_of(&payload.slice(..65_536), checksums[..1].to_vec()), payload.slice(..65_536)],
        ),
        ("fewer checksums than blocks", vec![answer_of(&payload, checksums[..1].to_vec()), payload.clone()]),
        ("more bytes than asked", vec![answer_of(&bytes(1, 200_001), checksums)]),
    ];
    for (what, answer) in answers {
        let got = ask_rogue(Some(answer), 10_000).await.0;
        assert!(matches!(got, Err(TransportError::Protocol(..))), "{what}: {got:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_deadline_holds_against_a_peer_that_never_answers() {
    let (got, took) = ask_rogue(None, 300).await;
    assert!(matches!(&got, Err(TransportError::Deadline(n)) if *n == node("b")), "{got:?}");
    assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(5), "{took:?}");
}
