//! BND-1 against clients that take their time: each phase that only the client can end has a limit.

use std::collections::VecDeque;

use http_body_util::StreamBody;
use hyper::body::Frame;
use tokio::time::Instant;

use super::*;

const SHORT: Duration = Duration::from_millis(200);

impl Running {
    fn cut_off(&self, reason: &str) -> f64 {
        self.metric("cairn_gateway_cut_off_connections_total", &[("reason", reason)])
    }

    /// Waits until so many connections are left.
    async fn connections(&self, wanted: f64) {
        let deadline = Instant::now() + wire::DEADLINE;
        while self.metric("cairn_gateway_connections", &[]) != wanted {
            assert!(Instant::now() < deadline, "{} connections", self.metric("cairn_gateway_connections", &[]));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test]
async fn bnd_1_headers_that_never_end_are_cut_off_however_many_bytes_come() {
    let running = run(|options| options.limits.header_timeout = SHORT);
    for begun in ["P", "PUT /bucket/k HTT", "PUT /bucket/k HTTP/1.1\r\nhost: h\r\n", "PRI * HT"] {
        let mut wire = running.wire().await;
        wire.send(begun).await;
        assert!(wire.closes().await, "{begun:?}");
    }
    // On a connection that has served, and byte for byte.
    let mut wire = running.wire().await;
    wire.send(GET).await;
    assert_eq!(wire.answer(true).await.unwrap().status, 200);
    let deadline = Instant::now() + wire::DEADLINE;
    while wire.try_send("x").await.is_ok() {
        assert!(Instant::now() < deadline, "headers that never end are not cut off");
        tokio::time::sleep(SHORT / 10).await;
    }
    running.connections(0.0).await;
    assert!(running.cut_off("headers") >= 4.0);
}

#[tokio::test]
async fn bnd_1_a_connection_without_a_request_is_closed_after_the_idle_limit() {
    let running = run(|options| options.limits.idle_timeout = SHORT);
    assert!(running.wire().await.closes().await, "one that never said a word");
    let mut wire = running.wire().await;
    for _ in 0..2 {
        wire.send(GET).await;
        assert_eq!(wire.answer(true).await.unwrap().status, 200);
    }
    assert!(wire.closes().await, "one that has served");
    // A request that is being answered is not idle.
    let mut waiting = running.waiting_put().await;
    tokio::time::sleep(3 * SHORT).await;
    running.gate.add_permits(1);
    assert_eq!(waiting.answer(true).await.unwrap().status, 200);
}

#[tokio::test]
async fn bnd_1_http_2_without_a_request_is_closed_after_the_idle_limit() {
    let running = run(|options| options.limits.idle_timeout = SHORT);
    let tcp = TcpStream::connect(running.gateway.local_addr()).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tcp)).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = http::Request::get("http://h/bucket/whole").body(Empty::<Bytes>::new()).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes().len(), 2000);
    // It is told to go (GOAWAY), not cut off.
    tokio::time::timeout(wire::DEADLINE, connection).await.unwrap().unwrap().unwrap();
    assert_eq!(running.cut_off("idle"), 0.0);

    let running = run(|options| {
        options.limits.idle_timeout = SHORT;
        options.limits.header_timeout = SHORT;
    });
    // One whose HEADERS never end, and one that does not even say which settings it has.
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
    const HEADERS_WITHOUT_END: &[u8] = &[0, 0, 1, 1, 1, 0, 0, 0, 1, 0x82];
    for bytes in [[PREFACE, SETTINGS, HEADERS_WITHOUT_END].concat(), PREFACE.to_vec()] {
        let mut wire = running.wire().await;
        wire.send(bytes).await;
        wire.ends().await;
    }
}

#[tokio::test]
async fn bnd_1_a_tls_handshake_that_never_ends_is_cut_off() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let running = run(|options| {
        options.tls = Some((made.cert.pem(), made.signing_key.serialize_pem()));
        options.limits.header_timeout = SHORT;
    });
    let mut wire = running.wire().await;
    // The head of a ClientHello, and no more.
    wire.send([0x16, 3, 1, 0, 200, 1]).await;
    wire.ends().await;
    running.wire().await.ends().await;
}

#[tokio::test]
async fn bnd_1_a_body_that_stalls_is_given_up() {
    let running = run(|options| options.limits.body_timeout = SHORT);
    let mut wire = running.wire().await;
    wire.send("PUT /bucket/k HTTP/1.1\r\nhost: h\r\ncontent-length: 10\r\n\r\nabc").await;
    let answer = wire.answer(true).await.unwrap();
    assert_eq!((answer.status, answer.code().as_str()), (400, "RequestTimeout"));
    assert_eq!(answer.header("connection"), Some("close"));
    wire.ends().await;
}

#[tokio::test]
async fn bnd_1_a_body_that_trickles_is_given_up() {
    let running = run(|options| {
        options.limits.body_timeout = SHORT;
        options.limits.least_bytes_per_second = 1000;
    });
    let mut wire = running.wire().await;
    wire.send("PUT /bucket/k HTTP/1.1\r\nhost: h\r\ncontent-length: 1048576\r\n\r\n").await;
    let deadline = Instant::now() + wire::DEADLINE;
    while wire.try_send("x").await.is_ok() {
        assert!(Instant::now() < deadline, "a body that trickles is taken for ever");
        if wire.has_answer(SHORT / 10).await {
            break;
        }
    }
    let answer = wire.answer(true).await.unwrap();
    assert_eq!((answer.status, answer.code().as_str()), (400, "RequestTimeout"));
}

#[tokio::test]
async fn bnd_1_a_client_that_reads_too_slowly_is_cut_off() {
    let running = run(|options| {
        options.limits.answer_timeout = SHORT;
        options.limits.least_bytes_per_second = 1000;
    });
    let mut wire = running.wire().await;
    wire.send(GET.replace("whole", "large")).await;
    let deadline = Instant::now() + wire::DEADLINE;
    while running.cut_off("answer") < 1.0 {
        assert!(Instant::now() < deadline, "a client that reads a byte at a time is served for ever");
        wire.read_one_byte().await;
        tokio::time::sleep(SHORT / 10).await;
    }
    running.connections(0.0).await;
    assert!(matches!(wire.answer(true).await, Err(WireError::Broken { .. })));
    assert_eq!(running.metric("cairn_gateway_requests_total", &[("status", "aborted")]), 1.0);
}

#[tokio::test]
async fn bnd_1_an_http_2_stream_that_is_not_read_is_cut_off() {
    let running = run(|options| options.limits.answer_timeout = SHORT);
    let tcp = TcpStream::connect(running.gateway.local_addr()).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tcp)).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = http::Request::get("http://h/bucket/large").body(Empty::<Bytes>::new()).unwrap();
    let mut answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.body_mut().frame().await.unwrap().is_ok());
    running.connections(0.0).await;
    assert_eq!(running.cut_off("answer"), 1.0);
    let _ = tokio::time::timeout(wire::DEADLINE, connection).await.unwrap().unwrap();
}

/// Only the time counts in which the client was waited for.
#[tokio::test]
async fn a_slow_store_is_not_taken_for_a_slow_client() {
    let running = run(|options| {
        options.limits.body_timeout = SHORT;
        options.limits.answer_timeout = SHORT;
        options.limits.header_timeout = SHORT;
    });
    let mut put = running.waiting_put().await;
    let mut get = running.wire().await;
    get.send(GET.replace("whole", "broken")).await;
    get.read_at_least(1000).await;
    tokio::time::sleep(5 * SHORT).await;
    running.gate.add_permits(2);
    assert_eq!(put.answer(true).await.unwrap().status, 200);
    assert!(matches!(get.answer(true).await, Err(WireError::Broken { .. })));
    assert_eq!(running.cut_off("answer"), 0.0);
}

/// A body over HTTP/2 may take its time between pieces as long as it keeps the pace.
#[tokio::test]
async fn a_slow_but_steady_body_is_taken() {
    let running = run(|options| {
        options.limits.body_timeout = Duration::from_secs(2);
        options.limits.least_bytes_per_second = 1000;
    });
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    let pieces: VecDeque<Bytes> = (0..20).map(|_| Bytes::from_static(&[1; 4000])).collect();
    let frames = futures::stream::unfold(pieces, |mut pieces| async move {
        let piece = pieces.pop_front()?;
        tokio::time::sleep(SHORT).await;
        Some((Ok::<_, std::io::Error>(Frame::data(piece)), pieces))
    });
    let request = http::Request::put(format!("http://{}/bucket/k", running.gateway.local_addr()))
        .header("content-length", 80_000)
        .body(StreamBody::new(Box::pin(frames)))
        .unwrap();
    assert_eq!(client.request(request).await.unwrap().status(), 200);
}
